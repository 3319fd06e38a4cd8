//! Stages of a build: shown while they run, and kept for `build-report.json`.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::traffic::{Counters, Traffic};
use crate::store::Lookups;

/// A stage that has ended.
#[derive(Debug, Clone, Serialize)]
pub struct Stage {
    pub name: String,
    /// What it came to, for people.
    pub result: String,
    /// Since the build began.
    pub begin: f64,
    pub seconds: f64,
    /// What the whole program did meanwhile; stages that overlap share it.
    #[serde(flatten)]
    pub used: Used,
}

/// What the program has used of the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Used {
    /// Bytes that it read from files and wrote to files, cached or not.
    pub bytes_read: u64,
    pub bytes_written: u64,
    /// Milliseconds of processors' time.
    pub cpu_ms: u64,
    /// The most memory that it has held so far, in bytes.
    pub peak_memory: u64,
    /// Entries that it looked for in the store and found, or did not find.
    pub store_hits: u64,
    pub store_misses: u64,
    /// What went back and forth between it and the remote store.
    #[serde(flatten)]
    pub remote: Traffic,
}

impl Used {
    /// So far; zeroes where the kernel does not say.
    fn now(lookups: Option<&Lookups>, remote: Option<&Counters>) -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            number.and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        let io = read("/proc/self/io");
        let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).ok();
        let spent = usage.map(|usage| {
            let times = [usage.user_time(), usage.system_time()];
            let spent = times.map(|time| time.tv_sec() * 1000 + time.tv_usec() / 1000);
            u64::try_from(spent.iter().sum::<i64>()).unwrap_or(0)
        });
        let (store_hits, store_misses) = lookups.map(Lookups::so_far).unwrap_or_default();
        Self {
            bytes_read: field(&io, "rchar:"),
            bytes_written: field(&io, "wchar:"),
            cpu_ms: spent.unwrap_or(0),
            peak_memory: field(&read("/proc/self/status"), "VmHWM:") << 10,
            store_hits,
            store_misses,
            remote: remote.map(Counters::so_far).unwrap_or_default(),
        }
    }

    /// What was used after `before`.
    fn since(self, before: Self) -> Self {
        Self {
            bytes_read: self.bytes_read.saturating_sub(before.bytes_read),
            bytes_written: self.bytes_written.saturating_sub(before.bytes_written),
            cpu_ms: self.cpu_ms.saturating_sub(before.cpu_ms),
            peak_memory: self.peak_memory,
            store_hits: self.store_hits.saturating_sub(before.store_hits),
            store_misses: self.store_misses.saturating_sub(before.store_misses),
            remote: self.remote - before.remote,
        }
    }
}

/// Shows stages on standard error and remembers them. Stages may overlap.
pub struct Progress {
    terminal: bool,
    quiet: bool,
    began: Instant,
    stages: Mutex<Vec<Stage>>,
    lookups: OnceLock<Arc<Lookups>>,
    remote: OnceLock<Arc<Counters>>,
}

impl Progress {
    /// With `quiet`, no stages are shown.
    pub fn new(quiet: bool) -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            quiet,
            began: Instant::now(),
            stages: Mutex::new(Vec::new()),
            lookups: OnceLock::new(),
            remote: OnceLock::new(),
        }
    }

    /// Tells from now on what stages find in the store whose `lookups` these are; of one store only.
    pub fn watch(&self, lookups: Arc<Lookups>) {
        let _ = self.lookups.set(lookups);
    }

    /// Tells from now on what goes back and forth between stages and the remote store whose `counters` these are.
    pub fn watch_remote(&self, counters: Arc<Counters>) {
        let _ = self.remote.set(counters);
    }

    fn used(&self) -> Used {
        let remote = self.remote.get().map(Arc::as_ref);
        Used::now(self.lookups.get().map(Arc::as_ref), remote)
    }

    /// Runs a stage; `result` says in a few words what came of it.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn stage<T, E>(
        &self,
        name: &str,
        work: impl FnOnce() -> Result<T, E>,
        result: impl FnOnce(&T) -> String,
    ) -> Result<T, E> {
        let bar = ProgressBar::new_spinner();
        self.run(name, bar, "{spinner} {msg} {elapsed}", |_| work(), result)
    }

    /// Runs a stage that moves `bytes`; `work` tells of those that have come, or, with negative numbers, of some that
    /// must come again.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn transfer<T, E>(
        &self,
        name: &str,
        bytes: u64,
        work: impl FnOnce(&(dyn Fn(i64) + Sync)) -> Result<T, E>,
        result: impl FnOnce(&T) -> String,
    ) -> Result<T, E> {
        let template = "{spinner} {msg} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        let work = |bar: Option<&ProgressBar>| {
            work(&|count| match (bar, u64::try_from(count)) {
                (Some(bar), Ok(count)) => bar.inc(count),
                (Some(bar), Err(_)) => bar.dec(count.unsigned_abs()),
                (None, _) => {}
            })
        };
        self.run(name, ProgressBar::new(bytes), template, work, result)
    }

    fn run<T, E>(
        &self,
        name: &str,
        bar: ProgressBar,
        template: &str,
        work: impl FnOnce(Option<&ProgressBar>) -> Result<T, E>,
        result: impl FnOnce(&T) -> String,
    ) -> Result<T, E> {
        let start = Instant::now();
        let before = self.used();
        let bar = (self.terminal && !self.quiet).then(|| {
            let style = ProgressStyle::with_template(template);
            let bar = bar.with_message(name.to_owned());
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(std::time::Duration::from_millis(100));
            bar
        });
        let outcome = work(bar.as_ref());
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        let outcome = outcome?;
        let stage = Stage {
            name: name.to_owned(),
            result: result(&outcome),
            begin: start.duration_since(self.began).as_secs_f64(),
            used: self.used().since(before),
            seconds: start.elapsed().as_secs_f64(),
        };
        if !self.quiet {
            // Nobody is harmed where standard error is closed.
            let _ = writeln!(
                io::stderr(),
                "{:>7.2} s  {:<22} {}",
                stage.seconds,
                stage.name,
                stage.result
            );
        }
        if let Ok(mut stages) = self.stages.lock() {
            stages.push(stage);
        }
        Ok(outcome)
    }

    /// Says what the build does all the same, and what people should know. Shown even with `quiet`.
    pub fn warn(&self, text: &str) {
        let _ = writeln!(io::stderr(), "warning: {text}");
    }

    /// Says what people should know of what comes out. Shown even with `quiet`.
    pub fn note(&self, text: &str) {
        let _ = writeln!(io::stderr(), "note: {text}");
    }

    /// The stages that have ended, in the order of their ends.
    pub fn stages(&self) -> Vec<Stage> {
        self.stages
            .lock()
            .map(|stages| stages.clone())
            .unwrap_or_default()
    }
}
