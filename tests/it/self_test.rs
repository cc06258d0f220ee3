//! The self-test: the whole way is tried, what is wrong with it is told, and nothing stays open, whatever happens.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{BROWSER, Client, SOON, Server, Setup, free_port, is_behind_nginx, poll, put};

/// Every step, in order.
const STEPS: [&str; 8] = ["made", "opened", "page", "redeemed", "fetched", "counted", "closed", "refused"];

fn run(server: &Server) -> Value {
    server.api("POST", "/api/v1/self-test", None).expect_status(200).json()
}

/// Returns the steps that were taken, and the first problem.
fn steps(verdict: &Value) -> (Vec<&str>, Option<(&str, &str)>) {
    let steps = verdict["steps"].as_array().unwrap_or_else(|| panic!("no steps: {verdict:#}"));
    let failed = steps.iter().find(|step| step["ok"] == false);
    for step in steps {
        assert_eq!(step["ok"] == false, step["problem"].is_string(), "{step}");
        assert!(step["duration_ms"].as_u64().is_some(), "{step}");
    }
    let taken = steps.iter().map(|step| step["name"].as_str().unwrap()).collect();
    (taken, failed.map(|step| (step["name"].as_str().unwrap(), step["problem"].as_str().unwrap())))
}

/// Returns the ids of all shares that the event log knows, self-tests too.
fn shares_of_the_log(server: &Server) -> Vec<String> {
    let events = server.api("GET", "/api/v1/events?type=share.created", None).expect_status(200).json();
    events["events"].as_array().unwrap().iter().map(|event| event["share"].as_str().unwrap().to_owned()).collect()
}

/// Expects that nothing is open, in any list or beside it.
#[track_caller]
fn expect_nothing_open(server: &Server) {
    for id in shares_of_the_log(server) {
        assert_eq!(server.show(&id)["state"], "closed", "share {id}");
    }
}

/// Stands where links lead, passes so many requests on to the recipient side, and lets the next one hang. Tells the heads of all.
fn hangs_after(requests: usize, to: SocketAddr) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (address, (tell, told)) = (listener.local_addr().unwrap(), mpsc::channel());
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for (index, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                head.push(byte[0]);
            }
            if tell.send(String::from_utf8(head.clone()).unwrap()).is_err() {
                return;
            }
            if index >= requests {
                kept.push(stream);
                continue;
            }
            let mut onward = TcpStream::connect(to).unwrap();
            onward.write_all(&head).unwrap();
            // Either end may be gone.
            let _ = std::io::copy(&mut onward, &mut stream);
        }
    });
    (address, told)
}

/// Stands where links lead, passes requests on to the recipient side, and answers a POST with a redirect.
fn leads_away(to: SocketAddr, location: String) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                head.push(byte[0]);
            }
            if head.starts_with(b"POST ") {
                let answer = format!("HTTP/1.1 303 See Other\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes());
                continue;
            }
            let mut onward = TcpStream::connect(to).unwrap();
            onward.write_all(&head).unwrap();
            // Either end may be gone.
            let _ = std::io::copy(&mut onward, &mut stream);
        }
    });
    address
}

#[test]
fn a_self_test_goes_the_whole_way_and_leaves_nothing_open() {
    let server = Setup::new().start();
    let verdict = run(&server);
    assert_eq!(steps(&verdict), (STEPS.to_vec(), None), "{verdict:#}");
    assert_eq!((&verdict["passed"], &verdict["by"]), (&json!(true), &json!("public")));
    // Where nginx passes the byte on, it alone knows more than that it was handed over, and nothing was sent by it from the NAS.
    assert_eq!(verdict["evidence"], if is_behind_nginx() { "handed_over" } else { "acknowledged" });
    assert_eq!(verdict["note"].is_string(), is_behind_nginx(), "{}", verdict["note"]);
    expect_nothing_open(&server);
    let [id] = &shares_of_the_log(&server)[..] else { panic!("there is one share") };
    let share = server.show(id);
    assert_eq!((&share["outcome"], &share["size_bytes"], &share["progress"]["percent"]), (&json!("revoked"), &json!(1), &json!(100)));
    let audit = server.api("GET", "/api/v1/audit", None).expect_status(200).json();
    let lines: Vec<_> = audit["lines"].as_array().unwrap().iter().map(|line| (&line["action"], &line["target"])).collect();
    assert_eq!(lines, [(&json!("self_test.run"), &json!(id))]);
    // Once more: nothing of the first is in the way.
    assert_eq!(run(&server)["passed"], true);
}

#[test]
fn a_self_test_is_no_share_of_an_owners() {
    let server = Setup::new().set("SHOW_HIDDEN", "true").start();
    put(&server, "film.mkv", 1000);
    assert_eq!(run(&server)["passed"], true);
    let offer = server.share("film.mkv");
    server.revoke(&offer.id);
    assert_eq!(server.outcome(&offer.id), "revoked");
    for (list, expected) in
        [("/api/v1/shares", 1), ("/api/v1/history", 1), ("/api/v1/history?outcome=revoked", 1), ("/api/v1/history?query=self", 0)]
    {
        let answer = server.api("GET", list, None).expect_status(200).json();
        assert_eq!(answer["shares"].as_array().unwrap().len(), expected, "{list}: {answer:#}");
    }
    let stats = server.api("GET", "/api/v1/stats", None).expect_status(200).json();
    assert_eq!((&stats["shares"]["made"], &stats["transfers"]["redeemed"], &stats["top_files"]), (&json!(1), &json!(0), &json!([])));
    assert_eq!(server.api("GET", "/admin/history", None).json()["count"], 1);
    // Its byte is no file that an owner could share, find, or offer once more.
    let path = ".portcullis/self-test.txt";
    server.api("POST", "/api/v1/shares", Some(&json!({ "path": path }))).expect_status(404);
    server.api("GET", &format!("/api/v1/files/{path}"), None).expect_status(404);
    let of_test = shares_of_the_log(&server).into_iter().find(|id| *id != offer.id).unwrap();
    server.api("POST", &format!("/api/v1/shares/{of_test}/reopen"), None).expect_status(404);
}

#[test]
fn links_that_lead_to_nobody_fail_at_their_page_and_the_share_is_closed() {
    let nobody = free_port();
    let server = Setup::new().set("BASE_URL", format!("http://127.0.0.1:{nobody}")).start();
    let verdict = run(&server);
    let (taken, failed) = steps(&verdict);
    assert_eq!((taken, &verdict["passed"]), (vec!["made", "opened", "page", "closed"], &json!(false)), "{verdict:#}");
    let (step, problem) = failed.unwrap();
    assert_eq!(step, "page");
    assert!(problem.starts_with(&format!("Nobody answers at 127.0.0.1:{nobody}, where links lead; is BASE_URL right")), "{problem}");
    expect_nothing_open(&server);
}

#[test]
fn links_that_lead_to_somebody_else_fail_at_their_page() {
    let setup = Setup::new();
    // The owner's own port, as a wrong forwarding has it.
    let wrong = setup.owner;
    let server = setup.set("BASE_URL", format!("http://{wrong}")).start();
    let verdict = run(&server);
    let (taken, failed) = steps(&verdict);
    assert_eq!(taken, ["made", "opened", "page", "closed", "refused"][..4], "{verdict:#}");
    assert!(failed.is_some_and(|(step, problem)| step == "page" && problem.contains("what stands before Portcullis")), "{verdict:#}");
    expect_nothing_open(&server);
}

#[test]
fn a_self_test_is_not_led_to_another_host() {
    let setup = Setup::new();
    // What only this machine reaches.
    let within = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    within.set_nonblocking(true).unwrap();
    let at = leads_away(setup.recipient, format!("http://{}/secret", within.local_addr().unwrap()));
    let server = setup.set("BASE_URL", format!("http://{at}")).start();
    let verdict = run(&server);
    let (taken, failed) = steps(&verdict);
    assert_eq!(taken, ["made", "opened", "page", "redeemed", "closed", "refused"], "{verdict:#}");
    assert!(failed.is_some_and(|(step, problem)| step == "redeemed" && problem.contains("another address")), "{verdict:#}");
    let asked = within.accept().map(|(_, from)| from);
    assert!(asked.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "{asked:?}");
    expect_nothing_open(&server);
}

#[test]
fn a_second_self_test_is_refused_while_one_runs_and_ends_by_itself() {
    let setup = Setup::new();
    let (at, heads) = hangs_after(0, setup.recipient);
    let server = setup.set("BASE_URL", format!("http://{at}")).start();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| run(&server));
        heads.recv_timeout(SOON).expect("the page is asked for");
        let problem = server.api("POST", "/api/v1/self-test", None).expect_status(409).json();
        assert_eq!(problem["code"], "self_test_running");
        let verdict = first.join().unwrap();
        assert!(steps(&verdict).1.is_some_and(|(step, problem)| step == "page" && problem.contains("gives no answer")), "{verdict:#}");
    });
    expect_nothing_open(&server);
}

#[test]
fn whoever_hangs_up_leaves_nothing_open() {
    let setup = Setup::new();
    let (at, heads) = hangs_after(0, setup.recipient);
    let server = setup.set("BASE_URL", format!("http://{at}")).start();
    let mut client = Client::connect(server.owner);
    client.ask("POST", "/api/v1/self-test", &[&format!("Authorization: Bearer {}", server.token), "Content-Length: 0"]);
    heads.recv_timeout(SOON).expect("the page is asked for");
    client.reset();
    let [id] = &shares_of_the_log(&server)[..] else { panic!("there is one share") };
    poll(Duration::from_secs(40), "it is closed", || server.show(id)["state"] == "closed");
}

#[test]
fn a_kill_in_the_middle_leaves_nothing_open() {
    // At the page, at the button, at the byte.
    for passed_on in 0..3 {
        let setup = Setup::new();
        let (recipient, (at, heads)) = (setup.recipient, hangs_after(passed_on, setup.recipient));
        let mut server = setup.set("BASE_URL", format!("http://{at}")).start();
        let heard: Vec<String> = std::thread::scope(|scope| {
            // Its connection breaks with the server.
            let asking = format!("Authorization: Bearer {}", server.token);
            let owner = server.owner;
            scope.spawn(move || Client::connect(owner).request("POST", "/api/v1/self-test", &[&asking, "Content-Length: 0"]));
            let heard = (0..=passed_on).map(|_| heads.recv_timeout(SOON).expect("it is asked for")).collect();
            server.kill();
            heard
        });
        server.set("BASE_URL", format!("http://{recipient}"));
        server.start();
        assert_eq!(server.log_text().matches("Closed what was left of a self-test").count(), 1);
        expect_nothing_open(&server);
        for head in &heard {
            let path = head.split(' ').nth(1).unwrap();
            for method in ["GET", "POST"] {
                let answer = server.fetch(method, path, &[BROWSER]);
                assert!(answer.is_none_or(|answer| answer.status == 410), "{passed_on}: {method} {path}");
            }
        }
        assert_eq!(run(&server)["passed"], true, "and the next one passes");
    }
}

#[test]
fn the_command_prints_each_step_and_says_by_its_code_whether_all_were_taken() {
    let mut server = Setup::new().start();
    let output = server.command().args(["self-test"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    for step in STEPS {
        assert!(text.lines().any(|line| line.starts_with(step) && line.contains("ok")), "{step}:\n{text}");
    }
    server.kill();
    server.set("BASE_URL", format!("http://127.0.0.1:{}", free_port()));
    server.start();
    let output = server.command().args(["self-test", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdict["passed"], false);
}
