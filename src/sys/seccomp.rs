//! System call filters whose verdict another process gives: `seccomp_unotify(2)`.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;
pub use nix::libc::sock_filter as Instruction;

/// A call that waits for its verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Names the call until it is answered.
    pub id: u64,
    /// The calling thread, as the receiver's pid namespace numbers it.
    pub thread: u32,
    /// System call number.
    pub number: i64,
    /// Its arguments; those that the call does not have are undefined.
    pub arguments: [u64; 6],
}

/// What a waiting call gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The kernel carries it out.
    Continue,
    /// It returns this value without being carried out.
    Return(i64),
    /// It fails with this `errno`.
    Fail(i32),
}

/// Room behind the structure, should a newer kernel's be longer.
#[repr(C)]
struct Received {
    call: libc::seccomp_notif,
    room: [u64; 32],
}

/// Puts the calling thread under `program` and gives the descriptor on which its calls with the action
/// `SECCOMP_RET_USER_NOTIF` arrive. Needs `no_new_privs`. There is no way back.
///
/// # Errors
/// `EINVAL` where the kernel lacks notifications (Linux before 5.0) or the program is malformed, `EBUSY` where the
/// process has a listener already, `EACCES` without `no_new_privs`.
pub fn install(program: &[Instruction]) -> io::Result<OwnedFd> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let listen = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // With the second flag (Linux 5.19) a signal does not make a call that the listener has taken start anew.
    for flags in [listen | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, listen] {
        let program = libc::sock_fprog {
            len: length,
            filter: program.as_ptr().cast_mut(),
        };
        // SAFETY: `program` names `length` instructions that are readable during the call, which copies them and writes
        // to none of them.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const program,
            )
        };
        if let Ok(fd @ 0..) = RawFd::try_from(fd) {
            // SAFETY: the kernel has just made this descriptor and nothing else owns it.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINVAL) {
            return Err(error);
        }
    }
    Err(io::Error::from_raw_os_error(libc::EINVAL))
}

/// Whether the kernel can hand a call to another process.
pub fn available() -> bool {
    let action: u32 = libc::SECCOMP_RET_USER_NOTIF;
    // SAFETY: the call reads the 32 bits behind the pointer, which outlive it.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0,
            &raw const action,
        )
    };
    answer == 0
}

/// Takes the next waiting call. `None` where it went away meanwhile (its thread was killed).
///
/// # Errors
/// What the system says, `ENOENT` and `EINTR` excepted.
pub fn receive(listener: BorrowedFd<'_>) -> io::Result<Option<Call>> {
    // SAFETY: integers only; all bits zero, which the kernel asks for, is a value of the type.
    let mut received: Received = unsafe { zeroed() };
    // SAFETY: the descriptor is open; the kernel writes its own structure, which begins as ours and is at most as long
    // as ours with the room behind it.
    let done = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_RECV,
            &raw mut received,
        )
    };
    if done < 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ENOENT | libc::EINTR) => Ok(None),
            _ => Err(error),
        };
    }
    let call = received.call;
    Ok(Some(Call {
        id: call.id,
        thread: call.pid,
        number: i64::from(call.data.nr),
        arguments: call.data.args,
    }))
}

/// Whether the call still waits: its thread lives, so that what `/proc` showed under its number was its own.
pub fn waits(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the descriptor is open and the kernel reads the 64 bits behind the pointer, which outlive the call.
    let done = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_ID_VALID,
            &raw const id,
        )
    };
    done == 0
}

/// Gives the verdict. A call that went away meanwhile needs none.
///
/// # Errors
/// What the system says, `ENOENT` excepted.
pub fn answer(listener: BorrowedFd<'_>, id: u64, verdict: Verdict) -> io::Result<()> {
    let (val, error, flags) = match verdict {
        Verdict::Continue => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
        Verdict::Return(value) => (value, 0, 0),
        Verdict::Fail(errno) => (0, -errno, 0),
    };
    let mut response = libc::seccomp_notif_resp {
        id,
        val,
        error,
        flags,
    };
    const { assert!(size_of::<libc::seccomp_notif_resp>() == 24) };
    // SAFETY: the descriptor is open and the kernel reads one structure of this layout, whose size the request's number
    // holds.
    let done = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SEND,
            &raw mut response,
        )
    };
    if done < 0 {
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ENOENT) {
            return Err(error);
        }
    }
    Ok(())
}
