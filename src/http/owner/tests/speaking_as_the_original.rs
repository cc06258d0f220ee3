//! The original's endpoints, in its shapes.

use serde_json::json;

use super::*;

#[tokio::test]
async fn a_link_is_made_with_exactly_the_originals_keys() {
    let scene = scene().await;
    let body = r#"{"file_path":"film.mkv","expires_in_seconds":600,"something":"else"}"#;
    let made = scene.call("POST", "/generate-link").json(body).await.expect(200).json();
    assert_eq!(keys(&made), ["download_url", "expires_in_seconds", "file_path", "token", "tunnel_id"]);
    assert_eq!((&made["file_path"], &made["expires_in_seconds"]), (&json!("film.mkv"), &json!(600)));
    let token = made["token"].as_str().unwrap();
    assert!(token.starts_with("eyJ") && made["download_url"].as_str().unwrap().ends_with(&format!("/{token}/film.mkv")));
    let default = scene.call("POST", "/generate-link").json(r#"{"file_path":"film.mkv"}"#).await.expect(200).json();
    assert_eq!(default["expires_in_seconds"], 3600);
    let clamped = scene.call("POST", "/generate-link").json(r#"{"file_path":"film.mkv","expires_in_seconds":99999999999}"#);
    assert_eq!(clamped.await.expect(200).json()["expires_in_seconds"], 7200);

    for method in ["GET", "HEAD"] {
        let answer = scene.call(method, &format!("/download/{token}")).await.expect(307);
        assert_eq!(answer.header("location"), made["download_url"].as_str().unwrap());
    }
    for unknown in ["x", "eyJ", &token[1..], &format!("{token}x"), "fake.example"] {
        scene.call("GET", &format!("/download/{unknown}")).await.expect_problem(404, "unknown_link");
    }
}

#[tokio::test]
async fn a_bad_wish_for_a_link_has_the_originals_statuses() {
    let scene = scene().await;
    for (body, status) in [
        (r#"{"file_path":"absent"}"#, 404),
        (r#"{"file_path":"sub"}"#, 400),
        (r#"{"file_path":""}"#, 400),
        (r#"{"file_path":"../x"}"#, 422),
        (r#"{"file_path":1}"#, 422),
        (r#"{"#, 422),
        (r#"{"file_path":"film.mkv","expires_in_seconds":NaN}"#, 422),
        (r#"{}"#, 422),
        (r#"[]"#, 422),
        (r#"{"file_path":"film.mkv","expires_in_seconds":0}"#, 422),
        (r#"{"file_path":"film.mkv","expires_in_seconds":-5}"#, 422),
        (r#"{"file_path":"film.mkv","expires_in_seconds":null}"#, 422),
        (r#"{"file_path":"film.mkv","expires_in_seconds":"3600"}"#, 422),
        (r#"{"file_path":"film.mkv","expires_in_seconds":1.5}"#, 422),
        (r#"{"file_path":"film.mkv","expires_in_seconds":1e400}"#, 422),
    ] {
        let answer = scene.call("POST", "/generate-link").json(body).await.expect(status);
        assert!(answer.detail().len() > 10, "{body}");
    }
    *scene.tunnel.opening.lock().unwrap() = crate::tunnel::fake::Mood::FailsForGood;
    scene.call("POST", "/generate-link").json(r#"{"file_path":"film.mkv"}"#).await.expect(503);
    assert_eq!(scene.call("GET", "/admin/tunnels").await.expect(200).json(), json!({ "active_tunnels": [], "count": 0 }));
}

#[tokio::test]
async fn tunnels_their_numbers_and_their_history_have_the_originals_shapes() {
    let scene = scene().await;
    let id = scene.share().await["id"].as_str().unwrap().to_owned();
    let tunnels = scene.call("GET", "/admin/tunnels").await.expect(200).json();
    assert_eq!((keys(&tunnels), &tunnels["count"]), (vec!["active_tunnels", "count"], &json!(1)));
    let tunnel = &tunnels["active_tunnels"][0];
    let texts = [
        "active_connections",
        "bytes_served",
        "created_at",
        "expires_at",
        "file_path",
        "internal_url",
        "last_activity",
        "max_seconds",
        "public_url",
        "status",
        "token_id",
        "tunnel_id",
    ];
    for key in texts {
        assert!(tunnel[key].is_string(), "{key}: {tunnel}");
    }
    assert_eq!(
        (&tunnel["tunnel_id"], &tunnel["status"], &tunnel["created_at"], &tunnel["bytes_served"], &tunnel["max_seconds"]),
        (&json!(id), &json!("active"), &json!("2027-01-15T08:00:00.000000"), &json!("0"), &json!("3600"))
    );
    assert_eq!((&tunnel["file_size"], &tunnel["is_downloading"]), (&json!(1000), &json!(false)));
    let stats_keys = ["active_connections", "bytes_served", "is_active", "last_activity", "last_seen", "tunnel_id"];
    assert_eq!(keys(&tunnel["download_stats"]), stats_keys);

    let stats = scene.call("GET", &format!("/admin/tunnels/{id}/stats")).await.expect(200).json();
    assert_eq!(keys(&stats), ["download_progress", "download_stats", "file_size", "tunnel_info"]);
    assert_eq!(stats["download_progress"], json!({ "bytes_served": 0, "file_size": 1000, "percentage": 0 }));
    assert_eq!(keys(&stats["tunnel_info"]), texts);

    let closed = scene.call("DELETE", &format!("/admin/tunnels/{id}")).await.expect(200).json();
    assert_eq!((keys(&closed), &closed["tunnel_id"]), (vec!["message", "tunnel_id"], &json!(id)));
    let mut history = Value::Null;
    for _ in 0..1000 {
        history = scene.call("GET", "/admin/history").await.expect(200).json();
        if history["count"] == 1 {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(keys(&history), ["count", "tunnel_history"]);
    let old = &history["tunnel_history"][0];
    assert_eq!((&old["tunnel_id"], &old["status"], &old["cleanup_reason"]), (&json!(id), &json!("destroyed"), &json!("manual")));
    assert_eq!(old["destroyed_at"], "2027-01-15T08:00:00.000000");
    for (method, target) in
        [("DELETE", "/admin/tunnels/0000000000"), ("GET", "/admin/tunnels/x/stats"), ("DELETE", "/admin/tunnels/12ab34cd")]
    {
        scene.call(method, target).await.expect_problem(404, "unknown_share");
    }
}

#[tokio::test]
async fn the_monitor_the_cleanup_and_the_bare_list_have_the_originals_shapes() {
    let scene = scene().await;
    scene.share().await;
    scene.clock.advance(Duration::from_secs(90));
    let status = scene.call("GET", "/admin/monitor/status").await.expect(200).json();
    assert_eq!(
        status,
        json!({
            "monitor_active": true, "active_downloads": 0, "active_tunnels_count": 1, "funnel_active": true, "stall_timeout_seconds": 300,
            "max_tunnel_seconds": 7200, "redis_connected": true, "redis_memory_usage": "embedded", "uptime": 90,
        })
    );
    let cleanup = scene.call("POST", "/admin/cleanup").await.expect(200).json();
    assert_eq!(cleanup, json!({ "message": "Cleanup completed", "cleaned_tunnels": 0, "cleaned_tokens": 0 }));
    for _ in 0..200 {
        if scene.call("GET", "/api/files").await.expect(200).json() == json!(["film.mkv", "sub/book.pdf"]) {
            return;
        }
        scene.side.catalog.search("film", Default::default(), 1).await.unwrap();
    }
    panic!("the list does not hold the files: {}", scene.call("GET", "/api/files").await.json());
}
