//! QEMU's control connection (QMP): JSON lines over a Unix socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::VmError;

const PATIENCE: Duration = Duration::from_secs(20);

/// An open control connection.
pub(super) struct Qmp {
    stream: UnixStream,
    replies: Receiver<Value>,
    shutdown: Arc<Mutex<Option<String>>>,
}

fn broken(what: impl ToString) -> VmError {
    VmError::Control(what.to_string())
}

impl Qmp {
    /// Connects and leaves the negotiation mode.
    pub(super) fn connect(socket: &Path) -> Result<Self, VmError> {
        let stream = UnixStream::connect(socket).map_err(broken)?;
        let reader = BufReader::new(stream.try_clone().map_err(broken)?);
        let shutdown = Arc::new(Mutex::new(None));
        let (send, replies) = mpsc::channel();
        let noted = Arc::clone(&shutdown);
        thread::spawn(move || {
            for line in reader.lines() {
                let Ok(line) = line else { break };
                let Ok(message) = serde_json::from_str::<Value>(&line) else {
                    continue;
                };
                if let Some(reason) = shutdown_reason(&message) {
                    *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
                } else if (message.get("return").is_some() || message.get("error").is_some())
                    && send.send(message).is_err()
                {
                    break;
                }
            }
        });
        let mut qmp = Self {
            stream,
            replies,
            shutdown,
        };
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Executes a command and gives what it returns.
    pub(super) fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, VmError> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.stream, "{request}").map_err(broken)?;
        match self.replies.recv_timeout(PATIENCE) {
            Ok(mut reply) => match reply.get_mut("return") {
                Some(value) => Ok(value.take()),
                None => Err(broken(format!("{command}: {}", reply["error"]["desc"]))),
            },
            Err(RecvTimeoutError::Timeout) => Err(broken(format!("no answer to {command}"))),
            Err(RecvTimeoutError::Disconnected) => Err(broken("closed")),
        }
    }

    /// Why the machine stopped, in QEMU's words (`guest-shutdown`, `guest-reset`, `host-qmp-quit` …).
    pub(super) fn shutdown_reason(&self) -> Option<String> {
        self.shutdown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The loopback port that leads to the guest's ssh port.
    pub(super) fn forwarded_port(&mut self) -> Result<u16, VmError> {
        let command = json!({ "command-line": "info usernet" });
        let table = self.execute("human-monitor-command", command)?;
        let table = table.as_str().unwrap_or_default();
        port_in(table).ok_or_else(|| broken(format!("no forwarded port in {table:?}")))
    }
}

fn shutdown_reason(message: &Value) -> Option<String> {
    if message.get("event")? != "SHUTDOWN" {
        return None;
    }
    Some(message.get("data")?.get("reason")?.as_str()?.to_owned())
}

/// `TCP[HOST_FORWARD]   8       127.0.0.1 35109       10.0.2.15    22     0     0`
fn port_in(table: &str) -> Option<u16> {
    let line = table.lines().find(|line| line.contains("TCP[HOST_FORWARD]"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_port() {
        let table = "Hub -1 (net):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
                     TCP[HOST_FORWARD]   8       127.0.0.1 35109       10.0.2.15    22     0     0\r\n";
        assert_eq!(port_in(table), Some(35109));
        assert_eq!(port_in("Hub -1 (net):\r\n"), None);
    }

    #[test]
    fn shutdown_events() {
        let event = json!({"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}});
        assert_eq!(shutdown_reason(&event).as_deref(), Some("guest-reset"));
        assert_eq!(shutdown_reason(&json!({"event": "STOP"})), None);
        assert_eq!(shutdown_reason(&json!({"return": {}})), None);
    }
}
