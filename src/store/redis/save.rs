//! A decision, as the script `save.lua` takes it.

use super::reply;
use super::scripts::Args;
use super::writer::Done;
use crate::share::{Fact, Phase, Share};
use crate::store::shared::{Basis, ControllerNumber, Hold, Written};
use crate::store::stats::{Day, Series, Tick, ticks_of};
use crate::store::{Save, StoreError, folded, kind_in};

/// Who saves, and on what it was decided.
pub(super) enum By {
    /// Nobody who shares.
    Anybody,
    /// A controller.
    Controller(ControllerNumber, Basis),
}

/// Writes down a save. `write` tells it from every other.
pub(super) fn args(save: &Save, by: &By, write: String) -> Args {
    let share = &save.share;
    let (closed_ms, state) = state_of(share);
    let closed_ms = closed_ms.map(|at| at.to_string()).unwrap_or_default();
    let takes = save.facts.iter().any(|fact| matches!(fact, Fact::Created | Fact::Reopened | Fact::Undone));
    let (by, version, fence, takes) = match by {
        By::Anybody => (0, String::new(), String::new(), false),
        By::Controller(me, basis) => {
            (me.0, basis.version.to_string(), basis.fence.map(|fence| fence.to_string()).unwrap_or_default(), takes)
        }
    };
    let (path, card) = (share.file.path.to_text(), card_of(share));
    let mut args = vec![share.id.to_string(), write, by.to_string(), version, fence, u8::from(takes).to_string()];
    args.extend([state.to_owned(), closed_ms, share.link.to_string(), share.policy.uses_max().to_string()]);
    args.extend([save.at.wall.0, save.at.steady.0, share.created.steady.0, share.created.wall.0].map(|n| n.to_string()));
    args.extend([card, serde_json::to_string(&**share).expect("a share has a JSON form")]);
    args.push(save.facts.len().to_string());
    for fact in &save.facts {
        let body = serde_json::to_string(fact).expect("a fact has a JSON form");
        args.extend([rule(fact).to_owned(), kind_in(&body).to_owned(), body]);
    }
    let day = Day::of(save.at.wall);
    let ticks: Vec<Tick> = save.facts.iter().flat_map(|fact| ticks_of(fact, &path)).collect();
    let counted: Vec<_> = ticks.iter().flat_map(|tick| Series::of(tick.kind, day).map(move |place| (place, tick))).collect();
    args.push(counted.len().to_string());
    for ((series, place), tick) in counted {
        let most = Some(series.most_names()).filter(|most| *most < usize::MAX).map(|most| most.to_string()).unwrap_or_default();
        args.extend([series.as_str().to_owned(), place.0.to_string(), most, tick.name.clone()]);
        args.extend([tick.count.times, tick.count.bytes].map(|n| n.to_string()));
    }
    args.into_iter().map(String::into_bytes).collect()
}

/// Returns when a share closed, by the wall clock in milliseconds, and how, in the script's words.
pub(super) fn state_of(share: &Share) -> (Option<i64>, &'static str) {
    match share.phase {
        Phase::Closed { outcome, at } => (Some(at.wall.0), outcome.as_str()),
        Phase::Scheduled | Phase::Opening | Phase::Open | Phase::Closing { .. } => (None, "-"),
    }
}

/// Returns what a share is found by in pages; nothing for one that is in none, and never nothing for a file of the NAS.
pub(super) fn card_of(share: &Share) -> String {
    if share.file.is_self_test() { String::new() } else { folded(&share.file.path.to_text()) }
}

/// Returns what a fact does to the ledger, in the script's words.
fn rule(fact: &Fact) -> &'static str {
    match fact {
        Fact::Created => "created",
        Fact::Reopened => "entered",
        Fact::Undone => "undone",
        Fact::Redeemed { .. } => "redeemed",
        Fact::Ended { given_back: true, .. } => "given_back",
        Fact::Closing { .. } => "closing",
        Fact::Ended { given_back: false, .. }
        | Fact::Opened
        | Fact::TunnelLost
        | Fact::Probed { .. }
        | Fact::Extended { .. }
        | Fact::Delivered
        | Fact::Closed { .. }
        | Fact::Began { .. } => "",
    }
}

/// Reads what came of a save of so many facts.
pub(super) fn written(done: &Done, facts: usize) -> Result<Written, StoreError> {
    match reply::word(&done.values) {
        "ok" => {}
        "spent" => return Err(StoreError::Spent),
        "conflict" => return Err(StoreError::Conflict),
        "overtaken" => return Err(StoreError::Overtaken),
        "exists" => return Err(StoreError::unavailable("a share of this id exists already")),
        "entered" => return Err(StoreError::unavailable("this link was entered before")),
        _ => return Err(reply::strange()),
    }
    let number = |at: usize| done.values.get(at).and_then(reply::number::<u64>).ok_or_else(reply::strange);
    let (first, version, watcher, fence) = (number(1)?, number(2)?, number(3)?, number(4)?);
    let watcher = ControllerNumber(u16::try_from(watcher).map_err(|_| reply::strange())?);
    Ok(Written { numbers: (first..first + facts as u64).collect(), hold: Hold { version, watcher, fence } })
}
