//! A guest of wasi:http 0.3: the path selects its behaviour.

use std::sync::atomic::{AtomicU64, Ordering};

use exports::wasi::http::handler::Guest;
use query::Target;
use wasi::clocks::monotonic_clock::wait_for;
use wasi::http::types::{ErrorCode, Request, Response};
use wasi::logging::logging::{Level, log};

mod answer;
mod client;
mod hoard;
mod report;

wit_bindgen::generate!({ path: "../../wit/0.3", generate_all });

static COUNT: AtomicU64 = AtomicU64::new(0);

struct Component;

impl Guest for Component {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = Target::parse(&request.get_path_with_query().unwrap_or_default());
        Ok(match target.path() {
            "/echo" => answer::echo(request),
            "/pass" => answer::pass(&target, request),
            "/stream" => answer::stream(target),
            "/report" => answer::text(report::describe(&request)),
            "/head" => answer::partial("hello", &[("content-length", "5")], || {}),
            "/short" => answer::partial("hello", &[("content-length", "100")], || {}),
            "/count" => answer::text(format!("count: {}\n", COUNT.fetch_add(1, Ordering::Relaxed) + 1)),
            "/late" => {
                wit_bindgen::spawn_local(answer::late(target.number("ms").unwrap_or(0)));
                answer::text("early\n".into())
            }
            "/wait" => {
                wait_for(target.number("ms").unwrap_or(0) * 1_000_000).await;
                answer::text("waited\n".into())
            }
            "/print" => {
                eprintln!("printed");
                answer::text("ok\n".into())
            }
            "/log" => {
                log(Level::Warn, "shop", "at Warn");
                answer::text("ok\n".into())
            }
            "/send" => answer::text(client::send(&target, request).await.unwrap_or_else(|e| format!("error: {e}\n"))),
            "/sent" => answer::text(client::sent(&target, request).await.unwrap_or_else(|e| format!("error: {e}\n"))),
            "/relay" => client::relay(&target, request).await.unwrap_or_else(answer::text),
            "/circle" => {
                answer::text(client::circle(&target, &request).await.unwrap_or_else(|e| format!("error: {e}\n")))
            }
            "/unsent" => answer::text(client::unsent().await),
            "/error" => return Err(ErrorCode::InternalError(Some("boom".into()))),
            // A text that becomes five times as long when it is escaped, in the handler's error and in the trailers.
            "/error-long" => return Err(ErrorCode::InternalError(Some(answer::long(&target)))),
            "/error-long-after" => answer::failing(ErrorCode::InternalError(Some(answer::long(&target)))),
            // Makes the same text, but does not send it.
            "/quiet-long" => answer::text(answer::long(&target)[..1].into()),
            path @ ("/fields" | "/dropped-fields" | "/streams") => answer::text(hoard::keep(path, &target)),
            "/trap" => trap(),
            "/trap-after" => answer::partial("partial", &[], || trap()),
            "/trap-late" => answer::whole("done\n", || trap()),
            "/exit-late" => answer::whole("done\n", move || leave(&target)),
            "/exit-after" => answer::partial("partial", &[], move || leave(&target)),
            "/exit-at-once" => answer::nothing(move || leave(&target)),
            "/loop" => burn(),
            "/loop-after" => answer::partial("partial", &[], || burn()),
            path => match path.strip_prefix("/status/").and_then(|status| status.parse().ok()) {
                Some(status) => answer::bare(status),
                None => answer::text("Hello World\n".into()),
            },
        })
    }
}

fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

/// Exits with an error if the target has `fail`.
fn leave(target: &Target) {
    wasi::cli::exit::exit(if target.get("fail").is_some() { Err(()) } else { Ok(()) });
}

fn burn() -> ! {
    loop {
        std::hint::black_box(0);
    }
}

export!(Component);
