//! Makes the host keep what the path names, `count` times, and responds with `ok`.

use kit::wasi::http::types::OutgoingRequest;
use kit::{Fields, IncomingRequest, ResponseOutparam};

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let target = kit::target(&request);
    let number = |name| target.number(name).unwrap_or(0) as usize;
    let (count, names, bytes) = (0..number("count"), number("names"), number("bytes"));
    match target.path() {
        "/fields" => keep(count.map(|_| fields(names))),
        // Dropped one after the other.
        "/dropped-fields" => count.for_each(|_| drop(fields(names))),
        // Each copy is changed, so that the host must store it separately.
        "/copies" => {
            let one = fields(names);
            keep(count.map(|_| {
                let copy = Fields::clone(&one);
                let _ = copy.append("x", b"1");
                copy
            }));
        }
        // All are the same fields.
        "/shared" => keep(count.map(|_| request.headers())),
        "/paths" => keep(count.map(|_| {
            let request = OutgoingRequest::new(Fields::new());
            let _ = request.set_path_with_query(Some(&format!("/{}", "p".repeat(bytes))));
            request
        })),
        // Bodies of requests that are never sent.
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

/// Keeps all items until the last one is created.
fn keep<T>(things: impl Iterator<Item = T>) {
    drop(things.collect::<Vec<T>>());
}

fn fields(names: usize) -> Fields {
    let fields = Fields::new();
    for number in 0..names {
        // The host keeps nothing for a field that it rejects.
        let _ = fields.append(&format!("n{number}"), b"1");
    }
    fields
}

kit::serve!(handle);
