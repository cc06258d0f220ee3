//! The sentences that people read: pure functions of a share as it stands.
//!
//! Sentences, not codes, and none of the words of the machinery. "Delivered" is said only of bytes that the recipient is
//! known to have; what a proxy took is "sent". Times of day are written `15:42 UTC`, of another day `21 Nov 15:42 UTC`, of
//! another year `21 Nov 2025 15:42 UTC`: the owner's page finds them by that form and shows them in its own zone
//! (`web/shared/format.js`). A countdown is written `Waiting 3:40 more`, and the page lets it run.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::share::{
    Evidence, MAX_GIVEN_BACK, Moment, Obstacle, OnStall, Outcome, Phase, Reach, Share, State, Timestamp, Transfer, TransferEnd, Unprobed,
};

/// Says where a share stands at `now`, in a sentence or two for its owner.
///
/// `bytes_per_second` is the speed at the moment and `eta` how long the furthest running transfer still takes.
pub fn state_text(share: &Share, state: State, now: Moment, bytes_per_second: u64, eta: Option<Duration>) -> String {
    match state {
        State::Scheduled => match share.policy.starts {
            Some(start) => format!("Opens at {}.", time_text(start.wall, now.wall)),
            None => "Opens in a moment.".to_owned(),
        },
        State::Opening if share.opened.is_some() => "The connection was lost. Opening the door again…".to_owned(),
        State::Opening => "Opening the door…".to_owned(),
        State::Offered => offered_text(share),
        State::Transferring => transferring_text(share, bytes_per_second, eta),
        State::Waiting => waiting_text(share, now),
        State::Delivered => delivered_text(share, now),
        State::Closing | State::Closed => match share.phase {
            Phase::Closing { outcome } => format!("{} The door is closing…", ended_text(share, outcome, None, now)),
            Phase::Closed { outcome, at } => ended_text(share, outcome, Some(at.wall), now),
            Phase::Scheduled | Phase::Opening | Phase::Open => "The door is closing…".to_owned(),
        },
    }
}

/// What is said of a share that was reached.
pub const REACHED: &str = "Reached from the internet.";
/// What is said of a closed one that was not.
pub const SHUT: &str = "Looked at from the internet once it was closed: nobody gets in.";

/// Says what is not as it should be where somebody looked at a share from the internet, or why nobody did; `None` where all is well:
/// an open one is reached, a closed one is not.
pub fn reach_problem(share: &Share) -> Option<String> {
    let reach = share.reach?;
    if share.is_closed() {
        return match reach {
            Reach::Yes => Some("Closed, and its door still answers from the internet.".to_owned()),
            Reach::No(_) => None,
            Reach::NotProbed(why) => Some(unprobed_text(why).to_owned()),
        };
    }
    match reach {
        Reach::Yes => None,
        Reach::No(obstacle) => Some(format!("Open, but not yet reachable from the internet: {}.", obstacle_text(obstacle))),
        Reach::NotProbed(why) => Some(unprobed_text(why).to_owned()),
    }
}

fn obstacle_text(obstacle: Obstacle) -> &'static str {
    match obstacle {
        Obstacle::NameUnknown => "its name is not in the public DNS yet, which takes up to ten minutes for a new node",
        Obstacle::NoConnection => "nobody takes a connection at its public address",
        Obstacle::HandshakeCut => "Funnel lets nobody in (portcullis check says what the node lacks)",
        Obstacle::ForeignCertificate => "what answers there has no certificate of that name that this machine trusts",
        Obstacle::NoAnswer => "whoever takes the connection there gives no answer",
        Obstacle::OtherAnswer => "somebody else answers there",
    }
}

fn unprobed_text(why: Unprobed) -> &'static str {
    match why {
        Unprobed::Off => "Nobody looked from the internet: TAILSCALE_PROBE is off.",
        Unprobed::NoWayOut => "Nobody looked from the internet: this machine reaches no public resolver.",
        Unprobed::Busy => "Nobody looked from the internet: too many shares opened or closed at once.",
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
pub fn policy_text(share: &Share, now: Moment) -> String {
    let policy = &share.policy;
    let downloads = match policy.max_downloads {
        Some(1) => "For one download".to_owned(),
        Some(wanted) => format!("For {wanted} downloads"),
        None => "For any number of downloads".to_owned(),
    };
    let ends = time_text(share.expires.wall, now.wall);
    let open = match policy.starts {
        Some(start) => format!(", open from {} until {ends}", time_text(start.wall, now.wall)),
        None => format!(", open until {ends}"),
    };
    let networks: Vec<String> = policy.allowed_networks.iter().map(ToString::to_string).collect();
    let networks = match networks.split_last() {
        None => String::new(),
        Some((only, [])) => format!(", only from {only}"),
        Some((last, others)) => format!(", only from {} or {last}", others.join(", ")),
    };
    let each = if policy.max_downloads == Some(1) { "" } else { " each" };
    let speed = policy.max_bytes_per_second.map(|limit| format!(", at most {}/s{each}", size_text(limit))).unwrap_or_default();
    let stall = match (policy.on_stall, policy.max_downloads) {
        (OnStall::Close, Some(1)) => "; a stall closes it",
        (OnStall::Close, Some(_)) => "; a download that stalls is used up",
        (OnStall::Reopen, Some(_)) => "; a download that stalls may be started anew",
        (OnStall::Close | OnStall::Reopen, None) => "",
    };
    format!("{downloads}{open}{networks}{speed}{stall}.")
}

/// Writes a length in decimal units as people do: `1 byte`, `412 MB`, `1.9 GB`; one decimal below 10.
pub fn size_text(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return if bytes == 1 { "1 byte".to_owned() } else { format!("{bytes} bytes") };
    }
    let mut unit: u64 = 1000;
    for (index, name) in UNITS.iter().enumerate() {
        // In tenths, and rounded, so that 9.96 is written "10" and 999.6 moves on to the next unit.
        let tenths = (u128::from(bytes) * 10 + u128::from(unit) / 2) / u128::from(unit);
        if tenths < 100 {
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
        let whole = (u128::from(bytes) + u128::from(unit) / 2) / u128::from(unit);
        if whole < 1000 || index + 1 == UNITS.len() {
            return format!("{whole} {name}");
        }
        unit *= 1000;
    }
    unreachable!("the last unit takes whatever is left")
}

/// Writes a length of time in its one or two largest units: `45 seconds`, `5 minutes`, `1 hour 30 minutes`, `2 days`.
pub fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (first, second) = match seconds {
        0..60 => return counted(seconds, "second"),
        60..3600 => ((seconds / 60, "minute"), (seconds % 60, "second")),
        3600..86_400 => ((seconds / 3600, "hour"), (seconds % 3600 / 60, "minute")),
        _ => ((seconds / 86_400, "day"), (seconds % 86_400 / 3600, "hour")),
    };
    if second.0 == 0 { counted(first.0, first.1) } else { format!("{} {}", counted(first.0, first.1), counted(second.0, second.1)) }
}

/// Writes a time of day in UTC, with the date where it is not that of `now`.
pub fn time_text(at: Timestamp, now: Timestamp) -> String {
    let zoned = |time: Timestamp| jiff::Timestamp::from_millisecond(time.0).ok().map(|time| time.to_zoned(TimeZone::UTC));
    match (zoned(at), zoned(now)) {
        (Some(at), Some(now)) if at.date() == now.date() => at.strftime("%H:%M UTC").to_string(),
        (Some(at), Some(now)) if at.year() == now.year() => at.strftime("%-d %b %H:%M UTC").to_string(),
        (Some(at), _) => at.strftime("%-d %b %Y %H:%M UTC").to_string(),
        // Only a clock far outside of every calendar leads here.
        (None, _) => "an unknown time".to_owned(),
    }
}

fn offered_text(share: &Share) -> String {
    let (completed, used) = (share.completed(), share.uses_spent());
    if used > 0 {
        let others = if used > completed { format!(", {} stopped", used - completed) } else { String::new() };
        return match (share.policy.max_downloads, share.uses_left()) {
            (Some(wanted), Some(left)) => format!("{completed} of {wanted} delivered{others}. Ready for {left} more."),
            (None, _) | (_, None) => format!("{completed} delivered{others}. Ready for more."),
        };
    }
    match share.transfers.iter().rev().find(|t| matches!(t.ended, Some((TransferEnd::Stalled, _)))) {
        Some(stalled) => format!("{} The link works again.", silence_text(share, percent_of(stalled, share))),
        None => match share.transfers.len() {
            0 => "Ready. Nobody has opened it yet.".to_owned(),
            1 => "Opened once, not downloaded yet.".to_owned(),
            MAX_GIVEN_BACK.. => "Opened many times, not downloaded yet.".to_owned(),
            times => format!("Opened {times} times, not downloaded yet."),
        },
    }
}

fn transferring_text(share: &Share, bytes_per_second: u64, eta: Option<Duration>) -> String {
    let Some(furthest) = furthest_active(share) else { return "The download is ending.".to_owned() };
    let bytes = furthest.coverage.covered_bytes();
    let mut text = downloads_prefix(share);
    if bytes == 0 {
        text += "The download is starting.";
        return text;
    }
    let sent = if is_only_sent(furthest) { " sent" } else { "" };
    text += &format!("{} of {}{sent}", size_text(bytes), size_text(share.file.size_bytes()));
    if bytes_per_second > 0 {
        text += &format!(" · {}/s", size_text(bytes_per_second));
        if let Some(eta) = eta {
            text += &format!(" · {}", eta_text(eta));
        }
    }
    text
}

/// Tells which of several downloads is spoken of; nothing where the share is for one.
fn downloads_prefix(share: &Share) -> String {
    let of_all = match share.policy.max_downloads {
        Some(1) => return String::new(),
        Some(wanted) => format!(" of {wanted}"),
        None => String::new(),
    };
    match share.transfers.iter().filter(|t| t.is_active()).count() {
        1 => format!("Download {}{of_all}: ", share.uses_spent()),
        running => format!("{running} downloads are running, the furthest: "),
    }
}

fn waiting_text(share: &Share, now: Moment) -> String {
    let waiting = match share.deadline() {
        Some(deadline) => format!("Waiting {} more.", countdown_text(deadline.at.since(now.steady))),
        None => "Waiting.".to_owned(),
    };
    let Some(furthest) = furthest_active(share) else { return waiting };
    let prefix = downloads_prefix(share);
    let percent = percent_of(furthest, share);
    if !furthest.begun {
        format!("{prefix}The button was pressed, the download has not begun. {waiting}")
    } else if furthest.open_requests() > 0 {
        format!("{prefix}Paused by the other side at {percent} %. {waiting}")
    } else {
        format!("{prefix}Cut off at {percent} %. It can go on from there. {waiting}")
    }
}

fn delivered_text(share: &Share, now: Moment) -> String {
    let until = match share.deadline() {
        Some(deadline) => format!(" The door closes at {}.", time_text(now.wall.plus(deadline.at.since(now.steady)), now.wall)),
        None => String::new(),
    };
    format!("{}{until}", completed_text(share, now))
}

/// Tells what was delivered and when: the sentence that delivery and completion share.
fn completed_text(share: &Share, now: Moment) -> String {
    let kept = share.transfers.iter().filter(|t| t.is_completed());
    let ends = kept.clone().filter_map(|t| t.ended.map(|(_, at)| at)).chain(share.folded.last_completed);
    let Some(last) = ends.max_by_key(|at| at.steady) else { return "Nothing more can be downloaded.".to_owned() };
    let word = if share.folded.is_only_sent || kept.clone().any(is_only_sent) { "Sent" } else { "Delivered" };
    let at = time_text(last.wall, now.wall);
    let size = match share.file.size_bytes() {
        0 => "an empty file".to_owned(),
        size => format!("all {}", size_text(size)),
    };
    match share.policy.max_downloads {
        Some(1) => format!("{word} {at}, {size}."),
        Some(wanted) => format!("{word} {} of {wanted}, the last {at}, {size} each.", share.completed()),
        None if share.completed() == 1 => format!("{word} once, {at}, {size}."),
        None => format!("{word} {} times, the last {at}, {size} each.", share.completed()),
    }
}

fn ended_text(share: &Share, outcome: Outcome, closed: Option<Timestamp>, now: Moment) -> String {
    let percent = share.percent();
    let begun = share.folded.count() > 0 || share.transfers.iter().any(|t| t.begun);
    match outcome {
        Outcome::Completed => completed_text(share, now),
        Outcome::Expired if share.transfers.is_empty() && share.folded.count() == 0 => "Expired unused.".to_owned(),
        Outcome::Expired if begun => format!("Expired. The download had stopped at {percent} %."),
        Outcome::Expired => "Expired. It was opened, but nobody downloaded it.".to_owned(),
        Outcome::TimedOut => format!("Stopped at {percent} %: the time was up."),
        Outcome::Stalled => silence_text(share, percent),
        Outcome::Revoked => {
            let at = closed.map(|at| format!(" at {}", time_text(at, now.wall))).unwrap_or_default();
            if share.percent() == 100 && share.is_spent() && share.transfers.iter().all(|t| t.given_back || t.is_completed()) {
                format!("{} You closed the door{at}.", completed_text(share, now))
            } else {
                format!("You closed it{at} ({}).", how_much_text(share))
            }
        }
        Outcome::SourceChanged if begun => {
            "The file changed on the NAS while it was being sent. Stopped, so nobody gets a mixed file.".to_owned()
        }
        Outcome::SourceChanged => {
            "The file changed on the NAS after you shared it. Closed, so nobody gets another file than you meant.".to_owned()
        }
        Outcome::Failed if share.opened.is_some() => "The connection was lost and the door could not be opened again.".to_owned(),
        Outcome::Failed => "The door could not be opened. Nobody could reach the file.".to_owned(),
    }
}

fn silence_text(share: &Share, percent: u8) -> String {
    format!("Stopped at {percent} %: no data for {}.", duration_text(share.policy.limits.stall_timeout))
}

fn how_much_text(share: &Share) -> String {
    let Some(furthest) = share.furthest_transfer().filter(|t| t.begun) else { return "nothing sent".to_owned() };
    match share.policy.max_downloads {
        Some(1) => {}
        Some(wanted) => return format!("{} of {wanted} delivered", share.completed()),
        None => return format!("{} delivered", share.completed()),
    }
    let word = if is_only_sent(furthest) { "sent" } else { "delivered" };
    match share.percent() {
        100 => format!("all of it {word}"),
        0 => format!("less than 1 % {word}"),
        percent => format!("{percent} % {word}"),
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

fn eta_text(eta: Duration) -> String {
    match eta.as_secs() {
        0..10 => "a few seconds left".to_owned(),
        seconds @ 10..60 => format!("about {} s left", seconds / 10 * 10),
        seconds @ 60..5400 => format!("about {} min left", (seconds + 30) / 60),
        seconds @ 5400..172_800 => format!("about {} h left", (seconds + 1800) / 3600),
        seconds => format!("about {} days left", (seconds + 43_200) / 86_400),
    }
}

fn countdown_text(left: Duration) -> String {
    let seconds = left.as_secs();
    match seconds / 3600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds % 3600 / 60, seconds % 60),
    }
}

fn counted(n: u64, word: &str) -> String {
    if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") }
}

#[cfg(test)]
mod tests;
