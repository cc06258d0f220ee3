use std::time::Duration;

use super::super::{
    ByteRange, CatalogPath, ControllerNumber, Event, Evidence, Fact, FileIdentity, Limits, Moment, Outcome, Policy, PolicyRequest,
    Recipient, RequestId, Share, ShareId, SharedFile, State, Steady, TokenId, TransferId,
};

const A: ControllerNumber = ControllerNumber(1);
const B: ControllerNumber = ControllerNumber(4094);

fn seconds(n: u64) -> Moment {
    Moment::default().plus(Duration::from_secs(n))
}

fn transfer() -> TransferId {
    TransferId::from_bytes([1; 16])
}

fn request(controller: ControllerNumber, at: u64) -> RequestId {
    RequestId::among(controller, seconds(at).steady, 0)
}

/// A share of 100 bytes that was redeemed in second 1.
fn redeemed_share() -> Share {
    let limits =
        Limits { max_tunnel: Duration::from_secs(3600), stall_timeout: Duration::from_secs(300), grace_period: Duration::from_secs(600) };
    let policy = Policy::new(PolicyRequest::default(), limits, seconds(0)).unwrap();
    let identity = FileIdentity { device: 1, inode: 2, size_bytes: 100, modified_ns: 3, changed_ns: 4 };
    let file = SharedFile { path: CatalogPath::parse("film").unwrap(), identity };
    let (mut share, _) = Share::new(ShareId::from_random(7), TokenId(uuid::Uuid::from_u128(1)), file, policy, None, seconds(0));
    must(&mut share, Event::TunnelOpened, 0);
    let link = share.link;
    must(&mut share, Event::Redeemed { link, transfer: transfer(), recipient: Recipient::default() }, 1);
    share
}

fn must(share: &mut Share, event: Event, at: u64) -> Vec<Fact> {
    let decided = share.on(event, seconds(at));
    assert_eq!(decided.answer, Ok(()));
    decided.facts
}

fn fetch(share: &mut Share, by: ControllerNumber, (start, end): (u64, u64), at: u64) {
    let range = ByteRange::new(start, end);
    must(share, Event::RequestOpened { transfer: transfer(), request: request(by, at), range, carrier: None }, at);
}

fn arrive(share: &mut Share, (start, end): (u64, u64), at: u64) -> Vec<Fact> {
    let range = ByteRange::new(start, end);
    must(share, Event::Delivered { transfer: transfer(), range, evidence: Evidence::Acknowledged }, at)
}

#[test]
fn a_request_tells_who_answers_it_and_when_it_began() {
    for controller in [A, B] {
        assert_eq!(request(controller, 5).controller(), controller);
    }
    assert!(request(A, 6) > request(B, 5), "also where its controller has a smaller number");
    let (first, second) = (RequestId::among(A, Steady(1_700_000_000_000), 1023), RequestId::among(A, Steady(1_700_000_000_001), 0));
    assert!(second > first);
    assert_eq!(RequestId(77).controller(), ControllerNumber::ALONE);
}

#[test]
fn a_redeem_that_was_saved_without_an_answer_can_be_asked_for_again() {
    let mut share = redeemed_share();
    let (link, before) = (share.link, share.clone());
    let again = Event::Redeemed { link, transfer: transfer(), recipient: Recipient::default() };
    assert_eq!(must(&mut share, again, 2), []);
    assert_eq!(share, before);
}

#[test]
fn what_two_know_of_a_transfer_adds_up_and_completes_it_once() {
    let mut share = redeemed_share();
    fetch(&mut share, A, (0, 50), 2);
    fetch(&mut share, B, (50, 100), 3);
    let (mut one, mut other) = (share.clone(), share);
    arrive(&mut one, (0, 50), 4);
    arrive(&mut other, (40, 100), 5);
    let facts = one.learn(&other, seconds(6)).facts;
    assert!(facts.iter().any(|fact| matches!(fact, Fact::Ended { .. })) && facts.contains(&Fact::Delivered), "{facts:?}");
    assert_eq!((one.percent(), one.state(seconds(6))), (100, State::Delivered));
    assert_eq!(one.learn(&other, seconds(7)).facts, []);
}

#[test]
fn nothing_is_learned_of_a_share_that_was_opened_again_or_is_closed() {
    let mut share = redeemed_share();
    fetch(&mut share, A, (0, 100), 2);
    let mut other = share.clone();
    arrive(&mut other, (0, 60), 3);
    let mut replaced = share.clone();
    replaced.link = TokenId(uuid::Uuid::from_u128(2));
    must(&mut share, Event::Revoked, 4);
    must(&mut share, Event::TunnelClosed, 4);
    for stands in [&mut share, &mut replaced] {
        let before = stands.clone();
        assert_eq!(stands.learn(&other, seconds(5)).facts, []);
        assert_eq!(*stands, before);
    }
}

#[test]
fn whoever_may_send_is_known_until_it_ends_or_says_so() {
    let mut share = redeemed_share();
    fetch(&mut share, A, (0, 50), 2);
    fetch(&mut share, B, (50, 100), 3);
    assert_eq!(share.may_be_sent_by(A), [B]);
    assert_eq!(share.may_be_sent_by(ControllerNumber(9)), [A, B]);
    must(&mut share, Event::ControllerSilent { controller: B }, 10);
    assert_eq!(share.may_be_sent_by(A), [B], "nobody knows that it does not");
    assert!(share.is_unheard(B) && !share.is_unheard(A));
    must(&mut share, Event::Revoked, 11);
    assert_eq!(share.may_be_sent_by(A), [B], "nor is its closing known to it");
    must(&mut share, Event::ControllerEnded { controller: B, for_good: false }, 12);
    assert_eq!(share.may_be_sent_by(A), []);
    assert_eq!(share.outcome(), Some(Outcome::Revoked));
}

#[test]
fn a_silent_controller_that_answered_nothing_is_no_matter() {
    let mut share = redeemed_share();
    let before = share.clone();
    must(&mut share, Event::ControllerSilent { controller: B }, 2);
    must(&mut share, Event::ControllerEnded { controller: B, for_good: false }, 2);
    assert_eq!(share, before);
}

#[test]
fn what_a_lost_controller_had_not_told_counts_when_the_recipient_goes_on_behind_it() {
    let mut share = redeemed_share();
    fetch(&mut share, A, (0, 100), 2);
    arrive(&mut share, (0, 40), 3);
    must(&mut share, Event::ControllerSilent { controller: A }, 10);
    assert_eq!(share.percent(), 40);
    fetch(&mut share, B, (70, 100), 11);
    arrive(&mut share, (70, 100), 12);
    assert_eq!(share.state(seconds(12)), State::Delivered);
    assert_eq!(share.transfers[0].coverage.weakest_evidence(), Some(Evidence::HandedOver));
}

#[test]
fn the_requests_of_the_others_go_on() {
    let mut share = redeemed_share();
    fetch(&mut share, A, (0, 50), 2);
    fetch(&mut share, B, (50, 100), 3);
    must(&mut share, Event::ControllerEnded { controller: A, for_good: false }, 10);
    assert_eq!(share.transfers[0].open_requests(), 1);
    assert_eq!(share.may_be_sent_by(A), [B]);
}

#[test]
fn the_time_without_a_watcher_is_nobodys_silence() {
    let mut share = redeemed_share();
    fetch(&mut share, A, (0, 100), 2);
    must(&mut share, Event::TakenOver { with_its_way_in: false }, 1000);
    assert!(share.transfers[0].is_active());
    assert_eq!(share.state(seconds(1000)), State::Transferring);
    let facts = must(&mut share, Event::TakenOver { with_its_way_in: true }, 1001);
    assert_eq!((facts, share.state(seconds(1001))), (vec![Fact::TunnelLost], State::Opening));
}

#[test]
fn what_nginx_sends_for_a_controller_is_waited_for_until_that_is_gone_for_good() {
    let mut share = redeemed_share();
    let ends = "127.0.0.1:1".parse().unwrap();
    let carrier = super::super::Carrier { name: 7, local: ends, peer: ends, cookie: 1, begins_at: 0, is_proxied: false };
    let opened =
        Event::RequestOpened { transfer: transfer(), request: request(B, 2), range: ByteRange::new(0, 100), carrier: Some(carrier) };
    must(&mut share, opened, 2);
    must(&mut share, Event::Revoked, 3);
    must(&mut share, Event::ControllerEnded { controller: B, for_good: false }, 4);
    assert_eq!(share.may_be_sent_by(A), [B]);
    must(&mut share, Event::ControllerEnded { controller: B, for_good: true }, 400);
    assert_eq!(share.may_be_sent_by(A), []);
}
