//! What of a node's serve config is ours: made, told from what is others', and put in its place (pure).
//!
//! Everything of ours lies in `Foreground`, under the id of the session that holds it: tailscaled drops it when the session
//! ends. How tailscaled reads a config stands in `ipn/serve.go` and `ipn/ipnlocal/serve.go` of github.com/tailscale/tailscale,
//! read at v1.102.3.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::share::ShareId;

/// How visitors are led to the recipient side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As they come, with a PROXY v2 header before their first byte: the recipient side ends TLS. One door for all shares.
    Passthrough,
    /// By tailscaled's HTTP proxy, which ends TLS: a mount for each share.
    Mount,
}

/// What our part of a config looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// How visitors are led.
    pub way: Way,
    /// The public port.
    pub port: u16,
    /// Where tailscaled finds the recipient side: `host:port`.
    pub target: String,
}

/// Somebody else serves on our port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// For good: `tailscale serve --bg` and the like.
    Kept,
    /// As long as a session lives; it may be one of ours that is just dying.
    Session,
}

impl Shape {
    /// Returns what is served for `shares` by a node of that name; nothing, and no port taken, where there are none.
    pub fn of(&self, name: &str, shares: &BTreeSet<ShareId>) -> Value {
        if shares.is_empty() {
            return json!({});
        }
        let (port, public) = (self.port.to_string(), format!("{name}:{}", self.port));
        match self.way {
            Way::Passthrough => json!({
                "TCP": { port: { "TCPForward": self.target, "ProxyProtocol": 2 } },
                "AllowFunnel": { public: true },
            }),
            Way::Mount => {
                let mount = |share: &ShareId| {
                    let path = format!("/{share}");
                    // A mount's own path is stripped before the request goes on; the target's puts it back.
                    let proxy = json!({ "Proxy": format!("http://{}{path}", self.target) });
                    (path, proxy)
                };
                json!({
                    "TCP": { port: { "HTTPS": true } },
                    "Web": { &public: { "Handlers": shares.iter().map(mount).collect::<Map<_, _>>() } },
                    "AllowFunnel": { public: true },
                })
            }
        }
    }

    /// Returns who else serves on our port, if anybody does.
    pub fn foreign(&self, config: &Value, session: &str) -> Option<Foreign> {
        let (port, at_port) = (self.port.to_string(), format!(":{}", self.port));
        let serves = |config: &Value| {
            let has_web = config["Web"].as_object().is_some_and(|web| web.keys().any(|public| public.ends_with(&at_port)));
            config["TCP"].get(&port).is_some_and(|handler| !handler.is_null()) || has_web
        };
        if serves(config) {
            return Some(Foreign::Kept);
        }
        let mut others = config["Foreground"].as_object().into_iter().flatten().filter(|(id, _)| *id != session);
        others.any(|(_, config)| serves(config)).then_some(Foreign::Session)
    }
}

/// Returns what is served in a session's name; `None` where nothing is, not even nothing: the session is over then.
pub fn of_session<'a>(config: &'a Value, session: &str) -> Option<&'a Value> {
    config["Foreground"].get(session).filter(|ours| !ours.is_null())
}

/// Returns `config` without what stands in the name of these sessions.
pub fn without_sessions(config: &Value, sessions: &[String]) -> Value {
    let mut config = config.clone();
    if let Some(foreground) = config.get_mut("Foreground").and_then(Value::as_object_mut) {
        foreground.retain(|session, _| !sessions.contains(session));
    }
    config
}

/// Returns `config` with `ours` in the session's name. Everything else stays, known here or not.
pub fn with_session(config: &Value, session: &str, ours: Value) -> Value {
    let mut config = if config.is_object() { config.clone() } else { json!({}) };
    if !config["Foreground"].is_object() {
        config["Foreground"] = json!({});
    }
    config["Foreground"][session] = ours;
    config
}

/// Returns whether what is served is what was wanted: the same doors, each leading where it was to lead. Fields beside that
/// a later tailscaled may write do not count.
pub fn stands(served: &Value, wanted: &Value) -> bool {
    ["TCP", "AllowFunnel", "Web"].into_iter().all(|doors| {
        let (served, wanted) = (entries(&served[doors]), entries(&wanted[doors]));
        // `AllowFunnel` may name a door and say that it is not for the internet.
        let is_open = |(_, value): &(&String, &Value)| **value != Value::Bool(false);
        let served: Vec<_> = served.into_iter().filter(is_open).collect();
        served.len() == wanted.len() && served.iter().zip(&wanted).all(|((a, served), (b, wanted))| a == b && leads_where(served, wanted))
    })
}

/// Compares what stands behind one door; a door of the web has handlers behind it, of which none may be too many.
fn leads_where(served: &Value, wanted: &Value) -> bool {
    let (ours, theirs) = (entries(&wanted["Handlers"]), entries(&served["Handlers"]));
    ours.len() == theirs.len()
        && ours.iter().zip(&theirs).all(|((a, wanted), (b, served))| a == b && has_fields(served, wanted))
        && has_fields(served, wanted)
}

/// Returns whether `served` has all that `wanted` has.
fn has_fields(served: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Object(fields) => fields.iter().all(|(name, value)| has_fields(&served[name], value)),
        value => served == value,
    }
}

/// Returns the entries of an object in the order of their names; of anything else, none.
fn entries(value: &Value) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()).collect();
    entries.sort_by_key(|(name, _)| *name);
    entries
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAME: &str = "nas.tail1.ts.net";

    fn shape(way: Way) -> Shape {
        Shape { way, port: 443, target: "127.0.0.1:8001".to_owned() }
    }

    fn shares(n: u64) -> BTreeSet<ShareId> {
        (1..=n).map(ShareId::from_random).collect()
    }

    #[test]
    fn passthrough_is_one_door_however_many_shares_there_are() {
        let one = shape(Way::Passthrough).of(NAME, &shares(1));
        assert_eq!(
            one,
            json!({ "TCP": { "443": { "TCPForward": "127.0.0.1:8001", "ProxyProtocol": 2 } }, "AllowFunnel": { "nas.tail1.ts.net:443": true } })
        );
        assert_eq!(shape(Way::Passthrough).of(NAME, &shares(9)), one);
    }

    #[test]
    fn a_mount_leads_to_its_share_with_the_path_that_tailscaled_strips() {
        let share = ShareId::from_random(1);
        let config = shape(Way::Mount).of(NAME, &[share].into());
        let handlers = &config["Web"]["nas.tail1.ts.net:443"]["Handlers"];
        assert_eq!(*handlers, json!({ format!("/{share}"): { "Proxy": format!("http://127.0.0.1:8001/{share}") } }));
        assert_eq!(config["TCP"]["443"], json!({ "HTTPS": true }));
        assert_eq!(config["AllowFunnel"], json!({ "nas.tail1.ts.net:443": true }));
    }

    #[test]
    fn without_shares_nothing_is_served_and_the_session_stays() {
        for way in [Way::Passthrough, Way::Mount] {
            let config = with_session(&Value::Null, "ab", shape(way).of(NAME, &shares(0)));
            assert_eq!(config, json!({ "Foreground": { "ab": {} } }));
            assert!(of_session(&config, "ab").is_some() && of_session(&config, "cd").is_none());
        }
    }

    #[test]
    fn what_stands_in_the_name_of_a_dead_session_goes_and_nothing_else() {
        let config = json!({ "TCP": { "22": {} }, "Foreground": { "dead": { "TCP": { "443": {} } }, "theirs": {}, "ours": {} } });
        let left = without_sessions(&config, &["dead".to_owned(), "older".to_owned()]);
        assert_eq!(left, json!({ "TCP": { "22": {} }, "Foreground": { "theirs": {}, "ours": {} } }));
        assert_eq!(without_sessions(&Value::Null, &["dead".to_owned()]), Value::Null);
    }

    #[test]
    fn who_else_serves_on_our_port_is_seen() {
        let shape = shape(Way::Mount);
        let foreign = |config: Value| shape.foreign(&config, "ours");
        assert_eq!(foreign(json!({ "TCP": { "443": { "HTTPS": true } } })), Some(Foreign::Kept));
        assert_eq!(foreign(json!({ "Web": { "nas.tail1.ts.net:443": { "Handlers": {} } } })), Some(Foreign::Kept));
        assert_eq!(foreign(json!({ "Foreground": { "theirs": { "TCP": { "443": { "TCPForward": "x:1" } } } } })), Some(Foreign::Session));
        for fine in [
            Value::Null,
            json!({ "TCP": { "8443": { "HTTPS": true } }, "Web": { "nas.tail1.ts.net:8443": {} } }),
            json!({ "AllowFunnel": { "nas.tail1.ts.net:443": false } }),
            json!({ "Foreground": { "ours": { "TCP": { "443": { "HTTPS": true } } }, "theirs": { "TCP": { "8443": {} } } } }),
            json!({ "Services": { "svc:a": { "TCP": { "443": {} } } } }),
        ] {
            assert_eq!(foreign(fine.clone()), None, "{fine}");
        }
    }

    #[test]
    fn a_door_too_many_one_too_few_or_one_that_leads_elsewhere_is_not_what_was_wanted() {
        for way in [Way::Passthrough, Way::Mount] {
            let wanted = shape(way).of(NAME, &shares(3));
            assert!(stands(&wanted, &wanted));
            assert!(!stands(&json!({}), &wanted) && !stands(&wanted, &json!({})));
            let mut served = wanted.clone();
            served["TCP"]["443"]["LaterField"] = json!(1);
            served["AllowFunnel"]["nas.tail1.ts.net:8443"] = json!(false);
            assert!(stands(&served, &wanted), "what says nothing of a door does not count");
            served["AllowFunnel"]["nas.tail1.ts.net:8443"] = json!(true);
            assert!(!stands(&served, &wanted));
            let mut served = wanted.clone();
            served["AllowFunnel"]["nas.tail1.ts.net:443"] = json!(false);
            assert!(!stands(&served, &wanted));
        }
        let wanted = shape(Way::Passthrough).of(NAME, &shares(1));
        let elsewhere = Shape { target: "127.0.0.1:9".to_owned(), ..shape(Way::Passthrough) }.of(NAME, &shares(1));
        assert!(!stands(&elsewhere, &wanted));
        assert!(!stands(&shape(Way::Mount).of(NAME, &shares(2)), &shape(Way::Mount).of(NAME, &shares(3))));
        assert!(!stands(&shape(Way::Mount).of(NAME, &shares(3)), &shape(Way::Mount).of(NAME, &shares(2))));
    }

    /// Any JSON, as what a later tailscaled or somebody else might have written.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z:0-9]{0,6}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let name = prop_oneof![
                Just("TCP".to_owned()),
                Just("Web".to_owned()),
                Just("Foreground".to_owned()),
                Just("443".to_owned()),
                "[A-Za-z]{1,6}"
            ];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(name, inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn an_edit_changes_our_session_and_nothing_else(config in any_json(), n in 0_u64..4) {
            let ours = shape(Way::Mount).of(NAME, &shares(n));
            let edited = with_session(&config, "ours", ours.clone());
            prop_assert_eq!(of_session(&edited, "ours"), Some(&ours));
            let rest = |config: &Value| {
                let mut rest = if config.is_object() { config.clone() } else { json!({}) };
                match rest["Foreground"].as_object_mut() {
                    Some(sessions) => drop(sessions.remove("ours")),
                    None => rest["Foreground"] = json!({}),
                }
                rest
            };
            prop_assert_eq!(rest(&edited), rest(&config));
        }

        #[test]
        fn whatever_a_config_says_it_is_read(config in any_json()) {
            let _ = (shape(Way::Mount).foreign(&config, "ours"), of_session(&config, "ours"), stands(&config, &config));
        }
    }
}
