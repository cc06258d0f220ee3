//! Who took a share: each exercise of its link.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, State};
use serde_json::{Value, json};

use super::OwnerSide;
use super::query::{share_id, transfer_id};
use super::shares::view_of;
use super::wire::TransferJson;
use crate::controller::View;
use crate::http::auth::Caller;
use crate::http::problem::Problem;

/// Answers `GET /api/v1/shares/{id}/transfers`. A share has a bounded number of them, so there is one page.
pub(super) async fn list(State(side): State<Arc<OwnerSide>>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    Ok(json_of(&*view_of(&side, share_id(&id)?).await?))
}

/// Answers `DELETE /api/v1/shares/{id}/transfers/{transfer}`; twice is fine.
pub(super) async fn stop(
    State(side): State<Arc<OwnerSide>>,
    Extension(caller): Extension<Caller>,
    Path((id, transfer)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    let (id, transfer) = (share_id(&id)?, transfer_id(&transfer)?);
    side.audit(&caller, "transfer.stop", &transfer.to_string(), &format!("share {id}")).await?;
    let view = side.controller.stop_transfer(id, transfer).await?;
    Ok(json_of(&view))
}

fn json_of(view: &View) -> Json<Value> {
    let transfers: Vec<TransferJson> = view.share.transfers.iter().map(|transfer| TransferJson::new(view, transfer)).collect();
    Json(json!({ "transfers": transfers }))
}
