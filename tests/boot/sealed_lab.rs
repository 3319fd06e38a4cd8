//! The sample with an encrypted root, its keys, and machines whose disk, TPM and firmware are kept
//! from boot to boot, to be looked into and altered in between.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use hullwright::vm::{End, Machine, Ovmf, Qemu};
use serde_json::Value;
use tempfile::TempDir;

use crate::lab::{Answers, GROW, PATIENCE, STARVED, healthy};
use crate::support::image::{built_image, hullwright, output_file, said};
use crate::support::{sample_rpms, skip, tool};

const MIB: u64 = 1 << 20;
/// Of the ESP in the sample's layout, in MiB.
const ESP: (u64, u64) = (1, 256);

/// The image, its keys, and the right to run a machine until this is dropped.
pub struct SealedLab {
    pub built: PathBuf,
    /// Where definition and keys lie.
    definitions: PathBuf,
    pub keys: PathBuf,
    pub place: TempDir,
    _turn: File,
}

/// A machine's disk and what is kept of it.
pub struct Kept {
    disk: PathBuf,
    /// A variable store with the image's keys, for firmware that enforces Secure Boot.
    variables: Option<PathBuf>,
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
        let definitions = tests.join("sealed-definition");
        let keys = definitions.join("keys");
        fs::create_dir_all(&definitions).unwrap();
        let turn = File::create(tests.join("boot.lock")).unwrap();
        turn.lock().unwrap();
        if !keys.exists() {
            let made = hullwright().arg("keys").arg("init").arg(&keys).output().unwrap();
            assert!(made.status.success(), "{}", said(&made));
        }
        let updates = definitions.join("firmware-keys");
        if !updates.exists() {
            let enroll = ["keys", "enroll-ovmf", "--keys"];
            let made = hullwright()
                .args(enroll)
                .arg(&keys)
                .arg("--files")
                .arg(&updates)
                .output();
            let made = made.unwrap();
            assert!(made.status.success(), "{}", said(&made));
        }
        let definition = definitions.join(format!("{name}.toml"));
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
            definitions,
            keys,
            place,
            _turn: turn,
        })
    }

    /// A machine that has not been started yet.
    pub fn machine(&self, name: &str) -> Kept {
        self.machine_of(&self.built, name)
    }

    /// The same with the image that a build left in `built`.
    pub fn machine_of(&self, built: &Path, name: &str) -> Kept {
        let dir = self.place.path().join(name);
        fs::create_dir(&dir).unwrap();
        let disk = dir.join("disk.raw");
        fs::hard_link(output_file(built, ".raw"), &disk).unwrap();
        Kept {
            disk,
            variables: None,
        }
    }

    /// A machine after its first boot, which is made once for all tests of an image.
    pub fn booted(&self, name: &str) -> Kept {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sealed-first-boot");
        let (disk, done) = (place.join("disk.raw"), place.join("done"));
        let image = output_file(&self.built, ".raw");
        let inode = |path: &Path| fs::metadata(path).map(|found| found.ino()).ok();
        let first = Kept {
            disk,
            variables: None,
        };
        if !done.exists() || inode(&first.disk) != inode(&image) {
            let _ = fs::remove_dir_all(&place);
            fs::create_dir(&place).unwrap();
            fs::hard_link(image, &first.disk).unwrap();
            first.boot();
            fs::write(done, "").unwrap();
        }
        self.copy(&first, name)
    }

    /// As [`Self::machine`], with firmware that trusts the image's keys alone, which lie beside the disk as the build left them.
    pub fn secure_machine(&self, name: &str) -> Kept {
        let mut machine = self.machine(name);
        let variables = machine.disk.with_file_name("variables.fd");
        let keys = machine.disk.with_file_name("secure-boot");
        std::os::unix::fs::symlink(self.built.join("secure-boot"), &keys).unwrap();
        let enroll = ["keys", "enroll-ovmf", "--keys"];
        let made = hullwright()
            .args(enroll)
            .arg(keys)
            .arg("-o")
            .arg(&variables)
            .output();
        let made = made.unwrap();
        assert!(made.status.success(), "{}", said(&made));
        machine.variables = Some(variables);
        machine
    }

    /// An update of the image, with a user more, `newcomer`, an initrd that knows the first disk as the machine's own, and an
    /// ESP from which firmware in setup mode takes the image's keys.
    pub fn update(&self) -> PathBuf {
        let rpms = sample_rpms().unwrap();
        let overlay = self.definitions.join("overlay");
        fs::create_dir_all(overlay.join("usr/lib/sysusers.d")).unwrap();
        let user = overlay.join("usr/lib/sysusers.d/newcomer.conf");
        fs::write(user, "u newcomer 870 \"Came later\" /\n").unwrap();
        let rules = self.definitions.join("initrd/usr/lib/udev/rules.d");
        fs::create_dir_all(&rules).unwrap();
        fs::write(rules.join("90-own-disk.rules"), OWN_DISK).unwrap();
        let ids = self.definitions.join("update.ids.lock");
        let known = Path::new(env!("CARGO_MANIFEST_DIR")).join("image-defs/sample-container-host.ids.lock");
        fs::copy(known, ids).unwrap();
        let definition = self.definitions.join("update.toml");
        if fs::read_to_string(&definition).ok().as_deref() != Some(UPDATE) {
            fs::write(&definition, UPDATE).unwrap();
        }
        let mut lock = hullwright();
        lock.args(["lock", "--ids"])
            .arg(&definition)
            .arg("--rpms")
            .arg(&rpms);
        let locked = lock
            .arg("--key")
            .arg(rpms.join("RPM-GPG-KEY-hullwright-sample"))
            .output();
        let locked = locked.unwrap();
        assert!(locked.status.success(), "{}", said(&locked));
        built_image("sealed-update", &definition).unwrap()
    }

    /// The same machine once more: its disk, its TPM, its firmware.
    pub fn copy(&self, kept: &Kept, name: &str) -> Kept {
        let mut copy = self.machine(name);
        copy.variables.clone_from(&kept.variables);
        run(
            "cp",
            ["-a".as_ref(), kept.dir().as_os_str(), copy.dir().as_os_str()],
        );
        copy
    }

    /// `program` signed by sbsign with the key that firmware trusts.
    pub fn sign(&self, program: &Path) -> PathBuf {
        let signed = program.with_extension("signed.efi");
        let mut command = Command::new("sbsign");
        command.arg("--key").arg(self.keys.join("db.key"));
        command.arg("--cert").arg(self.keys.join("db.pem"));
        let output = command
            .arg("--output")
            .arg(&signed)
            .arg(program)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        signed
    }

    /// An add-on that adds `planted` to the command line, made by ukify.
    pub fn addon(&self, ukify: &Path) -> PathBuf {
        let addon = self.place.path().join("x.addon.efi");
        let stub = stub(ukify).with_file_name("addonx64.efi.stub");
        let arguments = [
            "build".to_owned(),
            "--cmdline=planted".to_owned(),
            format!("--stub={}", stub.display()),
            format!("--output={}", addon.display()),
        ];
        run(ukify, arguments);
        addon
    }

    /// A UKI of the image's own parts with `more` on its command line, made by ukify and signed for PCR 11 with `key`. What
    /// is in `initrd`, an archive, takes the place of what the image's own initrd has.
    pub fn other_uki(&self, ukify: &Path, key: &Path, more: &str, initrd: Option<&Path>) -> PathBuf {
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
        let mut arguments = vec![
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
        arguments.extend(initrd.map(|initrd| format!("--initrd={}", initrd.display())));
        run(ukify, arguments);
        out
    }
}

/// Of a file that is planted: what makes the stub look at it.
fn extension(file: &Path) -> &'static str {
    match file.extension().and_then(std::ffi::OsStr::to_str) {
        Some("efi") => "addon.efi",
        _ => "cred",
    }
}

/// The stub of ukify's own release, which is the sample's: an older one, as the machine that builds may have, measures
/// other things than ukify signs policies for.
fn stub(ukify: &Path) -> PathBuf {
    let tools = ukify.ancestors().nth(2).unwrap();
    tools.join("root/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
}

const UPDATE: &str = r#"extends = ["sealed.toml"]
[image]
version = "13.20261128"
released = 2026-11-28
[os]
ids = "update.ids.lock"
overlays = ["overlay"]
[secure-boot]
auto-enroll = "firmware-keys"
[initrd]
overlays = ["initrd"]
[outputs.erofs]
level = 1
"#;
/// What Azure's own rules say of the disk of a machine there.
const OWN_DISK: &str = "SUBSYSTEM==\"block\", KERNEL==\"vda\", SYMLINK+=\"disk/azure/os\"\n";

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
         [secure-boot]\ndb = {{ key = \"keys/db.key\", cert = \"keys/db.pem\" }}\n\
         pk = \"keys/PK.pem\"\nkek = \"keys/KEK.pem\"\n\
         [measured-boot]\nkey = \"keys/pcr.key\"\n\
         [encryption.root]\nrecovery = {{ escrow = \"keys/escrow.pem\" }}\n{more}"
    )
}

impl Kept {
    fn dir(&self) -> PathBuf {
        self.disk.with_file_name("disk.raw.kept")
    }

    /// What the machine wrote, over [`Self::disk`].
    pub fn overlay(&self) -> String {
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
        let machine = Machine::new(&self.disk).grow(GROW).keep(true).tpm(true);
        match &self.variables {
            Some(variables) => machine.secure_boot(true).variables(variables),
            None => machine,
        }
    }

    /// Boots until the machine is healthy, asks it what `script` says, and shuts it down; answers and console.
    pub fn ask(&self, change: impl Fn(Machine) -> Machine, script: &str) -> (Answers, String) {
        let mut vm = healthy(|| change(self.plan()).ssh(true));
        let console = vm.console();
        vm.wait_ssh(PATIENCE).unwrap();
        let answers = Answers::read(&vm.ssh(&[script]).unwrap().stdout);
        assert!(vm.power_off(PATIENCE).unwrap());
        (answers, console)
    }

    /// Boots until the machine is healthy, and shuts it down; the console.
    pub fn boot(&self) -> String {
        let vm = healthy(|| self.plan());
        let console = vm.console();
        assert!(vm.power_off(PATIENCE).unwrap());
        console
    }

    /// How a machine ends that is never well, and its console.
    fn end(&self, machine: Machine) -> (Option<End>, String) {
        let started = Instant::now();
        let mut vm = machine.start().unwrap();
        let mut end = None;
        while end.is_none() && started.elapsed() < PATIENCE && !vm.console().contains(STARVED) {
            end = vm.wait(Some(Duration::from_secs(5))).unwrap();
        }
        eprintln!("{end:?} after {:.0} s", started.elapsed().as_secs_f64());
        (end, vm.console())
    }

    /// Boots a machine that must refuse, and switch itself off; the console.
    pub fn refused(&self, change: impl Fn(Machine) -> Machine) -> String {
        let (end, console) = (0..3)
            .map(|_| self.end(change(self.plan())))
            .find(|(_, console)| !console.contains(STARVED))
            .unwrap();
        assert_eq!(end, Some(End::PoweredOff), "{console}");
        assert!(console.contains("The initrd cannot go on."), "{console}");
        for beyond in ["hullwright-health", "login:", "Switching root", "sh-5", "bash-5"] {
            assert!(!console.contains(beyond), "{beyond}: {console}");
        }
        console
    }

    /// The partitions, as sfdisk sees them.
    pub fn partitions(&self) -> Vec<Value> {
        let head = self.table();
        let table = run("sfdisk", ["--json".as_ref(), head.as_os_str()]);
        let table: Value = serde_json::from_slice(&table.stdout).unwrap();
        table["partitiontable"]["partitions"].as_array().unwrap().clone()
    }

    /// A file of the disk's size with its first MiB, which has the partition table.
    fn table(&self) -> PathBuf {
        let head = self.read(0, MIB);
        let size = run("qemu-img", ["info", "--output=json", &self.overlay()]);
        let size: Value = serde_json::from_slice(&size.stdout).unwrap();
        let file = File::options().write(true).open(&head).unwrap();
        file.set_len(size["virtual-size"].as_u64().unwrap()).unwrap();
        head
    }

    /// Writes the update that a build left in `directory` into the free slot, as a program that updates machines does.
    pub fn install(&self, directory: &Path) {
        let manifest = fs::read(directory.join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let table = self.table();
        let partitions = self.partitions();
        for (ending, made) in [
            (".usr.erofs", &manifest["partitions"][1]),
            (".usr.verity", &manifest["partitions"][2]),
        ] {
            let text = |key: &str| made[key].as_str().unwrap().to_uppercase();
            let free = partitions.iter().position(|partition| {
                partition["name"] == "_empty" && *partition["type"].as_str().unwrap() == text("type_uuid")
            });
            let free = free.unwrap();
            let start = partitions[free]["start"].as_u64().unwrap() * 512;
            self.write(start, &output_file(directory, ending));
            let number = (free + 1).to_string();
            for (option, value) in [
                ("--part-uuid", text("uuid")),
                ("--part-label", made["label"].as_str().unwrap().to_owned()),
            ] {
                run("sfdisk", [option, table.to_str().unwrap(), &number, &value]);
            }
        }
        let file = File::open(&table).unwrap();
        let size = file.metadata().unwrap().len();
        const BACKUP: u64 = 33 * 512;
        for (offset, length) in [(0, MIB), (size - BACKUP, BACKUP)] {
            let mut bytes = vec![0; length as usize];
            file.read_exact_at(&mut bytes, offset).unwrap();
            let part = table.with_extension("part");
            fs::write(&part, bytes).unwrap();
            self.write(offset, &part);
        }
        let uki = output_file(directory, ".efi");
        let name = uki.file_name().unwrap().to_str().unwrap();
        let to = format!("::/EFI/Linux/{}+3.efi", name.strip_suffix(".efi").unwrap());
        self.esp(|esp| {
            run("mcopy", ["-i", esp, uki.to_str().unwrap(), &to]);
        });
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

    /// Puts `file` into `directory` of the ESP, which is made.
    pub fn plant(&self, directory: &str, file: &Path) {
        self.esp(|esp| {
            run("mmd", ["-i", esp, &format!("::{directory}")]);
            run(
                "mcopy",
                [
                    "-i",
                    esp,
                    file.to_str().unwrap(),
                    &format!("::{directory}/x.{}", extension(file)),
                ],
            );
        });
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
