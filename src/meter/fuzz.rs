//! What whoever speaks HTTP/2 sends, among which the answers to our PINGs are looked for; and what a kernel tells of a socket.

use std::time::Duration;

use super::PingMeter;
use super::sock_diag::wire::{self, Answer, Told};

/// How a PING of ours begins: eight bytes of content, its kind, no flags, no stream.
const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0];

const NOW: Duration = Duration::from_secs(1);

/// Any bytes, as what comes and as what leaves: none of those is lost, twisted or confirmed, and what we put between them is PINGs.
pub(crate) fn http2_frames(data: &[u8]) {
    let Some((piece, data)) = data.split_first() else { return };
    let piece = usize::from(*piece) + 1;
    // What nobody guesses.
    let mut meter = PingMeter::new(|| 0x5EED_5EED_5EED_5EED);
    meter.watch(1, 100);
    meter.watch(3, 0);
    let mut left = Vec::new();
    let mut pings = 0;
    for mut bytes in data.chunks(piece) {
        while !bytes.is_empty() {
            let n = meter.leave(bytes);
            left.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if let Some(ping) = meter.ping_if_due(NOW) {
                assert!(ping.starts_with(PING), "{ping:?}");
                pings += 1;
            }
        }
    }
    assert_eq!(left, data, "what leaves is what was to leave");
    assert!(meter.unconfirmed_bytes() <= data.len() as u64 && pings <= data.len() / PING.len(), "there is no more than there is");
    let mut others = Vec::new();
    for bytes in data.chunks(piece) {
        assert!(!meter.come(bytes, &mut others, NOW), "nobody knows what our PINGs carry");
    }
    // The beginning of what may be an answer is held back until it is one or is none.
    assert!(data.starts_with(&others) && data.len() - others.len() < 17, "{} of {} bytes came", others.len(), data.len());
}

/// The number of the question that the corpus answers.
const QUESTION: u32 = 7;

/// Any bytes, as an answer of the kernel: what is read of it stands in it, and another question's answer is none.
pub(crate) fn socket_answer(data: &[u8]) {
    let answer = wire::read(data, QUESTION);
    if let Ok(Answer::Socket(told)) = &answer {
        assert!(stands_in(told, data), "{told:?}");
    }
    if matches!(answer, Ok(Answer::Outcome(_) | Answer::End(_) | Answer::Socket(_))) {
        let number = QUESTION.to_ne_bytes();
        assert!(data.chunks_exact(4).any(|four| four == number), "an answer without our number");
    }
    // What is asked for by another number is never told of ours.
    if !data.chunks_exact(4).any(|four| four == 8u32.to_ne_bytes()) {
        assert!(matches!(wire::read(data, QUESTION + 1), Ok(Answer::Other) | Err(wire::Unreadable::Short)));
    }
}

/// Returns whether some message of the bytes holds what was told, each field at its place: found by trying every place there is.
fn stands_in(told: &Told, data: &[u8]) -> bool {
    let holds = |message: &[u8]| {
        let number = |at: usize| u32::from_ne_bytes([message[at], message[at + 1], message[at + 2], message[at + 3]]);
        let ports = [told.local.port().to_be_bytes(), told.peer.port().to_be_bytes()].concat();
        let cookie = (u64::from(number(64)) << 32) + u64::from(number(60));
        (number(8), message[17], &message[20..24]) == (QUESTION, told.state, &ports)
            && (number(76), number(84), cookie) == (told.queue, told.inode, told.cookie)
            && told.counters.is_none_or(|counters| message.windows(8).skip(92).any(|eight| eight == counters.bytes_acked.to_ne_bytes()))
    };
    (0..data.len()).step_by(4).any(|at| data.len() - at >= 88 && holds(&data[at..]))
}
