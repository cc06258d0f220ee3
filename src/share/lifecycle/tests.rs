//! The story as a table, and every short history walked for the promises.

use std::time::Duration;

use proptest::prelude::*;

use super::super::{CatalogPath, FileIdentity, Limits, Looker, Obstacle, PolicyRequest, Unprobed};
use super::*;

const STALL: u64 = 300;
const MAX: u64 = 3600;
const GRACE: u64 = 600;
const SIZE: u64 = 100;

fn seconds(n: u64) -> Moment {
    Moment::default().plus(Duration::from_secs(n))
}

fn limits() -> Limits {
    Limits { max_tunnel: Duration::from_secs(MAX), stall_timeout: Duration::from_secs(STALL), grace_period: Duration::from_secs(GRACE) }
}

fn file(size_bytes: u64) -> SharedFile {
    let identity = FileIdentity { device: 1, inode: 2, size_bytes, modified_ns: 3, changed_ns: 4 };
    SharedFile { path: CatalogPath::parse("film/holiday.mp4").unwrap(), identity }
}

fn link(n: u128) -> TokenId {
    TokenId(uuid::Uuid::from_u128(n))
}

fn transfer(n: u8) -> TransferId {
    TransferId::from_digest(&[n; 32])
}

fn share_of(size_bytes: u64, request: PolicyRequest) -> Share {
    let policy = Policy::new(request, limits(), seconds(0)).unwrap();
    Share::new(ShareId::from_random(7), link(1), file(size_bytes), policy, None, seconds(0)).0
}

/// A share of 100 bytes for `max_downloads`, its way in open since second 0.
fn open_share(max_downloads: u64) -> Share {
    let mut share = share_of(SIZE, PolicyRequest { max_downloads: Some(max_downloads), ..Default::default() });
    share.must(Event::TunnelOpened, 0);
    share
}

trait Drive {
    fn must(&mut self, event: Event, at: u64) -> Vec<Fact>;
    fn redeem(&mut self, n: u8, at: u64) -> Result<(), Refused>;
    fn fetch(&mut self, n: u8, request: u64, range: (u64, u64), at: u64);
    fn arrive(&mut self, n: u8, range: (u64, u64), at: u64);
    fn end(&mut self, n: u8, request: u64, in_doubt: Option<(u64, u64)>, at: u64);
    fn at(&mut self, at: u64) -> State;
}

impl Drive for Share {
    fn must(&mut self, event: Event, at: u64) -> Vec<Fact> {
        let decided = self.on(event, seconds(at));
        assert_eq!(decided.answer, Ok(()));
        decided.facts
    }

    fn redeem(&mut self, n: u8, at: u64) -> Result<(), Refused> {
        let redeemed = Event::Redeemed { link: self.link, transfer: transfer(n), recipient: Recipient::default() };
        self.on(redeemed, seconds(at)).answer
    }

    fn fetch(&mut self, n: u8, request: u64, (start, end): (u64, u64), at: u64) {
        let opened =
            Event::RequestOpened { transfer: transfer(n), request: RequestId(request), range: ByteRange::new(start, end), carrier: None };
        self.must(opened, at);
    }

    fn arrive(&mut self, n: u8, (start, end): (u64, u64), at: u64) {
        let range = ByteRange::new(start, end);
        self.must(Event::Delivered { transfer: transfer(n), range, evidence: Evidence::Acknowledged }, at);
    }

    fn end(&mut self, n: u8, request: u64, in_doubt: Option<(u64, u64)>, at: u64) {
        let in_doubt = in_doubt.map(|(start, end)| ByteRange::new(start, end));
        self.must(Event::RequestEnded { transfer: transfer(n), request: RequestId(request), in_doubt }, at);
    }

    fn at(&mut self, at: u64) -> State {
        self.must(Event::TimePassed, at);
        self.state(seconds(at))
    }
}

#[test]
fn the_main_story() {
    let mut share = share_of(SIZE, PolicyRequest::default());
    assert_eq!((share.state(seconds(0)), share.effect()), (State::Opening, Some(Effect::OpenTunnel)));
    assert_eq!(share.must(Event::TunnelOpened, 1), [Fact::Opened]);
    assert_eq!((share.state(seconds(1)), share.effect()), (State::Offered, None));
    share.redeem(1, 10).unwrap();
    assert_eq!(share.state(seconds(10)), State::Waiting);
    share.fetch(1, 1, (0, 100), 11);
    share.arrive(1, (0, 60), 12);
    assert_eq!((share.state(seconds(12)), share.percent()), (State::Transferring, 60));
    share.end(1, 1, None, 13);
    assert_eq!(share.state(seconds(20)), State::Waiting);
    share.fetch(1, 2, (60, 100), 200);
    share.arrive(1, (60, 100), 201);
    assert_eq!((share.state(seconds(201)), share.percent()), (State::Delivered, 100));
    assert_eq!(share.deadline(), Some(Deadline { at: seconds(201 + GRACE).steady, reason: Reason::Grace }));
    share.fetch(1, 3, (0, 100), 202);
    assert_eq!(share.at(201 + GRACE), State::Closing);
    assert_eq!((share.outcome(), share.effect()), (Some(Outcome::Completed), Some(Effect::CloseTunnel)));
    assert_eq!(share.must(Event::TunnelClosed, 900), [Fact::Closed { outcome: Outcome::Completed }]);
    assert_eq!((share.effect(), share.deadline()), (None, None));
}

fn probed(after_close: bool, reach: Reach) -> Event {
    Event::Probed { link: link(1), after_close, reach }
}

#[test]
fn what_a_look_from_outside_finds_is_kept_while_it_is_true_and_written_down_when_it_changes() {
    let (no, yes) = (Reach::No(Obstacle::NameUnknown), Reach::Yes);
    let mut share = share_of(SIZE, PolicyRequest::default());
    assert_eq!((share.must(probed(false, yes), 1), share.reach), (vec![], None), "it is not open yet");
    share.must(Event::TunnelOpened, 1);
    assert_eq!(share.must(probed(false, no), 2), [Fact::Probed { reach: no, after_close: false }]);
    assert_eq!((share.must(probed(false, no), 7), share.reach), (vec![], Some(no)), "the same again is nothing new");
    let before = (share.phase.clone(), share.deadline(), share.effect());
    assert_eq!(share.must(probed(false, yes), 37), [Fact::Probed { reach: yes, after_close: false }]);
    assert_eq!((share.phase.clone(), share.deadline(), share.effect()), before, "it moves nothing");
    let other = Event::Probed { link: link(2), after_close: false, reach: no };
    assert_eq!((share.must(other, 38), share.reach), (vec![], Some(yes)), "they looked at another");
    assert_eq!((share.must(probed(true, no), 38), share.reach), (vec![], Some(yes)), "it is not closed");
    for gone in [Event::TunnelLost, Event::Restarted] {
        let mut share = share.clone();
        share.must(gone, 39);
        assert_eq!(share.reach, None);
    }
    share.must(Event::Revoked, 40);
    assert_eq!(share.reach, None, "what was found of the open one says nothing of the closed one");
    assert_eq!((share.must(probed(false, yes), 41), share.reach), (vec![], None), "whoever set out before comes too late");
    share.must(Event::TunnelClosed, 42);
    assert_eq!((share.must(probed(false, yes), 42), share.reach), (vec![], None));
    assert_eq!(share.must(probed(true, yes), 43), [Fact::Probed { reach: yes, after_close: true }], "the alarm");
    let shut = Reach::No(Obstacle::HandshakeCut);
    assert_eq!(share.must(probed(true, shut), 48), [Fact::Probed { reach: shut, after_close: true }]);
    share.must(Event::Reopened { link: link(2), file: file(SIZE) }, 50);
    share.must(Event::TunnelOpened, 51);
    assert_eq!((share.must(probed(true, yes), 52), share.reach), (vec![], None), "nor does the closed one of the one that is open again");
}

#[test]
fn what_was_found_is_written_as_words_and_shares_and_lines_of_older_versions_have_none() {
    let line = |reach| serde_json::to_value(Fact::Probed { reach, after_close: false }).unwrap();
    let json = serde_json::json!({ "type": "share.probed", "reach": "no", "why": "handshake_cut", "after_close": false });
    assert_eq!(line(Reach::No(Obstacle::HandshakeCut)), json);
    assert_eq!(line(Reach::Yes), serde_json::json!({ "type": "share.probed", "reach": "yes", "after_close": false }));
    for reach in [Reach::Yes, Reach::No(Obstacle::NoAnswer), Reach::NotProbed(Unprobed::NoWayOut)] {
        assert_eq!(serde_json::from_value::<Fact>(line(reach)).unwrap(), Fact::Probed { reach, after_close: false });
    }
    let mut share = open_share(1);
    let mut saved = serde_json::to_value(&share).unwrap();
    saved.as_object_mut().unwrap().remove("reach").expect("it is saved");
    assert_eq!(serde_json::from_value::<Share>(saved).unwrap(), share);
    share.must(probed(false, Reach::NotProbed(Unprobed::Busy)), 2);
    assert_eq!(serde_json::from_value::<Share>(serde_json::to_value(&share).unwrap()).unwrap(), share);
}

#[test]
fn a_second_redeem_is_refused_while_the_first_runs_and_after_it() {
    let mut share = open_share(1);
    share.redeem(1, 1).unwrap();
    assert_eq!(share.redeem(2, 1), Err(Refused::Running { max_downloads: 1 }));
    share.fetch(1, 1, (0, 100), 2);
    share.arrive(1, (0, 100), 3);
    assert_eq!(share.redeem(2, 4), Err(Refused::Spent));
    share.must(Event::Revoked, 5);
    assert_eq!(share.redeem(2, 6), Err(Refused::Closed(Outcome::Revoked)));
}

/// Two parts; the first was sent whole and arrived to byte 40 as far as is known when its connection broke.
fn with_a_lost_acknowledgement() -> Share {
    let mut share = open_share(1);
    share.redeem(1, 1).unwrap();
    share.fetch(1, 1, (0, 50), 2);
    share.arrive(1, (0, 40), 3);
    share.end(1, 1, Some((40, 50)), 4);
    share
}

#[test]
fn the_end_of_a_part_whose_acknowledgement_was_lost_counts_as_handed_over_once_the_rest_was_fetched() {
    let mut share = with_a_lost_acknowledgement();
    share.fetch(1, 2, (50, 100), 5);
    share.arrive(1, (50, 100), 6);
    assert_eq!(share.percent(), 90, "the next part says nothing about this one by itself");
    share.end(1, 2, None, 7);
    assert_eq!((share.state(seconds(7)), share.percent()), (State::Delivered, 100));
    assert_eq!(share.transfers[0].coverage.weakest_evidence(), Some(Evidence::HandedOver));
    share.fetch(1, 3, (40, 50), 8);
}

#[test]
fn a_lost_acknowledgement_is_not_made_up_for_by_what_ran_beside_it_or_by_asking_again_or_by_half_a_part() {
    let mut beside = open_share(1);
    beside.redeem(1, 1).unwrap();
    beside.fetch(1, 1, (0, 50), 2);
    beside.fetch(1, 2, (50, 100), 2);
    beside.arrive(1, (0, 40), 3);
    beside.end(1, 1, Some((40, 50)), 4);
    beside.arrive(1, (50, 100), 5);
    beside.end(1, 2, None, 6);
    assert_eq!(beside.percent(), 90);

    let mut again = with_a_lost_acknowledgement();
    again.fetch(1, 2, (45, 50), 5);
    again.fetch(1, 3, (50, 100), 5);
    again.arrive(1, (50, 100), 6);
    again.end(1, 3, None, 7);
    again.end(1, 2, None, 8);
    assert_eq!(again.percent(), 95, "what was asked for again has to arrive; the resume vouches for what is before it");

    let mut half = open_share(1);
    half.redeem(1, 1).unwrap();
    half.fetch(1, 1, (0, 50), 2);
    half.arrive(1, (0, 40), 3);
    half.end(1, 1, Some((40, 49)), 4);
    half.fetch(1, 2, (50, 100), 5);
    half.arrive(1, (50, 100), 6);
    half.end(1, 2, None, 7);
    assert_eq!(half.percent(), 90, "what was never sent cannot have arrived");
}

#[test]
fn a_file_that_changes_after_everything_arrived_ends_the_grace_and_not_the_delivery() {
    let mut share = open_share(1);
    share.redeem(1, 1).unwrap();
    share.fetch(1, 1, (0, 100), 2);
    share.arrive(1, (0, 100), 3);
    share.must(Event::SourceChanged, 4);
    assert_eq!((share.state(seconds(4)), share.outcome()), (State::Closing, Some(Outcome::Completed)));
}

#[test]
fn three_downloads_are_three_transfers() {
    let mut share = open_share(3);
    for n in 1..=3 {
        share.redeem(n, 1).unwrap();
        share.fetch(n, u64::from(n), (0, 100), 2);
        share.arrive(n, (0, 100), 3);
        assert_eq!(share.state(seconds(3)), if n < 3 { State::Offered } else { State::Delivered });
    }
    assert_eq!(share.redeem(4, 4), Err(Refused::Spent));
    assert_eq!(share.at(3 + GRACE), State::Closing);
    assert_eq!(share.outcome(), Some(Outcome::Completed));
}

fn unlimited() -> Share {
    let mut share = share_of(SIZE, PolicyRequest { unlimited_downloads: true, ..Default::default() });
    share.must(Event::TunnelOpened, 0);
    share
}

/// Somebody takes all of it; `n` names them.
fn take(share: &mut Share, n: u64, at: u64) -> TransferId {
    let transfer = TransferId::from_bytes(u128::from(n).to_be_bytes());
    share.must(Event::Redeemed { link: share.link, transfer, recipient: Recipient::default() }, at);
    let range = ByteRange::new(0, SIZE);
    share.must(Event::RequestOpened { transfer, request: RequestId(n), range, carrier: None }, at);
    share.must(Event::Delivered { transfer, range, evidence: Evidence::Acknowledged }, at);
    share.must(Event::RequestEnded { transfer, request: RequestId(n), in_doubt: None }, at);
    transfer
}

#[test]
fn without_a_limit_everybody_may_have_it_until_it_ends_and_it_does_not_grow() {
    let mut share = unlimited();
    let first = take(&mut share, 0, 0);
    // All within the grace of the first: what is kept is bounded all the same.
    for n in 1..5000 {
        take(&mut share, n, 1 + n / 20);
        assert!(share.transfers.len() <= MAX_KEPT);
    }
    assert_eq!((share.state(seconds(251)), share.uses_left(), share.percent()), (State::Offered, None, 100));
    assert_eq!((share.completed(), share.uses_spent()), (5000, 5000));
    assert_eq!(share.may_fetch(first, seconds(251)), Err(Refused::UnknownTransfer));
    let last = take(&mut share, 5000, 252);
    assert_eq!(share.may_fetch(last, seconds(252)), Ok(()));
    assert!(serde_json::to_vec(&share).unwrap().len() < 250_000);
    // Once their grace is over far fewer are kept, and all are counted.
    take(&mut share, 5001, 300 + GRACE);
    assert!(share.transfers.len() <= MAX_KEPT_OVER + 1, "{}", share.transfers.len());
    assert_eq!(share.completed(), 5002);
    assert_eq!(share.at(MAX), State::Closing);
    assert_eq!(share.outcome(), Some(Outcome::Completed));
}

#[test]
fn without_a_limit_a_share_that_folded_everything_still_ended_well_and_one_that_nobody_finished_did_not() {
    let mut share = unlimited();
    take(&mut share, 0, 0);
    share.make_room(seconds(0));
    for n in 1..=(MAX_KEPT_OVER as u64 + 1) {
        let (stopped, at) = (TransferId::from_bytes(u128::from(n).to_be_bytes()), GRACE + 1 + n / 20);
        share.must(Event::Redeemed { link: share.link, transfer: stopped, recipient: Recipient::default() }, at);
        share.must(Event::TransferStopped { transfer: stopped }, at);
    }
    share.make_room(seconds(GRACE + 10));
    assert_eq!((share.folded.completed, share.transfers.iter().filter(|t| t.is_completed()).count()), (1, 0));
    share.at(MAX);
    assert_eq!(share.outcome(), Some(Outcome::Completed));

    let mut unlucky = unlimited();
    unlucky.redeem(1, 1).unwrap();
    unlucky.fetch(1, 1, (0, 100), 2);
    unlucky.arrive(1, (0, 50), 3);
    assert_eq!(unlucky.at(3 + STALL), State::Offered, "a stall of one leaves the link to the others");
    unlucky.at(MAX);
    assert_eq!(unlucky.outcome(), Some(Outcome::Expired));
}

#[test]
fn without_a_limit_only_so_many_run_at_once_and_whoever_runs_is_never_folded() {
    let mut share = unlimited();
    let id = |n: usize| TransferId::from_bytes((n as u128).to_be_bytes());
    for n in 0..MAX_KEPT {
        share.must(Event::Redeemed { link: share.link, transfer: id(n), recipient: Recipient::default() }, n as u64 / 20);
    }
    assert_eq!(share.redeem(1, 20), Err(Refused::Crowded));
    share.must(Event::TransferStopped { transfer: id(7) }, 20);
    share.redeem(1, 21).unwrap();
    assert!(share.transfers.len() <= MAX_KEPT);
    assert!(share.transfers.iter().all(Transfer::is_active));
    assert_eq!(share.folded, Folded { others: 1, ..Folded::default() });
}

#[test]
fn without_a_limit_a_flood_of_downloads_is_told_to_wait_and_written_down_no_faster_than_that() {
    // Without grace whoever is done is folded at once, and is counted all the same.
    for grace_period in [Duration::ZERO, Duration::from_secs(GRACE)] {
        let mut share = unlimited();
        share.policy.limits.grace_period = grace_period;
        let mut taken = 0;
        for n in 0..10_000_u64 {
            let now = seconds(1 + n / 1000);
            if share.may_redeem(share.link, None, now).is_ok() {
                take(&mut share, n, 1 + n / 1000);
                taken += 1;
            } else {
                assert_eq!(share.may_redeem(share.link, None, now), Err(Refused::Crowded));
            }
        }
        assert_eq!(taken, 4 * MAX_BEGINNING, "ten seconds are the beginnings of four spans of three");
        assert_eq!(share.state(seconds(11)), State::Offered);
    }
}

#[test]
fn whoever_comes_from_another_network_spends_nothing() {
    let allowed_networks = vec!["203.0.113.0/24".parse().unwrap()];
    let mut share = share_of(SIZE, PolicyRequest { allowed_networks, ..Default::default() });
    share.must(Event::TunnelOpened, 0);
    for address in [Some("198.51.100.1"), Some("::1"), None] {
        let recipient = Recipient { address: address.map(str::to_owned), agent: String::new() };
        let redeemed = Event::Redeemed { link: share.link, transfer: transfer(1), recipient };
        let decided = share.on(redeemed, seconds(1));
        assert_eq!((decided.answer, decided.facts), (Err(Refused::NotAllowed), vec![]), "{address:?}");
    }
    assert_eq!(share.uses_left(), Some(1));
    let recipient = Recipient { address: Some("203.0.113.9".to_owned()), agent: String::new() };
    share.must(Event::Redeemed { link: share.link, transfer: transfer(1), recipient }, 2);
    assert_eq!(share.uses_left(), Some(0));
}

#[test]
fn a_share_that_an_older_version_saved_is_read() {
    // As of layout 1 of the store: no networks, no speed, no message, nothing folded, no `begun_at`.
    let old = r#"{"id":"7000000000","file":{"path":"film/holiday.mp4","identity":{"device":1,"inode":2,"size_bytes":100,
        "modified_ns":3,"changed_ns":4}},"policy":{"max_downloads":1,"expires_in":{"secs":3600,"nanos":0},"starts":null,
        "on_stall":"close","limits":{"max_tunnel":{"secs":3600,"nanos":0},"stall_timeout":{"secs":300,"nanos":0},
        "grace_period":{"secs":600,"nanos":0}},"clamped":[]},"link":"00000000-0000-0000-0000-000000000001","note":null,
        "created":{"steady":0,"wall":0},"expires":{"steady":3600000,"wall":3600000},"minted_expiry":3600000,
        "opened":{"steady":0,"wall":0},"phase":{"is":"open"},"transfers":[{"id":"01010101010101010101010101010101",
        "redeemed":{"steady":1000,"wall":1000},"recipient":{"address":null,"agent":""},
        "coverage":[{"start":0,"end":60,"evidence":"acknowledged"}],"ended":null,"begun":true,"given_back":false,
        "last_sign":3000,"requests":[{"id":1,"range":{"start":0,"end":100}}],"in_doubt":[],"sent_tails":[],
        "starts":[{"id":1,"range":{"start":0,"end":100}}]}],"peak_bytes":60}"#;
    let mut read: Share = serde_json::from_str(old).unwrap();
    let mut same = open_share(1);
    same.redeem(1, 1).unwrap();
    same.fetch(1, 1, (0, 100), 2);
    same.arrive(1, (0, 60), 3);
    same.transfers[0].begun_at = None;
    assert_eq!(read, same);
    // It goes on as it would have; how long it took counts from the redeem, which is all that is known.
    let facts = read.must(Event::Delivered { transfer: transfer(1), range: ByteRange::new(60, 100), evidence: Evidence::Confirmed }, 7);
    assert!(facts.iter().any(|fact| matches!(fact, Fact::Ended { duration_ms: Some(6000), .. })), "{facts:?}");
}

#[test]
fn how_long_a_transfer_took_counts_from_its_first_request() {
    let mut share = open_share(1);
    share.redeem(1, 1).unwrap();
    // One that ended before a byte left was not the first.
    share.fetch(1, 1, (0, 100), 10);
    share.end(1, 1, None, 11);
    share.fetch(1, 2, (0, 100), 20);
    let facts = share.must(Event::Delivered { transfer: transfer(1), range: ByteRange::new(0, 100), evidence: Evidence::Confirmed }, 25);
    let took = facts.iter().find_map(|fact| if let Fact::Ended { duration_ms, .. } = fact { *duration_ms } else { None });
    assert_eq!(took, Some(5000));
}

#[test]
fn a_link_that_nobody_takes_expires() {
    let mut share = open_share(1);
    assert_eq!(share.at(MAX - 1), State::Offered);
    assert_eq!(share.redeem(1, MAX), Err(Refused::Closed(Outcome::Expired)));
    assert_eq!(share.outcome(), Some(Outcome::Expired));
}

#[test]
fn one_of_three_taken_is_completed_when_the_time_is_up_and_keeps_its_grace() {
    let mut share = open_share(3);
    share.redeem(1, MAX - 20).unwrap();
    share.fetch(1, 1, (0, 100), MAX - 20);
    share.arrive(1, (0, 100), MAX - 10);
    assert_eq!(share.redeem(2, MAX), Err(Refused::Expired));
    assert_eq!(share.at(MAX), State::Delivered);
    assert_eq!(share.at(MAX - 10 + GRACE), State::Closing);
    assert_eq!(share.outcome(), Some(Outcome::Completed));
}

#[test]
fn an_expiry_does_not_cut_a_moving_transfer_but_the_ceiling_does() {
    let mut share = open_share(1);
    share.redeem(1, 1).unwrap();
    share.fetch(1, 1, (0, 100), 1);
    let mut now = 2;
    let mut byte = 0;
    while now < 2 * MAX {
        share.arrive(1, (byte, byte + 1), now);
        assert_eq!(share.at(now), State::Transferring, "at second {now}");
        (now, byte) = (now + 200, byte + 1);
    }
    assert_eq!(share.at(2 * MAX), State::Closing);
    assert_eq!(share.outcome(), Some(Outcome::TimedOut));
}

#[test]
fn a_stall_closes_the_share() {
    let mut share = open_share(1);
    share.redeem(1, 1).unwrap();
    share.fetch(1, 1, (0, 100), 1);
    share.arrive(1, (0, 50), 2);
    share.end(1, 1, None, 3);
    assert_eq!(share.at(2 + STALL - 1), State::Waiting);
    assert_eq!(share.at(2 + STALL), State::Closing);
    assert_eq!(share.outcome(), Some(Outcome::Stalled));
}

#[test]
fn a_stall_can_give_the_use_back() {
    let mut share = share_of(SIZE, PolicyRequest { on_stall: Some(OnStall::Reopen), ..Default::default() });
    share.must(Event::TunnelOpened, 0);
    share.redeem(1, 1).unwrap();
    share.fetch(1, 1, (0, 100), 1);
    share.arrive(1, (0, 50), 2);
    assert_eq!(share.at(2 + STALL), State::Offered);
    assert_eq!(share.percent(), 50);
    assert_eq!(share.may_fetch(transfer(1), seconds(2 + STALL)), Err(Refused::TransferOver(TransferEnd::Stalled)));
    share.redeem(2, 310).unwrap();
}

#[test]
fn one_stalled_recipient_does_not_cut_another() {
    let mut share = open_share(2);
    share.redeem(1, 1).unwrap();
    share.redeem(2, 1).unwrap();
    share.fetch(1, 1, (0, 100), 1);
    share.fetch(2, 2, (0, 100), 1);
    share.arrive(1, (0, 10), 2);
    share.arrive(2, (0, 10), STALL);
    assert_eq!(share.at(2 + STALL), State::Transferring);
    share.arrive(2, (10, 100), 3 + STALL);
    assert_eq!(share.at(3 + STALL + GRACE), State::Closing);
    assert_eq!(share.outcome(), Some(Outcome::Stalled));
}

#[test]
fn a_transfer_that_never_began_gives_the_use_back() {
    let mut share = open_share(1);
    share.redeem(1, 1).unwrap();
    assert_eq!(share.at(60), State::Waiting);
    assert_eq!(share.at(61), State::Offered);
    share.redeem(2, 62).unwrap();
    // A request that ends without a byte having left has not begun it either.
    share.fetch(2, 9, (0, 100), 63);
    share.end(2, 9, None, 70);
    assert_eq!(share.at(130), State::Offered);
}

#[test]
fn bytes_in_doubt_count_once_the_recipient_resumes_behind_them() {
    let mut share = open_share(1);
    share.redeem(1, 1).unwrap();
    share.fetch(1, 1, (0, 100), 1);
    share.arrive(1, (0, 40), 2);
    share.end(1, 1, Some((40, 60)), 3);
    share.fetch(1, 2, (55, 100), 10);
    share.arrive(1, (55, 100), 11);
    assert_eq!((share.state(seconds(11)), share.percent()), (State::Delivered, 100));
}

#[test]
fn the_resumed_request_may_come_before_the_old_one_is_known_to_be_dead() {
    let mut share = open_share(1);
    share.redeem(1, 1).unwrap();
    share.fetch(1, 1, (0, 100), 1);
    share.arrive(1, (0, 40), 2);
    share.fetch(1, 2, (55, 100), 10);
    share.arrive(1, (55, 100), 11);
    assert_eq!(share.percent(), 85);
    share.end(1, 1, Some((40, 60)), 12);
    assert_eq!(share.percent(), 100);
}

#[test]
fn a_far_jump_vouches_for_nothing() {
    let mut share = open_share(1);
    share.redeem(1, 1).unwrap();
    share.fetch(1, 1, (0, 100), 1);
    share.arrive(1, (0, 40), 2);
    share.end(1, 1, Some((40, 60)), 3);
    share.fetch(1, 2, (61, 100), 10);
    share.arrive(1, (61, 100), 11);
    assert_eq!(share.percent(), 79);
}

#[test]
fn a_part_fetched_beside_another_vouches_for_nothing_of_it() {
    let mut share = open_share(1);
    share.redeem(1, 1).unwrap();
    share.fetch(1, 1, (0, 50), 1);
    share.fetch(1, 2, (50, 100), 1);
    share.arrive(1, (50, 100), 2);
    share.arrive(1, (0, 20), 2);
    share.end(1, 2, None, 2);
    share.end(1, 1, Some((20, 50)), 3);
    assert_eq!(share.percent(), 70);
    share.fetch(1, 3, (50, 100), 4);
    assert_eq!(share.percent(), 70);
    share.fetch(1, 4, (30, 50), 5);
    assert_eq!(share.percent(), 80);
}

#[test]
fn after_a_crash_a_part_fetched_beside_another_vouches_for_nothing_of_it() {
    const MIB: u64 = 1024 * 1024;
    let mut share = share_of(100 * MIB, PolicyRequest::default());
    share.must(Event::TunnelOpened, 0);
    share.redeem(1, 1).unwrap();
    share.fetch(1, 1, (0, 100 * MIB), 1);
    share.fetch(1, 2, (50 * MIB, 100 * MIB), 1);
    share.arrive(1, (0, 10 * MIB), 2);
    share.arrive(1, (50 * MIB, 60 * MIB), 2);
    share.must(Event::Restarted, 1000);
    share.must(Event::TunnelOpened, 1001);
    share.fetch(1, 1, (61 * MIB, 100 * MIB), 1002);
    assert_eq!(share.percent(), 21, "the second part went on, the first did not");
    share.fetch(1, 2, (11 * MIB, 50 * MIB), 1003);
    assert_eq!(share.percent(), 22);
}

#[test]
fn the_time_that_the_program_was_away_is_nobodys_silence() {
    let mut share = open_share(1);
    share.redeem(1, 1).unwrap();
    share.fetch(1, 1, (0, 100), 1);
    share.arrive(1, (0, 40), 2);
    let stall = share.policy.limits.stall_timeout.as_secs();
    let back = 2 + 2 * stall;
    share.must(Event::Restarted, back);
    assert!(share.transfers[0].is_active(), "nobody could have come back yet");
    share.must(Event::TimePassed, back + stall - 1);
    assert!(share.transfers[0].is_active());
    share.must(Event::TimePassed, back + stall);
    assert_eq!(share.outcome(), Some(Outcome::Stalled));
}

#[test]
fn after_a_crash_the_resume_point_closes_the_gap_that_was_never_saved() {
    let mut share = open_share(1);
    share.redeem(1, 1).unwrap();
    share.fetch(1, 1, (0, 100), 1);
    share.arrive(1, (0, 40), 2);
    share.must(Event::Restarted, 1000);
    assert_eq!(share.state(seconds(1000)), State::Opening);
    share.must(Event::TunnelOpened, 1001);
    share.fetch(1, 1, (70, 100), 1002);
    share.arrive(1, (70, 100), 1003);
    assert_eq!(share.state(seconds(1003)), State::Delivered);
    assert_eq!(share.transfers[0].coverage.weakest_evidence(), Some(Evidence::HandedOver));
}

#[test]
fn an_empty_file_is_complete_when_it_was_answered_not_when_it_was_asked_for() {
    let mut share = share_of(0, PolicyRequest::default());
    share.must(Event::TunnelOpened, 0);
    share.redeem(1, 1).unwrap();
    share.fetch(1, 1, (0, 0), 2);
    assert_eq!((share.state(seconds(2)), share.percent()), (State::Transferring, 0));
    share.arrive(1, (0, 0), 3);
    assert_eq!((share.state(seconds(3)), share.percent()), (State::Delivered, 100));
}

#[test]
fn a_share_with_a_start_time_waits_for_it() {
    let start = Some(Timestamp(1_000_000));
    let mut share = share_of(SIZE, PolicyRequest { starts_at: start, expires_in_seconds: Some(100), ..Default::default() });
    assert_eq!((share.state(seconds(0)), share.effect()), (State::Scheduled, None));
    assert_eq!(share.may_redeem(link(1), None, seconds(5)), Err(Refused::NotStarted));
    assert_eq!(share.at(1000), State::Opening);
    share.must(Event::TunnelOpened, 1000);
    assert_eq!(share.at(1099), State::Offered);
    assert_eq!(share.at(1100), State::Closing);
}

#[test]
fn either_clock_expires_a_link_and_only_the_steady_one_stalls_a_transfer() {
    let year = Duration::from_secs(365 * 24 * 3600);
    let mut share = open_share(1);
    let jumped_ahead = Moment { steady: seconds(5).steady, wall: seconds(5).wall.plus(year) };
    assert!(share.clone().has_expired(jumped_ahead));
    assert_eq!(share.clone().on(Event::TimePassed, jumped_ahead).facts, [Fact::Closing { outcome: Outcome::Expired }]);
    // Back a year: the steady clock still ends it in time.
    let jumped_back = Moment { steady: seconds(MAX).steady, wall: Timestamp(-(year.as_millis() as i64)) };
    assert_eq!(share.clone().on(Event::TimePassed, jumped_back).facts, [Fact::Closing { outcome: Outcome::Expired }]);
    // A transfer that moves is not cut by the jump.
    share.redeem(1, 1).unwrap();
    share.fetch(1, 1, (0, 100), 2);
    assert!(share.on(Event::TimePassed, jumped_ahead).facts.is_empty());
}

#[test]
fn more_time_counts_from_now_and_stays_under_the_ceiling() {
    let mut share = share_of(SIZE, PolicyRequest { expires_in_seconds: Some(60), ..Default::default() });
    share.must(Event::TunnelOpened, 0);
    let facts = share.must(Event::Extended { expires_in: Duration::from_secs(10 * MAX) }, 50);
    assert_eq!(facts, [Fact::Extended { expires_at: seconds(50 + MAX).wall }]);
    assert_eq!(share.policy.clamped, [Clamped::ExpiresInSeconds]);
    share.must(Event::Extended { expires_in: Duration::from_secs(MAX) }, 50);
    assert_eq!(share.policy.clamped, []);
    assert_eq!(share.at(61), State::Offered);
    share.must(Event::Revoked, 62);
    let late = share.on(Event::Extended { expires_in: Duration::from_secs(1) }, seconds(63));
    assert_eq!(late.answer, Err(Refused::Closed(Outcome::Revoked)));
}

#[test]
fn a_closed_share_opens_again_with_a_new_link_and_the_old_one_stays_dead() {
    let mut share = open_share(1);
    assert_eq!(share.on(Event::Reopened { link: link(2), file: file(SIZE) }, seconds(1)).answer, Err(Refused::NotClosed));
    share.redeem(1, 1).unwrap();
    share.must(Event::Revoked, 2);
    share.must(Event::TunnelClosed, 3);
    share.must(Event::Reopened { link: link(2), file: file(50) }, 4);
    assert_eq!((share.state(seconds(4)), share.effect()), (State::Opening, Some(Effect::OpenTunnel)));
    share.must(Event::TunnelOpened, 5);
    assert_eq!(share.may_redeem(link(1), None, seconds(6)), Err(Refused::Replaced));
    assert_eq!(share.may_redeem(link(2), None, seconds(6)), Ok(()));
    assert_eq!(share.may_fetch(transfer(1), seconds(6)), Err(Refused::UnknownTransfer));
}

/// Closed by its owner at second 100, and shut.
fn revoked(mut share: Share) -> Share {
    share.must(Event::Revoked, 100);
    share.must(Event::TunnelClosed, 101);
    share
}

#[test]
fn a_close_is_taken_back_and_the_same_link_works_until_its_same_end_with_the_same_uses() {
    let mut share = open_share(2);
    share.looks.add(Looker::Person);
    let before = share.clone();
    share = revoked(share);
    assert_eq!(share.undo_until(seconds(101)), Some(seconds(160).wall));
    assert_eq!(share.must(Event::Undone, 159), [Fact::Undone]);
    assert_eq!((share.state(seconds(159)), share.effect()), (State::Opening, Some(Effect::OpenTunnel)), "the door was really shut");
    assert_eq!(share.may_redeem(link(1), None, seconds(159)), Err(Refused::NotOpen));
    share.must(Event::TunnelOpened, 160);
    assert_eq!(share, before, "as if it had not been closed");
    assert_eq!((share.redeem(1, 161), share.undo_until(seconds(161))), (Ok(()), None));
}

#[test]
fn a_close_is_taken_back_only_once_it_is_shut_only_soon_and_only_by_its_owner() {
    let may = |share: &Share, at| share.clone().on(Event::Undone, seconds(at)).answer;
    let mut share = open_share(1);
    assert_eq!((may(&share, 99), share.undo_until(seconds(99))), (Err(Refused::NotClosed), None));
    share.must(Event::Revoked, 100);
    assert_eq!(may(&share, 100), Err(Refused::NotClosed), "the door is not shut yet");
    assert_eq!(share.undo_until(seconds(100)), Some(seconds(160).wall), "and will be in a moment");
    // Closing takes its time: that does not make the time longer.
    share.must(Event::TunnelClosed, 158);
    assert_eq!((may(&share, 159), may(&share, 160)), (Ok(()), Err(Refused::UndoTooLate)));
    assert_eq!(share.undo_until(seconds(160)), None);
    assert_eq!(may(&share, 161), Err(Refused::UndoTooLate));

    let mut expired = open_share(1);
    expired.at(MAX);
    expired.must(Event::TunnelClosed, MAX);
    assert_eq!((may(&expired, MAX), expired.undo_until(seconds(MAX))), (Err(Refused::UndoTooLate), None), "nobody closed it");

    let mut late = open_share(1);
    late.must(Event::Revoked, MAX - 10);
    late.must(Event::TunnelClosed, MAX - 9);
    assert_eq!(late.undo_until(seconds(MAX - 1)), Some(seconds(MAX).wall));
    assert_eq!((may(&late, MAX - 1), may(&late, MAX)), (Ok(()), Err(Refused::UndoTooLate)), "the link ended meanwhile");
    let jumped = Moment { steady: seconds(MAX - 5).steady, wall: seconds(MAX).wall };
    assert_eq!(late.clone().on(Event::Undone, jumped).answer, Err(Refused::UndoTooLate), "by either clock");

    let mut restored = revoked(open_share(1));
    restored.never_undo();
    assert_eq!((may(&restored, 102), restored.undo_until(seconds(102))), (Err(Refused::UndoTooLate), None));
}

#[test]
fn a_close_is_not_taken_back_once_a_byte_may_have_left() {
    let may = |share: &Share| share.clone().on(Event::Undone, seconds(102)).answer;
    let mut begun = open_share(3);
    begun.redeem(1, 1).unwrap();
    begun.fetch(1, 1, (0, 100), 2);
    let begun = revoked(begun);
    assert_eq!((may(&begun), begun.undo_until(seconds(102))), (Err(Refused::UndoAfterBytes), None));

    let mut delivered = open_share(1);
    delivered.redeem(1, 1).unwrap();
    delivered.fetch(1, 1, (0, 100), 2);
    delivered.arrive(1, (0, 100), 3);
    assert_eq!(may(&revoked(delivered.clone())), Err(Refused::UndoAfterBytes));
    delivered.at(3 + GRACE);
    delivered.must(Event::TunnelClosed, 3 + GRACE);
    assert_eq!(delivered.on(Event::Undone, seconds(3 + GRACE)).answer, Err(Refused::UndoAfterBytes), "it is used up");

    let mut folded = unlimited();
    take(&mut folded, 1, 1);
    folded.policy.limits.grace_period = Duration::ZERO;
    for n in 2..(MAX_KEPT_OVER as u64 + 4) {
        take(&mut folded, n, n);
    }
    folded.transfers.clear();
    folded.peak_bytes = 0;
    assert_eq!(may(&revoked(folded)), Err(Refused::UndoAfterBytes));

    // A byte of a transfer that gave its use back, and is not even kept.
    let mut stalled = share_of(SIZE, PolicyRequest { on_stall: Some(OnStall::Reopen), ..Default::default() });
    (stalled.policy.limits.stall_timeout, stalled.policy.limits.max_tunnel) = (Duration::from_secs(1), Duration::from_secs(MAX));
    stalled.must(Event::TunnelOpened, 0);
    stalled.redeem(0, 1).unwrap();
    stalled.fetch(0, 1, (0, 100), 1);
    for n in 1..=(MAX_GIVEN_BACK as u8 + 1) {
        stalled.redeem(n, 1 + u64::from(n)).unwrap();
    }
    stalled.at(90);
    assert!(stalled.transfers.iter().all(|t| !t.begun) && stalled.peak_bytes == 0, "nothing else tells");
    assert_eq!(may(&revoked(stalled)), Err(Refused::UndoAfterBytes));
}

#[test]
fn whoever_pressed_the_button_and_has_no_byte_spent_nothing_when_it_closes() {
    let mut share = open_share(1);
    share.redeem(1, 99).unwrap();
    let mut share = revoked(share);
    assert!(matches!(share.transfers[0].ended, Some((TransferEnd::NeverBegan, _))));
    share.must(Event::Undone, 110);
    share.must(Event::TunnelOpened, 111);
    assert_eq!((share.uses_left(), share.redeem(2, 112)), (Some(1), Ok(())));
    assert_eq!(share.may_fetch(transfer(1), seconds(112)), Err(Refused::TransferOver(TransferEnd::NeverBegan)));
}

#[test]
fn a_close_before_the_start_is_taken_back_to_before_the_start() {
    let start = Some(Timestamp(130_000));
    let share = revoked(share_of(SIZE, PolicyRequest { starts_at: start, expires_in_seconds: Some(100), ..Default::default() }));
    let mut early = share.clone();
    early.must(Event::Undone, 120);
    assert_eq!((early.state(seconds(120)), early.at(130)), (State::Scheduled, State::Opening));
    let mut late = share;
    late.must(Event::Undone, 140);
    assert_eq!((late.state(seconds(140)), late.expires.wall), (State::Opening, Timestamp(230_000)));
}

#[test]
fn who_looked_is_kept_and_counted_anew_with_another_link_and_older_versions_had_nobody() {
    let mut share = open_share(1);
    share.looks.add(Looker::Preview);
    let mut saved = serde_json::to_value(&share).unwrap();
    assert_eq!(serde_json::from_value::<Share>(saved.clone()).unwrap().looks, Looks { previews: 1, people: 0 });
    for field in ["looks", "revoked", "sent_unkept"] {
        saved.as_object_mut().unwrap().remove(field).expect("it is saved");
    }
    assert_eq!(serde_json::from_value::<Share>(saved).unwrap().looks, Looks::default());
    let mut share = revoked(share);
    share.must(Event::Reopened { link: link(2), file: file(SIZE) }, 110);
    assert_eq!((share.looks, share.undo_until(seconds(110))), (Looks::default(), None));
}

#[test]
fn a_stopped_transfer_closes_a_single_use_share() {
    let mut share = open_share(1);
    share.redeem(1, 1).unwrap();
    share.fetch(1, 1, (0, 100), 2);
    share.must(Event::TransferStopped { transfer: transfer(1) }, 3);
    assert_eq!(share.outcome(), Some(Outcome::Revoked));
}

#[test]
fn what_was_due_happens_even_when_the_event_is_refused() {
    let mut share = open_share(1);
    let redeemed = Event::Redeemed { link: link(1), transfer: transfer(1), recipient: Recipient::default() };
    let decided = share.on(redeemed, seconds(MAX));
    assert_eq!(decided.answer, Err(Refused::Closed(Outcome::Expired)));
    assert_eq!(decided.facts, [Fact::Closing { outcome: Outcome::Expired }]);
}

#[test]
fn whoever_redeems_and_leaves_for_ever_does_not_grow_the_share() {
    let mut share = open_share(1);
    for n in 0..=255u8 {
        let at = u64::from(n) * 13;
        let redeemed = Event::Redeemed { link: link(1), transfer: transfer(n), recipient: Recipient::default() };
        assert_eq!(share.on(redeemed, seconds(at)).answer.is_ok(), n.is_multiple_of(5), "{n}");
    }
    assert!(share.transfers.len() <= MAX_GIVEN_BACK + 1);
}

// ---------------------------------------------------------------------------------------------------------------------
// Every short history.

/// A share and what a bystander knows of it.
#[derive(Clone)]
struct World {
    share: Share,
    now: u64,
    percent: u8,
    /// Successful redeems, less the uses that were given back.
    redeems: u32,
    given_back: u32,
    seen_transfers: u8,
    requests: u64,
    /// When its owner closed it.
    revoked: Option<u64>,
    /// The transfers of which a byte may have left.
    begun: Vec<TransferId>,
    /// The bytes that arrived, per transfer, as a bitmap.
    arrived: Vec<(TransferId, [bool; SIZE as usize])>,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Opened,
    Failed,
    Lost,
    Redeem,
    FetchAll,
    FetchRest,
    ArriveFirstHalf,
    ArriveSecondHalf,
    EndClean,
    EndInDoubt,
    Stop,
    Change,
    Revoke,
    Extend,
    Restart,
    LoseController,
    TunnelClosed,
    Undo,
    Probe,
    Nothing,
}

const ACTS: [Act; 20] = [
    Act::Opened,
    Act::Failed,
    Act::Lost,
    Act::Redeem,
    Act::FetchAll,
    Act::FetchRest,
    Act::ArriveFirstHalf,
    Act::ArriveSecondHalf,
    Act::EndClean,
    Act::EndInDoubt,
    Act::Stop,
    Act::Change,
    Act::Revoke,
    Act::Extend,
    Act::Restart,
    Act::LoseController,
    Act::TunnelClosed,
    Act::Undo,
    Act::Probe,
    Act::Nothing,
];
/// No time, less than a stall, more than a stall, more than everything.
const DELAYS: [u64; 4] = [0, 61, STALL + 1, 2 * MAX + GRACE];

impl World {
    /// `max_downloads` of `None` is a share without a limit.
    fn new(max_downloads: Option<u64>, on_stall: OnStall) -> Self {
        let unlimited_downloads = max_downloads.is_none();
        let request = PolicyRequest { max_downloads, unlimited_downloads, on_stall: Some(on_stall), ..Default::default() };
        let share = share_of(SIZE, request);
        Self {
            share,
            now: 0,
            percent: 0,
            redeems: 0,
            given_back: 0,
            seen_transfers: 0,
            requests: 0,
            revoked: None,
            begun: Vec::new(),
            arrived: Vec::new(),
        }
    }

    fn event(&mut self, act: Act) -> Option<Event> {
        let latest = self.share.transfers.last().map(|t| t.id);
        Some(match act {
            Act::Opened => Event::TunnelOpened,
            Act::Failed => Event::TunnelFailed,
            Act::Lost => Event::TunnelLost,
            Act::Redeem => {
                self.seen_transfers += 1;
                Event::Redeemed { link: link(1), transfer: transfer(self.seen_transfers), recipient: Recipient::default() }
            }
            Act::FetchAll | Act::FetchRest => {
                self.requests += 1;
                let start = if matches!(act, Act::FetchAll) { 0 } else { SIZE / 2 };
                Event::RequestOpened {
                    transfer: latest?,
                    request: RequestId(self.requests),
                    range: ByteRange::new(start, SIZE),
                    carrier: None,
                }
            }
            Act::ArriveFirstHalf | Act::ArriveSecondHalf => {
                let start = if matches!(act, Act::ArriveFirstHalf) { 0 } else { SIZE / 2 };
                let range = ByteRange::new(start, start + SIZE / 2);
                Event::Delivered { transfer: latest?, range, evidence: Evidence::Acknowledged }
            }
            Act::EndClean => Event::RequestEnded { transfer: latest?, request: RequestId(self.requests), in_doubt: None },
            Act::EndInDoubt => {
                let in_doubt = Some(ByteRange::new(SIZE / 4, SIZE / 2));
                Event::RequestEnded { transfer: latest?, request: RequestId(self.requests), in_doubt }
            }
            Act::Stop => Event::TransferStopped { transfer: latest? },
            Act::Change => Event::SourceChanged,
            Act::Revoke => Event::Revoked,
            Act::Extend => Event::Extended { expires_in: Duration::from_secs(100) },
            Act::Restart => Event::Restarted,
            Act::LoseController => Event::ControllerSilent { controller: ControllerNumber::ALONE },
            Act::TunnelClosed => Event::TunnelClosed,
            Act::Undo => Event::Undone,
            Act::Probe => Event::Probed { link: link(1), after_close: self.share.is_closed(), reach: Reach::Yes },
            Act::Nothing => Event::TimePassed,
        })
    }

    fn step(&mut self, act: Act, delay: u64) {
        self.now += delay;
        let now = seconds(self.now);
        let Some(event) = self.event(act) else { return };
        let (before, was_redeem) = (self.share.clone(), matches!(act, Act::Redeem));
        let decided = self.share.on(event.clone(), now);
        let share = &self.share;

        // A close is taken back exactly where it is the owner's own, within a minute, before the link's end, and nobody has a byte.
        let is_undone = decided.facts.contains(&Fact::Undone);
        if matches!(act, Act::Undo) {
            let is_soon = self.revoked.is_some_and(|at| self.now < at + UNDO_FOR.as_secs());
            let may = before.is_closed() && is_soon && self.begun.is_empty() && !before.has_expired(now);
            assert_eq!((is_undone, decided.answer.is_ok()), (may, may), "{before:?} at {}", self.now);
        }
        if is_undone {
            assert_eq!((share.link, share.expires, share.uses_spent()), (before.link, before.expires, before.uses_spent()));
            assert_eq!(share.effect(), Some(Effect::OpenTunnel));
            self.revoked = None;
        }
        // Closed is final until the owner opens it again, and a closing share only closes.
        if before.is_closed() && !is_undone {
            let reach = if matches!(act, Act::Probe) { Some(Reach::Yes) } else { before.reach };
            assert_eq!(share, &Share { reach, ..before.clone() }, "{event:?} changed a closed share");
        }
        if before.outcome().is_some() && !is_undone {
            assert_eq!(share.outcome(), before.outcome(), "{event:?} changed an outcome");
        }
        // What was found is said of the share as it stands, and of no other.
        assert!(
            share.reach.is_none() || matches!(share.phase, Phase::Open | Phase::Closed { .. }),
            "{:?} of {:?}",
            share.reach,
            share.phase
        );
        // Revoke closes, from every state.
        if matches!(act, Act::Revoke) {
            assert!(share.outcome().is_some());
            if decided.facts.last() == Some(&Fact::Closing { outcome: Outcome::Revoked }) && before.outcome().is_none() {
                self.revoked = Some(self.now);
            }
        }
        // A request that ended before a byte left did not begin it after all; one that is not kept stays as it was last seen.
        self.begun.retain(|id| share.transfer(*id).is_none_or(|t| t.begun));
        self.begun.extend(share.transfers.iter().filter(|t| t.begun).map(|t| t.id));
        self.begun.dedup();
        // Exactly one redeem per use.
        self.given_back += decided.facts.iter().filter(|f| matches!(f, Fact::Ended { given_back: true, .. })).count() as u32;
        if was_redeem && decided.answer.is_ok() {
            self.redeems += 1;
            assert!(before.outcome().is_none() && share.outcome().is_none());
            assert!(!before.has_expired(now), "an expired link was redeemed");
            assert_eq!(share.phase, Phase::Open);
        }
        let spent = self.redeems - self.given_back;
        assert!(spent <= share.policy.uses_max(), "more redeems than uses");
        assert_eq!(share.uses_spent(), u64::from(spent));
        assert_eq!(share.uses_left().map(|left| left + spent), share.policy.max_downloads);
        // A share without a limit is never used up, and ends as completed if and only if somebody has it.
        if share.policy.max_downloads.is_none() {
            assert!(!share.is_spent());
            match share.outcome() {
                Some(Outcome::Expired) => assert_eq!(share.completed(), 0),
                Some(Outcome::Completed) => assert!(share.completed() > 0),
                _ => {}
            }
        }
        // Percent is monotone in 0..=100.
        assert!((self.percent..=100).contains(&share.percent()), "percent fell from {} to {}", self.percent, share.percent());
        self.percent = share.percent();
        // Complete if and only if covered, and what is covered is a union.
        for t in &share.transfers {
            let covered = t.coverage.covered_bytes();
            assert!(covered <= SIZE);
            assert_eq!(covered == SIZE, t.coverage.is_whole(SIZE));
            if t.is_completed() {
                assert_eq!(covered, SIZE, "completed without every byte");
            }
            if t.is_active() && t.begun {
                assert!(covered < SIZE, "every byte arrived and it is not completed");
            }
            let cell = match self.arrived.iter_mut().position(|(id, _)| *id == t.id) {
                Some(index) => &mut self.arrived[index].1,
                None => {
                    self.arrived.push((t.id, [false; SIZE as usize]));
                    &mut self.arrived.last_mut().unwrap().1
                }
            };
            let covered_now: Vec<ByteRange> = t.coverage.ranges();
            let is_covered = |byte: usize| covered_now.iter().any(|r| (r.start..r.end).contains(&(byte as u64)));
            for (byte, had) in cell.iter_mut().enumerate() {
                assert!(!*had || is_covered(byte), "byte {byte} was delivered and then not");
                *had = is_covered(byte);
            }
        }
        self.assert_nothing_waits_for_ever();
        // A share reads back from its saved form as it was.
        let saved = serde_json::to_string(&self.share).unwrap();
        assert_eq!(serde_json::from_str::<Share>(&saved).unwrap(), self.share);
    }

    /// Left to its deadlines and its effects alone, every share ends, soon, and within its bound.
    fn assert_nothing_waits_for_ever(&self) {
        let mut share = self.share.clone();
        let bound = seconds(self.now + 2 * MAX + GRACE + MAX).steady;
        for _ in 0..200 {
            if share.is_closed() {
                return;
            }
            match (share.effect(), share.deadline()) {
                (Some(Effect::CloseTunnel), deadline) => {
                    assert_eq!(deadline, None);
                    assert!(share.on(Event::TunnelClosed, seconds(self.now)).answer.is_ok());
                }
                (_, Some(deadline)) => {
                    assert!(deadline.at <= bound, "it waits until {:?} for {:?}", deadline.at, deadline.reason);
                    let at = Moment { steady: deadline.at.max(seconds(self.now).steady), wall: Timestamp(deadline.at.0) };
                    let before = share.clone();
                    assert!(share.on(Event::TimePassed, at).answer.is_ok());
                    assert_ne!(share, before, "{:?} came and nothing happened", deadline.reason);
                }
                (effect, None) => panic!("it waits for ever: {effect:?} in {:?}", share.phase),
            }
        }
        panic!("it takes too many steps to end");
    }
}

fn walk(world: &World, depth: usize, walked: &mut u64) {
    if depth == 0 {
        return;
    }
    for act in ACTS {
        for delay in DELAYS {
            let mut next = world.clone();
            next.step(act, delay);
            *walked += 1;
            walk(&next, depth - 1, walked);
        }
    }
}

#[test]
fn every_short_history_keeps_the_promises() {
    let mut walked = 0;
    for (max_downloads, on_stall) in [(Some(1), OnStall::Close), (Some(2), OnStall::Reopen), (None, OnStall::Close)] {
        // Three roots: from the very beginning, from where somebody has half the file, and from where it was closed before that.
        let fresh = World::new(max_downloads, on_stall);
        walk(&fresh, 3, &mut walked);
        let mut halfway = World::new(max_downloads, on_stall);
        for act in [Act::Opened, Act::Redeem, Act::FetchAll, Act::ArriveFirstHalf] {
            halfway.step(act, 0);
        }
        walk(&halfway, 3, &mut walked);
        let mut closed = World::new(max_downloads, on_stall);
        for act in [Act::Opened, Act::Redeem, Act::Revoke] {
            closed.step(act, 0);
        }
        walk(&closed, 2, &mut walked);
    }
    assert_eq!(walked, 6 * (80 + 80 * 80 + 80 * 80 * 80) + 3 * (80 + 80 * 80));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn every_long_history_keeps_the_promises(
        uses in proptest::option::of(1u64..4),
        reopen in any::<bool>(),
        steps in proptest::collection::vec((0..ACTS.len(), 0..8usize), 1..60),
    ) {
        let mut world = World::new(uses, if reopen { OnStall::Reopen } else { OnStall::Close });
        for (act, delay) in steps {
            // Most steps follow at once, or every history would be over after three.
            let delay = DELAYS.get(delay).copied().unwrap_or(1);
            world.step(ACTS[act], if world.seen_transfers < 200 { delay } else { 0 });
        }
    }
}
