//! Text that must not be shown: in no log line, error, status or debug output.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A text that comes from outside of the configuration: from the environment, a file or a credential.
///
/// It has no `Display`, and its `Debug` does not show it, so that it cannot be printed by accident.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the guest that it is granted to, and for what looks for it in that guest's output.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_not_shown() {
        let secret = Secret::new("hunter22".to_owned());
        assert_eq!(format!("{secret:?} {:?} {:#?}", Some(&secret), [&secret]), "*** Some(***) [\n    ***,\n]");
        assert_eq!(secret.expose(), "hunter22");
    }
}
