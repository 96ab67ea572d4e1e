//! Lists the keys of the store that `store` names (default `visits`). With `most`, it stops after so many.

use query::Target;
use spin_sdk::http::{IntoResponse, Request};
use spin_sdk::http_service;
use spin_sdk::key_value::Store;

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let target = Target::parse(target);
    let store = match Store::open(target.get("store").unwrap_or("visits")).await {
        Ok(store) => store,
        Err(error) => return format!("{error:?}"),
    };
    let mut keys = store.get_keys().await;
    let most = target.number("most").unwrap_or(u64::MAX);
    let mut found = Vec::new();
    while (found.len() as u64) < most {
        match keys.next().await {
            Some(key) => found.push(key),
            None => match keys.result().await {
                Ok(()) => break,
                Err(error) => return format!("{error:?}"),
            },
        }
    }
    match target.path() {
        "/count" => format!("{} keys, {} bytes", found.len(), found.iter().map(String::len).sum::<usize>()),
        _ => found.join(","),
    }
}
