//! Three controllers, and whatever can happen to them in any order.
//!
//! `TOGETHER_SEED=7 cargo test --lib anything_may_happen -- --nocapture` runs one seed again and tells each step.

use std::collections::HashMap;

use super::*;
use crate::share::{OnStall, TransferId};

const SEEDS: u64 = 200;
const STEPS: u64 = 120;

/// A download that somebody runs at one of the controllers.
struct Download {
    at: usize,
    request: Request,
    range: ByteRange,
    got: u64,
    pass: Arc<crate::delivery::Pass>,
}

struct World {
    house: House,
    ones: Vec<Option<One>>,
    cut_off: Vec<bool>,
    shares: Vec<Arc<View>>,
    /// What was redeemed with an answer.
    redeemed: Vec<(ShareId, TransferSecret)>,
    downloads: Vec<Download>,
    chance: u64,
    tells: bool,
}

impl World {
    async fn new(seed: u64, tells: bool) -> Self {
        let house = House::new(!seed.is_multiple_of(3));
        let ones = house.three().await.into_iter().map(Some).collect();
        let chance = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { house, ones, cut_off: vec![false; 3], shares: Vec::new(), redeemed: Vec::new(), downloads: Vec::new(), chance, tells }
    }

    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64: no more is asked of it than that a seed can be run again.
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance % bound
    }

    fn one(&mut self) -> Option<usize> {
        let n = self.below(3) as usize;
        self.ones[n].is_some().then_some(n)
    }

    fn pick(&mut self, of: usize) -> Option<usize> {
        (of > 0).then(|| self.below(of as u64) as usize)
    }

    async fn step(&mut self) {
        let what = self.below(100);
        if self.tells {
            eprintln!("{:?} {what}", self.house.clock.0.elapsed());
        }
        match what {
            0..12 => self.make().await,
            12..30 => self.redeem().await,
            30..48 => self.fetch().await,
            48..64 => self.arrive(),
            64..72 => self.end_some().await,
            72..77 => self.revoke().await,
            77..79 => self.reopen().await,
            79..84 => self.toggle_cut().await,
            84..88 => self.crash().await,
            88..91 => self.leave().await,
            _ => {
                let millis = [10, 300, 2000, 8000][self.below(4) as usize];
                sleep(Duration::from_millis(millis)).await;
            }
        }
        sleep(Duration::from_millis(self.below(40))).await;
        self.end_what_was_cut().await;
        self.look().await;
    }

    async fn make(&mut self) {
        let Some(n) = self.one() else { return };
        let on_stall = if self.below(2) == 0 { OnStall::Close } else { OnStall::Reopen };
        let policy = PolicyRequest {
            max_downloads: Some(1 + self.below(2)),
            expires_in_seconds: Some(20 + self.below(200)),
            on_stall: Some(on_stall),
            ..Default::default()
        };
        let one = self.ones[n].as_ref().unwrap();
        let new = NewShare { path: CatalogPath::parse("film.mkv").unwrap(), policy, note: None, message: None };
        if let Ok(view) = one.handle.create(new).await {
            self.shares.push(view);
        }
    }

    async fn redeem(&mut self) {
        let Some(share) = self.pick(self.shares.len()) else { return };
        let view = self.shares[share].clone();
        let many = if self.below(3) == 0 { 8 } else { 1 };
        let at: Vec<usize> = (0..many).filter_map(|_| self.one()).collect();
        let redeems = at.iter().map(|n| self.ones[*n].as_ref().unwrap().redeem(&view));
        let won = join_all(redeems).await.into_iter().flatten();
        self.redeemed.extend(won.map(|secret| (view.share.id, secret)));
    }

    async fn fetch(&mut self) {
        let (Some(n), Some(transfer)) = (self.one(), self.pick(self.redeemed.len())) else { return };
        let (share, secret) = self.redeemed[transfer];
        let start = [0, SIZE / 2, SIZE / 4][self.below(3) as usize];
        let one = self.ones[n].as_ref().unwrap();
        if !matches!(one.passes.find(&secret), Some(crate::delivery::Found::Valid(_))) {
            one.handle.catch_up(share).await;
        }
        let Some(crate::delivery::Found::Valid(pass)) = one.passes.find(&secret) else { return };
        let count = self.house.requests.fetch_add(1, Ordering::Relaxed);
        let id = RequestId::among(one.number, self.house.clock.now().steady, count);
        let (request, range) = (Request { share, transfer: pass.transfer, id }, ByteRange::new(start, SIZE));
        // Whoever is not answered in time gets no byte: it is told that the request has ended.
        match tokio::time::timeout(Duration::from_secs(5), one.reports.open(request, range)).await {
            Ok(Some(Ok(()))) => self.downloads.push(Download { at: n, request, range, got: 0, pass }),
            Ok(Some(Err(_)) | None) => {}
            Err(_) => one.reports.ended(request, None, Evidence::Acknowledged, None).await,
        }
    }

    fn arrive(&mut self) {
        let Some(n) = self.pick(self.downloads.len()) else { return };
        let more = self.below(SIZE / 2) + 1;
        let download = &mut self.downloads[n];
        if download.pass.cut.is_cancelled() {
            return;
        }
        download.got = (download.got + more).min(download.range.len());
        let arrived = ByteRange::new(download.range.start, download.range.start + download.got);
        self.ones[download.at].as_ref().unwrap().reports.arrived(download.request, arrived, Evidence::Acknowledged);
    }

    async fn end(&mut self, n: usize) {
        let download = self.downloads.swap_remove(n);
        let arrived = ByteRange::new(download.range.start, download.range.start + download.got);
        let arrived = (download.got > 0).then_some(arrived);
        let one = self.ones[download.at].as_ref().unwrap();
        one.reports.ended(download.request, arrived, Evidence::Acknowledged, None).await;
    }

    async fn end_some(&mut self) {
        if let Some(n) = self.pick(self.downloads.len()) {
            self.end(n).await;
        }
    }

    /// What delivery does at once.
    async fn end_what_was_cut(&mut self) {
        while let Some(n) = self.downloads.iter().position(|it| it.pass.cut.is_cancelled()) {
            self.end(n).await;
        }
    }

    async fn revoke(&mut self) {
        let (Some(n), Some(share)) = (self.one(), self.pick(self.shares.len())) else { return };
        let _ = self.ones[n].as_ref().unwrap().handle.revoke(self.shares[share].share.id).await;
    }

    async fn reopen(&mut self) {
        let (Some(n), Some(share)) = (self.one(), self.pick(self.shares.len())) else { return };
        if let Ok(view) = self.ones[n].as_ref().unwrap().handle.reopen(self.shares[share].share.id).await {
            self.shares[share] = view;
        }
    }

    async fn toggle_cut(&mut self) {
        let Some(n) = self.one() else { return };
        self.cut_off[n] = !self.cut_off[n];
        self.house.store.cut_off(self.ones[n].as_ref().unwrap().number, self.cut_off[n]);
    }

    /// Kills one that runs, or starts one that does not.
    async fn crash(&mut self) {
        let n = self.below(3) as usize;
        match self.ones[n].take() {
            Some(one) => {
                one.task.abort();
                self.house.store.cut_off(one.number, true);
                self.downloads.retain(|it| it.at != n);
            }
            None => self.start(n).await,
        }
    }

    async fn leave(&mut self) {
        let n = self.below(3) as usize;
        match self.ones[n].take() {
            Some(one) => {
                self.downloads.retain(|it| it.at != n);
                one.stop.cancel();
                one.task.await.unwrap();
                self.house.store.cut_off(one.number, true);
            }
            None => self.start(n).await,
        }
    }

    async fn start(&mut self, n: usize) {
        self.ones[n] = Some(self.house.join(n as u8 + 1).await);
        self.cut_off[n] = false;
    }

    /// What must hold at every moment.
    async fn look(&self) {
        for download in self.downloads.iter().filter(|it| !it.pass.cut.is_cancelled()) {
            let held = self.house.store.held(download.request.share).await.unwrap().unwrap();
            // One that was opened again is closed for whoever had its link before.
            let knows = held.share.transfer(download.request.transfer).is_some();
            assert!(!held.share.is_closed() && knows, "bytes may leave of a share that is called closed: {:?}", held.share);
        }
    }

    /// Everything works again, and everybody has gone.
    async fn heal(&mut self) {
        for n in 0..3 {
            match &self.ones[n] {
                Some(one) => self.house.store.cut_off(one.number, false),
                None => self.start(n).await,
            }
        }
        sleep(TAKEN_OVER + HEARD).await;
        self.end_what_was_cut().await;
        self.look().await;
        let numbers: HashSet<ControllerNumber> = self.ones.iter().flatten().map(|one| one.number).collect();
        let (living, _) = self.house.store.all_held().await.unwrap();
        for held in &living {
            assert!(numbers.contains(&held.hold.watcher), "nobody watches {:?}", held.share);
        }
        while !self.downloads.is_empty() {
            self.end(0).await;
        }
        // Longer than any link lives, a silence lasts and one that is cut off may send.
        sleep(MAX_BLIND * 2 + Duration::from_secs(900)).await;
        let (living, _) = self.house.store.all_held().await.unwrap();
        assert_eq!(living, [], "everything ends");
        for one in self.ones.iter().flatten() {
            assert!(one.doors.all_open().is_empty(), "every door is shut");
            assert!(one.handle.living().is_empty(), "and everybody knows");
        }
    }

    /// What the log must say in the end.
    async fn judge(&self) {
        let mut records = Vec::new();
        loop {
            let after = records.last().map_or(0, |record: &crate::store::Record| record.seq);
            let page = self.house.store.events(EventQuery { after, limit: 1000, ..Default::default() }).await.unwrap();
            if page.is_empty() {
                break;
            }
            records.extend(page);
        }
        assert!(records.iter().map(|record| record.seq).eq(1..=records.len() as u64), "no line is missing, none is there twice");
        let mut spent: HashMap<ShareId, u32> = HashMap::new();
        let mut ended: HashSet<TransferId> = HashSet::new();
        for record in &records {
            let spent = spent.entry(record.share).or_default();
            match &record.fact {
                Fact::Reopened => *spent = 0,
                Fact::Redeemed { .. } => {
                    *spent += 1;
                    let share = self.house.store.held(record.share).await.unwrap().unwrap().share;
                    assert!(*spent <= share.policy.uses_max(), "a use was spent twice");
                }
                Fact::Ended { transfer, given_back, .. } => {
                    assert!(ended.insert(*transfer), "a transfer ended twice");
                    if *given_back {
                        *spent = spent.saturating_sub(1);
                    }
                }
                _ => {}
            }
        }
        let keys = Keys::new(vec![Key::new("an-unguessable-text-of-32-letters-or-more").unwrap()], [9; 32]);
        let known: HashSet<String> = records
            .iter()
            .filter_map(|record| match &record.fact {
                Fact::Redeemed { transfer } => Some(keys.transfer_secret(*transfer).expose()),
                _ => None,
            })
            .collect();
        for (_, secret) in &self.redeemed {
            assert!(known.contains(&secret.expose()), "what was answered is known");
        }
        for view in &self.shares {
            assert!(self.house.store.held(view.share.id).await.unwrap().is_some(), "what was made is known");
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test has settings of its own")]
fn anything_may_happen_to_three_controllers_and_every_promise_holds() {
    let chosen = std::env::var("TOGETHER_SEED").ok().map(|seed| seed.parse().unwrap());
    for seed in chosen.map_or(0..SEEDS, |seed: u64| seed..seed + 1) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let run = std::panic::AssertUnwindSafe(|| {
            runtime.block_on(async {
                let mut world = World::new(seed, chosen.is_some()).await;
                for _ in 0..STEPS {
                    world.step().await;
                }
                world.heal().await;
                world.judge().await;
            });
        });
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("TOGETHER_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
