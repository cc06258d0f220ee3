//! The whole life of some shares over HTTP, what was answered on the way, and whether all of it still holds after a crash.
//! The suites `kill_points`, `power_cut` and `disk` walk it; nothing is tested here.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use crate::harness::{Answer, BROWSER, Client, Offer, SOON, Server, path_of, poll, sha256};

const MIB: usize = 1024 * 1024;
/// The file that is shared: longer than what the kernels take ahead of a reader.
pub(crate) const FILM: &str = "film.mkv";
/// How long it is.
pub(crate) const FILM_BYTES: usize = 4 * MIB;
/// How much of it is taken before the connection breaks.
const PART_BYTES: usize = MIB;
/// How much may have arrived that nobody has read: what is in flight is bounded by so much.
const IN_FLIGHT_BYTES: usize = MIB;
/// What may lie in a state folder while a server runs.
const NAMES: [&str; 8] =
    ["jwt.key", "owner.sock", "owner.token", "portcullis.db", "portcullis.db-shm", "portcullis.db-wal", "portcullis.lock", "transfer.key"];
/// The note of shares that only fill the store.
pub(crate) const FILLER: &str = "filler";
/// A time behind every mark.
pub(crate) const END: u64 = u64::MAX - 1;

/// What is known of something that was asked for.
#[derive(Debug)]
pub(crate) enum Was<'a, T> {
    NeverAsked,
    /// It was asked for, and the answer did not come.
    Unanswered,
    Answered(&'a T),
}

impl<T> Was<'_, T> {
    fn may_be(&self) -> bool {
        !matches!(self, Self::NeverAsked)
    }

    fn is_sure(&self) -> bool {
        matches!(self, Self::Answered(_))
    }
}

/// One thing that was asked for: when, when it was answered, and how.
#[derive(Debug)]
pub(crate) struct Step<T> {
    asked: Option<u64>,
    answered: Option<(u64, T)>,
}

impl<T> Default for Step<T> {
    fn default() -> Self {
        Self { asked: None, answered: None }
    }
}

impl<T> Step<T> {
    /// Returns what was known of it at a time.
    pub(crate) fn at(&self, time: u64) -> Was<'_, T> {
        match (&self.asked, &self.answered) {
            (_, Some((at, answer))) if *at <= time => Was::Answered(answer),
            (Some(asked), _) if *asked <= time => Was::Unanswered,
            _ => Was::NeverAsked,
        }
    }
}

impl<T> Step<T> {
    /// Returns the answer, if it was there at a time.
    pub(crate) fn answer_at(&self, time: u64) -> Option<&T> {
        self.answered.as_ref().filter(|(at, _)| *at <= time).map(|(_, answer)| answer)
    }
}

/// What one share was told to do.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    pub(crate) create: Step<Offer>,
    pub(crate) redeem: Step<String>,
    pub(crate) revoke: Step<()>,
    /// With the end that was answered.
    pub(crate) extend: Step<Value>,
    pub(crate) reopen: Step<Offer>,
    /// The rest was asked for; and the owner was told that all of it is there.
    pub(crate) deliver: Step<()>,
}

/// A secret that somebody comes in with: made, and ended.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    /// With the header that it is sent in, and its id where it has one.
    pub(crate) make: Step<(String, String)>,
    pub(crate) end: Step<()>,
}

/// What was asked and answered so far.
#[derive(Debug, Default)]
pub(crate) struct Life {
    pub(crate) shares: BTreeMap<&'static str, Fate>,
    pub(crate) passes: BTreeMap<&'static str, Pass>,
    pub(crate) key: String,
}

/// Asks on a connection of its own; `None` where the server went before all of the answer was there.
pub(crate) fn ask(to: SocketAddr, method: &str, path: &str, headers: &[&str], body: Option<&Value>) -> Option<Answer> {
    let mut client = Client::try_connect(to, None, None).ok()?;
    let mut headers = headers.to_vec();
    headers.push("Connection: close");
    let answer = match body {
        Some(body) => {
            headers.push("Content-Type: application/json");
            client.request_with(method, path, &headers, body.to_string().as_bytes())
        }
        None => client.request(method, path, &headers),
    };
    answer.filter(|answer| answer.complete)
}

/// A walk through a life: who is asked, and what time it is.
pub(crate) struct Walk<'a> {
    pub(crate) server: &'a Server,
    pub(crate) life: &'a mut Life,
    /// The time: how much of the disk's log was written by now.
    pub(crate) now: &'a dyn Fn() -> u64,
}

impl Walk<'_> {
    /// Walks all of it. `None`: the server went on the way; what it had answered is kept.
    pub(crate) fn all(&mut self) -> Option<()> {
        self.create("taken", None)?;
        let link = self.link("taken");
        ask(self.server.recipient, "GET", &link, &[BROWSER], None)?.expect_status(200);
        self.redeem("taken")?;
        self.fetch_part("taken")?;
        self.create("shut", None)?;
        self.redeem("shut")?;
        self.fetch_part("shut")?;
        self.revoke("shut")?;
        self.create("longer", None)?;
        self.extend("longer")?;
        self.create("again", None)?;
        self.revoke("again")?;
        self.reopen("again")?;
        self.make_token("script")?;
        self.make_token("old")?;
        self.end_token("old")?;
        self.sign_in("browser")?;
        self.sign_in("other")?;
        self.sign_out("other")?;
        self.life.key = "nightly".to_owned();
        self.create("keyed", Some("nightly"))?;
        self.fetch_rest("taken")
    }

    fn owner(&self, method: &str, path: &str, headers: &[&str], body: Option<&Value>) -> Option<Answer> {
        let authorization = format!("Authorization: Bearer {}", self.server.token);
        let mut all = vec![authorization.as_str()];
        all.extend(headers);
        ask(self.server.owner, method, path, &all, body)
    }

    /// Notes that something is asked for, asks, and notes the answer.
    fn step<T>(&mut self, of: impl Fn(&mut Life) -> &mut Step<T>, ask: impl FnOnce(&Self) -> Option<T>) -> Option<()> {
        of(self.life).asked = Some((self.now)());
        let answer = ask(self)?;
        of(self.life).answered = Some(((self.now)(), answer));
        Some(())
    }

    fn link(&self, note: &str) -> String {
        self.offer(note).link
    }

    fn offer(&self, note: &str) -> Offer {
        let Was::Answered(offer) = self.life.shares[note].create.at(END) else { panic!("{note} was made") };
        offer.clone()
    }

    /// Makes one more share of a file; for those that fill the store.
    pub(crate) fn create(&mut self, note: &'static str, key: Option<&str>) -> Option<()> {
        let body = json!({ "path": FILM, "note": note, "policy": { "expires_in_seconds": 1000 } });
        let key = key.map(|key| format!("Idempotency-Key: {key}"));
        self.step(
            |life| &mut life.shares.entry(note).or_default().create,
            |walk| {
                let headers: Vec<&str> = key.as_deref().into_iter().collect();
                let answer = walk.owner("POST", "/api/v1/shares", &headers, Some(&body))?.expect_status(201);
                Some(Offer::from_json(&answer.json()))
            },
        )
    }

    fn redeem(&mut self, note: &'static str) -> Option<()> {
        let path = self.offer(note).redeem_path();
        self.step(
            |life| &mut life.shares.entry(note).or_default().redeem,
            |walk| Some(ask(walk.server.recipient, "POST", &path, &[BROWSER], None)?.expect_status(303).location()),
        )
    }

    fn transfer(&self, note: &str) -> String {
        let Was::Answered(transfer) = self.life.shares[note].redeem.at(END) else { panic!("{note} was redeemed") };
        transfer.clone()
    }

    fn fetch_part(&self, note: &str) -> Option<()> {
        let mut client = Client::try_connect(self.server.recipient, None, Some(16 * 1024)).ok()?;
        client.ask("GET", &self.transfer(note), &[BROWSER]);
        client.answer_head()?.expect_status(200);
        let mut got = 0;
        while got < PART_BYTES {
            match client.read_some(64 * 1024).len() {
                0 => return None,
                n => got += n,
            }
        }
        Some(())
    }

    fn fetch_rest(&mut self, note: &'static str) -> Option<()> {
        let (transfer, id) = (self.transfer(note), self.offer(note).id);
        self.step(
            |life| &mut life.shares.entry(note).or_default().deliver,
            |walk| {
                let range = format!("Range: bytes={PART_BYTES}-");
                ask(walk.server.recipient, "GET", &transfer, &[BROWSER, &range], None)?.expect_status(206);
                walk.wait_for(&id, "delivered")
            },
        )
    }

    fn wait_for(&self, id: &str, state: &str) -> Option<()> {
        let mut is_so = Some(false);
        poll(SOON, state, || {
            let share = self.owner("GET", &format!("/api/v1/shares/{id}"), &[], None);
            is_so = share.map(|share| share.expect_status(200).json()["state"] == state);
            is_so != Some(false)
        });
        is_so.map(|_| ())
    }

    pub(crate) fn revoke(&mut self, note: &'static str) -> Option<()> {
        let path = format!("/api/v1/shares/{}", self.offer(note).id);
        self.step(
            |life| &mut life.shares.entry(note).or_default().revoke,
            |walk| walk.owner("DELETE", &path, &[], None).map(|answer| drop(answer.expect_status(200))),
        )
    }

    fn extend(&mut self, note: &'static str) -> Option<()> {
        let path = format!("/api/v1/shares/{}/extend", self.offer(note).id);
        self.step(
            |life| &mut life.shares.entry(note).or_default().extend,
            |walk| {
                let answer = walk.owner("POST", &path, &[], Some(&json!({ "expires_in_seconds": 2000 })))?;
                Some(answer.expect_status(200).json()["expires_at"].clone())
            },
        )
    }

    fn reopen(&mut self, note: &'static str) -> Option<()> {
        let id = self.offer(note).id;
        self.wait_for(&id, "closed")?;
        let path = format!("/api/v1/shares/{id}/reopen");
        self.step(
            |life| &mut life.shares.entry(note).or_default().reopen,
            |walk| Some(Offer::from_json(&walk.owner("POST", &path, &[], Some(&json!({})))?.expect_status(200).json())),
        )
    }

    fn make_token(&mut self, name: &'static str) -> Option<()> {
        self.step(
            |life| &mut life.passes.entry(name).or_default().make,
            |walk| {
                let answer = walk.owner("POST", "/api/v1/tokens", &[], Some(&json!({ "name": name, "scope": "read" })))?;
                let made = answer.expect_status(201).json();
                let text = |field: &str| made[field].as_str().expect("a text").to_owned();
                Some((format!("Authorization: Bearer {}", text("token")), text("id")))
            },
        )
    }

    fn end_token(&mut self, name: &'static str) -> Option<()> {
        let Was::Answered((_, id)) = self.life.passes[name].make.at(END) else { panic!("{name} was made") };
        let path = format!("/api/v1/tokens/{id}");
        self.step(
            |life| &mut life.passes.entry(name).or_default().end,
            |walk| walk.owner("DELETE", &path, &[], None).map(|answer| drop(answer.expect_status(200))),
        )
    }

    fn sign_in(&mut self, name: &'static str) -> Option<()> {
        let link = self.owner("POST", "/api/v1/session/link", &[], None)?.expect_status(200).json();
        let path = path_of(link["url"].as_str().expect("a link")).to_owned();
        self.step(
            |life| &mut life.passes.entry(name).or_default().make,
            |walk| {
                let entered = ask(walk.server.owner, "GET", &path, &[BROWSER], None)?.expect_status(303);
                let cookie = entered.header("set-cookie").expect("a cookie");
                Some((format!("Cookie: {}", cookie.split(';').next().expect("its value")), String::new()))
            },
        )
    }

    fn sign_out(&mut self, name: &'static str) -> Option<()> {
        let Was::Answered((cookie, _)) = self.life.passes[name].make.at(END) else { panic!("{name} was made") };
        let cookie = cookie.clone();
        self.step(
            |life| &mut life.passes.entry(name).or_default().end,
            |walk| {
                let answer = ask(walk.server.owner, "DELETE", "/api/v1/session", &[BROWSER, &cookie], None)?;
                assert!(answer.status < 300, "{}", answer.head_text());
                Some(())
            },
        )
    }
}

// ---- What must hold afterwards ------------------------------------------------------------------------------------------

impl Life {
    /// Returns when something was answered.
    pub(crate) fn times(&self) -> Vec<u64> {
        fn of<T>(step: &Step<T>) -> Option<u64> {
            step.answered.as_ref().map(|(at, _)| *at)
        }
        let shares = self
            .shares
            .values()
            .flat_map(|fate| [of(&fate.create), of(&fate.redeem), of(&fate.revoke), of(&fate.extend), of(&fate.reopen), of(&fate.deliver)]);
        let passes = self.passes.values().flat_map(|pass| [of(&pass.make), of(&pass.end)]);
        shares.chain(passes).flatten().collect()
    }

    /// Checks a server that was started again against what had been answered by `time`.
    pub(crate) fn check(&self, server: &Server, film: &[u8], time: u64) {
        let health = server.api("GET", "/health", None).expect_status(200).json();
        assert_eq!(health["status"], "healthy", "{health}");
        let listed = server.api("GET", "/api/v1/shares?limit=1000", None).expect_status(200).json();
        let listed = listed["shares"].as_array().expect("a list");
        for share in listed {
            let note = share["note"].as_str().unwrap_or_default();
            assert!(note == FILLER || self.shares.get(note).is_some_and(|fate| fate.create.at(time).may_be()), "nobody made {share:#}");
        }
        for (note, fate) in &self.shares {
            let mine: Vec<&Value> = listed.iter().filter(|share| share["note"] == *note).collect();
            let at = Fortune { server, film, note, fate, time };
            match (fate.create.at(time), mine[..].first()) {
                (Was::Answered(offer), Some(share)) => {
                    assert_eq!(share["id"], offer.id.as_str(), "{note}");
                    at.check(share, offer);
                }
                (Was::Answered(_), None) => panic!("{note} was promised and is gone"),
                (Was::Unanswered, Some(share)) => at.check_whole(share),
                (Was::Unanswered | Was::NeverAsked, None) => {}
                (Was::NeverAsked, Some(_)) => unreachable!("looked at above"),
            }
            assert!(mine.len() <= 1, "{note} is there {} times", mine.len());
        }
        self.check_key(server, time);
        self.check_passes(server, time);
        self.check_records(server, time);
        check_folder(server);
    }

    /// Whoever sends what was not answered again gets one share, and the same.
    fn check_key(&self, server: &Server, time: u64) {
        let Some(fate) = self.shares.get("keyed").filter(|fate| fate.create.at(time).may_be()) else { return };
        let authorization = format!("Authorization: Bearer {}", server.token);
        let key = format!("Idempotency-Key: {}", self.key);
        let body = json!({ "path": FILM, "note": "keyed", "policy": { "expires_in_seconds": 1000 } });
        let again = || ask(server.owner, "POST", "/api/v1/shares", &[&authorization, &key], Some(&body)).expect("an answer").json();
        let (first, second) = (again(), again());
        assert_eq!(first["id"], second["id"]);
        if let Was::Answered(offer) = fate.create.at(time) {
            assert_eq!(first["id"], offer.id.as_str());
        }
    }

    fn check_passes(&self, server: &Server, time: u64) {
        for (name, pass) in &self.passes {
            let Was::Answered((header, _)) = pass.make.at(time) else { continue };
            let status = ask(server.owner, "GET", "/api/v1/shares", &[BROWSER, header], None).expect("an answer").status;
            match pass.end.at(time) {
                Was::NeverAsked => assert_eq!(status, 200, "{name} was let in"),
                Was::Unanswered => assert!(matches!(status, 200 | 401), "{name}: {status}"),
                Was::Answered(()) => assert_eq!(status, 401, "{name} was ended"),
            }
        }
    }

    /// The audit chain is whole and tells of all that was answered; the event log has no gap.
    fn check_records(&self, server: &Server, time: u64) {
        let verdict = server.api("GET", "/api/v1/audit/verify", None).expect_status(200).json();
        assert_eq!(verdict["is_intact"], true, "{verdict}");
        let audit = server.api("GET", "/api/v1/audit?limit=1000", None).expect_status(200).json();
        let has = |action: &str, target: &str| {
            let lines = audit["lines"].as_array().expect("lines");
            lines.iter().any(|line| line["action"] == action && line["target"] == target)
        };
        for (note, fate) in &self.shares {
            let Was::Answered(offer) = fate.create.at(time) else { continue };
            assert!(has("share.create", &offer.id), "{note}: no line, no action");
            assert!(!fate.revoke.at(time).is_sure() || has("share.close", &offer.id), "{note}: that it was closed is not written down");
        }
        let events = server.api("GET", "/api/v1/events?limit=1000", None).expect_status(200).json();
        let numbers: Vec<u64> = events["events"].as_array().expect("events").iter().map(|e| e["seq"].as_u64().expect("a number")).collect();
        assert!(numbers.iter().zip(1..).all(|(seq, expected)| *seq == expected), "{numbers:?}");
    }
}

/// Looks for what crashes leave behind.
fn check_folder(server: &Server) {
    for entry in std::fs::read_dir(&server.state).expect("the state folder can be listed") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        assert!(NAMES.contains(&name.as_str()), "{name} was left behind in the state folder");
    }
}

/// One share at the time of a crash, before a server that was started again.
struct Fortune<'a> {
    server: &'a Server,
    film: &'a [u8],
    note: &'a str,
    fate: &'a Fate,
    time: u64,
}

impl Fortune<'_> {
    fn check(&self, listed: &Value, offer: &Offer) {
        let (fate, time, note) = (self.fate, self.time, self.note);
        let share = self.settled(&offer.id);
        let is_closed = share["state"] == "closed";
        match (fate.revoke.at(time), fate.reopen.at(time)) {
            (Was::NeverAsked, _) => assert!(!is_closed || share["outcome"] == "completed", "nobody closed {note}: {share:#}"),
            (Was::Answered(()), Was::NeverAsked) => assert_eq!(share["outcome"], "revoked", "{note}: {share:#}"),
            (_, Was::Answered(new)) => {
                assert_eq!((is_closed, &share["url"]), (false, &json!(new.url)), "{note}: {share:#}");
                assert_eq!(self.page(&new.link), 200, "{note}");
            }
            (Was::Unanswered, _) | (_, Was::Unanswered) => assert!(!is_closed || share["outcome"] == "revoked", "{note}: {share:#}"),
        }
        if fate.revoke.at(time).is_sure() || is_closed {
            assert_eq!(self.page(&offer.link), 410, "{note}: the old link of what was closed");
        }
        match fate.extend.at(time) {
            Was::Answered(end) => assert_eq!(share["expires_at"], *end, "{note} lives longer"),
            Was::NeverAsked if !fate.reopen.at(time).may_be() => assert_eq!(share["expires_at"], listed["expires_at"]),
            _ => {}
        }
        self.check_use(offer, &share, is_closed);
    }

    /// A link that was spent stays spent; one that was not works; and what was begun can be ended.
    fn check_use(&self, offer: &Offer, share: &Value, is_closed: bool) {
        let (fate, time, note) = (self.fate, self.time, self.note);
        let arrived = share["progress"]["delivered_bytes"].as_u64().expect("a number");
        match fate.redeem.at(time) {
            Was::NeverAsked if is_closed || fate.reopen.at(time).may_be() || note == "keyed" => {}
            Was::NeverAsked => self.take(&self.redeem(offer, 303).location(), 0),
            Was::Unanswered if is_closed => {}
            Was::Unanswered => {
                let answer = self.post(offer);
                assert!(matches!(answer.status, 303 | 409 | 410), "{}", answer.head_text());
            }
            Was::Answered(transfer) => {
                let answer = self.post(offer);
                assert!(matches!(answer.status, 409 | 410), "{note}: a spent link lives again:\n{}", answer.head_text());
                if !is_closed {
                    self.take(transfer, PART_BYTES);
                } else if fate.revoke.at(time).may_be() {
                    let bytes = self.server.fetch("GET", transfer, &[BROWSER]);
                    assert!(bytes.is_none_or(|answer| answer.status == 410), "{note}: bytes of what was shut");
                }
            }
        }
        assert!(self.server.uses(&offer.id) <= 1, "{note} was used twice");
        match fate.deliver.at(time) {
            Was::Answered(()) => {
                assert!(matches!(share["state"].as_str(), Some("delivered" | "closed")), "{note}: {share:#}");
                assert_eq!(arrived, FILM_BYTES as u64, "{note}: what arrived is known still");
            }
            Was::Unanswered => {}
            Was::NeverAsked if !fate.redeem.at(time).may_be() => assert_eq!(arrived, 0, "{note}: nobody had it"),
            // The reader's kernel may have taken more than the reader.
            Was::NeverAsked => assert!(arrived <= (PART_BYTES + IN_FLIGHT_BYTES) as u64, "{note}: {arrived} bytes are more than were sent"),
        }
    }

    /// One whose making was not answered is there wholly: it can be taken.
    fn check_whole(&self, share: &Value) {
        let share = self.settled(share["id"].as_str().expect("an id"));
        let offer = Offer::from_json(&share);
        if self.note != "keyed" {
            self.take(&self.redeem(&offer, 303).location(), 0);
        }
    }

    fn settled(&self, id: &str) -> Value {
        self.server.wait_for(id, "it settles", |share| !matches!(share["state"].as_str(), Some("opening" | "closing")))
    }

    fn page(&self, link: &str) -> u16 {
        self.server.fetch("GET", link, &[BROWSER, "Connection: close"]).expect("a genuine link is answered").status
    }

    /// Redeems as somebody else would.
    fn post(&self, offer: &Offer) -> Answer {
        let mut client = Client::connect_from(self.server.recipient, Ipv4Addr::new(127, 0, 0, 9));
        client.request("POST", &offer.redeem_path(), &[BROWSER, "Connection: close"]).expect("a genuine link is answered")
    }

    fn redeem(&self, offer: &Offer, status: u16) -> Answer {
        self.post(offer).expect_status(status)
    }

    /// Fetches from an offset to the end, and compares.
    fn take(&self, transfer: &str, from: usize) {
        let range = format!("Range: bytes={from}-");
        let answer = self.server.fetch("GET", transfer, &[BROWSER, &range, "Connection: close"]).expect("an answer").expect_status(206);
        assert_eq!(sha256(&answer.body), sha256(&self.film[from..]), "{}: other bytes", self.note);
    }
}
