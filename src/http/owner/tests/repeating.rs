//! `Idempotency-Key`: sent again, a request does nothing twice, not even over a restart.

use futures_util::future::join_all;
use serde_json::json;

use super::*;
use crate::store::Plan;

const FILM: &str = r#"{"path":"film.mkv"}"#;

fn create<'a>(scene: &'a Scene, key: &str, body: &'static str) -> Ask<'a> {
    scene.call("POST", "/api/v1/shares").header("idempotency-key", key).json(body)
}

async fn count(scene: &Scene) -> usize {
    scene.call("GET", "/api/v1/shares").await.expect(200).json()["shares"].as_array().unwrap().len()
}

/// Keeps a plan as a request that was killed in the middle left it.
async fn half_done(scene: &Scene, key: &str, wish: [u8; 32], ids: &[&str]) {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    let plan = Plan { key: key.to_owned(), wish, ids, is_done: false, since: scene.clock.now().steady };
    scene.side.store.put_plan(plan, Steady(i64::MIN)).await.unwrap();
}

#[tokio::test]
async fn thirty_two_at_once_make_one_share() {
    let scene = scene().await;
    let answers = join_all((0..32).map(|_| create(&scene, "k", FILM).into_future())).await;
    let ids: Vec<Value> = answers.into_iter().map(|answer| answer.expect(201).json()["id"].clone()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(count(&scene).await, 1);
    let lines = scene.call("GET", "/api/v1/audit").await.expect(200).json();
    assert_eq!(lines["lines"].as_array().unwrap().len(), 1, "it was done once");
}

#[tokio::test]
async fn the_same_key_gives_the_same_answer_after_a_restart() {
    let mut scene = scene().await;
    let first = create(&scene, "k", FILM).await.expect(201).json();
    scene.restart();
    assert_eq!(create(&scene, "k", FILM).await.expect(201).json(), first);
    create(&scene, "k", r#"{"path":"sub/book.pdf"}"#).await.expect_problem(422, "idempotency_key_reused");
    assert_eq!(count(&scene).await, 1);
    scene.clock.advance(Duration::from_secs(25 * 3600));
    assert_ne!(create(&scene, "k", FILM).await.expect(201).json()["id"], first["id"], "a key is remembered for a day");
}

#[tokio::test]
async fn killed_between_the_plan_and_the_share_it_makes_the_planned_one() {
    let scene = scene().await;
    half_done(&scene, "k", wish(&[b"create", FILM.as_bytes()]), &["abcdefghjk"]).await;
    for _ in 0..2 {
        assert_eq!(create(&scene, "k", FILM).await.expect(201).json()["id"], "abcdefghjk");
    }
    assert_eq!(count(&scene).await, 1);
}

#[tokio::test]
async fn killed_between_the_share_and_the_answer_it_finds_what_it_made() {
    let scene = scene().await;
    let made = scene.share().await;
    let id = made["id"].as_str().unwrap();
    half_done(&scene, "k", wish(&[b"create", FILM.as_bytes()]), &[id]).await;
    assert_eq!(create(&scene, "k", FILM).await.expect(201).json(), made);
    assert_eq!(count(&scene).await, 1);
}

#[tokio::test]
async fn a_key_under_which_nothing_was_made_is_free_again() {
    let scene = scene().await;
    create(&scene, "k", r#"{"path":"absent"}"#).await.expect_problem(404, "unknown_file");
    let made = create(&scene, "k", FILM).await.expect(201).json();
    assert_eq!(create(&scene, "k", FILM).await.expect(201).json(), made);
    *scene.tunnel.opening.lock().unwrap() = crate::tunnel::fake::Mood::FailsForGood;
    create(&scene, "other", FILM).await.expect_problem(503, "tunnel_unavailable");
    *scene.tunnel.opening.lock().unwrap() = crate::tunnel::fake::Mood::default();
    create(&scene, "other", FILM).await.expect(201);
}

#[tokio::test]
async fn more_time_is_given_once() {
    let scene = scene().await;
    let target = format!("/api/v1/shares/{}/extend", scene.share().await["id"].as_str().unwrap());
    let extend = |body| scene.call("POST", &target).header("idempotency-key", "k").json(body);
    let first = extend(r#"{"expires_in_seconds":600}"#).await.expect(200).json();
    scene.clock.advance(Duration::from_secs(60));
    let again = extend(r#"{"expires_in_seconds":600}"#).await.expect(200).json();
    assert_eq!(again["expires_at"], first["expires_at"]);
    extend(r#"{"expires_in_seconds":700}"#).await.expect_problem(422, "idempotency_key_reused");
}

#[tokio::test]
async fn a_share_is_opened_again_once() {
    let scene = scene().await;
    let id = scene.share().await["id"].as_str().unwrap().to_owned();
    let reopen = |key: &str| scene.call("POST", &format!("/api/v1/shares/{id}/reopen")).header("idempotency-key", key);
    close(&scene, &id).await;
    let opened = reopen("k").await.expect(200).json();
    assert_eq!(reopen("k").await.expect(200).json()["url"], opened["url"]);
    close(&scene, &id).await;
    assert_eq!(reopen("k").await.expect(200).json()["state"], "closed", "it was opened under this key, and has closed since");
    // Killed after it was opened and before that was noted: the link's id says so.
    let again = reopen("l").await.expect(200).json();
    let link = scene.side.controller.show(id.parse().unwrap()).await.unwrap().unwrap().share.link.to_string();
    half_done(&scene, "m", wish(&[b"reopen", id.as_bytes()]), &[&link]).await;
    assert_eq!(reopen("m").await.expect(200).json()["url"], again["url"]);
}

async fn close(scene: &Scene, id: &str) {
    scene.call("DELETE", &format!("/api/v1/shares/{id}")).await.expect(200);
    while scene.call("GET", &format!("/api/v1/shares/{id}")).await.json()["state"] != "closed" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_secret_is_told_once_whoever_asks_again() {
    let scene = scene().await;
    let make = || scene.call("POST", "/api/v1/tokens").header("idempotency-key", "k").json(r#"{"name":"x","scope":"read"}"#);
    let answers = join_all((0..8).map(|_| make().into_future())).await;
    let mut made: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    made.sort_unstable();
    assert_eq!(made, [201, 409, 409, 409, 409, 409, 409, 409]);
    make().await.expect_problem(409, "already_made");
    assert_eq!(scene.call("GET", "/api/v1/tokens").await.expect(200).json()["tokens"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_originals_links_are_made_once_too() {
    let scene = scene().await;
    let body = r#"{"file_path":"film.mkv"}"#;
    let make = || scene.call("POST", "/generate-link").header("idempotency-key", "k").json(body);
    let first = make().await.expect(200).json();
    assert_eq!(make().await.expect(200).json(), first);
    create(&scene, "k", FILM).await.expect_problem(422, "idempotency_key_reused");
    assert_eq!(count(&scene).await, 1);
}

#[tokio::test]
async fn of_a_batch_each_file_has_its_own_result() {
    let scene = scene().await;
    let body = r#"{"paths":["film.mkv","absent","sub","../x","film.mkv"],"policy":{"max_downloads":2},"note":"all of them"}"#;
    let ask = || scene.call("POST", "/api/v1/shares").header("idempotency-key", "k").json(body);
    let made = ask().await.expect(207).json();
    assert_eq!(keys(&made), ["results"]);
    let results = made["results"].as_array().unwrap();
    let summary: Vec<(&str, u64, &Value)> = results
        .iter()
        .map(|result| (result["path"].as_str().unwrap(), result["status"].as_u64().unwrap(), &result["problem"]["code"]))
        .collect();
    assert_eq!(
        summary,
        [
            ("film.mkv", 201, &Value::Null),
            ("absent", 404, &json!("unknown_file")),
            ("sub", 422, &json!("is_folder")),
            ("../x", 422, &json!("bad_path")),
            ("film.mkv", 201, &Value::Null),
        ]
    );
    for result in results {
        assert_eq!(keys(result), ["path", "problem", "share", "status"]);
        assert_eq!(result["share"].is_null(), result["status"] != 201);
    }
    assert_ne!(results[0]["share"]["id"], results[4]["share"]["id"], "each is a share of its own");
    assert_eq!((&results[0]["share"]["note"], &results[0]["share"]["policy"]["max_downloads"]), (&json!("all of them"), &json!(2)));
    assert_eq!(ask().await.expect(207).json(), made, "sent again, it makes nothing more");
    assert_eq!(count(&scene).await, 2);
}

#[tokio::test]
async fn a_batch_with_bad_rules_makes_nothing() {
    let scene = scene().await;
    let many = serde_json::to_string(&vec!["film.mkv"; 101]).unwrap();
    for (body, code) in [
        (r#"{"paths":["film.mkv"],"policy":{"max_downloads":0}}"#.to_owned(), "bad_field"),
        (r#"{"paths":["film.mkv"],"policy":{"max_downloads":1001}}"#.to_owned(), "bad_policy"),
        (format!(r#"{{"paths":["film.mkv"],"note":"{}"}}"#, "x".repeat(2001)), "bad_note"),
        (r#"{"path":"film.mkv","paths":["film.mkv"]}"#.to_owned(), "bad_field"),
        (r#"{"paths":[]}"#.to_owned(), "bad_field"),
        (r#"{"paths":"film.mkv"}"#.to_owned(), "bad_field"),
        (r#"{"paths":["film.mkv",1]}"#.to_owned(), "bad_field"),
        (format!(r#"{{"paths":{many}}}"#), "bad_field"),
    ] {
        scene.call("POST", "/api/v1/shares").json(body).await.expect_problem(422, code);
    }
    assert_eq!(count(&scene).await, 0);
    let hundred = format!(r#"{{"paths":{}}}"#, serde_json::to_string(&vec!["film.mkv"; 100]).unwrap());
    let made = scene.call("POST", "/api/v1/shares").json(hundred).await.expect(207).json();
    assert!(made["results"].as_array().unwrap().iter().all(|result| result["status"] == 201));
    assert_eq!(count(&scene).await, 100);
}

#[tokio::test]
async fn what_was_asked_for_is_done_though_nobody_waits() {
    let scene = scene().await;
    let hung_up = scene.call("POST", "/api/v1/shares").json(FILM).into_future().now_or_never();
    assert!(hung_up.is_none(), "it answers at once");
    for _ in 0..1000 {
        if count(&scene).await == 1 {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it was dropped with its request");
}
