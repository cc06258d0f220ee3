//! A file system made for tests: it answers from memory, and hangs at any one kind of question for as long as it is told to. It speaks the
//! kernel's own protocol (linux/fuse.h, 7.31) over `/dev/fuse`, so that a hang looks as it does on a dead NFS server.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::{SOON, poll};

/// A kind of question, by its number in the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Ask {
    Lookup = 1,
    GetAttr = 3,
    Open = 14,
    Read = 15,
    OpenDir = 27,
    ReadDir = 28,
}

const FORGET: u32 = 2;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const RELEASE_DIR: u32 = 29;
const INTERRUPT: u32 = 36;
const DESTROY: u32 = 38;
const BATCH_FORGET: u32 = 42;

const ENOENT: i32 = -2;
const ENOSYS: i32 = -38;
/// The root's number; what is in it has the next ones.
const ROOT: u64 = 1;
/// The kernel asks for this much room at the least, and reads come in pieces of 128 KiB.
const MAX_REQUEST: usize = 256 * 1024;

/// The mounted file system; it goes when this is dropped.
pub(crate) struct Fuse {
    seen_at: PathBuf,
    state: Arc<Mutex<State>>,
    device: Arc<File>,
    server: Option<JoinHandle<()>>,
}

struct State {
    files: BTreeMap<String, Vec<u8>>,
    hangs_at: Option<Ask>,
    held: Vec<Vec<u8>>,
    /// Whether anything was held back since.
    has_hung: bool,
}

impl Fuse {
    /// Mounts these files. Needs root.
    pub(crate) fn mount(seen_at: &Path, files: BTreeMap<String, Vec<u8>>) -> Self {
        std::fs::create_dir_all(seen_at).expect("the folder is made");
        let flags = rustix::fs::OFlags::RDWR;
        // Without close-on-exec: `mount` hands it to the kernel.
        let device = File::from(rustix::fs::open("/dev/fuse", flags, rustix::fs::Mode::empty()).expect("this machine has FUSE"));
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,default_permissions", device.as_raw_fd());
        let mounted = Command::new("mount").args(["-i", "-t", "fuse", "-o", &options, "portcullis-test"]).arg(seen_at).status();
        assert!(mounted.expect("mount is there").success(), "it cannot be mounted");
        rustix::io::fcntl_setfd(&device, rustix::io::FdFlags::CLOEXEC).expect("a descriptor of ours");
        let (device, state) = (Arc::new(device), Arc::new(Mutex::new(State { files, hangs_at: None, held: Vec::new(), has_hung: false })));
        let server = std::thread::spawn({
            let (device, state) = (device.clone(), state.clone());
            move || serve(&device, &state)
        });
        Self { seen_at: seen_at.to_owned(), state, device, server: Some(server) }
    }

    /// Answers no such question any more.
    pub(crate) fn hang_at(&self, ask: Ask) {
        let mut state = self.state.lock().expect("nobody panics");
        (state.hangs_at, state.has_hung) = (Some(ask), false);
    }

    /// Waits until somebody asked what is not answered, be that over again.
    pub(crate) fn wait_until_somebody_hangs(&self) {
        let what = format!("somebody hangs at {:?}", self.state.lock().expect("nobody panics").hangs_at);
        poll(SOON, &what, || self.state.lock().expect("nobody panics").has_hung);
    }

    /// Answers all that was held back, and everything from here on.
    pub(crate) fn go_on(&self) {
        let held = {
            let mut state = self.state.lock().expect("nobody panics");
            state.hangs_at = None;
            std::mem::take(&mut state.held)
        };
        held.iter().for_each(|request| answer(&self.device, &self.state, request));
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        self.go_on();
        let _ = Command::new("umount").arg("-l").arg(&self.seen_at).status();
        // The last file that is open on it keeps it alive; its reader leaves with the device, at the end of the process.
        drop(self.server.take());
    }
}

fn serve(mut device: &File, state: &Mutex<State>) {
    let mut buffer = vec![0; MAX_REQUEST];
    // It ends when the file system is unmounted (ENODEV).
    while let Ok(n @ 40..) = device.read(&mut buffer) {
        let request = &buffer[..n];
        let opcode = number(request, 4) as u32;
        {
            let mut state = state.lock().expect("nobody panics");
            if state.hangs_at.is_some_and(|ask| ask as u32 == opcode) {
                state.held.push(request.to_vec());
                state.has_hung = true;
                continue;
            }
        }
        answer(device, state, request);
    }
}

fn answer(mut device: &File, state: &Mutex<State>, request: &[u8]) {
    let (opcode, unique, node) = (number(request, 4) as u32, wide(request, 8), wide(request, 16));
    if matches!(opcode, FORGET | BATCH_FORGET | INTERRUPT | DESTROY) {
        return;
    }
    let answered = {
        let state = state.lock().expect("nobody panics");
        answer_to(&state.files, opcode, node, &request[40..])
    };
    let (error, payload) = match answered {
        Ok(payload) => (0, payload),
        Err(error) => (error, Vec::new()),
    };
    let mut out = Vec::with_capacity(16 + payload.len());
    out.extend_from_slice(&(16 + payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&error.to_le_bytes());
    out.extend_from_slice(&unique.to_le_bytes());
    out.extend_from_slice(&payload);
    // Whoever asked may have been killed meanwhile.
    let _ = device.write(&out);
}

fn answer_to(files: &BTreeMap<String, Vec<u8>>, opcode: u32, node: u64, body: &[u8]) -> Result<Vec<u8>, i32> {
    let content = |node: u64| files.values().nth((node.checked_sub(ROOT + 1)?) as usize);
    match opcode {
        INIT => Ok(init()),
        STATFS => Ok(vec![0; 80]),
        RELEASE | RELEASE_DIR | FLUSH => Ok(Vec::new()),
        _ if opcode == Ask::Lookup as u32 => {
            let name = std::str::from_utf8(body.strip_suffix(b"\0").unwrap_or(body)).unwrap_or_default();
            let at = files.keys().position(|its| its == name).ok_or(ENOENT)? as u64 + ROOT + 1;
            // Nothing is kept by the kernel: every question comes here.
            let mut out = [at.to_le_bytes(), 1_u64.to_le_bytes(), [0; 8], [0; 8], [0; 8]].concat();
            out.extend(attributes(at, content(at)));
            Ok(out)
        }
        _ if opcode == Ask::GetAttr as u32 => Ok([vec![0; 16], attributes(node, content(node))].concat()),
        _ if opcode == Ask::Open as u32 || opcode == Ask::OpenDir as u32 => Ok(vec![0; 16]),
        _ if opcode == Ask::Read as u32 => {
            let (offset, size) = (wide(body, 8) as usize, number(body, 16));
            let bytes = content(node).ok_or(ENOENT)?;
            Ok(bytes[offset.min(bytes.len())..(offset + size).min(bytes.len())].to_vec())
        }
        _ if opcode == Ask::ReadDir as u32 => Ok(entries(files, wide(body, 8))),
        _ => Err(ENOSYS),
    }
}

fn init() -> Vec<u8> {
    let mut out: Vec<u8> = [7_u32, 31, 128 * 1024, 0].iter().flat_map(|n| n.to_le_bytes()).collect();
    out.extend([12_u16, 9].iter().flat_map(|n| n.to_le_bytes()));
    out.extend([128 * 1024_u32, 1].iter().flat_map(|n| n.to_le_bytes()));
    out.resize(64, 0);
    out
}

fn attributes(node: u64, content: Option<&Vec<u8>>) -> Vec<u8> {
    let size = content.map_or(0, |bytes| bytes.len() as u64);
    let mode: u32 = if content.is_some() { 0o100_644 } else { 0o040_755 };
    let long = [node, size, size.div_ceil(512), 1_700_000_000, 1_700_000_000, 1_700_000_000];
    let short = [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0];
    long.iter().flat_map(|n| n.to_le_bytes()).chain(short.iter().flat_map(|n: &u32| n.to_le_bytes())).collect()
}

fn entries(files: &BTreeMap<String, Vec<u8>>, from: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, name) in files.keys().enumerate().skip(from as usize) {
        let regular = 8_u32;
        out.extend([at as u64 + ROOT + 1, at as u64 + 1].iter().flat_map(|n| n.to_le_bytes()));
        out.extend([name.len() as u32, regular].iter().flat_map(|n| n.to_le_bytes()));
        out.extend_from_slice(name.as_bytes());
        out.resize(out.len().next_multiple_of(8), 0);
    }
    out
}

fn number(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
}

fn wide(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
