//! An authority of our own, and a client of TLS and HTTP/2 that writes its frames by hand.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use super::{Offer, PATIENCE, Server, Setup, path_of, tool};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
/// On DATA and HEADERS: nothing follows on this stream. On SETTINGS and PING: it is an answer.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
/// The setting that says how much of each stream may be on its way.
pub(crate) const INITIAL_WINDOW: u16 = 4;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// An authority, and a folder with its certificates for localhost.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority for tests");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { issuer, folder: tempfile::tempdir().unwrap() };
        std::fs::write(authority.path("ca.pem"), authority.issuer.pem()).unwrap();
        authority.renew();
        authority
    }

    /// Writes another certificate and its key in place of those that are there.
    pub(crate) fn renew(&self) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path("cert.pem"), leaf.pem()).unwrap();
        std::fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the path of the authority's own certificate, as an argument.
    pub(crate) fn trust(&self) -> String {
        self.path("ca.pem").to_str().unwrap().to_owned()
    }

    /// Returns a server's settings that have its recipient side speak TLS.
    pub(crate) fn setup(&self) -> Setup {
        let setup = Setup::new();
        let base = format!("https://localhost:{}", setup.recipient.port());
        let paths = ["cert.pem", "key.pem"].map(|name| self.path(name).to_str().unwrap().to_owned());
        setup.set("BASE_URL", base).set("TLS_CERT", &paths[0]).set("TLS_KEY", &paths[1])
    }

    /// Connects, and offers to speak these protocols.
    pub(crate) fn connect(&self, to: SocketAddr, protocols: &[&str]) -> Sealed {
        self.over(TcpStream::connect(to).unwrap(), protocols)
    }

    pub(crate) fn over(&self, tcp: TcpStream, protocols: &[&str]) -> Sealed {
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let versions = ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions();
        let mut config = versions.unwrap().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let session = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        StreamOwned::new(session, tcp)
    }

    /// Redeems a link as a browser's button does; returns the transfer's path.
    pub(crate) fn redeem(&self, server: &Server, offer: &Offer) -> String {
        let (trust, url) = (self.trust(), offer.url.rsplit_once('/').expect("a link has a name").0);
        let ask = ["-sS", "--cacert", &trust, "-A", "Mozilla/5.0", "-X", "POST", "-o", "/dev/null", "-w", "%{redirect_url}", url];
        let url = String::from_utf8(tool(server.folder(), "curl", &ask).stdout).unwrap();
        path_of(&url).to_owned()
    }

    /// Connects and speaks HTTP/2, with these settings.
    pub(crate) fn http_2(&self, to: SocketAddr, settings: &[(u16, u32)]) -> Http2 {
        Http2::begin(self.connect(to, &["h2"]), settings)
    }
}

/// A connection with TLS.
pub(crate) type Sealed = StreamOwned<ClientConnection, TcpStream>;

/// Returns the certificate that was shown.
pub(crate) fn shown_certificate(connection: &mut Sealed) -> CertificateDer<'static> {
    while connection.conn.is_handshaking() {
        connection.conn.complete_io(&mut connection.sock).expect("a handshake");
    }
    connection.conn.peer_certificates().expect("certificates")[0].clone().into_owned()
}

/// One frame.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) content: Vec<u8>,
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), content].concat()
}

/// Writes header fields without any compression (RFC 7541 6.2.2).
pub(crate) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            let mut rest = text.len();
            if rest < 127 {
                block.push(rest as u8);
            } else {
                block.push(127);
                rest -= 127;
                while rest >= 128 {
                    block.push((rest % 128 + 128) as u8);
                    rest /= 128;
                }
                block.push(rest as u8);
            }
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// The fields of a GET.
pub(crate) fn get<'a>(path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<u8> {
    let mut all = vec![(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", path)];
    all.extend_from_slice(more);
    fields(&all)
}

/// A connection that speaks HTTP/2. It answers nothing by itself.
pub(crate) struct Http2 {
    pub(crate) connection: Sealed,
}

impl Http2 {
    fn begin(connection: Sealed, settings: &[(u16, u32)]) -> Self {
        let mut this = Self { connection };
        let settings: Vec<u8> = settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        this.send(&[PREFACE, &frame(SETTINGS, 0, 0, &settings)].concat());
        this
    }

    /// Sends bytes as they are. Returns whether the other side still takes any.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.connection.write_all(bytes).and_then(|()| self.connection.flush()).is_ok()
    }

    pub(crate) fn get(&mut self, stream: u32, path: &str, more: &[(&str, &str)]) -> bool {
        self.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &get(path, more)))
    }

    /// Opens the connection's own window for so much more.
    pub(crate) fn open_window(&mut self, bytes: u32) -> bool {
        self.send(&frame(WINDOW_UPDATE, 0, 0, &bytes.to_be_bytes()))
    }

    /// Reads one frame; `None` where the connection is over.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let mut header = [0; 9];
        self.connection.read_exact(&mut header).ok()?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let mut content = vec![0; length as usize];
        self.connection.read_exact(&mut content).ok()?;
        let stream = u32::from_be_bytes(header[5..].try_into().unwrap());
        Some(Frame { kind: header[3], flags: header[4], stream, content })
    }

    /// Reads until a frame is what is wanted, and answers PINGs and SETTINGS on the way.
    pub(crate) fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let next = self.next()?;
            if wanted(&next) {
                return Some(next);
            }
            self.answer(&next);
        }
    }

    /// Answers a PING or SETTINGS.
    pub(crate) fn answer(&mut self, asked: &Frame) {
        match asked.kind {
            SETTINGS if asked.flags & ACK == 0 => drop(self.send(&frame(SETTINGS, ACK, 0, b""))),
            PING if asked.flags & ACK == 0 => drop(self.send(&frame(PING, ACK, 0, &asked.content))),
            _ => {}
        }
    }
}

/// Returns how much memory of a process is resident, and the most that ever was.
pub(crate) fn resident_bytes(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).expect("the process lives");
    let kib = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).expect("a process has memory");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number")
    };
    (kib("VmRSS:") * 1024, kib("VmHWM:") * 1024)
}
