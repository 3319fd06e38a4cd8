//! Whole files into the store.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::http::{Trouble, passing};
use super::{FetchError, Fetcher, Url, broken};
use crate::store::{Checksum, Part, Shelf, Store, StoreError};

/// A file to fetch.
#[derive(Debug, Clone)]
pub struct Download {
    /// Where it lies, the first to be asked first. Not empty.
    pub urls: Vec<Url>,
    /// Its length in bytes, where that is known.
    pub size: Option<u64>,
    /// The most that is taken, in bytes.
    pub limit: u64,
    pub checksum: Checksum,
    pub shelf: Shelf,
}

/// Told of bytes that have come; a negative number, where some must come again.
pub type Watch<'a> = &'a (dyn Fn(i64) + Sync);

impl Download {
    /// What is said to be larger than it may is not begun.
    fn check(&self) -> Result<(), FetchError> {
        match (self.size, self.urls.first()) {
            (Some(size), Some(url)) if size > self.limit => Err(FetchError::TooLarge {
                url: url.clone(),
                limit: self.limit,
            }),
            _ => Ok(()),
        }
    }
}

impl Fetcher {
    /// Fetches `downloads` into `store`, several at a time; gives where each lies. What the store has already
    /// is not fetched.
    ///
    /// # Errors
    /// Where one is larger than its limit; the first download, in their order, that fails: no more are begun then.
    pub fn all(
        &self,
        downloads: &[Download],
        store: &Store,
        watch: Watch,
    ) -> Result<Vec<PathBuf>, FetchError> {
        downloads.iter().try_for_each(Download::check)?;
        let mut found: Vec<Option<PathBuf>> = downloads
            .iter()
            .map(|download| self.present(download, store))
            .collect();
        let mut open: Vec<usize> = (0..downloads.len()).filter(|&n| found[n].is_none()).collect();
        if self.options.offline && !open.is_empty() {
            let first = |&n: &usize| downloads[n].urls.first().map(Url::to_string);
            return Err(FetchError::Offline {
                urls: open.iter().filter_map(first).collect(),
            });
        }
        let size = |n: usize| downloads[n].size.unwrap_or(0);
        let needed = open.iter().map(|&n| size(n)).fold(0, u64::saturating_add);
        let room = store.room()?;
        if needed > room {
            return Err(FetchError::NoRoom { size: needed, room });
        }
        // The largest first, so that none is left alone at the end.
        open.sort_by_key(|&n| std::cmp::Reverse(size(n)));
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let results = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..self.options.parallel.clamp(1, open.len().max(1)) {
                scope.spawn(|| {
                    while !failed.load(Ordering::Relaxed) {
                        let Some(&number) = open.get(next.fetch_add(1, Ordering::Relaxed)) else {
                            return;
                        };
                        let result = self.one(&downloads[number], store, watch);
                        failed.fetch_or(result.is_err(), Ordering::Relaxed);
                        if let Ok(mut results) = results.lock() {
                            results.push((number, result));
                        }
                    }
                });
            }
        });
        let mut results = results
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        results.sort_by_key(|(number, _)| *number);
        for (number, result) in results {
            found[number] = Some(result?);
        }
        // Without an error, none is left out.
        Ok(found.into_iter().flatten().collect())
    }

    /// Where the file lies already.
    fn present(&self, download: &Download, store: &Store) -> Option<PathBuf> {
        let path = store.file(download.shelf, &download.checksum)?;
        let length = std::fs::metadata(&path).ok()?.len();
        download.size.is_none_or(|size| size == length).then_some(path)
    }

    /// Fetches one file.
    ///
    /// # Errors
    /// Where no address has it as it must be.
    pub fn one(&self, download: &Download, store: &Store, watch: Watch) -> Result<PathBuf, FetchError> {
        if let Some(path) = self.present(download, store) {
            return Ok(path);
        }
        download.check()?;
        let mut part = store.part(&download.checksum)?;
        // Whoever had the part before may have completed it.
        if let Some(path) = self.present(download, store) {
            part.discard();
            return Ok(path);
        }
        watch(counted(part.length()));
        let mut first = None;
        for url in &download.urls {
            match self.complete(url, download, &mut part, watch) {
                Ok(()) => {
                    let name = url
                        .file_name()
                        .ok_or_else(|| FetchError::Name { url: url.clone() })?;
                    return Ok(part.keep(download.shelf, &name)?);
                }
                Err(error @ FetchError::Store(_)) => return Err(error),
                Err(error) => first = first.or(Some(error)),
            }
        }
        if part.length() == 0 {
            part.discard();
        }
        Err(first.unwrap_or(FetchError::Offline { urls: Vec::new() }))
    }

    /// Completes `part` from `url` and checks it; what is wrong is not kept.
    fn complete(
        &self,
        url: &Url,
        download: &Download,
        part: &mut Part<'_>,
        watch: Watch,
    ) -> Result<(), FetchError> {
        loop {
            // What another mirror or an earlier run has left may be of another file.
            let resumed = part.length() > 0;
            self.receive(url, download, part, watch)?;
            let (_, found) = part.digests();
            let expected = download.checksum;
            if found == expected {
                return Ok(());
            }
            anew(part, watch)?;
            if !resumed {
                return Err(FetchError::Digest {
                    url: url.clone(),
                    found: found.to_string(),
                    expected: expected.to_string(),
                });
            }
        }
    }

    /// Appends to `part` what is missing, over as many requests as that takes.
    fn receive(
        &self,
        url: &Url,
        download: &Download,
        part: &mut Part<'_>,
        watch: Watch,
    ) -> Result<(), FetchError> {
        let mut failures = 0;
        loop {
            let before = part.length();
            if download.size == Some(before) && before > 0 {
                return Ok(());
            }
            match self.receive_once(url, download, part, watch) {
                Ok(()) => return Ok(()),
                Err(Trouble::Lasting(error)) => return Err(error),
                Err(Trouble::Passing { problem, wait }) => {
                    // A connection that brings something each time may break as often as it likes.
                    failures = if part.length() > before { 1 } else { failures + 1 };
                    self.pause(url, &problem, failures, wait)?;
                }
            }
        }
    }

    fn receive_once(
        &self,
        url: &Url,
        download: &Download,
        part: &mut Part<'_>,
        watch: Watch,
    ) -> Result<(), Trouble> {
        let lasting = |error: FetchError| Trouble::Lasting(error);
        let store = |error| Trouble::Lasting(FetchError::Store(error));
        let answer = self.http.get(url, part.length())?;
        if answer.start != part.length() {
            anew(part, watch).map_err(store)?;
            if answer.status != 200 {
                return Err(passing("the server does not go on where it was asked to"));
            }
        }
        let wrong = |found: u64| match download.size {
            Some(expected) if found != expected => Some(FetchError::Size {
                url: url.clone(),
                found,
                expected,
            }),
            None if found > download.limit => Some(FetchError::TooLarge {
                url: url.clone(),
                limit: download.limit,
            }),
            _ => None,
        };
        if let Some(error) = answer.whole.and_then(wrong) {
            return Err(lasting(error));
        }
        let most = download.size.unwrap_or(download.limit);
        let mut body = answer.body;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = body.read(&mut buffer).map_err(|error| passing(&broken(&error)))?;
            let total = part.length() + count as u64;
            if count == 0 {
                break;
            }
            if total > most {
                anew(part, watch).map_err(store)?;
                return Err(lasting(wrong(total).unwrap_or(FetchError::TooLarge {
                    url: url.clone(),
                    limit: most,
                })));
            }
            part.write(&buffer[..count]).map_err(store)?;
            watch(counted(count as u64));
        }
        let expected = download.size.or(answer.whole);
        match expected {
            Some(expected) if part.length() < expected => Err(passing("the connection broke off")),
            _ => Ok(()),
        }
    }
}

/// Forgets what has come so far.
fn anew(part: &mut Part<'_>, watch: Watch) -> Result<(), StoreError> {
    watch(-counted(part.length()));
    part.restart()
}

fn counted(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::Options;
    use crate::store::Digest;

    #[test]
    fn what_is_said_to_be_too_large_is_not_begun() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        let options = Options {
            retries: 0,
            ..Options::default()
        };
        let fetcher = Fetcher::new(options).unwrap();
        let of = |size, limit| Download {
            // Nobody listens there.
            urls: vec![Url::parse("http://127.0.0.1:9/x").unwrap()],
            size: Some(size),
            limit,
            checksum: Checksum::Sha256(Digest::of(b"x")),
            shelf: Shelf::Rpms,
        };
        for result in [
            fetcher.all(&[of(1, 2), of(3, 2)], &store, &|_| {}).map(|_| ()),
            fetcher.one(&of(3, 2), &store, &|_| {}).map(|_| ()),
        ] {
            assert_eq!(
                result.unwrap_err().to_string(),
                "http://127.0.0.1:9/x: it is larger than 2 bytes"
            );
        }
        // Sums have no room either.
        let most = of(u64::MAX, u64::MAX);
        let error = fetcher.all(&[most.clone(), most], &store, &|_| {}).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with(&format!("the files to fetch take {} bytes", u64::MAX)),
            "{error}"
        );
    }
}
