//! `portcullis nginx-config`: what nginx has to be told to send the bytes.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::Exit;
use super::terminal::Terminal;
use crate::app;
use crate::config::{Config, DeliveryKind, Settings};

/// What `nginx-config` is asked.
#[derive(Debug, Args)]
pub(super) struct NginxConfigArgs {
    /// The folder whose files can be shared
    #[arg(conflicts_with = "NAS_MOUNT_PATH")]
    folder: Option<PathBuf>,
    /// Print the whole configuration of an nginx that serves nobody else
    #[arg(long)]
    standalone: bool,
    /// With --standalone: where that nginx keeps what it needs while it runs
    #[arg(long, value_name = "DIR", default_value = "/run/portcullis-nginx", requires = "standalone")]
    run_dir: PathBuf,
    /// Write it into a file that this account alone can read, instead of printing it
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// Prints it, as with DELIVERY=nginx: whoever asks means that.
pub(super) fn run(args: &NginxConfigArgs, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let mut settings = args.settings.clone();
    if let Some(folder) = &args.folder {
        settings.set("NAS_MOUNT_PATH", folder);
    }
    let is_chosen = Config::load(&settings).is_ok_and(|config| config.delivery == DeliveryKind::Nginx);
    settings.set("DELIVERY", "nginx");
    let config = match Config::load(&settings) {
        Ok(config) => config,
        Err(mistakes) => return Ok(super::tell_mistakes(&mistakes, terminal)),
    };
    let (site, key) = (app::nginx_site(&config)?, app::nginx_key(&config.state_dir)?);
    let text = if args.standalone { site.standalone(&key, &std::path::absolute(&args.run_dir)?)? } else { site.conf(&key)? };
    if let Some(file) = &args.to {
        keep(file, &text).with_context(|| format!("writing {}", file.display()))?;
        terminal.say(&format!("Wrote {}.", file.display()));
        return Ok(Exit::Done);
    }
    terminal.print_document(text.as_bytes())?;
    let place = if args.standalone {
        format!("Put it into a file, make {} and start nginx: nginx -e stderr -c FILE", args.run_dir.display())
    } else {
        "Put it into /etc/nginx/conf.d/portcullis.conf, then: nginx -t && nginx -s reload".to_owned()
    };
    let rest = if is_chosen { "" } else { ". portcullis itself needs DELIVERY=nginx" };
    terminal.say(&format!("{place}{rest}."));
    Ok(Exit::Done)
}

/// Writes it in the place of what is there, whole or not at all: it holds what nginx proves itself by.
fn keep(path: &Path, text: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}
