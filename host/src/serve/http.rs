//! HTTP/1.1 on one connection.

use std::pin::pin;
use std::sync::Arc;

use daylily_core::refusal::Refusal;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::connection::Connection;
use super::io::{ConnectionIo, last_word, unparsable};
use crate::request;
use crate::worker::Worker;

/// What hyper buffers of a connection at most, beside a request head of the largest size.
const BUFFER_BYTES: usize = 64 << 10;

/// What hyper allows by itself. Told a number, even this one, it allocates for every request.
const HYPER_MAX_HEADERS: u32 = 100;

/// Serves requests on `connection` until either side closes it. Errors end here.
pub(crate) async fn serve(connection: Connection, worker: Arc<Worker>) {
    let max_head_bytes = usize::try_from(worker.limits.max_head_bytes).unwrap_or(usize::MAX);
    let service = service_fn(|request| request::handle(&worker, &connection, request));
    let mut http = http1::Builder::new();
    if worker.limits.max_headers != HYPER_MAX_HEADERS {
        http.max_headers(worker.limits.max_headers as usize);
    }
    let serving = http
        .max_header_size(max_head_bytes)
        .max_buf_size(BUFFER_BYTES.saturating_add(max_head_bytes))
        // A client may have closed its sending side and still read: it gets what is ready at once. The guard
        // ends what takes longer, since nothing tells such a client from one that left.
        .half_close(true)
        // The connection's own timers tell a slow head from an idle client, and cost less.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(ConnectionIo::new(connection.clone())), service);
    let mut serving = pin!(serving);
    let mut steps = worker.drain.steps();
    let served = loop {
        tokio::select! {
            biased;
            served = &mut serving => break served,
            // Polled again, the connection finds that its limits have changed …
            () = steps.next() => {}
        }
        // … and there is nothing to wait for when nothing is in progress.
        if worker.drain.is_cut() && !connection.is_in_request() {
            return;
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
}
