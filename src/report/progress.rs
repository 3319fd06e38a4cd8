//! Stages of a build: shown while they run, and kept for `build-report.json`.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// A stage that has ended.
#[derive(Debug, Clone, Serialize)]
pub struct Stage {
    pub name: String,
    /// What it came to, for people.
    pub result: String,
    pub seconds: f64,
}

/// Shows stages on standard error and remembers them. Stages may overlap.
pub struct Progress {
    terminal: bool,
    quiet: bool,
    stages: Mutex<Vec<Stage>>,
}

impl Progress {
    /// With `quiet`, no stages are shown.
    pub fn new(quiet: bool) -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            quiet,
            stages: Mutex::new(Vec::new()),
        }
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
