//! What a running server says of the nginx before it: it asks nginx as a recipient would, and its health has what came of it.

use std::fs;

use serde_json::Value;

use crate::harness::{SOON, Server, Setup, poll, put};

/// Waits until health says so of nginx.
fn wait_until_told(server: &Server, status: &str, what: &str) {
    let mut last = Value::Null;
    poll(SOON, what, || {
        last = server.api("GET", "/health", None).json()["checks"]["log"].clone();
        last["status"] == status && last["reason"].as_str().is_some_and(|reason| reason.contains(what))
    });
}

/// Returns the configuration as it would be with other settings.
fn printed_with(server: &Server, name: &str, value: &str) -> String {
    let mut command = server.command();
    let output = command.env(name, value).arg("nginx-config").arg(&server.root).arg("--standalone").arg("--run-dir");
    let output = output.arg(server.nginx_folder()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_is_wrong_with_nginx_is_told_in_a_sentence_and_no_more_once_it_is_mended() {
    const FINE: &str = "nginx answers with the configuration of now";
    let mut server = Setup::new().behind_nginx().start();
    put(&server, "film.mkv", 1000);
    let (root, folder) = (server.root.display().to_string(), server.nginx_folder());
    let [empty, other] = ["empty", "other"].map(|name| server.folder().join(name));
    [&empty, &other].iter().for_each(|folder| fs::create_dir(folder).unwrap());
    fs::write(other.join("film.mkv"), "another").unwrap();
    let right = printed_with(&server, "LOG", "info");
    let proof = right.split_once("X-Portcullis-Nginx \"").and_then(|(_, rest)| rest.split_once('"')).expect("it proves itself").0;
    let log = folder.join("access.log").display().to_string();
    let wrong = [
        (printed_with(&server, "MAX_CONNECTIONS", "77"), "nginx runs with another configuration than `portcullis nginx-config` prints now"),
        (right.replace(&root, &other.display().to_string()), "nginx finds another file than portcullis under the name film.mkv"),
        (right.replace(&root, &empty.display().to_string()), "nginx cannot open film.mkv"),
        (right.replace(&log, &folder.join("elsewhere.log").display().to_string()), "is not read here, so no download can complete"),
        (right.replace(proof, "v1.0"), "does not ask portcullis on"),
    ];
    wait_until_told(&server, "ok", FINE);
    for (config, what) in wrong {
        assert_ne!(config, right, "{what}");
        server.nginx().start_with(|_| config.clone());
        wait_until_told(&server, "failing", what);
        server.nginx().start_with(|_| right.clone());
        wait_until_told(&server, "ok", FINE);
    }
    server.nginx().kill();
    wait_until_told(&server, "failing", "obody listens on");
}
