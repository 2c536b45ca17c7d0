//! How much a thread counts beside others: setpriority(2), ioprio_set(2).

use std::thread;

use nix::errno::Errno;

use crate::error::{Error, Result};

/// The least weight on a CPU (sched(7), "The nice value").
const NICE: i64 = 19;
/// `PRIO_PROCESS` of include/uapi/linux/resource.h; with id 0 the calling thread.
const THREAD: i64 = 0;
/// `IOPRIO_WHO_PROCESS` of include/uapi/linux/ioprio.h; with id 0 the calling thread.
const IO_THREAD: i64 = 1;
/// `IOPRIO_CLASS_IDLE` << `IOPRIO_CLASS_SHIFT`: served when nobody else wants the disk.
/// The IO schedulers bfq and mq-deadline go by it.
const IO_IDLE: i64 = 3 << 13;

/// Has the calling thread give way to all others, on CPUs and at disks. A thread cannot
/// take that back without `CAP_SYS_NICE`: it is for one that ends with its work.
///
/// # Errors
/// What the kernel refused; the rest is done all the same.
pub fn give_way() -> Result<()> {
    let nice = set(libc::SYS_setpriority, THREAD, NICE);
    let io = set(libc::SYS_ioprio_set, IO_THREAD, IO_IDLE);
    let refused = |errno| {
        let name = thread::current().name().unwrap_or("a thread").to_owned();
        Error::errno("lower the priority of", name, errno)
    };
    nice.and(io).map_err(refused)
}

fn set(call: libc::c_long, which: i64, value: i64) -> nix::Result<()> {
    // SAFETY: both calls take three numbers and touch no memory.
    let rc = unsafe { libc::syscall(call, which, 0_i64, value) };
    Errno::result(rc).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Field 19 of proc_pid_stat(5).
    fn nice() -> String {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let after = stat.rsplit_once(')').unwrap().1;
        after.split_whitespace().nth(16).unwrap().to_owned()
    }

    #[test]
    fn only_the_thread_itself_gives_way() {
        let before = nice();
        let inside = thread::spawn(|| {
            give_way().unwrap();
            nice()
        });
        assert_eq!(inside.join().unwrap(), "19");
        assert_eq!(nice(), before);
    }
}
