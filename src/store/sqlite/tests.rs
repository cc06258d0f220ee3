//! The store's promises on SQLite, and what only a file can promise.

mod cost;
mod migration;
mod tampering;

use std::io::{BufRead, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use super::*;
use crate::share::{Event, Fact, Moment, Timestamp};
use crate::store::contract::{every_promise, id, mark, open_share, seconds, with_note};

every_promise!({
    let folder = tempfile::tempdir().unwrap();
    (Arc::new(open(folder.path())), folder)
});

fn open(folder: &Path) -> SqliteStore {
    SqliteStore::open(folder).unwrap()
}

/// Opens the database as another program would.
fn from_outside(folder: &Path) -> Connection {
    Connection::open(folder.join(FILE_NAME)).unwrap()
}

fn why_unusable(folder: &Path) -> String {
    match SqliteStore::open(folder) {
        Err(StoreError::Unusable { reason }) => reason,
        Err(other) => panic!("unusable was expected, not {other:?}"),
        Ok(_) => panic!("unusable was expected"),
    }
}

fn batch(sql: &'static str) -> impl FnOnce(&Connection) -> Result<(), Undone> + Send + 'static {
    move |connection| Ok(connection.execute_batch(sql)?)
}

async fn sql(store: &SqliteStore, sql: &'static str) {
    store.write(batch(sql)).await.unwrap();
}

fn progress(share: &Share, note_bytes: usize) -> Save {
    Save { share: Arc::new(with_note(share, "x".repeat(note_bytes))), facts: vec![Fact::TunnelLost], at: seconds(9) }
}

#[tokio::test]
async fn opened_again_everything_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let session =
        Session { digest: [5; 32], expires: Steady(500), created: Timestamp(0), seen: Timestamp(0), address: None, agent: String::new() };
    let share = {
        let store = open(folder.path());
        store.put_session(session.clone()).await.unwrap();
        store.put_log_mark("log".to_owned(), mark(7)).await.unwrap();
        store.put_digest(FileIdentity { device: 1, inode: 1, size_bytes: 1, modified_ns: 1, changed_ns: 1 }, [6; 32]).await.unwrap();
        open_share(&store, 1, 1, seconds(7)).await
    };
    let store = open(folder.path());
    assert_eq!(store.living().await.unwrap(), [share]);
    assert_eq!(store.latest_seq().await.unwrap(), 2);
    assert_eq!(store.latest_steady().await.unwrap(), Some(seconds(7).steady));
    assert_eq!(store.session([5; 32], Steady(0)).await.unwrap(), Some(session.clone()));
    let identity = FileIdentity { device: 1, inode: 1, size_bytes: 1, modified_ns: 1, changed_ns: 1 };
    assert_eq!(store.digest(identity).await.unwrap(), Some([6; 32]));
    assert_eq!(store.log_mark("log".to_owned()).await.unwrap(), Some(mark(7)));
    assert_eq!(store.save(progress(&store.living().await.unwrap()[0], 1)).await.unwrap(), [3]);
}

#[tokio::test]
async fn what_was_answered_is_in_the_files_at_that_instant() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(folder.path());
    store.put_log_mark("log".to_owned(), mark(1)).await.unwrap();
    let share = open_share(&store, 1, 1, seconds(7)).await;
    store.put_log_mark("log".to_owned(), mark(2)).await.unwrap();
    // What a machine that loses its power would find: the files as they are, the store not closed.
    for name in [FILE_NAME.to_owned(), format!("{FILE_NAME}-wal")] {
        std::fs::copy(folder.path().join(&name), copy.path().join(&name)).unwrap();
    }
    let found = open(copy.path());
    assert_eq!(found.living().await.unwrap(), [share]);
    assert_eq!(found.latest_seq().await.unwrap(), 2);
    assert_eq!(found.log_mark("log".to_owned()).await.unwrap(), Some(mark(2)));
}

#[tokio::test]
async fn a_store_that_was_closed_is_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    open_share(&store, 1, 1, seconds(1)).await;
    store.latest_seq().await.unwrap();
    drop(store);
    let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [FILE_NAME, LOCK_NAME]);
}

/// The child of the test below. It is told the folder on its standard input; run by hand it has nothing to do.
#[tokio::test]
#[ignore = "run by the test below, which kills it"]
async fn child_that_writes_until_it_is_killed() {
    let mut folder = String::new();
    std::io::stdin().lock().read_line(&mut folder).unwrap();
    if folder.trim().is_empty() {
        return;
    }
    let store = open(Path::new(folder.trim()));
    for n in 1.. {
        open_share(&store, n, 1, seconds(n)).await;
        println!("\nsaved {n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_loses_nothing_it_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::sqlite::tests::child_that_writes_until_it_is_killed", "--ignored", "--nocapture", "--test-threads=1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", folder.path().display()).unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let saved = |line: String| line.strip_prefix("saved ").and_then(|n| n.parse::<u64>().ok());
    let mut last = lines.by_ref().filter_map(saved).find(|n| *n >= 20).expect("the child writes");
    child.kill().unwrap();
    child.wait().unwrap();
    // What it still said before it died counts too.
    last = lines.filter_map(saved).last().unwrap_or(last);
    let store = open(folder.path());
    for n in 1..=last {
        assert!(store.share(id(n)).await.unwrap().is_some(), "share {n} was answered");
    }
    assert!(store.latest_seq().await.unwrap() >= 2 * last);
}

#[tokio::test]
async fn the_event_log_is_append_only_whoever_writes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    open_share(&store, 1, 1, seconds(1)).await;
    let other = from_outside(folder.path());
    for attempt in [
        "UPDATE event SET type = 'share.closed' WHERE seq = 1",
        "DELETE FROM event WHERE seq = 2",
        "DELETE FROM event",
        "INSERT OR REPLACE INTO event (seq, at_ms, share, type, body) VALUES (1, 0, '', '', '')",
    ] {
        let error = other.execute(attempt, []).unwrap_err().to_string();
        assert!(error.contains("append-only"), "{attempt}: {error}");
    }
    assert_eq!(store.latest_seq().await.unwrap(), 2);
}

#[test]
fn a_file_of_a_later_version_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    from_outside(folder.path()).execute_batch("PRAGMA user_version = 99").unwrap();
    assert!(why_unusable(folder.path()).contains("later version"));
}

#[test]
fn the_database_of_another_program_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    from_outside(folder.path()).execute_batch("CREATE TABLE recipes (name TEXT)").unwrap();
    assert!(why_unusable(folder.path()).contains("another program"));
    std::fs::write(folder.path().join(FILE_NAME), "this is a letter to my landlord, and no database at all").unwrap();
    assert!(why_unusable(folder.path()).contains("no database"));
}

#[tokio::test]
async fn a_damaged_file_is_found_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    {
        let store = open(folder.path());
        for n in 0..30 {
            open_share(&store, n, 1, seconds(n)).await;
        }
    }
    let path = folder.path().join(FILE_NAME);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8192].fill(0xA5);
    std::fs::write(&path, bytes).unwrap();
    assert!(why_unusable(folder.path()).contains("damaged"));
}

#[test]
fn a_second_process_on_the_same_folder_is_refused_until_the_first_ends() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    assert!(why_unusable(folder.path()).contains("another portcullis"));
    drop(first);
    open(folder.path());
}

#[tokio::test]
async fn nobody_else_may_read_the_files() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("a/state");
    std::fs::create_dir_all(parent.path().join("a")).unwrap();
    let store = open(&folder);
    open_share(&store, 1, 1, seconds(1)).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{file:?}");
    }
}

#[tokio::test]
async fn a_full_disk_refuses_saves_until_there_is_room_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let share = open_share(&store, 1, 1, seconds(1)).await;
    sql(&store, "PRAGMA max_page_count = 1").await;
    let refused = store.save(progress(&share, 1_000_000)).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    assert_eq!(store.share(share.id).await.unwrap(), Some(share.clone()));
    assert_eq!(store.latest_seq().await.unwrap(), 2);
    sql(&store, "PRAGMA max_page_count = 1000000").await;
    assert_eq!(store.save(progress(&share, 1_000_000)).await.unwrap(), [3]);
    assert_eq!(store.latest_steady().await.unwrap(), Some(seconds(9).steady));
}

#[tokio::test]
async fn a_failed_transaction_is_answered_to_everybody_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let share = open_share(&store, 1, 1, seconds(1)).await;
    // As SQLite does by itself on some errors, the whole transaction goes in the middle of the batch.
    let hold = store.write(batch("SELECT 1"));
    let before = store.save(progress(&share, 1));
    let rolled_back = store.write(batch("ROLLBACK; SELECT no_such_function()"));
    let _ = hold.await;
    let answers = (before.await.is_ok(), rolled_back.await.is_ok());
    // They may have been in two batches; what was answered with Ok must be there, and nothing else.
    assert!(!answers.1);
    assert_eq!(store.latest_seq().await.unwrap(), if answers.0 { 3 } else { 2 });
    assert_eq!(store.save(progress(&share, 1)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_commit_that_fails_is_answered_to_everybody_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let share = open_share(&store, 1, 1, seconds(1)).await;
    // A promise about two tables that is only looked at in the end: everything before it goes well.
    let broken = "CREATE TABLE parent (id INTEGER PRIMARY KEY);
        CREATE TABLE child (parent INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED);
        INSERT INTO child VALUES (7)";
    let hold = store.write(batch("SELECT 1"));
    let before = store.save(progress(&share, 1));
    let never = store.write(batch(broken));
    let _ = hold.await;
    let answers = (before.await.is_ok(), never.await.is_ok());
    // They may have been in two batches; what was answered with Ok must be there, and nothing else.
    assert!(!answers.1);
    assert_eq!(store.latest_seq().await.unwrap(), if answers.0 { 3 } else { 2 });
    assert_eq!(store.save(progress(&share, 1)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_save_waits_for_somebody_who_locks_the_file_for_a_moment() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let share = open_share(&store, 1, 1, seconds(1)).await;
    let other = from_outside(folder.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let save = store.save(progress(&share, 1));
    assert_eq!(store.latest_seq().await.unwrap(), 2, "readers do not wait");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(save.await.unwrap(), [3]);
}

#[tokio::test]
async fn more_writes_than_the_queue_holds_are_all_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let share = open_share(&store, 1, 1, seconds(1)).await;
    let saves: Vec<_> = (0..2 * QUEUE).map(|_| store.save(progress(&share, 1))).collect();
    let numbers: Vec<u64> = futures_util::future::try_join_all(saves).await.unwrap().concat();
    assert_eq!(numbers.len(), 2 * QUEUE);
    assert_eq!(store.latest_seq().await.unwrap(), 2 + 2 * QUEUE as u64);
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_written_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let share = open_share(&store, 1, 1, seconds(1)).await;
    drop(store.save(progress(&share, 1)));
    drop(store);
    assert_eq!(open(folder.path()).latest_seq().await.unwrap(), 3);
}
