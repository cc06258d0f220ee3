//! Puts a thread of ours behind everything else on the machine.

/// Which I/O class only gets what nobody else wants (`IOPRIO_CLASS_IDLE` of linux/ioprio.h; it has no levels).
const IO_CLASS_IDLE: libc::c_int = 3;
/// Where the class stands in the number that `ioprio_set(2)` takes.
const IO_CLASS_SHIFT: libc::c_int = 13;
/// `IOPRIO_WHO_PROCESS`; 0 as the id means the calling thread.
const IO_WHO_PROCESS: libc::c_int = 1;
/// The most polite there is.
const NICEST: i32 = 19;

/// Lets the calling thread compute and read behind everybody else. A thread cannot come back from it without rights, so it is for
/// threads that do nothing else. Each call may be refused by a sandbox; then the thread is merely less polite.
pub(super) fn lower_this_thread() {
    let _ = rustix::process::setpriority_process(None, NICEST);
    // SAFETY: the call takes numbers only; 0 is the calling thread.
    unsafe {
        libc::syscall(libc::SYS_ioprio_set, IO_WHO_PROCESS, 0, IO_CLASS_IDLE << IO_CLASS_SHIFT);
    }
}

/// Lets the calling thread, besides, compute only when no processor has anything else to do: for work that nobody waits for.
pub(super) fn idle_this_thread() {
    lower_this_thread();
    // The kernel's `struct sched_param` is one int; idle threads have no levels.
    let parameters: libc::c_int = 0;
    // SAFETY: the call takes numbers and a pointer to an int that lives over it; 0 is the calling thread. The C library's own
    // `sched_setscheduler` does nothing in musl.
    unsafe {
        libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_IDLE, &raw const parameters);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_calling_thread_becomes_idle() {
        // SAFETY: takes numbers only; 0 is the calling thread.
        let of_this_thread =
            || unsafe { (libc::syscall(libc::SYS_ioprio_get, IO_WHO_PROCESS, 0), libc::syscall(libc::SYS_sched_getscheduler, 0)) };
        let before = of_this_thread();
        let lowered = std::thread::spawn(move || {
            idle_this_thread();
            (of_this_thread(), rustix::process::getpriority_process(None).unwrap())
        })
        .join()
        .unwrap();
        assert_eq!(lowered, ((libc::c_long::from(IO_CLASS_IDLE << IO_CLASS_SHIFT), libc::c_long::from(libc::SCHED_IDLE)), NICEST));
        assert_eq!(of_this_thread(), before);
    }
}
