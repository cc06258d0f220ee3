//! Several controllers over one store.

mod chance;

use std::collections::HashSet;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::*;
use crate::clock::Clock;
use crate::share::{ControllerNumber, Effect};
use crate::store::memory::MemoryStore;
use crate::store::shared::{Introduction, LEASE, MAX_BLIND, SharedStore};

/// A controller that is gone is replaced within so long.
const TAKEN_OVER: Duration = Duration::from_secs(10);
/// What everybody hears of is there within so long.
const HEARD: Duration = Duration::from_secs(2);

/// A clock that goes with the runtime's.
struct Goes(Instant);

impl Clock for Goes {
    fn now(&self) -> Moment {
        let start = Moment { steady: Steady(1_000_000), wall: Timestamp(1_800_000_000_000) };
        start.plus(self.0.elapsed())
    }
}

/// One of several controllers.
struct One {
    number: ControllerNumber,
    handle: Handle,
    reports: Reports,
    passes: Passes,
    doors: Doors,
    metrics: crate::metrics::Metrics,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// The house that they see to.
struct House {
    store: Arc<MemoryStore>,
    folder: tempfile::TempDir,
    clock: Arc<Goes>,
    opens_at_once: bool,
    requests: std::sync::atomic::AtomicU64,
}

impl House {
    fn new(opens_at_once: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("film.mkv"), [7; SIZE as usize]).unwrap();
        let (store, clock) = (Arc::new(MemoryStore::default()), Arc::new(Goes(Instant::now())));
        Self { store, folder, clock, opens_at_once, requests: std::sync::atomic::AtomicU64::new(1) }
    }

    #[expect(clippy::disallowed_methods, reason = "a test ends with its runtime")]
    async fn join(&self, n: u8) -> One {
        let catalog = Arc::new(Catalog::new(self.folder.path(), CatalogOptions::default()).unwrap());
        let digests = Arc::new(Digests::new(catalog.clone(), Arc::new(NoCache)));
        let doors = Doors::default();
        let tunnel = Fake::with(doors.clone());
        tunnel.opens_at_once.store(self.opens_at_once, Ordering::Relaxed);
        if !self.opens_at_once {
            tunnel.name.set(format!("https://nas-{n}.example")).unwrap();
        }
        let (passes, stop) = (Passes::default(), CancellationToken::new());
        let (reports, incoming) = meter::channel();
        let joined = self.store.join(Introduction { folder: [n; 16], name: format!("nas-{n}") }).await.unwrap();
        let metrics = crate::metrics::Metrics::new("1.2.3", Timestamp(0));
        let parts = Parts {
            store: self.store.clone(),
            sharing: Some(Sharing { store: self.store.clone(), joined }),
            catalog,
            digests,
            tunnel: Arc::new(tunnel),
            clock: self.clock.clone(),
            keys: Keys::new(vec![Key::new("an-unguessable-text-of-32-letters-or-more").unwrap()], [9; 32]),
            passes: passes.clone(),
            metrics: metrics.clone(),
            limits: LIMITS,
            drain: Duration::ZERO,
        };
        let (controller, handle) = Controller::load(parts, incoming).await.unwrap();
        let task = tokio::task::spawn(controller.run(stop.clone()));
        One { number: joined.number, handle, reports, passes, doors, metrics, stop, task }
    }

    async fn three(&self) -> [One; 3] {
        [self.join(1).await, self.join(2).await, self.join(3).await]
    }

    async fn watcher(&self, id: ShareId) -> ControllerNumber {
        self.store.held(id).await.unwrap().unwrap().hold.watcher
    }

    /// A request of a transfer at one of them, saved and answered.
    async fn fetch(&self, at: &One, view: &View, secret: &TransferSecret, range: ByteRange) -> Request {
        let pass = at.pass(secret).await;
        let count = self.requests.fetch_add(1, Ordering::Relaxed);
        let id = RequestId::among(at.number, self.clock.now().steady, count);
        let request = Request { share: view.share.id, transfer: pass.transfer, id };
        at.reports.open(request, range).await.unwrap().unwrap();
        request
    }
}

impl One {
    async fn share(&self) -> Arc<View> {
        let path = CatalogPath::parse("film.mkv").unwrap();
        self.handle.create(NewShare { path, policy: PolicyRequest::default(), note: None, message: None }).await.unwrap()
    }

    async fn redeem(&self, view: &View) -> Result<TransferSecret, ControllerError> {
        self.handle.redeem(view.share.id, view.share.link, Recipient::default()).await
    }

    async fn pass(&self, secret: &TransferSecret) -> Arc<crate::delivery::Pass> {
        within(HEARD, || match self.passes.find(secret) {
            Some(crate::delivery::Found::Valid(pass)) => Some(pass),
            Some(crate::delivery::Found::Over(..)) | None => None,
        })
        .await
    }

    async fn until(&self, id: ShareId, patience: Duration, is: impl Fn(&View) -> bool) -> Arc<View> {
        let deadline = Instant::now() + patience;
        loop {
            let view = self.handle.show(id).await.unwrap();
            match view {
                Some(view) if is(&view) => return view,
                view if Instant::now() > deadline => panic!("it never came: {view:?}"),
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    async fn closed(&self, id: ShareId, patience: Duration) -> Arc<View> {
        self.until(id, patience, |view| view.state == State::Closed).await
    }
}

async fn within<T>(patience: Duration, look: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it never came");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_that_one_makes_works_at_every_other() {
    let house = House::new(true);
    let [a, b, c] = house.three().await;
    let view = a.share().await;
    assert_eq!(house.watcher(view.share.id).await, a.number);
    for other in [&b, &c] {
        let seen = other.until(view.share.id, HEARD, |view| view.state == State::Offered && !view.is_watched_here).await;
        assert_eq!(seen.url, view.url);
        within(HEARD, || other.doors.is_open(view.share.id).then_some(())).await;
    }
    let secret = b.redeem(&view).await.unwrap();
    let request = house.fetch(&c, &view, &secret, ByteRange::new(0, SIZE)).await;
    c.reports.ended(request, Some(ByteRange::new(0, SIZE)), Evidence::Acknowledged, None).await;
    for one in [&a, &b, &c] {
        one.until(view.share.id, HEARD, |view| view.state == State::Delivered).await;
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_has_not_heard_of_a_share_yet_looks_it_up() {
    let house = House::new(true);
    let [a, b, _] = house.three().await;
    let view = a.share().await;
    // No time passes for news to travel.
    let secret = b.redeem(&view).await.unwrap();
    assert!(matches!(b.passes.find(&secret), Some(crate::delivery::Found::Valid(_))));
}

#[tokio::test(start_paused = true)]
async fn whoever_has_not_heard_of_a_share_yet_tells_its_link_all_the_same() {
    let house = House::new(true);
    let [a, b, _] = house.three().await;
    let view = a.share().await;
    // No time passes for news to travel.
    let seen = b.handle.show(view.share.id).await.unwrap().unwrap();
    assert_eq!((seen.state, &seen.url, seen.is_watched_here), (State::Offered, &view.url, false));
    let again = b.handle.created(view.share.id).await.unwrap().unwrap();
    assert_eq!(again.url, view.url);
}

#[tokio::test(start_paused = true)]
async fn of_many_redeems_at_three_controllers_exactly_one_wins() {
    let house = House::new(true);
    let three = house.three().await;
    for round in 0..20 {
        let view = three[round % 3].share().await;
        let redeems = (0..64).map(|n| three[n % 3].redeem(&view));
        let won = join_all(redeems).await.into_iter().filter(Result::is_ok).count();
        assert_eq!(won, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_one_watched_is_watched_by_another_and_closes_in_time() {
    let house = House::new(true);
    let [a, b, c] = house.three().await;
    let view = a.share().await;
    sleep(HEARD).await;
    a.task.abort();
    sleep(TAKEN_OVER).await;
    let watcher = house.watcher(view.share.id).await;
    assert!(watcher == b.number || watcher == c.number);
    assert!(b.doors.is_open(view.share.id) && c.doors.is_open(view.share.id), "its door stood open all the time");
    let expired = b.closed(view.share.id, LIMITS.max_tunnel).await;
    assert_eq!(expired.share.outcome(), Some(Outcome::Expired));
    within(HEARD, || (b.doors.all_open().is_empty() && c.doors.all_open().is_empty()).then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn many_shares_of_a_dead_one_are_divided_and_each_has_one_watcher() {
    let house = House::new(true);
    let [a, b, c] = house.three().await;
    let views = join_all((0..600).map(|_| a.share())).await;
    a.task.abort();
    sleep(TAKEN_OVER).await;
    let mut watchers = HashSet::new();
    for view in &views {
        watchers.insert(house.watcher(view.share.id).await);
    }
    assert_eq!(watchers, HashSet::from([b.number, c.number]));
}

#[tokio::test(start_paused = true)]
async fn whoever_ends_hands_over_what_it_watches_at_once() {
    let house = House::new(true);
    let [a, b, _] = house.three().await;
    let view = a.share().await;
    a.stop.cancel();
    a.task.await.unwrap();
    sleep(HEARD).await;
    assert_ne!(house.watcher(view.share.id).await, a.number);
    b.redeem(&view).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_starts_again_takes_up_what_it_watched() {
    let house = House::new(true);
    let a = house.join(1).await;
    let view = a.share().await;
    let secret = a.redeem(&view).await.unwrap();
    let _ = house.fetch(&a, &view, &secret, ByteRange::new(0, SIZE)).await;
    a.task.abort();
    let again = house.join(1).await;
    assert!(again.doors.is_open(view.share.id), "it is open at once");
    let seen = again.until(view.share.id, HEARD, |view| view.is_watched_here && view.share.transfers[0].open_requests() == 0).await;
    assert_eq!(seen.state, State::Waiting);
    let request = house.fetch(&again, &view, &secret, ByteRange::new(0, SIZE)).await;
    again.reports.ended(request, Some(ByteRange::new(0, SIZE)), Evidence::Acknowledged, None).await;
    again.until(view.share.id, HEARD, |view| view.state == State::Delivered).await;
}

#[tokio::test(start_paused = true)]
async fn a_revoke_at_one_cuts_what_another_sends_and_shuts_every_door() {
    let house = House::new(true);
    let [a, b, c] = house.three().await;
    let view = a.share().await;
    let secret = b.redeem(&view).await.unwrap();
    let request = house.fetch(&b, &view, &secret, ByteRange::new(0, SIZE)).await;
    let pass = b.pass(&secret).await;
    let closing = c.handle.revoke(view.share.id).await.unwrap();
    assert_eq!(closing.state, State::Closing);
    within(HEARD, || pass.cut.is_cancelled().then_some(())).await;
    // While a byte may leave, it is not called closed.
    sleep(HEARD).await;
    let waiting = a.handle.show(view.share.id).await.unwrap().unwrap();
    assert_eq!(waiting.state, State::Closing);
    assert!(waiting.tunnel_problem.as_ref().unwrap().contains("nas-2"), "{waiting:?}");
    b.reports.ended(request, Some(ByteRange::new(0, 10)), Evidence::Acknowledged, None).await;
    let closed = c.closed(view.share.id, HEARD).await;
    assert_eq!((closed.share.outcome(), closed.share.delivered_bytes()), (Some(Outcome::Revoked), 10));
    assert!([&a, &b, &c].iter().all(|one| one.doors.all_open().is_empty()));
}

#[tokio::test(start_paused = true)]
async fn what_arrives_by_two_of_them_adds_up_and_counts_once() {
    let house = House::new(true);
    let [a, b, c] = house.three().await;
    let view = a.share().await;
    let secret = a.redeem(&view).await.unwrap();
    let (half, rest) = (ByteRange::new(0, SIZE / 2), ByteRange::new(SIZE / 2, SIZE));
    let (at_b, at_c) = (house.fetch(&b, &view, &secret, half).await, house.fetch(&c, &view, &secret, rest).await);
    for step in 1..=9 {
        for (one, request, start) in [(&b, at_b, half.start), (&c, at_c, rest.start)] {
            one.reports.arrived(request, ByteRange::new(start, start + SIZE / 20 * step), Evidence::Acknowledged);
        }
        sleep(Duration::from_millis(700)).await;
    }
    let seen = a.until(view.share.id, HEARD, |view| view.share.percent() == 90).await;
    assert_eq!(seen.state, State::Transferring);
    tokio::join!(
        b.reports.ended(at_b, Some(half), Evidence::Acknowledged, None),
        c.reports.ended(at_c, Some(rest), Evidence::Acknowledged, None)
    );
    for one in [&a, &b, &c] {
        one.until(view.share.id, HEARD, |view| view.state == State::Delivered).await;
    }
    let page = |one: &One| one.metrics.write_down(&crate::metrics::Snapshot::default(), crate::metrics::Exposition::Text);
    let counted = |one: &One| {
        let page = page(one);
        let line = page.lines().find(|line| line.contains("acknowledged") && !line.starts_with('#')).unwrap().to_owned();
        line.split(' ').next_back().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!((counted(&a), counted(&b), counted(&c)), (0, SIZE / 2, SIZE / 2));
    // And one transfer ended, whoever decided that.
    let events = house.store.events(EventQuery { limit: 100, ..Default::default() }).await.unwrap();
    assert_eq!(events.iter().filter(|record| matches!(record.fact, Fact::Ended { .. })).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_share_is_not_called_closed_while_one_that_is_cut_off_may_send_of_it() {
    let house = House::new(true);
    let [a, b, c] = house.three().await;
    let view = a.share().await;
    let secret = a.redeem(&view).await.unwrap();
    let request = house.fetch(&a, &view, &secret, ByteRange::new(0, SIZE)).await;
    let pass = a.pass(&secret).await;
    sleep(HEARD).await;
    house.store.cut_off(a.number, true);
    let cut_off = Instant::now();
    sleep(TAKEN_OVER).await;
    assert_ne!(house.watcher(view.share.id).await, a.number);
    b.handle.revoke(view.share.id).await.unwrap();
    assert!(!pass.cut.is_cancelled(), "nobody can tell it");
    a.reports.arrived(request, ByteRange::new(0, 10), Evidence::Acknowledged);
    while !pass.cut.is_cancelled() {
        let seen = c.handle.show(view.share.id).await.unwrap().unwrap();
        assert_eq!(seen.state, State::Closing);
        sleep(Duration::from_secs(1)).await;
        assert!(cut_off.elapsed() < MAX_BLIND + Duration::from_secs(5));
    }
    // It was last heard a beat before.
    assert!(cut_off.elapsed() >= MAX_BLIND - Duration::from_secs(2), "{:?}", cut_off.elapsed());
    assert!(a.doors.all_open().is_empty());
    c.closed(view.share.id, Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_was_cut_off_hears_what_happened_and_does_no_harm() {
    let house = House::new(true);
    let [a, b, c] = house.three().await;
    let (view, other) = (a.share().await, a.share().await);
    let secret = a.redeem(&view).await.unwrap();
    let request = house.fetch(&a, &view, &secret, ByteRange::new(0, SIZE)).await;
    let pass = a.pass(&secret).await;
    sleep(HEARD).await;
    house.store.cut_off(a.number, true);
    // Its own owner closes there what nobody can be told of; and bytes arrive.
    a.reports.arrived(request, ByteRange::new(0, 40), Evidence::Acknowledged);
    sleep(TAKEN_OVER).await;
    b.handle.revoke(view.share.id).await.unwrap();
    let fence = house.store.held(other.share.id).await.unwrap().unwrap().hold.fence;
    assert_eq!(fence, 2);
    house.store.cut_off(a.number, false);
    within(HEARD, || pass.cut.is_cancelled().then_some(())).await;
    a.reports.ended(request, Some(ByteRange::new(0, 50)), Evidence::Acknowledged, None).await;
    let closed = c.closed(view.share.id, HEARD * 3).await;
    assert_eq!(closed.share.delivered_bytes(), 50, "what arrived meanwhile is known in the end");
    // It watches nothing any more, and the other share goes on.
    assert!(!a.until(other.share.id, HEARD, |view| view.state == State::Offered).await.is_watched_here);
    assert_ne!(house.watcher(other.share.id).await, a.number);
    a.redeem(&other).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn after_the_store_was_away_nobody_takes_over_from_those_who_were_only_not_heard() {
    let house = House::new(true);
    let three = house.three().await;
    let view = three[0].share().await;
    sleep(HEARD).await;
    let cut_off = |is| three.iter().for_each(|one| house.store.cut_off(one.number, is));
    cut_off(true);
    assert!(three[1].redeem(&view).await.is_err());
    sleep(LEASE * 5).await;
    cut_off(false);
    sleep(TAKEN_OVER).await;
    assert_eq!(house.watcher(view.share.id).await, three[0].number);
    three[1].redeem(&view).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn after_the_store_was_away_for_long_everybody_is_there_again() {
    let house = House::new(true);
    let three = house.three().await;
    let view = three[0].share().await;
    sleep(HEARD).await;
    let cut_off = |is| three.iter().for_each(|one| house.store.cut_off(one.number, is));
    cut_off(true);
    sleep(MAX_BLIND * 3).await;
    assert!(three.iter().all(|one| one.doors.all_open().is_empty()), "nobody could tell them what is to be shut");
    cut_off(false);
    sleep(TAKEN_OVER).await;
    assert!(three.iter().all(|one| !one.task.is_finished() && one.doors.is_open(view.share.id)));
    assert_eq!(house.watcher(view.share.id).await, three[0].number);
    three[2].redeem(&view).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_loses_a_share_that_waits_to_be_closed_and_gets_it_again_closes_it() {
    let house = House::new(true);
    let [a, b, c] = house.three().await;
    let view = a.share().await;
    let secret = c.redeem(&view).await.unwrap();
    let request = house.fetch(&c, &view, &secret, ByteRange::new(0, SIZE)).await;
    a.handle.revoke(view.share.id).await.unwrap();
    a.until(view.share.id, HEARD, |view| view.tunnel_problem.is_some()).await;
    // The second takes it over, since the third, which sends, is cut off as well.
    for one in [&a, &c] {
        house.store.cut_off(one.number, true);
    }
    while house.watcher(view.share.id).await != b.number {
        sleep(Duration::from_millis(100)).await;
    }
    house.store.cut_off(a.number, false);
    sleep(HEARD).await;
    assert_eq!(a.handle.living_view(view.share.id).unwrap().state, State::Closing);
    // And ends: it comes back to the first.
    b.stop.cancel();
    b.task.await.unwrap();
    while house.watcher(view.share.id).await != a.number {
        sleep(Duration::from_millis(100)).await;
    }
    house.store.cut_off(c.number, false);
    c.reports.ended(request, None, Evidence::Acknowledged, None).await;
    a.closed(view.share.id, TAKEN_OVER).await;
}

#[tokio::test(start_paused = true)]
async fn a_way_in_that_leads_to_one_machine_is_opened_anew_by_whoever_takes_over() {
    let house = House::new(false);
    let [a, b, _] = house.three().await;
    let view = a.share().await;
    b.until(view.share.id, HEARD, |view| view.state == State::Offered).await;
    assert!(a.doors.is_open(view.share.id) && !b.doors.is_open(view.share.id));
    let link = |view: &View| view.url.clone().unwrap();
    let seen = b.handle.show(view.share.id).await.unwrap().unwrap();
    assert!(link(&view).starts_with("https://nas-1.example/") && link(&seen) == link(&view), "{seen:?}");
    house.store.cut_off(a.number, true);
    sleep(TAKEN_OVER).await;
    let watcher = house.watcher(view.share.id).await;
    assert_ne!(watcher, a.number);
    let seen = b.until(view.share.id, HEARD, |view| view.state == State::Offered).await;
    assert!(!link(&seen).starts_with("https://nas-1.example/") && seen.share.link == view.share.link, "{seen:?}");
    // When it comes back, it shuts what it does not watch.
    house.store.cut_off(a.number, false);
    within(Duration::from_secs(40), || (!a.doors.is_open(view.share.id)).then_some(())).await;
    assert_eq!(b.handle.living().iter().filter_map(|view| view.share.effect()).collect::<Vec<Effect>>(), []);
    assert_eq!(house.watcher(view.share.id).await, watcher);
}

#[tokio::test(start_paused = true)]
async fn of_two_who_open_a_closed_share_again_at_once_one_is_told_that_it_is_open() {
    let house = House::new(true);
    let [a, b, c] = house.three().await;
    let view = a.share().await;
    c.handle.revoke(view.share.id).await.unwrap();
    for one in [&a, &b, &c] {
        one.closed(view.share.id, HEARD).await;
    }
    let (by_a, by_b) = tokio::join!(a.handle.reopen(view.share.id), b.handle.undo(view.share.id));
    assert_eq!([by_a.is_ok(), by_b.is_ok()].iter().filter(|ok| **ok).count(), 1, "{by_a:?} {by_b:?}");
    let opened = c.until(view.share.id, HEARD, |view| view.state == State::Offered).await;
    assert_eq!(opened.url, by_a.or(by_b).unwrap().url);
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_while_it_is_opened_again_is_unknown_to_whoever_asked() {
    let house = House::new(true);
    let a = house.join(1).await;
    let view = a.share().await;
    a.handle.revoke(view.share.id).await.unwrap();
    a.closed(view.share.id, HEARD).await;
    // It has been read, and is not decided about yet.
    let (reopened, forgotten) = tokio::join!(a.handle.undo(view.share.id), house.store.forget(Timestamp(i64::MAX)));
    assert_eq!(forgotten.unwrap().shares, 1);
    assert!(matches!(reopened, Err(ControllerError::UnknownShare(_))), "{reopened:?}");
    assert!(a.handle.living().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_copy_of_a_running_controllers_folder_stops_the_first() {
    let house = House::new(true);
    let a = house.join(1).await;
    let view = a.share().await;
    let again = house.join(1).await;
    tokio::time::timeout(HEARD, a.task).await.expect("it ends").unwrap();
    again.until(view.share.id, HEARD, |view| view.is_watched_here).await;
}

#[tokio::test(start_paused = true)]
async fn everybody_who_listens_anywhere_is_told_every_line_once() {
    let house = House::new(true);
    let [a, b, _] = house.three().await;
    let mut told = b.handle.watch();
    let view = a.share().await;
    let secret = b.redeem(&view).await.unwrap();
    let request = house.fetch(&a, &view, &secret, ByteRange::new(0, SIZE)).await;
    a.reports.ended(request, Some(ByteRange::new(0, SIZE)), Evidence::Acknowledged, None).await;
    a.handle.revoke(view.share.id).await.unwrap();
    b.closed(view.share.id, HEARD).await;
    sleep(HEARD).await;
    let mut lines = Vec::new();
    while let Ok(change) = told.try_recv() {
        lines.extend(change.records.iter().map(|record| record.seq));
    }
    lines.sort_unstable();
    assert_eq!(lines, (1..=house.store.latest_seq().await.unwrap()).collect::<Vec<_>>());
}
