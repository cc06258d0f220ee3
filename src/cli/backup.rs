//! `portcullis backup` and `restore`: the store and the keys of a state folder as one file, and back.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::Exit;
use super::server::StateArgs;
use super::terminal::Terminal;
use super::text::size;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Origin, Settings};
use crate::store::sqlite;

/// The keys that a state folder keeps beside its store, as `app.rs` names them. With them links keep their form, and the
/// owner keeps the token.
const KEPT: [&str; 3] = ["jwt.key", "transfer.key", "owner.token"];
/// The longest of them that is read; they have 65 bytes.
const MAX_KEPT_BYTES: u64 = 4096;

/// What `backup` is asked.
#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// Where to write it; a file that is there already is never written over
    file: PathBuf,
    #[command(flatten)]
    state: StateArgs,
}

/// What `restore` is asked.
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// What `portcullis backup` wrote
    file: PathBuf,
    /// Replace what the state folder holds; it is kept under another name
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// Backs up. Blocks: a large store takes seconds, and nothing else goes on in this process.
pub(super) fn backup(args: &BackupArgs, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let folder = args.state.folder();
    let mut settings = Settings::default();
    settings.set("STATE_DIR", &folder);
    let is_shared = config::describe(&settings).iter().any(|setting| setting.name == "REDIS_URL" && setting.origin != Origin::Default);
    anyhow::ensure!(
        !is_shared,
        "REDIS_URL is set: shares are kept in Redis, and not in this folder; take a copy of them by `portcullis migrate --from redis --to \
         sqlite --state-dir NEW`, and back that up"
    );
    let mut keys = Vec::new();
    for name in KEPT {
        if let Some(bytes) = read_kept(&folder.join(name))? {
            keys.push((name, bytes));
        }
    }
    let made = sqlite::backup(&folder, &args.file, &keys)?;
    terminal.print(&format!(
        "Wrote {} ({}): {} shares, {} lines of events, {} keys.",
        args.file.display(),
        size(made.bytes),
        made.shares,
        made.latest_seq,
        made.files
    ))?;
    terminal.say("Keep it as you keep a password: whoever has it can sign in. Put it back with `portcullis restore`.");
    Ok(Exit::Done)
}

/// Puts a backup back. Blocks, as [`backup`] does.
pub(super) fn restore(args: &RestoreArgs, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let folder = args.state.folder();
    let now = SystemClock::starting_after(None).now();
    let restored = sqlite::restore(&args.file, &folder, args.replace, &KEPT, now)?;
    terminal.print(&format!(
        "Restored {} into {}: {} lines of events, {} keys.",
        args.file.display(),
        folder.display(),
        restored.latest_seq,
        restored.keys
    ))?;
    if let Some(replaced) = &restored.replaced {
        terminal.say(&format!("What was there is kept as {}.", replaced.display()));
    }
    for key in &restored.kept_keys {
        terminal.say(&format!("Another key was there; it is kept as {}, and what it signed or let in works no more.", key.display()));
    }
    terminal.say(&match restored.closed_shares {
        0 => "No link of the backup works any more.".to_owned(),
        closed => format!(
            "No link of the backup works any more: {closed} shares were open in it and are closed. `portcullis reopen` makes new links."
        ),
    });
    if restored.api_tokens > 0 {
        terminal.say(&format!("{} tokens work again, also those that were revoked since: see `portcullis token ls`.", restored.api_tokens));
    }
    terminal.say("Browsers sign in anew. Start with `portcullis serve`.");
    Ok(Exit::Done)
}

fn read_kept(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("reading {}", path.display()))?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_KEPT_BYTES + 1).read_to_end(&mut bytes).with_context(|| format!("reading {}", path.display()))?;
    anyhow::ensure!(bytes.len() as u64 <= MAX_KEPT_BYTES, "{} is longer than {MAX_KEPT_BYTES} bytes: it is no key of ours", path.display());
    Ok(Some(bytes))
}
