//! For who operates the program: the settings as they hold, and what is wrong with what it leans on.
//!
//! Neither the environment nor the machine is looked at here: whoever puts the program together does it, as [`Operator`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::OwnerSide;
use super::health::{self, Status};
use super::openapi::schema;
use super::wire::time;
use crate::catalog::ListQuery;
use crate::share::{CatalogPath, Steady, Timestamp};

/// How long an answer holds: whoever presses the button again and again has the machine looked at once in so long.
const FRESH_FOR: Duration = Duration::from_secs(5);
/// How long the look at the machine may take in all. Each step of it has its own bound below this.
const LOOK_TIMEOUT: Duration = Duration::from_secs(40);
/// How long the look into the NAS's folder may take.
const FOLDER_TIMEOUT: Duration = Duration::from_secs(2);

/// Tells what only whoever put the program together knows.
pub trait Operator: fmt::Debug + Send + Sync + 'static {
    /// Returns the settings as they hold now.
    fn settings(&self) -> SettingsJson;

    /// Looks at what the program leans on, besides what its health says. What hangs is given up.
    fn check(&self) -> BoxFuture<'_, Vec<CheckJson>>;
}

/// Every setting as it holds in the running program.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Settings)]
pub struct SettingsJson {
    /// In the order of `env.example`.
    pub settings: Vec<SettingJson>,
    /// What is odd and no mistake, each a sentence.
    pub notes: Vec<String>,
}

/// A setting as it holds. It never carries a secret.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Setting)]
pub struct SettingJson {
    /// The environment variable, as `STALL_TIMEOUT_SECONDS`.
    pub name: &'static str,
    /// The flag, as `--stall-timeout-seconds`; of a secret that of its file.
    pub flag: Option<String>,
    /// What holds, as it was written; `null` where nothing is set, and for a secret.
    pub value: Option<String>,
    /// What holds where nobody says anything.
    pub default: Option<String>,
    /// Whether anybody said anything.
    pub is_set: bool,
    /// Whether it is a secret, of which only is told whether it is set.
    pub is_secret: bool,
    /// The name that a secret was given by, where that is the name of its file.
    pub by_file: Option<&'static str>,
    /// Who said so.
    #[schema(schema_with = schema::origin)]
    pub origin: &'static str,
    /// The same for people: which file, and which line of it.
    pub origin_text: String,
    /// What it does, in one sentence.
    pub help: &'static str,
    /// What its numbers count, as `seconds`.
    pub unit: Option<&'static str>,
    /// Whether it takes effect at a hangup (SIGHUP); the others wait for the next start.
    pub reloads: bool,
}

/// What was found when somebody looked.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = CheckAnswer)]
pub(super) struct ChecksJson {
    checks: Vec<CheckJson>,
    #[schema(format = "date-time")]
    checked_at: String,
}

/// One thing that the program leans on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Check)]
pub struct CheckJson {
    /// A setting, as `BASE_URL`, or a word, as `store`.
    pub name: String,
    /// How it stands.
    #[schema(schema_with = schema::check_status)]
    pub status: CheckStatus,
    /// What is so, as a sentence.
    pub text: String,
    /// What to do about it, where it is not as it should be.
    pub fix: Option<String>,
}

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// As it should be.
    Ok,
    /// It works, and may not be what is meant.
    Warning,
    /// Something will not work.
    Wrong,
}

impl CheckJson {
    /// Makes one of words as they stand in a line of the command line.
    pub fn new(name: impl Into<String>, status: CheckStatus, text: &str, fix: Option<&str>) -> Self {
        Self { name: name.into(), status, text: health::sentence(text), fix: fix.map(health::sentence) }
    }
}

/// What was found last. Held while it is looked: whoever asks meanwhile waits for that look and has its answer.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<Option<(Steady, ChecksJson)>>);

/// Answers `GET /api/v1/settings`.
pub(super) async fn settings(State(side): State<Arc<OwnerSide>>) -> Json<SettingsJson> {
    Json(side.settings.operator.settings())
}

/// Answers `GET /api/v1/check`.
pub(super) async fn check(State(side): State<Arc<OwnerSide>>) -> Json<ChecksJson> {
    let mut found = side.checked.0.lock().await;
    if let Some((at, checks)) = &*found
        && side.clock.now().steady.since(*at) < FRESH_FOR
    {
        return Json(checks.clone());
    }
    let (health, folder, looked) = tokio::join!(health::check(&side), folder(&side), timeout(LOOK_TIMEOUT, side.settings.operator.check()));
    let mut checks: Vec<CheckJson> = health.named().into_iter().filter_map(|(name, check)| of_health(name, check)).collect();
    checks.extend(folder);
    checks.extend(looked.unwrap_or_else(|_| {
        vec![CheckJson::new(
            "check",
            CheckStatus::Wrong,
            "the machine could not be looked at in time",
            Some("look at the log, and try again"),
        )]
    }));
    // From here on it is as old as it says.
    let now = side.clock.now();
    let answer = ChecksJson { checks, checked_at: time(Timestamp(now.wall.0)) };
    *found = Some((now.steady, answer.clone()));
    Json(answer)
}

/// Says what health found as a check, with what to do about it; `None` for what is no part of this setup.
fn of_health(name: &'static str, check: &health::Check) -> Option<CheckJson> {
    let status = match check.status() {
        Status::Ok => CheckStatus::Ok,
        Status::Warning => CheckStatus::Warning,
        Status::Failing => CheckStatus::Wrong,
        Status::NotUsed => return None,
    };
    let fix = match (name, status) {
        (_, CheckStatus::Ok) => None,
        ("store", _) => {
            Some("Make room on the state folder's disk and make sure that this account may write there; the log says what went wrong.")
        }
        ("files", _) => Some("Mount the NAS again, or start Portcullis with the folder that you mean (NAS_MOUNT_PATH)."),
        ("index", _) => Some("Look whether the NAS answers slowly. Files can be shared meanwhile; only the search may not know all."),
        ("tunnel", _) => Some("Look at the shares that wait for their way in, and at what is said of it here; nothing is lost meanwhile."),
        ("disk", _) => Some("Make room on that disk, or move the state folder (STATE_DIR)."),
        ("controllers", _) => Some("Start it again, or set the clock (NTP); what a silent one watched is watched by the others meanwhile."),
        ("log", CheckStatus::Warning) => {
            Some("Let nginx run in the network namespace of Portcullis where you want it to send the files itself.")
        }
        _ => Some("Print nginx's configuration anew by `portcullis nginx-config`, put it in its place and reload nginx."),
    };
    Some(CheckJson { name: name.to_owned(), status, text: check.reason().to_owned(), fix: fix.map(str::to_owned) })
}

/// Looks whether there is anything to share.
async fn folder(side: &OwnerSide) -> Option<CheckJson> {
    let first = ListQuery { limit: 1, ..ListQuery::default() };
    let listing = timeout(FOLDER_TIMEOUT, side.catalog.list(&CatalogPath::root(), first)).await.ok()?.ok()?;
    let (named, is_empty) = (side.settings.root.display(), listing.total == 0);
    Some(if is_empty {
        CheckJson::new("NAS_MOUNT_PATH", CheckStatus::Warning, &format!("{named} has nothing to share"), Some("is the NAS mounted?"))
    } else {
        CheckJson::new("NAS_MOUNT_PATH", CheckStatus::Ok, &format!("{named} can be listed"), None)
    })
}
