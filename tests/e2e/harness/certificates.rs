//! Certificates for servers with TLS.

use std::sync::Arc;

/// A certificate authority, and a server certificate that it signed.
pub struct Certificates {
    /// The authority's certificate, as PEM.
    pub authority: String,
    issuer: Arc<rcgen::Issuer<'static, rcgen::KeyPair>>,
    certificate: rcgen::Certificate,
    key: rcgen::KeyPair,
}

impl Certificates {
    /// A certificate for a name or an address.
    pub fn of(name: &str) -> Self {
        let ca_key = rcgen::KeyPair::generate().expect("a key");
        let mut ca = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        ca.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        let authority = ca.self_signed(&ca_key).expect("a certificate").pem();
        Self::signed(authority, Arc::new(rcgen::Issuer::new(ca, ca_key)), name)
    }

    /// A certificate for another name, by the same authority.
    pub fn with_name(&self, name: &str) -> Self {
        Self::signed(self.authority.clone(), Arc::clone(&self.issuer), name)
    }

    fn signed(authority: String, issuer: Arc<rcgen::Issuer<'static, rcgen::KeyPair>>, name: &str) -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let leaf = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let certificate = leaf.signed_by(&key, &issuer).expect("a certificate");
        Self { authority, issuer, certificate, key }
    }

    /// The server's certificate and its key, as PEM.
    pub fn pem(&self) -> [String; 2] {
        [self.certificate.pem(), self.key.serialize_pem()]
    }

    /// What a server in the test needs.
    pub fn server(&self) -> Arc<rustls::ServerConfig> {
        let key = rustls::pki_types::PrivateKeyDer::try_from(self.key.serialize_der()).expect("a key");
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.der().clone()], key);
        Arc::new(config.expect("a certificate and its key"))
    }
}
