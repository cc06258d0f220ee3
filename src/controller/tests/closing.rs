//! A close is the last word: what was asked for before it opens nothing behind it.

use std::sync::mpsc;

use super::*;

fn film() -> NewShare {
    NewShare { path: CatalogPath::parse("film.mkv").unwrap(), policy: PolicyRequest::default(), note: None, message: None }
}

/// Closes one share, or all; returns when that was answered.
async fn close(scene: &Scene, id: ShareId, is_all: bool) {
    if is_all {
        scene.handle.revoke_all().await.unwrap();
    } else {
        scene.handle.revoke(id).await.unwrap();
    }
}

impl Scene {
    async fn assert_nothing_opens(&self) {
        // Longer than anything is waited for.
        sleep(Duration::from_secs(60)).await;
        assert!(self.doors.all_open().is_empty(), "a door is open behind the close");
        assert!(self.handle.all_living().is_empty(), "a share lives behind the close");
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_that_comes_while_an_undo_waits_for_the_door_wins() {
    for is_all in [false, true] {
        let scene = Scene::new().await;
        let id = scene.share().await.share.id;
        *scene.tunnel.closing.lock().unwrap() = Mood::FailsForNow;
        scene.handle.revoke(id).await.unwrap();
        let later = async {
            sleep(Duration::from_secs(1)).await;
            close(&scene, id, is_all).await;
            *scene.tunnel.closing.lock().unwrap() = Mood::Works;
        };
        let (undone, ()) = tokio::join!(scene.handle.undo(id), later);
        assert!(matches!(undone, Err(ControllerError::Overtaken)), "{undone:?}");
        scene.assert_nothing_opens().await;
        // What is asked behind the close is a word of its own.
        scene.handle.undo(id).await.unwrap();
        assert!(scene.doors.is_open(id));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_before_a_close_and_comes_to_the_task_behind_it_opens_nothing() {
    for is_all in [false, true] {
        let scene = Scene::new().await;
        let ids = [scene.share().await.share.id, scene.share().await.share.id];
        for id in ids {
            scene.handle.revoke(id).await.unwrap();
            scene.closed(id).await;
        }
        let meant = ids.map(|id| scene.handle.intend(Some(id)));
        for id in ids {
            close(&scene, id, is_all).await;
        }
        let undone = scene.handle.undo_as(ids[0], &meant[0]).await;
        let reopened = scene.handle.reopen_as(ids[1], crate::token::random::token_id(), &meant[1]).await;
        for result in [undone, reopened] {
            assert!(matches!(result, Err(ControllerError::Overtaken)), "{result:?}");
        }
        scene.assert_nothing_opens().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_of_one_share_takes_nothing_of_others_back() {
    let scene = Scene::new().await;
    let [other, closed] = [scene.share().await.share.id, scene.share().await.share.id];
    scene.handle.revoke(closed).await.unwrap();
    scene.closed(closed).await;
    let (undo, create) = (scene.handle.intend(Some(closed)), scene.handle.intend(None));
    scene.handle.revoke(other).await.unwrap();
    scene.handle.undo_as(closed, &undo).await.unwrap();
    scene.handle.make(crate::token::random::share_id(), film(), None, &create).await.unwrap();
    assert_eq!(scene.handle.living().iter().filter(|view| view.state == State::Offered).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_read_before_another_opened_the_share_and_it_ended_is_not_put_back() {
    let scene = Scene::new().await;
    let id = scene.share().await.share.id;
    scene.handle.revoke(id).await.unwrap();
    scene.closed(id).await;
    let late = scene.handle.intend(Some(id));
    let link = scene.handle.reopen(id).await.unwrap().share.link;
    std::fs::write(scene.folder.path().join("film.mkv"), b"another").unwrap();
    scene.reports.source_changed(id).await;
    scene.closed(id).await;
    let undone = scene.handle.undo_as(id, &late).await;
    assert!(matches!(undone, Err(ControllerError::Overtaken)), "{undone:?}");
    assert_eq!(scene.store.share(id).await.unwrap().unwrap().link, link);
}

/// The only thread that asks the NAS is held up until `mpsc::Sender` is dropped.
fn with_a_nas_that_sleeps(test: impl AsyncFnOnce(Scene, mpsc::Sender<()>)) {
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let scene = Scene::new().await;
        scene.handle.0.catalog.open_by_threads();
        let (wake, sleeps) = mpsc::channel::<()>();
        drop(tokio::task::spawn_blocking(move || sleeps.recv()));
        test(scene, wake).await;
    });
}

#[test]
fn a_share_that_waits_for_a_nas_while_all_doors_are_closed_is_not_made() {
    with_a_nas_that_sleeps(async |scene, wake| {
        let close = async {
            assert_eq!(scene.handle.revoke_all().await.unwrap(), 0);
            drop(wake);
        };
        let (made, ()) = tokio::join!(scene.try_share(), close);
        assert!(matches!(made, Err(ControllerError::Overtaken)), "{made:?}");
        scene.assert_nothing_opens().await;
    });
}

#[tokio::test(start_paused = true)]
async fn what_is_being_saved_while_all_doors_are_closed_is_closed_too() {
    for opens_at_once in [true, false] {
        let scene = Scene::new().await;
        scene.tunnel.opens_at_once.store(opens_at_once, Ordering::Relaxed);
        let [undone, reopened] = [scene.share().await.share.id, scene.share().await.share.id];
        for id in [undone, reopened] {
            scene.handle.revoke(id).await.unwrap();
            scene.closed(id).await;
        }
        scene.store.hangs.send_replace(true);
        let asked = async { tokio::join!(scene.try_share(), scene.handle.undo(undone), scene.handle.reopen(reopened)) };
        let close = async {
            sleep(Duration::from_secs(1)).await;
            let well_again = async {
                sleep(Duration::from_secs(1)).await;
                scene.store.hangs.send_replace(false);
            };
            let (closed, ()) = tokio::join!(scene.handle.revoke_all(), well_again);
            assert_eq!(closed.unwrap(), 3);
            for share in scene.store.living().await.unwrap() {
                assert_eq!(share.outcome(), Some(Outcome::Revoked), "it is on the disk when this answers");
            }
        };
        let _ = tokio::join!(asked, close);
        scene.assert_nothing_opens().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_saved_at_last_is_no_door_to_close() {
    let scene = Scene::new().await;
    scene.store.fails_late.send_replace(true);
    let close = async {
        sleep(Duration::from_secs(1)).await;
        scene.handle.revoke_all().await
    };
    let (made, closed) = tokio::join!(scene.try_share(), close);
    assert!(matches!(made, Err(ControllerError::Store(_))), "{made:?}");
    assert_eq!(closed.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_self_test_is_neither_prolonged_nor_taken_back() {
    let scene = Scene::new().await;
    let id = crate::token::random::share_id();
    let line = AuditEntry {
        at: scene.clock.now().wall,
        who: "owner token".to_owned(),
        from: "192.0.2.1".to_owned(),
        action: "self_test.run".to_owned(),
        target: String::new(),
        detail: String::new(),
    };
    scene.handle.create_self_test(id, LIMITS, line).await.unwrap();
    let before = scene.until(id, |view| view.state == State::Offered).await.share.expires;
    let extended = scene.handle.extend(id, Duration::from_secs(3000)).await;
    assert!(matches!(extended, Err(ControllerError::Refused(Refused::SelfTest))), "{extended:?}");
    assert_eq!(scene.handle.show(id).await.unwrap().unwrap().share.expires, before);
    scene.handle.revoke(id).await.unwrap();
    let undone = scene.handle.undo(id).await;
    assert!(matches!(undone, Err(ControllerError::Refused(Refused::SelfTest))), "{undone:?}");
    assert!(scene.handle.reopen(id).await.is_err());
    scene.assert_nothing_opens().await;
}
