//! The JSON of answers. Times are RFC 3339 in UTC, sizes are bytes, names of files are text forms that can be sent back.

use serde::Serialize;
use utoipa::ToSchema;

use super::openapi::schema;
use crate::catalog::{Entry, EntryKind, IndexState, mime_type};
use crate::controller::View;
use crate::http::auth::Caller;
use crate::http::words;
use crate::share::{
    CatalogPath, Clamped, Evidence, Moment, Network, OnStall, Outcome, Phase, Reach, Share, State, Timestamp, Transfer, TransferEnd,
    TransferId,
};
use crate::store::Day;

/// Writes a time as RFC 3339 has it; one beyond the calendar as its nearest end.
pub(in crate::http) fn time(at: Timestamp) -> String {
    let nearest = if at.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    jiff::Timestamp::from_millisecond(at.0).unwrap_or(nearest).to_string()
}

/// Writes a day in UTC as `2026-11-01`.
pub(super) fn day(day: Day) -> String {
    let midnight = Timestamp(day.0.saturating_mul(24 * 3600 * 1000));
    jiff::Timestamp::from_millisecond(midnight.0).unwrap_or(jiff::Timestamp::MAX).strftime("%Y-%m-%d").to_string()
}

/// Writes bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The most running transfers that the JSON of a share tells of; `GET /api/v1/shares/{id}/transfers` has all.
const MAX_ACTIVE: usize = 3;

/// A share: one file, offered to one recipient or several for a limited time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Share)]
pub(super) struct ShareJson {
    /// Names the share in every other request.
    #[schema(examples("4mq8x2k9tz"))]
    id: String,
    /// Where it stands.
    #[schema(schema_with = schema::state)]
    state: State,
    /// The same as a sentence for people.
    #[schema(examples("Ready. Nobody has opened it yet."))]
    state_text: String,
    /// How it ended; `null` while it has not.
    #[schema(schema_with = schema::outcome_or_null)]
    outcome: Option<Outcome>,
    /// Which file, as the list of files names it.
    #[schema(examples("films/holiday.mp4"))]
    path: String,
    /// The last part of the path, for people.
    #[schema(examples("holiday.mp4"))]
    name: String,
    /// How long the file is.
    size_bytes: u64,
    /// The file's SHA-256 in hexadecimal digits, once it is known.
    sha256: Option<String>,
    /// By which rules it is shared.
    policy: PolicyJson,
    /// The rules as one sentence for people.
    policy_text: String,
    /// Which wishes were cut to what the operator allows.
    #[schema(schema_with = schema::clamped)]
    clamped: Vec<Clamped>,
    /// The link; `null` once the share is closed, and for credentials of the scope `read`.
    #[schema(format = "uri")]
    url: Option<String>,
    /// A line for a shell that downloads it, and goes on where it stopped when it is run again.
    curl: Option<String>,
    /// The way in.
    tunnel: TunnelJson,
    /// How far the transfer is that is furthest.
    progress: ProgressJson,
    /// How often the link was redeemed.
    transfers: u64,
    /// Who downloads it at the moment: the three that came first of those who have not ended.
    #[schema(max_items = 3)]
    active: Vec<ActiveJson>,
    /// How often the page of its link was looked at. Told at most twice a second; a crash may forget the last seconds of it.
    looks: LooksJson,
    #[schema(format = "date-time")]
    created_at: String,
    /// When the link ends.
    #[schema(format = "date-time")]
    expires_at: String,
    #[schema(format = "date-time")]
    closed_at: Option<String>,
    /// Until when the close can be taken back (`POST …/reopen` with `undo`); `null`: it cannot.
    #[schema(format = "date-time")]
    undo_until: Option<String>,
    /// Until when the present state lasts if nothing happens, where that can be said.
    #[schema(format = "date-time")]
    until: Option<String>,
    /// For the owner's eyes.
    note: Option<String>,
    /// Shown to the recipient on the link's page.
    message: Option<String>,
}

/// How often the page of a link was looked at.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Looks)]
struct LooksJson {
    /// By programs that fetch links ahead of people: chats' previews, mails' scanners, browsers that prefetch.
    previews: u32,
    /// By browsers. A scanner that calls itself one counts as one.
    people: u32,
}

/// A transfer that has not ended, in short.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Active)]
struct ActiveJson {
    /// Names the transfer where it is stopped.
    #[schema(value_type = String)]
    id: TransferId,
    /// Where it stands.
    #[schema(schema_with = schema::transfer_state)]
    state: &'static str,
    /// What the recipient's program calls itself.
    agent: String,
    /// From where it came, where that is known.
    address: Option<String>,
    #[schema(maximum = 100)]
    percent: u8,
    bytes_per_second: u64,
}

/// By which rules a file is shared.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Policy)]
struct PolicyJson {
    /// How many downloads; `null`: unlimited until expiry.
    max_downloads: Option<u32>,
    /// How long the link lives, counted from when it was made, extended or opened again.
    expires_in_seconds: u64,
    /// What a transfer that stalls does: it closes the share, or gives its use back.
    #[schema(schema_with = schema::on_stall)]
    on_stall: OnStall,
    /// From when on the link works; `null`: at once.
    #[schema(format = "date-time")]
    starts_at: Option<String>,
    /// From which networks it may be redeemed; none: from everywhere.
    #[schema(value_type = Vec<String>)]
    allowed_networks: Vec<Network>,
    /// How fast each transfer may be; `null`: as fast as it goes.
    max_bytes_per_second: Option<u64>,
}

/// The way in to a share.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Tunnel)]
struct TunnelJson {
    /// What opens it.
    #[schema(examples("direct"))]
    backend: &'static str,
    /// Where it stands.
    #[schema(schema_with = schema::tunnel_state)]
    state: &'static str,
    #[schema(format = "date-time")]
    opened_at: Option<String>,
    /// Why it is not open, where it should be.
    problem: Option<String>,
    /// Whether somebody who looked from the internet got in; of a closed share, whether anybody still does. `null` where nobody has
    /// looked yet, and with a way in that nobody looks at.
    #[schema(schema_with = schema::reach_or_null)]
    reachable: Option<&'static str>,
    /// What is not as it should be, or why nobody looked, as a sentence for people.
    #[schema(examples(
        "Open, but not yet reachable from the internet: its name is not in the public DNS yet, which takes up to ten minutes for a new node."
    ))]
    reach_problem: Option<String>,
}

/// How far a share's furthest transfer is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Progress)]
struct ProgressJson {
    /// How many of the file's bytes arrived, each counted once.
    delivered_bytes: u64,
    size_bytes: u64,
    /// 100 only when every byte arrived.
    #[schema(maximum = 100)]
    percent: u8,
    /// How sure that is: `confirmed` by the recipient's program, `acknowledged` by its system, `handed_over` to a proxy.
    #[schema(schema_with = schema::evidence_or_null)]
    evidence: Option<Evidence>,
    /// How fast bytes arrive at the moment, over all transfers.
    bytes_per_second: u64,
    /// How long it still takes at that speed.
    eta_seconds: Option<u64>,
}

impl ShareJson {
    /// Writes down what a view holds at `now`, with sentences in the caller's language and without what they may not see:
    /// whoever has a link can download.
    pub(super) fn new(view: &View, now: Moment, caller: &Caller) -> Self {
        let words = words::words(caller.language);
        let url = view.url.as_ref().filter(|_| caller.sees_links());
        let share: &Share = &view.share;
        let file = &share.file;
        Self {
            id: share.id.to_string(),
            state: view.state,
            state_text: words::state_text(words, share, view.state, now, view.bytes_per_second, view.eta),
            outcome: share.outcome(),
            path: file.path.to_text(),
            name: file.path.name(),
            size_bytes: file.size_bytes(),
            sha256: view.sha256.map(|digest| hex(&digest)),
            policy: PolicyJson {
                max_downloads: share.policy.max_downloads,
                expires_in_seconds: share.policy.expires_in.as_secs(),
                on_stall: share.policy.on_stall,
                starts_at: share.policy.starts.map(|at| time(at.wall)),
                allowed_networks: share.policy.allowed_networks.clone(),
                max_bytes_per_second: share.policy.max_bytes_per_second,
            },
            policy_text: words::policy_text(words, share, now),
            clamped: share.policy.clamped.clone(),
            url: url.cloned(),
            curl: url.map(|url| curl(url, &view.share.file.path)),
            tunnel: TunnelJson {
                backend: view.tunnel,
                state: tunnel_state(&share.phase),
                opened_at: share.opened.map(|at| time(at.wall)),
                problem: view.tunnel_problem.clone(),
                reachable: share.reach.map(Reach::as_str),
                reach_problem: words::reach_problem(words, share),
            },
            progress: ProgressJson {
                delivered_bytes: share.delivered_bytes(),
                size_bytes: file.size_bytes(),
                percent: share.percent(),
                evidence: share.furthest_transfer().and_then(|transfer| transfer.coverage.weakest_evidence()),
                bytes_per_second: view.bytes_per_second,
                eta_seconds: view.eta.map(|eta| eta.as_secs()),
            },
            transfers: share.transfers.len() as u64 + share.folded.count(),
            active: share.transfers.iter().filter(|t| t.is_active()).take(MAX_ACTIVE).map(|t| ActiveJson::new(view, t)).collect(),
            looks: LooksJson { previews: share.looks.previews, people: share.looks.people },
            created_at: time(share.created.wall),
            expires_at: time(share.expires.wall),
            closed_at: closed_at(share).map(|at| time(at.wall)),
            undo_until: share.undo_until(now).map(time),
            until: view.until.map(time),
            note: share.note.clone(),
            message: share.message.clone(),
        }
    }
}

impl ShareJson {
    /// The columns of a table of shares.
    pub(super) const COLUMNS: [&str; 17] = [
        "id",
        "outcome",
        "path",
        "name",
        "size_bytes",
        "sha256",
        "created_at",
        "expires_at",
        "closed_at",
        "transfers",
        "delivered_bytes",
        "percent",
        "evidence",
        "max_downloads",
        "note",
        "message",
        "state_text",
    ];

    /// Returns what stands in each of the columns; nothing where there is nothing.
    pub(super) fn cells(self) -> [String; 17] {
        let Self { progress, policy, .. } = self;
        [
            self.id,
            self.outcome.map(|outcome| outcome.as_str().to_owned()).unwrap_or_default(),
            self.path,
            self.name,
            self.size_bytes.to_string(),
            self.sha256.unwrap_or_default(),
            self.created_at,
            self.expires_at,
            self.closed_at.unwrap_or_default(),
            self.transfers.to_string(),
            progress.delivered_bytes.to_string(),
            progress.percent.to_string(),
            progress.evidence.map(evidence_word).unwrap_or_default().to_owned(),
            policy.max_downloads.map(|most| most.to_string()).unwrap_or_default(),
            self.note.unwrap_or_default(),
            self.message.unwrap_or_default(),
            self.state_text,
        ]
    }

    /// Leaves out the link, for what is kept as a file.
    pub(super) fn without_link(self) -> Self {
        Self { url: None, curl: None, ..self }
    }
}

fn evidence_word(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::HandedOver => "handed_over",
        Evidence::Acknowledged => "acknowledged",
        Evidence::Confirmed => "confirmed",
    }
}

impl ActiveJson {
    fn new(view: &View, transfer: &Transfer) -> Self {
        Self {
            id: transfer.id,
            state: words::transfer_state(transfer),
            agent: transfer.recipient.agent.clone(),
            address: transfer.recipient.address.clone(),
            percent: transfer.percent(view.share.file.size_bytes()),
            bytes_per_second: view.speeds.get(&transfer.id).copied().unwrap_or(0),
        }
    }
}

/// Returns when a share closed.
pub(in crate::http) fn closed_at(share: &Share) -> Option<Moment> {
    match share.phase {
        Phase::Closed { at, .. } => Some(at),
        Phase::Scheduled | Phase::Opening | Phase::Open | Phase::Closing { .. } => None,
    }
}

fn tunnel_state(phase: &Phase) -> &'static str {
    match phase {
        Phase::Scheduled => "scheduled",
        Phase::Opening => "opening",
        Phase::Open => "open",
        Phase::Closing { .. } => "closing",
        Phase::Closed { .. } => "closed",
    }
}

/// Returns a line for a shell that downloads a link, names the file as the sender did, and run again goes on where it
/// stopped. (curl refuses to go on with `-OJ`: it does not know the name before it asks.)
fn curl(url: &str, path: &CatalogPath) -> String {
    let quoted = |text: &str| text.replace('\'', r"'\''");
    let name = path.name_for_display().replace('\u{FFFD}', "_");
    format!("curl -fL -C - -o './{}' '{}'", quoted(&name), quoted(url))
}

/// One recipient's exercise of a link.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Transfer)]
pub(super) struct TransferJson {
    /// Names the transfer where it is stopped.
    #[schema(value_type = String)]
    id: TransferId,
    /// Where it stands.
    #[schema(schema_with = schema::transfer_state)]
    state: &'static str,
    /// What the recipient's program calls itself.
    agent: String,
    /// From where it came, where that is known.
    address: Option<String>,
    /// How many of the file's bytes arrived, each counted once.
    delivered_bytes: u64,
    #[schema(maximum = 100)]
    percent: u8,
    /// Which parts of the file arrived, each as its first byte and the one behind its last.
    coverage: Vec<(u64, u64)>,
    /// How sure that is, by its weakest part.
    #[schema(schema_with = schema::evidence_or_null)]
    evidence: Option<Evidence>,
    bytes_per_second: u64,
    #[schema(format = "date-time")]
    redeemed_at: String,
    #[schema(format = "date-time")]
    ended_at: Option<String>,
    /// How it ended; `null` while it has not.
    #[schema(schema_with = schema::transfer_end_or_null)]
    end: Option<TransferEnd>,
    /// Whether its use went back to the link.
    given_back: bool,
}

impl TransferJson {
    /// Writes down a transfer of the share in `view`.
    pub(super) fn new(view: &View, transfer: &Transfer) -> Self {
        let share = &view.share;
        let delivered_bytes = transfer.coverage.covered_bytes();
        Self {
            id: transfer.id,
            state: words::transfer_state(transfer),
            agent: transfer.recipient.agent.clone(),
            address: transfer.recipient.address.clone(),
            delivered_bytes,
            percent: transfer.percent(share.file.size_bytes()),
            coverage: transfer.coverage.ranges().into_iter().map(|range| (range.start, range.end)).collect(),
            evidence: transfer.coverage.weakest_evidence(),
            bytes_per_second: view.speeds.get(&transfer.id).copied().unwrap_or(0),
            redeemed_at: time(transfer.redeemed.wall),
            ended_at: transfer.ended.map(|(_, at)| time(at.wall)),
            end: transfer.ended.map(|(end, _)| end),
            given_back: transfer.given_back,
        }
    }
}

/// A file or a folder.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Entry)]
pub(super) struct EntryJson {
    /// Names it in every other request. Bytes that are no text stand in it in a form that can be sent back.
    #[schema(examples("films/holiday.mp4"))]
    path: String,
    /// The last part of the path, for people.
    name: String,
    #[schema(schema_with = schema::entry_kind)]
    kind: EntryKind,
    size_bytes: u64,
    #[schema(format = "date-time")]
    modified: String,
    /// By the name's ending; `null` for a folder.
    mime_type: Option<&'static str>,
    /// Whether it is a file that is still being written: it changed within half a minute, or its name is one of an unfinished download.
    changing: bool,
    /// How many files are below a folder; `null` for a file, and where the index does not know all of them.
    files: Option<u64>,
    /// How long these are together.
    total_bytes: Option<u64>,
    /// What of the name a search found, each as its first letter and the one behind its last.
    highlights: Vec<(usize, usize)>,
}

impl EntryJson {
    /// Writes down an entry as it is at `now`; `highlights` is what of its name a search found.
    pub(super) fn new(entry: &Entry, now: Moment, highlights: Vec<(usize, usize)>) -> Self {
        Self {
            path: entry.path.to_text(),
            name: entry.path.name(),
            kind: entry.kind,
            size_bytes: entry.size_bytes,
            modified: time(entry.modified),
            mime_type: (entry.kind == EntryKind::File).then(|| mime_type(entry.path.name_bytes())),
            changing: entry.is_changing(now.wall),
            files: entry.below.map(|below| below.files),
            total_bytes: entry.below.map(|below| below.bytes),
            highlights,
        }
    }
}

/// A page of a folder, or what a search found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Files)]
pub(super) struct FilesJson {
    /// The folder; empty for the top one.
    pub(super) path: String,
    pub(super) entries: Vec<EntryJson>,
    /// What to ask for the next page with; `null`: there is none.
    pub(super) next_cursor: Option<String>,
    /// How many there are over all pages, and where a search has one page only, how many it found in all: with filters, those that
    /// pass.
    pub(super) total: usize,
    /// How much the index knows; `null` for a folder, which is read as it is.
    #[schema(schema_with = schema::index_state_or_null)]
    pub(super) index: Option<IndexState>,
}

/// What an owner who has just come is likely to want.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Recent)]
pub(super) struct RecentJson {
    /// Files that were shared before and are still there, each once, the one that was shared last first.
    pub(super) shared: Vec<SharedBeforeJson>,
    /// The files that changed last, as far as the index knows, newest first.
    pub(super) newest: Vec<EntryJson>,
}

/// A file that was shared before.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SharedBefore)]
pub(super) struct SharedBeforeJson {
    #[serde(flatten)]
    pub(super) entry: EntryJson,
    /// When it was shared last.
    #[schema(format = "date-time")]
    pub(super) shared_at: String,
    /// How often it was shared, as far as the latest shares tell.
    pub(super) shares: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc_whatever_they_are() {
        assert_eq!(time(Timestamp(0)), "1970-01-01T00:00:00Z");
        assert_eq!(time(Timestamp(1_700_000_000_123)), "2023-11-14T22:13:20.123Z");
        assert!(time(Timestamp(i64::MAX)).starts_with("9999-"));
        assert!(time(Timestamp(i64::MIN)).starts_with('-'));
    }

    #[test]
    fn a_shell_cannot_be_broken_out_of() {
        let path = CatalogPath::parse("x/-rf it's\n$(id)").unwrap();
        assert_eq!(curl("https://a/it's", &path), r"curl -fL -C - -o './-rf it'\''s_$(id)' 'https://a/it'\''s'");
    }
}
