//! `?url=…&method=…&path=…` sends that request, a POST with the body of the incoming request, and responds with
//! `status: N` and the body, or `error: …`. `&traceparent=` and `&tracestate=` are fields of it. `&connect_ms=`, `&first_byte_ms=` and `&between_ms=` set its time-outs.
//! `&times=N` sends N requests at once.

use kit::wasi::http::outgoing_handler::handle as send;
use kit::wasi::http::types::{ErrorCode, FutureIncomingResponse, OutgoingBody};
use kit::{Answer, IncomingRequest, ResponseOutparam, Target};

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let target = kit::target(&request);
    let times = target.number("times").unwrap_or(1);
    let all: Vec<_> = (0..times).map(|_| start(&target, &request)).collect();
    let answer = Answer::start(out, 200, &[("content-type", "text/plain")]);
    for response in all {
        if let Err(error) = response.and_then(|response| relay(&response, &answer)) {
            let _ = answer.write(format!("error: {error}\n").as_bytes());
        }
    }
    answer.finish(None);
}

fn start(target: &Target, incoming: &IncomingRequest) -> Result<FutureIncomingResponse, String> {
    let request = kit::client::request(target)?;
    let body = request.body().map_err(|()| "no body")?;
    let response = send(request, Some(kit::client::options(target))).map_err(words)?;
    if let (Some("POST"), Ok(source)) = (target.get("method"), incoming.consume()) {
        let stream = body.write().map_err(|()| "no stream")?;
        let write = |piece: &[u8]| stream.blocking_write_and_flush(piece).is_ok();
        // That function accepts at most 4096 bytes.
        kit::read(source, |bytes| bytes.chunks(4096).all(&write))?;
    }
    OutgoingBody::finish(body, None).map_err(words)?;
    Ok(response)
}

fn relay(response: &FutureIncomingResponse, answer: &Answer) -> Result<(), String> {
    response.subscribe().block();
    let response = response.get().ok_or("not ready")?;
    let response = response.map_err(|()| "taken")?.map_err(words)?;
    let _ = answer.write(format!("status: {}\n", response.status()).as_bytes());
    let body = response.consume().map_err(|()| "no body")?;
    kit::read(body, |bytes| answer.write(bytes)).map(drop)
}

fn words(code: ErrorCode) -> String {
    format!("{code:?}")
}

kit::serve!(handle);
