//! A share that is closed elsewhere while a controller sends it that is cut off, for a while or for longer than it may go on so.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::house::{FILES, House, LONG_FILE};
use crate::harness::{BROWSER, Client, Offer, poll};

/// How long a controller goes on sending while it cannot reach Redis (`store::shared::MAX_BLIND`), and how much later others may be
/// sure that it has stopped, with some seconds to find that out.
const CERTAINLY_CUT: Duration = Duration::from_secs(300 + 15 + 30);
/// How long after the cut its share is closed elsewhere: its watcher has been replaced by then.
const REPLACED: Duration = Duration::from_secs(10);
/// A reader of some kilobytes a second is not done by then.
const READ_BYTES: usize = 8 * 1024;
const READ_EVERY: Duration = Duration::from_secs(1);
/// What a reader's own kernel may hold: more is not taken ahead of so slow a reader.
const KERNEL_HOLDS: usize = 64 * 1024;

/// What the reader has.
#[derive(Default)]
struct Got {
    bytes: usize,
    has_ended: bool,
}

/// Lets the reader leave when the test is over, also where it has failed.
struct Leaves<'a>(&'a AtomicBool);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Closes what a controller sends that is cut off: until `cut_for` is over, or until everybody may be sure that it has stopped by itself.
pub(super) fn close_what_one_sends_that_is_cut_off(house: &House, cut_for: Duration) {
    let body = json!({ "path": FILES[LONG_FILE].0 });
    let made = house.api(0, "POST", "/api/v1/shares", &[], Some(&body)).expect("it answers").expect_status(201);
    let offer = Offer::from_json(&made.json());
    let path = format!("/api/v1/shares/{}", offer.id);
    let transfer = house.visit(0, "POST", &offer.redeem_path(), &[BROWSER]).expect("it answers").expect_status(303).location();
    let show = |n: usize| -> Value { house.api(n, "GET", &path, &[], None).expect("it answers").expect_status(200).json() };
    let got = Mutex::new(Got::default());
    let at = |got: &Mutex<Got>| got.lock().expect("nobody panicked").bytes;
    let has_left = AtomicBool::new(false);
    let (got, transfer, left) = (&got, &transfer, &has_left);
    std::thread::scope(|scope| {
        let _leaves = Leaves(left);
        let mut client = Client::connect_with_small_buffer(house.recipient(0), 16 * 1024);
        scope.spawn(move || {
            client.ask("GET", transfer, &[BROWSER]);
            client.answer_head().expect("an answer").expect_status(200);
            while !left.load(Ordering::SeqCst) {
                let some = client.read_some(READ_BYTES);
                let mut got = got.lock().expect("nobody panicked");
                got.bytes += some.len();
                got.has_ended = some.is_empty();
                if got.has_ended {
                    return;
                }
                drop(got);
                std::thread::sleep(READ_EVERY);
            }
        });
        poll(REPLACED, "the download runs", || at(got) > 0);
        let begun = Instant::now();
        house.cut(0, true);
        std::thread::sleep(REPLACED);
        house.api(1, "DELETE", &path, &[], None).expect("it answers").expect_status(200);
        let (before, mut is_cut) = (at(got), true);
        while show(2)["state"] != "closed" {
            if is_cut && begun.elapsed() > cut_for {
                house.cut(0, false);
                is_cut = false;
            }
            assert!(begun.elapsed() < CERTAINLY_CUT, "it is never called closed: {:#}", show(2));
            std::thread::sleep(Duration::from_millis(100));
        }
        let (when_closed, took) = (at(got), begun.elapsed());
        std::thread::sleep(5 * READ_EVERY);
        eprintln!(
            "closed {took:?} after the cut, {} bytes behind the close, {} behind \"closed\"",
            when_closed - before,
            at(got) - when_closed
        );
        assert!(when_closed > before, "it was called closed while it was being sent by one that nobody could tell");
        poll(Duration::from_secs(60), "what the reader's kernel holds comes to an end", || got.lock().expect("nobody panicked").has_ended);
        assert!(at(got) - when_closed <= KERNEL_HOLDS, "bytes came after it was called closed");
        if is_cut {
            house.cut(0, false);
        }
        poll(Duration::from_secs(20), "whoever was cut off hears of it", || show(0)["state"] == "closed");
    });
}
