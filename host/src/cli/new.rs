//! `daylily new`: makes a project from a template that is inside the program.

mod templates;
mod tools;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io::Write as _};

use clap::Args;
use daylily_core::similar::closest;

use templates::{TEMPLATES, Template};

pub(crate) const USAGE: &str = "daylily new NAME --template TEMPLATE";

/// Maximum length of a project's name; npm and cargo would take more.
const MAX_NAME: usize = 64;

/// What to make.
#[derive(Args, Debug)]
pub(crate) struct NewArguments {
    /// Name of the project, and of the directory that is created for it in the current one
    #[arg(value_name = "NAME")]
    name: Option<OsString>,
    /// The template to start from
    #[arg(short, long, value_name = "TEMPLATE")]
    template: Option<String>,
}

/// Why no project was made. Nothing of it was left behind.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NewError {
    #[error("{0}")]
    Usage(String),
    #[error("`{name}` exists in `{parent}` and is not an empty directory; choose another name, or remove it")]
    Exists { name: String, parent: String },
    #[error("failed to create `{name}` in `{parent}`: {error}; {remedy}", remedy = remedy(.error))]
    NotCreated { name: String, parent: String, error: io::Error },
}

impl NewError {
    /// The exit code; 73 is EX_CANTCREAT of sysexits.h.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Exists { .. } | Self::NotCreated { .. } => 73,
        }
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "run `daylily new` in a directory that this user can write to"
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room on the file system",
        ErrorKind::NotFound => "the current directory has been removed, or cannot have directories; go to another one",
        _ => "run `daylily new` in another directory",
    }
}

/// A project that was made.
pub(crate) struct Made {
    /// Where it is, and the next commands.
    pub(crate) report: String,
    /// A line for each tool that the project needs and that is missing.
    pub(crate) warnings: String,
}

/// Makes the project in the current directory.
///
/// # Errors
///
/// When the name or the template is wrong or missing, or the directory cannot be created.
pub(crate) fn run(arguments: &NewArguments) -> Result<Made, NewError> {
    let (Some(name), Some(template)) = (&arguments.name, &arguments.template) else {
        let list = listed();
        return Err(NewError::Usage(format!("`daylily new` takes a name and a template: {USAGE}\n\n{list}")));
    };
    let template = find(template)?;
    let name = package_name(&name.to_string_lossy(), template)?;
    let parent = std::env::current_dir().map_err(|error| not_created(&name, Path::new("."), error))?;
    make(template, &name, &parent)?;
    let mut warnings = String::new();
    for tool in template.needs {
        if let Some(missing) = tool.missing(&parent.join(&name)) {
            let _ = writeln!(warnings, "warning: {missing}");
        }
    }
    Ok(Made { report: report(template, &name, &parent), warnings })
}

/// The list of templates, for `--help` and errors.
pub(crate) fn listed() -> String {
    let width = TEMPLATES.iter().map(|template| template.name.len()).max().unwrap_or_default();
    let mut list = String::from("Templates:");
    for Template { name, summary, .. } in TEMPLATES {
        let _ = write!(list, "\n  {name:width$}  {summary}");
    }
    list
}

fn report(template: &Template, name: &str, parent: &Path) -> String {
    let (serve, does) = template.serve;
    let test = "sh test.sh";
    let width = serve.len().max(test.len());
    format!(
        "Created {} from the template {}\n\nNext:\n  cd {name}\n  {serve:width$}  # {does}\n  {test:width$}  # tests the \
         running server, in another terminal\n\nREADME.md has the rest.\n",
        parent.join(name).display(),
        template.name,
    )
}

fn find(name: &str) -> Result<&'static Template, NewError> {
    TEMPLATES.iter().find(|template| template.name == name).ok_or_else(|| {
        let meant = closest(name, TEMPLATES.iter().map(|template| template.name));
        let meant = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
        NewError::Usage(format!("there is no template `{name}`{meant}\n\n{}", listed()))
    })
}

/// The name, if npm, cargo and the file system take it, and no package that the template depends on has it.
fn package_name(name: &str, template: &Template) -> Result<String, NewError> {
    if name.contains(['/', '\\']) || [".", ".."].contains(&name) {
        let last = suggested(name.rsplit(['/', '\\']).next().unwrap_or_default());
        return Err(NewError::Usage(format!(
            "`{name}` is a path, and `daylily new` creates a directory in the current one: go to the directory that is \
             to contain the project, and give a name alone, such as `{last}`"
        )));
    }
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    let is_valid = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(is_part);
    if !is_valid || name.len() > MAX_NAME || name == "node_modules" {
        return Err(NewError::Usage(format!(
            "`{name}` cannot be the name of a package: a name is a lower-case letter, followed by lower-case letters, \
             digits, `-` and `_`, of {MAX_NAME} characters at most, such as `{}`",
            suggested(name)
        )));
    }
    if template.depends_on(name) {
        return Err(NewError::Usage(format!(
            "`{name}` is the name of a package that the template {} depends on; choose another, such as `my-{name}`",
            template.name
        )));
    }
    Ok(name.to_owned())
}

/// A valid name that is similar to `name`.
fn suggested(name: &str) -> String {
    let lower = name.to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit()).filter(|word| !word.is_empty()).collect();
    let joined: String = words.join("-").chars().skip_while(|c| !c.is_ascii_lowercase()).take(MAX_NAME).collect();
    if joined.is_empty() || joined == "node-modules" { "my-app".to_owned() } else { joined }
}

fn not_created(name: &str, parent: &Path, error: io::Error) -> NewError {
    NewError::NotCreated { name: name.to_owned(), parent: parent.display().to_string(), error }
}

/// Writes all files into a directory beside the final one, and renames it when it is complete: so a project is never seen
/// half-written, and a failure leaves nothing behind.
fn make(template: &Template, name: &str, parent: &Path) -> Result<(), NewError> {
    let place = parent.join(name);
    let exists = || NewError::Exists { name: name.to_owned(), parent: parent.display().to_string() };
    if place.symlink_metadata().is_ok_and(|found| !found.is_dir()) || has_entries(&place) {
        return Err(exists());
    }
    let path = parent.join(format!(".{name}.{}", std::process::id()));
    fs::create_dir(&path).map_err(|error| not_created(name, parent, error))?;
    let unfinished = Unfinished(path);
    let written = template.files(name).try_for_each(|(path, text)| write(&unfinished.0.join(path), &text));
    written.map_err(|error| not_created(name, parent, error))?;
    // Replaces an empty directory, and fails if something else is there by now.
    fs::rename(&unfinished.0, &place).map_err(|error| match error.kind() {
        ErrorKind::DirectoryNotEmpty | ErrorKind::NotADirectory => exists(),
        _ => not_created(name, parent, error),
    })
}

fn has_entries(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let is_script = path.extension().is_some_and(|end| end == "sh");
    let mode = if is_script { 0o777 } else { 0o666 };
    fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(text.as_bytes())
}

/// A directory that is removed with everything in it, unless it has got another name.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Ignored: after success it does not exist, and a failure has its own error.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests;
