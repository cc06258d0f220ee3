//! Files and shares.

use serde_json::json;

use super::*;
use crate::tunnel::fake::Mood;

#[tokio::test]
async fn a_share_is_made_shown_and_closed() {
    let scene = scene().await;
    let body = r#"{"path":"film.mkv","policy":{"max_downloads":2,"expires_in_seconds":600,"on_stall":"reopen"},"note":"for Ann"}"#;
    let made = scene.call("POST", "/api/v1/shares").json(body).await.expect(201);
    let share = made.json();
    let id = share["id"].as_str().unwrap();
    assert_eq!(made.header("location"), format!("/api/v1/shares/{id}"));
    assert_eq!(
        keys(&share),
        [
            "active",
            "clamped",
            "closed_at",
            "created_at",
            "curl",
            "expires_at",
            "id",
            "looks",
            "message",
            "name",
            "note",
            "outcome",
            "path",
            "policy",
            "policy_text",
            "progress",
            "sha256",
            "size_bytes",
            "state",
            "state_text",
            "transfers",
            "tunnel",
            "undo_until",
            "until",
            "url"
        ]
    );
    assert_eq!(
        share["policy"],
        json!({
            "max_downloads": 2, "expires_in_seconds": 600, "on_stall": "reopen", "starts_at": null,
            "allowed_networks": [], "max_bytes_per_second": null,
        })
    );
    assert_eq!(
        share["progress"],
        json!({ "delivered_bytes": 0, "size_bytes": 1000, "percent": 0, "evidence": null, "bytes_per_second": 0, "eta_seconds": null })
    );
    assert_eq!(
        share["tunnel"],
        json!({
            "backend": "fake", "state": "open", "opened_at": "2027-01-15T08:00:00Z", "problem": null, "reachable": null, "reach_problem": null
        })
    );
    assert_eq!(
        (&share["state"], &share["note"], &share["clamped"], &share["created_at"], &share["expires_at"]),
        (&json!("offered"), &json!("for Ann"), &json!([]), &json!("2027-01-15T08:00:00Z"), &json!("2027-01-15T08:10:00Z"))
    );
    assert_eq!(share["curl"], format!("curl -fL -C - -o './film.mkv' '{}'", share["url"].as_str().unwrap()));

    let listed = scene.call("GET", "/api/v1/shares?state=living").await.expect(200).json();
    assert_eq!(listed, json!({ "shares": [share], "next_cursor": null }));
    assert_eq!(scene.call("GET", &format!("/api/v1/shares/{id}")).await.expect(200).json(), share);
    assert_eq!(scene.call("GET", &format!("/api/v1/shares/{id}/transfers")).await.expect(200).json(), json!({ "transfers": [] }));
    let qr = scene.call("GET", &format!("/api/v1/shares/{id}/qr.svg")).await.expect(200);
    assert_eq!(qr.header("content-type"), "image/svg+xml");
    assert!(qr.body.starts_with(b"<svg") && !String::from_utf8_lossy(&qr.body).contains("<script"));

    scene.call("DELETE", &format!("/api/v1/shares/{id}")).await.expect(200);
    let closed = until_closed(&scene, id).await;
    assert_eq!((&closed["outcome"], &closed["url"], &closed["curl"]), (&json!("revoked"), &Value::Null, &Value::Null));
    scene.call("DELETE", &format!("/api/v1/shares/{id}")).await.expect(200);
    scene.call("GET", &format!("/api/v1/shares/{id}/qr.svg")).await.expect_problem(409, "no_link");
    let extend = scene.call("POST", &format!("/api/v1/shares/{id}/extend")).json(r#"{"expires_in_seconds":60}"#);
    extend.await.expect_problem(409, "refused");
    for target in ["/api/v1/shares?state=closed", "/api/v1/history", "/api/v1/shares"] {
        assert_eq!(scene.call("GET", target).await.expect(200).json()["shares"], json!([closed]), "{target}");
    }
    let reopened = scene.call("POST", &format!("/api/v1/shares/{id}/reopen")).await.expect(200).json();
    assert_eq!(reopened["state"], "offered");
    assert_ne!(reopened["url"], share["url"]);
    scene.call("POST", &format!("/api/v1/shares/{id}/reopen")).await.expect_problem(409, "refused");
}

#[tokio::test]
async fn a_close_is_taken_back_for_a_minute() {
    let scene = scene().await;
    let share = scene.share().await;
    let id = share["id"].as_str().unwrap();
    let undo = || scene.call("POST", &format!("/api/v1/shares/{id}/reopen")).json(r#"{"undo":true}"#);
    undo().await.expect_problem(409, "refused");
    let closing = scene.call("DELETE", &format!("/api/v1/shares/{id}")).await.expect(200).json();
    assert_eq!((&share["undo_until"], &closing["undo_until"]), (&Value::Null, &json!("2027-01-15T08:01:00Z")));
    scene.clock.advance(Duration::from_secs(59));
    let undone = undo().header("idempotency-key", "u").await.expect(200).json();
    assert_eq!((&undone["url"], &undone["expires_at"], &undone["undo_until"]), (&share["url"], &share["expires_at"], &Value::Null));
    assert_eq!(undone["state"], "offered");
    undo().header("idempotency-key", "u").await.expect(200);
    undo().await.expect_problem(409, "refused");
    let lines = scene.call("GET", "/api/v1/audit").await.expect(200).json();
    let actions: Vec<&str> = lines["lines"].as_array().unwrap().iter().map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(actions.iter().filter(|action| **action == "share.undo").count(), 1 + 2, "{actions:?}");
    scene.call("DELETE", &format!("/api/v1/shares/{id}")).await.expect(200);
    scene.clock.advance(Duration::from_secs(60));
    let late = undo().await.expect_problem(409, "undo_too_late");
    assert!(late.detail().contains("60 seconds"), "{}", late.detail());
    assert_eq!(until_closed(&scene, id).await["undo_until"], Value::Null);
    for body in [r#"{"undo":1}"#, r#"{"undo":"yes"}"#, r#"{"redo":true}"#] {
        scene.call("POST", &format!("/api/v1/shares/{id}/reopen")).json(body).await.expect(422);
    }
    let reopened = scene.call("POST", &format!("/api/v1/shares/{id}/reopen")).json(r#"{"undo":false}"#).await.expect(200).json();
    assert_ne!(reopened["url"], share["url"]);
}

#[tokio::test]
async fn all_doors_are_closed_with_one_request() {
    let scene = scene().await;
    let ids = [scene.share().await["id"].clone(), scene.share().await["id"].clone()];
    let reader = scene.call("POST", "/api/v1/tokens").json(r#"{"name":"x","scope":"read"}"#).await.expect(201).json();
    let bearer = format!("Bearer {}", reader["token"].as_str().unwrap());
    scene.ask("DELETE", "/api/v1/shares").header("authorization", &bearer).await.expect_problem(403, "scope_too_small");
    assert_eq!(scene.call("DELETE", "/api/v1/shares").await.expect(200).json(), json!({ "closing": 2 }));
    for id in ids {
        assert_eq!(until_closed(&scene, id.as_str().unwrap()).await["outcome"], "revoked");
    }
    assert_eq!(scene.call("DELETE", "/api/v1/shares").await.expect(200).json(), json!({ "closing": 0 }));
    let line = scene.call("GET", "/api/v1/audit").await.expect(200).json()["lines"][0].clone();
    assert_eq!((&line["action"], &line["target"]), (&json!("shares.close_all"), &json!("")));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_under_way_makes_no_more_once_all_doors_are_closed() {
    let scene = scene().await;
    // Those that are made at once wait for their way in, and the others for them.
    *scene.tunnel.opening.lock().unwrap() = Mood::Hangs;
    let batch = json!({ "paths": vec!["film.mkv"; 40] }).to_string();
    let close = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let closed = scene.call("DELETE", "/api/v1/shares").await.expect(200).json();
        *scene.tunnel.opening.lock().unwrap() = Mood::Works;
        closed
    };
    let (made, closed) = tokio::join!(scene.call("POST", "/api/v1/shares").json(batch), close);
    let (made, closing) = (made.expect(207).json(), closed["closing"].as_u64().unwrap() as usize);
    assert!((1..40).contains(&closing), "{closing}");
    let results = made["results"].as_array().unwrap();
    let refused: Vec<&Value> = results.iter().filter(|result| result["status"] == 409).collect();
    assert_eq!(refused.len(), 40 - closing);
    assert!(refused.iter().all(|result| result["problem"]["code"] == "closed_meanwhile"), "{refused:?}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(scene.side.controller.living().len(), 0);
    assert!(scene.tunnel.doors.all_open().is_empty());
}

#[tokio::test]
async fn a_share_says_who_looked_and_who_downloads_it_at_the_moment() {
    let scene = scene().await;
    let body = r#"{"path":"film.mkv","policy":{"unlimited_downloads":true}}"#;
    let share = scene.call("POST", "/api/v1/shares").json(body).await.expect(201).json();
    assert_eq!((&share["looks"], &share["active"]), (&json!({ "previews": 0, "people": 0 }), &json!([])));
    let id = share["id"].as_str().unwrap();
    let view = scene.side.controller.show(id.parse().unwrap()).await.unwrap().unwrap();
    for n in 1..=5 {
        let who = crate::share::Recipient { address: Some(format!("203.0.113.{n}")), agent: format!("Firefox {n}") };
        scene.side.controller.redeem(view.share.id, view.share.link, who).await.unwrap();
    }
    let share = scene.call("GET", &format!("/api/v1/shares/{id}")).await.expect(200).json();
    let all = scene.call("GET", &format!("/api/v1/shares/{id}/transfers")).await.expect(200).json();
    let active = share["active"].as_array().unwrap();
    assert_eq!((active.len(), all["transfers"].as_array().unwrap().len()), (3, 5), "in short");
    for (n, one) in active.iter().enumerate() {
        let whole = &all["transfers"][n];
        assert_eq!(keys(one), ["address", "agent", "bytes_per_second", "id", "percent", "state"]);
        assert!(one.as_object().unwrap().iter().all(|(key, value)| whole[key] == *value), "{one} {whole}");
    }
    let stop = format!("/api/v1/shares/{id}/transfers/{}", active[0]["id"].as_str().unwrap());
    scene.call("DELETE", &stop).await.expect(200);
    let share = scene.call("GET", &format!("/api/v1/shares/{id}")).await.expect(200).json();
    assert_eq!(share["active"][0]["agent"], "Firefox 2", "who has ended is not told of");
}

async fn until_closed(scene: &Scene, id: &str) -> Value {
    for _ in 0..1000 {
        let share = scene.call("GET", &format!("/api/v1/shares/{id}")).await.expect(200).json();
        if share["state"] == "closed" {
            return share;
        }
        tokio::task::yield_now().await;
    }
    panic!("it does not close");
}

#[tokio::test]
async fn more_time_is_given_up_to_the_ceiling() {
    let scene = scene().await;
    let share = scene.share().await;
    let target = format!("/api/v1/shares/{}/extend", share["id"].as_str().unwrap());
    scene.clock.advance(Duration::from_secs(60));
    let extended = scene.call("POST", &target).json(r#"{"expires_in_seconds":600}"#).await.expect(200).json();
    assert_eq!(extended["expires_at"], "2027-01-15T08:11:00Z");
    let most = scene.call("POST", &target).json(r#"{"expires_in_seconds":99999999999}"#).await.expect(200).json();
    assert_eq!(most["expires_at"], "2027-01-15T10:01:00Z");
    for body in ["{}", r#"{"expires_in_seconds":0}"#, r#"{"expires_in_seconds":null}"#, r#"{"expires_in_seconds":1.5}"#] {
        let answer = scene.call("POST", &target).json(body).await.expect_problem(422, "bad_field");
        assert!(answer.detail().contains("expires_in_seconds"));
    }
}

#[tokio::test]
async fn an_expiry_beyond_the_ceiling_is_shortened_and_says_so() {
    let scene = scene().await;
    let body = r#"{"path":"film.mkv","policy":{"expires_in_seconds":18446744073709551615}}"#;
    let share = scene.call("POST", "/api/v1/shares").json(body).await.expect(201).json();
    assert_eq!((&share["policy"]["expires_in_seconds"], &share["clamped"]), (&json!(7200), &json!(["expires_in_seconds"])));
}

#[tokio::test]
async fn a_start_may_lie_ahead() {
    let scene = scene().await;
    let body = r#"{"path":"film.mkv","policy":{"starts_at":"2027-01-15T10:00:00+01:00"}}"#;
    let share = scene.call("POST", "/api/v1/shares").json(body).await.expect(201).json();
    assert_eq!((&share["state"], &share["policy"]["starts_at"]), (&json!("scheduled"), &json!("2027-01-15T09:00:00Z")));
}

#[tokio::test]
async fn the_same_key_makes_one_share() {
    let scene = scene().await;
    let create = |body: &'static str| scene.call("POST", "/api/v1/shares").header("idempotency-key", "7f1e").json(body);
    let (first, second) = tokio::join!(create(r#"{"path":"film.mkv"}"#).into_future(), create(r#"{"path":"film.mkv"}"#).into_future());
    assert_eq!(first.expect(201).json()["id"], second.expect(201).json()["id"]);
    create(r#"{"path":"film.mkv","note":"x"}"#).await.expect_problem(422, "idempotency_key_reused");
    assert_eq!(scene.call("GET", "/api/v1/shares").await.json()["shares"].as_array().unwrap().len(), 1);
    let empty = scene.call("POST", "/api/v1/shares").header("idempotency-key", "").json(r#"{"path":"film.mkv"}"#);
    empty.await.expect_problem(422, "bad_idempotency_key");
}

#[tokio::test]
async fn a_way_in_that_cannot_be_opened_is_told_and_leaves_nothing() {
    let scene = scene().await;
    *scene.tunnel.opening.lock().unwrap() = Mood::FailsForGood;
    let answer = scene.call("POST", "/api/v1/shares").json(r#"{"path":"film.mkv"}"#).await.expect_problem(503, "tunnel_unavailable");
    assert!(answer.detail().contains("this node may not open tunnels"), "{}", answer.detail());
    let failed = scene.call("GET", "/api/v1/events?type=share.created").await.expect(200).json();
    let closed = until_closed(&scene, failed["events"][0]["share"].as_str().unwrap()).await;
    assert_eq!(closed["outcome"], "failed");
    assert_eq!(scene.call("GET", "/api/v1/shares?state=living").await.expect(200).json()["shares"], json!([]));
}

#[tokio::test]
async fn pages_of_shares_hold_each_once() {
    let scene = scene().await;
    let mut made = Vec::new();
    for n in 0..7 {
        let id = scene.share().await["id"].as_str().unwrap().to_owned();
        scene.clock.advance(Duration::from_secs(n % 2));
        if n < 3 {
            scene.call("DELETE", &format!("/api/v1/shares/{id}")).await.expect(200);
            until_closed(&scene, &id).await;
        }
        made.push(id);
    }
    for (state, expected) in [("", 7), ("&state=living", 4), ("&state=offered", 4), ("&state=closed", 3), ("&state=waiting", 0)] {
        for limit in 1..8 {
            let (mut seen, mut cursor) = (Vec::new(), String::new());
            for _ in 0..20 {
                let page = scene.call("GET", &format!("/api/v1/shares?limit={limit}{state}{cursor}")).await.expect(200).json();
                let shares = page["shares"].as_array().unwrap();
                assert!(shares.len() <= limit);
                seen.extend(shares.iter().map(|share| share["id"].as_str().unwrap().to_owned()));
                let Some(next) = page["next_cursor"].as_str() else { break };
                cursor = format!("&cursor={next}");
            }
            let mut once = seen.clone();
            once.sort();
            once.dedup();
            assert_eq!((seen.len(), once.len()), (expected, expected), "{state} by {limit}");
        }
    }
}

#[tokio::test]
async fn folders_are_listed_and_files_are_described() {
    let scene = scene().await;
    let root = scene.call("GET", "/api/v1/files?path=").await.expect(200).json();
    assert_eq!(keys(&root), ["entries", "index", "next_cursor", "path", "total"]);
    let entries = root["entries"].as_array().unwrap();
    assert_eq!(entries.iter().map(|entry| entry["path"].as_str().unwrap()).collect::<Vec<_>>(), ["sub", "film.mkv"]);
    let fields = ["changing", "files", "highlights", "kind", "mime_type", "modified", "name", "path", "size_bytes", "total_bytes"];
    assert_eq!(keys(&entries[1]), fields);
    assert_eq!((&entries[0]["kind"], &entries[0]["mime_type"]), (&json!("folder"), &Value::Null));
    assert_eq!((&entries[1]["kind"], &entries[1]["size_bytes"]), (&json!("file"), &json!(1000)));
    let film = scene.call("GET", "/api/v1/files/film.mkv").await.expect(200).json();
    assert_eq!((&film["path"], &film["sha256_state"]), (&json!("film.mkv"), &json!("computing")));
    let book = scene.call("GET", "/api/v1/files/sub/book.pdf").await.expect(200).json();
    assert_eq!((&book["name"], &book["mime_type"]), (&json!("book.pdf"), &json!("application/pdf")));
    assert!(scene.folder.path().join("film.mkv").exists());
}

#[tokio::test]
async fn a_file_whose_name_is_no_text_can_be_shared_by_what_the_list_says() {
    use std::os::unix::ffi::OsStrExt;
    let scene = scene().await;
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9 <b>\n.txt");
    std::fs::write(scene.folder.path().join(name), b"x").unwrap();
    let root = scene.call("GET", "/api/v1/files").await.expect(200).json();
    let path =
        root["entries"].as_array().unwrap().iter().map(|entry| &entry["path"]).find(|path| path.as_str().unwrap().contains("caf")).unwrap();
    let share = scene.call("POST", "/api/v1/shares").json(json!({ "path": path }).to_string()).await.expect(201).json();
    assert_eq!(&share["path"], path);
    scene.call("GET", "/api/v1/files/caf%E9%20%3Cb%3E%0A.txt").await.expect(200);
}

#[tokio::test]
async fn the_event_log_is_told_in_order_and_in_pages() {
    let scene = scene().await;
    let share = scene.share().await;
    let id = share["id"].as_str().unwrap();
    scene.call("DELETE", &format!("/api/v1/shares/{id}")).await.expect(200);
    until_closed(&scene, id).await;
    scene.share().await;
    let page = scene.call("GET", &format!("/api/v1/events?share={id}&limit=3")).await.expect(200).json();
    let kinds = |page: &Value| {
        page["events"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&page), ["share.created", "share.opened", "share.closing"]);
    assert_eq!(page["events"][0]["at"], "2027-01-15T08:00:00Z");
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = scene.call("GET", &format!("/api/v1/events?share={id}&limit=3&cursor={cursor}")).await.expect(200).json();
    assert_eq!((kinds(&rest), &rest["next_cursor"]), (vec!["share.closed".to_owned()], &Value::Null));
    let created = scene.call("GET", "/api/v1/events?type=share.created&since=2027-01-15T08:00:00Z").await.expect(200).json();
    assert_eq!(kinds(&created).len(), 2);
}

#[tokio::test]
async fn the_page_learns_what_it_needs_to_know() {
    let scene = scene().await;
    let session = scene.call("GET", "/api/v1/session").await.expect(200).json();
    assert_eq!(session["defaults"], json!({ "expires_in_seconds": 3600, "max_downloads": 1 }));
    assert_eq!((&session["auth"], &session["max_tunnel_seconds"], &session["version"]), (&json!("token"), &json!(7200), &json!("1.2.3")));
    assert_eq!(session["root"], scene.folder.path().to_str().unwrap());
}

#[tokio::test]
async fn long_lists_of_files_travel_compressed_and_links_do_not() {
    let scene = scene().await;
    for n in 0..20 {
        std::fs::write(scene.folder.path().join(format!("episode {n}.mkv")), b"x").unwrap();
    }
    scene.share().await;
    let files = scene.call("GET", "/api/v1/files").header("accept-encoding", "gzip").await.expect(200);
    assert_eq!(files.header("content-encoding"), "gzip");
    let shares = scene.call("GET", "/api/v1/shares").header("accept-encoding", "gzip").await.expect(200);
    assert!(shares.headers.get("content-encoding").is_none());
}
