//! Writing a planned disk, and the VHD of it.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rayon::join;

use super::tree_digest::{CHUNK_SIZE, TreeDigest};
use super::volume::EncryptedVolume;
use super::{DiskError, DiskPlan, Role, copy, sparse, table};
use crate::formats::at::{self, Window};
use crate::formats::fat::{self, FatFile};
use crate::formats::qcow2;
use crate::formats::vhd::Footer;
use crate::store::Digest;

/// What the partitions hold.
pub struct Contents<'a> {
    /// Files of the ESP.
    pub esp: &'a [FatFile<'a>],
    /// File system of `/usr`.
    pub usr: &'a File,
    /// Its hash device.
    pub verity: &'a File,
    /// What the root partition holds, where the plan has one.
    pub root: Option<&'a EncryptedVolume<'a>>,
    /// What other partitions hold, by label: those that the plan makes with a volume.
    pub others: &'a [(&'a str, EncryptedVolume<'a>)],
    /// What the signature partition holds, where the plan has one.
    pub signature: Option<&'a [u8]>,
    /// Time of the ESP's files and the VHD: seconds since the Unix epoch.
    pub time: i64,
}

/// Tree digests of what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskDigests {
    pub raw: Digest,
    pub vhd: Digest,
    /// Of each partition of the plan, in order.
    pub partitions: Vec<Digest>,
}

/// Writes the raw disk into `raw`: an empty file, open for reading and writing. It stays sparse.
///
/// # Errors
/// Contents that are not what the plan was made for, an ESP that is too full, and I/O.
pub fn write_raw(plan: &DiskPlan, contents: &Contents<'_>, raw: &File) -> Result<(), DiskError> {
    begin(plan, contents, raw)?;
    write_usr(plan, contents, raw)?;
    write_others(plan, contents, raw)
}

/// Writes the raw disk into `raw` and the fixed VHD of it into `vhd`, both at once: empty files, open for reading and
/// writing.
///
/// # Errors
/// As [`write_raw`] and [`write_vhd`].
pub fn write_both(plan: &DiskPlan, contents: &Contents<'_>, raw: &File, vhd: &File) -> Result<(), DiskError> {
    begin(plan, contents, raw)?;
    vhd.set_len(plan.spec.size)
        .map_err(DiskError::io("giving the VHD its size"))?;
    let (written, copied) = join(
        || write_usr(plan, contents, raw).and_then(|()| write_others(plan, contents, raw)),
        || write_usr(plan, contents, vhd),
    );
    written.and(copied)?;
    let usr = [Role::Usr, Role::UsrVerity].map(|role| plan.partition(role));
    let mut usr: Vec<_> = usr
        .into_iter()
        .flatten()
        .map(|partition| partition.offset..partition.offset + partition.size)
        .collect();
    usr.sort_by_key(|range| range.start);
    let copy = |range| copy::copy_range(raw, range, vhd, 0);
    sparse::data_ranges(raw, plan.spec.size)
        .map(|ranges| ranges.into_iter().flat_map(|range| sparse::outside(range, &usr)))
        .and_then(|mut ranges| ranges.try_for_each(copy))
        .map_err(DiskError::io("copying the disk image into the VHD"))?;
    write_footer(plan, vhd, contents.time)
}

/// The files of which the partitions for `/usr` are made: role, name, file, size in bytes.
fn sources<'a>(plan: &DiskPlan, contents: &Contents<'a>) -> [(Role, &'static str, &'a File, u64); 2] {
    [
        (Role::Usr, "file system of /usr", contents.usr, plan.usr_size),
        (
            Role::UsrVerity,
            "hash device of /usr",
            contents.verity,
            plan.verity_size,
        ),
    ]
}

/// Checks what is to be written, and gives `raw` its size.
fn begin(plan: &DiskPlan, contents: &Contents<'_>, raw: &File) -> Result<(), DiskError> {
    let length = |file: &File| Ok(file.metadata()?.len());
    for (_, what, file, expected) in sources(plan, contents) {
        let found = length(file).map_err(DiskError::io("asking for the size of a disk's content"))?;
        if found != expected {
            return Err(DiskError::Changed {
                what,
                expected,
                found,
            });
        }
    }
    let found = length(raw).map_err(DiskError::io("asking for the size of the disk image"))?;
    if found != 0 {
        // Whatever stands there already would show between the partitions.
        return Err(DiskError::Changed {
            what: "file for the disk image",
            expected: 0,
            found,
        });
    }
    raw.set_len(plan.spec.size)
        .map_err(DiskError::io("giving the disk image its size"))
}

/// Copies `/usr` and its hashes to where they lie on the disk.
fn write_usr(plan: &DiskPlan, contents: &Contents<'_>, disk: &File) -> Result<(), DiskError> {
    for (role, _, file, size) in sources(plan, contents) {
        if let Some(partition) = plan.partition(role) {
            sparse::copy(file, size, disk, partition.offset)
                .map_err(DiskError::io("copying /usr and its hashes into the disk image"))?;
        }
    }
    Ok(())
}

/// Writes everything else.
fn write_others(plan: &DiskPlan, contents: &Contents<'_>, raw: &File) -> Result<(), DiskError> {
    table::write(plan, raw)?;
    if let Some(esp) = plan.partition(Role::Esp) {
        let params = fat::Params {
            size: esp.size,
            volume_id: plan.esp_volume_id,
            label: "ESP",
            time: contents.time,
        };
        fat::write(&Window::new(raw, esp.offset, esp.size), params, contents.esp)?;
    }
    if let (Some(partition), Some(signature)) = (plan.partition(Role::UsrVeritySig), contents.signature) {
        at::WriteAt::write_all_at(&Window::new(raw, partition.offset, partition.size), signature, 0)
            .map_err(DiskError::io(
                "writing the signature partition into the disk image",
            ))?;
    }
    for partition in plan
        .partitions
        .iter()
        .filter(|partition| partition.role == Role::Other)
    {
        let mut volumes = contents.others.iter();
        let volume = volumes.find(|(label, _)| *label == partition.label);
        match (&partition.volume, volume) {
            (Some(ids), Some((_, volume))) => {
                let window = Window::new(raw, partition.offset, partition.size);
                volume.write(&window, partition.size, ids, contents.time)?;
            }
            (None, None) => {}
            _ => return Err(DiskError::Root),
        }
    }
    let volume = plan
        .partition(Role::Root)
        .and_then(|root| Some((root, root.volume.as_ref()?)));
    match (volume, contents.root) {
        (Some((partition, ids)), Some(volume)) => {
            let window = Window::new(raw, partition.offset, partition.size);
            volume.write(&window, partition.size, ids, contents.time)
        }
        (None, None) => Ok(()),
        _ => Err(DiskError::Root),
    }
}

/// Writes the fixed VHD of the disk in `raw` into `vhd`, an empty file: the same bytes, data only,
/// and the footer.
///
/// # Errors
/// A size or a time that a VHD cannot have, and I/O.
pub fn write_vhd(plan: &DiskPlan, raw: &File, vhd: &File, time: i64) -> Result<(), DiskError> {
    let size = plan.spec.size;
    vhd.set_len(size)
        .and_then(|()| sparse::copy(raw, size, vhd, 0))
        .map_err(DiskError::io("writing the VHD"))?;
    write_footer(plan, vhd, time)
}

/// Makes a fixed VHD of the raw disk in `disk`.
///
/// # Errors
/// A size or a time that a VHD cannot have, and I/O.
pub fn write_footer(plan: &DiskPlan, disk: &File, time: i64) -> Result<(), DiskError> {
    disk.write_all_at(&footer(plan, time)?, plan.spec.size)
        .map_err(DiskError::io("writing the VHD's footer"))
}

/// Writes the qcow2 image of the disk in `raw` into `out`, an empty file.
///
/// # Errors
/// I/O.
pub fn write_qcow2(plan: &DiskPlan, raw: &File, out: &File) -> Result<(), DiskError> {
    let size = plan.spec.size;
    let data =
        sparse::data_ranges(raw, size).map_err(DiskError::io("asking where the disk image has data"))?;
    qcow2::write(raw, size, &data, out)?;
    Ok(())
}

fn footer(plan: &DiskPlan, time: i64) -> Result<[u8; 512], DiskError> {
    let size = plan.spec.size;
    let footer = Footer {
        size,
        uuid: plan.vhd_uuid,
        time,
    };
    footer
        .to_bytes()
        .map_err(|source| DiskError::Vhd { size, source })
}

impl DiskDigests {
    /// The digests of the disk in `raw`, of the VHD that [`write_vhd`] makes of it, and of the
    /// partitions; the data is read once.
    ///
    /// # Errors
    /// As [`write_vhd`].
    pub fn of(plan: &DiskPlan, raw: &File, time: i64) -> Result<Self, DiskError> {
        Self::with_known(plan, raw, time, &[])
    }

    /// As [`DiskDigests::of`], with the digests of the chunks that the file system of `/usr` fills: they are not read.
    ///
    /// # Errors
    /// As [`write_vhd`].
    pub fn with_known(plan: &DiskPlan, raw: &File, time: i64, usr: &[Digest]) -> Result<Self, DiskError> {
        let footer = footer(plan, time)?;
        let start = plan.partition(Role::Usr).map(|usr| usr.offset / CHUNK_SIZE);
        let known = |chunk: usize| {
            let index = (chunk as u64).checked_sub(start?)?;
            usr.get(usize::try_from(index).ok()?).copied()
        };
        let tree = TreeDigest::of_known(raw, plan.spec.size, known)
            .map_err(DiskError::io("reading the disk image for its digest"))?;
        let ranges = plan.partitions.iter();
        Ok(Self {
            raw: tree.root(),
            partitions: ranges
                .filter_map(|partition| tree.range(partition.offset, partition.size))
                .collect(),
            vhd: tree.with_tail(&footer).root(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::path::{Path, PathBuf};

    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::disk::{Arch, DiskSpec, Slots, Usr};
    use crate::formats::at::Content;
    use crate::formats::testing::{noise, output, run, tool};
    use crate::formats::verity::{self, Algorithm};

    const MIB: u64 = 1 << 20;
    const TIME: i64 = 1_763_683_199;

    struct Made {
        plan: DiskPlan,
        dir: tempfile::TempDir,
        root_hash: String,
        digests: DiskDigests,
        loader: Vec<u8>,
        kernel: Vec<u8>,
    }

    fn create(path: &Path) -> File {
        let mut options = File::options();
        options
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .unwrap()
    }

    /// Contents of a disk that is unsigned and whose root partition is left to the first boot.
    fn contents<'a>(esp: &'a [FatFile<'a>], usr: &'a File, verity: &'a File) -> Contents<'a> {
        Contents {
            esp,
            usr,
            verity,
            root: None,
            others: &[],
            time: TIME,
            signature: None,
        }
    }

    /// A disk with a `/usr` of noise around a hole.
    fn make(slots: Slots) -> Made {
        let dir = tempfile::tempdir().unwrap();
        let usr_size = 5 * MIB + 12_288;
        let usr = create(&dir.path().join("usr"));
        usr.set_len(usr_size).unwrap();
        usr.write_all_at(&noise(1, 1_000_000), 0).unwrap();
        usr.write_all_at(&noise(2, 8192), usr_size - 8192).unwrap();
        let verity = create(&dir.path().join("verity"));
        let params = verity::Params {
            algorithm: Algorithm::Sha256,
            salt: noise(3, 32),
            uuid: crate::disk::derive_uuid("verity", b"seed"),
        };
        let root_hash = verity::format(&usr, usr_size, &verity, &params).unwrap();
        let spec = DiskSpec {
            arch: Arch::X86_64,
            image_id: "sample".to_owned(),
            version: "1.0".to_owned(),
            size: 256 * MIB,
            esp_size: 64 * MIB,
            slot_size: None,
            slots,
            signed: false,
            fec_roots: None,
            min_root_size: 64 * MIB,
            root_in_image: false,
            others: Vec::new(),
        };
        let content = Usr {
            size: usr_size,
            verity_size: verity.metadata().unwrap().len(),
            algorithm: Algorithm::Sha256,
            root_hash: &root_hash,
        };
        let plan = DiskPlan::new(&spec, content, b"seed").unwrap();
        let (loader, kernel) = (noise(4, 100_000), noise(5, 2_000_000));
        let esp = [
            FatFile {
                path: "EFI/BOOT/BOOTX64.EFI",
                content: Content::bytes(&loader),
            },
            FatFile {
                path: "EFI/Linux/sample_1.0+3.efi",
                content: Content::bytes(&kernel),
            },
        ];
        let contents = contents(&esp, &usr, &verity);
        let raw = create(&dir.path().join("disk.raw"));
        write_raw(&plan, &contents, &raw).unwrap();
        write_vhd(&plan, &raw, &create(&dir.path().join("disk.vhd")), TIME).unwrap();
        let digests = DiskDigests::of(&plan, &raw, TIME).unwrap();
        Made {
            plan,
            dir,
            root_hash: crate::store::hex(&root_hash),
            digests,
            loader,
            kernel,
        }
    }

    impl Made {
        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn text(&self, name: &str) -> String {
            self.path(name).to_str().unwrap().to_owned()
        }

        /// A partition's bytes as a file.
        fn extract(&self, role: Role, name: &str) -> String {
            let partition = self.plan.partition(role).unwrap();
            let mut bytes = vec![0; partition.size as usize];
            let raw = File::open(self.path("disk.raw")).unwrap();
            raw.read_exact_at(&mut bytes, partition.offset).unwrap();
            fs::write(self.path(name), bytes).unwrap();
            self.text(name)
        }
    }

    #[test]
    fn both_at_once_are_what_one_after_the_other_is() {
        let made = make(Slots::AAndB);
        let open = |name| File::open(made.path(name)).unwrap();
        let (usr, verity) = (open("usr"), open("verity"));
        let esp = [FatFile {
            path: "EFI/BOOT/BOOTX64.EFI",
            content: Content::bytes(&made.loader),
        }];
        let contents = contents(&esp, &usr, &verity);
        let [raw, vhd, plain_raw, plain_vhd] =
            ["both.raw", "both.vhd", "plain.raw", "plain.vhd"].map(|name| create(&made.path(name)));
        write_both(&made.plan, &contents, &raw, &vhd).unwrap();
        write_raw(&made.plan, &contents, &plain_raw).unwrap();
        write_vhd(&made.plan, &plain_raw, &plain_vhd, TIME).unwrap();
        let bytes = |name| fs::read(made.path(name)).unwrap();
        assert!(bytes("both.raw") == bytes("plain.raw"), "raw");
        assert!(bytes("both.vhd") == bytes("plain.vhd"), "vhd");
        assert!(vhd.metadata().unwrap().blocks() * 512 < 32 * MIB, "it is sparse");

        let content = fs::read(made.path("usr")).unwrap();
        let chunks: Vec<_> = content
            .chunks(CHUNK_SIZE as usize)
            .map(crate::disk::padded_chunk)
            .collect();
        let read = DiskDigests::of(&made.plan, &raw, TIME).unwrap();
        assert_eq!(
            DiskDigests::with_known(&made.plan, &raw, TIME, &chunks).unwrap(),
            read
        );
        let others = vec![Digest::of(b"other"); chunks.len()];
        let wrong = DiskDigests::with_known(&made.plan, &raw, TIME, &others).unwrap();
        assert_ne!(wrong, read, "what is known is taken");
    }

    #[test]
    fn sgdisk_and_sfdisk_agree_with_the_plan() {
        if !tool("sgdisk") || !tool("sfdisk") {
            return;
        }
        for (slots, count) in [(Slots::A, 3), (Slots::AAndB, 5)] {
            let made = make(slots);
            let text = run("sgdisk", ["-v", &made.text("disk.raw")]);
            assert!(text.contains("No problems found"), "{text}");
            assert!(
                !text.to_lowercase().contains("warning") && !text.contains("Caution"),
                "{text}"
            );
            let json = run("sfdisk", ["--json", &made.text("disk.raw")]);
            let table: serde_json::Value = serde_json::from_str(&json).unwrap();
            let table = &table["partitiontable"];
            assert_eq!(table["label"], "gpt");
            assert_eq!(table["id"], made.plan.disk_uuid.to_string().to_uppercase());
            assert_eq!(table["firstlba"], 34);
            assert_eq!(table["lastlba"], 256 * 2048 - 34);
            let found = table["partitions"].as_array().unwrap();
            assert_eq!(found.len(), count);
            for (found, planned) in found.iter().zip(&made.plan.partitions) {
                assert_eq!(found["start"], planned.offset / 512);
                assert_eq!(found["size"], planned.size / 512);
                assert_eq!(found["type"], planned.type_uuid.to_string().to_uppercase());
                assert_eq!(found["uuid"], planned.uuid.to_string().to_uppercase());
                assert_eq!(found["name"], planned.label.as_str());
                let read_only = planned.role != Role::Esp;
                let attributes = found.get("attrs").and_then(|value| value.as_str());
                assert_eq!(attributes, read_only.then_some("GUID:60"));
                assert_eq!(planned.offset % MIB, 0);
            }
            assert_eq!(found[0]["type"], "C12A7328-F81F-11D2-BA4B-00A0C93EC93B");
            let hash = |at: std::ops::Range<usize>| made.root_hash[at].to_uppercase();
            let plain = |index: usize| found[index]["uuid"].as_str().unwrap().replace('-', "");
            assert_eq!(plain(1), hash(0..32));
            assert_eq!(plain(2), hash(32..64));
        }
    }

    #[test]
    fn partitions_hold_what_they_should() {
        let made = make(Slots::A);
        if tool("fsck.vfat") && tool("mcopy") {
            let esp = made.extract(Role::Esp, "esp");
            let text = run("fsck.vfat", ["-n", &esp]);
            assert_eq!(text.lines().count(), 2, "{text}");
            let copies = [
                ("EFI/BOOT/BOOTX64.EFI", &made.loader),
                ("EFI/Linux/sample_1.0+3.efi", &made.kernel),
            ];
            for (path, bytes) in copies {
                let copy = made.text("copy");
                run("mcopy", ["-n", "-o", "-i", &esp, &format!("::{path}"), &copy]);
                assert!(fs::read(copy).unwrap() == *bytes, "{path}");
            }
        }
        if tool("veritysetup") {
            let (usr, hash) = (made.extract(Role::Usr, "u"), made.extract(Role::UsrVerity, "v"));
            run("veritysetup", ["verify", &usr, &hash, &made.root_hash]);
            let wrong = made.root_hash.replace(|c| c != '0', "0");
            assert!(!output("veritysetup", ["verify", &usr, &hash, &wrong]).0);
        }
    }

    #[test]
    fn qemu_sees_one_disk_in_all_files() {
        if !tool("qemu-img") {
            return;
        }
        let made = make(Slots::AAndB);
        let (raw, vhd) = (made.text("disk.raw"), made.text("disk.vhd"));
        let info = run("qemu-img", ["info", "--output=json", "-f", "vpc", &vhd]);
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        assert_eq!(info["virtual-size"], 256 * MIB);
        let text = run("qemu-img", ["compare", "-f", "raw", "-F", "vpc", &raw, &vhd]);
        assert!(text.contains("Images are identical"), "{text}");
        assert_eq!(fs::metadata(&vhd).unwrap().len(), 256 * MIB + 512);
        let open = File::open(&raw).unwrap();
        let qcow2 = made.text("disk.qcow2");
        write_qcow2(&made.plan, &open, &create(Path::new(&qcow2))).unwrap();
        run("qemu-img", ["check", "-f", "qcow2", &qcow2]);
        run("qemu-img", ["compare", "-f", "raw", "-F", "qcow2", &raw, &qcow2]);
    }

    #[test]
    fn disks_are_sparse_and_equal_twice() {
        let (a, b) = (make(Slots::A), make(Slots::A));
        assert_eq!(a.plan, b.plan);
        assert_eq!(a.digests, b.digests);
        for name in ["disk.raw", "disk.vhd"] {
            let used = fs::metadata(a.path(name)).unwrap().blocks() * 512;
            assert!(used < 8 * MIB, "{name}: {used} bytes on disk");
        }
    }

    #[test]
    fn tree_digests_are_those_of_a_plain_reading() {
        let made = make(Slots::A);
        let plain = |name: &str| {
            let bytes = fs::read(made.path(name)).unwrap();
            let mut outer = Sha256::new();
            for chunk in bytes.chunks(MIB as usize) {
                outer.update(Sha256::digest(chunk));
            }
            Digest::finish(outer)
        };
        assert_eq!(plain("disk.raw"), made.digests.raw);
        assert_eq!(plain("disk.vhd"), made.digests.vhd);
        made.extract(Role::Usr, "u");
        assert_eq!(plain("u"), made.digests.partitions[1]);
        assert_eq!(made.digests.partitions.len(), made.plan.partitions.len());
    }

    #[test]
    fn content_that_changed_after_planning_is_refused() {
        let made = make(Slots::A);
        let usr = File::options().write(true).open(made.path("usr")).unwrap();
        usr.set_len(4096).unwrap();
        let open = |name: &str| File::open(made.path(name)).unwrap();
        let (usr, verity) = (open("usr"), open("verity"));
        let contents = contents(&[], &usr, &verity);
        let error = write_raw(&made.plan, &contents, &create(&made.path("new"))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the file system of /usr has 4096 bytes where the plan was made for 5255168"
        );
    }
}
