//! What a scriptlet uses: processes, memory, disk.

use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, Mode, OFlags, ResolveFlags, openat, openat2};

use super::limits::Limits;

/// The processes of the sandbox together.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Used {
    /// Processes and their threads.
    pub tasks: u32,
    /// Bytes of memory that they hold, shared pages counted once a process only where they are written to.
    pub memory: u64,
}

/// Counts what the `/proc` of the sandbox shows, whose `/` is `root`. What ends meanwhile is not counted.
pub(super) fn processes(root: BorrowedFd<'_>) -> Used {
    let mut used = Used::default();
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(proc) = openat2(root, "proc", flags, Mode::empty(), how) else {
        return used;
    };
    let Ok(entries) = Dir::read_from(&proc) else {
        return used;
    };
    let page = rustix::param::page_size() as u64;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy();
        if !name.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        let read = |file: &str| {
            let opened = openat(&proc, format!("{name}/{file}"), OFlags::CLOEXEC, Mode::empty()).ok()?;
            std::io::read_to_string(std::fs::File::from(opened)).ok()
        };
        // pid (name) state ppid pgrp session tty tpgid flags minflt cminflt majflt cmajflt utime stime cutime cstime
        // priority nice threads …; the name may hold anything.
        let threads = read("stat").and_then(|stat| {
            let (_, rest) = stat.rsplit_once(')')?;
            rest.split_whitespace().nth(17)?.parse::<u32>().ok()
        });
        used.tasks = used.tasks.saturating_add(threads.unwrap_or(1));
        // size resident shared …, in pages
        let memory = read("statm").and_then(|statm| {
            let mut numbers = statm.split(' ').map(|word| word.parse::<u64>().unwrap_or(0));
            let (resident, shared) = (numbers.nth(1)?, numbers.next()?);
            Some(resident.saturating_sub(shared).saturating_mul(page))
        });
        used.memory = used.memory.saturating_add(memory.unwrap_or(0));
    }
    used
}

/// How much a tree on disk has grown.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    limits: Limits,
    /// Bytes and files that were free on the file system when the tree was last counted, and what the tree had then.
    free: (u64, u64),
    /// Of the tree before; counted only when the file system has become fuller.
    before: (u64, u64),
}

impl Disk {
    pub(super) fn before(root: &Path, limits: Limits) -> Self {
        Self {
            root: root.to_owned(),
            limits,
            free: free(root),
            before: (0, 0),
        }
    }

    /// Whether it has grown by more than a scriptlet may add. The file system's own count comes first, as it costs
    /// nothing; others may have filled it, so that only then the tree is counted.
    pub(super) fn exceeded(&mut self) -> bool {
        let now = free(&self.root);
        let bytes = self.free.0.saturating_sub(now.0) > self.limits.disk;
        let files = self.free.1.saturating_sub(now.1) > self.limits.files;
        if !bytes && !files {
            return false;
        }
        let counted = count(&self.root);
        let grown = (
            counted.0.saturating_sub(self.before.0),
            counted.1.saturating_sub(self.before.1),
        );
        if grown.0 > self.limits.disk || grown.1 > self.limits.files {
            return true;
        }
        self.free = now;
        false
    }
}

/// Free bytes and inodes of the file system.
fn free(root: &Path) -> (u64, u64) {
    match rustix::fs::statvfs(root) {
        Ok(stat) => (stat.f_bfree.saturating_mul(stat.f_frsize), stat.f_ffree),
        Err(_) => (0, 0),
    }
}

/// Bytes on disk and files below `root`; what goes away meanwhile is not counted.
fn count(root: &Path) -> (u64, u64) {
    let mut sum = (0_u64, 0_u64);
    let mut todo = vec![root.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            sum.0 += metadata.blocks().saturating_mul(512);
            sum.1 += 1;
            if metadata.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    sum
}
