//! What must hold after every step, known from outside: from what was written and what was answered.

use std::collections::{BTreeMap, BTreeSet};

use portcullis::controller::View;
use portcullis::share::{ByteRange, Evidence, Fact, Outcome, Phase, Share, ShareId, Steady, TokenId, TransferEnd, UNDO_FOR};
use portcullis::store::{Record, Save};

use crate::recipients::Recipient;

/// What is known of everything that was ever made.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// Each share as it was last written.
    pub(crate) saved: BTreeMap<ShareId, Share>,
    /// Each share as it last was when its link could be redeemed.
    redeemable: BTreeMap<ShareId, Share>,
    /// What was written into the event log, in order.
    pub(crate) log: Vec<(u64, ShareId, Fact)>,
    /// How often each link was redeemed, less what was given back, by what was written.
    spent: BTreeMap<TokenId, i64>,
    /// How many redeems of a link were answered with a yes.
    pub(crate) answered: BTreeMap<TokenId, u32>,
    /// How many uses of a link were ever given back.
    given_back: BTreeMap<TokenId, u32>,
    /// When each share was last said to close.
    closing_at: BTreeMap<ShareId, Steady>,
    /// The shares whose making was answered.
    pub(crate) made: BTreeSet<ShareId>,
    /// The shares of which somebody was told that they are revoked, until they are opened again.
    pub(crate) revoked: BTreeSet<ShareId>,
    /// The most that a view showed of a link, in this process.
    shown: BTreeMap<TokenId, u64>,
}

impl Oracle {
    /// Takes note of what was written.
    pub(crate) fn wrote(&mut self, save: &Save, seqs: &[u64], recipients: &[Recipient], open_doors: &BTreeSet<ShareId>) {
        let (share, before) = (&*save.share, self.saved.get(&save.share.id).cloned());
        assert_eq!(seqs.len(), save.facts.len(), "each fact has its number");
        for (seq, fact) in seqs.iter().zip(&save.facts) {
            assert_eq!(*seq, self.log.len() as u64 + 1, "the log has no gap and no line twice");
            self.log.push((*seq, share.id, fact.clone()));
            self.happened(fact, before.as_ref(), save, open_doors);
        }
        if let Some(before) = &before {
            let is_reopened = save.facts.contains(&Fact::Reopened);
            let is_undone = save.facts.contains(&Fact::Undone);
            let mut as_it_was = before.clone();
            as_it_was.reach = share.reach;
            assert!(
                !before.is_closed() || is_reopened || is_undone || as_it_was == *share,
                "a closed share {} changed: {save:?}",
                share.id
            );
            if !is_reopened {
                assert!(share.delivered_bytes() >= before.delivered_bytes(), "what was delivered of {} fell", share.id);
                let is_kept = before.outcome().is_none() || is_undone || before.outcome() == share.outcome();
                assert!(is_kept, "the outcome of {} changed", share.id);
            }
            for transfer in &share.transfers {
                let Some(old) = before.transfer(transfer.id) else { continue };
                let (new, had) = (transfer.coverage.covered_bytes(), old.coverage.covered_bytes());
                assert!(new >= had, "what arrived of transfer {} fell from {had} to {new}", transfer.id);
                assert!(old.is_active() || !transfer.is_active(), "transfer {} is over and runs again", transfer.id);
            }
        } else {
            assert!(save.facts.contains(&Fact::Created), "share {} was written and never made", share.id);
        }
        for recipient in recipients.iter().filter(|recipient| recipient.share == share.id) {
            is_true(share, recipient);
        }
        if share.phase == Phase::Open && !share.is_spent() {
            self.redeemable.insert(share.id, share.clone());
        }
        self.saved.insert(share.id, share.clone());
    }

    /// Returns shares as they once were when their links could be redeemed, of those where they cannot any more: spent, closed or replaced.
    pub(crate) fn outdated(&self) -> impl Iterator<Item = &Share> {
        let is_over = |now: &Share, then: &Share| now.link != then.link || now.is_spent() || now.is_closed();
        self.redeemable.values().filter(move |then| self.saved.get(&then.id).is_some_and(|now| is_over(now, then)))
    }

    fn happened(&mut self, fact: &Fact, before: Option<&Share>, save: &Save, open_doors: &BTreeSet<ShareId>) {
        let share = &*save.share;
        let is_closed = before.is_some_and(Share::is_closed);
        match fact {
            Fact::Created => assert!(before.is_none(), "share {} was made twice", share.id),
            Fact::Reopened => {
                assert!(is_closed, "share {} was opened again and was not closed", share.id);
                assert!(before.is_some_and(|before| before.link != share.link), "share {} was opened again with its old link", share.id);
                self.revoked.remove(&share.id);
            }
            Fact::Undone => {
                let before = before.expect("only what was made is closed");
                assert!(is_closed && before.outcome() == Some(Outcome::Revoked), "share {} was not closed by its owner", share.id);
                assert_eq!((share.link, share.expires, &share.transfers), (before.link, before.expires, &before.transfers), "{}", share.id);
                assert!(!save.at.has_reached_either(share.expires), "the close of {} was taken back behind its end", share.id);
                let closed = self.closing_at.get(&share.id).expect("it closed");
                assert!(save.at.steady.since(*closed) < UNDO_FOR, "the close of {} was taken back late", share.id);
                let began = |(_, of, fact): &(u64, ShareId, Fact)| {
                    *of == share.id && matches!(fact, Fact::Began { transfer } if share.transfer(*transfer).is_none_or(|t| t.begun))
                };
                let since = self.log.iter().rposition(|(_, of, fact)| *of == share.id && *fact == Fact::Reopened).unwrap_or(0);
                assert!(!self.log[since..].iter().any(began), "the close of {} was taken back, and somebody has a byte", share.id);
                self.revoked.remove(&share.id);
            }
            Fact::Redeemed { transfer } => {
                let before = before.expect("only what was made is redeemed");
                assert_eq!(before.phase, Phase::Open, "share {} was redeemed while it was not open", share.id);
                assert!(!save.at.has_reached_either(before.expires), "share {} was redeemed after its link had ended", share.id);
                assert!(share.transfer(*transfer).is_some_and(|t| t.is_active()), "a redeem of {} begins no transfer", share.id);
                let spent = self.spent.entry(share.link).or_default();
                *spent += 1;
                let most = i64::from(share.policy.uses_max());
                assert!(*spent <= most, "the link of {} was redeemed {spent} times of {most}", share.id);
            }
            Fact::Began { transfer } => {
                assert!(before.is_some_and(|b| b.transfer(*transfer).is_some_and(|t| t.is_active())), "{transfer} began and was none");
            }
            Fact::Ended { given_back, end, delivered_bytes, .. } => {
                if *given_back {
                    *self.spent.entry(share.link).or_default() -= 1;
                    *self.given_back.entry(share.link).or_default() += 1;
                }
                let size = share.file.size_bytes();
                assert!(*end != TransferEnd::Completed || *delivered_bytes == size, "{delivered_bytes} bytes of {size} are called all");
            }
            Fact::Closed { .. } => {
                assert!(before.is_some_and(|b| b.outcome().is_some()), "share {} closed and was not closing", share.id);
                assert!(!open_doors.contains(&share.id), "share {} is called closed and its door stands open", share.id);
            }
            Fact::Closing { outcome } => {
                self.closing_at.insert(share.id, save.at.steady);
                assert!(before.is_some_and(|b| b.outcome().is_none()), "share {} closes twice", share.id);
                let whole = || share.transfers.iter().all(|t| t.given_back || t.is_completed() || t.ended.is_some());
                assert!(
                    *outcome != Outcome::Completed || share.completed() > 0 && whole(),
                    "share {} completed, and not all of it",
                    share.id
                );
            }
            Fact::Opened | Fact::TunnelLost | Fact::Extended { .. } => assert!(!is_closed, "{fact:?} of the closed share {}", share.id),
            Fact::Probed { after_close, .. } => {
                assert_eq!(*after_close, is_closed, "share {} was looked at as something else than it was", share.id);
                assert!(is_closed || share.phase == Phase::Open || share.outcome().is_some(), "share {} was not open", share.id);
            }
            Fact::Delivered => assert!(share.is_spent(), "share {} is delivered and can be redeemed", share.id),
        }
    }

    /// Takes note that somebody was told that a redeem of this link worked.
    pub(crate) fn redeemed(&mut self, link: TokenId, uses_max: u32) {
        let answered = self.answered.entry(link).or_default();
        *answered += 1;
        let may = uses_max.saturating_add(self.given_back.get(&link).copied().unwrap_or(0));
        assert!(*answered <= may, "{answered} people were told that their redeem worked, of {may}");
    }

    /// Takes note of what an owner sees.
    pub(crate) fn shown(&mut self, view: &View) {
        let share = &*view.share;
        let size = share.file.size_bytes();
        assert!(share.delivered_bytes() <= size && share.percent() <= 100, "more than all of {} is shown", share.id);
        assert!(share.percent() < 100 || size == 0 || share.delivered_bytes() == size, "100 % of {} are shown for less", share.id);
        let shown = self.shown.entry(share.link).or_default();
        assert!(share.delivered_bytes() >= *shown, "what is shown as delivered of {} fell", share.id);
        *shown = share.delivered_bytes();
        assert!(!share.is_closed() || self.saved.get(&share.id).is_some_and(Share::is_closed), "{} is shown as closed, unsaved", share.id);
    }

    /// A process ended: the next one knows what was saved.
    pub(crate) fn forget_views(&mut self) {
        self.shown.clear();
    }

    /// What everybody was told must be so on the disk.
    pub(crate) fn holds(&self) {
        for id in &self.made {
            assert!(self.saved.contains_key(id), "share {id} was acknowledged and does not exist");
        }
        for id in &self.revoked {
            assert!(self.saved.get(id).is_some_and(|share| share.outcome().is_some()), "share {id} was revoked and is not");
        }
    }

    /// Counts what was written.
    pub(crate) fn kinds(&self) -> BTreeMap<String, u64> {
        let mut kinds = BTreeMap::new();
        for (_, _, fact) in &self.log {
            let json = serde_json::to_value(fact).expect("a fact has a JSON form");
            let how = if matches!(fact, Fact::Closing { .. }) { None } else { json["outcome"].as_str().or(json["end"].as_str()) };
            let kind = json["type"].as_str().into_iter().chain(how).collect::<Vec<_>>().join(" ");
            *kinds.entry(kind).or_insert(0) += 1;
        }
        kinds
    }

    /// Holds the store's log against what was written into it.
    pub(crate) fn is_log(&self, records: &[Record]) {
        let read: Vec<_> = records.iter().map(|record| (record.seq, record.share, record.fact.clone())).collect();
        assert_eq!(read, self.log, "the log is not what was written");
    }
}

/// What counts as arrived is what the recipient has; what counts as handed over is what was sent.
fn is_true(share: &Share, recipient: &Recipient) {
    let Some(transfer) = share.transfer(recipient.transfer) else { return };
    let pieces = serde_json::to_value(&transfer.coverage).expect("a coverage has a JSON form");
    for piece in pieces.as_array().expect("it is a list") {
        let range: ByteRange = serde_json::from_value(piece.clone()).expect("each piece is a range");
        let evidence: Evidence = serde_json::from_value(piece["evidence"].clone()).expect("each piece has its evidence");
        let really = if evidence == Evidence::HandedOver { recipient.sent } else { recipient.have };
        assert!(
            really.holds(range, recipient.file.block_bytes),
            "{range:?} of transfer {} counts as {evidence:?}, and is {:?} of {:?}",
            transfer.id,
            recipient.have,
            recipient.sent
        );
    }
}
