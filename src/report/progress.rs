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
        let start = Instant::now();
        let bar = (self.terminal && !self.quiet).then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
            let bar = ProgressBar::new_spinner().with_message(name.to_owned());
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(std::time::Duration::from_millis(100));
            bar
        });
        let outcome = work();
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
