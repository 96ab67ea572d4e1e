//! How components are built from their sources: `[build]`.

use std::ops::Range;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::reader::{Located, Section};
use crate::ValueError;

/// The commands that `daylily build` and `daylily dev` run, and what they watch. No other command runs them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// The directory of the configuration file, in which the commands run. Empty for the working directory.
    #[serde(with = "crate::os_path")]
    pub dir: PathBuf,
    /// The command line of a build, for `sh -c`.
    pub command: String,
    /// The command line that `daylily dev` runs instead, if it has one of its own.
    pub dev_command: Option<String>,
    /// Files and directories that are built from, as written: relative to `dir`. Not empty.
    pub watch: Vec<String>,
}

impl Build {
    /// What is built from.
    pub fn sources(&self) -> impl Iterator<Item = PathBuf> {
        self.watch.iter().map(|path| self.dir.join(path))
    }
}

/// More than any project has directories of sources.
const MAX_WATCHED: usize = 64;

/// What is watched without `watch`.
pub(super) const DEFAULT_WATCH: &str = "src";

/// Reads `[build]`, whose header is at `header`. None if it has no `command`, or invalid values.
pub(super) fn read(section: &mut Section<'_, '_>, header: Range<usize>) -> Option<Build> {
    let command = read_command(section, "command");
    let dev_command = read_command(section, "dev_command");
    let watch = read_watch(section);
    if !section.has("command") {
        let help = "add the command line that builds the components, such as `command = \"npm run build\"`";
        section.problems().add(header, ValueError::new("[build] has no `command`").help(help));
    }
    Some(Build { dir: section.dir().to_owned(), command: command?, dev_command, watch: watch? })
}

fn read_command(section: &mut Section<'_, '_>, key: &'static str) -> Option<String> {
    let Located { span, value } = section.text(key)?;
    if value.trim().is_empty() || value.contains('\0') {
        let error = ValueError::new(format!("invalid command {value:?}"));
        section.problems().add(span, error.help("write a command line, such as \"npm run build\""));
        return None;
    }
    Some(value.to_owned())
}

fn read_watch(section: &mut Section<'_, '_>) -> Option<Vec<String>> {
    let place = section.place_of("watch");
    let Some(listed) = section.list::<Watched>("watch") else {
        return place.is_none().then(|| vec![DEFAULT_WATCH.to_owned()]);
    };
    if listed.is_empty() || listed.len() > MAX_WATCHED {
        let error = ValueError::new(format!("`watch` has {} paths", listed.len()));
        let help = format!("list 1 to {MAX_WATCHED} files or directories, such as [\"src\"]");
        section.problems().add(place.unwrap_or_default(), error.help(help));
        return None;
    }
    Some(listed.into_iter().map(|path| path.value.0).collect())
}

/// A path in `watch`.
struct Watched(String);

impl std::str::FromStr for Watched {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() || text.contains('\0') {
            let error = ValueError::new(format!("invalid path {text:?}"));
            return Err(error.help("write the path of a file or of a directory, such as \"src\""));
        }
        Ok(Self(text.to_owned()))
    }
}
