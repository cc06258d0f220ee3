//! Shares are looked at from outside, by somebody who finds what the doors let them.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use tokio::sync::watch;
use tokio::time::Instant;

use super::*;
use crate::metrics::{Exposition, Snapshot};
use crate::share::{Obstacle, Phase, Reach, Unprobed};
use crate::tunnel::canary::Canaries;
use crate::tunnel::probe::{Counts, Look};

/// How far from when it should be a look may be: nothing takes time here, but what is told is looked at every tick.
const SOON: Duration = Duration::from_millis(300);

/// Looks by a way of which a test says what is in it.
struct Looker {
    canaries: Canaries,
    /// What is in the way; nothing where the doors alone decide.
    obstacle: Mutex<Option<Reach>>,
    /// Whether whoever looks waits on the way, and how many do.
    waits: watch::Sender<bool>,
    at_once: watch::Sender<usize>,
    looks: Mutex<Vec<(Instant, String)>>,
}

impl Look for Looker {
    fn look<'a>(&'a self, url: &'a str, counts: Counts<'a>) -> BoxFuture<'a, Reach> {
        async move {
            self.looks.lock().unwrap().push((Instant::now(), url.to_owned()));
            self.at_once.send_modify(|n| *n += 1);
            let _ = self.waits.subscribe().wait_for(|waits| !waits).await;
            self.at_once.send_modify(|n| *n -= 1);
            let obstacle = *self.obstacle.lock().unwrap();
            let path: Vec<&str> = url.strip_prefix("https://fake.example/").expect("it is the public one").split('/').collect();
            assert_eq!((path.len(), path[1]), (3, "canary"), "{url}");
            match obstacle {
                Some(reach) => reach,
                None if self.canaries.answer(path[0], path[2]) => {
                    assert!(matches!(counts, Counts::Anybodys) || matches!(counts, Counts::Ours(canary) if canary.was_answered()));
                    Reach::Yes
                }
                None => Reach::No(Obstacle::NoAnswer),
            }
        }
        .boxed()
    }
}

/// A scene with somebody who looks.
struct Watch {
    scene: Scene,
    looker: Arc<Looker>,
    _prober: JoinHandle<()>,
}

impl Watch {
    async fn begin() -> Self {
        Self::beside(Scene::new().await, true)
    }

    #[expect(clippy::disallowed_methods, reason = "a test ends with its runtime")]
    fn beside(scene: Scene, is_on: bool) -> Self {
        let canaries = Canaries::new(scene.doors.clone());
        let looker = Arc::new(Looker {
            canaries: canaries.clone(),
            obstacle: Mutex::default(),
            waits: watch::Sender::new(false),
            at_once: watch::Sender::new(0),
            looks: Mutex::default(),
        });
        let look: Option<Arc<dyn Look>> = if is_on { Some(looker.clone()) } else { None };
        let prober = Prober::new(scene.handle.clone(), canaries, look);
        let prober = tokio::spawn(prober.run(scene.stop.clone()));
        Self { scene, looker, _prober: prober }
    }

    fn put_in_the_way(&self, reach: Option<Reach>) {
        *self.looker.obstacle.lock().unwrap() = reach;
    }

    fn looks(&self) -> usize {
        self.looker.looks.lock().unwrap().len()
    }

    async fn until_reach(&self, id: ShareId, reach: Reach) -> Arc<View> {
        self.scene.until(id, |view| view.share.reach == Some(reach)).await
    }

    async fn close(&self, id: ShareId) {
        self.scene.handle.revoke(id).await.unwrap();
        self.scene.closed(id).await;
    }

    /// Returns what was written down of looks at a share.
    async fn findings(&self, id: ShareId) -> Vec<(Reach, bool)> {
        let query = EventQuery { limit: 100, share: Some(id), ..EventQuery::default() };
        let events = self.scene.store.inner.events(query).await.unwrap();
        let found = |record: &crate::store::Record| match &record.fact {
            Fact::Probed { reach, after_close } => Some((*reach, *after_close)),
            _ => None,
        };
        events.iter().filter_map(found).collect()
    }

    fn counted(&self, sample: &str) -> String {
        let text = self.scene.handle.metrics().write_down(&Snapshot::default(), Exposition::Text);
        let line = text.lines().find_map(|line| line.strip_prefix(sample)).unwrap_or_else(|| panic!("{sample} is not there"));
        line.trim().to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_share_is_reached_and_a_closed_one_is_not() {
    let watch = Watch::begin().await;
    let view = watch.scene.share().await;
    let id = view.share.id;
    watch.until_reach(id, Reach::Yes).await;
    watch.close(id).await;
    let shut = Reach::No(Obstacle::NoAnswer);
    let closed = watch.until_reach(id, shut).await;
    assert_eq!(closed.share.outcome(), Some(Outcome::Revoked), "it is closed as it was");
    assert_eq!(watch.findings(id).await, [(Reach::Yes, false), (shut, true)]);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!((watch.looks(), watch.scene.handle.still_open()), (2, 0));
    assert!(watch.scene.handle.living().is_empty(), "to be looked at is not to live");
    assert_eq!(watch.counted("portcullis_probes_total{result=\"yes\"}"), "1");
    assert_eq!(watch.counted("portcullis_probes_total{result=\"no\"}"), "1");
    assert_eq!(watch.counted("portcullis_closed_doors_answering_total"), "0");
}

#[tokio::test(start_paused = true)]
async fn while_nobody_gets_in_it_is_looked_at_again_and_again_with_longer_pauses() {
    let watch = Watch::begin().await;
    let unknown = Reach::No(Obstacle::NameUnknown);
    watch.put_in_the_way(Some(unknown));
    let view = watch.scene.share().await;
    watch.until_reach(view.share.id, unknown).await;
    sleep(Duration::from_secs(5 + 30 + 120 + 600 + 600 + 1)).await;
    watch.put_in_the_way(None);
    sleep(Duration::from_secs(600)).await;
    watch.until_reach(view.share.id, Reach::Yes).await;
    sleep(Duration::from_secs(7200)).await;
    let looks: Vec<Instant> = watch.looker.looks.lock().unwrap().iter().map(|(at, _)| *at).collect();
    let pauses: Vec<u64> = looks.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    assert_eq!(pauses, [5, 30, 120, 600, 600, 600], "and none once somebody got in");
    assert_eq!(watch.findings(view.share.id).await, [(unknown, false), (Reach::Yes, false)], "the same again is not written down again");
}

#[tokio::test(start_paused = true)]
async fn a_share_that_closes_is_not_looked_at_as_an_open_one_any_more() {
    let watch = Watch::begin().await;
    watch.put_in_the_way(Some(Reach::No(Obstacle::HandshakeCut)));
    let view = watch.scene.share().await;
    watch.until_reach(view.share.id, Reach::No(Obstacle::HandshakeCut)).await;
    watch.close(view.share.id).await;
    sleep(Duration::from_secs(7200)).await;
    assert_eq!(watch.looks(), 2, "once open and once closed");
}

#[tokio::test(start_paused = true)]
async fn a_door_that_still_answers_raises_the_alarm_until_it_is_shut() {
    let watch = Watch::begin().await;
    let view = watch.scene.share().await;
    let id = view.share.id;
    watch.until_reach(id, Reach::Yes).await;
    watch.looker.waits.send_replace(true);
    watch.close(id).await;
    // Somebody, or a fault of ours, opens it behind our back.
    watch.scene.doors.open(id);
    watch.looker.waits.send_replace(false);
    watch.until_reach(id, Reach::Yes).await;
    sleep(SOON).await;
    assert_eq!(watch.scene.handle.still_open(), 1);
    assert_eq!(watch.findings(id).await, [(Reach::Yes, false), (Reach::Yes, true)]);
    assert_eq!(watch.counted("portcullis_closed_doors_answering_total"), "1");
    sleep(Duration::from_secs(6)).await;
    assert_eq!((watch.looks(), watch.scene.handle.still_open()), (3, 1), "it is looked at again, and is one door");
    watch.scene.doors.shut(id);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(watch.scene.handle.still_open(), 0);
    assert_eq!(watch.findings(id).await.last(), Some(&(Reach::No(Obstacle::NoAnswer), true)));
    assert_eq!(watch.counted("portcullis_closed_doors_answering_total"), "1");
}

#[tokio::test(start_paused = true)]
async fn the_alarm_is_raised_also_where_nothing_can_be_written_down() {
    let watch = Watch::begin().await;
    let view = watch.scene.share().await;
    watch.until_reach(view.share.id, Reach::Yes).await;
    watch.looker.waits.send_replace(true);
    watch.close(view.share.id).await;
    watch.scene.doors.open(view.share.id);
    watch.scene.store.die_after(0);
    watch.looker.waits.send_replace(false);
    sleep(SOON).await;
    assert_eq!(watch.scene.handle.still_open(), 1);
    assert_eq!(watch.counted("portcullis_closed_doors_answering_total"), "1");
}

#[tokio::test(start_paused = true)]
async fn a_share_that_is_opened_again_while_the_closed_one_is_looked_at_is_no_alarm() {
    let watch = Watch::begin().await;
    let view = watch.scene.share().await;
    let id = view.share.id;
    watch.until_reach(id, Reach::Yes).await;
    watch.looker.waits.send_replace(true);
    watch.close(id).await;
    let mut at_once = watch.looker.at_once.subscribe();
    at_once.wait_for(|n| *n == 1).await.unwrap();
    let again = watch.scene.handle.reopen(id).await.unwrap();
    assert_eq!(again.state, State::Offered);
    watch.looker.waits.send_replace(false);
    watch.until_reach(id, Reach::Yes).await;
    sleep(SOON).await;
    assert_eq!(watch.scene.handle.still_open(), 0);
    assert_eq!(watch.findings(id).await, [(Reach::Yes, false), (Reach::Yes, false)]);
    assert_eq!(watch.looks(), 3, "the one that is open was looked at for itself");
}

#[tokio::test(start_paused = true)]
async fn nothing_waits_for_a_look_few_run_at_once_and_closed_shares_come_first() {
    let watch = Watch::begin().await;
    watch.looker.waits.send_replace(true);
    let mut views = Vec::new();
    for _ in 0..9 {
        views.push(watch.scene.share().await);
    }
    watch.close(views[8].share.id).await;
    sleep(SOON).await;
    assert_eq!(*watch.looker.at_once.borrow(), 4);
    watch.looker.waits.send_replace(false);
    for view in &views[..8] {
        watch.until_reach(view.share.id, Reach::Yes).await;
    }
    watch.until_reach(views[8].share.id, Reach::No(Obstacle::NoAnswer)).await;
    let looks = watch.looker.looks.lock().unwrap();
    assert_eq!(looks.len(), 9);
    assert!(looks[4].1.contains(views[8].share.id.as_str()), "behind those that were under way");
}

#[tokio::test(start_paused = true)]
async fn who_looks_anew_begins_with_what_is_open() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    let watch = Watch::beside(scene, true);
    watch.until_reach(view.share.id, Reach::Yes).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_is_looked_at_when_it_is_open_again() {
    let watch = Watch::begin().await;
    let view = watch.scene.share().await;
    watch.until_reach(view.share.id, Reach::Yes).await;
    watch.scene.clock.advance(Duration::from_millis(1));
    watch.scene.doors.shut(view.share.id);
    watch.scene.tunnel.changes.send_modify(|n| *n += 1);
    sleep(Duration::from_secs(1)).await;
    watch.until_reach(view.share.id, Reach::Yes).await;
    assert_eq!(watch.findings(view.share.id).await, [(Reach::Yes, false), (Reach::Yes, false)]);
}

#[tokio::test(start_paused = true)]
async fn where_the_operator_wants_no_looks_that_is_said_and_none_is_taken() {
    let watch = Watch::beside(Scene::new().await, false);
    let view = watch.scene.share().await;
    let off = Reach::NotProbed(Unprobed::Off);
    watch.until_reach(view.share.id, off).await;
    watch.close(view.share.id).await;
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(watch.findings(view.share.id).await, [(off, false)]);
    assert_eq!(watch.looks(), 0);
    assert_eq!(watch.counted("portcullis_probes_total{result=\"not_probed\"}"), "1");
}

#[tokio::test(start_paused = true)]
async fn a_machine_without_a_way_out_is_looked_at_from_nowhere_and_that_is_no_fault() {
    let watch = Watch::begin().await;
    let nowhere = Reach::NotProbed(Unprobed::NoWayOut);
    watch.put_in_the_way(Some(nowhere));
    let view = watch.scene.share().await;
    watch.until_reach(view.share.id, nowhere).await;
    sleep(Duration::from_secs(7200)).await;
    assert_eq!(watch.looks(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reopen_that_meets_a_finding_on_its_way_to_the_disk_is_not_lost() {
    let scene = Scene::new().await;
    let view = scene.share().await;
    let (id, link) = (view.share.id, view.share.link);
    scene.handle.revoke(id).await.unwrap();
    scene.closed(id).await;
    scene.store.hangs.send_replace(true);
    let is_noted = AtomicBool::new(false);
    let (noted, reopened, ()) = tokio::join!(
        async {
            let noted = scene.handle.probed(id, link, true, Reach::No(Obstacle::NoAnswer)).await;
            is_noted.store(true, Ordering::Relaxed);
            noted
        },
        async {
            sleep(Duration::from_secs(1)).await;
            scene.handle.reopen(id).await
        },
        async {
            sleep(Duration::from_secs(2)).await;
            assert!(!is_noted.load(Ordering::Relaxed), "both wait for the disk");
            scene.store.hangs.send_replace(false);
        }
    );
    assert!(noted.unwrap());
    let reopened = reopened.unwrap();
    assert_eq!((reopened.state, &reopened.share.phase), (State::Offered, &Phase::Open));
    let saved = scene.store.inner.share(id).await.unwrap().unwrap();
    assert!(saved.link == reopened.share.link && !saved.is_closed(), "what was answered is so");
}
