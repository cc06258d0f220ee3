//! What was seen of a connection, and what the kernel's counters mean in each of its states.

use std::io::{self, ErrorKind};

use super::wire::Told;

/// How often a connection is looked at until two looks agree. Another look costs some 4 µs; bytes are acknowledged between any two
/// only while many are on their way.
const STEADY_LOOKS: usize = 8;

/// Which of all connections that ever have the same two addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cookie(u64);

impl Cookie {
    /// Takes the kernel's number.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// Returns the kernel's number.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// In which state a connection is (RFC 9293).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SocketState {
    /// Both sides may write.
    Established,
    /// Asked for, and not answered.
    SynSent,
    /// Answered, and not accepted.
    SynReceived,
    /// Our side is done, and its FIN is not acknowledged.
    FinWait1,
    /// Our side is done, and all of it was acknowledged.
    FinWait2,
    /// Both sides are done, and all of ours was acknowledged.
    TimeWait,
    /// Over.
    Closed,
    /// The other side is done; ours may write.
    CloseWait,
    /// The other side was done first; our FIN is not acknowledged.
    LastAck,
    /// Waits for connections.
    Listen,
    /// Both sides are done, and our FIN is not acknowledged.
    Closing,
}

impl SocketState {
    /// Reads the kernel's number (`include/net/tcp_states.h`).
    pub(super) fn parse(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Established,
            2 => Self::SynSent,
            3 | 12 => Self::SynReceived,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Closed,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            _ => return None,
        })
    }

    /// Returns whether our FIN stands behind what was written, and is not acknowledged.
    pub(super) fn has_its_fin_queued(self) -> bool {
        matches!(self, Self::FinWait1 | Self::Closing | Self::LastAck)
    }

    /// Returns whether our FIN was acknowledged, and with it all that we wrote.
    pub fn has_its_fin_acknowledged(self) -> bool {
        matches!(self, Self::FinWait2 | Self::TimeWait)
    }
}

/// What was seen of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// In which state it was.
    pub state: SocketState,
    /// How many bytes of the stream the other side's kernel acknowledged since the connection began; no FIN among them. Who asked for
    /// the connection has one more, for the handshake; who accepted it, as nginx, has not. Nothing where there are no counters.
    pub bytes_acked: u64,
    /// How many bytes were written and not acknowledged; no FIN among them.
    pub unacked: u64,
    /// The socket's inode, as `/proc/PID/fd` has it; 0 when no process has it any more.
    pub inode: u64,
    /// Which connection it is: another with the same addresses has another.
    pub cookie: Cookie,
    has_counters: bool,
}

impl Sighting {
    /// Reads what the kernel told of a connection in this state.
    pub(super) fn read(told: &Told, state: SocketState) -> io::Result<Self> {
        let has_counters = told.counters.is_some();
        if !has_counters && !state.has_its_fin_acknowledged() && state != SocketState::SynReceived {
            return Err(io::Error::new(ErrorKind::Unsupported, "this kernel does not count acknowledged bytes (Linux 4.1 does)"));
        }
        let acked = told.counters.map_or(0, |counters| counters.bytes_acked);
        Ok(Self {
            state,
            // The kernel counts a FIN as a byte, first among those that wait and then among those that arrived.
            bytes_acked: acked.saturating_sub(u64::from(state.has_its_fin_acknowledged() || state == SocketState::Closed)),
            unacked: u64::from(told.queue.saturating_sub(u32::from(state.has_its_fin_queued()))),
            inode: u64::from(told.inode),
            cookie: Cookie(told.cookie),
            has_counters,
        })
    }

    /// Returns whether the counters tell anything. A connection that both sides ended has none, nor one that its process closed and
    /// whose bytes and FIN were all acknowledged: both are drained.
    pub fn has_counters(&self) -> bool {
        self.has_counters
    }

    /// Returns how many bytes of the stream were written: where the next one stands. Exact where [`Sockets::look_steadily`](super::Sockets::look_steadily) saw it;
    /// else it may be ahead by what was acknowledged during the look. Nothing where there are no counters.
    pub fn written(&self) -> u64 {
        self.bytes_acked + self.unacked
    }

    /// Returns whether the other side's kernel acknowledged all that was written.
    pub fn is_drained(&self) -> bool {
        self.state.has_its_fin_acknowledged() || self.unacked == 0
    }
}

/// Looks until two looks in a row saw as much acknowledged, or gives the look that saw the least.
pub(super) fn steady(mut look: impl FnMut() -> io::Result<Option<Sighting>>) -> io::Result<Option<Sighting>> {
    let Some(mut least) = look()? else { return Ok(None) };
    let mut before = least;
    for _ in 1..STEADY_LOOKS {
        let Some(seen) = look()? else { return Ok(None) };
        if (seen.state, seen.bytes_acked, seen.cookie) == (before.state, before.bytes_acked, before.cookie) {
            return Ok(Some(seen));
        }
        if seen.cookie != least.cookie || seen.written() <= least.written() {
            least = seen;
        }
        before = seen;
    }
    Ok(Some(least))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(state: SocketState, bytes_acked: u64, unacked: u64, cookie: u64) -> Sighting {
        Sighting { state, bytes_acked, unacked, inode: 0, cookie: Cookie(cookie), has_counters: true }
    }

    /// Returns what is made of these looks, and how many of them were taken.
    fn steady_of(looks: &[Option<Sighting>]) -> (Option<Sighting>, usize) {
        let mut taken = looks.iter();
        let seen = steady(|| Ok(*taken.next().expect("no more looks than there may be"))).unwrap();
        (seen, looks.len() - taken.len())
    }

    #[test]
    fn a_look_during_which_bytes_were_acknowledged_is_not_believed() {
        let established = |acked, unacked| Some(sighting(SocketState::Established, acked, unacked, 1));
        // 1000 are written. In the first look 300 of them were acknowledged between the counters, in the second another 200.
        let looks = [established(300, 1000), established(500, 700), established(500, 500), None];
        assert_eq!(steady_of(&looks), (looks[2], 3));
        // All the time something is acknowledged: the least that was seen is nearest.
        let restless = [310, 220, 100, 140, 110, 120, 130, 105].into_iter().enumerate();
        let looks: Vec<_> = restless.map(|(n, ahead)| established(n as u64 * 100, 1000 - n as u64 * 100 + ahead)).collect();
        assert_eq!(steady_of(&looks), (looks[2], STEADY_LOOKS));
    }

    #[test]
    fn what_is_gone_changes_or_is_another_meanwhile_is_told_as_it_was_last() {
        let first = Some(sighting(SocketState::Established, 500, 0, 1));
        assert_eq!(steady_of(&[None]), (None, 1));
        assert_eq!(steady_of(&[first, None]), (None, 2));
        let closed = Some(sighting(SocketState::FinWait1, 500, 0, 1));
        assert_eq!(steady_of(&[first, closed, closed]), (closed, 3));
        let another = |acked| Some(sighting(SocketState::Established, acked, 9000, 2));
        let looks: Vec<_> = [first, another(500), another(501)].into_iter().chain((502..507).map(another)).collect();
        assert_eq!(steady_of(&looks), (looks[1], STEADY_LOOKS));
    }

    #[test]
    fn each_state_has_its_own_way_with_the_fin() {
        let info = [0u8; 120].into_iter().chain(1001u64.to_ne_bytes()).collect::<Vec<_>>();
        let counters = crate::sys::TcpInfo::parse(&info);
        let address = "127.0.0.1:1".parse().unwrap();
        let sight = |number: u8, queue: u32, counters| {
            let told = Told { local: address, peer: address, state: number, queue, inode: 0, cookie: 0, counters };
            Sighting::read(&told, SocketState::parse(number).unwrap())
        };
        let told = |number: u8, queue: u32| {
            let seen = sight(number, queue, counters).unwrap();
            (seen.bytes_acked, seen.unacked, seen.is_drained())
        };
        // Established, CLOSE-WAIT: no FIN was written.
        assert_eq!([1, 8].map(|state| (told(state, 0), told(state, 1))), [((1001, 0, true), (1001, 1, false)); 2]);
        // FIN-WAIT-1, LAST-ACK, CLOSING: the last byte of the queue is the FIN.
        let queued = [4, 9, 11].map(|state| (told(state, 1), told(state, 2)));
        assert_eq!(queued, [((1001, 0, true), (1001, 1, false)); 3]);
        // FIN-WAIT-2, TIME-WAIT: it was acknowledged.
        assert_eq!([5, 6].map(|state| told(state, 0)), [(1000, 0, true); 2]);
        // What has no counters though it should is an error and no zero.
        let without: Vec<u8> = (1..=12).filter(|state| sight(*state, 0, None).is_ok()).collect();
        assert_eq!(without, [3, 5, 6, 12]);
        assert_eq!(sight(1, 0, None).unwrap_err().kind(), ErrorKind::Unsupported);
        assert!((13..=u8::MAX).chain([0]).all(|number| SocketState::parse(number).is_none()));
    }
}
