//! Health and numbers, for those who watch over the program.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::tunnel::fake::Mood;

#[tokio::test]
async fn health_tells_strangers_only_whether_all_is_well() {
    let scene = scene().await;
    for target in ["/health", "/healthz"] {
        let stranger = scene.ask("GET", target).await.expect(200).json();
        assert_eq!(stranger, json!({ "status": "healthy", "redis": "embedded", "version": "", "checks": {} }));
        let owner = scene.call("GET", target).await.expect(200).json();
        assert_eq!((&owner["status"], &owner["redis"], &owner["version"]), (&json!("healthy"), &json!("embedded"), &json!("1.2.3")));
        for (check, status) in [("store", "ok"), ("files", "ok"), ("index", "ok"), ("tunnel", "ok"), ("disk", "ok"), ("log", "not_used")] {
            let found = &owner["checks"][check];
            // The machine that runs the tests may have a full disk.
            assert!(found["status"] == status || check == "disk", "{check}: {found}");
            assert!(found["reason"].as_str().unwrap().ends_with('.'), "{found}");
        }
    }
    scene.ask("GET", "/livez").await.expect(200);
}

#[tokio::test]
async fn a_folder_that_went_away_is_unhealthy_and_says_why() {
    let scene = scene().await;
    scene.ask("GET", "/health").await.expect(200);
    let gone = scene.folder.path().with_extension("gone");
    std::fs::rename(scene.folder.path(), &gone).unwrap();
    scene.ask("GET", "/health").await.expect(200);
    scene.clock.advance(Duration::from_secs(1));
    let stranger = scene.ask("GET", "/health").await.expect(503).json();
    assert_eq!(stranger, json!({ "status": "unhealthy", "redis": "embedded", "version": "", "checks": {} }));
    let files = &scene.call("GET", "/health").await.expect(503).json()["checks"]["files"];
    assert_eq!(files["status"], "failing");
    assert!(files["reason"].as_str().unwrap().contains("is the NAS mounted?"), "{files}");
    std::fs::rename(&gone, scene.folder.path()).unwrap();
    scene.clock.advance(Duration::from_secs(1));
    scene.ask("GET", "/health").await.expect(200);
}

#[tokio::test]
async fn a_way_in_that_is_not_as_it_should_be_is_told_and_the_program_works_on() {
    let scene = scene().await;
    let id = scene.share().await["id"].as_str().unwrap().to_owned();
    *scene.tunnel.closing.lock().unwrap() = Mood::FailsForNow;
    scene.call("DELETE", &format!("/api/v1/shares/{id}")).await;
    let mut checks = json!(null);
    for _ in 0..200 {
        scene.clock.advance(Duration::from_secs(1));
        checks = scene.call("GET", "/health").await.expect(200).json()["checks"].clone();
        if checks["tunnel"]["status"] == "failing" {
            assert_eq!(checks["tunnel"]["reason"], "1 of 1 ways in are not as they should be: the tunnel is away.");
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("nobody said so: {checks}");
}

#[tokio::test]
async fn numbers_are_for_those_who_may_read() {
    let scene = scene().await;
    scene.ask("GET", "/metrics").await.expect_problem(401, "not_signed_in");
    scene.share().await;
    let answer = scene.call("GET", "/metrics").await.expect(200);
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    for line in [
        "portcullis_shares{state=\"offered\"} 1",
        "portcullis_shares_made_total 1",
        "portcullis_tunnel_open_seconds_count 1",
        "portcullis_owner_requests_total{class=\"2xx\"} 1",
        "portcullis_owner_requests_total{class=\"4xx\"} 1",
        "portcullis_build_info{version=\"1.2.3\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    let open = scene.call("GET", "/metrics").header("accept", "application/openmetrics-text").await.expect(200);
    assert!(open.header("content-type").starts_with("application/openmetrics-text; version=1.0.0"));
    assert!(open.body.ends_with(b"# EOF\n"));
}
