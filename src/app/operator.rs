//! What the owner's side is told of the settings and of the machine.

use std::fmt;
use std::sync::RwLock;

use futures_util::future::{BoxFuture, FutureExt};

use crate::config::{Changes, Config, Described, Origin};
use crate::doctor::{Addresses, Finding, Looks, Verdict, examine_this_server};
use crate::http::owner::operate::{CheckJson, CheckStatus, Operator, SettingJson, SettingsJson};

/// The settings as they hold, and where this program is reached.
pub(super) struct House {
    kept: RwLock<Kept>,
    addresses: Addresses,
    looks: Looks,
}

struct Kept {
    config: Config,
    /// The settings that were changed since the start and wait for the next one.
    waiting: Vec<&'static str>,
}

impl fmt::Debug for House {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("House").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl House {
    pub(super) fn new(config: Config, addresses: Addresses) -> Self {
        Self { kept: RwLock::new(Kept { config, waiting: Vec::new() }), addresses, looks: Looks::default() }
    }

    /// Takes what holds since the settings were read anew, and what came of that.
    pub(super) fn take(&self, config: Config, changes: &Changes) {
        *self.kept.write().expect("nobody panics while holding the settings") = Kept { config, waiting: changes.waiting.clone() };
    }

    fn config(&self) -> Config {
        self.kept.read().expect("nobody panics while holding the settings").config.clone()
    }
}

impl Operator for House {
    fn settings(&self) -> SettingsJson {
        let kept = self.kept.read().expect("nobody panics while holding the settings");
        let waits = |name: &&str| format!("{name} changed, which takes effect at the next start");
        SettingsJson {
            settings: kept.config.described.iter().map(|setting| of_setting(setting, &kept.config)).collect(),
            notes: kept.config.doubts.iter().cloned().chain(kept.waiting.iter().map(waits)).collect(),
        }
    }

    fn check(&self) -> BoxFuture<'_, Vec<CheckJson>> {
        async move { examine_this_server(&self.config(), self.addresses, &self.looks).await.iter().map(of_finding).collect() }.boxed()
    }
}

fn of_setting(setting: &Described, config: &Config) -> SettingJson {
    let origin = match setting.origin {
        Origin::Flag => "flag",
        Origin::Environment => "environment",
        Origin::File { .. } => "file",
        Origin::Default => "default",
    };
    let is_made = setting.is_made && setting.origin == Origin::Default;
    SettingJson {
        name: setting.name,
        flag: setting.flag.clone(),
        value: setting.value.clone(),
        default: setting.default.clone(),
        is_set: setting.origin != Origin::Default,
        is_secret: setting.is_secret,
        by_file: setting.by_file,
        origin,
        origin_text: if is_made { "made on first run".to_owned() } else { setting.origin.to_string() },
        help: setting.help,
        unit: setting.unit,
        reloads: config.reloads(setting.name),
    }
}

fn of_finding(finding: &Finding) -> CheckJson {
    let status = match finding.verdict() {
        Verdict::Fine => CheckStatus::Ok,
        Verdict::Odd => CheckStatus::Warning,
        Verdict::Wrong => CheckStatus::Wrong,
    };
    let parts = finding.parts();
    CheckJson::new(parts.about.unwrap_or("machine"), status, parts.text, parts.fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn config(stall_timeout: &str) -> Config {
        let mut settings = Settings::default();
        settings.set("STALL_TIMEOUT_SECONDS", stall_timeout);
        settings.set("SHOW_HIDDEN", if stall_timeout == "7" { "true" } else { "false" });
        Config::load(&settings).unwrap()
    }

    #[test]
    fn what_holds_is_told_and_what_waits_is_told_as_waiting() {
        let addresses = Addresses { owners: None, recipients: "127.0.0.1:1".parse().unwrap() };
        let (old, new) = (config("5"), config("7"));
        let house = House::new(old.clone(), addresses);
        let told = |name: &str| house.settings().settings.into_iter().find(|setting| setting.name == name).unwrap();
        assert_eq!((told("STALL_TIMEOUT_SECONDS").value.as_deref(), told("STALL_TIMEOUT_SECONDS").origin), (Some("5"), "flag"));
        assert!(house.settings().notes.is_empty());
        house.take(old.with_live_parts_of(&new), &old.changes_to(&new));
        let stall = told("STALL_TIMEOUT_SECONDS");
        assert_eq!(
            (stall.value.as_deref(), stall.default.as_deref(), stall.unit, stall.reloads),
            (Some("7"), Some("300"), Some("seconds"), true)
        );
        let hidden = told("SHOW_HIDDEN");
        assert_eq!((hidden.value.as_deref(), hidden.reloads), (Some("false"), false), "it does not hold yet");
        assert_eq!(house.settings().notes, ["SHOW_HIDDEN changed, which takes effect at the next start"]);
        let made = told("JWT_SECRET");
        assert_eq!((made.value, made.is_set, &made.origin_text[..]), (None, false, "made on first run"));
        assert_eq!((made.flag.as_deref(), made.is_secret), (Some("--jwt-secret-file"), true));
        assert_eq!(made.default, None);
    }

    #[test]
    fn a_finding_has_a_name_a_sentence_and_what_to_do() {
        let told = |finding: Finding| {
            let CheckJson { name, status, text, fix } = of_finding(&finding);
            (name, status, text, fix)
        };
        let parts = |name: &str, status, text: &str, fix: Option<&str>| (name.to_owned(), status, text.to_owned(), fix.map(str::to_owned));
        assert_eq!(
            told(Finding::odd("BASE_URL: it is not set, so links begin with an address of this machine; set it")),
            parts("BASE_URL", CheckStatus::Warning, "It is not set, so links begin with an address of this machine.", Some("Set it."))
        );
        assert_eq!(told(Finding::fine("the clock can be right")), parts("machine", CheckStatus::Ok, "The clock can be right.", None));
        assert_eq!(
            told(Finding::wrong("Tailscale: the node is switched off: run `tailscale up`")),
            parts("Tailscale", CheckStatus::Wrong, "The node is switched off.", Some("Run `tailscale up`."))
        );
        assert_eq!(
            told(Finding::wrong("Tailscale: tailscaled could not say it (500): no")).2,
            "Tailscaled could not say it (500): no.",
            "what it answered is no advice"
        );
    }
}
