//! The sample with an encrypted root, its keys, and machines whose disk, TPM and firmware are kept
//! from boot to boot, to be looked into and altered in between.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hullwright::vm::{End, Machine, Ovmf, Qemu};
use serde_json::Value;
use tempfile::TempDir;

use crate::lab::{GROW, PATIENCE};
use crate::support::image::{built_image, hullwright, output_file, said};
use crate::support::{skip, tool};

const MIB: u64 = 1 << 20;
/// Of the ESP in the sample's layout, in MiB.
const ESP: (u64, u64) = (1, 256);

/// The image, its keys, and the right to run a machine until this is dropped.
pub struct SealedLab {
    pub built: PathBuf,
    pub keys: PathBuf,
    pub place: TempDir,
    _turn: File,
}

/// A machine's disk and what is kept of it.
pub struct Kept {
    disk: PathBuf,
}

/// Runs `program`, which must succeed.
pub fn run<I: AsRef<std::ffi::OsStr>>(
    program: impl AsRef<Path>,
    arguments: impl IntoIterator<Item = I>,
) -> Output {
    let output = Command::new(program.as_ref()).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{}: {}",
        program.as_ref().display(),
        said(&output)
    );
    output
}

impl SealedLab {
    /// As [`crate::lab::Lab::enter`].
    pub fn enter() -> Option<Self> {
        Self::enter_with("sealed", &[], "")
    }

    /// The same with another image, called `name`, which extends files of `image-defs/common` and has `more` in its
    /// definition.
    pub fn enter_with(name: &str, common: &[&str], more: &str) -> Option<Self> {
        if let (Err(error), _) | (_, Err(error)) = (Qemu::find().map(drop), Ovmf::find(false).map(drop)) {
            skip(&error.to_string());
            return None;
        }
        for needed in ["swtpm", "cryptsetup", "qemu-img", "qemu-io", "sfdisk", "mtype"] {
            tool(needed)?;
        }
        let tests = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let place = tests.join("sealed-definition");
        let keys = place.join("keys");
        fs::create_dir_all(&place).unwrap();
        let turn = File::create(tests.join("boot.lock")).unwrap();
        turn.lock().unwrap();
        if !keys.exists() {
            let made = hullwright().arg("keys").arg("init").arg(&keys).output().unwrap();
            assert!(made.status.success(), "{}", said(&made));
        }
        let definition = place.join(format!("{name}.toml"));
        let text = definition_text(common, more);
        if fs::read_to_string(&definition).ok().as_ref() != Some(&text) {
            fs::write(&definition, text).unwrap();
        }
        let built = built_image(&format!("{name}-image"), &definition)?;
        let place = tempfile::Builder::new()
            .prefix("sealed-")
            .tempdir_in(tests)
            .unwrap();
        Some(Self {
            built,
            keys,
            place,
            _turn: turn,
        })
    }

    /// A machine that has not been started yet.
    pub fn machine(&self, name: &str) -> Kept {
        let dir = self.place.path().join(name);
        fs::create_dir(&dir).unwrap();
        let disk = dir.join("disk.raw");
        fs::hard_link(output_file(&self.built, ".raw"), &disk).unwrap();
        Kept { disk }
    }

    /// The same machine once more: its disk, its TPM, its firmware.
    pub fn copy(&self, kept: &Kept, name: &str) -> Kept {
        let copy = self.machine(name);
        run(
            "cp",
            ["-a".as_ref(), kept.dir().as_os_str(), copy.dir().as_os_str()],
        );
        copy
    }

    /// A UKI of the image's own parts with `more` on its command line, made by ukify and signed for PCR 11 with `key`.
    pub fn other_uki(&self, ukify: &Path, key: &Path, more: &str) -> PathBuf {
        let dir = tempfile::tempdir_in(self.place.path()).unwrap().keep();
        let image = output_file(&self.built, ".efi");
        let part = |name: &str| dir.join(name).display().to_string();
        for section in ["linux", "initrd", "cmdline", "osrel", "uname"] {
            let only = format!("--only-section=.{section}");
            run(
                "objcopy",
                ["-O", "binary", &only, image.to_str().unwrap(), &part(section)],
            );
        }
        let cmdline = fs::read(part("cmdline")).unwrap();
        let cmdline = String::from_utf8(cmdline).unwrap().replace('\0', "");
        let public = part("public.pem");
        run(
            "openssl",
            ["pkey", "-in", key.to_str().unwrap(), "-pubout", "-out", &public],
        );
        let out = dir.join("other.efi");
        let arguments = [
            "build".to_owned(),
            format!("--linux={}", part("linux")),
            format!("--initrd={}", part("initrd")),
            format!("--cmdline={cmdline} {more}"),
            format!("--os-release=@{}", part("osrel")),
            format!("--stub={}", stub(ukify).display()),
            format!("--pcr-private-key={}", key.display()),
            format!("--pcr-public-key={public}"),
            "--phases=enter-initrd".to_owned(),
            "--pcr-banks=sha256".to_owned(),
            format!("--output={}", out.display()),
        ];
        run(ukify, arguments);
        out
    }
}

/// The stub of ukify's own release, which is the sample's: an older one, as the machine that builds may have, measures
/// other things than ukify signs policies for.
fn stub(ukify: &Path) -> PathBuf {
    let tools = ukify.ancestors().nth(2).unwrap();
    tools.join("root/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
}

fn definition_text(common: &[&str], more: &str) -> String {
    let project = env!("CARGO_MANIFEST_DIR");
    let common = common
        .iter()
        .map(|name| format!(", \"{project}/image-defs/common/{name}.toml\""));
    let common: String = common.collect();
    format!(
        "extends = [\"{project}/image-defs/sample-container-host.toml\", \"{project}/image-defs/common/encrypted-root.toml\"\
         {common}]\n\
         [image]\nid = \"sample-sealed\"\n\
         [os]\nids = \"{project}/image-defs/sample-container-host.ids.lock\"\n\
         [outputs]\nformats = {{ replace = [\"raw\"] }}\n\
         [measured-boot]\nkey = \"keys/pcr.key\"\n\
         [encryption.root]\nrecovery = {{ escrow = \"keys/escrow.pem\" }}\n{more}"
    )
}

impl Kept {
    fn dir(&self) -> PathBuf {
        self.disk.with_file_name("disk.raw.kept")
    }

    fn overlay(&self) -> String {
        self.dir().join("disk.qcow2").display().to_string()
    }

    /// The image below what the machine wrote.
    pub fn disk(&self) -> &Path {
        &self.disk
    }

    /// Takes the TPM away, so that the next boot finds a new one.
    pub fn forget_tpm(&self) {
        fs::remove_dir_all(self.dir().join("tpm")).unwrap();
    }

    pub fn plan(&self) -> Machine {
        Machine::new(&self.disk).grow(GROW).keep(true).tpm(true)
    }

    /// Boots until the machine is healthy, and shuts it down; the console.
    pub fn boot(&self) -> String {
        let mut vm = self.plan().start().unwrap();
        let healthy = vm.wait_healthy(PATIENCE);
        let console = vm.console();
        let healthy = healthy.unwrap_or_else(|error| panic!("{error:?}\n{console}"));
        eprintln!("healthy after {:.0} s", healthy.as_secs_f64());
        assert!(vm.power_off(PATIENCE).unwrap());
        console
    }

    /// Boots a machine that must refuse, and switch itself off; the console.
    pub fn refused(&self, change: impl FnOnce(Machine) -> Machine) -> String {
        let mut vm = change(self.plan()).start().unwrap();
        let end = vm.wait(Some(PATIENCE)).unwrap();
        let console = vm.console();
        assert_eq!(end, Some(End::PoweredOff), "{console}");
        assert!(console.contains("The initrd cannot go on."), "{console}");
        for beyond in ["hullwright-health", "login:", "Switching root", "sh-5", "bash-5"] {
            assert!(!console.contains(beyond), "{beyond}: {console}");
        }
        console
    }

    /// The partitions, as sfdisk sees them.
    pub fn partitions(&self) -> Vec<Value> {
        let head = self.read(0, 2 * MIB);
        let size = run("qemu-img", ["info", "--output=json", &self.overlay()]);
        let size: Value = serde_json::from_slice(&size.stdout).unwrap();
        File::options()
            .write(true)
            .open(&head)
            .unwrap()
            .set_len(size["virtual-size"].as_u64().unwrap())
            .unwrap();
        let table = run("sfdisk", ["--json".as_ref(), head.as_os_str()]);
        let table: Value = serde_json::from_slice(&table.stdout).unwrap();
        table["partitiontable"]["partitions"].as_array().unwrap().clone()
    }

    /// Where the root partition lies, in bytes.
    pub fn root_offset(&self) -> u64 {
        let partitions = self.partitions();
        let root = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709";
        let found: Vec<_> = partitions
            .iter()
            .filter(|partition| partition["type"] == root)
            .collect();
        assert_eq!(found.len(), 1, "{partitions:#?}");
        found[0]["start"].as_u64().unwrap() * 512
    }

    /// A file with `length` bytes of the disk from `offset` on.
    fn read(&self, offset: u64, length: u64) -> PathBuf {
        let out = self.disk.with_file_name(format!("part-{offset}"));
        let _ = fs::remove_file(&out);
        let window = serde_json::json!({
            "driver": "raw", "offset": offset, "size": length,
            "file": { "driver": "qcow2", "file": { "driver": "file", "filename": self.overlay() } },
        });
        let source = format!("json:{window}");
        run(
            "qemu-img",
            ["convert", "-O", "raw", &source, out.to_str().unwrap()],
        );
        out
    }

    /// Writes `bytes` over the disk from `offset` on.
    pub fn write(&self, offset: u64, bytes: &Path) {
        let length = fs::metadata(bytes).unwrap().len();
        let command = format!("write -q -s {} {offset} {length}", bytes.display());
        run("qemu-io", ["-f", "qcow2", "-c", &command, &self.overlay()]);
    }

    /// The root's LUKS2 header and the first MiB of its data.
    pub fn root_head(&self) -> PathBuf {
        self.read(self.root_offset(), 17 * MIB)
    }

    /// Changes the ESP: `change` gets a file with its file system.
    pub fn esp(&self, change: impl FnOnce(&str)) {
        let (start, size) = ESP;
        let esp = self.read(start * MIB, size * MIB);
        change(esp.to_str().unwrap());
        self.write(start * MIB, &esp);
        fs::remove_file(esp).unwrap();
    }

    /// The names of the files in `directory` of the ESP.
    pub fn esp_names(&self, directory: &str) -> Vec<String> {
        let mut names = Vec::new();
        self.esp(|esp| {
            let listed = run("mdir", ["-b", "-i", esp, &format!("::{directory}")]);
            names = String::from_utf8(listed.stdout)
                .unwrap()
                .lines()
                .map(str::to_owned)
                .collect();
        });
        names
    }

    /// A file of the ESP.
    pub fn esp_file(&self, path: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.esp(|esp| bytes = run("mtype", ["-i", esp, path]).stdout);
        bytes
    }

    /// Puts `uki` in the place of the one on the ESP.
    pub fn replace_uki(&self, uki: &Path) {
        let names = self.esp_names("/EFI/Linux");
        assert_eq!(names.len(), 1, "{names:?}");
        self.esp(|esp| {
            run("mdel", ["-i", esp, &names[0]]);
            // With its tries, which another boot may have used up.
            run(
                "mcopy",
                ["-i", esp, uki.to_str().unwrap(), "::/EFI/Linux/other_1+3.efi"],
            );
        });
    }
}
