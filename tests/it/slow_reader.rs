//! What a slow reader has not read does not count as delivered.

use std::time::{Duration, Instant};

use crate::harness::{Client, Setup, put};

const MIB: usize = 1024 * 1024;
/// What the kernels may hold on the way beyond what the reader took: its own small receive buffer, and slack for it.
const MOST_AHEAD_BYTES: u64 = 128 * 1024;
/// 5 kB each tenth of a second are 50 kB/s.
const BITE_BYTES: usize = 5_000;
const BITE_EVERY: Duration = Duration::from_millis(100);

#[test]
fn a_reader_of_50_kb_a_second_who_leaves_is_not_said_to_have_more_than_they_read() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 64 * MIB);
    let offer = server.share("film.mkv");
    let transfer = server.redeem(&offer);

    let mut client = Client::connect_with_small_buffer(server.recipient, 16 * 1024);
    client.ask("GET", &transfer, &[]);
    let head = client.answer_head().expect("an answer");
    assert_eq!(head.status, 200);
    let (mut read, started) = (0u64, Instant::now());
    while started.elapsed() < Duration::from_secs(4) {
        read += client.read_some(BITE_BYTES).len() as u64;
        let told = delivered(&server.show(&offer.id));
        assert!(told <= read + MOST_AHEAD_BYTES, "{read} bytes were read and {told} are said to be delivered");
        std::thread::sleep(BITE_EVERY);
    }
    assert!(read > 50_000, "the reader got going: {read}");
    server.wait_for(&offer.id, "what was read is counted", |share| delivered(share) + MOST_AHEAD_BYTES >= read && delivered(share) > 0);
    client.reset();

    let share = server.wait_for(&offer.id, "the end of the request is seen", |share| share["state"] == "waiting");
    assert!(delivered(&share) <= read + MOST_AHEAD_BYTES, "{read} bytes were read: {share:#}");
    assert!(share["progress"]["percent"].as_u64().unwrap() < 5, "{share:#}");
    assert_eq!(share["outcome"], serde_json::Value::Null);
    assert_ne!(share["state"], "delivered");
}

#[test]
fn progress_never_falls_while_the_same_bytes_are_fetched_again() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 4 * MIB);
    let offer = server.share("film.mkv");
    let transfer = server.redeem(&offer);
    let half = format!("Range: bytes=0-{}", 2 * MIB - 1);
    let mut last = 0;
    for _ in 0..3 {
        let answer = server.fetch("GET", &transfer, &[&half]).expect("an answer").expect_status(206);
        assert_eq!(answer.body.len(), 2 * MIB);
        let share = server.wait_for(&offer.id, "the half is counted", |share| delivered(share) >= 2 * MIB as u64);
        assert!(delivered(&share) >= last);
        last = delivered(&share);
    }
    let share = server.show(&offer.id);
    assert_eq!((delivered(&share), share["progress"]["percent"].as_u64()), (2 * MIB as u64, Some(50)), "the same half twice is a half");
    assert_ne!(share["state"], "delivered");
    let rest = format!("Range: bytes={}-", 2 * MIB);
    server.fetch("GET", &transfer, &[&rest]).expect("an answer").expect_status(206);
    server.wait_for(&offer.id, "both halves make the whole", |share| share["state"] == "delivered");
}

#[test]
fn what_went_over_a_connection_before_does_not_count_for_the_next_part() {
    const PART: usize = 20 * MIB;
    let server = Setup::new().start();
    put(&server, "film.mkv", 3 * PART);
    let offer = server.share("film.mkv");
    let transfer = server.redeem(&offer);
    let mut client = Client::connect_with_small_buffer(server.recipient, 16 * 1024);
    let first = format!("Range: bytes=0-{}", PART - 1);
    assert_eq!(client.request("GET", &transfer, &[&first]).expect("an answer").expect_status(206).body.len(), PART);
    // Of the next part the reader takes a little, and no more than that counts.
    client.ask("GET", &transfer, &[&format!("Range: bytes={PART}-")]);
    client.answer_head().expect("an answer").expect_status(206);
    let mut read = PART as u64;
    while read < (PART + MIB) as u64 {
        read += client.read_some(64 * 1024).len() as u64;
    }
    let share = server.wait_for(&offer.id, "some of the next part is counted", |share| delivered(share) > PART as u64);
    assert!(delivered(&share) <= read + MOST_AHEAD_BYTES, "{read} bytes were read: {share:#}");
}

fn delivered(share: &serde_json::Value) -> u64 {
    share["progress"]["delivered_bytes"].as_u64().unwrap_or_else(|| panic!("no progress: {share}"))
}
