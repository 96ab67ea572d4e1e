//! Has the host keep what the path names, `count` times, and answers `ok`.

use kit::wasi::http::types::OutgoingRequest;
use kit::{Fields, IncomingRequest, ResponseOutparam};

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let target = kit::target(&request);
    let number = |name| target.number(name).unwrap_or(0) as usize;
    let (count, names, bytes) = (0..number("count"), number("names"), number("bytes"));
    match target.path() {
        "/fields" => keep(count.map(|_| fields(names))),
        // One after the other.
        "/dropped-fields" => count.for_each(|_| drop(fields(names))),
        // Each is changed, and so no longer the same.
        "/copies" => {
            let one = fields(names);
            keep(count.map(|_| {
                let copy = Fields::clone(&one);
                let _ = copy.append("x", b"1");
                copy
            }));
        }
        // All are the same.
        "/shared" => keep(count.map(|_| request.headers())),
        "/paths" => keep(count.map(|_| {
            let request = OutgoingRequest::new(Fields::new());
            let _ = request.set_path_with_query(Some(&format!("/{}", "p".repeat(bytes))));
            request
        })),
        // Of requests that are never sent.
        "/bodies" => keep(count.map(|_| {
            let request = OutgoingRequest::new(Fields::new());
            let body = request.body().unwrap();
            let stream = body.write().unwrap();
            let _ = stream.check_write().and_then(|_| stream.write(&vec![b'x'; bytes]));
            (stream, body, request)
        })),
        _ => {}
    }
    kit::text(out, "ok\n");
}

/// Keeps all of them until the last is there.
fn keep<T>(things: impl Iterator<Item = T>) {
    drop(things.collect::<Vec<T>>());
}

fn fields(names: usize) -> Fields {
    let fields = Fields::new();
    for number in 0..names {
        // What the host refuses, it does not keep.
        let _ = fields.append(&format!("n{number}"), b"1");
    }
    fields
}

kit::serve!(handle);
