//! Pages in headless Chromium, by the scripts of `tests/browser`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process;

/// Time limit of the installation and of a script: downloads may be slow.
const PATIENCE: Duration = Duration::from_secs(600);

/// What npm keeps from one run to the next.
const TOOLS: &str = "target/tools/browser";

/// Where scripts, the programs that they need, and their screenshots are.
pub(crate) struct Browser {
    dir: PathBuf,
    node: PathBuf,
    chromium: PathBuf,
}

impl Browser {
    /// None if there is no script of this name.
    ///
    /// # Errors
    ///
    /// When Chromium, Node or npm is missing, or npm cannot get the packages.
    pub(crate) fn with_script(root: &Path, script: &str) -> Result<Option<Self>> {
        let sources = root.join("tests/browser");
        if !sources.join(format!("{script}.mjs")).is_file() {
            return Ok(None);
        }
        let find = |program: &str| {
            process::find(program)
                .with_context(|| format!("there is no `{program}` on the path to look at a page with"))
        };
        let (npm, node, chromium) = (find("npm")?, find("node")?, find("chromium")?);
        let dir = root.join(TOOLS);
        fs::create_dir_all(&dir).with_context(|| format!("failed to create {TOOLS}"))?;
        for entry in fs::read_dir(&sources).context("failed to read tests/browser")? {
            let file = entry?.path();
            let name = file.file_name().context("no name")?;
            fs::copy(&file, dir.join(name)).with_context(|| format!("failed to copy {}", file.display()))?;
        }
        let browser = Self { dir, node, chromium };
        let mut install = Command::new(npm);
        install.args(["ci", "--no-audit", "--no-fund"]);
        browser.run(install)?;
        Ok(Some(browser))
    }

    /// Runs a script, which takes a screenshot.
    ///
    /// # Errors
    ///
    /// When the page is not as it should be; the error contains the script's output.
    pub(crate) fn check(&self, script: &str, url: &str, time: &str) -> Result<()> {
        let mut command = Command::new(&self.node);
        command.arg(format!("{script}.mjs")).arg(url).arg(&self.chromium).args([&format!("{script}.png"), time]);
        self.run(command)
    }

    fn run(&self, mut command: Command) -> Result<()> {
        command.current_dir(&self.dir);
        process::run(command, PATIENCE, &self.dir.join("log")).map(drop)
    }
}
