//! Does one operation on a key-value store, which the path names, through the interface that `via` names: `draft2`, which
//! is the default, `draft` or `spin`. Responds with the result as text.
//!
//! `/record` counts requests of schedules, by their fields: `NAME~TIME~ATTEMPT`; with `pause`, it then waits for so many
//! milliseconds.
//!
//! Parameters: `store` (default `visits`), `key`, `value`, `bytes` (a value of so many zeros), `delta`, `cursor`, `count`,
//! `op`.

mod draft {
    wit_bindgen::generate!({ path: "wit/draft", generate_all });

    pub use self::wasi::keyvalue::{atomics, batch, store};
}

mod spin {
    wit_bindgen::generate!({ path: "wit/spin", generate_all });

    pub use self::fermyon::spin::key_value::Store;
}

use std::fmt::Debug;

use kit::wasi::keyvalue::atomics::{self, Cas, CasError};
use kit::wasi::keyvalue::{batch, store};
use kit::{IncomingRequest, ResponseOutparam, Target};

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let target = kit::target(&request);
    let result = match target.get("via").unwrap_or("draft2") {
        _ if target.path() == "/record" => record(&request, &target),
        "draft2" => by_draft2(&target),
        "draft" => by_draft(&target),
        "spin" => by_spin(&target),
        other => Err(format!("unknown interface {other}")),
    };
    kit::text(out, &result.unwrap_or_else(|error| format!("error: {error}")));
}

fn record(request: &IncomingRequest, target: &Target) -> Result<String, String> {
    let headers = request.headers();
    let field = |name: &str| {
        let values = headers.get(name).into_iter().map(|value| String::from_utf8_lossy(&value).into_owned());
        values.collect::<Vec<_>>().join("+")
    };
    let names = ["daylily-schedule", "daylily-scheduled-time", "daylily-schedule-attempt"];
    let key = names.map(field).join("~");
    let bucket = store::open("visits").map_err(|error| format!("{error:?}"))?;
    let count = shown(atomics::increment(&bucket, &key, 1))?;
    if let Some(ms) = target.number("pause") {
        kit::pause(ms);
    }
    Ok(format!("{key} {count}"))
}

fn shown<T: Debug, E: Debug>(result: Result<T, E>) -> Result<String, String> {
    result.map(|value| format!("{value:?}")).map_err(|error| format!("{error:?}"))
}

fn value_of(target: &Target) -> Vec<u8> {
    match target.number("bytes") {
        Some(bytes) => vec![0; bytes as usize],
        None => target.get("value").unwrap_or_default().as_bytes().to_vec(),
    }
}

/// A value as text, or its length if it is not UTF-8 or long.
fn text(value: Option<Vec<u8>>) -> String {
    match value.map(String::from_utf8) {
        None => "none".to_owned(),
        Some(Ok(text)) if text.len() <= 1_000 => format!("some {text}"),
        Some(Ok(text)) => format!("{} bytes", text.len()),
        Some(Err(error)) => format!("{} bytes", error.as_bytes().len()),
    }
}

fn keys_of(target: &Target) -> Vec<String> {
    target.get("key").unwrap_or_default().split(',').map(str::to_owned).collect()
}

fn by_draft2(target: &Target) -> Result<String, String> {
    let failed = |error: store::Error| format!("{error:?}");
    let (label, key) = (target.get("store").unwrap_or("visits"), target.get("key").unwrap_or_default());
    let delta = target.get("delta").and_then(|delta| delta.parse().ok()).unwrap_or(1);
    if target.path() == "/open" {
        let count = target.number("count").unwrap_or(1);
        let opened: Result<Vec<_>, _> = (0..count).map(|_| store::open(label)).collect();
        return opened.map(|opened| format!("opened {}", opened.len())).map_err(failed);
    }
    let bucket = store::open(label).map_err(failed)?;
    match target.path() {
        "/get" => bucket.get(key).map(text).map_err(failed),
        "/set" => shown(bucket.set(key, &value_of(target))),
        "/delete" => shown(bucket.delete(key)),
        "/exists" => shown(bucket.exists(key)),
        "/list" => {
            let page = bucket.list_keys(target.get("cursor")).map_err(failed)?;
            Ok(format!("{} {}", page.keys.join(","), page.cursor.as_deref().unwrap_or("end")))
        }
        "/increment" => shown(atomics::increment(&bucket, key, delta)),
        "/get-many" => {
            let entries = batch::get_many(&bucket, &keys_of(target)).map_err(failed)?;
            Ok(entries.into_iter().map(|(key, value)| format!("{key}={}", text(value))).collect::<Vec<_>>().join(","))
        }
        "/set-many" => {
            let value = value_of(target);
            let entries: Vec<_> = keys_of(target).into_iter().map(|key| (key, value.clone())).collect();
            shown(batch::set_many(&bucket, &entries))
        }
        "/delete-many" => shown(batch::delete_many(&bucket, &keys_of(target))),
        // Sets `count` keys, to have many.
        "/fill" => {
            let entries: Vec<_> =
                (0..target.number("count").unwrap_or(0)).map(|number| (format!("{key}{number:05}"), vec![])).collect();
            shown(batch::set_many(&bucket, &entries))
        }
        // Reads, writes `between` if it is given, as another request might, and swaps.
        "/swap" => {
            let cas = Cas::new(&bucket, key).map_err(failed)?;
            let before = text(cas.current().map_err(failed)?);
            if let Some(between) = target.get("between") {
                bucket.set(key, between.as_bytes()).map_err(failed)?;
            }
            match atomics::swap(cas, &value_of(target)) {
                Ok(()) => Ok(format!("{before}, swapped")),
                Err(CasError::StoreError(error)) => Err(failed(error)),
                Err(CasError::CasFailed(now)) => Ok(format!("{before}, now {}", text(now.current().map_err(failed)?))),
            }
        }
        // Keeps `count` handles of the same entry.
        "/hold" => {
            let held: Result<Vec<_>, _> =
                (0..target.number("count").unwrap_or(0)).map(|_| Cas::new(&bucket, key)).collect();
            held.map(|held| format!("held {}", held.len())).map_err(failed)
        }
        // `op` many times in one request: `exists`, which is the default, `get` or `set`.
        "/often" => {
            let (operation, value) = (target.get("op").unwrap_or("exists"), value_of(target));
            for done in 0..target.number("count").unwrap_or(0) {
                let result = match operation {
                    "exists" => bucket.exists(key).map(drop),
                    "get" => bucket.get(key).map(drop),
                    "set" => bucket.set(key, &value),
                    other => return Err(format!("unknown operation {other}")),
                };
                result.map_err(|error| format!("after {done}: {error:?}"))?;
            }
            Ok(format!("{} times", target.number("count").unwrap_or(0)))
        }
        other => Err(format!("unknown path {other}")),
    }
}

fn by_draft(target: &Target) -> Result<String, String> {
    let failed = |error: draft::store::Error| format!("{error:?}");
    let (label, key) = (target.get("store").unwrap_or("visits"), target.get("key").unwrap_or_default());
    let delta = target.get("delta").and_then(|delta| delta.parse().ok()).unwrap_or(1);
    let bucket = draft::store::open(label).map_err(failed)?;
    match target.path() {
        "/get" => bucket.get(key).map(text).map_err(failed),
        "/set" => shown(bucket.set(key, &value_of(target))),
        "/delete" => shown(bucket.delete(key)),
        "/exists" => shown(bucket.exists(key)),
        "/list" => {
            let cursor = target.get("cursor").and_then(|cursor| cursor.parse().ok());
            let page = bucket.list_keys(cursor).map_err(failed)?;
            let next = page.cursor.map_or("end".to_owned(), |cursor| cursor.to_string());
            Ok(format!("{} {next}", page.keys.join(",")))
        }
        "/increment" => shown(draft::atomics::increment(&bucket, key, delta)),
        "/get-many" => {
            let entries = draft::batch::get_many(&bucket, &keys_of(target)).map_err(failed)?;
            let shown = |entry: Option<(String, Vec<u8>)>| match entry {
                Some((key, value)) => format!("{key}={}", text(Some(value))),
                None => "none".to_owned(),
            };
            Ok(entries.into_iter().map(shown).collect::<Vec<_>>().join(","))
        }
        "/set-many" => {
            let value = value_of(target);
            let entries: Vec<_> = keys_of(target).into_iter().map(|key| (key, value.clone())).collect();
            shown(draft::batch::set_many(&bucket, &entries))
        }
        "/delete-many" => shown(draft::batch::delete_many(&bucket, &keys_of(target))),
        other => Err(format!("unknown path {other}")),
    }
}

fn by_spin(target: &Target) -> Result<String, String> {
    let (label, key) = (target.get("store").unwrap_or("visits"), target.get("key").unwrap_or_default());
    let store = spin::Store::open(label).map_err(|error| format!("{error:?}"))?;
    match target.path() {
        "/get" => store.get(key).map(text).map_err(|error| format!("{error:?}")),
        "/set" => shown(store.set(key, &value_of(target))),
        "/delete" => shown(store.delete(key)),
        "/exists" => shown(store.exists(key)),
        "/list" => store.get_keys().map(|keys| keys.join(",")).map_err(|error| format!("{error:?}")),
        other => Err(format!("unknown path {other}")),
    }
}

kit::serve!(handle);
