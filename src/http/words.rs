//! The sentences that people read: pure functions of a share as it stands, in the reader's language.
//!
//! Sentences, not codes, and none of the words of the machinery. "Delivered" is said only of bytes that the recipient is
//! known to have; what a proxy took is "sent". The words stand in `web/words/`, one list for each language (`catalogue.rs`).
//! Times of day are written `15:42 UTC`, of another day `21 Nov 15:42 UTC`, of another year `21 Nov 2025 15:42 UTC`: the
//! owner's page finds them by that form and shows them in its own zone (`web/shared/format.js`). What runs down is written
//! `3:40`, and the page lets it run.

mod catalogue;
mod language;
mod units;

use std::time::Duration;

pub use catalogue::{Counted, Phrase, RecipientWords, Words, pages_words, text_named, words};
pub use language::Language;

use crate::share::{
    Evidence, Looks, MAX_GIVEN_BACK, Moment, Obstacle, OnStall, Outcome, Phase, Reach, Share, State, Timestamp, Transfer, TransferEnd,
    Unprobed,
};

/// Writes a length in English, for diagnostics; see `Units::size`.
pub fn size_text(bytes: u64) -> String {
    words(Language::English).units.size(bytes)
}

/// Writes a length of time in English, for diagnostics; see `Units::duration`.
pub fn duration_text(duration: Duration) -> String {
    words(Language::English).units.duration(duration)
}

/// Writes a time of day in English, for diagnostics; see `Units::time`.
pub fn time_text(at: Timestamp, now: Timestamp) -> String {
    words(Language::English).units.time(at, now)
}

/// Says where a share stands at `now`, in a sentence or two for its owner.
///
/// `bytes_per_second` is the speed at the moment and `eta` how long the furthest running transfer still takes.
pub fn state_text(words: &Words, share: &Share, state: State, now: Moment, bytes_per_second: u64, eta: Option<Duration>) -> String {
    let says = &words.state;
    match state {
        State::Scheduled => match share.policy.starts {
            Some(start) => says.opens_at.fill(&[("time", &words.units.time(start.wall, now.wall))]),
            None => says.opens_soon.text().to_owned(),
        },
        State::Opening if share.opened.is_some() => says.lost.text().to_owned(),
        State::Opening => says.opening.text().to_owned(),
        State::Offered => offered_text(words, share),
        State::Transferring => transferring_text(words, share, bytes_per_second, eta),
        State::Waiting => waiting_text(words, share, now),
        State::Delivered => delivered_text(words, share, now),
        State::Closing | State::Closed => match share.phase {
            Phase::Closing { outcome } => format!("{} {}", ended_text(words, share, outcome, None, now), says.closing.text()),
            Phase::Closed { outcome, at } => ended_text(words, share, outcome, Some(at.wall), now),
            Phase::Scheduled | Phase::Opening | Phase::Open => says.closing.text().to_owned(),
        },
    }
}

/// Says that a share was reached from the internet, or of a closed one that nobody gets in.
pub fn reach_text(words: &Words, is_closed: bool) -> &str {
    if is_closed { &words.reach.shut } else { &words.reach.reached }.text()
}

/// Says what is not as it should be where somebody looked at a share from the internet, or why nobody did; `None` where all is well:
/// an open one is reached, a closed one is not.
pub fn reach_problem(words: &Words, share: &Share) -> Option<String> {
    let says = &words.reach;
    let phrase = match (share.reach?, share.is_closed()) {
        (Reach::Yes, true) => &says.still_answers,
        (Reach::Yes, false) | (Reach::No(_), true) => return None,
        (Reach::No(obstacle), false) => return Some(says.not_yet.fill(&[("why", &obstacle_phrase(words, obstacle).text())])),
        (Reach::NotProbed(Unprobed::Off), _) => &says.off,
        (Reach::NotProbed(Unprobed::NoWayOut), _) => &says.no_way_out,
        (Reach::NotProbed(Unprobed::Busy), _) => &says.busy,
    };
    Some(phrase.text().to_owned())
}

fn obstacle_phrase(words: &Words, obstacle: Obstacle) -> &Phrase {
    let says = &words.reach;
    match obstacle {
        Obstacle::NameUnknown => &says.name_unknown,
        Obstacle::NoConnection => &says.no_connection,
        Obstacle::HandshakeCut => &says.handshake_cut,
        Obstacle::ForeignCertificate => &says.foreign_certificate,
        Obstacle::NoAnswer => &says.no_answer,
        Obstacle::OtherAnswer => &says.other_answer,
    }
}

/// Returns the word for where a transfer stands, as JSON has it.
pub fn transfer_state(transfer: &Transfer) -> &'static str {
    match transfer.ended {
        None if !transfer.begun => "redeemed",
        None if transfer.open_requests() > 0 => "transferring",
        None => "waiting",
        Some((TransferEnd::Completed, _)) => "completed",
        Some((TransferEnd::Stalled, _)) => "stalled",
        Some((TransferEnd::NeverBegan, _)) => "never_began",
        Some((TransferEnd::Stopped, _)) => "stopped",
        Some((TransferEnd::Cut, _)) => "cut",
    }
}

/// Says the whole policy of a share in one sentence.
pub fn policy_text(words: &Words, share: &Share, now: Moment) -> String {
    let (policy, says) = (&share.policy, &words.policy);
    let downloads = match policy.max_downloads {
        Some(wanted) => says.downloads.of(wanted.into()),
        None => says.any_downloads.text().to_owned(),
    };
    let end = words.units.time(share.expires.wall, now.wall);
    let open = match policy.starts {
        Some(start) => says.from_until.fill(&[("start", &words.units.time(start.wall, now.wall)), ("end", &end)]),
        None => says.until.fill(&[("end", &end)]),
    };
    let networks: Vec<String> = policy.allowed_networks.iter().map(ToString::to_string).collect();
    let networks = match networks.split_last() {
        None => String::new(),
        Some((only, [])) => says.only_from.fill(&[("networks", only)]),
        Some((last, others)) => says.only_from.fill(&[("networks", &says.or.fill(&[("first", &others.join(", ")), ("last", last)]))]),
    };
    let limit = if policy.max_downloads == Some(1) { &says.speed } else { &says.speed_each };
    let speed = policy.max_bytes_per_second.map(|bytes| limit.fill(&[("speed", &words.units.size(bytes))])).unwrap_or_default();
    let stall = match (policy.on_stall, policy.max_downloads) {
        (OnStall::Close, Some(1)) => says.stall_closes.text(),
        (OnStall::Close, Some(_)) => says.stall_uses_up.text(),
        (OnStall::Reopen, Some(_)) => says.stall_reopens.text(),
        (OnStall::Close | OnStall::Reopen, None) => "",
    };
    format!("{downloads}{open}{networks}{speed}{stall}.")
}

fn offered_text(words: &Words, share: &Share) -> String {
    let says = &words.state;
    let (completed, used) = (share.completed(), share.uses_spent());
    if used > 0 {
        let stopped = used.saturating_sub(completed);
        return match (share.policy.max_downloads, share.uses_left()) {
            (Some(wanted), Some(left)) => {
                let phrase = if stopped > 0 { &says.some_delivered_some_stopped } else { &says.some_delivered };
                phrase.fill(&[("completed", &completed), ("wanted", &wanted), ("stopped", &stopped), ("left", &left)])
            }
            (None, _) | (_, None) => {
                let phrase = if stopped > 0 { &says.any_delivered_some_stopped } else { &says.any_delivered };
                phrase.fill(&[("completed", &completed), ("stopped", &stopped)])
            }
        };
    }
    match share.transfers.iter().rev().find(|t| matches!(t.ended, Some((TransferEnd::Stalled, _)))) {
        Some(stalled) => format!("{} {}", silence_text(words, share, percent_of(stalled, share)), says.works_again.text()),
        None => match share.transfers.len() {
            0 => looks_text(words, share.looks).unwrap_or_else(|| says.ready.text().to_owned()),
            1 => says.opened_once.text().to_owned(),
            MAX_GIVEN_BACK.. => says.opened_often.text().to_owned(),
            times => says.opened_times.fill(&[("n", &times)]),
        },
    }
}

/// Says who looked at the page of a link that nobody took; `None` where nobody did. Previews look by themselves, so they are
/// spoken of only where nobody else looked.
fn looks_text(words: &Words, looks: Looks) -> Option<String> {
    let says = &words.looks;
    match (looks.people, looks.previews) {
        (0, 0) => None,
        (0, previews) => Some(says.previews.of(previews.into())),
        (1, _) => Some(says.once.text().to_owned()),
        (2, _) => Some(says.twice.text().to_owned()),
        (people, _) => Some(says.times.fill(&[("n", &people)])),
    }
}

fn transferring_text(words: &Words, share: &Share, bytes_per_second: u64, eta: Option<Duration>) -> String {
    let (says, units) = (&words.state, &words.units);
    let Some(furthest) = furthest_active(share) else { return says.ending.text().to_owned() };
    let bytes = furthest.coverage.covered_bytes();
    let mut text = downloads_prefix(words, share);
    if bytes == 0 {
        text += says.starting.text();
        return text;
    }
    let part = if is_only_sent(furthest) { &says.part_sent } else { &says.part };
    text += &part.fill(&[("bytes", &units.size(bytes)), ("size", &units.size(share.file.size_bytes()))]);
    if bytes_per_second > 0 {
        text += &format!(" · {}/s", units.size(bytes_per_second));
        if let Some(eta) = eta {
            text += &format!(" · {}", eta_text(words, eta));
        }
    }
    text
}

/// Tells which of several downloads is spoken of; nothing where the share is for one.
fn downloads_prefix(words: &Words, share: &Share) -> String {
    let says = &words.state;
    if share.policy.max_downloads == Some(1) {
        return String::new();
    }
    match (share.transfers.iter().filter(|t| t.is_active()).count(), share.policy.max_downloads) {
        (1, Some(wanted)) => says.download_of.fill(&[("n", &share.uses_spent()), ("wanted", &wanted)]),
        (1, None) => says.download.fill(&[("n", &share.uses_spent())]),
        (running, _) => says.downloads.fill(&[("n", &running)]),
    }
}

fn waiting_text(words: &Words, share: &Share, now: Moment) -> String {
    let says = &words.state;
    let waiting = match share.deadline() {
        Some(deadline) => says.waiting_more.fill(&[("countdown", &countdown_text(deadline.at.since(now.steady)))]),
        None => says.waiting.text().to_owned(),
    };
    let Some(furthest) = furthest_active(share) else { return waiting };
    let phrase = match (furthest.begun, furthest.open_requests()) {
        (false, _) => says.not_begun.text().to_owned(),
        (true, 0) => says.cut_off.fill(&[("percent", &percent_of(furthest, share))]),
        (true, _) => says.paused.fill(&[("percent", &percent_of(furthest, share))]),
    };
    format!("{}{phrase} {waiting}", downloads_prefix(words, share))
}

fn delivered_text(words: &Words, share: &Share, now: Moment) -> String {
    let completed = completed_text(words, share, now);
    let Some(deadline) = share.deadline() else { return completed };
    let at = words.units.time(now.wall.plus(deadline.at.since(now.steady)), now.wall);
    format!("{completed} {}", words.state.door_closes_at.fill(&[("time", &at)]))
}

/// Tells what was delivered and when: the sentence that delivery and completion share.
fn completed_text(words: &Words, share: &Share, now: Moment) -> String {
    let says = &words.state;
    let kept = share.transfers.iter().filter(|t| t.is_completed());
    let ends = kept.clone().filter_map(|t| t.ended.map(|(_, at)| at)).chain(share.folded.last_completed);
    let Some(last) = ends.max_by_key(|at| at.steady) else { return says.nothing_more.text().to_owned() };
    let is_sent = share.folded.is_only_sent || kept.clone().any(is_only_sent);
    let choose = |sent, delivered| if is_sent { sent } else { delivered };
    let time = words.units.time(last.wall, now.wall);
    let all = match share.file.size_bytes() {
        0 => says.empty_file.text().to_owned(),
        size => says.all_of.fill(&[("size", &words.units.size(size))]),
    };
    let n = share.completed();
    match share.policy.max_downloads {
        Some(1) => choose(&says.sent, &says.delivered).fill(&[("time", &time), ("all", &all)]),
        Some(wanted) => choose(&says.sent_of, &says.delivered_of).fill(&[("n", &n), ("wanted", &wanted), ("time", &time), ("all", &all)]),
        None if n == 1 => choose(&says.sent_once, &says.delivered_once).fill(&[("time", &time), ("all", &all)]),
        None => choose(&says.sent_times, &says.delivered_times).fill(&[("n", &n), ("time", &time), ("all", &all)]),
    }
}

fn ended_text(words: &Words, share: &Share, outcome: Outcome, closed: Option<Timestamp>, now: Moment) -> String {
    let says = &words.state;
    let percent = share.percent();
    let begun = share.folded.count() > 0 || share.transfers.iter().any(|t| t.begun);
    let phrase = match outcome {
        Outcome::Completed => return completed_text(words, share, now),
        Outcome::Expired if share.transfers.is_empty() && share.folded.count() == 0 => &says.expired_unused,
        Outcome::Expired if begun => return says.expired_stopped.fill(&[("percent", &percent)]),
        Outcome::Expired => &says.expired_opened,
        Outcome::TimedOut => return says.timed_out.fill(&[("percent", &percent)]),
        Outcome::Stalled => return silence_text(words, share, percent),
        Outcome::Revoked => return revoked_text(words, share, closed, now),
        Outcome::SourceChanged if begun => &says.changed_while_sent,
        Outcome::SourceChanged => &says.changed,
        Outcome::Failed if share.opened.is_some() => &says.failed_again,
        Outcome::Failed => &says.failed,
    };
    phrase.text().to_owned()
}

fn revoked_text(words: &Words, share: &Share, closed: Option<Timestamp>, now: Moment) -> String {
    let says = &words.state;
    let at = closed.map(|at| words.units.time(at, now.wall));
    if share.percent() == 100 && share.is_spent() && share.transfers.iter().all(|t| t.given_back || t.is_completed()) {
        let door = match &at {
            Some(at) => says.closed_door_at.fill(&[("time", at)]),
            None => says.closed_door.text().to_owned(),
        };
        return format!("{} {door}", completed_text(words, share, now));
    }
    let how_much = how_much_text(words, share);
    match &at {
        Some(at) => says.closed_at.fill(&[("time", at), ("how_much", &how_much)]),
        None => says.closed.fill(&[("how_much", &how_much)]),
    }
}

fn silence_text(words: &Words, share: &Share, percent: u8) -> String {
    words.state.stalled.fill(&[("percent", &percent), ("duration", &words.units.duration(share.policy.limits.stall_timeout))])
}

fn how_much_text(words: &Words, share: &Share) -> String {
    let says = &words.state;
    let Some(furthest) = share.furthest_transfer().filter(|t| t.begun) else { return says.nothing_sent.text().to_owned() };
    match share.policy.max_downloads {
        Some(1) => {}
        Some(wanted) => return says.number_of_delivered.fill(&[("n", &share.completed()), ("wanted", &wanted)]),
        None => return says.number_delivered.fill(&[("n", &share.completed())]),
    }
    let choose = |sent, delivered| if is_only_sent(furthest) { sent } else { delivered };
    match share.percent() {
        100 => choose(&says.all_sent, &says.all_delivered).text().to_owned(),
        0 => choose(&says.little_sent, &says.little_delivered).text().to_owned(),
        percent => choose(&says.percent_sent, &says.percent_delivered).fill(&[("percent", &percent)]),
    }
}

fn furthest_active(share: &Share) -> Option<&Transfer> {
    share.transfers.iter().filter(|t| t.is_active()).max_by_key(|t| t.coverage.covered_bytes())
}

fn is_only_sent(transfer: &Transfer) -> bool {
    transfer.coverage.weakest_evidence() == Some(Evidence::HandedOver)
}

fn percent_of(transfer: &Transfer, share: &Share) -> u8 {
    transfer.percent(share.file.size_bytes())
}

/// Says how long something still takes, as well as that can be known.
pub fn eta_text(words: &Words, eta: Duration) -> String {
    let says = &words.state;
    match eta.as_secs() {
        0..10 => says.few_seconds_left.text().to_owned(),
        seconds @ 10..60 => says.seconds_left.fill(&[("n", &(seconds / 10 * 10))]),
        seconds @ 60..5400 => says.minutes_left.fill(&[("n", &((seconds + 30) / 60))]),
        seconds @ 5400..172_800 => says.hours_left.fill(&[("n", &((seconds + 1800) / 3600))]),
        seconds => says.days_left.fill(&[("n", &((seconds + 43_200) / 86_400))]),
    }
}

fn countdown_text(left: Duration) -> String {
    let seconds = left.as_secs();
    match seconds / 3600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds % 3600 / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests;
