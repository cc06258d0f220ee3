//! What everybody may ask Docker about the containers: how little they may do, and no secret.

use serde_json::{Value, json};

use super::stack::{Stack, docker};

/// Asserts of each container that it may do next to nothing, and shows nothing. `recipients` is where their port is published.
pub(super) fn are_hardened(stack: &Stack, services: &[&str], recipients: &str) {
    for service in services {
        is_hardened(stack, service);
    }
    let published = docker(&["port", "portcullis-net-1"]);
    assert_eq!(published, format!("8000/tcp -> 127.0.0.1:8000\n8001/tcp -> {recipients}:8001"));
    let ids = docker(&["ps", "-aq"]);
    assert_eq!(ids.lines().count(), services.len(), "all are named: {ids}");
    let logs = stack.logs();
    for (name, secret) in &stack.secrets {
        assert!(!logs.contains(secret.as_str()), "{name} is in a log");
    }
}

fn is_hardened(stack: &Stack, service: &str) {
    let shown = stack.inspect(service);
    let host = &shown["HostConfig"];
    // See compose.yaml: it stands for a system call, and no process has it.
    let added = if service == "portcullis" { json!(["CAP_SYS_PTRACE"]) } else { Value::Null };
    for (field, expected) in [
        ("ReadonlyRootfs", json!(true)),
        ("CapDrop", json!(["ALL"])),
        ("CapAdd", added),
        ("SecurityOpt", json!(["no-new-privileges:true"])),
        ("Privileged", json!(false)),
    ] {
        assert_eq!(host[field], expected, "{service}: {field}");
    }
    assert_eq!(shown["Config"]["User"], "10001:10001", "{service}");
    assert!(host["Memory"].as_i64().is_some_and(|bytes| bytes > 0) && host["PidsLimit"].as_i64().is_some_and(|most| most > 0), "{service}");
    let mounts = shown["Mounts"].as_array().unwrap();
    assert!(mounts.iter().all(|mount| !mount["Source"].as_str().unwrap_or_default().contains("docker.sock")), "{service}: {mounts:?}");
    let writable = |mount: &&Value| mount["Type"] == "bind" && mount["RW"] != false;
    assert!(!mounts.iter().any(|mount| writable(&mount)), "{service}: nothing of the machine can be written: {mounts:?}");
    assert!(service == "net" || host["PortBindings"].as_object().is_none_or(|ports| ports.is_empty()), "{service}");
    let text = shown.to_string();
    for (name, secret) in &stack.secrets {
        assert!(!text.contains(secret.as_str()), "{service} shows {name}");
    }
    if shown["State"]["Running"] == true {
        has_no_rights(stack, service);
        if service != "net" {
            assert_eq!(shown["State"]["Health"]["Status"], "healthy", "{service}");
        }
    }
}

/// Asserts what the kernel says of its first process.
fn has_no_rights(stack: &Stack, service: &str) {
    let process = format!("/proc/{}", stack.pid(service));
    let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
    let of = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {status}")).trim();
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(of(set), "0000000000000000", "{service}: {set}");
    }
    assert_eq!((of("NoNewPrivs:"), of("Uid:")), ("1", "10001\t10001\t10001\t10001"), "{service}");
    let environment = String::from_utf8_lossy(&std::fs::read(format!("{process}/environ")).unwrap()).into_owned();
    for (name, secret) in &stack.secrets {
        assert!(!environment.contains(secret.as_str()), "{service} has {name} in its environment");
    }
}
