//! Looks whether all that nginx needs is as it should be, the way a recipient would: by a request to it.
//!
//! nginx is asked for an address that only this process knows, so it is this nginx that asks us for it, with this configuration, over a
//! connection that we see or do not. It is answered with a file that is shared or could be, of which nginx tells the head alone; and
//! its line must come.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use subtle::ConstantTimeEq;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::head::Head;
use super::desk::Place;
use super::site::reached_at;
use super::source::AccessLog;
use super::stamp::Stamp;
use super::{NO_COOKIE, Nginx, PROGRAM, SILENCE, Via, etag_of, front};
use crate::catalog::Catalog;
use crate::meter::may_reset_by_owner;
use crate::share::{CatalogPath, FileIdentity, ShareId, TransferId};
use crate::token::random;

/// How often it is looked where nobody asks: a file of the NAS is opened for it.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How soon again while something is wrong.
const LOOK_AGAIN: Duration = Duration::from_secs(3);
/// How soon again at the earliest, whoever asks.
const REST: Duration = Duration::from_secs(1);
/// How long nginx may take to answer. It asks us, and opens a file of the NAS.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long its line may take to be read here; it takes milliseconds.
const LINE_TIMEOUT: Duration = Duration::from_secs(3);
/// How often it is looked for a line that comes by syslog before it is called missing, and how long each time: all of it takes as long as
/// the look for a line in a file.
const MAX_LOOKS_BY_SYSLOG: u32 = 3;
const SYSLOG_LINE_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest head of an answer.
const MAX_ANSWER_BYTES: usize = 8192;
/// How many files are tried for one that can be opened.
const MAX_TRIED: usize = 8;

/// Says what it means that nginx's connections are not seen here.
pub const PASSES_ON: &str = "nginx's connections are not seen here, so portcullis sends the files through it, and what has arrived is known as \
    sent only: to have nginx send them, let both share a network namespace (in compose network_mode: \"service:…\")";

/// How nginx stands.
#[derive(Debug, Clone)]
pub struct Standing {
    /// When that was seen.
    pub at: Instant,
    /// What is wrong, each a sentence that says what to do.
    pub problems: Vec<String>,
    /// Whether its connections are seen here; where they are not it passes on what we send.
    pub sends_itself: bool,
    /// How long a line took from nginx to us.
    pub lag: Option<Duration>,
}

/// Looks at nginx from time to time.
pub struct Probing {
    /// Whom it asks.
    pub nginx: Arc<Nginx>,
    /// Where the files are.
    pub catalog: Arc<Catalog>,
    /// Where nginx listens for recipients.
    pub listen: SocketAddr,
    /// Where it finds us.
    pub upstream: SocketAddr,
    /// Where it writes its lines.
    pub access_log: AccessLog,
}

/// A look that is under way.
#[derive(Debug)]
pub(super) struct Look {
    path: String,
    file: Option<CatalogPath>,
    /// What nginx said when it asked.
    seen: Option<Seen>,
}

#[derive(Debug)]
struct Seen {
    is_current: bool,
    is_in_our_namespace: bool,
    may_be_ended: bool,
    /// Waits for the line.
    place: Place,
}

/// The look of which nginx asks us at the moment.
pub(super) type Current = Mutex<Option<Look>>;

impl Nginx {
    /// Answers the request of a look. `None` for anybody else's.
    pub(in crate::delivery) async fn answer_probe(&self, head: &Head) -> Option<Vec<u8>> {
        let via = Via::read(&head.headers)?;
        let file = self.current().as_ref().filter(|look| is_same(&look.path, head.uri.path())).map(|look| look.file.clone())?;
        let sighting = self.connections.sockets.look(via.local, via.peer).ok().flatten();
        let may_be_ended = match sighting {
            Some(_) if self.connections.sockets.try_destroying().is_ok() => true,
            Some(sighting) => spawn_blocking(move || may_reset_by_owner(sighting.inode, PROGRAM)).await.is_ok_and(|may| may),
            None => false,
        };
        let stamp =
            Stamp { share: ShareId::from_random(0), transfer: TransferId::from_bytes([0; 16]), name: u64::from_le_bytes(random::bytes()) };
        let place = self.desk.enter(stamp.name, NO_COOKIE)?;
        let (is_current, is_in_our_namespace) = (self.runs_with_ours(&head.headers), sighting.is_some());
        self.current().as_mut()?.seen = Some(Seen { is_current, is_in_our_namespace, may_be_ended, place });
        let stamp = self.named(&stamp);
        Some(match &file {
            Some(file) => front::handed_over(b"", &format!("X-Accel-Redirect: {}\r\n{stamp}", front::redirect(file, false))),
            None => [&SILENCE[..SILENCE.len() - 2], stamp.as_bytes(), b"\r\n"].concat(),
        })
    }

    fn current(&self) -> MutexGuard<'_, Option<Look>> {
        self.probe.lock().expect("nobody panics while holding a look")
    }

    /// Begins a look, or ends it; returns the one before.
    fn set_look(&self, look: Option<Look>) -> Option<Look> {
        std::mem::replace(&mut *self.current(), look)
    }
}

fn is_same(ours: &str, asked: &str) -> bool {
    ours.as_bytes().ct_eq(asked.as_bytes()).into()
}

impl Probing {
    /// Looks until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut told = (Vec::new(), true);
        loop {
            let found = tokio::select! {
                found = self.look() => found,
                () = shutdown.cancelled() => return,
            };
            if (&found.problems, found.sends_itself) != (&told.0, told.1) {
                for problem in &found.problems {
                    tracing::warn!("{problem}");
                }
                if found.problems.is_empty() && found.sends_itself {
                    tracing::info!("nginx is as it should be");
                } else if found.problems.is_empty() {
                    tracing::warn!("{PASSES_ON}");
                }
            }
            let pause = if found.problems.is_empty() { LOOK_EVERY } else { LOOK_AGAIN };
            told = (found.problems.clone(), found.sends_itself);
            self.nginx.standing.send_replace(Some(found));
            tokio::select! {
                () = sleep(pause) => {}
                () = async { sleep(REST).await; self.nginx.look_now.notified().await } => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn look_once(&self) -> Standing {
        let sample = timeout(ANSWER_TIMEOUT, self.sample()).await.ok().flatten();
        let path = format!("/{:032x}", u128::from_le_bytes(random::bytes()));
        let look = Look { path: path.clone(), file: sample.as_ref().map(|(path, _)| path.clone()), seen: None };
        self.nginx.set_look(Some(look));
        let began = Instant::now();
        let answer = timeout(ANSWER_TIMEOUT, ask(reached_at(self.listen), &path)).await;
        let look = self.nginx.set_look(None);
        let seen = look.and_then(|look| look.seen);
        let (listen, upstream) = (self.listen, self.upstream);
        let Some(seen) = seen else {
            let problem = match answer {
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    format!("nobody listens on {listen} (RECIPIENT_LISTEN): start nginx with what `portcullis nginx-config` prints")
                }
                Err(_) => format!("nginx on {listen} does not answer within {} s", ANSWER_TIMEOUT.as_secs()),
                Ok(_) => format!(
                    "what listens on {listen} does not ask portcullis on {upstream} (NGINX_UPSTREAM) as ours would: print its configuration anew with `portcullis nginx-config`, and reload nginx; one that reaches portcullis from elsewhere than this machine must be named in TRUSTED_PROXIES"
                ),
            };
            return Standing { at: Instant::now(), problems: vec![problem], sends_itself: true, lag: None };
        };
        let mut problems = Vec::new();
        if !seen.is_current {
            problems.push(
                "nginx runs with another configuration than `portcullis nginx-config` prints now: print it anew and reload nginx"
                    .to_owned(),
            );
        }
        if seen.is_in_our_namespace && !seen.may_be_ended {
            problems.push("a download that nginx sends could not be ended from here: give portcullis CAP_NET_ADMIN, or run nginx's workers as its account".to_owned());
        }
        if let Some((path, identity)) = sample.filter(|_| seen.is_in_our_namespace) {
            problems.extend(self.same_file(&answer.unwrap_or_else(|_| Ok(String::new())).unwrap_or_default(), &path, &identity));
        }
        let most = match self.access_log {
            AccessLog::File(_) => LINE_TIMEOUT,
            AccessLog::Syslog(_) => SYSLOG_LINE_TIMEOUT,
        };
        let lag = match timeout(most, line_of(seen.place)).await {
            Ok(()) => Some(began.elapsed()),
            Err(_) => {
                problems.push(self.without_line());
                None
            }
        };
        Standing { at: Instant::now(), problems, sends_itself: seen.is_in_our_namespace, lag }
    }

    /// Says that nginx's line did not come.
    fn without_line(&self) -> String {
        match &self.access_log {
            AccessLog::File(path) => format!(
                "what nginx writes into {} (NGINX_ACCESS_LOG) is not read here, so no download can complete: is it the log that nginx writes, and may this account read it?",
                path.display()
            ),
            AccessLog::Syslog(path) => format!(
                "no line of nginx's comes to the socket {} (NGINX_ACCESS_LOG), so no download can complete: do nginx's workers find it under this path, and may they enter its folder?",
                path.display()
            ),
        }
    }

    /// Looks at nginx. By syslog a line may be lost that should have come, above all the first of each of nginx's workers behind our start, so
    /// it is looked for several times.
    async fn look(&self) -> Standing {
        let mut looks = 1;
        loop {
            let found = self.look_once().await;
            let is_line_alone = found.problems == [self.without_line()];
            if looks == MAX_LOOKS_BY_SYSLOG || !is_line_alone || !matches!(self.access_log, AccessLog::Syslog(_)) {
                return found;
            }
            looks += 1;
        }
    }

    /// Returns a file that could be shared, and what it is.
    async fn sample(&self) -> Option<(CatalogPath, FileIdentity)> {
        for path in self.catalog.all_files(MAX_TRIED).await {
            if let Ok(file) = self.catalog.open(&path).await {
                return Some((path, file.identity));
            }
        }
        None
    }

    fn same_file(&self, answer: &str, path: &CatalogPath, identity: &FileIdentity) -> Option<String> {
        let etag = answer.lines().filter_map(|line| line.split_once(": ")).find(|(name, _)| name.eq_ignore_ascii_case("etag"));
        let shown = path.for_display();
        match etag {
            Some((_, etag)) if etag.trim() == etag_of(identity) => None,
            Some(_) => Some(format!(
                "nginx finds another file than portcullis under the name {shown}: both must see the same folder under the same path"
            )),
            None => {
                Some(format!("nginx cannot open {shown}: may its workers read the shared folder, and is it under the same path for them?"))
            }
        }
    }
}

/// Comes back when the line has come.
async fn line_of(mut place: Place) {
    if let Ok(told) = (&mut place.line).await {
        // It says nothing that is to be saved.
        told.tell_saved(true);
    }
}

async fn ask(nginx: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(nginx).await?;
    let request = format!("HEAD {path} HTTP/1.1\r\nHost: portcullis\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES as u64).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
