//! Requests with random paths, hosts and methods, which must make no series.

use std::collections::BTreeSet;
use std::thread;

use anyhow::{Result, anyhow, ensure};

use super::load::ask;
use super::server::Server;

const REQUESTS: u64 = 20_000;
const CLIENTS: u64 = 4;

/// Sends requests at random; returns a fault if there are series afterwards that did not exist before.
pub(super) fn more_series(server: &Server) -> Result<Vec<String>> {
    let before = series(&server.metrics()?);
    let port = server.port;
    let clients: Vec<_> =
        (0..CLIENTS).map(|client| thread::spawn(move || send(port, client + 1, REQUESTS / CLIENTS))).collect();
    for client in clients {
        client.join().map_err(|_| anyhow!("a client panicked"))??;
    }
    let after = series(&server.metrics()?);
    crate::say(&format!("  {REQUESTS} requests at random: {} series before, {} after\n", before.len(), after.len()))?;
    let more: Vec<_> = after.difference(&before).cloned().collect();
    Ok(match more.first() {
        None => Vec::new(),
        Some(first) => vec![format!("random requests made {} series, for example {first}", more.len())],
    })
}

fn send(port: u16, seed: u64, count: u64) -> Result<()> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut connection = None;
    let mut unanswered = 0;
    for _ in 0..count {
        let request = random.request();
        if ask(&mut connection, port, request.as_bytes()).is_err() {
            connection = None;
            unanswered += 1;
        }
    }
    ensure!(unanswered < count / 100, "{unanswered} of {count} random requests had no response");
    Ok(())
}

/// The series of a page in the text format, each with its labels.
fn series(page: &str) -> BTreeSet<String> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn word(&mut self, letters: u64, first: u8) -> String {
        (0..letters).map(|_| char::from(first + u8::try_from(self.next() % 26).unwrap_or(0))).collect()
    }

    fn request(&mut self) -> String {
        // Methods without letters of HEAD and CONNECT, whose responses are read in another way.
        let method = format!("X{}", self.word(5, b'A'));
        let host = match self.next() % 3 {
            0 => "hello.test".into(),
            1 => format!("{}.test", self.word(8, b'a')),
            _ => format!("{}.{}.example:{}", self.word(6, b'a'), self.word(6, b'a'), self.next() % 65_536),
        };
        let path = [self.word(8, b'a'), self.word(8, b'a'), self.word(4, b'a')].join("/");
        let query = self.next();
        format!("{method} /{path}?{query} HTTP/1.1\r\nhost: {host}\r\nuser-agent: {query}\r\ncontent-length: 0\r\n\r\n")
    }
}

#[cfg(test)]
mod tests {
    use super::{Random, series};
    use std::collections::BTreeSet;

    #[test]
    fn series_are_those_of_a_page() {
        let page = "# HELP a b c\na{b=\"c d\"} 1\na{b=\"e\"} 2.5\n";
        assert_eq!(series(page), BTreeSet::from(["a{b=\"c d\"}".to_owned(), "a{b=\"e\"}".to_owned()]));
    }

    #[test]
    fn requests_differ() {
        let mut random = Random(1);
        let requests: BTreeSet<_> = (0..1000).map(|_| random.request()).collect();
        assert_eq!(requests.len(), 1000);
        assert!(requests.iter().any(|request| request.contains("host: hello.test\r\n")));
    }
}
