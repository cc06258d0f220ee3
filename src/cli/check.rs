//! `portcullis check`: everything that is wrong, at once.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Exit;
use super::client::{Client, ClientError};
use super::terminal::Terminal;
use crate::config::{self, Config, DeliveryKind, Described, Origin, Settings};
use crate::doctor::{Finding, Server, examine};

/// How long the server may take to see how nginx stands.
const NGINX_LOOK: Duration = Duration::from_secs(4);

/// What `check` is asked.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The folder whose files can be shared
    #[arg(conflicts_with = "NAS_MOUNT_PATH")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

pub(super) async fn run(args: &CheckArgs, terminal: &mut Terminal) -> Exit {
    let mut settings = args.settings.clone();
    if let Some(folder) = &args.folder {
        settings.set("NAS_MOUNT_PATH", folder);
    }
    let client = Client::of_state_dir(&config::state_dir(&settings));
    let server = look_for(&client).await;
    let findings = match Config::load(&settings) {
        Ok(config) => {
            let mut findings: Vec<Finding> = config::describe(&settings).iter().map(|setting| Finding::fine(words_of(setting))).collect();
            findings.extend(config.doubts.iter().cloned().map(Finding::odd));
            findings.extend(examine(&config, &server).await);
            if config.delivery == DeliveryKind::Nginx {
                findings.push(nginx(&client, &server).await);
            }
            findings
        }
        Err(mistakes) => mistakes.iter().map(|mistake| Finding::wrong(mistake.to_string())).collect(),
    };
    let has_signs = config::speaks_utf8();
    for finding in &findings {
        // If nobody reads, the exit code still tells.
        let _ = terminal.print(&finding.line(has_signs));
    }
    if findings.iter().any(Finding::is_wrong) { Exit::Error } else { Exit::Done }
}

/// Says how nginx stands, as the server sees it: it asks nginx the way recipients do, from time to time.
async fn nginx(client: &Client, server: &Server) -> Finding {
    if *server == Server::None {
        return Finding::odd("nginx: it is looked at while the server runs; start the server, and check again");
    }
    // Whoever asks has it looked at; the longest look is one for a line that does not come.
    let _ = client.health().await;
    tokio::time::sleep(NGINX_LOOK).await;
    match client.health().await {
        Ok(health) => {
            let log = &health["checks"]["log"];
            let reason = format!("nginx: {}", log["reason"].as_str().unwrap_or_default().trim_end_matches('.'));
            match log["status"].as_str() {
                Some("ok") => Finding::fine(reason),
                Some("warning") => Finding::odd(reason),
                _ => Finding::wrong(reason),
            }
        }
        Err(error) => Finding::wrong(format!("nginx: the server does not say how it stands: {error}")),
    }
}

/// Says what holds of a setting, and who said so.
fn words_of(setting: &Described) -> String {
    let value = match (&setting.value, setting.is_secret, &setting.origin) {
        (_, true, Origin::Default) if setting.is_made => "made on first run",
        (_, true, Origin::Default) => "not set",
        (_, true, _) => "set",
        (None, false, _) => "not set",
        (Some(value), false, _) => value,
    };
    format!("{}: {value} ({})", setting.name, setting.origin)
}

async fn look_for(client: &Client) -> Server {
    match client.session().await {
        Ok(session) => match client.health().await {
            Ok(_) => Server::Running { version: session.version },
            Err(error) => Server::Unwell { why: error.to_string() },
        },
        Err(ClientError::NoServer { .. }) => Server::None,
        Err(error) => Server::Unwell { why: error.to_string() },
    }
}
