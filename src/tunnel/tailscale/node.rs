//! `tailscale-node`: a Tailscale node for each share, in a container of its own: its own name on the internet, its own line, and
//! nothing that two shares have in common.
//!
//! A node is made from an ephemeral key, which lies in a file that is mounted, and keeps its state in memory. It is served by a session of
//! ours over its socket, as [`Funnel`] does with a node that somebody else runs: when this program dies tailscaled shuts the
//! door, and the container that is left behind lets nobody in. The next start finds it by its labels, goes on with it where its share
//! lives (the name stays, and no other certificate is needed), and takes it away where it does not.
//!
//! It ends in four steps, each bounded and each fine where it was done before: nothing is served, the node logs out (and is gone from
//! the tailnet), it is stopped, it is removed.
//!
//! * `spec.rs`: what a container is. `ledger.rs`: what Let's Encrypt gives, counted. `../docker.rs`: asks the engine.

mod ledger;
mod spec;

pub use spec::{DEFAULT_IMAGE, Given, Image};
pub(super) use spec::{Mount, Spec};

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::ledger::Book;
use super::docker::{Docker, DockerError};
use super::funnel::{Funnel, NO_NAME_YET, Options};
use super::keeper::{Beats, Hold};
use super::localapi::LocalApi;
use super::shape::{Shape, Way};
use crate::causes::Causes;
use crate::clock::Clock;
use crate::share::{ShareId, Timestamp};
use crate::token::random;
use crate::tunnel::{Doors, PublicUrl, Standing, Tunnel, TunnelError};

/// The port of every node: each has a name of its own, so all have the first.
const PORT: u16 = 443;
/// How long a node may take to be in the tailnet. containerboot gives up after as long.
const MOST_BOOT: Duration = Duration::from_secs(60);
/// How often is looked whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Every how many looks the engine is asked whether the container still runs.
const ASK_ENGINE_EVERY: u32 = 10;
/// How long each step of closing may take, so that the next is done whatever this one does. tailscaled gives its own logout 5 s.
const SERVE_NOTHING: Duration = Duration::from_secs(5);
const LOG_OUT: Duration = Duration::from_secs(10);
/// How long a node that has logged out may take to leave before it is killed: it has nothing to tell anybody any more.
const LEAVE: Duration = Duration::from_secs(5);
/// The longest path of a socket (`sun_path` of unix(7), with its final zero).
const MAX_SOCKET_PATH: usize = 107;
/// The files of the folder: which state folder this is, and what was asked of Let's Encrypt.
const INSTANCE: &str = "instance";
const LEDGER: &str = "made.json";
/// How many letters of an instance tell state folders apart: 64 bits.
const INSTANCE_LETTERS: usize = 16;
/// What engines answer where a name is taken.
const NAME_TAKEN: u16 = 409;

/// What [`Nodes`] has to know.
pub struct NodeOptions {
    /// The engine.
    pub docker: Docker,
    /// What is run.
    pub image: Image,
    /// What each node is given.
    pub given: Given,
    /// A folder of the state folder's: the sockets of nodes lie below it, and what was asked of Let's Encrypt. It is made where it
    /// is missing, for this account alone.
    pub folder: PathBuf,
    /// The same folder as the engine finds it on its machine; `None` where that is the same path, as outside of containers.
    pub folder_on_host: Option<PathBuf>,
    /// Where nodes find our recipient listener, as `portcullis:8001`, by the network they are given.
    pub target: String,
    /// Who holds the sessions.
    pub hold: Hold,
    /// How many nodes there may be at once. Each takes some 40 MB. 1 to 100, usually 8.
    pub most: usize,
    /// How long a share lives at the most (`MAX_TUNNEL_SECONDS`): when a container is over is on its label, for the operator.
    pub max_life: Duration,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Opens and closes ways in by nodes of their own.
pub struct Nodes {
    options: NodeOptions,
    doors: Doors,
    instance: String,
    book: Arc<Book>,
    slots: Arc<Mutex<Slots>>,
    /// One node is made at a time, so that none is made too many.
    making: AsyncMutex<()>,
    /// What the engine fetches, while it does.
    pulling: Mutex<JoinSet<Result<(), DockerError>>>,
    trouble: RwLock<Option<String>>,
    changes: watch::Sender<u64>,
}

type Slots = HashMap<ShareId, Arc<Slot>>;

/// A share's place. Whoever opens or closes it has it for themselves.
#[derive(Default)]
struct Slot {
    node: AsyncMutex<Option<Node>>,
    funnel: RwLock<Option<Arc<Funnel>>>,
}

/// A node that this process holds the session of. Dropped, the session ends.
struct Node {
    funnel: Arc<Funnel>,
    over: CancellationToken,
    _tasks: JoinSet<()>,
}

impl Nodes {
    /// Takes what it has to know, and the doors of the recipient side; makes its folder. Asks nothing of the engine yet. Blocks.
    ///
    /// # Errors
    /// [`TunnelError::NotPossible`] where an option cannot be, or the folder cannot be used.
    pub fn new(options: NodeOptions, doors: Doors) -> Result<Self, TunnelError> {
        let wrong = |text: String| Err(TunnelError::NotPossible(text));
        if !(1..=100).contains(&options.most) {
            return wrong(format!("there may be 1 to 100 nodes at once, not {}", options.most));
        }
        let key = &options.given.auth_key_file;
        if !key.is_absolute() {
            return wrong(format!("the file of the auth key must be named from / on, as Docker finds it, and is {}", key.display()));
        }
        let longest = options.folder.join(ShareId::from_random(0).as_str()).join(spec::SOCKET);
        if longest.as_os_str().len() > MAX_SOCKET_PATH {
            return wrong(format!("{} is too long for a socket's path: use a state folder with a shorter path", longest.display()));
        }
        let made = make_folder(&options.folder).and_then(|()| instance(&options.folder.join(INSTANCE)));
        let instance = match made {
            Ok(instance) => instance,
            Err(error) => return wrong(format!("{} cannot be used for the sockets of nodes: {error}", options.folder.display())),
        };
        let book = Arc::new(Book::new(options.folder.join(LEDGER)));
        Ok(Self {
            options,
            doors,
            instance,
            book,
            slots: Arc::default(),
            making: AsyncMutex::default(),
            pulling: Mutex::default(),
            trouble: RwLock::default(),
            changes: watch::Sender::new(0),
        })
    }

    /// Returns how those who hold the sessions are told that this process lives: all those that stand now.
    pub fn beats(&self) -> Vec<Beats> {
        self.slots().values().filter_map(|slot| slot.funnel().map(|funnel| funnel.beats())).collect()
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, Slots> {
        self.slots.lock().expect("nobody panics while holding the slots")
    }

    fn slot(&self, share: ShareId) -> Arc<Slot> {
        self.slots().entry(share).or_default().clone()
    }

    fn socket_folder(&self, share: ShareId) -> PathBuf {
        self.options.folder.join(share.as_str())
    }

    fn container(&self, share: ShareId) -> String {
        spec::container(&self.instance, share)
    }

    async fn open_now(&self, share: ShareId) -> Result<(), TunnelError> {
        let slot = self.slot(share);
        let mut node = slot.node.lock().await;
        match self.runs(share).await? {
            Some(true) => {}
            is_left => {
                slot.let_go(&mut node);
                if is_left.is_some() {
                    // It has ended, and its state with it.
                    self.options.docker.remove_container(&self.container(share)).await.map_err(of_docker)?;
                }
                self.make(share).await?;
            }
        }
        if node.is_none() {
            *node = Some(self.hold(share, &slot).await?);
        }
        let held = node.as_ref().expect("it was just put there");
        // The session needs a moment to begin.
        let begun = Instant::now();
        loop {
            match held.funnel.open(share).await {
                Err(error) if error.is_retryable() && begun.elapsed() < MOST_BOOT => sleep(LOOK_EVERY).await,
                result => return result,
            }
        }
    }

    /// Returns whether a share's container runs; `None` where there is none.
    async fn runs(&self, share: ShareId) -> Result<Option<bool>, TunnelError> {
        Ok(self.containers().await?.get(&share).copied())
    }

    /// Asks the engine for our containers, and whether each runs.
    async fn containers(&self) -> Result<HashMap<ShareId, bool>, TunnelError> {
        let found = self.options.docker.containers(spec::filters(&self.instance)).await.map_err(of_docker)?;
        let ours = found.iter().filter_map(|one| {
            let label = |name: &str| one.labels.get(name).map(String::as_str);
            Some((spec::share_of(label, &self.instance)?, one.is_running))
        });
        Ok(ours.collect())
    }

    /// Makes a share's container and starts it.
    async fn make(&self, share: ShareId) -> Result<(), TunnelError> {
        let _one_at_a_time = self.making.lock().await;
        let standing = self.containers().await?.len();
        if standing >= self.options.most {
            let text = format!("{standing} shares have a node of their own already, and there may be no more at once");
            return Err(TunnelError::NotPossible(text));
        }
        let now = self.options.clock.now().wall;
        match self.in_book(move |book| book.note(share, now)).await? {
            None => {}
            Some(refused) => return Err(TunnelError::NotPossible(refused.to_string())),
        }
        let started = self.start(share, now).await;
        if started.is_err() {
            // It never ran, so it has asked for nothing.
            self.in_book(move |book| book.take_back(share, now)).await?;
        }
        started
    }

    async fn start(&self, share: ShareId, now: Timestamp) -> Result<(), TunnelError> {
        let folder = self.socket_folder(share);
        make_folder(&folder).map_err(|error| TunnelError::Unavailable(format!("{} cannot be made: {error}", folder.display())))?;
        let on_host = self.options.folder_on_host.as_ref().map_or(folder, |on_host| on_host.join(share.as_str()));
        let spec = spec::of(&self.options.image, &self.options.given, &self.instance, share, &on_host, now.plus(self.options.max_life));
        let (docker, name) = (&self.options.docker, self.container(share));
        match docker.create_container(&name, &spec).await {
            Ok(()) => {}
            // One that was asked for before, by a call that nobody waited for.
            Err(DockerError::Failed { status: NAME_TAKEN, .. }) => {}
            Err(DockerError::NotThere { .. }) => return Err(self.fetch()),
            Err(error) => return Err(of_docker(error)),
        }
        docker.start_container(&name).await.map_err(of_docker)
    }

    /// Does something with the ledger, off the runtime.
    async fn in_book<T: Send + 'static>(&self, work: impl FnOnce(&Book) -> io::Result<T> + Send + 'static) -> Result<T, TunnelError> {
        let book = self.book.clone();
        let done = tokio::task::spawn_blocking(move || work(&book)).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        done.map_err(|error| {
            let path = self.options.folder.join(LEDGER);
            let text = format!("{} cannot be read or written, so nobody knows what Let's Encrypt still gives: {error}", path.display());
            TunnelError::NotPossible(text)
        })
    }

    /// Says that the image is missing, or has it fetched.
    fn fetch(&self) -> TunnelError {
        let image = self.options.image.name.clone();
        if !self.options.image.may_pull {
            return TunnelError::NotPossible(format!("Docker has no image {image}: run docker pull {image}"));
        }
        let mut pulling = self.pulling.lock().expect("nobody panics while holding it");
        while let Some(done) = pulling.try_join_next() {
            if let Ok(Err(error)) = done {
                return of_docker(error);
            }
        }
        if pulling.is_empty() {
            let docker = self.options.docker.clone();
            let fetched = image.clone();
            pulling.spawn(async move { docker.pull(&fetched).await });
        }
        TunnelError::Unavailable(format!("Docker is fetching the image {image}"))
    }

    /// Waits until a node is in the tailnet, and begins a session with it.
    async fn hold(&self, share: ShareId, slot: &Slot) -> Result<Node, TunnelError> {
        let api = LocalApi::new(self.socket_folder(share).join(spec::SOCKET));
        self.wait_running(share, &api).await?;
        let options = Options {
            socket: api.socket().to_owned(),
            shape: Shape { way: Way::Mount, port: PORT, target: self.options.target.clone() },
            hold: self.options.hold.clone(),
            install: None,
            last_name: None,
            on_name: Box::new(|_| ()),
        };
        let (funnel, session) = Funnel::new(options, self.doors.clone());
        let (over, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(session.run(over.clone()));
        let (mut theirs, ours) = (funnel.changes(), self.changes.clone());
        tasks.spawn(async move {
            while theirs.changed().await.is_ok() {
                ours.send_modify(|n| *n += 1);
            }
        });
        let funnel = Arc::new(funnel);
        *slot.funnel.write().expect("nobody panics while holding it") = Some(funnel.clone());
        Ok(Node { funnel, over, _tasks: tasks })
    }

    async fn wait_running(&self, share: ShareId, api: &LocalApi) -> Result<(), TunnelError> {
        let begun = Instant::now();
        let mut looks = 0_u32;
        let mut last = "it has not answered".to_owned();
        while begun.elapsed() < MOST_BOOT {
            match api.status().await {
                Ok(status) if status["BackendState"] == "Running" => return Ok(()),
                Ok(status) => last = format!("it is {}", status["BackendState"].as_str().unwrap_or("in no state")),
                Err(error) if error.is_retryable() => {}
                Err(error) => return Err(TunnelError::NotPossible(error.to_string())),
            }
            looks += 1;
            if looks.is_multiple_of(ASK_ENGINE_EVERY) && self.runs(share).await? != Some(true) {
                let said = self.options.docker.last_words(&self.container(share)).await.unwrap_or_default();
                return Err(TunnelError::NotPossible(format!(
                    "the share's node ended before it was in the tailnet; look at its auth key and TS_EXTRA_ARGS; it said: {said}"
                )));
            }
            sleep(LOOK_EVERY).await;
        }
        Err(TunnelError::Unavailable(format!("the share's node was not in the tailnet after {} seconds: {last}", MOST_BOOT.as_secs())))
    }

    async fn close_now(&self, share: ShareId) -> Result<(), TunnelError> {
        let slot = self.slot(share);
        let mut node = slot.node.lock().await;
        let api = LocalApi::new(self.socket_folder(share).join(spec::SOCKET));
        if let Some(node) = &*node {
            // What fails here goes with the node in a moment.
            let _ = timeout(SERVE_NOTHING, node.funnel.close(share)).await;
        }
        if self.runs(share).await? == Some(true) {
            match timeout(LOG_OUT, api.logout()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(share.id = %share, "The node of share {share} did not log out: {error}"),
                Err(_) => tracing::warn!(share.id = %share, "The node of share {share} did not log out in time"),
            }
        }
        slot.let_go(&mut node);
        let name = self.container(share);
        if let Err(error) = self.options.docker.stop_container(&name, LEAVE).await {
            tracing::warn!(share.id = %share, "The node of share {share} did not stop: {error}");
        }
        self.options.docker.remove_container(&name).await.map_err(of_docker)?;
        remove_folder(&self.socket_folder(share));
        self.forget(share, slot.clone(), node);
        Ok(())
    }

    /// Forgets a place that nobody else waits for.
    fn forget(&self, share: ShareId, slot: Arc<Slot>, node: MutexGuard<'_, Option<Node>>) {
        let mut slots = self.slots();
        // The map's, the caller's, and ours: nobody gets another one while we hold the map.
        if node.is_none() && Arc::strong_count(&slot) == 3 {
            slots.remove(&share);
        }
    }

    async fn list_now(&self) -> Result<Standing, TunnelError> {
        let slots: Vec<(ShareId, Arc<Slot>)> = self.slots().iter().map(|(share, slot)| (*share, slot.clone())).collect();
        let held: HashMap<ShareId, Arc<Funnel>> = slots.into_iter().filter_map(|(share, slot)| Some((share, slot.funnel()?))).collect();
        // Looked for behind the sessions: each had a container by then.
        let containers = self.containers().await?;
        let mut standing = Standing::default();
        for (share, funnel) in &held {
            match containers.get(share) {
                Some(true) => match funnel.list().await {
                    Ok(Standing { open, removed }) => {
                        standing.open.extend(open);
                        standing.removed.extend(removed);
                    }
                    // One that does not answer keeps nobody from looking at the others; it is looked at again.
                    Err(error) => {
                        tracing::debug!(share.id = %share, error = %Causes(&error), "Could not see whether share {share} stands open");
                        standing.open.insert(*share);
                    }
                },
                // It ended, or was killed: nothing stands, whatever its session has not noticed yet.
                Some(false) => {}
                // No engine removes ours by itself: somebody wanted it gone.
                None => drop(standing.removed.insert(*share)),
            }
        }
        // What an earlier process left behind.
        standing.open.extend(containers.keys().filter(|share| !held.contains_key(share)));
        let (folder, slots) = (self.options.folder.clone(), self.slots.clone());
        let swept = tokio::task::spawn_blocking(move || sweep(&folder, &slots, &containers)).await;
        if let Ok(Err(error)) = swept {
            tracing::debug!(error = %Causes(&error), "Could not look for what nodes left behind");
        }
        Ok(standing)
    }

    fn noting<T>(&self, result: Result<T, TunnelError>) -> Result<T, TunnelError> {
        *self.trouble.write().expect("nobody panics while holding a sentence") = result.as_ref().err().map(ToString::to_string);
        result
    }
}

impl Slot {
    fn funnel(&self) -> Option<Arc<Funnel>> {
        self.funnel.read().expect("nobody panics while holding it").clone()
    }

    /// Ends the session, and forgets the node.
    fn let_go(&self, node: &mut Option<Node>) {
        *self.funnel.write().expect("nobody panics while holding it") = None;
        if let Some(node) = node.take() {
            node.over.cancel();
        }
    }
}

impl Tunnel for Nodes {
    fn backend(&self) -> &'static str {
        "tailscale-node"
    }

    fn public_url(&self, share: ShareId) -> PublicUrl {
        let slot = self.slots().get(&share).cloned();
        let funnel = slot.and_then(|slot| slot.funnel());
        funnel.map_or_else(|| PublicUrl::new(&format!("https://{NO_NAME_YET}")), |funnel| funnel.address())
    }

    fn address(&self) -> PublicUrl {
        // Each share has its own, which is known once its node is in the tailnet.
        PublicUrl::new(&format!("https://{NO_NAME_YET}"))
    }

    fn open(&self, share: ShareId) -> BoxFuture<'_, Result<(), TunnelError>> {
        async move { self.noting(self.open_now(share).await) }.boxed()
    }

    fn close(&self, share: ShareId) -> BoxFuture<'_, Result<(), TunnelError>> {
        // Whatever the engine says, and however long that takes: from here on nothing of it is answered.
        self.doors.shut(share);
        async move { self.noting(self.close_now(share).await) }.boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Standing, TunnelError>> {
        async move { self.noting(self.list_now().await) }.boxed()
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.read().expect("nobody panics while holding a sentence").clone()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

fn of_docker(error: DockerError) -> TunnelError {
    TunnelError::NotPossible(error.to_string()).retryable_if(error.is_retryable())
}

/// Makes a folder for this account alone; one that is there is fine.
fn make_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Takes a node's folder away. What is left of it the next look finds.
fn remove_folder(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(error = %Causes(&error), "Could not remove {}", folder.display());
    }
}

/// Takes the folders away whose share has neither a container nor a place. Blocks.
fn sweep(folder: &Path, slots: &Mutex<Slots>, containers: &HashMap<ShareId, bool>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Some(share) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Held until it is gone: who makes a node takes a place first, and then a folder.
        let slots = slots.lock().expect("nobody panics while holding the slots");
        if !slots.contains_key(&share) && !containers.contains_key(&share) && entry.file_type()?.is_dir() {
            remove_folder(&entry.path());
        }
    }
    Ok(())
}

/// Reads which state folder this is, or decides it: containers of another one are not ours.
fn instance(path: &Path) -> io::Result<String> {
    let is_one = |text: &str| text.len() == INSTANCE_LETTERS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match fs::read_to_string(path) {
        Ok(text) if is_one(&text) => Ok(text),
        Ok(_) => Err(io::Error::other(format!("{} does not hold what this program wrote; remove it if no node runs", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made: String = random::bytes::<{ INSTANCE_LETTERS / 2 }>().iter().map(|byte| format!("{byte:02x}")).collect();
            let beside = path.with_extension("new");
            fs::write(&beside, &made)?;
            fs::rename(&beside, path)?;
            Ok(made)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
