//! Closing all doors, and taking a close back.

use super::*;
use crate::share::{Event, UNDO_FOR};
use crate::store::Save;

#[tokio::test(start_paused = true)]
async fn a_close_is_taken_back_and_the_very_same_link_works() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    scene.handle.revoke(view.share.id).await.unwrap();
    // Asked at once: it waits until the door is shut.
    let again = scene.handle.undo(view.share.id).await.unwrap();
    assert_eq!((again.state, &again.url, again.share.expires), (State::Offered, &view.url, view.share.expires));
    assert!(scene.doors.is_open(view.share.id));
    let facts: Vec<Fact> = scene
        .store
        .events(EventQuery { limit: 10, ..EventQuery::default() })
        .await
        .unwrap()
        .into_iter()
        .map(|record| record.fact)
        .collect();
    let outcome = Outcome::Revoked;
    assert_eq!(facts[2..], [Fact::Closing { outcome }, Fact::Closed { outcome }, Fact::Undone, Fact::Opened]);
    assert!(matches!(scene.handle.undo(view.share.id).await, Err(ControllerError::Refused(Refused::NotClosed))));
    let secret = scene.redeem(&view).await.unwrap();
    scene.fetch(&view, &secret).await;
    scene.handle.revoke(view.share.id).await.unwrap();
    assert!(matches!(scene.handle.undo(view.share.id).await, Err(ControllerError::Refused(Refused::UndoAfterBytes))));
    assert!(scene.handle.living().is_empty(), "what was refused does not live");
}

#[tokio::test(start_paused = true)]
async fn a_close_is_taken_back_over_a_restart_and_not_behind_its_time() {
    let scene = Scene::new().await;
    let [soon, late] = [scene.share().await, scene.share().await];
    for view in [&soon, &late] {
        scene.handle.revoke(view.share.id).await.unwrap();
        scene.closed(view.share.id).await;
    }
    let scene = scene.crash().start().await;
    scene.clock.advance(UNDO_FOR - Duration::from_millis(1));
    assert_eq!(scene.handle.undo(soon.share.id).await.unwrap().url, soon.url);
    scene.clock.advance(Duration::from_millis(1));
    assert!(matches!(scene.handle.undo(late.share.id).await, Err(ControllerError::Refused(Refused::UndoTooLate))));
}

#[tokio::test(start_paused = true)]
async fn a_close_that_cannot_be_saved_as_taken_back_stays_and_of_many_who_take_it_back_one_does() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    scene.handle.revoke(view.share.id).await.unwrap();
    scene.closed(view.share.id).await;
    scene.store.die_after(0);
    assert!(matches!(scene.handle.undo(view.share.id).await, Err(ControllerError::Store(_))));
    assert!(scene.doors.all_open().is_empty() && scene.handle.living().is_empty());
    scene.store.revive();
    let undone = join_all((0..8).map(|_| scene.handle.undo(view.share.id))).await;
    assert_eq!(undone.iter().filter(|result| result.is_ok()).count(), 1, "{undone:?}");
}

#[tokio::test(start_paused = true)]
async fn what_the_ledger_refuses_to_revive_does_not_live() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    scene.handle.revoke(view.share.id).await.unwrap();
    let closed = scene.closed(view.share.id).await;
    // Somebody else with the same store was first, and the link has been used.
    let mut other = Share::clone(&closed.share);
    let transfer = crate::token::random::transfer_id();
    let redeemed = Event::Redeemed { link: view.share.link, transfer, recipient: Recipient::default() };
    let now = scene.clock.now();
    for event in [Event::Undone, Event::TunnelOpened, redeemed] {
        let facts = other.on(event, now).facts;
        scene.store.save(Save { share: Arc::new(other.clone()), facts, at: now }).await.unwrap();
    }
    scene.store.save(Save { share: closed.share.clone(), facts: vec![], at: now }).await.unwrap();
    assert!(matches!(scene.handle.undo(view.share.id).await, Err(ControllerError::Refused(Refused::Spent))));
    assert!(scene.handle.living().is_empty() && scene.doors.all_open().is_empty());
}

#[tokio::test(start_paused = true)]
async fn all_doors_are_closed_at_once_and_twice_is_fine() {
    let scene = Scene::new().await;
    // More than wait for one flush.
    let shares = join_all((0..600).map(|_| scene.share())).await;
    let secret = scene.redeem(&shares[7]).await.unwrap();
    scene.fetch(&shares[7], &secret).await;
    assert_eq!(scene.handle.revoke_all().await.unwrap(), 600);
    for view in &shares {
        let saved = scene.store.share(view.share.id).await.unwrap().unwrap();
        assert_eq!(saved.outcome(), Some(Outcome::Revoked), "it is on the disk when this answers");
    }
    assert_eq!(scene.handle.revoke_all().await.unwrap(), 0);
    scene.until_none_lives().await;
    assert!(scene.doors.all_open().is_empty());
}

#[tokio::test(start_paused = true)]
async fn all_doors_are_shut_also_where_the_store_cannot_write() {
    let scene = Scene::new().await;
    let shares = join_all((0..5).map(|_| scene.share())).await;
    let secret = scene.redeem(&shares[0]).await.unwrap();
    scene.store.die_after(0);
    assert!(matches!(scene.handle.revoke_all().await, Err(ControllerError::Store(_))));
    sleep(Duration::from_secs(1)).await;
    assert!(scene.doors.all_open().is_empty() && !matches!(scene.passes.find(&secret), Some(crate::delivery::Found::Valid(_))));
    scene.store.revive();
    scene.until_none_lives().await;
}

#[tokio::test]
async fn whoever_redeems_while_a_close_is_taken_back_is_told_the_truth() {
    let scene = Scene::new().await;
    let mut redeemed = 0;
    // From at once to long behind it, however many turns that takes.
    for patience in std::iter::successors(Some(0_u32), |turns| Some(turns + turns / 4 + 1)).take(50) {
        let view = scene.share().await;
        scene.handle.revoke(view.share.id).await.unwrap();
        scene.closed(view.share.id).await;
        let late = async {
            for _ in 0..patience {
                tokio::task::yield_now().await;
            }
            scene.redeem(&view).await
        };
        let (late, undone) = tokio::join!(late, scene.handle.undo(view.share.id));
        undone.unwrap();
        if let Ok(secret) = late {
            redeemed += 1;
            let found = scene.passes.find(&secret);
            assert!(
                matches!(found, Some(crate::delivery::Found::Valid(_))),
                "a redeem was answered and leads nowhere, after {patience} turns"
            );
        }
    }
    assert!((1..50).contains(&redeemed), "{redeemed} of 50 came in time");
}
