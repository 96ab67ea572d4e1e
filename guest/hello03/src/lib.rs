//! Responds to every request with `Hello World`, through wasi:http 0.3.
//!
//! It does one thing after the other, so it calls the functions of the component model directly and blocks where it
//! must wait. A guest that waits for several things at once is better written with `async fn` and wit-bindgen's
//! runtime, as `../service03` is; here that would import 29 functions instead of 17.

use wasi::http::types::{Fields, Request};

// Generates the modules used above, and describes the types of the functions declared below to the linker.
wit_bindgen::generate!({ path: "../../wit/0.3", generate_all });

const BODY: &[u8] = b"Hello World\n";

// The canonical ABI's names for `response.new` of wasi:http/types, and for the stream and the futures in its type.
// `…_new` returns both ends in one number: the readable end in the lower half, the writable end in the upper half.
// `BLOCKED` documents what a write returns.
#[link(wasm_import_module = "wasi:http/types@0.3.0")]
unsafe extern "C" {
    #[link_name = "[static]response.new"]
    fn response_new(headers: u32, has_contents: u32, contents: u32, trailers: u32, made: *mut Made);

    #[link_name = "[stream-new-0][static]response.new"]
    fn contents_new() -> u64;
    #[link_name = "[async-lower][stream-write-0][static]response.new"]
    fn contents_write(end: u32, bytes: *const u8, count: u32) -> u32;
    #[link_name = "[stream-drop-writable-0][static]response.new"]
    fn contents_drop_writable(end: u32);

    #[link_name = "[future-new-1][static]response.new"]
    fn trailers_new() -> u64;
    #[link_name = "[async-lower][future-write-1][static]response.new"]
    fn trailers_write(end: u32, trailers: *const Trailers) -> u32;
    #[link_name = "[future-drop-writable-1][static]response.new"]
    fn trailers_drop_writable(end: u32);

    #[link_name = "[future-drop-readable-2][static]response.new"]
    fn sent_drop_readable(end: u32);
}

#[link(wasm_import_module = "[export]wasi:http/handler@0.3.0")]
unsafe extern "C" {
    /// The return value, a `result<response, error-code>`: which case, then the response or the error code, then the
    /// fields of the code.
    #[link_name = "[task-return]handle"]
    fn task_return(is_error: u32, response: u32, a: u32, b: u64, c: u32, d: u32, e: u32, f: u32);
}

#[link(wasm_import_module = "$root")]
unsafe extern "C" {
    #[link_name = "[waitable-set-new]"]
    fn waitable_set_new() -> u32;
    #[link_name = "[waitable-set-wait]"]
    fn waitable_set_wait(set: u32, event: *mut Event) -> u32;
    #[link_name = "[waitable-set-drop]"]
    fn waitable_set_drop(set: u32);
    /// Set 0 removes the waitable from its set.
    #[link_name = "[waitable-join]"]
    fn waitable_join(waitable: u32, set: u32);
}

/// `tuple<response, future<…>>`.
#[repr(C)]
struct Made {
    response: u32,
    sent: u32,
}

/// `result<option<trailers>, error-code>`: all zero is `ok(none)`. An error code has at most 40 bytes.
#[repr(C, align(8))]
struct Trailers([u8; 64]);

static NO_TRAILERS: Trailers = Trailers([0; 64]);

/// The waitable of an event, and the status of the write to it.
#[repr(C)]
struct Event {
    waitable: u32,
    status: u32,
}

/// The write continues until there is an event. Any other status means that it has ended: the number of bytes written,
/// above four bits with `DROPPED` or another code.
const BLOCKED: u32 = u32::MAX;

/// The reader has dropped its end.
const DROPPED: u32 = 1;

/// The task is done and waits for nothing.
const EXIT: u32 = 0;

/// Called once per instance: the next request gets another instance, which shares no state with this one.
#[unsafe(export_name = "[async-lift]wasi:http/handler@0.3.0#handle")]
extern "C" fn handle(request: u32) -> u32 {
    // SAFETY: the host passes a request handle that this function owns.
    drop(unsafe { Request::from_handle(request) });
    let headers = Fields::new();
    // Cannot fail: the field and its value are valid.
    let _ = headers.append("content-type", b"text/plain");
    // SAFETY: the declarations match the canonical ABI for the interfaces in wit/0.3, and no end is used after it was
    // dropped.
    unsafe { answer(headers.take_handle()) };
    EXIT
}

unsafe fn answer(headers: u32) {
    let (contents, contents_writer) = halves(unsafe { contents_new() });
    let (trailers, trailers_writer) = halves(unsafe { trailers_new() });
    let mut made = Made { response: 0, sent: 0 };
    unsafe {
        response_new(headers, 1, contents, trailers, &raw mut made);
        task_return(0, made.response, 0, 0, 0, 0, 0, 0);
    }
    let set = unsafe { waitable_set_new() };
    let mut left = BODY;
    while !left.is_empty() {
        let status = unsafe { contents_write(contents_writer, left.as_ptr(), left.len() as u32) };
        let status = unsafe { finished(status, contents_writer, set) };
        left = left.get(status as usize >> 4..).unwrap_or_default();
        if status & 0xf == DROPPED {
            break;
        }
    }
    unsafe {
        contents_drop_writable(contents_writer);
        let status = trailers_write(trailers_writer, &raw const NO_TRAILERS);
        finished(status, trailers_writer, set);
        trailers_drop_writable(trailers_writer);
        sent_drop_readable(made.sent);
        waitable_set_drop(set);
    }
}

/// Waits until the write has ended, and returns its status.
unsafe fn finished(status: u32, writer: u32, set: u32) -> u32 {
    if status != BLOCKED {
        return status;
    }
    let mut event = Event { waitable: 0, status: 0 };
    unsafe {
        waitable_join(writer, set);
        waitable_set_wait(set, &raw mut event);
        waitable_join(writer, 0);
    }
    event.status
}

fn halves(ends: u64) -> (u32, u32) {
    (ends as u32, (ends >> 32) as u32)
}

/// The host calls this for a task that waits. This one never does.
#[unsafe(export_name = "[callback][async-lift]wasi:http/handler@0.3.0#handle")]
extern "C" fn callback(_event: u32, _of: u32, _code: u32) -> u32 {
    EXIT
}
