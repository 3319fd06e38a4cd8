//! A small HTTP server that misbehaves to order.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What goes wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This status, and nothing else.
    Status(u16),
    /// The connection breaks after so many bytes of the body.
    Cut(usize),
    /// The first byte is another.
    Flip,
    /// More bytes follow than the file has.
    Longer,
    /// Ranges are answered with the whole file.
    NoRange,
    /// The answer leads to this server's `/elsewhere/…`.
    Redirect,
}

struct Rule {
    path: String,
    fault: Fault,
    times: usize,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    /// `path range` of every request.
    log: Vec<String>,
}

/// Serves the files of a directory, until the test ends.
pub struct Server {
    pub url: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub fn new(root: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let root = root.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (root, state) = (root.clone(), Arc::clone(&shared));
                // Whoever breaks the connection off has read enough.
                std::thread::spawn(move || drop(answer(stream, &root, &state)));
            }
        });
        Self { url, state }
    }

    /// The next `times` requests of paths with `path` in them go wrong.
    pub fn fail(&self, path: &str, fault: Fault, times: usize) {
        self.state.lock().unwrap().rules.push(Rule {
            path: path.to_owned(),
            fault,
            times,
        });
    }

    /// The requests so far, and forgets them.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().log)
    }
}

fn answer(mut stream: TcpStream, root: &Path, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut range = None;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(text) = line.strip_prefix("range: bytes=") {
            range = text.trim_end_matches('-').parse::<usize>().ok();
        }
    }
    let fault = {
        let mut state = state.lock().unwrap();
        let from = range.map_or(String::new(), |start| format!(" from {start}"));
        state.log.push(format!("{path}{from}"));
        let mut rules = state.rules.iter_mut();
        let rule = rules.find(|rule| rule.times > 0 && path.contains(&rule.path));
        rule.map(|rule| {
            rule.times -= 1;
            rule.fault
        })
    };
    let plain = path.split('?').next().unwrap_or_default();
    let plain = plain.trim_start_matches('/').trim_start_matches("elsewhere/");
    let file = root.join(plain.replace("%5E", "^"));
    let Some(mut body) = fs::read(file).ok() else {
        return write!(
            stream,
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    };
    let whole = body.len();
    let mut status = "200 OK".to_owned();
    let mut headers = String::new();
    match (fault, range) {
        (Some(Fault::Status(code)), _) => {
            return write!(
                stream,
                "HTTP/1.1 {code} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        (Some(Fault::Redirect), _) => {
            return write!(
                stream,
                "HTTP/1.1 302 Found\r\nLocation: /elsewhere/{plain}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        (Some(Fault::NoRange), _) | (_, None) => {}
        (_, Some(start)) if start < whole => {
            body.drain(..start);
            status = "206 Partial Content".to_owned();
            headers = format!("Content-Range: bytes {start}-{}/{whole}\r\n", whole - 1);
        }
        (_, Some(_)) => {
            return write!(
                stream,
                "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
    }
    match fault {
        Some(Fault::Flip) => body[0] ^= 1,
        Some(Fault::Longer) => body.extend_from_slice(b"more"),
        _ => {}
    }
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    if let Some(Fault::Cut(at)) = fault {
        stream.write_all(&body[..at.min(length)])?;
        stream.flush()?;
        std::thread::sleep(Duration::from_millis(20));
        return Ok(());
    }
    stream.write_all(&body)
}

/// A server of `root` over TLS, by Python; its certificate is of the authority in `ca.pem` of `keys`.
pub struct TlsServer {
    pub url: String,
    pub ca: PathBuf,
    child: std::process::Child,
}

impl TlsServer {
    pub fn new(root: &Path, keys: &Path, openssl: &Path, python: &Path) -> Self {
        fs::create_dir_all(keys).unwrap();
        fs::write(keys.join("san"), "subjectAltName=IP:127.0.0.1\n").unwrap();
        for line in [
            "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority",
            "req -newkey rsa:2048 -nodes -keyout leaf.key -out leaf.csr -subj /CN=localhost",
            "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out leaf.pem -days 2 -extfile san",
        ] {
            let mut command = std::process::Command::new(openssl);
            let output = command.args(line.split(' ')).current_dir(keys).output().unwrap();
            assert!(output.status.success(), "{line}: {output:?}");
        }
        let program = "import http.server, ssl, sys\n\
            server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)\n\
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
            context.load_cert_chain(sys.argv[1], sys.argv[2])\n\
            server.socket = context.wrap_socket(server.socket, server_side=True)\n\
            print(server.server_port, flush=True)\n\
            server.serve_forever()\n";
        let mut child = std::process::Command::new(python)
            .args(["-c", program])
            .args([keys.join("leaf.pem"), keys.join("leaf.key")])
            .current_dir(root)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut port)
            .unwrap();
        Self {
            url: format!("https://127.0.0.1:{}", port.trim()),
            ca: keys.join("ca.pem"),
            child,
        }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
