//! Each sentence, in the situation in which an owner reads it.

use super::*;
use crate::share::{
    ByteRange, CatalogPath, Event, FileIdentity, Limits, Looker, OnStall, Policy, PolicyRequest, Recipient, RequestId, ShareId, SharedFile,
    Steady, TokenId, TransferId,
};

const SIZE_BYTES: u64 = 1_900_000_000;
const MB: u64 = 1_000_000;
const LINK: TokenId = TokenId(uuid::Uuid::from_u128(7));
/// 2026-11-21 15:00 UTC.
const START: Timestamp = Timestamp(1_795_273_200_000);
const LIMITS: Limits =
    Limits { max_tunnel: Duration::from_secs(7200), stall_timeout: Duration::from_secs(300), grace_period: Duration::from_secs(3600) };

fn english() -> &'static Words {
    words(Language::English)
}

/// A share's life, told in minutes and seconds after 15:00.
struct Story {
    share: Share,
    now: Moment,
}

impl Story {
    fn begin(size_bytes: u64, request: PolicyRequest) -> Self {
        let now = Moment { steady: Steady(5), wall: START };
        let identity = FileIdentity { device: 1, inode: 2, size_bytes, modified_ns: 0, changed_ns: 0 };
        let file = SharedFile { path: CatalogPath::parse("film/holiday.mp4").unwrap(), identity };
        let policy = Policy::new(request, LIMITS, now).unwrap();
        let (share, _) = Share::new(ShareId::from_random(1), LINK, file, policy, None, now);
        Self { share, now }
    }

    fn offered(size_bytes: u64, request: PolicyRequest) -> Self {
        Self::begin(size_bytes, request).then(Event::TunnelOpened)
    }

    fn then(mut self, event: Event) -> Self {
        assert_eq!(self.share.on(event.clone(), self.now).answer, Ok(()), "{event:?}");
        self
    }

    fn after(mut self, seconds: u64) -> Self {
        self.now = self.now.plus(Duration::from_secs(seconds));
        self.then(Event::TimePassed)
    }

    fn redeemed(self, n: u8) -> Self {
        self.then(Event::Redeemed { link: LINK, transfer: transfer(n), recipient: Recipient::default() })
    }

    fn requested(self, n: u8) -> Self {
        let range = ByteRange::new(0, self.share.file.size_bytes());
        self.then(Event::RequestOpened { transfer: transfer(n), request: RequestId(n.into()), range, carrier: None })
    }

    fn got(self, n: u8, bytes: u64, evidence: Evidence) -> Self {
        self.then(Event::Delivered { transfer: transfer(n), range: ByteRange::new(0, bytes), evidence })
    }

    fn cut(self, n: u8) -> Self {
        self.then(Event::RequestEnded { transfer: transfer(n), request: RequestId(n.into()), in_doubt: None })
    }

    fn text(&self) -> String {
        state_text(english(), &self.share, self.share.state(self.now), self.now, 11 * MB, Some(Duration::from_secs(125)))
    }
}

fn transfer(n: u8) -> TransferId {
    TransferId::from_bytes([n; 16])
}

fn one() -> Story {
    Story::offered(SIZE_BYTES, PolicyRequest::default())
}

fn many(max_downloads: u64) -> Story {
    Story::offered(SIZE_BYTES, PolicyRequest { max_downloads: Some(max_downloads), ..Default::default() })
}

fn running(bytes: u64, evidence: Evidence) -> Story {
    one().redeemed(1).requested(1).got(1, bytes, evidence)
}

use Evidence::{Acknowledged, Confirmed, HandedOver};

#[test]
fn the_owner_reads_where_a_living_share_stands() {
    let scheduled = PolicyRequest { starts_at: Some(START.plus(Duration::from_secs(90_000))), ..Default::default() };
    let on_stall = PolicyRequest { on_stall: Some(OnStall::Reopen), ..Default::default() };
    let partly = 1180 * MB;
    for (story, expected) in [
        (Story::begin(SIZE_BYTES, scheduled), "Opens at 22 Nov 16:00 UTC."),
        (Story::begin(SIZE_BYTES, PolicyRequest::default()), "Opening the door…"),
        (one().then(Event::TunnelLost), "The connection was lost. Opening the door again…"),
        (one(), "Ready. Nobody has opened it yet."),
        (one().redeemed(1).after(61), "Opened once, not downloaded yet."),
        (one().redeemed(1).after(61).redeemed(2).after(61), "Opened 2 times, not downloaded yet."),
        (
            Story::offered(SIZE_BYTES, on_stall).redeemed(1).requested(1).got(1, partly, Acknowledged).after(301),
            "Stopped at 62 %: no data for 5 minutes. The link works again.",
        ),
        (one().redeemed(1).requested(1), "The download is starting."),
        (running(412 * MB, Confirmed), "412 MB of 1.9 GB · 11 MB/s · about 2 min left"),
        (running(412 * MB, HandedOver), "412 MB of 1.9 GB sent · 11 MB/s · about 2 min left"),
        (running(partly, Acknowledged).after(80), "Paused by the other side at 62 %. Waiting 3:40 more."),
        (running(partly, Acknowledged).cut(1).after(80), "Cut off at 62 %. It can go on from there. Waiting 3:40 more."),
        (one().redeemed(1).after(10), "The button was pressed, the download has not begun. Waiting 0:50 more."),
        (
            one().after(2520).redeemed(1).requested(1).got(1, SIZE_BYTES, Confirmed),
            "Delivered 15:42 UTC, all 1.9 GB. The door closes at 16:42 UTC.",
        ),
        (running(SIZE_BYTES, HandedOver), "Sent 15:00 UTC, all 1.9 GB. The door closes at 16:00 UTC."),
    ] {
        assert_eq!(story.text(), expected);
    }
}

#[test]
fn what_was_found_from_the_internet_is_a_sentence_where_it_is_not_as_it_should_be() {
    use Obstacle::{ForeignCertificate, HandshakeCut, NameUnknown, NoAnswer, NoConnection, OtherAnswer};
    let found = |story: Story, after_close, reach| {
        let link = story.share.link;
        reach_problem(english(), &story.then(Event::Probed { link, after_close, reach }).share)
    };
    let closed = || one().then(Event::Revoked).then(Event::TunnelClosed);
    assert_eq!(reach_problem(english(), &one().share), None, "nobody has looked");
    assert_eq!((found(one(), false, Reach::Yes), found(closed(), true, Reach::No(HandshakeCut))), (None, None));
    assert_eq!(found(closed(), true, Reach::Yes).as_deref(), Some("Closed, and its door still answers from the internet."));
    let mut said = std::collections::BTreeSet::new();
    for obstacle in [NameUnknown, NoConnection, HandshakeCut, ForeignCertificate, NoAnswer, OtherAnswer] {
        let text = found(one(), false, Reach::No(obstacle)).unwrap();
        assert!(text.starts_with("Open, but not yet reachable from the internet: ") && text.ends_with('.'), "{text}");
        said.insert(text);
    }
    for why in [Unprobed::Off, Unprobed::NoWayOut, Unprobed::Busy] {
        let text = found(one(), false, Reach::NotProbed(why)).unwrap();
        assert!(text.starts_with("Nobody looked from the internet: ") && text.ends_with('.'), "{text}");
        assert_eq!(found(closed(), true, Reach::NotProbed(why)), Some(text.clone()));
        said.insert(text);
    }
    assert_eq!(said.len(), 9, "each has its own");
}

#[test]
fn the_whole_policy_is_one_sentence() {
    let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let default = PolicyRequest::default;
    for (request, expected) in [
        (default(), "For one download, open until 16:00 UTC; a stall closes it."),
        (
            PolicyRequest {
                max_downloads: Some(3),
                expires_in_seconds: Some(7200),
                allowed_networks: networks(&["203.0.113.0/24"]),
                max_bytes_per_second: Some(2_000_000),
                ..default()
            },
            "For 3 downloads, open until 17:00 UTC, only from 203.0.113.0/24, at most 2.0 MB/s each; a download that stalls is used up.",
        ),
        (
            PolicyRequest {
                unlimited_downloads: true,
                starts_at: Some(START.plus(Duration::from_secs(90_000))),
                allowed_networks: networks(&["10.0.0.0/8", "192.168.0.0/16", "2001:db8::1"]),
                ..default()
            },
            "For any number of downloads, open from 22 Nov 16:00 UTC until 22 Nov 17:00 UTC, \
             only from 10.0.0.0/8, 192.168.0.0/16 or 2001:db8::1/128.",
        ),
        (
            PolicyRequest { on_stall: Some(OnStall::Reopen), max_bytes_per_second: Some(16_384), ..default() },
            "For one download, open until 16:00 UTC, at most 16 kB/s; a download that stalls may be started anew.",
        ),
    ] {
        let story = Story::begin(SIZE_BYTES, request);
        assert_eq!(policy_text(english(), &story.share, story.now), expected);
    }
}

#[test]
fn previews_are_told_apart_from_people_while_nobody_took_it() {
    let looked = |previews: u32, people: u32| {
        let mut story = one();
        (0..previews).for_each(|_| story.share.looks.add(Looker::Preview));
        (0..people).for_each(|_| story.share.looks.add(Looker::Person));
        story
    };
    for (story, expected) in [
        (looked(1, 0), "1 preview looked, nobody took it."),
        (looked(3, 0), "3 previews looked, nobody took it."),
        (looked(3, 1), "Looked at one time, not downloaded yet."),
        (looked(0, 2), "Looked at twice, not downloaded yet."),
        (looked(9, 5), "Looked at 5 times, not downloaded yet."),
        (looked(2, 1).redeemed(1).after(60), "Opened once, not downloaded yet."),
        (looked(2, 1).redeemed(1).requested(1), "The download is starting."),
    ] {
        assert_eq!(story.text(), expected);
    }
}

#[test]
fn without_a_limit_downloads_are_counted_and_nothing_is_counted_down() {
    let unlimited = || Story::offered(SIZE_BYTES, PolicyRequest { unlimited_downloads: true, ..Default::default() });
    let got = |story: Story, n: u8| story.redeemed(n).requested(n).got(n, SIZE_BYTES, Confirmed);
    let one = || got(unlimited(), 1);
    let closed = |story: Story| story.then(Event::TunnelClosed);
    let stopped = |story: Story, n: u8| story.redeemed(n).then(Event::TransferStopped { transfer: transfer(n) });
    for (story, expected) in [
        (unlimited(), "Ready. Nobody has opened it yet."),
        (one(), "1 delivered. Ready for more."),
        (stopped(one(), 2), "1 delivered, 1 stopped. Ready for more."),
        (one().redeemed(2).requested(2), "Download 2: The download is starting."),
        (one().after(3600), "Delivered once, 15:00 UTC, all 1.9 GB. The door is closing…"),
        (closed(got(one(), 2).after(3600)), "Delivered 2 times, the last 15:00 UTC, all 1.9 GB each."),
        (closed(one().then(Event::Revoked)), "You closed it at 15:00 UTC (1 delivered)."),
        (closed(unlimited().after(3600)), "Expired unused."),
    ] {
        assert_eq!(story.text(), expected);
    }
    // What was folded counts as what is kept.
    let mut many = one();
    for _ in 0..300 {
        many.share.folded.completed += 1;
    }
    assert_eq!(many.text(), "301 delivered. Ready for more.");
}

#[test]
fn the_owner_reads_how_a_share_ended() {
    let partly = 1180 * MB;
    let closed = |story: Story| story.then(Event::TunnelClosed);
    for (story, expected) in [
        (closed(running(SIZE_BYTES, Confirmed).after(3600)), "Delivered 15:00 UTC, all 1.9 GB."),
        (closed(one().after(3600)), "Expired unused."),
        (closed(one().redeemed(1).after(3600)), "Expired. It was opened, but nobody downloaded it."),
        (closed(running(partly, Confirmed).after(300)), "Stopped at 62 %: no data for 5 minutes."),
        (running(partly, Confirmed).after(300), "Stopped at 62 %: no data for 5 minutes. The door is closing…"),
        (closed(one().after(600).then(Event::Revoked)), "You closed it at 15:10 UTC (nothing sent)."),
        (closed(running(722 * MB, HandedOver).then(Event::Revoked)), "You closed it at 15:00 UTC (38 % sent)."),
        (closed(running(722 * MB, Confirmed).then(Event::Revoked)), "You closed it at 15:00 UTC (38 % delivered)."),
        (closed(running(1, Confirmed).then(Event::Revoked)), "You closed it at 15:00 UTC (less than 1 % delivered)."),
        (closed(running(SIZE_BYTES, Confirmed).then(Event::Revoked)), "Delivered 15:00 UTC, all 1.9 GB. You closed the door at 15:00 UTC."),
        (
            closed(running(partly, Confirmed).then(Event::SourceChanged)),
            "The file changed on the NAS while it was being sent. Stopped, so nobody gets a mixed file.",
        ),
        (
            closed(one().then(Event::SourceChanged)),
            "The file changed on the NAS after you shared it. Closed, so nobody gets another file than you meant.",
        ),
        (
            closed(Story::begin(SIZE_BYTES, PolicyRequest::default()).then(Event::TunnelFailed)),
            "The door could not be opened. Nobody could reach the file.",
        ),
        (
            closed(one().then(Event::TunnelLost).then(Event::TunnelFailed)),
            "The connection was lost and the door could not be opened again.",
        ),
    ] {
        assert_eq!(story.text(), expected);
    }
}

#[test]
fn a_transfer_that_overruns_for_too_long_is_told_so() {
    let mut story = one().redeemed(1).requested(1);
    for step in 1..=110 {
        story = story.got(1, step * 10 * MB, Confirmed).after(100);
    }
    assert_eq!(story.then(Event::TunnelClosed).text(), "Stopped at 57 %: the time was up.");
}

#[test]
fn the_owner_reads_which_of_several_downloads_is_meant() {
    let first_done = || many(3).redeemed(1).requested(1).got(1, SIZE_BYTES, Confirmed);
    for (story, expected) in [
        (first_done(), "1 of 3 delivered. Ready for 2 more."),
        (first_done().redeemed(2).then(Event::TransferStopped { transfer: transfer(2) }), "1 of 3 delivered, 1 stopped. Ready for 1 more."),
        (
            first_done().redeemed(2).requested(2).got(2, 412 * MB, Confirmed),
            "Download 2 of 3: 412 MB of 1.9 GB · 11 MB/s · about 2 min left",
        ),
        (
            many(2).redeemed(1).redeemed(2).requested(1).requested(2).got(2, 95 * MB, Confirmed),
            "2 downloads are running, the furthest: 95 MB of 1.9 GB · 11 MB/s · about 2 min left",
        ),
        (
            many(2).redeemed(1).redeemed(2).requested(1).requested(2).got(1, SIZE_BYTES, Confirmed).got(2, SIZE_BYTES, Confirmed),
            "Delivered 2 of 2, the last 15:00 UTC, all 1.9 GB each. The door closes at 16:00 UTC.",
        ),
        (first_done().after(60).then(Event::Revoked).then(Event::TunnelClosed), "You closed it at 15:01 UTC (1 of 3 delivered)."),
    ] {
        assert_eq!(story.text(), expected);
    }
}

#[test]
fn an_empty_file_is_delivered_in_words_too() {
    let story = Story::offered(0, PolicyRequest::default()).redeemed(1).requested(1).got(1, 0, Confirmed);
    assert_eq!(story.text(), "Delivered 15:00 UTC, an empty file. The door closes at 16:00 UTC.");
}

#[test]
fn the_words_of_the_machinery_are_not_used() {
    for text in [one().text(), one().then(Event::TunnelLost).text(), one().then(Event::TunnelLost).then(Event::TunnelFailed).text()] {
        let text = text.to_lowercase();
        assert!(!["token", "tunnel", "jwt", "funnel"].iter().any(|word| text.contains(word)), "{text}");
    }
}

#[test]
fn sizes_are_written_as_people_do() {
    for (bytes, expected) in [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (9949, "9.9 kB"),
        (9950, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (412 * MB, "412 MB"),
        (SIZE_BYTES, "1.9 GB"),
        (2_500_000_000_000, "2.5 TB"),
        (u64::MAX, "18 EB"),
    ] {
        assert_eq!(size_text(bytes), expected);
    }
}

#[test]
fn lengths_of_time_are_written_as_people_do() {
    for (seconds, expected) in [
        (0, "0 seconds"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "1 minute"),
        (90, "1 minute 30 seconds"),
        (300, "5 minutes"),
        (3600, "1 hour"),
        (5400, "1 hour 30 minutes"),
        (7201, "2 hours"),
        (86_400, "1 day"),
        (180_000, "2 days 2 hours"),
    ] {
        assert_eq!(duration_text(Duration::from_secs(seconds)), expected);
    }
}

#[test]
fn what_is_left_is_only_said_as_well_as_it_is_known() {
    for (seconds, expected) in [
        (3, "a few seconds left"),
        (49, "about 40 s left"),
        (89, "about 1 min left"),
        (91, "about 2 min left"),
        (5399, "about 90 min left"),
        (7300, "about 2 h left"),
        (400_000, "about 5 days left"),
    ] {
        assert_eq!(eta_text(english(), Duration::from_secs(seconds)), expected);
    }
}

#[test]
fn a_time_of_another_day_or_year_carries_its_date() {
    let plus_days = |days: u64| START.plus(Duration::from_secs(days * 86_400));
    for (at, expected) in [
        (START, "15:00 UTC"),
        (plus_days(1), "22 Nov 15:00 UTC"),
        (plus_days(60), "20 Jan 2027 15:00 UTC"),
        (Timestamp(i64::MAX), "an unknown time"),
    ] {
        assert_eq!(time_text(at, START), expected);
    }
}
