//! No lab outlives its owner: not when it is left, nor when it is killed, nor when it is forgotten.

use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Lab, SOON, is_of, poll};

/// Starts a process that holds the other end of the lab's standard input, and nothing else does.
fn owner() -> (Child, Stdio) {
    let mut owner = Command::new("sleep").arg("1000").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("sleep is there");
    let end = owner.stdout.take().expect("piped");
    (owner, end.into())
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn the_lab_ends_when_its_owner_is_killed() {
    let (mut owner, orders) = owner();
    let mut lab = Lab::start_with(&[], orders);
    assert!(lab.folder().exists());
    owner.kill().unwrap(); // SIGKILL: it cannot say goodbye
    owner.wait().unwrap();
    lab.wait_ended();
    assert!(!lab.folder().exists(), "it takes its folder with it");
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn tailscaled_ends_when_the_lab_is_killed() {
    let mut lab = Lab::start();
    kill_process(pid(&lab, "lab"), Signal::KILL).unwrap();
    lab.wait_ended();
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn the_lab_ends_when_it_is_told_to_and_when_its_time_is_over() {
    let mut lab = Lab::start();
    kill_process(pid(&lab, "lab"), Signal::TERM).unwrap();
    lab.wait_ended();
    assert!(!lab.folder().exists());

    let mut forgotten = Lab::start_with(&["-life", "1s"], Stdio::piped());
    forgotten.wait_ended();
    assert!(!forgotten.folder().exists());
}

#[test]
#[ignore = "needs the lab (tests/lab/build)"]
fn dropping_the_lab_ends_it() {
    let lab = Lab::start();
    let folder = lab.folder();
    let processes = ["lab", "tailscaled"].map(|of| lab.pid(of).expect("it runs"));
    assert!(processes.iter().all(|pid| is_of(*pid, &folder)), "both run");
    drop(lab);
    poll(SOON, "its processes end", || !processes.iter().any(|pid| is_of(*pid, &folder)));
}

fn pid(lab: &Lab, of: &str) -> Pid {
    Pid::from_raw(lab.pid(of).expect("it runs").cast_signed()).expect("a process id")
}
