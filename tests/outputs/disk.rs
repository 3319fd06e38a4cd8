//! The disk images, by sgdisk, sfdisk, fsck.vfat, mtools, qemu-img and systemd-dissect.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::run::{answer, bytes, json, output, program, scratch};
use crate::sealed::root_hash;
use crate::support::image::{output_file, sample_image};

const STEM: &str = "sample-container-host_13.20261121";
const GIB: u64 = 1 << 30;

/// A partition as sfdisk sees it, in bytes.
#[derive(Debug)]
struct Partition {
    offset: u64,
    size: u64,
    kind: String,
    uuid: String,
    name: String,
}

fn partitions(raw: &Path) -> Option<Vec<Partition>> {
    let table = json(program("sfdisk", ["--json"])?.arg(raw));
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_lowercase();
    let partition = |entry: &serde_json::Value| Partition {
        offset: entry["start"].as_u64().unwrap() * 512,
        size: entry["size"].as_u64().unwrap() * 512,
        kind: text(&entry["type"]),
        uuid: text(&entry["uuid"]),
        name: entry["name"].as_str().unwrap().to_owned(),
    };
    let entries = table["partitiontable"]["partitions"].as_array().unwrap();
    Some(entries.iter().map(partition).collect())
}

/// The partition's bytes, as a file of its own.
fn extract(raw: &Path, partition: &Partition, to: &Path) {
    let (raw, to) = (File::open(raw).unwrap(), File::create(to).unwrap());
    to.set_len(partition.size).unwrap();
    let mut buffer = vec![0; 1 << 20];
    for start in (0..partition.size).step_by(1 << 20) {
        raw.read_exact_at(&mut buffer, partition.offset + start).unwrap();
        if buffer.iter().any(|&byte| byte != 0) {
            to.write_all_at(&buffer, start).unwrap();
        }
    }
}

/// Whether the partition holds `file`'s bytes, and zeros after them.
fn holds(raw: &Path, partition: &Partition, file: &Path) -> io::Result<bool> {
    let content = fs::read(file)?;
    let raw = File::open(raw)?;
    let mut there = vec![0; content.len()];
    raw.read_exact_at(&mut there, partition.offset)?;
    let mut rest = vec![0; usize::try_from(partition.size).unwrap() - content.len()];
    raw.read_exact_at(&mut rest, partition.offset + content.len() as u64)?;
    Ok(there == content && rest.iter().all(|&byte| byte == 0))
}

/// A UUID of half a root hash.
fn uuid_of(hash: &str) -> String {
    let part = |range: std::ops::Range<usize>| &hash[range];
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

#[test]
fn sgdisk_and_sfdisk_read_the_partition_table() {
    let Some(directory) = sample_image() else { return };
    let raw = output_file(&directory, ".raw");
    let (Some(mut sgdisk), Some(hash)) = (program("sgdisk", ["-v"]), root_hash(&directory)) else {
        return;
    };
    let verdict = answer(sgdisk.arg(&raw));
    assert!(verdict.contains("\nNo problems found."), "{verdict}");

    let Some(partitions) = partitions(&raw) else {
        return;
    };
    let [esp, usr, verity] = partitions.as_slice() else {
        panic!("{partitions:?}");
    };
    assert_eq!(
        [&esp.kind, &usr.kind, &verity.kind],
        [
            "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
            "8484680c-9521-48c6-9c11-b0720656f69e",
            "77ff5f63-e7b6-4633-acf4-1565b864c0e6",
        ]
    );
    assert_eq!([&esp.name, &usr.name, &verity.name], ["esp", STEM, STEM]);
    assert_eq!(usr.uuid, uuid_of(&hash[..32]));
    assert_eq!(verity.uuid, uuid_of(&hash[32..]));
    assert_eq!((esp.size, usr.size), (256 << 20, GIB));
    assert_eq!(esp.offset, 1 << 20);
    for partition in &partitions {
        assert_eq!(partition.offset % (1 << 20), 0, "{partition:?}");
    }
    for (partition, suffix) in [(usr, ".usr.erofs"), (verity, ".usr.verity")] {
        assert!(holds(&raw, partition, &output_file(&directory, suffix)).unwrap());
    }
}

#[test]
fn the_esp_is_clean_and_holds_loader_and_kernel_image() {
    let Some(directory) = sample_image() else { return };
    let raw = output_file(&directory, ".raw");
    let (Some(partitions), Some(mut fsck), Some(mut mdir)) = (
        partitions(&raw),
        program("fsck.vfat", ["-n"]),
        program("mdir", ["-/", "-b", "-i"]),
    ) else {
        return;
    };
    let scratch = scratch();
    let esp = scratch.path().join("esp");
    extract(&raw, &partitions[0], &esp);
    let verdict = answer(fsck.arg(&esp));
    assert_eq!(verdict.lines().count(), 2, "only version and usage: {verdict}");
    let list = answer(mdir.arg(&esp).arg("::"));
    let mut files: Vec<_> = list.lines().filter(|path| !path.ends_with('/')).collect();
    files.sort_unstable();
    let kernel = format!("::/EFI/Linux/{STEM}+3.efi");
    assert_eq!(
        files,
        ["::/EFI/BOOT/BOOTX64.EFI", &kernel, "::/loader/loader.conf"]
    );
    let copy = |path: &str| {
        let mut mcopy = program("mcopy", ["-n", "-i"]).unwrap();
        let to = scratch.path().join("copy");
        bytes(mcopy.arg(&esp).arg(path).arg(&to));
        let content = fs::read(&to).unwrap();
        fs::remove_file(to).unwrap();
        content
    };
    assert!(copy(&kernel) == fs::read(output_file(&directory, ".efi")).unwrap());
    let repo = format!("--repo={}", directory.join("repo").display());
    let loader = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";
    if let Some(mut cat) = program(
        "ostree",
        [repo.as_str(), "cat", "sample/13/x86_64/container-host", loader],
    ) {
        assert!(copy("::/EFI/BOOT/BOOTX64.EFI") == bytes(&mut cat));
    }

    // The firmware reads it as FAT32: enough clusters, by the boot sector's own numbers.
    let usage = verdict.lines().last().unwrap();
    let clusters: u32 = usage
        .rsplit_once('/')
        .unwrap()
        .1
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(clusters >= 65_525, "{usage}");
}

#[test]
fn qemu_reads_the_vhd_as_the_raw_disk() {
    let Some(directory) = sample_image() else { return };
    let (raw, vhd) = (output_file(&directory, ".raw"), output_file(&directory, ".vhd"));
    let Some(mut info) = program("qemu-img", ["info", "--output=json", "-f", "vpc"]) else {
        return;
    };
    let info = json(info.arg(&vhd));
    let size = info["virtual-size"].as_u64().unwrap();
    assert_eq!(size, 30 * GIB);
    assert_eq!(fs::metadata(&vhd).unwrap().len(), size + 512);
    assert_eq!(fs::metadata(&raw).unwrap().len(), size);
    // QEMU 7.2 takes the size of a fixed disk from its geometry; what Azure reads is in the footer.
    let mut footer = [0; 512];
    File::open(&vhd)
        .unwrap()
        .read_exact_at(&mut footer, size)
        .unwrap();
    assert_eq!(&footer[..8], b"conectix");
    assert_eq!(footer[48..56], size.to_be_bytes(), "current size");
    assert_eq!(footer[60..64], 2_u32.to_be_bytes(), "a fixed disk");
    let mut compare = program("qemu-img", ["compare", "-f", "raw", "-F", "vpc"]).unwrap();
    assert_eq!(answer(compare.arg(&raw).arg(&vhd)), "Images are identical.\n");
}

#[test]
fn systemd_dissect_accepts_the_disk() {
    let Some(directory) = sample_image() else { return };
    let Some(mut dissect) = program("systemd-dissect", ["--validate"]) else {
        return;
    };
    let output = output(dissect.arg(output_file(&directory, ".raw")));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "OK");
}
