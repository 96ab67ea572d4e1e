//! Parses the request target, which tells a test guest what to do; for guests of every wasi:http version.

/// A request's path and query, decoded.
pub struct Target {
    path: String,
    query: Vec<(String, String)>,
}

impl Target {
    pub fn parse(target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self { path: path.into(), query: pairs.collect() }
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// All pairs of the query, in order.
    pub fn query(&self) -> impl Iterator<Item = (&str, &str)> {
        self.query.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The first value of `name` in the query.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.query().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// The value of `name` in the query as a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }
}

/// Decodes percent-encoding; `+` is not decoded.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => (bytes.push(byte), rest = &tail[2..]),
            None => (bytes.push(*first), rest = tail),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
