//! A disk that is full, read-only, broken or hangs: what cannot be kept is refused in a sentence, what is to be shut is shut at
//! once, nothing that was answered is lost, and all is well again without a restart once there is room.
//!
//! A small tmpfs stands for the disk of the state folder (root alone can mount one); where one call is to fail or hang,
//! `tests/faults/` stands before it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Answer, BROWSER, Client, DISK_BROKEN, DISK_FULL, Faults, Offer, READ_ONLY, SOON, Server, Setup, poll, put, sha256};

const MIB: usize = 1024 * 1024;
/// How large the small disk is: enough for a store and its log, and filled in no time.
const DISK_BYTES: usize = 24 * MIB;
/// A film that a slow reader is busy with for as long as a test takes.
const FILM_BYTES: usize = 32 * MIB;
/// What owners are promised about a revoke: within a second nothing more leaves. Here twice that, on a machine that is busy.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A file system of its own, as a folder; gone with the value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Self {
        fs::create_dir(at).expect("the folder is made");
        let options = format!("size={DISK_BYTES},mode=0700");
        assert!(run("mount", &["-t", "tmpfs", "-o", &options, "portcullis-test"], at), "a tmpfs can be mounted");
        Self(at.to_owned())
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("filler")).expect("the filler is made");
        let chunk = vec![7; 64 * 1024];
        while file.write_all(&chunk).is_ok() {}
        // The last pages, one by one.
        while file.write_all(&chunk[..512]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("filler")).expect("the filler goes");
    }

    fn remount(&self, how: &str) {
        assert!(run("mount", &["-o", &format!("remount,{how}")], &self.0), "it can be mounted again, {how}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = run("umount", &["-l"], &self.0);
    }
}

fn run(program: &str, arguments: &[&str], at: &Path) -> bool {
    Command::new(program).args(arguments).arg(at).status().is_ok_and(|status| status.success())
}

/// A server whose state lies on a small disk.
fn server_on_small_disk() -> (Server, SmallDisk) {
    let mut disk = None;
    let server = Setup::new().start_after(|_, state| disk = Some(SmallDisk::mount(state)));
    (server, disk.expect("it was mounted"))
}

/// A download that goes on for as long as it is not read.
fn begin_download(server: &Server, transfer: &str) -> Client {
    let mut client = Client::connect_with_small_buffer(server.recipient, 64 * 1024);
    client.ask("GET", transfer, &[BROWSER]);
    client.answer_head().expect("it began").expect_status(200);
    client
}

/// Sends a revoke and waits for no answer.
fn ask_to_revoke(server: &Server, id: &str) -> Client {
    let mut client = Client::connect(server.owner);
    client.ask("DELETE", &format!("/api/v1/shares/{id}"), &[&format!("Authorization: Bearer {}", server.token), "Connection: close"]);
    client
}

#[track_caller]
fn expect_refusal(answer: Answer) {
    let problem = answer.expect_status(503).json();
    assert_eq!(problem["code"], "store_unavailable", "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("store") && text.ends_with('.')), "{problem}");
}

fn create(server: &Server) -> Answer {
    server.api("POST", "/api/v1/shares", Some(&json!({ "path": "film.mkv" })))
}

fn is_healthy(server: &Server) -> bool {
    let answer = server.api("GET", "/health", None);
    let is_healthy = answer.status == 200;
    assert_eq!(answer.json()["status"], if is_healthy { "healthy" } else { "unhealthy" });
    is_healthy
}

/// What a share is promised while the disk takes nothing, and when it takes everything again. `break_it` and `mend` do that.
fn check_promises(server: &mut Server, break_it: impl FnOnce(), mend: impl FnOnce()) {
    let film = put(server, "film.mkv", FILM_BYTES);
    let small = put(server, "small.bin", 10_000);
    let [running, shut, waiting] = [(); 3].map(|()| server.share("film.mkv"));
    let spent = server.share("small.bin");
    let (first, second) = (server.redeem(&running), server.redeem(&shut));
    let body = server.fetch("GET", &server.redeem(&spent), &[BROWSER]).expect("an answer").expect_status(200).body;
    assert_eq!(sha256(&body), sha256(&small));
    let (mut running_client, mut shut_client) = (begin_download(server, &first), begin_download(server, &second));

    break_it();
    expect_refusal(create(server));
    poll(SOON, "health says that the store cannot be written", || !is_healthy(server));
    let refused = server.fetch("POST", &waiting.redeem_path(), &[BROWSER]).expect("a genuine link is answered");
    assert_eq!(refused.status, 503, "nobody gets what cannot be kept: {}", refused.head_text());
    let page = server.fetch("GET", &waiting.link, &[BROWSER]).expect("a genuine link is answered");
    assert_eq!(page.status, 200, "looking needs no disk");
    // What runs goes on: its beginning was saved.
    let mut got = Vec::new();
    while got.len() < 20 * MIB {
        let more = running_client.read_some(256 * 1024);
        assert!(!more.is_empty(), "a download that ran was cut after {} bytes", got.len());
        got.extend(more);
    }
    check_shut_at_once(server, &shut, &second, &mut shut_client);

    mend();
    poll(SOON, "health is well again", || is_healthy(server));
    while got.len() < FILM_BYTES {
        let more = running_client.read_some(256 * 1024);
        assert!(!more.is_empty(), "a download that ran was cut after {} bytes", got.len());
        got.extend(more);
    }
    assert_eq!(sha256(&got), sha256(&film));
    server.wait_for(&running.id, "it is delivered", |share| share["state"] == "delivered");
    assert_eq!(server.outcome(&shut.id), "revoked");
    server.redeem(&waiting);
    assert_eq!(create(server).status, 201);

    // And nothing of all that was only in memory.
    server.kill();
    server.start();
    assert_eq!(server.outcome(&shut.id), "revoked");
    assert_eq!(server.show(&running.id)["state"], "delivered");
    for offer in [&spent, &waiting, &running] {
        assert_eq!(server.uses(&offer.id), 1);
    }
    let verdict = server.api("GET", "/api/v1/audit/verify", None).expect_status(200).json();
    assert_eq!(verdict["is_intact"], true, "{verdict}");
    let listed = server.api("GET", "/api/v1/shares?limit=1000", None).expect_status(200).json();
    assert_eq!(listed["shares"].as_array().map(Vec::len), Some(5), "what was refused is not there: {listed:#}");
}

/// A revoke that cannot be saved cuts all the same, and says that it did.
fn check_shut_at_once(server: &Server, offer: &Offer, transfer: &str, client: &mut Client) {
    let began = Instant::now();
    let mut asking = ask_to_revoke(server, &offer.id);
    let left = client.read_to_close(SOON);
    assert!(began.elapsed() < AT_ONCE && left.len() < FILM_BYTES, "cut after {:?} and {} bytes", began.elapsed(), left.len());
    let told = asking.answer("DELETE").expect("an answer").expect_status(503).json();
    assert_eq!(told["code"], "store_unavailable", "{told}");
    assert!(told["detail"].as_str().is_some_and(|text| text.starts_with("The share is shut")), "{told}");
    let answer = server.fetch("GET", transfer, &[BROWSER]);
    assert!(answer.is_none_or(|answer| answer.status != 200), "bytes of what was shut");
    let answer = server.fetch("POST", &offer.redeem_path(), &[BROWSER]);
    assert!(answer.is_none_or(|answer| answer.status != 303), "its link was taken");
}

#[test]
#[ignore = "needs root: it mounts a small tmpfs"]
fn a_full_disk_refuses_clearly_loses_nothing_and_is_well_when_there_is_room() {
    let (mut server, disk) = server_on_small_disk();
    check_promises(&mut server, || disk.fill(), || disk.make_room());
}

#[test]
fn a_disk_that_goes_read_only_refuses_clearly_and_is_well_when_it_is_back() {
    // By hand no file system goes read-only while a file on it is open for writing; by an error of the disk it does, and then
    // every call fails so.
    check_breaking(READ_ONLY);
}

#[test]
fn a_broken_disk_refuses_clearly_and_is_well_when_it_is_mended() {
    check_breaking(DISK_BROKEN);
}

fn check_breaking(errno: i32) {
    let mut server = Setup::new().build(|_, _| {});
    let faults = Faults::before(&mut server, "");
    server.start();
    check_promises(&mut server, || faults.fail_writes(errno), || faults.heal());
}

#[test]
fn a_disk_that_hangs_keeps_no_owner_waiting_and_no_revoke() {
    let mut server = Setup::new().build(|_, _| {});
    let faults = Faults::before(&mut server, "");
    server.start();
    put(&server, "film.mkv", FILM_BYTES);
    let [shut, other] = [(); 2].map(|()| server.share("film.mkv"));
    let made = server.api("POST", "/api/v1/tokens", Some(&json!({ "name": "script", "scope": "share" }))).expect_status(201).json();
    let (transfer, goes_on) = (server.redeem(&shut), server.redeem(&other));
    let (mut client, mut running) = (begin_download(&server, &transfer), begin_download(&server, &goes_on));

    faults.hang_syncs();
    poll(SOON, "health says so", || !is_healthy(&server));
    let began = Instant::now();
    let health = server.api("GET", "/health", None).expect_status(503).json();
    assert!(began.elapsed() < Duration::from_secs(2), "health was answered after {:?}", began.elapsed());
    assert_eq!(health["checks"]["store"]["status"], "failing", "{health}");
    // A script that was never here: that it was is noted when the disk is back.
    let script = format!("Authorization: Bearer {}", made["token"].as_str().expect("a token"));
    let began = Instant::now();
    Client::connect(server.owner).request("GET", "/api/v1/shares", &[&script]).expect("an answer").expect_status(200);
    assert!(began.elapsed() < AT_ONCE, "a script waited {:?} at the door", began.elapsed());

    let began = Instant::now();
    let mut asking = ask_to_revoke(&server, &shut.id);
    let left = client.read_to_close(SOON);
    assert!(began.elapsed() < AT_ONCE && left.len() < FILM_BYTES, "cut after {:?}", began.elapsed());
    let mut got = 0;
    while got < 16 * MIB {
        let more = running.read_some(256 * 1024).len();
        assert!(more > 0, "a download that ran was cut after {got} bytes");
        got += more;
    }
    faults.heal();
    asking.answer("DELETE").expect("an answer").expect_status(200);
    poll(SOON, "health is well again", || is_healthy(&server));
    assert_eq!(server.outcome(&shut.id), "revoked");
    while got < FILM_BYTES {
        let more = running.read_some(256 * 1024).len();
        assert!(more > 0, "a download that ran was cut after {got} bytes");
        got += more;
    }
    server.wait_for(&other.id, "it is delivered", |share| share["state"] == "delivered");
}

#[test]
fn a_token_that_is_revoked_on_a_disk_that_hangs_opens_nothing_and_is_gone_though_nobody_waits() {
    let mut server = Setup::new().build(|_, _| {});
    let faults = Faults::before(&mut server, "");
    server.start();
    let made = server.api("POST", "/api/v1/tokens", Some(&json!({ "name": "script", "scope": "share" }))).expect_status(201).json();
    let script = format!("Authorization: Bearer {}", made["token"].as_str().expect("a token"));
    let status = || Client::connect(server.owner).request("GET", "/api/v1/shares", &[&script]).expect("an answer").status;
    assert_eq!(status(), 200);
    faults.hang_syncs();
    let mut asking = Client::connect(server.owner);
    let authorization = format!("Authorization: Bearer {}", server.token);
    let path = format!("/api/v1/tokens/{}", made["id"].as_str().expect("an id"));
    asking.ask("DELETE", &path, &[&authorization, "Connection: close"]);
    poll(SOON, "it opens nothing", || status() == 401);
    drop(asking);
    faults.heal();
    let is_there =
        || server.api("GET", "/api/v1/tokens", None).expect_status(200).json()["tokens"].as_array().is_some_and(|all| !all.is_empty());
    poll(SOON, "it is gone", || !is_there());
    assert_eq!(status(), 401);
}

#[test]
fn a_revoke_that_waited_behind_a_save_that_failed_shuts_all_the_same() {
    let mut server = Setup::new().build(|_, _| {});
    let faults = Faults::before(&mut server, "");
    server.start();
    put(&server, "film.mkv", 1000);
    let offer = server.share("film.mkv");
    faults.hang_syncs();
    let mut redeeming = Client::connect(server.recipient);
    redeeming.ask("POST", &offer.redeem_path(), &[BROWSER, "Connection: close"]);
    // Health waits for the disk once: then the redeem does, too, since it was there first.
    poll(SOON, "the disk hangs", || !is_healthy(&server));
    let mut asking = ask_to_revoke(&server, &offer.id);
    poll(SOON, "the disk hangs", || !is_healthy(&server));
    faults.fail_writes(DISK_BROKEN);
    assert_eq!(redeeming.answer("POST").expect("an answer").status, 503);
    let told = asking.answer("DELETE").expect("an answer").expect_status(503).json();
    assert!(told["detail"].as_str().is_some_and(|text| text.starts_with("The share is shut")), "{told}");
    faults.heal();
    assert_eq!(server.outcome(&offer.id), "revoked");
}

#[test]
fn a_share_that_is_made_while_the_server_stops_is_called_opening_and_opens_with_the_next_start() {
    let mut server = Setup::new().build(|_, _| {});
    let faults = Faults::before(&mut server, "");
    server.start();
    put(&server, "film.mkv", 1000);
    faults.hang_syncs();
    let mut asking = Client::connect(server.owner);
    let authorization = format!("Authorization: Bearer {}", server.token);
    let headers = [&authorization[..], "Content-Type: application/json", "Connection: close"];
    asking.ask_with("POST", "/api/v1/shares", &headers, json!({ "path": "film.mkv" }).to_string().as_bytes());
    // Health waits for the disk once: then the share does, too, since it was there first.
    poll(SOON, "the disk hangs", || !is_healthy(&server));
    server.ask_to_stop();
    poll(SOON, "it stops", || server.log_text().contains("Stopping: closing every door"));
    faults.heal();
    let made = asking.answer("POST").expect("an answer").expect_status(202).json();
    assert_eq!(made["state"], "opening", "its door is shut: {made}");
    poll(SOON, "it has stopped", || server.ended().is_some());
    server.start();
    let offer = Offer::from_json(&made);
    server.wait_for(&offer.id, "it stands", |share| share["state"] == "offered");
    server.redeem(&offer);
}

/// Starts a server that cannot; returns its exit code and what it said.
fn say_why(server: &mut Server) -> String {
    let status = server.try_start().expect("it cannot start");
    let said = server.log_text();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    let sentence = said.lines().find(|line| line.contains("portcullis: ") || line.contains("STATE_DIR") || line.contains("store"));
    assert!(sentence.is_some(), "it says what is wrong: {said}");
    said
}

#[test]
#[ignore = "needs root: it mounts a small tmpfs"]
fn a_start_on_a_full_or_read_only_disk_says_so_and_leaves_no_harm() {
    let (mut server, disk) = server_on_small_disk();
    put(&server, "film.mkv", 1000);
    let offer = server.share("film.mkv");
    server.kill();

    disk.remount("ro");
    let said = say_why(&mut server);
    assert!(said.contains("Read-only file system") || said.contains("read-only") || said.contains("readonly"), "{said}");
    disk.remount("rw");
    server.start();
    assert_eq!(server.show(&offer.id)["state"], "offered");
    server.stop();

    // On a first start there is nothing yet; the keys are whole or not there.
    for entry in fs::read_dir(&server.state).expect("the folder").flatten() {
        let _ = fs::remove_file(entry.path());
    }
    disk.fill();
    let said = say_why(&mut server);
    assert!(said.contains("full") || said.contains("No space left on device"), "{said}");
    disk.make_room();
    server.start();
    assert_eq!(create(&server).status, 201);
}

#[test]
fn a_start_whose_writes_fail_anywhere_says_so_and_the_next_is_well() {
    for errno in [DISK_FULL, DISK_BROKEN] {
        // Some thirty calls make a first start; where one of them may fail, the start goes on.
        for call in (1..40).step_by(if is_long() { 1 } else { 5 }) {
            let mut server = Setup::new().build(|_, _| {});
            put(&server, "film.mkv", 1000);
            Faults::before(&mut server, &format!("fail-from {call} {errno}"));
            if server.try_start().is_none() {
                server.kill();
            } else {
                assert!(!server.log_text().contains("panicked"), "{}", server.log_text());
            }
            Faults::remove(&mut server);
            server.start();
            let offer = server.share("film.mkv");
            server.fetch("GET", &server.redeem(&offer), &[]).expect("an answer").expect_status(200);
        }
    }
}

/// Returns whether every way is tried at every call, as `tests/run --long` does.
fn is_long() -> bool {
    std::env::var("DISK_LONG").is_ok_and(|text| text != "0")
}

// ---- Backup and restore, cut short -----------------------------------------------------------------------------------

/// Runs a command of the program on a disk that does as `plan` says; returns whether it succeeded, and all that it said.
fn command(server: &Server, arguments: &[&str]) -> (bool, String) {
    let output = server.command().args(arguments).output().expect("the binary runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!said.contains("panicked"), "{said}");
    (output.status.success(), said)
}

/// A server's state and what it answers for: its keys are as they were, or all as in the backup; its shares likewise.
fn check_old_or_new(server: &mut Server, old: &Offer, new: &Offer, keys: &[(String, Vec<u8>); 2], plan: &str) -> bool {
    server.start();
    let listed = server.api("GET", "/api/v1/shares?limit=1000", None).expect_status(200).json();
    let ids: Vec<&str> = listed["shares"].as_array().expect("a list").iter().filter_map(|share| share["id"].as_str()).collect();
    let key = fs::read(server.state.join("transfer.key")).expect("a key");
    let is_new = ids == [new.id.as_str()];
    assert!(is_new || ids == [old.id.as_str()], "{plan}: neither the old state nor the new: {ids:?}");
    let expected = &keys[usize::from(is_new)];
    assert_eq!(key, expected.1, "{plan}: the keys of {} and the shares of the other", if is_new { "before" } else { "the backup" });
    let status = server.fetch("GET", if is_new { &new.link } else { &old.link }, &[BROWSER]).map(|answer| answer.status);
    assert_eq!(status, Some(if is_new { 410 } else { 200 }), "{plan}");
    let left: Vec<String> = fs::read_dir(&server.state)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("restoring") || name.contains("restored") || name.ends_with(".new"))
        .collect();
    assert!(left.is_empty(), "{plan}: {left:?} was left behind");
    is_new
}

#[test]
fn a_restore_cut_short_at_any_call_leaves_the_old_state_or_the_new_and_no_mixture() {
    // The backup of another house, with other keys.
    let mut there = Setup::new().start();
    put(&there, "film.mkv", 1000);
    let new = there.share("film.mkv");
    let backup = there.folder().join("saved.backup");
    assert!(command(&there, &["backup", backup.to_str().expect("a path")]).0);
    there.stop();

    let mut here = Setup::new().start();
    put(&here, "film.mkv", 1000);
    let old = here.share("film.mkv");
    here.kill();
    let before = here.folder().join("before");
    copy_folder(&here.state, &before);
    let keys = [&here, &there].map(|server| (server.owner.to_string(), fs::read(server.state.join("transfer.key")).expect("a key")));

    let mut outcomes = [0; 2];
    for call in 1_usize.. {
        let mut has_come = false;
        let ways = ["tear", "kill-after", "fail", "kill-before"];
        // One way of the four at each call; in the long form all.
        let tried = if is_long() { &ways[..] } else { &ways[call % 4..=call % 4] };
        for way in tried {
            let plan = format!("{way} {call} {DISK_FULL}");
            fs::remove_dir_all(&here.state).expect("the folder goes");
            copy_folder(&before, &here.state);
            let faults = Faults::before(&mut here, &plan);
            let _ = fs::remove_file(here.folder().join("faults.log"));
            let (is_done, said) = command(&here, &["restore", backup.to_str().expect("a path"), "--replace"]);
            has_come |= faults.calls().len() + 1 >= call;
            Faults::remove(&mut here);
            let is_new = check_old_or_new(&mut here, &old, &new, &keys, &plan);
            assert!(is_new || !is_done, "{plan}: it said that it was done: {said}");
            outcomes[usize::from(is_new)] += 1;
            here.kill();
        }
        if !has_come {
            break;
        }
    }
    assert!(outcomes.iter().all(|times| *times > 5), "{outcomes:?}");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).expect("the folder is made");
    for entry in fs::read_dir(from).expect("the folder can be listed") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("the file is copied");
        }
    }
}

#[test]
fn a_backup_cut_short_is_whole_or_not_there_and_harms_no_server() {
    let mut server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let offer = server.share("film.mkv");
    let folder = server.folder().join("backups");
    fs::create_dir(&folder).expect("the folder is made");
    let mut made = [0; 2];
    for call in (1..200).step_by(if is_long() { 1 } else { 14 }) {
        for way in ["tear", "kill-after", "fail"] {
            let to = folder.join(format!("{way}-{call}"));
            let plan = format!("{way} {call} {DISK_FULL}");
            Faults::before(&mut server, &plan);
            // What a backup writes lies elsewhere.
            server.set("FAULT_DIR", folder.display());
            let (is_done, _) = command(&server, &["backup", to.to_str().expect("a path")]);
            Faults::remove(&mut server);
            assert!(!is_done || to.exists(), "{plan}");
            made[usize::from(to.exists())] += 1;
            if to.exists() {
                check_backup(&server, &to, &offer);
            }
        }
    }
    assert!(made.iter().all(|times| *times > 3), "{made:?}");
    assert_eq!(server.show(&offer.id)["state"], "offered");
    server.stop();
}

/// Puts a backup into an empty folder, and looks at it.
fn check_backup(server: &Server, backup: &Path, offer: &Offer) {
    let state = server.folder().join("elsewhere");
    let _ = fs::remove_dir_all(&state);
    let mut restore = server.command();
    let output = restore.env("STATE_DIR", &state).arg("restore").arg(backup).output().expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file = rusqlite::Connection::open(state.join("portcullis.db")).expect("it opens");
    let id: String = file.query_row("SELECT id FROM share", [], |row| row.get(0)).expect("a share");
    assert_eq!(json!(id), Value::from(offer.id.as_str()));
}
