//! `portcullis nginx-config`: what nginx has to be told to send the bytes.

use std::path::PathBuf;

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
