//! Responds with the request's body as it arrives, with its content type and trailers. `/count` reads the whole body
//! first, and responds with `N bytes`, or `error: …` when the body was incomplete.

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
    // Only the trailers that `trailer` names are sent.
    for name in ["content-type", "trailer"] {
        for value in request.headers().get(name) {
            headers.append(name, &value).unwrap();
        }
    }
    let answer = Answer::start_with(out, 200, headers);
    // An incomplete body is not sent back as complete.
    if let Ok(trailers) = kit::read(body, |bytes| answer.write(bytes)) {
        // The trailers of a request are immutable, so copy them.
        answer.finish(trailers.map(|trailers| trailers.clone()));
    }
}

kit::serve!(handle);
