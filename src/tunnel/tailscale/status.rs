//! What a node is ready for, read from its status: what is missing before its files can be reached from the internet.

use std::fmt;

use serde_json::Value;

use crate::share::Timestamp;

/// The first version that is known to work as this program needs it. 1.102.0 and 1.102.1 accept the configuration and let nobody in;
/// older ones may know less of it, and drop in silence what they do not know.
pub(super) const FIRST_VERSION: (u32, u32, u32) = (1, 102, 2);
/// The capability that names the ports, before its `?ports=`.
const FUNNEL_PORTS: &str = "https://tailscale.com/cap/funnel-ports?";

/// A node as its tailscaled tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// As `Running` or `NeedsLogin`.
    pub state: String,
    /// The version of tailscaled, as `1.102.3-t53a0d659a`.
    pub version: String,
    /// Its name in the DNS, without a dot at its end.
    pub name: Option<String>,
    /// Whether the control server is reached.
    pub is_online: bool,
    /// Whether its key has expired.
    pub is_expired: bool,
    /// When its key expires; `None` where it does not.
    pub key_expires: Option<Timestamp>,
    /// Where it is logged in by a browser, while it waits for that.
    pub login_url: Option<String>,
    /// The names that it may have certificates for.
    pub certificate_names: Vec<String>,
    /// Whether the tailnet lets it have certificates.
    pub has_https: bool,
    /// Whether the tailnet's policy lets it be reached from the internet.
    pub has_funnel: bool,
    /// On which ports.
    pub funnel_ports: Vec<(u16, u16)>,
}

/// What keeps a node's files from being reached from the internet. Said as a sentence with what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// It is not logged in.
    Login(Option<String>),
    /// An admin has to approve it.
    Approval,
    /// It is switched off.
    Up,
    /// It is on its way up, or in a state that is not known here.
    Running(String),
    /// Its key has expired.
    Key,
    /// Its version is known not to work.
    Version(String),
    /// It has no name, since MagicDNS is off.
    Name,
    /// The tailnet gives no certificates.
    Https,
    /// The policy does not let it be reached.
    Funnel,
    /// Not on this port, but on those.
    Port(u16, Vec<(u16, u16)>),
    /// It takes nothing that comes in.
    ShieldsUp,
}

impl Node {
    /// Reads the answer of `status`. What is missing from it is not there.
    pub fn of(status: &Value) -> Self {
        let node = &status["Self"];
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let names = |value: &Value| value.as_array().into_iter().flatten().filter_map(text).collect();
        let capabilities: Vec<&str> = match node["CapMap"].as_object() {
            Some(map) => map.keys().map(String::as_str).collect(),
            // Older nodes list them.
            None => node["Capabilities"].as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
        };
        Self {
            state: text(&status["BackendState"]).unwrap_or_default(),
            version: text(&status["Version"]).unwrap_or_default(),
            name: text(&node["DNSName"]).map(|name| name.trim_end_matches('.').to_owned()),
            is_online: node["Online"].as_bool().unwrap_or(false),
            is_expired: node["Expired"].as_bool().unwrap_or(false),
            key_expires: text(&node["KeyExpiry"])
                .and_then(|time| time.parse::<jiff::Timestamp>().ok())
                .map(|time| Timestamp(time.as_millisecond())),
            login_url: text(&status["AuthURL"]),
            certificate_names: names(&status["CertDomains"]),
            has_https: capabilities.contains(&"https"),
            has_funnel: capabilities.contains(&"funnel"),
            funnel_ports: capabilities.iter().filter_map(|capability| capability.strip_prefix(FUNNEL_PORTS)).flat_map(ports_of).collect(),
        }
    }

    /// Returns whether the tailnet lets it be reached on a port.
    pub fn may_use(&self, port: u16) -> bool {
        self.funnel_ports.iter().any(|(from, to)| (*from..=*to).contains(&port))
    }

    /// Returns what keeps it from being reached on `port`, the first cause first; `prefs` is what it answers about its settings.
    pub fn missing(&self, prefs: &Value, port: u16) -> Vec<Missing> {
        match self.state.as_str() {
            "Running" => {}
            // Until it runs nothing else that it says of itself is worth reading.
            "NeedsLogin" if self.is_expired => return vec![Missing::Key],
            "NeedsLogin" => return vec![Missing::Login(self.login_url.clone())],
            "NeedsMachineAuth" => return vec![Missing::Approval],
            "Stopped" => return vec![Missing::Up],
            other => return vec![Missing::Running(other.to_owned())],
        }
        let mut missing = Vec::new();
        let mut add = |is_missing: bool, what: Missing| missing.extend(is_missing.then_some(what));
        add(is_too_old(&self.version), Missing::Version(self.version.clone()));
        add(self.is_expired, Missing::Key);
        add(self.name.is_none(), Missing::Name);
        add(!self.has_https || self.certificate_names.is_empty(), Missing::Https);
        add(!self.has_funnel, Missing::Funnel);
        add(self.has_funnel && !self.may_use(port), Missing::Port(port, self.funnel_ports.clone()));
        add(prefs["ShieldsUp"].as_bool().unwrap_or(false), Missing::ShieldsUp);
        missing
    }
}

impl Missing {
    /// Returns the same without what only who sits before the machine should read: whoever opens a login's URL first has the node.
    #[must_use]
    pub fn for_everybody(self) -> Self {
        match self {
            Self::Login(_) => Self::Login(None),
            other => other,
        }
    }

    /// Returns whether it may pass by itself, or by what an operator does about a node that worked before: then it is waited for.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Approval | Self::Running(_))
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Login(Some(url)) => write!(f, "the node is not logged in: open {url}, or give it a key by TS_AUTHKEY"),
            Self::Login(None) => f.write_str("the node is not logged in: run `tailscale up`, or give it a key by TS_AUTHKEY"),
            Self::Approval => f.write_str("the node waits for an admin: approve it in the admin console under Machines"),
            Self::Up => f.write_str("the node is switched off: run `tailscale up`"),
            Self::Running(state) if state.is_empty() => f.write_str("tailscaled does not say what state it is in"),
            Self::Running(state) => write!(f, "the node is not running yet (it says {state})"),
            Self::Key => f.write_str("the node's key has expired: run `tailscale up --force-reauth`, or switch key expiry off for it in the admin console"),
            Self::Version(version) => {
                let (major, minor, patch) = FIRST_VERSION;
                write!(f, "tailscaled {version} is too old, or lets none of Funnel's visitors in: update it to {major}.{minor}.{patch} or later")
            }
            Self::Name => f.write_str("the node has no name in the DNS: switch MagicDNS on in the admin console under DNS"),
            Self::Https => f.write_str("the tailnet gives no certificates: switch HTTPS Certificates on in the admin console under DNS"),
            Self::Funnel => f.write_str(
                "the tailnet's policy does not let this node be reached from the internet: add \"nodeAttrs\": [{\"target\": [\"tag:share\"], \"attr\": [\"funnel\"]}] to it, \
                 and give the node that tag",
            ),
            Self::Port(port, allowed) if allowed.is_empty() => write!(f, "the tailnet allows Funnel on no port, so not on {port}"),
            Self::Port(port, allowed) => write!(f, "the tailnet does not allow Funnel on port {port}; it allows {}", text_of(allowed)),
            Self::ShieldsUp => f.write_str("the node takes nothing that comes in: run `tailscale set --shields-up=false`"),
        }
    }
}

fn text_of(ports: &[(u16, u16)]) -> String {
    let parts: Vec<String> = ports.iter().map(|(from, to)| if from == to { from.to_string() } else { format!("{from}-{to}") }).collect();
    parts.join(", ")
}

/// Reads `ports=443,8080-8090`; what is no port is none.
fn ports_of(query: &str) -> Vec<(u16, u16)> {
    let lists = query.split('&').filter_map(|part| part.strip_prefix("ports="));
    let range = |text: &str| {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let range = (from.parse().ok()?, to.parse().ok()?);
        (range.0 <= range.1).then_some(range)
    };
    lists.flat_map(|list| list.split(',')).filter_map(range).collect()
}

/// Returns whether a version comes before the first that works. One that cannot be read is not judged.
fn is_too_old(version: &str) -> bool {
    let mut numbers = version.split(['-', '+']).next().unwrap_or_default().split('.').map(|number| number.parse::<u32>().ok());
    match [numbers.next(), numbers.next(), numbers.next()].map(Option::flatten) {
        [Some(major), Some(minor), Some(patch)] => (major, minor, patch) < FIRST_VERSION,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As a node of a tailnet answers where everything is switched on.
    fn ready() -> Value {
        json!({
            "Version": "1.102.3-t53a0d659a", "BackendState": "Running", "AuthURL": "", "CertDomains": ["nas.tail1234.ts.net"],
            "Self": { "DNSName": "nas.tail1234.ts.net.", "Online": true, "CapMap": {
                "https": null, "funnel": [], "https://tailscale.com/cap/funnel-ports?ports=443,8443,10000-10010": null, "file-sharing": null } }
        })
    }

    fn missing_of(change: impl FnOnce(&mut Value)) -> Vec<Missing> {
        let mut status = ready();
        change(&mut status);
        Node::of(&status).missing(&json!({ "ShieldsUp": false }), 443)
    }

    #[test]
    fn a_node_that_is_ready_lacks_nothing() {
        let node = Node::of(&ready());
        assert_eq!(node.missing(&Value::Null, 443), []);
        assert_eq!(node.name.as_deref(), Some("nas.tail1234.ts.net"));
        assert!(node.is_online);
        assert_eq!(node.key_expires, None);
        let mut status = ready();
        status["Self"]["KeyExpiry"] = "2027-01-15T08:00:00Z".into();
        assert_eq!(Node::of(&status).key_expires, Some(Timestamp(1_800_000_000_000)));
        assert!([443, 8443, 10000, 10010].into_iter().all(|port| node.may_use(port)));
        assert!([80, 442, 10011].into_iter().all(|port| !node.may_use(port)));
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        let ports = vec![(443, 443), (8443, 8443), (10000, 10010)];
        assert_eq!(Node::of(&ready()).missing(&Value::Null, 80), [Missing::Port(80, ports.clone())]);
        assert_eq!(Node::of(&ready()).missing(&json!({ "ShieldsUp": true }), 443), [Missing::ShieldsUp]);
        assert_eq!(missing_of(|status| status["Version"] = "1.102.1-tabc".into()), [Missing::Version("1.102.1-tabc".into())]);
        assert_eq!(missing_of(|status| status["Self"]["Expired"] = true.into()), [Missing::Key]);
        assert_eq!(missing_of(|status| status["CertDomains"] = Value::Null), [Missing::Https]);
        assert_eq!(missing_of(|status| status["Self"]["DNSName"] = "".into()), [Missing::Name]);
        assert_eq!(missing_of(|status| status["Self"]["CapMap"] = json!({ "https": null })), [Missing::Funnel]);
        assert_eq!(missing_of(|status| status["Self"]["CapMap"] = Value::Null), [Missing::Https, Missing::Funnel]);
        let text = Missing::Port(80, ports).to_string();
        assert_eq!(text, "the tailnet does not allow Funnel on port 80; it allows 443, 8443, 10000-10010");
        assert!(Missing::Funnel.to_string().contains(r#""nodeAttrs": [{"target": ["tag:share"], "attr": ["funnel"]}]"#));
    }

    #[test]
    fn a_node_that_does_not_run_lacks_that_and_is_asked_nothing_else() {
        for (state, expected) in [
            ("NeedsLogin", Missing::Login(Some("https://login.tailscale.com/a/1".into()))),
            ("NeedsMachineAuth", Missing::Approval),
            ("Stopped", Missing::Up),
            ("Starting", Missing::Running("Starting".into())),
        ] {
            let missing = missing_of(|status| {
                status["BackendState"] = state.into();
                status["AuthURL"] = "https://login.tailscale.com/a/1".into();
                status["Self"] = Value::Null;
            });
            assert_eq!(missing, [expected], "{state}");
        }
        let expired = missing_of(|status| (status["BackendState"], status["Self"]["Expired"]) = ("NeedsLogin".into(), true.into()));
        assert_eq!(expired, [Missing::Key]);
        assert_eq!(Node::of(&Value::Null).missing(&Value::Null, 443), [Missing::Running(String::new())]);
    }

    #[test]
    fn older_nodes_list_what_they_may() {
        let list = json!(["https", "funnel", "https://tailscale.com/cap/funnel-ports?ports=443"]);
        assert_eq!(missing_of(|status| status["Self"] = json!({ "DNSName": "a.b.", "Capabilities": list })), []);
    }

    #[test]
    fn ports_that_are_none_are_left_out() {
        assert_eq!(ports_of("ports=443,,x,9-8,70000,8080-8090,1-"), [(443, 443), (8080, 8090)]);
        assert_eq!(ports_of("other=443&ports=80"), [(80, 80)]);
    }

    #[test]
    fn a_version_before_the_first_that_works_is_too_old() {
        assert!(["1.102.0", "1.102.1-tabc", "1.98.10", "1.9.9-x"].into_iter().all(is_too_old));
        assert!(["", "1.102.2", "1.102.10", "1.103.0-dev+x", "2.0.0", "nonsense", "1.102"].into_iter().all(|version| !is_too_old(version)));
    }
}
