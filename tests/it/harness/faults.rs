//! A disk that breaks on command: `tests/faults/faults.c`, loaded into the real server before the calls that change files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::Server;

/// The number of ENOSPC, which the kernel gives where a disk is full.
pub(crate) const DISK_FULL: i32 = 28;
/// The number of EIO, which the kernel gives where a disk is broken.
pub(crate) const DISK_BROKEN: i32 = 5;

/// Returns the library, compiled once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/faults.c");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (made, place) = (folder.join(format!("faults-{}.so", std::process::id())), folder.join("faults.so"));
        let flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-pthread", "-o"];
        let output = Command::new("cc").args(flags).args([&made, &source]).arg("-ldl").output().expect("cc is installed");
        assert!(output.status.success(), "faults.c does not compile:\n{}", String::from_utf8_lossy(&output.stderr));
        fs::rename(made, &place).expect("the library gets its name");
        place
    })
}

/// The number of EROFS, which the kernel gives where a file system may only be read.
pub(crate) const READ_ONLY: i32 = 30;

/// What stands between a server and its state folder.
pub(crate) struct Faults {
    log: PathBuf,
    control: PathBuf,
}

impl Faults {
    /// Puts it before a server that is not running; holds from its next start. `plan` is as `faults.c` reads it, or empty.
    pub(crate) fn before(server: &mut Server, plan: &str) -> Self {
        let faults = Self { log: server.folder().join("faults.log"), control: server.folder().join("faults.control") };
        let settings = [
            ("LD_PRELOAD", library().display().to_string()),
            ("FAULT_DIR", server.state.display().to_string()),
            ("FAULT_LOG", faults.log.display().to_string()),
            ("FAULT_PLAN", plan.to_owned()),
            ("FAULT_CONTROL", faults.control.display().to_string()),
        ];
        settings.into_iter().for_each(|(name, value)| server.set(name, value));
        faults
    }

    /// Takes it away; holds from the server's next start.
    pub(crate) fn remove(server: &mut Server) {
        ["LD_PRELOAD", "FAULT_DIR", "FAULT_LOG", "FAULT_PLAN", "FAULT_CONTROL"].into_iter().for_each(|name| server.unset(name));
    }

    /// Lets every call that changes a file fail from here on.
    pub(crate) fn fail_writes(&self, errno: i32) {
        self.command(&format!("fail-writes {errno}"));
    }

    /// Lets every sync wait from here on.
    pub(crate) fn hang_syncs(&self) {
        self.command("hang-syncs");
    }

    /// Makes the disk whole again.
    pub(crate) fn heal(&self) {
        self.command("");
    }

    fn command(&self, text: &str) {
        let coming = self.control.with_extension("coming");
        fs::write(&coming, text).expect("the command is written");
        fs::rename(coming, &self.control).expect("the command is given");
    }

    /// Returns how much has been written down: what is answered now was done by then.
    pub(crate) fn mark(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |log| log.len())
    }

    /// Reads what was written down.
    pub(crate) fn calls(&self) -> Vec<Call> {
        parse(&fs::read(&self.log).expect("the log can be read"))
    }
}

/// A call that changed a file or a name, as `faults.c` describes it.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Where its line begins in the log.
    pub(crate) at: u64,
    pub(crate) op: char,
    pub(crate) inode: u64,
    pub(crate) offset: u64,
    pub(crate) path: PathBuf,
    pub(crate) second: PathBuf,
    pub(crate) bytes: Vec<u8>,
}

fn parse(log: &[u8]) -> Vec<Call> {
    let (mut calls, mut at) = (Vec::new(), 0);
    while at < log.len() {
        // A process that was killed may have left half a line.
        let Some(length) = log[at..].iter().position(|byte| *byte == b'\n') else { break };
        let line = std::str::from_utf8(&log[at..at + length]).expect("a line of the log is text");
        let fields: Vec<&str> = line.split('\t').collect();
        let [op, inode, offset, bytes, path, second] = fields[..] else { panic!("no line of the log: {line:?}") };
        let begin = at + length + 1;
        let end = begin + bytes.parse::<usize>().expect("a length");
        if end > log.len() {
            break;
        }
        calls.push(Call {
            at: at as u64,
            op: op.chars().next().expect("an operation"),
            inode: inode.parse().expect("an inode"),
            offset: offset.parse().expect("an offset"),
            path: PathBuf::from(path),
            second: PathBuf::from(second),
            bytes: log[begin..end].to_vec(),
        });
        at = end;
    }
    calls
}
