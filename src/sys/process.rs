//! Splitting the process in two.

use std::io;

use nix::libc;
use nix::unistd::{ForkResult, Pid, fork};

/// Which of the two processes goes on here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Parent(Pid),
    Child,
}

/// `fork(2)` of a process that has one thread only.
///
/// # Errors
/// Where there are more threads (the child could meet a lock that nobody frees), or the system's refusal.
pub fn fork_alone() -> io::Result<Side> {
    // As the kernel counts them; the own process cannot start one between here and the fork.
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!(
            "a process of {threads} threads cannot be split"
        )));
    }
    // SAFETY: the process has a single thread, so no other thread holds a lock (of the allocator, of stdio) that the
    // child would find locked for ever; the child may run any code.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(Side::Parent(child)),
        ForkResult::Child => Ok(Side::Child),
    }
}

/// Closes all descriptors but the first three: what a process was left by those that started it. To be called before the
/// program has opened anything.
///
/// # Errors
/// `ENOSYS` before Linux 5.9.
pub fn close_inherited() -> io::Result<()> {
    // SAFETY: takes integers only. That no descriptor with an owner is closed under it is the caller's promise, which a
    // program can keep only as its first act: what is open then belongs to nobody in it.
    match unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether a process may enter new namespaces (`CLONE_NEW*` in `flags`): a child tries and ends.
///
/// # Errors
/// The system's refusal, as `unshare(2)` or `fork(2)` has it.
pub fn try_unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: between fork and `_exit` the child calls two async-signal-safe functions that take integers, touches no
    // lock and allocates nothing, so that it is sound in a process of many threads.
    let child = unsafe {
        match libc::fork() {
            0 => {
                let code = if libc::unshare(flags) == 0 {
                    0
                } else {
                    *libc::__errno_location()
                };
                libc::_exit(code)
            }
            child => child,
        }
    };
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    loop {
        match nix::sys::wait::waitpid(Pid::from_raw(child), None) {
            Ok(nix::sys::wait::WaitStatus::Exited(_, 0)) => return Ok(()),
            Ok(nix::sys::wait::WaitStatus::Exited(_, errno)) => {
                return Err(io::Error::from_raw_os_error(errno));
            }
            // A filter that kills is a refusal too.
            Ok(_) => return Err(io::Error::from_raw_os_error(libc::EPERM)),
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_may_do_is_told() {
        try_unshare(0).unwrap();
        let refused = try_unshare(0x0000_0001).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn a_process_of_several_threads_is_not_split() {
        // The test harness runs each test in a thread of its own.
        let error = fork_alone().unwrap_err();
        assert!(error.to_string().contains("threads cannot be split"), "{error}");
    }
}
