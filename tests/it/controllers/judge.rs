//! What must hold when everything is mended and has come to rest.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::house::{CONTROLLERS, House};
use super::load::Load;
use super::oracle::{Oracle, Share};
use super::watch::{KEYS, Standing};
use crate::harness::BROWSER;

/// How long it may take until everybody knows the same: what was left behind by whoever was killed is found out by then.
const REST: Duration = Duration::from_secs(90);
/// The most transfers of a share that are tried one by one in the end.
const MAX_PATHS: usize = 8;
/// What of a share must be the same wherever it is asked for.
const SAME: [&str; 6] = ["state", "outcome", "transfers", "expires_at", "url", "closed_at"];

/// Asks until there is an answer; everything is healthy.
fn ask(house: &House, n: usize, path: &str) -> Option<Value> {
    let until = Instant::now() + REST;
    while Instant::now() < until {
        match house.api(n, "GET", path, &[], None) {
            Some(answer) if answer.status == 200 => return Some(answer.json()),
            Some(answer) if answer.status == 404 => return None,
            _ => std::thread::sleep(Duration::from_millis(200)),
        }
    }
    panic!("nas-{n} does not answer {path}:\n{}", house.logs(40));
}

/// Reads a list, page by page.
fn pages(house: &House, n: usize, path: &str, name: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = ask(house, n, &format!("{path}{cursor}")).expect("a list is there");
        all.extend(page[name].as_array().expect("a list").iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

pub(super) fn whole_log(house: &House) -> Vec<Value> {
    pages(house, 0, "/api/v1/events?limit=500", "events")
}

/// Waits until every living share is watched by one that lives, and none is on its way.
fn rest(house: &House, oracle: &Oracle) {
    let until = Instant::now() + REST;
    loop {
        let mut connection = house.redis_connection().expect("Redis is there");
        let standing = Standing::read(&mut connection).expect("Redis answers");
        let orphans = standing.watched.iter().filter(|(_, number)| !standing.members.contains_key(number)).count();
        let listed = pages(house, 0, "/api/v1/shares?state=living&limit=100", "shares");
        let under_way: Vec<&Value> = listed.iter().filter(|share| matches!(share["state"].as_str(), Some("opening" | "closing"))).collect();
        if orphans == 0 && under_way.is_empty() {
            return;
        }
        if Instant::now() > until {
            let some = under_way.first().map(|share| format!("{share:#}")).unwrap_or_default();
            return oracle.wrong(format!("no rest: {orphans} shares are watched by nobody, {} are under way: {some}", under_way.len()));
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// What the event log tells of one share.
#[derive(Default)]
struct Told {
    redeemed: u64,
    /// How often since it was last opened again: earlier transfers are told of in the log alone.
    since_opened: u64,
    /// Uses of the present link that are spent.
    spent: u64,
    most_spent: u64,
}

pub(super) fn judge(load: &Load<'_>) {
    let (house, oracle) = (load.house, load.oracle);
    rest(house, oracle);
    let log = whole_log(house);
    let told = judge_log(oracle, &log);
    for share in oracle.all() {
        judge_share(load, &share, told.get(&share.id));
    }
    judge_list(house, oracle);
    judge_ledger(house, oracle);
    for n in 0..CONTROLLERS {
        let verdict = ask(house, n, "/api/v1/audit/verify").expect("there is a record");
        oracle.check(verdict["is_intact"] == true, || format!("nas-{n}: the audit log is broken: {verdict}"));
    }
    if let Some(bad) = house.said_something_bad() {
        oracle.wrong(bad);
    }
}

fn judge_log(oracle: &Oracle, log: &[Value]) -> BTreeMap<String, Told> {
    let numbers: Vec<u64> = log.iter().map(|line| line["seq"].as_u64().expect("a number")).collect();
    let gap = numbers.iter().enumerate().find(|(place, number)| **number != *place as u64 + 1);
    oracle.check(gap.is_none(), || format!("the event log has a gap: in place {gap:?}"));
    let mut told: BTreeMap<String, Told> = BTreeMap::new();
    for line in log {
        let told = told.entry(line["share"].as_str().expect("an id").to_owned()).or_default();
        match line["type"].as_str().expect("a type") {
            "share.created" | "share.reopened" => (told.spent, told.since_opened) = (0, 0),
            "transfer.redeemed" => {
                told.redeemed += 1;
                told.since_opened += 1;
                told.spent += 1;
            }
            "transfer.ended" if line["given_back"] == true => told.spent = told.spent.saturating_sub(1),
            _ => {}
        }
        told.most_spent = told.most_spent.max(told.spent);
    }
    told
}

fn judge_share(load: &Load<'_>, share: &Share, told: Option<&Told>) {
    let (house, oracle, id) = (load.house, load.oracle, &share.id);
    let Some(told) = told else { return oracle.wrong(format!("{id} was answered for and is in no line of the log")) };
    // What time alone does, as a stall, goes on meanwhile: the same is wanted at one time or another.
    let until = Instant::now() + REST;
    let seen = loop {
        let path = format!("/api/v1/shares/{id}");
        let seen: Vec<Option<Value>> = (0..CONTROLLERS).map(|n| ask(house, n, &path)).collect();
        let of = |json: &Option<Value>| SAME.map(|name| json.as_ref().map(|json| json[name].clone()));
        if seen.iter().any(Option::is_none) {
            return oracle.wrong(format!("{id} was answered for and is lost: {seen:?}"));
        }
        if seen.iter().all(|json| of(json) == of(&seen[0])) {
            break seen[0].clone().expect("looked at above");
        }
        if Instant::now() > until {
            return oracle.wrong(format!("{id} is not the same everywhere: {:?}", seen.iter().map(of).collect::<Vec<_>>()));
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    let known = share.known();
    let text = || format!("{known:?} {seen:#}");
    let is_closed = seen["state"] == "closed";
    oracle.check(!known.is_shut || known.is_unsure || is_closed, || format!("{id} was closed by its owner and lives: {}", text()));
    if let Some(uses) = share.uses {
        oracle.check(told.most_spent <= uses, || format!("{id}: {} uses of {uses} were spent at once: {}", told.most_spent, text()));
    }
    let answered: u64 = known.links.iter().map(|link| link.transfers.len() as u64).sum();
    let unanswered: u64 = known.links.iter().map(|link| link.unanswered).sum();
    let distinct: HashSet<&String> = known.links.iter().flat_map(|link| &link.transfers).collect();
    oracle.check(distinct.len() as u64 == answered, || format!("two got the same transfer of {id}: {}", text()));
    oracle.check(answered <= told.redeemed, || format!("{id} was redeemed {} times, and {answered} got it: {}", told.redeemed, text()));
    oracle.check(told.redeemed <= answered + unanswered || known.is_unsure, || {
        format!("{id} was redeemed {} times; {answered} know of it, {unanswered} may: {}", told.redeemed, text())
    });
    let transfers = seen["transfers"].as_u64().expect("a number");
    oracle.check(transfers == told.since_opened, || {
        format!("{id} has {transfers} transfers, and was redeemed {} times: {}", told.since_opened, text())
    });
    let paths: Vec<String> = distinct.into_iter().cloned().collect();
    drop(known);
    for n in 0..CONTROLLERS {
        if is_closed {
            load.try_doors(n, share);
        } else if paths.len() <= MAX_PATHS {
            judge_transfers(load, n, share, &paths, unanswered);
        }
    }
}

/// What lives of a share's transfers is served by every controller. Which path is which of them, nobody outside can tell.
fn judge_transfers(load: &Load<'_>, n: usize, share: &Share, paths: &[String], unanswered: u64) {
    let live = || {
        let json = ask(load.house, n, &format!("/api/v1/shares/{}/transfers", share.id)).expect("the share is there");
        json["transfers"].as_array().expect("a list").iter().filter(|transfer| transfer["ended_at"].is_null()).count() as u64
    };
    let given =
        paths.iter().filter(|path| load.house.visit(n, "HEAD", path, &[BROWSER]).is_some_and(|answer| answer.status == 200)).count() as u64;
    // Asked afterwards: some may have ended meanwhile, and none began.
    let live = live();
    load.oracle.check(given + unanswered >= live, || {
        format!("nas-{n} serves {given} of the {} transfers of {} that were answered; {live} live", paths.len(), share.id)
    });
}

/// Whoever asked under a key and was not told made one share at the most.
fn judge_list(house: &House, oracle: &Oracle) {
    let mut notes: HashMap<String, u64> = HashMap::new();
    for share in pages(house, 1, "/api/v1/shares?limit=100", "shares") {
        *notes.entry(share["note"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    let shares = oracle.all();
    for share in &shares {
        let count = notes.remove(&share.note).unwrap_or_default();
        oracle.check(count == 1, || format!("{} was made {count} times", share.id));
    }
    for note in oracle.unsure_notes.lock().expect("nobody panicked").iter() {
        let count = notes.remove(note).unwrap_or_default();
        oracle.check(count <= 1, || format!("the share of note {note} was made {count} times"));
    }
    oracle.check(notes.is_empty(), || format!("shares that nobody asked for: {notes:?}"));
}

/// The ledger as it lies in Redis: no link spent more often than it may be, and none of a closed share that lives.
fn judge_ledger(house: &House, oracle: &Oracle) {
    let mut connection = house.redis_connection().expect("Redis is there");
    let names: Vec<String> =
        redis::cmd("KEYS").arg(format!("{}link:*", KEYS.replace(['{', '}'], "?"))).query(&mut connection).expect("Redis answers");
    oracle.check(!names.is_empty(), || "there is no ledger".to_owned());
    for name in names {
        let row: String = redis::cmd("GET").arg(&name).query(&mut connection).expect("Redis answers");
        let fields: Vec<&str> = row.split(' ').collect();
        let [most, spent, dead, share] = fields[..] else { panic!("a row of the ledger: {row}") };
        let numbers = (most.parse::<u64>().expect("a number"), spent.parse::<u64>().expect("a number"));
        oracle.check(numbers.1 <= numbers.0, || format!("a link of {share} was spent {spent} times of {most}"));
        let header: String =
            redis::cmd("GETRANGE").arg(format!("{KEYS}share:{share}")).arg(0).arg(200).query(&mut connection).expect("Redis answers");
        let state = header.split(' ').nth(5).unwrap_or_default().to_owned();
        let is_closed = state.split('\n').next().is_some_and(|state| !state.is_empty() && state != "-");
        oracle.check(!is_closed || dead == "1", || format!("a link of {share} lives, which is closed: {row} / {header}"));
    }
}
