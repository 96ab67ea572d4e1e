//! Does one operation on a key-value store, or reads a variable, as the path names it. Responds with the result as text.
//!
//! Parameters: `store` (default `visits`), `key`, `value`, `count`.

use std::fmt::Debug;

use futures::future::join_all;
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
        other => format!("unknown operation {other}"),
    }
}

fn shown<T: Debug, E: Debug>(result: Result<T, E>) -> String {
    format!("{result:?}")
}
