//! `route:NAME` in `allow_http`: another route of the same server.

use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Origin;
use crate::ValueError;
use crate::internal;

/// A route that may be called, by its name, which is a label of a host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RouteGrant {
    /// The name.
    pub name: String,
    /// Where the file has it, until the configuration is read. None for a flag.
    #[serde(skip)]
    pub(crate) place: Option<Range<usize>>,
}

impl PartialEq for RouteGrant {
    /// Wherever the file has them.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for RouteGrant {}

/// One entry of `allow_http`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// `[scheme://]host[:port]`.
    Origin(Origin),
    /// `route:NAME`.
    Route(RouteGrant),
}

impl FromStr for Entry {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.strip_prefix("route:") {
            Some(name) => {
                internal::check_name(name)?;
                Ok(Self::Route(RouteGrant { name: name.to_owned(), place: None }))
            }
            None => text.parse().map(Self::Origin),
        }
    }
}
