//! A disk with an encrypted root, held against cryptsetup, e2fsprogs and another implementation of XTS.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use super::{EncryptedVolume, FILE_SYSTEM_SIZE};
use crate::disk::{Arch, Contents, DiskPlan, DiskSpec, OtherPartition, Role, Slots, Usr, sparse, write_raw};
use crate::formats::ext4::{self, Inode, Kind};
use crate::formats::luks2::{self, Kdf};
use crate::formats::testing::{noise, output, run, tool};
use crate::formats::verity::Algorithm;
use crate::testing::skip;

const MIB: u64 = 1 << 20;
const TIME: i64 = 1_763_683_199;
const SECRET: &[u8] = b"correct-horse-battery-staple-0123456789";

struct Made {
    plan: DiskPlan,
    directory: tempfile::TempDir,
}

fn create(path: PathBuf) -> File {
    File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .unwrap()
}

fn root() -> Inode<'static> {
    let directory = |mode| Inode::root(mode, TIME, Kind::Directory(Default::default()));
    let mut usr = directory(0o755);
    let label: &[u8] = b"system_u:object_r:usr_t:s0\0";
    usr.xattrs.insert((*b"security.selinux").into(), label.into());
    let link = Inode::root(0o777, TIME, Kind::Symlink((*b"usr/bin").into()));
    let entries = [
        (&b"bin"[..], link),
        (b"etc", directory(0o755)),
        (b"tmp", directory(0o1777)),
        (b"usr", usr),
    ];
    let entries = entries.into_iter().map(|(name, inode)| (name.into(), inode));
    Inode::root(0o755, TIME, Kind::Directory(entries.collect()))
}

fn other(label: &str, mib: u64, volume: bool) -> OtherPartition {
    let size = mib * MIB;
    OtherPartition {
        label: label.to_owned(),
        type_uuid: uuid::uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4"),
        min_size: size,
        max_size: Some(size),
        volume,
    }
}

/// A disk of 1 GiB with an encrypted root, and its root partition as a file of its own.
fn made() -> Made {
    made_with(Vec::new())
}

/// The same with `others`, of which those with a volume have one with an empty file system.
fn made_with(others: Vec<OtherPartition>) -> Made {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let spec = DiskSpec {
        arch: Arch::X86_64,
        image_id: "sample".to_owned(),
        version: "1.0".to_owned(),
        size: 1024 * MIB,
        esp_size: 64 * MIB,
        slot_size: Some(10 * MIB),
        slots: Slots::A,
        min_root_size: 512 * MIB,
        signed: false,
        fec_roots: None,
        root_in_image: true,
        others,
    };
    let root_hash = noise(1, 32);
    let usr = Usr {
        size: 8192,
        verity_size: 4096,
        algorithm: Algorithm::Sha256,
        root_hash: &root_hash,
    };
    let plan = DiskPlan::new(&spec, usr, b"seed").unwrap();
    fs::write(at("usr"), [1; 8192]).unwrap();
    fs::write(at("verity"), [2; 4096]).unwrap();
    fs::write(at("key"), SECRET).unwrap();
    fs::write(at("wrong"), b"correct-horse-battery-staple-012345678").unwrap();
    let volume = EncryptedVolume {
        secret: SECRET,
        kdf: Kdf::RANDOM_KEY,
        label: "root",
        root: root(),
    };
    let data = EncryptedVolume {
        secret: b"another-key-of-the-same-length-9876543210",
        kdf: Kdf::RANDOM_KEY,
        label: "data",
        root: Inode::root(0o755, TIME, Kind::Directory(Default::default())),
    };
    let mut volumes = vec![("data", data)];
    volumes.retain(|(label, _)| {
        spec.others
            .iter()
            .any(|other| other.volume && other.label == *label)
    });
    let contents = Contents {
        esp: &[],
        usr: &File::open(at("usr")).unwrap(),
        verity: &File::open(at("verity")).unwrap(),
        root: Some(&volume),
        others: &volumes,
        signature: None,
        time: TIME,
    };
    let raw = create(at("disk"));
    write_raw(&plan, &contents, &raw).unwrap();
    let made = Made { plan, directory };
    let (partition, root) = (create(made.path("root")), made.root());
    partition.set_len(root.size).unwrap();
    for range in sparse::data_ranges(&raw, spec.size).unwrap() {
        let range = range.start.max(root.offset)..range.end.min(root.offset + root.size);
        let mut bytes = vec![0; range.end.saturating_sub(range.start) as usize];
        raw.read_exact_at(&mut bytes, range.start).unwrap();
        if !bytes.is_empty() {
            partition.write_all_at(&bytes, range.start - root.offset).unwrap();
        }
    }
    made
}

impl Made {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn root(&self) -> &crate::disk::Partition {
        self.plan.partition(Role::Root).unwrap()
    }

    /// Whether cryptsetup opens the partition with this key file.
    fn opens(&self, key: &str) -> bool {
        let key = format!("--key-file={}", self.text(key));
        output(
            "cryptsetup",
            ["open", "--test-passphrase", &key, &self.text("root")],
        )
        .0
    }

    /// The file system that was put in, without encryption.
    fn plain(&self) -> u64 {
        let ids = self.root().volume.unwrap();
        let params = ext4::Params {
            size: FILE_SYSTEM_SIZE,
            uuid: ids.file_system,
            hash_seed: ids.hash_seed,
            label: "root",
            time: TIME,
        };
        let plain = create(self.path("plain"));
        plain.set_len(FILE_SYSTEM_SIZE).unwrap();
        ext4::write(&plain, &params, &root()).unwrap();
        plain.metadata().unwrap().blocks() * 512
    }
}

#[test]
fn cryptsetup_takes_it_for_its_own() {
    if !tool("cryptsetup") {
        return;
    }
    let made = made();
    let root = made.text("root");
    run("cryptsetup", ["isLuks", "--type", "luks2", &root]);
    let dump = run("cryptsetup", ["luksDump", &root]);
    let uuid = made.root().volume.unwrap().luks.to_string();
    for part in [
        uuid.as_str(),
        "cipher: aes-xts-plain64",
        "sector: 4096 [bytes]",
        "offset: 16777216 [bytes]",
    ] {
        assert!(dump.contains(part), "{part}: {dump}");
    }
    assert!(made.opens("key"));
    assert!(!made.opens("wrong"));
}

#[test]
fn it_survives_the_loss_of_either_header() {
    if !tool("cryptsetup") {
        return;
    }
    for offset in [0, 16 << 10] {
        let made = made();
        let partition = File::options().write(true).open(made.path("root")).unwrap();
        partition.write_all_at(&noise(3, 16 << 10), offset).unwrap();
        run("cryptsetup", ["repair", "--batch-mode", &made.text("root")]);
        assert!(made.opens("key") && !made.opens("wrong"), "header at {offset}");
        let mut magic = [0; 6];
        let read = File::open(made.path("root")).unwrap();
        read.read_exact_at(&mut magic, offset).unwrap();
        assert!([b"LUKS\xba\xbe", b"SKUL\xba\xbe"].contains(&&magic), "{magic:?}");
    }
}

/// Of each block of the data: nothing was written, and the plain one is empty; or it decrypts to the plain one. Prints
/// how many were written.
const COMPARE: &str = "
import sys
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
key = bytes.fromhex(sys.argv[1])
written, zeroes = 0, bytes(4096)
with open(sys.argv[2], 'rb') as volume, open(sys.argv[3], 'rb') as plain:
    volume.seek(16 << 20)
    number = 0
    while expected := plain.read(4096):
        found = volume.read(4096)
        if found != zeroes:
            tweak = (number * 8).to_bytes(16, 'little')
            cipher = Cipher(algorithms.AES(key), modes.XTS(tweak)).decryptor()
            assert cipher.update(found) + cipher.finalize() == expected, number
            written += 1
        else:
            assert expected == zeroes, number
        number += 1
print(written)
";

#[test]
fn it_decrypts_elsewhere_to_the_file_system_and_no_other_block_was_written() {
    let python = ["python3", "/usr/bin/python3"]
        .into_iter()
        .find(|python| output(python, ["-c", "import cryptography"]).0);
    let Some(python) = python else {
        skip("python3-cryptography is missing");
        return;
    };
    if !tool("cryptsetup") || !tool("e2fsck") {
        return;
    }
    let made = made();
    let used = made.plain();
    run("e2fsck", ["-f", "-n", &made.text("plain")]);
    // The key as cryptsetup gets it out of the keyslot.
    let file = made.text("volume-key");
    let key = format!("--key-file={}", made.text("key"));
    let to = format!("--volume-key-file={file}");
    let dump = [
        "luksDump",
        "--batch-mode",
        "--dump-volume-key",
        &key,
        &to,
        &made.text("root"),
    ];
    run("cryptsetup", dump);
    let volume_key = fs::read(file).unwrap();
    let hex: String = volume_key.iter().map(|byte| format!("{byte:02x}")).collect();
    let written = run(
        python,
        ["-c", COMPARE, &hex, &made.text("root"), &made.text("plain")],
    );
    let written: u64 = written.trim().parse().unwrap();
    // What was written is what the plain file has; headers and a keyslot come to it.
    assert_eq!(written * 4096, used);
    assert!((2 * MIB..4 * MIB).contains(&used), "{used}");
    let on_disk = fs::metadata(made.path("disk")).unwrap().blocks() * 512;
    assert!(on_disk < used + MIB, "{on_disk} for {used}");
}

/// What the manual says of giving a disk a key of its own: the volume key changes, and the file system stays.
#[test]
#[ignore = "writes a quarter of a GiB"]
fn a_disk_gets_a_volume_key_of_its_own_by_encrypting_the_file_system_alone() {
    if !tool("cryptsetup") {
        return;
    }
    let made = made();
    let (root, key) = (made.text("root"), format!("--key-file={}", made.text("key")));
    let volume_key = |name: &str| {
        let to = format!("--volume-key-file={}", made.text(name));
        run(
            "cryptsetup",
            ["luksDump", "--batch-mode", "--dump-volume-key", &key, &to, &root],
        );
        fs::read(made.path(name)).unwrap()
    };
    let before = volume_key("before");
    let size = format!("--device-size={FILE_SYSTEM_SIZE}");
    let change = [
        "reencrypt",
        "--batch-mode",
        "--force-offline-reencrypt",
        &key,
        &size,
        &root,
    ];
    run("cryptsetup", change);
    assert_ne!(volume_key("after"), before);
    made.plain();
    let partition = File::open(made.path("root")).unwrap();
    let size = partition.metadata().unwrap().len();
    let header = luks2::Header::read(&partition, size).unwrap();
    let key = header
        .unlock(&partition, SECRET, &luks2::Limits::default())
        .unwrap()
        .key;
    let volume = header.open(&partition, &key, &luks2::Limits::default()).unwrap();
    let mut found = vec![0; FILE_SYSTEM_SIZE as usize];
    crate::formats::at::ReadAt::read_exact_at(&volume, &mut found, 0).unwrap();
    let plain = fs::read(made.path("plain")).unwrap();
    for (number, (found, plain)) in found.chunks(4096).zip(plain.chunks(4096)).enumerate() {
        assert!(
            found == plain || plain.iter().all(|&byte| byte == 0),
            "block {number}"
        );
    }
}

#[test]
fn the_same_secret_gives_the_same_bytes() {
    let read = |made: &Made| {
        let mut head = vec![0; (24 * MIB) as usize];
        let root = File::open(made.path("root")).unwrap();
        root.read_exact_at(&mut head, 0).unwrap();
        head
    };
    assert!(read(&made()) == read(&made()));
}

#[test]
fn partitions_beside_the_root_stand_before_it_and_open_with_their_own_key() {
    if !tool("cryptsetup") || !tool("sgdisk") {
        return;
    }
    let made = made_with(vec![other("swap", 16, false), other("data", 96, true)]);
    let others: Vec<_> = made
        .plan
        .partitions
        .iter()
        .filter(|it| it.role == Role::Other)
        .collect();
    let rows: Vec<_> = others
        .iter()
        .map(|it| (it.number, it.label.as_str(), it.size / MIB, it.volume.is_some()))
        .collect();
    assert_eq!(rows, [(6, "swap", 16, false), (7, "data", 96, true)]);
    let [swap, data] = others[..] else {
        panic!("{others:?}")
    };
    assert_eq!(
        (data.offset, made.root().offset),
        (swap.offset + 16 * MIB, data.offset + 96 * MIB)
    );
    let disk = made.text("disk");
    let table = run("sgdisk", ["-v", &disk]);
    assert!(table.contains("No problems found"), "{table}");
    let shown = run("sgdisk", ["-i", "7", &disk]);
    assert!(shown.contains("Partition name: 'data'"), "{shown}");
    assert!(shown.contains("Attribute flags: 8000000000000000"), "{shown}");

    let mut bytes = vec![0; data.size as usize];
    let raw = File::open(made.path("disk")).unwrap();
    raw.read_exact_at(&mut bytes, data.offset).unwrap();
    fs::write(made.path("data"), &bytes).unwrap();
    fs::write(
        made.path("data-key"),
        b"another-key-of-the-same-length-9876543210",
    )
    .unwrap();
    let uuid = run("cryptsetup", ["luksUUID", &made.text("data")]);
    assert_eq!(uuid.trim(), data.volume.unwrap().luks.to_string());
    for (key, opens) in [("data-key", true), ("key", false)] {
        let (good, said) = output(
            "cryptsetup",
            [
                "open",
                "--test-passphrase",
                "--key-file",
                &made.text(key),
                &made.text("data"),
            ],
        );
        assert_eq!(good, opens, "{key}: {said}");
    }
    // Swap has nothing that could be written at build.
    bytes.resize(swap.size as usize, 0);
    raw.read_exact_at(&mut bytes, swap.offset).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0));
}
