//! The only way from a path to a descriptor: below the root, through no symbolic link, to a regular file or a folder.
//!
//! `openat2` lets the kernel hold all of it at once (`RESOLVE_BENEATH`, `RESOLVE_NO_SYMLINKS`, `RESOLVE_NO_MAGICLINKS`). Where it
//! is missing (Linux before 5.6, an old container sandbox) the path is walked name by name with `O_NOFOLLOW`, each relative to
//! the folder that was opened before: slower, equally strict. The same walk is taken when folders are excluded, because then
//! each folder on the way is looked at.
//!
//! What the kernel has in memory is opened at once (`RESOLVE_CACHED`), without a thread of its own.
//!
//! A name is first opened as a mere place (`O_PATH`), which acts on no device and waits for no pipe. Only a place that proved to
//! be a regular file is opened for reading, and what that gave must be the same inode.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2};
use rustix::io::Errno;

use super::file_system::is_local;
use super::hidden::Rules;
use super::{CatalogError, CatalogOptions, OpenFile};
use crate::share::{CatalogPath, FileIdentity};

/// How often a file that is replaced under our hands is looked at again: replacing by rename is how programs save.
const MAX_SWAPS: usize = 8;
/// How often an open that the kernel wants repeated is repeated: a race with a rename, a lease that Samba gives up.
const MAX_REPEATS: usize = 10;
/// How long to leave a lease's holder before the open is repeated.
const REPEAT_PAUSE: Duration = Duration::from_millis(20);

/// How a name is opened below a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By one `openat2`.
    OpenAt2,
    /// Name by name with `openat`.
    Walk,
}

/// The root, held open: everything is found relative to this descriptor.
#[derive(Debug)]
pub(super) struct Root {
    folder: OwnedFd,
    path: PathBuf,
    device: u64,
    inode: u64,
    way: Way,
    /// Whether it lies on a file system of this machine.
    is_local: bool,
    rules: Rules,
    /// Whether files on its own file system say that they lie on device 0.
    is_mounted_elsewhere: bool,
}

/// Whether finding a path may take its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Haste {
    /// As long as the disk or the NAS takes.
    Waits,
    /// Not at all: what is not in the kernel's memory, on the root's own file system, is not looked for.
    AtOnce,
}

/// A place below the root: what it is, and from where it was opened.
struct Place<'p> {
    /// The folder that `name` is relative to; `None` for the root itself.
    base: Option<OwnedFd>,
    /// The rest of the path.
    name: &'p [u8],
    handle: OwnedFd,
    stat: Stat,
}

impl Root {
    /// Opens the root, which may be named by way of symbolic links: it is the owner who names it.
    pub(super) fn open(path: &Path, options: CatalogOptions) -> Result<Self, CatalogError> {
        Self::open_by(path, options, None)
    }

    /// Opens the root as [`Root::open`], with a way of the caller's choice.
    pub(super) fn open_by(path: &Path, options: CatalogOptions, way: Option<Way>) -> Result<Self, CatalogError> {
        let explain = |errno: Errno| CatalogError::Io { source: with_path(path, &errno.into()) };
        let path_only = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, path_only, Mode::empty()).map_err(explain)?;
        openat(&folder, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(explain)?;
        let stat = fstat(&folder).map_err(explain)?;
        let is_mounted_elsewhere = options.is_mounted_elsewhere;
        let rules = Rules::new(options);
        if rules.excludes(&stat) {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "it is the folder of portcullis' own state, which is never shared");
            return Err(CatalogError::Io { source: with_path(path, &source) });
        }
        let way = way.unwrap_or_else(|| way_that_works(folder.as_fd()));
        let is_local = is_local(folder.as_fd());
        Ok(Self { folder, path: path.to_owned(), device: stat.st_dev, inode: stat.st_ino, way, is_local, rules, is_mounted_elsewhere })
    }

    /// Returns what is hidden here.
    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Returns whether the root's path still leads to the folder that is held open, and that folder answers.
    pub(super) fn is_reachable(&self) -> bool {
        let is_root = |stat: Stat| (stat.st_dev, stat.st_ino) == (self.device, self.inode);
        let opened = openat(&self.folder, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        rustix::fs::stat(&self.path).is_ok_and(is_root) && opened.and_then(fstat).is_ok_and(is_root)
    }

    /// Opens a regular file for reading.
    pub(super) fn open_file(&self, path: &CatalogPath) -> Result<OpenFile, CatalogError> {
        for _ in 0..MAX_SWAPS {
            let place = self.locate(path, Haste::Waits)?;
            match FileType::from_raw_mode(place.stat.st_mode) {
                FileType::RegularFile => {}
                FileType::Directory => return Err(CatalogError::IsFolder { path: path.clone() }),
                _ => return Err(CatalogError::NotRegular { path: path.clone() }),
            }
            if let Some(file) = self.open_place(&place, Haste::Waits).map_err(|errno| CatalogError::from_errno(errno, path))? {
                return Ok(file);
            }
        }
        // Something is replacing it without pause.
        Err(CatalogError::Busy)
    }

    /// Opens a regular file where that waits for nothing, so that no thread has to be woken for it: the kernel knows every name
    /// on the way, and all of it lies on the root's own file system, which is of this machine. `None` wherever that is not
    /// so; what is, [`Root::open_file`] says.
    pub(super) fn open_file_at_once(&self, path: &CatalogPath) -> Option<OpenFile> {
        if !self.is_local || self.way != Way::OpenAt2 || !self.rules.are_found() {
            return None;
        }
        let place = self.locate(path, Haste::AtOnce).ok()?;
        let is_file = FileType::from_raw_mode(place.stat.st_mode) == FileType::RegularFile;
        is_file.then(|| self.open_place(&place, Haste::AtOnce).ok().flatten()).flatten()
    }

    /// Opens a folder to be read.
    pub(super) fn open_folder(&self, path: &CatalogPath) -> Result<OwnedFd, CatalogError> {
        let place = self.locate(path, Haste::Waits)?;
        if FileType::from_raw_mode(place.stat.st_mode) != FileType::Directory {
            return Err(CatalogError::NotFolder { path: path.clone() });
        }
        // A folder's own `.` is the folder, so there is no name that could have changed since.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&place.handle, ".", flags, Mode::empty()).map_err(|errno| CatalogError::from_errno(errno, path))
    }

    /// Says what a path is: a regular file or a folder.
    pub(super) fn stat(&self, path: &CatalogPath) -> Result<Stat, CatalogError> {
        let stat = self.locate(path, Haste::Waits)?.stat;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Directory => Ok(stat),
            _ => Err(CatalogError::NotRegular { path: path.clone() }),
        }
    }

    /// Opens the place that a path names. A place that is a symbolic link, hidden or excluded is not found.
    fn locate<'p>(&self, path: &'p CatalogPath, haste: Haste) -> Result<Place<'p>, CatalogError> {
        let not_found = || CatalogError::NotFound { path: path.clone() };
        if !self.rules.shows_path(path) {
            return Err(not_found());
        }
        self.rules.look_again();
        let place = self.walk_to(path.as_bytes(), haste).map_err(|errno| CatalogError::from_errno(errno, path))?;
        match place {
            Some(place) if FileType::from_raw_mode(place.stat.st_mode) != FileType::Symlink => Ok(place),
            _ => Err(not_found()),
        }
    }

    /// Opens the place at a relative path; `None` where something on the way is excluded.
    fn walk_to<'p>(&self, path: &'p [u8], haste: Haste) -> rustix::io::Result<Option<Place<'p>>> {
        let by_one_call = self.way == Way::OpenAt2 && !self.rules.has_exclusions();
        let (mut base, mut name) = (None, path);
        while !by_one_call && let Some(slash) = name.iter().position(|byte| *byte == b'/') {
            let folder = self.step(self.or_root(base.as_ref()), &name[..slash], OFlags::PATH | OFlags::DIRECTORY, haste)?;
            if self.rules.excludes(&fstat(&folder)?) {
                return Ok(None);
            }
            (base, name) = (Some(folder), &name[slash + 1..]);
        }
        let handle = self.step(self.or_root(base.as_ref()), if name.is_empty() { b"." } else { name }, OFlags::PATH, haste)?;
        let stat = fstat(&handle)?;
        Ok((!self.rules.excludes(&stat)).then_some(Place { base, name, handle, stat }))
    }

    /// Opens a place for reading; `None` where another inode has taken its name since.
    fn open_place(&self, place: &Place<'_>, haste: Haste) -> rustix::io::Result<Option<OpenFile>> {
        // Should the name lead to a pipe or a terminal by now: neither wait for it nor be ruled by it.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = match self.step(self.or_root(place.base.as_ref()), place.name, flags, haste) {
            Ok(opened) => opened,
            // The name is gone, or is a link or a socket by now.
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let stat = fstat(&opened)?;
        let is_same = (stat.st_dev, stat.st_ino) == (place.stat.st_dev, place.stat.st_ino);
        if !is_same || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let is_local = is_local(opened.as_fd());
        let mut identity = identity_of(&stat);
        if self.is_mounted_elsewhere && stat.st_dev == self.device {
            identity.device = 0;
        }
        Ok(Some(OpenFile { file: File::from(opened), identity, is_local }))
    }

    /// Opens a name (with `openat2`: a path) below a folder, following no link.
    fn step(&self, folder: BorrowedFd<'_>, name: &[u8], flags: OFlags, haste: Haste) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut repeats = 0;
        loop {
            let opened = match self.way {
                Way::OpenAt2 => openat2(folder, name, flags, Mode::empty(), resolution(haste)),
                Way::Walk => openat(folder, name, flags, Mode::empty()),
            };
            match opened {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if haste == Haste::Waits && repeats < MAX_REPEATS => {
                    repeats += 1;
                    std::thread::sleep(REPEAT_PAUSE);
                }
                done => return done,
            }
        }
    }

    fn or_root<'a>(&'a self, folder: Option<&'a OwnedFd>) -> BorrowedFd<'a> {
        folder.unwrap_or(&self.folder).as_fd()
    }
}

/// Returns what tells this state of a file from every other.
pub(super) fn identity_of(stat: &Stat) -> FileIdentity {
    FileIdentity {
        device: stat.st_dev,
        inode: stat.st_ino,
        size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
        modified_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
        changed_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
    }
}

/// A time outside the years 1678 to 2262 is cut to them. Whether the rest has a sign depends on the platform.
fn nanoseconds(seconds: i64, rest: impl TryInto<u64>) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add_unsigned(rest.try_into().unwrap_or(0))
}

fn no_escape() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

fn resolution(haste: Haste) -> ResolveFlags {
    match haste {
        Haste::Waits => no_escape(),
        // What is mounted below the root may be of another machine. Linux before 5.12 refuses the flag: there everything waits.
        Haste::AtOnce => no_escape() | ResolveFlags::CACHED | ResolveFlags::NO_XDEV,
    }
}

/// Returns whether the kernel has `openat2` and the sandbox lets it pass. The folder itself could be opened, so every error
/// here is about the call: ENOSYS, or the EPERM of a filter that does not know it.
fn way_that_works(folder: BorrowedFd<'_>) -> Way {
    match openat2(folder, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), no_escape()) {
        Ok(_) => Way::OpenAt2,
        Err(_) => Way::Walk,
    }
}

fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
