//! `portcullis share` where no server runs: this process serves the links, as long as they live.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};

use super::client::Client;
use super::interrupt::Interrupts;
use super::share::{Served, ShareArgs, offer};
use super::terminal::Terminal;
use super::{Exit, place, tell_mistakes};
use crate::config::{self, Config};
use crate::{app, telemetry};

pub(super) async fn serve(args: &ShareArgs, interrupts: &mut Interrupts, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let mut files = Vec::new();
    for file in &args.files {
        files.push(file_here(file).await?);
    }
    let mut config = match Config::load(&args.settings) {
        Ok(config) => config,
        Err(mistakes) => return Ok(tell_mistakes(&mistakes, terminal)),
    };
    config.root = root_for(&files, &config.root).await?;
    config.owner_tcp = false;
    // Once it is delivered this command ends; a door that a later start would open again was promised to nobody.
    config.limits.grace_period = Duration::ZERO;
    if !config::is_set(&args.settings, "LOG") {
        // The bar and the sentences below tell what happens; lines about it would tear them.
        "warn".clone_into(&mut config.log);
    }
    let mut paths = Vec::new();
    for file in &files {
        paths.push(place::in_catalog(file, &config.root).await?);
    }
    if let Err(error) = telemetry::install(&config.log, config.log_format, config.colours) {
        terminal.say(&format!("There will be no log: {error}."));
    }
    let running = match app::start(config).await {
        Ok(running) => running,
        Err(error) => {
            terminal.say_error(&error.context("no portcullis is running, and this one cannot start"));
            return Ok(Exit::NoServer);
        }
    };
    let link = if paths.len() == 1 { "the link itself: it works" } else { "the links itself: they work" };
    terminal.say(&format!("No portcullis is running, so this command serves {link} only while this runs."));
    let client = Client::of_socket(running.socket.clone());
    let ended = tokio::select! {
        ended = offer(&client, &paths, args, Served::Here, interrupts, terminal) => ended,
        _ = running.stopped() => Err(anyhow!("the link works no longer: this server broke down")),
    };
    running.stop().await;
    ended
}

async fn file_here(file: &Path) -> anyhow::Result<PathBuf> {
    let here = tokio::fs::canonicalize(file).await.with_context(|| format!("there is no file {}", file.display()))?;
    if !tokio::fs::metadata(&here).await.is_ok_and(|found| found.is_file()) {
        bail!("{} is not a file", file.display());
    }
    Ok(here)
}

/// Returns the configured root where all files lie below it, else the deepest folder that holds them all.
async fn root_for(files: &[PathBuf], configured: &Path) -> anyhow::Result<PathBuf> {
    if let Ok(root) = tokio::fs::canonicalize(configured).await
        && files.iter().all(|file| file.starts_with(&root))
    {
        return Ok(root);
    }
    let mut folders = files.iter().filter_map(|file| file.parent());
    let mut common = folders.next().unwrap_or(Path::new("/"));
    for folder in folders {
        common = common.ancestors().find(|ancestor| folder.starts_with(ancestor)).unwrap_or(Path::new("/"));
    }
    if common == Path::new("/") && files.len() > 1 {
        // All of the machine would be looked through for its index.
        bail!("these files have no folder in common; share them one by one, or start `portcullis serve FOLDER`");
    }
    Ok(common.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_are_served_from_the_deepest_folder_that_holds_them() {
        let root = |files: &[&str]| {
            let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
            async move { root_for(&files, Path::new("/nowhere")).await.map_err(|error| error.to_string()) }
        };
        assert_eq!(root(&["/a/b/c"]).await, Ok("/a/b".into()));
        assert_eq!(root(&["/a/b/c", "/a/b/d/e"]).await, Ok("/a/b".into()));
        assert_eq!(root(&["/a/bc/x", "/a/b/y", "/a/b/z"]).await, Ok("/a".into()));
        assert_eq!(root(&["/x"]).await, Ok("/".into()));
        assert!(root(&["/a/x", "/b/y"]).await.unwrap_err().contains("no folder in common"));
        assert_eq!(root_for(&["/proc/self/x".into()], Path::new("/proc")).await.unwrap(), Path::new("/proc"));
    }
}
