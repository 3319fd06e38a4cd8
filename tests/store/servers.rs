//! Real servers for a remote store: Azurite (Azure Blob) and s3rver (S3), each with a place of its own.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::skip;

/// Azurite's well-known account.
const ACCOUNT: &str = "devstoreaccount1";
const ACCOUNT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const NAME: &str = "store";

/// A running server; stopped when it is dropped.
pub struct Server {
    process: Child,
    pub url: &'static str,
    /// Variables that lead to it.
    pub environment: Vec<(&'static str, String)>,
    /// Where it keeps what it is given.
    pub directory: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Server {
    /// `None` (said as a skip) where it is not installed. S3, which knows who asks and does not verify signatures of version 4.
    pub fn s3(directory: &Path) -> Option<Self> {
        let port = free_port();
        let mut command = program("s3rver")?;
        command.arg("--directory").arg(directory);
        command.args(["--port", &port.to_string(), "--configure-bucket", NAME]);
        let environment = vec![
            ("AWS_ENDPOINT", format!("http://127.0.0.1:{port}")),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "S3RVER".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "S3RVER".to_owned()),
        ];
        Some(Self::start(
            command,
            port,
            "s3://store/fleet",
            environment,
            directory,
        ))
    }

    /// As [`Self::s3`]: Azure Blob.
    pub fn azure(directory: &Path) -> Option<Self> {
        let port = free_port();
        let mut command = program("azurite-blob")?;
        command.args([
            "--silent",
            "--disableTelemetry",
            "--skipApiVersionCheck",
            "--location",
        ]);
        command.arg(directory).args(["--blobPort", &port.to_string()]);
        let environment = vec![
            ("AZURITE_BLOB_STORAGE_URL", format!("http://127.0.0.1:{port}")),
            ("AZURE_STORAGE_USE_EMULATOR", "true".to_owned()),
        ];
        let server = Self::start(command, port, "az://store/fleet", environment, directory);
        make_container(port);
        Some(server)
    }

    fn start(
        mut command: Command,
        port: u16,
        url: &'static str,
        environment: Vec<(&'static str, String)>,
        directory: &Path,
    ) -> Self {
        fs::create_dir_all(directory).unwrap();
        let silent = command.stdout(Stdio::null()).stderr(Stdio::null());
        let process = silent.spawn().unwrap();
        let server = Self {
            process,
            url,
            environment,
            directory: directory.to_owned(),
        };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "the server does not start"
            );
            sleep(Duration::from_millis(50));
        }
        server
    }

    /// Kills it.
    pub fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn program(name: &str) -> Option<Command> {
    let cache = ["HULLWRIGHT_CACHE", "XDG_CACHE_HOME", "HOME"].map(std::env::var_os);
    let cache = match cache {
        [Some(cache), ..] => PathBuf::from(cache),
        [_, Some(cache), _] => PathBuf::from(cache).join("hullwright"),
        [_, _, home] => PathBuf::from(home?).join(".cache/hullwright"),
    };
    let path = cache.join("remote-servers/node_modules/.bin").join(name);
    if !path.exists() {
        skip(&format!("{name} is missing (tests/remote-servers)"));
        return None;
    }
    Some(Command::new(path))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Makes the container, which a store does not do for itself.
fn make_container(port: u16) {
    let date = Command::new("date")
        .args(["-u", "+%a, %d %b %Y %H:%M:%S GMT"])
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let date = String::from_utf8(date.stdout).unwrap().trim().to_owned();
    // https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
    let text = format!(
        "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:2021-08-06\n/{ACCOUNT}/{ACCOUNT}/{NAME}\nrestype:container"
    );
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &STANDARD.decode(ACCOUNT_KEY).unwrap());
    let signature = STANDARD.encode(ring::hmac::sign(&key, text.as_bytes()));
    let answer = ureq::put(format!(
        "http://127.0.0.1:{port}/{ACCOUNT}/{NAME}?restype=container"
    ))
    .header("x-ms-date", &date)
    .header("x-ms-version", "2021-08-06")
    .header("Authorization", format!("SharedKey {ACCOUNT}:{signature}"))
    .send_empty();
    assert_eq!(answer.unwrap().status().as_u16(), 201);
}
