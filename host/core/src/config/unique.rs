//! What no two routes may have in common.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::ops::Range;

use super::diagnostic::Problems;
use crate::ValueError;
use crate::route::{HostPattern, PathPattern};

/// Where the routes so far have what has to be unique.
pub(super) struct Seen<'a> {
    text: &'a str,
    patterns: HashMap<(HostPattern, PathPattern), Range<usize>>,
    names: HashMap<String, Range<usize>>,
    /// The header of the last route whose host and path are another's.
    reported: Option<Range<usize>>,
}

impl<'a> Seen<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, patterns: HashMap::new(), names: HashMap::new(), reported: None }
    }

    pub(super) fn check_pattern(
        &mut self,
        host: &HostPattern,
        path: &PathPattern,
        header: &Range<usize>,
        problems: &mut Problems,
    ) {
        let key = (host.clone(), path.clone());
        let Some(first) = first_place(&mut self.patterns, key, header) else {
            return;
        };
        let line = self.line(&first);
        let error = ValueError::new(format!("the route on line {line} has the same host and path"));
        problems.add_related(header.clone(), error, first, "the first one");
        self.reported = Some(header.clone());
    }

    /// After [`Seen::check_pattern`]. `span` is that of the header if the route has no name of its
    /// own, but one made of host and path.
    pub(super) fn check_name(
        &mut self,
        name: &str,
        span: &Range<usize>,
        header: &Range<usize>,
        problems: &mut Problems,
    ) {
        let Some(first) = first_place(&mut self.names, name.to_owned(), span) else {
            return;
        };
        // That its host and path are another's has been said.
        if span == header && self.reported.as_ref() == Some(header) {
            return;
        }
        let line = self.line(&first);
        let error = ValueError::new(format!("the route on line {line} also has the name {name:?}"));
        problems.add_related(span.clone(), error, first, "the first one");
    }

    /// The line, from 1, on which a span starts.
    fn line(&self, span: &Range<usize>) -> usize {
        self.text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1
    }
}

/// Where `key` was seen first, unless that is here.
fn first_place<K: Hash + Eq>(seen: &mut HashMap<K, Range<usize>>, key: K, here: &Range<usize>) -> Option<Range<usize>> {
    match seen.entry(key) {
        Entry::Occupied(first) => Some(first.get().clone()),
        Entry::Vacant(vacant) => {
            vacant.insert(here.clone());
            None
        }
    }
}
