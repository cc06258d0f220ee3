//! Which file systems answer from this machine.

use std::os::fd::BorrowedFd;

/// The magic numbers (statfs(2), linux/magic.h) of file systems whose data lies in this machine: a question about an open file,
/// and a read of what is in memory, cannot hang on a network or on another process there. FUSE is not among them, nor is
/// virtiofs, which says the same number.
const LOCAL: [u32; 23] = [
    0x0000_EF53, // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683E, // Btrfs
    0x2FC1_2FC1, // ZFS
    0xCA45_1A4E, // bcachefs
    0xF2F5_2010, // F2FS
    0x0102_1994, // tmpfs
    0x8584_58F6, // ramfs
    0x794C_7630, // overlayfs, as in containers
    0x3153_464A, // JFS
    0x5265_4973, // ReiserFS
    0x0000_3434, // NILFS
    0x0000_4D44, // FAT
    0x2011_BAB0, // exFAT
    0x7366_746E, // NTFS by the kernel's ntfs3
    0x5346_544E, // NTFS by the kernel's older driver
    0x0000_482B, // HFS+
    0x0000_4244, // HFS
    0x0000_9660, // ISO 9660
    0x1501_3346, // UDF
    0x7371_7368, // SquashFS
    0xE0F5_E1E2, // EROFS
    0x0000_F15F, // eCryptfs
];

/// Returns whether an open file lies on a local file system. An unknown one does not.
pub(super) fn is_local(file: BorrowedFd<'_>) -> bool {
    // The field's width differs between machines; every magic number fits 32 bits.
    rustix::fs::fstatfs(file).is_ok_and(|info| LOCAL.contains(&(info.f_type as u32)))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_file_of_the_kernel_s_own_is_not_local_and_a_temporary_one_is() {
        assert!(!is_local(File::open("/proc/self/status").unwrap().as_fd()));
        assert!(is_local(tempfile::tempfile().unwrap().as_fd()));
    }

    #[test]
    fn no_number_stands_twice() {
        let mut numbers = LOCAL.to_vec();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), LOCAL.len());
    }
}
