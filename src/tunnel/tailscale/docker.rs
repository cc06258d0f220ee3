//! The Docker API, as far as ways in need it: the one home of `bollard`.
//!
//! What is asked, so that a socket proxy can let just that through (the names of `tecnativa/docker-socket-proxy` behind it):
//!
//! * always: `GET /version` (`VERSION`);
//! * `tailscale-cli` within a container: `POST /containers/{name}/exec`, `POST /exec/{id}/start`, `GET /exec/{id}/json`
//!   (`CONTAINERS`, `EXEC`, `POST`);
//! * `tailscale-node`: `GET /containers/json`, `POST /containers/create`, `POST /containers/{name}/start` and `stop`,
//!   `GET /containers/{name}/logs`, `DELETE /containers/{name}`, and `POST /images/create` where it may pull
//!   (`CONTAINERS`, `POST`, `ALLOW_START`, `ALLOW_STOP`, `IMAGES`).
//!
//! Whoever may create containers may do anything to the machine: a proxy that looks at paths alone does not change that.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bollard::API_DEFAULT_VERSION;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::{
    ContainerCreateBody, ContainerSummaryStateEnum, HostConfig, HostConfigLogConfig, Mount, MountType, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
};
use futures_util::StreamExt;
use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};

use super::cli::Said;
use super::localapi::short;
use super::node::{self, Spec};
use crate::causes::Causes;

/// How long the engine may take for one answer. A machine that is short of memory takes seconds to start a container.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// How often is looked whether an exec has ended that nobody waits for any more.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long the engine may take to fetch an image: 40 MB, by whatever line there is.
const PULL_TIMEOUT: Duration = Duration::from_secs(900);
/// How many of a container's last lines are looked at, and how long the one that is told may be.
const LAST_LINES: usize = 5;
/// What keys begin with. containerboot prints none; should it ever, it is not passed on.
const KEY_PREFIX: &str = "tskey-";

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

    /// Finds the containers that have all these labels, those that have ended among them.
    pub(super) async fn containers(&self, labels: Vec<String>) -> Result<Vec<Seen>, DockerError> {
        let filters = HashMap::from([("label", labels)]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let found = self.ask("list containers", self.api().await?.list_containers(Some(options))).await?;
        let seen = found
            .into_iter()
            .map(|one| Seen { labels: one.labels.unwrap_or_default(), is_running: one.state == Some(ContainerSummaryStateEnum::RUNNING) });
        Ok(seen.collect())
    }

    /// Makes a container, and does not start it.
    ///
    /// # Errors
    /// [`DockerError::NotThere`] where the image is missing; [`DockerError::Failed`] with 409 where there is one of that name.
    pub(super) async fn create_container(&self, name: &str, spec: &Spec) -> Result<(), DockerError> {
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        self.ask("create a container", self.api().await?.create_container(Some(options), body(spec))).await.map(drop)
    }

    /// Starts a container; one that runs already is fine.
    pub(super) async fn start_container(&self, name: &str) -> Result<(), DockerError> {
        self.ask("start a container", self.api().await?.start_container(name, None)).await
    }

    /// Stops a container, which has so long to end by itself. One that has ended, or is gone, is fine.
    pub(super) async fn stop_container(&self, name: &str, within: Duration) -> Result<(), DockerError> {
        let seconds = i32::try_from(within.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::new().t(seconds).build();
        gone_is_fine(self.ask("stop a container", self.api().await?.stop_container(name, Some(options))).await)
    }

    /// Removes a container, also one that runs. One that is gone, or on its way, is fine.
    pub(super) async fn remove_container(&self, name: &str) -> Result<(), DockerError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match gone_is_fine(self.ask("remove a container", self.api().await?.remove_container(name, Some(options))).await) {
            Err(DockerError::Failed { status: 409, why, .. }) if why.contains("already in progress") => Ok(()),
            result => result,
        }
    }

    /// Returns the last line that a container said, in words that hold no key.
    pub(super) async fn last_words(&self, name: &str) -> Result<String, DockerError> {
        let what = "tell what a container said";
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(&LAST_LINES.to_string()).build();
        let mut said = self.api().await?.logs(name, Some(options));
        let mut last = String::new();
        let read = async {
            while let Some(line) = said.next().await {
                let line = short(&String::from_utf8_lossy(&line?.into_bytes()));
                if !line.is_empty() {
                    last = line;
                }
            }
            Ok(())
        };
        self.ask(what, read).await?;
        Ok(without_keys(&last))
    }

    /// Has the engine fetch an image.
    pub(super) async fn pull(&self, image: &str) -> Result<(), DockerError> {
        let what = "fetch the image";
        let options = CreateImageOptionsBuilder::new().from_image(image).build();
        let mut told = self.api().await?.create_image(Some(options), None, None);
        let fetch = async {
            while let Some(part) = told.next().await {
                part.map_err(|error| self.error(what, error))?;
            }
            Ok(())
        };
        timeout(PULL_TIMEOUT, fetch).await.unwrap_or(Err(DockerError::Slow(what)))
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
                let why = short(&Causes(&other).to_string());
                let is_denied = why.contains("Permission denied");
                if is_denied { DockerError::NotAllowed { host, what, why } } else { DockerError::Away { host, why } }
            }
        }
    }
}

/// A container that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) labels: HashMap<String, String>,
    pub(super) is_running: bool,
}

/// Leaves out what may be a key.
fn without_keys(line: &str) -> String {
    line.split(' ').map(|word| if word.contains(KEY_PREFIX) { "(a key)" } else { word }).collect::<Vec<_>>().join(" ")
}

fn gone_is_fine(result: Result<(), DockerError>) -> Result<(), DockerError> {
    match result {
        Err(DockerError::NotThere { .. }) => Ok(()),
        result => result,
    }
}

/// Puts a container into the engine's words (pure). Whatever a spec says, it has no rights, writes nowhere but into what is mounted
/// and into memory, and does not come back by itself.
fn body(spec: &Spec) -> ContainerCreateBody {
    let log = HashMap::from([("max-size".to_owned(), spec.most_log.to_owned())]);
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        env: Some(spec.environment.clone()),
        user: Some(spec.user.clone()).filter(|user| !user.is_empty()),
        labels: Some(spec.labels.clone().into_iter().collect()),
        stop_timeout: Some(spec.stop_timeout),
        host_config: Some(HostConfig {
            mounts: Some(spec.mounts.iter().map(mount).collect()),
            binds: Some(spec.more_mounts.clone()),
            tmpfs: Some(HashMap::from([(spec.memory_folder.0.to_owned(), spec.memory_folder.1.to_owned())])),
            network_mode: spec.network.clone(),
            readonly_rootfs: Some(true),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges:true".to_owned()]),
            memory: Some(spec.memory_bytes),
            // As much with swap as without: no swap.
            memory_swap: Some(spec.memory_bytes),
            pids_limit: Some(spec.most_processes),
            restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
            log_config: Some(HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(log) }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn mount(of: &node::Mount) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(of.from.clone()),
        target: Some(of.to.to_owned()),
        read_only: Some(of.is_read_only),
        ..Default::default()
    }
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

    #[test]
    fn a_key_that_was_said_is_not_passed_on() {
        let said = "boot: invalid key: --authkey=tskey-auth-abc is used up";
        assert_eq!(without_keys(said), "boot: invalid key: (a key) is used up");
        assert_eq!(without_keys("no key"), "no key");
    }

    #[test]
    fn a_container_has_no_rights_and_does_not_come_back() {
        let spec = Spec {
            image: "i".to_owned(),
            environment: vec!["A=b".to_owned()],
            mounts: vec![node::Mount { from: "/a".to_owned(), to: "/b", is_read_only: true }],
            more_mounts: vec!["/c:/d".to_owned()],
            memory_folder: ("/tmp", "rw,size=1m"),
            network: Some("n".to_owned()),
            user: "1:2".to_owned(),
            labels: [("l".to_owned(), "v".to_owned())].into(),
            memory_bytes: 1000,
            most_processes: 7,
            stop_timeout: 35,
            most_log: "1m",
        };
        let expected = serde_json::json!({
            "Image": "i", "Env": ["A=b"], "User": "1:2", "Labels": { "l": "v" }, "StopTimeout": 35,
            "HostConfig": {
                "Mounts": [{ "Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true }], "Binds": ["/c:/d"], "Tmpfs": { "/tmp": "rw,size=1m" }, "NetworkMode": "n", "ReadonlyRootfs": true, "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges:true"], "Memory": 1000, "MemorySwap": 1000, "PidsLimit": 7,
                "RestartPolicy": { "Name": "no" }, "LogConfig": { "Type": "json-file", "Config": { "max-size": "1m" } }
            }
        });
        assert_eq!(serde_json::to_value(body(&spec)).unwrap(), expected);
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
