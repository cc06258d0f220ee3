//! nginx's log as it comes by syslog: a datagram for each line, to a Unix socket that is bound here.
//!
//! nginx never waits for a datagram: where nobody listens, or as many wait as the kernel keeps (`net.unix.max_dgram_qlen`), the line is
//! lost. So a thread does nothing but take them in, and lets them wait here while nobody takes them on. What was lost is not known, and nothing is
//! read again: a file is better.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use memchr::memchr;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::sync::mpsc;

use super::log_tail::{Batch, MAX_LINE_BYTES, Mishaps};

use crate::causes::Causes;

/// What nginx puts before a line, beside the time: its `tag`. Letters and digits alone, 32 at the most (`ngx_syslog.c`).
pub const TAG: &str = "portcullis";
/// The longest path of a socket (`sun_path`, with its end).
pub const MAX_PATH_BYTES: usize = 107;
/// How long a time is, and which kind of letter is where: `@` for a letter, `#` for a digit or a space.
const TIME: &[u8] = b"@@@ ## ##:##:## ";
/// What stands before a line at the most: a priority, a time, a host's name (255 bytes) and a tag.
const MAX_HEADER_BYTES: usize = 512;
/// How many lines may wait here for whoever takes them on, some megabyte: seconds of a busy nginx. Past so many the kernel drops them.
const MAX_GATHERED: usize = 8192;
/// How soon it is tried again to hand on what could not be.
const GATHER: Duration = Duration::from_millis(15);
/// How long nobody may write before it is seen whether anybody takes lines any more.
const TICK: Duration = Duration::from_millis(500);
/// Everybody may write into the socket who may enter its folder: nginx's workers have another account, of which this program knows
/// nothing. Who writes there forges nothing, since lines prove themselves.
const MODE: u32 = 0o666;

/// Where the kernel says how many datagrams of a socket may wait for being read.
const QUEUE: &str = "/proc/sys/net/unix/max_dgram_qlen";
/// How many should: systemd asks for as many. The kernel's own number is 10, which a busy nginx writes before a thread has woken.
pub const MANY_WAITING: u64 = 512;

/// A socket that is listened on. Dropping it removes its file; the thread ends when nobody takes its lines any more.
#[derive(Debug)]
pub struct Bound {
    path: PathBuf,
    /// Device and inode: another may stand there later, and is not ours to remove.
    file: (u64, u64),
}

/// Listens for lines on a socket at `path`, on a thread of its own, until nobody takes the batches any more. What `parse` makes of a line
/// goes into a batch, which has no checkpoint; a batch is told first, and when a line, a mishap or a trouble is new. `parse` is given an
/// empty line for a datagram that no nginx of ours wrote. How many batches wait is the channel's bound.
///
/// # Errors
/// As [`bind`]; and what the system says where there can be no thread.
pub fn listen<T: Send + 'static>(
    path: &Path,
    parse: impl FnMut(&[u8]) -> T + Send + 'static,
    batches: mpsc::Sender<Batch<T>>,
) -> io::Result<Bound> {
    let (socket, bound) = bind(path)?;
    let (gathered, mishaps, trouble, told) = (Vec::new(), Mishaps::default(), None, None);
    let buffer = vec![0; MAX_HEADER_BYTES + MAX_LINE_BYTES];
    let listener = Listener { socket, parse, batches, gathered, mishaps, trouble, told, buffer };
    std::thread::Builder::new().name("log-socket".to_owned()).spawn(move || listener.run())?;
    Ok(bound)
}

/// Binds a socket at `path`. One that an earlier process left there is replaced.
///
/// # Errors
/// Where something else stands there, or another program listens; where there is no folder for it, or this account may not write to that.
pub fn bind(path: &Path) -> io::Result<(UnixDatagram, Bound)> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {
            // One that nobody has open refuses.
            match UnixDatagram::unbound()?.connect(path) {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path)?,
                Ok(()) | Err(_) => return Err(io::Error::new(ErrorKind::AddrInUse, "another program listens there")),
            }
        }
        Ok(_) => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "what stands there is no socket; move it away, or name another path"));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let socket = UnixDatagram::bind(path)?;
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(ErrorKind::AddrInUse, "another took its place while it was made; give it a folder of its own"));
    }
    let bound = Bound { path: path.to_owned(), file: (metadata.dev(), metadata.ino()) };
    // By what was opened and seen to be a socket: a name may lead to something else by now.
    let opened = open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&opened)?;
    if (stat.st_dev, stat.st_ino) != bound.file {
        return Err(io::Error::new(ErrorKind::AddrInUse, "another took its place while it was made; give it a folder of its own"));
    }
    fs::set_permissions(format!("/proc/self/fd/{}", opened.as_raw_fd()), Permissions::from_mode(MODE))?;
    Ok((socket, bound))
}

impl Drop for Bound {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.file);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(error = %Causes(&error), path = %self.path.display(), "Could not remove a socket");
        }
    }
}

/// Returns the line in a datagram, `<190>Mon dd hh:mm:ss portcullis: {…}`; `None` where it is not of that form. nginx puts a host's name before
/// the tag unless it is told not to.
pub fn line_in(datagram: &[u8]) -> Option<&[u8]> {
    let rest = datagram.strip_prefix(b"<")?;
    let (priority, rest) = rest.split_at(memchr(b'>', rest)?);
    let (time, rest) = rest[1..].split_at_checked(TIME.len())?;
    let is_of_kind = |(byte, kind): (&u8, &u8)| match kind {
        b'@' => byte.is_ascii_alphabetic(),
        b'#' => byte.is_ascii_digit() || *byte == b' ',
        other => byte == other,
    };
    if !matches!(priority.len(), 1..=3) || !priority.iter().all(u8::is_ascii_digit) || !time.iter().zip(TIME).all(is_of_kind) {
        return None;
    }
    let behind_tag = |rest: &'_ [u8]| rest.strip_prefix(TAG.as_bytes()).and_then(|rest| rest.strip_prefix(b": ")).map(<[u8]>::len);
    let host = || memchr(b' ', rest).and_then(|at| behind_tag(&rest[at + 1..]));
    behind_tag(rest).or_else(host).map(|length| &rest[rest.len() - length..])
}

/// Returns how many lines the kernel keeps for a socket that is bound from here on; `None` where it does not say.
pub fn most_waiting() -> Option<u64> {
    fs::read_to_string(QUEUE).ok()?.trim().parse().ok()
}

struct Listener<T, P> {
    socket: UnixDatagram,
    parse: P,
    batches: mpsc::Sender<Batch<T>>,
    /// What nobody has taken yet.
    gathered: Vec<T>,
    mishaps: Mishaps,
    trouble: Option<String>,
    /// What was told of mishaps and of trouble.
    told: Option<(Mishaps, Option<String>)>,
    buffer: Vec<u8>,
}

impl<T, P: FnMut(&[u8]) -> T> Listener<T, P> {
    fn run(mut self) {
        while !self.batches.is_closed() {
            self.hand_on();
            let is_waiting = self.is_to_be_told();
            match self.wait(if is_waiting { GATHER } else { TICK }).and_then(|()| self.take_in()) {
                Ok(()) => self.trouble = None,
                Err(error) => {
                    self.trouble = Some(error.to_string());
                    std::thread::sleep(TICK);
                }
            }
        }
    }

    fn is_to_be_told(&self) -> bool {
        let now = (&self.mishaps, &self.trouble);
        !self.gathered.is_empty() || self.told.as_ref().map(|(mishaps, trouble)| (mishaps, trouble)) != Some(now)
    }

    /// Hands on what has come, where that is taken; past a bound it is waited for whoever takes it.
    fn hand_on(&mut self) {
        if !self.is_to_be_told() || self.gathered.len() < MAX_GATHERED && self.batches.capacity() == 0 {
            return;
        }
        let (mishaps, trouble) = (self.mishaps, self.trouble.clone());
        self.told = Some((mishaps, trouble.clone()));
        let batch = Batch { lines: std::mem::take(&mut self.gathered), checkpoint: None, mishaps, left: 0, trouble };
        // Whoever takes none any more has left.
        let _ = self.batches.blocking_send(batch);
    }

    /// Waits for a datagram, so long at the most.
    fn wait(&self, most: Duration) -> io::Result<()> {
        let most = Timespec::try_from(most).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&most)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes in what has come.
    fn take_in(&mut self) -> io::Result<()> {
        while self.gathered.len() < MAX_GATHERED {
            match recv(&self.socket, &mut self.buffer[..], RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
                Ok((read, length)) => {
                    let line = line_in(&self.buffer[..read]).unwrap_or_default();
                    if length > read || line.len() > MAX_LINE_BYTES {
                        self.mishaps.oversized_lines += 1;
                    } else {
                        let line = (self.parse)(line);
                        self.gathered.push(line);
                    }
                }
                Err(Errno::WOULDBLOCK) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
