//! Fails in the way that the path names. Any other path gets no response.

use kit::wasi::http::types::ErrorCode;
use kit::{Answer, IncomingRequest, ResponseOutparam};

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let partial = |out, headers: &[(&str, &str)]| {
        let answer = Answer::start(out, 200, headers);
        let _ = answer.write(b"partial");
        answer
    };
    let target = kit::target(&request);
    match target.path() {
        "/before" => trap(),
        "/after-head" => {
            let _answer = partial(out, &[]);
            trap()
        }
        "/late" => {
            kit::text(out, "done\n");
            trap()
        }
        "/exit-late" => {
            kit::text(out, "done\n");
            std::process::exit(i32::from(target.get("fail").is_some()))
        }
        "/exit-after" => {
            let _answer = partial(out, &[]);
            std::process::exit(i32::from(target.get("fail").is_some()))
        }
        "/after-length" => {
            let _answer = partial(out, &[("content-length", "100")]);
            trap()
        }
        "/exit" => std::process::exit(1),
        "/error" => ResponseOutparam::set(out, Err(ErrorCode::InternalError(Some("boom".into())))),
        "/error-bytes" => {
            let text = (0..=u8::MAX).map(char::from).collect();
            ResponseOutparam::set(out, Err(ErrorCode::InternalError(Some(text))));
        }
        // A text that becomes five times as long when it is escaped.
        "/error-long" => {
            let text = "\u{1}".repeat(target.number("kib").unwrap_or(1) as usize * 1024);
            ResponseOutparam::set(out, Err(ErrorCode::InternalError(Some(text))));
        }
        // Makes the same text, but does not send it.
        "/quiet-long" => {
            let text = "\u{1}".repeat(target.number("kib").unwrap_or(1) as usize * 1024);
            kit::text(out, &text[..1]);
        }
        "/stack" => kit::text(out, &deep(0).to_string()),
        "/drop-body" => drop(partial(out, &[])),
        "/short" => {
            let answer = Answer::start(out, 200, &[("content-length", "100")]);
            let _ = answer.write(b"ten bytes!");
            answer.finish(None);
        }
        // For example `/none`.
        _ => {}
    }
}

fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

/// Uses no linear memory, so that the host's stack overflows.
#[expect(unconditional_recursion, reason = "it is what /stack is for")]
fn deep(depth: u64) -> u64 {
    deep(depth + 1).rotate_left(1) ^ depth
}

kit::serve!(handle);
