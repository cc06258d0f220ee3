//! The thread that follows a log: woken when something is written, and from time to time where nothing wakes it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::{Checkpoint, Mishaps, Tail};
use crate::clock::Clock;

/// How long lines gather before they are read: what reads each by itself spends a wake-up on each. So much later they are known.
const GATHER: Duration = Duration::from_millis(15);
/// For how many such looks without a line the log is read on, before the kernel is asked to wake us: while many lines come, it
/// would say so for each.
const QUIET_LOOKS: u32 = 20;
/// How long it is slept at the most: a network file system wakes nobody, and a folder that is not there cannot.
const TICK: Duration = Duration::from_millis(500);
/// How much of a log becomes one batch: a few thousand lines, which are saved together.
const BATCH_BYTES: u64 = 1024 * 1024;

/// What was read at a time.
#[derive(Debug)]
pub struct Batch<T> {
    /// What its lines say.
    pub lines: Vec<T>,
    /// How far the log was read with them; `None` while there is not even a folder.
    pub checkpoint: Option<Checkpoint>,
    /// What went wrong so far.
    pub mishaps: Mishaps,
    /// How much is still to be read, in bytes.
    pub left: u64,
    /// Why the log could not be read, where it could not.
    pub trouble: Option<String>,
}

/// Follows a log from a checkpoint on, on a thread of its own, until nobody takes the batches any more. What `parse` makes of a line
/// goes into a batch; a batch is told first, and when a line, a mishap or a trouble is new. How many wait is the channel's bound.
///
/// # Errors
/// What the system says where there can be no thread.
pub fn follow<T: Send + 'static>(
    path: PathBuf,
    from: Option<Checkpoint>,
    clock: Arc<dyn Clock>,
    parse: impl FnMut(&[u8]) -> T + Send + 'static,
    batches: mpsc::Sender<Batch<T>>,
) -> std::io::Result<()> {
    let bell = Bell::new(path.parent().unwrap_or(Path::new(".")).to_owned());
    let follower = Follower { tail: Tail::new(path, from), clock, parse, batches, bell, told: None };
    std::thread::Builder::new().name("log-tail".to_owned()).spawn(move || follower.run()).map(drop)
}

struct Follower<T, P> {
    tail: Tail,
    clock: Arc<dyn Clock>,
    parse: P,
    batches: mpsc::Sender<Batch<T>>,
    bell: Bell,
    /// What was told of mishaps and of trouble.
    told: Option<(Mishaps, Option<String>)>,
}

impl<T, P: FnMut(&[u8]) -> T> Follower<T, P> {
    fn run(mut self) {
        let mut quiet = 0;
        while !self.batches.is_closed() {
            let (came, left) = self.look();
            if left > 0 {
                continue;
            }
            quiet = if came { 0 } else { quiet + 1 };
            if quiet < QUIET_LOOKS {
                std::thread::sleep(GATHER);
            } else if quiet == QUIET_LOOKS {
                // What was written before somebody listens wakes nobody, so it is looked once more.
                self.bell.listen();
            } else if self.bell.wait(TICK) {
                self.bell.stop();
                quiet = 0;
            }
        }
    }

    /// Reads what has come, and tells it. Returns whether anything has, and how much is left.
    fn look(&mut self) -> (bool, u64) {
        let (mut lines, parse) = (Vec::new(), &mut self.parse);
        let read = self.tail.read(self.clock.now().steady, BATCH_BYTES, &mut |line| lines.push(parse(line)));
        let (progress, trouble) = match read {
            Ok(progress) => (progress, None),
            Err(error) => (Default::default(), Some(error.to_string())),
        };
        let now = (self.tail.mishaps(), trouble);
        let came = progress.bytes > 0;
        if !lines.is_empty() || self.told.as_ref() != Some(&now) {
            self.told = Some(now.clone());
            let batch = Batch { lines, checkpoint: self.tail.checkpoint(), mishaps: now.0, left: progress.left, trouble: now.1 };
            // Whoever takes none any more has left.
            let _ = self.batches.blocking_send(batch);
        }
        (came, progress.left)
    }
}

/// Rings when something happens in a folder.
struct Bell {
    folder: PathBuf,
    rings: Receiver<()>,
    ring: SyncSender<()>,
    watcher: Option<RecommendedWatcher>,
}

impl Bell {
    fn new(folder: PathBuf) -> Self {
        // One that waits says all that a thousand would.
        let (ring, rings) = sync_channel(1);
        Self { folder, rings, ring, watcher: None }
    }

    /// Listens, where that can be; else it is the tick that wakes.
    fn listen(&mut self) {
        let ring = self.ring.clone();
        let watcher = notify::recommended_watcher(move |_| {
            let _ = ring.try_send(());
        });
        self.watcher = watcher.and_then(|mut watcher| watcher.watch(&self.folder, RecursiveMode::NonRecursive).map(|()| watcher)).ok();
        if self.watcher.is_none() {
            tracing::debug!(folder = %self.folder.display(), "Nobody wakes us when the log is written; it is looked at twice a second");
        }
    }

    fn stop(&mut self) {
        self.watcher = None;
        while self.rings.try_recv().is_ok() {}
    }

    /// Waits until it rings; returns whether it did, or cannot.
    fn wait(&self, most: Duration) -> bool {
        match self.rings.recv_timeout(most) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => self.watcher.is_none(),
            Err(RecvTimeoutError::Disconnected) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;

    use super::*;
    use crate::clock::FakeClock;
    use crate::share::Moment;

    fn number(line: &[u8]) -> Option<u64> {
        std::str::from_utf8(line).ok()?.parse().ok()
    }

    #[tokio::test]
    async fn lines_come_while_the_log_is_written_and_rotated_and_go_on_from_a_checkpoint() {
        const LINES: u64 = 3000;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let (sender, mut batches) = mpsc::channel(4);
        follow(path.clone(), None, Arc::new(FakeClock::at(Moment::default())), number, sender).unwrap();
        let first = batches.recv().await.expect("where it begins is told before anything is read");
        assert!(first.lines.is_empty() && first.checkpoint.is_some());
        let writing = std::thread::spawn(move || {
            for n in 0..LINES {
                let mut file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
                file.write_all(format!("{n}\n").as_bytes()).unwrap();
                if n % 500 == 499 {
                    // Longer than lines gather, so that each is a wake-up of its own.
                    std::thread::sleep(2 * GATHER * QUIET_LOOKS);
                    fs::rename(&path, path.with_extension(format!("log.{n}"))).unwrap();
                }
            }
            path
        });
        let (mut lines, mut checkpoint) = (Vec::new(), None);
        while lines.len() < LINES as usize {
            let batch = batches.recv().await.expect("there is more");
            assert_eq!((batch.mishaps, batch.trouble), (Mishaps::default(), None));
            lines.extend(batch.lines.into_iter().map(|line| line.expect("a number")));
            checkpoint = batch.checkpoint;
        }
        let path = writing.join().unwrap();
        lines.sort_unstable();
        assert!(lines.iter().copied().eq(0..LINES), "each once");
        drop(batches);

        fs::write(&path, "7\nnone\n").unwrap();
        let (sender, mut batches) = mpsc::channel(1);
        follow(path, checkpoint, Arc::new(FakeClock::at(Moment::default())), number, sender).unwrap();
        assert_eq!(batches.recv().await.expect("what came meanwhile").lines, [Some(7), None]);
    }

    #[tokio::test]
    async fn what_keeps_a_log_from_being_read_is_told_once_and_it_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("later/access.log");
        fs::create_dir_all(&path).unwrap();
        let (sender, mut batches) = mpsc::channel(1);
        follow(path.clone(), None, Arc::new(FakeClock::at(Moment::default())), number, sender).unwrap();
        let told = batches.recv().await.unwrap().trouble.expect("a folder is no log");
        assert!(told.contains("is no file"), "{told}");
        fs::remove_dir(&path).unwrap();
        assert_eq!(batches.recv().await.unwrap().trouble, None);
        fs::write(&path, "1\n").unwrap();
        assert_eq!(batches.recv().await.unwrap().lines, [Some(1)]);
    }
}
