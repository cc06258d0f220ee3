mod closing;
mod looking;
mod probing;
mod together;
mod undoing;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, join_all, ready};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::catalog::{CatalogOptions, DigestCache};
use crate::clock::FakeClock;
use crate::meter::{self, Reports, Request};
use crate::share::{ByteRange, Evidence, Fact, FileIdentity, Moment, Outcome, Recipient, RequestId, Steady, Timestamp};
use crate::store::audit::AuditEntry;
use crate::store::mortal::Mortal;
use crate::store::{EventQuery, ShareQuery};
use crate::token::{Key, TransferSecret};
use crate::tunnel::Doors;
use crate::tunnel::fake::{Fake, Mood};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const SIZE: u64 = 1000;

#[tokio::test(start_paused = true)]
async fn a_sign_of_life_comes_from_the_task_itself() {
    let mut scene = Scene::new().await;
    assert!(scene.handle.answers_within(Duration::from_secs(1)).await);
    scene.task.abort();
    assert!((&mut scene.task).await.is_err());
    assert!(!scene.handle.answers_within(Duration::from_secs(1)).await);
}

#[tokio::test(start_paused = true)]
async fn other_limits_hold_for_shares_that_are_made_from_then_on() {
    let scene = Scene::new().await;
    let before = scene.share().await;
    let limits = Limits { max_tunnel: Duration::from_secs(7), ..LIMITS };
    scene.handle.set_limits(limits, Duration::ZERO);
    assert_eq!(scene.share().await.share.policy.limits, limits);
    assert_eq!(scene.handle.show(before.share.id).await.unwrap().unwrap().share.policy.limits, LIMITS);
}

#[tokio::test(start_paused = true)]
async fn a_share_opens_its_door_and_a_revoke_shuts_it() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    assert_eq!(view.state, State::Offered);
    assert!(scene.doors.is_open(view.share.id));
    assert!(view.url.as_ref().unwrap().starts_with(&format!("https://fake.example/{}/", view.share.id)));
    for _ in 0..2 {
        scene.handle.revoke(view.share.id).await.unwrap();
    }
    let closed = scene.closed(view.share.id).await;
    assert_eq!(closed.share.outcome(), Some(Outcome::Revoked));
    assert!(!scene.doors.is_open(view.share.id) && closed.url.is_none());
    assert!(scene.handle.living().is_empty());
    assert_eq!(scene.handle.history(ShareQuery { limit: 10, ..ShareQuery::default() }).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_share_whose_way_in_opens_at_once_waits_for_the_disk_once() {
    let scene = Scene::new().await;
    scene.tunnel.opens_at_once.store(true, Ordering::Relaxed);
    scene.store.die_after(1);
    let view = scene.share().await;
    assert_eq!(view.state, State::Offered);
    assert!(scene.doors.is_open(view.share.id));
    let events = scene.store.events(EventQuery { limit: 10, ..EventQuery::default() }).await.unwrap();
    assert_eq!(events.iter().map(|record| record.fact.clone()).collect::<Vec<_>>(), [Fact::Created, Fact::Opened]);
    scene.store.revive();
    // A crash right behind the save leaves it shut; the next start opens it.
    scene.doors.shut(view.share.id);
    let scene = scene.crash().start().await;
    let again = scene.until(view.share.id, |view| view.state == State::Offered).await;
    assert!(scene.doors.is_open(again.share.id));
}

#[tokio::test(start_paused = true)]
async fn no_door_is_opened_for_a_share_that_could_not_be_saved() {
    let scene = Scene::new().await;
    scene.tunnel.opens_at_once.store(true, Ordering::Relaxed);
    scene.store.die_after(0);
    assert!(matches!(scene.try_share().await, Err(ControllerError::Store(_))));
    assert!(scene.doors.all_open().is_empty());
    assert!(scene.handle.living().is_empty());
}

#[tokio::test(start_paused = true)]
async fn of_many_who_redeem_at_once_one_wins_and_its_transfer_works_at_once() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    let tries = (0..64).map(|_| scene.redeem(&view));
    let won: Vec<TransferSecret> = join_all(tries).await.into_iter().flatten().collect();
    assert_eq!(won.len(), 1);
    assert!(scene.passes.find(&won[0]).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_delivered_share_closes_when_its_grace_is_over() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    let secret = scene.redeem(&view).await.unwrap();
    let request = scene.fetch(&view, &secret).await;
    scene.reports.ended(request, Some(ByteRange::new(0, SIZE)), Evidence::Acknowledged, None).await;
    let delivered = scene.until(view.share.id, |view| view.state == State::Delivered).await;
    assert_eq!(delivered.share.percent(), 100);
    assert!(scene.passes.find(&secret).is_some(), "the same transfer may fetch again");
    scene.clock.advance(LIMITS.grace_period);
    assert_eq!(scene.closed(view.share.id).await.share.outcome(), Some(Outcome::Completed));
    assert!(matches!(scene.passes.find(&secret), Some(crate::delivery::Found::Over(..))));
}

#[tokio::test(start_paused = true)]
async fn every_request_is_on_disk_before_its_first_byte_leaves() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    let secret = scene.redeem(&view).await.unwrap();
    let first = scene.fetch(&view, &secret).await;
    for n in 2..5 {
        let another = Request { id: RequestId(n), ..first };
        scene.reports.open(another, ByteRange::new(n, SIZE)).await.unwrap().unwrap();
        let saved = scene.store.inner.share(view.share.id).await.unwrap().unwrap();
        assert_eq!(saved.transfers[0].open_requests(), n as usize);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_ahead_ends_a_link_before_anybody_can_redeem_it() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    let now = scene.clock.now();
    scene.clock.jump_wall_to(now.wall.plus(YEAR));
    let refused = scene.redeem(&view).await.unwrap_err();
    assert!(matches!(refused, ControllerError::Refused(Refused::Expired | Refused::Closed(Outcome::Expired))), "{refused:?}");
    assert_eq!(scene.closed(view.share.id).await.share.outcome(), Some(Outcome::Expired));
    assert!(!scene.doors.is_open(view.share.id));
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_ahead_shuts_the_door_though_nobody_comes() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    scene.clock.jump_wall_to(scene.clock.now().wall.plus(YEAR));
    assert_eq!(scene.closed(view.share.id).await.share.outcome(), Some(Outcome::Expired));
    assert!(!scene.doors.is_open(view.share.id));
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_back_prolongs_nothing() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    let now = scene.clock.now();
    scene.clock.jump_wall_to(Timestamp(now.wall.0 - YEAR.as_millis() as i64));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(scene.handle.show(view.share.id).await.unwrap().unwrap().state, State::Offered, "a jump back alone ends nothing");
    scene.clock.advance(view.share.policy.expires_in);
    assert!(scene.redeem(&view).await.is_err());
    assert_eq!(scene.closed(view.share.id).await.share.outcome(), Some(Outcome::Expired));
}

#[tokio::test(start_paused = true)]
async fn a_stall_is_measured_on_the_steady_clock_alone() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    let secret = scene.redeem(&view).await.unwrap();
    let request = scene.fetch(&view, &secret).await;
    scene.reports.arrived(request, ByteRange::new(0, 10), Evidence::Acknowledged);
    let now = scene.clock.now();
    for jump in [YEAR.as_millis() as i64, -(YEAR.as_millis() as i64)] {
        scene.clock.jump_wall_to(Timestamp(now.wall.0 + jump));
        sleep(Duration::from_secs(2)).await;
        let view = scene.handle.show(view.share.id).await.unwrap().unwrap();
        assert_eq!(view.state, State::Transferring, "a jump of the wall clock is no silence");
    }
    scene.clock.advance(LIMITS.stall_timeout);
    assert_eq!(scene.closed(view.share.id).await.share.outcome(), Some(Outcome::Stalled));
}

#[tokio::test(start_paused = true)]
async fn time_is_not_forgotten_however_much_comes_in() {
    let scene = Scene::new().await;
    let busy = scene.share().await;
    let policy = PolicyRequest { expires_in_seconds: Some(1), ..Default::default() };
    let path = CatalogPath::parse("film.mkv").unwrap();
    let idle = scene.handle.create(NewShare { path, policy, note: None, message: None }).await.unwrap();
    let secret = scene.redeem(&busy).await.unwrap();
    let request = scene.fetch(&busy, &secret).await;
    for byte in 0..500 {
        scene.reports.arrived(request, ByteRange::new(0, byte), Evidence::Acknowledged);
        sleep(Duration::from_millis(5)).await;
        scene.clock.advance(Duration::from_millis(5));
    }
    let idle = scene.handle.show(idle.share.id).await.unwrap().unwrap();
    assert_eq!(idle.share.outcome(), Some(Outcome::Expired), "a share expires while another is busy");
    let saved = scene.store.share(busy.share.id).await.unwrap().unwrap();
    assert!(saved.delivered_bytes() > 100, "progress is saved while it is made: {}", saved.delivered_bytes());
}

/// What is due and waits for a save that hangs must neither be forgotten nor keep the task from everything else.
#[tokio::test(start_paused = true)]
async fn a_stall_behind_a_save_that_hangs_is_cut_however_much_comes_in() {
    let scene = Scene::new().await;
    let [silent, busy] = [scene.share().await, scene.share().await];
    let (secret, other) = (scene.redeem(&silent).await.unwrap(), scene.redeem(&busy).await.unwrap());
    let (request, moving) = (scene.fetch(&silent, &secret).await, scene.fetch(&busy, &other).await);
    scene.hang_with_progress_unsaved(request).await;
    let Some(crate::delivery::Found::Valid(pass)) = scene.passes.find(&secret) else { panic!("it runs") };
    scene.clock.advance(LIMITS.stall_timeout);
    // Two ticks, in which something comes in every few milliseconds.
    for byte in 0..100 {
        scene.reports.arrived(moving, ByteRange::new(0, byte), Evidence::Acknowledged);
        sleep(Duration::from_millis(5)).await;
    }
    assert!(pass.cut.is_cancelled(), "whoever is silent is not cut because others are busy");
    scene.store.hangs.send_replace(false);
    assert_eq!(scene.closed(silent.share.id).await.share.outcome(), Some(Outcome::Stalled));
}

/// How often the task may ask the time in ten seconds in which all it has to do waits for the disk: a few times in each
/// of forty ticks. Where what is due stays due it would be a thousand ticks.
const IDLE_LOOKS: u64 = 400;

#[tokio::test(start_paused = true)]
async fn what_is_due_behind_a_save_that_hangs_is_looked_at_no_more_often_than_all_else() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    let secret = scene.redeem(&view).await.unwrap();
    let request = scene.fetch(&view, &secret).await;
    scene.hang_with_progress_unsaved(request).await;
    scene.clock.advance(LIMITS.stall_timeout);
    let before = scene.clock.looks();
    sleep(Duration::from_secs(10)).await;
    let looks = scene.clock.looks() - before;
    assert!((10..IDLE_LOOKS).contains(&looks), "it looked at the time {looks} times");
    scene.store.hangs.send_replace(false);
    assert_eq!(scene.closed(view.share.id).await.share.outcome(), Some(Outcome::Stalled));
}

/// Less than from one tick to the next. A timer is late on a busy machine, and never early.
const ROOM: Duration = Duration::from_millis(200);

#[tokio::test]
async fn looks_at_the_time_that_take_long_leave_room_for_everything_else() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    let secret = scene.redeem(&view).await.unwrap();
    scene.fetch(&view, &secret).await;
    scene.tunnel.is_slow.store(true, Ordering::Relaxed);
    while scene.tunnel.thought.lock().unwrap().len() < 4 {
        // Each look finds that it is time to tell how far the download is.
        scene.clock.advance(Duration::from_millis(500));
        sleep(Duration::from_millis(5)).await;
    }
    let thought = scene.tunnel.thought.lock().unwrap().clone();
    let room: Vec<Duration> = thought.windows(2).map(|looks| looks[1].0.duration_since(looks[0].1)).collect();
    assert!(room.iter().all(|room| *room >= ROOM), "between looks that take long: {room:?}");
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_is_stopped_while_the_disk_hangs_is_cut_at_once() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    let secret = scene.redeem(&view).await.unwrap();
    scene.fetch(&view, &secret).await;
    let transfer = scene.handle.show(view.share.id).await.unwrap().unwrap().share.transfers[0].id;
    scene.store.hangs.send_replace(true);
    let stop = scene.handle.stop_transfer(view.share.id, transfer);
    assert!(tokio::time::timeout(Duration::from_millis(100), stop).await.is_err(), "it is being saved");
    let found = scene.passes.find(&secret);
    assert!(matches!(found, Some(crate::delivery::Found::Over(..))), "what is over waits for no disk: {found:?}");
    scene.store.hangs.send_replace(false);
}

#[tokio::test(start_paused = true)]
async fn a_revoke_cuts_the_bytes_also_while_the_disk_hangs() {
    let scene = Scene::new().await;
    // The one save hangs with the revoke itself, the other was on its way before it.
    for is_saving in [false, true] {
        let view = scene.share().await;
        let secret = scene.redeem(&view).await.unwrap();
        let request = scene.fetch(&view, &secret).await;
        scene.store.hangs.send_replace(true);
        if is_saving {
            scene.reports.arrived(request, ByteRange::new(0, 10), Evidence::Acknowledged);
            scene.clock.advance(Duration::from_secs(2));
            sleep(Duration::from_secs(2)).await;
        }
        let handle = scene.handle.clone();
        let revoke = async move { handle.revoke(view.share.id).await.unwrap() };
        let look = async {
            sleep(Duration::from_secs(1)).await;
            let found = scene.passes.find(&secret);
            scene.store.hangs.send_replace(false);
            found
        };
        let (view, found) = tokio::join!(revoke, look);
        assert!(matches!(found, Some(crate::delivery::Found::Over(..))), "{found:?}");
        assert_eq!(scene.closed(view.share.id).await.share.outcome(), Some(Outcome::Revoked));
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_request_is_not_lost_however_many_wait_for_the_disk() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    let secret = scene.redeem(&view).await.unwrap();
    let request = scene.fetch(&view, &secret).await;
    scene.hang_with_progress_unsaved(request).await;
    for _ in 0..5 {
        // Those who leave are in the queue all the same.
        let crowd = join_all((0..2000).map(|_| scene.redeem(&view)));
        assert!(tokio::time::timeout(Duration::from_millis(10), crowd).await.is_err());
    }
    scene.reports.ended(request, None, Evidence::Acknowledged, None).await;
    sleep(Duration::from_millis(10)).await;
    scene.store.hangs.send_replace(false);
    scene.until(view.share.id, |view| view.share.transfers[0].open_requests() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_share_that_could_not_be_opened_again_stays_closed_and_can_be_tried_again() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    scene.handle.revoke(view.share.id).await.unwrap();
    scene.until_none_lives().await;
    scene.store.die_after(0);
    assert!(matches!(scene.handle.reopen(view.share.id).await, Err(ControllerError::Store(_))));
    sleep(Duration::from_secs(3)).await;
    scene.clock.advance(Duration::from_secs(3));
    sleep(Duration::from_secs(3)).await;
    assert!(scene.handle.living().is_empty(), "what is closed is not among the living");
    scene.store.revive();
    assert_eq!(scene.handle.reopen(view.share.id).await.unwrap().state, State::Offered);
}

#[tokio::test(start_paused = true)]
async fn a_way_in_that_can_never_open_leaves_nothing_half_made() {
    let scene = Scene::new().await;
    *scene.tunnel.opening.lock().unwrap() = Mood::FailsForGood;
    let error = scene.try_share().await.unwrap_err();
    assert!(matches!(&error, ControllerError::TunnelUnavailable(why) if why.contains("may not open tunnels")), "{error:?}");
    scene.until_none_lives().await;
    assert!(scene.doors.all_open().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_way_in_that_is_away_is_tried_again_until_it_opens() {
    let scene = Scene::new().await;
    *scene.tunnel.opening.lock().unwrap() = Mood::FailsForNow;
    let view = scene.share().await;
    assert_eq!(view.state, State::Opening);
    assert!(view.tunnel_problem.is_some(), "the owner is told why");
    *scene.tunnel.opening.lock().unwrap() = Mood::Works;
    let open = scene.until(view.share.id, |view| view.state == State::Offered).await;
    assert!(open.tunnel_problem.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_revoke_does_not_wait_for_a_way_in_that_hangs_while_it_opens() {
    let scene = Scene::new().await;
    *scene.tunnel.opening.lock().unwrap() = Mood::Hangs;
    let view = scene.share().await;
    assert_eq!(view.state, State::Opening);
    let revoked = tokio::time::Instant::now();
    scene.handle.revoke(view.share.id).await.unwrap();
    assert_eq!(scene.closed(view.share.id).await.share.outcome(), Some(Outcome::Revoked));
    // Time is paused: only what somebody waits for goes by.
    assert!(revoked.elapsed() < Duration::from_secs(5), "it took {:?}", revoked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_way_in_that_cannot_be_shut_is_tried_again_and_the_share_is_not_called_closed() {
    for mood in [Mood::FailsForNow, Mood::FailsForGood, Mood::Hangs] {
        let scene = Scene::new().await;
        let view = scene.share().await;
        *scene.tunnel.closing.lock().unwrap() = mood;
        scene.handle.revoke(view.share.id).await.unwrap();
        sleep(Duration::from_secs(300)).await;
        let view = scene.handle.show(view.share.id).await.unwrap().unwrap();
        assert_eq!(view.state, State::Closing, "{mood:?}");
        assert!(scene.tunnel.calls.load(Ordering::Relaxed) > 5, "{mood:?} is tried again");
        *scene.tunnel.closing.lock().unwrap() = Mood::Works;
        scene.closed(view.share.id).await;
        assert!(!scene.doors.is_open(view.share.id));
    }
}

#[tokio::test(start_paused = true)]
async fn doors_that_no_share_wants_are_shut_and_a_door_that_fell_shut_is_opened_again() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    let stray = ShareId::from_random(77);
    scene.doors.open(stray);
    scene.doors.shut(view.share.id);
    for _ in 0..60 {
        // Both clocks go on, as they do.
        scene.clock.advance(Duration::from_secs(1));
        sleep(Duration::from_secs(1)).await;
    }
    assert!(!scene.doors.is_open(stray));
    assert!(scene.doors.is_open(view.share.id));
    let events = scene.store.inner.events(EventQuery { limit: 100, ..EventQuery::default() }).await.unwrap();
    assert!(events.iter().any(|record| record.fact == crate::share::Fact::TunnelLost));
}

#[tokio::test(start_paused = true)]
async fn a_redeem_that_could_not_be_saved_does_not_come_back_with_the_bytes_of_another() {
    let scene = Scene::new().await;
    let policy = PolicyRequest { max_downloads: Some(2), ..PolicyRequest::default() };
    let path = CatalogPath::parse("film.mkv").unwrap();
    let view = scene.handle.create(NewShare { path, policy, note: None, message: None }).await.unwrap();
    let secret = scene.redeem(&view).await.unwrap();
    let request = scene.fetch(&view, &secret).await;
    scene.store.die_after(0);
    assert!(scene.redeem(&view).await.is_err());
    // While the disk is given time to come back, the first one goes on.
    scene.reports.arrived(request, ByteRange::new(0, 9), Evidence::Acknowledged);
    sleep(Duration::from_millis(100)).await;
    scene.store.revive();
    sleep(Duration::from_secs(3)).await;
    scene.reports.ended(request, Some(ByteRange::new(0, 9)), Evidence::Acknowledged, None).await;
    sleep(Duration::from_secs(3)).await;
    let kept = scene.store.inner.share(view.share.id).await.unwrap().unwrap();
    assert_eq!((kept.transfers.len(), kept.uses_left()), (1, Some(1)), "the second use is still there");
    assert!(scene.redeem(&view).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_took_away_is_closed_and_not_opened_again() {
    let scene = Scene::new().await;
    let (view, other) = (scene.share().await, scene.share().await);
    scene.clock.advance(Duration::from_millis(1));
    scene.tunnel.removed.lock().unwrap().insert(view.share.id);
    scene.doors.shut(view.share.id);
    scene.tunnel.changes.send_modify(|n| *n += 1);
    assert_eq!(scene.closed(view.share.id).await.share.outcome(), Some(Outcome::Revoked));
    assert!(!scene.doors.is_open(view.share.id) && scene.doors.is_open(other.share.id));
}

#[tokio::test(start_paused = true)]
async fn a_way_in_that_came_back_is_opened_at_once_however_long_it_was_away() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    *scene.tunnel.opening.lock().unwrap() = Mood::FailsForNow;
    scene.doors.shut(view.share.id);
    for _ in 0..40 {
        scene.clock.advance(Duration::from_secs(5));
        sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(scene.handle.show(view.share.id).await.unwrap().unwrap().state, State::Opening, "the pauses have grown to half a minute");
    *scene.tunnel.opening.lock().unwrap() = Mood::Works;
    scene.tunnel.changes.send_modify(|n| *n += 1);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(scene.handle.show(view.share.id).await.unwrap().unwrap().state, State::Offered);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_saved_does_not_happen() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    scene.store.die_after(0);
    assert!(matches!(scene.redeem(&view).await, Err(ControllerError::Store(_))));
    assert!(matches!(scene.try_share().await, Err(ControllerError::Store(_))));
    assert_eq!(scene.passes.requests(), 0);
    scene.store.revive();
    sleep(Duration::from_secs(2)).await;
    let view = scene.handle.show(view.share.id).await.unwrap().unwrap();
    assert_eq!((view.state, view.share.uses_left()), (State::Offered, Some(1)));
    assert_eq!(scene.handle.living().len(), 1);
    assert!(scene.redeem(&view).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_revoke_shuts_the_door_even_where_it_cannot_be_saved_and_is_saved_later() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    let secret = scene.redeem(&view).await.unwrap();
    scene.store.die_after(0);
    assert!(matches!(scene.handle.revoke(view.share.id).await, Err(ControllerError::Store(_))), "the owner is told");
    sleep(Duration::from_secs(2)).await;
    assert!(!scene.doors.is_open(view.share.id));
    assert!(!matches!(scene.passes.find(&secret), Some(crate::delivery::Found::Valid(_))));
    scene.store.revive();
    assert_eq!(scene.closed(view.share.id).await.share.outcome(), Some(Outcome::Revoked));
}

#[tokio::test(start_paused = true)]
async fn a_stop_shuts_every_door_and_the_next_start_opens_them_again() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    let scene = scene.stop().await;
    assert!(scene.doors.all_open().is_empty());
    let scene = scene.start().await;
    let again = scene.until(view.share.id, |view| view.state == State::Offered).await;
    assert_eq!(again.url, view.url, "the link is the same");
    assert!(scene.doors.is_open(view.share.id));
}

/// Stops while a share's way in is being opened, which takes so long, and waits until it would be open.
async fn stopped_while_opening(takes: Duration) -> Scene {
    let scene = Scene::new().await;
    *scene.tunnel.opening.lock().unwrap() = Mood::ActsLate(takes);
    assert!(tokio::time::timeout(Duration::from_millis(500), scene.try_share()).await.is_err(), "it is being opened");
    let scene = scene.stop().await;
    sleep(Duration::from_secs(5)).await;
    scene
}

#[tokio::test(start_paused = true)]
async fn a_stop_shuts_a_door_that_was_just_being_opened() {
    let scene = stopped_while_opening(Duration::from_secs(1)).await;
    assert!(scene.doors.all_open().is_empty(), "what was asked for before the stop opens behind it");
}

#[tokio::test(start_paused = true)]
async fn a_stop_shuts_a_door_that_opens_when_nobody_waits_for_it_any_more() {
    let scene = stopped_while_opening(Duration::from_millis(4500)).await;
    assert!(scene.doors.all_open().is_empty(), "what was given up opens behind the stop");
}

/// Whether the way in opens with the save or behind it.
#[tokio::test(start_paused = true)]
async fn a_share_that_is_made_while_the_program_stops_is_not_called_open() {
    for opens_at_once in [true, false] {
        let mut scene = Scene::new().await;
        scene.tunnel.opens_at_once.store(opens_at_once, Ordering::Relaxed);
        scene.store.hangs.send_replace(true);
        let stop = async {
            sleep(Duration::from_secs(1)).await;
            scene.stop.cancel();
            sleep(Duration::from_secs(1)).await;
            scene.store.hangs.send_replace(false);
        };
        let began = tokio::time::Instant::now();
        let (view, ()) = tokio::join!(scene.try_share(), stop);
        let view = view.unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "an owner is told before the program is gone");
        assert_eq!(view.state, State::Opening, "its way in is shut");
        (&mut scene.task).await.unwrap();
        assert!(scene.doors.all_open().is_empty());
        // It was made, and stands again after the restart.
        let scene = scene.start().await;
        scene.until(view.share.id, |view| view.state == State::Offered).await;
        assert!(scene.doors.is_open(view.share.id));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_made_or_opened_again_that_is_asked_for_during_a_stop() {
    let scene = Scene::with_drain(Duration::from_secs(30)).await;
    let [running, closed] = [scene.share().await, scene.share().await];
    scene.handle.revoke(closed.share.id).await.unwrap();
    scene.closed(closed.share.id).await;
    let secret = scene.redeem(&running).await.unwrap();
    scene.fetch(&running, &secret).await;
    let Some(crate::delivery::Found::Valid(pass)) = scene.passes.find(&secret) else { panic!("it runs") };
    let _running = pass.enter().unwrap();
    // Both look for the file when the stop comes, which they were not told of before.
    let stop = async { scene.stop.cancel() };
    let (made, again, ()) = tokio::join!(scene.try_share(), scene.handle.reopen(closed.share.id), stop);
    assert!(matches!(made, Err(ControllerError::Busy)), "{made:?}");
    assert!(matches!(again, Err(ControllerError::Busy)), "{again:?}");
    assert!(scene.store.share(closed.share.id).await.unwrap().unwrap().is_closed());
}

#[tokio::test(start_paused = true)]
async fn the_audit_line_of_a_share_that_waited_for_the_nas_is_in_the_order_of_times() {
    let scene = Scene::new().await;
    let line = |action: &str| AuditEntry {
        at: scene.clock.now().wall,
        who: "owner token".to_owned(),
        from: "192.0.2.1".to_owned(),
        action: action.to_owned(),
        target: String::new(),
        detail: String::new(),
    };
    let asked = line("share.create");
    scene.clock.advance(Duration::from_secs(10));
    scene.store.append_audit(line("share.close")).await.unwrap();
    let path = CatalogPath::parse("film.mkv").unwrap();
    let new = NewShare { path, policy: PolicyRequest::default(), note: None, message: None };
    scene.handle.create_noted(crate::token::random::share_id(), new, asked, &scene.handle.intend(None)).await.unwrap();
    let lines = scene.store.audit_lines(None, 9).await.unwrap();
    assert_eq!(lines.len(), 2);
    assert!(lines.is_sorted_by_key(|line| std::cmp::Reverse(line.entry.at)), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_shuts_a_door_that_an_earlier_process_left_open() {
    let scene = Scene::new().await;
    // The comparison of the start is behind us, the next is seconds away.
    scene.share().await;
    scene.doors.open(ShareId::from_random(7));
    let scene = scene.stop().await;
    assert!(scene.doors.all_open().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_share_that_is_not_on_the_disk_is_not_listed() {
    let scene = Scene::new().await;
    scene.store.hangs.send_replace(true);
    let id = crate::token::random::share_id();
    let new = || NewShare { path: CatalogPath::parse("film.mkv").unwrap(), policy: PolicyRequest::default(), note: None, message: None };
    {
        let create = tokio::time::timeout(Duration::from_secs(3), scene.handle.create_as(id, new()));
        let time_passes = async {
            sleep(Duration::from_secs(1)).await;
            scene.clock.advance(Duration::from_secs(2));
        };
        let (made, ()) = tokio::join!(create, time_passes);
        assert!(made.is_err(), "it is being saved");
    }
    assert!(scene.handle.living().is_empty(), "nobody hears of it before it is saved");
    scene.store.hangs.send_replace(false);
    scene.until(id, |view| view.state == State::Offered).await;
}

#[tokio::test(start_paused = true)]
async fn a_share_whose_first_save_failed_is_not_listed_for_ever() {
    let scene = Scene::new().await;
    scene.store.fails_late.send_replace(true);
    assert!(matches!(scene.try_share().await, Err(ControllerError::Store(_))));
    assert!(scene.handle.living().is_empty(), "it was never made");
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_stalls_while_the_disk_hangs_is_cut_at_once() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    let secret = scene.redeem(&view).await.unwrap();
    let request = scene.fetch(&view, &secret).await;
    // What is over by time cannot be decided meanwhile.
    scene.hang_with_progress_unsaved(request).await;
    let Some(crate::delivery::Found::Valid(pass)) = scene.passes.find(&secret) else { panic!("it runs") };
    scene.clock.advance(LIMITS.stall_timeout);
    sleep(Duration::from_secs(1)).await;
    assert!(pass.cut.is_cancelled(), "bytes flow on behind the end of the share");
    scene.store.hangs.send_replace(false);
    assert_eq!(scene.closed(view.share.id).await.share.outcome(), Some(Outcome::Stalled));
}

#[tokio::test(start_paused = true)]
async fn a_share_is_not_closed_while_another_process_sends_its_bytes() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    let sending = scene.passes.send_elsewhere(view.share.id);
    let another = scene.passes.send_elsewhere(view.share.id);
    scene.handle.revoke(view.share.id).await.unwrap();
    drop(another);
    sleep(Duration::from_secs(100)).await;
    let closing = scene.handle.show(view.share.id).await.unwrap().unwrap();
    assert_eq!(closing.state, State::Closing, "its bytes still leave");
    assert!(closing.tunnel_problem.as_deref().is_some_and(|problem| problem.contains("nginx")), "{closing:?}");
    assert!(scene.doors.all_open().is_empty(), "nobody else gets in meanwhile");
    drop(sending);
    scene.closed(view.share.id).await;
}

#[tokio::test(start_paused = true)]
async fn a_checksum_that_comes_during_a_save_opens_no_door() {
    let scene = Scene::new().await;
    scene.store.hangs.send_replace(true);
    let create = scene.try_share();
    let look = async {
        // The file is wanted once the share is being made.
        scene.checksum_comes().await;
        sleep(Duration::from_secs(1)).await;
        let found = (scene.doors.all_open(), scene.handle.living());
        scene.store.hangs.send_replace(false);
        found
    };
    let (view, (open, living)) = tokio::join!(create, look);
    assert!(open.is_empty(), "the share is not saved yet");
    assert!(living.is_empty(), "nobody hears of it before");
    assert_eq!(view.unwrap().state, State::Offered);
}

#[tokio::test]
async fn a_checksum_that_comes_while_a_share_is_opened_again_ends_nothing() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    scene.handle.revoke(view.share.id).await.unwrap();
    scene.until_none_lives().await;
    scene.store.hangs.send_replace(true);
    let look = async {
        scene.checksum_comes().await;
        scene.store.hangs.send_replace(false);
    };
    let (again, ()) = tokio::join!(scene.handle.reopen(view.share.id), look);
    assert_eq!(again.unwrap().state, State::Offered);
}

#[tokio::test]
async fn a_checksum_that_comes_during_a_revoke_revives_nothing() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    let secret = scene.redeem(&view).await.unwrap();
    let request = scene.fetch(&view, &secret).await;
    scene.reports.ended(request, Some(ByteRange::new(0, SIZE)), Evidence::Acknowledged, None).await;
    scene.until(view.share.id, |view| view.state == State::Delivered).await;
    scene.store.hangs.send_replace(true);
    let look = async {
        scene.checksum_comes().await;
        let found = scene.passes.find(&secret);
        scene.store.hangs.send_replace(false);
        found
    };
    let (revoked, found) = tokio::join!(scene.handle.revoke(view.share.id), look);
    assert!(matches!(found, Some(crate::delivery::Found::Over(..))), "{found:?}");
    assert!(revoked.unwrap().share.outcome().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_recipient_who_moves_is_not_called_stalled_because_the_disk_hangs() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    let secret = scene.redeem(&view).await.unwrap();
    let request = scene.fetch(&view, &secret).await;
    scene.store.hangs.send_replace(true);
    let step = LIMITS.stall_timeout / 4;
    let mut pass = None;
    for n in 1..10 {
        scene.reports.arrived(request, ByteRange::new(0, 10 * n), Evidence::Acknowledged);
        sleep(Duration::from_secs(1)).await;
        scene.clock.advance(step);
        sleep(Duration::from_secs(1)).await;
        let Some(crate::delivery::Found::Valid(now)) = scene.passes.find(&secret) else { panic!("it was cut after {n} steps") };
        pass.get_or_insert(now);
    }
    scene.store.hangs.send_replace(false);
    sleep(Duration::from_secs(2)).await;
    assert!(!pass.unwrap().cut.is_cancelled(), "it is one and the same download");
    let view = scene.handle.show(view.share.id).await.unwrap().unwrap();
    assert_eq!((view.share.transfers[0].is_active(), view.share.delivered_bytes()), (true, 90));
}

#[tokio::test(start_paused = true)]
async fn a_close_does_not_wait_because_opens_have_failed() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    *scene.tunnel.opening.lock().unwrap() = Mood::FailsForNow;
    scene.doors.shut(view.share.id);
    // It is found to be lost, and opened again and again, in longer and longer pauses.
    for _ in 0..40 {
        scene.clock.advance(Duration::from_secs(5));
        sleep(Duration::from_secs(5)).await;
    }
    scene.handle.revoke(view.share.id).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert!(scene.handle.living().is_empty(), "it is closed at once");
}

/// The process may die between any two saves, and anywhere behind one. Whatever was saved then, the next process brings
/// the share to a good end: no second use, nothing open in the end, the events in order.
#[tokio::test(start_paused = true)]
async fn a_life_that_is_cut_short_after_any_save_is_taken_up_again() {
    let mut ends = Vec::new();
    for saves in 0..8 {
        let scene = Scene::new().await;
        scene.store.die_after(saves);
        let _ = live(&scene).await;
        let scene = scene.crash();
        scene.store.revive();
        let doors_of_the_dead = scene.doors.all_open();
        let scene = scene.start().await;
        sleep(Duration::from_secs(3)).await;

        let known = scene.store.inner.shares(ShareQuery { limit: 10, ..ShareQuery::default() }).await.unwrap();
        assert!(known.len() <= 1);
        for share in &known {
            let spent = share.transfers.iter().filter(|t| !t.given_back).count();
            assert!(spent <= 1, "after {saves} saves: one use at most");
            let view = scene.handle.show(share.id).await.unwrap().unwrap();
            if spent == 1 && !share.is_closed() {
                assert!(scene.redeem(&view).await.is_err(), "after {saves} saves: the link is spent");
            }
            scene.handle.revoke(share.id).await.unwrap();
            scene.closed(share.id).await;
            ends.push(share.transfers.len());
        }
        assert!(scene.doors.all_open().is_empty(), "after {saves} saves: {doors_of_the_dead:?} were open");
        let seqs: Vec<u64> =
            scene.store.inner.events(EventQuery { limit: 100, ..EventQuery::default() }).await.unwrap().iter().map(|r| r.seq).collect();
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    }
    assert!(ends.contains(&0) && ends.contains(&1), "the cuts fell before and behind the redeem: {ends:?}");
}

/// A share is made, redeemed, delivered and closed, as far as the store lets it.
async fn live(scene: &Scene) -> Result<(), ControllerError> {
    let view = scene.try_share().await?;
    let secret = scene.redeem(&view).await?;
    let request = scene.request(&view, &secret);
    let opened = tokio::time::timeout(Duration::from_secs(1), scene.reports.open(request, ByteRange::new(0, SIZE))).await;
    if !matches!(opened, Ok(Some(Ok(())))) {
        return Ok(());
    }
    scene.reports.ended(request, Some(ByteRange::new(0, SIZE)), Evidence::Acknowledged, None).await;
    sleep(Duration::from_secs(1)).await;
    scene.clock.advance(LIMITS.grace_period);
    sleep(Duration::from_secs(5)).await;
    Ok(())
}

const LIMITS: Limits =
    Limits { max_tunnel: Duration::from_secs(3600), stall_timeout: Duration::from_secs(300), grace_period: Duration::from_secs(60) };

/// A controller over fakes, and what a test turns.
struct Scene {
    handle: Handle,
    reports: Reports,
    passes: Passes,
    doors: Doors,
    tunnel: Arc<Fake>,
    clock: Arc<FakeClock>,
    store: Arc<Mortal>,
    folder: Arc<tempfile::TempDir>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    digests: Arc<Digests>,
}

impl Scene {
    async fn new() -> Self {
        Self::with_drain(Duration::from_secs(1)).await
    }

    async fn with_drain(drain: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("film.mkv"), [7; SIZE as usize]).unwrap();
        let clock = Arc::new(FakeClock::at(Moment { steady: Steady(1_000_000), wall: Timestamp(1_800_000_000_000) }));
        let scene = Self::begin(Arc::new(folder), clock, Arc::new(Mortal::default()), Doors::default()).await;
        scene.handle.set_limits(LIMITS, drain);
        scene
    }

    #[expect(clippy::disallowed_methods, reason = "a test ends with its runtime")]
    async fn begin(folder: Arc<tempfile::TempDir>, clock: Arc<FakeClock>, store: Arc<Mortal>, doors: Doors) -> Self {
        let catalog = Arc::new(Catalog::new(folder.path(), CatalogOptions::default()).unwrap());
        let digests = Arc::new(Digests::new(catalog.clone(), Arc::new(NoCache)));
        let tunnel = Arc::new(Fake::with(doors.clone()));
        let (passes, stop) = (Passes::default(), CancellationToken::new());
        let (reports, incoming) = meter::channel();
        let keys = Keys::new(vec![Key::new("an-unguessable-text-of-32-letters-or-more").unwrap()], [9; 32]);
        let parts = Parts {
            store: store.clone(),
            sharing: None,
            catalog,
            digests: digests.clone(),
            tunnel: tunnel.clone(),
            clock: clock.clone(),
            keys,
            passes: passes.clone(),
            metrics: crate::metrics::Metrics::new("1.2.3", crate::share::Timestamp(0)),
            limits: LIMITS,
            drain: Duration::from_secs(1),
        };
        let (controller, handle) = Controller::load(parts, incoming).await.unwrap();
        let task = tokio::task::spawn(controller.run(stop.clone()));
        Self { handle, reports, passes, doors, tunnel, clock, store, folder, stop, task, digests }
    }

    /// The process dies: nothing is said or done any more. What stands open outside stays open.
    fn crash(self) -> Self {
        self.task.abort();
        self
    }

    async fn stop(mut self) -> Self {
        self.stop.cancel();
        (&mut self.task).await.unwrap();
        self
    }

    async fn start(self) -> Self {
        Self::begin(self.folder, self.clock, self.store, self.doors).await
    }

    /// The disk hangs, with a save of progress on its way.
    async fn hang_with_progress_unsaved(&self, request: Request) {
        self.store.hangs.send_replace(true);
        self.reports.arrived(request, ByteRange::new(0, 10), Evidence::Acknowledged);
        self.clock.advance(Duration::from_secs(2));
        sleep(Duration::from_secs(2)).await;
    }

    /// The checksum of the file becomes known, and the task hears of it.
    async fn checksum_comes(&self) {
        let mut told = self.digests.watch();
        tokio::select! {
            () = self.digests.clone().run(self.stop.clone()) => panic!("it runs until the end"),
            told = told.recv() => drop(told.unwrap()),
        }
        assert!(self.handle.answers_within(Duration::from_secs(10)).await);
    }

    async fn try_share(&self) -> Result<Arc<View>, ControllerError> {
        let path = CatalogPath::parse("film.mkv").unwrap();
        self.handle.create(NewShare { path, policy: PolicyRequest::default(), note: None, message: None }).await
    }

    async fn share(&self) -> Arc<View> {
        self.try_share().await.unwrap()
    }

    async fn redeem(&self, view: &View) -> Result<TransferSecret, ControllerError> {
        self.handle.redeem(view.share.id, view.share.link, Recipient::default()).await
    }

    fn request(&self, view: &View, secret: &TransferSecret) -> Request {
        let Some(crate::delivery::Found::Valid(pass)) = self.passes.find(secret) else { panic!("the transfer has a pass") };
        Request { share: view.share.id, transfer: pass.transfer, id: RequestId(1) }
    }

    async fn fetch(&self, view: &View, secret: &TransferSecret) -> Request {
        let request = self.request(view, secret);
        self.reports.open(request, ByteRange::new(0, SIZE)).await.unwrap().unwrap();
        request
    }

    async fn until(&self, id: ShareId, is: impl Fn(&View) -> bool) -> Arc<View> {
        for _ in 0..600 {
            let view = self.handle.show(id).await.unwrap().unwrap();
            if is(&view) {
                return view;
            }
            sleep(Duration::from_millis(250)).await;
        }
        panic!("it never came: {:?}", self.handle.show(id).await.unwrap().unwrap())
    }

    async fn closed(&self, id: ShareId) -> Arc<View> {
        self.until(id, |view| view.state == State::Closed).await
    }

    async fn until_none_lives(&self) {
        for _ in 0..600 {
            if self.handle.living().is_empty() {
                return;
            }
            sleep(Duration::from_millis(250)).await;
        }
        panic!("something lives on");
    }
}

struct NoCache;

impl DigestCache for NoCache {
    fn load(&self, _: FileIdentity) -> BoxFuture<'_, Option<[u8; 32]>> {
        ready(None).boxed()
    }

    fn keep(&self, _: FileIdentity, _: [u8; 32]) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}
