//! Settings from flags, an environment and files; the mistakes they can hold.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use clap::{Args, FromArgMatches};
use proptest::prelude::*;

use super::*;

const GOOD_SECRET: &str = "b7e01c94d2a85f3366c1f0a49e5d7d20c3ab81ff";
const OTHER_SECRET: &str = "0f91ce7d83b24a6655d0e2b19c8f4a37d6be72aa";

fn read(variables: &[(&str, &str)]) -> Result<Config, Vec<Mistake>> {
    read_with(&[], variables)
}

fn read_with(flags: &[&str], variables: &[(&str, &str)]) -> Result<Config, Vec<Mistake>> {
    let known: HashMap<&str, &str> = variables.iter().copied().collect();
    Config::read(&parse(flags).unwrap(), &|name| known.get(name).map(OsString::from))
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
    for setting in SETTINGS.iter().filter(|setting| setting.later().is_none()) {
        let flag = format!("--{}", setting.name.to_lowercase().replace('_', "-"));
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
        ("REDIS_URL", "redis://cache"),
    ])
    .unwrap_err();
    let names: Vec<_> = mistakes.iter().map(|mistake| mistake.name).collect();
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
fn words_of_later_versions_are_known_and_refused() {
    assert_eq!(mistake(&[("TUNNEL", "tailscale-mount")]), "TUNNEL: tailscale-mount is not built yet in this version; use direct");
    assert_eq!(mistake(&[("DELIVERY", "nginx")]), "DELIVERY: nginx is not built yet in this version; use embedded");
    assert_eq!(mistake(&[("AUTH", "None")]), "AUTH: \"None\" is not known; use token or none");
    for name in ["REDIS_URL", "TAILSCALE_SOCKET", "TAILSCALE_AUTH_KEY", "NGINX_ACCESS_LOG", "TLS_CERT", "TLS_KEY"] {
        let sentence = mistake(&[(name, "tskey-auth-abc")]);
        assert!(sentence.starts_with(name) && sentence.contains("this version") && !sentence.contains("tskey"), "{sentence}");
    }
    assert!(mistake(&[("TAILSCALE_AUTH_KEY_FILE", "/run/secrets/key")]).starts_with("TAILSCALE_AUTH_KEY: "));
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
    let both = |name: &str| ["NAS_MOUNT_PATH", "OWNER_LISTEN"].contains(&name).then(|| bytes.clone());
    let mistakes = Config::read(&Settings::default(), &both).unwrap_err();
    assert_eq!(mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>(), ["OWNER_LISTEN: it is not valid UTF-8"]);
}

proptest! {
    /// Whatever stands in the variables, reading ends in a config or in sentences of one line.
    #[test]
    fn reading_never_panics(values in proptest::collection::vec("\\PC{0,20}|[0-9./:,a-z\\[\\]-]{0,20}|\u{1b}\n.*", 1..SETTINGS.len())) {
        let environment = |name: &str| {
            let index = SETTINGS.iter().position(|setting| setting.name == name)?;
            values.get(index).map(OsString::from)
        };
        if let Err(mistakes) = Config::read(&Settings::default(), &environment) {
            for mistake in mistakes {
                prop_assert!(!mistake.to_string().chars().any(char::is_control), "{:?}", mistake);
            }
        }
    }
}
