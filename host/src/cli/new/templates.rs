//! The templates, whose files are in `host/templates`.
//!
//! A project has the files of its template, and those of directories in `shared` that several templates use. `{{name}}`
//! in a file stands for the name of the project, `{{check}}` for the text of `shared/check.sh`, and `{{serve}}` for the
//! command that serves the project. A file whose name ends in `.in` is created without this end. Under its
//! own name, tools would take it for a file of this repository: with `Cargo.toml` a directory is a package, which
//! `cargo package` leaves out of the one around it; git applies `.gitignore`, and npm `.npmrc`.

use super::tools::Tools;

/// What stands for the project's name.
const NAME: &str = "{{name}}";

/// What stands for the beginning of each `test.sh`, which is the same in all projects, and what stands there for the
/// command that serves the project.
const CHECK: &str = "{{check}}\n";
const CHECK_TEXT: &str = include_str!("../../../templates/shared/check.sh");
const SERVE: &str = "{{serve}}";

/// The end of the names of files that are created without it.
const STORED: &str = ".in";

/// A directory of `host/templates`, and files in it: their paths and texts.
type Part = (&'static str, &'static [(&'static str, &'static str)]);

/// One template.
pub(super) struct Template {
    pub(super) name: &'static str,
    pub(super) summary: &'static str,
    /// What the project is built with.
    pub(super) needs: &'static [Tools],
    /// The command that serves the project, and what it does.
    pub(super) serve: (&'static str, &'static str),
    pub(super) parts: &'static [Part],
}

macro_rules! files {
    ($directory:literal: $($path:literal)*) => {
        ($directory, &[$(($path, include_str!(concat!("../../../templates/", $directory, "/", $path)))),*])
    };
}

const JAVASCRIPT: Part = files!("shared/javascript": ".gitignore.in" ".npmrc.in" "build.js" "build.sh" "wit/world.wit");

const RUST: Part = files!("shared/rust": ".gitignore.in" "build.sh");

const DEV: (&str, &str) = ("daylily dev", "builds and serves it, and does so again when a file changes");

/// All templates, in the order of the list for users.
pub(super) const TEMPLATES: &[Template] = &[
    Template {
        name: "js",
        summary: "JavaScript: a function that gets a Request and returns a Response",
        needs: &[Tools::Node],
        serve: DEV,
        parts: &[
            JAVASCRIPT,
            files!("js": "README.md.in" "daylily.toml" "package-lock.json" "package.json" "src/app.js" "test.sh"),
        ],
    },
    Template {
        name: "ts",
        summary: "the same in TypeScript, with its types checked",
        needs: &[Tools::Node],
        serve: DEV,
        parts: &[
            JAVASCRIPT,
            files!(
                "ts": "README.md.in" "daylily.toml" "package-lock.json" "package.json" "src/app.ts" "src/engine.d.ts"
                "test.sh" "tsconfig.json"
            ),
        ],
    },
    Template {
        name: "js-app",
        summary: "JavaScript with Hono: a page, a JSON API and server-sent events",
        needs: &[Tools::Node],
        serve: DEV,
        parts: &[
            JAVASCRIPT,
            files!(
                "js-app": "README.md.in" "daylily.toml" "package-lock.json" "package.json" "public/index.html"
                "public/page.js" "public/style.css" "src/app.js" "test.sh"
            ),
        ],
    },
    Template {
        name: "todo",
        summary: "a to-do list: a page, an API in JavaScript, and a key-value store",
        needs: &[Tools::Node],
        serve: DEV,
        parts: &[
            JAVASCRIPT,
            files!(
                "todo": "README.md.in" "daylily.toml" "package-lock.json" "package.json" "public/index.html"
                "public/page.js" "public/style.css" "src/app.js" "test.sh"
            ),
        ],
    },
    Template {
        name: "python",
        summary: "Python: a WSGI application",
        needs: &[Tools::Python],
        serve: DEV,
        parts: &[files!(
            "python": ".gitignore.in" "README.md.in" "app.py" "build.sh" "daylily.toml" "outgoing.py" "requirements.in.in"
            "requirements.txt" "test.sh"
            "wit/deps/cli-0.2.12.wit" "wit/deps/clocks-0.2.12.wit" "wit/deps/config-0.2.0-rc.1.wit"
            "wit/deps/http-0.2.12.wit" "wit/deps/io-0.2.12.wit" "wit/world.wit" "wsgi.py"
        )],
    },
    Template {
        name: "rust",
        summary: "Rust, with wstd and wasi:http 0.2",
        needs: &[Tools::Rust],
        serve: DEV,
        parts: &[
            RUST,
            files!("rust": "Cargo.lock.in" "Cargo.toml.in" "README.md.in" "daylily.toml" "src/lib.rs" "test.sh"),
        ],
    },
    Template {
        name: "rust03",
        summary: "Rust, with wasi:http 0.3, whose functions are async",
        needs: &[Tools::Rust],
        serve: DEV,
        parts: &[
            RUST,
            files!("rust03": "Cargo.lock.in" "Cargo.toml.in" "README.md.in" "daylily.toml" "src/lib.rs" "test.sh"),
        ],
    },
    Template {
        name: "static",
        summary: "a page, and no program",
        needs: &[],
        serve: ("daylily dev", "serves it; pages in browsers reload themselves when a file changes"),
        parts: &[files!("static": "README.md.in" "daylily.toml" "public/index.html" "public/style.css" "test.sh")],
    },
];

impl Template {
    /// The paths and the texts of a project's files.
    pub(super) fn files(&self, name: &str) -> impl Iterator<Item = (&'static str, String)> {
        self.stored().map(move |(path, text)| {
            let path = path.strip_suffix(STORED).unwrap_or(path);
            let text = text.replace(CHECK, CHECK_TEXT).replace(SERVE, self.serve.0).replace(NAME, name);
            (path, if path == "Cargo.lock" { sorted(&text) } else { text })
        })
    }

    /// Whether a lock file lists a package of this name: npm and cargo mistake one for the other.
    pub(super) fn depends_on(&self, name: &str) -> bool {
        let entries = [format!("\nname = \"{name}\"\n"), format!("\n    \"node_modules/{name}\": ")];
        self.stored().any(|(_, text)| entries.iter().any(|entry| text.contains(entry)))
    }

    fn stored(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.parts.iter().flat_map(|(_, files)| files.iter().copied())
    }
}

/// A Cargo.lock with its packages in the order of their names, as cargo writes it: the project's own is where its
/// placeholder was.
fn sorted(lock: &str) -> String {
    const PACKAGE: &str = "\n[[package]]\n";
    let mut parts = lock.split(PACKAGE);
    let head = parts.next().unwrap_or_default();
    let mut packages: Vec<&str> = parts.map(str::trim_end).collect();
    // Stable: several versions of one package are in order already.
    packages.sort_by_key(|package| package.lines().next());
    let packages: String = packages.into_iter().map(|package| format!("{PACKAGE}{package}\n")).collect();
    format!("{head}{packages}")
}
