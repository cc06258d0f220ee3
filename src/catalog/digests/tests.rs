use std::io::Write;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use rustix::fs::{CWD, Mode, mkfifoat};

use super::super::tests::{Place, path};
use super::*;

/// A cache that remembers what it was given.
#[derive(Default)]
struct Memory(Mutex<HashMap<FileIdentity, Sha>>);

impl DigestCache for Memory {
    fn load(&self, identity: FileIdentity) -> BoxFuture<'_, Option<Sha>> {
        let kept = self.0.lock().unwrap().get(&identity).copied();
        async move { kept }.boxed()
    }

    fn keep(&self, identity: FileIdentity, sha256: Sha) -> BoxFuture<'_, ()> {
        self.0.lock().unwrap().insert(identity, sha256);
        async {}.boxed()
    }
}

fn digests(place: &Place, cache: &Arc<Memory>) -> Arc<Digests> {
    Arc::new(Digests::new(place.catalog(), Arc::clone(cache) as Arc<dyn DigestCache>))
}

async fn identity(place: &Place, name: &str) -> FileIdentity {
    place.catalog().open(&path(name)).await.unwrap().identity
}

/// Runs the queue while `ask` asks.
async fn while_running(digests: &Arc<Digests>, ask: impl Future<Output = ()>) {
    let shutdown = CancellationToken::new();
    tokio::join!(Arc::clone(digests).run(shutdown.clone()), async {
        ask.await;
        shutdown.cancel();
    });
}

/// Reads a file that was just opened to its end, turn by turn.
fn digest(open: &OpenFile, stop: &AtomicBool) -> Option<Sha> {
    let OpenFile { file, identity, is_local } = open;
    let mut begun = Begun::new(OpenFile { file: file.try_clone().unwrap(), identity: *identity, is_local: *is_local });
    loop {
        match read_on(begun, stop) {
            Turn::Over(known) => return known,
            Turn::More(rest) => begun = rest,
        }
    }
}

fn sha(content: &[u8]) -> Sha {
    Sha256::digest(content).into()
}

#[tokio::test]
async fn a_wanted_digest_is_computed_told_and_kept() {
    let place = Place::new();
    let long = "x".repeat(CHUNK_BYTES * 2 + 1);
    place.file("abc", "abc").file("long", &long).file("empty", "");
    let cache = Arc::new(Memory::default());
    let digests = digests(&place, &cache);
    let mut told = digests.watch();
    while_running(&digests, async {
        for (name, content) in [("abc", "abc"), ("long", &long[..]), ("empty", "")] {
            let identity = identity(&place, name).await;
            digests.want(&path(name), identity);
            assert_eq!(told.recv().await.unwrap(), (identity, sha(content.as_bytes())));
            assert_eq!(digests.known(identity), Some(sha(content.as_bytes())));
            assert_eq!(cache.load(identity).await, Some(sha(content.as_bytes())));
        }
    })
    .await;
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let hex: String = sha(b"abc").iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, abc);
}

#[tokio::test]
async fn what_the_cache_knows_is_not_computed_again() {
    let place = Place::new();
    place.file("a", "abc");
    let identity = identity(&place, "a").await;
    let cache = Arc::new(Memory::default());
    cache.keep(identity, [7; 32]).await;
    let digests = digests(&place, &cache);
    let mut told = digests.watch();
    while_running(&digests, async {
        digests.want(&path("a"), identity);
        assert_eq!(told.recv().await.unwrap(), (identity, [7; 32]));
    })
    .await;
}

#[tokio::test]
async fn a_file_in_another_state_gets_no_digest() {
    let place = Place::new();
    place.file("changed", "before").file("gone", "x").file("good", "good, and the longest");
    let (changed, gone, good) = (identity(&place, "changed").await, identity(&place, "gone").await, identity(&place, "good").await);
    place.file("changed", "after it");
    std::fs::remove_file(place.at("gone")).unwrap();
    let digests = digests(&place, &Arc::default());
    let mut told = digests.watch();
    while_running(&digests, async {
        digests.want(&path("changed"), changed);
        digests.want(&path("gone"), gone);
        digests.want(&path("good"), good);
        // The shortest come first, so the others are done with.
        assert_eq!(told.recv().await.unwrap().0, good);
    })
    .await;
    assert_eq!((digests.known(changed), digests.known(gone)), (None, None));
    assert!(digests.state().pending.is_empty());
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_gets_no_digest() {
    let place = Place::new();
    place.file("a", "abc");
    let open = place.catalog().open(&path("a")).await.unwrap();
    let go_on = AtomicBool::new(false);
    std::fs::File::options().append(true).open(place.at("a")).unwrap().write_all(b"d").unwrap();
    assert_eq!(digest(&open, &go_on), None, "it grew");
    let open = place.catalog().open(&path("a")).await.unwrap();
    std::fs::File::options().write(true).open(place.at("a")).unwrap().set_len(2).unwrap();
    assert_eq!(digest(&open, &go_on), None, "it shrank");
    let open = place.catalog().open(&path("a")).await.unwrap();
    std::fs::File::options().write(true).open(place.at("a")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(digest(&open, &go_on), None, "it was written in place");
    let open = place.catalog().open(&path("a")).await.unwrap();
    assert_eq!(digest(&open, &go_on), Some(sha(b"ab")));
}

#[tokio::test]
async fn asking_twice_is_once_and_so_many_wait_at_most() {
    let place = Place::new();
    place.file("a", "abc");
    let digests = digests(&place, &Arc::default());
    let first = identity(&place, "a").await;
    digests.want(&path("a"), first);
    digests.want(&path("a"), first);
    assert_eq!(digests.state().waiting.len(), 1);
    for inode in 0..2 * MAX_WAITING as u64 {
        digests.want(&path("a"), FileIdentity { inode, size_bytes: u64::MAX, ..first });
    }
    let state = digests.state();
    assert_eq!((state.waiting.len(), state.pending.len()), (MAX_WAITING, MAX_WAITING));
}

#[test]
fn so_many_are_known_at_most_and_the_oldest_is_forgotten() {
    let place = Place::new();
    let digests = digests(&place, &Arc::default());
    let identity = |inode| FileIdentity { device: 0, inode, size_bytes: 0, modified_ns: 0, changed_ns: 0 };
    for inode in 0..=MAX_KNOWN as u64 {
        digests.remember(identity(inode), [0; 32]);
        digests.remember(identity(inode), [0; 32]);
    }
    let count = digests.state().known.len();
    assert_eq!((count, digests.known(identity(0)), digests.known(identity(1))), (MAX_KNOWN, None, Some([0; 32])));
}

#[tokio::test]
async fn it_ends_at_once_when_told_to_also_while_a_read_hangs() {
    let place = Place::new();
    place.file("a", "abc");
    let digests = digests(&place, &Arc::default());
    let open = place.catalog().open(&path("a")).await.unwrap();
    assert_eq!(digest(&open, &AtomicBool::new(true)), None);

    // A pipe that nobody writes to is a read that does not come back.
    let pipe = place.at("pipe");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    let hangs = std::fs::File::options().read(true).write(true).open(&pipe).unwrap();
    let reader = Reader::start().unwrap();
    let hung = OpenFile { file: hangs, identity: open.identity, is_local: false };
    assert!(tokio::time::timeout(Duration::from_millis(20), reader.read_on(Begun::new(hung))).await.is_err());
    drop(reader);
    while_running(&digests, async {}).await;
}

#[tokio::test]
async fn the_shortest_comes_first_and_a_long_one_has_its_digest_after_many_turns() {
    let place = Place::new();
    let long = "long ".repeat(TURN_BYTES as usize);
    place.file("long", &long).file("short", "short");
    let (first, second) = (identity(&place, "long").await, identity(&place, "short").await);
    let digests = digests(&place, &Arc::default());
    let mut told = digests.watch();
    digests.want(&path("long"), first);
    digests.want(&path("short"), second);
    while_running(&digests, async {
        assert_eq!(told.recv().await.unwrap(), (second, sha(b"short")));
        assert_eq!(told.recv().await.unwrap(), (first, sha(long.as_bytes())));
    })
    .await;
    assert!(digests.state().pending.is_empty());
}

#[tokio::test]
async fn a_file_that_changes_between_two_turns_is_not_read_to_its_end() {
    let place = Place::new();
    place.file("a", "x".repeat(3 * TURN_BYTES as usize).as_str());
    let go_on = AtomicBool::new(false);
    let Turn::More(begun) = read_on(Begun::new(place.catalog().open(&path("a")).await.unwrap()), &go_on) else { panic!("there is more") };
    assert_eq!(begun.length, TURN_BYTES);
    std::fs::File::options().append(true).open(place.at("a")).unwrap().write_all(b"d").unwrap();
    assert!(matches!(read_on(begun, &go_on), Turn::Over(None)));
}

#[tokio::test]
async fn so_many_are_put_aside_at_most_and_the_longest_begins_anew() {
    let place = Place::new();
    let mut aside = Vec::new();
    for size in 1..=MAX_ASIDE + 1 {
        place.file("a", &"x".repeat(if size == 3 { 1000 } else { size }));
        put_aside(&mut aside, Begun::new(place.catalog().open(&path("a")).await.unwrap()));
    }
    let sizes: Vec<u64> = aside.iter().map(|begun| begun.open.identity.size_bytes).collect();
    assert_eq!((sizes.len(), sizes.contains(&1000)), (MAX_ASIDE, false), "{sizes:?}");
}
