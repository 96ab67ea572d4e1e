//! Does one operation on a key-value store, or reads a variable, as the path names it. Responds with the result as text.
//!
//! Parameters: `store` (default `visits`), `key`, `value`, `count`, `bytes` (values of so many zeros), `steps` (of a
//! computation).

use std::fmt::Debug;
use std::hint::black_box;
use std::task::Poll;

use futures::future::join_all;
use futures::poll;
use query::Target;
use spin_sdk::http::{IntoResponse, Request};
use spin_sdk::key_value::Store;
use spin_sdk::{http_service, variables};

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let target = Target::parse(target);
    match target.path() {
        "/var" => shown(variables::get(target.get("key").unwrap_or_default()).await),
        _ => match Store::open(target.get("store").unwrap_or("visits")).await {
            Ok(store) => operation(&target, &store).await,
            Err(error) => format!("{error:?}"),
        },
    }
}

async fn operation(target: &Target, store: &Store) -> String {
    let (key, value) = (target.get("key").unwrap_or_default(), target.get("value").unwrap_or_default());
    match target.path() {
        "/get" => match store.get(key).await {
            Ok(value) => format!("{:?}", value.map(|value| String::from_utf8_lossy(&value).into_owned())),
            Err(error) => format!("{error:?}"),
        },
        "/set" => shown(store.set(key, value).await),
        "/delete" => shown(store.delete(key).await),
        "/exists" => shown(store.exists(key).await),
        // All of them are in progress at the same time.
        "/at-once" => {
            let count = target.number("count").unwrap_or_default();
            let keys: Vec<String> = (0..count).map(|number| format!("{key}{number}")).collect();
            let set = join_all(keys.iter().map(|key| store.set(key, key))).await;
            let found = join_all(keys.iter().map(|key| store.get(key))).await;
            let is_right = |(key, value): (&String, Result<Option<Vec<u8>>, _>)| {
                value.is_ok_and(|value| value.as_deref() == Some(key.as_bytes()))
            };
            let right = keys.iter().zip(found).filter(|(key, value)| is_right((key, value.clone()))).count();
            format!("{} set, {right} found", set.iter().filter(|set| set.is_ok()).count())
        }
        // All of them have begun before any is looked at, and the guest computes meanwhile.
        "/get-at-once" => {
            let gets = (0..target.number("count").unwrap_or_default()).map(|_| async {
                let value = store.get(key).await;
                value.ok().flatten().map_or(0, |value| value.len() as u64)
            });
            let mut all = Box::pin(join_all(gets));
            let bytes = match poll!(&mut all) {
                Poll::Ready(bytes) => bytes,
                Poll::Pending => {
                    for step in 0..target.number("steps").unwrap_or_default() {
                        black_box(step);
                    }
                    all.await
                }
            };
            format!("{} bytes", bytes.iter().sum::<u64>())
        }
        "/set-at-once" => {
            let value = vec![0; target.number("bytes").unwrap_or_default() as usize];
            let keys: Vec<String> =
                (0..target.number("count").unwrap_or_default()).map(|n| format!("{key}{n}")).collect();
            let set = join_all(keys.iter().map(|key| store.set(key, &value))).await;
            format!("{} set", set.iter().filter(|set| set.is_ok()).count())
        }
        other => format!("unknown operation {other}"),
    }
}

fn shown<T: Debug, E: Debug>(result: Result<T, E>) -> String {
    format!("{result:?}")
}
