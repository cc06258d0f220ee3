//! Whether the program can do its work, for those who watch over it.
//!
//! Each thing that the program leans on is a check with a verdict and a reason. All are looked at together, each with a
//! timeout, at most once a second however many ask: strangers may ask, and must not make work by it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::OwnerSide;
use crate::causes::Causes;
use crate::controller::{Sharers, View};
use crate::delivery::nginx::{PASSES_ON, Standing};
use crate::http::auth::Caller;
use crate::http::words::{Language, duration_text, reach_problem, size_text, words};
use crate::share::{Reach, State as ShareState, Steady};
use crate::store::shared::{LEASE, Peer};

/// How long a check may take; a watcher that asks for health wants an answer within a second.
pub(super) const CHECK_TIMEOUT: Duration = Duration::from_millis(800);
/// How long an answer holds.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// How old the index may be. Walks rest an hour at the most and a large NAS is walked within one: past three something
/// is wrong.
const MAX_INDEX_AGE: Duration = Duration::from_secs(3 * 3600);
/// How far this machine's clock and the store's may be apart: a link's end is judged by either.
const MAX_SKEW_MS: i64 = 2000;
/// Below this much free space on the disk of the state folder somebody should look: a year of a busy house fits in it.
pub const LOW_DISK_BYTES: u64 = 500 * 1000 * 1000;
/// Below this much the next writes may fail: the store's own log of writes takes a few megabytes.
pub const NO_DISK_BYTES: u64 = 20 * 1000 * 1000;

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum Status {
    Ok,
    /// It works, and somebody should look.
    Warning,
    Failing,
    /// It is no part of this setup.
    NotUsed,
}

impl Status {
    /// Returns it as a number that grows with the trouble: 0 it works or is not used, 1 somebody should look, 2 it does not work.
    pub(super) fn as_number(self) -> u8 {
        match self {
            Self::Ok | Self::NotUsed => 0,
            Self::Warning => 1,
            Self::Failing => 2,
        }
    }
}

/// How one thing stands, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::http) struct Check {
    status: Status,
    reason: String,
}

impl Check {
    /// Returns how it stands.
    pub(super) fn status(&self) -> Status {
        self.status
    }

    /// Returns why, as a sentence.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    fn new(status: Status, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into() }
    }

    /// Returns whether it works, well or not so well.
    pub(in crate::http) fn works(&self) -> bool {
        self.status != Status::Failing
    }
}

/// Everything that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::http) struct Checks {
    pub(in crate::http) store: Check,
    pub(in crate::http) files: Check,
    index: Check,
    tunnel: Check,
    disk: Check,
    log: Check,
    controllers: Check,
}

impl Checks {
    /// Returns each with its name.
    pub(super) fn named(&self) -> [(&'static str, &Check); 7] {
        let Self { store, files, index, tunnel, disk, log, controllers } = self;
        [
            ("store", store),
            ("files", files),
            ("index", index),
            ("tunnel", tunnel),
            ("disk", disk),
            ("log", log),
            ("controllers", controllers),
        ]
    }

    /// Returns whether the program can do its work: without the store or the files it cannot.
    fn are_fine(&self) -> bool {
        self.store.works() && self.files.works()
    }
}

/// What was found last. Held while it is looked, so that any number of callers cost one look.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<Option<(Steady, Checks)>>);

/// Looks at what the program leans on; what was found within the last second is not looked at again.
pub(in crate::http) async fn check(side: &OwnerSide) -> Checks {
    let mut found = side.health.0.lock().await;
    let now = side.clock.now().steady;
    if let Some((at, checks)) = &*found
        && now.since(*at) < FRESH_FOR
    {
        return checks.clone();
    }
    let (store, files, disk, log) = tokio::join!(store(side), files(side), free_bytes(side), log(side));
    let controllers = controllers(side.controller.sharers());
    let checks = Checks { store, files, index: index(side), tunnel: tunnel(side), disk: disk_check(disk), log, controllers };
    *found = Some((now, checks.clone()));
    checks
}

/// Answers `GET /health` and `/healthz`. A stranger learns whether it works, and not what it is.
pub(super) async fn health(State(side): State<Arc<OwnerSide>>, caller: Option<Extension<Caller>>) -> (StatusCode, Json<Value>) {
    let checks = check(&side).await;
    let is_healthy = checks.are_fine();
    let status = if is_healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "status": if is_healthy { "healthy" } else { "unhealthy" },
        "redis": store_word(&side, &checks),
        "version": if caller.is_some() { side.settings.version } else { "" },
        "checks": if caller.is_some() { json!(checks) } else { json!({}) },
    });
    (status, Json(body))
}

/// Answers `GET /livez`: the process answers.
pub(super) async fn alive() -> Json<Value> {
    Json(json!({ "status": "alive" }))
}

/// The word that the original's scripts look for.
fn store_word(side: &OwnerSide, checks: &Checks) -> &'static str {
    match (checks.store.works(), side.settings.store_kind) {
        (false, _) => "disconnected",
        (true, "redis") => "connected",
        (true, _) => "embedded",
    }
}

async fn store(side: &OwnerSide) -> Check {
    match timeout(CHECK_TIMEOUT, side.store.try_write()).await {
        Ok(Ok(())) => Check::new(Status::Ok, "It can be written."),
        Ok(Err(error)) => {
            tracing::debug!(error = %Causes(&error), "The store failed its check");
            match (side.settings.store_kind, std::error::Error::source(&error)) {
                ("redis", Some(why)) => Check::new(Status::Failing, sentence(&why.to_string())),
                _ => Check::new(Status::Failing, "It cannot be written; the log says why."),
            }
        }
        Err(_) => Check::new(Status::Failing, hangs("It")),
    }
}

async fn files(side: &OwnerSide) -> Check {
    match timeout(CHECK_TIMEOUT, side.catalog.is_reachable()).await {
        Ok(true) => Check::new(Status::Ok, "The folder is there and answers."),
        Ok(false) => Check::new(Status::Failing, "The folder is not the one of the start any more; is the NAS mounted?"),
        Err(_) => Check::new(Status::Failing, format!("{} Is the NAS reachable?", hangs("The folder"))),
    }
}

fn index(side: &OwnerSide) -> Check {
    let health = side.catalog.index_health();
    let known = format!("{} files are known", health.state.files);
    match health.age {
        _ if health.is_failing => Check::new(Status::Warning, format!("The folder could not be walked; {known}.")),
        None => Check::new(Status::Ok, format!("The folder is being walked for the first time; {known} so far.")),
        Some(age) if age > MAX_INDEX_AGE => {
            Check::new(Status::Warning, format!("The folder was last walked {} ago; {known}.", duration_text(age)))
        }
        Some(_) if health.state.truncated => {
            Check::new(Status::Warning, format!("The folder has more files than can be searched; {known}."))
        }
        Some(age) => Check::new(Status::Ok, format!("The folder was walked {} ago; {known}.", duration_text(age))),
    }
}

/// Looks at the nginx that sends the bytes.
async fn log(side: &OwnerSide) -> Check {
    let Some(nginx) = &side.settings.nginx else {
        return Check::new(Status::NotUsed, "Portcullis sends the bytes itself and reads no log.");
    };
    match nginx.standing(CHECK_TIMEOUT).await {
        None => Check::new(Status::Ok, "nginx is being looked at."),
        Some(Standing { problems, .. }) if !problems.is_empty() => {
            let sentences: Vec<String> = problems.iter().map(|problem| sentence(problem)).collect();
            Check::new(Status::Failing, sentences.join(" "))
        }
        Some(Standing { sends_itself: false, .. }) => Check::new(Status::Warning, sentence(PASSES_ON)),
        Some(Standing { lag, .. }) => {
            let lag = lag.map_or(0, |lag| lag.as_millis());
            Check::new(Status::Ok, format!("nginx answers with the configuration of now; its lines are read here within {lag} ms."))
        }
    }
}

/// Makes a sentence of what is told after a colon elsewhere.
pub(super) fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    // nginx and portcullis are written so at the beginning, too.
    let is_name = words.starts_with("nginx") || words.starts_with("portcullis");
    let end = if words.ends_with('?') { "" } else { "." };
    if is_name { format!("{words}{end}") } else { format!("{first}{}{end}", letters.as_str()) }
}

/// Looks at the ways in that should be open, or shut, and are not; or are, and nobody gets in.
fn tunnel(side: &OwnerSide) -> Check {
    let still_open = side.controller.still_open();
    if still_open > 0 {
        let which = if still_open == 1 {
            "1 door that is closed still answers".to_owned()
        } else {
            format!("{still_open} doors that are closed still answer")
        };
        return Check::new(Status::Failing, format!("{which} from the internet; the log says whose."));
    }
    let living = side.controller.living();
    let wanted = living.iter().filter(|view| view.state != ShareState::Scheduled);
    let (all, troubled): (Vec<_>, Vec<_>) = (wanted.clone().collect(), wanted.filter(|view| view.tunnel_problem.is_some()).collect());
    match troubled.first().and_then(|view| view.tunnel_problem.as_deref()) {
        None => reach_check(&living, all.len()),
        Some(problem) => {
            let status = if troubled.len() == all.len() { Status::Failing } else { Status::Warning };
            Check::new(status, format!("{} of {} ways in are not as they should be: {problem}.", troubled.len(), all.len()))
        }
    }
}

/// Looks at what those found who looked from the internet.
fn reach_check(living: &[Arc<View>], all: usize) -> Check {
    let unreached: Vec<String> = living
        .iter()
        .filter(|view| matches!(view.share.reach, Some(Reach::No(_))))
        .filter_map(|view| reach_problem(words(Language::English), &view.share))
        .collect();
    match unreached.first() {
        None => Check::new(Status::Ok, format!("{all} ways in are as they should be.")),
        Some(problem) => {
            Check::new(Status::Warning, format!("{} of {all} ways in are not reached from the internet. {problem}", unreached.len()))
        }
    }
}

/// Looks at who else shares the store.
fn controllers(sharers: Option<Sharers>) -> Check {
    let Some(Sharers { me, mut peers, ahead_ms }) = sharers else {
        return Check::new(Status::NotUsed, "No other controller shares the store.");
    };
    peers.sort_by(|one, other| one.name.cmp(&other.name));
    let name = |peer: &Peer| match peer.silence {
        _ if peer.number == me => format!("{} (this one)", peer.name),
        silence if silence >= LEASE => format!("{} (not heard for {})", peer.name, duration_text(silence)),
        _ => peer.name.clone(),
    };
    let names: Vec<String> = peers.iter().map(name).collect();
    let all = format!("{} {}: {}.", names.len(), if names.len() == 1 { "controller" } else { "controllers" }, names.join(", "));
    if ahead_ms.abs() > MAX_SKEW_MS {
        let by = duration_text(Duration::from_millis(ahead_ms.unsigned_abs()));
        let which = if ahead_ms > 0 { "ahead of" } else { "behind" };
        return Check::new(Status::Warning, format!("{all} This machine's clock is {by} {which} the store's."));
    }
    let is_silent = peers.iter().any(|peer| peer.number != me && peer.silence >= LEASE);
    Check::new(if is_silent { Status::Warning } else { Status::Ok }, all)
}

fn disk_check(free: Option<u64>) -> Check {
    let Some(free) = free else { return Check::new(Status::Failing, hangs("The disk of the state folder")) };
    let status = match free {
        _ if free < NO_DISK_BYTES => Status::Failing,
        _ if free < LOW_DISK_BYTES => Status::Warning,
        _ => Status::Ok,
    };
    Check::new(status, format!("The disk of the state folder has {} left.", size_text(free)))
}

fn hangs(what: impl fmt::Display) -> String {
    format!("{what} did not answer within {} ms.", CHECK_TIMEOUT.as_millis())
}

/// Returns how much the disk of the state folder has left; `None` where that cannot be known at the moment.
pub(super) async fn free_bytes(side: &OwnerSide) -> Option<u64> {
    let folder = side.settings.state_dir.clone();
    let look = tokio::task::spawn_blocking(move || free_bytes_of(&folder));
    timeout(CHECK_TIMEOUT, look).await.ok()?.ok()?
}

/// Returns how much of a folder's disk this account may still fill. Blocks.
pub fn free_bytes_of(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::ControllerNumber;

    #[test]
    fn a_disk_that_fills_is_told_of_in_time() {
        let status = |free| disk_check(free).status;
        assert_eq!(status(Some(LOW_DISK_BYTES)), Status::Ok);
        assert_eq!(status(Some(LOW_DISK_BYTES - 1)), Status::Warning);
        assert_eq!(status(Some(NO_DISK_BYTES)), Status::Warning);
        assert_eq!(status(Some(NO_DISK_BYTES - 1)), Status::Failing);
        assert_eq!(status(None), Status::Failing);
        assert_eq!(disk_check(Some(3_000_000_000)).reason, "The disk of the state folder has 3.0 GB left.");
    }

    #[test]
    fn only_the_store_and_the_files_keep_it_from_its_work() {
        let fine = || Check::new(Status::Ok, "");
        let all = || Checks { controllers: fine(), store: fine(), files: fine(), index: fine(), tunnel: fine(), disk: fine(), log: fine() };
        let failing = || Check::new(Status::Failing, "");
        assert!(Checks { index: failing(), tunnel: failing(), disk: failing(), ..all() }.are_fine());
        assert!(!Checks { store: failing(), ..all() }.are_fine());
        assert!(!Checks { files: failing(), ..all() }.are_fine());
    }

    #[test]
    fn who_shares_the_store_is_told_with_whoever_is_silent_and_whose_clock_is_wrong() {
        let peer = |number, seconds| Peer {
            number: ControllerNumber(number),
            name: format!("nas-{number}"),
            silence: Duration::from_secs(seconds),
        };
        let found = |peers, ahead_ms| controllers(Some(Sharers { me: ControllerNumber(1), peers, ahead_ms }));
        assert_eq!(controllers(None).status, Status::NotUsed);
        let fine = found(vec![peer(2, 1), peer(1, 0)], -2000);
        assert_eq!((fine.status, fine.reason.as_str()), (Status::Ok, "2 controllers: nas-1 (this one), nas-2."));
        let silent = found(vec![peer(1, 0), peer(2, 7)], 0);
        assert_eq!(
            (silent.status, silent.reason.contains("nas-2 (not heard for 7 seconds)")),
            (Status::Warning, true),
            "{}",
            silent.reason
        );
        let skewed = found(vec![peer(1, 0)], 61_000);
        assert_eq!(skewed.status, Status::Warning);
        assert!(skewed.reason.starts_with("1 controller: ") && skewed.reason.contains("ahead of"), "{}", skewed.reason);
        assert!(found(vec![peer(1, 0)], -61_000).reason.contains("behind"));
    }

    #[test]
    fn the_free_space_is_that_of_the_folders_disk() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes_of(folder.path()).is_some_and(|free| free > 0));
        assert_eq!(free_bytes_of(&folder.path().join("nothing")), None);
    }
}
