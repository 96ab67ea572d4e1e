//! The types of wasi:http that are the same in 0.2 and 0.3, in the names of the bindings that are in scope.

macro_rules! http_types {
    () => {
        variant!(Method {
            "get" => Get,
            "head" => Head,
            "post" => Post,
            "put" => Put,
            "delete" => Delete,
            "connect" => Connect,
            "options" => Options,
            "trace" => Trace,
            "patch" => Patch,
            "other" => Other(String),
        });

        variant!(Scheme {
            "HTTP" => Http,
            "HTTPS" => Https,
            "other" => Other(String),
        });

        record!(DnsErrorPayload { rcode: Option<String> = "rcode", info_code: Option<u16> = "info-code" });
        record!(TlsAlertReceivedPayload {
            alert_id: Option<u8> = "alert-id",
            alert_message: Option<String> = "alert-message"
        });
        record!(FieldSizePayload { field_name: Option<String> = "field-name", field_size: Option<u32> = "field-size" });

        variant!(ErrorCode {
            "DNS-timeout" => DnsTimeout,
            "DNS-error" => DnsError(DnsErrorPayload),
            "destination-not-found" => DestinationNotFound,
            "destination-unavailable" => DestinationUnavailable,
            "destination-IP-prohibited" => DestinationIpProhibited,
            "destination-IP-unroutable" => DestinationIpUnroutable,
            "connection-refused" => ConnectionRefused,
            "connection-terminated" => ConnectionTerminated,
            "connection-timeout" => ConnectionTimeout,
            "connection-read-timeout" => ConnectionReadTimeout,
            "connection-write-timeout" => ConnectionWriteTimeout,
            "connection-limit-reached" => ConnectionLimitReached,
            "TLS-protocol-error" => TlsProtocolError,
            "TLS-certificate-error" => TlsCertificateError,
            "TLS-alert-received" => TlsAlertReceived(TlsAlertReceivedPayload),
            "HTTP-request-denied" => HttpRequestDenied,
            "HTTP-request-length-required" => HttpRequestLengthRequired,
            "HTTP-request-body-size" => HttpRequestBodySize(Option<u64>),
            "HTTP-request-method-invalid" => HttpRequestMethodInvalid,
            "HTTP-request-URI-invalid" => HttpRequestUriInvalid,
            "HTTP-request-URI-too-long" => HttpRequestUriTooLong,
            "HTTP-request-header-section-size" => HttpRequestHeaderSectionSize(Option<u32>),
            "HTTP-request-header-size" => HttpRequestHeaderSize(Option<FieldSizePayload>),
            "HTTP-request-trailer-section-size" => HttpRequestTrailerSectionSize(Option<u32>),
            "HTTP-request-trailer-size" => HttpRequestTrailerSize(FieldSizePayload),
            "HTTP-response-incomplete" => HttpResponseIncomplete,
            "HTTP-response-header-section-size" => HttpResponseHeaderSectionSize(Option<u32>),
            "HTTP-response-header-size" => HttpResponseHeaderSize(FieldSizePayload),
            "HTTP-response-body-size" => HttpResponseBodySize(Option<u64>),
            "HTTP-response-trailer-section-size" => HttpResponseTrailerSectionSize(Option<u32>),
            "HTTP-response-trailer-size" => HttpResponseTrailerSize(FieldSizePayload),
            "HTTP-response-transfer-coding" => HttpResponseTransferCoding(Option<String>),
            "HTTP-response-content-coding" => HttpResponseContentCoding(Option<String>),
            "HTTP-response-timeout" => HttpResponseTimeout,
            "HTTP-upgrade-failed" => HttpUpgradeFailed,
            "HTTP-protocol-error" => HttpProtocolError,
            "loop-detected" => LoopDetected,
            "configuration-error" => ConfigurationError,
            "internal-error" => InternalError(Option<String>),
        });
    };
}

pub(super) use http_types;
