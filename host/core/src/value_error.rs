use std::fmt;

/// Why a configured value is invalid, and what to write instead.
///
/// One type for all values, because a value can come from two places: from a file, where the remedy is printed as a
/// `help:` line, and from the command line, where message and remedy are one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueError {
    message: String,
    help: Option<String>,
}

impl ValueError {
    /// An error whose message is a lower-case fragment that names the value.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    /// Adds the remedy.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same error, whose message begins with `what` and a colon.
    #[must_use]
    pub fn of(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// The message and, if there is one, the remedy.
    pub fn into_parts(self) -> (String, Option<String>) {
        (self.message, self.help)
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, ": {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ValueError {}
