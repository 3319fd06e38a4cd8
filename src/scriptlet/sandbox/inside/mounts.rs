//! The file systems of a sandbox.
//!
//! All are made before the root changes and none is reached by a path of the host afterwards: what a scriptlet left at
//! `/tmp`, say a symbolic link, leads no further than its own tree.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree,
    unmount,
};

use super::{Failure, Step as _};
use crate::scriptlet::sandbox::limits::Limits;

/// Device nodes that a scriptlet finds; an ordinary user can only borrow the host's.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Where file systems are laid over the tree.
pub(in crate::scriptlet::sandbox) const OVERLAID: [&str; 4] = ["proc", "dev", "tmp", "run"];

/// Makes `root` the root directory, with a `/proc` of its own, a small `/dev`, and `/tmp` and `/run` in memory.
pub(super) fn make(root: &Path, limits: &Limits) -> Result<(), Failure> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .step("taking the mounts private")?;
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let devices = DEVICES
        .iter()
        .filter_map(|name| match open_tree(CWD, format!("/dev/{name}"), clone) {
            // A container may lack some.
            Err(rustix::io::Errno::NOENT) => None,
            opened => Some(opened.map(|tree| (*name, tree))),
        })
        .collect::<Result<Vec<_>, _>>()
        .step("borrowing device nodes from /dev")?;
    let tree = open_tree(CWD, root, clone).step("taking the scriptlets' tree as a mount")?;

    // Process directories only: of the rest much is the host's (its devices, its command line, its file systems).
    // Must be made while the host's is still there to be seen, which the kernel demands.
    let proc = file_system("proc", &[("subset", "pid")], MountAttrFlags::MOUNT_ATTR_NOEXEC)
        .step("making a fresh /proc")?;
    let size = (limits.memory / 4).to_string();
    let memory = |mode: &str, size: &str| {
        file_system(
            "tmpfs",
            &[("mode", mode), ("size", size), ("nr_inodes", "65536")],
            MountAttrFlags::empty(),
        )
        .step("making a file system in memory")
    };
    let (tmp, run, shm) = (
        memory("1777", &size)?,
        memory("755", &size)?,
        memory("1777", &size)?,
    );
    let dev = memory("755", "1048576")?;

    // The new root is reached by its descriptor, laid over itself.
    put(&tree, root.as_os_str()).step("mounting the scriptlets' tree")?;
    rustix::process::fchdir(&tree).step("entering the scriptlets' tree")?;
    rustix::process::pivot_root(".", ".").step("changing the root")?;
    unmount(".", UnmountFlags::DETACH).step("leaving the host's file systems")?;
    rustix::process::chdir("/").step("entering the new root")?;

    put(&proc, "/proc").step("mounting /proc")?;
    put(&dev, "/dev").step("mounting /dev")?;
    put(&tmp, "/tmp").step("mounting /tmp")?;
    put(&run, "/run").step("mounting /run")?;
    fill_dev(devices, &shm).step("filling /dev")
}

fn fill_dev(devices: Vec<(&str, OwnedFd)>, shm: &OwnedFd) -> rustix::io::Result<()> {
    for (name, tree) in devices {
        let path = format!("/dev/{name}");
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        drop(rustix::fs::open(&path, flags, Mode::from_raw_mode(0o666))?);
        put(&tree, &path)?;
    }
    rustix::fs::mkdir("/dev/shm", Mode::from_raw_mode(0o1777))?;
    put(shm, "/dev/shm")?;
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        rustix::fs::symlink(target, format!("/dev/{name}"))?;
    }
    Ok(())
}

/// A new file system, not yet at a place.
fn file_system(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(context.as_fd(), *key, *value)?;
    }
    fsconfig_create(context.as_fd())?;
    fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV,
    )
}

fn put(mount: &OwnedFd, place: impl rustix::path::Arg) -> rustix::io::Result<()> {
    move_mount(
        mount,
        "",
        CWD,
        place,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH
            // A link that a scriptlet left leads into its own tree only, and is followed as programs will.
            | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS,
    )
}
