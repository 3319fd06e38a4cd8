//! Packages of the sample set, repositories made of them by createrepo_c, and the program under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hullwright::rpmset::Lock;
use tempfile::TempDir;

use crate::support::{sample_rpms, tool};

pub const KEY: &str = "RPM-GPG-KEY-hullwright-sample";

pub struct Bench {
    place: TempDir,
    /// Of the sample set.
    pub key: PathBuf,
    createrepo: PathBuf,
    pub samples: PathBuf,
}

impl Bench {
    /// With `count` small packages of the sample set in `rpms/`; `None`, said as a skip, without what that takes.
    pub fn new(count: usize) -> Option<Self> {
        let samples = sample_rpms()?;
        let bench = Self {
            place: tempfile::tempdir().unwrap(),
            key: samples.join(KEY),
            createrepo: tool("createrepo_c")?,
            samples,
        };
        fs::create_dir(bench.path("rpms")).unwrap();
        let mut sizes: Vec<_> = bench
            .sample_files()
            .into_iter()
            .map(|path| (fs::metadata(&path).unwrap().len(), path))
            .collect();
        sizes.sort();
        for (_, path) in sizes.into_iter().take(count) {
            let name = path.file_name().unwrap();
            fs::copy(&path, bench.path("rpms").join(name)).unwrap();
        }
        Some(bench)
    }

    pub fn sample_files(&self) -> Vec<PathBuf> {
        rpm_files(&self.samples)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// The packages in `rpms/`, sorted.
    pub fn packages(&self) -> Vec<PathBuf> {
        rpm_files(&self.path("rpms"))
    }

    /// Makes `rpms/` a repository.
    pub fn createrepo(&self, options: &[&str]) {
        self.createrepo_in("rpms", options);
    }

    pub fn createrepo_in(&self, directory: &str, options: &[&str]) {
        let _ = fs::remove_dir_all(self.path(directory).join("repodata"));
        let mut command = Command::new(&self.createrepo);
        let output = command
            .args(["--quiet", "--no-database"])
            .args(options)
            .arg(self.path(directory))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hullwright"));
        command.args(arguments).current_dir(self.place.path());
        // No proxy of whoever runs the tests is asked.
        for name in [
            "ALL_PROXY",
            "HTTPS_PROXY",
            "HTTP_PROXY",
            "all_proxy",
            "https_proxy",
            "http_proxy",
        ] {
            command.env_remove(name);
        }
        command.output().unwrap()
    }

    /// `hullwright lock` with a store of its own and short patience.
    pub fn lock(&self, arguments: &[&str]) -> Output {
        let mut all = vec!["lock"];
        for [option, value] in [["--store", "store"], ["--retries", "1"]] {
            if !arguments.contains(&option) {
                all.extend([option, value]);
            }
        }
        self.run(&[&all, arguments].concat())
    }

    /// Locks into `set.lock.toml`; it has to work.
    pub fn locked(&self, arguments: &[&str]) -> Lock {
        let output = self.lock(&[arguments, &["-o", "set.lock.toml"]].concat());
        assert!(output.status.success(), "{}", said(&output));
        self.read_lock()
    }

    pub fn read_lock(&self) -> Lock {
        let path = self.path("set.lock.toml");
        Lock::parse(&fs::read_to_string(&path).unwrap(), &path).unwrap()
    }

    /// What `hullwright lock` says when it refuses.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let output = self.lock(&[arguments, &["-o", "refused.toml"]].concat());
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(!self.path("refused.toml").exists());
        words(&output)
    }

    pub fn key(&self) -> String {
        self.key.display().to_string()
    }
}

fn rpm_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "rpm"))
        .collect();
    files.sort();
    files
}

/// Standard error as one line: messages are wrapped.
pub fn words(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let text: Vec<_> = text.split_whitespace().filter(|word| *word != "│").collect();
    text.join(" ")
}

pub fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!(
        "{}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    )
}

/// Every one of `parts` stands in `text`.
pub fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in: {text}");
    }
}
