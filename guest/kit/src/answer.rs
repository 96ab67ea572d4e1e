//! A response whose body is being written.

use crate::wasi::http::types::{Fields, OutgoingBody, OutgoingResponse, ResponseOutparam};
use crate::wasi::io::streams::OutputStream;

/// A response whose head was given to the host. Dropped before `finish`, it is incomplete.
pub struct Answer {
    // In this order, because a stream must be dropped before its body.
    stream: OutputStream,
    body: OutgoingBody,
}

impl Answer {
    pub fn start(out: ResponseOutparam, status: u16, headers: &[(&str, &str)]) -> Self {
        let fields = Fields::new();
        for (name, value) in headers {
            fields.append(name, value.as_bytes()).unwrap();
        }
        Self::start_with(out, status, fields)
    }

    pub fn start_with(out: ResponseOutparam, status: u16, headers: Fields) -> Self {
        let response = OutgoingResponse::new(headers);
        response.set_status_code(status).unwrap();
        let body = response.body().unwrap();
        let stream = body.write().unwrap();
        ResponseOutparam::set(out, Ok(response));
        Self { stream, body }
    }

    /// Sends all of `bytes`, in pieces as large as the host accepts. Returns false if the response has no reader any
    /// more.
    #[must_use]
    pub fn write(&self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let Ok(permit) = self.stream.check_write() else {
                return false;
            };
            let (now, later) = bytes.split_at(bytes.len().min(permit as usize));
            if now.is_empty() {
                self.stream.subscribe().block();
            } else if self.stream.write(now).is_err() {
                return false;
            }
            bytes = later;
        }
        self.stream.blocking_flush().is_ok()
    }

    /// Completes the response. The result is ignored: tests of the host check it.
    pub fn finish(self, trailers: Option<Fields>) {
        drop(self.stream);
        let _ = OutgoingBody::finish(self.body, trailers);
    }
}

/// Sends a whole response: status 200 and `text`.
pub fn text(out: ResponseOutparam, text: &str) {
    let answer = Answer::start(out, 200, &[("content-type", "text/plain")]);
    let _ = answer.write(text.as_bytes());
    answer.finish(None);
}
