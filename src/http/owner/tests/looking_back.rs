//! What happened: the history, statistics, and which request it was.

use serde_json::json;

use super::*;

/// Shares a file and closes it; returns its id.
async fn closed(scene: &Scene, path: &str) -> String {
    let body = json!({ "path": path }).to_string();
    let id = scene.call("POST", "/api/v1/shares").json(body).await.expect(201).json()["id"].as_str().unwrap().to_owned();
    scene.call("DELETE", &format!("/api/v1/shares/{id}")).await.expect(200);
    while scene.call("GET", &format!("/api/v1/shares/{id}")).await.json()["state"] != "closed" {
        tokio::task::yield_now().await;
    }
    id
}

async fn ids(scene: &Scene, target: &str) -> Vec<String> {
    let page = scene.call("GET", target).await.expect(200).json();
    assert_eq!(keys(&page), ["next_cursor", "shares"]);
    page["shares"].as_array().unwrap().iter().map(|share| share["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_history_is_found_by_outcome_text_and_time() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let scene = scene().await;
    // Made on 15, 16 and 17 January 2027 at 08:00 UTC.
    let first = closed(&scene, "film.mkv").await;
    scene.clock.advance(DAY);
    let second = closed(&scene, "sub/book.pdf").await;
    scene.clock.advance(DAY);
    let third = closed(&scene, "film.mkv").await;
    for (query, expected) in [
        ("", vec![&third, &second, &first]),
        ("?outcome=revoked&query=FILM", vec![&third, &first]),
        ("?outcome=completed", vec![]),
        ("?query=sub/", vec![&second]),
        ("?query=%20&since=", vec![&third, &second, &first]),
        ("?since=2027-01-16", vec![&third, &second]),
        ("?until=2027-01-16", vec![&second, &first]),
        ("?since=2027-01-16&until=2027-01-16", vec![&second]),
        ("?since=2027-01-16T08:00:00Z&until=2027-01-17T08:00:00Z", vec![&second]),
        ("?since=2027-01-16T08:00:00.001Z", vec![&third]),
        ("?since=2030-01-01", vec![]),
    ] {
        assert_eq!(ids(&scene, &format!("/api/v1/history{query}")).await.iter().collect::<Vec<_>>(), expected, "{query}");
    }
    for wrong in ["outcome=nice", "since=yesterday", "until=2027-02-30", "limit=0", "cursor=x", &format!("query={}", "x".repeat(256))] {
        scene.call("GET", &format!("/api/v1/history?{wrong}")).await.expect_problem(422, "bad_query");
    }
    let page = scene.call("GET", "/api/v1/history?limit=1&query=film").await.expect(200).json();
    let cursor = page["next_cursor"].as_str().unwrap();
    assert_eq!(ids(&scene, &format!("/api/v1/history?limit=1&query=film&cursor={cursor}")).await, [first]);
}

#[tokio::test]
async fn the_event_log_is_read_from_either_end() {
    let scene = scene().await;
    closed(&scene, "film.mkv").await;
    let read = async |query: &str| {
        let page = scene.call("GET", &format!("/api/v1/events{query}")).await.expect(200).json();
        let seqs: Vec<u64> = page["events"].as_array().unwrap().iter().map(|line| line["seq"].as_u64().unwrap()).collect();
        (seqs, page["next_cursor"].as_str().map(str::to_owned))
    };
    let (all, _) = read("").await;
    assert!(all.len() >= 4, "{all:?}");
    let backwards: Vec<u64> = all.iter().rev().copied().collect();
    assert_eq!(read("?order=oldest").await.0, all);
    assert_eq!(read("?order=newest").await, (backwards.clone(), None));
    let (page, cursor) = read("?order=newest&limit=2").await;
    assert_eq!(page, backwards[..2]);
    assert_eq!(read(&format!("?order=newest&limit=2&cursor={}", cursor.unwrap())).await.0, backwards[2..4]);
    assert_eq!(read("?order=newest&type=share.created").await.0, [1]);
    scene.call("GET", "/api/v1/events?order=upwards").await.expect_problem(422, "bad_query");
}

#[tokio::test]
async fn the_history_is_a_file_for_spreadsheets_and_scripts() {
    let scene = scene().await;
    let body = json!({ "path": "film.mkv", "note": "=1+1, \"quoted\"\nand more" }).to_string();
    let share = scene.call("POST", "/api/v1/shares").json(body).await.expect(201).json();
    let link = share["url"].as_str().unwrap();
    scene.call("DELETE", &format!("/api/v1/shares/{}", share["id"].as_str().unwrap())).await.expect(200);
    let other = closed(&scene, "sub/book.pdf").await;
    scene.share().await;
    let csv = scene.call("GET", "/api/v1/history?format=csv&limit=1").await.expect(200);
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8; header=present");
    assert_eq!(csv.header("content-disposition"), "attachment; filename=\"portcullis-history-2027-01-15.csv\"");
    let text = std::str::from_utf8(&csv.body).unwrap();
    let head = "id,outcome,path,name,size_bytes,sha256,created_at,expires_at,closed_at,transfers,delivered_bytes,percent,evidence,\
                max_downloads,note,message,state_text\r\n";
    assert!(text.starts_with(head), "{text}");
    assert!(text.contains(",\"'=1+1, \"\"quoted\"\"\nand more\","), "{text}");
    assert!(text.contains(&format!("{other},revoked,sub/book.pdf,book.pdf,5,")) && text.ends_with("\r\n"), "{text}");
    assert_eq!(text.matches("\r\n").count(), 3, "the head, and each closed share");
    assert!(!text.contains(link) && !text.contains("http"), "{text}");

    let lines = scene.call("GET", "/api/v1/history?query=book").header("accept", "application/x-ndjson").await.expect(200);
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    let text = std::str::from_utf8(&lines.body).unwrap();
    let line: Value = serde_json::from_str(text).unwrap();
    assert_eq!((&line["id"], &line["url"], text.lines().count()), (&json!(other), &Value::Null, 1));
    assert!(scene.call("GET", "/api/v1/history?format=jsonl&query=nothing").await.expect(200).body.is_empty());
    scene.call("GET", "/api/v1/history?format=xml").await.expect_problem(422, "bad_query");
}

#[tokio::test]
async fn a_long_history_is_all_in_the_file_each_share_once() {
    let store = Arc::new(MemoryStore::default());
    let scene = scene_over(store.clone(), |_| {}).await;
    let first: crate::share::ShareId = closed(&scene, "film.mkv").await.parse().unwrap();
    let share = store.share(first).await.unwrap().unwrap();
    for n in 0..700_u64 {
        let mut copy = share.clone();
        copy.id = crate::share::ShareId::from_random(n);
        copy.link = format!("{:032x}", n + 1).parse().unwrap();
        copy.created = Moment { steady: Steady(share.created.steady.0 - n as i64 / 3), ..share.created };
        let save = |facts| crate::store::Save { share: Arc::new(copy.clone()), facts, at: share.created };
        store.save(save(vec![crate::share::Fact::Created])).await.unwrap();
    }
    let text = scene.call("GET", "/api/v1/history?format=jsonl").await.expect(200).body;
    let ids: Vec<String> = text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned())
        .collect();
    let different: std::collections::HashSet<&String> = ids.iter().collect();
    assert_eq!((ids.len(), different.len()), (701, 701));
    let text = scene.call("GET", "/api/v1/history?format=csv").await.expect(200).body;
    assert_eq!(text.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"id,")).count(), 1);
}

#[tokio::test]
async fn shares_are_found_by_a_part_of_their_path_living_or_not() {
    let scene = scene().await;
    let gone = closed(&scene, "film.mkv").await;
    let living = scene.share().await["id"].as_str().unwrap().to_owned();
    scene.call("POST", "/api/v1/shares").json(r#"{"path":"sub/book.pdf"}"#).await.expect(201);
    assert_eq!(ids(&scene, "/api/v1/shares?query=FILM").await, [living.clone(), gone]);
    assert_eq!(ids(&scene, "/api/v1/shares?query=film&state=living").await, [living]);
    assert_eq!(ids(&scene, "/api/v1/shares?query=nothing").await, Vec::<String>::new());
}

#[tokio::test]
async fn statistics_cover_every_day_that_was_asked_for() {
    let scene = scene().await;
    closed(&scene, "film.mkv").await;
    scene.share().await;
    let month = scene.call("GET", "/api/v1/stats").await.expect(200).json();
    assert_eq!(keys(&month), ["days", "from", "networks", "shares", "to", "top_files", "transfers"]);
    assert_eq!((&month["from"], &month["to"], month["days"].as_array().unwrap().len()), (&json!("2026-12-17"), &json!("2027-01-15"), 30));
    assert_eq!(month["shares"], json!({ "made": 2, "closed": 1, "outcomes": { "revoked": 1 }, "success_percent": 0 }));
    assert_eq!(
        month["transfers"],
        json!({ "redeemed": 0, "completed": 0, "given_back": 0, "delivered_bytes": 0, "median_bytes_per_second": null,
                "p95_bytes_per_second": null })
    );
    assert_eq!(
        month["days"][0],
        json!({ "day": "2026-12-17", "made": 0, "completed": 0, "delivered_bytes": 0, "closed": 0, "outcomes": {},
                "median_bytes_per_second": null })
    );
    assert_eq!(
        month["days"][29],
        json!({ "day": "2027-01-15", "made": 2, "completed": 0, "delivered_bytes": 0, "closed": 1, "outcomes": { "revoked": 1 },
                "median_bytes_per_second": null })
    );
    let quiet = scene.call("GET", "/api/v1/stats?from=2026-01-01&to=2026-12-31").await.expect(200).json();
    assert_eq!((&quiet["shares"]["success_percent"], quiet["days"].as_array().unwrap().len()), (&Value::Null, 365));
    for wrong in ["from=2027-01-16", "from=2025-01-01&to=2026-12-31", "to=soon"] {
        scene.call("GET", &format!("/api/v1/stats?{wrong}")).await.expect_problem(422, "bad_query");
    }
}

#[tokio::test]
async fn statistics_say_of_each_day_how_fast_its_downloads_were() {
    let store = Arc::new(MemoryStore::default());
    let scene = scene_over(store.clone(), |_| {}).await;
    let share = store.share(closed(&scene, "film.mkv").await.parse().unwrap()).await.unwrap().unwrap();
    let ended = crate::share::Fact::Ended {
        transfer: crate::share::TransferId::from_bytes([1; 16]),
        end: crate::share::TransferEnd::Completed,
        delivered_bytes: 6000,
        evidence: None,
        given_back: false,
        duration_ms: Some(3000),
        network: None,
    };
    let at = share.created;
    store.save(crate::store::Save { share: Arc::new(share), facts: vec![ended], at }).await.unwrap();

    let stats = scene.call("GET", "/api/v1/stats").await.expect(200).json();
    let today = &stats["days"][29];
    assert_eq!((&today["completed"], &today["closed"], &today["outcomes"]), (&json!(1), &json!(1), &json!({ "revoked": 1 })));
    let speed = today["median_bytes_per_second"].as_u64().unwrap();
    assert!((1900..2100).contains(&speed), "{speed}");
    assert_eq!((&stats["days"][28]["median_bytes_per_second"], &stats["days"][28]["closed"]), (&Value::Null, &json!(0)));
}

#[tokio::test]
async fn a_request_keeps_the_id_that_it_brings_if_it_is_a_sane_one() {
    let scene = scene().await;
    let longest = "x".repeat(64);
    for id in ["a", "7f1e0000-7e57-4000-8000-00000000000a", "proxy_1.2-3", &longest] {
        let answer = scene.call("GET", "/api/v1/shares").header("x-request-id", id).await.expect(200);
        assert_eq!(answer.header("x-request-id"), id);
    }
    let refused = scene.ask("GET", "/api/v1/shares").header("x-request-id", "mine").await.expect_problem(401, "not_signed_in");
    assert_eq!(refused.json()["request_id"], "mine");
    for strange in ["", "a b", "a/b", "<b>", &"x".repeat(65)] {
        let answer = scene.call("GET", "/api/v1/shares").header("x-request-id", strange).await.expect(200);
        assert_eq!(answer.header("x-request-id").len(), 32, "{strange}");
    }
}
