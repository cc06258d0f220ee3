//! Somebody with the file in their hands.

use super::*;
use crate::store::audit::AuditEntry;
use crate::store::contract::entry;

/// Says what is found after somebody did something to a log of nine lines, of which three were forgotten.
async fn found_after(harm: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for n in 1..=9 {
        store.append_audit(entry(n)).await.unwrap();
    }
    assert_eq!(store.forget(Timestamp(4)).await.unwrap().audit_lines, 3);
    let intact = store.verify_audit().await.unwrap();
    assert_eq!((intact.broken, intact.lines), (None, 7));
    let other = from_outside(folder.path());
    // Triggers keep nobody from it who can take them away.
    let triggers = "DROP TRIGGER audit_is_never_changed; DROP TRIGGER audit_is_never_removed; DROP TRIGGER audit_is_never_replaced;";
    other.execute_batch(triggers).unwrap();
    other.execute_batch(harm).unwrap();
    let seen_beside = verify_audit_of(folder.path()).unwrap();
    assert_eq!(seen_beside, store.verify_audit().await.unwrap());
    seen_beside.broken.map(|broken| broken.sentence)
}

#[tokio::test]
async fn whatever_was_done_to_the_audit_log_is_found() {
    assert_eq!(found_after("SELECT 1").await, None);
    for harm in [
        "UPDATE audit SET at_ms = at_ms + 1 WHERE seq = 5",
        "UPDATE audit SET who = 'nobody' WHERE seq = 5",
        "UPDATE audit SET source = '' WHERE seq = 5",
        "UPDATE audit SET action = 'share.close' WHERE seq = 4",
        "UPDATE audit SET target = 'x' WHERE seq = 10",
        "UPDATE audit SET detail = detail || ' ' WHERE seq = 9",
        "UPDATE audit SET previous = zeroblob(32) WHERE seq = 4",
        "UPDATE audit SET hash = zeroblob(32) WHERE seq = 5",
        "UPDATE audit SET seq = 99 WHERE seq = 10",
        "DELETE FROM audit WHERE seq = 4",
        "DELETE FROM audit WHERE seq = 7",
        "DELETE FROM audit WHERE seq = 10",
        "DELETE FROM audit",
        "UPDATE audit SET seq = 100 WHERE seq = 6; UPDATE audit SET seq = 6 WHERE seq = 7; UPDATE audit SET seq = 7 WHERE seq = 100",
        // The ends moved to fit.
        "DELETE FROM audit WHERE seq <= 6; UPDATE audit_mark SET seq = 6, hash = (SELECT previous FROM audit WHERE seq = 7) WHERE name = 'anchor'",
        "DELETE FROM audit_mark WHERE name = 'anchor'",
        "DELETE FROM audit_mark WHERE name = 'head'",
        "UPDATE audit_mark SET hash = zeroblob(32) WHERE name = 'head'",
        "DELETE FROM audit WHERE seq = 10; UPDATE audit_mark SET seq = 9, hash = (SELECT hash FROM audit WHERE seq = 9) WHERE name = 'head'",
    ] {
        assert!(found_after(harm).await.is_some(), "{harm}");
    }
}

#[tokio::test]
async fn the_audit_log_is_append_only_whoever_writes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for n in 1..=3 {
        store.append_audit(entry(n)).await.unwrap();
    }
    let other = from_outside(folder.path());
    for attempt in [
        "UPDATE audit SET who = '' WHERE seq = 1",
        "DELETE FROM audit WHERE seq = 1",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit SELECT seq, 0, who, source, action, target, detail, previous, hash FROM audit WHERE seq = 2",
    ] {
        let error = other.execute(attempt, []).unwrap_err().to_string();
        assert!(error.contains("append-only"), "{attempt}: {error}");
    }
    assert_eq!(store.verify_audit().await.unwrap().broken, None);
}

#[tokio::test]
async fn what_somebody_broke_stays_visible_and_keeps_nobody_from_writing_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for n in 1..=5 {
        store.append_audit(entry(n)).await.unwrap();
    }
    let other = from_outside(folder.path());
    other.execute_batch("DROP TRIGGER audit_is_never_removed; DELETE FROM audit WHERE seq >= 4").unwrap();
    let line = store.append_audit(AuditEntry { who: "owner token".to_owned(), ..entry(6) }).await.unwrap();
    assert_eq!(line.seq, 6, "it goes on behind what was removed");
    assert_eq!(store.verify_audit().await.unwrap().broken.unwrap().sentence, "lines 4 to 5 are missing");
}

#[tokio::test]
async fn lines_of_the_event_log_go_with_their_share_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    open_share(&store, 1, 1, seconds(1)).await;
    let other = from_outside(folder.path());
    other.execute_batch("INSERT INTO forgetting (share) VALUES ('another')").unwrap();
    let error = other.execute("DELETE FROM event WHERE seq = 1", []).unwrap_err().to_string();
    assert!(error.contains("append-only"), "{error}");
}

#[test]
fn a_folder_without_a_store_of_this_version_has_no_audit_log() {
    let folder = tempfile::tempdir().unwrap();
    let why = |folder: &Path| verify_audit_of(folder).unwrap_err().to_string();
    assert!(why(folder.path()).contains("there is none"));
    from_outside(folder.path()).execute_batch("CREATE TABLE recipes (name TEXT)").unwrap();
    assert!(why(folder.path()).contains("another program"));
    let old = super::migration::of_version_1();
    assert!(why(old.path()).contains("earlier version"));
}
