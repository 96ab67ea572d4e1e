//! The values of `env` and `vars`, and where they come from.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::reader::wrong_type;
use crate::ValueError;
use crate::grants::{check_env, literal};
use crate::secret::Secret;

/// A value of `env` or `vars`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    /// Written in the configuration or in a flag.
    Written(String),
    /// From outside of the configuration.
    Provided(Provided),
}

/// A value from outside of the configuration. It has a text in every configuration that is valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provided {
    pub(super) source: Source,
    pub(super) text: Option<Secret>,
    /// Where the file has it, until it has a text. None for a value from a flag.
    #[serde(skip)]
    pub(super) place: Option<Range<usize>>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Source {
    /// The variable of this name in daylily's environment.
    Variable(String),
    /// The whole file, without a line end at its end.
    File(#[serde(with = "crate::os_path")] PathBuf),
    /// The credential of this name that systemd passed.
    Credential(String),
    /// A variable in the file that `env_file` names.
    EnvFile(#[serde(with = "crate::os_path")] PathBuf),
}

impl Value {
    /// A value that is yet to be provided.
    pub(crate) fn wanted(source: Source) -> Self {
        Self::Provided(Provided { source, text: None, place: None })
    }

    pub(super) fn provided(source: Source, text: Secret) -> Self {
        Self::Provided(Provided { source, text: Some(text), place: None })
    }

    /// The text, for the guest.
    pub fn text(&self) -> &str {
        match self {
            Self::Written(text) => text,
            Self::Provided(provided) => provided.text.as_ref().map(Secret::expose).unwrap_or_default(),
        }
    }

    /// The text, if it must not be shown.
    pub fn secret(&self) -> Option<&Secret> {
        match self {
            Self::Written(_) => None,
            Self::Provided(provided) => provided.text.as_ref(),
        }
    }

    /// The file that it comes from, apart from the one that `env_file` names.
    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Self::Provided(Provided { source: Source::File(path), .. }) => Some(path),
            _ => None,
        }
    }

    /// Reads a value of a configuration file. Relative paths are relative to `dir`.
    pub(super) fn read(name: &str, value: &Spanned<DeValue<'_>>, dir: &Path) -> Result<Self, ValueError> {
        match value.get_ref() {
            DeValue::String(text) => literal(name, text).map(Self::Written),
            DeValue::Table(table) => {
                let source = Source::read(name, table, dir)?;
                Ok(Self::Provided(Provided { source, text: None, place: Some(value.span()) }))
            }
            other => Err(wrong_type(name, "a string", other).help(FORMS)),
        }
    }
}

const FORMS: &str = "write \"VALUE\", { env = \"NAME\" }, { file = \"/run/secrets/key\" } or { credential = \"NAME\" }";

impl Source {
    fn read(name: &str, table: &DeTable<'_>, dir: &Path) -> Result<Self, ValueError> {
        let mut entries = table.iter();
        let (Some((key, value)), None) = (entries.next(), entries.next()) else {
            let error =
                ValueError::new(format!("`{}` must have one of `env`, `file` and `credential`", name.escape_debug()));
            return Err(error.help(FORMS));
        };
        let key = key.get_ref().as_ref();
        let Some(text) = value.get_ref().as_str() else { return Err(wrong_type(key, "a string", value.get_ref())) };
        let refused = |what: &str, help: &str| Err(ValueError::new(format!("invalid {what} {text:?}")).help(help));
        match key {
            "env" if check_env(text, "").is_err() => {
                refused("name of a variable", "it must not be empty or contain `=`, white space or control characters")
            }
            "env" => Ok(Self::Variable(text.to_owned())),
            "file" if text.is_empty() || text.contains('\0') => refused("file", "write the path of a file"),
            "file" => Ok(Self::File(dir.join(text))),
            "credential" if matches!(text, "" | "." | "..") || text.contains(['/', '\0']) => {
                refused("credential", "write the name of a credential, as in `LoadCredential=NAME:PATH`")
            }
            "credential" => Ok(Self::Credential(text.to_owned())),
            _ => {
                let error = format!("unknown key `{}` in the value of `{}`", key.escape_debug(), name.escape_debug());
                Err(ValueError::new(error).help(FORMS))
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "the variable `{name}`"),
            Self::File(path) | Self::EnvFile(path) => write!(f, "`{}`", path.display()),
            Self::Credential(name) => write!(f, "the credential `{name}`"),
        }
    }
}

/// The path of the file that `env_file` names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvFile {
    #[serde(with = "crate::os_path")]
    pub(super) path: PathBuf,
    /// Where the file has it, until it is read. None for a path from a flag.
    #[serde(skip)]
    pub(super) place: Option<Range<usize>>,
}

impl EnvFile {
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
