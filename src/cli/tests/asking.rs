//! The commands that ask once and print the answer.

use super::answers::HASH;
use super::*;

async fn on_screen(server: &Server, columns: usize, line: &[&str]) -> Ran {
    let screen = Screen { rows: 24, columns, has_colours: false };
    run_on(server.folder.path(), line, Interrupts::when(stream::pending()), Some(screen), None).await
}

#[tokio::test]
async fn share_asks_for_everything_that_was_said() {
    let server = Server::start();
    let file = server.file();
    let line = [
        "share",
        &file,
        "--expires=2h",
        "--downloads=unlimited",
        "--start=2026-11-01T18:00:00Z",
        "--networks=203.0.113.0/24,2001:db8::1",
        "--max-speed=2MB",
        "--message=Hello",
        "--note=Ana",
        "--on-stall=reopen",
    ];
    assert_eq!(server.run(&line).await.exit, Exit::Done);
    let policy = json!({ "expires_in_seconds": 7200, "unlimited_downloads": true, "starts_at": "2026-11-01T18:00:00Z",
                         "allowed_networks": ["203.0.113.0/24", "2001:db8::1"], "max_bytes_per_second": 2_000_000, "on_stall": "reopen" });
    assert_eq!(
        server.asked("POST /api/v1/shares"),
        [json!({ "path": "holiday.mp4", "policy": policy, "note": "Ana", "message": "Hello" })]
    );
}

#[tokio::test]
async fn several_files_are_one_request_and_each_has_its_own_answer() {
    let server = Server::start();
    std::fs::write(server.folder.path().join("nas/b.bin"), "x").unwrap();
    let (a, b) = (server.file(), server.folder.path().join("nas/b.bin").to_str().unwrap().to_owned());
    let problem = json!({ "detail": "b.bin cannot be read.", "code": "unreadable", "status": 403 });
    let made = share("offered", "Ready.", None);
    let batch = json!({ "results": [
        { "path": "holiday.mp4", "status": 201, "share": made, "problem": null },
        { "path": "b.bin", "status": 403, "share": null, "problem": problem },
    ] });
    *server.state.refusal.lock().unwrap() = Some((207, batch));
    let ran = server.run(&["share", &a, &b, "--json"]).await;
    assert_eq!(server.asked("POST /api/v1/shares"), [json!({ "paths": ["holiday.mp4", "b.bin"], "policy": {} })]);
    assert_eq!((ran.exit, ran.out.lines().count()), (Exit::Error, 1));
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap()["id"], ID);
    assert!(ran.err.contains("portcullis: b.bin cannot be read."), "{}", ran.err);
}

#[tokio::test]
async fn waiting_for_several_tells_of_each() {
    let server = Server::start();
    let file = server.file();
    let mut other = share("offered", "Ready.", None);
    (other["id"], other["name"]) = (json!("bbbbbbbbbb"), json!("b.bin"));
    let made = share("offered", "Ready.", None);
    let batch =
        json!({ "results": [{ "path": "holiday.mp4", "status": 201, "share": made }, { "path": "b.bin", "status": 201, "share": other }] });
    *server.state.refusal.lock().unwrap() = Some((207, batch));
    let line = ["share", &file, &file, "--wait"];
    // The other one is not known to this server: that is an error, and no endless wait.
    let ran = server.run(&line).await;
    assert_eq!((ran.exit, ran.out.lines().count()), (Exit::Error, 2));
    assert!(ran.err.contains("holi\u{FFFD}day.mp4: Ready."), "{}", ran.err);
}

#[tokio::test]
async fn show_says_everything_in_sentences() {
    let server = Server::start();
    let ran = server.run(&["show", ID]).await;
    assert_eq!(ran.exit, Exit::Done);
    for line in [
        "holi\u{FFFD}day.mp4 (1.9 GB)",
        "Ready. Nobody has opened it yet.",
        "Made 2026-01-01 00:00 UTC, expires 2026-01-01 01:30 UTC.",
        &format!("Link: {URL}"),
        "203.0.113.7 with curl/8.5\u{FFFD}[2J has all of it (1.9 GB); began 2026-01-01 00:00 UTC, ended 2026-01-01 00:03 UTC.",
        "an unknown address was cut off at 0 B of 1.9 GB (0 %); began 2026-01-01 00:00 UTC, ended 2026-01-01 00:03 UTC. The use was given back.",
    ] {
        assert!(ran.out.lines().any(|found| found == line), "{line}\n{}", ran.out);
    }
    let json: Value = serde_json::from_str(&server.run(&["show", ID, "--json"]).await.out).unwrap();
    assert_eq!((&json["share"]["id"], json["transfers"].as_array().unwrap().len()), (&json!(ID), 2));
    assert_eq!(server.run(&["show", "0123456789"]).await.exit, Exit::Error);
    assert_eq!(server.run(&["show", "../x"]).await.exit, Exit::Error);
    let narrow = on_screen(&server, 40, &["show", ID]).await.out;
    assert!(narrow.contains(&format!("Link: {URL}")), "a link stays in one piece: {narrow}");
    assert!(narrow.lines().filter(|line| !line.contains("Link")).all(|line| text::width(line) <= 40), "{narrow}");
}

#[tokio::test]
async fn a_share_is_extended_reopened_and_all_are_closed() {
    let mut server = Server::start();
    let url = server.listen().await;
    assert_eq!(server.run(&["extend", "../x", "2h"]).await.exit, Exit::Error);
    assert_eq!(server.run(&["extend", "0123456789", "2h"]).await.exit, Exit::Error);
    let extended = server.run(&["extend", ID, "2h"]).await;
    assert_eq!((extended.exit, extended.out.as_str()), (Exit::Done, "abcdefghjk  open until 2026-01-01 01:30 UTC\n"));
    assert!(extended.err.contains("the longest this server allows"));
    assert_eq!(server.asked("POST /api/v1/shares/abcdefghjk/extend"), [json!({ "expires_in_seconds": 7200 })]);
    let reopened = server.run(&["reopen", ID, "--server", &url]).await;
    assert_eq!((reopened.exit, reopened.out), (Exit::Done, format!("{URL}\n")));
    let undone = server.run(&["reopen", "--undo", ID]).await;
    assert_eq!((undone.exit, undone.out), (Exit::Done, format!("{URL}\n")));
    assert_eq!(server.asked("POST /api/v1/shares/abcdefghjk/reopen"), [json!({}), json!({ "undo": true })]);
    // Two pages list it, and to close it twice is fine.
    let closed = server.run(&["close", "--all"]).await;
    assert_eq!((closed.exit, closed.out.lines().count()), (Exit::Done, 2), "{closed:?}");
}

#[tokio::test]
async fn history_asks_for_what_was_said() {
    let server = Server::start();
    let ran = server
        .run(&["history", "--outcome=stalled", "--query=a b", "--since=2026-11-01", "--until=2026-11-02T00:00:00Z", "--limit=2"])
        .await;
    assert_eq!(ran.exit, Exit::Done);
    let asked = server.state.requests.lock().unwrap().iter().map(|(line, _)| line.clone()).collect::<Vec<_>>();
    let wanted = "GET /api/v1/history?outcome=stalled&query=a%20b&since=2026%2D11%2D01&until=2026%2D11%2D02T00%3A00%3A00Z&limit=2";
    assert_eq!(asked, [wanted]);
    assert_eq!(ran.out.lines().nth(1).unwrap(), "2026-01-01 00:10 UTC  abcdefghjk  stalled  1.9 GB  holiday.mp4");
    assert_eq!(ran.err, "There are more.\n");
    let json: Value = serde_json::from_str(&server.run(&["history", "--json"]).await.out).unwrap();
    assert_eq!(json[0]["id"], ID);
}

#[tokio::test]
async fn files_are_found_and_folders_listed() {
    let server = Server::start();
    let found = server.run(&["files", "holi day"]).await;
    assert_eq!((found.exit, found.out.lines().count()), (Exit::Done, 3));
    assert!(
        found.out.contains("folder  2026-01-01 00:00 UTC  film/\n")
            && found.out.contains("5.0 kB  2026-01-02 03:04 UTC  film/holi\u{FFFD}day.mp4\n")
    );
    let listed = server.run(&["files", "--folder", "film", "--limit", "2"]).await;
    assert_eq!((listed.out.lines().count(), listed.err.as_str()), (3, "There are more.\n"));
    let narrow = on_screen(&server, 12, &["files", "holi day"]).await.out;
    assert!(narrow.lines().all(|line| text::width(line) <= 12), "{narrow}");
    let json: Value = serde_json::from_str(&server.run(&["files", "holi day", "--json"]).await.out).unwrap();
    assert_eq!(json[1]["size_bytes"], 5000);
    assert_eq!(server.run(&["files", "absent"]).await.exit, Exit::Error);
}

#[tokio::test]
async fn stats_are_told_and_asked_for_by_day() {
    let server = Server::start();
    let ran = server.run(&["stats", "--from", "2026-11-01", "--to", "2026-11-02"]).await;
    assert_eq!(ran.exit, Exit::Done, "{ran:?}");
    assert!(ran.out.starts_with("2026-11-01 to 2026-11-02 (UTC)\nShares: 2 made, 1 closed, 100 % of them delivered.\n"), "{}", ran.out);
    assert!(on_screen(&server, 40, &["stats", "--from=2026-11-01", "--to=2026-11-02"]).await.out.contains('█'));
    let json = server.run(&["stats", "--from=2026-11-01", "--to=2026-11-02", "--json"]).await.out;
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["shares"]["made"], 2);
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked() {
    let server = Server::start();
    let made = server.run(&["token", "create", "backup", "--scope=read", "--expires=90d"]).await;
    assert_eq!((made.exit, made.out.as_str()), (Exit::Done, "pct_5e\n"));
    assert!(made.err.contains("4k2m9xq7ab") && !made.err.contains("pct_5e"), "{}", made.err);
    assert_eq!(server.asked("POST /api/v1/tokens"), [json!({ "name": "backup", "scope": "read", "expires_in_seconds": 7_776_000 })]);
    let listed = server.run(&["token", "ls"]).await;
    assert!(listed.out.contains("4k2m9xq7ab  read   2026-01-01 00:00 UTC  never    never      back\u{FFFD}up\n"), "{}", listed.out);
    let json: Value = serde_json::from_str(&server.run(&["token", "ls", "--json"]).await.out).unwrap();
    assert_eq!(json[0]["scope"], "read");
    let revoked = server.run(&["token", "revoke", "../x", "4k2m9xq7ab"]).await;
    assert_eq!((revoked.exit, revoked.out.as_str()), (Exit::Error, "4k2m9xq7ab  revoked\n"));
    assert_eq!(server.run(&["token", "revoke", "4k2m9xq7ab"]).await.exit, Exit::Done);
}

#[tokio::test]
async fn browsers_are_listed_and_signed_out() {
    let server = Server::start();
    let listed = server.run(&["sessions", "ls"]).await;
    assert!(listed.exit == Exit::Done && listed.out.contains("this machine  Firefox (this one)"), "{}", listed.out);
    assert_eq!(server.run(&["sessions", "revoke", "3f9a0c41d2b85e77"]).await.out, "3f9a0c41d2b85e77  signed out\n");
    assert_eq!(server.run(&["sessions", "revoke", "--all"]).await.out, "Signed out: 3\n");
    assert_eq!(server.run(&["sessions", "revoke", "0000000000000000"]).await.exit, Exit::Error);
}

#[tokio::test]
async fn the_audit_log_is_listed_and_compared_with_what_was_noted() {
    let server = Server::start();
    let listed = server.run(&["audit"]).await;
    assert!(listed.out.contains("owner token  192.168.1.2  share.create  abcdefghjk  film/holi\u{FFFD}day.mp4"), "{}", listed.out);
    assert_eq!(server.run(&["audit", "ls"]).await.out, listed.out);
    let whole = server.run(&["audit", "verify"]).await;
    assert_eq!((whole.exit, whole.out), (Exit::Done, format!("The record is whole: 5 lines, from the first on.\nHead: 5:{HASH}\n")));
    let other = "00".repeat(32);
    for (head, exit, words) in [
        (format!("5:{HASH}"), Exit::Done, "Line 5 is as you noted it."),
        (format!("2:{HASH}"), Exit::Done, "Line 2 is as you noted it."),
        (format!("5:{other}"), Exit::Error, "line 5 has another hash"),
        (format!("2:{other}"), Exit::Error, "line 2 has another hash"),
        (format!("6:{HASH}"), Exit::Error, "line 6 is gone"),
    ] {
        let ran = server.run(&["audit", "verify", "--head", &head]).await;
        assert!(ran.exit == exit && ran.out.contains(words), "{head}: {ran:?}");
    }
    let json: Value = serde_json::from_str(&server.run(&["audit", "verify", "--json"]).await.out).unwrap();
    assert_eq!((&json["is_intact"], &json["noted"]), (&json!(true), &Value::Null));
}

#[tokio::test]
async fn a_server_on_the_network_is_asked_with_its_token() {
    let mut server = Server::start();
    let url = server.listen().await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "pct_abc\n").unwrap();
    let at = ["--server", &url, "--token-file", token.to_str().unwrap()];
    // The file is the catalog's: there is none of that name here.
    let ran = run_in(folder.path(), &[&["share", "film/holiday.mp4"][..], &at].concat(), Interrupts::when(stream::pending())).await;
    assert_eq!((ran.exit, ran.out), (Exit::Done, format!("{URL}\n")));
    assert_eq!(server.asked("POST /api/v1/shares"), [json!({ "path": "film/holiday.mp4", "policy": {} })]);
    assert!(server.state.credentials.lock().unwrap().iter().all(|credential| credential == "Bearer pct_abc"));
    let outside = run_in(folder.path(), &[&["share", "/etc/passwd"][..], &at].concat(), Interrupts::when(stream::pending())).await;
    assert!(outside.exit == Exit::Error && outside.err.contains("portcullis files"), "{}", outside.err);

    *server.state.refusal.lock().unwrap() = Some((401, json!({ "detail": "Sign in first.", "code": "unauthorized" })));
    let stranger = run_in(folder.path(), &["share", "x", "--server", &url], Interrupts::when(stream::pending())).await;
    assert!(
        stranger.exit == Exit::Error && stranger.err.contains("--token-file") && stranger.err.contains("Sign in first."),
        "{}",
        stranger.err
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_or_speaks_otherwise_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let ran = async |url: &str| run_in(folder.path(), &["ls", "--server", url], Interrupts::when(stream::pending())).await;
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nobody = ran(&format!("http://{closed}")).await;
    assert!(nobody.exit == Exit::NoServer && nobody.err.contains("nothing answers at http://127.0.0.1:"), "{}", nobody.err);
    let tls = ran("https://nas:8000").await;
    assert!(tls.exit == Exit::Usage && tls.err.contains("TLS"), "{}", tls.err);
    let line = ["ls", "--token-file", "/nowhere"];
    let pointless = run_in(folder.path(), &line, Interrupts::when(stream::pending())).await;
    assert!(pointless.exit == Exit::Usage && pointless.err.contains("needs --server"), "{}", pointless.err);
}
