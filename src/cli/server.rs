//! Which server a command speaks to: one that is named, else the one of the state folder.

use std::path::{Path, PathBuf};

use clap::Args;

use super::client::Client;
use crate::config::{self, Settings};

/// Which server is meant.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct ServerArgs {
    #[command(flatten)]
    pub(super) remote: RemoteArgs,
    #[command(flatten)]
    pub(super) state: StateArgs,
}

/// A server on the network.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct RemoteArgs {
    /// Ask this server, as http://nas:8000, not the state folder's [env: PORTCULLIS_SERVER]
    #[arg(long, value_name = "URL", help_heading = "Which server", hide_short_help = true)]
    server: Option<String>,
    /// The file that holds the token for it (or set PORTCULLIS_TOKEN) [env: PORTCULLIS_TOKEN_FILE]
    #[arg(long, value_name = "FILE", help_heading = "Which server", hide_short_help = true)]
    token_file: Option<PathBuf>,
}

/// A server on this machine, or what is left of one.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct StateArgs {
    /// The state folder of the server on this machine [env: STATE_DIR] [default: ./state]
    #[arg(long, value_name = "FOLDER", help_heading = "Which server", hide_short_help = true)]
    state_dir: Option<PathBuf>,
}

impl ServerArgs {
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        Ok(match self.remote.client()? {
            Some(client) => client,
            None => Client::of_state_dir(&self.state.folder()),
        })
    }
}

impl RemoteArgs {
    /// Returns a client of the server on the network, where one is named.
    pub(super) fn client(&self) -> anyhow::Result<Option<Client>> {
        let remote = config::remote_server(self.server.as_deref(), self.token_file.as_deref())?;
        Ok(remote.map(Client::of_remote).transpose()?)
    }
}

impl StateArgs {
    pub(super) fn folder(&self) -> PathBuf {
        folder_of(self.state_dir.as_deref())
    }
}

fn folder_of(flag: Option<&Path>) -> PathBuf {
    let mut settings = Settings::default();
    if let Some(folder) = flag {
        settings.set("STATE_DIR", folder);
    }
    config::state_dir(&settings)
}
