//! The program: see `cli`.

use std::process::ExitCode;

use portcullis::config::{Config, Settings};
use portcullis::{app, telemetry};

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let mut settings = Settings::default();
    if let Some(folder) = std::env::args_os().nth(2) {
        settings.set("NAS_MOUNT_PATH", folder);
    }
    let config = Config::load(&settings).map_err(|mistakes| anyhow::anyhow!("{mistakes:?}"))?;
    telemetry::install(&config.log, config.log_format, config.colours)?;
    app::serve(config).await
}
