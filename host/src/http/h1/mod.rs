//! HTTP/1.1 on one connection, with hyper.

pub(crate) mod arrival;
pub(crate) mod framing;
pub(crate) mod io;

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::Poll;

use daylily_core::connection_end::ConnectionEnd;
use daylily_core::error_response::ErrorResponse;
use daylily_core::log_target;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use self::io::{ConnectionIo, last_word, unparsable};
use crate::http::connection::Connection;
use crate::http::ending::Served;
use crate::http::phase::Change;
use crate::http::request;
use crate::http::server::Worker;
use crate::sys::drain::Steps;
use crate::sys::memory;

/// Most bytes that hyper buffers of a connection, in addition to a request head of the largest size.
const BUFFER_BYTES: usize = 64 << 10;

/// hyper's default. If `max_headers` is called, even with this number, hyper allocates for every request.
const HYPER_MAX_HEADERS: u32 = 100;

/// Serves requests on `connection` until either side closes it, and returns how it has ended. Errors are logged here.
///
/// hyper's connection exists only from the client's first bytes until the client has been silent for a while: it keeps
/// a buffer all that time, which would be most of the memory of an idle connection.
pub(crate) async fn serve(connection: Connection, worker: Arc<Worker>) -> ConnectionEnd {
    let mut steps = worker.drain.steps();
    let limits = framing::Limits { head_bytes: max_head_bytes(&worker), fields: worker.limits.max_headers };
    let mut io = ConnectionIo::new(connection.clone(), limits);
    while is_asked(&mut io, &worker, &mut steps).await {
        // On the heap, so that the future takes no memory of a resting connection.
        let serving = Box::pin(serve_until_silent(io, &connection, &worker, &mut steps));
        match serving.await {
            ControlFlow::Continue(rested) => io = rested,
            ControlFlow::Break(end) => return end,
        }
    }
    connection.end(Served::Orderly)
}

/// Waits for the client's first bytes. Returns false when the connection is to close instead.
async fn is_asked(io: &mut ConnectionIo, worker: &Worker, steps: &mut Steps) -> bool {
    while !worker.drain.is_cut() {
        tokio::select! {
            biased;
            bytes = io.bytes() => return bytes.inspect_err(|error| tracing::debug!(
                target: log_target::CONNECTION,
                client = %io.peer(), %error, "connection ended"
            )).is_ok(),
            // The loop polls the connection again, which reads its changed time-outs.
            () = steps.next() => {}
        }
    }
    false
}

/// Serves requests until either side closes the connection, or the client has been silent for
/// [`Connection::rest_time`].
async fn serve_until_silent(
    io: ConnectionIo,
    connection: &Connection,
    worker: &Worker,
    steps: &mut Steps,
) -> ControlFlow<ConnectionEnd, ConnectionIo> {
    let max_head_bytes = max_head_bytes(worker);
    let service = service_fn(|request| {
        // Called before the future is made: hyper may read on before it polls the response for the first time.
        let in_request = connection.begin_request(&request);
        request::handle(worker, connection, in_request, request)
    });
    let mut http = http1::Builder::new();
    if worker.limits.max_headers != HYPER_MAX_HEADERS {
        http.max_headers(worker.limits.max_headers as usize);
    }
    let mut serving = http
        .max_header_size(max_head_bytes)
        .max_buf_size(BUFFER_BYTES.saturating_add(max_head_bytes))
        // A client may close its sending side and still read: it gets a response that is ready at once. Otherwise the
        // watchdog ends the guest, because such a client cannot be told from one that has left.
        .half_close(true)
        // The connection's own timers distinguish a slow head from an idle client, and cost less.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(io), service);
    let served = loop {
        tokio::select! {
            biased;
            served = &mut serving => break served,
            // `rests` changes only while `serving` is polled, so no waker is needed.
            () = poll_fn(|_| if connection.rests() { Poll::Ready(()) } else { Poll::Pending }) => {
                // hyper holds no bytes of a head: a connection that has received part of a head does not rest.
                let io = serving.into_parts().io.into_inner();
                memory::note_freed();
                tracing::debug!(target: log_target::CONNECTION, "an idle connection released its buffers");
                return ControlFlow::Continue(io.rested());
            }
            // The next poll of `serving` reads the connection's changed time-outs.
            () = steps.next() => {}
        }
        // The drain has cut off requests: close now, unless the request in progress ends by itself.
        if worker.drain.is_cut() && !connection.ends_when_cut() {
            connection.note_end(ConnectionEnd::Drain);
            return ControlFlow::Break(connection.end(Served::Orderly));
        }
    };
    if let Err(error) = &served {
        let client = connection.stream().peer();
        tracing::debug!(target: log_target::CONNECTION, %client, %error, "connection ended");
        if connection.is_head_too_slow() {
            connection.write_now(last_word(&ErrorResponse::HeadTimeout, connection).as_bytes());
            connection.change_phase(Change::Answers);
        } else if error.is_parse() && connection.is_idle() {
            // Input that hyper does not answer, such as HTTP/2 without TLS.
            connection.write_now(last_word(&unparsable(), connection).as_bytes());
            connection.change_phase(Change::Answers);
        }
    }
    let end = connection.end(Served::of(&served));
    connection.linger().await;
    ControlFlow::Break(end)
}

fn max_head_bytes(worker: &Worker) -> usize {
    usize::try_from(worker.limits.max_head_bytes).unwrap_or(usize::MAX)
}
