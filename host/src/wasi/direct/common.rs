//! The parts of interfaces that are the same in WASI 0.2 and 0.3, as macros: each release has bindings of its own.

/// The longest text that is kept of an error code that a guest gives to the host. It may be logged, or read back by a
/// guest.
pub(crate) const MAX_TEXT_BYTES: usize = 1 << 10;

/// The value types of `wasi:http/types`, and the functions that limit and format the texts in its error codes.
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

        /// The text of a code, if it has one.
        fn text_of(code: &mut ErrorCode) -> Option<&mut String> {
            match code {
                ErrorCode::DnsError(DnsErrorPayload { rcode: text, .. })
                | ErrorCode::TlsAlertReceived(TlsAlertReceivedPayload { alert_message: text, .. })
                | ErrorCode::HttpRequestHeaderSize(Some(FieldSizePayload { field_name: text, .. }))
                | ErrorCode::HttpRequestTrailerSize(FieldSizePayload { field_name: text, .. })
                | ErrorCode::HttpResponseHeaderSize(FieldSizePayload { field_name: text, .. })
                | ErrorCode::HttpResponseTrailerSize(FieldSizePayload { field_name: text, .. })
                | ErrorCode::HttpResponseTransferCoding(text)
                | ErrorCode::HttpResponseContentCoding(text)
                | ErrorCode::InternalError(text) => text.as_mut(),
                _ => None,
            }
        }

        /// The same code, its text cut to [`MAX_TEXT_BYTES`].
        pub(crate) fn shortened(mut code: ErrorCode) -> ErrorCode {
            if let Some(text) = text_of(&mut code) {
                text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
                text.shrink_to_fit();
            }
            code
        }

        /// An error code for the log and for developers, without the secrets that `mask` has. Its text is cut before it is
        /// formatted, because escapes could make it five times as long.
        pub(crate) fn describe(
            mut code: ErrorCode,
            mask: Option<&$crate::observe::mask::Mask>,
        ) -> daylily_core::excerpt::Excerpt {
            if let (Some(mask), Some(text)) = (mask, text_of(&mut code)) {
                *text = mask.beginning(text, MAX_TEXT_BYTES);
            }
            daylily_core::excerpt::Excerpt::display(format_args!("{:?}", shortened(code)))
        }
    };
}

/// The functions of `fields` that both releases have, in the bindings of `$release`: `p2` or `p3`.
macro_rules! common_fields {
    ($release:ident) => {{
        use wasmtime_wasi_http::$release::bindings::http::types::HostFields;

        use $crate::wasi::http::fields::$release as counted;

        functions! { state =>
            "wasi:http/types" {
                drop(fields: FieldMap) => HostFields::drop(&mut state.http(), fields);
                fn "[constructor]fields"() => HostFields::new(&mut state.http());
                fn "[static]fields.from-list"(list: counted::Entries) => counted::from_list(state, list);
                fn "[method]fields.get"(fields: Borrow<FieldMap>, name: String) =>
                    HostFields::get(&mut state.http(), fields.0, name);
                fn "[method]fields.has"(fields: Borrow<FieldMap>, name: String) =>
                    HostFields::has(&mut state.http(), fields.0, name);
                fn "[method]fields.set"(fields: Borrow<FieldMap>, name: String, values: Vec<Vec<u8>>) =>
                    counted::set(state, fields.0, name, values);
                fn "[method]fields.delete"(fields: Borrow<FieldMap>, name: String) =>
                    counted::code_or_trap(HostFields::delete(&mut state.http(), fields.0, name));
                fn "[method]fields.append"(fields: Borrow<FieldMap>, name: String, value: Vec<u8>) =>
                    counted::append(state, fields.0, name, value);
                fn "[method]fields.clone"(fields: Borrow<FieldMap>) => counted::clone(state, fields.0);
            }
        }
    }};
}

/// The functions of `wasi:cli` that both releases have, in the bindings of `$release`: `p2` or `p3`.
macro_rules! common_cli {
    ($release:ident) => {{
        use wasmtime_wasi::$release::bindings::cli::{
            environment, exit, terminal_input, terminal_output, terminal_stderr, terminal_stdin, terminal_stdout,
        };

        functions! { state =>
            "wasi:cli/environment" {
                fn "get-environment"() => environment::Host::get_environment(&mut state.cli());
                fn "get-arguments"() => environment::Host::get_arguments(&mut state.cli());
            }
            "wasi:cli/exit" {
                fn "exit"(status: Result<(), ()>) => exit::Host::exit(&mut state.cli(), status);
            }
            "wasi:cli/terminal-input" {
                drop(terminal: terminal_input::TerminalInput) =>
                    terminal_input::HostTerminalInput::drop(&mut state.cli(), terminal);
            }
            "wasi:cli/terminal-output" {
                drop(terminal: terminal_output::TerminalOutput) =>
                    terminal_output::HostTerminalOutput::drop(&mut state.cli(), terminal);
            }
            "wasi:cli/terminal-stdin" {
                fn "get-terminal-stdin"() => terminal_stdin::Host::get_terminal_stdin(&mut state.cli());
            }
            "wasi:cli/terminal-stdout" {
                fn "get-terminal-stdout"() => terminal_stdout::Host::get_terminal_stdout(&mut state.cli());
            }
            "wasi:cli/terminal-stderr" {
                fn "get-terminal-stderr"() => terminal_stderr::Host::get_terminal_stderr(&mut state.cli());
            }
        }
    }};
}

/// The functions of `wasi:random` that both releases have, in the bindings of `$release`: `p2` or `p3`.
macro_rules! common_random {
    ($release:ident) => {{
        use wasmtime_wasi::$release::bindings::random::{insecure, random};

        functions! { state =>
            "wasi:random/random" {
                fn "get-random-bytes"(len: u64) => random::Host::get_random_bytes(state.random(), len);
                fn "get-random-u64"() => random::Host::get_random_u64(state.random());
            }
            "wasi:random/insecure" {
                fn "get-insecure-random-bytes"(len: u64) =>
                    insecure::Host::get_insecure_random_bytes(state.random(), len);
                fn "get-insecure-random-u64"() => insecure::Host::get_insecure_random_u64(state.random());
            }
        }
    }};
}

pub(crate) use {common_cli, common_fields, common_random, http_types};
