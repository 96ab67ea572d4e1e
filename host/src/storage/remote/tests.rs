//! Against real servers, which the tests start.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::*;
use crate::storage::message::Seen;
use crate::storage::testing::{check_against_a_map, check_operations, store};

#[allow(dead_code, unreachable_pub, reason = "the end-to-end tests use all of it")]
#[path = "../../../../tests/e2e/harness/store_server.rs"]
mod store_server;

use store_server::StoreServer;

mod limits;

struct Client {
    runtime: tokio::runtime::Runtime,
    server: Server,
    connection: Connection,
    _ended: Ended,
}

impl Client {
    /// A store with these keys in its table.
    fn of(server: &StoreServer, keys: &str) -> Self {
        let store = store(&format!("backend = '{}'\n{keys}", server.url()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
        let of = Server::new(&store, store.server().expect("a server"));
        let (connection, ended) = runtime.block_on(of.connect()).expect("a connection");
        Self { runtime, server: of, connection, _ended: ended }
    }

    fn call(&self, operation: Operation) -> Result<Answer, StoreError> {
        self.call_until(operation, Until::EVER)
    }

    /// All keys, and the number of pages, of which none is too long.
    fn all_keys(&self) -> (BTreeSet<String>, u32) {
        let (mut cursor, mut keys, mut pages) = (None, BTreeSet::new(), 0);
        loop {
            let Ok(Answer::Keys(page)) = self.call(Operation::List(cursor)) else { panic!("no page") };
            assert!(page.keys.len() <= 1_000, "{} keys", page.keys.len());
            keys.extend(page.keys);
            pages += 1;
            cursor = page.next;
            if cursor.is_none() {
                return (keys, pages);
            }
        }
    }

    fn call_until(&self, operation: Operation, until: Until) -> Result<Answer, StoreError> {
        match self.runtime.block_on(self.server.run(&self.connection, operation, until)) {
            Ok(answer) => Ok(answer),
            Err(Failure::Operation(error)) => Err(error),
            Err(failure) => panic!("{failure:?}"),
        }
    }
}

/// Also for a store beside the first one, with these keys in its table.
fn does_what_is_documented(server: &StoreServer, other: &str) {
    check_operations(|operation| Client::call(&Client::of(server, ""), operation));
    let client = Client::of(server, other);
    check_operations(|operation| client.call(operation));
}

fn finds_what_a_map_would(server: &StoreServer) {
    let client = Client::of(server, "");
    check_against_a_map(3_000, |_, operation| client.call(operation));
}

#[test]
#[ignore = "needs redis-server"]
fn redis_does_what_is_documented() {
    does_what_is_documented(&StoreServer::redis(&[]), "prefix = 'other'");
}

#[test]
#[ignore = "needs redis-server"]
fn redis_finds_what_a_map_would() {
    finds_what_a_map_would(&StoreServer::redis(&[]));
}

#[test]
#[ignore = "needs nats-server"]
fn nats_does_what_is_documented() {
    does_what_is_documented(&StoreServer::nats(&[]), "bucket = 'other'");
}

#[test]
#[ignore = "needs nats-server"]
fn nats_finds_what_a_map_would() {
    finds_what_a_map_would(&StoreServer::nats(&[]));
}

#[test]
#[ignore = "needs nats-server"]
fn nats_lists_in_pages() {
    let server = StoreServer::nats(&[]);
    let client = Client::of(&server, "");
    let key = |number: usize| format!("key{number}");
    for part in 0..3 {
        let entries = (0..1_000).map(|number| (key(part * 1_000 + number), Bytes::new()));
        client.call(Operation::Set(entries.collect())).expect("room");
    }
    // Each fourth one is deleted, which leaves a message.
    client.call(Operation::Delete((0..3_000).step_by(4).map(key).collect())).expect("a deletion");
    let (keys, pages) = client.all_keys();
    assert_eq!(keys, (0..3_000).filter(|number| number % 4 != 0).map(key).collect());
    assert_eq!(pages, 3);
}

/// Two processes that increment the same key take turns with each other only by trying again.
#[test]
#[ignore = "needs nats-server"]
fn nats_loses_no_increment_of_several_processes() {
    let server = StoreServer::nats(&[]);
    let increment = || {
        let client = Client::of(&server, "");
        for _ in 0..200 {
            client.call(Operation::Increment("n".to_owned(), 1, i64::MIN)).expect("an increment");
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(increment))));
    let client = Client::of(&server, "");
    assert_eq!(client.call(Operation::Increment("n".to_owned(), 0, i64::MIN)), Ok(Answer::Number(800)));
    // One that was deleted begins at 0 again, and so does a swap.
    let delete = || Operation::Delete(vec!["n".to_owned()]);
    client.call(delete()).expect("a deletion");
    assert_eq!(client.call(Operation::Increment("n".to_owned(), 1, i64::MIN)), Ok(Answer::Number(1)));
    client.call(delete()).expect("a deletion");
    assert_eq!(client.call(Operation::Swap("n".to_owned(), Seen::Missing, "x".into())), Ok(Answer::Done));
}

/// What the server cannot take is an error of the operation, and what does not fit the configuration one of the store.
#[test]
#[ignore = "needs nats-server"]
fn nats_refuses_what_does_not_fit() {
    let server = StoreServer::nats(&[]);
    let client = Client::of(&server, "max_key = '64KiB'");
    let long = "é".repeat(2_000);
    assert_eq!(client.call(Operation::Exists(long)), Err(StoreError::KeyTooLongForServer));
    let value = Bytes::from(vec![7; 1 << 20]);
    assert_eq!(client.call(Operation::Set(vec![("a".to_owned(), value.clone())])), Ok(Answer::Done));
    let swap = Operation::Swap("b".to_owned(), Seen::Missing, value);
    assert_eq!(client.call(swap), Err(StoreError::TooLongForServer));
    let store = store(&format!("backend = '{}'\nttl = '1h'", server.url()));
    let of = Server::new(&store, store.server().expect("a server"));
    let refused = client.runtime.block_on(of.connect()).err().expect("an error");
    assert!(refused.contains("the bucket `test` keeps entries for 0ns, and `ttl` of the store is 3600s"), "{refused}");
}

/// A value is what `GET` returns under the prefix, and other keys are not seen.
#[test]
#[ignore = "needs redis-server"]
fn redis_has_plain_strings_below_the_prefix() {
    let server = StoreServer::redis(&[]);
    let client = Client::of(&server, "prefix = 'a*:'");
    assert_eq!(client.call(Operation::Increment("n".to_owned(), 42, i64::MIN)), Ok(Answer::Number(42)));
    assert_eq!(server.ask("GET a*:n"), "$2\r\n42\r\n");
    server.ask("SET ab:n 7");
    server.ask("RPUSH a*:list 1");
    let Ok(Answer::Keys(page)) = client.call(Operation::List(None)) else { panic!("no page") };
    assert_eq!(page.keys.into_iter().collect::<BTreeSet<_>>(), ["list".to_owned(), "n".to_owned()].into());
    for operation in [
        Operation::Get(vec!["list".to_owned()]),
        Operation::Get(vec!["n".to_owned(), "list".to_owned()]),
        Operation::Increment("list".to_owned(), 1, i64::MIN),
        Operation::Read("list".to_owned()),
    ] {
        assert_eq!(client.call(operation), Err(StoreError::Foreign));
    }
}

/// Each write, of whatever kind, gives an entry its whole time again; without a `ttl`, it takes the time away.
#[test]
#[ignore = "needs redis-server"]
fn redis_forgets_entries_after_their_ttl() {
    let server = StoreServer::redis(&[]);
    let with = Client::of(&server, "prefix = 'x:'\nttl = '1h'");
    let without = Client::of(&server, "prefix = 'x:'");
    let key = || "a".to_owned();
    let entry = |value: &'static str| (key(), value.into());
    let writes = || {
        let swap = |value: &'static str| Operation::Swap(key(), Seen::Value(value.into()), "1".into());
        [
            Operation::Set(vec![entry("1")]),
            Operation::Set(vec![entry("1"), ("b".to_owned(), "2".into())]),
            swap("1"),
            Operation::Increment(key(), 0, i64::MIN),
        ]
    };
    for write in writes() {
        server.ask("PERSIST x:a");
        with.call(write).expect("a write");
        let left: i64 = server.ask("TTL x:a").trim_matches([':', '\r', '\n']).parse().expect("a number");
        assert!((3_590..=3_600).contains(&left), "{left}");
    }
    for write in writes() {
        server.ask("EXPIRE x:a 100");
        without.call(write).expect("a write");
        assert_eq!(server.ask("TTL x:a"), ":-1\r\n");
    }
    // What fails changes nothing.
    server.ask("EXPIRE x:a 100");
    let negative = Operation::Increment(key(), -100, 0);
    assert_eq!(without.call(negative), Err(StoreError::Negative));
    assert_eq!(server.ask("TTL x:a"), ":100\r\n");
}

/// Every key that is there all the time is listed, in pages of at most 1,000, also among many keys of others.
#[test]
#[ignore = "needs redis-server"]
fn redis_lists_in_pages() {
    let server = StoreServer::redis(&[]);
    for prefix in ["other", "test"] {
        let client = Client::of(&server, &format!("prefix = '{prefix}:'"));
        for part in 0..30 {
            let entries = (0..1_000).map(|number| (format!("key{}", part * 1_000 + number), Bytes::new()));
            client.call(Operation::Set(entries.collect())).expect("room");
        }
    }
    let client = Client::of(&server, "");
    let (keys, pages) = client.all_keys();
    assert_eq!(keys.len(), 30_000);
    assert!((30..100).contains(&pages), "{pages} pages");
}

/// A server without memory refuses writes, all of one operation or none.
#[test]
#[ignore = "needs redis-server"]
fn redis_refuses_what_does_not_fit() {
    let server = StoreServer::redis(&["--maxmemory-policy", "noeviction"]);
    let client = Client::of(&server, "");
    let set = |keys: &[&str]| {
        let value = Bytes::from(vec![7; 1 << 20]);
        Operation::Set(keys.iter().map(|key| ((*key).to_owned(), value.clone())).collect())
    };
    client.call(set(&["a", "b"])).expect("room");
    server.ask("CONFIG SET maxmemory 1mb");
    let increment = || Operation::Increment("n".to_owned(), 1, i64::MIN);
    for write in
        [set(&["c"]), set(&["c", "d"]), increment(), Operation::Swap("c".to_owned(), Seen::Missing, "x".into())]
    {
        assert_eq!(client.call(write), Err(StoreError::ServerFull));
    }
    let Ok(Answer::Keys(page)) = client.call(Operation::List(None)) else { panic!("no page") };
    assert_eq!(page.keys.len(), 2);
    client.call(Operation::Delete(page.keys)).expect("a deletion");
    server.ask("CONFIG SET maxmemory 0");
    assert_eq!(client.call(increment()), Ok(Answer::Number(1)));
}

/// A script that the server has lost is loaded again.
#[test]
#[ignore = "needs redis-server"]
fn redis_may_lose_its_scripts() {
    let server = StoreServer::redis(&[]);
    let client = Client::of(&server, "");
    for number in 1..4 {
        assert_eq!(client.call(Operation::Increment("n".to_owned(), 1, i64::MIN)), Ok(Answer::Number(number)));
        server.ask("SCRIPT FLUSH");
    }
}
