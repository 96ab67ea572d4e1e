//! The ids of one request that others see: in the request that the guest gets, in the guest's outgoing requests, and in
//! the response. W3C Trace Context (<https://www.w3.org/TR/trace-context/>) for the trace, `x-request-id` for our id.

use std::sync::Arc;

use bytes::Bytes;
use daylily_core::trace_context::{TraceParent, trace_state};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::journal::{Text, TextOf};
use super::request_id::{RequestId, hex};

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Bytes of a client's `x-request-id` that are recorded.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// The ids that a trusted client sent with its request.
pub(crate) struct ReceivedIds {
    /// The trace id as bytes, and the flags.
    trace: Option<([u8; 16], u8)>,
    state: Option<HeaderValue>,
    request_id: Option<HeaderValue>,
}

impl ReceivedIds {
    /// Of a trusted client. A field that is there more than once, except `tracestate`, is invalid, and ignored like
    /// other invalid ones; without a valid `traceparent` there is no `tracestate` (Trace Context §4.2).
    #[cold]
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let parent = single(headers, &TRACEPARENT).and_then(|value| TraceParent::parse(value.as_bytes()));
        let states = headers.get_all(&TRACESTATE).iter().map(HeaderValue::as_bytes);
        let state = parent.and_then(|_| HeaderValue::try_from(trace_state(states)?).ok());
        let request_id = single(headers, &X_REQUEST_ID).filter(|value| !value.is_empty()).cloned();
        Self { trace: parent.map(|parent| (parent.trace.to_be_bytes(), parent.flags)), state, request_id }
    }

    /// What a record keeps of them.
    pub(crate) fn texts(&self) -> impl Iterator<Item = TextOf<'_>> {
        let trace = self.trace.as_ref().map(|(trace, _)| TextOf::new(Text::Trace, trace, trace.len()));
        let request_id = self.request_id.as_ref();
        let request_id = request_id.map(|id| TextOf::new(Text::XRequestId, id.as_bytes(), MAX_REQUEST_ID_BYTES));
        trace.into_iter().chain(request_id)
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// The ids of one request. The values of fields are made from them where they are needed: most guests do not look at
/// their request's fields. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RequestIds {
    id: RequestId,
    /// None of a client that is not trusted.
    received: Option<Arc<ReceivedIds>>,
}

/// The position of a request in its trace.
#[derive(Clone)]
pub(crate) struct TraceContext {
    parent: HeaderValue,
    state: Option<HeaderValue>,
}

/// Where the parts of `00-TRACE-PARENT-FLAGS` are, which the request id follows.
const TRACE: usize = 3;
const PARENT: usize = 36;
const FLAGS: usize = 53;
const REQUEST_ID: usize = 55;

impl RequestIds {
    pub(crate) fn id(&self) -> RequestId {
        self.id
    }

    pub(crate) fn new(id: RequestId, received: Option<Arc<ReceivedIds>>) -> Self {
        Self { id, received }
    }

    /// The request's own id, and its position in its trace. The trace is the client's if it sent one, else a new one with
    /// the same id; the parent of what happens next in it is the lower half of the id, which is never 0.
    ///
    /// Both values share one allocation.
    fn values(&self) -> (HeaderValue, TraceContext) {
        let id = self.id.to_hex();
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-0000000000000000000000000000000000";
        let mut put = |at: usize, digits: &[u8]| {
            if let Some(place) = text.get_mut(at..at + digits.len()) {
                place.copy_from_slice(digits);
            }
        };
        let [_, low] = id;
        put(PARENT, &low);
        put(REQUEST_ID, id.as_flattened());
        match self.received.as_ref().and_then(|received| received.trace) {
            None => put(TRACE, id.as_flattened()),
            Some((trace, flags)) => {
                put(TRACE, hex(u128::from_be_bytes(trace)).as_flattened());
                put(FLAGS + 1, &[b'0' + flags]);
            }
        }
        let text = Bytes::from_owner(text);
        let state = self.received.as_ref().and_then(|received| received.state.clone());
        (value(text.slice(REQUEST_ID..)), TraceContext { parent: value(text.slice(..REQUEST_ID)), state })
    }

    /// Puts them into a request in place of what the client sent.
    pub(crate) fn put_into_request(&self, headers: &mut HeaderMap) {
        let (request_id, trace) = self.values();
        headers.insert(TRACEPARENT, trace.parent);
        headers.insert(X_REQUEST_ID, request_id);
        match trace.state {
            Some(state) => drop(headers.insert(TRACESTATE, state)),
            None => drop(headers.remove(&TRACESTATE)),
        }
    }

    /// Sets `x-request-id` of a response to the request's id, also if the guest has set it: clients report this id, and
    /// it must be in daylily's log.
    pub(crate) fn put_into_response(&self, headers: &mut HeaderMap) {
        headers.insert(X_REQUEST_ID, value(Bytes::copy_from_slice(self.id.to_hex().as_flattened())));
    }

    pub(crate) fn trace(&self) -> TraceContext {
        self.values().1
    }
}

impl TraceContext {
    /// Puts it into a request that the guest sends, unless the guest has put another one into it.
    pub(crate) fn put_into_outgoing(&self, headers: &mut HeaderMap) {
        if headers.contains_key(&TRACEPARENT) {
            return;
        }
        headers.insert(TRACEPARENT, self.parent.clone());
        if let (Some(state), false) = (&self.state, headers.contains_key(&TRACESTATE)) {
            headers.insert(TRACESTATE, state.clone());
        }
    }
}

/// Removes these fields from a trailer section, where they have no meaning, and nothing checks them.
pub(crate) fn remove_from_trailers(trailers: &mut HeaderMap) {
    for name in [&TRACEPARENT, &TRACESTATE, &X_REQUEST_ID] {
        trailers.remove(name);
    }
}

/// A value of hex digits and dashes.
#[expect(unsafe_code, reason = "checking each byte would cost as much as all else here")]
fn value(text: Bytes) -> HeaderValue {
    // SAFETY: all bytes are hex digits and dashes, which a value may have. (In debug builds, this is checked.)
    unsafe { HeaderValue::from_maybe_shared_unchecked(text) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

    use super::*;

    const ID: [u64; 2] = [0x01a2_1b04_2520_7811, 0xb9f6_0c17_f6cf_646e];
    const PARENT_OF: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// Lines `name: value`, sorted.
    fn lines(headers: &HeaderMap) -> String {
        let line = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}\n", value.to_str().unwrap());
        let mut lines: Vec<String> = headers.iter().map(line).collect();
        lines.sort();
        lines.concat()
    }

    fn map(text: &str) -> HeaderMap {
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.parse::<HeaderName>().unwrap(), HeaderValue::try_from(value).unwrap())
        };
        let mut headers = HeaderMap::new();
        for (name, value) in text.lines().map(field) {
            headers.append(name, value);
        }
        headers
    }

    /// Checks what the guest gets of a request with these fields, and what is recorded of it.
    #[track_caller]
    fn check(is_trusted: bool, sent: &str, expected: &str, texts: &[(u8, &[u8])]) {
        let mut headers = map(sent);
        let received = is_trusted.then(|| Arc::new(ReceivedIds::of(&headers)));
        let kept: Vec<_> = received
            .iter()
            .flat_map(|received| received.texts())
            .map(|text| (text.kind, text.bytes.to_vec()))
            .collect();
        let texts: Vec<_> = texts.iter().map(|(kind, bytes)| (*kind, bytes.to_vec())).collect();
        assert_eq!(kept, texts, "{sent}");
        RequestIds::new(RequestId::from_words(ID), received).put_into_request(&mut headers);
        assert_eq!(lines(&headers), expected, "{sent}");
    }

    #[test]
    fn requests() {
        let id = "x-request-id: 01a21b0425207811b9f60c17f6cf646e\n";
        let own = format!("traceparent: 00-01a21b0425207811b9f60c17f6cf646e-b9f60c17f6cf646e-00\n{id}");
        let theirs = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b9f60c17f6cf646e-01\n";
        let with_state = format!("{theirs}tracestate: a=1,b=2\n{id}");
        let theirs = format!("{theirs}{id}");
        let sent = format!("traceparent: {PARENT_OF}\n");
        let trace = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes();
        let traced: &[(u8, &[u8])] = &[(Text::Trace as u8, &trace)];

        check(false, "", &own, &[]);
        check(false, &format!("{sent}tracestate: a=1\ntracestate: b=2\nx-request-id: x\nx-request-id: y"), &own, &[]);
        check(true, "", &own, &[]);
        check(true, &sent, &theirs, traced);
        check(true, &format!("{sent}tracestate: a=1"), &with_state.replace(",b=2", ""), traced);
        check(true, &format!("{sent}tracestate: a=1\ntracestate: b=2"), &with_state, traced);
        // An invalid state does not make the parent invalid; without a parent there is no state.
        check(true, &format!("{sent}tracestate: a"), &theirs, traced);
        check(true, "tracestate: a=1", &own, &[]);
        check(true, &format!("{sent}{sent}tracestate: a=1"), &own, &[]);
        check(
            true,
            &format!("tracestate: a=1\n{}", sent.to_uppercase().replace("TRACEPARENT", "traceparent")),
            &own,
            &[],
        );
        let kind = Text::XRequestId as u8;
        check(true, "x-request-id: é \"x", &own, &[(kind, "é \"x".as_bytes())]);
        check(true, "x-request-id: x\nx-request-id: x", &own, &[]);
        check(true, "x-request-id: ", &own, &[]);
    }

    #[test]
    fn outgoing_requests() {
        #[track_caller]
        fn check(sent: &str, own: &str, expected: &str) {
            let ids = RequestIds::new(RequestId::from_words(ID), Some(Arc::new(ReceivedIds::of(&map(sent)))));
            let mut headers = map(own);
            ids.trace().put_into_outgoing(&mut headers);
            assert_eq!(lines(&headers), expected, "{sent}{own}");
        }
        let sent = format!("traceparent: {PARENT_OF}\ntracestate: a=1\n");
        let parent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b9f60c17f6cf646e-01\n";
        check("", "", "traceparent: 00-01a21b0425207811b9f60c17f6cf646e-b9f60c17f6cf646e-00\n");
        check(&sent, "", &format!("{parent}tracestate: a=1\n"));
        check(&sent, "tracestate: b=2", &format!("{parent}tracestate: b=2\n"));
        // Whatever the guest has set stays, and is not completed.
        check(&sent, "traceparent: x", "traceparent: x\n");
        check(&sent, "tracestate: b=2\ntraceparent: x", "traceparent: x\ntracestate: b=2\n");
    }

    #[test]
    fn responses() {
        let ids = RequestIds::new(RequestId::from_words(ID), None);
        let mut headers = map("x-request-id: a\nx-request-id: b\ntraceparent: c");
        ids.put_into_response(&mut headers);
        assert_eq!(lines(&headers), "traceparent: c\nx-request-id: 01a21b0425207811b9f60c17f6cf646e\n");
    }

    #[test]
    fn trailers() {
        let mut trailers = map("x-request-id: a\nx-end: b\ntraceparent: c\ntracestate: d=e");
        remove_from_trailers(&mut trailers);
        assert_eq!(lines(&trailers), "x-end: b\n");
    }
}
