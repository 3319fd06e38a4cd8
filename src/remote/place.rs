//! Where a remote store lies: a bucket, a container, or a directory; and the few things that are done there.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::path::Path as Location;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload, RetryConfig};

use super::http::Connector;

/// What is larger goes up in parts of this size, in bytes: the smallest that S3 takes are 5 MiB.
const PART: usize = 8 << 20;

/// A remote store as its URL names it.
#[derive(Debug)]
pub(super) enum Place {
    Cloud {
        store: Arc<dyn ObjectStore>,
        prefix: Location,
    },
    Directory(PathBuf),
}

/// Why the place could not do what it was asked.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It does not have that.
    Absent,
    /// It is more than was said.
    TooLong,
    /// The place itself is of no use: in words, without anything secret.
    Place(String),
    /// Our side of it: a file that is read or written here.
    Here(io::Error),
}

impl Place {
    /// Reads the URL; nothing is asked of a server. Credentials and addresses come from the environment, as the tools of
    /// the cloud read it.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url
            .split_once("://")
            .ok_or("it has no scheme, as `s3://`, `az://` or `file://`")?;
        if rest.contains(['?', '#', '@']) {
            return Err(
                "it is a scheme, a name and a path, and nothing else: credentials come from the environment"
                    .to_owned(),
            );
        }
        if scheme == "file" {
            return match rest.starts_with('/') {
                true => Ok(Self::Directory(PathBuf::from(rest))),
                false => Err("`file://` is followed by an absolute path".to_owned()),
            };
        }
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if name.is_empty() {
            return Err(format!(
                "`{scheme}://` is followed by the name of a bucket or container"
            ));
        }
        let prefix = Location::parse(prefix.trim_matches('/')).map_err(|error| error.to_string())?;
        let retry = RetryConfig {
            max_retries: 2,
            retry_timeout: Duration::from_secs(15),
            ..RetryConfig::default()
        };
        let store: Arc<dyn ObjectStore> = match scheme {
            "s3" => {
                let builder = AmazonS3Builder::from_env()
                    .with_bucket_name(name)
                    .with_retry(retry)
                    .with_http_connector(Connector);
                Arc::new(builder.build().map_err(|error| plain(&error))?)
            }
            "az" | "azure" | "abfs" | "abfss" => {
                let builder = MicrosoftAzureBuilder::from_env()
                    .with_container_name(name)
                    .with_retry(retry)
                    .with_http_connector(Connector);
                Arc::new(builder.build().map_err(|error| plain(&error))?)
            }
            other => return Err(format!("the scheme `{other}` is none of s3, az and file")),
        };
        Ok(Self::Cloud { store, prefix })
    }

    /// Writes the whole of `name` to `out`, which has at most `limit` bytes; how many they were.
    pub fn read(&self, name: &str, limit: u64, out: &mut dyn Write) -> Result<u64, Trouble> {
        match self {
            Self::Directory(root) => {
                let file = File::open(root.join(name)).map_err(here_or_absent)?;
                let count = io::copy(&mut file.take(limit.saturating_add(1)), out).map_err(Trouble::Here)?;
                if count > limit {
                    Err(Trouble::TooLong)
                } else {
                    Ok(count)
                }
            }
            Self::Cloud { store, prefix } => wait(async {
                let found = store
                    .get(&location(prefix, name))
                    .await
                    .map_err(|error| trouble(&error))?;
                if found.meta.size > limit {
                    return Err(Trouble::TooLong);
                }
                let mut pieces = found.into_stream();
                let mut count = 0_u64;
                while let Some(piece) = pieces.next().await {
                    let piece = piece.map_err(|error| trouble(&error))?;
                    count += piece.len() as u64;
                    if count > limit {
                        return Err(Trouble::TooLong);
                    }
                    out.write_all(&piece).map_err(Trouble::Here)?;
                }
                Ok(count)
            }),
        }
    }

    /// Whether `name` is there, with `size` bytes.
    pub fn has(&self, name: &str, size: u64) -> Result<bool, Trouble> {
        let found = match self {
            Self::Directory(root) => fs::metadata(root.join(name))
                .map(|found| found.len())
                .map_err(here_or_absent),
            Self::Cloud { store, prefix } => wait(async {
                let found = store.head(&location(prefix, name)).await;
                found.map(|found| found.size).map_err(|error| trouble(&error))
            }),
        };
        match found {
            Ok(found) => Ok(found == size),
            Err(Trouble::Absent) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Gives `content` the name `name`, in place of what has it; whoever reads finds the one or the other, whole.
    pub fn write(&self, name: &str, size: u64, content: &mut dyn Read) -> Result<(), Trouble> {
        match self {
            Self::Directory(root) => write_file(&root.join(name), content).map_err(Trouble::Here),
            Self::Cloud { store, prefix } => wait(async {
                let location = location(prefix, name);
                let refused = |error: object_store::Error| match trouble(&error) {
                    // The bucket itself is not there.
                    Trouble::Absent => Trouble::Place(plain(&error)),
                    other => other,
                };
                if size <= PART as u64 {
                    let payload = PutPayload::from(next_part(content)?);
                    return store.put(&location, payload).await.map(drop).map_err(refused);
                }
                let mut upload = store.put_multipart(&location).await.map_err(refused)?;
                let sent = async {
                    loop {
                        let part = next_part(content)?;
                        if part.is_empty() {
                            return upload.complete().await.map(drop).map_err(refused);
                        }
                        upload.put_part(PutPayload::from(part)).await.map_err(refused)?;
                    }
                };
                let sent = sent.await;
                if sent.is_err() {
                    // What cannot be taken back the server forgets in time.
                    let _ = upload.abort().await;
                }
                sent
            }),
        }
    }
}

fn location(prefix: &Location, name: &str) -> Location {
    name.split('/').fold(prefix.clone(), |path, part| path.join(part))
}

/// Up to [`PART`] bytes; none at the end.
fn next_part(content: &mut dyn Read) -> Result<Vec<u8>, Trouble> {
    let mut part = Vec::new();
    let read = content.take(PART as u64).read_to_end(&mut part);
    read.map(|_| part).map_err(Trouble::Here)
}

fn write_file(path: &Path, content: &mut dyn Read) -> io::Result<()> {
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory)?;
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(directory)?;
    io::copy(content, &mut file)?;
    file.persist(path)?;
    Ok(())
}

fn here_or_absent(error: io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::NotFound => Trouble::Absent,
        _ => Trouble::Here(error),
    }
}

fn trouble(error: &object_store::Error) -> Trouble {
    match error {
        object_store::Error::NotFound { .. } => Trouble::Absent,
        error => Trouble::Place(plain(error)),
    }
}

/// Runs one request to its end, on this thread.
fn wait<T>(request: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.map_err(Trouble::Here)?.block_on(request)
}

/// What went wrong, in a line without credentials: queries of URLs may hold signatures, and servers may repeat what they
/// were told.
fn plain(error: &object_store::Error) -> String {
    let mut causes = vec![error.to_string()];
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let text = cause.to_string();
        if !causes.iter().any(|said| said.contains(&text)) {
            causes.push(text);
        }
        source = cause.source();
    }
    redact(&causes.join(": "), std::env::vars())
}

fn redact(text: &str, environment: impl Iterator<Item = (String, String)>) -> String {
    const LONGEST: usize = 300;
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for (name, value) in environment {
        let is_secret = ["KEY", "SECRET", "TOKEN", "SAS", "PASSWORD", "AUTH"]
            .iter()
            .any(|word| name.contains(word));
        if is_secret && value.len() >= 6 && (name.starts_with("AWS_") || name.starts_with("AZURE_")) {
            text = text.replace(&value, "…");
        }
    }
    let mut kept = String::new();
    for word in text.split(' ') {
        let word = match word.split_once('?') {
            Some((url, _)) if url.contains("://") => format!("{url}?…"),
            _ => word.to_owned(),
        };
        if kept.chars().count() + word.chars().count() > LONGEST {
            kept.push_str(" …");
            break;
        }
        if !kept.is_empty() {
            kept.push(' ');
        }
        kept.push_str(&word);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_place_or_say_what_is_wrong() {
        assert!(
            matches!(Place::parse("file:///srv/x"), Ok(Place::Directory(path)) if path == Path::new("/srv/x"))
        );
        for (url, wrong) in [
            ("/srv/x", "no scheme"),
            ("file://srv/x", "absolute path"),
            ("gopher://x/y", "none of s3, az and file"),
            ("s3:///y", "name of a bucket"),
            (
                "s3://user:secret@bucket/y",
                "credentials come from the environment",
            ),
            (
                "az://container/y?sig=secret",
                "credentials come from the environment",
            ),
        ] {
            let said = Place::parse(url).map(drop).unwrap_err();
            assert!(said.contains(wrong) && !said.contains("secret"), "{url}: {said}");
        }
    }

    #[test]
    fn nothing_secret_is_repeated() {
        let environment = [
            ("AWS_SECRET_ACCESS_KEY", "hunter2hunter2"),
            ("AZURE_STORAGE_KEY", "c2VjcmV0"),
            ("HOME", "/home/somebody"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let text = "PUT https://a.blob/c/x?sv=1&sig=abc failed:\n hunter2hunter2 c2VjcmV0 /home/somebody";
        assert_eq!(
            redact(text, environment.into_iter()),
            "PUT https://a.blob/c/x?… failed: … … /home/somebody"
        );
        assert!(redact(&"word ".repeat(1000), std::iter::empty()).chars().count() < 310);
    }

    #[test]
    fn a_directory_gives_back_what_was_put_there() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::Directory(directory.path().join("remote"));
        let mut out = Vec::new();
        assert!(matches!(place.read("a/b", 9, &mut out), Err(Trouble::Absent)));
        assert!(!place.has("a/b", 5).unwrap());
        place.write("a/b", 5, &mut b"other".as_slice()).unwrap();
        place.write("a/b", 5, &mut b"value".as_slice()).unwrap();
        assert!(place.has("a/b", 5).unwrap() && !place.has("a/b", 6).unwrap());
        assert_eq!(place.read("a/b", 5, &mut out).unwrap(), 5);
        assert_eq!(out, b"value");
        assert!(matches!(place.read("a/b", 4, &mut out), Err(Trouble::TooLong)));
    }
}
