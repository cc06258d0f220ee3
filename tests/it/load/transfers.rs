//! A thousand downloads at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{descriptors, factor, memory_kib};
use crate::harness::{Client, Server, Setup, put, sha256};

const DOWNLOADS: usize = 1_000;
/// Each transfer of a share is saved with all that the share keeps: a thousand of one share cost a thousand times a thousand.
const OF_ONE_LINK: usize = 100;
/// How long one of so many may be kept waiting on a busy machine.
const PATIENCE_OF_ALL: Duration = Duration::from_secs(120);
const FILE_BYTES: usize = 768 * 1024;
/// A small receive buffer: whoever waits at the barrier has far from everything.
const RECEIVE_BYTES: usize = 16 * 1024;
/// Threads of clients read into buffers on their stacks.
const STACK_BYTES: usize = 512 * 1024;
/// How much of its own memory the server may take for each connection that downloads. Measured: 8 to 14 KiB, mostly the
/// stacks of the threads that send, of which there are 256 at the most.
const MAX_KIB_EACH: u64 = 32;

#[test]
fn a_thousand_recipients_of_a_thousand_links_all_get_the_whole_file_at_once() {
    let server = Setup::new().set("MAX_CONNECTIONS", 4096).set("MAX_CONNECTIONS_PER_ADDRESS", 4096).start();
    let digest = sha256(&put(&server, "film.mkv", FILE_BYTES));
    let transfers: Vec<String> = (0..DOWNLOADS * factor()).map(|_| server.redeem(&server.share("film.mkv"))).collect();
    download_at_once(&server, &transfers, &digest);
}

#[test]
fn a_hundred_recipients_of_one_link_all_get_the_whole_file_at_once() {
    let server = Setup::new().set("MAX_CONNECTIONS", 4096).set("MAX_CONNECTIONS_PER_ADDRESS", 4096).start();
    let digest = sha256(&put(&server, "film.mkv", FILE_BYTES));
    let offer = server.share_with(&json!({ "path": "film.mkv", "policy": { "max_downloads": OF_ONE_LINK * factor() } }));
    let transfers: Vec<String> = (0..OF_ONE_LINK * factor()).map(|_| server.redeem(&offer)).collect();
    download_at_once(&server, &transfers, &digest);
    server.wait_for(&offer.id, "all of them are counted", |share| share["state"] == "delivered");
    assert_eq!(server.uses(&offer.id), transfers.len() as u64);
}

/// Downloads all of them; nobody goes on before everybody has the beginning.
fn download_at_once(server: &Server, transfers: &[String], digest: &str) {
    assert!(descriptors() > transfers.len() + 200, "this test needs {} descriptors (ulimit -Hn)", transfers.len() + 200);
    let (all_here, measured) = (Barrier::new(transfers.len() + 1), Barrier::new(transfers.len() + 1));
    let (before, _) = memory_kib(server);
    let began = Instant::now();
    let kib_each = std::thread::scope(|scope| {
        for transfer in transfers {
            let (all_here, measured) = (&all_here, &measured);
            let download = move || {
                let mut client = Client::connect_with_small_buffer(server.recipient, RECEIVE_BYTES);
                client.stream().set_read_timeout(Some(PATIENCE_OF_ALL)).expect("a timeout can be set");
                client.ask("GET", transfer, &["Connection: close"]);
                // Whoever fails must not leave the others waiting.
                let head = catch_unwind(AssertUnwindSafe(|| client.answer_head())).ok().flatten();
                let mut body = client.read_some(1000);
                all_here.wait();
                measured.wait();
                assert_eq!(head.expect("an answer").status, 200);
                assert!(!body.is_empty(), "the beginning is there");
                body.extend(client.read_to_close(PATIENCE_OF_ALL));
                assert_eq!((body.len(), sha256(&body)), (FILE_BYTES, digest.to_owned()));
            };
            std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, download).expect("a thread");
        }
        all_here.wait();
        let (private, _) = memory_kib(server);
        measured.wait();
        private.saturating_sub(before) / transfers.len() as u64
    });
    let seconds = began.elapsed().as_secs_f64();
    println!("{} downloads at once in {seconds:.1} s, {kib_each} KiB of the server's memory each", transfers.len());
    assert!(kib_each <= MAX_KIB_EACH, "{kib_each} KiB");
}
