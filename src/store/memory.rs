//! A store that forgets: for tests, and for nothing that matters.

mod access;
mod audit;
mod shared;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tokio::sync::watch;

use self::access::Access;
use self::audit::AuditLog;
use self::shared::Together;
use super::audit::{AuditEntry, AuditLine, AuditVerdict};
use super::shared::ControllerNumber;
use super::stats::Rollup;
use super::{
    ApiToken, ApiTokenId, Day, EventQuery, Forgotten, LogMark, MAX_DIGESTS, MAX_LOGS, MAX_PLANS, Plan, Record, Save, Session, ShareQuery,
    Size, Stats, Store, StoreError, folded, kind_of, page_limit,
};
use crate::share::{Fact, FileIdentity, Phase, Share, ShareId, Steady, Timestamp, TokenId};

/// Keeps everything in memory, by the same rules as a store that lasts.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Kept>, watch::Sender<()>);

#[derive(Debug, Default)]
struct Kept {
    shares: HashMap<ShareId, Share>,
    links: HashMap<TokenId, Link>,
    events: Vec<Record>,
    latest_seq: u64,
    rollup: Rollup,
    latest_steady: Option<Steady>,
    access: Access,
    audit: AuditLog,
    /// The one that came first first.
    plans: VecDeque<Plan>,
    /// By device and inode: the state, its digest and the order of keeping.
    digests: HashMap<(u64, u64), (FileIdentity, [u8; 32], u64)>,
    digests_kept: u64,
    /// By path, the one that was marked longest ago first.
    log_marks: VecDeque<(String, LogMark)>,
    together: Together,
}

/// A row of the ledger.
#[derive(Debug, Clone)]
struct Link {
    share: ShareId,
    uses_max: u32,
    uses_spent: u32,
    dead: bool,
}

impl MemoryStore {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("nobody panics while holding the store")
    }

    /// Says that there may be news.
    fn tell(&self) {
        self.1.send_replace(());
    }
}

impl Kept {
    fn save(&mut self, save: Save) -> Result<Vec<u64>, StoreError> {
        self.save_by(None, save, false)
    }

    fn save_by(&mut self, by: Option<ControllerNumber>, save: Save, takes: bool) -> Result<Vec<u64>, StoreError> {
        let share = &save.share;
        if save.facts.contains(&Fact::Created) && self.shares.contains_key(&share.id) {
            return Err(StoreError::unavailable("a share of this id exists already"));
        }
        // What a refused save must not have touched is worked on as a copy: the few links of this one share.
        let mut links: HashMap<TokenId, Link> = self
            .links
            .iter()
            .filter(|(id, link)| link.share == share.id || **id == share.link)
            .map(|(id, link)| (*id, link.clone()))
            .collect();
        for fact in &save.facts {
            enter(&mut links, share, fact)?;
        }
        self.links.extend(links);
        let mut numbers = Vec::with_capacity(save.facts.len());
        let path = share.file.path.to_text();
        for fact in save.facts {
            self.latest_seq += 1;
            let seq = self.latest_seq;
            self.rollup.add(Day::of(save.at.wall), &fact, &path);
            self.events.push(Record { seq, at: save.at.wall, share: share.id, fact });
            numbers.push(seq);
        }
        self.shares.insert(share.id, Share::clone(share));
        self.latest_steady = self.latest_steady.max(Some(save.at.steady));
        self.together.written(by, share.id, &numbers, takes);
        Ok(numbers)
    }

    fn page(&self, query: ShareQuery) -> Vec<Share> {
        let place = |share: &Share| (share.created.steady, share.id);
        let before = match query.before.map(|id| self.shares.get(&id)) {
            Some(None) => return Vec::new(),
            Some(Some(last)) => Some(place(last)),
            None => None,
        };
        let mut page: Vec<&Share> = self
            .shares
            .values()
            .filter(|share| is_share_wanted(share, &query))
            .filter(|share| before.is_none_or(|before| place(share) < before))
            .collect();
        page.sort_by_key(|share| std::cmp::Reverse(place(share)));
        page.into_iter().take(page_limit(query.limit)).cloned().collect()
    }

    fn forget(&mut self, before: Timestamp) -> Forgotten {
        let is_over = |share: &Share| matches!(share.phase, Phase::Closed { at, .. } if at.wall < before);
        let over: HashSet<ShareId> = self.shares.values().filter(|share| is_over(share)).map(|share| share.id).collect();
        let lines = self.events.len();
        self.shares.retain(|id, _| !over.contains(id));
        over.iter().for_each(|id| self.together.forget(*id));
        self.links.retain(|_, link| !over.contains(&link.share));
        self.events.retain(|record| !over.contains(&record.share));
        self.rollup.forget(Day::of(before));
        let audit_lines = self.audit.forget(before);
        Forgotten { events: (lines - self.events.len()) as u64, shares: over.len() as u64, audit_lines, is_more: false }
    }

    fn put_plan(&mut self, plan: Plan, forget_before: Steady) -> Plan {
        self.plans.retain(|kept| kept.since >= forget_before);
        if let Some(known) = self.plans.iter().find(|kept| kept.key == plan.key) {
            return known.clone();
        }
        self.plans.push_back(plan.clone());
        if self.plans.len() > MAX_PLANS {
            self.plans.pop_front();
        }
        plan
    }

    fn put_digest(&mut self, identity: FileIdentity, sha256: [u8; 32]) {
        self.digests_kept += 1;
        self.digests.insert((identity.device, identity.inode), (identity, sha256, self.digests_kept));
        if self.digests.len() > MAX_DIGESTS
            && let Some((first, _)) = self.digests.iter().min_by_key(|(_, (.., kept))| *kept)
        {
            let first = *first;
            self.digests.remove(&first);
        }
    }

    fn put_log_mark(&mut self, log: String, mark: LogMark) {
        self.log_marks.retain(|(kept, _)| *kept != log);
        self.log_marks.push_back((log, mark));
        if self.log_marks.len() > MAX_LOGS {
            self.log_marks.pop_front();
        }
    }
}

/// Keeps the ledger by one fact.
fn enter(links: &mut HashMap<TokenId, Link>, share: &Share, fact: &Fact) -> Result<(), StoreError> {
    match fact {
        Fact::Created | Fact::Reopened => match links.entry(share.link) {
            Entry::Occupied(_) => return Err(StoreError::unavailable("this link was entered before")),
            Entry::Vacant(place) => {
                place.insert(Link { share: share.id, uses_max: share.policy.uses_max(), uses_spent: 0, dead: false });
            }
        },
        Fact::Undone => {
            let link = links.get_mut(&share.link).filter(|link| link.dead && link.uses_spent < link.uses_max);
            link.ok_or(StoreError::Spent)?.dead = false;
        }
        Fact::Redeemed { .. } => {
            let link = links.get_mut(&share.link).filter(|link| !link.dead && link.uses_spent < link.uses_max);
            link.ok_or(StoreError::Spent)?.uses_spent += 1;
        }
        Fact::Ended { given_back: true, .. } => {
            if let Some(link) = links.get_mut(&share.link) {
                link.uses_spent = link.uses_spent.saturating_sub(1);
            }
        }
        Fact::Closing { .. } => links.values_mut().filter(|link| link.share == share.id).for_each(|link| link.dead = true),
        Fact::Ended { given_back: false, .. }
        | Fact::Opened
        | Fact::TunnelLost
        | Fact::Probed { .. }
        | Fact::Extended { .. }
        | Fact::Delivered
        | Fact::Closed { .. }
        | Fact::Began { .. } => {}
    }
    Ok(())
}

fn is_wanted(record: &Record, query: &EventQuery) -> bool {
    record.seq > query.after
        && query.before.is_none_or(|before| record.seq < before)
        && query.share.is_none_or(|share| record.share == share)
        && query.since.is_none_or(|since| record.at >= since)
        && query.kind.as_ref().is_none_or(|wanted| {
            let kind = kind_of(&record.fact);
            if wanted.ends_with('.') { kind.starts_with(wanted) } else { kind == *wanted }
        })
}

fn is_share_wanted(share: &Share, query: &ShareQuery) -> bool {
    !share.file.is_self_test()
        && query.closed.is_none_or(|closed| share.is_closed() == closed)
        && query.outcome.is_none_or(|outcome| share.is_closed() && share.outcome() == Some(outcome))
        && query.path_contains.as_ref().is_none_or(|text| folded(&share.file.path.to_text()).contains(&folded(text)))
        && query.since.is_none_or(|since| share.created.wall >= since)
        && query.until.is_none_or(|until| share.created.wall < until)
}

fn done<'a, T: Send + 'a>(answer: T) -> BoxFuture<'a, Result<T, StoreError>> {
    ready(Ok(answer)).boxed()
}

impl Store for MemoryStore {
    fn save(&self, save: Save) -> BoxFuture<'_, Result<Vec<u64>, StoreError>> {
        ready(self.kept().save(save)).boxed()
    }

    fn share(&self, id: ShareId) -> BoxFuture<'_, Result<Option<Share>, StoreError>> {
        done(self.kept().shares.get(&id).cloned())
    }

    fn living(&self) -> BoxFuture<'_, Result<Vec<Share>, StoreError>> {
        let mut living: Vec<Share> = self.kept().shares.values().filter(|share| !share.is_closed()).cloned().collect();
        living.sort_by_key(|share| (share.created.steady, share.id));
        done(living)
    }

    fn shares(&self, query: ShareQuery) -> BoxFuture<'_, Result<Vec<Share>, StoreError>> {
        done(self.kept().page(query))
    }

    fn events(&self, query: EventQuery) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        let kept = self.kept();
        let wanted = kept.events.iter().filter(|record| is_wanted(record, &query));
        let limit = page_limit(query.limit);
        done(if query.newest_first { wanted.rev().take(limit).cloned().collect() } else { wanted.take(limit).cloned().collect() })
    }

    fn latest_seq(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        done(self.kept().latest_seq)
    }

    fn latest_steady(&self) -> BoxFuture<'_, Result<Option<Steady>, StoreError>> {
        done(self.kept().latest_steady)
    }

    fn put_session(&self, session: Session) -> BoxFuture<'_, Result<(), StoreError>> {
        self.kept().access.put_session(session);
        done(())
    }

    fn session(&self, digest: [u8; 32], now: Steady) -> BoxFuture<'_, Result<Option<Session>, StoreError>> {
        done(self.kept().access.session(digest, now))
    }

    fn end_session(&self, digest: [u8; 32], now: Steady) -> BoxFuture<'_, Result<(), StoreError>> {
        self.kept().access.end_session(digest, now);
        done(())
    }

    fn sessions(&self, now: Steady) -> BoxFuture<'_, Result<Vec<Session>, StoreError>> {
        done(self.kept().access.sessions(now))
    }

    fn put_api_token(&self, token: ApiToken) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(self.kept().access.put_api_token(token)).boxed()
    }

    fn api_tokens(&self) -> BoxFuture<'_, Result<Vec<ApiToken>, StoreError>> {
        done(self.kept().access.api_tokens())
    }

    fn remove_api_token(&self, id: ApiTokenId) -> BoxFuture<'_, Result<Option<ApiToken>, StoreError>> {
        done(self.kept().access.remove_api_token(&id))
    }

    fn api_token_used(&self, id: ApiTokenId, at: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        self.kept().access.api_token_used(&id, at);
        done(())
    }

    fn append_audit(&self, entry: AuditEntry) -> BoxFuture<'_, Result<AuditLine, StoreError>> {
        done(self.kept().audit.append(entry))
    }

    fn save_with_line(&self, save: Save, line: AuditEntry) -> BoxFuture<'_, Result<Vec<u64>, StoreError>> {
        let mut kept = self.kept();
        let saved = kept.save(save);
        if saved.is_ok() {
            kept.audit.append(line);
        }
        ready(saved).boxed()
    }

    fn audit_lines(&self, before: Option<u64>, limit: usize) -> BoxFuture<'_, Result<Vec<AuditLine>, StoreError>> {
        done(self.kept().audit.page(before, limit))
    }

    fn verify_audit(&self) -> BoxFuture<'_, Result<AuditVerdict, StoreError>> {
        done(self.kept().audit.verify())
    }

    fn put_plan(&self, plan: Plan, forget_before: Steady) -> BoxFuture<'_, Result<Plan, StoreError>> {
        done(self.kept().put_plan(plan, forget_before))
    }

    fn plan_is_done(&self, key: String) -> BoxFuture<'_, Result<(), StoreError>> {
        self.kept().plans.iter_mut().filter(|plan| plan.key == key).for_each(|plan| plan.is_done = true);
        done(())
    }

    fn drop_plan(&self, key: String) -> BoxFuture<'_, Result<(), StoreError>> {
        self.kept().plans.retain(|plan| plan.key != key || plan.is_done);
        done(())
    }

    fn stats(&self, from: Day, to: Day) -> BoxFuture<'_, Result<Stats, StoreError>> {
        done(self.kept().rollup.stats(from, to))
    }

    fn forget(&self, before: Timestamp) -> BoxFuture<'_, Result<Forgotten, StoreError>> {
        done(self.kept().forget(before))
    }

    fn try_write(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        done(())
    }

    fn size(&self) -> BoxFuture<'_, Result<Size, StoreError>> {
        let kept = self.kept();
        done(Size { bytes: 0, events: kept.events.len() as u64, shares: kept.shares.len() as u64 })
    }

    fn put_digest(&self, identity: FileIdentity, sha256: [u8; 32]) -> BoxFuture<'_, Result<(), StoreError>> {
        self.kept().put_digest(identity, sha256);
        done(())
    }

    fn digest(&self, identity: FileIdentity) -> BoxFuture<'_, Result<Option<[u8; 32]>, StoreError>> {
        let kept = self.kept();
        let known = kept.digests.get(&(identity.device, identity.inode)).filter(|(state, ..)| *state == identity);
        done(known.map(|(_, sha256, _)| *sha256))
    }

    fn put_log_mark(&self, log: String, mark: LogMark) -> BoxFuture<'_, Result<(), StoreError>> {
        self.kept().put_log_mark(log, mark);
        done(())
    }

    fn log_mark(&self, log: String) -> BoxFuture<'_, Result<Option<LogMark>, StoreError>> {
        done(self.kept().log_marks.iter().find(|(kept, _)| *kept == log).map(|(_, mark)| mark.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::MemoryStore;
    use crate::store::contract::{every_promise, every_shared_promise};

    every_promise!((Arc::new(MemoryStore::default()), ()));
    every_shared_promise!((Arc::new(MemoryStore::default()), ()));
}
