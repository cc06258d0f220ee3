//! `portcullis watch`: what happens, as it happens.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use futures_util::{Stream, StreamExt, stream};
use serde_json::Value;
use tokio::time::Instant;

use super::Exit;
use super::answers::{Answered, Share};
use super::change::share_id;
use super::client::{Client, ClientError, Events};
use super::interrupt::Interrupts;
use super::list::{living, share_table};
use super::server::ServerArgs;
use super::terminal::Terminal;
use super::wait::{BETWEEN_ATTEMPTS, MAX_ATTEMPTS, ending};

/// How often the table is drawn anew at most: faster than anybody reads costs only the terminal.
const BETWEEN_DRAWINGS: Duration = Duration::from_millis(250);
/// How many shares that closed while we watched stay in the table.
const MAX_CLOSED: usize = 5;

/// What `watch` is asked.
#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// Only this share, until it is closed; the exit code says how
    id: Option<String>,
    /// Print each event of the log as a line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

pub(super) async fn run(args: &WatchArgs, mut interrupts: Interrupts, terminal: &mut Terminal) -> anyhow::Result<Exit> {
    let (client, interrupts) = (&args.server.client()?, &mut interrupts);
    let id = args.id.as_deref().map(share_id).transpose()?.map(|id| id.to_string());
    // A server that goes away is waited for; one that was never there, and a share that is not known, are told of at once.
    match &id {
        Some(id) => drop(client.share(id).await?),
        None => drop(client.session().await?),
    }
    let result = if args.json {
        let heard = heard(client.clone(), Wanted::Log);
        follow(heard, client, id.as_deref(), &mut Printing, interrupts, terminal).await
    } else {
        let heard = heard(client.clone(), Wanted::Shares);
        let mut watching = Watching { shares: BTreeMap::new(), closed: Vec::new(), told: BTreeMap::new() };
        follow(heard, client, id.as_deref(), &mut watching, interrupts, terminal).await
    };
    if !args.json && terminal.screen().is_some() {
        terminal.end_drawing()?;
    }
    result
}

/// What is heard from the server.
#[derive(Debug)]
enum Heard {
    /// The stream stands, or something was missed: what was known is old.
    Anew,
    Share(Box<Answered>),
    Log(Value),
}

/// Shows what is heard.
trait Show {
    /// Whether it shows shares that were open before.
    const WANTS_SHARES: bool;
    /// Takes the shares that are open, where all of them were asked for.
    fn anew(&mut self, shares: Vec<Answered>);
    /// Takes what happened.
    fn heard(&mut self, heard: Heard, terminal: &mut Terminal) -> anyhow::Result<()>;
    /// Shows it.
    fn draw(&mut self, terminal: &mut Terminal) -> anyhow::Result<()>;
}

enum Step {
    Heard(Option<Result<Heard, ClientError>>),
    Draw,
    Stop,
}

async fn follow<S: Show>(
    heard: impl Stream<Item = Result<Heard, ClientError>>,
    client: &Client,
    id: Option<&str>,
    show: &mut S,
    interrupts: &mut Interrupts,
    terminal: &mut Terminal,
) -> anyhow::Result<Exit> {
    let mut heard = std::pin::pin!(heard);
    let mut drawing: Option<Instant> = None;
    loop {
        let step = tokio::select! {
            heard = heard.next() => Step::Heard(heard),
            () = at(drawing) => Step::Draw,
            () = interrupts.next() => Step::Stop,
        };
        let over = match step {
            Step::Stop => Some(Exit::Done),
            Step::Draw => {
                show.draw(terminal)?;
                drawing = None;
                continue;
            }
            Step::Heard(None) => Some(Exit::Done),
            Step::Heard(Some(Err(error))) => return Err(error.into()),
            Step::Heard(Some(Ok(Heard::Anew))) => {
                let shares = match id {
                    Some(id) => vec![client.share(id).await?],
                    None if S::WANTS_SHARES => living(client).await?,
                    None => Vec::new(),
                };
                let over = id.and(shares.first()).and_then(|answered| closed(&answered.share));
                show.anew(shares);
                over
            }
            Step::Heard(Some(Ok(heard))) => {
                if id.is_none_or(|id| heard.is_about(id)) {
                    let over = id.and_then(|_| heard.closes());
                    show.heard(heard, terminal)?;
                    over
                } else {
                    continue;
                }
            }
        };
        if let Some(exit) = over {
            show.draw(terminal)?;
            return Ok(exit);
        }
        drawing = drawing.or_else(|| Some(Instant::now() + BETWEEN_DRAWINGS));
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn closed(share: &Share) -> Option<Exit> {
    (share.state == "closed").then(|| ending(share)).flatten()
}

impl Heard {
    fn is_about(&self, id: &str) -> bool {
        match self {
            Self::Anew => true,
            Self::Share(answered) => answered.share.id == id,
            Self::Log(line) => line["share"] == id,
        }
    }

    /// Returns how the share that this is about ended, where this closes it.
    fn closes(&self) -> Option<Exit> {
        match self {
            Self::Anew => None,
            Self::Share(answered) => closed(&answered.share),
            Self::Log(line) if line["type"] == "share.closed" => Some(Exit::of_outcome(line["outcome"].as_str().unwrap_or_default())),
            Self::Log(_) => None,
        }
    }
}

/// Prints the lines of the event log.
struct Printing;

impl Show for Printing {
    const WANTS_SHARES: bool = false;

    fn anew(&mut self, _: Vec<Answered>) {}

    fn heard(&mut self, heard: Heard, terminal: &mut Terminal) -> anyhow::Result<()> {
        if let Heard::Log(line) = heard {
            terminal.print_json(&line)?;
        }
        Ok(())
    }

    fn draw(&mut self, _: &mut Terminal) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Shows shares: a table drawn in place on a screen, else a line for each new state.
struct Watching {
    /// Those that are open, by age.
    shares: BTreeMap<(String, String), Answered>,
    /// Those that closed while we watched, the latest last.
    closed: Vec<Answered>,
    /// What was told of each, where there is no screen.
    told: BTreeMap<String, String>,
}

impl Watching {
    fn put(&mut self, answered: Answered) {
        let key = (answered.share.created_at.clone(), answered.share.id.clone());
        if answered.share.state == "closed" {
            self.shares.remove(&key);
            self.closed.retain(|known| known.share.id != key.1);
            self.closed.push(answered);
            if self.closed.len() > MAX_CLOSED {
                let gone = self.closed.remove(0);
                self.told.remove(&gone.share.id);
            }
        } else {
            self.closed.retain(|known| known.share.id != key.1);
            self.shares.insert(key, answered);
        }
    }

    fn all(&self) -> impl Iterator<Item = &Answered> {
        self.shares.values().rev().chain(self.closed.iter().rev())
    }
}

impl Show for Watching {
    const WANTS_SHARES: bool = true;

    fn anew(&mut self, shares: Vec<Answered>) {
        self.shares.clear();
        shares.into_iter().for_each(|answered| self.put(answered));
    }

    fn heard(&mut self, heard: Heard, terminal: &mut Terminal) -> anyhow::Result<()> {
        if let Heard::Share(answered) = heard {
            // Without a screen each state is a line, also one that lasts shorter than a drawing.
            let is_line = terminal.screen().is_none();
            self.put(*answered);
            if is_line {
                self.draw(terminal)?;
            }
        }
        Ok(())
    }

    fn draw(&mut self, terminal: &mut Terminal) -> anyhow::Result<()> {
        let Some(screen) = terminal.screen() else {
            let news = self.all().filter(|Answered { share, .. }| self.told.get(&share.id) != Some(&share.state));
            let news: Vec<_> = news.map(|Answered { share, .. }| (share.id.clone(), share.state.clone(), line(share))).collect();
            for (id, state, line) in news {
                terminal.print(&line)?;
                self.told.insert(id, state);
            }
            return Ok(());
        };
        let mut lines = share_table(self.all()).lines(Some(screen.columns));
        // The last row is the cursor's.
        let room = screen.rows.saturating_sub(1).max(1);
        if lines.len() > room {
            let hidden = lines.len() - room + 1;
            lines.truncate(room - 1);
            lines.push(super::text::fitted(&format!("… and {hidden} more"), screen.columns));
        }
        if lines.len() == 1 {
            lines = vec![super::text::fitted("No share is open. (Ctrl-C ends this)", screen.columns)];
        }
        terminal.redraw(&lines)?;
        Ok(())
    }
}

fn line(share: &Share) -> String {
    format!("{}  {}  {}", share.id, share.state_text, share.name)
}

/// Which events are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Shares,
    /// Every line of the event log, also those that were written while the connection was lost.
    Log,
}

/// The server's events, over lost connections and restarts.
struct Listening {
    client: Client,
    wanted: Wanted,
    events: Option<Events>,
    /// The last line of the log that was heard.
    last: Option<u64>,
    attempts: u32,
}

fn heard(client: Client, wanted: Wanted) -> impl Stream<Item = Result<Heard, ClientError>> {
    stream::unfold(Listening { client, wanted, events: None, last: None, attempts: 0 }, |mut listening| async move {
        let heard = listening.next().await;
        Some((heard, listening))
    })
}

impl Listening {
    async fn next(&mut self) -> Result<Heard, ClientError> {
        loop {
            let result = match &mut self.events {
                Some(events) => events.next().await,
                None => match self.client.events(self.last.filter(|_| self.wanted == Wanted::Log)).await {
                    Ok(events) => {
                        self.events = Some(events);
                        // The log goes on where it was left: nothing was missed.
                        if self.wanted == Wanted::Log && self.last.is_some() {
                            continue;
                        }
                        return Ok(Heard::Anew);
                    }
                    Err(error) => Err(error),
                },
            };
            match result {
                Ok(Some(event)) => {
                    self.attempts = 0;
                    let is_log = self.wanted == Wanted::Log;
                    if is_log && matches!(event.name.as_str(), "log" | "ready" | "resync") {
                        self.last = event.id.or(self.last);
                    }
                    match event.name.as_str() {
                        "log" if is_log => return Ok(Heard::Log(read(&event.data)?)),
                        "share" if !is_log => {
                            let share =
                                Answered::try_from(read(&event.data)?).map_err(|error| ClientError::Broken { source: error.into() })?;
                            return Ok(Heard::Share(Box::new(share)));
                        }
                        "resync" => return Ok(Heard::Anew),
                        _ => {}
                    }
                }
                // The server ends each stream after a while.
                Ok(None) => {
                    self.events = None;
                    tokio::time::sleep(BETWEEN_ATTEMPTS).await;
                }
                Err(error) if error.is_passing() && self.attempts < MAX_ATTEMPTS => {
                    self.events = None;
                    self.attempts += 1;
                    tokio::time::sleep(BETWEEN_ATTEMPTS).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn read(data: &str) -> Result<Value, ClientError> {
    serde_json::from_str(data).map_err(|error| ClientError::Broken { source: error.into() })
}
