//! A try of the whole way: a real share of one byte, by the way in and the delivery that are in use, fetched as a recipient would.
//!
//! It is made, opened, looked at, redeemed, fetched, counted, closed, and must be dead behind that. It is a share like any other, so that
//! nothing is known of it but what is known of all: the same task decides, the same ledger lets it be redeemed once, and a crash in the
//! middle leaves what a crash leaves of any. But it lives for a minute at the most, the next start closes what an earlier process left, and
//! no list of an owner's shares has it.
//!
//! The guest comes by the public name where this machine gets there ([`By::Public`]), and else to our own listener, and says so.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode, Uri};
use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::catalog::OWN_BYTE;
use crate::controller::{Change, ControllerError, Handle, View};
use crate::share::{Evidence, Limits, Obstacle, Outcome, ShareId, State};
use crate::store::audit::AuditEntry;
use crate::tunnel::probe::guest::{Answer, Guest, Miss, Way};

/// How long everything up to the byte that was counted may take. A way in that a backend opens takes some seconds at the most.
const TRYING: Duration = Duration::from_secs(20);
/// How long the closing may take, which goes on by itself behind that.
const CLOSING: Duration = Duration::from_secs(6);
/// How long the look at the dead link may take: with the others half a minute.
const LOOKING: Duration = Duration::from_secs(4);
/// The bounds of the share: a process that dies in the middle leaves nothing that lives for longer than the sum of them, a minute.
const LIMITS: Limits =
    Limits { max_tunnel: Duration::from_secs(30), stall_timeout: Duration::from_secs(15), grace_period: Duration::from_secs(30) };
/// How long the start waits for what an earlier process left to be closed.
const LEFT_OVER: Duration = Duration::from_secs(5);

/// Tries the whole way, once at a time.
pub struct SelfTest {
    controller: Handle,
    guest: Guest,
    /// What this way of delivery leaves untried, as a sentence.
    untried: Option<&'static str>,
    turn: Arc<Semaphore>,
}

impl fmt::Debug for SelfTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelfTest").field("guest", &self.guest).finish_non_exhaustive()
    }
}

/// The right to try: whoever has it is the only one.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "it is held, and given back where this is dropped")] OwnedSemaphorePermit);

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether each step was taken.
    pub passed: bool,
    /// By which way the guest came.
    pub by: By,
    /// How sure it is that the byte arrived, where that was counted.
    pub evidence: Option<Evidence>,
    /// What was not tried, and why, as sentences.
    pub note: Option<String>,
    /// The steps that were taken, in order.
    pub steps: Vec<Step>,
}

/// By which way the guest came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// By the public name, as a recipient.
    Public,
    /// To our own listener.
    Local,
}

/// A step, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Which.
    pub name: StepName,
    /// How long it took.
    pub duration_ms: u64,
    /// Whether it was taken.
    pub ok: bool,
    /// Why not, and what to do about it, as a sentence.
    pub problem: Option<String>,
}

/// The steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepName {
    /// The share is saved.
    Made,
    /// Its way in is open.
    Opened,
    /// The link shows its page, which spends nothing.
    Page,
    /// The button leads to the transfer.
    Redeemed,
    /// The byte came.
    Fetched,
    /// It is known to have come.
    Counted,
    /// The share is closed.
    Closed,
    /// Link, button and transfer are dead.
    Refused,
}

/// A problem, as a sentence.
type Problem = String;

impl SelfTest {
    /// Makes one that tries by `guest`; `untried` says what that leaves out, as a sentence.
    pub fn new(controller: Handle, guest: Guest, untried: Option<&'static str>) -> Self {
        Self { controller, guest, untried, turn: Arc::new(Semaphore::new(1)) }
    }

    /// Closes what an earlier process left open in the middle of a try.
    pub async fn close_left_over(&self) {
        let mut changes = self.controller.watch();
        for share in self.controller.living_self_tests() {
            match timeout(LEFT_OVER, closed(&self.controller, share, &mut changes)).await {
                Ok(Ok(())) => tracing::info!(share.id = %share, "Closed what was left of a self-test"),
                // It ends by its time.
                Ok(Err(problem)) => tracing::warn!(share.id = %share, problem, "Could not close what was left of a self-test"),
                Err(_) => tracing::warn!(share.id = %share, "What was left of a self-test is not closed yet"),
            }
        }
    }

    /// Returns the right to try; `None` where somebody has it.
    pub fn begin(&self) -> Option<Turn> {
        self.turn.clone().try_acquire_owned().ok().map(Turn)
    }

    /// Tries the whole way by a share of this id, which is new; `line` is the audit line of who wants it. Takes half a minute at the most.
    /// Whoever begins this lets it come to its end: it closes what it opened.
    pub async fn run(&self, _turn: Turn, id: ShareId, line: AuditEntry) -> Verdict {
        let mut run = Run { test: self, id, way: Way::Public, note: None, evidence: None, steps: Vec::new() };
        let changes = self.controller.watch();
        let deadline = Instant::now() + TRYING;
        let (mut page, mut transfer) = (None, None);
        // What fails here has said so as a step.
        let _ = run.try_all(line, changes, deadline, (&mut page, &mut transfer)).await;
        run.close_and_look(page, transfer).await;
        let Run { way, note, evidence, steps, .. } = run;
        let passed = steps.len() == STEPS && steps.iter().all(|step| step.ok);
        let by = if way == Way::Public { By::Public } else { By::Local };
        match steps.iter().find(|step| !step.ok) {
            None => tracing::info!(share.id = %id, "A self-test passed"),
            Some(Step { name, problem, .. }) => {
                tracing::warn!(share.id = %id, step = ?name, "A self-test failed: {}", problem.as_deref().unwrap_or_default());
            }
        }
        let notes: Vec<&str> = note.as_deref().into_iter().chain(self.untried).collect();
        let note = (!notes.is_empty()).then(|| notes.join(" "));
        Verdict { passed, by, evidence, note, steps }
    }
}

/// How many steps there are.
const STEPS: usize = 8;

/// One try.
struct Run<'a> {
    test: &'a SelfTest,
    id: ShareId,
    way: Way,
    note: Option<String>,
    evidence: Option<Evidence>,
    steps: Vec<Step>,
}

/// What stopped a try is in its steps.
#[derive(Debug)]
struct Stopped;

impl Run<'_> {
    async fn try_all(
        &mut self,
        line: AuditEntry,
        mut changes: Receiver<Change>,
        deadline: Instant,
        (page, transfer): (&mut Option<String>, &mut Option<String>),
    ) -> Result<(), Stopped> {
        let (test, id) = (self.test, self.id);
        let made = async { test.controller.create_self_test(id, LIMITS, line).await.map_err(|error| sentence(&error)) };
        self.step(StepName::Made, deadline, made).await?;
        let view = self.step(StepName::Opened, deadline, opened(&test.controller, id)).await?;
        let url = view.url.clone().unwrap_or_default();
        let began = Instant::now();
        let shown = timeout_at(deadline, self.look_at_page(&url)).await.unwrap_or_else(|_| Err(TOO_LONG.to_owned()));
        let button = self.note(StepName::Page, began, shown)?;
        *page = Some(url);
        let way = self.way;
        let redeemed = async {
            let answer = test.guest.ask(way, Method::POST, &button).await.map_err(|miss| of_miss(miss, &button))?;
            let led = answer.location.filter(|_| answer.status == StatusCode::SEE_OTHER);
            let address = led.map(|location| resolved(&button, &location)).ok_or_else(|| unexpected("The button", answer.status))?;
            if is_beside(&address, &button) { Ok(address) } else { Err(LED_AWAY.to_owned()) }
        };
        let address = self.step(StepName::Redeemed, deadline, redeemed).await?;
        let fetched = async {
            let answer = test.guest.ask(way, Method::GET, &address).await.map_err(|miss| of_miss(miss, &address))?;
            match answer.status {
                StatusCode::OK if *answer.body == [OWN_BYTE] => Ok(()),
                StatusCode::OK => Err("Something else than the file came; a proxy before Portcullis changes what it passes on.".to_owned()),
                status => Err(unexpected("The download", status)),
            }
        };
        let fetched = self.step(StepName::Fetched, deadline, fetched).await;
        *transfer = Some(address);
        fetched?;
        let counted = counted(&test.controller, id, &mut changes);
        self.evidence = Some(self.step(StepName::Counted, deadline, counted).await?);
        Ok(())
    }

    /// Looks at the link's page; returns where its button leads. Where this machine is not led to the public address, our own listener is
    /// asked from here on.
    async fn look_at_page(&mut self, url: &str) -> Result<String, Problem> {
        let answer = match self.test.guest.ask(self.way, Method::GET, url).await {
            Err(miss @ (Miss::NotTried | Miss::NoConnection { is_own: false })) => {
                self.way = Way::Here;
                let here = self.test.guest.ask(self.way, Method::GET, url).await;
                self.note = Some(why_here(miss, url));
                here.map_err(|_| "Portcullis' own port for recipients does not answer; look at the log.".to_owned())?
            }
            answer => answer.map_err(|miss| of_miss(miss, url))?,
        };
        button_of(&answer, url).ok_or_else(|| match answer.status {
            StatusCode::OK => {
                format!("Something else than Portcullis answers at {}; it must lead to the port for recipients.", host_of(url))
            }
            status => unexpected("The link", status),
        })
    }

    /// Closes the share whatever went before, and looks whether anything of it still answers.
    async fn close_and_look(&mut self, page: Option<String>, transfer: Option<String>) {
        let (test, id, way) = (self.test, self.id, self.way);
        let is_made = self.steps.first().is_some_and(|step| step.ok);
        let mut changes = test.controller.watch();
        let closed = closed(&test.controller, id, &mut changes);
        if !is_made {
            // What could not be made may be there all the same.
            let _ = timeout(CLOSING, closed).await;
            return;
        }
        let closed = self.step(StepName::Closed, Instant::now() + CLOSING, closed).await;
        let Some(page) = page.filter(|_| closed.is_ok()) else { return };
        let refused = async {
            if let Ok(answer) = test.guest.ask(way, Method::GET, &page).await
                && button_of(&answer, &page).is_some()
            {
                return Err("The link still shows its page although the share is closed; stop Portcullis, and look at the log.".to_owned());
            }
            if let Some(address) = transfer
                && let Ok(answer) = test.guest.ask(way, Method::GET, &address).await
                && answer.status == StatusCode::OK
                && *answer.body == [OWN_BYTE]
            {
                return Err("The file can still be fetched although the share is closed; stop Portcullis, and look at the log.".to_owned());
            }
            Ok(())
        };
        // What fails has said so.
        let _ = self.step(StepName::Refused, Instant::now() + LOOKING, refused).await;
    }

    /// Takes a step, and notes what came of it.
    async fn step<T>(&mut self, name: StepName, deadline: Instant, work: impl Future<Output = Result<T, Problem>>) -> Result<T, Stopped> {
        let began = Instant::now();
        let done = timeout_at(deadline, work).await.unwrap_or_else(|_| Err(TOO_LONG.to_owned()));
        self.note(name, began, done)
    }

    fn note<T>(&mut self, name: StepName, began: Instant, done: Result<T, Problem>) -> Result<T, Stopped> {
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (ok, problem, taken) = match done {
            Ok(taken) => (true, None, Ok(taken)),
            Err(problem) => (false, Some(problem), Err(Stopped)),
        };
        self.steps.push(Step { name, duration_ms, ok, problem });
        taken
    }
}

/// What is said of a step that did not end.
const TOO_LONG: &str = "It took too long and was given up.";
/// What is said where the button leads to another host: nothing of where, which whoever answered chose.
const LED_AWAY: &str = "The button leads to another address than the link's; something else than Portcullis answers, or a proxy before it \
                        changes where its answers lead.";

async fn opened(controller: &Handle, id: ShareId) -> Result<Arc<View>, Problem> {
    let view = controller.created(id).await.map_err(|error| sentence(&error))?.ok_or("The share is gone.")?;
    match (view.state, &view.tunnel_problem) {
        (State::Opening, Some(problem)) => Err(format!("The way in is not open: {problem}.")),
        (State::Opening, None) => Err("The way in is still being opened; look at its checks.".to_owned()),
        _ => Ok(view),
    }
}

/// Closes a share, and comes back once nothing of it can be reached.
async fn closed(controller: &Handle, id: ShareId, changes: &mut Receiver<Change>) -> Result<(), Problem> {
    controller.revoke(id).await.map_err(|error| sentence(&error))?;
    until(controller, id, changes, |view| view.share.is_closed().then_some(())).await
}

/// Waits until the byte is known to have arrived; returns how sure that is.
async fn counted(controller: &Handle, id: ShareId, changes: &mut Receiver<Change>) -> Result<Evidence, Problem> {
    until(controller, id, changes, |view| {
        let is_whole = view.state == State::Delivered || view.share.outcome() == Some(Outcome::Completed);
        is_whole.then(|| view.share.furthest_transfer().and_then(|transfer| transfer.coverage.weakest_evidence()))?
    })
    .await
}

/// Waits until a share is as it is wanted.
async fn until<T>(
    controller: &Handle,
    id: ShareId,
    changes: &mut Receiver<Change>,
    wanted: impl Fn(&View) -> Option<T>,
) -> Result<T, Problem> {
    loop {
        let view = controller.show(id).await.map_err(|error| sentence(&error.into()))?.ok_or("The share is gone.")?;
        if let Some(found) = wanted(&view) {
            return Ok(found);
        }
        loop {
            match changes.recv().await {
                Ok(change) if change.view.share.id == id => {
                    if let Some(found) = wanted(&change.view) {
                        return Ok(found);
                    }
                }
                Ok(_) => {}
                // What was missed is looked up.
                Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => return Err("Portcullis is stopping.".to_owned()),
            }
        }
    }
}

/// Returns where the button of a link's page leads; `None` where it is no such page of ours.
fn button_of(answer: &Answer, url: &str) -> Option<String> {
    let body = std::str::from_utf8(&answer.body).ok().filter(|_| answer.status == StatusCode::OK)?;
    let (_, form) = body.split_once("<form ")?;
    let (form, _) = form.split_once('>')?;
    let (_, action) = form.split_once("action=\"").filter(|_| form.contains("method=\"post\""))?;
    let button = resolved(url, action.split_once('"')?.0);
    // It is the link without the file's name.
    url.rsplit_once('/').is_some_and(|(link, _)| link == button).then_some(button)
}

/// Returns what a relative address means on the page of a URL: only those that our pages write.
fn resolved(page: &str, address: &str) -> String {
    if address.contains("://") {
        return address.to_owned();
    }
    if address.starts_with('/') {
        let (scheme, _) = page.split_once("://").unwrap_or(("http", page));
        return format!("{scheme}://{}{address}", host_of(page));
    }
    let (mut folder, mut rest) = (page.rsplit_once('/').map_or(page, |(folder, _)| folder), address);
    while let Some(behind) = rest.strip_prefix("../") {
        (folder, rest) = (folder.rsplit_once('/').map_or(folder, |(above, _)| above), behind);
    }
    format!("{folder}/{rest}")
}

/// Returns whether two URLs have the same scheme, host and port. Whoever answers for the link must not send us anywhere else: this machine
/// may reach what they do not.
fn is_beside(address: &str, link: &str) -> bool {
    let origin = |url: &str| url.parse::<Uri>().ok().map(Uri::into_parts).and_then(|parts| parts.scheme.zip(parts.authority));
    origin(address).is_some_and(|theirs| origin(link) == Some(theirs))
}

/// Returns the host of a URL, with its port: nothing of the path, which holds the link's secret.
fn host_of(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next().unwrap_or_default()
}

/// Says why our own listener was asked.
fn why_here(miss: Miss, url: &str) -> String {
    let host = host_of(url);
    match miss {
        Miss::NoConnection { .. } => format!(
            "This machine does not get to {host} itself; many routers lead nobody back in. So the test asked at Portcullis' own port: try a link \
             once from outside, as from a phone without Wi-Fi."
        ),
        Miss::NotTried | Miss::Met(_) => format!(
            "Nobody could look at {host} from outside (TAILSCALE_PROBE and TAILSCALE_RESOLVERS say who does), so the test asked at Portcullis' \
             own port: try a link once from outside."
        ),
    }
}

/// Says what kept the guest from being answered, and what to do about it.
fn of_miss(miss: Miss, url: &str) -> Problem {
    let host = host_of(url);
    match miss {
        Miss::NotTried => format!("Nobody could look at {host}."),
        Miss::NoConnection { .. } => {
            format!("Nobody answers at {host}, where links lead; is BASE_URL right, and does what stands before Portcullis run?")
        }
        Miss::Met(Obstacle::NameUnknown) => {
            format!(
                "The name in {host}, where links lead, is not known; is BASE_URL right? A new name may take ten minutes to be known everywhere."
            )
        }
        Miss::Met(Obstacle::NoConnection) => format!("Nobody answers at {host}, where links lead."),
        Miss::Met(Obstacle::HandshakeCut) => {
            format!("{host}, where links lead, does not speak TLS as a link wants it; is BASE_URL right (http or https)?")
        }
        Miss::Met(Obstacle::ForeignCertificate) => {
            format!(
                "{host}, where links lead, shows a certificate that browsers refuse; it must be for that name, and of an authority that is known."
            )
        }
        Miss::Met(Obstacle::NoAnswer) => {
            format!("{host}, where links lead, takes the connection and gives no answer; does it lead to the port for recipients?")
        }
        Miss::Met(Obstacle::OtherAnswer) => format!("Something else than Portcullis answers at {host}, where links lead."),
    }
}

fn unexpected(what: &str, status: StatusCode) -> Problem {
    format!("{what} was answered with {status}; look at the log, and at what stands before Portcullis.")
}

/// Makes a sentence of an error, whose words are for the owner.
fn sentence(error: &ControllerError) -> Problem {
    let words = error.to_string();
    let mut letters = words.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str = "https://files.example.org/below/0123456789/token/self-test.txt";

    #[test]
    fn addresses_of_pages_are_relative_to_them() {
        assert_eq!(resolved(LINK, "../token"), "https://files.example.org/below/0123456789/token");
        assert_eq!(resolved("https://a/below/0123456789/token", "get/x/y"), "https://a/below/0123456789/get/x/y");
        assert_eq!(resolved(LINK, "../get/x/y"), "https://files.example.org/below/0123456789/get/x/y");
        assert_eq!(resolved(LINK, "https://b/c"), "https://b/c");
        assert_eq!(resolved(LINK, "/c/d"), "https://files.example.org/c/d");
    }

    #[test]
    fn a_transfer_is_only_fetched_where_the_link_is() {
        for same in
            ["https://files.example.org/get/x/y", "HTTPS://Files.Example.org/", &resolved(LINK, "../get/x"), &resolved(LINK, "//b/c")]
        {
            assert!(is_beside(same, LINK), "{same}");
        }
        for other in [
            "http://files.example.org/get/x/y",
            "https://files.example.org:8443/get/x/y",
            "https://files.example.org@127.0.0.1/",
            "https://user@files.example.org/",
            "https://files.example.org\\@b/",
            "https://files.example.org.b/",
            "https://127.0.0.1/",
            "get/x?at=https://files.example.org/",
        ] {
            assert!(!is_beside(&resolved(LINK, other), LINK), "{other}");
        }
    }

    #[test]
    fn only_a_page_with_the_button_of_this_share_is_ours() {
        let answer = |status, body: &'static str| Answer { status, location: None, body: body.into() };
        let ours = "<html><form method=\"post\" action=\"../token\"><button>Download</button></form>";
        assert_eq!(button_of(&answer(StatusCode::OK, ours), LINK).unwrap(), "https://files.example.org/below/0123456789/token");
        assert_eq!(button_of(&answer(StatusCode::GONE, ours), LINK), None);
        for other in [
            "",
            "<h1>It works!</h1>",
            "<form method=\"post\" action=\"/login\">",
            "<form method=\"get\" action=\"../token\">",
            "<form method=\"post\"",
        ] {
            assert_eq!(button_of(&answer(StatusCode::OK, other), LINK), None, "{other}");
        }
    }

    #[test]
    fn no_sentence_holds_a_links_secret() {
        use Obstacle::{ForeignCertificate, HandshakeCut, NameUnknown, NoAnswer, NoConnection, OtherAnswer};
        let met = [NameUnknown, NoConnection, HandshakeCut, ForeignCertificate, NoAnswer, OtherAnswer].map(Miss::Met);
        for miss in met.into_iter().chain([Miss::NotTried, Miss::NoConnection { is_own: true }]) {
            for text in [of_miss(miss, LINK), why_here(miss, LINK)] {
                assert!(text.contains("files.example.org") && !text.contains("token") && text.ends_with(['.', '?', ')']), "{text}");
            }
        }
    }
}
