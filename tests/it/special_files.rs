//! What is no plain file, and what does not stay one: devices, pipes, sockets, files of nought and of all bytes, and everything that can
//! happen to a file while it is sent. Nothing is waited for, nothing outside is sent, and nobody gets a mixed file.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{CWD, FallocateFlags, FileType, Mode, RenameFlags};
use serde_json::json;

use crate::harness::{BROWSER, Client, Offer, SOON, Server, Setup, long_range_only_embedded, poll, put, sha256};

const MIB: usize = 1024 * 1024;
/// No refusal takes longer: whoever waits for a pipe's writer or a device waits for ever.
const AT_ONCE: Duration = Duration::from_secs(8);
const CANARY: &str = "CANARY that lies outside of the shared folder";

fn make(at: &Path, kind: FileType, major: u32, minor: u32) -> bool {
    rustix::fs::mknodat(CWD, at, kind, Mode::from_raw_mode(0o666), rustix::fs::makedev(major, minor)).is_ok()
}

/// Puts something at a path that is no regular file; `false` where this machine does not let us.
type Make = fn(&Path) -> bool;

const KINDS: &[(&str, Make)] = &[
    ("pipe", |at| make(at, FileType::Fifo, 0, 0)),
    ("zero", |at| make(at, FileType::CharacterDevice, 1, 5)),
    ("null", |at| make(at, FileType::CharacterDevice, 1, 3)),
    ("random", |at| make(at, FileType::CharacterDevice, 1, 8)),
    ("kernel log", |at| make(at, FileType::CharacterDevice, 1, 11)),
    ("terminal", |at| make(at, FileType::CharacterDevice, 5, 0)),
    ("disk", |at| make(at, FileType::BlockDevice, 7, 0)),
    ("no driver", |at| make(at, FileType::CharacterDevice, 240, 99)),
    ("socket", |at| UnixListener::bind(at).is_ok()),
    ("folder", |at| fs::create_dir(at).is_ok()),
    ("link to a file outside", |at| symlink(outside(at), at).is_ok()),
    ("link to a device", |at| symlink("/dev/zero", at).is_ok()),
    ("link to a pipe's end", |at| symlink("/proc/self/fd/0", at).is_ok()),
    ("link to itself", |at| symlink(at, at).is_ok()),
    ("link to nothing", |at| symlink("nothing", at).is_ok()),
];

fn outside(at: &Path) -> PathBuf {
    at.parent().and_then(Path::parent).expect("it lies in the root").join("canary.txt")
}

fn scene() -> Server {
    let server = Setup::new().start();
    fs::write(server.folder().join("canary.txt"), CANARY).unwrap();
    server
}

#[test]
fn what_is_no_regular_file_is_never_opened_and_never_waited_for() {
    let server = scene();
    for (kind, make) in KINDS {
        if !make(&server.root.join(kind)) {
            eprintln!("left out: no {kind} can be made here");
            continue;
        }
        let encoded = kind.replace(' ', "%20");
        for what in ["create", "original", "show", "list", "search"] {
            let started = Instant::now();
            let answer = match what {
                "create" => server.api("POST", "/api/v1/shares", Some(&json!({ "path": kind }))),
                "original" => server.api("POST", "/generate-link", Some(&json!({ "file_path": kind }))),
                "show" => server.api("GET", &format!("/api/v1/files/{encoded}"), None),
                "list" => server.api("GET", &format!("/api/v1/files?path={encoded}"), None),
                _ => server.api("GET", &format!("/api/v1/files?query={encoded}"), None),
            };
            assert!(started.elapsed() < AT_ONCE, "{what} of a {kind} took {:?}", started.elapsed());
            assert!(!answer.text().contains("CANARY"), "{what} of a {kind}: {}", answer.text());
            let is_folder = *kind == "folder" && matches!(what, "show" | "list");
            let is_refused = (400..500).contains(&answer.status);
            assert!(is_refused || is_folder || what == "search", "{what} of a {kind}: {} {}", answer.head_text(), answer.text());
        }
    }
    let names = |answer: serde_json::Value| {
        answer["entries"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(server.api("GET", "/api/v1/files", None).expect_status(200).json()), ["folder"], "nothing else is there");
    assert_eq!(server.api("GET", "/api/files", None).expect_status(200).json(), json!([]));
}

#[test]
fn a_shared_file_that_has_become_something_else_is_not_sent() {
    let server = scene();
    for (kind, make) in KINDS {
        let name = format!("file that is a {kind}.bin");
        put(&server, &name, 100_000);
        let (untaken, taken) = (server.share(&name), server.share(&name));
        let transfer = server.redeem(&taken);
        fs::remove_file(server.root.join(&name)).unwrap();
        if !make(&server.root.join(&name)) {
            continue;
        }
        let started = Instant::now();
        let mut said = server.fetch("GET", &transfer, &[BROWSER]).into_iter().collect::<Vec<_>>();
        let answer = server.fetch("POST", &untaken.redeem_path(), &[BROWSER]).expect("a genuine link is answered");
        if answer.status == 303 {
            said.extend(server.fetch("GET", &answer.location(), &[BROWSER]));
        }
        assert!(started.elapsed() < 2 * AT_ONCE, "a {kind} took {:?}", started.elapsed());
        for answer in &said {
            assert!(answer.status >= 400 && !answer.text().contains("CANARY"), "a {kind}: {}\n{}", answer.head_text(), answer.text());
        }
        assert_eq!(server.outcome(&taken.id), "source_changed", "a {kind}");
    }
}

/// What happens to a file while it is sent; the second path is a file beside it.
type Change = fn(&Path, &Path);

const CHANGES: &[(&str, Change)] = &[
    ("touched", |at, _| open(at).set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap()),
    ("rewritten with its old time put back", |at, _| {
        let (mut file, old) = (open(at), fs::metadata(at).unwrap().modified().unwrap());
        file.seek(SeekFrom::Start(12 * MIB as u64)).unwrap();
        file.write_all(&[7; 4096]).unwrap();
        file.set_modified(old).unwrap();
    }),
    ("rewritten with the same bytes", |at, _| {
        let content = fs::read(at).unwrap();
        open(at).write_all(&content[..4096]).unwrap();
    }),
    ("emptied", |at, _| open(at).set_len(0).unwrap()),
    ("emptied and filled again", |at, _| {
        let content = fs::read(at).unwrap();
        fs::write(at, content).unwrap();
    }),
    ("a byte longer", |at, _| open(at).set_len(16 * MIB as u64 + 1).unwrap()),
    ("a byte shorter", |at, _| open(at).set_len(16 * MIB as u64 - 1).unwrap()),
    ("made a terabyte", |at, _| open(at).set_len(1 << 40).unwrap()),
    ("with a hole punched", |at, _| {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(open(at), flags, 10 * MIB as u64, MIB as u64).unwrap();
    }),
    ("with zeros in it", |at, _| {
        let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        if rustix::fs::fallocate(open(at), flags, 10 * MIB as u64, MIB as u64).is_err() {
            open(at).set_len(3).unwrap();
        }
    }),
    ("deleted", |at, _| fs::remove_file(at).unwrap()),
    ("deleted and made again", |at, _| {
        let content = fs::read(at).unwrap();
        fs::remove_file(at).unwrap();
        fs::write(at, content).unwrap();
    }),
    ("moved away", |at, _| fs::rename(at, at.with_extension("away")).unwrap()),
    ("exchanged with another", |at, other| rustix::fs::renameat_with(CWD, at, CWD, other, RenameFlags::EXCHANGE).unwrap()),
    ("replaced by another", |at, other| fs::rename(other, at).unwrap()),
    ("replaced by a link", |at, _| {
        fs::remove_file(at).unwrap();
        symlink(outside(at), at).unwrap();
    }),
    ("replaced by a pipe", |at, _| {
        fs::remove_file(at).unwrap();
        assert!(make(at, FileType::Fifo, 0, 0));
    }),
    ("linked a second time", |at, _| fs::hard_link(at, at.with_extension("twin")).unwrap()),
    ("forbidden", |at, _| fs::set_permissions(at, fs::Permissions::from_mode(0o0)).unwrap()),
];

fn open(path: &Path) -> fs::File {
    fs::OpenOptions::new().write(true).open(path).unwrap()
}

#[test]
fn whatever_happens_to_a_file_while_it_is_sent_nobody_gets_a_mixed_one() {
    let server = scene();
    std::thread::scope(|scope| {
        // Two at a time: each reads slowly.
        for half in [0, 1] {
            let server = &server;
            scope.spawn(move || CHANGES.iter().skip(half).step_by(2).for_each(|(what, change)| send_while(server, what, *change)));
        }
    });
}

fn send_while(server: &Server, what: &str, change: Change) {
    let name = format!("{what}.bin");
    let content = put(server, &name, 16 * MIB);
    put(server, &format!("{what}.other"), 16 * MIB);
    let offer = server.share(&name);
    let transfer = server.redeem(&offer);
    let mut client = Client::connect_with_small_buffer(server.recipient, 64 * 1024);
    client.ask("GET", &transfer, &[]);
    let head = client.answer_head().expect("an answer").expect_status(200);
    let mut got: Vec<u8> = Vec::new();
    while got.len() < MIB {
        got.append(&mut client.read_some(64 * 1024));
    }
    change(&server.root.join(&name), &server.root.join(format!("{what}.other")));
    // Without haste, or a fast loopback has it all before anybody can look at the file again.
    loop {
        let mut some = client.read_some(128 * 1024);
        if some.is_empty() {
            break;
        }
        got.append(&mut some);
        std::thread::sleep(Duration::from_millis(5));
    }
    let announced: usize = head.header("content-length").unwrap().parse().unwrap();
    assert!(got.len() < announced, "{what}: a changed file was called whole");
    // What lay in the kernel before the change may be followed by a little of after it, never by an end.
    let same = got.iter().zip(&content).take_while(|(a, b)| a == b).count();
    assert!(same >= MIB, "{what}: it went wrong at {same}");
    assert_eq!(server.outcome(&offer.id), "source_changed", "{what}");
    let again = server.fetch("GET", &transfer, &["Range: bytes=1048576-"]).expect("an answer");
    assert!(again.status >= 400, "{what}: it can be resumed: {}", again.head_text());
}

#[test]
fn a_file_of_no_bytes_is_delivered() {
    let server = scene();
    fs::write(server.root.join("empty.bin"), "").unwrap();
    for range in ["", "Range: bytes=0-", "Range: bytes=-1"] {
        let offer = server.share_with(&json!({ "path": "empty.bin", "policy": { "max_downloads": 2 } }));
        let transfer = server.redeem(&offer);
        let answer =
            server.fetch("GET", &transfer, &[range].iter().copied().filter(|it| !it.is_empty()).collect::<Vec<_>>()).expect("an answer");
        assert!(matches!((range, answer.status), ("", 200) | (_, 200 | 416)), "{range}: {}", answer.head_text());
        let whole = server.fetch("GET", &transfer, &[]).expect("an answer");
        assert_eq!((whole.status, whole.body.len(), whole.complete), (200, 0, true), "{}", whole.head_text());
        server.wait_for(&offer.id, "it is delivered", |share| share["progress"]["percent"] == 100);
    }
}

#[test]
fn a_file_of_all_the_bytes_there_can_be_is_sent_as_one() {
    let server = scene();
    let file = fs::File::create(server.root.join("huge.bin")).unwrap();
    // The longest that this file system takes: 2^63 - 1 on XFS and tmpfs, 16 TiB on ext4.
    let size = (36..63).rev().map(|bits| (1_u64 << bits) - 1).find(|size| file.set_len(*size).is_ok()).expect("a sparse file can be made");
    let offer = server.share_with(&json!({ "path": "huge.bin", "policy": { "max_downloads": 2 } }));
    let share = server.show(&offer.id);
    assert_eq!(share["size_bytes"].as_u64(), Some(size));
    let transfer = server.redeem(&offer);
    let head = server.fetch("HEAD", &transfer, &[]).expect("an answer").expect_status(200);
    assert_eq!(head.header("content-length"), Some(size.to_string()));
    for (range, start, length) in [
        ("bytes=-5".to_owned(), size - 5, 5),
        (format!("bytes={}-", size - 1), size - 1, 1),
        (format!("bytes={}-{}", size / 2, size / 2 + 999), size / 2, 1000),
        (format!("bytes={}-{}", size - 10, u64::MAX), size - 10, 10),
    ] {
        if long_range_only_embedded(&range) {
            continue;
        }
        let part = server.fetch("GET", &transfer, &[&format!("Range: {range}")]).expect("an answer").expect_status(206);
        assert_eq!(part.header("content-range"), Some(format!("bytes {start}-{}/{size}", start + length - 1)), "{range}");
        assert_eq!(part.body, vec![0; length as usize], "{range}");
    }
    for range in [format!("bytes={size}-"), format!("bytes={}-", u64::MAX)] {
        if long_range_only_embedded(&range) {
            continue;
        }
        assert_eq!(server.fetch("GET", &transfer, &[&format!("Range: {range}")]).expect("an answer").status, 416, "{range}");
    }
    let mut client = Client::connect_with_small_buffer(server.recipient, 64 * 1024);
    client.ask("GET", &transfer, &[]);
    client.answer_head().expect("an answer").expect_status(200);
    let mut got = 0;
    while got < 4 * MIB {
        got += client.read_some(MIB).len();
    }
    let share = server.wait_for(&offer.id, "progress is told", |share| share["progress"]["delivered_bytes"].as_u64() > Some(1000));
    assert_eq!(share["progress"]["percent"], 0, "{share:#}");
    server.revoke(&offer.id);
    client.read_to_close(SOON);
    assert_eq!(server.outcome(&offer.id), "revoked");
}

#[test]
fn a_giant_keeps_no_other_file_waiting_for_its_checksum() {
    let server = scene();
    fs::File::create(server.root.join("disk.img")).unwrap().set_len(1 << 42).unwrap();
    let content = put(&server, "small.bin", 100_000);
    server.share("disk.img");
    let sha256_of = |name: &str| server.api("GET", &format!("/api/v1/files/{name}"), None).expect_status(200).json()["sha256"].clone();
    assert_eq!(sha256_of("disk.img"), json!(null), "nobody has read four terabytes yet");
    // A turn of the giant is a quarter of a gigabyte, which a slow build of the program digests for a while.
    poll(6 * SOON, "the small file has its checksum", || sha256_of("small.bin") == json!(sha256(&content)));
    assert_eq!(sha256_of("disk.img"), json!(null));
}

/// A folder seen at another place, until it is dropped.
struct Bound(PathBuf);

impl Bound {
    fn new(what: &Path, at: PathBuf) -> Self {
        let _ = fs::create_dir(&at);
        assert!(Command::new("mount").arg("--bind").args([what, &at]).status().expect("mount is there").success());
        Self(at)
    }

    fn let_go(&self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.let_go();
    }
}

#[test]
#[ignore = "needs root to mount"]
fn folders_of_other_file_systems_are_shared_and_files_that_lie_about_their_size_give_no_more_than_they_say() {
    let server = scene();
    let elsewhere = server.folder().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("film.bin"), vec![9; 16 * MIB]).unwrap();
    let far = Bound::new(&elsewhere, server.root.join("far"));
    let offer = server.share("far/film.bin");
    let answer = server.fetch("GET", &server.redeem(&offer), &[]).expect("an answer").expect_status(200);
    assert_eq!(sha256(&answer.body), sha256(&vec![9; 16 * MIB]));

    // The mount goes away while it is sent: what was begun comes to its end or is cut, and nothing else is sent for it.
    let (running, waiting) = (server.share("far/film.bin"), server.share("far/film.bin"));
    let mut client = Client::connect_with_small_buffer(server.recipient, 64 * 1024);
    client.ask("GET", &server.redeem(&running), &[]);
    client.answer_head().expect("an answer").expect_status(200);
    far.let_go();
    fs::create_dir_all(server.root.join("far")).unwrap();
    fs::write(server.root.join("far/film.bin"), vec![8; 16 * MIB]).unwrap();
    assert!(client.read_to_close_or(16 * MIB, SOON).iter().all(|byte| *byte == 9), "bytes of what lay below the mount");
    let answer = server.fetch("GET", &server.redeem(&waiting), &[]).expect("an answer");
    assert!(answer.status >= 400, "{}", answer.head_text());

    // Files of the kernel: they say that they are empty and are not.
    let _kernel = Bound::new(Path::new("/proc/sys/kernel"), server.root.join("kernel"));
    let offer: Offer = server.share("kernel/ostype");
    let answer = server.fetch("GET", &server.redeem(&offer), &[]).expect("an answer");
    assert!(answer.body.is_empty() || answer.status >= 400, "{}\n{}", answer.head_text(), answer.text());
}
