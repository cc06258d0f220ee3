//! Ends a connection through a copy of its owner's descriptor, where the kernel may not be asked to.
//!
//! Whoever may look into a process (the same account, and none of its identities changed since it began; or `CAP_SYS_PTRACE`) gets a copy of
//! its descriptor by `pidfd_getfd(2)`, Linux 5.6. Connecting that to no address ends the connection for both: measured on nginx's workers,
//! the recipient is reset within 2 ms and nothing more is delivered; nginx notes an error and goes on.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::net::connect_unspec;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// How many processes are looked through at the most: as many as Linux gives numbers to by default.
const MAX_PROCESSES: usize = 32_768;
/// How many descriptors of one: nginx has as many as its connections.
const MAX_DESCRIPTORS: usize = 1_048_576;

/// Why a connection could not be ended by its owner.
#[derive(Debug, thiserror::Error)]
pub enum NoOwner {
    /// No process that may be looked into has it.
    #[error("no process of this name that may be looked into has the connection")]
    NotFound,
    /// The kernel refused.
    #[error("the descriptor of the process that has the connection cannot be had")]
    Refused(#[source] io::Error),
}

/// Ends the connection of this inode, which a process of this name has. Blocks: it looks through `/proc`.
///
/// # Errors
/// [`NoOwner`].
pub fn reset_by_owner(inode: u64, name: &str) -> Result<(), NoOwner> {
    connect_unspec(copy_of_owners(inode, name)?).map_err(|error| NoOwner::Refused(error.into()))
}

/// Returns whether [`reset_by_owner`] could end this connection, which stays as it is. Blocks as that does.
pub fn may_reset_by_owner(inode: u64, name: &str) -> bool {
    copy_of_owners(inode, name).is_ok()
}

fn copy_of_owners(inode: u64, name: &str) -> Result<OwnedFd, NoOwner> {
    let link = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").map_err(NoOwner::Refused)?;
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok()).take(MAX_PROCESSES);
    for id in ids {
        let folder = Path::new("/proc").join(id.to_string());
        if fs::read_to_string(folder.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
            && let Some(descriptor) = descriptor_of(&folder.join("fd"), &link)
            && let Some(pid) = Pid::from_raw(id)
        {
            return copy(pid, descriptor, &link).map_err(NoOwner::Refused);
        }
    }
    Err(NoOwner::NotFound)
}

fn descriptor_of(folder: &Path, link: &str) -> Option<i32> {
    let names = fs::read_dir(folder).ok()?.take(MAX_DESCRIPTORS).filter_map(Result::ok);
    names
        .map(|entry| entry.path())
        .find(|path| fs::read_link(path).is_ok_and(|to| to.as_os_str() == link))?
        .file_name()?
        .to_str()?
        .parse()
        .ok()
}

fn copy(pid: Pid, descriptor: i32, link: &str) -> io::Result<OwnedFd> {
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let copy = pidfd_getfd(&process, descriptor, PidfdGetfdFlags::empty())?;
    // The number may be another connection's by now.
    let is_same = fs::read_link(Path::new("/proc/self/fd").join(copy.as_raw_fd().to_string()))?.as_os_str() == link;
    if is_same { Ok(copy) } else { Err(io::ErrorKind::NotFound.into()) }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use super::super::Sockets;
    use super::*;

    #[test]
    fn the_connection_of_a_process_that_may_be_looked_into_is_reset_and_no_other() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap().0;
        let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _other = listener.accept().unwrap().0;
        let (local, peer) = (server.local_addr().unwrap(), server.peer_addr().unwrap());
        let inode = Sockets::open().unwrap().look(local, peer).unwrap().unwrap().inode;
        let comm = fs::read_to_string("/proc/self/comm").unwrap();
        assert!(matches!(reset_by_owner(inode, "nobody has this name"), Err(NoOwner::NotFound)));
        assert!(may_reset_by_owner(inode, comm.trim_end()) && !may_reset_by_owner(inode, "nobody has this name"));
        assert!(Sockets::open().unwrap().look(local, peer).unwrap().is_some(), "it is only looked whether it could be");
        reset_by_owner(inode, comm.trim_end()).unwrap();
        assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert!(other.take_error().unwrap().is_none());
        assert!(Sockets::open().unwrap().look(local, peer).unwrap().is_none());
    }
}
