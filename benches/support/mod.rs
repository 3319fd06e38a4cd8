//! Measuring programs: wall time, processor time, peak memory.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

/// What one run of a program took.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// Seconds.
    pub wall: f64,
    /// Seconds of all its threads, in user and system mode.
    pub processor: f64,
    /// Peak of resident memory in MiB.
    pub memory: f64,
    /// What it wrote to stdout.
    pub said: String,
}

/// The argument that makes a benchmark a measuring wrapper of the command that follows.
const MEASURE: &str = "--measure-command";

/// Where a benchmark is started as a wrapper by [`measure`], runs the command and ends the process.
pub fn wrapper() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|first| first != MEASURE) {
        return;
    }
    let Some(program) = arguments.next() else {
        std::process::exit(2);
    };
    let started = Instant::now();
    let output = Command::new(program)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output();
    let wall = started.elapsed().as_secs_f64();
    let (Ok(output), Ok(usage)) = (output, getrusage(UsageWho::RUSAGE_CHILDREN)) else {
        std::process::exit(2);
    };
    let seconds = |time: nix::sys::time::TimeVal| time.num_microseconds() as f64 / 1e6;
    let processor = seconds(usage.user_time()) + seconds(usage.system_time());
    // `ru_maxrss` is in KiB.
    let memory = usage.max_rss() as f64 / 1024.0;
    println!("{wall} {processor} {memory}");
    print!("{}", String::from_utf8_lossy(&output.stdout));
    std::process::exit(output.status.code().unwrap_or(2));
}

/// Runs `program` with `arguments` in a process of its own whose only child it is, so that the figures are its alone.
///
/// # Errors
/// Where it cannot be started, or fails.
pub fn measure(program: &Path, arguments: &[&str]) -> io::Result<Run> {
    let output = Command::new(std::env::current_exe()?)
        .arg(MEASURE)
        .arg(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let error = || {
        let stderr = String::from_utf8_lossy(&output.stderr);
        io::Error::other(format!("{} failed: {stderr}", program.display()))
    };
    if !output.status.success() {
        return Err(error());
    }
    let (figures, said) = said.split_once('\n').ok_or_else(error)?;
    let figures: Vec<f64> = figures.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [wall, processor, memory] = figures[..] else {
        return Err(error());
    };
    Ok(Run {
        wall,
        processor,
        memory,
        said: said.to_owned(),
    })
}

/// The median of `values`.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A directory in memory, or where that is not to be had, any.
///
/// # Errors
/// Where none can be made.
pub fn memory_directory() -> io::Result<tempfile::TempDir> {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())
}

/// The sample set, where `make sample` puts it.
pub fn sample_rpms() -> Option<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = || {
        set("HULLWRIGHT_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|base| base.join("hullwright")))
            .or_else(|| set("HOME").map(|home| home.join(".cache/hullwright")))
    };
    set("HULLWRIGHT_SAMPLE_RPMS")
        .or_else(|| Some(cache()?.join("sample-rpms")))
        .filter(|path| path.is_dir())
}
