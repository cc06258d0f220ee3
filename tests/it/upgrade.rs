//! A state folder of an earlier version goes on where it stopped: nothing is lost, and no spent link lives again.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{BROWSER, Server, Setup};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state-1").join(name)
}

fn put_old_state(state: &Path) {
    std::fs::create_dir(state).unwrap();
    for name in ["jwt.key", "transfer.key"] {
        std::fs::copy(fixture(name), state.join(name)).unwrap();
        std::fs::set_permissions(state.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let sql = std::fs::read_to_string(fixture("portcullis.sql")).unwrap();
    rusqlite::Connection::open(state.join("portcullis.db")).unwrap().execute_batch(&sql).unwrap();
}

fn upgraded() -> Server {
    // What happened then is older than any retention some day.
    Setup::new().set("RETENTION_DAYS", 0).start_after(|root, state| {
        std::fs::write(root.join("letter.txt"), "hello\n").unwrap();
        put_old_state(state);
    })
}

fn link(name: &str) -> String {
    let links: Value = serde_json::from_slice(&std::fs::read(fixture("links.json")).unwrap()).unwrap();
    links[name].as_str().unwrap().to_owned()
}

fn list(server: &Server, path: &str) -> Vec<Value> {
    server.api("GET", path, None).expect_status(200).json()["shares"].as_array().unwrap().clone()
}

#[test]
fn every_share_of_an_older_state_folder_is_there() {
    let server = upgraded();
    let of = |shares: Vec<Value>| -> Vec<(String, String, Value)> {
        let text = |share: &Value, field: &str| share[field].as_str().unwrap().to_owned();
        let mut found: Vec<_> = shares.iter().map(|share| (text(share, "id"), text(share, "name"), share["outcome"].clone())).collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    };
    let row = |id: &str, name: &str, outcome: Value| (id.to_owned(), name.to_owned(), outcome);
    assert_eq!(
        of(list(&server, "/api/v1/history")),
        [row("5z7gcptkrq", "letter.txt", json!("completed")), row("j4g33rp3nt", "letter.txt", json!("revoked"))]
    );
    assert_eq!(
        of(list(&server, "/api/v1/shares?state=living")),
        [row("d5xd2z659y", "Grüße.txt", Value::Null), row("zc7d1x6zvr", "film.mp4", Value::Null)]
    );
    let film = server.show("zc7d1x6zvr");
    assert_eq!((&film["note"], &film["policy"]["max_downloads"], &film["transfers"]), (&json!("For Ann"), &json!(2), &json!(1)));
}

#[test]
fn the_event_log_of_an_older_state_folder_is_whole_and_counted() {
    let server = upgraded();
    let events = server.api("GET", "/api/v1/events?limit=19", None).expect_status(200).json();
    let numbers: Vec<u64> = events["events"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=19).collect::<Vec<u64>>());
    // Statistics did not exist then; they are folded from the log that did.
    let day = events["events"][0]["at"].as_str().unwrap()[..10].to_owned();
    let stats = server.api("GET", &format!("/api/v1/stats?from={day}&to={day}"), None).expect_status(200).json();
    assert_eq!((&stats["shares"]["made"], &stats["transfers"]["completed"]), (&json!(4), &json!(2)), "{stats:#}");
    assert_eq!(stats["shares"]["outcomes"], json!({ "completed": 1, "revoked": 1 }), "{stats:#}");
    assert_eq!(stats["transfers"]["delivered_bytes"], json!(300_006), "{stats:#}");
}

#[test]
fn a_link_that_was_spent_before_an_upgrade_stays_spent_and_one_that_was_not_works() {
    let server = upgraded();
    let status = |name: &str| server.fetch("GET", &link(name), &[BROWSER]).expect("a genuine link is answered").status;
    assert_eq!(status("spent"), 410);
    assert_eq!(status("one_left"), 200);
    assert_eq!(status("unused"), 200);
}

#[test]
fn a_folder_that_was_upgraded_is_shared_from_and_starts_again() {
    let mut server = upgraded();
    let offer = server.share("letter.txt");
    let transfer = server.redeem(&offer);
    assert_eq!(server.fetch("GET", &transfer, &[]).expect("answered").expect_status(200).body, b"hello\n");
    server.kill();
    server.start();
    assert_eq!(list(&server, "/api/v1/history").len() + list(&server, "/api/v1/shares?state=living").len(), 5);
}

/// What the notes on upgrades say to an owner.
const NOTES: &str = include_str!("../../docs/upgrading.md");

fn layout_of(state: &Path) -> i64 {
    let store = rusqlite::Connection::open(state.join("portcullis.db")).unwrap();
    store.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

#[test]
fn the_notes_on_upgrades_tell_of_every_layout() {
    let server = Setup::new().start();
    let latest = layout_of(&server.state);
    let table = NOTES.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |")?.0.parse::<i64>().ok());
    assert_eq!(table.collect::<Vec<_>>(), (1..=latest).collect::<Vec<_>>(), "docs/upgrading.md has a line for each layout of the store");
}

#[test]
fn a_later_store_is_refused_as_the_notes_say_and_the_backup_leads_back() {
    let mut server = Setup::new().start();
    std::fs::write(server.root.join("letter.txt"), "hello\n").unwrap();
    let offer = server.share("letter.txt");
    let backup = server.folder().join("before");
    let run = |server: &Server, arguments: &[&str]| {
        let output = server.command().args(arguments).output().unwrap();
        (output.status.code(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    };
    let (code, said) = run(&server, &["backup", backup.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    assert!(server.stop().success());
    let latest = layout_of(&server.state);
    let store = rusqlite::Connection::open(server.state.join("portcullis.db")).unwrap();
    store.pragma_update(None, "user_version", latest + 1).unwrap();
    drop(store);

    assert!(server.try_start().is_some_and(|status| !status.success()));
    let sentence = format!("it was written by a later version of portcullis (its layout is {}, this version knows {latest})", latest + 1);
    assert!(server.log_text().contains(&sentence), "{}", server.log_text());
    assert!(NOTES.contains(&sentence), "docs/upgrading.md has this sentence: {sentence}");
    assert_eq!(layout_of(&server.state), latest + 1, "what is refused is left as it was");

    let (code, said) = run(&server, &["restore", backup.to_str().unwrap(), "--replace"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(layout_of(&server.state), latest);
    let kept = rusqlite::Connection::open(server.state.join("portcullis.db.before-restore-1")).unwrap();
    assert_eq!(kept.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).unwrap(), latest + 1);
    server.start();
    assert_eq!(server.outcome(&offer.id), "revoked");
}
