//! What is kept: a backup, and what comes back of it.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use super::*;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_restored_backup_knows_the_past_and_revives_no_spent_link() {
    let mut server = Setup::new().start();
    put(&server, "film.mkv", 1000);
    let (spent_later, open) = (server.share("film.mkv"), server.share("film.mkv"));
    let file = server.folder().join("kept.backup");
    let name = file.to_str().unwrap().to_owned();
    check_code(&run(&server, &["backup", &name]), exit::DONE);
    assert_eq!(mode(&file), 0o600);
    let again = run(&server, &["backup", &name]);
    check_code(&again, exit::ERROR);
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists already"), "{}", said(&again));
    server.fetch("GET", &server.redeem(&spent_later), &[]).expect("an answer").expect_status(200);

    let running = run(&server, &["restore", &name, "--replace"]);
    check_code(&running, exit::ERROR);
    assert!(String::from_utf8_lossy(&running.stderr).contains("stop it first"), "{}", said(&running));
    server.stop();
    check_code(&run(&server, &["restore", &name]), exit::ERROR);
    let other_key = "another key of this folder, made since\n";
    std::fs::write(server.state.join("transfer.key"), other_key).unwrap();
    let restored = run(&server, &["restore", &name, "--replace"]);
    check_code(&restored, exit::DONE);
    let told = said(&restored);
    assert!(told.contains("2 shares were open") && told.contains("kept as") && told.contains("portcullis serve"), "{told}");
    assert!(told.contains("transfer.key.before-restore-1") && !told.contains("jwt.key.before"), "{told}");
    assert_eq!(std::fs::read_to_string(server.state.join("transfer.key.before-restore-1")).unwrap(), other_key);
    for key in ["jwt.key", "transfer.key"] {
        assert_eq!(mode(&server.state.join(key)), 0o600);
    }
    server.start();
    for offer in [&spent_later, &open] {
        assert_eq!(server.outcome(&offer.id), "revoked");
        let answer = server.fetch("POST", &offer.redeem_path(), &[]);
        assert!(answer.is_none_or(|answer| answer.status == 410), "a link of the past works again");
    }
    check_code(&run(&server, &["audit", "verify"]), exit::DONE);
    check_code(&run(&server, &["reopen", &open.id]), exit::DONE);
}

#[test]
fn what_root_restores_belongs_to_the_account_that_serves() {
    // Only root can give a file away; for anybody else there is nothing to give.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    const SERVICE: u32 = 54_321;
    let mut server = Setup::new().start();
    let file = server.folder().join("kept.backup");
    check_code(&run(&server, &["backup", file.to_str().unwrap()]), exit::DONE);
    server.stop();
    chown(&server.state, Some(SERVICE), Some(SERVICE)).unwrap();
    let foreign = server.folder().join("foreign");
    std::fs::write(&foreign, "of root").unwrap();
    std::fs::remove_file(server.state.join("portcullis.lock")).unwrap();
    std::fs::hard_link(&foreign, server.state.join("portcullis.lock")).unwrap();
    check_code(&run(&server, &["restore", file.to_str().unwrap(), "--replace"]), exit::DONE);
    for name in ["portcullis.db", "portcullis.db.before-restore-1", "jwt.key", "transfer.key"] {
        assert_eq!(std::fs::metadata(server.state.join(name)).unwrap().uid(), SERVICE, "{name}");
    }
    assert_eq!(std::fs::metadata(&foreign).unwrap().uid(), 0, "what a second name leads to is somebody else's");
}

#[test]
fn a_backup_goes_to_another_machine_with_its_keys() {
    let server = Setup::new().start();
    let file = server.folder().join("kept.backup");
    check_code(&run(&server, &["backup", file.to_str().unwrap()]), exit::DONE);
    let elsewhere = tempfile::tempdir().unwrap();
    let state = elsewhere.path().join("new/state");
    let restore = |file: &Path| {
        let mut command = alone(elsewhere.path());
        finish(command.args(["restore", file.to_str().unwrap(), "--state-dir", state.to_str().unwrap()]).spawn().unwrap())
    };
    let damaged = elsewhere.path().join("damaged");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.truncate(bytes.len() / 2);
    std::fs::write(&damaged, bytes).unwrap();
    for wrong in [&damaged, &elsewhere.path().join("absent"), &server.state.join("jwt.key")] {
        let refused = restore(wrong);
        check_code(&refused, exit::ERROR);
        assert!(!state.join("portcullis.db").exists() && !state.join("jwt.key").exists(), "{}", said(&refused));
    }
    check_code(&restore(&file), exit::DONE);
    for key in ["jwt.key", "transfer.key"] {
        assert_eq!(std::fs::read(state.join(key)).unwrap(), std::fs::read(server.state.join(key)).unwrap());
        assert_eq!(mode(&state.join(key)), 0o600);
    }
    let nothing = finish(alone(elsewhere.path()).args(["backup", "x", "--state-dir", "/nowhere"]).spawn().unwrap());
    check_code(&nothing, exit::ERROR);
    check_code(&finish(alone(elsewhere.path()).args(["backup"]).spawn().unwrap()), exit::USAGE);
}
