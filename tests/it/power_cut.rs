//! The power goes. What the real server did to its state folder is written down call by call; from that the suite builds what a
//! disk may hold afterwards: all that was synced, and of the rest any part, in whole writes or torn at sectors, with names that
//! were not synced there or not. On each such disk everything that was answered before the cut must hold.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use portcullis::share::{Outcome, Share, Steady};
use portcullis::store::sqlite::{SqliteStore, verify_audit_of};
use portcullis::store::{EventQuery, ShareQuery, Store};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::harness::{Call, Disk, Faults, Random, Server, Setup, put};
use crate::life::{FILLER, FILM, FILM_BYTES, Life, Walk, Was};

/// How many disks are looked at through the store unless `POWER_CUTS` says otherwise; `tests/run --long` says thousands.
const CUTS: u64 = 400;
/// On one of so many the real server is started, too.
const REAL_EVERY: u64 = 40;
/// How many shares are made so that the write-ahead log is written back while the server runs: at 4000 pages, some 17 each.
const FILLERS: usize = 300;

/// The keys without which links that were told work no more.
const KEYS: [&str; 2] = ["jwt.key", "transfer.key"];

fn cuts() -> u64 {
    std::env::var("POWER_CUTS").ok().map_or(CUTS, |n| n.parse().expect("POWER_CUTS is a number"))
}

/// What was done to a disk, and what was answered meanwhile.
struct Story {
    server: Server,
    film: Vec<u8>,
    life: Life,
    calls: Vec<Call>,
    keys: [Vec<u8>; 2],
}

/// Lets a server live: a first start, a whole life, a checkpoint, an orderly end, and a second start that is never ended.
fn story() -> Story {
    let mut server = Setup::new().build(|_, _| {});
    let film = put(&server, FILM, FILM_BYTES);
    let faults = Faults::before(&mut server, "");
    let mut life = Life::default();
    let now = || faults.mark();
    server.start();
    Walk { server: &server, life: &mut life, now: &now }.all().expect("nothing kills it");
    for _ in 0..FILLERS {
        server.share_with(&json!({ "path": FILM, "note": FILLER, "message": "m".repeat(1000) }));
    }
    server.stop();
    server.start();
    Walk { server: &server, life: &mut life, now: &now }.create("late", None).expect("nothing kills it");
    server.kill();
    let calls = faults.calls();
    let database = server.state.join("portcullis.db");
    let synced = calls.iter().filter(|call| call.op == 's' && call.path == database).count();
    assert!(synced >= 3, "the log was written back while it ran, and at its end");
    let keys = KEYS.map(|name| fs::read(server.state.join(name)).expect("a key"));
    Faults::remove(&mut server);
    Story { server, film, life, calls, keys }
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_that_was_answered() {
    let mut story = story();
    let (mut times, state) = (story.life.times(), story.server.state.clone());
    times.sort_unstable();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for seed in seeds(cuts()) {
        let mut random = Random::new(seed);
        // Right behind an answer nothing may be missing; anywhere else something half done lies around.
        let time = match random.below(2) {
            0 => times[random.below(times.len() as u64) as usize],
            _ => story.calls[random.below(story.calls.len() as u64) as usize].at,
        };
        let mut disk = Disk::new(&state);
        story.calls.iter().take_while(|call| call.at < time).for_each(|call| disk.apply(call));
        let image = story.server.folder().join(format!("image-{seed}"));
        disk.cut(&image, &mut random);
        let look = AssertUnwindSafe(|| {
            runtime.block_on(check_store(&image, &story.life, time, &story.keys));
            if seed % REAL_EVERY == 0 {
                story.server.state = image.clone();
                story.server.start();
                story.life.check(&story.server, &story.film, time);
                story.server.kill();
            }
        });
        if let Err(panic) = catch_unwind(look) {
            tell(&image, seed, time);
            resume_unwind(panic);
        }
        let _ = fs::remove_dir_all(&image);
    }
}

/// Keeps a disk on which something is wrong, and says how to have another like it.
fn tell(image: &Path, seed: u64, time: u64) {
    let kept = std::env::temp_dir().join(format!("portcullis-cut-{seed}"));
    let _ = fs::remove_dir_all(&kept);
    let _ = fs::rename(image, &kept);
    eprintln!("a cut at byte {time} of the log; its disk is kept in {}", kept.display());
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    eprintln!("again: POWER_CUT_SEED={seed} cargo test --test it {test}");
}

fn seeds(most: u64) -> Vec<u64> {
    match std::env::var("POWER_CUT_SEED") {
        Ok(seed) => vec![seed.parse().expect("POWER_CUT_SEED is a number")],
        Err(_) => (1..=most).collect(),
    }
}

#[test]
fn a_power_cut_during_a_restore_leaves_the_old_state_or_the_new() {
    let mut there = Setup::new().start();
    put(&there, FILM, 1000);
    let new = there.share(FILM);
    let backup = there.folder().join("saved.backup");
    let backup = backup.to_str().expect("a path");
    assert!(there.command().args(["backup", backup]).output().expect("the binary runs").status.success());
    there.kill();
    let mut here = Setup::new().start();
    put(&here, FILM, 1000);
    let old = here.share(FILM);
    // Its log was never written back.
    here.kill();
    let keys = [&here, &there].map(|server| KEYS.map(|name| fs::read(server.state.join(name)).expect("a key")));
    let before = Disk::holding(&here.state);
    let faults = Faults::before(&mut here, "");
    let output = here.command().args(["restore", backup, "--replace"]).output().expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (calls, end) = (faults.calls(), faults.mark());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut outcomes = [0; 2];
    for seed in seeds(cuts() / 3) {
        let mut random = Random::new(seed);
        // The renames are few and last, and most of the cuts are among them.
        let from = if random.below(4) > 0 { calls.iter().position(|call| call.op == 'r').expect("it decides") } else { 0 };
        let cut = from + random.below((calls.len() - from + 1) as u64) as usize;
        let mut disk = before.clone();
        calls[..cut].iter().for_each(|call| disk.apply(call));
        let image = here.folder().join(format!("image-{seed}"));
        disk.cut(&image, &mut random);
        let look = AssertUnwindSafe(|| runtime.block_on(is_new(&image, [&old.id, &new.id], &keys)));
        match catch_unwind(look) {
            Ok(is_new) => {
                assert!(is_new || cut < calls.len(), "it said that it was done");
                outcomes[usize::from(is_new)] += 1;
            }
            Err(panic) => {
                tell(&image, seed, calls.get(cut).map_or(end, |call| call.at));
                resume_unwind(panic);
            }
        }
        let _ = fs::remove_dir_all(&image);
    }
    assert!(outcomes.iter().all(|times| *times > 0) || outcomes.iter().sum::<u32>() == 1, "{outcomes:?}");
}

/// Says whether a disk holds the new state, and looks whether it is all of it.
async fn is_new(image: &Path, ids: [&str; 2], keys: &[[Vec<u8>; 2]; 2]) -> bool {
    let store = SqliteStore::open(image).expect("the store opens");
    let shares = store.shares(ShareQuery { limit: 10, ..ShareQuery::default() }).await.expect("it can be read");
    let [share] = &shares[..] else { panic!("{} shares", shares.len()) };
    let is_new = share.id.as_str() == ids[1];
    assert!(is_new || share.id.as_str() == ids[0], "whose share is that?");
    let there = KEYS.map(|name| fs::read(image.join(name)).expect("a key"));
    assert_eq!(there, keys[usize::from(is_new)], "the keys of one and the shares of the other");
    if is_new {
        assert!(share.is_closed(), "a link of the past works");
        let aside = image.join("aside");
        fs::create_dir(&aside).expect("the folder is made");
        for end in ["", "-wal"] {
            let _ = fs::copy(image.join(format!("portcullis.db.before-restore-1{end}")), aside.join(format!("portcullis.db{end}")));
        }
        let old = SqliteStore::open(&aside).expect("what was there is whole");
        let shares = old.shares(ShareQuery { limit: 10, ..ShareQuery::default() }).await.expect("it can be read");
        assert_eq!(shares.iter().map(|share| share.id.as_str()).collect::<Vec<_>>(), [ids[0]], "what was there is kept");
    }
    is_new
}

/// Looks at a disk through the store.
async fn check_store(image: &Path, life: &Life, time: u64, keys: &[Vec<u8>; 2]) {
    let is_promised = life.shares.values().any(|fate| matches!(fate.create.at(time), Was::Answered(_)));
    if is_promised {
        for (name, key) in KEYS.into_iter().zip(keys) {
            assert_eq!(fs::read(image.join(name)).ok().as_ref(), Some(key), "{name}: links that were told stop working");
        }
    }
    let store = SqliteStore::open(image).expect("the store opens");
    let shares = store.shares(ShareQuery { limit: 1000, ..ShareQuery::default() }).await.expect("it can be read");
    for (note, fate) in &life.shares {
        let mine: Vec<&Share> = shares.iter().filter(|share| share.note.as_deref() == Some(note)).collect();
        assert!(mine.len() <= 1, "{note} is there twice");
        match (fate.create.at(time), mine.first()) {
            (Was::Answered(offer), Some(share)) => assert_eq!(share.id.as_str(), offer.id),
            (Was::Answered(_), None) => panic!("{note} was promised and is gone"),
            (Was::NeverAsked, Some(_)) => panic!("{note} was never asked for"),
            (Was::Unanswered, _) | (Was::NeverAsked, None) => {}
        }
        if let Some(share) = mine.first() {
            check_share(share, note, fate, time);
        }
    }
    check_passes(&store, life, time).await;
    let events = store.events(EventQuery { limit: 1000, ..EventQuery::default() }).await.expect("it can be read");
    assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == seq), "the event log has a gap");
    let lines = store.audit_lines(None, 1000).await.expect("it can be read");
    for offer in life.shares.values().filter_map(|fate| fate.create.answer_at(time)) {
        let is_line = lines.iter().any(|line| line.entry.action == "share.create" && line.entry.target == offer.id);
        assert!(is_line, "no line, no action: {}", offer.id);
    }
    drop(store);
    let verdict = verify_audit_of(image).expect("the chain can be read");
    assert_eq!(verdict.broken, None);
}

fn check_share(share: &Share, note: &str, fate: &crate::life::Fate, time: u64) {
    let used = share.uses_spent();
    match fate.redeem.at(time) {
        Was::Answered(_) => assert_eq!(used, 1, "{note} was redeemed"),
        Was::Unanswered => assert!(used <= 1, "{note} was redeemed twice"),
        Was::NeverAsked => assert_eq!(used, 0, "{note} was never redeemed"),
    }
    match (fate.revoke.at(time), fate.reopen.at(time)) {
        (Was::NeverAsked, _) => assert_eq!(share.outcome(), None, "nobody closed {note}"),
        (Was::Answered(()), Was::NeverAsked) => assert_eq!(share.outcome(), Some(Outcome::Revoked), "{note} was shut"),
        (_, Was::Answered(_)) => assert_eq!(share.outcome(), None, "{note} was opened again"),
        (Was::Unanswered, _) | (_, Was::Unanswered) => {}
    }
    if fate.extend.answer_at(time).is_some() {
        assert!(share.expires.wall.0 - share.created.wall.0 >= 2_000_000, "{note} lives longer");
    }
    if fate.deliver.answer_at(time).is_some() {
        assert_eq!((share.completed(), share.delivered_bytes()), (1, FILM_BYTES as u64), "{note} was delivered");
    }
}

async fn check_passes(store: &SqliteStore, life: &Life, time: u64) {
    let tokens: BTreeSet<String> =
        store.api_tokens().await.expect("it can be read").iter().map(|token| token.id.as_str().to_owned()).collect();
    let sessions: BTreeSet<[u8; 32]> = store.sessions(Steady(0)).await.expect("it can be read").iter().map(|s| s.digest).collect();
    for (name, pass) in &life.passes {
        let Some((header, id)) = pass.make.answer_at(time) else { continue };
        let is_there = match header.strip_prefix("Cookie: ").and_then(|cookie| cookie.split_once('=')) {
            Some((_, secret)) => sessions.contains(&<[u8; 32]>::from(Sha256::digest(secret))),
            None => tokens.contains(id),
        };
        match pass.end.at(time) {
            Was::NeverAsked => assert!(is_there, "{name} was let in"),
            Was::Answered(()) => assert!(!is_there, "{name} was ended"),
            Was::Unanswered => {}
        }
    }
}
