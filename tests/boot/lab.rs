//! What the boot tests share: the one place where a machine may run, disks of their own, and
//! questions to a running machine.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hullwright::vm::{Machine, Ovmf, Qemu, Running};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::image::{built_image, output_file, sample_definition, sample_image};
use crate::support::skip;

/// Nothing takes so long unless something is broken, even emulated on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(900);
/// What a kernel says whose emulator gets too little of a busy host's time: no fault of the image's.
pub const STARVED: &str = "IO-APIC + timer doesn't work";
pub const GROW: u64 = 2 << 30;

/// The sample image, and the right to run a machine until this is dropped.
pub struct Lab {
    /// The build's output directory.
    pub built: PathBuf,
    pub manifest: Value,
    /// For disks and what belongs to them.
    place: TempDir,
    _turn: File,
}

impl Lab {
    /// Waits for its turn. `None`, said as a skip, where no machine can run or no image can be built.
    pub fn enter() -> Option<Self> {
        Self::enter_with(sample_image)
    }

    /// The same with another image, which `build` makes if it can: its output directory.
    pub fn enter_with(build: impl FnOnce() -> Option<PathBuf>) -> Option<Self> {
        if let (Err(error), _) | (_, Err(error)) = (Qemu::find().map(drop), Ovmf::find(false).map(drop)) {
            skip(&error.to_string());
            return None;
        }
        let built = build()?;
        let tests = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let turn = File::create(tests.join("boot.lock")).unwrap();
        turn.lock().unwrap();
        let manifest = fs::read(built.join("manifest.json")).unwrap();
        Some(Self {
            manifest: serde_json::from_slice(&manifest).unwrap(),
            place: tempfile::Builder::new()
                .prefix("boot-")
                .tempdir_in(tests)
                .unwrap(),
            built,
            _turn: turn,
        })
    }

    /// A directory for disks and what belongs to them, gone with the lab.
    pub fn place(&self) -> &Path {
        self.place.path()
    }

    /// The image's disk under another name, so that what is kept of a machine lies in a place of its own.
    pub fn disk(&self) -> PathBuf {
        let disk = self.place.path().join("disk.raw");
        fs::hard_link(output_file(&self.built, ".raw"), &disk).unwrap();
        disk
    }

    /// A copy of the disk with one bit of the byte at `offset` of the file system `/usr` turned.
    pub fn damaged_disk(&self, offset: u64) -> PathBuf {
        self.damaged_disk_at(&[offset])
    }

    /// The same with one bit at each of `offsets` turned.
    pub fn damaged_disk_at(&self, offsets: &[u64]) -> PathBuf {
        let disk = self.place.path().join("damaged.raw");
        let copied = Command::new("cp")
            .arg("--sparse=always")
            .arg(output_file(&self.built, ".raw"))
            .arg(&disk)
            .status();
        assert!(copied.unwrap().success());
        let usr = self.partition(2);
        let file = File::options().read(true).write(true).open(&disk).unwrap();
        for offset in offsets {
            let place = usr["offset"].as_u64().unwrap() + offset;
            let mut byte = [0];
            file.read_exact_at(&mut byte, place).unwrap();
            file.write_all_at(&[byte[0] ^ 0x10], place).unwrap();
        }
        disk
    }

    /// What the manifest says of a partition.
    pub fn partition(&self, number: u64) -> &Value {
        let partitions = self.manifest["partitions"].as_array().unwrap();
        let found = partitions.iter().find(|partition| partition["number"] == number);
        found.unwrap()
    }

    pub fn text(&self, keys: &[&str]) -> &str {
        let value = keys.iter().fold(&self.manifest, |value, key| &value[*key]);
        value.as_str().unwrap()
    }

    /// `ostree ls` of the image's commit: kind, path, and target of a link.
    pub fn commit(&self, ostree: &Path, path: &str, options: &[&str]) -> Vec<String> {
        let mut command = Command::new(ostree);
        command.arg("ls").args(options).arg("--repo");
        command.arg(self.built.join("repo"));
        command.arg(self.text(&["commit", "checksum"])).arg(path);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().map(|line| {
            let kind = &line[..1];
            let path = &line[line.find('/').unwrap()..];
            format!("{kind} {path}")
        });
        lines.collect()
    }
}

/// The output directory of the sample image with `tables` in its definition, called `sample-NAME`, as a raw disk alone.
pub fn variant(name: &str, tables: &str) -> Option<PathBuf> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-definition"));
    fs::create_dir_all(&place).unwrap();
    let definition = place.join(format!("{name}.toml"));
    let sample = sample_definition();
    let ids = sample.with_extension("ids.lock");
    let text = format!(
        "extends = [{sample:?}]\n[image]\nid = \"sample-{name}\"\n[os]\nids = {ids:?}\n\
         [outputs]\nformats = {{ replace = [\"raw\"] }}\n{tables}"
    );
    if fs::read_to_string(&definition).ok().as_ref() != Some(&text) {
        fs::write(&definition, text).unwrap();
    }
    built_image(&format!("{name}-image"), &definition)
}

/// Starts what `plan` gives and waits until it is healthy: once more where the host was to blame that it is not.
pub fn healthy(plan: impl Fn() -> Machine) -> Running {
    let mut starved = 0;
    loop {
        let mut vm = plan().start().unwrap();
        match vm.wait_healthy(PATIENCE) {
            Ok(after) => {
                eprintln!("healthy after {:.0} s", after.as_secs_f64());
                return vm;
            }
            Err(_) if starved < 2 && vm.console().contains(STARVED) => starved += 1,
            Err(error) => panic!("{error:?}\n{}", vm.console()),
        }
    }
}

/// Answers of a machine to several questions that were asked in one login.
pub struct Answers(BTreeMap<String, (String, i32)>);

const MARK: &str = "@@@";

/// A shell script that asks `questions`: names, and commands.
pub fn script(questions: &[(&str, &str)]) -> String {
    let ask = |(name, command): &(&str, &str)| {
        format!("echo '{MARK} {name}'; ( {command} ) 2>&1; echo \"{MARK}= $?\"\n")
    };
    questions.iter().map(ask).collect()
}

impl Answers {
    /// Reads what [`script`] printed.
    pub fn read(printed: &[u8]) -> Self {
        let text = String::from_utf8_lossy(printed);
        let mut answers = BTreeMap::new();
        let (mut name, mut answer) = (String::new(), String::new());
        for line in text.lines() {
            if let Some(status) = line.strip_prefix("@@@= ") {
                let status = status.parse().unwrap();
                answers.insert(std::mem::take(&mut name), (std::mem::take(&mut answer), status));
            } else if let Some(next) = line.strip_prefix("@@@ ") {
                name = next.to_owned();
                answer.clear();
            } else {
                answer.push_str(line);
                answer.push('\n');
            }
        }
        Self(answers)
    }

    /// Output and exit status.
    pub fn whole(&self, name: &str) -> (&str, i32) {
        let found = self.0.get(name);
        let (text, status) = found.unwrap_or_else(|| panic!("no answer to {name}"));
        (text.trim_end(), *status)
    }

    /// The output of a command that succeeded.
    pub fn get(&self, name: &str) -> &str {
        let (text, status) = self.whole(name);
        assert_eq!(status, 0, "{name}: {text}");
        text
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(self.get(name)).unwrap()
    }
}

#[test]
fn answers_are_told_apart() {
    let questions = [("a", "echo 1; echo 2"), ("b", "echo no >&2; exit 3")];
    let output = Command::new("sh").arg("-c").arg(script(&questions)).output();
    let answers = Answers::read(&output.unwrap().stdout);
    assert_eq!(answers.get("a"), "1\n2");
    assert_eq!(answers.whole("b"), ("no", 3));
}
