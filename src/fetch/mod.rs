//! Files from servers: checked while they come, resumed where they broke off, several at a time.
//!
//! What a file must be (size, digest) is known beforehand and decides alone whether it is taken: servers, mirrors
//! and proxies are not trusted. Whole files come to lie in the store.

mod download;
mod error;
mod http;
mod url;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::time::Duration;

pub use download::{Download, Watch};
pub use error::FetchError;
pub use url::{Url, UrlError, relative};

use http::{Http, Trouble, passing};

/// How files are fetched.
#[derive(Debug, Clone)]
pub struct Options {
    /// A file of PEM certificates, trusted in place of the system's.
    pub ca: Option<PathBuf>,
    /// Files that are fetched at the same time.
    pub parallel: usize,
    /// How often a request is repeated that brought nothing.
    pub retries: u32,
    /// Waited before the first repetition, twice as long before each further one.
    pub backoff: Duration,
    /// Nothing is fetched.
    pub offline: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ca: None,
            parallel: 8,
            retries: 4,
            backoff: Duration::from_millis(500),
            offline: false,
        }
    }
}

/// Fetches files.
#[derive(Debug, Clone)]
pub struct Fetcher {
    http: Http,
    options: Options,
}

impl Fetcher {
    /// # Errors
    /// Where the certificates to trust cannot be read.
    pub fn new(options: Options) -> Result<Self, FetchError> {
        Ok(Self {
            http: Http::new(options.ca.as_deref())?,
            options,
        })
    }

    pub fn is_offline(&self) -> bool {
        self.options.offline
    }

    /// The bytes of a small file, `limit` at most; `None` where the server says that there is none.
    ///
    /// # Errors
    /// Where it cannot be fetched or is larger.
    pub fn small(&self, url: &Url, limit: u64) -> Result<Option<Vec<u8>>, FetchError> {
        if let Some(path) = url.local() {
            return small_file(path, limit, url);
        }
        if self.options.offline {
            return Err(FetchError::Offline {
                urls: vec![url.to_string()],
            });
        }
        let mut failures = 0;
        loop {
            match self.small_once(url, limit) {
                Ok(bytes) => return Ok(Some(bytes)),
                // Stores of objects refuse to say that something is not there.
                Err(Trouble::Lasting(FetchError::Status {
                    status: 403 | 404 | 410,
                    ..
                })) => return Ok(None),
                Err(Trouble::Lasting(error)) => return Err(error),
                Err(Trouble::Passing { problem, wait }) => {
                    failures += 1;
                    self.pause(url, &problem, failures, wait)?;
                }
            }
        }
    }

    fn small_once(&self, url: &Url, limit: u64) -> Result<Vec<u8>, Trouble> {
        let answer = self.http.get(url, 0)?;
        let mut bytes = Vec::new();
        let read = answer.body.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| passing(&broken(&error)))?;
        if bytes.len() as u64 > limit {
            return Err(Trouble::Lasting(FetchError::TooLarge {
                url: url.clone(),
                limit,
            }));
        }
        match answer.whole {
            Some(whole) if whole != bytes.len() as u64 => Err(passing("the connection broke off")),
            _ => Ok(bytes),
        }
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// Where there is none: then with the last `problem`.
    fn pause(
        &self,
        url: &Url,
        problem: &str,
        failures: u32,
        wait: Option<Duration>,
    ) -> Result<(), FetchError> {
        if failures > self.options.retries {
            return Err(FetchError::Unreachable {
                url: url.clone(),
                problem: problem
                    .strip_prefix(&format!("{url}: "))
                    .unwrap_or(problem)
                    .to_owned(),
                attempts: failures,
            });
        }
        let backoff = self.options.backoff.saturating_mul(1 << (failures - 1).min(6));
        std::thread::sleep(wait.unwrap_or_default().max(backoff.min(Duration::from_secs(30))));
        Ok(())
    }
}

fn small_file(path: PathBuf, limit: u64, url: &Url) -> Result<Option<Vec<u8>>, FetchError> {
    let mut bytes = Vec::new();
    match File::open(&path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)) {
        Ok(_) if bytes.len() as u64 > limit => Err(FetchError::TooLarge {
            url: url.clone(),
            limit,
        }),
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FetchError::Local { path, source }),
    }
}

/// What the reader of a body says, in words for people.
fn broken(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no more came in time".to_owned(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => {
            "the connection broke off".to_owned()
        }
        _ => error.to_string(),
    }
}
