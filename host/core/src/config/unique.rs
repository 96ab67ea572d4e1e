//! Checks that no two routes have the same patterns or name.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::ops::Range;

use super::diagnostic::Problems;
use crate::ValueError;
use crate::route::{HostPattern, PathPattern};

/// Where each pattern and name of the routes so far was first used.
pub(super) struct SeenKeys<'a> {
    text: &'a str,
    patterns: HashMap<(HostPattern, PathPattern), Range<usize>>,
    names: HashMap<String, Range<usize>>,
    /// The header of the last route that was reported as a duplicate by host and path.
    reported: Option<Range<usize>>,
}

impl<'a> SeenKeys<'a> {
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

    /// Call it after [`SeenKeys::check_pattern`]. `span` is the header's if the route has no configured name: its name is
    /// then made from host and path.
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
        // This route was already reported as a duplicate by host and path.
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

/// The location where `key` was first used, unless `here` is the first.
fn first_place<K: Hash + Eq>(seen: &mut HashMap<K, Range<usize>>, key: K, here: &Range<usize>) -> Option<Range<usize>> {
    match seen.entry(key) {
        Entry::Occupied(first) => Some(first.get().clone()),
        Entry::Vacant(vacant) => {
            vacant.insert(here.clone());
            None
        }
    }
}
