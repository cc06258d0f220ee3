//! What leaves of a body at a time: by `sendfile(2)` on a blocking thread, or copied out of the page cache.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::{ReadWriteFlags, preadv2};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::pace::Purse;
use super::socket;
use super::stream::Stream;
use crate::catalog::OpenFile;
use crate::share::ByteRange;

/// The most that one `sendfile` is asked for, so that a cut is noticed within milliseconds.
const MAX_CHUNK: u64 = 2 * 1024 * 1024;
/// How long a blocking thread waits for a full socket before it is given back, where the recipient is fast: they empty some
/// of the buffer well within it. For a slow one the thread would only wait, and does not.
const THREAD_PATIENCE: Duration = Duration::from_millis(4);
/// How long a blocking thread sends before it lets others have a turn. While the disk is what is slow no socket is ever
/// full, and whoever came first would keep the thread to the end of the file.
const TURN: Duration = Duration::from_millis(100);
/// How much the kernel holds unsent for a recipient who does not keep up. What is under way to them is bounded by their own
/// window; the rest of a full buffer would be memory that nobody needs: 200 of them held 200 MB. It is woken for more at
/// half of it, which is 60 ms at 1 MB/s.
pub(super) const MAX_UNSENT_BYTES: u32 = 128 * 1024;
/// Who takes so much without once letting a thread wait for too long keeps up: they get all of the socket's buffer, since
/// filling it seldom costs least.
const KEEPS_UP_BYTES: usize = 512 * 1024;
/// Over how many patiences a recipient is judged, where so much does not leave earlier: as long as it takes who is just fast enough.
const GULPS: u32 = 8;
/// How much is copied at a time for who does not keep up: what the kernel wakes us for.
pub(super) const PIECE_BYTES: usize = 64 * 1024;
/// How many of those in one turn of the runtime's thread, which then has others to serve. Who takes them all keeps up, and
/// gets a thread.
const MAX_PIECES_AT_ONCE: usize = KEEPS_UP_BYTES / PIECE_BYTES;

/// Reads what of the file lies in the page cache from `at` on, as much as it takes without waiting. `None` where that is
/// nothing, or cannot be known.
pub(super) fn read_cached(file: &File, bytes: &mut [u8], at: u64) -> Option<usize> {
    let mut buffers = [io::IoSliceMut::new(bytes)];
    preadv2(file, &mut buffers, at, ReadWriteFlags::NOWAIT).ok().filter(|n| *n > 0)
}

/// Does something with what of a range lies in the page cache; the range is one piece at the most. `None` where that is nothing.
pub(super) fn with_piece<T>(file: &File, range: ByteRange, work: impl FnOnce(&[u8]) -> T) -> Option<T> {
    PIECE.with_borrow_mut(|piece| {
        let length = PIECE_BYTES.min(usize::try_from(range.len()).unwrap_or(PIECE_BYTES));
        let n = read_cached(file, &mut piece[..length], range.start)?;
        Some(work(&piece[..n]))
    })
}

/// What a blocking thread sends.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) stream: Arc<Stream>,
    pub(super) file: Arc<OpenFile>,
    /// Which of its bytes are sent.
    pub(super) start: u64,
    pub(super) end: u64,
    /// Where in the stream the first of them stands.
    pub(super) body_at: u64,
}

/// Why a blocking thread stopped.
pub(super) enum Burst {
    /// Everything was written.
    Done,
    /// The socket is full.
    Full,
    /// It is the turn of whoever waits.
    Turn,
    /// The transfer's speed is limited, and more may leave after so long.
    Early(Duration),
    /// The file ended too early.
    Short,
    /// The pass was cut.
    Cut,
}

/// How a body is held ready for its recipient: by how fast they took what came before.
pub(super) struct Hold {
    /// Whether the kernel may hold little of it unsent.
    is_little: bool,
    /// How long a thread may wait for them. Nothing, before they have shown that it is worth it: two hundred who come at once
    /// would keep two hundred threads.
    patience: Duration,
    /// When the socket was last full, and how much was sent since. What fills it first says nothing of the recipient.
    full_at: Option<Instant>,
    sent: u64,
}

impl Hold {
    pub(super) fn little(tcp: &TcpStream) -> Self {
        socket::hold_unsent(tcp, MAX_UNSENT_BYTES);
        Self { is_little: true, patience: Duration::ZERO, full_at: None, sent: 0 }
    }

    /// Notes that bytes were taken.
    fn sent(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    /// Notes that the socket takes no more, and that it did not within the patience.
    fn full(&mut self, tcp: &TcpStream) {
        let now = Instant::now();
        let Some(since) = self.full_at else {
            (self.full_at, self.sent) = (Some(now), 0);
            return;
        };
        let took = now - since;
        // Who reads in gulps is fast for a moment, and no faster for it.
        if self.sent < KEEPS_UP_BYTES as u64 && took < THREAD_PATIENCE * GULPS {
            return;
        }
        // As fast as this, the socket takes more before the patience is over.
        let is_fast = u128::from(self.sent) * THREAD_PATIENCE.as_micros() >= u128::from(MAX_UNSENT_BYTES / 2) * took.as_micros();
        (self.full_at, self.sent) = (Some(now), 0);
        self.patience = if is_fast { THREAD_PATIENCE } else { Duration::ZERO };
        // Who is fast and was kept from reading for a moment, by a busy machine or a lost segment, stays fast.
        self.set_little(tcp, !is_fast);
    }

    fn set_little(&mut self, tcp: &TcpStream, is_little: bool) {
        if is_little != self.is_little {
            self.is_little = is_little;
            socket::hold_unsent(tcp, if is_little { MAX_UNSENT_BYTES } else { u32::MAX });
        }
    }
}

thread_local! {
    /// Where a piece lies between the page cache and the socket: one for each thread of the runtime, whoever it serves.
    static PIECE: RefCell<Vec<u8>> = RefCell::new(vec![0; PIECE_BYTES]);
}

impl Plan {
    /// Sends to who does not keep up, as long as it needs no waiting. `None` where a thread has to go on: the bytes are not in
    /// memory, or their recipient has shown that they keep up.
    pub(super) fn send_copied(&self, purse: &mut Purse, hold: &mut Hold) -> io::Result<Option<Burst>> {
        if !self.file.is_local || !hold.patience.is_zero() {
            return Ok(None);
        }
        for _ in 0..MAX_PIECES_AT_ONCE {
            let at = self.at();
            if at >= self.end {
                return Ok(Some(Burst::Done));
            }
            let length = match purse.open((self.end - at).min(PIECE_BYTES as u64), Instant::now()) {
                Ok(n) => n as usize,
                Err(wait) => return Ok(Some(Burst::Early(wait))),
            };
            let range = ByteRange::new(at, at + length as u64);
            let taken = with_piece(&self.file.file, range, |bytes| socket::send_now(&self.stream.tcp, bytes, false));
            match taken {
                None => return Ok(None),
                Some(Ok(n)) => self.sent(n, purse, hold),
                Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                // The runtime knows it as full now, and tells when it is not.
                Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    hold.full(&self.stream.tcp);
                    return Ok(Some(Burst::Full));
                }
                Some(Err(error)) => return Err(error),
            }
            // It would take more than it is woken for, so it is asked before each.
            if !socket::is_writable_within(self.stream.tcp.as_fd(), Duration::ZERO) {
                hold.full(&self.stream.tcp);
                return Ok(Some(Burst::Full));
            }
        }
        Ok(None)
    }

    /// Returns which byte of the file is next.
    fn at(&self) -> u64 {
        self.start + (self.stream.written() - self.body_at)
    }

    fn sent(&self, bytes: usize, purse: &mut Purse, hold: &mut Hold) {
        self.stream.wrote(bytes);
        purse.sent(bytes as u64);
        hold.sent(bytes as u64);
    }

    pub(super) fn burst(&self, purse: &mut Purse, hold: &mut Hold, is_cut: impl Fn() -> bool) -> io::Result<Burst> {
        let (began, mut sent) = (Instant::now(), 0);
        loop {
            let at = self.at();
            if at >= self.end {
                return Ok(Burst::Done);
            }
            if is_cut() {
                return Ok(Burst::Cut);
            }
            if began.elapsed() >= TURN {
                return Ok(Burst::Turn);
            }
            let mut offset = at;
            let length = match purse.open((self.end - at).min(MAX_CHUNK), Instant::now()) {
                Ok(n) => n as usize,
                Err(wait) => return Ok(Burst::Early(wait)),
            };
            match rustix::fs::sendfile(&self.stream.tcp, &self.file.file, Some(&mut offset), length) {
                Ok(0) => return Ok(Burst::Short),
                Ok(n) => {
                    self.sent(n, purse, hold);
                    sent += n;
                    if sent >= KEEPS_UP_BYTES {
                        hold.set_little(&self.stream.tcp, false);
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    if !socket::is_writable_within(self.stream.tcp.as_fd(), hold.patience) {
                        hold.full(&self.stream.tcp);
                        return Ok(Burst::Full);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::catalog::{Catalog, CatalogOptions};
    use crate::share::CatalogPath;

    const SIZE: u64 = 1 << 38;

    /// A file so long that nobody comes to its end, and a connection over which it goes. Whoever holds the folder keeps the file.
    async fn far(reader_buffer_bytes: usize) -> (tempfile::TempDir, Plan, std::net::TcpStream) {
        let folder = tempfile::tempdir().unwrap();
        File::create(folder.path().join("film.mkv")).unwrap().set_len(SIZE).unwrap();
        let catalog = Catalog::new(folder.path(), CatalogOptions::default()).unwrap();
        let file = Arc::new(catalog.open(&CatalogPath::parse("film.mkv").unwrap()).await.unwrap());
        let listener = super::super::accept::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let reader = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        socket2::SockRef::from(&reader).set_recv_buffer_size(reader_buffer_bytes).unwrap();
        let stream = Arc::new(Stream::new(listener.accept().await.unwrap().0).unwrap());
        (folder, Plan { stream, file, start: 0, end: SIZE, body_at: 0 }, reader)
    }

    /// Whether a page is in memory is the kernel's to say: what was never read is read once.
    fn warm(plan: &Plan) {
        let mut bytes = vec![0; KEEPS_UP_BYTES];
        plan.file.file.read_at(&mut bytes, plan.at()).unwrap();
    }

    /// Returns whether the file system of the tests lets nobody be kept waiting: a tmpfs does not know the question. There every
    /// body goes by a thread, and nothing is to be tested here.
    fn is_known_what_is_cached(plan: &Plan) -> bool {
        warm(plan);
        let is_known = read_cached(&plan.file.file, &mut [0; 1], plan.at()).is_some();
        if !is_known {
            println!("the folder for temporary files does not tell what is in memory");
        }
        is_known
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_recipient_who_takes_nothing_holds_little_in_the_kernel_by_either_way() {
        /// What lies unsent, what one segment more is, and what the other side's small buffer takes.
        const MOST: u64 = 2 * MAX_UNSENT_BYTES as u64 + 64 * 1024;
        for is_copied in [false, true] {
            let (_folder, plan, reader) = far(8192).await;
            let stream = plan.stream.clone();
            let work = move || {
                let (mut purse, mut hold) = (Purse::new(None), Hold::little(&plan.stream.tcp));
                let burst = if is_copied && is_known_what_is_cached(&plan) {
                    plan.send_copied(&mut purse, &mut hold).unwrap().expect("it needs no thread")
                } else {
                    plan.burst(&mut purse, &mut hold, || false).unwrap()
                };
                (burst, hold.patience)
            };
            let (burst, patience) = tokio::task::spawn_blocking(work).await.unwrap();
            assert!(matches!(burst, Burst::Full));
            assert_eq!(patience, Duration::ZERO, "no thread waits for them");
            assert!(stream.unacked() < MOST, "{} bytes are held", stream.unacked());
            assert!(stream.written() > 0);
            drop(reader);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_copied_is_the_file_from_where_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(folder.path().join("film.mkv"), &bytes).unwrap();
        let (_far, mut plan, mut reader) = far(1 << 20).await;
        let catalog = Catalog::new(folder.path(), CatalogOptions::default()).unwrap();
        plan.file = Arc::new(catalog.open(&CatalogPath::parse("film.mkv").unwrap()).await.unwrap());
        (plan.start, plan.end) = (1000, 199_000);
        if !is_known_what_is_cached(&plan) {
            return;
        }
        let reading = std::thread::spawn(move || {
            let mut got = vec![0; 198_000];
            reader.read_exact(&mut got).map(|()| got).unwrap()
        });
        let (mut purse, mut hold) = (Purse::new(None), Hold::little(&plan.stream.tcp));
        loop {
            hold.patience = Duration::ZERO;
            match plan.send_copied(&mut purse, &mut hold).unwrap() {
                Some(Burst::Done) => break,
                Some(Burst::Full) => socket::writable(&plan.stream.tcp).await.unwrap(),
                // Taken for somebody who keeps up; the patience is taken from them above.
                None => warm(&plan),
                Some(_) => unreachable!("nothing paces it"),
            }
        }
        assert_eq!(reading.join().unwrap(), bytes[1000..199_000]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_keeps_up_gets_a_thread_and_so_does_whose_file_is_far_away_or_was_cut_short() {
        let (folder, plan, mut reader) = far(1 << 20).await;
        let reading = std::thread::spawn(move || {
            let mut bytes = vec![0; 1 << 20];
            while reader.read(&mut bytes).is_ok_and(|n| n > 0) {}
        });
        let (mut purse, mut hold) = (Purse::new(None), Hold::little(&plan.stream.tcp));
        let is_known = is_known_what_is_cached(&plan);
        // However late a busy machine lets the reader run, there is a time at which it was fast.
        loop {
            warm(&plan);
            match plan.send_copied(&mut purse, &mut hold).unwrap() {
                None => break,
                Some(Burst::Full) => socket::writable(&plan.stream.tcp).await.unwrap(),
                Some(_) => unreachable!("it has no end, and nothing paces it"),
            }
        }
        let written = plan.stream.written();
        assert!(!is_known || written >= KEEPS_UP_BYTES as u64, "they had shown nothing after {written} bytes");
        let open = |is_local, path: &std::path::Path| {
            let file = File::open(path).unwrap();
            Arc::new(OpenFile { file, identity: plan.file.identity, is_local })
        };
        let path = folder.path().join("film.mkv");
        let far_away = Plan { file: open(false, &path), ..plan.clone() };
        assert!(far_away.send_copied(&mut purse, &mut Hold::little(&plan.stream.tcp)).unwrap().is_none());
        File::options().write(true).open(&path).unwrap().set_len(1).unwrap();
        let short = Plan { file: open(true, &path), ..plan.clone() };
        assert!(short.send_copied(&mut purse, &mut Hold::little(&plan.stream.tcp)).unwrap().is_none());
        assert_eq!(plan.stream.written(), written, "nothing of them was sent");
        socket::abort(&plan.stream.tcp);
        reading.join().unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_recipient_who_keeps_up_leaves_others_their_turn() {
        let (_folder, plan, mut reader) = far(1 << 20).await;
        let stream = plan.stream.clone();
        let reading = std::thread::spawn(move || {
            let mut bytes = vec![0; 1 << 20];
            while reader.read(&mut bytes).is_ok_and(|n| n > 0) {}
        });
        let longest = tokio::task::spawn_blocking(move || {
            let longest = Instant::now() + Duration::from_secs(10);
            let bursts = (0..5).map(|_| {
                let began = Instant::now();
                plan.burst(&mut Purse::new(None), &mut Hold::little(&plan.stream.tcp), || Instant::now() >= longest).unwrap();
                began.elapsed()
            });
            bursts.max().unwrap()
        });
        let longest = longest.await.unwrap();
        socket::abort(&stream.tcp);
        reading.join().unwrap();
        assert!(longest < Duration::from_secs(2), "one burst took {longest:?}");
    }
}
