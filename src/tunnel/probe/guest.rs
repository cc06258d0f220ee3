//! Goes the way of a recipient, for a self-test: the page, the button, the bytes. Under the public name where this machine gets there,
//! and else to our own listener.
//!
//! Who cannot get there says why ([`Miss`]). That this machine is not led to an address that is not its own proves nothing: many routers
//! lead nobody back in who stands behind them.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, HOST, LOCATION, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::visit::{self, Tls};
use super::{By, HTTPS, resolve};
use crate::share::Obstacle;

/// How long a connection may take: the whole test has half a minute.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// How long the system's resolver may take.
const NAME_TIMEOUT: Duration = Duration::from_secs(4);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// What a URL without TLS means where it names no port.
const HTTP: u16 = 80;
/// What it calls itself: nothing that gets bytes where a browser gets a page.
const AGENT: &str = "portcullis-self-test";
/// The header of a tunnel that looks after itself (PROXY protocol v2, LOCAL): the recipient side's listener waits for one behind some tunnels.
const LOOKS_AFTER_ITSELF: [u8; 16] = *b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// How the address behind a public name is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Public {
    /// As any program on this machine finds it.
    System,
    /// Past MagicDNS, which leads a tailnet's own nodes past Funnel.
    By(By),
    /// Not at all: the operator wants nobody to look from outside.
    Nowhere,
}

/// Our own listener for recipients, or that of nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Here {
    /// Where it is reached from this machine.
    pub address: SocketAddr,
    /// Whether recipients' TLS ends there.
    pub is_tls: bool,
    /// Whether a tunnel says first for whom it is (PROXY protocol v2).
    pub is_tunnelled: bool,
}

/// By which way a guest comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By the public name.
    Public,
    /// To our own listener.
    Here,
}

/// Why a guest got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// Nobody looks from outside, or there is nobody who could be asked for the public address.
    NotTried,
    /// No connection came about. Where the address is this machine's own, nobody listens there.
    NoConnection {
        /// Whether it is.
        is_own: bool,
    },
    /// Something was met on the way.
    Met(Obstacle),
}

/// What a guest was answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Where it leads, as it was written.
    pub location: Option<String>,
    /// All of its body.
    pub body: Bytes,
}

/// A guest, who comes as a recipient does.
#[derive(Debug)]
pub struct Guest {
    public: Public,
    here: Here,
    /// Made at the first visit: this machine's roots are read from its disk.
    tls: OnceCell<Tls>,
}

impl Guest {
    /// Makes one; nothing is asked and nothing is read yet.
    pub fn new(public: Public, here: Here) -> Self {
        Self { public, here, tls: OnceCell::new() }
    }

    /// Asks for a URL, which is looked at as a public one by either way.
    ///
    /// # Errors
    /// [`Miss`], within some twenty seconds.
    pub async fn ask(&self, way: Way, method: Method, url: &str) -> Result<Answer, Miss> {
        let uri = Uri::from_str(url).map_err(|_| Miss::Met(Obstacle::NameUnknown))?;
        let (Some(host), Some(authority)) = (uri.host(), uri.authority()) else { return Err(Miss::Met(Obstacle::NameUnknown)) };
        let is_tls = match way {
            Way::Public => uri.scheme_str() == Some("https"),
            Way::Here => self.here.is_tls,
        };
        let mut stream = match way {
            Way::Public => connect(&self.addresses(host, uri.port_u16().unwrap_or(if is_tls { HTTPS } else { HTTP })).await?).await?,
            Way::Here => connect(&[self.here.address]).await?,
        };
        if way == Way::Here && self.here.is_tunnelled {
            stream.write_all(&LOOKS_AFTER_ITSELF).await.map_err(|_| Miss::Met(Obstacle::NoAnswer))?;
        }
        let request = request(method, &uri, authority.as_str()).ok_or(Miss::Met(Obstacle::NameUnknown))?;
        let asked = async {
            if is_tls {
                let tls = self.tls.get_or_init(Tls::of_this_machine).await;
                visit::answer(tls.seal(stream, host).await?, request).await
            } else {
                visit::answer(stream, request).await
            }
        };
        let answer = timeout(ANSWER_TIMEOUT, asked).await.unwrap_or(Err(Obstacle::NoAnswer)).map_err(Miss::Met)?;
        let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Answer { status: answer.status(), location, body: answer.into_body() })
    }

    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Miss> {
        let known: Vec<SocketAddr> = match &self.public {
            Public::Nowhere => return Err(Miss::NotTried),
            Public::By(By::Address(address)) => vec![*address],
            Public::By(By::PublicDns(resolvers)) => {
                let tls = self.tls.get_or_init(Tls::of_this_machine).await;
                let known = timeout(ANSWER_TIMEOUT, resolve::addresses(tls, resolvers, host)).await.ok().flatten().ok_or(Miss::NotTried)?;
                known.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
            }
            Public::System => {
                let host = host.trim_matches(['[', ']']);
                match timeout(NAME_TIMEOUT, tokio::net::lookup_host((host, port))).await {
                    Ok(found) => found.map(Iterator::collect).unwrap_or_default(),
                    Err(_) => Vec::new(),
                }
            }
        };
        if known.is_empty() { Err(Miss::Met(Obstacle::NameUnknown)) } else { Ok(known) }
    }
}

/// Connects to the first address that takes a connection.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Miss> {
    match super::connect_within(addresses, CONNECT_TIMEOUT).await {
        Some(stream) => Ok(stream),
        None => Err(Miss::NoConnection { is_own: addresses.iter().all(|address| is_own(address.ip())) }),
    }
}

/// Returns whether an address is one of this machine's: only those can be bound.
fn is_own(ip: IpAddr) -> bool {
    match UdpSocket::bind((ip, 0)) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
    }
}

fn request(method: Method, uri: &Uri, authority: &str) -> Option<Request<Empty<Bytes>>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri.path_and_query()?.as_str().parse().ok()?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(authority).ok()?);
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if method == Method::POST {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    *request.method_mut() = method;
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Here = Here { address: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1), is_tls: false, is_tunnelled: false };

    /// Answers one connection with this, and returns where, and what it will have heard.
    fn answers_once(answer: &'static str) -> (SocketAddr, std::thread::JoinHandle<String>) {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut heard, mut buffer) = (Vec::new(), [0; 1024]);
            while !heard.windows(4).any(|end| end == b"\r\n\r\n") || heard.ends_with(b"QUIT\n\x20\0\0\0") {
                let n = stream.read(&mut buffer).unwrap();
                heard.extend_from_slice(&buffer[..n]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&heard).into_owned()
        });
        (address, serving)
    }

    #[tokio::test]
    async fn a_guest_asks_by_the_public_name_or_at_our_own_listener_in_the_same_words() {
        const ANSWER: &str = "HTTP/1.1 303 See Other\r\nLocation: get/x\r\nContent-Length: 2\r\n\r\nhi";
        let (address, serving) = answers_once(ANSWER);
        let guest = Guest::new(Public::System, HERE);
        let answer = guest.ask(Way::Public, Method::POST, &format!("http://{address}/a/b?c")).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.location.as_deref(), &answer.body[..]), (303, Some("get/x"), &b"hi"[..]));
        let heard = serving.join().unwrap();
        assert!(heard.starts_with("POST /a/b?c HTTP/1.1\r\n") && heard.contains("content-length: 0\r\n"), "{heard}");
        let (address, serving) = answers_once(ANSWER);
        let guest = Guest::new(Public::Nowhere, Here { address, is_tls: false, is_tunnelled: true });
        guest.ask(Way::Here, Method::GET, "https://files.example.org/a").await.unwrap();
        let heard = serving.join().unwrap();
        assert!(heard.contains("QUIT\n \0\0\0GET /a HTTP/1.1\r\nhost: files.example.org\r\n"), "{heard}");
    }

    #[tokio::test]
    async fn who_gets_nowhere_says_why() {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let system = Guest::new(Public::System, HERE);
        let miss = system.ask(Way::Public, Method::GET, &format!("http://{gone}/")).await.unwrap_err();
        assert_eq!(miss, Miss::NoConnection { is_own: true });
        assert_eq!(Guest::new(Public::Nowhere, HERE).ask(Way::Public, Method::GET, "http://a/").await.unwrap_err(), Miss::NotTried);
        let (talker, _serving) = answers_once("SSH-2.0-OpenSSH_9.2\r\n");
        let miss = system.ask(Way::Public, Method::GET, &format!("http://{talker}/")).await.unwrap_err();
        assert_eq!(miss, Miss::Met(Obstacle::OtherAnswer));
        let (talker, _serving) = answers_once("");
        let miss = system.ask(Way::Public, Method::GET, &format!("http://{talker}/")).await.unwrap_err();
        assert_eq!(miss, Miss::Met(Obstacle::NoAnswer));
    }

    #[test]
    fn an_address_of_this_machine_is_told_from_another() {
        assert!(is_own("127.0.0.1".parse().unwrap()) && is_own("127.8.9.1".parse().unwrap()));
        assert!(!is_own("192.0.2.7".parse().unwrap()), "TEST-NET-1 is nobody's");
    }
}
