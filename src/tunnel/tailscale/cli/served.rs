//! What a configuration of tailscaled's says about our port (pure): which of its mounts are ours, and what else is there.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::share::ShareId;

/// Where our mounts are, and where they lead: what makes a mount one of ours.
#[derive(Debug, Clone)]
pub(super) struct Ours<'a> {
    /// The node's name in the DNS.
    pub(super) name: &'a str,
    pub(super) port: u16,
    /// The beginning of what they lead to, as `http://127.0.0.1:8001`.
    pub(super) target: &'a str,
}

impl Ours<'_> {
    /// Returns the path of a share's mount.
    pub(super) fn path(share: ShareId) -> String {
        format!("/{share}")
    }

    /// Returns what a share's mount leads to. tailscaled takes the path of a mount away, so it stands here again.
    pub(super) fn target(&self, share: ShareId) -> String {
        format!("{}/{share}", self.target)
    }

    fn share_of(&self, path: &str, handler: &Value) -> Option<ShareId> {
        let share: ShareId = path.strip_prefix('/')?.parse().ok()?;
        (handler["Proxy"].as_str() == Some(&self.target(share))).then_some(share)
    }
}

/// What stands on our port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Served {
    /// Our mounts, and whether the internet is let in to them.
    pub(super) ours: HashMap<ShareId, bool>,
    /// Our mounts under another name of the port, as the node had one before: nobody finds them.
    pub(super) elsewhere: Vec<ShareId>,
    /// Something that is not ours, in words.
    pub(super) foreign: Option<String>,
}

impl Served {
    /// Reads a configuration. What is not known of it is passed over.
    pub(super) fn read(config: &Value, ours: &Ours<'_>) -> Self {
        let mut served =
            Self { foreign: foreign_session(config, ours.port).or_else(|| foreign_forward(config, ours.port)), ..Self::default() };
        let own = format!("{}:{}", ours.name, ours.port);
        let is_public = config["AllowFunnel"][&own].as_bool().unwrap_or(false);
        for (host, web) in entries(&config["Web"]).filter(|(host, _)| is_on(host, ours.port)) {
            for (path, handler) in entries(&web["Handlers"]) {
                match ours.share_of(path, handler) {
                    Some(share) if *host == own => drop(served.ours.insert(share, is_public)),
                    Some(share) => served.elsewhere.push(share),
                    // What another name leads to is not reached by ours, and not let out with it.
                    None if *host == own => drop(served.foreign.get_or_insert_with(|| format!("the path {path} of port {}", ours.port))),
                    None => {}
                }
            }
        }
        served
    }
}

/// A session's configuration goes before all others on its port.
fn foreign_session(config: &Value, port: u16) -> Option<String> {
    let takes =
        |session: &Value| session["TCP"].get(port.to_string()).is_some() || entries(&session["Web"]).any(|(host, _)| is_on(host, port));
    entries(&config["Foreground"]).any(|(_, session)| takes(session)).then(|| format!("port {port}, held by a session of another program"))
}

/// A port that is forwarded, or that speaks no TLS, has no mounts that lead in from the internet.
fn foreign_forward(config: &Value, port: u16) -> Option<String> {
    let handler = config["TCP"].get(port.to_string())?;
    (!handler["HTTPS"].as_bool().unwrap_or(false)).then(|| format!("port {port}, as something else than HTTPS"))
}

fn entries(of: &Value) -> impl Iterator<Item = (&String, &Value)> {
    of.as_object().into_iter().flat_map(Map::iter)
}

fn is_on(host: &str, port: u16) -> bool {
    host.rsplit_once(':').is_some_and(|(_, of)| of.parse() == Ok(port))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn id(n: u64) -> ShareId {
        ShareId::from_random(n)
    }

    fn read(config: &Value) -> Served {
        Served::read(config, &Ours { name: "nas.tail1.ts.net", port: 443, target: "http://127.0.0.1:8001" })
    }

    fn mounted(handlers: Value, is_public: bool) -> Value {
        json!({
            "TCP": { "443": { "HTTPS": true } }, "Web": { "nas.tail1.ts.net:443": { "Handlers": handlers } },
            "AllowFunnel": { "nas.tail1.ts.net:443": is_public }, "Unknown": { "Field": [1] },
        })
    }

    fn mount(share: ShareId) -> Value {
        json!({ format!("/{share}"): { "Proxy": format!("http://127.0.0.1:8001/{share}"), "AcceptAppCaps": null } })
    }

    #[test]
    fn nothing_stands_where_nothing_is_served() {
        assert_eq!(read(&json!({})), Served::default());
        assert_eq!(read(&Value::Null), Served::default());
        assert_eq!(read(&json!({ "Web": [], "TCP": 7, "Foreground": "x", "AllowFunnel": null })), Served::default());
    }

    #[test]
    fn a_mount_is_ours_by_its_path_and_by_where_it_leads() {
        assert_eq!(read(&mounted(mount(id(1)), true)).ours, HashMap::from([(id(1), true)]));
        assert_eq!(read(&mounted(mount(id(1)), false)).ours, HashMap::from([(id(1), false)]), "the tailnet is not the internet");
        let path = format!("/{}", id(1));
        for other in [
            json!({ &path: { "Proxy": "http://127.0.0.1:9999/x" } }),
            json!({ &path: { "Proxy": format!("http://127.0.0.1:8001/{}", id(2)) } }),
            json!({ &path: { "Text": "hello" } }),
            json!({ "/": { "Proxy": "http://127.0.0.1:8001/" } }),
            json!({ format!("{path}/"): { "Proxy": format!("http://127.0.0.1:8001/{}", id(1)) } }),
        ] {
            let served = read(&mounted(other.clone(), true));
            assert!(served.ours.is_empty() && served.foreign.is_some(), "{other}");
        }
    }

    #[test]
    fn whoever_else_has_our_port_is_named() {
        let ours = json!({ "TCP": { "443": { "HTTPS": true } }, "Web": { "nas.tail1.ts.net:443": { "Handlers": {} } } });
        for (config, words) in [
            (json!({ "Foreground": { "00": ours } }), "a session of another program"),
            (json!({ "Foreground": { "00": { "TCP": { "443": { "TCPForward": "127.0.0.1:1" } } } } }), "a session of another program"),
            (json!({ "TCP": { "443": { "TCPForward": "127.0.0.1:22" } } }), "something else than HTTPS"),
            (json!({ "TCP": { "443": { "HTTP": true } } }), "something else than HTTPS"),
            (mounted(json!({ "/private": { "Path": "/home" } }), false), "the path /private of port 443"),
        ] {
            assert!(read(&config).foreign.is_some_and(|said| said.contains(words)), "{config}");
        }
    }

    #[test]
    fn what_is_on_other_ports_and_other_names_is_left_alone() {
        let config = json!({
            "TCP": { "8443": { "TCPForward": "127.0.0.1:22" } },
            "Web": { "nas.tail1.ts.net:8443": { "Handlers": mount(id(1)) }, "example.org:443": { "Handlers": { "/": { "Text": "x" } } } },
            "Services": { "svc:x": { "TCP": { "443": { "HTTPS": true } } } },
            "Foreground": { "00": { "TCP": { "8443": { "HTTPS": true } } } },
        });
        assert_eq!(read(&config), Served::default());
        let before = json!({ "TCP": { "443": { "HTTPS": true } }, "Web": { "old.tail1.ts.net:443": { "Handlers": mount(id(2)) } } });
        assert_eq!(read(&before), Served { elsewhere: vec![id(2)], ..Served::default() });
    }
}
