//! Converts errors of the lower layers to the error codes of `wasi:http`, which have the meanings of RFC 9209 §2.3.

use std::error::Error as StdError;
use std::io;

use daylily_core::log_target;
use wasmtime_wasi_http::Error;

use super::framing::Violation;

/// The error code for a failure to read the body of a request that was *received*.
///
/// For use with hyper's server bodies: wasmtime-wasi-http would log their errors as warnings, although the client
/// caused them.
pub(crate) fn error_from_hyper(error: &hyper::Error) -> Error {
    classify(error, Error::ConnectionTerminated)
}

/// The error code for an exchange that failed before there was a response head.
pub(super) fn before_head(error: &hyper::Error) -> Error {
    classify(error, Error::ConnectionTerminated)
}

/// The error code for an incomplete response body.
pub(super) fn in_body(error: &hyper::Error) -> Error {
    classify(error, Error::HttpResponseIncomplete)
}

fn classify(error: &hyper::Error, closed: Error) -> Error {
    if error.is_timeout() {
        return Error::ConnectionReadTimeout;
    }
    if error.is_parse_too_large() {
        return Error::HttpResponseHeaderSectionSize(None);
    }
    if error.is_parse() {
        return Error::HttpProtocolError;
    }
    match io_source(error) {
        Some(io) => match io.kind() {
            // hyper reports malformed chunks with these kinds, and rustls its own errors.
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                tls_source(io).or_else(|| violation(io)).unwrap_or(Error::HttpProtocolError)
            }
            io::ErrorKind::TimedOut => Error::ConnectionReadTimeout,
            _ => closed,
        },
        None => closed,
    }
}

/// The error code for a TCP connection that could not be opened.
pub(super) fn tcp_connect(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => Error::ConnectionTerminated,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable | io::ErrorKind::AddrNotAvailable => {
            Error::DestinationIpUnroutable
        }
        // A firewall rule.
        io::ErrorKind::PermissionDenied => Error::DestinationIpProhibited,
        _ => {
            // The host has no descriptors, ports or memory left. That is not the guest's fault.
            tracing::error!(
                target: log_target::OUTGOING,
                %error, "failed to open a connection for an outgoing request"
            );
            Error::DestinationUnavailable
        }
    }
}

/// The error code for a TLS handshake that failed.
pub(super) fn tls_handshake(error: &io::Error) -> Error {
    tls_source(error).unwrap_or(match error.kind() {
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        _ => Error::ConnectionTerminated,
    })
}

/// The error code for a name that could not be resolved. The system's resolver does not report why, so there is only
/// one code.
pub(super) fn dns() -> Error {
    Error::DnsError { rcode: Some("address not available".to_owned()), info_code: None }
}

fn io_source(error: &hyper::Error) -> Option<&io::Error> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref() {
            return Some(io);
        }
        source = error.source();
    }
    None
}

fn violation(error: &io::Error) -> Option<Error> {
    Some(match error.get_ref()?.downcast_ref()? {
        Violation::Trailers => Error::HttpResponseTrailerSectionSize(None),
        _ => Error::HttpProtocolError,
    })
}

fn tls_source(error: &io::Error) -> Option<Error> {
    Some(match error.get_ref()?.downcast_ref()? {
        rustls::Error::InvalidCertificate(_)
        | rustls::Error::InvalidCertRevocationList(_)
        | rustls::Error::NoCertificatesPresented
        | rustls::Error::UnsupportedNameType => Error::TlsCertificateError,
        rustls::Error::AlertReceived(alert) => {
            Error::TlsAlertReceived { alert_id: Some(u8::from(*alert)), alert_message: Some(format!("{alert:?}")) }
        }
        _ => Error::TlsProtocolError,
    })
}
