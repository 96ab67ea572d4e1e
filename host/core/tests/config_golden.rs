//! Golden files of configuration errors: what `tests/cases/config/*.toml` must be refused with is in
//! the `.err` file next to it. `BLESS=1 cargo test -p daylily-core` writes the `.err` files anew;
//! read the difference before you commit it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use daylily_core::config::{self, Overrides};

/// The valid one, which has a test of its own.
const VALID: &str = "full.toml";

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/config")
}

fn check(file: &Path) {
    let text = fs::read_to_string(file).unwrap();
    let name = Path::new(file.file_name().unwrap());
    let Err(errors) = config::parse(name, &text, &Overrides::default()) else {
        panic!("{} was accepted", name.display());
    };
    // How many there are is part of it: an error that is not printed must not go unnoticed.
    let actual = format!("{errors}\n\nerrors: {}\n", errors.len());
    let golden = file.with_extension("err");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&golden, actual).unwrap();
        return;
    }
    let expected = fs::read_to_string(&golden).unwrap_or_default();
    assert!(
        actual == expected,
        "{} differs; BLESS=1 writes it anew\n--- expected\n{expected}\n--- actual\n{actual}",
        golden.display()
    );
}

#[test]
fn refused() {
    let mut files: Vec<PathBuf> = fs::read_dir(cases()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml") && !file.ends_with(VALID));
    files.sort();
    assert!(files.len() >= 12, "the golden files are not where they should be");
    for file in files {
        check(&file);
    }
}

/// An `.err` file whose case is gone checks nothing.
#[test]
fn no_golden_file_is_left_over() {
    for entry in fs::read_dir(cases()).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.with_extension("toml").exists(), "{} has no .toml file", path.display());
    }
}
