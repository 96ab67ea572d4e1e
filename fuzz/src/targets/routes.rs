//! Differential test of the route table against a linear search.

use std::path::PathBuf;

use daylily_core::config::{self, ComponentSource, Overrides, Route};
use daylily_core::route::RouteTable;

/// The parts of hosts and paths: only a few, so that patterns and requests often match.
const LABELS: [&str; 6] = ["a", "b", "A", "xn--c", "1", "127.0.0.1"];
const HOSTS: [&str; 5] = ["[::1]", "[0:0::1]", "127.0.0.1", "localhost", "B.a"];
const SEGMENTS: [&str; 6] = ["", "a", "b", "A", "%20", "a.b"];
const MAX_ROUTES: usize = 12;

/// Reads choices from the input; after its end, always the first choice.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn below(&mut self, end: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or(0)) % end
    }

    fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.below(texts.len())]
    }

    fn host(&mut self) -> String {
        if self.below(4) == 0 {
            return self.of(&HOSTS).to_owned();
        }
        let labels: Vec<_> = (0..=self.below(3)).map(|_| self.of(&LABELS)).collect();
        labels.join(".")
    }

    fn path(&mut self) -> String {
        let segments: Vec<_> = (0..=self.below(3)).map(|_| self.of(&SEGMENTS)).collect();
        format!("/{}", segments.join("/"))
    }

    fn route(&mut self) -> Option<Route> {
        let host = match self.below(4) {
            0 => String::new(),
            1 => format!("*.{}", self.host()),
            _ => self.host(),
        };
        let path = if self.below(2) == 0 { self.path() } else { format!("{}/*", self.path().trim_end_matches('/')) };
        let component = ComponentSource::File(PathBuf::from("a.wasm"));
        let single = config::single(&config::NoSurroundings, component, &Overrides::default()).ok()?;
        let mut route = single.routes.into_iter().next()?;
        if !host.is_empty() {
            route.host = host.parse().ok()?;
        }
        route.path = path.parse().ok()?;
        Some(route)
    }
}

pub(crate) fn run(data: &[u8]) {
    let mut choices = Choices(data.iter());
    let count = choices.below(MAX_ROUTES);
    let routes: Vec<Route> = (0..count).filter_map(|_| choices.route()).collect();
    let table = RouteTable::new(&routes);
    for _ in 0..4 {
        let host = (choices.below(5) > 0).then(|| choices.host() + if choices.below(6) == 0 { "." } else { "" });
        let path = if choices.below(8) == 0 { "*".to_owned() } else { choices.path() };
        let best = routes
            .iter()
            .enumerate()
            .filter_map(|(at, route)| {
                let host = host_rank(&route.host.to_string(), host.as_deref())?;
                // Of equal matches, the first.
                Some((host, path_rank(&route.path.to_string(), &path)?, std::cmp::Reverse(at)))
            })
            .max()
            .map(|(_, _, std::cmp::Reverse(at))| at);
        assert_eq!(table.find(host.as_deref(), &path), best, "{host:?} {path:?} in {routes:#?}");
    }
}

/// How specifically a pattern matches a host: exactly, by a suffix of this length, as a pattern for any host, or not at
/// all.
fn host_rank(pattern: &str, host: Option<&str>) -> Option<usize> {
    if pattern.is_empty() {
        return Some(0);
    }
    let host = host?;
    let host = if host.starts_with('[') { host } else { host.strip_suffix('.').unwrap_or(host) };
    let host = host.to_lowercase().replace("0:0::1", "::1");
    match pattern.strip_prefix('*') {
        Some(suffix) => (host.len() > suffix.len() && host.ends_with(suffix)).then_some(suffix.len()),
        None => (host == pattern).then_some(usize::MAX),
    }
}

/// The same for a path.
fn path_rank(pattern: &str, path: &str) -> Option<usize> {
    match pattern.strip_suffix('*') {
        // Also matches the target of `OPTIONS *`.
        Some("/") if path == "*" => Some(1),
        Some(prefix) => path.starts_with(prefix).then_some(prefix.len()),
        None => (path == pattern).then_some(usize::MAX),
    }
}
