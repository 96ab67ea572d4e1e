//! Places in a configuration file, for errors that are found later: when what is named there is read.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::diagnostic::{Diagnostics, Problems};
use crate::ValueError;

/// Where the file has a value; nowhere, for a value from the command line, and in a worker, which reports no errors of a
/// configuration. All places are equal, so that a configuration is the same wherever the file has its values.
#[derive(Debug, Clone, Default)]
pub struct Place(Option<InFile>);

#[derive(Debug, Clone)]
struct InFile {
    path: Arc<Path>,
    text: Arc<str>,
    span: Range<usize>,
}

impl PartialEq for Place {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Place {}

impl Place {
    /// The bytes of the file.
    pub(super) fn span(&self) -> Option<Range<usize>> {
        self.0.as_ref().map(|place| place.span.clone())
    }

    /// An error about what is named there.
    pub fn error(&self, message: String, help: &str) -> Diagnostics {
        let mut problems = Problems::default();
        problems.add_at(self.span(), ValueError::new(message).help(help));
        match &self.0 {
            Some(place) => Diagnostics::new(&place.path, &place.text, problems),
            None => Diagnostics::new(Path::new(""), "", problems),
        }
    }
}

/// The file that places are in.
pub(super) struct Places {
    path: Arc<Path>,
    text: Arc<str>,
}

impl Places {
    pub(super) fn of(path: &Path, text: &str) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    pub(super) fn at(&self, span: Range<usize>) -> Place {
        Place(Some(InFile { path: Arc::clone(&self.path), text: Arc::clone(&self.text), span }))
    }
}
