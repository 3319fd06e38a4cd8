//! Turns: where several programs begin the same costly work at once, one does it and the others wait for what it leaves.
//!
//! `turns/<digest>`: an empty file that the one at work holds a lock on. Whoever is killed lets go of it. That the work
//! was done a record says; without that, the next one in the queue does it.

use std::fs::File;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::{Digest, Store, StoreError, temporary};

pub(super) const SHELF: &str = "turns";

/// Whose turn it is.
#[derive(Debug)]
pub enum Turn {
    /// Nobody's: the work was done before.
    Over,
    Mine(Held),
    Others(Waiting),
}

/// The turn of this program, until it is dropped.
#[derive(Debug)]
pub struct Held {
    store: Store,
    key: Digest,
    _lock: Flock<File>,
}

/// A place in the queue.
#[derive(Debug)]
pub struct Waiting {
    store: Store,
    key: Digest,
    file: File,
}

impl Store {
    /// Asks for the turn to do what `key` stands for.
    ///
    /// # Errors
    /// Where the store cannot be read or written.
    pub fn turn(&self, key: Digest) -> Result<Turn, StoreError> {
        if self.was_done(key)? {
            return Ok(Turn::Over);
        }
        let path = self.turn_path(key);
        let file = temporary::lock_file(&path).map_err(|error| self.failed(error))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => self.begin(key, lock),
            Err((file, Errno::EWOULDBLOCK)) => Ok(Turn::Others(Waiting {
                store: self.clone(),
                key,
                file,
            })),
            Err((_, errno)) => Err(self.failed(errno.into())),
        }
    }

    /// The last one can have done the work between the look and the lock.
    fn begin(&self, key: Digest, lock: Flock<File>) -> Result<Turn, StoreError> {
        Ok(match self.was_done(key)? {
            true => Turn::Over,
            false => Turn::Mine(Held {
                store: self.clone(),
                key,
                _lock: lock,
            }),
        })
    }

    fn was_done(&self, key: Digest) -> Result<bool, StoreError> {
        Ok(self.find_record(record_key(key))?.is_some())
    }

    fn turn_path(&self, key: Digest) -> PathBuf {
        self.root.join(SHELF).join(key.to_string())
    }
}

fn record_key(key: Digest) -> Digest {
    Digest::of(&[b"hullwright turn\0", &key.0[..]].concat())
}

impl Waiting {
    /// Waits until the work is done, or its turn is this program's.
    ///
    /// # Errors
    /// Where the store cannot be read or written.
    pub fn wait(self) -> Result<Turn, StoreError> {
        let Self { store, key, mut file } = self;
        loop {
            match Flock::lock(file, FlockArg::LockExclusive) {
                Ok(lock) => return store.begin(key, lock),
                Err((again, Errno::EINTR)) => file = again,
                Err((_, errno)) => return Err(store.failed(errno.into())),
            }
        }
    }
}

impl Held {
    /// Notes that the work is done, and lets the others go on.
    ///
    /// # Errors
    /// Where the store cannot be written: then the next one does it again.
    pub fn done(self) -> Result<(), StoreError> {
        self.store.keep_record(record_key(self.key), b"")?;
        // Whoever waits has it open.
        temporary::remove(&self.store.turn_path(self.key)).map_err(|error| self.store.failed(error))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread::spawn;

    use super::*;

    #[test]
    fn one_works_and_the_others_wait() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        let key = Digest::of(b"work");
        let waiting = |store: &Store| match store.turn(key).unwrap() {
            Turn::Others(waiting) => waiting,
            turn => panic!("{turn:?}"),
        };
        let Turn::Mine(first) = store.turn(key).unwrap() else {
            panic!()
        };
        assert!(matches!(store.turn(Digest::of(b"other")).unwrap(), Turn::Mine(_)));
        let second = waiting(&store);
        let third = spawn({
            let third = waiting(&store);
            move || third.wait().unwrap()
        });
        let fourth = spawn(move || second.wait().unwrap());
        // Killed, as it were: one of the two has the turn, and the other waits on.
        drop(first);
        while !third.is_finished() && !fourth.is_finished() {
            std::thread::yield_now();
        }
        let (next, last) = match third.is_finished() {
            true => (third, fourth),
            false => (fourth, third),
        };
        let Turn::Mine(next) = next.join().unwrap() else {
            panic!()
        };
        assert!(!last.is_finished());
        next.done().unwrap();
        assert!(matches!(last.join().unwrap(), Turn::Over));
        assert!(matches!(store.turn(key).unwrap(), Turn::Over));
        assert_eq!(fs::read_dir(place.path().join(SHELF)).unwrap().count(), 1);
        store.prune(&crate::store::Limits::default()).unwrap();
        assert_eq!(fs::read_dir(place.path().join(SHELF)).unwrap().count(), 0);
    }
}
