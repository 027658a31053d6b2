//! TLS as the native road has it: 1.3 alone, raw Ed25519 keys both ways, the hybrid key exchange
//! first, nothing resumed (`docs/protocol.md`, "TLS on the legs").
//!
//! A server lets every key through that its peer can prove, and whoever accepts the connection then
//! looks up what that key may do: so a peer that is refused can be told why, and nobody learns by
//! trying which keys are known. A client knows whom it expects.

use std::fmt;
use std::io;
use std::sync::{Arc, LazyLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, Error,
    OtherError, ServerConfig, SignatureScheme,
};
use wayhome_core::key::Key;

use super::frame::breach;
use super::identity::{Identity, key_of};

/// Between a home or a client and its gateway.
pub const LEG: &[u8] = b"wayhome/1";

/// Kept for strangers who redeem an invite; refused today.
pub const JOIN: &[u8] = b"wayhome-join/1";

/// Between a client and a home, through the gateway.
pub const STREAM: &[u8] = b"wayhome-stream/1";

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519];
    // SHA-256 before SHA-384: processors have instructions for the one, and a handshake hashes a lot.
    let cipher_suites = vec![
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(CryptoProvider { kx_groups, cipher_suites, ..aws_lc_rs::default_provider() })
});

/// How to dial a peer that has this key, and no other.
///
/// # Errors
/// If rustls does not take what is written here.
pub fn client(identity: &Identity, expected: Key, alpn: &[u8]) -> Result<Arc<ClientConfig>, Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { expected: Some(expected) }))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(
            identity.certified(),
        )));
    config.alpn_protocols = vec![alpn.to_vec()];
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// How to be dialled.
///
/// # Errors
/// If rustls does not take what is written here.
pub fn server(identity: &Identity, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(Verifier { expected: None }))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(identity.certified())));
    config.alpn_protocols = alpn.iter().map(|alpn| alpn.to_vec()).collect();
    // A session that is resumed would skip the look at the peer's key.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The name that a client has to give to rustls. It is not sent, and nothing hangs on it.
pub fn no_name() -> ServerName<'static> {
    ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into())
}

/// The key that the peer has proven. To be asked after the handshake.
///
/// # Errors
/// If there is none, or the peer did not agree on `alpn`: TLS itself lets one pass that offers none.
pub fn peer(session: &CommonState, alpn: &[u8]) -> io::Result<Key> {
    if session.alpn_protocol() != Some(alpn) {
        return Err(breach("another protocol than ours (ALPN)"));
    }
    let shown = session.peer_certificates().and_then(|shown| shown.first());
    shown.and_then(|spki| key_of(spki)).ok_or_else(|| breach("no key"))
}

/// Another key than the one that is pinned.
#[derive(Clone, Copy, Debug)]
pub struct WrongKey {
    /// The one that was shown.
    pub shown: Key,
}

impl WrongKey {
    /// Finds it in what a handshake failed with.
    pub fn of(error: &io::Error) -> Option<Self> {
        let inner = error.get_ref()?.downcast_ref::<Error>()?;
        let Error::InvalidCertificate(CertificateError::Other(OtherError(why))) = inner else {
            return None;
        };
        why.downcast_ref::<Self>().copied()
    }
}

impl fmt::Display for WrongKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it shows the key `{}`, which is not the pinned one", self.shown)
    }
}

impl std::error::Error for WrongKey {}

/// Looks at raw keys: each one passes that is Ed25519, or the one that is expected.
#[derive(Debug)]
struct Verifier {
    expected: Option<Key>,
}

impl Verifier {
    fn look_at(&self, shown: &CertificateDer<'_>) -> Result<(), Error> {
        let Some(shown) = key_of(shown) else {
            return Err(CertificateError::BadEncoding.into());
        };
        if self.expected.is_some_and(|expected| expected != shown) {
            let why = OtherError(Arc::new(WrongKey { shown }));
            return Err(CertificateError::Other(why).into());
        }
        Ok(())
    }
}

fn verify(
    message: &[u8],
    shown: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let algorithms = &PROVIDER.signature_verification_algorithms;
    let spki = SubjectPublicKeyInfoDer::from(shown.as_ref());
    verify_tls13_signature_with_raw_key(message, &spki, signed, algorithms)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.look_at(shown).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.look_at(shown).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
