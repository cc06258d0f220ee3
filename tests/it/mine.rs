//! Whoever redeemed a link by a browser is known when they come back to it: their transfer goes on, and nothing more is spent.

use serde_json::json;

use crate::harness::{Answer, BROWSER, Offer, Server, Setup, put, resolve, sha256};

const COOKIE: &str = "portcullis-transfer=";
const SIZE: usize = 400_000;

/// Redeems as the page's script does; returns the transfer's path, that of its progress, and the cookie as it is sent back.
fn redeem_by_script(server: &Server, offer: &Offer, headers: &[&str]) -> (String, String, String) {
    let answer = post(server, offer, &[headers, &["Accept: application/json"]].concat()).expect_status(200);
    let told = answer.json();
    let path = |name: &str| resolve(&offer.redeem_path(), told[name].as_str().expect("a relative URL"));
    (path("transfer"), path("live"), cookie_of(&answer))
}

fn post(server: &Server, offer: &Offer, headers: &[&str]) -> Answer {
    server.fetch("POST", &offer.redeem_path(), &[&[BROWSER], headers].concat()).expect("an answer")
}

/// Returns the `Cookie` field by which a browser sends back what an answer set.
fn cookie_of(answer: &Answer) -> String {
    let set = answer.header("set-cookie").expect("a cookie");
    let (pair, attributes) = set.split_once("; ").expect("attributes");
    assert!(pair.starts_with(COOKIE), "{set}");
    assert_eq!(attributes, "HttpOnly; SameSite=Lax", "no path: it is for the link's own folder, wherever that is");
    format!("Cookie: other=1; {pair}")
}

fn look(server: &Server, offer: &Offer, headers: &[&str]) -> Answer {
    server.fetch("GET", &offer.link, &[&[BROWSER], headers].concat()).expect("a page")
}

#[test]
fn who_comes_back_goes_on_with_their_own_and_everybody_else_reads_that_it_runs() {
    let server = Setup::new().start();
    let digest = sha256(&put(&server, "film.mkv", SIZE));
    let offer = server.share("film.mkv");
    let form = post(&server, &offer, &[]).expect_status(303);
    let cookie = cookie_of(&form);
    let transfer = resolve(&offer.redeem_path(), &form.location());

    let mine = look(&server, &offer, &[&cookie]).expect_status(200).text();
    assert!(mine.contains("Your download is starting."), "{mine}");
    let (_, href) = mine.split_once("href=\"").expect("it leads to the transfer");
    assert_eq!(resolve(&offer.link, href.split_once('"').unwrap().0), transfer);
    let theirs = look(&server, &offer, &[]).expect_status(409).text();
    assert!(theirs.contains("it is running right now"), "{theirs}");

    // The button once more: the same transfer, and no other use.
    let again = post(&server, &offer, &[&cookie]).expect_status(303);
    assert_eq!(resolve(&offer.redeem_path(), &again.location()), transfer);
    post(&server, &offer, &[]).expect_status(409);
    assert_eq!(server.uses(&offer.id), 1);

    let answer = server.fetch("GET", &transfer, &[BROWSER]).expect("bytes").expect_status(200);
    assert_eq!(sha256(&answer.body), digest);
    server.wait_for(&offer.id, "it is delivered", |share| share["state"] == "delivered");
    let delivered = look(&server, &offer, &[&cookie]).expect_status(200).text();
    assert!(delivered.contains(", all of it.</h1>") && delivered.contains("Download again"), "{delivered}");
    assert!(look(&server, &offer, &[]).expect_status(410).text().contains("This link has been used."));
    server.revoke(&offer.id);
    server.outcome(&offer.id);
    let over = look(&server, &offer, &[&cookie]).expect_status(200).text();
    assert!(over.contains(", all of it.</h1>") && !over.contains("Download again"), "{over}");
}

#[test]
fn a_script_is_told_where_the_transfer_and_its_progress_are() {
    let server = Setup::new().start();
    let digest = sha256(&put(&server, "film.mkv", SIZE));
    let offer = server.share("film.mkv");
    let (transfer, live, cookie) = redeem_by_script(&server, &offer, &[]);
    assert_eq!(server.uses(&offer.id), 1);
    post(&server, &offer, &["Accept: application/json"]).expect_status(409);
    assert_eq!(redeem_by_script(&server, &offer, &[&cookie]), (transfer.clone(), live.clone(), cookie));
    assert_eq!(sha256(&server.fetch("GET", &transfer, &[BROWSER]).expect("bytes").expect_status(200).body), digest);
    server.wait_for(&offer.id, "it is delivered", |share| share["state"] == "delivered");
    let told = server.fetch("GET", &live, &[BROWSER, "Accept-Language: de"]).expect("a stream").expect_status(200).text();
    assert!(told.contains("vollständig."), "{told}");
}

#[test]
fn a_wrong_or_foreign_cookie_is_as_none() {
    let server = Setup::new().start();
    put(&server, "film.mkv", SIZE);
    let (offer, other) = (server.share("film.mkv"), server.share("film.mkv"));
    let (_, _, foreign) = redeem_by_script(&server, &other, &[]);
    let zeros = format!("Cookie: {COOKIE}{}", "0".repeat(32));
    let nonsense = format!("Cookie: {COOKIE}../../etc/passwd");
    for cookie in [&*foreign, &zeros, &nonsense, "Cookie: portcullis-transfer", "Cookie: =;;=", "Cookie: \u{fc}=1"] {
        assert!(look(&server, &offer, &[cookie]).expect_status(200).text().contains("<form"), "{cookie}");
    }
    assert_eq!(server.uses(&offer.id), 0);
    post(&server, &offer, &[&foreign]).expect_status(303);
    assert_eq!(server.uses(&offer.id), 1, "it is redeemed as by anybody");
    for cookie in [&*foreign, &zeros] {
        look(&server, &offer, &[cookie]).expect_status(409);
        post(&server, &offer, &[cookie]).expect_status(409);
    }
    // Of a share that was closed and opened again, the old transfer is not known any more.
    server.revoke(&other.id);
    server.outcome(&other.id);
    let reopened = server.api("POST", &format!("/api/v1/shares/{}/reopen", other.id), Some(&json!({}))).expect_status(200).json();
    let anew = Offer::from_json(&reopened);
    assert!(look(&server, &anew, &[&foreign]).expect_status(200).text().contains("<form"));
    assert!(look(&server, &other, &[&foreign]).expect_status(410).text().contains("This link no longer works."));
}

#[test]
fn a_cookie_of_what_is_over_hides_none_of_what_goes_on() {
    let server = Setup::new().start();
    put(&server, "film.mkv", SIZE);
    let offer = server.share_with(&json!({ "path": "film.mkv", "policy": { "max_downloads": 3 } }));
    // As a browser that had followed the link to the bytes has it: for the deeper folder, so it comes first.
    let (_, _, dead) = redeem_by_script(&server, &offer, &[]);
    let id = server.transfers(&offer.id)[0]["id"].as_str().unwrap().to_owned();
    let stopped = server.api("DELETE", &format!("/api/v1/shares/{}/transfers/{id}", offer.id), None);
    assert!(matches!(stopped.status, 200 | 202 | 204), "{}", stopped.head_text());
    server.wait_for(&offer.id, "it is stopped", |share| share["transfers"][0]["state"] != "starting");
    let (transfer, live, living) = redeem_by_script(&server, &offer, &[]);
    let uses = server.uses(&offer.id);
    let both = format!("{dead}; {}", living.strip_prefix("Cookie: ").unwrap());
    let mine = look(&server, &offer, &[&both]).expect_status(200).text();
    assert!(mine.contains("Your download is starting."), "{mine}");
    assert_eq!(redeem_by_script(&server, &offer, &[&both]).0, transfer);
    assert_eq!(redeem_by_script(&server, &offer, &[&both]).1, live);
    assert_eq!(server.uses(&offer.id), uses, "nothing more is spent");
}

#[test]
fn who_comes_back_is_known_after_a_restart_and_when_all_is_over() {
    let mut server = Setup::new().start();
    put(&server, "film.mkv", SIZE);
    let (done, cut) = (server.share("film.mkv"), server.share("film.mkv"));
    let (transfer, _, cookie) = redeem_by_script(&server, &done, &[]);
    let (_, _, cut_cookie) = redeem_by_script(&server, &cut, &[]);
    server.fetch("GET", &transfer, &[BROWSER]).expect("bytes").expect_status(200);
    server.wait_for(&done.id, "it is delivered", |share| share["state"] == "delivered");
    server.kill();
    server.start();
    assert!(look(&server, &done, &[&cookie]).expect_status(200).text().contains(", all of it.</h1>"));
    assert!(look(&server, &cut, &[&cut_cookie]).expect_status(200).text().contains("Your download is starting."));
    server.revoke(&cut.id);
    server.outcome(&cut.id);
    assert!(look(&server, &cut, &[&cut_cookie]).expect_status(410).text().contains("The sender closed this link."));
}

#[test]
fn every_page_is_written_in_the_readers_language() {
    let server = Setup::new().start();
    put(&server, "film.mkv", SIZE);
    let offer = server.share("film.mkv");
    let german = look(&server, &offer, &["Accept-Language: de-CH, en;q=0.5"]).expect_status(200);
    assert_eq!(german.header("content-language").as_deref(), Some("de"));
    assert!(german.text().contains("<html lang=\"de\">") && german.text().contains(">Herunterladen</button>"), "{}", german.text());
    let english = look(&server, &offer, &[]).expect_status(200);
    assert_eq!(english.header("content-language").as_deref(), Some("en"));
    server.revoke(&offer.id);
    server.outcome(&offer.id);
    assert!(look(&server, &offer, &["Accept-Language: de"]).expect_status(410).text().contains("Dieser Link wurde geschlossen."));
}

#[test]
fn the_largest_page_takes_little_over_the_wire() {
    const BUDGET: usize = 15_000;
    let server = Setup::new().start();
    let name = format!("{}.mkv", "\"".repeat(251));
    put(&server, &name, 1000);
    let offer = server.share_with(&json!({ "path": name, "message": "<&\">".repeat(250) }));
    server.wait_for(&offer.id, "its checksum is known", |share| share["sha256"].is_string());
    let answer = look(&server, &offer, &["Accept-Encoding: gzip, br", "Accept-Language: de"]).expect_status(200);
    assert_eq!(answer.header("content-encoding").as_deref(), Some("gzip"));
    let bytes = answer.head_text().len() + answer.body.len();
    assert!(bytes < BUDGET / 2, "{bytes} bytes");
    let plain = look(&server, &offer, &["Accept-Language: de"]).expect_status(200);
    assert_eq!(plain.header("content-encoding"), None);
    assert!(plain.body.len() > answer.body.len());
}
