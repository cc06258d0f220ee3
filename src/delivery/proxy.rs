//! The PROXY protocol, version 2: in front of its bytes a tunnel says for whom it carries them.
//!
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, section 2.2. Not a byte behind the header is read.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::net::TcpStream;

/// How every header begins.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, the version and command, the family and protocol, and the length of what follows.
const FIXED_BYTES: usize = 16;
/// The longest rest that is read: addresses take 36 bytes at the most that are understood, and what proxies say beyond them
/// (names, TLS facts) a few hundred.
const MAX_REST_BYTES: usize = 1024;

const VERSION_2: u8 = 0x20;
const LOCAL: u8 = 0x0;
const PROXY: u8 = 0x1;
const UNSPECIFIED: u8 = 0x00;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
/// How long the addresses and ports are.
const IPV4_BYTES: usize = 12;
const IPV6_BYTES: usize = 36;

/// For whom a connection is carried; `None` where the proxy does not say (it looks after itself, or does not know).
pub(super) type Carried = Option<IpAddr>;

/// Something that is no header of this protocol. Whoever sends it is no tunnel and gets no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoHeader;

/// Reads a header, and nothing behind it.
pub(super) async fn read(tcp: &TcpStream) -> io::Result<Carried> {
    let mut buffer = [0; FIXED_BYTES + MAX_REST_BYTES];
    fill(tcp, &mut buffer[..FIXED_BYTES]).await?;
    let refused = |NoHeader| io::Error::from(io::ErrorKind::InvalidData);
    let length = FIXED_BYTES + rest_bytes(&buffer).map_err(refused)?;
    fill(tcp, &mut buffer[FIXED_BYTES..length]).await?;
    parse(&buffer[..length]).map_err(refused)
}

async fn fill(tcp: &TcpStream, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        tcp.readable().await?;
        match tcp.try_read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => buffer = &mut buffer[n..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Returns how many bytes follow the fixed ones.
fn rest_bytes(header: &[u8]) -> Result<usize, NoHeader> {
    if header.len() < FIXED_BYTES || header[..SIGNATURE.len()] != SIGNATURE {
        return Err(NoHeader);
    }
    let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if length <= MAX_REST_BYTES { Ok(length) } else { Err(NoHeader) }
}

/// Reads a whole header.
pub(super) fn parse(header: &[u8]) -> Result<Carried, NoHeader> {
    let rest = &header.get(FIXED_BYTES..).ok_or(NoHeader)?;
    if rest_bytes(header)? != rest.len() || header[12] & 0xF0 != VERSION_2 {
        return Err(NoHeader);
    }
    match (header[12] & 0x0F, header[13]) {
        (LOCAL, _) | (PROXY, UNSPECIFIED) => Ok(None),
        (PROXY, TCP_OVER_IPV4) => {
            let addresses = rest.get(..IPV4_BYTES).ok_or(NoHeader)?;
            let source: [u8; 4] = addresses[..4].try_into().map_err(|_| NoHeader)?;
            check_rest(&rest[IPV4_BYTES..]).map(|()| Some(IpAddr::from(Ipv4Addr::from(source))))
        }
        (PROXY, TCP_OVER_IPV6) => {
            let addresses = rest.get(..IPV6_BYTES).ok_or(NoHeader)?;
            let source: [u8; 16] = addresses[..16].try_into().map_err(|_| NoHeader)?;
            check_rest(&rest[IPV6_BYTES..]).map(|()| Some(IpAddr::from(Ipv6Addr::from(source)).to_canonical()))
        }
        _ => Err(NoHeader),
    }
}

/// Proves that what stands behind the addresses is a row of entries (a type, a length, as many bytes). They are not used.
fn check_rest(mut entries: &[u8]) -> Result<(), NoHeader> {
    while let [_, high, low, rest @ ..] = entries {
        entries = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..).ok_or(NoHeader)?;
    }
    if entries.is_empty() { Ok(()) } else { Err(NoHeader) }
}

/// Writes a header as a tunnel does.
#[cfg(any(test, fuzzing))]
pub(super) fn header_for(source: IpAddr, entries: &[u8]) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    let (family, source, rest) = match source {
        IpAddr::V4(source) => (TCP_OVER_IPV4, source.octets().to_vec(), IPV4_BYTES - 4),
        IpAddr::V6(source) => (TCP_OVER_IPV6, source.octets().to_vec(), IPV6_BYTES - 16),
    };
    let length = u16::try_from(source.len() + rest + entries.len()).expect("it is short");
    header.extend_from_slice(&[VERSION_2 | PROXY, family]);
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(&source);
    header.extend_from_slice(&vec![0; rest]);
    header.extend_from_slice(entries);
    header
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn whom_a_tunnel_names_is_read_and_what_it_says_beyond_is_passed_over() {
        for address in ["203.0.113.7", "2001:db8::7"] {
            assert_eq!(parse(&header_for(ip(address), b"")), Ok(Some(ip(address))));
            assert_eq!(parse(&header_for(ip(address), b"\x04\0\x02ab\x05\0\0")), Ok(Some(ip(address))));
        }
        assert_eq!(parse(&header_for(ip("::ffff:203.0.113.7"), b"")), Ok(Some(ip("203.0.113.7"))));
    }

    #[test]
    fn a_proxy_that_looks_after_itself_or_does_not_know_names_nobody() {
        let mut local = header_for(ip("203.0.113.7"), b"");
        local[12] = VERSION_2 | LOCAL;
        assert_eq!(parse(&local), Ok(None));
        let mut unknown = header_for(ip("203.0.113.7"), b"");
        unknown[13] = UNSPECIFIED;
        assert_eq!(parse(&unknown), Ok(None));
    }

    #[test]
    fn what_is_no_such_header_is_refused() {
        let good = header_for(ip("203.0.113.7"), b"");
        for (at, byte) in [(0, b'G'), (11, 0), (12, 0x11), (12, 0x31), (12, 0x22), (13, 0x12), (13, 0x31), (13, 0x21), (15, 11), (15, 13)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(parse(&bad), Err(NoHeader), "byte {at} is {byte:#x}");
        }
        assert_eq!(parse(b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\r\n"), Err(NoHeader));
        assert_eq!(parse(&header_for(ip("203.0.113.7"), b"\x04\0\x03ab")), Err(NoHeader));
        assert_eq!(parse(&header_for(ip("203.0.113.7"), b"\x04\0")), Err(NoHeader));
        assert_eq!(parse(&header_for(ip("203.0.113.7"), &[0; MAX_REST_BYTES])), Err(NoHeader));
        assert_eq!(parse(&[]), Err(NoHeader));
    }

    #[tokio::test]
    async fn not_a_byte_behind_a_header_is_read_however_it_comes() {
        use tokio::io::AsyncWriteExt;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut tunnel = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (ours, _) = listener.accept().await.unwrap();
        let talk = [header_for(ip("203.0.113.7"), b"\x04\0\x02ab"), b"hello".to_vec()].concat();
        let sending = async {
            for byte in talk {
                tunnel.write_all(&[byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(tunnel);
        };
        let reading = async {
            assert_eq!(read(&ours).await.unwrap(), Some(ip("203.0.113.7")));
            let mut rest = [0; 5];
            fill(&ours, &mut rest).await.unwrap();
            assert_eq!(&rest, b"hello");
        };
        tokio::join!(sending, reading);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
            let mut header = header_for(ip("203.0.113.7"), b"");
            header.truncate(12);
            header.extend_from_slice(&bytes);
            let _ = parse(&header);
        }
    }
}
