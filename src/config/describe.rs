//! What holds, and who said so: for whoever wonders why it behaves as it does.

use super::settings::{Form, SETTINGS, Setting};
use super::source::{Origin, Source};
use super::values::holds_key;
use super::{Settings, environment};

/// The secrets that the program makes on its first run where none is given.
const MADE: [&str; 2] = ["OWNER_TOKEN", "JWT_SECRET"];
/// What stands for a value that holds a secret where none may stand.
const HIDDEN: &str = "***";

/// One setting as it holds. It never carries a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its name, as `STATE_DIR`.
    pub name: &'static str,
    /// What holds, as it was written; `None` where nothing is set, and for a secret.
    pub value: Option<String>,
    /// Whether it is a secret, of which only is told whether it is set.
    pub is_secret: bool,
    /// Whether it is a secret that the program makes where none is given.
    pub is_made: bool,
    /// The name that a secret was given by, where that is the name of its file.
    pub by_file: Option<&'static str>,
    /// Who said so.
    pub origin: Origin,
    /// What holds where nobody says anything; `None` where nothing does.
    pub default: Option<String>,
    /// Its flag, as `--state-dir`; of a secret that of its file.
    pub flag: Option<String>,
    /// What it does, in one sentence.
    pub help: &'static str,
    /// What its numbers count, as `seconds`.
    pub unit: Option<&'static str>,
}

/// Returns every setting as it holds, mistakes and all. Blocks.
pub fn describe(flags: &Settings) -> Vec<Described> {
    let variables = environment();
    all(&mut Source::new(flags, &variables))
}

/// Returns every setting as its layers have it.
pub(super) fn all(source: &mut Source<'_>) -> Vec<Described> {
    SETTINGS.iter().map(|setting| of(source, setting)).collect()
}

pub(super) fn of(source: &mut Source<'_>, setting: &'static Setting) -> Described {
    let name = setting.name;
    let default = Some(source.default_of(setting).to_owned()).filter(|default| !default.is_empty());
    let (flag, help, unit) = (Some(setting.flag()), setting.help, setting.unit());
    if setting.form() == Form::Secret {
        let place = source.secret_place(name);
        let by_file = place.as_ref().map(|(given_as, ..)| *given_as).filter(|given_as| *given_as != name);
        return Described {
            name,
            value: None,
            is_secret: true,
            is_made: MADE.contains(&name),
            by_file,
            origin: place.map_or(Origin::Default, |(.., origin)| origin),
            default,
            flag,
            help,
            unit,
        };
    }
    let (value, origin) = match source.raw(name) {
        Some((value, origin)) => (Some(value.to_string_lossy().into_owned()), origin),
        None => (default.clone(), Origin::Default),
    };
    // It is refused there, and yet this describes also what is refused.
    let value =
        if name == "TAILSCALE_UP_ARGS" { value.map(|value| if holds_key(&value) { HIDDEN.to_owned() } else { value }) } else { value };
    let chosen_by_itself = || source.file.as_ref().map(|file| file.path.to_string_lossy().into_owned());
    let value = if name == "CONFIG_FILE" { value.or_else(chosen_by_itself) } else { value };
    Described { name, value, is_secret: false, is_made: false, by_file: None, origin, default, flag, help, unit }
}
