//! Shares: make one or several, look, close, extend, open again.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fast_qr::convert::Builder;
use fast_qr::convert::svg::SvgBuilder;
use fast_qr::{ECL, QRBuilder};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::OwnerSide;
use super::body::{Object, OptionalJson, StrictJson, quoted};
use super::once::{Attempt, wish};
use super::openapi::schema;
use super::query::{parse_time, share_id};
use super::wire::ShareJson;
use crate::controller::{ControllerError, Intent, NewShare, View};
use crate::http::auth::Caller;
use crate::http::problem::{Problem, ProblemJson};
use crate::share::{CatalogPath, InvalidNetwork, Network, OnStall, PolicyRequest, ShareId, State as ShareState};
use crate::token::random;

/// The white border around the code, in modules: what readers of QR codes expect.
const QR_MARGIN: usize = 4;

/// How many of a batch are made at once: each waits for its way in, and for a look at the NAS.
const BATCH_AT_ONCE: usize = 16;
/// The most files of one batch.
pub(super) const MAX_BATCH: usize = 100;

/// What is told of a share that was shut and whose closing is not in the store yet.
const NOT_SAVED: &str = "The share is shut, but Portcullis cannot write its store at the moment; the closing is saved when it can.";

/// The same of all of them.
const NOT_SAVED_OF_ALL: &str =
    "Every share is shut, but Portcullis cannot write its store at the moment; the closings are saved when it can.";

/// Answers `POST /api/v1/shares`: one share for a `path`, or one for each of several `paths`.
pub(super) async fn create(
    State(side): State<Arc<OwnerSide>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    StrictJson { mut object, bytes }: StrictJson,
) -> Result<Response, Problem> {
    let wish = wish(&[b"create", &bytes]);
    match wanted_paths(&mut object)? {
        Paths::One(path) => {
            let new = new_share(object, CatalogPath::parse(&path)?)?;
            let view = create_once(&side, &caller, &headers, wish, new).await?;
            let location = side.path(&format!("/api/v1/shares/{}", view.share.id));
            let location = HeaderValue::try_from(location).expect("an id is made of letters and digits");
            Ok((made_status(&view), [(header::LOCATION, location)], json_of(&side, &caller, &view)).into_response())
        }
        Paths::Many(paths) => {
            let pattern = new_share(object, CatalogPath::root())?;
            side.controller.check(&pattern)?;
            let ids = paths.iter().map(|_| random::share_id().to_string()).collect();
            // One for all: a close in the middle leaves the rest of them unmade.
            let (doer, intent) = (side.clone(), side.controller.intend(None));
            let work = move |attempt| create_all(doer, caller, paths, pattern, attempt, intent);
            let results = side.once.run(&headers, wish, ids, side.clock.now(), work).await?;
            Ok((StatusCode::MULTI_STATUS, Json(BatchJson { results })).into_response())
        }
    }
}

/// `202` while the way in is being opened.
fn made_status(view: &View) -> StatusCode {
    if view.state == ShareState::Opening { StatusCode::ACCEPTED } else { StatusCode::CREATED }
}

/// Makes a share, unless a request with the same `Idempotency-Key` and the same wish did already.
pub(in crate::http) async fn create_once(
    side: &Arc<OwnerSide>,
    caller: &Caller,
    headers: &HeaderMap,
    wish: [u8; 32],
    new: NewShare,
) -> Result<Arc<View>, Problem> {
    let (doer, caller, intent) = (side.clone(), caller.clone(), side.controller.intend(None));
    let work = move |Attempt { ids, is_repeat, is_done }: Attempt| async move {
        let id = planned(&ids, 0)?;
        if is_done { view_of(&doer, id).await } else { make(&doer, &caller, id, is_repeat, new, &intent).await }
    };
    side.once.run(headers, wish, vec![random::share_id().to_string()], side.clock.now(), work).await
}

/// Makes a share under an id that was chosen before; where an earlier attempt made it, that is the answer.
async fn make(
    side: &OwnerSide,
    caller: &Caller,
    id: ShareId,
    is_repeat: bool,
    new: NewShare,
    intent: &Intent,
) -> Result<Arc<View>, Problem> {
    if is_repeat && let Some(view) = side.controller.created(id).await? {
        return Ok(view);
    }
    let line = side.audit_line(caller, "share.create", id.as_str(), &new.path.to_text());
    Ok(side.controller.create_noted(id, new, line, intent).await?)
}

/// Makes a share for each path, several at once. What went wrong with one does not touch the others.
async fn create_all(
    side: Arc<OwnerSide>,
    caller: Caller,
    paths: Vec<String>,
    pattern: NewShare,
    Attempt { ids, is_repeat, .. }: Attempt,
    intent: Intent,
) -> Result<Vec<ResultJson>, Problem> {
    let intent = &intent;
    let each = paths.into_iter().enumerate().map(|(index, text)| {
        let (side, caller, pattern, id) = (side.clone(), caller.clone(), pattern.clone(), planned(&ids, index));
        async move {
            let made = async {
                let path = CatalogPath::parse(&text)?;
                make(&side, &caller, id?, is_repeat, NewShare { path, ..pattern }, intent).await
            };
            match made.await {
                Ok(view) => ResultJson {
                    path: text,
                    status: made_status(&view).as_u16(),
                    share: Some(ShareJson::new(&view, side.clock.now(), &caller)),
                    problem: None,
                },
                Err(problem) => {
                    // The answer as a whole is no refusal, so nobody else writes this one down.
                    side.audit_refused(&caller.who, &caller.from, "share.create", "", problem.code()).await;
                    ResultJson { path: text, status: problem.status().as_u16(), share: None, problem: Some(problem.to_json()) }
                }
            }
        }
    });
    Ok(stream::iter(each).buffered(BATCH_AT_ONCE).collect().await)
}

fn planned(ids: &[String], index: usize) -> Result<ShareId, Problem> {
    let damaged = || Problem::unprocessable("idempotency_key_reused", "This Idempotency-Key was used for another request; take a new one.");
    ids.get(index).and_then(|id| id.parse().ok()).ok_or_else(damaged)
}

/// What came of each file of a batch, in the order asked for.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Batch)]
pub(super) struct BatchJson {
    results: Vec<ResultJson>,
}

/// What came of one file of a batch.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BatchResult)]
struct ResultJson {
    /// As it was asked for.
    path: String,
    /// The status that the file alone would have been answered with.
    status: u16,
    share: Option<ShareJson>,
    #[schema(schema_with = schema::problem_or_null)]
    problem: Option<ProblemJson>,
}

/// Which files an owner wants shared; what they look like is looked at one by one.
pub(super) enum Paths {
    One(String),
    Many(Vec<String>),
}

pub(super) fn wanted_paths(body: &mut Object) -> Result<Paths, Problem> {
    let (path, paths) = (body.text("path")?, body.texts("paths")?);
    match path {
        Some(path) if paths.is_empty() => Ok(Paths::One(path)),
        Some(_) => Err(body.wrong("paths", "excludes path; send one of them")),
        None if paths.is_empty() => Err(body.wrong("path", "is missing; it must be a text, or send paths")),
        None if paths.len() > MAX_BATCH => {
            Err(body.wrong("paths", &format!("may hold {MAX_BATCH} files at most; send the rest in another request")))
        }
        None => Ok(Paths::Many(paths)),
    }
}

/// Reads by which rules an owner wants a file shared.
pub(super) fn new_share(mut body: Object, path: CatalogPath) -> Result<NewShare, Problem> {
    let note = body.text("note")?.filter(|note| !note.is_empty());
    let message = body.text("message")?.filter(|message| !message.is_empty());
    let policy = body.object("policy")?.map(policy).transpose()?.unwrap_or_default();
    body.finish()?;
    Ok(NewShare { path, policy, note, message })
}

fn policy(mut body: Object) -> Result<PolicyRequest, Problem> {
    let starts_at = match body.text("starts_at")? {
        None => None,
        Some(text) => Some(parse_time(&text).ok_or_else(|| body.wrong("starts_at", "must be a time as in 2030-01-31T18:00:00Z"))?),
    };
    let on_stall = match body.text("on_stall")?.as_deref() {
        None => None,
        Some("close") => Some(OnStall::Close),
        Some("reopen") => Some(OnStall::Reopen),
        Some(_) => return Err(body.wrong("on_stall", "must be close or reopen")),
    };
    let networks: Result<Vec<Network>, (String, InvalidNetwork)> =
        body.texts("allowed_networks")?.into_iter().map(|text| text.parse().map_err(|wrong| (text, wrong))).collect();
    let allowed_networks = networks
        .map_err(|(text, wrong)| body.wrong("allowed_networks", &format!("is a list of networks, and {} {wrong}", quoted(&text))))?;
    let request = PolicyRequest {
        max_downloads: body.positive("max_downloads")?,
        unlimited_downloads: body.flag("unlimited_downloads")?,
        expires_in_seconds: body.positive("expires_in_seconds")?,
        starts_at,
        on_stall,
        allowed_networks,
        max_bytes_per_second: body.positive("max_bytes_per_second")?,
    };
    body.finish()?;
    Ok(request)
}

/// Answers `GET /api/v1/shares/{id}`.
pub(super) async fn show(
    State(side): State<Arc<OwnerSide>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<ShareJson>, Problem> {
    let view = view_of(&side, share_id(&id)?).await?;
    Ok(json_of(&side, &caller, &view))
}

/// Answers `DELETE /api/v1/shares/{id}`; twice is fine.
pub(super) async fn revoke(
    State(side): State<Arc<OwnerSide>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<ShareJson>, Problem> {
    let view = close(&side, &caller, &id).await?;
    Ok(json_of(&side, &caller, &view))
}

/// Closes a share. This alone waits for no line of the audit log: where the disk hangs or is full, what is to be shut is shut
/// at once all the same, and its line comes if it can.
pub(in crate::http) async fn close(side: &OwnerSide, caller: &Caller, id: &str) -> Result<Arc<View>, Problem> {
    let view = view_of(side, share_id(id)?).await?;
    let path = view.share.file.path.to_text();
    // The line is asked for first, so that it stands before what it tells of wherever the store can write.
    let (line, shut) = tokio::join!(side.audit(caller, "share.close", id, &path), side.controller.revoke(view.share.id));
    match (shut, line) {
        (Ok(view), Ok(())) => Ok(view),
        (Ok(view), Err(problem)) => {
            tracing::warn!(share.id = id, problem.code = problem.code(), "The audit log has no line about the closing of share {id}");
            Ok(view)
        }
        (Err(ControllerError::Store(error)), _) => Err(Problem::from(error).saying(NOT_SAVED)),
        (Err(ControllerError::Busy), Err(problem)) => Err(problem.saying(NOT_SAVED)),
        (Err(error), _) => Err(error.into()),
    }
}

/// Answers `DELETE /api/v1/shares`: closes every door. As with one, shutting waits for no line of the audit log.
pub(super) async fn close_all(State(side): State<Arc<OwnerSide>>, Extension(caller): Extension<Caller>) -> Result<Json<Value>, Problem> {
    let (line, shut) = tokio::join!(side.audit(&caller, "shares.close_all", "", ""), side.controller.revoke_all());
    match (shut, line) {
        (Ok(closing), line) => {
            if let Err(problem) = line {
                tracing::warn!(problem.code = problem.code(), "The audit log has no line about the closing of all shares");
            }
            Ok(Json(json!({ "closing": closing })))
        }
        (Err(ControllerError::Store(error)), _) => Err(Problem::from(error).saying(NOT_SAVED_OF_ALL)),
        (Err(error), _) => Err(error.into()),
    }
}

/// Answers `POST /api/v1/shares/{id}/extend`.
pub(super) async fn extend(
    State(side): State<Arc<OwnerSide>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
    StrictJson { mut object, bytes }: StrictJson,
) -> Result<Json<ShareJson>, Problem> {
    let id = share_id(&id)?;
    let seconds = object.positive("expires_in_seconds")?.ok_or_else(|| object.wrong("expires_in_seconds", "is missing"))?;
    object.finish()?;
    let wish = wish(&[b"extend", id.as_str().as_bytes(), &bytes]);
    let (doer, actor) = (side.clone(), caller.clone());
    // Where it is not known whether it was done, doing it again from now is what was meant.
    let work = move |Attempt { is_done, .. }: Attempt| async move {
        let view = view_of(&doer, id).await?;
        if is_done {
            return Ok(view);
        }
        doer.audit(&actor, "share.extend", id.as_str(), &format!("{seconds} s from now")).await?;
        Ok(doer.controller.extend(id, Duration::from_secs(seconds)).await?)
    };
    let view = side.once.run(&headers, wish, vec![id.to_string()], side.clock.now(), work).await?;
    Ok(json_of(&side, &caller, &view))
}

/// Answers `POST /api/v1/shares/{id}/reopen`: with a new link, or with `undo` as if it had not been closed.
pub(super) async fn reopen(
    State(side): State<Arc<OwnerSide>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
    OptionalJson(StrictJson { mut object, .. }): OptionalJson,
) -> Result<Json<ShareJson>, Problem> {
    let id = share_id(&id)?;
    let is_undo = object.flag("undo")?;
    object.finish()?;
    let intent = side.controller.intend(Some(id));
    if is_undo {
        return undo(&side, &caller, &headers, id, intent).await;
    }
    let wish = wish(&[b"reopen", id.as_str().as_bytes()]);
    let (doer, actor) = (side.clone(), caller.clone());
    // The new link's id tells whether an earlier attempt got through: nothing else gives a share that link.
    let work = move |Attempt { ids, is_done, .. }: Attempt| async move {
        let link = ids.first().and_then(|link| link.parse().ok()).unwrap_or_else(random::token_id);
        let view = view_of(&doer, id).await?;
        if is_done || view.share.link == link {
            return Ok(view);
        }
        doer.audit(&actor, "share.reopen", id.as_str(), &view.share.file.path.to_text()).await?;
        Ok(doer.controller.reopen_as(id, link, &intent).await?)
    };
    let view = side.once.run(&headers, wish, vec![random::token_id().to_string()], side.clock.now(), work).await?;
    Ok(json_of(&side, &caller, &view))
}

async fn undo(
    side: &Arc<OwnerSide>,
    caller: &Caller,
    headers: &HeaderMap,
    id: ShareId,
    intent: Intent,
) -> Result<Json<ShareJson>, Problem> {
    let wish = wish(&[b"undo", id.as_str().as_bytes()]);
    let (doer, actor) = (side.clone(), caller.clone());
    let work = move |Attempt { is_repeat, is_done, .. }: Attempt| async move {
        let view = view_of(&doer, id).await?;
        // Whoever asks again and finds it open was understood the first time.
        if is_done || is_repeat && view.share.outcome().is_none() {
            return Ok(view);
        }
        doer.audit(&actor, "share.undo", id.as_str(), &view.share.file.path.to_text()).await?;
        Ok(doer.controller.undo_as(id, &intent).await?)
    };
    let view = side.once.run(headers, wish, vec![id.to_string()], side.clock.now(), work).await?;
    Ok(json_of(side, caller, &view))
}

/// Answers `GET /api/v1/shares/{id}/qr.svg`: the link, for the camera of a phone.
pub(super) async fn qr(State(side): State<Arc<OwnerSide>>, Path(id): Path<String>) -> Result<Response, Problem> {
    let view = view_of(&side, share_id(&id)?).await?;
    let no_link = || Problem::new(StatusCode::CONFLICT, "no_link", "This share is closed and has no link.");
    let url = view.url.clone().ok_or_else(no_link)?;
    // A screen is not scratched: with the least correction the squares are larger, and cameras read it from further away.
    let code = QRBuilder::new(url).ecl(ECL::L).build().map_err(|_| {
        Problem::new(StatusCode::CONFLICT, "link_too_long", "The link is too long for a QR code; the name of the file is very long.")
    })?;
    let svg = SvgBuilder::default().margin(QR_MARGIN).to_str(&code);
    Ok(([(header::CONTENT_TYPE, "image/svg+xml")], svg).into_response())
}

/// Returns a share as it stands.
pub(in crate::http) async fn view_of(side: &OwnerSide, id: ShareId) -> Result<Arc<View>, Problem> {
    side.controller.show(id).await?.ok_or_else(|| Problem::not_found("unknown_share", format!("There is no share {id}.")))
}

fn json_of(side: &OwnerSide, caller: &Caller, view: &View) -> Json<ShareJson> {
    Json(ShareJson::new(view, side.clock.now(), caller))
}
