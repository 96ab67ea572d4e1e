//! Requests to send, and received responses.

use std::fmt;

/// A request to be built; `bytes` returns exactly what is sent.
#[derive(Clone)]
pub struct Request {
    method: String,
    target: String,
    version: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    chunks: Option<Vec<Vec<u8>>>,
    trailers: Vec<(String, String)>,
}

impl Request {
    pub fn new(method: &str, host: &str, target: &str) -> Self {
        Self {
            method: method.into(),
            target: target.into(),
            version: "HTTP/1.1".into(),
            fields: vec![("Host".into(), host.into())],
            body: Vec::new(),
            chunks: None,
            trailers: Vec::new(),
        }
    }

    pub fn get(host: &str, target: &str) -> Self {
        Self::new("GET", host, target)
    }

    pub fn post(host: &str, target: &str) -> Self {
        Self::new("POST", host, target)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// Adds a body with a Content-Length.
    pub fn body(mut self, body: &[u8]) -> Self {
        self.body = body.into();
        let length = body.len().to_string();
        self.header("Content-Length", &length)
    }

    /// Adds a chunked body.
    pub fn chunked(mut self, chunks: &[&[u8]]) -> Self {
        self.chunks = Some(chunks.iter().map(|chunk| chunk.to_vec()).collect());
        self.header("Transfer-Encoding", "chunked")
    }

    /// Adds a trailer field.
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push((name.into(), value.into()));
        self
    }

    /// Makes it an HTTP/1.0 request without `Host`.
    pub fn http10(mut self) -> Self {
        self.version = "HTTP/1.0".into();
        self.fields.retain(|(name, _)| name != "Host");
        self
    }

    pub fn method(&self) -> &str {
        &self.method
    }

    /// The request line and the fields, with the empty line.
    pub fn head_bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} {}\r\n", self.method, self.target, self.version).into_bytes();
        put_fields(&mut bytes, &self.fields);
        bytes
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head_bytes();
        let Some(chunks) = &self.chunks else {
            bytes.extend(&self.body);
            return bytes;
        };
        for chunk in chunks {
            bytes.extend(chunk_bytes(chunk));
        }
        bytes.extend(b"0\r\n");
        put_fields(&mut bytes, &self.trailers);
        bytes
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.head_bytes()), f)
    }
}

fn put_fields(bytes: &mut Vec<u8>, fields: &[(String, String)]) {
    for (name, value) in fields {
        bytes.extend(format!("{name}: {value}\r\n").into_bytes());
    }
    bytes.extend(b"\r\n");
}

/// One chunk, as it is sent.
pub fn chunk_bytes(data: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{:x}\r\n", data.len()).into_bytes();
    bytes.extend(data);
    bytes.extend(b"\r\n");
    bytes
}

/// Whether the response is complete, from the client's point of view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    Complete,
    Truncated,
}

#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    pub ending: Ending,
    /// Status codes of the 1xx responses before it.
    pub interim: Vec<u16>,
}

impl Response {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The field's values, in order.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let matching = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        matching.map(|(_, value)| value.as_str()).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        !self.values(name).is_empty()
    }

    /// Whether the response announces that the server closes the connection.
    pub fn closes(&self) -> bool {
        self.values("connection").iter().any(|value| value.eq_ignore_ascii_case("close"))
    }

    /// Fails unless it is complete and has this status and body.
    #[track_caller]
    pub fn expect(&self, status: u16, body: &str) -> &Self {
        assert_eq!((self.status, self.text().as_str()), (status, body), "{self:?}");
        assert_eq!(self.ending, Ending::Complete, "{self:?}");
        self
    }

    /// Fails unless it is an error response with this status and reason. Returns the request id.
    #[track_caller]
    pub fn expect_refusal(&self, status: u16, reason: &str) -> String {
        assert_eq!(self.status, status, "{} {:?}", self.text(), self.headers);
        assert_eq!(self.ending, Ending::Complete, "{self:?}");
        let text = self.text();
        let id = refusal_id(&text, reason).unwrap_or_else(|| panic!("want the reason {reason:?}, got {text:?}"));
        assert_eq!(self.values("x-request-id"), [&id], "{self:?}");
        assert!(self.values("content-type").iter().all(|value| value.starts_with("text/plain")), "{self:?}");
        assert!(self.has("content-type"), "{self:?}");
        // RFC 9110 §6.6.1: a server with a clock must send it with 2xx, 3xx and 4xx.
        assert!(status >= 500 || self.has("date"), "{self:?}");
        let retry = self.values("retry-after");
        assert_eq!(retry, if status == 503 { vec!["1"] } else { vec![] }, "{self:?}");
        id
    }
}

/// The request id in `REASON (request ID)\n`.
fn refusal_id(text: &str, reason: &str) -> Option<String> {
    let id = text.strip_prefix(reason)?.strip_prefix(" (request ")?.strip_suffix(")\n")?;
    is_request_id(id).then(|| id.to_owned())
}

/// A guest's description of its request without the fields that daylily adds to each request, whose values differ.
pub fn without_ids(text: &str) -> String {
    let is_id =
        |line: &&str| ["traceparent", "x-request-id"].iter().any(|id| line.starts_with(&format!("header: {id}=")));
    text.split_inclusive('\n').filter(|line| !is_id(line)).collect()
}

/// 32 lower-case hex digits.
pub fn is_request_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
