//! What a scriptlet's process may no longer do.

use std::os::fd::OwnedFd;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities};

use super::{Failure, Step as _};
use crate::scriptlet::sandbox::filter;
use crate::scriptlet::sandbox::limits::Limits;
use crate::sys::seccomp;

/// What root inside keeps: rights over the files of its own tree and over its own processes. All else could reach
/// mounts, the network, the kernel or process 1.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETFCAP);

/// Drops capabilities for good, and the way to gain them by starting a program.
pub(super) fn drop_all() -> Result<(), Failure> {
    rustix::thread::set_no_new_privs(true).step("forbidding new privileges")?;
    for number in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if KEPT.contains(one) {
            continue;
        }
        match remove_capability_from_bounding_set(one) {
            // The kernel knows fewer.
            Err(rustix::io::Errno::INVAL) => break,
            done => done.step("dropping capabilities")?,
        }
    }
    let sets = CapabilitySets {
        effective: KEPT,
        permitted: KEPT,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).step("dropping capabilities")
}

/// Sets the limits that the kernel watches over.
pub(super) fn limit(limits: &Limits) -> Result<(), Failure> {
    let time = limits.time.as_secs().saturating_add(1);
    for (resource, value) in [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_CPU, time),
        (Resource::RLIMIT_DATA, limits.memory),
        (Resource::RLIMIT_AS, limits.memory.saturating_mul(4)),
        (Resource::RLIMIT_FSIZE, limits.disk),
        (Resource::RLIMIT_NOFILE, 1024),
        (Resource::RLIMIT_STACK, 8 << 20),
        (Resource::RLIMIT_MEMLOCK, 64 << 10),
        (Resource::RLIMIT_MSGQUEUE, 64 << 10),
    ] {
        // What the user may have less of stays so.
        let (_, hard) = getrlimit(resource).step("reading limits")?;
        let value = value.min(hard);
        setrlimit(resource, value, value).step("setting limits")?;
    }
    // First to be ended where the machine runs out of memory; no matter where that cannot be asked for.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    Ok(())
}

/// Puts the process under the filter; what comes back hears of the calls that are answered outside.
pub(super) fn filter() -> Result<OwnedFd, Failure> {
    seccomp::install(&filter::program()).step("installing the system call filter (seccomp)")
}
