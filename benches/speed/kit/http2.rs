//! Clients that speak HTTP/2 over TLS, as browsers do: they take what they want, open their windows and answer PINGs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
/// How much may be on its way to a client: what Chromium allows one stream, and the connection.
const WINDOW_BYTES: u32 = 6 * 1024 * 1024;
/// Behind how much of that the windows are opened again.
const OPEN_EVERY: u32 = WINDOW_BYTES / 2;

/// A certificate for localhost and its key, in files.
pub(crate) struct Certificate {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    config: Arc<ClientConfig>,
}

impl Certificate {
    /// Makes one that vouches for itself.
    pub(crate) fn new(folder: &Path) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
        let certificate = params.self_signed(&key).expect("a certificate");
        let paths = [folder.join("cert.pem"), folder.join("key.pem")];
        std::fs::write(&paths[0], certificate.pem()).expect("it is written");
        std::fs::write(&paths[1], key.serialize_pem()).expect("it is written");
        let [cert, key] = paths;
        Self { cert, key, config: Arc::new(config(certificate.der().clone())) }
    }

    fn connect(&self, to: SocketAddr, protocol: &str) -> StreamOwned<ClientConnection, TcpStream> {
        let mut config = (*self.config).clone();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let session = ClientConnection::new(Arc::new(config), "localhost".try_into().expect("a name")).expect("a session");
        StreamOwned::new(session, TcpStream::connect(to).expect("it listens"))
    }

    /// Sends one request by HTTP/1.1 and reads until the end of the connection.
    pub(crate) fn exchange(&self, to: SocketAddr, request: &str) -> String {
        let mut stream = self.connect(to, "http/1.1");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = Vec::new();
        // nginx says goodbye, and so do we; whoever does not has said all the same.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Fetches something by HTTP/2, so many bytes a second, until `until` or its end. Returns how much came.
    pub(crate) fn pull(&self, to: SocketAddr, path: &str, rate: Option<u64>, until: Instant) -> u64 {
        let mut client = Client { stream: self.connect(to, "h2"), unopened: 0 };
        client.ask(path);
        let (began, mut got) = (Instant::now(), 0);
        while Instant::now() < until {
            let Some((bytes, is_over)) = client.next() else { break };
            got += bytes;
            if is_over {
                break;
            }
            let due = rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(got as f64 / rate as f64));
            std::thread::sleep(due.saturating_sub(began.elapsed()).min(until.saturating_duration_since(Instant::now())));
        }
        got
    }
}

fn config(trusted: CertificateDer<'static>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(trusted).expect("a certificate");
    let versions = ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions();
    versions.expect("versions").with_root_certificates(roots).with_no_client_auth()
}

struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    /// How much came since the windows were opened last.
    unopened: u32,
}

impl Client {
    fn ask(&mut self, path: &str) {
        let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        out.extend(frame(SETTINGS, 0, 0, &[&[0, 4][..], &WINDOW_BYTES.to_be_bytes()].concat()));
        out.extend(frame(WINDOW_UPDATE, 0, 0, &WINDOW_BYTES.to_be_bytes()));
        let mut block = Vec::new();
        for (name, value) in
            [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", path), ("user-agent", "bench")]
        {
            for text in [name, value] {
                if text == name {
                    block.push(0);
                }
                push_text(&mut block, text);
            }
        }
        out.extend(frame(HEADERS, 5, 1, &block));
        self.stream.write_all(&out).expect("it reads");
    }

    /// Reads a frame; returns how much of the body was in it and whether it was the last. `None` where the connection is over.
    fn next(&mut self) -> Option<(u64, bool)> {
        let mut header = [0; 9];
        self.stream.read_exact(&mut header).ok()?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let mut content = vec![0; length as usize];
        self.stream.read_exact(&mut content).ok()?;
        let mut out = Vec::new();
        match header[3] {
            DATA => {
                self.unopened += length;
                if self.unopened >= OPEN_EVERY {
                    out.extend(frame(WINDOW_UPDATE, 0, 0, &self.unopened.to_be_bytes()));
                    out.extend(frame(WINDOW_UPDATE, 0, 1, &self.unopened.to_be_bytes()));
                    self.unopened = 0;
                }
            }
            SETTINGS if header[4] & ACK == 0 => out = frame(SETTINGS, ACK, 0, b""),
            PING if header[4] & ACK == 0 => out = frame(PING, ACK, 0, &content),
            RST_STREAM | GOAWAY => return None,
            _ => {}
        }
        if !out.is_empty() {
            self.stream.write_all(&out).ok()?;
        }
        let is_data = header[3] == DATA;
        Some((if is_data { u64::from(length) } else { 0 }, is_data && header[4] & 1 != 0))
    }
}

fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("it is short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), content].concat()
}

/// Writes a text as HPACK has it, without compression.
fn push_text(block: &mut Vec<u8>, text: &str) {
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
