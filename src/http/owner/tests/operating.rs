//! Health and numbers, for those who watch over the program.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::Semaphore;

use super::operate::{CheckJson, CheckStatus, Operator, SettingsJson};
use super::*;
use crate::share::{Obstacle, Reach, ShareId};
use crate::tunnel::fake::Mood;

#[tokio::test]
async fn health_tells_strangers_only_whether_all_is_well() {
    let scene = scene().await;
    for target in ["/health", "/healthz"] {
        let stranger = scene.ask("GET", target).await.expect(200).json();
        assert_eq!(stranger, json!({ "status": "healthy", "redis": "embedded", "version": "", "checks": {} }));
        let owner = scene.call("GET", target).await.expect(200).json();
        assert_eq!((&owner["status"], &owner["redis"], &owner["version"]), (&json!("healthy"), &json!("embedded"), &json!("1.2.3")));
        for (check, status) in [
            ("store", "ok"),
            ("files", "ok"),
            ("index", "ok"),
            ("tunnel", "ok"),
            ("disk", "ok"),
            ("log", "not_used"),
            ("controllers", "not_used"),
        ] {
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
    let numbers = String::from_utf8(scene.call("GET", "/metrics").await.expect(200).body.to_vec()).unwrap();
    let stand: Vec<&str> = numbers.lines().filter_map(|line| line.strip_prefix("portcullis_check_status")).collect();
    assert_eq!(stand.len(), 7, "{stand:?}");
    for line in ["{check=\"files\"} 2", "{check=\"store\"} 0", "{check=\"log\"} 0"] {
        assert!(stand.contains(&line), "{line} is not in {stand:?}");
    }
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
async fn what_was_found_from_the_internet_is_told_of_shares_and_of_the_whole() {
    let scene = scene().await;
    let share = scene.share().await;
    let id: ShareId = share["id"].as_str().unwrap().parse().unwrap();
    let controller = &scene.side.controller;
    let link = controller.living_view(id).unwrap().share.link;
    let check = async || {
        scene.clock.advance(Duration::from_secs(1));
        scene.call("GET", "/health").await.expect(200).json()["checks"]["tunnel"].clone()
    };
    let shown = async || scene.call("GET", &format!("/api/v1/shares/{id}")).await.expect(200).json()["tunnel"].clone();
    let no = Reach::No(Obstacle::NameUnknown);
    let why = "Open, but not yet reachable from the internet: its name is not in the public DNS yet, which takes up to ten minutes for a new node.";
    assert!(controller.probed(id, link, false, no).await.unwrap());
    assert_eq!((&shown().await["reachable"], &shown().await["reach_problem"]), (&json!("no"), &json!(why)));
    assert_eq!(check().await, json!({ "status": "warning", "reason": format!("1 of 1 ways in are not reached from the internet. {why}") }));
    assert!(controller.probed(id, link, false, Reach::Yes).await.unwrap());
    assert_eq!((&shown().await["reachable"], &shown().await["reach_problem"]), (&json!("yes"), &json!(null)));
    assert_eq!(check().await["status"], "ok");

    scene.call("DELETE", &format!("/api/v1/shares/{id}")).await.expect(200);
    while controller.living_view(id).is_some() {
        tokio::task::yield_now().await;
    }
    assert!(!controller.probed(id, link, false, no).await.unwrap(), "the open one is no more");
    assert!(controller.probed(id, link, true, Reach::Yes).await.unwrap());
    controller.note_still_open(id, true);
    assert_eq!(shown().await["reach_problem"], "Closed, and its door still answers from the internet.");
    assert_eq!(
        check().await,
        json!({ "status": "failing", "reason": "1 door that is closed still answers from the internet; the log says whose." })
    );
    assert!(controller.probed(id, link, true, no).await.unwrap());
    controller.note_still_open(id, false);
    assert_eq!((&shown().await["reachable"], &shown().await["reach_problem"]), (&json!("no"), &json!(null)));
    assert_eq!(check().await["status"], "ok");
    let events = scene.call("GET", &format!("/api/v1/events?share={id}")).await.expect(200).json();
    let found: Vec<&Value> = events["events"].as_array().unwrap().iter().filter(|event| event["type"] == "share.probed").collect();
    assert_eq!(found.len(), 4, "{events}");
    assert_eq!((&found[0]["reach"], &found[0]["why"], &found[0]["after_close"]), (&json!("no"), &json!("name_unknown"), &json!(false)));
    assert_eq!((&found[2]["reach"], &found[2]["why"], &found[2]["after_close"]), (&json!("yes"), &json!(null), &json!(true)));
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

/// Looks, and counts how often; a look takes until it is let go.
#[derive(Debug)]
struct Counting {
    looks: AtomicUsize,
    go: Semaphore,
}

impl Operator for Counting {
    fn settings(&self) -> SettingsJson {
        SettingsJson { settings: Vec::new(), notes: vec!["a note".to_owned()] }
    }

    fn check(&self) -> BoxFuture<'_, Vec<CheckJson>> {
        async move {
            self.looks.fetch_add(1, Ordering::SeqCst);
            self.go.acquire().await.unwrap().forget();
            vec![CheckJson::new("AUTH", CheckStatus::Warning, "it is none", Some("set it"))]
        }
        .boxed()
    }
}

#[tokio::test]
async fn one_look_at_the_machine_serves_all_who_ask_within_seconds() {
    let operator = Arc::new(Counting { looks: AtomicUsize::new(0), go: Semaphore::new(0) });
    let scene = scene_with(|settings| settings.operator = operator.clone()).await;
    assert_eq!(scene.call("GET", "/api/v1/settings").await.expect(200).json(), json!({ "settings": [], "notes": ["a note"] }));
    let ask = async || scene.call("GET", "/api/v1/check").await.expect(200).json();
    let let_go = async {
        while operator.looks.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        operator.go.add_permits(1);
    };
    let (first, second, ()) = tokio::join!(ask(), ask(), let_go);
    assert_eq!(first, second, "who asks meanwhile waits for that look");
    assert_eq!(keys(&first), ["checked_at", "checks"]);
    let checks = first["checks"].as_array().unwrap();
    let named = |name: &str| checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}: {first}"));
    assert_eq!(named("AUTH"), &json!({ "name": "AUTH", "status": "warning", "text": "It is none.", "fix": "Set it." }));
    assert_eq!((&named("store")["status"], &named("NAS_MOUNT_PATH")["status"]), (&json!("ok"), &json!("ok")));
    assert!(checks.iter().all(|check| check["name"] != "log"), "what is no part of the setup is left out");
    scene.clock.advance(Duration::from_secs(4));
    assert_eq!(ask().await, first);
    assert_eq!(operator.looks.load(Ordering::SeqCst), 1);
    scene.clock.advance(Duration::from_secs(1));
    operator.go.add_permits(1);
    assert_ne!(ask().await["checked_at"], first["checked_at"]);
    assert_eq!(operator.looks.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_health_finds_is_told_with_what_to_do_about_it() {
    let scene = scene().await;
    let gone = scene.folder.path().with_extension("gone");
    std::fs::rename(scene.folder.path(), &gone).unwrap();
    let checks = scene.call("GET", "/api/v1/check").await.expect(200).json()["checks"].clone();
    let files = checks.as_array().unwrap().iter().find(|check| check["name"] == "files").unwrap().clone();
    assert_eq!(files["status"], "wrong");
    assert!(files["fix"].as_str().unwrap().contains("Mount the NAS again"), "{files}");
    std::fs::rename(&gone, scene.folder.path()).unwrap();
}

#[tokio::test]
async fn a_self_test_whose_way_in_fails_says_so_and_is_in_no_list() {
    let scene = scene().await;
    *scene.tunnel.opening.lock().unwrap() = Mood::FailsForGood;
    let verdict = scene.call("POST", "/api/v1/self-test").await.expect(200).json();
    let steps: Vec<_> = verdict["steps"].as_array().unwrap().iter().map(|step| (&step["name"], &step["ok"])).collect();
    assert_eq!(steps, [(&json!("made"), &json!(true)), (&json!("opened"), &json!(false)), (&json!("closed"), &json!(true))]);
    assert_eq!(verdict["passed"], false);
    *scene.tunnel.opening.lock().unwrap() = Mood::Works;
    let verdict = scene.call("POST", "/api/v1/self-test").await.expect(200).json();
    // Nobody serves recipients here, and nobody could look from outside.
    let problem = verdict["steps"][2]["problem"].as_str().unwrap();
    assert!(problem.contains("own port for recipients does not answer"), "{verdict:#}");
    assert_eq!(
        (&verdict["by"], &verdict["steps"][3]["name"], &verdict["steps"][3]["ok"]),
        (&json!("local"), &json!("closed"), &json!(true))
    );
    let shares = scene.call("GET", "/api/v1/shares").await.expect(200).json();
    assert_eq!(shares["shares"], json!([]));
    scene.call("POST", "/api/v1/self-test").json(r#"{"a":1}"#).await.expect_problem(422, "unknown_field");
}
