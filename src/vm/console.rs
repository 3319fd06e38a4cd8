//! The guest's serial console: plain lines out of a terminal's bytes, kept, shown and watched.

use std::io::Write;
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::health::{Verdict, Watch};

/// Longest line kept whole; longer ones are broken, so that a guest cannot make us hoard memory.
const MAX_LINE: usize = 8 * 1024;
/// How much plain text of a console is kept, in bytes; older lines fall away.
const MAX_TEXT: usize = 8 * 1024 * 1024;

/// Makes plain lines of what a guest writes for a terminal: escape sequences and control characters are
/// dropped, cursor movements to another place and line feeds end a line, other bytes are read as UTF-8.
/// What comes out can be printed anywhere: it moves no cursor, sets no title, hides nothing.
#[derive(Debug, Default)]
pub struct Lines {
    state: State,
    line: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Text,
    Escape,
    /// After `ESC [`, until a final byte.
    Control,
    /// An operating-system command or another string, until BEL or `ESC \`; given up at the line's end.
    String,
    /// A byte of a charset selection or the like follows.
    Skip,
}

impl Lines {
    /// Takes the next bytes, gives the lines that they end.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            if self.step(byte) {
                lines.push(self.take());
            }
        }
        lines
    }

    /// The line that has begun and not ended.
    pub fn unfinished(&self) -> String {
        plain(&self.line)
    }

    fn take(&mut self) -> String {
        plain(&mem::take(&mut self.line))
    }

    /// One byte; whether it ended a line.
    fn step(&mut self, byte: u8) -> bool {
        if byte == b'\n' {
            self.state = State::Text;
            return true;
        }
        if byte == 0x1b {
            self.state = State::Escape;
            return false;
        }
        match self.state {
            State::Text => {
                if byte >= 0x20 && byte != 0x7f || byte == b'\t' {
                    self.line.push(byte);
                }
                return self.line.len() >= MAX_LINE;
            }
            State::Escape => {
                self.state = match byte {
                    b'[' => State::Control,
                    b']' | b'P' | b'X' | b'^' | b'_' => State::String,
                    b' '..=b'/' => State::Skip,
                    _ => State::Text,
                };
            }
            State::Control => {
                if (0x40..=0x7e).contains(&byte) {
                    self.state = State::Text;
                    let moves = matches!(byte, b'H' | b'f' | b'J');
                    return moves && !self.line.is_empty();
                }
            }
            State::String => {
                if byte == 0x07 {
                    self.state = State::Text;
                }
            }
            State::Skip => self.state = State::Text,
        }
        false
    }
}

fn plain(line: &[u8]) -> String {
    String::from_utf8_lossy(line)
        .chars()
        .filter(|c| *c == '\t' || !c.is_control())
        .collect()
}

/// Where the console's raw bytes go besides (a file, a terminal).
pub(super) type Sink = Box<dyn Write + Send>;

/// A guest's console as it grows: shared between the thread that reads it and those who wait.
#[derive(Default)]
pub struct Console {
    state: Mutex<Shown>,
    news: Condvar,
}

#[derive(Default)]
struct Shown {
    lines: Lines,
    text: String,
    watch: Watch,
    closed: bool,
    sinks: Vec<Sink>,
}

impl Console {
    pub(super) fn new(sinks: Vec<Sink>) -> Self {
        let shown = Shown {
            sinks,
            ..Shown::default()
        };
        Self {
            state: Mutex::new(shown),
            news: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the guest wrote.
    pub(super) fn feed(&self, bytes: &[u8]) {
        let mut shown = self.lock();
        // A full disk or a closed pipe behind a sink must not stop the machine: that sink is dropped.
        shown
            .sinks
            .retain_mut(|sink| sink.write_all(bytes).and_then(|()| sink.flush()).is_ok());
        for line in shown.lines.feed(bytes) {
            shown.text.push_str(&line);
            shown.text.push('\n');
        }
        if shown.text.len() > MAX_TEXT {
            let half = shown.text.len() - MAX_TEXT / 2;
            let cut = shown
                .text
                .bytes()
                .skip(half)
                .position(|b| b == b'\n')
                .map_or(half, |at| half + at + 1);
            shown.text = shown.text.split_off(cut);
        }
        shown.watch.feed(bytes);
        self.news.notify_all();
    }

    /// Says that nothing will follow.
    pub(super) fn close(&self) {
        let mut shown = self.lock();
        shown.closed = true;
        self.news.notify_all();
    }

    /// Stops passing the console on to terminals and files.
    pub(super) fn quiet(&self) {
        self.lock().sinks.clear();
    }

    /// Everything that the guest printed, as plain lines (the newest 4 MiB at least).
    pub fn text(&self) -> String {
        let shown = self.lock();
        shown.text.clone() + &shown.lines.unfinished()
    }

    /// The last `count` lines that are not empty.
    pub fn tail(&self, count: usize) -> String {
        let text = self.text();
        let mut lines: Vec<_> = text
            .lines()
            .rev()
            .filter(|line| !line.trim().is_empty())
            .take(count)
            .collect();
        lines.reverse();
        lines.join("\n")
    }

    /// What the console has settled.
    pub fn verdict(&self) -> Option<Verdict> {
        self.lock().watch.verdict().cloned()
    }

    /// Waits for news, at most `patience`; whether more can come.
    pub(super) fn wait(&self, patience: Duration) -> bool {
        let shown = self.lock();
        if shown.closed {
            return false;
        }
        let (shown, _) = self
            .news
            .wait_timeout(shown, patience)
            .unwrap_or_else(PoisonError::into_inner);
        !shown.closed
    }
}

/// A [`Sink`] that prints plain lines, for outputs that are no terminal.
pub(super) struct PlainLines<W> {
    lines: Lines,
    out: W,
}

impl<W> PlainLines<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            lines: Lines::default(),
            out,
        }
    }
}

impl<W: Write> Write for PlainLines<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for line in self.lines.feed(bytes) {
            writeln!(self.out, "{line}")?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut all = lines.feed(text);
        all.push(lines.unfinished());
        all
    }

    #[test]
    fn plain_lines() {
        let cases: &[(&[u8], &[&str])] = &[
            (b"a\r\nb", &["a", "b"]),
            (
                b"[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39mx.service\x1b[0m.\r\n",
                &["[  OK  ] Started x.service.", ""],
            ),
            (b"\x1b[2J\x1b[01;01HUEFI\x1b[02;01HEDK II", &["UEFI", "EDK II"]),
            (b"\x1b]0;title\x07text\x1b]3008;start=1\x1b\\more", &["textmore"]),
            (b"\x1b]never closed\nnext line", &["", "next line"]),
            (b"\x1b(Bplain\x1b=\x1b>", &["plain"]),
            (b"bell\x07 back\x08 nul\x00 del\x7f", &["bell back nul del"]),
            (
                "caf\u{e9} \u{9b}31m \u{2713}".as_bytes(),
                &["caf\u{e9} 31m \u{2713}"],
            ),
            (b"bad \xff utf-8", &["bad \u{fffd} utf-8"]),
            (b"tab\tstays", &["tab\tstays"]),
        ];
        for (text, expected) in cases {
            assert_eq!(lines(text), *expected, "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_guest_cannot_fill_memory() {
        let console = Console::default();
        for _ in 0..20 {
            console.feed(&vec![b'x'; 1 << 20]);
        }
        assert!(console.text().len() <= MAX_TEXT + MAX_LINE);
        console.feed(b"\nthe newest\n");
        assert_eq!(console.tail(1), "the newest");
        assert_eq!(console.lock().lines.line.capacity(), 0);
    }

    #[test]
    fn a_broken_sink_is_dropped() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let console = Console::new(vec![Box::new(Broken)]);
        console.feed(b"one\ntwo");
        assert_eq!(console.text(), "one\ntwo");
        assert!(console.lock().sinks.is_empty());
    }
}
