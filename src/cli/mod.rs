//! The command line.
//!
//! Most commands speak to a running server (`client.rs`): over the socket in its state folder, where being the same account
//! is credential enough, or over the network with a token. `serve`, `check`, `backup`, `restore` and `migrate` work by themselves, and
//! `share` serves its files itself where no server runs.
//!
//! What a command is for stands on standard output (`share` prints the link alone, to be piped), everything else on
//! standard error. How it ended is in the exit code ([`Exit`]).

mod access;
mod alone;
mod answers;
mod audit;
mod backup;
mod change;
mod check;
mod client;
mod config;
mod copy;
mod events;
mod interrupt;
mod list;
mod migrate;
mod nginx_config;
mod pages;
mod place;
mod plot;
mod progress;
mod qr;
mod self_test;
mod server;
mod share;
mod show;
mod stats;
mod table;
mod terminal;
mod text;
mod wait;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use self::client::ClientError;
use self::interrupt::Interrupts;
use self::server::ServerArgs;
use self::terminal::Terminal;
use crate::config::{Config, Mistake, RemoteMistake, Settings};
use crate::shutdown::{Hangups, Signals};
use crate::tunnel::tailscale::keeper;
use crate::tunnel::tailscale::localapi::LocalApi;
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
    /// It was interrupted (Ctrl-C), and closed its share unless it was told not to.
    Interrupted = 130,
}

impl Exit {
    /// Returns the code that says how a share ended.
    fn of_outcome(outcome: &str) -> Self {
        match outcome {
            "completed" => Self::Done,
            "expired" => Self::Expired,
            "stalled" | "timed_out" => Self::Stalled,
            "revoked" => Self::Revoked,
            "source_changed" => Self::SourceChanged,
            _ => Self::Failed,
        }
    }
}

/// What every help of the whole program says; each command's own help says the rest.
const COMMANDS: &str = "\
Commands:
  share, ls, show, watch      make links; list, look at and follow shares
  close, extend, reopen       end a share, give it time, offer it once more
  history, stats, files       look back; find what can be shared
  token, sessions, sign-in    let scripts and browsers in, and out again
  audit                       who did what, and whether that record is whole
  serve, check, config        run the server; say what is wrong; show the settings
  self-test                   try the whole way with a share of one byte
  nginx-config                what nginx is told, where it sends the bytes
  backup, restore             keep what it knows; bring it back
  migrate                     move everything into a Redis, or out of it
  healthcheck, openapi        for containers and for programs
  completions, man, help      for shells and for readers

Example: portcullis share film.mp4 --expires 2h   (`portcullis share -h`: more)";

/// What the long help adds.
const EXIT_CODES: &str = "\
Exit codes: 0 done or delivered, 1 error, 2 wrong usage or setting, 3 expired unused, 4 stalled or timed out, 5 closed by its owner, \
6 the file changed, 7 no server and none could be started, 8 the way in failed, 130 interrupted.

A command finds the server by --server or PORTCULLIS_SERVER (with a token: --token-file, PORTCULLIS_TOKEN or PORTCULLIS_TOKEN_FILE), \
else by the state folder on this machine: --state-dir, STATE_DIR, or ./state.";

/// Lifts one file of a NAS into the public internet for one person, and drops the gate behind them.
#[derive(Debug, Parser)]
#[command(
    name = "portcullis",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    help_template = "{about}\n\n{usage-heading} {usage}{after-help}",
    after_help = COMMANDS,
    after_long_help = format!("{COMMANDS}\n\n{EXIT_CODES}")
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the files below FOLDER: the owner's page, the API and the links
    #[command(after_help = "Example: portcullis serve /srv/nas\nEvery setting is a flag too; --help lists them.")]
    Serve(ServeArgs),
    /// Share files and print their links, each for one person
    #[command(after_help = "Example: portcullis share film.mp4 --expires 2h --downloads 3 --wait")]
    Share(share::ShareArgs),
    /// List the shares that are not closed
    #[command(after_help = "Example: portcullis ls --query holiday")]
    Ls(list::LsArgs),
    /// Say everything about a share, its downloads too
    #[command(after_help = "Example: portcullis show 7k2m9xq4ab")]
    Show(show::ShowArgs),
    /// Watch shares as they go, in a table that is drawn in place
    #[command(after_help = "Example: portcullis watch --json | jq -c 'select(.type == \"share.closed\")'")]
    Watch(watch::WatchArgs),
    /// Close shares: their links stop working at once
    #[command(after_help = "Example: portcullis close 7k2m9xq4ab")]
    Close(change::CloseArgs),
    /// Give a share more time, or less
    #[command(after_help = "Example: portcullis extend 7k2m9xq4ab 2h")]
    Extend(change::ExtendArgs),
    /// Offer a share once more and print its link
    #[command(after_help = "Example: portcullis reopen 7k2m9xq4ab")]
    Reopen(change::ReopenArgs),
    /// List the shares that are closed, and how they ended
    #[command(after_help = "Example: portcullis history --outcome stalled --since 30d")]
    History(list::HistoryArgs),
    /// Say what happened over days: shares, downloads, speed
    #[command(after_help = "Example: portcullis stats --from 2026-11-01 --to 2026-11-30")]
    Stats(stats::StatsArgs),
    /// Find files that can be shared
    #[command(after_help = "Example: portcullis files holiday mp4")]
    Files(list::FilesArgs),
    /// Make, list and revoke tokens, by which scripts come in
    #[command(subcommand, after_help = "Example: portcullis token create \"backup script\" --scope read")]
    Token(access::TokenCommand),
    /// List the browsers that are signed in, and sign them out
    #[command(subcommand, after_help = "Example: portcullis sessions ls")]
    Sessions(access::SessionsCommand),
    /// Say who did what, and whether that record is whole
    #[command(after_help = "Example: portcullis audit --limit 20")]
    Audit(audit::AuditArgs),
    /// Say everything that is wrong with the settings, and try what they name
    #[command(after_help = "Example: portcullis check /srv/nas")]
    Check(check::CheckArgs),
    /// Try the whole way: the running server shares one byte, fetches it and closes it
    #[command(after_help = "Example: portcullis self-test")]
    SelfTest(self_test::SelfTestArgs),
    /// Show every setting, its value and who set it
    #[command(after_help = "Example: portcullis config --json | jq '.settings[] | select(.is_set)'")]
    Config(config::ConfigArgs),
    /// Print what nginx has to be told to send the bytes (DELIVERY=nginx)
    #[command(after_help = "Example: portcullis nginx-config /srv/nas > /etc/nginx/conf.d/portcullis.conf")]
    NginxConfig(nginx_config::NginxConfigArgs),
    /// Write the store and the keys to one file; a server may run meanwhile
    #[command(after_help = "Example: portcullis backup portcullis-2026-11-01.backup")]
    Backup(backup::BackupArgs),
    /// Put a backup back where no server runs; no old link comes back to life
    #[command(after_help = "Example: portcullis restore portcullis-2026-11-01.backup --replace")]
    Restore(backup::RestoreArgs),
    /// Move everything into a Redis, or back, while no server runs: all of it or nothing
    #[command(after_help = "Example: portcullis migrate --from sqlite --to redis /srv/nas")]
    Migrate(migrate::MigrateArgs),
    /// Print the description of the owner's API, as OpenAPI 3.1
    #[command(after_help = "Example: portcullis openapi > openapi.json")]
    Openapi,
    /// Print a script that completes commands in a shell
    #[command(after_help = "Example: portcullis completions bash > ~/.local/share/bash-completion/completions/portcullis")]
    Completions(pages::CompletionsArgs),
    /// Print the manual, or write a page for each command
    #[command(after_help = "Example: portcullis man | man -l -")]
    Man(pages::ManArgs),
    /// Ask the running server whether it is well (for containers)
    #[command(after_help = "Example: portcullis healthcheck --state-dir /var/lib/portcullis")]
    Healthcheck(ServerArgs),
    /// Print a link that signs a browser in to the owner's page
    #[command(after_help = "Example: portcullis sign-in")]
    SignIn(ServerArgs),
    /// Hold a session with tailscaled for a server, until it gives no more signs of life on standard input
    #[command(name = crate::tunnel::tailscale::keeper::COMMAND, hide = true)]
    HoldSession(HoldArgs),
}

#[derive(Debug, Args)]
struct HoldArgs {
    /// tailscaled's socket
    #[arg(long)]
    socket: PathBuf,
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// The folder whose files can be shared
    #[arg(conflicts_with = "NAS_MOUNT_PATH")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// Returns the whole command line. `--help` of a command fits a screen; which server is meant, and the settings, are told by
/// `portcullis help COMMAND`, the manual, and `serve --help`.
fn command_line() -> clap::Command {
    fn on_a_screen(command: clap::Command, name: &str) -> clap::Command {
        let help = format!("Print help (portcullis help{name} prints all of it)");
        let help = Arg::new("help").short('h').long("help").action(ArgAction::HelpShort).help(help);
        let subs: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        let command = command.disable_help_flag(true).arg(help);
        subs.iter().fold(command, |command, sub| command.mut_subcommand(sub, |inner| on_a_screen(inner, &format!("{name} {sub}"))))
    }
    let command = Cli::command();
    let subs: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).filter(|sub| sub != "serve").collect();
    subs.iter().fold(command, |command, sub| command.mut_subcommand(sub, |inner| on_a_screen(inner, &format!(" {sub}"))))
}

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    let cli = match command_line().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too. If even this cannot be printed, the code still says it.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8));
        }
    };
    // Whoever only holds a session needs no second thread.
    let mut builder = match cli.command {
        Command::HoldSession(_) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            Terminal::of_process().say(&format!("The program cannot start its threads: {error}."));
            return ExitCode::from(Exit::Error as u8);
        }
    };
    let code = match cli.command {
        Command::Serve(args) => serve(&runtime, args),
        Command::HoldSession(args) => runtime.block_on(hold(args)),
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
    let log = telemetry::install(&config.log, config.log_format, config.colours);
    if let Err(error) = &log {
        terminal.say(&format!("There will be no log: {error}."));
    }
    let load = Arc::new(move || Config::load(&settings));
    runtime.block_on(app::serve(config, load, log.ok())).unwrap_or_else(|error| {
        terminal.say_error(&error);
        ExitCode::from(Exit::Error as u8)
    })
}

/// Holds a session for the server that started this process. It ends with that server and not by a signal: Ctrl-C and a service
/// manager mean the server, which shuts its doors in good order first.
async fn hold(args: HoldArgs) -> ExitCode {
    let held = async {
        let _signals = (Signals::take()?, Hangups::take()?);
        keeper::run(LocalApi::new(args.socket)).await
    };
    match held.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            Terminal::of_process().say(&format!("A server starts this command, with pipes as its standard input and output ({error})."));
            ExitCode::from(Exit::Usage as u8)
        }
    }
}

async fn run(command: Command, terminal: &mut Terminal) -> Exit {
    let result = match command {
        Command::Share(args) => match Interrupts::listen() {
            Ok(interrupts) => share::run(&args, interrupts, terminal).await,
            Err(error) => Err(error.into()),
        },
        Command::Watch(args) => match Interrupts::listen() {
            Ok(interrupts) => watch::run(&args, interrupts, terminal).await,
            Err(error) => Err(error.into()),
        },
        command => ask(command, terminal).await,
    };
    ended(result, terminal)
}

/// Runs a command that is over when it has its answer: an interrupt just ends it.
async fn ask(command: Command, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    match command {
        Command::Serve(_) | Command::HoldSession(_) | Command::Share(_) | Command::Watch(_) => unreachable!("they are run by themselves"),
        Command::Ls(args) => list::ls(&args.server.client()?, &args, terminal).await,
        Command::Show(args) => show::run(&args.server.client()?, &args, terminal).await,
        Command::Close(args) => change::close(&args.server.client()?, &args, terminal).await,
        Command::Extend(args) => change::extend(&args.server.client()?, &args, terminal).await,
        Command::Reopen(args) => change::reopen(&args.server.client()?, &args, terminal).await,
        Command::History(args) => list::history(&args.server.client()?, &args, terminal).await,
        Command::Stats(args) => stats::run(&args.server.client()?, &args, terminal).await,
        Command::Files(args) => list::files(&args.server.client()?, &args, terminal).await,
        Command::Token(command) => access::token(command, terminal).await,
        Command::Sessions(command) => access::sessions(command, terminal).await,
        Command::Audit(args) => audit::run(args, terminal).await,
        Command::Check(args) => Ok(check::run(&args, terminal).await),
        Command::SelfTest(args) => self_test::run(&args.server.client()?, &args, terminal).await,
        Command::Config(args) => config::run(&args, terminal),
        Command::NginxConfig(args) => nginx_config::run(&args, terminal),
        Command::Backup(args) => backup::backup(&args, terminal),
        Command::Restore(args) => backup::restore(&args, terminal),
        Command::Migrate(args) => migrate::run(&args, terminal).await,
        Command::Openapi => pages::openapi(terminal),
        Command::Completions(args) => pages::completions(&args, command_line(), terminal),
        Command::Man(args) => pages::man(&args, command_line(), terminal),
        Command::Healthcheck(args) => access::healthcheck(&args.client()?, terminal).await,
        Command::SignIn(args) => access::sign_in(&args.client()?, terminal).await,
    }
}

/// Tells why a command could not do what was asked.
fn ended(result: anyhow::Result<Exit>, terminal: &mut Terminal) -> Exit {
    result.unwrap_or_else(|error| {
        terminal.say_error(&error);
        match (error.downcast_ref::<ClientError>(), error.downcast_ref::<RemoteMistake>()) {
            (Some(error), _) if error.is_no_server() => Exit::NoServer,
            (Some(ClientError::BadAddress { .. }), _) | (_, Some(_)) => Exit::Usage,
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
