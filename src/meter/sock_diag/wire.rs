//! The words of `NETLINK_SOCK_DIAG` (linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h): questions as bytes, and answers read
//! from bytes.
//!
//! Whatever an answer holds, reading it is a plain function of the bytes: nothing is believed that lies beyond their end, and what
//! is no answer to the question is told apart from one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::sys::TcpInfo;

/// `SOCK_DIAG_BY_FAMILY`: asks about sockets.
const BY_FAMILY: u16 = 20;
/// `SOCK_DESTROY`: ends one.
const DESTROY: u16 = 21;

/// `NLM_F_REQUEST`: a question to the kernel.
const REQUEST: u16 = 1;
/// `NLM_F_ACK`: success is to be said, too.
const ACK: u16 = 4;
/// `NLM_F_DUMP`: all that fit, not one.
const DUMP: u16 = 0x300;
/// `NLM_F_DUMP_INTR`: what was listed changed meanwhile, so the list may have holes.
const INTERRUPTED: u16 = 0x10;

/// `NLMSG_NOOP`, to be passed over.
const NOOP: u16 = 1;
/// `NLMSG_ERROR`, which with the number 0 says that it was done.
const OUTCOME: u16 = 2;
/// `NLMSG_DONE`, behind the last of a list.
const DONE: u16 = 3;

/// `IPPROTO_TCP`.
const TCP: u8 = 6;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// `INET_DIAG_INFO`: the attribute that holds a `struct tcp_info`.
const INFO: u16 = 2;
/// The bit that asks for it.
const WITH_INFO: u8 = 1 << (INFO - 1);
/// Bits for every state there is. A single socket is found whatever this says; a list of none has no bits.
const EVERY_STATE: u32 = u32::MAX;

/// How long a `struct nlmsghdr` is.
const HEADER_BYTES: usize = 16;
/// How long a `struct inet_diag_req_v2` is.
const QUESTION_BYTES: usize = 56;
/// How long a `struct inet_diag_msg` is; attributes stand behind it.
const SOCKET_BYTES: usize = 72;
/// Where in a message of a socket its own port stands, the higher byte first: `idiag_sport`, behind four bytes of states.
pub(super) const LOCAL_PORT_AT: u32 = HEADER_BYTES as u32 + 4;
/// How long a `struct rtattr` is; its length counts it.
const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// Messages and attributes begin at multiples of this.
const ALIGNMENT: usize = 4;

/// How long a question is.
pub(in crate::meter) const REQUEST_BYTES: usize = HEADER_BYTES + QUESTION_BYTES;

/// `INET_DIAG_NOCOOKIE`: whatever socket has these addresses. No socket has it for a cookie.
pub(super) const ANY_COOKIE: u64 = u64::MAX;

/// What is wanted of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// To be told of the one socket.
    Look,
    /// To have the one socket ended.
    Destroy,
    /// To be given an empty list, which only a kernel that can list TCP sockets has.
    Nothing,
}

/// Which socket: both its addresses, of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
}

impl Pair {
    /// Takes IPv4 addresses that are written as IPv6 (`::ffff:1.2.3.4`) for what they are: the kernel finds a socket of a listener for
    /// both families by its IPv4 addresses, and nginx writes either. `None` where the addresses are of two families.
    pub(super) fn new(local: SocketAddr, peer: SocketAddr) -> Option<Self> {
        let pair = Self { local: canonical(local), peer: canonical(peer) };
        (pair.local.is_ipv4() == pair.peer.is_ipv4()).then_some(pair)
    }

    /// Returns the pair by which the kernel finds who listens on an address.
    pub(super) fn of_listener(local: SocketAddr) -> Self {
        let local = canonical(local);
        let nobody = if local.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        Self { local, peer: SocketAddr::new(nobody, 0) }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        // Which network a link-local address is of stands beside it.
        IpAddr::V6(_) => address,
    }
}

/// Returns the bytes of a question.
pub(super) fn request(wish: Wish, sequence: u32, pair: &Pair, cookie: u64) -> [u8; REQUEST_BYTES] {
    let (kind, flags, states) = match wish {
        Wish::Look => (BY_FAMILY, REQUEST, EVERY_STATE),
        Wish::Destroy => (DESTROY, REQUEST | ACK, EVERY_STATE),
        Wish::Nothing => (BY_FAMILY, REQUEST | DUMP, 0),
    };
    let network = if let SocketAddr::V6(v6) = pair.local { v6.scope_id() } else { 0 };
    let family = if pair.local.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut bytes = Vec::with_capacity(REQUEST_BYTES);
    bytes.extend_from_slice(&(REQUEST_BYTES as u32).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    // The sender's number is the kernel's to fill in.
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[family, TCP, WITH_INFO, 0]);
    bytes.extend_from_slice(&states.to_ne_bytes());
    bytes.extend_from_slice(&pair.local.port().to_be_bytes());
    bytes.extend_from_slice(&pair.peer.port().to_be_bytes());
    bytes.extend_from_slice(&octets(pair.local.ip()));
    bytes.extend_from_slice(&octets(pair.peer.ip()));
    bytes.extend_from_slice(&network.to_ne_bytes());
    // Two numbers of 32 bits, the low one first whatever the machine's order.
    bytes.extend_from_slice(&(cookie as u32).to_ne_bytes());
    bytes.extend_from_slice(&((cookie >> 32) as u32).to_ne_bytes());
    bytes.try_into().expect("the fields fill it")
}

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// What the kernel says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::meter) enum Answer {
    /// Of a socket.
    Socket(Told),
    /// That it was done (0), or the number of its error.
    Outcome(i32),
    /// That the list is over, or the number of the error that ended it.
    End(i32),
    /// Nothing about our question: an answer to an earlier one that was given up.
    Other,
}

/// What the kernel says of a socket, as it says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::meter) struct Told {
    pub(in crate::meter) local: SocketAddr,
    pub(in crate::meter) peer: SocketAddr,
    /// `idiag_state`.
    pub(in crate::meter) state: u8,
    /// `idiag_wqueue`: how many bytes were written and not acknowledged, a FIN among them.
    pub(in crate::meter) queue: u32,
    pub(in crate::meter) inode: u32,
    pub(in crate::meter) cookie: u64,
    /// `None` for what has none: a connection in TIME-WAIT, or one that nobody has accepted.
    pub(in crate::meter) counters: Option<TcpInfo>,
}

/// Why an answer is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::meter) enum Unreadable {
    /// It ends before what it should hold.
    #[error("the kernel's answer about a socket is cut off")]
    Short,
    /// What it tells of changed while it was told.
    #[error("the kernel was interrupted while it told of sockets")]
    Interrupted,
    /// Of a kind that is no answer.
    #[error("the kernel answered with a message of the unknown kind {0}")]
    Kind(u16),
    /// Of a family that was not asked about.
    #[error("the kernel told of a socket of the unknown family {0}")]
    Family(u8),
}

/// Reads what the kernel sent, for the question of this number.
///
/// # Errors
/// Where the bytes are no answer as the kernel gives one.
pub(in crate::meter) fn read(datagram: &[u8], sequence: u32) -> Result<Answer, Unreadable> {
    let mut rest = datagram;
    while !rest.is_empty() {
        let length = number(rest, 0)? as usize;
        let message = rest.get(..length).filter(|message| message.len() >= HEADER_BYTES).ok_or(Unreadable::Short)?;
        let (kind, flags, its) = (half(message, 4)?, half(message, 6)?, number(message, 8)?);
        if its == sequence && kind != NOOP {
            let body = &message[HEADER_BYTES..];
            return if flags & INTERRUPTED != 0 { Err(Unreadable::Interrupted) } else { answer(kind, body) };
        }
        rest = rest.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
    }
    Ok(Answer::Other)
}

fn answer(kind: u16, body: &[u8]) -> Result<Answer, Unreadable> {
    match kind {
        BY_FAMILY => Ok(Answer::Socket(socket(body)?)),
        OUTCOME => Ok(Answer::Outcome(error(body)?)),
        DONE => Ok(Answer::End(error(body)?)),
        kind => Err(Unreadable::Kind(kind)),
    }
}

/// Reads the number that stands for an error; the kernel writes it negative.
fn error(body: &[u8]) -> Result<i32, Unreadable> {
    Ok(number(body, 0)?.cast_signed().saturating_neg())
}

fn socket(body: &[u8]) -> Result<Told, Unreadable> {
    let (fixed, attributes) = body.split_at_checked(SOCKET_BYTES).ok_or(Unreadable::Short)?;
    let address = |port: usize, ip: usize| {
        let octets: [u8; 16] = fixed[ip..ip + 16].try_into().expect("sixteen bytes");
        let ip = match fixed[0] {
            AF_INET => IpAddr::from([octets[0], octets[1], octets[2], octets[3]]),
            AF_INET6 => IpAddr::from(octets),
            family => return Err(Unreadable::Family(family)),
        };
        Ok(canonical(SocketAddr::new(ip, u16::from_be_bytes([fixed[port], fixed[port + 1]]))))
    };
    Ok(Told {
        local: address(4, 8)?,
        peer: address(6, 24)?,
        state: fixed[1],
        queue: number(fixed, 60)?,
        inode: number(fixed, 68)?,
        cookie: u64::from(number(fixed, 44)?) | u64::from(number(fixed, 48)?) << 32,
        counters: info(attributes)?,
    })
}

/// Looks for the counters among the attributes.
fn info(mut attributes: &[u8]) -> Result<Option<TcpInfo>, Unreadable> {
    // Fewer bytes than a header's fill up the last one.
    while attributes.len() >= ATTRIBUTE_HEADER_BYTES {
        let length = usize::from(half(attributes, 0)?);
        let content = attributes.get(ATTRIBUTE_HEADER_BYTES..length).ok_or(Unreadable::Short)?;
        if half(attributes, 2)? == INFO {
            return Ok(TcpInfo::parse(content));
        }
        attributes = attributes.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
    }
    Ok(None)
}

fn half(bytes: &[u8], at: usize) -> Result<u16, Unreadable> {
    let two = bytes.get(at..at + 2).ok_or(Unreadable::Short)?;
    Ok(u16::from_ne_bytes(two.try_into().expect("two bytes")))
}

fn number(bytes: &[u8], at: usize) -> Result<u32, Unreadable> {
    let four = bytes.get(at..at + 4).ok_or(Unreadable::Short)?;
    Ok(u32::from_ne_bytes(four.try_into().expect("four bytes")))
}

#[cfg(test)]
mod tests;
