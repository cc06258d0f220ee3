//! The Docker API, as far as ways in need it: the one home of `bollard`.
//!
//! What is asked, so that a socket proxy can let just that through (the names of `tecnativa/docker-socket-proxy` behind it):
//!
//! * always: `GET /version` (`VERSION`);
//! * `tailscale-cli` within a container: `POST /containers/{name}/exec`, `POST /exec/{id}/start`, `GET /exec/{id}/json`
//!   (`CONTAINERS`, `EXEC`, `POST`);
//! * `tailscale-node`: `POST /containers/create`, `GET /containers/json`, `POST /containers/{id}/start` and `stop`,
//!   `DELETE /containers/{id}`, `GET /images/{name}/json`, and `POST /images/create` where it may pull
//!   (`CONTAINERS`, `IMAGES`, `POST`, `ALLOW_START`, `ALLOW_STOP`).
//!
//! Whoever may create containers may do anything to the machine: a proxy that looks at paths alone does not change that.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bollard::API_DEFAULT_VERSION;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecResults};
use futures_util::StreamExt;
use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};

use super::cli::Said;
use super::localapi::short;

/// How long the engine may take for one answer. A machine that is short of memory takes seconds to start a container.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// How often is looked whether an exec has ended that nobody waits for any more.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Says why the engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// The address is none that is understood here.
    #[error("DOCKER_HOST is {0}, and must be unix:///path/to/docker.sock or tcp://host:port")]
    Address(String),
    /// Nobody listens there.
    #[error("Docker does not answer at {host}: start it, or share its socket with this program ({why})")]
    Away {
        /// Its address.
        host: String,
        /// What went wrong.
        why: String,
    },
    /// The system or a proxy before the engine does not let us ask.
    #[error("this program may not {what} by Docker at {host}: let it, in the socket proxy or by the socket's group ({why})")]
    NotAllowed {
        /// Its address.
        host: String,
        /// What was asked.
        what: &'static str,
        /// What was said.
        why: String,
    },
    /// There is no such container, image or exec.
    #[error("Docker could not {what}: {why}")]
    NotThere {
        /// What was asked.
        what: &'static str,
        /// What was said.
        why: String,
    },
    /// It failed, or said no.
    #[error("Docker could not {what} ({status}): {why}")]
    Failed {
        /// What was asked.
        what: &'static str,
        /// The answer's status.
        status: u16,
        /// What was said.
        why: String,
    },
    /// It did not answer in time.
    #[error("Docker did not {0} in time")]
    Slow(&'static str),
    /// What it said does not fit.
    #[error("Docker said more than {0} MB")]
    TooMuch(usize),
}

impl DockerError {
    /// Returns whether the same call may succeed later, without an operator doing something.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Address(_) | Self::NotAllowed { .. })
    }
}

/// The way to an engine. Cheap to clone; connects when it is first asked.
#[derive(Clone)]
pub struct Docker {
    host: Arc<str>,
    api: Arc<OnceCell<bollard::Docker>>,
}

impl fmt::Debug for Docker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Docker").field(&self.host).finish()
    }
}

impl Docker {
    /// Takes the engine's address, as `DOCKER_HOST` has it: `unix:///var/run/docker.sock` (the usual one) or `tcp://proxy:2375`.
    ///
    /// # Errors
    /// [`DockerError::Address`].
    pub fn new(host: &str) -> Result<Self, DockerError> {
        let is_understood = match host.split_once("://") {
            Some(("unix", path)) => path.starts_with('/'),
            Some(("tcp", address)) => address.rsplit_once(':').is_some_and(|(name, port)| !name.is_empty() && port.parse::<u16>().is_ok()),
            _ => false,
        };
        if is_understood { Ok(Self { host: host.into(), api: Arc::default() }) } else { Err(DockerError::Address(short(host))) }
    }

    /// Makes ready to run a command in a container, as an array and with no shell. Returns its id.
    pub(super) async fn create_exec(&self, container: &str, command: Vec<String>) -> Result<String, DockerError> {
        let what = "run a program in the container";
        let options = CreateExecOptions { attach_stdout: Some(true), attach_stderr: Some(true), cmd: Some(command), ..Default::default() };
        let api = self.api().await?;
        self.ask(what, api.create_exec(container, options)).await.map(|made| made.id)
    }

    /// Runs what was made ready, and returns what it said. Dropped meanwhile, it goes on.
    pub(super) async fn run_exec(&self, exec: &str, most_output: usize) -> Result<Said, DockerError> {
        let what = "run a program in the container";
        let api = self.api().await?;
        let mut said = Said::default();
        if let StartExecResults::Attached { mut output, .. } = self.ask(what, api.start_exec(exec, None)).await? {
            while let Some(part) = output.next().await {
                match part.map_err(|error| self.error(what, error))? {
                    LogOutput::StdErr { message } => said.stderr.extend_from_slice(&message),
                    other => said.stdout.extend_from_slice(&other.into_bytes()),
                }
                if said.stdout.len() + said.stderr.len() > most_output {
                    return Err(DockerError::TooMuch(most_output >> 20));
                }
            }
        }
        said.code = self.wait_exec_ended(exec, ANSWER_TIMEOUT).await?;
        Ok(said)
    }

    /// Waits until an exec does not run any more, for so long at the most. Returns its exit code.
    pub(super) async fn wait_exec_ended(&self, exec: &str, most: Duration) -> Result<Option<i64>, DockerError> {
        let what = "see a program in the container end";
        let api = self.api().await?;
        let ended = async {
            loop {
                match self.ask(what, api.inspect_exec(exec)).await {
                    Ok(state) if state.running == Some(true) => sleep(LOOK_EVERY).await,
                    Ok(state) => return Ok(state.exit_code),
                    // The engine forgets them when they are over, or with their container.
                    Err(DockerError::NotThere { .. }) => return Ok(None),
                    Err(error) => return Err(error),
                }
            }
        };
        timeout(most, ended).await.unwrap_or(Err(DockerError::Slow(what)))
    }

    async fn api(&self) -> Result<&bollard::Docker, DockerError> {
        let what = "tell its version";
        let connect = || async {
            let seconds = ANSWER_TIMEOUT.as_secs();
            let api = match self.host.strip_prefix("unix://") {
                // Refused here where the socket is missing; everything else shows with the first question.
                Some(path) if !Path::new(path).exists() => {
                    return Err(DockerError::Away { host: self.host.to_string(), why: "there is no such socket".to_owned() });
                }
                Some(path) => bollard::Docker::connect_with_unix(path, seconds, API_DEFAULT_VERSION),
                None => bollard::Docker::connect_with_http(&self.host, seconds, API_DEFAULT_VERSION),
            };
            let api = api.map_err(|error| self.error(what, error))?;
            // An older engine refuses what is asked in a newer version's words.
            self.ask(what, api.negotiate_version()).await
        };
        self.api.get_or_try_init(connect).await
    }

    async fn ask<T>(&self, what: &'static str, work: impl Future<Output = Result<T, Error>>) -> Result<T, DockerError> {
        match timeout(ANSWER_TIMEOUT, work).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.error(what, error)),
            Err(_) => Err(DockerError::Slow(what)),
        }
    }

    fn error(&self, what: &'static str, error: Error) -> DockerError {
        let host = self.host.to_string();
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                let why = short(&message);
                match status_code {
                    401 | 403 => DockerError::NotAllowed { host, what, why },
                    404 => DockerError::NotThere { what, why },
                    status => DockerError::Failed { what, status, why },
                }
            }
            Error::RequestTimeoutError => DockerError::Slow(what),
            other => {
                let why = short(&causes(&other));
                let is_denied = why.contains("Permission denied");
                if is_denied { DockerError::NotAllowed { host, what, why } } else { DockerError::Away { host, why } }
            }
        }
    }
}

/// Says an error with what lies behind it: what went wrong with a connection stands three causes deep.
fn causes(error: &dyn std::error::Error) -> String {
    let all = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    let mut parts: Vec<String> = all.collect();
    parts.dedup();
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_socket_or_a_proxy() {
        for good in ["unix:///var/run/docker.sock", "tcp://proxy:2375", "tcp://127.0.0.1:2375", "tcp://[::1]:2375"] {
            assert!(Docker::new(good).is_ok(), "{good}");
        }
        for bad in
            ["", "unix://", "unix://docker.sock", "tcp://proxy", "tcp://:2375", "tcp://a:99999", "ssh://root@nas", "/var/run/docker.sock"]
        {
            let error = Docker::new(bad).unwrap_err();
            assert!(error.to_string().contains("unix:///path/to/docker.sock or tcp://host:port") && !error.is_retryable(), "{bad}");
        }
    }

    #[tokio::test]
    async fn an_engine_that_is_away_is_said_and_may_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let docker = Docker::new(&format!("unix://{}", socket.display())).unwrap();
        let error = docker.create_exec("x", Vec::new()).await.unwrap_err();
        assert!(matches!(&error, DockerError::Away { why, .. } if why == "there is no such socket"), "{error}");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let error = docker.create_exec("x", Vec::new()).await.unwrap_err();
        assert!(matches!(&error, DockerError::Away { why, .. } if why.contains("Connection refused")) && error.is_retryable(), "{error}");
    }
}
