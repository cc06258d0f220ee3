//! Settings from flags, an environment and files; the mistakes they can hold.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use clap::{Args, FromArgMatches};
use proptest::prelude::*;

use super::*;

const GOOD_SECRET: &str = "b7e01c94d2a85f3366c1f0a49e5d7d20c3ab81ff";
const OTHER_SECRET: &str = "0f91ce7d83b24a6655d0e2b19c8f4a37d6be72aa";

fn read(variables: &[(&str, &str)]) -> Result<Config, Vec<Mistake>> {
    read_with(&[], variables)
}

fn read_with(flags: &[&str], variables: &[(&str, &str)]) -> Result<Config, Vec<Mistake>> {
    Config::read(&parse(flags).unwrap(), &environment_of(variables))
}

fn environment_of(variables: &[(&str, &str)]) -> Variables {
    variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect()
}

fn parse(flags: &[&str]) -> Result<Settings, clap::Error> {
    let command = Settings::augment_args(clap::Command::new("test").no_binary_name(true));
    Settings::from_arg_matches(&command.try_get_matches_from(flags)?)
}

/// The one mistake that these variables hold, as it is printed.
fn mistake(variables: &[(&str, &str)]) -> String {
    let mistakes = read(variables).expect_err("there is a mistake");
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    mistakes[0].to_string()
}

fn secret_file(content: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    file
}

#[test]
fn with_nothing_set_the_defaults_hold() {
    let config = read(&[]).unwrap();
    assert_eq!((config.root, config.state_dir), (PathBuf::from("/data"), PathBuf::from("./state")));
    assert_eq!((config.owner_listen.to_string(), config.recipient_listen.to_string()), ("0.0.0.0:8000".into(), "0.0.0.0:8001".into()));
    let limits = [config.limits.max_tunnel, config.limits.stall_timeout, config.limits.grace_period, config.drain];
    assert_eq!(limits.map(|limit| limit.as_secs()), [3600, 300, 3600, 30]);
    assert_eq!((config.auth, config.tunnel, config.delivery), (AuthMode::Token, TunnelKind::Direct, DeliveryKind::Embedded));
    assert_eq!((config.max_connections, config.max_connections_per_address), (4096, 64));
    assert_eq!((config.log.as_str(), config.log_format), ("info", LogFormat::Text));
    assert!(!config.show_hidden && config.colours && config.owner_tcp);
    assert!(config.base_url.is_none() && config.owner_token.is_none() && config.jwt_secrets.is_empty());
    assert!(config.owner_hosts.is_empty() && config.trusted_proxies.is_empty());
    assert_eq!(config.retention, Some(Duration::from_secs(365 * 24 * 3600)));
    assert!(config.file.is_none() && config.doubts.is_empty());
}

#[test]
fn env_example_tells_of_every_setting_as_it_is() {
    assert_eq!(include_str!("../../env.example"), env_example(), "write env_example() into env.example");
}

#[test]
fn a_flag_wins_over_its_variable_and_an_empty_value_is_none() {
    let config = read_with(&["--state-dir", "/a", "--log="], &[("STATE_DIR", "/b"), ("LOG", "debug"), ("BASE_URL", "")]).unwrap();
    assert_eq!((config.state_dir, config.log.as_str(), config.base_url), (PathBuf::from("/a"), "debug", None));
}

#[test]
fn every_setting_but_a_secret_has_a_flag() {
    for setting in SETTINGS {
        let flag = match setting.name {
            // What every program calls it.
            "CONFIG_FILE" => "--config".to_owned(),
            name => format!("--{}", name.to_lowercase().replace('_', "-")),
        };
        let given = parse(&[&format!("{flag}=x")]);
        assert_eq!(given.is_ok(), setting.file_name().is_none(), "{flag}");
        if let Some(file) = setting.file_name() {
            let given = parse(&[&format!("{flag}-file=x")]).unwrap();
            assert_eq!(given.flag(file).unwrap(), "x");
        }
    }
}

#[test]
fn a_switch_needs_no_value() {
    assert!(read_with(&["--show-hidden"], &[]).unwrap().show_hidden);
    assert!(!read_with(&["--show-hidden=no"], &[("SHOW_HIDDEN", "1")]).unwrap().show_hidden);
    assert_eq!(mistake(&[("SHOW_HIDDEN", "maybe")]), "SHOW_HIDDEN: \"maybe\" is neither true nor false");
}

#[test]
fn every_mistake_is_told_at_once() {
    let mistakes = read(&[
        ("OWNER_LISTEN", "8000"),
        ("BASE_URL", "files.example.org"),
        ("JWT_SECRET", "short"),
        ("MAX_TUNNEL_SECONDS", "0"),
        ("TUNNEL", "carrier-pigeon"),
        ("TRUSTED_PROXIES", "10.0.0.0/8, nginx"),
        ("REDIS_URL", "http://cache"),
    ])
    .unwrap_err();
    let names: Vec<_> = mistakes.iter().map(|mistake| mistake.name.as_ref()).collect();
    let expected = ["MAX_TUNNEL_SECONDS", "OWNER_LISTEN", "BASE_URL", "JWT_SECRET", "TUNNEL", "TRUSTED_PROXIES", "REDIS_URL"];
    assert_eq!(names, expected);
}

#[test]
fn numbers_have_bounds() {
    for (name, least, most) in [
        ("MAX_TUNNEL_SECONDS", 1, 31_536_000),
        ("STALL_TIMEOUT_SECONDS", 1, 86_400),
        ("GRACE_PERIOD_SECONDS", 0, 604_800),
        ("DRAIN_SECONDS", 0, 3600),
        ("MAX_CONNECTIONS", 1, 1_000_000),
        ("MAX_CONNECTIONS_PER_ADDRESS", 1, 1_000_000),
        ("RETENTION_DAYS", 0, 36_500),
    ] {
        for good in [least, most] {
            assert!(read(&[(name, &good.to_string())]).is_ok(), "{name}={good}");
        }
        let wrong =
            [(least - 1_i64).to_string(), (most + 1).to_string(), "99999999999999999999".into(), "1e3".into(), "+5".into(), "5s".into()];
        for wrong in wrong {
            let expected = format!("{name}: {wrong:?} is not allowed; it must be a whole number from {least} to {most}");
            assert_eq!(mistake(&[(name, &wrong)]), expected);
        }
    }
}

#[test]
fn only_known_words_are_taken() {
    assert_eq!(mistake(&[("AUTH", "None")]), "AUTH: \"None\" is not known; use token or none");
}

#[test]
fn a_redis_is_named_by_one_setting_and_the_others_say_how_it_is_used() {
    let redis = |variables: &[(&str, &str)]| read(variables).unwrap().redis.unwrap();
    assert!(read(&[]).unwrap().redis.is_none());
    let one = redis(&[("REDIS_URL", "redis://:s3cret@cache")]);
    assert_eq!((one.prefix.as_str(), one.replicas, one.accepts_loss), ("portcullis", 0, false));
    assert!(!format!("{one:?}").contains("s3cret"));
    assert_eq!(redis(&[("REDIS_URL", "redis+sentinel://a,b/mymaster")]).replicas, 1, "another machine may take its place");
    let all = [
        ("REDIS_URL", "redis+cluster://a"),
        ("REDIS_PREFIX", "nas:2"),
        ("REDIS_REPLICAS", "2"),
        ("REDIS_ACCEPT_LOSS", "yes"),
        ("CONTROLLER_NAME", "upstairs"),
    ];
    let every = redis(&all);
    assert_eq!((every.prefix.as_str(), every.replicas, every.accepts_loss, every.name.as_str()), ("nas:2", 2, true, "upstairs"));
    for (name, value) in &all[1..] {
        assert!(mistake(&[(name, value)]).starts_with(&format!("{name}: it says something about REDIS_URL")));
    }
    let sentence = mistake(&[("REDIS_URL", "redis://:s3cret@cache:port")]);
    assert!(sentence.starts_with("REDIS_URL: ") && !sentence.contains("s3cret"), "{sentence}");
    assert!(mistake(&[("REDIS_URL", "redis://a"), ("REDIS_PREFIX", "a{b}")]).starts_with("REDIS_PREFIX: "));
    assert!(mistake(&[("REDIS_URL", "redis://a"), ("CONTROLLER_NAME", "a\nb")]).starts_with("CONTROLLER_NAME: "));
}

/// The files of a certificate and its key, until it is dropped.
struct Pair {
    cert: tempfile::NamedTempFile,
    key: tempfile::NamedTempFile,
}

impl Pair {
    fn new() -> Self {
        let pair = crate::delivery::Authority::new().pair_for(&["files.example.org"]);
        Self { cert: secret_file(pair.chain.as_bytes()), key: secret_file(pair.key.as_bytes()) }
    }

    fn variables(&self) -> [(&str, &str); 2] {
        [("TLS_CERT", self.cert.path().to_str().unwrap()), ("TLS_KEY", self.key.path().to_str().unwrap())]
    }
}

#[test]
fn a_certificate_comes_with_its_own_key_or_a_sentence_says_what_is_wrong() {
    let (pair, other) = (Pair::new(), Pair::new());
    let [cert, key] = pair.variables();
    let [(_, _), other_key] = other.variables();
    let files = read(&[cert, key]).unwrap().tls.unwrap();
    assert_eq!((files.cert.to_str(), files.key.to_str()), (Some(cert.1), Some(key.1)));
    assert_eq!(read(&[]).unwrap().tls, None);
    assert!(mistake(&[cert]).starts_with("TLS_KEY: it is not set, and TLS_CERT is; "));
    assert!(mistake(&[key]).starts_with("TLS_CERT: it is not set, and TLS_KEY is; "));
    let sentence = mistake(&[cert, other_key]);
    assert!(sentence.starts_with("TLS_KEY: ") && sentence.contains("is another certificate's"), "{sentence}");
    let sentence = mistake(&[("TLS_CERT", key.1), key]);
    assert!(sentence.starts_with("TLS_CERT: ") && sentence.contains("there is no certificate in it"), "{sentence}");
    let sentence = mistake(&[("TLS_CERT", "/nowhere/cert.pem"), key]);
    assert!(sentence.starts_with("TLS_CERT: the file \"/nowhere/cert.pem\" cannot be read"), "{sentence}");
    let long = secret_file(&vec![b'\n'; 300_000]);
    assert!(mistake(&[("TLS_CERT", long.path().to_str().unwrap()), key]).contains("longer than"));
}

#[test]
fn a_secret_comes_from_its_variable_or_its_file() {
    let direct = read(&[("JWT_SECRET", GOOD_SECRET)]).unwrap();
    for end in ["", "\n", "\r\n"] {
        let file = secret_file(format!("{GOOD_SECRET}{end}").as_bytes());
        let path = file.path().to_str().unwrap();
        assert_eq!(read(&[("JWT_SECRET_FILE", path)]).unwrap().jwt_secrets, direct.jwt_secrets);
        assert_eq!(read_with(&["--jwt-secret-file", path], &[]).unwrap().jwt_secrets, direct.jwt_secrets);
    }
    let two_newlines = secret_file(b"0123456789abcdefg\n\n");
    assert!(mistake(&[("OWNER_TOKEN_FILE", two_newlines.path().to_str().unwrap())]).starts_with("OWNER_TOKEN: it may have only"));
    assert_eq!(
        mistake(&[("JWT_SECRET", GOOD_SECRET), ("JWT_SECRET_FILE", "/x")]),
        "JWT_SECRET: it is set, and so is JWT_SECRET_FILE; set one of the two"
    );
}

/// The settings file of packages: what is not said by the unit, each setting as it is unless somebody says otherwise.
fn packaged_file() -> String {
    let mut text = "# Settings of the service portcullis, each with its default; `systemctl reload portcullis` reads them anew, and \
                    `portcullis config` shows them.\n# Secrets are files in /etc/portcullis/credentials, as its README says.\n"
        .to_owned();
    let the_units = ["CONFIG_FILE", "STATE_DIR"];
    let ours = |setting: &&Setting| !the_units.contains(&setting.name) && setting.file_name().is_none();
    for setting in SETTINGS.iter().filter(ours) {
        let key = setting.name.to_lowercase();
        let value = match setting.default {
            _ if setting.form() == settings::Form::List => "[]".to_owned(),
            bare if bare == "true" || bare == "false" || bare.parse::<u32>().is_ok() => bare.to_owned(),
            text => format!("{text:?}"),
        };
        let line = if key == "nas_mount_path" { format!("{key} = \"/srv/nas\"") } else { format!("# {key} = {value}") };
        text += &format!("\n# {}\n{line}\n", setting.help);
    }
    text
}

#[test]
fn the_packaged_settings_file_tells_of_every_setting_as_it_is() {
    let text = include_str!("../../packaging/portcullis.toml");
    assert_eq!(text, packaged_file(), "write packaged_file() into packaging/portcullis.toml");
    // Without the marks before them all lines are settings: none changes anything but the folder.
    let said: String =
        text.lines().filter(|line| line.contains(" = ")).map(|line| format!("{}\n", line.trim_start_matches("# "))).collect();
    let file = secret_file(said.as_bytes());
    let with_file = read(&[("CONFIG_FILE", file.path().to_str().unwrap())]).unwrap();
    assert_eq!(with_file.changes_to(&read(&[]).unwrap()).waiting, ["NAS_MOUNT_PATH"]);
}

#[test]
fn a_secret_comes_as_a_credential_where_nobody_names_another() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("portcullis_OWNER_TOKEN"), "0123456789abcdefg\n").unwrap();
    std::fs::write(folder.path().join("portcullis_LOG"), "debug").unwrap();
    std::fs::write(folder.path().join("portcullis_JWT_SECRET"), "").unwrap();
    let given = |variables: &[(&str, &str)]| {
        let mut all = environment_of(variables);
        all.insert("CREDENTIALS_DIRECTORY".to_owned(), folder.path().into());
        Config::read(&parse(&[]).unwrap(), &source::with_credentials(all))
    };
    let mistakes: Vec<String> = given(&[]).unwrap_err().iter().map(Mistake::to_string).collect();
    assert!(
        mistakes.len() == 1 && mistakes[0].starts_with("JWT_SECRET_FILE: the file ") && mistakes[0].ends_with("is empty"),
        "{mistakes:?}"
    );
    let config = given(&[("JWT_SECRET", GOOD_SECRET)]).unwrap();
    assert_eq!((config.owner_token.unwrap().expose(), config.log.as_str()), ("0123456789abcdefg", "info"));
    let said = given(&[("JWT_SECRET", GOOD_SECRET), ("OWNER_TOKEN", OTHER_SECRET)]).unwrap();
    assert_eq!(said.owner_token.unwrap().expose(), OTHER_SECRET);
    let file = secret_file(OTHER_SECRET.as_bytes());
    let named = given(&[("JWT_SECRET", GOOD_SECRET), ("OWNER_TOKEN_FILE", file.path().to_str().unwrap())]).unwrap();
    assert_eq!(named.owner_token.unwrap().expose(), OTHER_SECRET);
}

#[test]
fn a_secrets_file_that_is_none_is_a_mistake() {
    let missing = mistake(&[("OWNER_TOKEN_FILE", "/nowhere/token")]);
    assert!(missing.starts_with("OWNER_TOKEN_FILE: the file \"/nowhere/token\" cannot be read"), "{missing}");
    for content in [&b""[..], b"\n", b"\xff\xfe", &[b'x'; 5000]] {
        let file = secret_file(content);
        assert!(mistake(&[("JWT_SECRET_FILE", file.path().to_str().unwrap())]).starts_with("JWT_SECRET_FILE: the file "));
    }
}

#[test]
fn no_mistake_and_no_debug_form_shows_a_secret() {
    for (name, value) in
        [("JWT_SECRET", "change-me-please-this-is-it-1234567"), ("OWNER_TOKEN", "hunter2"), ("OWNER_TOKEN", "käse-und-brot-immer")]
    {
        assert!(!mistake(&[(name, value)]).contains(value));
    }
    let config = read(&[("JWT_SECRET", GOOD_SECRET), ("OWNER_TOKEN", OTHER_SECRET)]).unwrap();
    assert_eq!(config.owner_token.as_ref().unwrap().expose(), OTHER_SECRET);
    let debug = format!("{config:?}");
    assert!(!debug.contains(GOOD_SECRET) && !debug.contains(OTHER_SECRET));
}

#[test]
fn keys_rotate_with_the_signing_one_first() {
    let config = read(&[("JWT_SECRET", GOOD_SECRET), ("JWT_SECRET_PREVIOUS", OTHER_SECRET)]).unwrap();
    let keys: Vec<_> = config.jwt_secrets.iter().map(Secret::expose).collect();
    assert_eq!(keys, [GOOD_SECRET, OTHER_SECRET]);
    assert!(mistake(&[("JWT_SECRET_PREVIOUS", OTHER_SECRET)]).starts_with("JWT_SECRET_PREVIOUS: it needs JWT_SECRET"));
    assert!(mistake(&[("JWT_SECRET", GOOD_SECRET), ("JWT_SECRET_PREVIOUS", GOOD_SECRET)]).contains("the same as JWT_SECRET"));
    assert!(mistake(&[("JWT_SECRET", "too-short"), ("JWT_SECRET_PREVIOUS", OTHER_SECRET)]).starts_with("JWT_SECRET: it is too short"));
}

#[test]
fn what_contradicts_itself_is_refused() {
    assert!(mistake(&[("AUTH", "none"), ("OWNER_TOKEN", GOOD_SECRET)]).starts_with("AUTH: "));
    for (owner, recipient) in [("0.0.0.0:80", "10.0.0.1:80"), ("[::]:80", "0.0.0.0:80"), ("10.0.0.1:80", "10.0.0.1:80")] {
        let both = [("OWNER_LISTEN", owner), ("RECIPIENT_LISTEN", recipient)];
        assert!(mistake(&both).starts_with("RECIPIENT_LISTEN: "), "{both:?}");
    }
    for (owner, recipient) in [("127.0.0.1:0", "127.0.0.1:0"), ("10.0.0.1:80", "10.0.0.2:80")] {
        assert!(read(&[("OWNER_LISTEN", owner), ("RECIPIENT_LISTEN", recipient)]).is_ok());
    }
}

#[test]
fn nginx_has_ports_of_its_own_and_recipients_speak_to_it_alone() {
    let config = read(&[("DELIVERY", "nginx")]).unwrap();
    assert_eq!((config.delivery, config.nginx.upstream), (DeliveryKind::Nginx, "127.0.0.1:8002".parse().unwrap()));
    assert_eq!(config.nginx.access_log, AccessLog::File("/var/log/nginx/portcullis.log".into()));
    for (name, value, word) in [
        ("TUNNEL", "tailscale", "DELIVERY: it is nginx, and with TUNNEL=tailscale"),
        ("RECIPIENT_LISTEN", "127.0.0.1:0", "RECIPIENT_LISTEN: with DELIVERY=nginx it needs a port"),
        ("NGINX_UPSTREAM", "127.0.0.1:0", "NGINX_UPSTREAM: with DELIVERY=nginx it needs a port"),
        ("NGINX_UPSTREAM", "127.0.0.1:8000", "NGINX_UPSTREAM: it has the port of OWNER_LISTEN"),
        ("NGINX_UPSTREAM", "127.0.0.1:8001", "NGINX_UPSTREAM: it has the port of RECIPIENT_LISTEN"),
        ("NGINX_UPSTREAM", "portcullis.sock", "NGINX_UPSTREAM: \"portcullis.sock\" is no address with a port"),
    ] {
        let sentence = mistake(&[("DELIVERY", "nginx"), (name, value)]);
        assert!(sentence.starts_with(word), "{sentence}");
        // Nothing of it matters where portcullis sends the bytes itself.
        assert!(value == "portcullis.sock" || read(&[(name, value)]).is_ok(), "{name}={value}");
    }
    let by_syslog = read(&[("DELIVERY", "nginx"), ("NGINX_ACCESS_LOG", "syslog:/run/nginx.sock")]).unwrap();
    assert_eq!(by_syslog.nginx.access_log, AccessLog::Syslog("/run/nginx.sock".into()));
    let no_path = mistake(&[("NGINX_ACCESS_LOG", "syslog:nginx.sock")]);
    assert!(no_path.starts_with("NGINX_ACCESS_LOG: behind syslog: it needs the absolute path"), "{no_path}");
    let pair = Pair::new();
    let [cert, key] = pair.variables();
    assert!(mistake(&[("DELIVERY", "nginx"), cert, key]).starts_with("TLS_CERT: with DELIVERY=nginx"));
    assert!(read(&[("DELIVERY", "nginx"), ("TUNNEL", "tailscale-mount")]).is_ok());
}

#[test]
fn a_base_url_is_an_absolute_one_and_loses_its_slash() {
    for (text, expected) in [
        ("https://files.example.org", "https://files.example.org"),
        ("HTTPS://Files.Example.ORG/", "https://files.example.org"),
        ("http://nas:8443/share//", "http://nas:8443/share"),
        ("http://[fd00::1]:8001", "http://[fd00::1]:8001"),
        ("http://192.168.1.5:8001", "http://192.168.1.5:8001"),
    ] {
        assert_eq!(read(&[("BASE_URL", text)]).unwrap().base_url.as_deref(), Some(expected));
    }
    for wrong in [
        "files.example.org",
        "ftp://files.example.org",
        "https://",
        "https:///x",
        "https://ana:pw@files.example.org",
        "https://files.example.org?x=1",
        "https://files.example.org/#x",
        "https://files.example.org:0",
        "https://files.example.org:http",
        "https://files example.org",
        "https://files.example.org/a'b",
        "https://files.example.org/../x",
        "https://files.example.org//x",
        "https://fd00::1",
        "https://files.example.org\\evil",
    ] {
        assert!(mistake(&[("BASE_URL", wrong)]).starts_with("BASE_URL: \""), "{wrong}");
    }
}

#[test]
fn a_base_path_is_a_plain_one_and_none_of_the_owners_own() {
    for (text, expected) in [("", ""), ("/", ""), ("/portcullis", "/portcullis"), ("/nas/~ana/gate-2/", "/nas/~ana/gate-2")] {
        assert_eq!(read(&[("BASE_PATH", text)]).unwrap().base_path.as_str(), expected);
    }
    let long = format!("/{}", "a".repeat(64));
    for wrong in [
        "portcullis",
        "//",
        "//evil.example",
        "/a//b",
        "/a/../b",
        "/.",
        "/a b",
        "/a'b",
        "/a?b",
        "/a#b",
        "/ä",
        "/a%20b",
        "/{id}",
        "https://nas/portcullis",
        &long,
    ] {
        assert!(mistake(&[("BASE_PATH", wrong)]).starts_with("BASE_PATH: \""), "{wrong}");
    }
    for own in ["/api", "/api/v1", "/assets", "/sign-in", "/health/", "/download/x", "/openapi.json"] {
        assert!(mistake(&[("BASE_PATH", own)]).contains("as addresses of the owner's side do"), "{own}");
    }
    assert!(read(&[("BASE_PATH", "/apis")]).is_ok());
}

#[test]
fn hosts_are_names_alone() {
    assert_eq!(read(&[("OWNER_HOSTS", " NAS.local, files.lan ,fd00::1,")]).unwrap().owner_hosts, ["nas.local", "files.lan", "[fd00::1]"]);
    for wrong in ["https://nas.local", "nas:8000", "nas/", "*", "a..b", "nas local"] {
        assert!(mistake(&[("OWNER_HOSTS", wrong)]).starts_with("OWNER_HOSTS: \""), "{wrong}");
    }
}

#[test]
fn a_network_contains_its_addresses() {
    let proxies = read(&[("TRUSTED_PROXIES", "10.1.2.3/8, 192.168.1.5, fd00::/8,::ffff:172.16.0.0/108")]).unwrap().trusted_proxies;
    let shown: Vec<String> = proxies.iter().map(crate::share::Network::to_string).collect();
    assert_eq!(shown, ["10.0.0.0/8", "192.168.1.5/32", "fd00::/8", "172.16.0.0/12"]);
    let trusted = |address: &str| proxies.iter().any(|network| network.contains(address.parse().unwrap()));
    for inside in ["10.255.0.1", "::ffff:10.0.0.1", "192.168.1.5", "fdab::1", "172.31.255.255"] {
        assert!(trusted(inside), "{inside}");
    }
    for outside in ["11.0.0.1", "192.168.1.6", "::1", "172.32.0.1", "::a00:1"] {
        assert!(!trusted(outside), "{outside}");
    }
    for wrong in ["10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/", "10.0.0.0/08", "10.0.0.0/+8", "::ffff:10.0.0.0/8", "proxy"] {
        assert!(mistake(&[("TRUSTED_PROXIES", wrong)]).starts_with("TRUSTED_PROXIES: \""), "{wrong}");
    }
}

#[test]
fn a_log_filter_must_be_one() {
    assert!(mistake(&[("LOG", "info,,=loud=")]).starts_with("LOG: it is no log filter"));
    assert_eq!(read(&[("LOG_FORMAT", "json")]).unwrap().log_format, LogFormat::Json);
    assert!(!read(&[("NO_COLOR", "1")]).unwrap().colours);
}

#[test]
fn what_is_not_utf8_is_a_path_or_a_mistake() {
    let bytes = OsStr::from_bytes(b"/nas/\xff").to_owned();
    let both = ["NAS_MOUNT_PATH", "OWNER_LISTEN"].map(|name| (name.to_owned(), bytes.clone())).into();
    let mistakes = Config::read(&Settings::default(), &both).unwrap_err();
    assert_eq!(mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>(), ["OWNER_LISTEN: it is not valid UTF-8"]);
}

/// A settings file for this account alone, and the folder that it lies in.
fn settings_file(content: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("portcullis.toml");
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    (folder, path.to_str().unwrap().to_owned())
}

#[test]
fn flags_win_over_the_environment_and_the_environment_over_the_file() {
    let (_folder, path) = settings_file("log = 'debug'\ndrain_seconds = 1\nmax_connections = 9\nshow_hidden = true\n");
    let config =
        read_with(&["--config", &path, "--drain-seconds=3"], &[("DRAIN_SECONDS", "2"), ("MAX_CONNECTIONS", "8"), ("LOG", "")]).unwrap();
    assert_eq!((config.drain.as_secs(), config.max_connections, config.log.as_str()), (3, 8, "debug"));
    assert!(config.show_hidden);
    assert_eq!(config.file.unwrap().to_str().unwrap(), path);
    assert_eq!(read(&[("CONFIG_FILE", &path)]).unwrap().drain.as_secs(), 1);
}

#[test]
fn a_file_writes_lists_as_arrays_and_numbers_as_numbers() {
    let (_folder, path) = settings_file(
        "owner_hosts = ['nas.local', 'files.lan']\ntrusted_proxies = '10.0.0.1, 10.0.0.2'\nmax_connections = '7'\nretention_days = 0x1f\n",
    );
    let config = read(&[("CONFIG_FILE", &path)]).unwrap();
    assert_eq!(config.owner_hosts, ["nas.local", "files.lan"]);
    assert_eq!((config.trusted_proxies.len(), config.max_connections), (2, 7));
    assert_eq!(config.retention, Some(Duration::from_secs(31 * 24 * 3600)));
    assert_eq!(read(&[("CONFIG_FILE", &path), ("RETENTION_DAYS", "0")]).unwrap().retention, None);
}

#[test]
fn a_file_that_is_gone_or_being_written_turns_nothing_back_to_its_default() {
    let folder = tempfile::tempdir().unwrap();
    let (state, path) = (folder.path().to_str().unwrap(), folder.path().join("portcullis.toml"));
    let load = || read(&[("STATE_DIR", state)]).unwrap();
    std::fs::write(&path, "retention_days = 0\n").unwrap();
    let before = load();
    assert_eq!((before.retention, before.lost_file(&load())), (None, None));
    std::fs::write(&path, "").unwrap();
    assert!(before.lost_file(&load()).unwrap().to_string().contains("is empty"));
    std::fs::remove_file(&path).unwrap();
    assert!(before.lost_file(&load()).unwrap().to_string().contains("is gone"));
    // Whoever had none misses none.
    assert_eq!(load().lost_file(&load()), None);
}

#[test]
fn every_mistake_of_a_file_is_told_with_its_line() {
    let (_folder, path) = settings_file("stall_timeout = 300\nLOG = 'info'\ndrain_seconds = 9999\nport = 1\n[server]\nlog = 'info'\n");
    let mistakes: Vec<String> = read(&[("CONFIG_FILE", &path)]).unwrap_err().iter().map(Mistake::to_string).collect();
    assert_eq!(
        mistakes,
        [
            format!("{path}, line 1: there is no setting \"stall_timeout\"; did you mean `stall_timeout_seconds`?"),
            format!("{path}, line 2: there is no setting \"LOG\"; did you mean `log`?"),
            format!("{path}, line 4: there is no setting \"port\"; `portcullis config` shows them all"),
            format!("{path}, line 5: there are no sections in this file, and no setting \"server\"; `portcullis config` shows them all"),
            format!("DRAIN_SECONDS: \"9999\" is not allowed; it must be a whole number from 0 to 3600 ({path}, line 3)"),
        ]
    );
}

#[test]
fn a_file_that_is_none_is_a_mistake() {
    assert!(mistake(&[("CONFIG_FILE", "/nowhere/x.toml")]).starts_with("CONFIG_FILE: the file /nowhere/x.toml cannot be read"));
    for (content, at) in [("log = 'info'\nlog = 'warn'\n", 2), ("drain_seconds 5\n", 1), ("log = \"info\ndrain_seconds = 1\n", 1)] {
        let (_folder, path) = settings_file(content);
        let mistakes = read(&[("CONFIG_FILE", &path)]).unwrap_err();
        assert!(mistakes[0].to_string().starts_with(&format!("{path}, line {at}: it is no TOML (")), "{mistakes:?}");
    }
    let (_folder, long) = settings_file(&"#".repeat(70_000));
    assert!(mistake(&[("CONFIG_FILE", &long)]).contains("longer than 65536 bytes"));
    for (wrong, what) in [
        ("config_file = '/x'", "cannot name another"),
        ("drain_seconds = 1.5", "takes a string, a whole number"),
        ("drain_seconds = [1]", "takes a string, a whole number"),
        ("owner_hosts = ['a,b']", "takes a list of strings"),
        ("log.level = 'info'", "has parts"),
    ] {
        let (_folder, path) = settings_file(wrong);
        assert!(mistake(&[("CONFIG_FILE", &path)]).contains(what), "{wrong}");
    }
}

#[test]
fn a_secret_stands_only_in_a_file_that_nobody_else_can_read() {
    let (_folder, path) = settings_file(&format!("owner_token = '{OTHER_SECRET}'\n"));
    assert_eq!(read(&[("CONFIG_FILE", &path)]).unwrap().owner_token.unwrap().expose(), OTHER_SECRET);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let sentence = mistake(&[("CONFIG_FILE", &path)]);
    assert!(sentence.contains(&format!("chmod 600 {path}")) && !sentence.contains(OTHER_SECRET), "{sentence}");
    // The name of a secret's file is no secret.
    let secret = secret_file(OTHER_SECRET.as_bytes());
    let (_folder, path) = settings_file(&format!("owner_token_file = '{}'\n", secret.path().display()));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(read(&[("CONFIG_FILE", &path)]).unwrap().owner_token.unwrap().expose(), OTHER_SECRET);
    // What the environment says wins, under whichever of the two names.
    let direct = read(&[("CONFIG_FILE", &path), ("OWNER_TOKEN", GOOD_SECRET)]).unwrap();
    assert_eq!(direct.owner_token.unwrap().expose(), GOOD_SECRET);
}

#[test]
fn the_file_in_the_state_folder_is_read_and_cannot_move_it() {
    let (folder, path) = settings_file("drain_seconds = 7\n");
    let state = folder.path().to_str().unwrap();
    let config = read(&[("STATE_DIR", state)]).unwrap();
    assert_eq!((config.drain.as_secs(), config.file), (7, Some(path.clone().into())));
    std::fs::write(&path, "state_dir = '/elsewhere'\n").unwrap();
    assert!(mistake(&[("STATE_DIR", state)]).starts_with(&format!("{path}, line 1: this file is found in the state folder")));
    // A file that is named may say where the state folder is, and the one that lies there is not read then.
    std::fs::write(&path, format!("state_dir = '{state}'\n")).unwrap();
    assert_eq!(read(&[("CONFIG_FILE", &path)]).unwrap().state_dir, folder.path());
}

#[test]
fn a_variable_that_looks_like_a_setting_is_doubted_and_no_other() {
    let doubts = |name: &str| read(&[(name, "5")]).unwrap().doubts;
    for (variable, meant) in [
        ("STATE_DIRS", "STATE_DIR"),
        ("DRAIN_SECOND", "DRAIN_SECONDS"),
        ("OWNER_LITSEN", "OWNER_LISTEN"),
        ("JWT_SECERT_FILE", "JWT_SECRET_FILE"),
        ("BASEURL", "BASE_URL"),
        ("PORTCULLIS_STATE_DIR", "STATE_DIR"),
    ] {
        assert_eq!(doubts(variable), [format!("the environment has {variable:?}, which is no setting; is {meant} meant?")]);
    }
    for other in
        ["PATH", "HOME", "LANG", "LOGNAME", "LOGS", "AUTHS", "XAUTHORITY", "PORTCULLIS_SERVER", "PORTCULLIS_TOKEN", "STATE_DIRECTORY"]
    {
        assert_eq!(doubts(other), [""; 0], "{other}");
    }
}

#[test]
fn what_holds_is_told_with_where_it_comes_from_and_without_secrets() {
    let (_folder, path) = settings_file(&format!("# a comment\ngrace_period_seconds = 5\nowner_token = '{OTHER_SECRET}'\n"));
    let secret = secret_file(GOOD_SECRET.as_bytes());
    let variables = environment_of(&[("CONFIG_FILE", &path), ("DRAIN_SECONDS", "9"), ("JWT_SECRET_FILE", secret.path().to_str().unwrap())]);
    let flags = parse(&["--log=debug"]).unwrap();
    let mut source = Source::new(&flags, &variables);
    let mut told = |name| describe::of(&mut source, settings::setting(name));
    let file = |line| Origin::File { path: path.clone().into(), line };
    let value = |text: &str| Some(text.to_owned());
    for (name, expected, origin) in [
        ("LOG", value("debug"), Origin::Flag),
        ("DRAIN_SECONDS", value("9"), Origin::Environment),
        ("GRACE_PERIOD_SECONDS", value("5"), file(2)),
        ("STALL_TIMEOUT_SECONDS", value("300"), Origin::Default),
        ("BASE_URL", None, Origin::Default),
        ("OWNER_TOKEN", None, file(3)),
        ("JWT_SECRET", None, Origin::Environment),
        ("JWT_SECRET_PREVIOUS", None, Origin::Default),
    ] {
        let described = told(name);
        assert_eq!((described.value, described.origin), (expected, origin), "{name}");
    }
    assert_eq!(told("JWT_SECRET").by_file, Some("JWT_SECRET_FILE"));
    assert_eq!(file(2).to_string(), format!("{path}:2"));
    let all: Vec<Described> = SETTINGS.iter().map(|setting| describe::of(&mut source, setting)).collect();
    assert!(!format!("{all:?}").contains(OTHER_SECRET) && !format!("{all:?}").contains(GOOD_SECRET));
}

#[test]
fn nodes_of_shares_need_a_key_and_a_way_back_to_us() {
    let mistakes = read(&[("TUNNEL", "tailscale-node")]).unwrap_err();
    let names: Vec<_> = mistakes.iter().map(|mistake| mistake.name.as_ref()).collect();
    assert_eq!(names, ["TAILSCALE_TARGET", "TAILSCALE_AUTH_KEY"]);
    let good = [
        ("TUNNEL", "tailscale-node"),
        ("TAILSCALE_TARGET", "portcullis:8001"),
        ("TRUSTED_PROXIES", "172.18.0.0/16"),
        ("TAILSCALE_AUTH_KEY", "tskey-auth-abc"),
    ];
    assert_eq!(read(&good).unwrap().recipient_listen.to_string(), "0.0.0.0:8001");
    assert!(mistake(&[good[0], good[1], good[3]]).starts_with("TRUSTED_PROXIES: with TAILSCALE_TARGET visitors come from another"));
    let sentence = mistake(&[good[0], good[1], good[2], ("TAILSCALE_AUTH_KEY", "my-own-secret")]);
    assert!(sentence.contains("begins with tskey-") && !sentence.contains("my-own-secret"), "{sentence}");
    for (name, wrong) in [
        ("DOCKER_HOST", "/var/run/docker.sock"),
        ("DOCKER_HOST", "http://docker"),
        ("TAILSCALE_IMAGE", "--privileged"),
        ("TAILSCALE_CONTAINER", "a b"),
        ("TAILSCALE_UP_ARGS", "a\u{7}"),
        ("TAILSCALE_MAX_NODES", "0"),
    ] {
        assert!(mistake(&[(name, wrong)]).starts_with(name), "{name}={wrong}");
    }
}

#[test]
fn a_key_among_the_nodes_arguments_is_refused_and_shown_nowhere() {
    let key = "abc123";
    for wrong in [
        "--auth-key=abc123",
        "--accept-dns=false --authkey abc123",
        "-auth-key=abc123",
        "-authkey\tabc123",
        "'--Auth-Key=abc123'",
        "--hostname=x\u{7}--auth-key=abc123",
        "--client-secret=abc123",
        "--what=tskey-auth-abc123",
        "--advertise-tags=tag:share TSKEY-abc123",
    ] {
        let sentence = mistake(&[("TAILSCALE_UP_ARGS", wrong)]);
        assert!(sentence.starts_with("TAILSCALE_UP_ARGS: ") && sentence.ends_with("use TAILSCALE_AUTH_KEY"), "{wrong}: {sentence}");
        let (flags, variables) = (parse(&[]).unwrap(), environment_of(&[("TAILSCALE_UP_ARGS", wrong)]));
        let described = describe::of(&mut Source::new(&flags, &variables), settings::setting("TAILSCALE_UP_ARGS"));
        assert!(!sentence.contains(key) && described.value.as_deref() == Some("***"), "{wrong}: {sentence} {described:?}");
    }
    for good in ["--advertise-tags=tag:authkey --accept-dns=false", "--hostname=x-auth-key", "--hostname auth-key"] {
        assert_eq!(read(&[("TAILSCALE_UP_ARGS", good)]).unwrap().tailscale.nodes.up_arguments, good);
        let (flags, variables) = (parse(&[]).unwrap(), environment_of(&[("TAILSCALE_UP_ARGS", good)]));
        let described = describe::of(&mut Source::new(&flags, &variables), settings::setting("TAILSCALE_UP_ARGS"));
        assert_eq!(described.value.as_deref(), Some(good));
    }
}

#[test]
fn owners_of_the_tailnet_are_named_by_their_logins() {
    assert_eq!(read(&[]).unwrap().tailnet_owners, Vec::<String>::new());
    assert_eq!(read(&[("TAILNET_OWNERS", " Alice@example.com,bob@github")]).unwrap().tailnet_owners, ["alice@example.com", "bob@github"]);
    for wrong in ["alice", "a b@example.com", "caf\u{e9}@example.com", "a\u{7}@b"] {
        assert!(mistake(&[("TAILNET_OWNERS", wrong)]).contains("is no login of a tailnet"), "{wrong}");
    }
}

#[test]
fn with_a_tunnel_recipients_are_served_on_this_machine_and_links_begin_with_the_node() {
    let listens = |set: &[(&str, &str)]| read(set).unwrap().recipient_listen.to_string();
    assert_eq!(listens(&[]), "0.0.0.0:8001");
    for tunnel in ["tailscale", "tailscale-mount"] {
        assert_eq!(listens(&[("TUNNEL", tunnel)]), "127.0.0.1:8001");
        assert_eq!(listens(&[("TUNNEL", tunnel), ("RECIPIENT_LISTEN", "0.0.0.0:9")]), "0.0.0.0:9");
        let sentence = mistake(&[("TUNNEL", tunnel), ("BASE_URL", "https://files.example.org")]);
        assert_eq!(sentence, "BASE_URL: with this TUNNEL links begin with the node's own name; leave BASE_URL unset");
        let mistakes = read(&[("TUNNEL", tunnel), ("TLS_CERT", "/a.pem"), ("TLS_KEY", "/b.pem")]).unwrap_err();
        let sentence = &mistakes.last().unwrap().sentence;
        assert!(sentence.contains("the node's own certificate; leave TLS_CERT and TLS_KEY unset"), "{sentence}");
        let (flags, variables) = (parse(&[]).unwrap(), environment_of(&[("TUNNEL", tunnel)]));
        let described = describe::of(&mut Source::new(&flags, &variables), settings::setting("RECIPIENT_LISTEN"));
        assert_eq!(described.value.as_deref(), Some("127.0.0.1:8001"));
    }
    assert_eq!(mistake(&[("TAILSCALE_PORT", "80")]), "TAILSCALE_PORT: \"80\" is no port of Funnel's; it has 443, 8443 and 10000");
    for good in ["portcullis:8001", "10.0.0.2:1", "[fd00::1]:65535"] {
        assert_eq!(read(&[("TAILSCALE_TARGET", good)]).unwrap().tailscale.target.as_deref(), Some(good));
    }
    for wrong in ["portcullis", "portcullis:0", ":8001", "http://portcullis:8001", "a b:1", "fd00::1:8001x"] {
        assert!(mistake(&[("TAILSCALE_TARGET", wrong)]).contains("write it as portcullis:8001"), "{wrong}");
    }
}

#[test]
fn where_shares_are_looked_at_is_auto_off_or_an_address_and_resolvers_are_known_by_theirs() {
    let probe = |text: &str| read(&[("TAILSCALE_PROBE", text)]).unwrap().tailscale.probe;
    assert_eq!(read(&[]).unwrap().tailscale.probe, ProbeKind::Auto);
    assert_eq!((probe("auto"), probe("off")), (ProbeKind::Auto, ProbeKind::Off));
    assert_eq!(probe("[2001:db8::7]:443"), ProbeKind::At("[2001:db8::7]:443".parse().unwrap()));
    for wrong in ["on", "192.0.2.7", "192.0.2.7:0", "nas.tail.ts.net:443", "https://192.0.2.7"] {
        let sentence = format!("TAILSCALE_PROBE: {wrong:?} is neither auto nor off, nor an address with a port as 192.0.2.7:443");
        assert_eq!(mistake(&[("TAILSCALE_PROBE", wrong)]), sentence);
    }
    let resolvers = |text: &str| read(&[("TAILSCALE_RESOLVERS", text)]).unwrap().tailscale.resolvers.len();
    assert_eq!((resolvers("https://9.9.9.9/dns-query"), resolvers("https://9.9.9.9:5053/dns-query, https://[2620:fe::fe]/x")), (1, 2));
    assert!(mistake(&[("TAILSCALE_RESOLVERS", "https://9.9.9.9/x,dns.quad9.net")]).contains("write it as https://1.1.1.1/dns-query"));
    assert!(mistake(&[("TAILSCALE_RESOLVERS", &["https://9.9.9.9/x"; 5].join(","))]).contains("there are 5 of them"));
}

#[test]
fn what_changes_takes_effect_or_waits_for_the_next_start() {
    let old = read(&[]).unwrap();
    let values = [
        ("NAS_MOUNT_PATH", "/other", false),
        ("STATE_DIR", "/other", false),
        ("OWNER_LISTEN", "127.0.0.1:1", false),
        ("RECIPIENT_LISTEN", "127.0.0.1:2", false),
        ("BASE_PATH", "/portcullis", false),
        ("BASE_URL", "https://files.example.org", false),
        ("AUTH", "none", false),
        ("OWNER_TOKEN", OTHER_SECRET, true),
        ("OWNER_HOSTS", "nas.local", true),
        ("TAILNET_OWNERS", "alice@example.com", false),
        ("JWT_SECRET", GOOD_SECRET, false),
        ("MAX_TUNNEL_SECONDS", "1", true),
        ("STALL_TIMEOUT_SECONDS", "1", true),
        ("GRACE_PERIOD_SECONDS", "1", true),
        ("TAILSCALE_SOCKET", "/run/tailscaled.sock", false),
        ("REDIS_URL", "redis://cache", false),
        ("TAILSCALE_PORT", "8443", false),
        ("TAILSCALE_TARGET", "portcullis:8001", false),
        ("TAILSCALE_PROGRAM", "/usr/local/bin/tailscale", false),
        ("TAILSCALE_CONTAINER", "tailscale", false),
        ("TAILSCALE_AUTH_KEY", "tskey-auth-abc", false),
        ("TAILSCALE_IMAGE", "tailscale/tailscale:v1.102.4", false),
        ("TAILSCALE_PULL", "yes", false),
        ("TAILSCALE_NETWORK", "portcullis_default", false),
        ("TAILSCALE_UP_ARGS", "--advertise-tags=tag:share", false),
        ("TAILSCALE_MAX_NODES", "3", false),
        ("DOCKER_HOST", "tcp://socket-proxy:2375", false),
        ("STATE_DIR_ON_HOST", "/srv/portcullis", false),
        ("TAILSCALE_PROBE", "off", false),
        ("TAILSCALE_RESOLVERS", "https://9.9.9.9/dns-query", false),
        ("DELIVERY", "nginx", false),
        ("NGINX_UPSTREAM", "127.0.0.1:9000", false),
        ("NGINX_ACCESS_LOG", "/srv/log/portcullis.log", false),
        ("TRUSTED_PROXIES", "10.0.0.1", true),
        ("SHOW_HIDDEN", "yes", false),
        ("MAX_CONNECTIONS", "1", true),
        ("MAX_CONNECTIONS_PER_ADDRESS", "1", true),
        ("DRAIN_SECONDS", "1", true),
        ("RETENTION_DAYS", "1", true),
        ("LOG", "debug", true),
        ("LOG_FORMAT", "json", false),
    ];
    for (name, value, is_live) in values {
        let new = read(&[(name, value)]).unwrap();
        let expected = if is_live { (vec![name], vec![]) } else { (vec![], vec![name]) };
        let Changes { live, waiting } = old.changes_to(&new);
        assert_eq!((live, waiting), expected);
        // What took effect is no change the next time, what waits still is.
        let now = old.with_live_parts_of(&new).changes_to(&new);
        assert_eq!((now.live, now.waiting), (vec![], if is_live { vec![] } else { vec![name] }), "{name}");
    }
    let rotated = [("JWT_SECRET", GOOD_SECRET), ("JWT_SECRET_PREVIOUS", OTHER_SECRET)];
    assert_eq!(old.changes_to(&read(&rotated).unwrap()).waiting, ["JWT_SECRET", "JWT_SECRET_PREVIOUS"]);
    let pair = Pair::new();
    let with_tls = read(&pair.variables()).unwrap();
    assert_eq!(old.changes_to(&with_tls).waiting, ["TLS_CERT", "TLS_KEY"]);
    for (name, value) in [("REDIS_PREFIX", "other"), ("REDIS_REPLICAS", "2"), ("REDIS_ACCEPT_LOSS", "yes"), ("CONTROLLER_NAME", "other")] {
        let [before, after] = [&[][..], &[(name, value)]].map(|more| read(&[&[("REDIS_URL", "redis://cache")], more].concat()).unwrap());
        assert_eq!(before.changes_to(&after).waiting, [name]);
    }
    // Each setting of the table is compared; of these there is only one value so far, or they stand above.
    const WITH_OTHERS: [&str; 9] = [
        "CONFIG_FILE",
        "JWT_SECRET_PREVIOUS",
        "TLS_CERT",
        "TLS_KEY",
        "TUNNEL",
        "REDIS_PREFIX",
        "REDIS_REPLICAS",
        "REDIS_ACCEPT_LOSS",
        "CONTROLLER_NAME",
    ];
    let compared = values.iter().map(|(name, ..)| *name).chain(WITH_OTHERS);
    let all: std::collections::BTreeSet<_> = SETTINGS.iter().map(|s| s.name).collect();
    assert_eq!(compared.collect::<std::collections::BTreeSet<_>>(), all);
    assert_eq!(reload::comparisons(&old, &old).map(|(name, ..)| name).into_iter().collect::<std::collections::BTreeSet<_>>(), all);
}

#[test]
fn the_table_in_the_readme_tells_of_every_setting_as_it_is() {
    let readme = include_str!("../../README.md");
    let rows: Vec<Vec<&str>> = readme
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let names = |cell: &str| -> Vec<String> { cell.split(',').map(|name| name.trim().trim_matches('`').to_owned()).collect() };
    for setting in SETTINGS {
        let row = rows.iter().find(|row| names(row[0]).iter().any(|name| name == setting.name));
        let row = row.unwrap_or_else(|| panic!("the README does not tell of {}", setting.name));
        let at = names(row[0]).iter().position(|name| name == setting.name).unwrap();
        let defaults = names(row[1]);
        // A table may say in words what an empty default means.
        if !setting.default.is_empty() {
            assert_eq!(defaults.get(at).map(String::as_str), Some(setting.default), "{}", setting.name);
        }
    }
    for name in rows.iter().flat_map(|row| names(row[0])).filter(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_')) {
        assert!(settings::find(&name).is_some(), "the README tells of {name}, which is no setting");
    }
}

#[test]
fn help_tells_of_every_setting_with_its_default() {
    let help = Settings::augment_args(clap::Command::new("test")).term_width(400).render_long_help().to_string();
    for setting in SETTINGS {
        let variable = setting.file_name().unwrap_or(setting.name);
        let line = help.lines().find(|line| line.contains(&format!("[env: {variable}]")));
        let line = line.unwrap_or_else(|| panic!("--help does not tell of {}", setting.name));
        assert!(line.contains(setting.help), "{line}");
        assert_eq!(!setting.default.is_empty(), line.contains(&format!("[default: {}]", setting.default)), "{line}");
    }
}

proptest! {
    /// Whatever stands in the variables, reading ends in a config or in sentences of one line.
    #[test]
    fn reading_never_panics(values in proptest::collection::vec("\\PC{0,20}|[0-9./:,a-z\\[\\]-]{0,20}|\u{1b}\n.*", 1..SETTINGS.len())) {
        let environment = SETTINGS.iter().zip(&values).map(|(setting, value)| (setting.name.to_owned(), value.into())).collect();
        if let Err(mistakes) = Config::read(&Settings::default(), &environment) {
            for mistake in mistakes {
                prop_assert!(!mistake.to_string().chars().any(char::is_control), "{:?}", mistake);
            }
        }
    }
}
