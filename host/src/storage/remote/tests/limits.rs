//! What is refused, not received, or not sent.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::store_server::StoreServer;
use super::{Answer, Client, Operation, Seen, Server, StoreError, Until, store};
use crate::storage::message::Page;

/// Keys that are long, also those of others, come in pages that a worker can receive.
#[test]
#[ignore = "needs redis-server"]
fn redis_lists_long_keys_in_pages() {
    let server = StoreServer::redis(&[]);
    let client = Client::of(&server, "max_key = '64KiB'");
    let key = |number: usize| format!("{number}{}", "k".repeat(65_000));
    for number in 0..200 {
        client.call(Operation::Set(vec![(key(number), Bytes::new())])).expect("room");
    }
    let (mut cursor, mut keys) = (None, BTreeSet::new());
    loop {
        let Ok(Answer::Keys(page)) = client.call(Operation::List(cursor)) else { panic!("no page") };
        let bytes: usize = page.keys.iter().map(String::len).sum();
        assert!(bytes <= (1 << 20) + (64 << 10), "{bytes} bytes");
        keys.extend(page.keys);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(keys, (0..200).map(key).collect());
}

/// What other programs have set is not received if it is too long.
#[test]
#[ignore = "needs redis-server"]
fn redis_sends_no_value_that_is_too_long() {
    let server = StoreServer::redis(&[]);
    let client = Client::of(&server, "prefix = 'x:'");
    server.ask("SETRANGE x:long 100000000 x");
    let long = || "long".to_owned();
    let before = client.connection.received();
    for operation in [
        Operation::Get(vec![long()]),
        Operation::Get(vec![long(), "a".to_owned()]),
        Operation::Read(long()),
        Operation::Swap(long(), Seen::Missing, "x".into()),
    ] {
        assert_eq!(client.call(operation), Err(StoreError::AnswerTooLarge));
    }
    assert!(client.connection.received() - before < 10_000);
}

/// Nothing is sent for an operation whose time is over.
fn check_too_late(client: &Client) {
    let entries = |count: usize| (0..count).map(|number| (number.to_string(), Bytes::new())).collect::<Vec<_>>();
    let key = || "n".to_owned();
    for operation in [
        Operation::Increment(key(), 1, i64::MIN),
        Operation::Swap(key(), Seen::Missing, "x".into()),
        Operation::Set(entries(1)),
        Operation::Delete(vec![key()]),
        Operation::Get(vec![key()]),
        Operation::List(None),
    ] {
        assert_eq!(client.call_until(operation, Until(0)), Err(StoreError::Expired));
    }
    assert!(client.call_until(Operation::Set(entries(3)), Until(0)).is_err());
    assert_eq!(client.call(Operation::List(None)), Ok(Answer::Keys(Page::default())));
}

#[test]
#[ignore = "needs redis-server"]
fn redis_is_sent_nothing_too_late() {
    check_too_late(&Client::of(&StoreServer::redis(&[]), ""));
}

#[test]
#[ignore = "needs nats-server"]
fn nats_is_sent_nothing_too_late() {
    check_too_late(&Client::of(&StoreServer::nats(&[]), ""));
}

/// Of entries of which one is too long, none is set.
#[test]
#[ignore = "needs nats-server"]
fn nats_checks_all_entries_first() {
    let server = StoreServer::nats(&[]);
    let client = Client::of(&server, "max_key = '64KiB'");
    let long = || "é".repeat(2_000);
    let entry = |key: &str| (key.to_owned(), Bytes::new());
    let set = Operation::Set(vec![entry("a"), entry("b"), (long(), Bytes::new())]);
    assert_eq!(client.call(set), Err(StoreError::KeyTooLongForServer));
    assert_eq!(client.call(Operation::List(None)), Ok(Answer::Keys(Page::default())));
    client.call(Operation::Set(vec![entry("a")])).expect("room");
    let delete = Operation::Delete(vec!["a".to_owned(), long()]);
    assert_eq!(client.call(delete), Err(StoreError::KeyTooLongForServer));
    assert_eq!(client.call(Operation::Exists("a".to_owned())), Ok(Answer::Exists(true)));
}

/// A bucket that would forget entries without a word, or that is a copy.
#[test]
#[ignore = "needs nats-server"]
fn nats_refuses_buckets_that_forget() {
    use async_nats::jetstream;
    use async_nats::jetstream::stream::{Config, DiscardPolicy, Source};
    let server = StoreServer::nats(&[]);
    let client = Client::of(&server, "");
    let bucket = |name: &str| Config {
        name: format!("KV_{name}"),
        subjects: vec![format!("$KV.{name}.>")],
        max_messages_per_subject: 1,
        discard: DiscardPolicy::New,
        ..Config::default()
    };
    let old = Config { discard: DiscardPolicy::Old, ..bucket("old") };
    let mirror = Source { name: "KV_test".to_owned(), ..Source::default() };
    let copy = Config { subjects: Vec::new(), mirror: Some(mirror), ..bucket("copy") };
    client.runtime.block_on(async {
        let context = jetstream::new(async_nats::connect(server.url()).await.expect("a connection"));
        for config in [old, copy] {
            context.create_stream(config).await.expect("a stream");
        }
    });
    for (name, why) in [("old", "discards old entries"), ("copy", "is a copy of others")] {
        let store = store(&format!("backend = '{}'\nbucket = '{name}'", server.url()));
        let of = Server::new(&store, store.server().expect("a server"));
        let refused = client.runtime.block_on(of.connect()).err().expect("an error");
        assert!(refused.contains(why), "{refused}");
    }
}

/// What a connection has not sent when it is given up is not sent later.
#[test]
#[ignore = "needs nats-server"]
fn nats_keeps_nothing_of_a_connection_that_is_given_up() {
    let server = StoreServer::nats(&[]);
    let Client { runtime, server: of, connection, _ended: ended } = Client::of(&server, "");
    server.pause();
    let set = |number: usize| Operation::Set(vec![(number.to_string(), Bytes::from(vec![7; 1 << 20]))]);
    runtime.block_on(async {
        let sets = (0..60).map(|number| of.run(&connection, set(number), Until::EVER));
        let mut sets: Vec<_> = sets.map(Box::pin).collect();
        let all = std::future::poll_fn(|cx| {
            sets.iter_mut().for_each(|set| assert!(set.as_mut().poll(cx).is_pending()));
            std::task::Poll::<()>::Pending
        });
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), all).await;
    });
    drop(ended);
    drop(connection);
    std::thread::sleep(std::time::Duration::from_millis(500));
    server.resume();
    let client = Client::of(&server, "");
    std::thread::sleep(std::time::Duration::from_secs(2));
    let Ok(Answer::Keys(page)) = client.call(Operation::List(None)) else { panic!("no page") };
    // The kernels had taken some of them.
    assert!(page.keys.len() < 20, "{}", page.keys.len());
}
