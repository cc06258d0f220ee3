//! What every suite needs: the real server, a client that hides nothing, files with known content, a proxy that cuts.

mod fuse;
mod disk;
mod faults;
mod http;
mod lab;
mod localapi;
mod nginx;
mod proxy;
mod raw;
mod redis;
mod server;
mod tls;

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

pub(crate) use disk::{Disk, Random};
pub(crate) use faults::{Call, DISK_BROKEN, DISK_FULL, Faults, READ_ONLY};
pub(crate) use fuse::{Ask, Fuse};
pub(crate) use http::{Answer, Client, PATIENCE, path_of, request, resolve};
pub(crate) use lab::{Lab, is_of};
pub(crate) use localapi::LocalApi;
pub(crate) use nginx::{
    Nginx, case_only_embedded, is_behind_nginx, long_range_only_embedded, only_embedded, only_where_arrival_is_seen, unseen,
};
pub(crate) use proxy::CuttingProxy;
pub(crate) use raw::{Talk, open_descriptors, shown, talk, talk_within};
pub(crate) use redis::{DURABLE, Redis, command_in, has_redis, leave_out};
pub(crate) use server::{Offer, SOON, Server, Setup, free_port};
pub(crate) use tls::{
    ACK, Authority, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2, INITIAL_WINDOW, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, fields, frame, get, resident_bytes, shown_certificate,
};

/// What a browser calls itself.
pub(crate) const BROWSER: &str =
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";

/// How long a tool may run before the test calls it hung.
const TOOL_PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `done` says so, looking often.
#[track_caller]
pub(crate) fn poll(within: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < within, "waited {within:?} for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns `size` bytes that repeat nowhere near, so that a spliced or shifted file cannot have the right digest.
pub(crate) fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Writes a file of noise below the server's root; returns its content.
pub(crate) fn put(server: &Server, name: &str, size: usize) -> Vec<u8> {
    put_bytes(server, name.as_bytes(), size)
}

/// As [`put`], for a name of any bytes.
pub(crate) fn put_bytes(server: &Server, name: &[u8], size: usize) -> Vec<u8> {
    let content = noise(size, name.iter().fold(size as u64 + 1, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(*byte))));
    let path = server.root.join(OsStr::from_bytes(name));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).expect("the folder is made");
    }
    std::fs::write(path, &content).expect("the file is written");
    content
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn sha256_of_file(path: &Path) -> String {
    sha256(&std::fs::read(path).unwrap_or_else(|e| panic!("{} cannot be read: {e}", path.display())))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns random bytes as hexadecimal text.
pub(crate) fn random_hex(bytes: usize) -> String {
    let mut raw = vec![0; bytes];
    std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut raw)).expect("the kernel gives random bytes");
    hex(&raw)
}

/// Returns a small random number below `bound`.
pub(crate) fn random_below(bound: u64) -> u64 {
    u64::from_str_radix(&random_hex(8), 16).expect("hexadecimal") % bound
}

/// An empty folder that a recipient downloads into.
pub(crate) fn download_folder(server: &Server) -> PathBuf {
    let folder = server.folder().join(format!("downloads-{}", random_hex(4)));
    std::fs::create_dir(&folder).expect("the folder is made");
    folder
}

/// Runs a tool in a folder with no settings of the machine's user; fails if it hangs or is not installed.
pub(crate) fn tool(folder: &Path, program: &str, arguments: &[&str]) -> Output {
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", folder)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program} cannot be run ({e}); tests/run installs it"));
    let (mut stdout, mut stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let out = std::thread::spawn(move || read_all(&mut stdout));
    let err = std::thread::spawn(move || read_all(&mut stderr));
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be asked") {
            break status;
        }
        if started.elapsed() > TOOL_PATIENCE {
            let _ = child.kill();
            panic!("{program} {arguments:?} still runs after {TOOL_PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    Output { status, stdout: out.join().expect("read"), stderr: err.join().expect("read") }
}

fn read_all(from: &mut impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = from.read_to_end(&mut all);
    all
}
