//! Who looked at a link's page: counted, told and saved without making work.

use super::*;
use crate::share::{Looker, Looks};

fn looks(previews: u32, people: u32) -> Looks {
    Looks { previews, people }
}

impl Scene {
    async fn saved_looks(&self, id: ShareId) -> Looks {
        self.store.share(id).await.unwrap().unwrap().looks
    }

    /// Lets so much time go by on both clocks, as the ticks of the task see it.
    async fn pass(&self, by: Duration) {
        self.clock.advance(by);
        sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn looks_are_told_soon_and_saved_later_and_write_no_line() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    scene.pass(Duration::from_secs(1)).await;
    let (lines, before) = (scene.store.latest_seq().await.unwrap(), scene.handle.show(view.share.id).await.unwrap().unwrap());
    let mut changes = scene.handle.watch();
    for by in [Looker::Preview, Looker::Preview, Looker::Preview, Looker::Person] {
        scene.handle.looked(&view, view.share.link, by);
    }
    scene.pass(Duration::from_secs(1)).await;
    let change = changes.try_recv().expect("it is told");
    assert_eq!((change.view.share.looks, change.records.len()), (looks(3, 1), 0));
    assert!(changes.try_recv().is_err(), "once for all of them");
    assert_eq!(scene.saved_looks(view.share.id).await, looks(0, 0), "not each of them costs a flush");
    scene.pass(Duration::from_secs(5)).await;
    assert_eq!(scene.saved_looks(view.share.id).await, looks(3, 1));
    let after = scene.handle.show(view.share.id).await.unwrap().unwrap();
    assert_eq!((after.state, &after.share.phase, after.share.deadline()), (before.state, &before.share.phase, before.share.deadline()));
    assert_eq!(scene.store.latest_seq().await.unwrap(), lines, "looking is no event");
    // Told and saved, it is over.
    scene.pass(Duration::from_secs(10)).await;
    assert!(changes.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn who_looks_all_the_time_is_told_of_twice_a_second_and_saved_every_few() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    scene.pass(Duration::from_secs(10)).await;
    let mut changes = scene.handle.watch();
    let (mut saves, mut last, mut told) = (0, looks(0, 0), 0);
    for _ in 0..200 {
        scene.handle.looked(&view, view.share.link, Looker::Preview);
        // A tenth of a second, in which the task looks at the time.
        scene.clock.advance(Duration::from_millis(100));
        sleep(Duration::from_millis(300)).await;
        let saved = scene.saved_looks(view.share.id).await;
        saves += u32::from(saved != last);
        last = saved;
        while changes.try_recv().is_ok() {
            told += 1;
        }
    }
    assert!((3..=5).contains(&saves), "{saves} saves in twenty seconds");
    assert!((30..=41).contains(&told), "told {told} times in twenty seconds");
}

#[tokio::test(start_paused = true)]
async fn looks_are_saved_with_whatever_is_decided_and_a_crash_loses_no_more_than_the_last_of_them() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    scene.handle.looked(&view, view.share.link, Looker::Person);
    sleep(Duration::from_millis(300)).await;
    scene.redeem(&view).await.unwrap();
    assert_eq!(scene.saved_looks(view.share.id).await, looks(0, 1));
    scene.handle.looked(&view, view.share.link, Looker::Preview);
    sleep(Duration::from_millis(300)).await;
    let scene = scene.crash().start().await;
    let again = scene.until(view.share.id, |view| view.state == State::Waiting).await;
    assert_eq!((again.share.looks, again.share.uses_left()), (looks(0, 1), Some(0)));
    // Where it stops in good order nothing is lost.
    scene.handle.looked(&again, view.share.link, Looker::Preview);
    sleep(Duration::from_millis(300)).await;
    let scene = scene.stop().await;
    assert_eq!(scene.saved_looks(view.share.id).await, looks(1, 1));
}

#[tokio::test(start_paused = true)]
async fn looks_at_what_is_closed_or_has_another_link_count_for_nothing() {
    let scene = Scene::new().await;
    let first = scene.share().await;
    scene.handle.looked(&first, crate::token::random::token_id(), Looker::Person);
    scene.handle.looked(&first, first.share.link, Looker::Person);
    sleep(Duration::from_millis(300)).await;
    scene.handle.revoke(first.share.id).await.unwrap();
    let closed = scene.closed(first.share.id).await;
    assert_eq!(closed.share.looks, looks(0, 1));
    scene.handle.looked(&closed, first.share.link, Looker::Person);
    scene.handle.looked(&first, first.share.link, Looker::Person);
    sleep(Duration::from_secs(1)).await;
    let again = scene.handle.reopen(first.share.id).await.unwrap();
    // Whoever holds the old link and looks late.
    scene.handle.looked(&first, first.share.link, Looker::Person);
    scene.handle.looked(&again, again.share.link, Looker::Preview);
    scene.pass(Duration::from_secs(6)).await;
    assert_eq!(scene.handle.show(first.share.id).await.unwrap().unwrap().share.looks, looks(1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_looks_is_dropped_and_keeps_nobody_waiting() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    // Nobody takes them up meanwhile: the task does not get its turn.
    for _ in 0..1_000_000 {
        scene.handle.looked(&view, view.share.link, Looker::Preview);
    }
    scene.redeem(&view).await.unwrap();
    scene.pass(Duration::from_secs(6)).await;
    assert_eq!(scene.handle.show(view.share.id).await.unwrap().unwrap().share.looks, looks(1024, 0));
}
