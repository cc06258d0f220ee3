//! That nginx takes every configuration that is printed, and needs nothing that a careful house does not give.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Child, Command, Stdio};

use portcullis::delivery::Bounds;
use portcullis::delivery::nginx::AccessLog;
use portcullis::delivery::nginx::site::Site;

use rustix::process::{Pid, Signal, kill_process};

use super::{Double, Nginx, folder, key, program, site, user};
use crate::harness::{PATIENCE, free_port, poll};

/// Asks nginx whether it takes a configuration.
#[track_caller]
fn check(text: &str, what: &str) {
    let folder = folder();
    let file = folder.path().join("nginx.conf");
    fs::write(&file, text).unwrap();
    let said = Command::new(program()).args(["-e", "stderr", "-t", "-q", "-c"]).arg(&file).output().unwrap();
    let said_so = String::from_utf8_lossy(&said.stderr).into_owned();
    let troubles: Vec<&str> =
        said_so.lines().filter(|line| ["[warn]", "[emerg]", "[alert]"].iter().any(|level| line.contains(level))).collect();
    // What the machine allows is another matter.
    let troubles: Vec<&str> = troubles.into_iter().filter(|line| !line.contains("open file resource limit")).collect();
    assert!(said.status.success() && troubles.is_empty(), "{what}: {said_so}\n{text}");
}

#[test]
fn nginx_takes_both_forms_for_all_kinds_of_settings() {
    let folder = folder();
    let run = folder.path().join("a run folder; \"quoted\" { }");
    fs::create_dir(&run).unwrap();
    let plain = site(folder.path(), "127.0.0.1:8002".parse().unwrap());
    let changes: &[fn(&mut Site)] = &[
        |_| (),
        |site| site.root = "/".into(),
        |site| site.root = "/nowhere at all/a;b{c}d#e'f\"g\\h/caf\u{e9}".into(),
        |site| site.access_log = AccessLog::File("/tmp/a log; {\"}\\.log".into()),
        |site| site.access_log = AccessLog::Syslog("/run/portcullis/nginx.sock".into()),
        |site| site.access_log = AccessLog::Syslog("/nowhere at all/a socket: caf\u{e9}; {\"}\\.sock".into()),
        |site| site.listen = SocketAddr::new("::1".parse().unwrap(), site.listen.port()),
        |site| site.listen = SocketAddr::new("::".parse().unwrap(), site.listen.port()),
        |site| site.listen = SocketAddr::new("0.0.0.0".parse().unwrap(), site.listen.port()),
        |site| site.upstream = "[2001:db8::1]:80".parse().unwrap(),
        |site| {
            site.forwarders = ["10.0.0.0/8", "10.0.0.0/8", "10.1.0.0/16", "::1", "127.0.0.1", "::ffff:192.0.2.0/120"]
                .map(|text| text.parse().unwrap())
                .into()
        },
        |site| site.forwarders = ["0.0.0.0/0", "::/0"].map(|text| text.parse().unwrap()).into(),
        |site| site.bounds = Bounds { connections: 1, connections_per_address: 1 },
        |site| site.bounds = Bounds { connections: 60_000, connections_per_address: 60_000 },
        |site| site.bounds = Bounds { connections: 1_000_000, connections_per_address: 1_000_000 },
    ];
    for (n, change) in changes.iter().enumerate() {
        let mut site = plain.clone();
        change(&mut site);
        check(&site.standalone(&key(), &run).unwrap(), &format!("{n}, alone"));
        let within = format!("pid \"{}/pid\";\nevents {{ }}\nhttp {{\n{}\n}}", folder.path().display(), site.conf(&key()).unwrap());
        check(&within, &format!("{n}, with others"));
    }
}

#[test]
fn the_command_prints_what_nginx_takes_and_says_where_to_put_it() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let printed = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.env_clear().arg("nginx-config").arg(at("nas")).arg("--state-dir").arg(at("state")).arg("--nginx-access-log").arg(at("log"));
        let said = command.args(["--recipient-listen", "127.0.0.1:18001"]).args(more).output().unwrap();
        (said.status.code(), String::from_utf8(said.stdout).unwrap(), String::from_utf8(said.stderr).unwrap())
    };
    let (code, text, hint) = printed(&[]);
    assert_eq!((code, hint.lines().count()), (Some(0), 1), "{hint}");
    assert!(hint.contains("/etc/nginx/conf.d/portcullis.conf") && hint.contains("DELIVERY=nginx"), "{hint}");
    let run = at("run");
    let (code, whole, hint) = printed(&["--standalone", "--run-dir", run.to_str().unwrap(), "--delivery", "nginx"]);
    assert_eq!((code, hint.lines().count()), (Some(0), 1), "{hint}");
    assert!(hint.contains("nginx -e stderr -c FILE") && !hint.contains("DELIVERY"), "{hint}");
    check(&whole, "as it is printed");
    let file = at("kept.conf");
    for _ in 0..2 {
        let (code, nothing, hint) = printed(&["--standalone", "--run-dir", run.to_str().unwrap(), "--to", file.to_str().unwrap()]);
        assert_eq!((code, nothing, hint), (Some(0), String::new(), format!("Wrote {}.\n", file.display())));
        assert_eq!(fs::read_to_string(&file).unwrap(), whole);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    // The key is made once: it is the same text each time.
    assert_eq!(printed(&[]).1, text);
    let proof = |text: &str| text.lines().find(|line| line.contains("X-Portcullis-Nginx")).unwrap().trim().to_owned();
    assert_eq!(proof(&text), proof(&whole));
    for (flags, word) in [
        (&["--nginx-upstream", "127.0.0.1:18001"][..], "NGINX_UPSTREAM: it has the port of RECIPIENT_LISTEN"),
        (&["--tunnel", "tailscale"], "DELIVERY: it is nginx, and with TUNNEL=tailscale"),
        (&["--nginx-access-log", "/srv/$x/log"], "dollar sign"),
    ] {
        // The last flag wins nowhere: each is given once.
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.env_clear().arg("nginx-config").arg("--state-dir").arg(at("state")).args(["--recipient-listen", "127.0.0.1:18001"]);
        let said = command.args(flags).output().unwrap();
        let sentence = String::from_utf8(said.stderr).unwrap();
        assert!(!said.status.success() && said.stdout.is_empty() && sentence.contains(word), "{sentence}");
    }
}

#[test]
fn check_finds_nginx_and_its_log_before_the_server_runs() {
    let nginx = Nginx::start(Double::of_files());
    let (listen, folder) = (nginx.address.to_string(), nginx.folder.path().to_owned());
    let check = |log: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.env_clear().arg("check").arg(folder.join("nas")).arg("--state-dir").arg(folder.join("state"));
        command.args(["--delivery", "nginx", "--owner-listen", "127.0.0.1:0", "--recipient-listen", &listen]);
        let said = command.arg("--nginx-access-log").arg(folder.join(log)).output().unwrap();
        String::from_utf8(said.stdout).unwrap()
    };
    let found = |said: &str, sentence: &str| assert!(said.contains(sentence), "{sentence}: {said}");
    let said = check("access.log");
    found(&said, &format!("ok     RECIPIENT_LISTEN: nginx keeps silent on {listen}"));
    found(&said, "ok     NGINX_ACCESS_LOG: what nginx writes is read from");
    fs::write(folder.join("another.log"), "").unwrap();
    found(&check("another.log"), "WRONG  NGINX_ACCESS_LOG: nginx wrote no line of ours into");
    assert!(nginx.double.asked().is_empty(), "nothing behind nginx hears of it");
    drop(nginx);
    found(&check("access.log"), &format!("WRONG  RECIPIENT_LISTEN: nobody listens on {listen}"));
}

#[test]
fn check_listens_itself_for_lines_that_come_by_syslog() {
    let folder = folder();
    let path = folder.path().join("nginx.sock");
    let nginx = Nginx::with(Double::of_files(), |site| site.access_log = AccessLog::Syslog(path.clone()));
    let listen = nginx.address.to_string();
    let check = |name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.env_clear().arg("check").arg(nginx.folder.path().join("nas")).arg("--state-dir").arg(folder.path().join("state"));
        command.args(["--delivery", "nginx", "--owner-listen", "127.0.0.1:0", "--recipient-listen", &listen]);
        let said = command.arg(format!("--nginx-access-log=syslog:{}", folder.path().join(name).display())).output().unwrap();
        String::from_utf8(said.stdout).unwrap()
    };
    let found = |said: &str, sentence: &str| assert!(said.contains(sentence), "{sentence}: {said}");
    for _ in 0..3 {
        // From the second time on nginx's workers write to a socket that is gone, and see it by a line that is lost.
        let said = check("nginx.sock");
        found(&said, &format!("ok     RECIPIENT_LISTEN: nginx keeps silent on {listen}"));
        found(&said, "ok     NGINX_ACCESS_LOG: what nginx writes comes to ");
        assert!(!path.exists(), "it leaves nothing behind");
    }
    let kept: u64 = fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").unwrap().trim().parse().unwrap();
    assert_eq!(check("nginx.sock").contains(&format!("the kernel keeps no more than {kept} lines")), kept < 512);
    found(&check("another.sock"), "WRONG  NGINX_ACCESS_LOG: nginx wrote no line of ours into syslog:");
    fs::write(&path, "precious").unwrap();
    let said = check("nginx.sock");
    found(&said, "cannot be listened on (what stands there is no socket");
    found(&said, &format!("ok     RECIPIENT_LISTEN: nginx keeps silent on {listen}"));
    assert!(nginx.double.asked().is_empty(), "nothing behind nginx hears of it");
}

/// A server, until it is dropped.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn settings_that_are_read_anew_are_settings_of_nginxs_too() {
    let folder = folder();
    let (owner, recipient, upstream) = (free_port(), free_port(), free_port());
    fs::create_dir(folder.path().join("state")).unwrap();
    let set = |per_address: u32| {
        let text = format!("delivery = \"nginx\"\nauth = \"none\"\nmax_connections_per_address = {per_address}\n");
        fs::write(folder.path().join("state/portcullis.toml"), text).unwrap();
    };
    set(64);
    let command = |name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command
            .env_clear()
            .env("LOG", "error")
            .arg(name)
            .arg(folder.path().join("nas"))
            .arg("--state-dir")
            .arg(folder.path().join("state"));
        command.arg("--nginx-access-log").arg(folder.path().join("access.log")).arg(format!("--owner-listen=127.0.0.1:{owner}"));
        command.arg(format!("--recipient-listen=127.0.0.1:{recipient}")).arg(format!("--nginx-upstream=127.0.0.1:{upstream}"));
        command
    };
    let printed = || {
        let said = command("nginx-config").arg("--standalone").arg("--run-dir").arg(folder.path().join("run")).output().unwrap();
        String::from_utf8(said.stdout).unwrap()
    };
    let text = printed();
    let site =
        Site { listen: SocketAddr::from(([127, 0, 0, 1], recipient)), ..site(folder.path(), SocketAddr::from(([127, 0, 0, 1], upstream))) };
    let nginx = Nginx::run(Double::of_files(), super::folder(), &site, &text, &mut Command::new(program()));
    let server = Serving(command("serve").stderr(Stdio::null()).spawn().unwrap());
    let nginx_stands = |sentence: &str| {
        let told = || {
            let mut stream = TcpStream::connect(("127.0.0.1", owner)).ok()?;
            write!(stream, "GET /health HTTP/1.1\r\nHost: 127.0.0.1:{owner}\r\nConnection: close\r\n\r\n").ok()?;
            let mut said = String::new();
            stream.read_to_string(&mut said).ok()?;
            Some(said)
        };
        poll(PATIENCE, sentence, || told().is_some_and(|said| said.contains(sentence)));
    };
    nginx_stands("nginx answers with the configuration of now");
    set(65);
    kill_process(Pid::from_child(&server.0), Signal::HUP).unwrap();
    nginx_stands("nginx runs with another configuration");
    fs::write(nginx.folder.path().join("nginx.conf"), user().to_owned() + &printed()).unwrap();
    kill_process(Pid::from_child(&nginx.process), Signal::HUP).unwrap();
    nginx_stands("nginx answers with the configuration of now");
}

/// Whether this machine lets a test change what it sees of the file system.
fn may_mount() -> bool {
    let tried = Command::new("unshare").args(["--mount", "mount", "-o", "bind", "/tmp", "/tmp"]).output();
    rustix::process::geteuid().is_root() && tried.is_ok_and(|said| said.status.success())
}

#[test]
fn it_runs_without_a_privilege_and_writes_to_no_other_place() {
    const NOBODY: u32 = 65_534;
    let double = Double::of_files();
    let folder = folder();
    let mut site = site(folder.path(), double.address);
    site.access_log = AccessLog::File(folder.path().join("log/access.log"));
    fs::create_dir(folder.path().join("log")).unwrap();
    let text = site.standalone(&key(), &folder.path().join("run")).unwrap();
    let mut command = if may_mount() {
        for name in ["run", "log"] {
            chown(folder.path().join(name), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let script = "cd / && for place in run log; do mount --bind \"$0/$place\" \"$0/$place\"; done && mount -o remount,bind,ro /tmp 2>/dev/null; \
            mount -o remount,bind,ro / && exec setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set -all --no-new-privs \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(folder.path()).arg(program());
        command
    } else {
        // Who is nobody already may do no more.
        Command::new(program())
    };
    let nginx = Nginx::run(double, folder, &site, &text, &mut command);
    nginx.put("film.mkv", b"0123456789");
    assert_eq!(nginx.ask("GET", "/part/film.mkv", "").body(), b"0123456789");
    assert_eq!(nginx.post("/redeem", &"x".repeat(1000)).body(), b"/redeem");
    assert_eq!(nginx.log(2).len(), 2);
    if may_mount() {
        let status = fs::read_to_string(format!("/proc/{}/status", nginx.process.id())).unwrap();
        for line in ["Uid:\t65534\t65534\t65534\t65534", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"] {
            assert!(status.contains(line), "{line}: {status}");
        }
        let root = fs::read_to_string(format!("/proc/{}/mountinfo", nginx.process.id())).unwrap();
        assert!(
            root.lines().any(|line| line.split(' ').nth(4) == Some("/") && line.split(' ').nth(5).unwrap().starts_with("ro")),
            "{root}"
        );
    }
}
