//! Who holds the session on tailscaled's bus: a tiny process of its own, which lets go when this one no longer gives a sign of
//! life.
//!
//! A process that dies closes its connections, and tailscaled then shuts every door of its session. One that hangs does not:
//! nothing would ever shut them. So a child holds the session. On its standard input it hears a beat a second; when that ends,
//! or is silent for [`PATIENCE`], it exits. On its standard output it passes on what the bus says.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use super::localapi::{Bus, Lines, LocalApi, LocalApiError, session_of};

/// The command of our own program that holds a session.
pub const COMMAND: &str = "hold-session";
/// For how long a keeper hears nothing before it lets go. Five beats: a machine that is busy loses one, and should it lose five
/// the session is taken up again a moment later.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is to hear something.
pub const BEAT_EVERY: Duration = Duration::from_secs(1);
/// How long a keeper may take until it holds a session: tailscaled's own patience, and the start of a process.
const START_TIMEOUT: Duration = Duration::from_secs(15);
/// How much is read from a keeper at a time.
const READ_BYTES: usize = 16 * 1024;
/// What a keeper's last words stand under. No message of tailscaled's has it.
const LAST_WORDS: &str = "PortcullisKeeper";

const WHAT: &str = "go on with its session";

/// Who holds a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// This process: for tests, and where a process that hangs is seen to by somebody else.
    Here,
    /// A child, which is this program under the command [`COMMAND`].
    Child(PathBuf),
}

/// How a child is told that we live. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Beats(Arc<Pulse>);

#[derive(Debug, Default)]
struct Pulse {
    pipe: Mutex<Option<OwnedFd>>,
    count: AtomicU64,
}

impl Beats {
    /// Gives a sign of life. To be called every [`BEAT_EVERY`], by whatever proves that this process decides.
    pub fn beat(&self) {
        self.0.count.fetch_add(1, Ordering::Relaxed);
        if let Some(pipe) = &*self.0.pipe.lock().expect("nobody panics while holding the pipe") {
            // A full pipe holds thousands of beats that nobody has heard, and one that is closed nobody hears.
            let _ = rustix::io::write(pipe, b".");
        }
    }

    /// Returns how many signs there were so far.
    pub(super) fn count(&self) -> u64 {
        self.0.count.load(Ordering::Relaxed)
    }

    fn lead_to(&self, pipe: Option<OwnedFd>) {
        *self.0.pipe.lock().expect("nobody panics while holding the pipe") = pipe;
    }
}

/// A session that is held.
#[derive(Debug)]
pub(super) enum Held {
    Here(Bus),
    Child(Box<Kept>),
}

/// A session that a child holds. Dropped, the child is killed, and the session ends.
#[derive(Debug)]
pub(super) struct Kept {
    process: Child,
    said: ChildStdout,
    lines: Lines,
    session: String,
    beats: Beats,
}

/// What a session says.
#[derive(Debug)]
pub(super) enum Said {
    /// A message of tailscaled's.
    Message(Value),
    /// It is over.
    Over(Over),
}

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Over {
    /// tailscaled ended it: it has gone, or somebody has overwritten what was served in the session's name.
    Ended,
    /// tailscaled ended it since its messages were not read in time.
    FellBehind,
    /// Whoever held it let go, or broke.
    LetGo(String),
}

impl Held {
    /// Begins a session.
    pub(super) async fn begin(api: &LocalApi, hold: &Hold, beats: &Beats) -> Result<Self, LocalApiError> {
        match hold {
            Hold::Here => Ok(Self::Here(api.watch().await?)),
            Hold::Child(program) => {
                let start = Kept::start(api, program, beats.clone());
                let kept = timeout(START_TIMEOUT, start).await;
                Ok(Self::Child(Box::new(kept.unwrap_or(Err(LocalApiError::Slow { what: "begin a session", after: START_TIMEOUT }))?)))
            }
        }
    }

    pub(super) fn session(&self) -> &str {
        match self {
            Self::Here(bus) => bus.session(),
            Self::Child(kept) => &kept.session,
        }
    }

    /// Waits for what it says next. May be dropped and called again; nothing is lost.
    pub(super) async fn next(&mut self) -> Said {
        let next = match self {
            Self::Here(bus) => bus.next().await,
            Self::Child(kept) => kept.next().await,
        };
        match next {
            Ok(Some(message)) if message["ErrMessage"].as_str().is_some_and(|text| text.contains("fell behind")) => {
                Said::Over(Over::FellBehind)
            }
            Ok(Some(message)) => match last_words(&message) {
                Some(over) => Said::Over(over),
                None => Said::Message(message),
            },
            Ok(None) if matches!(self, Self::Here(_)) => Said::Over(Over::Ended),
            Ok(None) => Said::Over(Over::LetGo("the process that held the session has died".to_owned())),
            Err(error) => Said::Over(Over::LetGo(error.to_string())),
        }
    }
}

impl Kept {
    async fn start(api: &LocalApi, program: &PathBuf, beats: Beats) -> Result<Self, LocalApiError> {
        let what = "begin a session";
        let broken = |why: &dyn std::fmt::Display| LocalApiError::broken(what, why);
        let mut command = Command::new(program);
        // Nothing of ours is told to it: no secret that the environment may hold, nor where we stand.
        command.arg(COMMAND).arg("--socket").arg(api.socket()).env_clear().current_dir("/").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process =
            command.spawn().map_err(|error| broken(&format_args!("the process that would hold it cannot be started: {error}")))?;
        let (Some(input), Some(said)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(broken(&"its holder has no pipes"));
        };
        let input = input.into_owned_fd().map_err(|error| broken(&error))?;
        rustix::io::ioctl_fionbio(&input, true).map_err(|error| broken(&error))?;
        beats.lead_to(Some(input));
        let mut kept = Self { process, said, lines: Lines::default(), session: String::new(), beats };
        let first = kept.next().await?.ok_or_else(|| broken(&"the process that would hold it has died"))?;
        if let Some(error) = first[LAST_WORDS]["error"].as_str() {
            let is_retryable = first[LAST_WORDS]["is_retryable"].as_bool().unwrap_or(true);
            return Err(LocalApiError::Keeper { text: error.to_owned(), is_retryable });
        }
        kept.session = session_of(what, &first)?;
        Ok(kept)
    }

    async fn next(&mut self) -> Result<Option<Value>, LocalApiError> {
        loop {
            if let Some(message) = self.lines.take(WHAT)? {
                return Ok(Some(message));
            }
            self.lines.0.reserve(READ_BYTES);
            match self.said.read_buf(&mut self.lines.0).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) => {}
            }
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.beats.lead_to(None);
        // It is waited for by the runtime.
        let _ = self.process.start_kill();
    }
}

/// Reads a keeper's last words.
fn last_words(message: &Value) -> Option<Over> {
    let words = message.get(LAST_WORDS)?;
    Some(match words["over"].as_str() {
        Some("ended") => Over::Ended,
        Some("fell behind") => Over::FellBehind,
        Some(other) => Over::LetGo(other.to_owned()),
        None => Over::LetGo(words["error"].as_str().unwrap_or("it does not say why").to_owned()),
    })
}

/// Holds a session for whoever started this process, until they give no more signs of life or tailscaled ends it.
pub async fn hold(api: LocalApi, beats: impl AsyncRead + Unpin, mut said: impl AsyncWrite + Unpin) {
    // Before it is held, too: whoever dies meanwhile must not leave a process behind that waits for tailscaled.
    let held = async {
        let words = match api.watch().await {
            Ok(bus) => json!({ LAST_WORDS: { "over": pass_on(bus, &mut said).await } }),
            Err(error) => json!({ LAST_WORDS: { "error": error.to_string(), "is_retryable": error.is_retryable() } }),
        };
        let _ = write_line(&mut said, &words).await;
    };
    tokio::select! {
        () = held => {}
        () = silence(beats, PATIENCE) => {}
    }
}

/// Passes on what the bus says; returns how it ended.
async fn pass_on(mut bus: Bus, said: &mut (impl AsyncWrite + Unpin)) -> String {
    let mut next: Result<_, LocalApiError> = Ok(Some(json!({ "SessionID": bus.session() })));
    loop {
        match next {
            Ok(Some(message)) if write_line(said, &message).await.is_ok() => {}
            Ok(Some(_)) => return "nobody listens".to_owned(),
            Ok(None) => return "ended".to_owned(),
            Err(error) => return error.to_string(),
        }
        next = bus.next().await;
    }
}

async fn write_line(said: &mut (impl AsyncWrite + Unpin), message: &Value) -> std::io::Result<()> {
    said.write_all(format!("{message}\n").as_bytes()).await?;
    said.flush().await
}

/// Comes back when no beat is heard any more.
async fn silence(mut beats: impl AsyncRead + Unpin, patience: Duration) {
    let mut heard = [0; 64];
    while let Ok(Ok(1..)) = timeout(patience, beats.read(&mut heard)).await {}
}

/// Holds a session on this process's standard input and output.
///
/// # Errors
/// What the system says where these are no pipes.
pub async fn run(api: LocalApi) -> std::io::Result<()> {
    use tokio::net::unix::pipe::{Receiver, Sender};
    // Also where this process is stopped, and cannot see that the other has died.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let beats = Receiver::from_owned_fd(std::io::stdin().as_fd().try_clone_to_owned()?)?;
    let said = Sender::from_owned_fd(std::io::stdout().as_fd().try_clone_to_owned()?)?;
    hold(api, beats, said).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_is_when_no_beat_comes_for_the_whole_patience_or_nobody_is_there() {
        let (mut ours, theirs) = duplex(64);
        let begun = tokio::time::Instant::now();
        let beating = async {
            for _ in 0..10 {
                tokio::time::sleep(PATIENCE - Duration::from_millis(1)).await;
                ours.write_all(b".").await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = silence(theirs, PATIENCE) => {}
            () = beating => {}
        }
        assert_eq!(begun.elapsed(), (PATIENCE - Duration::from_millis(1)) * 10 + PATIENCE);

        let (ours, theirs) = duplex(64);
        drop(ours);
        let begun = tokio::time::Instant::now();
        silence(theirs, PATIENCE).await;
        assert_eq!(begun.elapsed(), Duration::ZERO, "who is dead is not waited for");
    }

    #[tokio::test]
    async fn a_keeper_that_finds_no_tailscaled_says_what_to_do() {
        let (_beats, heard) = duplex(64);
        let (said, mut theirs) = duplex(4096);
        hold(LocalApi::new("/nowhere/tailscaled.sock"), heard, said).await;
        let mut text = String::new();
        theirs.read_to_string(&mut text).await.unwrap();
        let words: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(words[LAST_WORDS]["is_retryable"], true);
        assert!(words[LAST_WORDS]["error"].as_str().unwrap().contains("start it, or share the folder"), "{words}");
        assert!(matches!(last_words(&words), Some(Over::LetGo(_))));
    }

    #[test]
    fn a_message_of_tailscaleds_is_nobodys_last_word() {
        assert_eq!(last_words(&json!({ "State": 6, "Health": { "over": "ended" } })), None);
        assert_eq!(last_words(&json!({ LAST_WORDS: { "over": "ended" } })), Some(Over::Ended));
    }
}
