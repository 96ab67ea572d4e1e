//! Finds the route of a request: by host, then by path, the most specific first.

mod pattern;
mod table;

pub use pattern::{HostPattern, PathPattern};
pub use table::RouteTable;

/// The host and path that a request is for.
#[derive(Debug)]
pub struct Target<'a> {
    /// Without the port; None only for HTTP/1.0 without `Host`.
    pub host: Option<&'a str>,
    /// Without the query.
    pub path: &'a str,
}
