use proptest::prelude::*;

use super::*;

/// Time matters to the window alone, which has tests of its own.
const NOW: Duration = Duration::from_secs(1);
const FIRST: u64 = 0x1122_3344_5566_7788;

thread_local! {
    /// What the next PING of the test's thread carries: in a test they count up, so that each can be told.
    static NEXT: std::cell::Cell<u64> = const { std::cell::Cell::new(FIRST) };
}

fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(content);
    frame
}

fn data(stream: u32, bytes: usize) -> Vec<u8> {
    frame(DATA, 0, stream, &vec![7; bytes])
}

fn answer_to(ping: &[u8]) -> Vec<u8> {
    frame(PING, ACK, 0, &ping[HEADER_BYTES..])
}

fn begun() -> PingMeter {
    NEXT.set(FIRST);
    let mut meter = PingMeter::new(|| NEXT.replace(NEXT.get() + 1));
    assert!(!meter.come(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &mut Vec::new(), NOW));
    // The first body's head is asked after, to know how long that takes.
    meter.watch(99, 1);
    let asked = pings(&send(&mut meter, &frame(HEADERS, END_HEADERS, 99, b"x"), 99));
    assert_eq!(asked.len(), 1);
    assert!(meter.come(&frame(PING, ACK, 0, &asked[0]), &mut Vec::new(), NOW + Duration::from_millis(1)));
    meter.forget(99);
    meter
}

/// Lets bytes leave in pieces, as an adapter does, and returns what really leaves: with the PINGs between.
fn send(meter: &mut PingMeter, bytes: &[u8], piece: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for mut piece in bytes.chunks(piece) {
        while !piece.is_empty() {
            let n = meter.leave(piece);
            out.extend_from_slice(&piece[..n]);
            piece = &piece[n..];
            out.extend(meter.ping_if_due(NOW).into_iter().flatten());
        }
    }
    out
}

fn frames(mut bytes: &[u8]) -> Vec<(u8, u8, u32, Vec<u8>)> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let header = Frame::parse(bytes[..HEADER_BYTES].try_into().unwrap());
        let end = HEADER_BYTES + header.length as usize;
        frames.push((header.kind, header.flags, header.stream, bytes[HEADER_BYTES..end].to_vec()));
        bytes = &bytes[end..];
    }
    frames
}

fn pings(bytes: &[u8]) -> Vec<Vec<u8>> {
    frames(bytes).into_iter().filter(|(kind, flags, ..)| *kind == PING && flags & ACK == 0).map(|(.., content)| content).collect()
}

#[test]
fn what_stood_before_an_answered_ping_is_confirmed_and_nothing_behind_it() {
    let mut meter = begun();
    meter.watch(1, 1 << 20);
    let mut out = send(&mut meter, &frame(HEADERS, END_HEADERS, 1, b"x"), 1);
    out.extend(send(&mut meter, &[data(1, 40_000), data(1, 30_000), data(1, 20_000)].concat(), 10_000));
    let asked = pings(&out);
    assert_eq!(asked.len(), 1, "behind 64 KiB or more");
    assert_eq!((meter.left(1), meter.confirmed(1), meter.unconfirmed_bytes()), (90_000, None, 90_000));
    let mut others = Vec::new();
    assert!(meter.come(&frame(PING, ACK, 0, &asked[0]), &mut others, NOW));
    assert_eq!((meter.confirmed(1), meter.unconfirmed_bytes()), (Some(70_000), 20_000));
    assert_eq!(others, b"", "whoever speaks HTTP/2 never sent it");
    let last = meter.ping_now(NOW).expect("20 000 bytes are not asked after");
    assert_eq!(meter.ping_now(NOW), None, "once");
    assert!(meter.come(&answer_to(&last), &mut others, NOW));
    assert_eq!((meter.confirmed(1), meter.unconfirmed_bytes()), (Some(90_000), 0));
}

#[test]
fn a_body_is_asked_after_at_its_end_and_one_without_bytes_behind_its_head() {
    let mut meter = begun();
    meter.watch(1, 100);
    meter.watch(3, 0);
    assert_eq!(pings(&send(&mut meter, &frame(HEADERS, END_HEADERS, 1, b"x"), 99)).len(), 0);
    assert_eq!(pings(&send(&mut meter, &data(1, 60), 99)).len(), 0);
    let first = pings(&send(&mut meter, &data(1, 40), 99));
    assert_eq!(first.len(), 1);
    let second = pings(&send(&mut meter, &frame(HEADERS, END_HEADERS, 3, b"x"), 99));
    assert_eq!(second.len(), 1);
    // The end of a stream is no news.
    assert_eq!(pings(&send(&mut meter, &frame(DATA, 1, 1, b""), 99)).len(), 0);
    assert!(meter.come(&frame(PING, ACK, 0, &first[0]), &mut Vec::new(), NOW));
    assert_eq!((meter.confirmed(1), meter.confirmed(3)), (Some(100), None));
    assert!(meter.come(&frame(PING, ACK, 0, &second[0]), &mut Vec::new(), NOW));
    assert_eq!(meter.confirmed(3), Some(0));
}

#[test]
fn no_ping_stands_inside_a_frame_or_a_head() {
    let mut meter = begun();
    meter.watch(1, 1 << 20);
    meter.watch(3, 0);
    meter.leave(&data(1, 100));
    let head = [frame(HEADERS, 0, 3, b"x"), frame(CONTINUATION, 0, 3, b"y"), frame(CONTINUATION, END_HEADERS, 3, b"z")].concat();
    for byte in &head[..head.len() - 1] {
        assert_eq!(meter.leave(&[*byte]), 1);
        assert_eq!(meter.ping_now(NOW), None);
    }
    meter.leave(&head[head.len() - 1..]);
    assert!(meter.ping_if_due(NOW).is_some(), "the head of an empty body has left");
}

#[test]
fn only_what_was_asked_is_an_answer() {
    let mut meter = begun();
    meter.watch(1, 100);
    let asked = pings(&send(&mut meter, &[frame(HEADERS, END_HEADERS, 1, b"x"), data(1, 100)].concat(), 4096));
    let (mine, mut others) = (&asked[0], Vec::new());
    let foreign = [
        frame(PING, ACK, 0, &[0; 8]),
        frame(PING, 0, 0, mine),
        frame(PING, ACK, 1, mine),
        frame(PING, ACK, 0, &[mine.as_slice(), b"x"].concat()),
        frame(PING, ACK, 0, &mine[..7]),
        frame(DATA, ACK, 0, mine),
    ]
    .concat();
    assert!(!meter.come(&foreign, &mut others, NOW));
    assert_eq!((meter.confirmed(1), others), (None, foreign));
    // Guessing the next one tells nothing either: it was not sent.
    let next = (u64::from_be_bytes(mine[..].try_into().unwrap()) + 1).to_be_bytes();
    assert!(!meter.come(&frame(PING, ACK, 0, &next), &mut Vec::new(), NOW));
    assert!(meter.come(&frame(PING, ACK, 0, mine), &mut Vec::new(), NOW));
    assert!(!meter.come(&frame(PING, ACK, 0, mine), &mut Vec::new(), NOW), "each is answered once");
}

#[test]
fn whoever_answers_nothing_is_not_asked_for_ever() {
    let mut meter = begun();
    meter.watch(1, u64::MAX);
    let out = send(&mut meter, &data(1, 70_000).repeat(100), 1 << 20);
    assert_eq!(pings(&out).len(), MAX_PINGS);
    assert_eq!(meter.unconfirmed_bytes(), 7_000_000);
}

#[test]
fn there_is_room_for_what_is_neither_unconfirmed_nor_on_its_way_to_leave() {
    let mut meter = begun();
    let all = meter.room();
    meter.watch(1, 1 << 20);
    meter.hand(1, 70_000);
    assert_eq!(meter.room(), all - 70_000);
    let asked = pings(&send(&mut meter, &[frame(HEADERS, END_HEADERS, 1, b"x"), data(1, 70_000)].concat(), 4096));
    assert_eq!(meter.room(), all - 70_000, "it left");
    meter.come(&frame(PING, ACK, 0, &asked[0]), &mut Vec::new(), NOW + Duration::from_millis(500));
    assert_eq!(meter.room(), all, "it is confirmed, and its recipient slow");
}

#[test]
fn what_was_handed_over_and_has_not_left_is_ahead() {
    let mut meter = begun();
    meter.watch(1, 1000);
    meter.watch(3, 1000);
    meter.hand(1, 500);
    meter.hand(3, 300);
    assert_eq!(meter.ahead_bytes(), 800);
    meter.leave(&[frame(HEADERS, END_HEADERS, 1, b"x"), data(1, 200)].concat());
    assert_eq!(meter.ahead_bytes(), 600);
    meter.forget(3);
    assert_eq!(meter.ahead_bytes(), 300);
}

proptest! {
    /// The other side reads some of what left, in order, and answers the PINGs in it: never is more confirmed than it has read.
    #[test]
    fn never_is_more_confirmed_than_was_read(
        steps in proptest::collection::vec((0..4_u32, 0..40_000_usize, 1..9_000_usize, 0..60_000_usize, 1..40_usize), 1..40)
    ) {
        let mut meter = begun();
        (0..4).for_each(|n| meter.watch(2 * n + 1, 100_000));
        let (mut wire, mut read_to, mut read) = (Vec::new(), 0, [0_u64; 4]);
        for (n, bytes, piece, reads, back) in steps {
            wire.extend(send(&mut meter, &data(2 * n + 1, bytes), piece));
            wire.extend(meter.ping_now(NOW).into_iter().flatten());
            let whole = frames(&wire[read_to..]);
            let mut answers = frame(8, 0, 0, &[0, 0, 1, 0]);
            let mut room = reads;
            for (kind, _, stream, content) in whole {
                let length = HEADER_BYTES + content.len();
                if length > room {
                    break;
                }
                (room, read_to) = (room - length, read_to + length);
                match kind {
                    DATA => read[(stream / 2) as usize] += content.len() as u64,
                    _ => answers.extend(frame(PING, ACK, 0, &content)),
                }
            }
            let mut others = Vec::new();
            for chunk in answers.chunks(back) {
                meter.come(chunk, &mut others, NOW);
            }
            prop_assert_eq!(others, frame(8, 0, 0, &[0, 0, 1, 0]), "what is no answer passes unchanged");
            for n in 0..4 {
                prop_assert!(meter.confirmed(2 * n + 1).unwrap_or(0) <= read[n as usize]);
            }
        }
        // When all is read and answered all is confirmed.
        wire.extend(meter.ping_now(NOW).into_iter().flatten());
        for (kind, _, stream, content) in frames(&wire[read_to..]) {
            match kind {
                DATA => read[(stream / 2) as usize] += content.len() as u64,
                _ => {
                    meter.come(&frame(PING, ACK, 0, &content), &mut Vec::new(), NOW);
                }
            }
        }
        prop_assert_eq!(meter.unconfirmed_bytes(), 0);
        for n in 0..4 {
            prop_assert_eq!(meter.confirmed(2 * n + 1).unwrap_or(0), read[n as usize]);
        }
    }

    #[test]
    fn no_bytes_make_it_panic_and_none_are_lost(bytes in proptest::collection::vec(any::<u8>(), 0..2000), piece in 1..50_usize) {
        let mut meter = begun();
        let mut others = Vec::new();
        for chunk in bytes.chunks(piece) {
            meter.come(chunk, &mut others, NOW);
        }
        others.extend_from_slice(&meter.incoming.held);
        prop_assert_eq!(&others, &bytes);
        prop_assert_eq!(send(&mut meter, &bytes, piece).len(), bytes.len());
    }
}
