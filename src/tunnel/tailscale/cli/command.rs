//! Runs `tailscale`, here or within a container: no shell, a bounded time, a bounded output, and none left running.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

#[cfg(feature = "docker")]
use crate::tunnel::tailscale::docker::{Docker, DockerError};

/// How long one run may take. It takes 30 ms here; behind a disk that is waking up, some seconds.
pub(super) const MOST_TIME: Duration = Duration::from_secs(10);
/// The longest output: a configuration with a thousand mounts takes 200 kB.
pub(super) const MOST_OUTPUT: usize = 4 << 20;
/// Where programs are looked for. The environment of this program, with all its secrets, is not passed on.
const SEARCHED: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where `tailscale` runs.
#[derive(Debug, Clone)]
pub enum Runs {
    /// On this machine, or in this container.
    Here {
        /// The program: a path, or a name that is looked for in the usual folders. Usually `tailscale`.
        program: PathBuf,
    },
    /// Within a container that runs tailscaled, by Docker's exec. Its image must have `timeout`, as Tailscale's has: Docker
    /// ends no exec, so it has to end by itself.
    #[cfg(feature = "docker")]
    Container {
        /// The engine.
        docker: Docker,
        /// The container's name or id.
        container: String,
        /// The program within it, usually `tailscale`.
        program: String,
    },
}

/// What a program said, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Said {
    /// Its exit code; `None` where a signal ended it.
    pub(crate) code: Option<i64>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Says why nothing was said. What was asked may have been done all the same.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error("there is no program {0}: install Tailscale, or name where its program lies")]
    NoProgram(String),
    #[error("this program may not run {0}: make it executable for the account that this program runs as")]
    NotAllowed(String),
    #[error("{0} could not be run: {1}")]
    NotRun(String, io::Error),
    #[error("`tailscale` did not end within {} seconds and was killed", MOST_TIME.as_secs())]
    Slow,
    #[error("`tailscale` said more than {} MB and was killed", MOST_OUTPUT >> 20)]
    TooMuch,
    #[cfg(feature = "docker")]
    #[error(transparent)]
    Docker(#[from] DockerError),
}

impl RunError {
    pub(super) fn is_retryable(&self) -> bool {
        match self {
            Self::NoProgram(_) | Self::NotAllowed(_) => false,
            Self::NotRun(..) | Self::Slow | Self::TooMuch => true,
            #[cfg(feature = "docker")]
            Self::Docker(error) => error.is_retryable(),
        }
    }
}

/// Runs it, one run at a time.
#[derive(Debug)]
pub(super) struct Runner {
    runs: Runs,
    /// The exec whose end nobody has seen: who waited for it gave up.
    #[cfg(feature = "docker")]
    unseen: Option<String>,
}

impl Runner {
    pub(super) fn new(runs: Runs) -> Self {
        Self {
            runs,
            #[cfg(feature = "docker")]
            unseen: None,
        }
    }

    /// Runs it with `arguments`. Dropped meanwhile, what runs is killed, or the next run waits for its end.
    pub(super) async fn run(&mut self, arguments: Vec<String>) -> Result<Said, RunError> {
        match &self.runs {
            Runs::Here { program } => run_here(program.clone(), arguments).await,
            #[cfg(feature = "docker")]
            Runs::Container { docker, container, program } => {
                let limits = ["timeout".to_owned(), "-s".to_owned(), "KILL".to_owned(), MOST_TIME.as_secs().to_string(), program.clone()];
                let command = limits.into_iter().chain(arguments).collect();
                if let Some(exec) = &self.unseen {
                    docker.wait_exec_ended(exec, MOST_TIME.saturating_mul(2)).await?;
                }
                let exec = docker.create_exec(container, command).await?;
                self.unseen = Some(exec.clone());
                let said =
                    timeout(MOST_TIME.saturating_mul(2), docker.run_exec(&exec, MOST_OUTPUT)).await.map_err(|_| RunError::Slow)??;
                self.unseen = None;
                match said.code {
                    // What `timeout` leaves with, and what the kernel tells of a kill.
                    Some(124 | 137) => Err(RunError::Slow),
                    // How Docker says that a program cannot be run: with words of its runtime's on the standard output.
                    Some(126 | 127) => Err(RunError::NoProgram(format!("{program} or timeout in the container {container}"))),
                    _ => Ok(said),
                }
            }
        }
    }
}

async fn run_here(program: PathBuf, arguments: Vec<String>) -> Result<Said, RunError> {
    let mut command = Command::new(&program);
    command.args(arguments).env_clear().env("PATH", SEARCHED).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // What it starts is killed with it, and it is not reached by a Ctrl-C that is meant for us.
    command.process_group(0).kill_on_drop(true);
    crate::sys::ends_with_its_parent(command.as_std_mut());
    let name = program.display().to_string();
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => RunError::NoProgram(name),
        io::ErrorKind::PermissionDenied => RunError::NotAllowed(name),
        _ => RunError::NotRun(name, error),
    })?;
    let (stdout, stderr) = (child.stdout.take().expect("it is piped"), child.stderr.take().expect("it is piped"));
    // Declared behind the child, it is dropped before: as long as nobody has waited for the child its id is nobody else's.
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
    let work = async {
        let (stdout, stderr) = tokio::try_join!(read(stdout), read(stderr))?;
        let status = child.wait().await.map_err(|error| RunError::NotRun("tailscale".to_owned(), error))?;
        group.0 = None;
        Ok(Said { code: status.code().map(i64::from), stdout, stderr })
    };
    timeout(MOST_TIME, work).await.unwrap_or(Err(RunError::Slow))
}

async fn read(from: impl AsyncRead + Unpin) -> Result<Vec<u8>, RunError> {
    let mut all = Vec::new();
    let mut bounded = from.take(MOST_OUTPUT as u64 + 1);
    bounded.read_to_end(&mut all).await.map_err(|error| RunError::NotRun("tailscale".to_owned(), error))?;
    if all.len() > MOST_OUTPUT { Err(RunError::TooMuch) } else { Ok(all) }
}

/// A group of processes. Dropped while its first one has not been waited for, it is killed.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended just now.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    fn script(folder: &Path, text: &str) -> Runner {
        let program = folder.join("tailscale");
        std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Runner::new(Runs::Here { program })
    }

    fn words(all: &[&str]) -> Vec<String> {
        all.iter().map(|word| (*word).to_owned()).collect()
    }

    #[tokio::test]
    async fn arguments_are_taken_as_they_are_and_the_environment_is_bare() {
        let folder = tempfile::tempdir().unwrap();
        let mut runner = script(folder.path(), r#"printf '<%s>' "$@"; env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD= >&2; exit 3"#);
        let said = runner.run(words(&["a b", "$(id)", "; ls", ""])).await.unwrap();
        assert_eq!(String::from_utf8(said.stdout).unwrap(), "<a b><$(id)><; ls><>");
        assert_eq!(String::from_utf8(said.stderr).unwrap(), format!("PATH={SEARCHED}\n"));
        assert_eq!(said.code, Some(3));
    }

    #[tokio::test]
    async fn what_is_no_program_is_said_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let mut missing = Runner::new(Runs::Here { program: folder.path().join("nothing") });
        let error = missing.run(Vec::new()).await.unwrap_err();
        assert!(error.to_string().ends_with("nothing: install Tailscale, or name where its program lies"), "{error}");
        assert!(!error.is_retryable());
        let text = folder.path().join("text");
        std::fs::write(&text, "no program").unwrap();
        assert!(matches!(Runner::new(Runs::Here { program: text }).run(Vec::new()).await, Err(RunError::NotAllowed(_))));
    }

    #[tokio::test]
    async fn one_that_says_without_end_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(script(folder.path(), "yes").run(Vec::new()).await, Err(RunError::TooMuch)));
    }

    /// Waits until nobody has a file open for writing any more: a FIFO's reader sees the end then.
    async fn ends(fifo: PathBuf) {
        let read = tokio::task::spawn_blocking(move || std::fs::read(fifo).unwrap()).await;
        assert_eq!(read.unwrap(), b"");
    }

    fn fifo(folder: &Path) -> PathBuf {
        let path = folder.join("alive");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        path
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a test ends with its runtime")]
    async fn one_that_is_given_up_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let alive = fifo(folder.path());
        let ready = folder.path().join("ready");
        let text = format!("exec 9>{}; sleep 1000 & : >{}; sleep 1000", alive.display(), ready.display());
        let mut runner = script(folder.path(), &text);
        let reader = tokio::spawn(ends(alive));
        {
            let mut run = std::pin::pin!(runner.run(Vec::new()));
            while !ready.exists() {
                tokio::select! {
                    _ = &mut run => unreachable!("it hangs"),
                    () = tokio::time::sleep(Duration::from_millis(5)) => {}
                }
            }
        }
        reader.await.unwrap();
    }
}
