use super::*;
use crate::meter::access_log;

fn site() -> Site {
    Site {
        listen: "0.0.0.0:8001".parse().unwrap(),
        upstream: "127.0.0.1:8002".parse().unwrap(),
        root: "/srv/nas".into(),
        access_log: AccessLog::File("/var/log/nginx/portcullis.log".into()),
        forwarders: Vec::new(),
        bounds: Bounds { connections: 4096, connections_per_address: 64 },
    }
}

fn key() -> SiteKey {
    SiteKey::of("a secret of the state folder's")
}

fn conf_of(change: impl FnOnce(&mut Site)) -> Result<String, Unwritable> {
    let mut site = site();
    change(&mut site);
    site.conf(&key())
}

/// Returns the placeholders of a text.
fn placeholders(text: &str) -> BTreeSet<&str> {
    let is_name = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    text.split('@').skip(1).filter(is_name).collect()
}

#[test]
fn every_placeholder_is_filled_and_none_is_left() {
    for template in [RECIPIENT_CONF, NGINX_CONF] {
        assert!(!placeholders(template).is_empty());
    }
    let site = Site { forwarders: vec!["10.0.0.0/8".parse().unwrap()], ..site() };
    for text in [site.conf(&key()).unwrap(), site.standalone(&key(), Path::new("/run/portcullis")).unwrap()] {
        assert_eq!(placeholders(&text), BTreeSet::new());
        for line in [
            "server 127.0.0.1:8002;",
            "listen 0.0.0.0:8001 default_server sndbuf=256k so_keepalive=30s:10s:3;",
            "access_log \"/var/log/nginx/portcullis.log\" portcullis;",
            "alias \"/srv/nas/\";",
            "disable_symlinks on \"from=/srv/nas/\";",
            "10.0.0.0/8 1;",
            "set_real_ip_from 10.0.0.0/8;",
            "limit_conn portcullis_all 4096;",
            "limit_conn portcullis_visitors 64;",
            "zone=portcullis_visitors:1088k;",
            "zone=portcullis_requests:4m rate=256r/s;",
            "limit_req zone=portcullis_requests burst=512 nodelay;",
        ] {
            assert!(text.lines().any(|there| there.trim().ends_with(line)), "{line}\n{text}");
        }
    }
    let whole = site.standalone(&key(), Path::new("/run/portcullis")).unwrap();
    for line in ["pid \"/run/portcullis/nginx.pid\";", "    worker_connections 8256;", "worker_rlimit_nofile 16512;"] {
        assert!(whole.lines().any(|there| there == line), "{line}\n{whole}");
    }
}

#[test]
fn the_log_is_written_as_it_is_read() {
    let format: String =
        ACCESS_LOG_CONF.lines().filter(|line| line.starts_with(' ')).map(|line| line.trim().trim_matches([';', '\''])).collect();
    assert_eq!(format, access_log::FORMAT);
    assert!(conf_of(|_| ()).unwrap().contains(ACCESS_LOG_CONF.trim_end()));
}

#[test]
fn lines_go_to_a_socket_where_that_is_set() {
    for (path, expected) in
        [("/run/portcullis/nginx.sock", "/run/portcullis/nginx.sock"), ("/a socket; \"{}\"\\.sock", r#"/a socket; \"{}\"\\.sock"#)]
    {
        let conf = conf_of(|site| site.access_log = AccessLog::Syslog(path.into())).unwrap();
        let line = format!("    access_log \"syslog:server=unix:{expected},nohostname,tag=portcullis\" portcullis;");
        assert!(conf.lines().any(|there| there == line), "{line}\n{conf}");
    }
    let refused = conf_of(|site| site.access_log = AccessLog::Syslog("/run/$HOME".into())).unwrap_err();
    assert!(refused.to_string().contains("dollar sign"), "{refused}");
}

#[test]
fn a_slice_is_as_long_as_is_counted() {
    use super::super::slices::SLICE_BYTES;
    assert!(RECIPIENT_CONF.lines().any(|line| line.trim() == format!("slice {}m;", SLICE_BYTES / (1024 * 1024))));
}

#[test]
fn nothing_that_an_advisory_warns_of_is_in_it() {
    for template in [RECIPIENT_CONF, NGINX_CONF] {
        let directives = template.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        for line in directives {
            // Heap overflows of the rewrite module need these; captures come with regular expressions.
            assert!(!["rewrite ", "set ", "location ~", "mp4", "dav_"].iter().any(|bad| line.starts_with(bad)), "{line}");
            assert!(!line.contains('~') && !line.contains("http2"), "{line}");
            if let Some(path) = line.strip_prefix("location /") {
                assert!(path.starts_with(" {") || path.trim_end_matches(" {").ends_with('/'), "{line}");
            }
            if line.starts_with("alias") {
                assert_eq!(line, "alias \"@ROOT@\";", "whose value ends with a slash");
            }
        }
    }
}

#[test]
fn a_folder_ends_with_one_slash() {
    for (root, expected) in
        [("/", "/"), ("/srv", "/srv/"), ("/srv/", "/srv/"), ("//srv//nas//", "/srv/nas/"), ("/srv/./nas/.", "/srv/nas/")]
    {
        let conf = conf_of(|site| site.root = root.into()).unwrap();
        assert_eq!(conf.matches(&format!("alias \"{expected}\";")).count(), 2, "{root}");
    }
}

#[test]
fn what_ends_a_quote_is_quoted_and_what_nginx_expands_is_refused() {
    for (root, expected) in [
        ("/srv/my films; { } # '", "/srv/my films; { } # '/"),
        ("/srv/a\"b", "/srv/a\\\"b/"),
        ("/srv/a\\b", "/srv/a\\\\b/"),
        ("/srv/caf\u{e9}/@PROOF@", "/srv/caf\u{e9}/@PROOF@/"),
    ] {
        let conf = conf_of(|site| site.root = root.into()).unwrap();
        assert!(conf.contains(&format!("alias \"{expected}\";")), "{root}: {conf}");
    }
    for (root, word) in [
        ("/srv/$HOME", "dollar sign"),
        ("/srv/a\nb", "control character"),
        ("/srv/a\u{7f}", "control character"),
        ("srv", "not absolute"),
        ("", "not absolute"),
    ] {
        for sentence in [
            conf_of(|site| site.root = root.into()).unwrap_err().to_string(),
            conf_of(|site| site.access_log = AccessLog::File(root.into())).unwrap_err().to_string(),
            site().standalone(&key(), Path::new(root)).unwrap_err().to_string(),
        ] {
            assert!(sentence.contains(word), "{sentence}");
        }
    }
    use std::os::unix::ffi::OsStringExt;
    let no_text = std::ffi::OsString::from_vec(b"/srv/\xff".to_vec());
    assert!(conf_of(|site| site.root = no_text.into()).unwrap_err().to_string().contains("not valid UTF-8"));
}

#[test]
fn addresses_are_written_as_nginx_means_them() {
    let listening = |address: &str| conf_of(|site| site.listen = address.parse().unwrap()).unwrap();
    assert!(listening("[::]:80").contains("listen [::]:80 default_server ipv6only=off sndbuf"));
    assert!(listening("[::1]:80").contains("listen [::1]:80 default_server sndbuf"));
    let asking = |address: &str| conf_of(|site| site.upstream = address.parse().unwrap()).unwrap();
    assert!(asking("0.0.0.0:82").contains("server 127.0.0.1:82;"));
    assert!(asking("[::]:82").contains("server [::1]:82;"));
    let no_port = "127.0.0.1:0".parse().unwrap();
    assert_eq!(conf_of(|site| site.listen = no_port), Err(Unwritable::NoPort(no_port)));
    assert_eq!(conf_of(|site| site.upstream = no_port), Err(Unwritable::NoPort(no_port)));
}

#[test]
fn without_a_forwarder_nobody_is_believed() {
    let conf = conf_of(|_| ()).unwrap();
    assert!(!conf.contains("set_real_ip_from") && !conf.contains("real_ip_header"), "{conf}");
    // The same networks in another order, or twice, are the same configuration.
    let of = |networks: &[&str]| Site { forwarders: networks.iter().map(|text| text.parse().unwrap()).collect(), ..site() }.digest();
    assert_eq!(of(&["10.0.0.0/8", "::1", "10.1.2.3/8"]), of(&["::1", "10.0.0.0/8"]));
    assert_ne!(of(&["10.0.0.0/8"]), of(&[]));
}

#[test]
fn a_proof_shows_which_configuration_it_is_and_that_it_was_made_here() {
    let conf = site().conf(&key()).unwrap();
    let proof =
        conf.lines().find_map(|line| line.trim().strip_prefix("proxy_set_header X-Portcullis-Nginx \"")?.strip_suffix("\";")).unwrap();
    assert_eq!(proof.len(), "v1..".len() + 16 + 32);
    assert_eq!(verify(proof.as_bytes(), &key()), Some(site().digest().unwrap()));
    assert_eq!(verify(proof.as_bytes(), &SiteKey::of("another")), None);
    assert_eq!(
        site().standalone(&key(), Path::new("/run/x")).unwrap().matches(proof).count(),
        2,
        "with each request for a page, and for a slice"
    );
    // Not one letter of it may differ.
    for at in 0..proof.len() {
        let mut other = proof.as_bytes().to_vec();
        other[at] ^= 1;
        assert_eq!(verify(&other, &key()), None, "{at}");
        assert_eq!(verify(&proof.as_bytes()[..at], &key()), None, "{at}");
    }
    for more in [format!("{proof}0"), format!(" {proof}"), proof.to_uppercase(), proof.replace("v1.", "v1..")] {
        assert_eq!(verify(more.as_bytes(), &key()), None, "{more}");
    }
}

#[test]
fn whatever_changes_makes_another_digest() {
    let changes: [fn(&mut Site); 7] = [
        |site| site.listen.set_port(1),
        |site| site.upstream.set_port(1),
        |site| site.root.push("x"),
        |site| site.access_log = AccessLog::Syslog("/var/log/nginx/portcullis.log".into()),
        |site| site.forwarders.push("10.0.0.1".parse().unwrap()),
        |site| site.bounds.connections += 1024,
        |site| site.bounds.connections_per_address += 1,
    ];
    let mut digests = vec![site().digest().unwrap().to_string()];
    for change in changes {
        let mut site = site();
        change(&mut site);
        digests.push(site.digest().unwrap().to_string());
    }
    assert_eq!(digests.iter().collect::<BTreeSet<_>>().len(), digests.len(), "{digests:?}");
}
