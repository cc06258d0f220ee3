//! Behind a proxy that puts the owner's side below a path, and takes that off or leaves it.

use super::*;

const BELOW: &str = "/gate/nas";

async fn scene_below() -> Scene {
    scene_with(|settings| {
        settings.prefix = Prefix::new(BELOW);
        settings.address += BELOW;
    })
    .await
}

#[tokio::test]
async fn every_route_answers_alike_with_the_path_and_without() {
    let scene = scene_below().await;
    let bearer = format!("Bearer {}", scene.token);
    for (method, route) in route_list() {
        // A stream would not end, and what is made twice is told by another id.
        if route.ends_with("/stream") || (method == Method::POST && matches!(route, "/generate-link" | "/api/v1/session/link")) {
            continue;
        }
        let target = route.replace("{*path}", "film.mkv").replace(['{', '}'], "");
        for credential in [None, Some(&bearer)] {
            let ask = async |target: &str| {
                scene.clock.advance(Duration::from_secs(60));
                let ask = scene.ask(method.as_str(), target).header("sec-fetch-site", "same-origin");
                let answer = if let Some(bearer) = credential { ask.header("authorization", bearer) } else { ask }.await;
                (answer.status, answer.headers.get("content-type").cloned(), answer.headers.get("content-security-policy").cloned())
            };
            let plain = ask(&target).await;
            assert_eq!(ask(&format!("{BELOW}{target}")).await, plain, "{method} {target}");
        }
    }
    for wrong in [format!("{BELOW}/no/such"), format!("{BELOW}{BELOW}/api/v1/shares"), "/gate/nasty/api/v1/shares".to_owned()] {
        scene.call("GET", &wrong).await.expect_problem(404, "not_found");
        scene.ask("GET", &wrong).await.expect_problem(401, "not_signed_in");
    }
}

#[tokio::test]
async fn a_file_is_itself_with_the_path_and_without() {
    let scene = scene_below().await;
    for target in ["/api/v1/files/film.mkv".to_owned(), format!("{BELOW}/api/v1/files/film.mkv")] {
        let file = scene.call("GET", &target).await.expect(200).json();
        assert_eq!((file["path"].as_str(), file["kind"].as_str()), (Some("film.mkv"), Some("file")), "{target}");
    }
    scene.call("GET", &format!("{BELOW}/api/v1/files/no-such.mkv")).await.expect(404);
}

#[tokio::test]
async fn a_browser_signs_in_below_the_path_and_its_cookie_is_for_that_alone() {
    let scene = scene_below().await;
    for way_in in [scene.side.new_sign_in_path(), format!("{BELOW}{}", scene.side.new_sign_in_path())] {
        let entered = scene.ask("GET", &way_in).await.expect(303);
        assert_eq!(entered.header("location"), format!("{BELOW}/"));
        let cookie = entered.header("set-cookie");
        assert!(cookie.ends_with(&format!("; HttpOnly; SameSite=Strict; Path={BELOW}; Max-Age=2592000")), "{cookie}");
        let cookie = cookie.split(';').next().unwrap();
        let again = scene.ask("GET", &format!("{BELOW}/?token=old")).header("cookie", cookie).await.expect(303);
        assert_eq!(again.header("location"), format!("{BELOW}/"));
        let out = scene.ask("DELETE", &format!("{BELOW}/api/v1/session")).header("cookie", cookie).await.expect(204);
        assert!(out.header("set-cookie").contains(&format!("Path={BELOW}; Max-Age=0")), "{}", out.header("set-cookie"));
    }
    let form = |target: String| scene.ask("POST", &target).header("origin", "null").header("accept", "text/html");
    let wrong = form(format!("{BELOW}/sign-in")).header("content-type", "application/x-www-form-urlencoded");
    let wrong = Ask { body: "token=wrong".into(), ..wrong }.await.expect(303);
    assert_eq!(wrong.header("location"), format!("{BELOW}/sign-in?wrong"));
}

#[tokio::test]
async fn the_path_without_its_slash_leads_to_the_page_and_is_guarded_as_it_is() {
    let scene = scene_below().await;
    for (target, to) in [("/gate/nas", "/gate/nas/"), ("/gate/nas?token=a%2Fb", "/gate/nas/?token=a%2Fb")] {
        let answer = scene.ask("GET", target).await.expect(307);
        assert_eq!((answer.header("location"), answer.header("x-content-type-options")), (to, "nosniff"));
    }
    scene.ask("GET", BELOW).header("tailscale-funnel-request", "?1").await.expect_problem(403, "not_public");
    scene.ask("GET", &format!("{BELOW}/")).header("tailscale-funnel-request", "?1").await.expect_problem(403, "not_public");
    scene.ask("GET", BELOW).host("evil.example").await.expect_problem(421, "misdirected");
    scene.ask("POST", BELOW).header("origin", "http://evil.example").await.expect_problem(403, "foreign_origin");
    // Only the form of the sign-in page may come from nowhere.
    scene.ask("POST", &format!("{BELOW}/admin/cleanup")).header("origin", "null").await.expect_problem(403, "foreign_origin");
}

#[tokio::test]
async fn what_is_told_of_addresses_has_the_path_in_it() {
    let scene = scene_below().await;
    let made = scene.call("POST", "/api/v1/shares").json(r#"{"path":"film.mkv"}"#).await.expect(201);
    let location = made.header("location");
    assert_eq!(location, format!("{BELOW}/api/v1/shares/{}", made.json()["id"].as_str().unwrap()));
    scene.call("GET", location).await.expect(200);

    let ours = Peer::Local { uid: rustix::process::geteuid().as_raw() };
    for (ask, base) in [
        (scene.ask("POST", "/api/v1/session/link").from(ours), "http://nas.local:8000"),
        (scene.call("POST", "/api/v1/session/link"), "http://192.168.0.2:8000"),
        (
            scene.call("POST", "/api/v1/session/link").host("files.example").header("origin", "https://files.example"),
            "https://files.example",
        ),
    ] {
        let link = ask.await.expect(200).json();
        let url = link["url"].as_str().unwrap();
        let path = url.strip_prefix(base).unwrap_or_else(|| panic!("{url}"));
        assert!(path.starts_with("/gate/nas/?token="), "{url}");
        scene.ask("GET", path).await.expect(303);
    }

    let described = scene.ask("GET", "/openapi.json").await.expect(200).json();
    assert_eq!(described["servers"][0]["url"], BELOW);
    let docs = scene.ask("GET", &format!("{BELOW}/api/docs")).await.expect(200);
    let docs = String::from_utf8_lossy(&docs.body).into_owned();
    for address in docs.split("href=\"").chain(docs.split("src=\"")).skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(!address.starts_with('/'), "{address} leads past the path");
    }
}

#[tokio::test]
async fn an_old_cookie_for_another_path_shuts_nobody_out() {
    let scene = scene_below().await;
    let cookie = scene.sign_in().await;
    let old = format!("portcullis_session={}", "a".repeat(64));
    // A browser sends the one for the longer path first, but nothing says so of programs.
    for both in [format!("{cookie}; {old}"), format!("{old}; theme=dark; {cookie}")] {
        scene.ask("GET", "/api/v1/shares").header("cookie", &both).await.expect(200);
    }
    let many = vec![old.as_str(); 100].join("; ");
    scene.ask("GET", "/api/v1/shares").header("cookie", &format!("{many}; {cookie}")).await.expect(401);
}
