//! What is written in the files: every profile is clean, and what is missing or wrong in `.env` is said.

use super::stack::{Stack, said, shipped};

/// Each profile there is; the node's has a second name.
const PROFILES: [&str; 6] = ["nginx", "embedded", "tailscale", "tailscale-mount", "redis", "traefik"];

#[test]
#[ignore = "needs an engine (tests/compose/engine)"]
fn every_profile_and_all_of_them_together_are_clean_and_no_one_names_the_docker_socket() {
    let stack = Stack::new(&[("DELIVERY", "nginx")]);
    let named = stack.compose(&["config", "--profiles"]);
    let mut named: Vec<&str> = named.lines().collect();
    // `embedded` is what is left where no other is named.
    named.extend(["embedded"].into_iter().filter(|profile| !named.contains(profile)).collect::<Vec<_>>());
    named.sort_unstable();
    let mut known = PROFILES;
    known.sort_unstable();
    assert_eq!(named, known);
    for chosen in 0..1_u32 << PROFILES.len() {
        let profiles: Vec<&str> = (0..PROFILES.len()).filter(|n| chosen >> n & 1 == 1).map(|n| PROFILES[n]).collect();
        let arguments: Vec<&str> = profiles.iter().flat_map(|profile| ["--profile", profile]).chain(["config"]).collect();
        let output = stack.try_compose(&arguments);
        assert!(output.status.success() && output.stderr.is_empty(), "{profiles:?}: {}", said(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!text.contains("docker.sock") && text.contains("10001:10001"), "{profiles:?}");
    }
    // The only file that names it is one that nobody reads unless it is named.
    let node = shipped().join("tailscale-node.yaml").display().to_string();
    stack.set(&[("DELIVERY", "embedded"), ("TUNNEL", "tailscale-node"), ("DOCKER_GROUP", "999"), ("STATE_DIR_ON_HOST", "/srv/state")]);
    let output = stack.try_compose(&["--file", &node, "config"]);
    assert!(output.status.success() && output.stderr.is_empty() && said(&output).contains("docker.sock"), "{}", said(&output));
    assert!(!std::fs::read_to_string(shipped().join("compose.yaml")).unwrap().lines().any(|line| line.starts_with("version:")));
}

#[test]
#[ignore = "needs an engine (tests/compose/engine)"]
fn the_filled_example_is_clean_and_starts_all_four() {
    let stack = Stack::new(&[]);
    std::fs::copy(shipped().join("env.example"), stack.path(".env")).unwrap();
    let output = stack.try_compose(&["config", "--services"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut services: Vec<&str> = text.lines().collect();
    services.sort_unstable();
    assert_eq!(services, ["net", "nginx", "nginx-config", "portcullis", "prepare", "redis", "tailscale"]);
}

#[test]
#[ignore = "needs an engine (tests/compose/engine)"]
fn what_is_missing_or_wrong_is_one_sentence_that_names_it() {
    let stack = Stack::new(&[("DELIVERY", "embedded")]);
    std::fs::write(stack.path(".env"), "DELIVERY=embedded\n").unwrap();
    let output = stack.try_compose(&["config", "--quiet"]);
    let sentence = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && sentence.trim().lines().count() == 1, "{sentence}");
    assert!(sentence.contains("NAS_MOUNT_PATH is missing in .env, name the folder"), "{sentence}");

    stack.set(&[("DELIVERY", "embedded"), ("NAS_MOUNT_PATH", "/nowhere/at/all")]);
    let output = stack.try_compose(&["up", "--detach"]);
    assert!(!output.status.success() && said(&output).contains("source path does not exist: /nowhere/at/all"), "{}", said(&output));
    stack.down_again();

    for (name, wrong, sentence) in [
        ("DELIVERY", "ngnix", "DELIVERY: \"ngnix\""),
        ("TUNNEL", "wireguard", "TUNNEL: \"wireguard\""),
        ("MAX_TUNNEL_SECONDS", "soon", "MAX_TUNNEL_SECONDS: \"soon\""),
        ("TRUSTED_PROXIES", "nas.lan", "TRUSTED_PROXIES: \"nas.lan\""),
    ] {
        stack.set(&[("DELIVERY", "embedded"), (name, wrong)]);
        let output = stack.try_compose(&["up", "--detach"]);
        assert!(!output.status.success() && said(&output).contains("prepare"), "{name}: {}", said(&output));
        let lines: Vec<String> = said(&stack.try_compose(&["logs", "--no-log-prefix", "prepare"])).lines().map(str::to_owned).collect();
        assert_eq!(lines.iter().filter(|line| line.contains(sentence)).count(), 1, "{name}: {lines:#?}");
        let run = ["run", "--rm", "--no-deps", "prepare", "check"];
        let checked = said(&stack.try_compose(&run));
        assert!(checked.contains(sentence), "{name}: {checked}");
        stack.down_again();
    }
}
