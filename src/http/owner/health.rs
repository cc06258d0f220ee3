//! Whether the program can do its work, for those who watch over it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::OwnerSide;
use crate::http::auth::Caller;
use crate::share::Steady;

/// How long a check may take; a watcher that asks for health wants an answer within a second.
const CHECK_TIMEOUT: Duration = Duration::from_millis(800);
/// How long an answer holds: strangers may ask, and must not make work by it.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct Checks {
    pub(in crate::http) store: bool,
    pub(in crate::http) catalog: bool,
}

/// What was found last.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<Option<(Steady, Checks)>>);

/// Looks at what the program leans on; what was found within the last second is not looked at again.
pub(in crate::http) async fn check(side: &OwnerSide) -> Checks {
    let now = side.clock.now().steady;
    let lock = || side.health.0.lock().expect("nobody panics while holding what was found");
    if let Some((at, checks)) = *lock()
        && now.since(at) < FRESH_FOR
    {
        return checks;
    }
    let (store, catalog) = tokio::join!(
        tokio::time::timeout(CHECK_TIMEOUT, side.store.latest_seq()),
        tokio::time::timeout(CHECK_TIMEOUT, side.catalog.is_reachable()),
    );
    let checks = Checks { store: matches!(store, Ok(Ok(_))), catalog: catalog.unwrap_or(false) };
    *lock() = Some((now, checks));
    checks
}

/// Answers `GET /health` and `/healthz`. A stranger learns whether it works, and not what it is.
pub(super) async fn health(State(side): State<Arc<OwnerSide>>, caller: Option<Extension<Caller>>) -> (StatusCode, Json<Value>) {
    let checks = check(&side).await;
    let is_healthy = checks.store && checks.catalog;
    let status = if is_healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = |is_fine| if is_fine { "ok" } else { "unavailable" };
    let (version, checks_json) = match caller {
        Some(_) => (side.settings.version, json!({ "store": word(checks.store), "files": word(checks.catalog) })),
        None => ("", json!({})),
    };
    let body = json!({
        "status": if is_healthy { "healthy" } else { "unhealthy" },
        "redis": store_word(&side, checks),
        "version": version,
        "checks": checks_json,
    });
    (status, Json(body))
}

/// Answers `GET /livez`: the process answers.
pub(super) async fn alive() -> Json<Value> {
    Json(json!({ "status": "alive" }))
}

/// The word that the original's scripts look for.
fn store_word(side: &OwnerSide, checks: Checks) -> &'static str {
    match (checks.store, side.settings.store_kind) {
        (false, _) => "disconnected",
        (true, "redis") => "connected",
        (true, _) => "embedded",
    }
}
