//! What only a real shell, a real terminal and a second machine show.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::harness::{download_folder, sha256_of_file};

/// Puts a program of this text into a folder of its own, to be found before all others.
fn program(server: &Server, name: &str, text: &str) -> String {
    let folder = server.folder().join("programs");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), text).unwrap();
    std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:/usr/local/bin:/usr/bin:/bin", folder.display())
}

/// Runs a line in a terminal of that many columns; each of what is typed waits for its cue to be shown, behind the one before.
/// Returns what the terminal showed and how the line ended.
fn on_terminal(server: &Server, columns: usize, line: &str, typed: &[(&str, &str)]) -> (String, i32) {
    let mut command = server.command();
    let line = format!("stty cols {columns} rows 24 -echo; {} {line}", env!("CARGO_BIN_EXE_portcullis"));
    let mut child = {
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        script.env("TERM", "xterm").env("SHELL", "/bin/sh").current_dir(server.folder());
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("script (util-linux) is installed")
    };
    command.stdin(Stdio::null());
    let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut shown = Vec::new();
    let mut typed = typed.iter();
    let mut looked = 0;
    let mut piece = [0; 4096];
    while let Ok(read @ 1..) = screen.read(&mut piece) {
        shown.extend_from_slice(&piece[..read]);
        if let Some((cue, keys)) = typed.clone().next()
            && let Some(at) = String::from_utf8_lossy(&shown[looked..]).find(cue)
        {
            looked += at + cue.len();
            keyboard.write_all(keys.as_bytes()).unwrap();
            typed.next();
        }
    }
    drop(keyboard);
    let output = finish(child);
    (String::from_utf8_lossy(&shown).into_owned(), output.status.code().unwrap_or(-1))
}

#[test]
fn one_line_of_shell_shares_and_downloads() {
    let server = Setup::new().start();
    let content = put(&server, "holi day.mp4", 300_000);
    let folder = download_folder(&server);
    let line = format!("'{}' share \"$1\" --json | jq -r .url | xargs curl -sSOJ", env!("CARGO_BIN_EXE_portcullis"));
    let mut bash = Command::new("bash");
    bash.args(["-o", "pipefail", "-c", &line, "bash"]).arg(server.root.join("holi day.mp4"));
    bash.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", &folder).env("STATE_DIR", &server.state).current_dir(&folder);
    let output = finish(bash.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    check_code(&output, exit::DONE);
    let names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["holi day.mp4"], "{}", said(&output));
    assert_eq!(sha256_of_file(&folder.join("holi day.mp4")), sha256(&content));
    let shares: Value = serde_json::from_slice(&run(&server, &["ls", "--json"]).stdout).unwrap();
    assert_eq!((&shares[0]["state"], &shares[0]["transfers"]), (&json!("delivered"), &json!(1)), "it is one use: {shares}");
}

#[test]
fn a_link_is_copied_by_the_program_that_is_there() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let path = program(&server, "wl-copy", "#!/bin/sh\ncat > copied\n");
    let mut command = server.command();
    let output = finish(command.env("PATH", path).args(["share", "film.mkv", "--copy"]).stdin(Stdio::null()).spawn().unwrap());
    check_code(&output, exit::DONE);
    assert_eq!(std::fs::read_to_string(server.folder().join("copied")).unwrap(), line(&output));
    let path = program(&server, "wl-copy", "#!/bin/sh\nexit 1\n");
    let output = finish(server.command().env("PATH", path).args(["share", "film.mkv", "--copy"]).stdin(Stdio::null()).spawn().unwrap());
    check_code(&output, exit::DONE);
    assert!(line(&output).starts_with("http://") && String::from_utf8_lossy(&output.stderr).contains("Not copied"), "{}", said(&output));
}

#[test]
fn another_machine_asks_with_a_token() {
    let server = Setup::new().start();
    put(&server, "film/holiday.mkv", 1000);
    let elsewhere = tempfile::tempdir().unwrap();
    let address = format!("http://{}", server.owner);
    let ask = |token: Option<&str>, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.env_clear().current_dir(elsewhere.path()).env("PATH", "/usr/bin:/bin").env("PORTCULLIS_SERVER", &address);
        command.envs(token.map(|token| ("PORTCULLIS_TOKEN", token))).args(arguments);
        finish(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    };
    let shared = ask(Some(&server.token), &["share", "film/holiday.mkv"]);
    check_code(&shared, exit::DONE);
    let id = path_of(&line(&shared))[1..].split('/').next().unwrap().to_owned();
    assert!(String::from_utf8_lossy(&ask(Some(&server.token), &["ls"]).stdout).contains(&id));
    check_code(&ask(Some(&server.token), &["close", &id]), exit::DONE);
    assert_eq!(server.outcome(&id), "revoked");
    check_code(&ask(Some(&server.token), &["reopen", &id]), exit::DONE);
    for token in [None, Some("pct_wrong")] {
        let refused = ask(token, &["ls"]);
        check_code(&refused, exit::ERROR);
        assert!(String::from_utf8_lossy(&refused.stderr).contains("--token-file"), "{}", said(&refused));
    }
    assert!(std::fs::read_dir(elsewhere.path()).unwrap().next().is_none(), "nothing is made on the machine that asks");
}

#[test]
fn ctrl_c_at_a_terminal_asks_whether_to_close() {
    let server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let id = |shown: &str| shown.split("/").skip_while(|part| !part.contains(&server.recipient.to_string())).nth(1).unwrap().to_owned();
    // Interrupted when the bar stands, and told no when the question does.
    let ask = |answer: &str| {
        let (shown, code) = on_terminal(&server, 120, "share film.mkv --wait", &[("Ready.", "\u{3}"), ("[Y/n]", answer)]);
        assert_eq!(code, exit::INTERRUPTED, "{shown}");
        assert!(shown.contains("[Y/n]"), "{shown}");
        (server.show(&id(&shown))["state"].clone(), shown)
    };
    let (state, shown) = ask("n\n");
    assert!(state == "offered" && shown.contains("portcullis watch"), "{state}: {shown}");
    let (state, shown) = ask("\n");
    assert!(state == "closed" || state == "closing", "{state}: {shown}");
}

#[test]
fn a_narrow_terminal_gets_narrow_tables_and_a_pipe_gets_everything() {
    let server = Setup::new().start();
    let name = "a very long name of a file that does not fit beside anything else.mkv";
    put(&server, name, 1000);
    server.share(name);
    let (shown, code) = on_terminal(&server, 40, "ls", &[]);
    assert_eq!(code, exit::DONE, "{shown}");
    assert!(shown.contains('…') && shown.lines().all(|line| line.trim_end().chars().count() <= 40), "{shown}");
    assert!(!shown.contains('\u{1b}'), "no table needs an escape: {shown:?}");
    let piped = run(&server, &["ls"]);
    assert!(String::from_utf8_lossy(&piped.stdout).contains(name), "{}", said(&piped));
}
