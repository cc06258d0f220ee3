//! Owners, racers and readers, each at whichever controller they happen to meet.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::house::{CONTROLLERS, FILES, House, LONG_FILE, PATIENCE};
use super::oracle::{Link, Oracle, Share, count, now_ms};
use crate::harness::{Answer, BROWSER, Client, Offer, Random, random_hex, sha256};

/// How many race for one link.
const RACERS: usize = 64;
/// How often a share is asked for again under the same key, where no answer came.
const CREATE_TRIES: usize = 12;
const SLOW_READER_BUFFER: usize = 16 * 1024;
/// How long a reader goes on for one transfer.
const READ_PATIENCE: Duration = Duration::from_secs(90);
/// How often somebody else is asked to close what one sends that is cut off.
const SHUT_TRIES: usize = 3;
/// How often an owner looks whether what they closed is closed, before they take it back.
const UNDO_LOOKS: usize = 5;

/// Somebody who may fetch a file.
pub(super) struct Task {
    share: Arc<Share>,
    transfer: String,
    generation: u64,
}

/// Everybody who uses the house.
pub(super) struct Load<'a> {
    pub(super) house: &'a House,
    pub(super) oracle: &'a Oracle,
    pub(super) tasks: Mutex<VecDeque<Task>>,
    pub(super) to_race: Mutex<VecDeque<Arc<Share>>>,
}

fn somewhere(random: &mut Random) -> usize {
    random.below(CONTROLLERS as u64) as usize
}

impl Load<'_> {
    // ---- Owners ----

    /// Makes shares and does with them what owners do, until the load is to end.
    pub(super) fn own(&self, mut random: Random, pause_ms: u64) {
        while !self.oracle.is_over() {
            match random.below(100) {
                0..55 => self.create(&mut random),
                55..65 => self.with_one(&mut random, |share| share.is_read_at(|_| true), Self::revoke),
                65..72 => self.with_one(&mut random, |_| true, Self::revoke),
                72..80 => self.with_one(&mut random, |_| true, Self::extend),
                80..90 => self.with_one(
                    &mut random,
                    |share| share.known().closed.is_some(),
                    |load, random, share| load.reopen(random, share, false),
                ),
                _ => self.with_one(&mut random, Share::is_untaken, Self::revoke_and_undo),
            }
            self.oracle.sleep(Duration::from_millis(random.below(pause_ms)));
        }
    }

    fn create(&self, random: &mut Random) {
        let note = format!("n-{}", random_hex(6));
        // Slow readers are what a close has to cut: their file is taken more often.
        let file = if random.below(3) == 0 { LONG_FILE } else { random.below(FILES.len() as u64) as usize };
        let expires = if random.below(10) == 0 { 2 + random.below(6) } else { 1800 + random.below(1800) };
        let on_stall = if random.below(2) == 0 { "close" } else { "reopen" };
        let (uses, policy) = match random.below(6) {
            0 => (None, json!({ "unlimited_downloads": true, "expires_in_seconds": expires, "on_stall": on_stall })),
            1 => (Some(3), json!({ "max_downloads": 3, "expires_in_seconds": expires, "on_stall": on_stall })),
            _ => (Some(1), json!({ "expires_in_seconds": expires, "on_stall": on_stall })),
        };
        let body = json!({ "path": FILES[file].0, "note": note, "policy": policy });
        let key = format!("Idempotency-Key: {note}");
        // Every other owner asks again until they are told; the same key makes one share at the most, wherever they ask.
        let (headers, tries): (&[&str], usize) = if random.below(2) == 0 { (&[&key], CREATE_TRIES) } else { (&[], 1) };
        for _ in 0..tries {
            match self.house.api(somewhere(random), "POST", "/api/v1/shares", headers, Some(&body)) {
                Some(answer) if matches!(answer.status, 201 | 202) => {
                    if answer.json()["url"].is_null() {
                        // It was answered for, and is looked for in the end.
                        self.oracle.unsure_notes.lock().expect("nobody panicked").push(note);
                        return self.oracle.wrong(format!("a share without a link: {}", answer.text()));
                    }
                    let share = self.oracle.add(Share::new(&Offer::from_json(&answer.json()), note, file, uses));
                    // Some are left alone: only of those that nobody began a close can be taken back.
                    if random.below(6) > 0 {
                        self.to_race.lock().expect("nobody panicked").push_back(share);
                    }
                    return;
                }
                Some(answer) if answer.status == 503 => {
                    self.oracle.check(answer.header("retry-after").is_some(), || format!("a 503 without Retry-After: {}", answer.text()));
                    count(&self.oracle.figures.refused);
                }
                // The one who asked before is still at it.
                Some(answer) if answer.status == 409 => {}
                Some(answer) => self.oracle.wrong(format!("creating: {} {}", answer.status, answer.text())),
                None => {}
            }
            self.oracle.sleep(Duration::from_millis(400));
        }
        count(&self.oracle.figures.created_unanswered);
        self.oracle.unsure_notes.lock().expect("nobody panicked").push(note);
    }

    /// Does something as the owner of one of the newest shares of a sort.
    fn with_one(&self, random: &mut Random, is_wanted: impl Fn(&Share) -> bool, act: impl Fn(&Self, &mut Random, &Share)) {
        if let Some(share) = self.oracle.any(random, is_wanted)
            && let Ok(_owner) = share.owner.try_lock()
        {
            act(self, random, &share);
        }
    }

    /// Asks as the owner of a share. `None`: what came of it is not known.
    fn order(&self, random: &mut Random, method: &str, path: &str, body: Option<&Value>) -> Option<Answer> {
        let answer = self.house.api(somewhere(random), method, path, &[], body)?;
        if answer.status == 503 {
            count(&self.oracle.figures.refused);
            return None;
        }
        Some(answer)
    }

    fn revoke(&self, random: &mut Random, share: &Share) {
        let Some(answer) = self.order(random, "DELETE", &format!("/api/v1/shares/{}", share.id), None) else { return };
        match answer.status {
            200 | 202 => {
                count(&self.oracle.figures.revokes);
                share.known().is_shut = true;
                share.heard(&answer.json());
            }
            status => self.oracle.wrong(format!("closing {}: {status} {}", share.id, answer.text())),
        }
        // Soon it is called closed: whoever still gets bytes of it then is found.
        self.look_at(random, share);
    }

    fn revoke_and_undo(&self, random: &mut Random, share: &Share) {
        self.revoke(random, share);
        for _ in 0..UNDO_LOOKS {
            if share.known().closed.is_some() {
                return self.reopen(random, share, true);
            }
            self.oracle.sleep(Duration::from_millis(100));
            self.look_at(random, share);
        }
    }

    fn extend(&self, random: &mut Random, share: &Share) {
        let body = json!({ "expires_in_seconds": 3000 });
        match self.order(random, "POST", &format!("/api/v1/shares/{}/extend", share.id), Some(&body)) {
            Some(answer) if answer.status == 200 => count(&self.oracle.figures.extends),
            Some(answer) if answer.status == 409 => {}
            Some(answer) => self.oracle.wrong(format!("extending {}: {} {}", share.id, answer.status, answer.text())),
            None => {}
        }
    }

    fn reopen(&self, random: &mut Random, share: &Share, is_undo: bool) {
        {
            let mut known = share.known();
            if known.closed.is_none() {
                return;
            }
            known.generation += 1;
            known.closed = None;
        }
        let body = json!({ "undo": is_undo });
        match self.order(random, "POST", &format!("/api/v1/shares/{}/reopen", share.id), Some(&body)) {
            Some(answer) if matches!(answer.status, 200 | 202) => {
                count(if is_undo { &self.oracle.figures.undos } else { &self.oracle.figures.reopens });
                let offer = Offer::from_json(&answer.json());
                let mut known = share.known();
                if is_undo {
                    let is_same = known.links.last().is_some_and(|link| link.redeem_path == offer.redeem_path());
                    self.oracle.check(is_same, || format!("{} was taken back under another link", share.id));
                } else {
                    let is_other = known.links.iter().all(|link| link.redeem_path != offer.redeem_path());
                    self.oracle.check(is_other, || format!("{} was opened again under an old link", share.id));
                    known.links.push(Link::of(&offer));
                }
                (known.opened_ms, known.is_shut, known.was_reopened) = (now_ms(), false, true);
                drop(known);
                if let Some(share) = self.oracle.all().into_iter().rev().find(|one| one.id == share.id) {
                    self.to_race.lock().expect("nobody panicked").push_back(share);
                }
            }
            // Some controller had not heard yet that it is closed, or it cannot be taken back.
            Some(answer) if answer.status == 409 => {}
            Some(answer) => self.oracle.wrong(format!("opening {} again: {} {}", share.id, answer.status, answer.text())),
            None => {
                let mut known = share.known();
                (known.is_unsure, known.is_shut, known.was_reopened) = (true, false, true);
            }
        }
    }

    /// Looks whether a share is closed; where it is, tries every door of it.
    pub(super) fn look_at(&self, random: &mut Random, share: &Share) {
        let path = format!("/api/v1/shares/{}", share.id);
        let Some(answer) = self.house.api(somewhere(random), "GET", &path, &[], None) else { return };
        match answer.status {
            200 => share.heard(&answer.json()),
            503 => return,
            status => return self.oracle.wrong(format!("{} is lost at a controller: {status} {}", share.id, answer.text())),
        }
        if share.known().closed.is_some() {
            (0..CONTROLLERS).for_each(|n| self.try_doors(n, share));
        }
    }

    /// Tries every way into a closed share at one controller. Its owner's lock is held.
    pub(super) fn try_doors(&self, n: usize, share: &Share) {
        let links = share.known().links.clone();
        for link in &links {
            for transfer in link.transfers.iter().rev().take(4) {
                count(&self.oracle.figures.doors_tried);
                if let Some(answer) = self.house.visit(n, "GET", transfer, &[BROWSER, "Range: bytes=0-99"]) {
                    let gives = matches!(answer.status, 200 | 206);
                    self.oracle.check(!gives, || format!("nas-{n} gives bytes of {}, which is closed: {}", share.id, answer.head_text()));
                }
            }
            count(&self.oracle.figures.doors_tried);
            match self.house.visit(n, "POST", &link.redeem_path, &[BROWSER]) {
                Some(answer) if answer.status != 503 => {
                    self.oracle.check(answer.status != 303, || format!("nas-{n} lets somebody into {}, which is closed", share.id));
                }
                // One that is paused may come to it after the close was taken back.
                _ => share.unanswered(&link.redeem_path),
            }
        }
    }

    /// Looks at shares, and at the doors of those that are closed, until the load is to end.
    pub(super) fn look(&self, mut random: Random) {
        while !self.oracle.is_over() {
            self.with_one(&mut random, |_| true, Self::look_at);
            self.oracle.sleep(Duration::from_millis(random.below(100)));
        }
    }

    /// Closes elsewhere what a controller sends that is cut off and hears of nothing, until the load is to end.
    pub(super) fn shut(&self, mut random: Random) {
        let is_cut_off = |n: usize| self.house.ailments(n, |ailments| ailments.is_up && ailments.is_cut && !ailments.is_paused);
        while !self.oracle.is_over() {
            self.with_one(
                &mut random,
                |share| share.is_read_at(is_cut_off) && !share.known().is_shut,
                |load, random, share| {
                    // Whom it meets may be ill, too.
                    for _ in 0..SHUT_TRIES {
                        load.revoke(random, share);
                        if share.known().is_shut {
                            return count(&load.oracle.figures.revokes_of_cut_off);
                        }
                    }
                },
            );
            self.oracle.sleep(Duration::from_millis(random.below(200)));
        }
    }

    // ---- Recipients ----

    /// Races for what was made, until the load is to end.
    pub(super) fn race(&self, mut random: Random) {
        while !self.oracle.is_over() {
            let next = self.to_race.lock().expect("nobody panicked").pop_front();
            match next {
                Some(share) => self.race_for(&mut random, &share),
                None => self.oracle.sleep(Duration::from_millis(20)),
            }
        }
    }

    fn race_for(&self, random: &mut Random, share: &Arc<Share>) {
        let (path, place, generation) = {
            let known = share.known();
            let Some(link) = known.links.last() else { return };
            (link.redeem_path.clone(), known.links.len() - 1, known.generation)
        };
        // Until it is answered it counts as not answered: the log is compared with that at any time.
        share.known().links[place].unanswered += RACERS as u64;
        let barrier = Barrier::new(RACERS);
        let first = somewhere(random);
        let answers: Vec<Option<Answer>> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..RACERS)
                .map(|racer| {
                    let (barrier, path) = (&barrier, &path);
                    scope.spawn(move || {
                        let to = self.house.recipient((first + racer) % CONTROLLERS);
                        let client = Client::try_connect(to, None, None).ok();
                        barrier.wait();
                        client?.giving_up_after(PATIENCE).request("POST", path, &[BROWSER, "Connection: close"])
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().expect("a racer does not panic")).collect()
        });
        count(&self.oracle.figures.races);
        let (mut winners, mut unanswered) = (Vec::new(), 0);
        for answer in answers {
            match answer {
                Some(answer) if answer.status == 303 => winners.push(answer.location()),
                Some(answer) if matches!(answer.status, 409 | 410) => {}
                // It could not be saved in time: it may have been.
                Some(answer) if answer.status == 503 => unanswered += 1,
                Some(answer) => self.oracle.wrong(format!("redeeming {}: {} {}", share.id, answer.status, answer.text())),
                None => unanswered += 1,
            }
        }
        self.oracle.figures.redeems.fetch_add(winners.len() as u64, Ordering::Relaxed);
        self.oracle.figures.redeems_unanswered.fetch_add(unanswered, Ordering::Relaxed);
        let distinct: HashSet<&String> = winners.iter().collect();
        self.oracle.check(distinct.len() == winners.len(), || format!("two were led to one transfer of {}: {winners:?}", share.id));
        let too_many = share.uses.is_some_and(|uses| winners.len() as u64 > uses);
        self.oracle.check(!too_many, || format!("{} got {} in one race, for {:?} uses", winners.len(), share.id, share.uses));
        {
            let mut known = share.known();
            known.links[place].unanswered -= RACERS as u64 - unanswered;
            known.links[place].transfers.extend(winners.iter().cloned());
        }
        // Without a limit everybody wins: a few of them are enough.
        let most = if share.uses.is_none() { 3 } else { winners.len() };
        let tasks = winners.into_iter().take(most).map(|transfer| Task { share: share.clone(), transfer, generation });
        self.tasks.lock().expect("nobody panicked").extend(tasks);
    }

    /// Fetches what was won, until the load is to end.
    pub(super) fn read(&self, mut random: Random) {
        while !self.oracle.is_over() {
            let next = self.tasks.lock().expect("nobody panicked").pop_front();
            match next {
                Some(task) => {
                    let is_whole = self.fetch(&mut random, &task);
                    let is_shut = task.share.known().is_shut;
                    count(match is_whole {
                        true => &self.oracle.figures.downloads,
                        false if is_shut => &self.oracle.figures.downloads_cut,
                        false => &self.oracle.figures.downloads_left,
                    });
                }
                None => self.oracle.sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Fetches all of a file, in pieces from whichever controller. Returns whether all of it came.
    fn fetch(&self, random: &mut Random, task: &Task) -> bool {
        let content = &self.house.contents[task.share.file];
        let is_slow = task.share.file == LONG_FILE && random.below(2) == 0;
        let leaves_at = if random.below(12) == 0 { random.below(content.len() as u64 + 1) as usize } else { usize::MAX };
        let (mut got, started) = (Vec::with_capacity(content.len()), Instant::now());
        while got.len() < content.len() {
            if self.oracle.is_over() || started.elapsed() > READ_PATIENCE || got.len() >= leaves_at {
                return false;
            }
            let some = (content.len() / 4).max(1000) + random.below(1 + content.len() as u64 / 2) as usize;
            let piece = if is_slow { content.len() } else { some };
            let end = content.len().min(got.len() + piece);
            match self.fetch_piece(somewhere(random), task, is_slow, end, &mut got) {
                Piece::Came => count(&self.oracle.figures.ranges),
                Piece::Later => self.oracle.sleep(Duration::from_millis(200)),
                Piece::Over => return false,
            }
        }
        let is_right = sha256(&got) == sha256(content);
        self.oracle.check(is_right, || format!("{} was downloaded whole and is not what was shared", task.share.id));
        is_right
    }

    fn fetch_piece(&self, n: usize, task: &Task, is_slow: bool, end: usize, got: &mut Vec<u8>) -> Piece {
        let buffer = is_slow.then_some(SLOW_READER_BUFFER);
        let was_closed = task.share.closed_in(task.generation).is_some();
        let Ok(client) = Client::try_connect(self.house.recipient(n), None, buffer) else { return Piece::Later };
        let mut client = client.giving_up_after(PATIENCE);
        let range = format!("Range: bytes={}-{}", got.len(), end - 1);
        client.ask("GET", &task.transfer, &[BROWSER, &range, "Connection: close"]);
        let Some(head) = client.answer_head() else { return Piece::Later };
        match head.status {
            200 | 206 => {}
            429 | 503 => return Piece::Later,
            404 | 410 | 403 | 409 => return Piece::Over,
            status => {
                self.oracle.wrong(format!("a piece of {}: {status}", task.share.id));
                return Piece::Over;
            }
        }
        if was_closed {
            self.oracle.wrong(format!("nas-{n} gives bytes of {}, which is closed", task.share.id));
        }
        let reading = task.share.read_at(n);
        // What had reached this machine's own kernel when it was first seen that the share is closed.
        let mut held: Option<usize> = None;
        let mut late = 0;
        while got.len() < end {
            if held.is_none() && task.share.closed_in(task.generation).is_some() {
                held = Some(client.unread());
            }
            let some = client.read_some((end - got.len()).min(16 * 1024));
            if some.is_empty() {
                break;
            }
            if held.is_some() {
                late += some.len();
            }
            got.extend(some);
            if is_slow {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        drop(reading);
        self.oracle.figures.late_bytes.fetch_max(late as u64, Ordering::Relaxed);
        let held = held.unwrap_or(0);
        self.oracle.check(late <= held, || {
            format!("nas-{n} sent {late} bytes of {} when it was called closed, {held} of them before", task.share.id)
        });
        Piece::Came
    }
}

/// What came of asking for a part of a file.
enum Piece {
    Came,
    Later,
    Over,
}
