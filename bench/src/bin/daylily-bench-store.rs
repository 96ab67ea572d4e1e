//! `daylily-bench-store BACKEND PLACE OPERATION COUNT`: does an operation on a key-value store so many times, and prints
//! the CPU time of one in nanoseconds. On a server, 16 are in progress at a time, over one connection. A program without
//! guests, with the libraries that daylily uses, as a lower bound for what an operation of a guest costs.
//!
//! BACKEND is `file`, `redis` or `nats`; PLACE the path or the URL; OPERATION `get` or `set`. A file must be one that
//! daylily has made. On NATS, the bucket is called `bench`. The operation `lock` locks a file for COUNT seconds.

use std::error::Error;
use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, params};
use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinSet;

/// Not anyhow: its default features would make cargo build daylily's dependencies again.
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "usage: daylily-bench-store file|redis|nats PLACE get|set|lock COUNT";

/// The key, and its value.
const KEY: &str = "native";
const VALUE: [u8; 100] = [0; 100];

/// How long to wait for others that write.
const LOCKED_WITHIN: Duration = Duration::from_secs(10);

/// Operations on a server that are in progress at a time.
const TASKS: u64 = 16;

/// How often it is done before it is measured.
const WARM_UP: u64 = 100;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [backend, place, operation, count] = args.as_slice() else { return Err(USAGE.into()) };
    let count: u64 = count.parse()?;
    let reads = match operation.as_str() {
        "get" => true,
        "set" => false,
        "lock" if backend == "file" => return lock(place, Duration::from_secs(count)),
        _ => return Err(USAGE.into()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let used = match backend.as_str() {
        "file" => file(place, reads, count)?,
        "redis" => runtime.block_on(redis(place, reads, count))?,
        "nats" => runtime.block_on(nats(place, reads, count))?,
        _ => return Err(USAGE.into()),
    };
    Ok(writeln!(std::io::stdout(), "{}", used / count.max(1))?)
}

/// Keeps others from writing.
fn lock(path: &str, time: Duration) -> Result<()> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(LOCKED_WITHIN)?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    writeln!(std::io::stdout(), "locked")?;
    std::thread::sleep(time);
    Ok(())
}

/// CPU time of this process in nanoseconds.
fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap_or(0)
}

fn expect(value: Option<usize>) -> Result<()> {
    if value == Some(VALUE.len()) { Ok(()) } else { Err(format!("not the value: {value:?} bytes").into()) }
}

/// The statements of `host/src/storage/database.rs`, each a transaction of its own.
fn file(path: &str, reads: bool, count: u64) -> Result<u64> {
    let connection = Connection::open(path)?;
    connection.execute_batch("PRAGMA synchronous = NORMAL")?;
    let set = "INSERT INTO entry (key, value, revision, expires) VALUES (?1, ?2, random(), NULL) \
               ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision";
    let find = "SELECT value FROM entry WHERE key = ?1 AND (expires IS NULL OR expires > ?2)";
    let (mut set, mut find) = (connection.prepare(set)?, connection.prepare(find)?);
    set.execute(params![KEY, VALUE])?;
    let mut once = || -> Result<()> {
        if reads {
            let value = find.query_row(params![KEY, 0], |row| row.get::<_, Vec<u8>>(0)).optional()?;
            expect(value.map(|value| value.len()))
        } else {
            set.execute(params![KEY, VALUE])?;
            Ok(())
        }
    };
    (0..WARM_UP).try_for_each(|_| once())?;
    let before = cpu_ns();
    (0..count).try_for_each(|_| once())?;
    Ok(cpu_ns() - before)
}

async fn redis(url: &str, reads: bool, count: u64) -> Result<u64> {
    let connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    redis::cmd("SET").arg(KEY).arg(&VALUE).query_async::<()>(&mut connection.clone()).await?;
    side_by_side(count, move || {
        let mut connection = connection.clone();
        async move {
            if reads {
                let value: Option<Vec<u8>> = redis::cmd("GET").arg(KEY).query_async(&mut connection).await?;
                expect(value.map(|value| value.len()))
            } else {
                Ok(redis::cmd("SET").arg(KEY).arg(&VALUE).query_async::<()>(&mut connection).await?)
            }
        }
    })
    .await
}

/// An entry of a bucket is the last message with its subject.
async fn nats(url: &str, reads: bool, count: u64) -> Result<u64> {
    let client = async_nats::connect(url).await?;
    let jetstream = async_nats::jetstream::new(client.clone());
    let stream = async_nats::jetstream::stream::Config {
        name: "KV_bench".into(),
        subjects: vec!["$KV.bench.>".into()],
        max_messages_per_subject: 1,
        allow_direct: true,
        discard: async_nats::jetstream::stream::DiscardPolicy::New,
        ..Default::default()
    };
    jetstream.get_or_create_stream(stream).await?;
    let value = Bytes::from_static(&VALUE);
    client.request(format!("$KV.bench.{KEY}"), value.clone()).await?;
    side_by_side(count, move || {
        let (client, value) = (client.clone(), value.clone());
        async move {
            if reads {
                let subject = format!("$JS.API.DIRECT.GET.KV_bench.$KV.bench.{KEY}");
                return expect(Some(client.request(subject, Bytes::new()).await?.payload.len()));
            }
            let stored = client.request(format!("$KV.bench.{KEY}"), value).await?;
            let refused = stored.payload.starts_with(b"{\"error\"");
            if refused { Err(String::from_utf8_lossy(&stored.payload).into()) } else { Ok(()) }
        }
    })
    .await
}

/// Does it `count` times in all in [`TASKS`] tasks. Returns the CPU time.
async fn side_by_side<F: Future<Output = Result<()>> + Send + 'static>(
    count: u64,
    once: impl Fn() -> F + Clone + Send + Sync + 'static,
) -> Result<u64> {
    for _ in 0..WARM_UP {
        once().await?;
    }
    let before = cpu_ns();
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let once = once.clone();
        tasks.spawn(async move {
            for _ in 0..count / TASKS {
                once().await?;
            }
            Ok::<_, Box<dyn Error + Send + Sync>>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(cpu_ns() - before)
}
