//! Logging in to the guest as root with a key made for this one machine.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::VmError;
use super::qemu::in_path;

/// The systemd credential from which `tmpfiles.d/provision.conf` makes `/root/.ssh/authorized_keys`.
const CREDENTIAL: &str = "ssh.authorized_keys.root";

/// A throw-away key pair and the ssh client that uses it.
pub(super) struct Login {
    client: PathBuf,
    key: PathBuf,
    known_hosts: PathBuf,
    public: Vec<u8>,
}

impl Login {
    /// Makes a key in `dir`, where it stays, or takes the one that is there: a kept disk lets in the key of
    /// its first boot only, since systemd's tmpfiles leaves a file that exists as it is.
    pub(super) fn prepare(dir: &Path) -> Result<Self, VmError> {
        let find = |program: &str| {
            in_path(program).ok_or_else(|| VmError::ProgramMissing {
                program: program.into(),
                help: "install `openssh-client` (Debian, Ubuntu) or `openssh-clients` (Fedora, Azure Linux)"
                    .into(),
            })
        };
        let client = find("ssh")?;
        let keygen = find("ssh-keygen")?;
        let key = dir.join("key");
        let public = key.with_extension("pub");
        // The public half is written last: a key without it is half-made.
        if !public.exists() {
            make_key(&keygen, &key)?;
        }
        Ok(Self {
            client,
            public: fs::read(&public).map_err(VmError::io("read", public))?,
            known_hosts: dir.join("known_hosts"),
            key,
        })
    }

    /// Name and content of the credential that lets the key in.
    pub(super) fn credential(&self) -> (String, Vec<u8>) {
        (CREDENTIAL.to_owned(), self.public.clone())
    }

    /// The ssh client, ready for a remote command to be appended. It reads no configuration, asks nothing, and
    /// takes the host key as it comes: the guest is new and reached over loopback.
    pub(super) fn command(&self, port: u16) -> Command {
        let mut command = Command::new(&self.client);
        command
            .args(["-F", "/dev/null", "-p", &port.to_string(), "-l", "root", "-i"])
            .arg(&self.key);
        for option in [
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "BatchMode=yes",
            "PreferredAuthentications=publickey",
            "StrictHostKeyChecking=no",
            "GlobalKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "ConnectTimeout=30",
            "ServerAliveInterval=20",
        ] {
            command.args(["-o", option]);
        }
        command
            .arg("-o")
            .arg(format!("UserKnownHostsFile=\"{}\"", self.known_hosts.display()));
        command.arg("127.0.0.1");
        command
    }

    /// One attempt to log in; what went wrong, if so.
    pub(super) fn attempt(&self, port: u16) -> Result<(), String> {
        banner(port)?;
        let output = self.command(port).arg("true").stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("{}: {error}", self.client.display()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

fn make_key(keygen: &Path, key: &Path) -> Result<(), VmError> {
    if key.exists() {
        // ssh-keygen would ask before it replaces one.
        fs::remove_file(key).map_err(VmError::io("remove", key))?;
    }
    let output = Command::new(keygen)
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "hullwright-boot", "-f"])
        .arg(key)
        .stdin(Stdio::null())
        .output()
        .map_err(VmError::io("run", keygen))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(VmError::Control(format!(
        "ssh-keygen made no key: {}",
        said.trim()
    )))
}

/// Whether an ssh server answers: QEMU itself accepts the connection before the guest listens.
fn banner(port: u16) -> Result<(), String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let patience = Duration::from_secs(5);
    let silent = "no ssh server answers";
    let mut stream = TcpStream::connect_timeout(&address, patience).map_err(|_| silent)?;
    stream.set_read_timeout(Some(patience)).map_err(|_| silent)?;
    let mut greeting = [0; 4];
    match stream.read_exact(&mut greeting) {
        Ok(()) if greeting == *b"SSH-" => Ok(()),
        Ok(()) => Err("something answers that is no ssh server".into()),
        Err(_) => Err(silent.into()),
    }
}

/// What to hand to ssh: one word is a line for the remote shell as it stands; several are quoted, so that they
/// arrive as the same words.
pub fn remote_command<S: AsRef<str>>(words: &[S]) -> String {
    match words {
        [line] => line.as_ref().to_owned(),
        words => {
            let quoted: Vec<_> = words.iter().map(|word| quote(word.as_ref())).collect();
            quoted.join(" ")
        }
    }
}

fn quote(word: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
    if !word.is_empty() && word.chars().all(harmless) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;
    use std::thread;

    #[test]
    fn words() {
        let cases: &[(&[&str], &str)] = &[
            (&["findmnt /usr; id"], "findmnt /usr; id"),
            (&["findmnt", "/usr"], "findmnt /usr"),
            (
                &["echo", "a b", "it's", "", "$HOME"],
                "echo 'a b' 'it'\\''s' '' '$HOME'",
            ),
            (&[], ""),
        ];
        for (words, expected) in cases {
            assert_eq!(remote_command(words), *expected);
        }
    }

    #[test]
    fn words_arrive_through_a_shell() {
        let line = remote_command(&["printf", "<%s>", "a b", "it's", "", "$HOME", "a\nb", "*"]);
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            "<a b><it's><><$HOME><a\nb><*>"
        );
    }

    #[test]
    fn only_an_ssh_server_counts() {
        for (greeting, expected) in [
            ("SSH-2.0-OpenSSH_10.0\r\n", Ok(())),
            (
                "HTTP/1.1 400\r\n",
                Err("something answers that is no ssh server".to_owned()),
            ),
            ("", Err("no ssh server answers".to_owned())),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = thread::spawn(move || listener.accept().unwrap().0.write_all(greeting.as_bytes()));
            assert_eq!(banner(port), expected);
            server.join().unwrap().unwrap();
            assert!(banner(port).is_err(), "nobody listens any more");
        }
    }

    #[test]
    fn the_credential_is_the_public_key_and_stays_with_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let login = match Login::prepare(dir.path()) {
            Err(VmError::ProgramMissing { program, .. }) => {
                crate::testing::skip(&format!("{program} is missing"));
                return;
            }
            login => login.unwrap(),
        };
        let (name, value) = login.credential();
        assert_eq!(name, "ssh.authorized_keys.root");
        assert!(value.starts_with(b"ssh-ed25519 ") && value.ends_with(b" hullwright-boot\n"));
        let again = Login::prepare(dir.path()).unwrap();
        assert_eq!(again.credential(), login.credential());
        fs::remove_file(dir.path().join("key.pub")).unwrap();
        let anew = Login::prepare(dir.path()).unwrap();
        assert_ne!(anew.credential(), login.credential());
    }
}
