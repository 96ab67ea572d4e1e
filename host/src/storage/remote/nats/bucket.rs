//! A bucket, over one connection.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, LastRawMessageErrorKind, Stream};
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{Client, HeaderMap, Request, header};
use bytes::Bytes;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;

use super::keys;
use crate::storage::message::{MAX_ANSWER_BYTES, PAGE_BYTES, PAGE_KEYS, Page, StoreError};
use crate::storage::remote::{Failure, Until};

/// Requests of one operation at a time, if it has several keys.
const MAX_AT_ONCE: usize = 64;

/// How long the server keeps the place of a listing whose end it was not told.
const LISTING_PATIENCE: Duration = Duration::from_secs(10);

/// Longer than any operation may take: what waits for an answer has a deadline.
const NO_TIMEOUT: Duration = Duration::from_secs(3_600);

/// How often a bucket that accepts no messages is asked whether it does by now, within the time for connecting.
const MAX_READY_TRIES: u32 = 20;
const READY_INTERVAL: Duration = Duration::from_millis(50);

/// In which time the server recognizes a message that is sent twice, which daylily does not do. Not longer than the
/// entries are kept.
const DUPLICATES: Duration = Duration::from_secs(120);

/// Says what a message without a value does.
const OPERATION: &str = "KV-Operation";
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";

/// Cheap to clone.
#[derive(Clone)]
pub(in crate::storage::remote) struct Bucket {
    client: Client,
    stream: Stream<()>,
    /// What its subjects begin with.
    subjects: String,
    /// Nothing is sent later.
    until: Until,
}

/// The last message of a key.
pub(super) struct Found {
    /// None if there is no message, or it says that the key was deleted.
    pub(super) value: Option<Bytes>,
    /// 0 if there is no message.
    pub(super) revision: u64,
}

/// What a message is published for.
#[derive(Clone, Copy)]
pub(super) enum Expected {
    Any,
    /// Only if the last message of the key has this number.
    Last(u64),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Published {
    Done,
    /// Another message came first, and this one was not stored.
    TooLate,
}

/// What the stream has answered to a message.
#[derive(Deserialize)]
struct Acknowledgement {
    error: Option<jetstream::Error>,
}

impl Bucket {
    /// Opens a bucket, or makes it if there is none.
    pub(super) async fn open(client: Client, name: &str, ttl: Option<Duration>) -> Result<Self, String> {
        let mut context = jetstream::new(client.clone());
        let stream = format!("KV_{name}");
        let subjects = format!("$KV.{name}.");
        let ttl = ttl.unwrap_or_default();
        let wanted = Config {
            name: stream.clone(),
            subjects: vec![format!("{subjects}>")],
            max_messages_per_subject: 1,
            max_age: ttl,
            duplicate_window: if ttl.is_zero() { DUPLICATES } else { ttl.min(DUPLICATES) },
            discard: DiscardPolicy::New,
            allow_rollup: true,
            deny_delete: true,
            num_replicas: 1,
            ..Config::default()
        };
        let opened = context.get_or_create_stream(wanted).await.map_err(|error| error.to_string())?;
        check(name, &opened.cached_info().config, ttl)?;
        context.set_timeout(NO_TIMEOUT);
        let stream = context.get_stream_no_info(stream).await.map_err(|error| error.to_string())?;
        let bucket = Self { client, stream, subjects, until: Until::EVER };
        bucket.wait_until_ready().await;
        Ok(bucket)
    }

    /// Waits until somebody accepts messages. A bucket that another process is making at the same time is there before
    /// it does. What is sent names another stream, so it is refused, and nothing changes.
    async fn wait_until_ready(&self) {
        for _ in 0..MAX_READY_TRIES {
            let mut headers = HeaderMap::new();
            headers.insert(header::NATS_EXPECTED_STREAM, "none");
            let request = Request::new().headers(headers);
            let answer = self.client.send_request([&self.subjects, "none"].concat(), request).await;
            if !answer.is_err_and(|error| error.kind() == RequestErrorKind::NoResponders) {
                return;
            }
            tokio::time::sleep(READY_INTERVAL).await;
        }
    }

    /// The same, for one operation.
    pub(in crate::storage::remote) fn until(&self, until: Until) -> Self {
        Self { until, ..self.clone() }
    }

    /// The bytes that the connection has received.
    pub(in crate::storage::remote) fn received(&self) -> u64 {
        self.client.statistics().in_bytes.load(Relaxed)
    }

    /// Whether the server can have an entry, so that of several none is set if one is too long.
    pub(in crate::storage::remote) fn check(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.subject(key)?;
        if value.len() > self.client.max_payload() { Err(StoreError::TooLongForServer) } else { Ok(()) }
    }

    fn subject(&self, key: &str) -> Result<String, StoreError> {
        let key = keys::encode(key).ok_or(StoreError::KeyTooLongForServer)?;
        Ok([&self.subjects, key.as_str()].concat())
    }

    /// Asks the server that leads the stream, so that it has all that was acknowledged.
    pub(super) async fn find(&self, key: &str) -> Result<Found, Failure> {
        let subject = self.subject(key)?;
        self.until.check()?;
        let found = self.stream.get_last_raw_message_by_subject(&subject).await;
        match found {
            Ok(message) if message.payload.len() > MAX_ANSWER_BYTES => Err(StoreError::AnswerTooLarge.into()),
            Ok(message) => {
                let is_gone = message.headers.get(OPERATION).is_some();
                Ok(Found { value: (!is_gone).then_some(message.payload), revision: message.sequence })
            }
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(Found { value: None, revision: 0 }),
                LastRawMessageErrorKind::JetStream(error) => Err(refused(&error)),
                _ => Err(Failure::Lost),
            },
        }
    }

    pub(super) async fn publish(&self, key: &str, value: Bytes, expected: Expected) -> Result<Published, Failure> {
        let mut headers = HeaderMap::new();
        if let Expected::Last(revision) = expected {
            headers.insert(EXPECTED, revision.to_string());
        }
        self.send(self.subject(key)?, value, headers).await
    }

    async fn delete(&self, key: &str) -> Result<Published, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(OPERATION, "DEL");
        self.send(self.subject(key)?, Bytes::new(), headers).await
    }

    async fn send(&self, subject: String, value: Bytes, headers: HeaderMap) -> Result<Published, Failure> {
        self.until.check()?;
        let mut request = Request::new().payload(value).timeout(None);
        if !headers.is_empty() {
            request = request.headers(headers);
        }
        let answer = self.client.send_request(subject, request).await.map_err(|error| match error.kind() {
            RequestErrorKind::MaxPayloadExceeded => StoreError::TooLongForServer.into(),
            RequestErrorKind::NoResponders => Failure::Server("the bucket is gone, or has no leader".to_owned()),
            _ => Failure::Lost,
        })?;
        let answer: Acknowledgement = serde_json::from_slice(&answer.payload).map_err(|_| Failure::Lost)?;
        match answer.error {
            None => Ok(Published::Done),
            Some(error) if error.error_code() == ErrorCode::STREAM_WRONG_LAST_SEQUENCE => Ok(Published::TooLate),
            Some(error) => Err(refused(&error)),
        }
    }

    pub(super) async fn get_many(&self, keys: Vec<String>) -> Result<Vec<Option<Bytes>>, Failure> {
        if let [key] = keys.as_slice() {
            return Ok(vec![self.find(key).await?.value]);
        }
        let mut values = vec![None; keys.len()];
        let mut left = MAX_ANSWER_BYTES;
        let find = |bucket: Self, (place, key): (usize, String)| async move {
            bucket.find(&key).await.map(|found| (place, found.value))
        };
        self.at_once(keys.into_iter().enumerate(), find, |(place, value)| {
            let bytes = value.as_ref().map_or(0, Bytes::len);
            left = left.checked_sub(bytes).ok_or(StoreError::AnswerTooLarge)?;
            if let Some(found) = values.get_mut(place) {
                *found = value;
            }
            Ok(())
        })
        .await?;
        Ok(values)
    }

    /// If it fails, any of the entries may be set.
    pub(super) async fn set_many(&self, entries: Vec<(String, Bytes)>) -> Result<(), Failure> {
        // Of several values for one key, the last one is meant.
        let entries: BTreeMap<_, _> = entries.into_iter().collect();
        for (key, value) in &entries {
            self.check(key, value)?;
        }
        let is_one = entries.len() == 1;
        let set = |bucket: Self, (key, value): (String, Bytes)| async move {
            bucket.publish(&key, value, Expected::Any).await
        };
        self.at_once(entries.into_iter(), set, |_| Ok(())).await.map_err(|failure| unfinished(failure, is_one))
    }

    /// If it fails, any of the entries may be deleted.
    pub(super) async fn delete_many(&self, keys: Vec<String>) -> Result<(), Failure> {
        for key in &keys {
            self.subject(key)?;
        }
        let is_one = keys.len() == 1;
        let delete = |bucket: Self, key: String| async move {
            // A message that says so would stay for a key that there never was.
            match bucket.find(&key).await?.value {
                Some(_) => bucket.delete(&key).await,
                None => Ok(Published::Done),
            }
        };
        self.at_once(keys.into_iter(), delete, |_| Ok(())).await.map_err(|failure| unfinished(failure, is_one))
    }

    /// Does something with each item, with some of them at the same time, until one fails.
    async fn at_once<T, O, F>(
        &self,
        items: impl Iterator<Item = T>,
        task: impl Fn(Self, T) -> F,
        mut done: impl FnMut(O) -> Result<(), Failure>,
    ) -> Result<(), Failure>
    where
        F: Future<Output = Result<O, Failure>> + Send + 'static,
        O: Send + 'static,
    {
        let (mut items, mut tasks) = (items, JoinSet::new());
        loop {
            while tasks.len() < MAX_AT_ONCE {
                let Some(item) = items.next() else { break };
                tasks.spawn(task(self.clone(), item));
            }
            match tasks.join_next().await {
                None => return Ok(()),
                Some(result) => done(result.map_err(|_| Failure::Lost)??)?,
            }
        }
    }

    /// The keys of the messages from a number on, which is the cursor. A key that is set meanwhile moves to the end.
    pub(super) async fn list(&self, cursor: Option<u64>) -> Result<Page, Failure> {
        let lost = |_| Failure::Lost;
        self.until.check()?;
        let consumer = self.stream.create_consumer(pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: cursor.unwrap_or(0).max(1) },
            ack_policy: AckPolicy::Explicit,
            max_ack_pending: PAGE_KEYS.into(),
            headers_only: true,
            inactive_threshold: LISTING_PATIENCE,
            ..pull::Config::default()
        });
        let consumer = consumer.await.map_err(|_| Failure::Lost)?;
        let (mut page, mut bytes) = (Page::default(), 0);
        if consumer.cached_info().num_pending > 0 {
            // If no message comes, all of them may be gone: the next page says so.
            page.next = Some(cursor.unwrap_or_default());
            let mut messages =
                consumer.fetch().max_messages(PAGE_KEYS as usize).messages().await.map_err(|_| Failure::Lost)?;
            while let Some(message) = messages.next().await {
                let message = message.map_err(lost)?;
                let (sequence, pending) = {
                    let info = message.info().map_err(|_| Failure::Lost)?;
                    (info.stream_sequence, info.pending)
                };
                page.next = (pending > 0).then_some(sequence + 1);
                let is_gone = message.headers.as_ref().is_some_and(|headers| headers.get(OPERATION).is_some());
                let key = message.subject.strip_prefix(&self.subjects).filter(|_| !is_gone);
                if let Some(key) = key.and_then(keys::decode) {
                    bytes += key.len();
                    page.keys.push(key);
                }
                if bytes >= PAGE_BYTES {
                    break;
                }
            }
        }
        // Otherwise the server forgets it later.
        let _ = self.stream.delete_consumer(&consumer.cached_info().name).await;
        Ok(page)
    }
}

fn refused(error: &jetstream::Error) -> Failure {
    let code = error.error_code();
    let is_full = [
        ErrorCode::STREAM_STORE_FAILED,
        ErrorCode::INSUFFICIENT_RESOURCES,
        ErrorCode::STORAGE_RESOURCES_EXCEEDED,
        ErrorCode::MEMORY_RESOURCES_EXCEEDED,
    ];
    match code {
        _ if is_full.contains(&code) => StoreError::ServerFull.into(),
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => StoreError::TooLongForServer.into(),
        _ => Failure::Server(error.to_string()),
    }
}

/// Of several writes, some may have been done before one was not begun.
fn unfinished(failure: Failure, is_one: bool) -> Failure {
    match failure {
        Failure::Operation(StoreError::Expired) if !is_one => StoreError::Unfinished.into(),
        failure => failure,
    }
}

/// Checks that a bucket keeps each entry, and for how long.
fn check(name: &str, found: &Config, ttl: Duration) -> Result<(), String> {
    if found.max_messages_per_subject != 1 {
        return Err(format!("the bucket `{name}` has a history; daylily needs one with `--history=1`"));
    }
    if found.max_age != ttl {
        return Err(format!(
            "the bucket `{name}` keeps entries for {:?}, and `ttl` of the store is {ttl:?} (0 is for ever); change \
             either of them",
            found.max_age
        ));
    }
    if found.discard != DiscardPolicy::New {
        return Err(format!(
            "the bucket `{name}` discards old entries when it is full; daylily needs one that refuses new ones \
             (`nats stream edit KV_{name} --discard=new`)"
        ));
    }
    if found.mirror.is_some() || found.sources.as_ref().is_some_and(|sources| !sources.is_empty()) {
        return Err(format!("the bucket `{name}` is a copy of others; name the bucket that it copies"));
    }
    Ok(())
}
