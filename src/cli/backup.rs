//! `portcullis backup` and `restore`: the store and the keys of a state folder as one file, and back.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use rustix::fs::{Mode, OFlags};

use super::Exit;
use super::server::StateArgs;
use super::terminal::Terminal;
use super::text::size;
use crate::clock::{Clock, SystemClock};
use crate::store::sqlite;

/// The keys that a state folder keeps beside its store, as `app.rs` names them. With them links keep their form, and the
/// owner keeps the token.
const KEPT: [&str; 3] = ["jwt.key", "transfer.key", "owner.token"];
/// The longest of them that is read; they have 65 bytes.
const MAX_KEPT_BYTES: u64 = 4096;
/// How many keys that were replaced are kept in one folder; whoever restores so often removes some.
const MAX_ASIDE: u32 = 1000;

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
    let restored = sqlite::restore(&args.file, &folder, args.replace, now)?;
    let (mut keys, mut kept) = (0, Vec::new());
    for (name, bytes) in restored.files.iter().filter(|(name, _)| KEPT.contains(&name.as_str())) {
        let path = folder.join(name);
        kept.extend(set_aside(&path, bytes).with_context(|| format!("the store is back, but {} could not be kept", path.display()))?);
        write_kept(&path, bytes).with_context(|| format!("the store is back, but {} could not be written", path.display()))?;
        keys += 1;
    }
    give_to_owner_of(&folder, restored.replaced.iter().chain(&kept))
        .with_context(|| format!("the store is back, but does not belong to the account of {}; see `chown`", folder.display()))?;
    terminal.print(&format!(
        "Restored {} into {}: {} lines of events, {keys} keys.",
        args.file.display(),
        folder.display(),
        restored.latest_seq
    ))?;
    if let Some(replaced) = &restored.replaced {
        terminal.say(&format!("What was there is kept as {}.", replaced.display()));
    }
    for key in &kept {
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

/// Lets the account that the folder belongs to use what was written, where root wrote it: the service runs as another, and would
/// not start.
fn give_to_owner_of<'a>(folder: &Path, aside: impl Iterator<Item = &'a PathBuf>) -> io::Result<()> {
    let owner = fs::metadata(folder)?;
    if !rustix::process::geteuid().is_root() || owner.uid() == 0 {
        return Ok(());
    }
    let written = KEPT.iter().copied().chain(sqlite::FILES).map(|name| folder.join(name));
    for path in written.chain(aside.cloned()) {
        // That account may put anything under these names: no link to a file of somebody else is followed.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(&path, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => continue,
            other => File::from(other?),
        };
        let now = file.metadata()?;
        if now.is_file() && now.nlink() == 1 && now.uid() == 0 {
            std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
    }
    Ok(())
}

/// Gives a key that is there and differs from `coming` another name, under which it stays. Returns that name.
fn set_aside(path: &Path, coming: &[u8]) -> anyhow::Result<Option<PathBuf>> {
    if read_kept(path)?.is_none_or(|there| there == coming) {
        return Ok(None);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for n in 1..=MAX_ASIDE {
        let aside = path.with_file_name(format!("{name}.before-restore-{n}"));
        match fs::hard_link(path, &aside) {
            // The name that it had is taken over by the other key in one step.
            Ok(()) => return Ok(Some(aside)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
    }
    anyhow::bail!("{MAX_ASIDE} keys of that name were kept already; remove some")
}

/// Writes a key for this account only, whole or not at all.
fn write_kept(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
