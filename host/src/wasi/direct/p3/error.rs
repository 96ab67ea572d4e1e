//! The value types of `wasi:http/types`, and the conversion of errors into the codes that guests receive.

use wasmtime_wasi::TrappableError;
use wasmtime_wasi_http::Error as HttpError;
use wasmtime_wasi_http::p3::bindings::http::types::{
    DnsErrorPayload, ErrorCode, FieldSizePayload, HeaderError, Method, RequestOptionsError, Scheme,
    TlsAlertReceivedPayload,
};

use crate::component_abi::{record, variant};
use crate::wasi::direct::common::{MAX_TEXT_BYTES, http_types};
use crate::wasi::error_codes;

http_types!();

variant!(HeaderError {
    "invalid-syntax" => InvalidSyntax,
    "forbidden" => Forbidden,
    "immutable" => Immutable,
    "size-exceeded" => SizeExceeded,
    "other" => Other(Option<String>),
});

variant!(RequestOptionsError {
    "not-supported" => NotSupported,
    "immutable" => Immutable,
    "other" => Other(Option<String>),
});

pub(super) fn code_or_trap<V, E>(result: Result<V, TrappableError<E>>) -> wasmtime::Result<Result<V, E>>
where
    E: std::error::Error + Send + Sync + 'static,
{
    error_codes::code_or_trap(result, TrappableError::downcast)
}

/// The error code for `error`, the same that wasmtime-wasi-http returns to components.
pub(in crate::wasi) fn error_code(error: &HttpError) -> ErrorCode {
    let size = |field_name: &Option<String>, field_size: &Option<u32>| FieldSizePayload {
        field_name: field_name.clone(),
        field_size: *field_size,
    };
    match error {
        HttpError::DnsTimeout => ErrorCode::DnsTimeout,
        HttpError::DnsError { rcode, info_code } => {
            ErrorCode::DnsError(DnsErrorPayload { rcode: rcode.clone(), info_code: *info_code })
        }
        HttpError::DestinationNotFound => ErrorCode::DestinationNotFound,
        HttpError::DestinationUnavailable => ErrorCode::DestinationUnavailable,
        HttpError::DestinationIpProhibited => ErrorCode::DestinationIpProhibited,
        HttpError::DestinationIpUnroutable => ErrorCode::DestinationIpUnroutable,
        HttpError::ConnectionRefused => ErrorCode::ConnectionRefused,
        HttpError::ConnectionTerminated => ErrorCode::ConnectionTerminated,
        HttpError::ConnectionTimeout => ErrorCode::ConnectionTimeout,
        HttpError::ConnectionReadTimeout => ErrorCode::ConnectionReadTimeout,
        HttpError::ConnectionWriteTimeout => ErrorCode::ConnectionWriteTimeout,
        HttpError::ConnectionLimitReached => ErrorCode::ConnectionLimitReached,
        HttpError::TlsProtocolError => ErrorCode::TlsProtocolError,
        HttpError::TlsCertificateError => ErrorCode::TlsCertificateError,
        HttpError::TlsAlertReceived { alert_id, alert_message } => {
            let (alert_id, alert_message) = (*alert_id, alert_message.clone());
            ErrorCode::TlsAlertReceived(TlsAlertReceivedPayload { alert_id, alert_message })
        }
        HttpError::HttpRequestDenied => ErrorCode::HttpRequestDenied,
        HttpError::HttpRequestLengthRequired => ErrorCode::HttpRequestLengthRequired,
        HttpError::HttpRequestBodySize(bytes) => ErrorCode::HttpRequestBodySize(*bytes),
        HttpError::HttpRequestMethodInvalid => ErrorCode::HttpRequestMethodInvalid,
        HttpError::HttpRequestUriInvalid => ErrorCode::HttpRequestUriInvalid,
        HttpError::HttpRequestUriTooLong => ErrorCode::HttpRequestUriTooLong,
        HttpError::HttpRequestHeaderSectionSize(bytes) => ErrorCode::HttpRequestHeaderSectionSize(*bytes),
        HttpError::HttpRequestHeaderSize { field_name, field_size } => {
            ErrorCode::HttpRequestHeaderSize(Some(size(field_name, field_size)))
        }
        HttpError::HttpRequestTrailerSectionSize(bytes) => ErrorCode::HttpRequestTrailerSectionSize(*bytes),
        HttpError::HttpRequestTrailerSize { field_name, field_size } => {
            ErrorCode::HttpRequestTrailerSize(size(field_name, field_size))
        }
        HttpError::HttpResponseIncomplete => ErrorCode::HttpResponseIncomplete,
        HttpError::HttpResponseHeaderSectionSize(bytes) => ErrorCode::HttpResponseHeaderSectionSize(*bytes),
        HttpError::HttpResponseHeaderSize { field_name, field_size } => {
            ErrorCode::HttpResponseHeaderSize(size(field_name, field_size))
        }
        HttpError::HttpResponseBodySize(bytes) => ErrorCode::HttpResponseBodySize(*bytes),
        HttpError::HttpResponseTrailerSectionSize(bytes) => ErrorCode::HttpResponseTrailerSectionSize(*bytes),
        HttpError::HttpResponseTrailerSize { field_name, field_size } => {
            ErrorCode::HttpResponseTrailerSize(size(field_name, field_size))
        }
        HttpError::HttpResponseTransferCoding(coding) => ErrorCode::HttpResponseTransferCoding(coding.clone()),
        HttpError::HttpResponseContentCoding(coding) => ErrorCode::HttpResponseContentCoding(coding.clone()),
        HttpError::HttpResponseTimeout => ErrorCode::HttpResponseTimeout,
        HttpError::HttpUpgradeFailed => ErrorCode::HttpUpgradeFailed,
        HttpError::HttpProtocolError => ErrorCode::HttpProtocolError,
        HttpError::LoopDetected => ErrorCode::LoopDetected,
        HttpError::ConfigurationError => ErrorCode::ConfigurationError,
        HttpError::InternalError(detail) => ErrorCode::InternalError(detail.clone()),
        // Connection errors come from `host_api::outgoing` only, which returns only the variants above.
        other => ErrorCode::InternalError(Some(other.to_string())),
    }
}
