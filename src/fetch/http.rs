//! One request over HTTP.

use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::{Response, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, BodyReader};

use super::{FetchError, Url};

/// A server that says nothing for so long is taken for gone.
const SILENCE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(20);
const LONGEST_CA: u64 = 16 << 20;

/// Speaks HTTP. Proxies come from the usual environment variables.
#[derive(Debug, Clone)]
pub(super) struct Http {
    agent: Agent,
}

/// What a server answers, before its body is read.
pub(super) struct Answer {
    pub status: u16,
    /// First byte of the file that the body holds.
    pub start: u64,
    /// Length of the whole file, where the server says so.
    pub whole: Option<u64>,
    pub body: BodyReader<'static>,
}

/// Why a request came to nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may go better next time; not before the time that the server asks for.
    Passing {
        problem: String,
        wait: Option<Duration>,
    },
    Lasting(FetchError),
}

impl Http {
    /// Trusts the certificates in the file `ca` and no others; without one, those of the system.
    pub fn new(ca: Option<&Path>) -> Result<Self, FetchError> {
        let roots = match ca {
            None => RootCerts::PlatformVerifier,
            Some(path) => RootCerts::Specific(Arc::new(certificates(path)?)),
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .user_agent(concat!("hullwright/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .timeout_per_write(Some(SILENCE))
            .max_idle_connections_per_host(16)
            .build();
        Ok(Self {
            agent: config.new_agent(),
        })
    }

    /// Asks for the file at `url`, from byte `from` on.
    pub fn get(&self, url: &Url, from: u64) -> Result<Answer, Trouble> {
        // Whoever named an encrypted address is not led to a plain one.
        let mut request = self
            .agent
            .get(url.as_str())
            .config()
            .https_only(url.is_https())
            .build();
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        let response = request.call().map_err(|error| trouble(url, error))?;
        let status = response.status().as_u16();
        match status {
            200 | 206 => {}
            // What is there already is longer than the file: the caller begins anew.
            416 if from > 0 => {}
            408 | 425 | 429 | 500..=599 => {
                let wait = header_text(&response, &header::RETRY_AFTER).and_then(|text| text.parse().ok());
                return Err(Trouble::Passing {
                    problem: FetchError::Status {
                        url: url.clone(),
                        status,
                    }
                    .to_string(),
                    wait: wait.map(|seconds: u64| Duration::from_secs(seconds.min(60))),
                });
            }
            _ => {
                return Err(Trouble::Lasting(FetchError::Status {
                    url: url.clone(),
                    status,
                }));
            }
        }
        let length = header_text(&response, &header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
        let (start, whole) = match status {
            206 => content_range(header_text(&response, &header::CONTENT_RANGE).unwrap_or_default()),
            _ => (0, length),
        };
        let body = response.into_body().into_with_config().limit(u64::MAX).reader();
        Ok(Answer {
            status,
            start,
            whole,
            body,
        })
    }
}

fn trouble(url: &Url, error: ureq::Error) -> Trouble {
    use ureq::Error;
    let tls = |problem: String| {
        Trouble::Lasting(FetchError::Tls {
            url: url.clone(),
            problem,
        })
    };
    match error {
        Error::Rustls(error) => tls(error.to_string()),
        Error::Tls(problem) => tls(problem.to_owned()),
        // Failed handshakes come as these.
        Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => tls(error.to_string()),
        Error::RequireHttpsOnly(_) => tls("the server leads to an address without encryption".to_owned()),
        Error::BadUri(_) | Error::Http(_) | Error::TooManyRedirects | Error::InvalidProxyUrl => {
            Trouble::Lasting(FetchError::Unreachable {
                url: url.clone(),
                problem: error.to_string(),
                attempts: 1,
            })
        }
        Error::HostNotFound => passing("there is no such host"),
        Error::Timeout(_) => passing("no answer in time"),
        error => passing(&error.to_string()),
    }
}

pub(super) fn passing(problem: &str) -> Trouble {
    Trouble::Passing {
        problem: problem.to_owned(),
        wait: None,
    }
}

fn header_text<'a>(response: &'a Response<Body>, name: &header::HeaderName) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok().map(str::trim)
}

/// First byte and whole length of `bytes 5-9/10`; a start that no one asked for, where it is malformed.
fn content_range(text: &str) -> (u64, Option<u64>) {
    let parse = || {
        let (range, whole) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (start, _) = range.split_once('-')?;
        Some((start.trim().parse().ok()?, whole.trim().parse().ok()))
    };
    parse().unwrap_or((u64::MAX, None))
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, FetchError> {
    let mut pem = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(LONGEST_CA).read_to_end(&mut pem));
    read.map_err(|source| FetchError::Local {
        path: path.to_owned(),
        source,
    })?;
    let failed = |problem: String| FetchError::Ca {
        path: path.to_owned(),
        problem,
    };
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| failed(error.to_string()))? {
            found.push(certificate);
        }
    }
    match found.is_empty() {
        true => Err(failed("no PEM block is a certificate".to_owned())),
        false => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        for (text, expected) in [
            ("bytes 5-9/10", (5, Some(10))),
            ("bytes 0-9/*", (0, None)),
            ("bytes */10", (u64::MAX, None)),
            ("", (u64::MAX, None)),
        ] {
            assert_eq!(content_range(text), expected, "{text}");
        }
    }
}
