//! Several controllers on one memory: for tests of what they do to each other.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, ready};
use tokio::time::{Instant, timeout};

use super::{Kept, MemoryStore, MutexGuard, done};
use crate::share::{Fact, Share, ShareId, Steady, Timestamp};
use crate::store::audit::AuditEntry;
use crate::store::shared::{
    Basis, Beat, Changed, ControllerNumber, Cursor, Held, Hold, Introduction, Joined, KEPT_NUMBER, MAX_NUMBER, News, Peer, SharedStore,
    Written,
};
use crate::store::{Record, Save, Store, StoreError};

/// How many changes are kept as news.
const MAX_NEWS: usize = 4096;

/// Who shares the store, and what they hold.
#[derive(Debug, Default)]
pub(super) struct Together {
    controllers: BTreeMap<ControllerNumber, Controller>,
    last_number: u16,
    steady: Option<(Steady, Instant)>,
    holds: HashMap<ShareId, Hold>,
    news: VecDeque<Notice>,
    written: u64,
    /// Who cannot reach the store, in tests.
    cut_off: HashSet<ControllerNumber>,
}

#[derive(Debug)]
struct Controller {
    who: Introduction,
    heard: Instant,
}

#[derive(Debug)]
struct Notice {
    place: u64,
    by: Option<ControllerNumber>,
    share: ShareId,
    numbers: Vec<u64>,
}

impl Together {
    fn hear(&mut self, steady: Steady) {
        let now = Instant::now();
        self.steady = self.steady_now(now).max(Some(steady)).map(|steady| (steady, now));
    }

    fn steady_now(&self, now: Instant) -> Option<Steady> {
        self.steady.map(|(steady, at)| steady.plus(now - at))
    }

    fn number(&mut self) -> ControllerNumber {
        loop {
            self.last_number = self.last_number % MAX_NUMBER + 1;
            let number = ControllerNumber(self.last_number);
            if !self.controllers.contains_key(&number) {
                return number;
            }
        }
    }

    /// Notes that a share was written, and returns how it is held now.
    pub(super) fn written(&mut self, by: Option<ControllerNumber>, share: ShareId, numbers: &[u64], takes: bool) -> Hold {
        let old = self.holds.get(&share).copied();
        let mut hold = old.unwrap_or(Hold { version: 0, watcher: by.unwrap_or(ControllerNumber(0)), fence: 1 });
        hold.version += 1;
        if takes && let Some(by) = by {
            hold = Hold { watcher: by, fence: hold.fence + u64::from(old.is_some()), ..hold };
        }
        self.holds.insert(share, hold);
        self.written += 1;
        self.news.push_back(Notice { place: self.written, by, share, numbers: numbers.to_vec() });
        if self.news.len() > MAX_NEWS {
            self.news.pop_front();
        }
        hold
    }

    pub(super) fn forget(&mut self, share: ShareId) {
        self.holds.remove(&share);
    }

    fn is_gone(&self, number: ControllerNumber, patience: Duration) -> bool {
        self.controllers.get(&number).is_none_or(|controller| controller.heard.elapsed() >= patience)
    }
}

impl Kept {
    fn held(&self, id: ShareId) -> Option<Held> {
        let (share, hold) = (self.shares.get(&id)?, self.together.holds.get(&id)?);
        Some(Held { share: Arc::new(share.clone()), hold: *hold })
    }

    fn save_if(&mut self, me: ControllerNumber, save: Save, basis: Basis, line: Option<AuditEntry>) -> Result<Written, StoreError> {
        let id = save.share.id;
        let stands = self.together.holds.get(&id).copied();
        if basis.fence.is_some_and(|fence| stands.is_none_or(|hold| hold.fence != fence)) {
            return Err(StoreError::Overtaken);
        }
        if stands.map_or(0, |hold| hold.version) != basis.version {
            return Err(StoreError::Conflict);
        }
        let takes = save.facts.iter().any(|fact| matches!(fact, Fact::Created | Fact::Reopened | Fact::Undone));
        let numbers = self.save_by(Some(me), save, takes)?;
        if let Some(line) = line {
            self.audit.append(line);
        }
        Ok(Written { numbers, hold: self.together.holds[&id] })
    }

    fn take_over(&mut self, me: ControllerNumber, patience: Duration, limit: usize) -> Vec<Held> {
        let is_orphan = |share: &&Share| {
            let watcher = self.together.holds.get(&share.id).map(|hold| hold.watcher);
            !share.is_closed() && watcher.is_some_and(|watcher| watcher != me && self.together.is_gone(watcher, patience))
        };
        let orphans: Vec<ShareId> = self.shares.values().filter(is_orphan).map(|share| share.id).take(limit).collect();
        orphans
            .into_iter()
            .filter_map(|id| {
                self.together.written(Some(me), id, &[], true);
                self.held(id)
            })
            .collect()
    }

    fn news(&self, me: ControllerNumber, cursor: &Cursor) -> News {
        let after: u64 = cursor.0.parse().unwrap_or(0);
        let is_incomplete = self.together.news.front().is_some_and(|first| first.place > after + 1);
        let mut changed: Vec<Changed> = Vec::new();
        for notice in self.together.news.iter().filter(|notice| notice.place > after && notice.by != Some(me)) {
            let lines = self.events.iter().filter(|record| notice.numbers.contains(&record.seq)).cloned();
            let lines: Vec<Record> = lines.collect();
            match changed.iter_mut().find(|changed| changed.share == notice.share) {
                Some(changed) => changed.records.extend(lines),
                None => changed.push(Changed { share: notice.share, held: self.held(notice.share), records: lines }),
            }
        }
        News { cursor: Cursor(self.together.written.to_string()), is_incomplete, changed }
    }
}

impl MemoryStore {
    /// Lets a controller reach the store, or not.
    #[cfg(test)]
    pub(crate) fn cut_off(&self, controller: ControllerNumber, is_cut_off: bool) {
        let cut_off = &mut self.kept().together.cut_off;
        if is_cut_off {
            cut_off.insert(controller);
        } else {
            cut_off.remove(&controller);
        }
    }

    fn reached_by(&self, controller: ControllerNumber) -> Result<MutexGuard<'_, Kept>, StoreError> {
        let kept = self.kept();
        if kept.together.cut_off.contains(&controller) { Err(StoreError::unavailable("the network is away")) } else { Ok(kept) }
    }
}

impl SharedStore for MemoryStore {
    fn join(&self, who: Introduction) -> BoxFuture<'_, Result<Joined, StoreError>> {
        let mut kept = self.kept();
        let together = &mut kept.together;
        let former = together.controllers.iter().find(|(_, controller)| controller.who.folder == who.folder).map(|(number, _)| *number);
        if let Some(former) = former {
            together.controllers.remove(&former);
        }
        let number = together.number();
        together.controllers.insert(number, Controller { who, heard: Instant::now() });
        done(Joined { number, former, steady: together.steady_now(Instant::now()) })
    }

    fn beat(&self, me: ControllerNumber, steady: Steady) -> BoxFuture<'_, Result<Beat, StoreError>> {
        let mut kept = match self.reached_by(me) {
            Ok(kept) => kept,
            Err(error) => return ready(Err(error)).boxed(),
        };
        let together = &mut kept.together;
        let Some(controller) = together.controllers.get_mut(&me) else {
            return ready(Err(StoreError::Overtaken)).boxed();
        };
        controller.heard = Instant::now();
        together.hear(steady);
        together.controllers.retain(|_, controller| controller.heard.elapsed() < KEPT_NUMBER);
        let peer = |(number, it): (&ControllerNumber, &Controller)| Peer {
            number: *number,
            name: it.who.name.clone(),
            silence: it.heard.elapsed(),
        };
        let peers = together.controllers.iter().map(peer).collect();
        // As far from the steady clock as those of the tests are.
        done(Beat { peers, wall: Timestamp(1_800_000_000_000 - 1_000_000 + steady.0) })
    }

    fn leave(&self, me: ControllerNumber) -> BoxFuture<'_, Result<(), StoreError>> {
        let left = self.reached_by(me).map(|mut kept| drop(kept.together.controllers.remove(&me)));
        ready(left).boxed()
    }

    fn save_if(
        &self,
        me: ControllerNumber,
        save: Save,
        basis: Basis,
        line: Option<AuditEntry>,
    ) -> BoxFuture<'_, Result<Written, StoreError>> {
        let written = self.reached_by(me).and_then(|mut kept| kept.save_if(me, save, basis, line));
        self.tell();
        ready(written).boxed()
    }

    fn take_over(&self, me: ControllerNumber, patience: Duration, limit: usize) -> BoxFuture<'_, Result<Vec<Held>, StoreError>> {
        let taken = self.reached_by(me).map(|mut kept| kept.take_over(me, patience, limit));
        self.tell();
        ready(taken).boxed()
    }

    fn held(&self, id: ShareId) -> BoxFuture<'_, Result<Option<Held>, StoreError>> {
        done(self.kept().held(id))
    }

    fn all_held(&self) -> BoxFuture<'_, Result<(Vec<Held>, Cursor), StoreError>> {
        let kept = self.kept();
        let living = kept.shares.values().filter(|share| !share.is_closed());
        let mut held: Vec<Held> = living.filter_map(|share| kept.held(share.id)).collect();
        held.sort_by_key(|held| (held.share.created.steady, held.share.id));
        done((held, Cursor(kept.together.written.to_string())))
    }

    fn news(&self, me: ControllerNumber, cursor: Cursor, patience: Duration) -> BoxFuture<'_, Result<News, StoreError>> {
        let mut changes = self.1.subscribe();
        async move {
            let deadline = Instant::now() + patience;
            loop {
                let news = self.reached_by(me)?.news(me, &cursor);
                let is_nothing = news.changed.is_empty() && !news.is_incomplete;
                let left = deadline.saturating_duration_since(Instant::now());
                if !is_nothing || left.is_zero() {
                    return Ok(news);
                }
                // Nothing more to come is as good as time that is over.
                let _ = timeout(left, changes.changed()).await;
            }
        }
        .boxed()
    }

    fn as_store(self: Arc<Self>) -> Arc<dyn Store> {
        self
    }
}
