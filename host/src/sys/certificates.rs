//! The trusted certificates of the system, which servers are verified against.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use super::read_file::{MAX_CERTIFICATES_BYTES, check_file};

/// What is trusted, and what of it could not be read.
pub(crate) struct Trusted {
    pub(crate) roots: RootCertStore,
    pub(crate) errors: Vec<rustls_native_certs::Error>,
}

/// Reads the certificates. Blocks for a while.
///
/// # Errors
///
/// If there are none, in words for a log.
pub(crate) fn trusted() -> Result<Trusted, String> {
    // rustls-native-certs reads the file without limits, so check it first.
    let named = std::env::var_os("SSL_CERT_FILE");
    if let Some(Err(error)) = named.as_ref().map(|path| check_file(path.as_ref(), MAX_CERTIFICATES_BYTES)) {
        return Err(format!(
            "failed to read the trusted certificates in SSL_CERT_FILE: {error}; set it to a PEM file of CA \
             certificates, and restart daylily"
        ));
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _unparsable) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let reason = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(format!(
            "no trusted certificates: {reason}; install the system's CA certificates or set SSL_CERT_FILE, and restart \
             daylily"
        ));
    }
    Ok(Trusted { roots, errors: found.errors })
}

/// A client that trusts `roots` and nothing else.
///
/// # Errors
///
/// If the library refuses its own defaults.
pub(crate) fn client_config(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
