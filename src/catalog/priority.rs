//! Puts a thread of ours behind everything else on the machine.

use crate::sys;

/// The most polite there is.
const NICEST: i32 = 19;

/// Lets the calling thread compute and read behind everybody else. A thread cannot come back from it without rights, so it is for
/// threads that do nothing else. Each call may be refused by a sandbox; then the thread is merely less polite.
pub(super) fn lower_this_thread() {
    let _ = rustix::process::setpriority_process(None, NICEST);
    let _ = sys::read_behind_everybody();
}

/// Lets the calling thread, besides, compute only when no processor has anything else to do: for work that nobody waits for.
pub(super) fn idle_this_thread() {
    lower_this_thread();
    let _ = sys::compute_when_idle();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of `/proc/thread-self/stat` behind the thread's name: the 17th is its niceness, the 39th how it is scheduled.
    fn niceness_and_scheduling() -> (String, String) {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        (fields[16].to_owned(), fields[38].to_owned())
    }

    #[test]
    fn only_the_calling_thread_becomes_polite() {
        let before = niceness_and_scheduling();
        let lowered = std::thread::spawn(|| {
            lower_this_thread();
            let lowered = niceness_and_scheduling();
            idle_this_thread();
            (lowered, niceness_and_scheduling())
        });
        let (lowered, idle) = lowered.join().unwrap();
        // 0 is how threads are scheduled as a rule, 5 is SCHED_IDLE.
        assert_eq!((lowered.0.as_str(), lowered.1.as_str()), ("19", "0"));
        assert_eq!((idle.0.as_str(), idle.1.as_str()), ("19", "5"));
        assert_eq!(niceness_and_scheduling(), before);
    }
}
