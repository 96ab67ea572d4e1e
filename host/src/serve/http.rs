//! HTTP/1.1 on one connection.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use daylily_core::refusal::Refusal;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::connection::Connection;
use super::framing;
use super::io::{ConnectionIo, last_word, unparsable};
use crate::drain::Steps;
use crate::worker::Worker;
use crate::{memory, request};

/// What hyper buffers of a connection at most, beside a request head of the largest size.
const BUFFER_BYTES: usize = 64 << 10;

/// What hyper allows by itself. Told a number, even this one, it allocates for every request.
const HYPER_MAX_HEADERS: u32 = 100;

/// Serves requests on `connection` until either side closes it. Errors end here.
///
/// hyper is there only from a client's first bytes until it has been silent for a while: it keeps a buffer for
/// as long as it is, which is most of what an idle connection would cost.
pub(crate) async fn serve(connection: Connection, worker: Arc<Worker>) {
    let mut steps = worker.drain.steps();
    let limits = framing::Limits { head_bytes: max_head_bytes(&worker), fields: worker.limits.max_headers };
    let mut io = ConnectionIo::new(connection.clone(), limits);
    while is_asked(&mut io, &worker, &mut steps).await {
        // On the heap, so that it takes nothing of a connection that rests.
        let serving = Box::pin(serve_until_silent(io, &connection, &worker, &mut steps));
        let Some(rested) = serving.await else { return };
        io = rested;
    }
}

/// Waits for the client's first bytes; false when it is not to be waited for any longer.
async fn is_asked(io: &mut ConnectionIo, worker: &Worker, steps: &mut Steps) -> bool {
    while !worker.drain.is_cut() {
        tokio::select! {
            biased;
            bytes = io.bytes() => return bytes.inspect_err(|error| tracing::debug!(%error, "connection ended")).is_ok(),
            // Asked again, the connection finds that its limits have changed.
            () = steps.next() => {}
        }
    }
    false
}

/// Serves requests until either side closes the connection, or gives the socket back when the client is silent.
async fn serve_until_silent(
    io: ConnectionIo,
    connection: &Connection,
    worker: &Worker,
    steps: &mut Steps,
) -> Option<ConnectionIo> {
    let max_head_bytes = max_head_bytes(worker);
    let service = service_fn(|request| {
        // At once: hyper may read on before it polls the answer for the first time.
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
        // A client may have closed its sending side and still read: it gets what is ready at once. The guard
        // ends what takes longer, since nothing tells such a client from one that left.
        .half_close(true)
        // The connection's own timers tell a slow head from an idle client, and cost less.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(io), service);
    let served = loop {
        tokio::select! {
            biased;
            served = &mut serving => break served,
            // Found out while `serving` was polled, which is why nobody needs to wake this.
            () = poll_fn(|_| if connection.rests() { Poll::Ready(()) } else { Poll::Pending }) => {
                // hyper has nothing of a head: while it has, the connection does not rest.
                let io = serving.into_parts().io.into_inner();
                memory::note_freed();
                tracing::debug!("an idle connection released its buffers");
                return Some(io.rested());
            }
            // Polled again, the connection finds that its limits have changed …
            () = steps.next() => {}
        }
        // … and there is nothing to wait for when nothing is in progress.
        if worker.drain.is_cut() && !connection.is_in_request() {
            return None;
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
        if connection.is_head_too_slow() {
            connection.write_now(last_word(&Refusal::HeadTimeout, worker.dev).as_bytes());
        } else if error.is_parse() && connection.is_unasked() {
            // What hyper does not even answer, such as HTTP/2 without TLS.
            connection.write_now(last_word(&unparsable(), worker.dev).as_bytes());
        }
    }
    connection.linger().await;
    None
}

fn max_head_bytes(worker: &Worker) -> usize {
    usize::try_from(worker.limits.max_head_bytes).unwrap_or(usize::MAX)
}
