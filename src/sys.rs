//! The calls to the kernel for which no crate has a safe form: the one file with `unsafe` in it.
//!
//! Each function here is safe to call with whatever its types allow, and says why beside its block. What is more than a call
//! (what a counter means, when a thread should be polite) stands where it is used. `Cargo.toml` denies `unsafe` everywhere
//! else, and `tests/architecture.rs` holds that no other file of the product is an exception.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use libc::{c_int, c_long, socklen_t};

/// `IOPRIO_CLASS_IDLE` of linux/ioprio.h, which only gets what nobody else wants. It has no levels.
const IO_CLASS_IDLE: c_long = 3;
/// Where the class stands in the number that `ioprio_set(2)` takes.
const IO_CLASS_SHIFT: c_long = 13;
/// `IOPRIO_WHO_PROCESS`: the id behind it is one thread's.
const IO_WHO_PROCESS: c_long = 1;
/// The calling thread, for the calls that take the id of a thread.
const THIS_THREAD: c_long = 0;

/// The state of a connection that is over, as `tcpi_state` has it (`include/net/tcp_states.h`).
const TCP_CLOSE: u8 = 7;
/// Where `tcpi_bytes_acked` begins in `struct tcp_info` (Linux's `include/uapi/linux/tcp.h`): behind 8 bytes of states and
/// options, 24 numbers of 32 bits and 2 of 64. New fields are only ever added at the end.
const BYTES_ACKED_AT: usize = 8 + 24 * 4 + 2 * 8;
/// How much of `struct tcp_info` is asked for: all up to the last field that is read.
const TCP_INFO_BYTES: usize = BYTES_ACKED_AT + size_of::<u64>();

/// What the kernel tells of a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TcpInfo {
    state: u8,
    /// How many bytes of our stream the other side's kernel acknowledged; the handshake counts one for
    /// who asked for the connection, and a FIN that was acknowledged one more.
    pub(crate) bytes_acked: u64,
}

impl TcpInfo {
    /// Reads the beginning of a `struct tcp_info`. `None` where it ends before what is wanted: Linux before 4.1 does not count.
    pub(crate) fn parse(answer: &[u8]) -> Option<Self> {
        let bytes_acked = answer.get(BYTES_ACKED_AT..TCP_INFO_BYTES)?;
        Some(Self { state: *answer.first()?, bytes_acked: u64::from_ne_bytes(bytes_acked.try_into().ok()?) })
    }

    /// Returns whether the connection is over for its kernel: reset, timed out, or closed by both sides.
    pub(crate) fn is_over(self) -> bool {
        self.state == TCP_CLOSE
    }
}

/// Asks the kernel about a TCP connection.
///
/// # Errors
/// What `getsockopt(2)` says, as where `socket` is no TCP socket; `Unsupported` where the kernel does not count acknowledged bytes.
pub(crate) fn tcp_info(socket: BorrowedFd<'_>) -> io::Result<TcpInfo> {
    let mut answer = [0u8; TCP_INFO_BYTES];
    let mut length = TCP_INFO_BYTES as socklen_t;
    // SAFETY: `socket` is open, for it is borrowed. The kernel writes only into `answer`, at most as many bytes as `length` tells
    // it (which is all of it), and then into `length` itself; both outlive the call and nothing else refers to them. Whatever is
    // written is a value of `u8`, and what is not written stays zero, so every byte is initialised, however short the answer.
    // Bytes need no alignment, and the kernel copies without any.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, answer.as_mut_ptr().cast(), &raw mut length) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let told = &answer[..TCP_INFO_BYTES.min(length as usize)];
    TcpInfo::parse(told)
        .ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "this kernel does not count acknowledged bytes (Linux 4.1 does)"))
}

/// Lets the calling thread read behind everybody else.
///
/// # Errors
/// What `ioprio_set(2)` says; a sandbox may refuse it.
pub(crate) fn read_behind_everybody() -> io::Result<()> {
    // SAFETY: the call takes three numbers, each passed as wide as a register, and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, IO_WHO_PROCESS, THIS_THREAD, IO_CLASS_IDLE << IO_CLASS_SHIFT) };
    outcome(result)
}

/// Lets the calling thread compute only when no processor has anything else to do.
///
/// # Errors
/// What `sched_setscheduler(2)` says; a sandbox may refuse it.
pub(crate) fn compute_when_idle() -> io::Result<()> {
    // The kernel's `struct sched_param` is one int; idle threads have no levels.
    let parameters: c_int = 0;
    // SAFETY: the call takes two numbers, each passed as wide as a register, and a pointer from which the kernel reads one int;
    // that int is initialised and outlives the call. (The C library's own `sched_setscheduler` does nothing in musl.)
    let result = unsafe { libc::syscall(libc::SYS_sched_setscheduler, THIS_THREAD, c_long::from(libc::SCHED_IDLE), &raw const parameters) };
    outcome(result)
}

/// Has the kernel hand a socket from here on only those messages in which the number `value` stands at `at`, the higher byte first. Others take
/// none of its room.
///
/// # Errors
/// What `setsockopt(2)` says.
pub(crate) fn receive_only(socket: BorrowedFd<'_>, at: u32, value: u16) -> io::Result<()> {
    let step = |code: u32, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let mut steps = [
        step(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, at),
        // Over the next one, where it is another.
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, value.into()),
        step(libc::BPF_RET | libc::BPF_K, 0, u32::MAX),
        step(libc::BPF_RET | libc::BPF_K, 0, 0),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: `socket` is open, for it is borrowed. The kernel reads `program`, as many bytes as it is told, and through its pointer so many
    // steps as it says; both outlive the call, which copies them and keeps no pointer.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as socklen_t,
        )
    };
    outcome(c_long::from(result))
}

/// Has the kernel kill the process that `command` starts when the thread that starts it ends, and so with this program, however
/// it ends.
pub(crate) fn ends_with_its_parent(command: &mut Command) {
    let ask = || {
        // SAFETY: the call takes numbers, each passed as wide as the C library reads it, and touches no memory of ours.
        let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) };
        outcome(c_long::from(result))
    };
    // SAFETY: `ask` runs in the child between fork and exec, where only what is safe within a signal handler may be called: it
    // makes one call to the kernel and reads errno, takes no lock and no memory, and captures nothing.
    unsafe { command.pre_exec(ask) };
}

fn outcome(result: c_long) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Returns what [`read_behind_everybody`] sets for the calling thread.
#[cfg(test)]
fn io_priority() -> c_long {
    // SAFETY: the call takes two numbers, each passed as wide as a register, and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_ioprio_get, IO_WHO_PROCESS, THIS_THREAD) }
}

#[cfg(test)]
mod tests;

/// Bugs on purpose. `tests/sanitize` runs each under the tools that are to see it: that they find nothing elsewhere means
/// something only where they find these.
#[cfg(test)]
mod broken {
    use std::cell::UnsafeCell;
    use std::hint::black_box;

    #[test]
    #[ignore = "it is broken on purpose: tests/sanitize looks whether its tools see that"]
    fn one_byte_beyond_its_buffer() {
        let buffer = black_box(vec![7u8; super::TCP_INFO_BYTES]);
        // SAFETY: there is none. The byte behind the last is nobody's.
        black_box(unsafe { buffer.as_ptr().add(buffer.len()).read() });
    }

    struct Unguarded(UnsafeCell<u64>);

    // SAFETY: there is none. Nothing keeps two threads apart.
    unsafe impl Sync for Unguarded {}

    #[test]
    #[ignore = "it is broken on purpose: tests/sanitize looks whether its tools see that"]
    fn two_threads_write_one_number() {
        // Both begin before either writes: a tool takes a thread that begins behind another's end for the same.
        let (number, both) = (Unguarded(UnsafeCell::new(0)), std::sync::Barrier::new(2));
        let write = || {
            let number = &number;
            both.wait();
            // SAFETY: there is none. The other thread writes, too.
            (0..100).for_each(|n| unsafe { number.0.get().write(n) });
        };
        std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(write))));
    }
}
