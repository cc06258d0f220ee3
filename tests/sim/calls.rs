//! What owners and recipients ask, and what they are told.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use portcullis::clock::Clock;
use portcullis::controller::{ControllerError, NewShare, View};
use portcullis::delivery::Found;
use portcullis::meter::Request;
use portcullis::share::{
    ByteRange, CatalogPath, Evidence, Fact, Obstacle, OnStall, Outcome, PolicyRequest, Reach, Recipient as Who, Refused, RequestId, Share,
    ShareId, TokenId, Unprobed,
};
use portcullis::token::{TransferSecret, random};
use tokio::task::JoinHandle;

use crate::recipients::{FILES, File, Recipient, Running, Style};
use crate::world::World;

/// How many shares may live at once: enough to disturb one another, few enough for each to be disturbed often.
const MAX_LIVING: usize = 5;
/// How many requests of a recipient run at once.
const MAX_RUNNING: usize = 3;

/// A question that is open.
pub(crate) struct Call {
    pub(crate) asked: Asked,
    pub(crate) task: JoinHandle<Told>,
}

#[derive(Debug)]
pub(crate) enum Asked {
    Create(ShareId),
    Redeem { share: ShareId, link: TokenId },
    Revoke(ShareId),
    Other,
    Fetch(Running),
}

pub(crate) enum Told {
    View(Result<Arc<View>, ControllerError>),
    Secret(Result<TransferSecret, ControllerError>),
    Go(Option<Result<(), Refused>>),
    /// Of which link of a share it was so, and whether it was closed.
    Probed(ShareId, Option<(TokenId, bool)>),
}

impl World<'_> {
    fn ask(&mut self, asked: Asked, work: impl Future<Output = Told> + Send + 'static) {
        self.note(|line| match &asked {
            Asked::Fetch(running) => write!(line, "fetch {} {}..{}", running.request.share, running.from, running.to),
            other => write!(line, "{other:?}"),
        });
        self.calls.push(Call { asked, task: tokio::spawn(work) });
    }

    /// Somebody does something.
    pub(crate) async fn somebody_acts(&mut self) {
        match self.chance.below(100) {
            0..12 => self.create(),
            12..30 => self.redeem(),
            30..58 => self.fetch(),
            58..76 => self.bytes_move(),
            76..88 => self.a_request_ends().await,
            88..91 => self.revoke(),
            91..94 => self.extend(),
            94 => self.undo(),
            95 => self.reopen(),
            96..98 => self.probe(),
            98 => self.stop_a_transfer(),
            _ => self.file_changes().await,
        }
    }

    fn share_where(&mut self, is: impl Fn(&Share) -> bool) -> Option<Share> {
        let found: Vec<&Share> = self.oracle.saved.values().filter(|share| is(share)).collect();
        self.chance.pick(&found).map(|share| Share::clone(share))
    }

    fn create(&mut self) {
        let living = self.oracle.saved.values().filter(|share| !share.is_closed()).count();
        if living >= MAX_LIVING {
            return;
        }
        let Some(process) = &self.process else { return };
        let (chance, now, handle) = (&mut self.chance, self.clock.now(), process.handle.clone());
        let file = chance.pick(&FILES).copied().expect("there are files");
        let unlimited_downloads = chance.permille(100);
        let policy = PolicyRequest {
            max_downloads: (!unlimited_downloads).then(|| if chance.permille(600) { 1 } else { chance.between(2, 3) }),
            unlimited_downloads,
            expires_in_seconds: Some(chance.between(1, 60)),
            starts_at: chance.permille(150).then(|| now.wall.plus(Duration::from_millis(chance.below(20_000)))),
            on_stall: Some(if chance.permille(500) { OnStall::Reopen } else { OnStall::Close }),
            ..PolicyRequest::default()
        };
        let path = CatalogPath::parse(file.name).expect("it is a path");
        let id = random::share_id();
        let new = NewShare { path, policy, note: None, message: None };
        self.ask(Asked::Create(id), async move { Told::View(handle.create_as(id, new).await) });
    }

    fn redeem(&mut self) {
        let Some(share) = self.share_where(|share| !share.is_closed()) else { return };
        let Some(process) = &self.process else { return };
        let handle = process.handle.clone();
        let link = if self.chance.permille(20) { random::token_id() } else { share.link };
        // Now and then a crowd comes at once.
        for _ in 0..if self.chance.permille(100) { 8 } else { 1 } {
            let handle = handle.clone();
            let who = Who { address: Some("203.0.113.7".to_owned()), agent: "curl/8".to_owned() };
            self.ask(Asked::Redeem { share: share.id, link }, async move { Told::Secret(handle.redeem(share.id, link, who).await) });
        }
    }

    fn revoke(&mut self) {
        let Some(share) = self.share_where(|_| true) else { return };
        let Some(process) = &self.process else { return };
        let handle = process.handle.clone();
        self.ask(Asked::Revoke(share.id), async move { Told::View(handle.revoke(share.id).await) });
    }

    fn extend(&mut self) {
        let Some(share) = self.share_where(|_| true) else { return };
        let Some(process) = &self.process else { return };
        let (handle, by) = (process.handle.clone(), Duration::from_secs(self.chance.between(1, 60)));
        self.ask(Asked::Other, async move { Told::View(handle.extend(share.id, by).await) });
    }

    fn reopen(&mut self) {
        let Some(share) = self.share_where(Share::is_closed) else { return };
        let Some(process) = &self.process else { return };
        let handle = process.handle.clone();
        self.ask(Asked::Other, async move { Told::View(handle.reopen(share.id).await) });
    }

    /// Somebody takes a close back: mostly their own, and mostly in time.
    fn undo(&mut self) {
        let is_revoked = |share: &Share| share.outcome() == Some(Outcome::Revoked) && share.transfers.iter().all(|t| !t.begun);
        let Some(share) = self.share_where(is_revoked).or_else(|| self.share_where(|share| share.outcome().is_some())) else { return };
        let Some(process) = &self.process else { return };
        let handle = process.handle.clone();
        self.ask(Asked::Other, async move { Told::View(handle.undo(share.id).await) });
    }

    /// Somebody has looked from outside: at the share as it stands, or as it stood a while ago.
    fn probe(&mut self) {
        let Some(share) = self.share_where(|_| true) else { return };
        let Some(process) = &self.process else { return };
        let (handle, chance) = (process.handle.clone(), &mut self.chance);
        let link = if chance.permille(50) { random::token_id() } else { share.link };
        let after_close = share.is_closed() != chance.permille(100);
        let reach = [Reach::Yes, Reach::No(Obstacle::NoAnswer), Reach::NotProbed(Unprobed::NoWayOut)];
        let reach = chance.pick(&reach).copied().expect("there are some");
        let told = async move {
            let is_so = handle.probed(share.id, link, after_close, reach).await;
            Told::Probed(share.id, is_so.is_ok_and(|is_so| is_so).then_some((link, after_close)))
        };
        self.ask(Asked::Other, told);
    }

    fn stop_a_transfer(&mut self) {
        let Some(share) = self.share_where(|share| !share.transfers.is_empty()) else { return };
        let Some(process) = &self.process else { return };
        let (handle, transfer) = (process.handle.clone(), share.transfers[0].id);
        self.ask(Asked::Other, async move { Told::View(handle.stop_transfer(share.id, transfer).await) });
    }

    async fn file_changes(&mut self) {
        if let Some(share) = self.share_where(|share| !share.is_closed())
            && let Some(process) = &self.process
        {
            process.reports.source_changed(share.id).await;
            self.note(|line| write!(line, "the file of {} changed", share.id));
        }
    }

    // ---- Bytes -----------------------------------------------------------------------------------------------------

    fn fetch(&mut self) {
        let indices: Vec<usize> = (0..self.recipients.len()).collect();
        let Some(index) = self.chance.pick(&indices).copied() else { return };
        let Some(process) = &mut self.process else { return };
        let recipient = &self.recipients[index];
        let (share, transfer, file) = (recipient.share, recipient.transfer, recipient.file);
        let Some(Found::Valid(pass)) = process.passes.find(&recipient.secret) else { return };
        let asked = |call: &Call| matches!(&call.asked, Asked::Fetch(running) if running.recipient == index);
        let busy: Vec<(u64, u64)> = self.running.iter().filter(|r| r.recipient == index).map(|r| (r.from, r.to)).collect();
        let at_once = if recipient.style == Style::Resuming { 1 } else { MAX_RUNNING };
        if busy.len() >= at_once || self.calls.iter().any(asked) {
            return;
        }
        let Some((from, to)) = recipient.wish(&mut self.chance) else { return };
        // No client fetches one part twice at once.
        if busy.iter().any(|(_, busy_to)| *busy_to == to) {
            return;
        }
        process.requests += 1;
        *process.asked.entry(transfer).or_default() += 1;
        let request = Request { share, transfer, id: RequestId(process.requests) };
        let range = ByteRange::new(from * file.block_bytes, to * file.block_bytes);
        let reports = process.reports.clone();
        let running = Running { recipient: index, request, pass, from, to, sent: from, received: from, heard: from };
        self.ask(Asked::Fetch(running), async move { Told::Go(reports.open(request, range).await) });
    }

    fn bytes_move(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let index = self.chance.below(self.running.len() as u64) as usize;
        let running = &mut self.running[index];
        let recipient = &mut self.recipients[running.recipient];
        if running.pass.cut.is_cancelled() {
            return;
        }
        running.progress(recipient, &mut self.chance);
        let (request, evidence) = (running.request, evidence_of(recipient));
        let (heard, _) = running.heard_and_doubtful(recipient.file);
        let at = (running.sent, running.received, running.heard);
        if let (Some(heard), Some(process)) = (heard.filter(|range| !range.is_empty()), &self.process) {
            process.reports.arrived(request, heard, evidence);
        }
        self.note(|line| write!(line, "bytes of {}: sent, received, heard {at:?}", request.share));
    }

    async fn a_request_ends(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let index = self.chance.below(self.running.len() as u64) as usize;
        if self.running[index].pass.cut.is_cancelled() {
            return;
        }
        let mut running = self.running.swap_remove(index);
        if self.chance.permille(600) {
            running.finish(&mut self.recipients[running.recipient]);
        } else {
            running.progress(&mut self.recipients[running.recipient], &mut self.chance);
        }
        self.ended(running).await;
    }

    /// Tells the meter's last word.
    async fn ended(&mut self, running: Running) {
        let recipient = &self.recipients[running.recipient];
        let (heard, doubtful) = running.heard_and_doubtful(recipient.file);
        // What came of a request that was cut before its head left is nothing, also for an empty file.
        let heard = heard.filter(|range| !range.is_empty() || !running.pass.cut.is_cancelled());
        let evidence = evidence_of(recipient);
        if let Some(process) = &self.process {
            process.reports.ended(running.request, heard, evidence, doubtful).await;
        }
        let (share, at) = (running.request.share, (running.sent, running.received, running.heard));
        self.note(|line| write!(line, "a request of {share} ended: sent, received, heard {at:?}"));
    }

    /// Connections that were cut end.
    pub(crate) async fn notice_cuts(&mut self) {
        while let Some(index) = self.running.iter().position(|running| running.pass.cut.is_cancelled()) {
            let running = self.running.swap_remove(index);
            self.ended(running).await;
        }
    }

    // ---- Answers ---------------------------------------------------------------------------------------------------

    pub(crate) async fn hear_answers(&mut self) {
        while let Some(index) = self.calls.iter().position(|call| call.task.is_finished()) {
            let Call { asked, task } = self.calls.remove(index);
            let told = match task.await {
                Ok(told) => told,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            };
            self.told(asked, told).await;
        }
    }

    async fn told(&mut self, asked: Asked, told: Told) {
        match (asked, told) {
            (Asked::Create(id), Told::View(Ok(_))) => {
                self.oracle.made.insert(id);
            }
            (Asked::Create(id), Told::View(Err(ControllerError::Store(error)))) => {
                self.note(|line| write!(line, "  {id} was not made: {error}"));
            }
            (Asked::Revoke(id), Told::View(Ok(view))) => {
                assert!(view.share.outcome().is_some(), "share {id} is called revoked and is {:?}", view.share.phase);
                self.oracle.revoked.insert(id);
            }
            (Asked::Redeem { share, link }, Told::Secret(Ok(secret))) => self.redeemed(share, link, secret),
            (Asked::Fetch(running), Told::Go(Some(Ok(())))) => {
                let share = &self.oracle.saved[&running.request.share];
                if !running.pass.cut.is_cancelled() {
                    assert!(share.outcome().is_none(), "the first byte of a request leaves, and share {} is closed", share.id);
                    let saved = share.transfer(running.request.transfer).expect("a transfer that runs is saved");
                    assert!(saved.begun && saved.open_requests() > 0, "a byte leaves before it is saved that it may");
                    if self.recipients[running.recipient].file.blocks == 0 {
                        return self.ended(running).await;
                    }
                }
                self.running.push(running);
            }
            (Asked::Other, Told::Probed(id, Some((link, after_close)))) => {
                let is_found = |(_, of, fact): &(u64, ShareId, Fact)| {
                    *of == id && matches!(fact, Fact::Probed { after_close: then, .. } if *then == after_close)
                };
                assert!(self.oracle.log.iter().any(is_found), "what was found of {id} ({link}) is called noted and is not");
            }
            (Asked::Create(_) | Asked::Revoke(_) | Asked::Other, _) | (Asked::Redeem { .. } | Asked::Fetch(_), _) => {}
        }
    }

    fn redeemed(&mut self, id: ShareId, link: TokenId, secret: TransferSecret) {
        let share = &self.oracle.saved[&id];
        self.oracle.redeemed(link, share.policy.uses_max());
        let found = self.process.as_ref().and_then(|process| process.passes.find(&secret));
        let transfer = match found {
            Some(Found::Valid(pass)) => pass.transfer,
            Some(Found::Over(_, transfer)) => transfer,
            None => panic!("a redeem of {id} was answered and leads nowhere"),
        };
        let share = &self.oracle.saved[&id];
        if share.link == link {
            assert!(share.transfer(transfer).is_some(), "a redeem of {id} was answered and is not saved");
        }
        let file: File = *FILES.iter().find(|file| share.file.path.to_text() == file.name).expect("it is one of them");
        let style = match self.chance.below(3) {
            0 if file.blocks > 1 => Style::Parts(file.blocks.div_ceil(3)),
            _ => Style::Resuming,
        };
        let is_proxied = self.chance.permille(150);
        let (sent, have) = Default::default();
        self.recipients.push(Recipient { share: id, transfer, secret, file, style, is_proxied, sent, have });
    }
}

fn evidence_of(recipient: &Recipient) -> Evidence {
    if recipient.is_proxied { Evidence::HandedOver } else { Evidence::Acknowledged }
}
