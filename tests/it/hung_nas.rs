//! A NAS that hangs hurts only its own shares. A FUSE mount whose server is stopped hangs as a dead NFS server does: whoever
//! touches it sleeps in the kernel.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Ask, BROWSER, Client, Fuse, SOON, Server, Setup, poll, put, sha256, sha256_of_file};

const MIB: usize = 1024 * 1024;

/// A folder that is seen through another process, which can be stopped.
struct FarFolder {
    process: Child,
    seen_at: PathBuf,
}

impl FarFolder {
    fn mount(real: &Path, seen_at: &Path) -> Self {
        std::fs::create_dir_all(seen_at).unwrap();
        let mut command = Command::new("bindfs");
        let process =
            command.arg("-f").arg("--no-allow-other").args([real, seen_at]).stdin(Stdio::null()).spawn().expect("bindfs is installed");
        let far = Self { process, seen_at: seen_at.to_owned() };
        poll(SOON, "the folder is mounted", || std::fs::read_dir(&far.seen_at).is_ok_and(|entries| entries.count() > 0));
        far
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.process), signal).expect("it runs");
    }
}

impl Drop for FarFolder {
    fn drop(&mut self) {
        self.signal(rustix::process::Signal::CONT);
        let _ = Command::new("umount").arg("-l").arg(&self.seen_at).status();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
#[ignore = "needs root, FUSE and bindfs"]
fn a_nas_that_hangs_hurts_only_its_own_shares_and_all_is_well_when_it_is_back() {
    let server = Setup::new().start();
    let behind = server.folder().join("behind");
    std::fs::create_dir(&behind).unwrap();
    let far_content: Vec<u8> = (0..64 * MIB).map(|n| (n / 7 % 251) as u8).collect();
    std::fs::write(behind.join("film.mkv"), &far_content).unwrap();
    let near_content = put(&server, "near.bin", 8 * MIB);
    let far = FarFolder::mount(&behind, &server.root.join("far"));

    let (running, waiting, near) = (server.share("far/film.mkv"), server.share("far/film.mkv"), server.share("near.bin"));
    let transfer = server.redeem(&running);
    let mut client = Client::connect_with_small_buffer(server.recipient, 64 * 1024);
    client.ask("GET", &transfer, &[BROWSER]);
    client.answer_head().expect("it began").expect_status(200);
    far.signal(rustix::process::Signal::STOP);

    // Whoever is near notices nothing.
    let page = server.fetch("GET", &waiting.link, &[BROWSER]).expect("a page needs no file");
    assert_eq!(page.status, 200);
    let got = server.fetch("GET", &server.redeem(&near), &[BROWSER]).expect("the other file is there").expect_status(200);
    assert_eq!(sha256(&got.body), sha256(&near_content));
    assert_eq!(server.api("GET", "/api/v1/shares", None).status, 200);
    assert_eq!(server.api("GET", "/livez", None).status, 200);

    // What hangs can be closed: nobody waits for the NAS.
    server.revoke(&running.id);
    assert_eq!(server.outcome(&running.id), "revoked");
    let left = client.read_to_close(SOON);
    assert!(left.len() < far_content.len(), "it was cut");

    far.signal(rustix::process::Signal::CONT);
    let got = server.fetch("GET", &server.redeem(&waiting), &[BROWSER]).expect("it is back").expect_status(200);
    assert_eq!(sha256(&got.body), sha256(&far_content));
}

/// No question about files takes the server longer than ten seconds; the rest is for a busy machine.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

#[test]
#[ignore = "needs root and FUSE"]
fn a_file_system_that_hangs_at_any_one_question_is_waited_for_by_nobody_else() {
    let server = Setup::new().start();
    put(&server, "near.bin", MIB);
    let content: Vec<u8> = (0..8 * MIB).map(|n| (n / 7 % 251) as u8).collect();
    // One for each question, and all hang together.
    std::thread::scope(|scope| {
        for ask in [Ask::Lookup, Ask::GetAttr, Ask::Open, Ask::Read, Ask::OpenDir, Ask::ReadDir] {
            let (server, content) = (&server, &content);
            scope.spawn(move || hang(server, ask, content));
        }
    });
}

fn hang(server: &Server, ask: Ask, content: &[u8]) {
    let folder = format!("{ask:?}");
    let files = [("film.mkv".to_owned(), content.to_vec()), ("other.mkv".to_owned(), content.to_vec())].into();
    let far = Fuse::mount(&server.root.join(&folder), files);
    let film = json!({ "path": format!("{folder}/film.mkv") });
    let (running, waiting) = (server.share_with(&film), server.share(&format!("{folder}/other.mkv")));
    let mut client = Client::connect_with_small_buffer(server.recipient, 64 * 1024);
    client.ask("GET", &server.redeem(&running), &[BROWSER]);
    client.answer_head().expect("it began").expect_status(200);
    far.hang_at(ask);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Whoever asks for what hangs is told so in time, or has an answer that needs no such question.
            for (method, path, body) in [
                ("GET", format!("/api/v1/files?path={folder}"), None),
                ("GET", format!("/api/v1/files/{folder}/film.mkv"), None),
                ("GET", "/api/v1/recent".to_owned(), None),
                ("POST", "/api/v1/shares".to_owned(), Some(&film)),
            ] {
                let begun = Instant::now();
                let answer = server.api(method, &path, body);
                assert!(matches!(answer.status, 200 | 201 | 503), "{ask:?} {path}: {} {}", answer.head_text(), answer.text());
                assert!(begun.elapsed() < ANSWERED_WITHIN, "{ask:?} {path}: {:?}", begun.elapsed());
            }
            far.go_on();
        });
        scope.spawn(|| {
            let (transfer, begun) = (server.redeem(&waiting), Instant::now());
            let ask_once = || Client::connect(server.recipient).request("GET", &transfer, &["Range: bytes=8000000-"]);
            // What is read may be in memory, and whoever asks be refused for what hangs elsewhere: then nobody hangs here yet.
            let answer = loop {
                let answer = ask_once();
                if answer.as_ref().is_none_or(|answer| answer.status != 503) || begun.elapsed() > SOON {
                    break answer;
                }
                std::thread::sleep(Duration::from_millis(50));
            };
            assert!(answer.is_none_or(|answer| matches!(answer.status, 206 | 503)), "{ask:?}");
        });
        far.wait_until_somebody_hangs();
        // Whoever is near notices nothing.
        let begun = Instant::now();
        let near = server.share("near.bin");
        let got = server.fetch("GET", &server.redeem(&near), &[BROWSER]).expect("the other file is there").expect_status(200);
        assert_eq!(sha256(&got.body), sha256_of_file(&server.root.join("near.bin")), "{ask:?}");
        assert_eq!(server.api("GET", "/livez", None).status, 200, "{ask:?}");
        assert_eq!(server.api("GET", "/api/v1/shares", None).status, 200, "{ask:?}");
        assert!(begun.elapsed() < ANSWERED_WITHIN / 2, "{ask:?}: {:?}", begun.elapsed());
        // What hangs can be closed: nobody waits for the file.
        server.revoke(&running.id);
        assert_eq!(server.outcome(&running.id), "revoked", "{ask:?}");
        client.read_to_close(SOON);
    });
    // All is well when it is back.
    let again = server.share_with(&film);
    let got = server.fetch("GET", &server.redeem(&again), &[BROWSER]).expect("it is back").expect_status(200);
    assert_eq!(sha256(&got.body), sha256(content), "{ask:?}");
}
