//! A connection that comes back by itself.
//!
//! Where it cannot be had, whoever asks hears so at once or within [`COMMAND_TIMEOUT`], and is never kept waiting for longer.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisError, ServerErrorKind, Value, cmd};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::address::Server;
use super::scripts::Scripts;
use crate::store::StoreError;

/// How long connecting may take. Redis stands in the same house.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long it may take where Sentinels are asked first: one on a machine that is off costs a second of its own before the next is asked.
pub(super) const SENTINEL_TIMEOUT: Duration = Duration::from_secs(4);
/// How long Redis may take for an answer, with the flush of its disk: an owner who waits is told that it cannot be had.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);
/// How long replicas may take to have what was written; less than a command, so that it is known which of both was late.
const REPLICA_TIMEOUT: Duration = Duration::from_millis(1500);
/// For how long nobody tries to connect again after it failed: whoever asks meanwhile hears why, at once.
const PAUSE: Duration = Duration::from_millis(200);
/// How many requests may wait in the connection for their turn.
const REQUESTS: usize = 1024;

/// What went wrong on the way, shared by those who waited.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Trouble {
    /// The connection broke or could not be had. What was sent may have been done.
    #[error("Redis cannot be reached: {0}")]
    Broken(Arc<str>),
    /// Redis is there and does not do it now: it loads its file, is a replica, or has no memory or disk. Nothing was done.
    #[error("Redis cannot do it now: {0}")]
    Refused(Arc<str>),
}

impl Trouble {
    fn broken(reason: impl std::fmt::Display) -> Self {
        Self::Broken(reason.to_string().into())
    }
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        Self::unavailable(trouble)
    }
}

/// One connection, made anew where it broke.
pub(super) struct Link {
    server: Arc<Mutex<Server>>,
    scripts: Arc<Scripts>,
    /// How long an answer may take.
    patience: Duration,
    connects_within: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    line: Option<Line>,
    /// Counts the connections.
    generation: u64,
    failed: Option<(Instant, Trouble)>,
}

#[derive(Clone)]
enum Line {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Line {
    async fn send(&mut self, pipe: &Pipeline) -> Result<Vec<Value>, RedisError> {
        match self {
            Self::One(line) => line.req_packed_commands(pipe, 0, pipe.len()).await,
            Self::Cluster(line) => line.req_packed_commands(pipe, 0, pipe.len()).await,
        }
    }
}

impl Link {
    /// Connects to a server within `connects_within`, and waits for answers for as long as `patience`.
    pub(super) fn new(server: Arc<Mutex<Server>>, scripts: Arc<Scripts>, connects_within: Duration, patience: Duration) -> Self {
        Self { server, scripts, connects_within, patience, state: Mutex::default() }
    }

    /// Sends commands in one go, and returns their answers with the number of the connection. Errors of single commands are among the answers.
    pub(super) async fn send(&self, pipe: &Pipeline) -> Result<(u64, Vec<Value>), Trouble> {
        let (generation, mut line) = self.line().await?;
        let answer = timeout(self.patience, line.send(pipe)).await;
        let trouble = match answer {
            Ok(Ok(values)) => match values.iter().find_map(refusal) {
                None => return Ok((generation, values)),
                Some((trouble, true)) => trouble,
                Some((trouble, false)) => return Err(trouble),
            },
            // One broken answer of a Cluster stands for all of them.
            Ok(Err(error)) if error.is_io_error() || error.is_unrecoverable_error() || error.is_timeout() => Trouble::broken(error),
            Ok(Err(error)) => Trouble::Refused(error.to_string().into()),
            Err(_) => Trouble::broken(format_args!("no answer within {} s", self.patience.as_secs())),
        };
        self.hang_up(generation).await;
        Err(trouble)
    }

    /// As [`Link::send`], once more where the connection had broken since it was last used.
    pub(super) async fn ask(&self, pipe: &Pipeline) -> Result<(u64, Vec<Value>), Trouble> {
        let began = Instant::now();
        match self.send(pipe).await {
            Err(Trouble::Broken(_)) if began.elapsed() < self.patience / 2 => self.send(pipe).await,
            answer => answer,
        }
    }

    /// Asks how many replicas have all that was written by the connection to the node of a slot, as soon as so many have.
    pub(super) async fn replicas(&self, wanted: u64, slot: u16) -> Result<u64, Trouble> {
        let mut wait = cmd("WAIT");
        wait.arg(wanted).arg(REPLICA_TIMEOUT.as_millis() as u64);
        Ok(match self.ask_node(wait, slot).await? {
            Value::Int(have) => u64::try_from(have).unwrap_or(0),
            _ => 0,
        })
    }

    /// Sends a command that names no key to the node of a slot. That the server refuses it is an answer: nothing.
    pub(super) async fn ask_node(&self, cmd: Cmd, slot: u16) -> Result<Value, Trouble> {
        let (generation, line) = self.line().await?;
        let answer = match line {
            Line::One(mut line) => timeout(self.patience, line.req_packed_command(&cmd)).await,
            Line::Cluster(mut line) => {
                let route = SingleNodeRoutingInfo::SpecificNode(Route::new(slot, SlotAddr::Master));
                timeout(self.patience, line.route_command(cmd, RoutingInfo::SingleNode(route))).await
            }
        };
        let trouble = match answer {
            Ok(Ok(Value::ServerError(_))) => return Ok(Value::Nil),
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) if !error.is_io_error() && !error.is_unrecoverable_error() && !error.is_timeout() => return Ok(Value::Nil),
            Ok(Err(error)) => Trouble::broken(error),
            Err(_) => Trouble::broken(format_args!("no answer within {} s", self.patience.as_secs())),
        };
        self.hang_up(generation).await;
        Err(trouble)
    }

    /// Drops the connection, unless there is another one by now. The next one is asked for anew, of the Sentinels where there are any.
    async fn hang_up(&self, generation: u64) {
        let mut state = self.state.lock().await;
        if state.generation == generation {
            state.line = None;
        }
    }

    async fn line(&self) -> Result<(u64, Line), Trouble> {
        let mut state = self.state.lock().await;
        if let Some(line) = &state.line {
            return Ok((state.generation, line.clone()));
        }
        if let Some((when, trouble)) = &state.failed
            && when.elapsed() < PAUSE
        {
            return Err(trouble.clone());
        }
        match timeout(self.connects_within, self.connect()).await.unwrap_or_else(|_| Err(Trouble::broken("it does not answer"))) {
            Ok(line) => {
                state.generation += 1;
                state.failed = None;
                state.line = Some(line.clone());
                Ok((state.generation, line))
            }
            Err(trouble) => {
                state.failed = Some((Instant::now(), trouble.clone()));
                Err(trouble)
            }
        }
    }

    async fn connect(&self) -> Result<Line, Trouble> {
        // The limits of this module are the ones that hold.
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None).set_pipeline_buffer_size(REQUESTS);
        let mut line = match &mut *self.server.lock().await {
            Server::One(client) => client.get_multiplexed_async_connection_with_config(&config).await.map(Line::One),
            Server::Sentinel(client) => client.get_async_connection_with_config(&config).await.map(Line::One),
            Server::Cluster(client) => client.get_async_connection().await.map(Line::Cluster),
        }
        .map_err(|error| Trouble::broken(with_remedy(&error)))?;
        // A Redis that was started again knows no scripts. In a Cluster each node learns them when it is asked for one.
        if let Line::One(_) = line {
            let values = line.send(&self.scripts.load()).await.map_err(Trouble::broken)?;
            if let Some((trouble, _)) = values.iter().find_map(refusal) {
                return Err(trouble);
            }
        }
        Ok(line)
    }
}

/// Says an error of a connection, and what helps where that is not plain.
fn with_remedy(error: &RedisError) -> String {
    let text = error.to_string();
    if text.contains("UnknownIssuer") {
        format!(
            "{text} (this machine does not trust who signed it: add the authority to its certificates, or name a file of it by SSL_CERT_FILE)"
        )
    } else {
        text
    }
}

/// Returns why Redis does nothing at all now, and whether another server might.
fn refusal(value: &Value) -> Option<(Trouble, bool)> {
    let Value::ServerError(error) = value else { return None };
    let is_elsewhere = match error.kind() {
        Some(ServerErrorKind::ReadOnly | ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::MasterDown) => true,
        Some(ServerErrorKind::BusyLoading | ServerErrorKind::ClusterDown | ServerErrorKind::TryAgain) => false,
        _ if error.code() == "UNBLOCKED" => true,
        _ => return None,
    };
    Some((Trouble::Refused(error.to_string().into()), is_elsewhere))
}
