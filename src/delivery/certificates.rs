//! The certificate that recipients are shown, which may be exchanged while connections run.

mod facts;

use std::fmt;
use std::sync::{Arc, RwLock};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ProducesTickets, ServerConfig};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

pub use self::facts::CertificateFacts;

/// What is spoken over TLS, the one that is preferred first.
const PROTOCOLS: [&[u8]; 2] = [HTTP_2, b"http/1.1"];
/// How HTTP/2 is called in a handshake.
pub(super) const HTTP_2: &[u8] = b"h2";

/// The certificate in use. Cheap to clone: all clones are one. It may be changed while connections run; those that run keep
/// theirs.
#[derive(Clone)]
pub struct Certificates(Arc<Inner>);

struct Inner {
    current: RwLock<Option<Current>>,
    /// What lets a client go on with a session, also with the next certificate. Nothing is kept for it here.
    tickets: Option<Arc<dyn ProducesTickets>>,
}

struct Current {
    config: Arc<ServerConfig>,
    facts: CertificateFacts,
}

/// Why a certificate and its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadCertificate {
    /// There is none in the text.
    #[error("there is no certificate in it; it is to hold the certificate and those that vouch for it, in PEM, as `fullchain.pem` does")]
    NoCertificate,
    /// There is no key in the text.
    #[error("there is no private key in it; it is to hold one in PEM without a password, as `privkey.pem` does")]
    NoKey,
    /// The key is of a kind that cannot sign here.
    #[error("the private key is of a kind that cannot be used; RSA of 2048 bits or more, ECDSA (P-256, P-384) and Ed25519 can")]
    UnknownKey,
    /// They do not belong together.
    #[error("the private key is another certificate's; a certificate and its key are made together, and renewed together")]
    NotItsKey,
    /// The certificate is none.
    #[error("the certificate cannot be read ({0})")]
    Unreadable(String),
}

impl BadCertificate {
    /// Returns whether it is the key that is wrong, and not the certificate.
    pub fn is_of_key(&self) -> bool {
        matches!(self, Self::NoKey | Self::UnknownKey | Self::NotItsKey)
    }
}

impl Certificates {
    /// Begins without one: whoever comes is met with silence.
    pub fn none() -> Self {
        // Without a source of random numbers nobody goes on with a session, and everything else fails soon after.
        Self(Arc::new(Inner { current: RwLock::new(None), tickets: ring::Ticketer::new().ok() }))
    }

    /// Shows this certificate from now on; `chain_pem` has it first and then those that vouch for it.
    ///
    /// # Errors
    /// What is wrong with it. The one before stays in use then.
    pub fn set(&self, chain_pem: &str, key_pem: &str) -> Result<(), BadCertificate> {
        let current = self.read(chain_pem, key_pem)?;
        *self.0.current.write().expect("nobody panics while holding a certificate") = Some(current);
        Ok(())
    }

    /// Returns what the certificate in use says of itself; `None` where there is none.
    pub fn facts(&self) -> Option<CertificateFacts> {
        self.0.current.read().expect("nobody panics while holding a certificate").as_ref().map(|current| current.facts.clone())
    }

    pub(super) fn config(&self) -> Option<Arc<ServerConfig>> {
        self.0.current.read().expect("nobody panics while holding a certificate").as_ref().map(|current| current.config.clone())
    }

    fn read(&self, chain_pem: &str, key_pem: &str) -> Result<Current, BadCertificate> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect();
        let chain = chain.map_err(|error| BadCertificate::Unreadable(error.to_string()))?;
        let leaf = chain.first().ok_or(BadCertificate::NoCertificate)?;
        let facts = CertificateFacts::of(leaf);
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| BadCertificate::NoKey)?;
        let provider = Arc::new(ring::default_provider());
        let key = provider.key_provider.load_private_key(key).map_err(|_| BadCertificate::UnknownKey)?;
        let pair = CertifiedKey::new(chain, key);
        pair.keys_match().map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => BadCertificate::NotItsKey,
            other => BadCertificate::Unreadable(other.to_string()),
        })?;
        let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = versions.map_err(|error| BadCertificate::Unreadable(error.to_string()))?.with_no_client_auth();
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if let Some(tickets) = &self.0.tickets {
            config.ticketer = tickets.clone();
        }
        Ok(Current { config: Arc::new(config), facts })
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificates").field(&self.facts()).finish()
    }
}

#[cfg(test)]
pub(crate) mod tests;
