use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use daylily_core::config::{self, Overrides};
use tempfile::TempDir;

use super::templates::{TEMPLATES, Template};
use super::{NewError, listed, make, package_name, remedy, suggested};

/// No file is larger; most of the largest ones are lock files.
const MAX_FILE_BYTES: usize = 96 << 10;

/// Parts of the names of hosts that registries have.
const REGISTRIES: &[&str] = &["registry.npmjs", "npmjs.com", "pypi.org", "pythonhosted", "crates.io", "yarnpkg"];

/// How cargo names its registry in each lock file.
const CARGO_REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn template(name: &str) -> &'static Template {
    TEMPLATES.iter().find(|template| template.name == name).unwrap()
}

/// All files below `directory`, as paths relative to it.
fn paths(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            // Of a link, not of what it leads to.
            if entry.file_type().unwrap().is_dir() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(directory).unwrap().display().to_string());
            }
        }
    }
    found
}

#[test]
fn a_project_is_complete() {
    for template in TEMPLATES {
        let parent = TempDir::new().unwrap();
        make(template, "shop-7", parent.path()).unwrap();
        assert_eq!(paths(parent.path()).iter().filter(|path| !path.starts_with("shop-7/")).count(), 0);
        let project = parent.path().join("shop-7");
        let files = paths(&project);
        let needed: &[&str] = if template.needs.is_empty() { &[] } else { &["build.sh", ".gitignore"] };
        for path in ["README.md", "daylily.toml", "test.sh"].iter().chain(needed) {
            assert!(files.contains(*path), "{}: no {path} in {files:?}", template.name);
        }
        let mut names_it = false;
        for path in files {
            let text = fs::read_to_string(project.join(&path)).unwrap();
            let place = format!("{}: {path}", template.name);
            names_it |= text.contains("shop-7");
            assert!(!text.contains("{{") && !text.contains("}}"), "{place} has a placeholder");
            assert!(text.ends_with('\n') && !text.contains('\r'), "{place}: ends of lines");
            assert!(text.len() <= MAX_FILE_BYTES, "{place} has {} bytes", text.len());
            let text = text.replace(CARGO_REGISTRY, "");
            let registry = REGISTRIES.iter().find(|host| text.contains(*host));
            assert_eq!(registry, None, "{place} names a registry");
            let has_address = path == "package-lock.json" && text.contains("\"resolved\"");
            assert!(!has_address, "{place} names an address");
        }
        assert!(names_it, "{}: no file has the name of the project", template.name);
    }
}

#[test]
fn configurations_are_valid() {
    for template in TEMPLATES {
        let (_, text) = template.files("shop").find(|(path, _)| *path == "daylily.toml").unwrap();
        let config = config::parse(Path::new("/shop/daylily.toml"), &text, &Overrides::default());
        let config = config.unwrap_or_else(|errors| panic!("{}: {errors}", template.name));
        assert_eq!(config.routes.len(), 1, "{}", template.name);
        assert_eq!(config.build.is_none(), template.needs.is_empty(), "{}", template.name);
    }
}

/// Every file of `host/templates` is in a template, and each shared directory in those that it is for.
#[test]
fn no_file_is_left_out() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
    let stored = paths(&directory);
    let parts = TEMPLATES.iter().flat_map(|template| template.parts);
    let files = parts.flat_map(|(part, files)| files.iter().map(move |(path, _)| format!("{part}/{path}")));
    let files = files.chain(["shared/check.sh".to_owned()]);
    assert_eq!(files.collect::<BTreeSet<String>>(), stored);
}

/// What `pip-compile` would make of the one is the other.
#[test]
fn requirements_are_those_of_the_list() {
    let text = |name: &str| template("python").files("shop").find(|(path, _)| *path == name).unwrap().1;
    let (list, locked) = (text("requirements.in"), text("requirements.txt"));
    let listed: Vec<&str> = list.lines().filter(|line| !line.starts_with('#')).collect();
    let pinned: Vec<&str> = locked.lines().filter_map(|line| line.strip_suffix(" \\")).collect();
    let pinned: Vec<&str> = pinned.into_iter().filter(|line| line.contains("==")).collect();
    assert_eq!(listed, pinned);
}

#[test]
fn a_cargo_lock_is_in_order() {
    for name in ["aaa", "mmm", "zzz"] {
        let (_, lock) = template("rust").files(name).find(|(path, _)| *path == "Cargo.lock").unwrap();
        let names: Vec<&str> = lock.lines().filter_map(|line| line.strip_prefix("name = ")).collect();
        assert!(names.is_sorted() && names.contains(&format!("\"{name}\"").as_str()), "{names:?}");
        assert!(lock.contains("version = 4\n\n[[package]]\nname = ") && !lock.contains("\n\n\n"), "{lock}");
    }
}

#[test]
fn names() {
    fn check(name: &str, expected: Option<&str>) {
        let found = package_name(name, template("rust"));
        match (found, expected) {
            (Ok(found), None) => assert_eq!(found, name),
            (Err(NewError::Usage(text)), Some(part)) => assert!(text.contains(part), "{name}: {text}"),
            (found, _) => panic!("{name}: {found:?}"),
        }
    }
    check("a", None);
    check("my-app_2", None);
    check(&"a".repeat(64), None);
    check(&"a".repeat(65), Some("64 characters at most"));
    check("", Some("such as `my-app`"));
    check("My App", Some("such as `my-app`"));
    check("2nd", Some("such as `nd`"));
    check("-x", Some("such as `x`"));
    check("été", Some("cannot be the name"));
    check(".", Some("such as `my-app`"));
    check("..", Some("is a path"));
    check("../x", Some("such as `x`"));
    check("/tmp/x/", Some("is a path"));
    check("x\\y", Some("such as `y`"));
    check("node_modules", Some("cannot be the name"));
    check("wstd", Some("such as `my-wstd`"));
    check("a\u{1b}[31m", Some("cannot be the name"));
    assert_eq!(suggested("node_modules"), "my-app");
    assert!(package_name("esbuild", template("js")).is_err());
    assert!(package_name("esbuild", template("rust")).is_ok());
}

#[test]
fn what_exists_stays() {
    fn check(prepare: fn(&Path), expected: bool) {
        let parent = TempDir::new().unwrap();
        let place = parent.path().join("shop");
        prepare(&place);
        let before = paths(parent.path());
        let made = make(template("static"), "shop", parent.path());
        assert_eq!(made.is_ok(), expected, "{made:?}");
        if !expected {
            let error = made.unwrap_err();
            assert!(error.to_string().contains("`shop` exists in") && error.exit_code() == 73, "{error}");
            assert_eq!(paths(parent.path()), before);
        }
    }
    check(|_| (), true);
    check(|place| fs::create_dir(place).unwrap(), true);
    check(|place| fs::write(place, "text").unwrap(), false);
    check(|place| std::os::unix::fs::symlink("/", place).unwrap(), false);
    check(|place| std::os::unix::fs::symlink("nowhere", place).unwrap(), false);
    let with_file = |place: &Path| {
        fs::create_dir(place).unwrap();
        fs::write(place.join(".hidden"), "text").unwrap();
    };
    check(with_file, false);
}

#[test]
fn a_failure_names_the_place_and_the_remedy() {
    let error = make(template("static"), "shop", Path::new("/proc")).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("failed to create `shop` in `/proc`: ") && text.contains("; the current dir"), "{text}");
    assert_eq!(error.exit_code(), 73);
    let denied = remedy(&std::io::ErrorKind::PermissionDenied.into());
    assert!(denied.contains("this user can write"), "{denied}");
}

#[test]
fn nothing_half_written_stays() {
    // The second file needs a directory where the first one is.
    let template =
        Template { name: "x", summary: "", needs: &[], serve: ("", ""), parts: &[("x", &[("a", ""), ("a/b", "")])] };
    let parent = TempDir::new().unwrap();
    let error = make(&template, "shop", parent.path()).unwrap_err();
    assert!(matches!(error, NewError::NotCreated { .. }), "{error}");
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
}

/// The directory of another run, if it has this name by chance.
#[test]
fn what_is_in_the_way_stays() {
    let parent = TempDir::new().unwrap();
    let other = parent.path().join(format!(".shop.{}", std::process::id()));
    fs::create_dir(&other).unwrap();
    assert!(make(template("static"), "shop", parent.path()).is_err());
    assert!(other.is_dir());
}

#[test]
fn the_list_has_each_template_in_a_line() {
    let list = listed();
    assert_eq!(list.lines().count(), TEMPLATES.len() + 1);
    assert!(list.lines().all(|line| line.len() < 100), "{list}");
    for template in TEMPLATES {
        assert!(list.contains(&format!("\n  {} ", template.name)), "{list}");
    }
}
