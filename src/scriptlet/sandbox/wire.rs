//! What the supervisor and the sandbox's first process say to each other: over a pair of `SOCK_SEQPACKET` sockets, one
//! message a packet, its first byte the kind.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use super::Interpreter;
use super::limits::Limits;
use super::usage::Held;

/// What the first process is to do; handed over as a file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// Process number of the supervisor.
    pub supervisor: i32,
    /// The directory that becomes `/`.
    pub root: PathBuf,
    /// `None`: make the sandbox and run nothing.
    pub task: Option<Task>,
    pub limits: Limits,
}

/// The scriptlet.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Task {
    pub name: String,
    pub interpreter: Interpreter,
    pub body: Vec<u8>,
    pub args: Vec<Vec<u8>>,
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
}

/// One packet, either way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// Supervisor: the request and the scriptlet's standard input are attached.
    Start,
    /// First process: a handle (pidfd) of the process that is the namespace's first is attached.
    Init,
    /// First process: a step failed.
    Failed { step: String, reason: String },
    /// The scriptlet's process, before it becomes the interpreter: the listener and `/` are attached.
    Ready,
    /// Supervisor: become the interpreter.
    Go,
    /// Supervisor, instead of [`Message::Start`]: count what the tree holds whose root directory is attached, up to where it
    /// exceeds this.
    Count(Held),
    /// First process: so much is there.
    Counted(Held),
    /// First process: the scriptlet ended with this code.
    Exited(i32),
    /// First process: it was killed by this signal.
    Killed(i32),
}

/// No message is longer.
const LONGEST: usize = 4096;

impl Message {
    fn encode(&self) -> Vec<u8> {
        let number = |kind: u8, value: i32| [&[kind][..], &value.to_le_bytes()].concat();
        let held = |kind: u8, held: &Held| {
            [&[kind][..], &held.bytes.to_le_bytes(), &held.names.to_le_bytes()].concat()
        };
        match self {
            Self::Start => vec![b'S'],
            Self::Init => vec![b'I'],
            Self::Failed { step, reason } => {
                let mut packet = [b"F", step.as_bytes(), b"\0", reason.as_bytes()].concat();
                packet.truncate(LONGEST);
                packet
            }
            Self::Ready => vec![b'R'],
            Self::Go => vec![b'G'],
            Self::Count(most) => held(b'C', most),
            Self::Counted(counted) => held(b'N', counted),
            Self::Exited(code) => number(b'X', *code),
            Self::Killed(signal) => number(b'K', *signal),
        }
    }

    fn decode(packet: &[u8]) -> Option<Self> {
        let (&kind, rest) = packet.split_first()?;
        let number = || Some(i32::from_le_bytes(rest.try_into().ok()?));
        let held = || {
            let (bytes, names) = rest.split_first_chunk()?;
            Some(Held {
                bytes: u64::from_le_bytes(*bytes),
                names: u64::from_le_bytes(names.try_into().ok()?),
            })
        };
        Some(match kind {
            b'S' => Self::Start,
            b'I' => Self::Init,
            b'F' => {
                let text = String::from_utf8_lossy(rest);
                let (step, reason) = text.split_once('\0')?;
                Self::Failed {
                    step: step.into(),
                    reason: reason.into(),
                }
            }
            b'R' => Self::Ready,
            b'G' => Self::Go,
            b'C' => Self::Count(held()?),
            b'N' => Self::Counted(held()?),
            b'X' => Self::Exited(number()?),
            b'K' => Self::Killed(number()?),
            _ => return None,
        })
    }
}

/// Sends `message` with `files` (at most two) attached.
pub(super) fn send(socket: impl AsFd, message: &Message, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut attached = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !attached.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("too many files in a message"));
    }
    let packet = message.encode();
    loop {
        match sendmsg(
            &socket,
            &[IoSlice::new(&packet)],
            &mut attached,
            SendFlags::NOSIGNAL,
        ) {
            Err(rustix::io::Errno::INTR) => {}
            done => return done.map(drop).map_err(io::Error::from),
        }
    }
}

/// The next message with the files attached to it; `None` where the other side is gone.
pub(super) fn receive(socket: impl AsFd) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
    let mut packet = [0; LONGEST + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut attached = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(
            &socket,
            &mut [IoSliceMut::new(&mut packet)],
            &mut attached,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            done => break done?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let files = attached
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        })
        .flatten()
        .collect();
    let broken = || io::Error::other("a message between the sandbox's processes is malformed");
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(broken());
    }
    let message = Message::decode(&packet[..received.bytes]).ok_or_else(broken)?;
    Ok(Some((message, files)))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Seek as _, Write as _};

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn messages_and_files_arrive() {
        let (one, two) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"attached").unwrap();
        file.rewind().unwrap();
        let messages = [
            Message::Start,
            Message::Init,
            Message::Failed {
                step: "mount".into(),
                reason: "no".into(),
            },
            Message::Count(Held {
                bytes: u64::MAX,
                names: 7,
            }),
            Message::Counted(Held::default()),
            Message::Exited(-1),
            Message::Killed(9),
        ];
        for message in &messages {
            send(&one, message, &[file.as_fd()]).unwrap();
            let (got, files) = receive(&two).unwrap().unwrap();
            assert_eq!(&got, message);
            let mut text = String::new();
            let mut file = File::from(files.into_iter().next().unwrap());
            file.rewind().unwrap();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "attached");
        }
        drop(one);
        assert!(receive(&two).unwrap().is_none());
        assert_eq!(Message::decode(b"X\0"), None);
    }
}
