//! `portcullis config`: every setting, what it is, and who said so.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::Exit;
use super::terminal::Terminal;
use crate::config::{self, Config, Described, Mistake, Origin, Settings};

/// How wide the names stand; the longest is `MAX_CONNECTIONS_PER_ADDRESS`.
const NAME_WIDTH: usize = 28;
/// How wide the values stand; a longer one pushes its origin to the right.
const VALUE_WIDTH: usize = 28;

/// What `config` is asked.
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    /// The folder whose files can be shared
    #[arg(conflicts_with = "NAS_MOUNT_PATH")]
    folder: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Prints what holds, mistakes and all: whoever looks here has one to find.
pub(super) fn run(args: &ConfigArgs, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let mut settings = args.settings.clone();
    if let Some(folder) = &args.folder {
        settings.set("NAS_MOUNT_PATH", folder);
    }
    let described = config::describe(&settings);
    let (mistakes, doubts) = match Config::load(&settings) {
        Ok(config) => (Vec::new(), config.doubts),
        Err(mistakes) => (mistakes, Vec::new()),
    };
    if args.json {
        terminal.print_json(&as_json(&described, &mistakes, &doubts))?;
    } else {
        for setting in &described {
            terminal.print(&line(setting))?;
        }
        for doubt in &doubts {
            terminal.say(&format!("Note: {doubt}"));
        }
        super::tell_mistakes(&mistakes, terminal);
    }
    Ok(if mistakes.is_empty() { Exit::Done } else { Exit::Usage })
}

fn line(setting: &Described) -> String {
    let value = match (&setting.value, setting.is_secret, &setting.origin) {
        (_, true, Origin::Default) if setting.is_made => "(made on first run)",
        (_, true, Origin::Default) => "-",
        (_, true, _) => "(set, hidden)",
        (None, false, _) => "-",
        (Some(value), false, _) => value,
    };
    let by = setting.by_file.map(|name| format!(", by {name}")).unwrap_or_default();
    format!("{:<NAME_WIDTH$}  {value:<VALUE_WIDTH$}  {}{by}", setting.name, setting.origin)
}

fn as_json(described: &[Described], mistakes: &[Mistake], doubts: &[String]) -> Value {
    let setting = |setting: &Described| {
        json!({
            "name": setting.name,
            "value": setting.value,
            "is_set": setting.origin != Origin::Default,
            "is_secret": setting.is_secret,
            "by_file": setting.by_file,
            "origin": setting.origin.to_string(),
        })
    };
    json!({
        "settings": described.iter().map(setting).collect::<Vec<_>>(),
        "mistakes": mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>(),
        "notes": doubts,
    })
}
