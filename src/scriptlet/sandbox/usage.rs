//! What a scriptlet uses: processes, memory, disk.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, fstatvfs, openat, openat2, statat};
use rustix::io::Errno;

use super::ground::{Ground, LIST};
use super::limits::Limits;
use super::supervise::{first_process, pair};
use super::wire::{Message, receive, send};
use crate::path::TreePath;

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

/// What a tree holds: the lengths of its regular files, each once however many names it has, and its names. Unlike the
/// blocks that they take, these are the same on every machine.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub bytes: u64,
    pub names: u64,
}

impl Held {
    /// The most that a scriptlet may leave where this was.
    pub(super) fn most(self, limits: &Limits) -> Self {
        Self {
            bytes: self.bytes.saturating_add(limits.disk),
            names: self.names.saturating_add(limits.files),
        }
    }

    pub(super) fn exceeds(self, most: Self) -> bool {
        self.bytes > most.bytes || self.names > most.names
    }
}

/// At least this long passes between two counts that nothing calls for.
const RARELY: Duration = Duration::from_secs(5);

/// Watches how a tree on disk grows.
#[derive(Debug)]
pub(super) struct Disk<'a> {
    /// The program, to be started again where it takes more rights to count.
    program: &'a Path,
    ground: &'a Ground,
    limits: Limits,
    before: Held,
    /// Free bytes and inodes of the file system when the tree was last counted; `None` where it does not say.
    free: Option<(u64, u64)>,
    /// How much fuller it may become before the tree is counted again.
    room: (u64, u64),
    /// When it is counted again in any case: others may make room on the file system, and some count no inodes.
    next: Instant,
}

impl<'a> Disk<'a> {
    /// Of a tree that holds `before` now.
    pub(super) fn new(program: &'a Path, ground: &'a Ground, limits: Limits, before: Held) -> Self {
        Self {
            program,
            ground,
            limits,
            before,
            free: free(ground),
            room: (limits.disk, limits.files),
            next: Instant::now() + RARELY,
        }
    }

    /// Whether it has grown by more than a scriptlet may add. The file system's own count comes first, as it costs
    /// nothing; others may have filled it, so that only then the tree is counted.
    pub(super) fn exceeded(&mut self) -> bool {
        let now = free(self.ground);
        let fuller = match (self.free, now) {
            (Some(then), Some(now)) => {
                then.0.saturating_sub(now.0) > self.room.0 || then.1.saturating_sub(now.1) > self.room.1
            }
            _ => false,
        };
        let begun = Instant::now();
        if !fuller && begun < self.next {
            return false;
        }
        let most = self.before.most(&self.limits);
        // A directory without rights for its owner hides from him what it holds.
        let counted = match count(self.ground, most) {
            Err(Errno::ACCESS) => count_with_power(self.program, self.ground, most).ok(),
            counted => counted.ok(),
        };
        // Where nothing can be counted, the file system's word stands.
        let Some(held) = counted else { return fuller };
        if held.exceeds(most) {
            return true;
        }
        self.next = begun + RARELY.max(begun.elapsed() * 20);
        self.free = now;
        let left = |limit: u64, held: u64, before: u64| {
            let left = limit.saturating_sub(held.saturating_sub(before));
            left.max(limit / 8)
        };
        self.room = (
            left(self.limits.disk, held.bytes, self.before.bytes),
            left(self.limits.files, held.names, self.before.names),
        );
        false
    }
}

/// Free bytes and inodes of the file system.
fn free(ground: &Ground) -> Option<(u64, u64)> {
    let stat = fstatvfs(ground.root()).ok()?;
    Some((stat.f_bfree.saturating_mul(stat.f_frsize), stat.f_ffree))
}

/// As [`count`], by a process of its own that is root of a user namespace, as the scriptlet is: what that may look into, it
/// may too. Rights are not given to the owner meanwhile, as they are between scriptlets: this one would see them.
fn count_with_power(program: &Path, ground: &Ground, most: Held) -> io::Result<Held> {
    let (socket, theirs) = pair()?;
    let mut process = first_process(program, theirs).spawn()?;
    let answer = send(&socket, &Message::Count(most), &[ground.root()]).and_then(|()| receive(&socket));
    let _ = process.kill();
    let _ = process.wait();
    match answer? {
        Some((Message::Counted(held), _)) => Ok(held),
        _ => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

/// What the tree holds now, up to where that exceeds `most`; what goes away meanwhile is not counted.
pub(super) fn count(ground: &Ground, most: Held) -> Result<Held, Errno> {
    let mut held = Held::default();
    let mut several = HashSet::new();
    let mut todo = vec![TreePath::root()];
    while let Some(path) = todo.pop() {
        let directory = match ground.straight(&path, LIST) {
            Err(Errno::ACCESS | Errno::PERM) => return Err(Errno::ACCESS),
            // Gone, or something else by now.
            Err(_) => continue,
            Ok(directory) => directory,
        };
        for entry in Dir::read_from(&directory)? {
            let Ok(entry) = entry else { break };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let Ok(stat) = statat(directory.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            held.names += 1;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => todo.push(path.join_name(name)),
                FileType::RegularFile if stat.st_nlink < 2 || several.insert((stat.st_dev, stat.st_ino)) => {
                    let length = u64::try_from(stat.st_size).unwrap_or(0);
                    held.bytes = held.bytes.saturating_add(length);
                }
                _ => {}
            }
            if held.exceeds(most) {
                return Ok(held);
            }
        }
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_there_before_does_not_count_and_sparse_files_do() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("old"), [0; 700]).unwrap();
        fs::hard_link(place.path().join("old"), place.path().join("other")).unwrap();
        let ground = Ground::open(place.path()).unwrap();
        let limits = Limits {
            disk: 1000,
            files: 5,
            ..Limits::default()
        };
        let before = count(&ground, Held::default().most(&limits)).unwrap();
        assert_eq!(before, Held { bytes: 700, names: 2 });
        let mut disk = Disk::new(Path::new("/absent"), &ground, limits, before);
        let mut exceeded = || {
            disk.next = Instant::now();
            disk.exceeded()
        };
        assert!(!exceeded());
        fs::create_dir(place.path().join("d")).unwrap();
        let file = fs::File::create(place.path().join("d/sparse")).unwrap();
        file.set_len(1000).unwrap();
        assert!(!exceeded());
        file.set_len(1001).unwrap();
        assert!(exceeded());
        file.set_len(0).unwrap();
        assert!(!exceeded());
        for name in ["a", "b", "c"] {
            fs::hard_link(place.path().join("old"), place.path().join(name)).unwrap();
        }
        assert!(!exceeded());
        fs::hard_link(place.path().join("old"), place.path().join("e")).unwrap();
        assert!(exceeded());
    }
}
