//! Answers with the request's body, as it arrives: content type and trailers included.
//! `/count` reads all of it first, and answers `N bytes`, or `error: …` when it did not arrive whole.

use kit::{Answer, Fields, IncomingRequest, ResponseOutparam};

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let body = request.consume().unwrap();
    if kit::target(&request).path() == "/count" {
        let mut count = 0;
        let end = kit::read(body, |bytes| {
            count += bytes.len();
            true
        });
        return match end {
            Ok(_) => kit::text(out, &format!("{count} bytes\n")),
            Err(error) => kit::text(out, &format!("error: {error}\n")),
        };
    }
    let headers = Fields::new();
    // Only the trailers that `trailer` names are sent on.
    for name in ["content-type", "trailer"] {
        for value in request.headers().get(name) {
            headers.append(name, &value).unwrap();
        }
    }
    let answer = Answer::start_with(out, 200, headers);
    // A body that did not arrive whole is not sent back as if it had.
    if let Ok(trailers) = kit::read(body, |bytes| answer.write(bytes)) {
        // Those of a request are immutable.
        answer.finish(trailers.map(|trailers| trailers.clone()));
    }
}

kit::serve!(handle);
