//! How `object_store` reaches a server: through `ureq`, as everything else here does.
//!
//! A request blocks the thread that makes it: each of our threads drives a request of its own, and none drives two.

use std::io::{self, Cursor, Read as _};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use ureq::http::{Method, Request, Response, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, BodyReader, SendBody};

const CONNECT: Duration = Duration::from_secs(5);
/// A server that says nothing for so long is taken for gone.
const SILENCE: Duration = Duration::from_secs(10);
/// What was sent in parts a server may take minutes to put together.
const ASSEMBLY: Duration = Duration::from_secs(180);
/// What trickles in more slowly than this, in bytes a second, costs more than it saves.
const SLOWEST: u64 = 64 << 10;
/// Time that every answer has, however short it is.
const GRACE: Duration = Duration::from_secs(20);
/// Bytes of an answer that are read at once.
const PIECE: usize = 256 << 10;

/// Makes clients that speak through `ureq`. Proxies come from the usual environment variables, trust from the system.
#[derive(Debug)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Service {
            reads: agent(SILENCE),
            writes: agent(ASSEMBLY),
        }))
    }
}

/// An agent that waits so long for the beginning of an answer.
fn agent(patience: Duration) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        // Requests carry credentials: they go where they were sent, and nowhere else.
        .max_redirects(0)
        .tls_config(
            TlsConfig::builder()
                .root_certs(RootCerts::PlatformVerifier)
                .build(),
        )
        .user_agent(concat!("hullwright/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(patience))
        .timeout_per_read(Some(patience))
        .timeout_per_write(Some(SILENCE))
        .max_idle_connections_per_host(16)
        .build();
    config.new_agent()
}

#[derive(Debug)]
struct Service {
    reads: Agent,
    writes: Agent,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let pieces = pieces(body)?;
        let answer = match parts.method {
            Method::GET | Method::HEAD | Method::DELETE => self.reads.run(Request::from_parts(parts, ())),
            _ => {
                let length = pieces.iter().map(Bytes::len).sum::<usize>();
                let mut request = Request::from_parts(parts, ());
                request
                    .headers_mut()
                    .insert(header::CONTENT_LENGTH, length.into());
                let (parts, ()) = request.into_parts();
                let body = SendBody::from_owned_reader(Pieces::new(pieces));
                self.writes.run(Request::from_parts(parts, body))
            }
        };
        let (parts, body) = answer.map_err(failed)?.into_parts();
        let body = Answer {
            body: Mutex::new(body.into_with_config().limit(u64::MAX).reader()),
            begun: Instant::now(),
            read: 0,
        };
        Ok(Response::from_parts(parts, HttpResponseBody::new(body)))
    }
}

/// What is to be sent: all of it is in memory already.
fn pieces(mut body: HttpRequestBody) -> Result<Vec<Bytes>, HttpError> {
    let mut found = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut context) {
        found.extend(frame?.into_data().ok());
    }
    Ok(found)
}

/// Reads pieces one after the other.
struct Pieces(std::vec::IntoIter<Bytes>, Cursor<Bytes>);

impl Pieces {
    fn new(pieces: Vec<Bytes>) -> Self {
        Self(pieces.into_iter(), Cursor::default())
    }
}

impl io::Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.1.read(buffer)? {
                0 if !buffer.is_empty() => match self.0.next() {
                    Some(piece) => self.1 = Cursor::new(piece),
                    None => return Ok(0),
                },
                count => return Ok(count),
            }
        }
    }
}

fn failed(error: ureq::Error) -> HttpError {
    let kind = match &error {
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => HttpErrorKind::Connect,
        ureq::Error::Timeout(_) => HttpErrorKind::Timeout,
        ureq::Error::Io(error) => io_kind(error),
        _ => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, error)
}

fn io_kind(error: &io::Error) -> HttpErrorKind {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => HttpErrorKind::Connect,
        io::ErrorKind::TimedOut => HttpErrorKind::Timeout,
        io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => HttpErrorKind::Interrupted,
        _ => HttpErrorKind::Unknown,
    }
}

/// The body of an answer, read as it is asked for.
struct Answer {
    /// Never waited for: a body has one reader.
    body: Mutex<BodyReader<'static>>,
    begun: Instant,
    read: u64,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let due = GRACE + Duration::from_secs(self.read / SLOWEST);
        if self.begun.elapsed() > due {
            let slow = io::Error::new(io::ErrorKind::TimedOut, "the answer comes too slowly");
            return Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Unknown, slow))));
        }
        let mut piece = vec![0; PIECE];
        let body = self.body.get_mut().unwrap_or_else(PoisonError::into_inner);
        Poll::Ready(match body.read(&mut piece) {
            Ok(0) => None,
            Ok(count) => {
                piece.truncate(count);
                self.read += count as u64;
                Some(Ok(Frame::data(piece.into())))
            }
            Err(error) => Some(Err(HttpError::new(io_kind(&error), error))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_read_in_order_and_whole() {
        for pieces in [
            vec![],
            vec!["".into()],
            vec!["one".into(), "".into(), "three".into()],
        ] {
            let whole: Vec<u8> = pieces.concat();
            let mut read = Vec::new();
            Pieces::new(pieces).read_to_end(&mut read).unwrap();
            assert_eq!(read, whole);
        }
    }
}
