//! NATS JetStream. A store is a key-value bucket, in the form that the tools of NATS know, and an entry is the last
//! message of its key's subject, whose number in the stream is its revision.
//!
//! The client would connect again by itself and then send what it has kept. It is refused its second connection, and has
//! a thread and an event loop of its own, which end with the connection: what the client has not sent is not kept.

mod bucket;
mod keys;

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_nats::{Auth, AuthError, ConnectOptions, Event};
use daylily_core::config::{Store, StoreServer};
use tokio::sync::{Mutex, Notify, oneshot};

pub(super) use self::bucket::Bucket;
use self::bucket::{Expected, Found, Published};
use super::address::{Trust, addresses, part_for};
use super::{Ended, Failure};
use crate::storage::message::{Answer, Operation, Seen, StoreError, number};
use crate::sys::lock::lock;
use crate::sys::runtime;

/// How often a write is tried that others come first with. Those of this process take turns.
const MAX_TRIES: u32 = 100;

/// An idle connection is used at least so often. The second time without an answer ends it.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// A store in a bucket.
pub(super) struct Nats {
    url: String,
    host: String,
    port: u16,
    /// For TLS.
    trust: Option<Trust>,
    login: Auth,
    bucket: String,
    ttl: Option<Duration>,
    /// Those who increment the same key wait for each other, which takes less than to try again.
    turns: StdMutex<HashMap<String, Rc<Mutex<()>>>>,
}

impl Nats {
    pub(super) fn new(store: &Store, server: &StoreServer, bucket: &str) -> Self {
        let mut login = Auth::new();
        let secret = server.secret.as_ref().map(|secret| secret.secret.expose().to_owned());
        match server.is_token {
            true => login.token = secret,
            false => (login.username, login.password) = (server.user.clone(), secret),
        }
        Self {
            url: server.to_string(),
            host: server.host.clone(),
            port: server.port,
            trust: server.is_tls.then(Trust::default),
            login,
            bucket: bucket.to_owned(),
            ttl: store.ttl,
            turns: StdMutex::default(),
        }
    }

    /// Connects, and opens the bucket, or makes it.
    pub(super) async fn connect(&self) -> Result<(Bucket, Ended), String> {
        let (login, is_used) = (self.login.clone(), AtomicBool::new(false));
        let found = addresses(&self.host, self.port).await.map_err(|error| error.to_string())?;
        let gone = Arc::new(Notify::new());
        let told = Arc::clone(&gone);
        let mut options = ConnectOptions::with_auth_callback(move |_| {
            let login = if is_used.swap(true, Relaxed) { Err(AuthError::new("once only")) } else { Ok(login.clone()) };
            std::future::ready(login)
        })
        .event_callback(move |event| {
            if matches!(event, Event::Disconnected | Event::Closed) {
                told.notify_one();
            }
            std::future::ready(())
        })
        .max_reconnects(1)
        .ignore_discovered_servers()
        .ping_interval(PING_INTERVAL)
        .connection_timeout(part_for(found.len()))
        .name("daylily");
        if let Some(trust) = &self.trust {
            options = options.tls_client_config(trust.config().await?.as_ref().clone()).require_tls(true);
        }
        let (url, name, ttl) = (self.url.clone(), self.bucket.clone(), self.ttl);
        let open = async move {
            let client = options.connect(&url).await.map_err(|error| error.to_string())?;
            Bucket::open(client, &name, ttl).await
        };
        keep(open, gone).await
    }

    pub(super) async fn run(&self, to: &Bucket, operation: Operation) -> Result<Answer, Failure> {
        match operation {
            Operation::Get(keys) => to.get_many(keys).await.map(Answer::Values),
            Operation::Exists(key) => Ok(Answer::Exists(to.find(&key).await?.value.is_some())),
            Operation::List(cursor) => to.list(cursor).await.map(Answer::Keys),
            Operation::Read(key) => Ok(entry(to.find(&key).await?)),
            Operation::Set(entries) => to.set_many(entries).await.map(|()| Answer::Done),
            Operation::Delete(keys) => to.delete_many(keys).await.map(|()| Answer::Done),
            Operation::Increment(key, delta, least) => {
                let turn = Turn::new(self, key);
                let _held = turn.lock.lock().await;
                increment(to, &turn.key, delta, least).await
            }
            Operation::Swap(key, seen, value) => {
                let mut expected = match seen {
                    Seen::Missing => 0,
                    Seen::Revision(revision) => revision,
                    // Of a store that had another backend before a reload.
                    Seen::Value(_) => return Err(StoreError::Failed.into()),
                };
                for _ in 0..MAX_TRIES {
                    match to.publish(&key, value.clone(), Expected::Last(expected)).await? {
                        Published::Done => return Ok(Answer::Done),
                        Published::TooLate => {}
                    }
                    let now = to.find(&key).await?;
                    // A key that was deleted has a last message, too, which says so.
                    if seen != Seen::Missing || now.value.is_some() {
                        return Ok(entry(now));
                    }
                    expected = now.revision;
                }
                Err(StoreError::Contended.into())
            }
        }
    }
}

/// A place among those who increment a key.
struct Turn<'a> {
    of: &'a Nats,
    key: String,
    lock: Rc<Mutex<()>>,
}

impl<'a> Turn<'a> {
    fn new(of: &'a Nats, key: String) -> Self {
        let lock = Rc::clone(lock(&of.turns).entry(key.clone()).or_default());
        Self { of, key, lock }
    }
}

impl Drop for Turn<'_> {
    /// Forgets the key if nobody else waits.
    fn drop(&mut self) {
        let mut turns = lock(&self.of.turns);
        // In the map and here.
        if turns.get(&self.key).is_some_and(|turn| Rc::strong_count(turn) <= 2) {
            turns.remove(&self.key);
        }
    }
}

/// Opens a bucket in a thread and an event loop of their own, which end when the connection is `gone`, or given up: with
/// them, what the client has not sent yet. In another event loop it would go on sending, because it notices only after
/// that that nobody waits.
async fn keep(
    open: impl Future<Output = Result<Bucket, String>> + Send + 'static,
    gone: Arc<Notify>,
) -> Result<(Bucket, Ended), String> {
    let (stop, stopped) = oneshot::channel::<()>();
    let (end, ended) = oneshot::channel::<()>();
    let (opened, is_open) = oneshot::channel();
    let serve = async move {
        let bucket = open.await;
        let is_useful = bucket.is_ok();
        if opened.send(bucket).is_ok() && is_useful {
            gone.notified().await;
        }
    };
    let main = async move {
        tokio::select! {
            () = serve => {}
            _ = stopped => {}
        }
        Ok::<_, io::Error>(())
    };
    let thread = std::thread::Builder::new().name("nats".to_owned());
    let begun = thread.spawn(move || {
        let _end = end;
        runtime::run(main)
    });
    begun.map_err(|error| error.to_string())?;
    let bucket = is_open.await.map_err(|_| "there are no descriptors left for the connection".to_owned())??;
    let ended = async move {
        let _stop = stop;
        let _ = ended.await;
    };
    Ok((bucket, Box::pin(ended)))
}

async fn increment(to: &Bucket, key: &str, delta: i64, least: i64) -> Result<Answer, Failure> {
    for _ in 0..MAX_TRIES {
        let Found { value, revision } = to.find(key).await?;
        let value = value.map_or(Some(0), |value| number(&value)).ok_or(StoreError::NotANumber)?;
        let sum = value.checked_add(delta).ok_or(StoreError::Overflow)?;
        if sum < least {
            return Err(StoreError::Negative.into());
        }
        match to.publish(key, sum.to_string().into(), Expected::Last(revision)).await? {
            Published::Done => return Ok(Answer::Number(sum)),
            Published::TooLate => {}
        }
    }
    Err(StoreError::Contended.into())
}

fn entry(found: Found) -> Answer {
    Answer::Entry(found.value.map(|value| (value, Some(found.revision))))
}
