//! Files on their way into a store. Whoever writes one holds a lock on it, so that what a killed
//! program left can be told from what is still being written.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tempfile::NamedTempFile;

/// The time of the last use is noted no more often than this.
const TOUCH: Duration = Duration::from_secs(60 * 60);

/// Makes a file in `directory`, locked. Dropped, it is gone.
pub(super) fn create(directory: &Path) -> io::Result<NamedTempFile> {
    loop {
        let file = NamedTempFile::new_in(directory)?;
        // A sweep may have come between the two calls: then the file is the sweep's, and goes.
        if try_lock(file.as_file())? && has_name(file.as_file(), file.path())? {
            return Ok(file);
        }
    }
}

/// Gives `file` the name `path`, in place of what has it. Its directory is made where it is absent.
pub(super) fn publish(file: NamedTempFile, path: &Path) -> io::Result<File> {
    let outcome = match file.persist(path) {
        Err(failed) if failed.error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            failed.file.persist(path)
        }
        outcome => outcome,
    };
    outcome.map_err(|failed| failed.error)
}

/// Removes what lies in `directory` and nobody holds any more. Returns how many bytes it took.
pub(super) fn sweep(directory: &Path) -> io::Result<u64> {
    let mut freed = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            // Put aside to be removed, which somebody else may be doing.
            match fs::remove_dir_all(entry.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => continue,
            }
        }
        freed += remove_unheld(&entry.path())?.unwrap_or_default();
    }
    Ok(freed)
}

/// Removes a file unless somebody holds it. Returns how many bytes it took.
pub(super) fn remove_unheld(path: &Path) -> io::Result<Option<u64>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // Whoever gave it its final name meanwhile keeps it.
    if !try_lock(&file)? || !has_name(&file, path)? {
        return Ok(None);
    }
    let length = file.metadata()?.len();
    remove(path)?;
    Ok(Some(length))
}

/// Removes a file; one that is gone already is no error.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Opens the file `path`, made where it is absent, and locks it together with others.
pub(super) fn lock_shared(path: &Path) -> io::Result<File> {
    let file = lock_file(path)?;
    retry(|| flock(&file, FlockOperation::LockShared))?;
    Ok(file)
}

/// Whether nobody but the holder of `file`, a shared lock, has a lock on the same file.
pub(super) fn is_alone(file: &File) -> io::Result<bool> {
    let alone = try_lock(file)?;
    retry(|| flock(file, FlockOperation::LockShared))?;
    Ok(alone)
}

/// Notes that `file` is used now. Of a store that is another user's nothing is noted.
pub(super) fn touch(file: &File) {
    if is_stale(file.metadata().and_then(|metadata| metadata.modified())) {
        let _ = file.set_modified(SystemTime::now());
    }
}

/// As [`touch`], as the time of access: of files that outputs share, whose time of change says whether somebody has
/// changed them.
pub(super) fn touch_accessed(file: &File) {
    if is_stale(file.metadata().and_then(|metadata| metadata.accessed())) {
        let _ = file.set_times(FileTimes::new().set_accessed(SystemTime::now()));
    }
}

/// Whether a use now is to be noted, the last one being `noted`.
pub(super) fn is_stale(noted: io::Result<SystemTime>) -> bool {
    let age = noted.map(|noted| SystemTime::now().duration_since(noted));
    age.is_ok_and(|age| age.is_ok_and(|age| age > TOUCH))
}

/// Opens the file `path`, made where it is absent.
pub(super) fn lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

fn try_lock(file: &File) -> io::Result<bool> {
    match retry(|| flock(file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn retry(call: impl Fn() -> Result<(), Errno>) -> Result<(), Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            outcome => return outcome,
        }
    }
}

fn has_name(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_sweep_takes_what_nobody_holds() {
        let place = tempfile::tempdir().unwrap();
        let mut held = create(place.path()).unwrap();
        held.write_all(b"half").unwrap();
        let (file, left) = create(place.path()).unwrap().keep().unwrap();
        fs::write(&left, b"left").unwrap();
        assert_eq!(sweep(place.path()).unwrap(), 0, "both are held");
        drop(file);
        assert_eq!(sweep(place.path()).unwrap(), 4);
        assert!(!left.exists() && held.path().exists());
        let name = place.path().join("deep/name");
        publish(held, &name).unwrap();
        assert_eq!(fs::read(name).unwrap(), b"half");
    }

    #[test]
    fn files_made_while_others_sweep_are_whole() {
        let place = tempfile::tempdir().unwrap();
        let work = place.path().join("tmp");
        fs::create_dir(&work).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    sweep(&work).unwrap();
                }
            });
            for number in 0..500 {
                let file = create(&work).unwrap();
                publish(file, &place.path().join("kept").join(number.to_string())).unwrap_or_else(|error| {
                    stop.store(true, std::sync::atomic::Ordering::Relaxed);
                    panic!("{number}: {error}")
                });
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(fs::read_dir(place.path().join("kept")).unwrap().count(), 500);
    }

    #[test]
    fn a_use_is_noted_once_an_hour() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let now = SystemTime::now();
        let noted = || file.as_file().metadata().unwrap().modified().unwrap();
        for (age, touched) in [(30, false), (61, true)] {
            let before = now - Duration::from_secs(age * 60);
            file.as_file().set_modified(before).unwrap();
            touch(file.as_file());
            assert_eq!(noted() != before, touched, "{age} minutes");
        }
    }
}
