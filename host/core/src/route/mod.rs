//! Finds the route of a request: by host, then by path, the most specific first.

mod pattern;
mod table;

pub use pattern::{HostPattern, PathPattern};
pub use table::RouteTable;
