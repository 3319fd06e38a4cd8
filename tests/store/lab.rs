//! Builds of the sample image, quickly compressed, over stores of the test's own.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rand::Rng;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::sets::{Sets, State};
use crate::support::image::{build_command, hullwright, output_directory, said, sample_definition};
use crate::support::sample_rpms;

/// Kinds of change to a definition; each can stand beside any other.
pub const CHANGES: [&str; 10] = [
    "image.version = \"14\"\n",
    "image.name = \"Another Name\"\n",
    "kernel.cmdline = [\"quiet\"]\n",
    "os.timezone = \"Europe/Berlin\"\n",
    "os.hostname = \"changed\"\n",
    "outputs.repo-mode = \"archive\"\n",
    "outputs.erofs.cluster = \"16KiB\"\n",
    "initrd.modules-optional = [\"absent\"]\n",
    "disk.esp = \"512MiB\"\n",
    "symlinks = [{ path = \"/usr/share/changed\", target = \"elsewhere\" }]\n",
];

/// What a build left.
#[derive(Clone)]
pub struct Built {
    /// SHA-256 of every output but the report, by path.
    pub outputs: BTreeMap<PathBuf, String>,
    pub said: String,
    pub time: Duration,
}

pub struct Lab {
    directory: TempDir,
    rpms: PathBuf,
    sample: PathBuf,
    /// What definitions say of `/usr`.
    erofs: &'static str,
    /// Of definitions that were built with a store of their own.
    fresh: RefCell<BTreeMap<String, Built>>,
}

impl Lab {
    /// `None` (said as a skip) without the sample set.
    pub fn new() -> Option<Self> {
        let sample = sample_rpms()?;
        Some(Self {
            directory: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
            rpms: sample.clone(),
            sample,
            erofs: "level = 1",
            fresh: RefCell::default(),
        })
    }

    /// With `/usr` compressed in next to no time.
    pub fn quickest(mut self) -> Self {
        self.erofs = "compression = \"lz4\"";
        self
    }

    /// What makes sets of packages, for [`Self::take`]; `None` (said as a skip) without rpmbuild.
    pub fn sets(&self) -> Option<Sets> {
        Sets::new(self.directory.path(), &self.sample)
    }

    /// From now on, builds are of the sample set and the packages of `state`; what a definition says of them.
    pub fn take(&mut self, sets: &Sets, state: &State) -> String {
        self.rpms = self.path("rpms");
        sets.lay(state, &self.rpms)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, change: &str, out: &str, store: &str) -> Command {
        let definition = self.path(&format!("{out}.toml"));
        let extends = sample_definition();
        let text = format!("extends = [\"quick.toml\"]\n{change}");
        fs::write(&definition, text).unwrap();
        let quick = format!("extends = [{extends:?}]\n[outputs.erofs]\n{}\n", self.erofs);
        let place = self.path("quick.toml");
        if !place.exists() {
            // Builds that run already read it.
            fs::write(place, quick).unwrap();
        }
        let out = self.path(out);
        let _ = fs::remove_dir_all(&out);
        build_command(&definition, &self.rpms, &out, &self.path(store))
    }

    /// Builds the sample with `change` into `out`.
    pub fn build(&self, change: &str, out: &str, store: &str) -> Built {
        let start = Instant::now();
        let output = self.command(change, out, store).output().unwrap();
        assert!(output.status.success(), "{change}: {}", said(&output));
        Built {
            time: start.elapsed(),
            outputs: self.outputs(out),
            said: said(&output),
        }
    }

    /// As [`Self::build`], with a store that was empty.
    pub fn fresh(&self, change: &str) -> Built {
        if let Some(known) = self.fresh.borrow().get(change) {
            return known.clone();
        }
        let built = self.build(change, "fresh", "fresh-store");
        fs::remove_dir_all(self.path("fresh-store")).unwrap();
        self.fresh.borrow_mut().insert(change.to_owned(), built.clone());
        built
    }

    /// As [`Self::build`], over what is in `out` already; what it said, and when each output was changed last.
    pub fn build_in_place(
        &self,
        change: &str,
        out: &str,
        store: &str,
    ) -> (String, BTreeMap<PathBuf, SystemTime>) {
        let place = self.path(out);
        let aside = self.path("aside");
        let was_there = fs::rename(&place, &aside).is_ok();
        let mut command = self.command(change, out, store);
        if was_there {
            fs::rename(&aside, &place).unwrap();
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{change}: {}", said(&output));
        let files = files(&output_directory(&place)).into_iter();
        let times = files.map(|path| {
            let time = fs::symlink_metadata(&path).unwrap().modified().unwrap();
            (path, time)
        });
        (said(&output), times.collect())
    }

    fn stages(&self, out: &str) -> Vec<Value> {
        let report = output_directory(&self.path(out)).join("build-report.json");
        let report: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
        report["stages"].as_array().unwrap().clone()
    }

    /// What the stage `name` of the last build into `out` found in the store, and did not find.
    pub fn lookups(&self, out: &str, name: &str) -> (u64, u64) {
        let stages = self.stages(out);
        let stage = stages.iter().find(|stage| stage["name"] == name).unwrap();
        let number = |key: &str| stage[key].as_u64().unwrap();
        (number("store_hits"), number("store_misses"))
    }

    /// Changes a byte of the output in `out` whose name ends in `suffix`.
    pub fn damage_output(&self, out: &str, suffix: &str) {
        let directory = output_directory(&self.path(out));
        let mut outputs = files(&directory).into_iter();
        let output = outputs
            .find(|path| path.to_string_lossy().ends_with(suffix))
            .unwrap();
        let file = OpenOptions::new().write(true).open(output).unwrap();
        file.write_all_at(&[1], 1000).unwrap();
    }

    /// Starts a build and does not wait for it.
    pub fn start(&self, change: &str, out: &str, store: &str) -> Child {
        let mut command = self.command(change, out, store);
        let silent = command.stdout(Stdio::null()).stderr(Stdio::null());
        silent.spawn().unwrap()
    }

    /// Waits for a build that was started; its outputs, and the names of its stages.
    pub fn finish(&self, mut build: Child, out: &str) -> (BTreeMap<PathBuf, String>, Vec<String>) {
        let status = build.wait().unwrap();
        assert!(status.success(), "{out}: {status}");
        let name = |stage: &Value| stage["name"].as_str().unwrap().to_owned();
        let stages = self.stages(out).iter().map(name).collect();
        (self.outputs(out), stages)
    }

    /// How many builds over the store "store" hold a turn, or have held it and have not finished.
    pub fn turns(&self) -> usize {
        fs::read_dir(self.path("store/turns")).map_or(0, Iterator::count)
    }

    pub fn outputs(&self, out: &str) -> BTreeMap<PathBuf, String> {
        let outputs = outputs_in(&output_directory(&self.path(out)));
        fs::remove_dir_all(self.path(out)).unwrap();
        outputs
    }

    /// Runs `hullwright store` on the store "store": exit status and what it said.
    pub fn run_store(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = hullwright()
            .arg("store")
            .args(arguments)
            .arg("--store")
            .arg(self.path("store"))
            .output()
            .unwrap();
        (output.status.code(), said(&output))
    }

    /// As [`Self::run_store`], which must succeed.
    pub fn store(&self, arguments: &[&str]) {
        let (code, said) = self.run_store(arguments);
        assert_eq!(code, Some(0), "{said}");
    }

    /// Files on their way into the store "store".
    pub fn temporaries(&self) -> usize {
        fs::read_dir(self.path("store/tmp")).unwrap().count()
    }

    /// Flips a bit at `count` places of the files in the store "store"; the files. Half of them are none
    /// of the many that outputs share.
    pub fn flip_bits(&self, count: usize, random: &mut impl Rng) -> BTreeSet<PathBuf> {
        let mut kept = files(&self.path("store"));
        kept.retain(|path| fs::metadata(path).unwrap().len() > 0);
        let linked = self.path("store/linked");
        let (shared, own): (Vec<_>, Vec<_>) = kept.iter().partition(|path| path.starts_with(&linked));
        let mut flipped = BTreeSet::new();
        let mut places = BTreeSet::new();
        while places.len() < count {
            let among = if places.len() % 2 == 0 { &shared } else { &own };
            let path = among[random.gen_range(0..among.len())];
            let bit = random.gen_range(0..fs::metadata(path).unwrap().len() * 8);
            if !places.insert((path, bit)) {
                continue;
            }
            let mode = fs::metadata(path).unwrap().permissions().mode();
            if mode & 0o600 != 0o600 {
                fs::set_permissions(path, Permissions::from_mode(mode | 0o600)).unwrap();
            }
            let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, bit / 8).unwrap();
            file.write_all_at(&[byte[0] ^ 1 << (bit % 8)], bit / 8).unwrap();
            flipped.insert(path.clone());
        }
        flipped
    }
}

/// SHA-256 of every output in `directory` but the report, by path.
pub fn outputs_in(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut outputs = BTreeMap::new();
    for path in files(directory) {
        let name = path.strip_prefix(directory).unwrap().to_owned();
        // Sparse, and named by digests in the manifest.
        let is_disk = name.extension().is_some_and(|e| e == "raw" || e == "vhd");
        if name.as_os_str() != "build-report.json" && !is_disk {
            outputs.insert(name, hash(&path));
        }
    }
    outputs
}

/// The files below `directory`, in order.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(place) = todo.pop() {
        for entry in fs::read_dir(place).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => todo.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found.sort();
    found
}

fn hash(path: &Path) -> String {
    if fs::symlink_metadata(path).unwrap().is_symlink() {
        return fs::read_link(path).unwrap().display().to_string();
    }
    let mut hasher = Sha256::new();
    std::io::copy(&mut File::open(path).unwrap(), &mut HashWriter(&mut hasher)).unwrap();
    hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

struct HashWriter<'a>(&'a mut Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
