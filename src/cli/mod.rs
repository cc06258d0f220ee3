//! The command line.
//!
//! `serve` and `check` work by themselves. The others speak to the running server over the socket in its state folder,
//! where being the same account is credential enough. `share` serves its one file itself where none runs.
//!
//! What a command is for stands on standard output (`share` prints the link alone, to be piped), everything else on
//! standard error. How it ended is in the exit code ([`Exit`]).

mod answers;
mod check;
mod client;
mod events;
mod interrupt;
mod place;
mod qr;
mod remote;
mod share;
mod terminal;
mod text;
mod wait;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use self::terminal::Terminal;
use crate::config::{Config, Mistake, Settings};
use crate::{app, telemetry};

/// How long work that cannot be interrupted (a read from a NAS that hangs) may hold up the end of the program.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// How a command ended, as its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked; a share that was waited for is delivered.
    Done = 0,
    /// It could not, for the reason on standard error.
    Error = 1,
    /// The command or a setting makes no sense.
    Usage = 2,
    /// Nobody took the share in time.
    Expired = 3,
    /// The recipient stopped coming, or took longer than is allowed.
    Stalled = 4,
    /// The share was closed by its owner.
    Revoked = 5,
    /// The file changed while it was shared.
    SourceChanged = 6,
    /// No server runs, and none could be started.
    NoServer = 7,
    /// The way in could not be opened, or was lost for good.
    Failed = 8,
    /// It was interrupted (Ctrl-C), and closed its share.
    Interrupted = 130,
}

/// Lifts one file of a NAS into the public internet for one person, and drops the gate behind them.
#[derive(Debug, Parser)]
#[command(
    name = "portcullis",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done or delivered, 1 error, 2 wrong usage or setting, 3 expired unused, 4 stalled or timed out, 5 closed by \
                  its owner, 6 the file changed, 7 no server and none could be started, 8 the way in failed, 130 interrupted."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the files below FOLDER: the owner's page, the API and the links
    Serve(ServeArgs),
    /// Share one file and print its link
    Share(share::ShareArgs),
    /// List the shares that are not closed
    Ls(remote::LsArgs),
    /// Close shares: their links stop working at once
    Close(remote::CloseArgs),
    /// Say everything that is wrong with the settings, and try what they name
    Check(check::CheckArgs),
    /// Ask the running server whether it is well (for containers)
    Healthcheck(StateArgs),
    /// Print a link that signs a browser in to the owner's page
    SignIn(StateArgs),
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// The folder whose files can be shared
    #[arg(conflicts_with = "NAS_MOUNT_PATH")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// Which server is meant.
#[derive(Debug, Args)]
struct StateArgs {
    /// The state folder of the running server [env: STATE_DIR] [default: ./state]
    #[arg(long)]
    state_dir: Option<PathBuf>,
}

impl StateArgs {
    fn client(&self) -> client::Client {
        let mut settings = Settings::default();
        if let Some(folder) = &self.state_dir {
            settings.set("STATE_DIR", folder);
        }
        client::Client::of_state_dir(&crate::config::state_dir(&settings))
    }
}

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too. If even this cannot be printed, the code still says it.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8));
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            Terminal::of_process().say(&format!("The program cannot start its threads: {error}."));
            return ExitCode::from(Exit::Error as u8);
        }
    };
    let code = match cli.command {
        Command::Serve(args) => serve(&runtime, args),
        command => ExitCode::from(runtime.block_on(run(command, &mut Terminal::of_process())) as u8),
    };
    runtime.shutdown_timeout(LAST_WAIT);
    code
}

fn serve(runtime: &tokio::runtime::Runtime, args: ServeArgs) -> ExitCode {
    let terminal = &mut Terminal::of_process();
    let mut settings = args.settings;
    if let Some(folder) = args.folder {
        settings.set("NAS_MOUNT_PATH", folder);
    }
    let config = match Config::load(&settings) {
        Ok(config) => config,
        Err(mistakes) => return ExitCode::from(tell_mistakes(&mistakes, terminal) as u8),
    };
    if let Err(error) = telemetry::install(&config.log, config.log_format, config.colours) {
        terminal.say(&format!("There will be no log: {error}."));
    }
    runtime.block_on(app::serve(config)).unwrap_or_else(|error| {
        terminal.say_error(&error);
        ExitCode::from(Exit::Error as u8)
    })
}

async fn run(command: Command, terminal: &mut Terminal) -> Exit {
    let result = match command {
        Command::Serve(_) => unreachable!("it is run by itself"),
        Command::Share(args) => match interrupt::Interrupts::listen() {
            Ok(interrupts) => share::run(&args, interrupts, terminal).await,
            Err(error) => Err(error.into()),
        },
        Command::Ls(args) => remote::ls(&args.server.client(), &args, terminal).await,
        Command::Close(args) => remote::close(&args.server.client(), &args.ids, terminal).await,
        Command::Check(args) => Ok(check::run(&args, terminal).await),
        Command::Healthcheck(args) => remote::healthcheck(&args.client(), terminal).await,
        Command::SignIn(args) => remote::sign_in(&args.client(), terminal).await,
    };
    ended(result, terminal)
}

/// Tells why a command could not do what was asked.
fn ended(result: anyhow::Result<Exit>, terminal: &mut Terminal) -> Exit {
    result.unwrap_or_else(|error| {
        terminal.say_error(&error);
        match error.downcast_ref() {
            Some(client::ClientError::NoServer { .. }) => Exit::NoServer,
            _ => Exit::Error,
        }
    })
}

fn tell_mistakes(mistakes: &[Mistake], terminal: &mut Terminal) -> Exit {
    for mistake in mistakes {
        terminal.say(&mistake.to_string());
    }
    Exit::Usage
}

#[cfg(test)]
mod tests;
