//! A week of an owner's life, by commands alone.

use super::*;

/// Runs a command that must end well, and returns what it printed.
#[track_caller]
fn done(server: &Server, arguments: &[&str]) -> String {
    let output = run(server, arguments);
    check_code(&output, exit::DONE);
    String::from_utf8(output.stdout).expect("UTF-8 on stdout")
}

#[track_caller]
fn json(server: &Server, arguments: &[&str]) -> Value {
    serde_json::from_str(&done(server, arguments)).expect("JSON on stdout")
}

#[test]
fn a_share_is_watched_extended_closed_reopened_and_looked_back_at() {
    let server = Setup::new().start();
    let content = put(&server, "film/holiday.mkv", 100_000);
    poll(SOON, "the file is found", || done(&server, &["files", "holiday"]).contains("film/holiday.mkv"));
    assert!(done(&server, &["files"]).contains("film/"));
    let mut watching = server.command();
    let mut watching = watching.args(["watch", "--json"]).stdin(Stdio::null()).spawn().expect("the binary starts");
    let mut events = BufReader::new(watching.stdout.take().expect("piped")).lines();
    poll(SOON, "it watches", || server.api("GET", "/metrics", None).text().contains("portcullis_event_streams 1\n"));

    let share = json(&server, &["share", "film/holiday.mkv", "--json", "--expires", "10m", "--message", "Hello", "--max-speed", "50MB"]);
    assert_eq!((&share["message"], &share["policy"]["max_bytes_per_second"]), (&json!("Hello"), &json!(50_000_000)));
    let id = share["id"].as_str().unwrap();
    let extended = json(&server, &["extend", id, "40m", "--json"]);
    assert!(extended["expires_at"].as_str() > share["expires_at"].as_str(), "{extended}");
    done(&server, &["close", id]);
    let again = done(&server, &["reopen", id]);
    let offer = Offer { id: id.to_owned(), link: path_of(again.trim_end()).to_owned(), url: again.trim_end().to_owned() };
    let bytes = server.fetch("GET", &server.redeem(&offer), &[]).expect("an answer").expect_status(200);
    assert_eq!(sha256(&bytes.body), sha256(&content));
    server.wait_for(id, "it is delivered", |share| share["state"] == "delivered");
    let shown = done(&server, &["show", id]);
    assert!(shown.contains("Delivered") && shown.contains("To the recipient: Hello") && shown.contains("has all of it"), "{shown}");
    assert!(done(&server, &["close", "--all"]).contains(id));

    let history = json(&server, &["history", "--query", "HOLIDAY", "--since", "1d", "--json"]);
    assert_eq!(history[0]["id"], id);
    assert_eq!(json(&server, &["history", "--outcome", "expired", "--json"]), json!([]));
    let stats = json(&server, &["stats", "--json"]);
    assert_eq!((&stats["transfers"]["completed"], &stats["transfers"]["delivered_bytes"]), (&json!(1), &json!(100_000)));
    assert!(done(&server, &["stats", "--from", "7d"]).contains("film/holiday.mkv"));
    check_code(&run(&server, &["stats", "--from", "2020-01-01"]), exit::ERROR);

    let mut kinds = Vec::new();
    while kinds.iter().filter(|kind| *kind == "share.closed").count() < 2 {
        let line: Value = serde_json::from_str(&events.next().expect("another event").unwrap()).unwrap();
        kinds.push(line["type"].as_str().unwrap().to_owned());
    }
    for kind in ["share.created", "share.extended", "share.reopened", "transfer.redeemed", "share.delivered"] {
        assert!(kinds.iter().any(|known| known == kind), "{kind} is not among {kinds:?}");
    }
    let pid = rustix::process::Pid::from_child(&watching);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal can be sent");
    assert_eq!(watching.wait().unwrap().code(), Some(exit::DONE));
}

#[test]
fn watching_one_share_ends_with_it() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let offer = server.share("film.mkv");
    let mut command = server.command();
    let mut watching = command.args(["watch", &offer.id]).stdin(Stdio::null()).spawn().expect("the binary starts");
    let mut lines = BufReader::new(watching.stdout.take().expect("piped")).lines();
    assert!(lines.next().expect("its state").unwrap().contains("Ready."));
    server.revoke(&offer.id);
    assert!(lines.map(Result::unwrap).last().is_some_and(|line| line.contains("You closed it")));
    assert_eq!(watching.wait().unwrap().code(), Some(exit::REVOKED));
    check_code(&run(&server, &["watch", &offer.id, "--json"]), exit::REVOKED);
    check_code(&run(&server, &["watch", "0000000000"]), exit::ERROR);
}

#[test]
fn several_files_are_shared_at_once_each_for_itself() {
    let server = Setup::new().start();
    put(&server, "a.bin", 1000);
    put(&server, "b.bin", 1000);
    let output = run(&server, &["share", "a.bin", "absent.bin", "b.bin", "--json"]);
    check_code(&output, exit::ERROR);
    let shares: Vec<Value> = String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(shares.iter().map(|share| &share["path"]).collect::<Vec<_>>(), ["a.bin", "b.bin"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("absent.bin"), "{}", said(&output));
    let mut command = server.command();
    let mut waiting = command.args(["share", "a.bin", "b.bin", "--wait"]).stdin(Stdio::null()).spawn().expect("the binary starts");
    let mut links = BufReader::new(waiting.stdout.take().expect("piped")).lines();
    for _ in 0..2 {
        let url = links.next().expect("a link").unwrap();
        let link = path_of(&url).to_owned();
        let offer = Offer { id: link[1..].split('/').next().unwrap().to_owned(), link, url };
        server.fetch("GET", &server.redeem(&offer), &[]).expect("an answer").expect_status(200);
    }
    check_code(&finish(waiting), exit::DONE);
}

#[test]
fn a_script_comes_in_with_its_token_and_gets_as_far_as_its_scope() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let offer = server.share("film.mkv");
    let token = done(&server, &["token", "create", "phone", "--scope", "read"]);
    let listed = json(&server, &["token", "ls", "--json"]);
    let id = listed[0]["id"].as_str().unwrap();
    assert_eq!((&listed[0]["name"], &listed[0]["token"]), (&json!("phone"), &Value::Null));
    let ask = |arguments: &[&str]| {
        let mut command = server.command();
        command.env("PORTCULLIS_SERVER", format!("http://{}", server.owner)).env("PORTCULLIS_TOKEN", token.trim_end());
        finish(command.args(arguments).stdin(Stdio::null()).spawn().expect("the binary starts"))
    };
    let seen = ask(&["ls", "--json"]);
    check_code(&seen, exit::DONE);
    let seen: Value = serde_json::from_slice(&seen.stdout).unwrap();
    assert_eq!((&seen[0]["id"], &seen[0]["url"]), (&json!(offer.id), &Value::Null));
    for arguments in [&["share", "film.mkv"][..], &["close", &offer.id], &["audit"], &["token", "ls"], &["sessions", "ls"]] {
        let refused = ask(arguments);
        check_code(&refused, exit::ERROR);
        assert!(refused.stdout.is_empty() && String::from_utf8_lossy(&refused.stderr).trim().contains(' '), "{}", said(&refused));
    }
    done(&server, &["token", "revoke", id]);
    check_code(&ask(&["ls"]), exit::ERROR);
    check_code(&run(&server, &["token", "revoke", id]), exit::ERROR);
}

#[test]
fn the_record_of_what_was_done_is_whole_and_can_be_compared() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    done(&server, &["share", "film.mkv"]);
    let verdict = done(&server, &["audit", "verify"]);
    let head = verdict.lines().find_map(|line| line.strip_prefix("Head: ")).expect("a head to note").to_owned();
    done(&server, &["close", "--all"]);
    let audit = json(&server, &["audit", "--json"]);
    assert_eq!((&audit[0]["action"], &audit[1]["action"]), (&json!("share.close"), &json!("share.create")));
    done(&server, &["audit", "verify", "--head", &head]);
    done(&server, &["audit", "verify", "--offline"]);
    let other = format!("1:{}", "0".repeat(64));
    check_code(&run(&server, &["audit", "verify", "--head", &other]), exit::ERROR);
    let gone = format!("9:{}", "0".repeat(64));
    check_code(&run(&server, &["audit", "verify", "--head", &gone, "--offline"]), exit::ERROR);
}
