//! `portcullis migrate`: everything of the state folder into a Redis, or back.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tokio::sync::watch;

use super::Exit;
use super::terminal::Terminal;
use crate::app::{self, Direction, Migrated};
use crate::config::{Config, Settings};
use crate::store::migrate::Moved;

/// What `migrate` is asked.
#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    /// Where everything is
    #[arg(long, value_name = "STORE")]
    from: Kind,
    /// Where everything goes; nothing may be there yet
    #[arg(long, value_name = "STORE")]
    to: Kind,
    /// The folder whose files can be shared
    #[arg(conflicts_with = "NAS_MOUNT_PATH")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// The file in the state folder (STATE_DIR)
    Sqlite,
    /// The Redis that REDIS_URL names
    Redis,
}

pub(super) async fn run(args: &MigrateArgs, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let direction = match (args.from, args.to) {
        (Kind::Sqlite, Kind::Redis) => Direction::IntoRedis,
        (Kind::Redis, Kind::Sqlite) => Direction::OutOfRedis,
        (Kind::Sqlite, Kind::Sqlite) | (Kind::Redis, Kind::Redis) => {
            terminal.say("--from and --to name the same; everything goes from sqlite to redis, or from redis to sqlite.");
            return Ok(Exit::Usage);
        }
    };
    let mut settings = args.settings.clone();
    if let Some(folder) = &args.folder {
        settings.set("NAS_MOUNT_PATH", folder);
    }
    let config = match Config::load(&settings) {
        Ok(config) => config,
        Err(mistakes) => return Ok(super::tell_mistakes(&mistakes, terminal)),
    };
    let (told, mut heard) = watch::channel(0);
    let migrated = {
        let mut moving = std::pin::pin!(app::migrate(&config, direction, told));
        loop {
            tokio::select! {
                migrated = &mut moving => break migrated?,
                Ok(()) = heard.changed() => terminal.say(&format!("{} rows so far …", *heard.borrow_and_update())),
            }
        }
    };
    tell(&migrated, direction, &config, terminal)?;
    Ok(Exit::Done)
}

fn tell(migrated: &Migrated, direction: Direction, config: &Config, terminal: &mut Terminal) -> anyhow::Result<()> {
    let Moved { shares, links, events, audit_lines, sessions, api_tokens, plans, digests, tallies, log_marks } = migrated.moved;
    let folder = config.state_dir.display();
    let place = match direction {
        Direction::IntoRedis => format!("Moved {folder} into Redis"),
        Direction::OutOfRedis => format!("Moved Redis into {folder}"),
    };
    terminal.print(&format!(
        "{place}: {shares} shares, {links} links, {events} lines of events, {audit_lines} audit lines, {sessions} sessions, {api_tokens} \
         tokens, {plans} plans, {tallies} numbers of statistics, {digests} checksums, {log_marks} marks of logs."
    ))?;
    if let Some(aside) = &migrated.set_aside {
        terminal.say(&format!("What was there is kept as {}; nobody serves it.", aside.display()));
    }
    if let Some(file) = &migrated.key_file {
        terminal.say(&format!("Every controller of this Redis needs JWT_SECRET: what {} holds.", file.display()));
    }
    terminal.say(match direction {
        Direction::IntoRedis => "What was open goes on with the next start, with REDIS_URL.",
        Direction::OutOfRedis => "What was open goes on with the next start, without REDIS_URL. The Redis serves nobody any more.",
    });
    Ok(())
}
