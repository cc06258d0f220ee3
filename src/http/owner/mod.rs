//! The owner's side, for the LAN: the REST API, the page over it, and the loop that serves both.
//!
//! A request walks in through `finish` (an id, one shape of errors), `harden` (headers), `guard` (who may come in) and the
//! one table of `routes` to a handler, which asks the controller, the catalog or the store. Nothing here decides anything
//! about a share.
//!
//! * `shares.rs`, `pages.rs`, `export.rs`, `transfers.rs`, `files.rs`, `events.rs`, `stream.rs`, `stats.rs`: what is shared and was.
//! * `session.rs`, `sessions.rs`, `tokens.rs`, `audit.rs`: who comes in, and what they did. `health.rs`: whether all is well.
//! * `operate.rs`, `self_test.rs`: the settings, what is wrong with the machine, and a try of the whole way.
//! * `openapi.rs`: the description of all that, and `docs.rs`: the same as a page.
//! * `wire.rs`: the JSON of answers. `body.rs`: the JSON of requests. `once.rs`: `Idempotency-Key`. `serve.rs`: the loop.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::handler::Handler;
use axum::http::{HeaderValue, Method, Uri, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, any, on};
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;

use super::auth::{self, Access, Auth, Gate, Post, Rule, Rules, SecretDigest};
use super::{assets, legacy, problem};
use crate::catalog::{Catalog, Digests};
use crate::clock::Clock;
use crate::controller::Handle;
use crate::delivery::Prefix;
use crate::delivery::nginx::Nginx;
use crate::self_test::SelfTest;
use crate::share::Moment;
use crate::store::{Scope, Store};

mod audit;
pub(super) mod body;
mod docs;
mod events;
mod export;
mod files;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod health;
mod metrics;
mod once;
pub mod operate;
mod openapi;
mod pages;
mod patient;
mod query;
mod self_test;
mod serve;
mod session;
mod sessions;
mod shares;
mod stats;
mod stream;
mod tokens;
mod transfers;
pub(super) mod wire;

pub(super) use once::wish;
pub use openapi::openapi_json;
pub(super) use query::share_id;
pub use serve::{Draining, OwnerListener, serve};
pub(super) use shares::{close, create_once, view_of};

/// What the page may load and do: its own files and its own API, and no script that stands in the page.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                           form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// What everything else may do when a browser is brought to show it: nothing.
const DATA_POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the owner's side works over.
pub struct OwnerSide {
    /// Decides about shares.
    pub controller: Handle,
    /// The files an owner may pick.
    pub catalog: Arc<Catalog>,
    /// Their checksums.
    pub digests: Arc<Digests>,
    /// The event log and the sessions.
    pub store: Arc<dyn Store>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How the operator wants it.
    pub settings: OwnerSettings,
    pub(super) gate: Gate,
    pub(super) started: Moment,
    once: once::Once,
    streams: stream::Streams,
    health: health::Cache,
    checked: operate::Cache,
    refusals: audit::Refusals,
    /// The description of the API, where it says a path of its own.
    description: OnceLock<Bytes>,
}

/// How the operator wants the owner's side.
#[derive(Debug, Clone)]
pub struct OwnerSettings {
    /// Whether an owner must show a credential.
    pub auth: Auth,
    /// The owner's token.
    pub owner_token: SecretDigest,
    /// Names under which the owner's side may be called, besides addresses, `localhost` and the machine's own name.
    pub hosts: Vec<String>,
    /// The logins of the tailnet that are owners, where tailscaled says who asks.
    pub tailnet_owners: Vec<String>,
    /// Where the owner's side is found, as `http://nas.local:8000`: for sign-in links that are asked for over the local socket.
    pub address: String,
    /// The path below which a proxy puts the owner's side; `address` ends with it.
    pub prefix: Prefix,
    /// The folder whose files may be shared.
    pub root: PathBuf,
    /// Where state is kept.
    pub state_dir: PathBuf,
    /// This program's version.
    pub version: &'static str,
    /// Where state is kept: `embedded` or `redis`.
    pub store_kind: &'static str,
    /// How the way in is opened, as `direct`.
    pub tunnel: &'static str,
    /// How nginx stands, where it sends the bytes.
    pub nginx: Option<Arc<Nginx>>,
    /// Who tells what this program was told, and what it found of the machine.
    pub operator: Arc<dyn operate::Operator>,
    /// Tries the whole way that a share goes.
    pub self_test: Arc<SelfTest>,
}

impl OwnerSide {
    /// Puts the owner's side together.
    pub fn new(
        controller: Handle,
        catalog: Arc<Catalog>,
        digests: Arc<Digests>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        settings: OwnerSettings,
    ) -> Self {
        Self {
            gate: Gate::new(&settings, store.clone()),
            started: clock.now(),
            once: once::Once::new(store.clone()),
            streams: stream::Streams::default(),
            health: health::Cache::default(),
            checked: operate::Cache::default(),
            refusals: audit::Refusals::default(),
            description: OnceLock::new(),
            controller,
            catalog,
            digests,
            store,
            clock,
            settings,
        }
    }

    /// Takes another owner's token. Returns whether it is another.
    pub fn set_owner_token(&self, token: SecretDigest) -> bool {
        self.gate.set_owner_token(token)
    }

    /// Takes other names under which the owner's side may be called.
    pub fn set_hosts(&self, hosts: &[String]) {
        self.gate.set_hosts(hosts);
    }

    /// Makes what follows our address in a link that signs a browser in: `/?token=…`. The one of the start holds until the process ends.
    pub fn new_sign_in_path(&self) -> String {
        format!("/?token={}", self.gate.new_code())
    }

    /// Returns a path of ours, which begins with a slash, as browsers must ask for it.
    pub(super) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.settings.prefix.as_str())
    }
}

/// One way in: a method, a path, who may come in, and who answers.
struct Route {
    method: Method,
    path: &'static str,
    rule: Rule,
    answer: MethodRouter<Arc<OwnerSide>>,
}

impl Route {
    /// Sends long lists of files compressed. Not what holds a link: how well a secret compresses must tell nobody anything.
    fn compressed(mut self) -> Self {
        self.answer = self.answer.layer(CompressionLayer::new().gzip(true));
        self
    }

    /// Says what the audit log calls it: whatever is no `GET` has a name there.
    fn does(mut self, action: &'static str) -> Self {
        self.rule.action = Some(action);
        self
    }
}

fn route<H, T>(method: Method, path: &'static str, access: Access, handler: H) -> Route
where
    H: Handler<T, Arc<OwnerSide>>,
    T: 'static,
{
    let filter = MethodFilter::try_from(method.clone()).expect("the methods of the table are among the usual ones");
    Route { method, path, rule: Rule { access, action: None }, answer: on(filter, handler) }
}

/// Whoever may look, but not at links.
const READ: Access = Access::Needs(Scope::Read);
/// Whoever may change shares and see their links.
const SHARE: Access = Access::Needs(Scope::Share);
/// Whoever may do everything.
const ADMIN: Access = Access::Needs(Scope::Admin);

/// The one table of routes.
fn routes() -> Vec<Route> {
    use Access::Public;
    vec![
        route(Method::GET, "/", Public, session::index).compressed(),
        route(Method::GET, auth::SIGN_IN, Public, session::sign_in_page),
        route(Method::POST, auth::SIGN_IN, Public, session::sign_in).does("session.sign_in"),
        route(Method::GET, "/assets/{*path}", Public, assets::asset).compressed(),
        route(Method::GET, "/health", Public, health::health),
        route(Method::GET, "/healthz", Public, health::health),
        route(Method::GET, "/livez", Public, health::alive),
        route(Method::GET, "/metrics", READ, metrics::metrics),
        route(Method::GET, "/openapi.json", Public, openapi::show).compressed(),
        route(Method::GET, "/api/docs", Public, docs::show).compressed(),
        route(Method::GET, "/api/v1/files", READ, files::list).compressed(),
        route(Method::GET, "/api/v1/files/{*path}", READ, files::show),
        route(Method::GET, "/api/v1/recent", READ, files::recent).compressed(),
        route(Method::POST, "/api/v1/shares", SHARE, shares::create).does("share.create"),
        route(Method::GET, "/api/v1/shares", READ, pages::list),
        route(Method::DELETE, "/api/v1/shares", SHARE, shares::close_all).does("shares.close_all"),
        route(Method::GET, "/api/v1/shares/{id}", READ, shares::show),
        route(Method::DELETE, "/api/v1/shares/{id}", SHARE, shares::revoke).does("share.close"),
        route(Method::POST, "/api/v1/shares/{id}/extend", SHARE, shares::extend).does("share.extend"),
        route(Method::POST, "/api/v1/shares/{id}/reopen", SHARE, shares::reopen).does("share.reopen"),
        route(Method::GET, "/api/v1/shares/{id}/qr.svg", SHARE, shares::qr),
        route(Method::GET, "/api/v1/shares/{id}/transfers", READ, transfers::list),
        route(Method::DELETE, "/api/v1/shares/{id}/transfers/{transfer}", SHARE, transfers::stop).does("transfer.stop"),
        route(Method::GET, "/api/v1/history", READ, pages::history),
        route(Method::GET, "/api/v1/stats", READ, stats::stats),
        route(Method::GET, "/api/v1/events", READ, events::list),
        route(Method::GET, "/api/v1/events/stream", READ, stream::stream),
        route(Method::GET, "/api/v1/session", READ, session::show),
        route(Method::DELETE, "/api/v1/session", READ, session::sign_out).does("session.sign_out"),
        route(Method::POST, "/api/v1/session/link", ADMIN, session::link).does("session.link"),
        route(Method::GET, "/api/v1/sessions", ADMIN, sessions::list),
        route(Method::DELETE, "/api/v1/sessions", ADMIN, sessions::revoke_others).does("session.revoke"),
        route(Method::DELETE, "/api/v1/sessions/{id}", ADMIN, sessions::revoke).does("session.revoke"),
        route(Method::POST, "/api/v1/tokens", ADMIN, tokens::create).does("token.create"),
        route(Method::GET, "/api/v1/tokens", ADMIN, tokens::list),
        route(Method::DELETE, "/api/v1/tokens/{id}", ADMIN, tokens::revoke).does("token.revoke"),
        route(Method::GET, "/api/v1/settings", ADMIN, operate::settings),
        route(Method::GET, "/api/v1/check", ADMIN, operate::check),
        route(Method::POST, "/api/v1/self-test", SHARE, self_test::run).does(self_test::ACTION),
        route(Method::GET, "/api/v1/audit", ADMIN, audit::list),
        route(Method::GET, "/api/v1/audit/verify", ADMIN, audit::verify),
        route(Method::POST, "/generate-link", SHARE, legacy::generate_link).does("share.create"),
        route(Method::GET, "/api/files", READ, legacy::files).compressed(),
        route(Method::GET, "/download/{token}", SHARE, legacy::download),
        route(Method::GET, "/admin/tunnels", READ, legacy::tunnels),
        route(Method::GET, "/admin/tunnels/{id}/stats", READ, legacy::stats),
        route(Method::DELETE, "/admin/tunnels/{id}", SHARE, legacy::close).does("share.close"),
        route(Method::GET, "/admin/history", READ, legacy::history),
        route(Method::GET, "/admin/monitor/status", READ, legacy::monitor),
        route(Method::POST, "/admin/cleanup", SHARE, legacy::cleanup).does("shares.cleanup"),
    ]
}

/// Returns the method and the path of every route: what a test or a description of the API must cover to be complete.
pub fn route_list() -> Vec<(Method, &'static str)> {
    routes().into_iter().map(|Route { method, path, .. }| (method, path)).collect()
}

/// Returns the router of the owner's side.
pub fn router(side: Arc<OwnerSide>) -> Router {
    let not_found = || async { problem::Problem::not_found("not_found", "There is nothing at this address.") };
    let mut rules = Rules::default();
    let mut router = Router::new();
    for Route { method, path, rule, answer } in routes() {
        rules.add(method, path, rule);
        router = router.route(path, answer);
    }
    let prefix = side.settings.prefix.clone();
    let router = router
        .fallback_service(any(not_found).with_state(()))
        .with_state(side.clone())
        .layer(CatchPanicLayer::custom(problem::of_panic))
        .layer(middleware::from_fn_with_state(Post { side: side.clone(), rules: Arc::new(rules) }, auth::guard))
        .layer(middleware::from_fn_with_state(side, metrics::count))
        .layer(middleware::from_fn(problem::finish))
        .layer(middleware::from_fn(harden));
    below(prefix, router)
}

/// Lets a router be asked with a prefix before its paths, and without it. The prefix is off before a route is looked for, so that
/// everything within sees one spelling of each path.
fn below(prefix: Prefix, router: Router) -> Router {
    if prefix.as_str().is_empty() {
        return router;
    }
    let within = router.map_request(move |mut request: Request| {
        if request.uri().path() == prefix.as_str() {
            request.extensions_mut().insert(NoSlash);
            let query = request.uri().query().map(|query| format!("/?{query}"));
            *request.uri_mut() = query.and_then(|text| text.parse().ok()).unwrap_or_else(|| Uri::from_static("/"));
        } else if let Some(uri) = prefix.taken_off(request.uri()) {
            *request.uri_mut() = uri;
        }
        request
    });
    Router::new().fallback_service(within)
}

/// Put into a request's extensions: it asks for the prefix without the slash behind it. What a page loads beside itself would be looked
/// for beside the prefix.
#[derive(Debug, Clone, Copy)]
struct NoSlash;

/// Tells browsers what no answer of ours is: something to sniff, to frame, to keep, or to run.
async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let is_part = response.extensions().get::<assets::Part>().is_some();
    let headers = response.headers_mut();
    let is_page = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let policy = if is_page { PAGE_POLICY } else { DATA_POLICY };
    let of_everything = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    // These speak of windows and links. The thirty parts of a page are neither, and together they would weigh as much as five of them.
    let of_documents = [
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    let documents = of_documents.into_iter().filter(|_| !is_part);
    for (name, value) in of_everything.into_iter().chain(documents) {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
