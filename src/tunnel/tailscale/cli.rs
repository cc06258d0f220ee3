//! `tailscale-cli`: a mount for each share, by the program `tailscale`, here or within a container. For hosts where
//! tailscaled's socket cannot be shared with this program.
//!
//! Opening is `tailscale funnel --bg --https=PORT --set-path=/SHARE http://TARGET/SHARE`, closing `tailscale serve … off`, and
//! neither is believed: `tailscale` leaves with success where it only printed how to switch Funnel on, so what is served is
//! read behind each change. Only what leads to our own target is ours; whatever else has our port is left alone, and nothing is
//! opened beside it, for that would let it out to the internet, too. `reset` is never called.
//!
//! **This one is not fail-closed.** What `--bg` opens stands until it is closed, also when this program has died: the
//! controller closes at its next start what no living share wants ([`Tunnel::list`] has it), and until then our recipient
//! listener is what nobody answers behind. The other Tailscale tunnels are shut by tailscaled itself.

mod command;
mod served;

pub use command::Runs;
pub(super) use command::Said;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::RwLock;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::sleep;

use self::command::Runner;
use self::served::{Ours, Served};
use super::funnel::NO_NAME_YET;
use super::localapi::short;
use super::session::public_url;
use super::status::Node;
use crate::share::ShareId;
use crate::token::random;
use crate::tunnel::{Doors, PublicUrl, Standing, Tunnel, TunnelError};

/// How often a change is tried that somebody else's got in the way of. `tailscale` itself tries once.
const MOST_TRIES: u32 = 10;
/// The longest pause between two tries; the shortest is a tenth of it. Two that keep meeting must not pause alike.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// What a [`Cli`] has to know.
pub struct CliOptions {
    /// Where `tailscale` runs.
    pub runs: Runs,
    /// tailscaled's socket as seen from there, where it is not the usual one.
    pub socket: Option<PathBuf>,
    /// The port on the internet: 443, or 8443 or 10000 where that is in use. No other program may serve on it.
    pub port: u16,
    /// Where tailscaled finds our recipient listener, as `127.0.0.1:8001`, or `portcullis:8001` where it runs in another
    /// container: a name or an IPv4 address, and a port.
    pub target: String,
    /// The node's name when it was last known.
    pub last_name: Option<String>,
    /// Is told the node's name whenever that is another.
    pub on_name: Box<dyn Fn(&str) + Send + Sync>,
}

/// Opens and closes ways in by `tailscale`.
pub struct Cli {
    /// One run at a time: `tailscale` reads the whole configuration, and writes it.
    tailscale: Mutex<Tailscale>,
    port: u16,
    /// With its scheme.
    target: String,
    doors: Doors,
    on_name: Box<dyn Fn(&str) + Send + Sync>,
    known: RwLock<Known>,
}

/// What was seen last.
#[derive(Debug, Default)]
struct Known {
    /// The node's name.
    name: Option<String>,
    /// What kept it from opening anything.
    trouble: Option<String>,
    /// What this process opened and has not closed, and which node it was then.
    opened: HashMap<ShareId, Identity>,
}

/// Which node it is: under another name nobody finds what is served, and with another key it has forgotten what it served.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    name: String,
    key: String,
}

impl Cli {
    /// Takes what it has to know, and the doors of the recipient side. Runs nothing yet.
    ///
    /// # Errors
    /// [`TunnelError::NotPossible`] where the port or the target cannot be.
    pub fn new(options: CliOptions, doors: Doors) -> Result<Self, TunnelError> {
        let CliOptions { runs, socket, port, target, last_name, on_name } = options;
        if port == 0 {
            return Err(TunnelError::NotPossible("Funnel has no port 0: use 443, 8443 or 10000".to_owned()));
        }
        if !is_target(&target) {
            let text = format!("{} is not where tailscaled finds a server: it must be like 127.0.0.1:8001 or name:8001", short(&target));
            return Err(TunnelError::NotPossible(text));
        }
        let tailscale = Mutex::new(Tailscale { runner: Runner::new(runs), socket });
        let known = RwLock::new(Known { name: last_name, ..Known::default() });
        Ok(Self { tailscale, port, target: format!("http://{target}"), doors, on_name, known })
    }

    fn ours<'a>(&'a self, name: &'a str) -> Ours<'a> {
        Ours { name, port: self.port, target: &self.target }
    }

    /// Reads what is served, in the node's present name.
    async fn served(&self, tailscale: &mut Tailscale, name: &str) -> Result<Served, TunnelError> {
        Ok(Served::read(&tailscale.json(&["funnel", "status", "--json"]).await?, &self.ours(name)))
    }

    /// Asks the node how it is, and which it is. Notes its name.
    async fn node(&self, tailscale: &mut Tailscale) -> Result<(Node, Identity), TunnelError> {
        let status = tailscale.json(&["status", "--json", "--peers=false"]).await?;
        let node = Node::of(&status);
        let key = status["Self"]["PublicKey"].as_str().unwrap_or_default().to_owned();
        if let Some(name) = &node.name
            && self.known(|known| known.name.replace(name.clone())).as_ref() != Some(name)
        {
            (self.on_name)(name);
        }
        let name = node.name.clone().unwrap_or_default();
        Ok((node, Identity { name, key }))
    }

    fn known<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.known.write().expect("nobody panics while holding what is known"))
    }

    /// Notes what keeps it from working, if anything does.
    fn noting<T>(&self, result: Result<T, TunnelError>) -> Result<T, TunnelError> {
        self.known(|known| known.trouble = result.as_ref().err().map(ToString::to_string));
        result
    }

    async fn open_now(&self, share: ShareId) -> Result<(), TunnelError> {
        let mut tailscale = self.tailscale.lock().await;
        let (node, identity) = self.node(&mut tailscale).await?;
        // Where Funnel is not allowed `tailscale` prints how to allow it, and may wait until somebody has: opening then, whoever
        // wants it still.
        if let Some(missing) = node.missing(&Value::Null, self.port).first() {
            return Err(TunnelError::NotPossible(missing.to_string()).retryable_if(missing.may_pass()));
        }
        let (port, path) = (format!("--https={}", self.port), format!("--set-path={}", Ours::path(share)));
        let target = self.ours(&identity.name).target(share);
        let mut said = Said::default();
        for left in (0..=MOST_TRIES).rev() {
            let served = self.served(&mut tailscale, &identity.name).await?;
            if let Some(foreign) = served.foreign {
                return Err(in_use(&foreign));
            }
            if served.ours.get(&share) == Some(&true) {
                self.known(|known| known.opened.insert(share, identity));
                self.doors.open(share);
                return Ok(());
            }
            if left > 0 {
                said = tailscale.say(&["funnel", "--bg", "--yes", &port, &path, &target]).await?;
                judge(&said).await?;
            }
        }
        Err(TunnelError::Unavailable(format!("tailscaled does not serve what it was told to; `tailscale` says: {}", words(&said))))
    }

    async fn close_now(&self, share: ShareId) -> Result<(), TunnelError> {
        let mut tailscale = self.tailscale.lock().await;
        let (_, Identity { name, .. }) = self.node(&mut tailscale).await?;
        // By `serve`: `funnel off` asks first whether the node may use Funnel, and does nothing where it may not any more.
        let (port, path) = (format!("--https={}", self.port), format!("--set-path={}", Ours::path(share)));
        let mut said = Said::default();
        for left in (0..=MOST_TRIES).rev() {
            let served = self.served(&mut tailscale, &name).await?;
            if !served.ours.contains_key(&share) {
                self.known(|known| known.opened.remove(&share));
                if served.elsewhere.contains(&share) {
                    // `tailscale` names nothing but the present name, and what it cannot name only a reset takes away.
                    tracing::debug!(share.id = %share, "A mount of share {share} stands under a name that the node no longer has");
                }
                return Ok(());
            }
            if left > 0 {
                said = tailscale.say(&["serve", &port, &path, "off"]).await?;
                judge(&said).await?;
            }
        }
        Err(TunnelError::Unavailable(format!("tailscaled still serves what it was told not to; `tailscale` says: {}", words(&said))))
    }

    async fn list_now(&self) -> Result<Standing, TunnelError> {
        let mut tailscale = self.tailscale.lock().await;
        let (node, identity) = self.node(&mut tailscale).await?;
        let served = self.served(&mut tailscale, &identity.name).await?;
        let is_same = |of: &Identity| node.state == "Running" && *of == identity;
        self.known(|known| {
            // One that nobody here opened is to be closed, also where only the tailnet is let in.
            let is_open = |(share, is_public): &(ShareId, bool)| *is_public || !known.opened.contains_key(share);
            let open: HashSet<ShareId> = served.ours.into_iter().filter(is_open).map(|(share, _)| share).collect();
            // What the same node does not serve any more somebody told it not to: tailscaled forgets nothing by itself.
            let removed = known.opened.iter().filter(|(share, of)| !open.contains(share) && is_same(of)).map(|(share, _)| *share).collect();
            Ok(Standing { open, removed })
        })
    }
}

impl Tunnel for Cli {
    fn backend(&self) -> &'static str {
        "tailscale-cli"
    }

    fn public_url(&self, _: ShareId) -> PublicUrl {
        self.address()
    }

    fn address(&self) -> PublicUrl {
        PublicUrl::new(&public_url(self.known(|known| known.name.clone()).as_deref().unwrap_or(NO_NAME_YET), self.port))
    }

    fn open(&self, share: ShareId) -> BoxFuture<'_, Result<(), TunnelError>> {
        async move { self.noting(self.open_now(share).await) }.boxed()
    }

    fn close(&self, share: ShareId) -> BoxFuture<'_, Result<(), TunnelError>> {
        // Whatever `tailscale` says, and however long that takes: from here on nothing of it is answered.
        self.doors.shut(share);
        async move { self.noting(self.close_now(share).await) }.boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Standing, TunnelError>> {
        async move { self.noting(self.list_now().await) }.boxed()
    }

    fn trouble(&self) -> Option<String> {
        self.known(|known| known.trouble.clone())
    }
}

/// The program, and what it needs with every call.
#[derive(Debug)]
struct Tailscale {
    runner: Runner,
    socket: Option<PathBuf>,
}

impl Tailscale {
    async fn say(&mut self, arguments: &[&str]) -> Result<Said, TunnelError> {
        let socket = self.socket.iter().map(|socket| format!("--socket={}", socket.display()));
        let all = socket.chain(arguments.iter().map(|argument| (*argument).to_owned())).collect();
        self.runner.run(all).await.map_err(|error| TunnelError::NotPossible(error.to_string()).retryable_if(error.is_retryable()))
    }

    async fn json(&mut self, arguments: &[&str]) -> Result<Value, TunnelError> {
        let said = self.say(arguments).await?;
        if said.code != Some(0) {
            return Err(refusal(&said));
        }
        let what = arguments.join(" ");
        serde_json::from_slice(&said.stdout)
            .map_err(|error| TunnelError::Unavailable(format!("what `tailscale {what}` says cannot be read: {error}")))
    }
}

/// A name or an IPv4 address, and a port. `tailscale` takes the brackets of an IPv6 address away and makes no sense of the rest.
fn is_target(target: &str) -> bool {
    let Some((host, port)) = target.rsplit_once(':') else { return false };
    let is_host = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte));
    // As it writes it: its answer is compared with this.
    is_host && port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port)
}

fn in_use(what: &str) -> TunnelError {
    TunnelError::NotPossible(format!(
        "the node serves something else already ({what}), and that stays as it is: take it off, or use another of Funnel's ports (443, 8443, 10000)"
    ))
}

/// Looks at how a change ended. What came of it is seen in what is served, so success says nothing; where somebody else was
/// faster, or took away meanwhile what was to be taken away, it is looked at again a moment later.
///
/// # Errors
/// What it refused.
async fn judge(said: &Said) -> Result<(), TunnelError> {
    let passing = ["etag mismatch", "Another client is changing the serve config", "handler does not exist"];
    let words = words(said);
    match said.code {
        Some(0) => Ok(()),
        _ if passing.iter().any(|sign| words.contains(sign)) => {
            pause().await;
            Ok(())
        }
        _ => Err(refusal(said)),
    }
}

/// Says what to do about a run that failed.
fn refusal(said: &Said) -> TunnelError {
    let words = words(said);
    let has = |signs: &[&str]| signs.iter().any(|sign| words.to_ascii_lowercase().contains(sign));
    if has(&["permission denied"]) {
        TunnelError::NotPossible(format!("`tailscale` may not open tailscaled's socket: run this program as root; it says: {words}"))
    } else if has(&["access denied", "serve config denied"]) {
        TunnelError::NotPossible(format!(
            "tailscaled does not let this account change what it serves: run as root, or make it the operator (tailscale set --operator=NAME); it says: {words}"
        ))
    } else if has(&["failed to connect to local"]) {
        TunnelError::Unavailable(format!("tailscaled does not answer to `tailscale`: start it, or name its socket; it says: {words}"))
    } else {
        TunnelError::Unavailable(format!("`tailscale` failed: {words}"))
    }
}

/// Returns what was said in one line, the complaints first.
fn words(said: &Said) -> String {
    let [stderr, stdout] = [&said.stderr, &said.stdout].map(|bytes| String::from_utf8_lossy(bytes));
    short(&format!("{stderr} {stdout}"))
}

async fn pause() {
    let [random] = random::bytes::<1>();
    sleep(LONGEST_PAUSE / 10 + LONGEST_PAUSE * u32::from(random) / 256 * 9 / 10).await;
}

#[cfg(test)]
mod tests;
