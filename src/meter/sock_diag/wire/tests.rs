use super::*;

const OURS: u32 = 7;
/// Where `tcpi_bytes_acked` stands in the attribute, as linux/tcp.h has it.
const ACKED_AT: usize = 120;

fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(16 + body.len() as u32).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&4711u32.to_ne_bytes());
    bytes.extend_from_slice(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(4 + content.len() as u16).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Returns a `struct tcp_info` of Linux 6.18.
fn counters(state: u8, acked: u64) -> Vec<u8> {
    let mut info = vec![0; 280];
    info[0] = state;
    info[ACKED_AT..ACKED_AT + 8].copy_from_slice(&acked.to_ne_bytes());
    info
}

/// Returns a `struct inet_diag_msg` of a connection from 10.0.0.1:8001 to 192.0.2.9:51234.
fn connection(state: u8, queue: u32) -> Vec<u8> {
    let mut body = vec![AF_INET, state, 0, 0];
    body.extend_from_slice(&8001u16.to_be_bytes());
    body.extend_from_slice(&51_234u16.to_be_bytes());
    body.extend_from_slice(&[10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    body.extend_from_slice(&[192, 0, 2, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    // The network's index, the cookie's halves, when it expires, what waits to be read, what waits to be acknowledged, whose, inode.
    for number in [3, 0x1111, 0x2222, 0, 99, queue, 1000, 27_836_424] {
        body.extend_from_slice(&u32::to_ne_bytes(number));
    }
    assert_eq!(body.len(), SOCKET_BYTES);
    body
}

fn whole(state: u8, queue: u32, acked: u64) -> Vec<u8> {
    // As the kernel does: the shutdown's bits, a cgroup and others around the counters.
    [connection(state, queue), attribute(8, &[0]), attribute(21, &[1; 8]), attribute(INFO, &counters(state, acked)), attribute(22, &[0; 2])]
        .concat()
}

fn told(counters: Option<TcpInfo>) -> Told {
    Told {
        local: "10.0.0.1:8001".parse().unwrap(),
        peer: "192.0.2.9:51234".parse().unwrap(),
        state: 1,
        queue: 1_968_925,
        inode: 27_836_424,
        cookie: 0x2222_0000_1111,
        counters,
    }
}

#[test]
fn a_connection_is_read_field_by_field() {
    let info = TcpInfo::parse(&counters(1, 128_512));
    assert_eq!(info.map(|info| info.bytes_acked), Some(128_512));
    let answer = read(&message(BY_FAMILY, 0, OURS, &whole(1, 1_968_925, 128_512)), OURS);
    assert_eq!(answer, Ok(Answer::Socket(told(info))));
}

#[test]
fn a_connection_without_counters_is_read_as_one_without() {
    for attributes in [Vec::new(), attribute(15, &[0; 4]), attribute(INFO, &counters(1, 5)[..127])] {
        let body = [connection(1, 1_968_925), attributes].concat();
        assert_eq!(read(&message(BY_FAMILY, 0, OURS, &body), OURS), Ok(Answer::Socket(told(None))));
    }
}

#[test]
fn addresses_of_both_families_and_of_sockets_for_both_are_read() {
    for (ip, expected) in [("2001:db8::5", "[2001:db8::5]:8001"), ("::ffff:10.0.0.1", "10.0.0.1:8001"), ("::1", "[::1]:8001")] {
        let mut body = whole(1, 0, 0);
        body[0] = AF_INET6;
        body[8..24].copy_from_slice(&ip.parse::<Ipv6Addr>().unwrap().octets());
        let Ok(Answer::Socket(told)) = read(&message(BY_FAMILY, 0, OURS, &body), OURS) else { panic!("{ip}") };
        assert_eq!(told.local, expected.parse().unwrap());
    }
    let mut body = whole(1, 0, 0);
    body[0] = 1;
    assert_eq!(read(&message(BY_FAMILY, 0, OURS, &body), OURS), Err(Unreadable::Family(1)));
}

#[test]
fn an_answer_that_is_cut_anywhere_is_none() {
    let answer = message(BY_FAMILY, 0, OURS, &whole(1, 5, 6));
    // The last two bytes fill up.
    for length in 1..answer.len() - 2 {
        assert_eq!(read(&answer[..length], OURS), Err(Unreadable::Short), "{length} bytes");
    }
    assert_eq!(read(&[], OURS), Ok(Answer::Other));
    for short in 0..SOCKET_BYTES {
        let answer = message(BY_FAMILY, 0, OURS, &connection(1, 0)[..short]);
        assert_eq!(read(&answer, OURS), Err(Unreadable::Short), "{short} bytes of a socket");
    }
    for kind in [OUTCOME, DONE] {
        assert_eq!(read(&message(kind, 0, OURS, &[0; 3]), OURS), Err(Unreadable::Short));
    }
}

#[test]
fn a_message_whose_length_is_a_lie_is_none() {
    for length in [0, 1, 15, 5000, u32::MAX] {
        let mut answer = message(BY_FAMILY, 0, OURS, &whole(1, 5, 6));
        answer[..4].copy_from_slice(&length.to_ne_bytes());
        assert_eq!(read(&answer, OURS), Err(Unreadable::Short), "a message of {length}");
    }
    for length in [0u16, 3, 400, u16::MAX] {
        let mut body = whole(1, 5, 6);
        body[SOCKET_BYTES..SOCKET_BYTES + 2].copy_from_slice(&length.to_ne_bytes());
        assert_eq!(read(&message(BY_FAMILY, 0, OURS, &body), OURS), Err(Unreadable::Short), "an attribute of {length}");
    }
}

#[test]
fn errors_ends_and_what_was_done_are_told_apart() {
    let no_such_socket = [(-2i32).to_ne_bytes().to_vec(), vec![0; HEADER_BYTES + QUESTION_BYTES]].concat();
    assert_eq!(read(&message(OUTCOME, 0, OURS, &no_such_socket), OURS), Ok(Answer::Outcome(2)));
    assert_eq!(read(&message(OUTCOME, 0, OURS, &0i32.to_ne_bytes()), OURS), Ok(Answer::Outcome(0)));
    assert_eq!(read(&message(DONE, 2, OURS, &0i32.to_ne_bytes()), OURS), Ok(Answer::End(0)));
    assert_eq!(read(&message(DONE, 2, OURS, &(-2i32).to_ne_bytes()), OURS), Ok(Answer::End(2)));
    assert_eq!(read(&message(OUTCOME, 0, OURS, &i32::MIN.to_ne_bytes()), OURS), Ok(Answer::Outcome(i32::MAX)));
    // `NLMSG_OVERRUN`, and what routing tells.
    for kind in [4, 16] {
        assert_eq!(read(&message(kind, 0, OURS, &whole(1, 0, 0)), OURS), Err(Unreadable::Kind(kind)));
    }
}

#[test]
fn what_was_interrupted_is_not_believed() {
    assert_eq!(read(&message(BY_FAMILY, INTERRUPTED | 2, OURS, &whole(1, 0, 0)), OURS), Err(Unreadable::Interrupted));
    assert_eq!(read(&message(DONE, INTERRUPTED | 2, OURS, &0i32.to_ne_bytes()), OURS), Err(Unreadable::Interrupted));
}

#[test]
fn answers_to_other_questions_are_passed_over() {
    let others = message(BY_FAMILY, 0, OURS - 1, &whole(1, 1, 1));
    assert_eq!(read(&others, OURS), Ok(Answer::Other));
    assert_eq!(read(&message(OUTCOME, 0, OURS + 1, &[0; 4]), OURS), Ok(Answer::Other));
    let padding = message(NOOP, 0, OURS, &[]);
    // A message of another's that is no multiple of four bytes long, and is filled up.
    let odd = message(OUTCOME, 0, OURS + 1, &[0; 5]);
    let both = [others, odd, padding, message(OUTCOME, 0, OURS, &0i32.to_ne_bytes())].concat();
    assert_eq!(read(&both, OURS), Ok(Answer::Outcome(0)));
}

#[test]
#[cfg(target_endian = "little")]
fn questions_are_written_as_the_kernel_reads_them() {
    let pair = Pair::new("10.0.0.1:8001".parse().unwrap(), "192.0.2.9:51234".parse().unwrap()).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    // The head; family, protocol and attributes; states; ports; addresses; network; cookie. Written by Python's `struct`.
    assert_eq!(
        hex(&request(Wish::Look, 7, &pair, ANY_COOKIE)),
        "48000000140001000700000000000000\
         02060200ffffffff1f41c8220a000001000000000000000000000000c000020900000000000000000000000000000000ffffffffffffffff"
    );
    assert_eq!(
        hex(&request(Wish::Destroy, 8, &pair, 0x0000_2222_0000_1111)),
        "48000000150005000800000000000000\
         02060200ffffffff1f41c8220a000001000000000000000000000000c0000209000000000000000000000000000000001111000022220000"
    );
    let link_local = Pair::new("[fe80::1%3]:80".parse().unwrap(), "[fe80::2%3]:90".parse().unwrap()).unwrap();
    assert_eq!(
        hex(&request(Wish::Nothing, 9, &link_local, ANY_COOKIE)),
        "48000000140001030900000000000000\
         0a060200000000000050005afe800000000000000000000000000001fe80000000000000000000000000000203000000ffffffffffffffff"
    );
}

#[test]
fn a_pair_is_of_one_family_however_it_is_written() {
    let pair = |local: &str, peer: &str| Pair::new(local.parse().unwrap(), peer.parse().unwrap());
    let plain = pair("127.0.0.1:80", "127.0.0.1:9").unwrap();
    for (local, peer) in [("[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:9"), ("127.0.0.1:80", "[::ffff:127.0.0.1]:9")] {
        assert_eq!(pair(local, peer), Some(plain));
    }
    assert_eq!(pair("127.0.0.1:80", "[::1]:9"), None);
    assert_eq!(Pair::of_listener("[::ffff:0.0.0.0]:80".parse().unwrap()).peer, "0.0.0.0:0".parse().unwrap());
    assert_eq!(Pair::of_listener("[::]:80".parse().unwrap()).peer, "[::]:0".parse().unwrap());
}
