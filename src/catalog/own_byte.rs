//! One byte that the program itself has, to try the whole way of a share with: the NAS is only read, and may be empty.
//!
//! It lies in memory, sealed: nobody changes it, and nothing of it is left on any disk. Like every file it is pinned by its identity,
//! which is the same wherever this program runs: behind one address with others, whichever of them is asked has the byte.

use std::fs::File;
use std::io::{self, Write};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

use super::OpenFile;
use crate::share::FileIdentity;

/// What it is.
pub const OWN_BYTE: u8 = b'+';
/// What tells it from every file: none has the inode 0.
pub(super) const IDENTITY: FileIdentity = FileIdentity { device: 0, inode: 0, size_bytes: 1, modified_ns: 0, changed_ns: 0 };
/// What it is called in the list of this process's open files.
const NAME: &str = "portcullis-self-test";

/// Makes it.
pub(super) fn make() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let made = match memfd_create(NAME, flags | MemfdFlags::NOEXEC_SEAL) {
        // Linux before 6.3 does not know that flag.
        Err(Errno::INVAL) => memfd_create(NAME, flags),
        made => made,
    };
    let mut file = File::from(made?);
    file.write_all(&[OWN_BYTE])?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file)
}

/// Opens it as a file of the catalog is opened. Whoever sends it says where to read from, so that descriptors may share a place in it.
pub(super) fn open(file: &File) -> io::Result<OpenFile> {
    Ok(OpenFile { file: file.try_clone()?, identity: IDENTITY, is_local: true })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn it_is_one_byte_that_nobody_changes() {
        let file = make().unwrap();
        let opened = open(&file).unwrap();
        let mut bytes = [0; 2];
        assert_eq!((opened.file.read_at(&mut bytes, 0).unwrap(), bytes[0]), (1, OWN_BYTE));
        assert_eq!(opened.identity.size_bytes, 1);
        assert_eq!(opened.identity_now().unwrap(), opened.identity);
        assert!(opened.file.write_at(b"x", 0).is_err() && opened.file.set_len(0).is_err());
        assert_eq!(open(&make().unwrap()).unwrap().identity, opened.identity, "whoever is asked has it");
    }
}
