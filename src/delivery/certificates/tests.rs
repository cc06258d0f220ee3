use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};

use super::*;
use crate::share::Timestamp;

/// An authority that vouches for the certificates of tests.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub(crate) struct Pair {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "an authority for tests");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pair_for(&self, names: &[&str]) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.not_after = rcgen::date_time_ymd(2049, 2, 28);
        let leaf = params.signed_by(&key, &self.0).unwrap();
        Pair { chain: format!("{}{}", leaf.pem(), self.0.pem()), key: key.serialize_pem() }
    }

    /// Returns what lets a client trust it, and speak this.
    pub(crate) fn client(&self, protocol: &str) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let versions =
            rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions();
        let mut config = versions.unwrap().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Arc::new(config)
    }
}

#[test]
fn a_certificate_and_its_key_are_taken_and_tell_for_whom_and_until_when() {
    let certificates = Certificates::none();
    assert_eq!(certificates.facts(), None);
    let pair = Authority::new().pair_for(&["files.example.org", "*.example.net"]);
    certificates.clone().set(&pair.chain, &pair.key).unwrap();
    let facts = certificates.facts().expect("all clones are one");
    assert_eq!(facts.names, ["files.example.org", "*.example.net"]);
    assert_eq!(facts.not_after, Some(Timestamp(2_498_083_200_000)), "2049-02-28");
}

#[test]
fn a_bad_pair_says_what_is_wrong_and_keeps_the_one_before() {
    let authority = Authority::new();
    let (good, other) = (authority.pair_for(&["a.example"]), authority.pair_for(&["b.example"]));
    let certificates = Certificates::none();
    certificates.set(&good.chain, &good.key).unwrap();
    let refused = |chain: &str, key: &str| certificates.set(chain, key).expect_err("it is bad");
    assert!(matches!(refused(&other.chain, &good.key), BadCertificate::NotItsKey));
    assert!(matches!(refused("", &good.key), BadCertificate::NoCertificate));
    assert!(matches!(refused(&good.key, &good.key), BadCertificate::NoCertificate));
    assert!(matches!(refused(&good.chain, &good.chain), BadCertificate::NoKey));
    assert!(matches!(refused("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n", &good.key), BadCertificate::Unreadable(_)));
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(refused(nonsense, &good.key), BadCertificate::Unreadable(_)));
    assert!(refused(&other.chain, &good.key).is_of_key() && !refused("", &good.key).is_of_key());
    assert_eq!(certificates.facts().unwrap().names, ["a.example"]);
}
