//! What whoever speaks HTTP/2 sends: the frames among which the answers to our PINGs are looked for.

use std::time::Duration;

use super::PingMeter;

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
