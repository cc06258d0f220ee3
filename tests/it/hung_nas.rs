//! A NAS that hangs hurts only its own shares. A FUSE mount whose server is stopped hangs as a dead NFS server does: whoever
//! touches it sleeps in the kernel.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::harness::{BROWSER, Client, SOON, Setup, poll, put, sha256};

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
