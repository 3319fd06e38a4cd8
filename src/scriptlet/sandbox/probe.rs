//! Whether scriptlets can run here at all.

use std::fs;
use std::io;

use super::error::SandboxError;
use super::inside::NAMESPACES;
use crate::sys::{process::try_unshare, seccomp};

/// Whether this user may make a sandbox here. Costs a process.
///
/// # Errors
/// [`SandboxError::Blocked`]: what forbids it, and the way out.
pub fn probe() -> Result<(), SandboxError> {
    if !seccomp::available() {
        return Err(SandboxError::Blocked {
            what: "the kernel cannot hand system calls to another process (seccomp user notification)".into(),
            way_out: "build on Linux 5.9 or newer, and not in a container whose own filter forbids it".into(),
        });
    }
    try_unshare(NAMESPACES.bits()).map_err(|error| refusal(&error, &Host::look()))
}

/// What is known to forbid namespaces.
#[derive(Debug, Default)]
struct Host {
    root: bool,
    chroot: bool,
    filtered: bool,
    clone: Option<String>,
    apparmor: Option<String>,
    most: Option<String>,
}

impl Host {
    fn look() -> Self {
        let setting = |path: &str| {
            let text = fs::read_to_string(format!("/proc/sys/{path}")).ok()?;
            Some(text.trim().to_owned())
        };
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            root: nix::unistd::geteuid().is_root(),
            chroot: chrooted(),
            filtered: status
                .lines()
                .any(|line| line.split_whitespace().eq(["Seccomp:", "2"])),
            clone: setting("kernel/unprivileged_userns_clone"),
            apparmor: setting("kernel/apparmor_restrict_unprivileged_userns"),
            most: setting("user/max_user_namespaces"),
        }
    }
}

/// Whether the root directory is no mount's root: the kernel gives no user namespace then.
fn chrooted() -> bool {
    fs::read_to_string("/proc/self/mountinfo")
        .is_ok_and(|mounts| !mounts.lines().any(|line| line.split(' ').nth(4) == Some("/")))
}

fn refusal(error: &io::Error, host: &Host) -> SandboxError {
    let is = |setting: &Option<String>, value: &str| setting.as_deref() == Some(value);
    let (what, way_out) = if is(&host.most, "0") {
        (
            "user namespaces are switched off (user.max_user_namespaces is 0)",
            "`sysctl user.max_user_namespaces=10000` as root",
        )
    } else if !host.root && is(&host.clone, "0") {
        (
            "user namespaces are kept from ordinary users (kernel.unprivileged_userns_clone is 0)",
            "`sysctl kernel.unprivileged_userns_clone=1` as root",
        )
    } else if !host.root && is(&host.apparmor, "1") {
        (
            "AppArmor keeps user namespaces from ordinary users (kernel.apparmor_restrict_unprivileged_userns is 1)",
            "an AppArmor profile that allows `userns` for hullwright, or \
             `sysctl kernel.apparmor_restrict_unprivileged_userns=0` as root",
        )
    } else if host.chroot {
        (
            "the kernel gives no user namespaces inside a chroot",
            "run hullwright outside of it, or in a container (which changes its root by pivot_root)",
        )
    } else if host.filtered {
        (
            "the container's system call filter (seccomp) forbids user namespaces",
            "run the container with `--security-opt seccomp=unconfined`, or a profile that allows unshare, clone, mount \
             and pivot_root",
        )
    } else {
        (
            "the system gives this user no namespaces",
            "scriptlets need user, mount, pid, network, IPC and UTS namespaces: build where they are allowed, or replace \
             the scriptlets natively",
        )
    };
    SandboxError::Blocked {
        what: format!("{what}: {error}"),
        way_out: way_out.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use miette::Diagnostic as _;

    use super::*;

    #[test]
    fn each_obstacle_is_named_with_its_way_out() {
        let error = io::Error::from_raw_os_error(1);
        let some = |text: &str| Some(text.to_owned());
        let cases = [
            (
                Host {
                    most: some("0"),
                    ..Host::default()
                },
                "max_user_namespaces is 0",
                "=10000",
            ),
            (
                Host {
                    clone: some("0"),
                    ..Host::default()
                },
                "unprivileged_userns_clone",
                "clone=1",
            ),
            (
                Host {
                    apparmor: some("1"),
                    ..Host::default()
                },
                "AppArmor",
                "profile",
            ),
            (
                Host {
                    chroot: true,
                    ..Host::default()
                },
                "inside a chroot",
                "outside",
            ),
            (
                Host {
                    filtered: true,
                    ..Host::default()
                },
                "filter (seccomp)",
                "unconfined",
            ),
            (
                Host {
                    root: true,
                    clone: some("0"),
                    ..Host::default()
                },
                "no namespaces",
                "natively",
            ),
        ];
        for (host, what, way_out) in cases {
            let refused = refusal(&error, &host);
            let text = refused.to_string();
            assert!(text.contains(what) && text.contains("not permitted"), "{text}");
            let help = refused.help().unwrap().to_string();
            assert!(help.contains(way_out), "{help}");
        }
    }
}
