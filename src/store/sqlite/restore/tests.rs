use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::super::backup::{BackupSummary, backup};
use super::super::{SqliteStore, verify_audit_of};
use super::*;
use crate::share::{CatalogPath, Fact, FileIdentity, Outcome, Timestamp};
use crate::store::contract::{entry, id, mark, new_share, open_share, redeem_as_if_free, seconds, session, token};
use crate::store::{Day, EventQuery, Plan, ShareQuery, Store};

const DIGEST_OF: FileIdentity = FileIdentity { device: 1, inode: 1, size_bytes: 1, modified_ns: 1, changed_ns: 1 };

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(folder: &TempDir) -> SqliteStore {
    SqliteStore::open(folder.path()).unwrap()
}

fn back_up(folder: &TempDir) -> PathBuf {
    let to = folder.path().join("saved.backup");
    backup(folder.path(), &to, &[("jwt.key", b"secret".to_vec()), ("owner.token", vec![0, 255])]).unwrap();
    to
}

fn put_back(from: &Path, folder: &TempDir) -> Restored {
    restore(from, folder.path(), true, &["jwt.key", "owner.token"], seconds(60)).unwrap()
}

/// Leaves behind what a process leaves that is killed.
fn cut_short(mut coming: Coming) {
    coming.0 = PathBuf::from("/nowhere");
}

fn why_not(from: &Path) -> String {
    let folder = folder();
    let error = restore(from, folder.path(), false, &[], seconds(1)).unwrap_err();
    assert_eq!(names_in(&folder), [LOCK_NAME], "nothing is left behind: {error}");
    error.to_string()
}

fn names_in(folder: &TempDir) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_backup_is_made_beside_a_running_server_and_never_replaces_a_file() {
    let folder = folder();
    let to = folder.path().join("saved.backup");
    assert!(matches!(backup(folder.path(), &to, &[]), Err(BackupError::NoStore { .. })));
    let store = open(&folder);
    for n in 1..=3 {
        open_share(&store, n, 1, seconds(n)).await;
    }
    let summary = backup(folder.path(), &to, &[("jwt.key", b"secret".to_vec())]).unwrap();
    let file = std::fs::metadata(&to).unwrap();
    assert_eq!(summary, BackupSummary { bytes: file.len(), latest_seq: 6, shares: 3, files: 1 });
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(&to).unwrap();
    assert!(matches!(backup(folder.path(), &to, &[]), Err(BackupError::Exists { .. })));
    assert_eq!(std::fs::read(&to).unwrap(), before);
    for (name, bytes) in [("../evil", 1), (".hidden", 1), ("", 1), ("large", 70_000)] {
        let refused = backup(folder.path(), &folder.path().join("other"), &[(name, vec![0; bytes])]);
        assert!(matches!(refused, Err(BackupError::Unfit { .. })), "{name}");
    }
    let names = names_in(&folder);
    assert!(names.iter().all(|name| name.starts_with("portcullis.") || name == "saved.backup"), "{names:?}");
    assert_eq!(store.latest_seq().await.unwrap(), 6);
}

#[tokio::test]
async fn everything_comes_back_but_what_lived_is_closed() {
    let (there, here) = (folder(), folder());
    let store = open(&there);
    let mut closed = open_share(&store, 1, 1, seconds(1)).await;
    for event in [Event::Revoked, Event::TunnelClosed] {
        let facts = closed.on(event, seconds(2)).facts;
        store.save(Save { share: Arc::new(closed.clone()), facts, at: seconds(2) }).await.unwrap();
    }
    let living = open_share(&store, 2, 1, seconds(3)).await;
    store.put_session(session([5; 32], Steady(i64::MAX))).await.unwrap();
    store.put_api_token(token(1)).await.unwrap();
    store.put_digest(DIGEST_OF, [6; 32]).await.unwrap();
    let plan = Plan { key: "k".to_owned(), wish: [1; 32], ids: vec!["a".to_owned()], is_done: true, since: Steady(0) };
    store.put_plan(plan.clone(), Steady(0)).await.unwrap();
    store.append_audit(entry(1)).await.unwrap();
    let log = store.events(EventQuery { limit: 100, ..Default::default() }).await.unwrap();
    drop(store);

    let restored = put_back(&back_up(&there), &here);
    let expected = Restored { keys: 2, kept_keys: Vec::new(), closed_shares: 1, api_tokens: 1, latest_seq: 8, replaced: None };
    assert_eq!(restored, expected);
    assert_eq!(names_in(&here), ["jwt.key", "owner.token", FILE_NAME, LOCK_NAME]);
    assert_eq!(std::fs::read(here.path().join("jwt.key")).unwrap(), b"secret");
    assert_eq!(std::fs::metadata(here.path().join(FILE_NAME)).unwrap().permissions().mode() & 0o777, 0o600);
    let store = open(&here);
    assert_eq!(store.share(closed.id).await.unwrap(), Some(closed));
    let ended = store.share(living.id).await.unwrap().unwrap();
    assert_eq!((ended.outcome(), ended.is_closed()), (Some(Outcome::Revoked), true));
    assert_eq!(store.living().await.unwrap(), []);
    let after = store.events(EventQuery { limit: 100, ..Default::default() }).await.unwrap();
    assert_eq!(after[..6], log);
    let outcome = Outcome::Revoked;
    assert_eq!(
        after[6..].iter().map(|record| record.fact.clone()).collect::<Vec<_>>(),
        [Fact::Closing { outcome }, Fact::Closed { outcome }]
    );
    assert_eq!((after[6].at, store.latest_steady().await.unwrap()), (seconds(60).wall, Some(seconds(60).steady)));
    assert_eq!(store.stats(Day(0), Day(9)).await.unwrap().outcomes, [("revoked".to_owned(), 2)]);
    assert_eq!(store.sessions(Steady(0)).await.unwrap(), []);
    assert_eq!(store.api_tokens().await.unwrap(), [token(1)]);
    assert_eq!(store.digest(DIGEST_OF).await.unwrap(), Some([6; 32]));
    assert_eq!(store.put_plan(plan.clone(), Steady(0)).await.unwrap(), plan);
    let audit = store.audit_lines(None, 9).await.unwrap();
    assert_eq!((audit[0].entry.action.as_str(), audit[1].entry.clone()), ("store.restored", entry(1)));
    assert_eq!(store.verify_audit().await.unwrap().broken, None);
}

#[tokio::test]
async fn no_close_is_taken_back_that_a_backup_holds() {
    let (there, here) = (folder(), folder());
    let store = open(&there);
    // Closed by their owner a moment ago, one of them shut; and one that lives. Since the backup each may have been used.
    let mut shut = open_share(&store, 1, 3, seconds(50)).await;
    let mut closing = open_share(&store, 2, 3, seconds(50)).await;
    for (share, events) in [(&mut shut, vec![Event::Revoked, Event::TunnelClosed]), (&mut closing, vec![Event::Revoked])] {
        let facts = events.into_iter().flat_map(|event| share.on(event, seconds(59)).facts).collect();
        store.save(Save { share: Arc::new(share.clone()), facts, at: seconds(59) }).await.unwrap();
    }
    open_share(&store, 3, 3, seconds(50)).await;
    drop(store);
    put_back(&back_up(&there), &here);
    let store = open(&here);
    for n in 1..=3 {
        let mut share = store.share(id(n)).await.unwrap().unwrap();
        let decided = share.on(Event::Undone, seconds(61));
        let is_refused = match decided.answer {
            Ok(()) => {
                let save = Save { share: Arc::new(share), facts: decided.facts, at: seconds(61) };
                matches!(store.save(save).await, Err(StoreError::Spent))
            }
            Err(_) => true,
        };
        assert!(is_refused, "the link of share {n} works again");
    }
    assert_eq!(store.living().await.unwrap(), []);
}

#[tokio::test]
async fn a_log_is_followed_again_from_where_it_was_when_the_backup_was_made() {
    let folder = folder();
    let store = open(&folder);
    store.put_log_mark("log".to_owned(), mark(1)).await.unwrap();
    let saved = back_up(&folder);
    store.put_log_mark("log".to_owned(), mark(2)).await.unwrap();
    store.put_log_mark("another".to_owned(), mark(3)).await.unwrap();
    drop(store);
    put_back(&saved, &folder);
    let store = open(&folder);
    // Counts and place are those of then: what was written since is read once more, and counted once in the store that is there now.
    assert_eq!(store.log_mark("log".to_owned()).await.unwrap(), Some(mark(1)));
    assert_eq!(store.log_mark("another".to_owned()).await.unwrap(), None);
}

#[tokio::test]
async fn no_link_of_a_backup_works_spent_or_not() {
    let folder = folder();
    let store = open(&folder);
    let spent_later = open_share(&store, 1, 1, seconds(1)).await;
    let never_spent = open_share(&store, 2, 9, seconds(1)).await;
    let spent_before = open_share(&store, 3, 1, seconds(1)).await;
    redeem_as_if_free(&store, &spent_before, 1).await.unwrap();
    let saved = back_up(&folder);
    redeem_as_if_free(&store, &spent_later, 1).await.unwrap();
    let made_later = open_share(&store, 4, 1, seconds(1)).await;
    drop(store);
    put_back(&saved, &folder);
    let store = open(&folder);
    for share in [&spent_later, &never_spent, &spent_before, &made_later] {
        // By whatever the caller believes; only the ledger can tell.
        assert!(matches!(redeem_as_if_free(&store, share, 7).await, Err(StoreError::Spent)), "{:?}", share.id);
    }
    assert_eq!(store.share(made_later.id).await.unwrap(), None);
}

#[tokio::test]
async fn a_crash_before_a_backup_is_decided_on_leaves_what_was_there() {
    let (there, here) = (folder(), folder());
    open_share(&open(&there), 1, 1, seconds(1)).await;
    let saved = back_up(&there);
    let mine = open_share(&open(&here), 2, 1, seconds(1)).await;
    let is_as_it_was = async || {
        let store = open(&here);
        assert_eq!(store.living().await.unwrap(), std::slice::from_ref(&mine));
    };
    // Cut off while the copy is half written, when it is whole, when it is prepared.
    std::fs::create_dir(here.path().join(COMING)).unwrap();
    std::fs::write(here.path().join(COMING).join(FILE_NAME), b"SQLite format 3\0 and then nothing").unwrap();
    is_as_it_was().await;
    cut_short(Coming::copy(&saved, here.path()).unwrap());
    is_as_it_was().await;
    let coming = Coming::copy(&saved, here.path()).unwrap();
    coming.prepare(&saved, seconds(9)).unwrap();
    cut_short(coming);
    is_as_it_was().await;
    // Tried again it works, and everything that was there has a name.
    let restored = put_back(&saved, &here);
    assert_eq!(restored.replaced, Some(here.path().join(format!("{FILE_NAME}.before-restore-1"))));
    let store = open(&here);
    assert!(store.share(id(1)).await.unwrap().is_some() && store.share(id(2)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_restore_that_was_decided_on_and_cut_short_is_completed_by_the_next_start() {
    let (there, here) = (folder(), folder());
    open_share(&open(&there), 1, 1, seconds(1)).await;
    let saved = back_up(&there);
    drop(open_share(&open(&here), 2, 1, seconds(1)).await);
    std::fs::write(here.path().join("jwt.key"), b"the key of before").unwrap();
    let coming = Coming::copy(&saved, here.path()).unwrap();
    let past = coming.prepare(&saved, seconds(9)).unwrap();
    coming.add_keys(past.files.iter()).unwrap();
    coming.decide(here.path()).unwrap();
    assert!(matches!(backup(here.path(), &here.path().join("b"), &[]), Err(BackupError::Unfinished { .. })));
    assert!(verify_audit_of(here.path()).is_err());
    let store = open(&here);
    assert!(store.share(id(1)).await.unwrap().is_some() && store.share(id(2)).await.unwrap().is_none());
    drop(store);
    let second = |name: &str| format!("{name}.before-restore-1");
    let names = ["jwt.key", &second("jwt.key"), "owner.token", FILE_NAME, &second(FILE_NAME), LOCK_NAME];
    assert_eq!(names_in(&here), names);
    assert_eq!(std::fs::read(here.path().join(second("jwt.key"))).unwrap(), b"the key of before");
    let before = folder();
    std::fs::copy(here.path().join(second(FILE_NAME)), before.path().join(FILE_NAME)).unwrap();
    assert!(open(&before).share(id(2)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_store_that_is_replaced_keeps_what_was_still_in_its_log() {
    let (there, here, killed) = (folder(), folder(), folder());
    open_share(&open(&there), 1, 1, seconds(1)).await;
    let saved = back_up(&there);
    {
        let store = open(&here);
        open_share(&store, 2, 1, seconds(1)).await;
        // What a process that is killed leaves behind.
        for name in [FILE_NAME.to_owned(), format!("{FILE_NAME}-wal")] {
            std::fs::copy(here.path().join(&name), killed.path().join(&name)).unwrap();
        }
    }
    let replaced = put_back(&saved, &killed).replaced.unwrap();
    assert_eq!(names_in(&killed), ["jwt.key", "owner.token", FILE_NAME, "portcullis.db.before-restore-1", LOCK_NAME]);
    assert!(open(&killed).share(id(2)).await.unwrap().is_none());
    let before = folder();
    std::fs::copy(replaced, before.path().join(FILE_NAME)).unwrap();
    assert!(open(&before).share(id(2)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_restore_that_is_cut_short_twice_keeps_the_last_commits_of_what_it_replaced() {
    let (there, here, killed) = (folder(), folder(), folder());
    open_share(&open(&there), 1, 1, seconds(1)).await;
    let saved = back_up(&there);
    let log = format!("{FILE_NAME}-wal");
    {
        let store = open(&here);
        open_share(&store, 2, 1, seconds(1)).await;
        for name in [FILE_NAME, &log] {
            std::fs::copy(here.path().join(name), killed.path().join(name)).unwrap();
        }
    }
    // What cannot be written back: SQLite finds no place for its index of the log.
    let no_index = killed.path().join(format!("{FILE_NAME}-shm"));
    std::fs::create_dir(&no_index).unwrap();
    let first = restore(&saved, killed.path(), true, &[], seconds(9));
    assert!(matches!(first, Err(BackupError::Decided { .. })), "{first:?}");
    assert!(!killed.path().join(&log).exists(), "it was cut short behind the place where the log is removed");
    // Whoever looked into the store meanwhile and was killed left a log in which nothing is.
    std::fs::write(killed.path().join(&log), b"").unwrap();
    assert!(place(killed.path()).is_err(), "and is cut short again");
    std::fs::remove_dir(no_index).unwrap();
    assert!(open(&killed).share(id(1)).await.unwrap().is_some(), "the third start completes it");
    let before = folder();
    for end in ["", "-wal"] {
        let aside = killed.path().join(format!("{FILE_NAME}.before-restore-1{end}"));
        std::fs::copy(aside, before.path().join(format!("{FILE_NAME}{end}"))).unwrap();
    }
    assert!(open(&before).share(id(2)).await.unwrap().is_some(), "its last commits are there");
}

#[tokio::test]
async fn a_damaged_store_can_be_replaced_and_its_log_does_not_get_into_the_other() {
    let (there, here) = (folder(), folder());
    open_share(&open(&there), 1, 1, seconds(1)).await;
    let saved = back_up(&there);
    std::fs::write(here.path().join(FILE_NAME), b"nothing that could be read").unwrap();
    std::fs::write(here.path().join(format!("{FILE_NAME}-wal")), b"nor this").unwrap();
    put_back(&saved, &here);
    assert_eq!(std::fs::read(here.path().join("portcullis.db.before-restore-1")).unwrap(), b"nothing that could be read");
    assert!(open(&here).share(id(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_store_is_replaced_only_where_nobody_uses_it_and_only_when_told() {
    let folder = folder();
    let store = open(&folder);
    let saved = back_up(&folder);
    assert!(matches!(restore(&saved, folder.path(), true, &[], seconds(1)), Err(BackupError::Running { .. })));
    drop(store);
    assert!(matches!(restore(&saved, folder.path(), false, &[], seconds(1)), Err(BackupError::Occupied { .. })));
    assert!(!names_in(&folder).iter().any(|name| name.contains("restor")));
}

#[tokio::test]
async fn what_is_no_good_backup_is_refused_in_a_sentence() {
    let folder = folder();
    {
        let store = open(&folder);
        for n in 0..40 {
            open_share(&store, n, 1, seconds(n)).await;
        }
    }
    let saved = back_up(&folder);
    let whole = std::fs::read(&saved).unwrap();
    let other = folder.path().join("other");
    let why_not_after = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        std::fs::write(&other, bytes).unwrap();
        why_not(&other)
    };
    assert!(why_not_after(&|bytes| bytes.truncate(bytes.len() - 4096)).contains("damaged"));
    assert!(why_not_after(&|bytes| bytes.extend([0; 99])).contains("bytes and should have"));
    assert!(why_not_after(&|bytes| bytes.truncate(100)).contains("cannot be used as a backup"));
    assert!(why_not_after(&Vec::clear).contains("cannot be used as a backup"));
    let middle = whole.len() / 2 / 4096 * 4096;
    let damaged = why_not_after(&|bytes| bytes[middle..middle + 4096].fill(0xA5));
    assert!(damaged.contains("damaged") && !damaged.contains("put a backup"), "{damaged}");
    assert!(why_not_after(&|bytes| *bytes = b"a letter to my landlord".repeat(50)).contains("no database"));
    let why_not_with = |sql: &str| {
        std::fs::write(&other, &whole).unwrap();
        Connection::open(&other).unwrap().execute_batch(sql).unwrap();
        why_not(&other)
    };
    assert!(why_not_with("PRAGMA application_id = 7").contains("another program"));
    assert!(why_not_with("PRAGMA user_version = 99").contains("later version"));
    assert!(why_not_with("DROP TABLE kept_file").contains("not made by"));
    assert!(why_not_with("CREATE TRIGGER t AFTER INSERT ON link BEGIN UPDATE link SET dead = 0; END").contains("layout was changed"));
    assert!(why_not_with("DROP TRIGGER event_is_never_removed").contains("layout was changed"));
    assert!(why_not_with("INSERT INTO kept_file VALUES ('../../etc/passwd', x'00')").contains("etc/passwd"));
    assert!(why_not_with("INSERT INTO kept_file VALUES ('large', zeroblob(100000))").contains("65536"));
    assert!(why_not_with("UPDATE share SET body = '{}'").contains("cannot be read"));
    assert!(why_not(folder.path()).contains("no file"));
    assert!(why_not(&folder.path().join("no such")).contains("could not be read"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_made_while_much_is_written_is_of_one_instant() {
    let (there, here) = (folder(), folder());
    let store = Arc::new(open(&there));
    let mut writing = tokio::task::JoinSet::new();
    {
        let store = Arc::clone(&store);
        writing.spawn(async move {
            for n in 0..300 {
                let (mut share, facts) = new_share(n, 1, seconds(n));
                share.file.path = CatalogPath::parse(&format!("file {n}")).unwrap();
                store.save(Save { share: Arc::new(share), facts, at: seconds(n) }).await.unwrap();
                store.append_audit(entry(n)).await.unwrap();
            }
        });
    }
    while store.latest_seq().await.unwrap() < 20 {
        tokio::task::yield_now().await;
    }
    let path = there.path().to_owned();
    let saved = tokio::task::spawn_blocking(move || {
        let to = path.join("saved.backup");
        (backup(&path, &to, &[]).unwrap(), to)
    });
    let (summary, to) = saved.await.unwrap();
    writing.join_all().await;
    assert!(summary.latest_seq == summary.shares && (20..=300).contains(&summary.shares), "{summary:?}");
    let restored = put_back(&to, &here);
    assert_eq!((restored.closed_shares, restored.latest_seq), (summary.shares, 3 * summary.shares));
    assert_eq!(verify_audit_of(here.path()).unwrap().broken, None);
    let store = open(&here);
    assert_eq!(store.stats(Day(0), Day(0)).await.unwrap().made, summary.shares);
    assert_eq!(
        store.shares(ShareQuery { limit: 1000, until: Some(Timestamp(i64::MAX)), ..Default::default() }).await.unwrap().len() as u64,
        summary.shares
    );
}
