//! What systemd-repart must be told, so that first boot completes the same layout.

use super::layout::{DiskSpec, SIGNATURE_SIZE, hash_partition_size};
use super::{Role, Slot};
use uuid::Uuid;

use crate::formats::verity::Algorithm;

/// A definition of `repart.d`. They are matched to the disk's partitions by type, in order, so all
/// must be written, in the order given here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepartPartition {
    /// Stem of a file name that sorts in this order: `10-esp`.
    pub file_stem: String,
    pub role: Role,
    pub slot: Option<Slot>,
    /// The label where the partition is made anew.
    pub label: String,
    pub min_size: u64,
    /// `None` where the partition takes what the disk has left.
    pub max_size: Option<u64>,
    /// Whether `ReadOnly=yes` must be said; repart would make slot B of `/usr` writable, and grown
    /// at every boot, otherwise.
    pub read_only: bool,
    /// The partition type, where the role does not say it.
    pub type_uuid: Option<Uuid>,
}

/// The definitions for the layout of `spec` with slots of `slot_size` bytes.
pub fn repart_partitions(spec: &DiskSpec, slot_size: u64, algorithm: Algorithm) -> Vec<RepartPartition> {
    let hash_size = hash_partition_size(spec, slot_size, algorithm);
    let fixed = |stem: &str, role, slot, label: &str, size| RepartPartition {
        file_stem: stem.to_owned(),
        role,
        slot,
        label: label.to_owned(),
        min_size: size,
        max_size: Some(size),
        read_only: role.is_sealed(),
        type_uuid: None,
    };
    let own = spec.label();
    let mut partitions = vec![
        fixed("10-esp", Role::Esp, None, "esp", spec.esp_size),
        fixed("20-usr-a", Role::Usr, Some(Slot::A), &own, slot_size),
        fixed("21-usr-verity-a", Role::UsrVerity, Some(Slot::A), &own, hash_size),
        fixed("30-usr-b", Role::Usr, Some(Slot::B), "_empty", slot_size),
        fixed(
            "31-usr-verity-b",
            Role::UsrVerity,
            Some(Slot::B),
            "_empty",
            hash_size,
        ),
        RepartPartition {
            max_size: None,
            ..fixed("50-root", Role::Root, None, "root", spec.min_root_size)
        },
    ];
    if spec.signed {
        let signature =
            |stem, slot, label| fixed(stem, Role::UsrVeritySig, Some(slot), label, SIGNATURE_SIZE);
        partitions.insert(3, signature("22-usr-verity-sig-a", Slot::A, own.as_str()));
        partitions.insert(6, signature("32-usr-verity-sig-b", Slot::B, "_empty"));
    }
    let others = spec
        .others
        .iter()
        .enumerate()
        .map(|(index, other)| RepartPartition {
            max_size: other.max_size,
            type_uuid: Some(other.type_uuid),
            ..fixed(
                &format!("{}-{}", 40 + index, other.label),
                Role::Other,
                None,
                &other.label,
                other.min_size,
            )
        });
    let root = partitions.len() - 1;
    partitions.splice(root..root, others);
    partitions
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::disk::{Arch, Contents, DiskPlan, OtherPartition, Slots, Usr, write_raw};
    use crate::formats::testing::{noise, output, run, tool};

    const MIB: u64 = 1 << 20;

    /// Label, offset, size and what would be done, of every partition that repart knows.
    fn view(definitions: &str, disk: &str) -> Vec<(String, u64, u64, String)> {
        let definitions = format!("--definitions={definitions}");
        // Pending changes make a dry run fail; the plan is on the last line.
        let (_, text) = output(
            "systemd-repart",
            ["--dry-run=yes", "--json=short", &definitions, disk],
        );
        let line = text
            .lines()
            .find(|line| line.starts_with('['))
            .unwrap_or_else(|| panic!("{text}"));
        let rows: Vec<serde_json::Value> = serde_json::from_str(line).unwrap();
        rows.iter()
            .map(|row| {
                let text = |key: &str| row[key].as_str().unwrap().to_owned();
                let number = |key: &str| row[key].as_u64().unwrap();
                (
                    text("label"),
                    number("offset"),
                    number("raw_size"),
                    text("activity"),
                )
            })
            .collect()
    }

    fn other(label: &str, least: u64, most: Option<u64>) -> OtherPartition {
        OtherPartition {
            label: label.to_owned(),
            type_uuid: Role::Other.type_uuid(Arch::X86_64),
            min_size: least,
            max_size: most,
            volume: false,
        }
    }

    #[test]
    fn first_boot_completes_the_disk_and_second_boot_changes_nothing() {
        if !tool("systemd-repart") || !tool("sgdisk") {
            return;
        }
        for slots in [Slots::A, Slots::AAndB] {
            let dir = tempfile::tempdir().unwrap();
            let text = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
            let create = |name: &str, bytes: &[u8]| {
                fs::write(text(name), bytes).unwrap();
                File::options().read(true).write(true).open(text(name)).unwrap()
            };
            let spec = DiskSpec {
                arch: Arch::X86_64,
                image_id: "sample".to_owned(),
                version: "1.0".to_owned(),
                size: 256 * MIB,
                esp_size: 64 * MIB,
                slot_size: Some(10 * MIB),
                slots,
                signed: false,
                fec_roots: None,
                min_root_size: 64 * MIB,
                root_in_image: false,
                others: vec![
                    other("swap", 8 * MIB, Some(8 * MIB)),
                    other("data", 16 * MIB, Some(32 * MIB)),
                ],
            };
            let root_hash = noise(1, 32);
            let usr = Usr {
                size: 8192,
                verity_size: 4096,
                algorithm: Algorithm::Sha256,
                root_hash: &root_hash,
            };
            let plan = DiskPlan::new(&spec, usr, b"seed").unwrap();
            let contents = Contents {
                esp: &[],
                usr: &create("usr", &[1; 8192]),
                verity: &create("verity", &[2; 4096]),
                root: None,
                others: &[],
                time: 1_700_000_000,
                signature: None,
            };
            let raw = create("disk", b"");
            write_raw(&plan, &contents, &raw).unwrap();
            // The machine's disk is larger than the image.
            raw.set_len(spec.size + 100 * MIB).unwrap();
            fs::create_dir(text("repart.d")).unwrap();
            for definition in repart_partitions(&spec, plan.slot_size, Algorithm::Sha256) {
                let mut lines = format!(
                    "[Partition]\nType={}\nLabel={}\nSizeMinBytes={}\nReadOnly={}\n",
                    definition
                        .type_uuid
                        .unwrap_or_else(|| definition.role.type_uuid(spec.arch)),
                    definition.label,
                    definition.min_size,
                    definition.read_only
                );
                if let Some(size) = definition.max_size {
                    lines += &format!("SizeMaxBytes={size}\n");
                }
                fs::write(text(&format!("repart.d/{}.conf", definition.file_stem)), lines).unwrap();
            }

            let before = view(&text("repart.d"), &text("disk"));
            assert_eq!(before.len(), 8);
            for (row, partition) in before.iter().zip(&plan.partitions) {
                let (label, offset, size, activity) = row;
                let kept = (label.as_str(), *offset, *size, activity.as_str());
                let planned = (
                    partition.label.as_str(),
                    partition.offset,
                    partition.size,
                    "unchanged",
                );
                assert_eq!(kept, planned);
            }
            for row in &before[plan.partitions.len()..] {
                assert_eq!(row.3, "create", "{row:?}");
            }
            assert_eq!(
                (before[3].0.as_str(), before[3].2, before[4].2),
                ("_empty", 10 * MIB, MIB)
            );

            let definitions = format!("--definitions={}", text("repart.d"));
            run("systemd-repart", ["--dry-run=no", &definitions, &text("disk")]);
            let after = view(&text("repart.d"), &text("disk"));
            assert!(after.iter().all(|row| row.3 == "unchanged"), "{after:?}");
            assert_eq!((after[5].0.as_str(), after[5].2), ("swap", 8 * MIB));
            let data = &after[6];
            assert_eq!(data.0, "data");
            assert!((16 * MIB..=32 * MIB).contains(&data.2), "{after:?}");
            let places = |rows: &[(String, u64, u64, String)]| -> Vec<_> {
                rows[..6].iter().map(|row| (row.1, row.2)).collect()
            };
            assert_eq!(places(&after), places(&before));
            // All of the larger disk: only a run that writes knows its size.
            let (label, offset, size, _) = &after[7];
            assert_eq!(label, "root");
            let end = spec.size + 100 * MIB;
            assert!((end - MIB..end).contains(&(offset + size)), "{after:?}");
            let table = run("sgdisk", ["-v", &text("disk")]);
            assert!(table.contains("No problems found"), "{table}");
            let attributes = run("sgdisk", ["-i", "4", &text("disk")]);
            assert!(
                attributes.contains("Attribute flags: 1000000000000000"),
                "{attributes}"
            );
            let mut usr = [0; 8192];
            raw.read_exact_at(&mut usr, plan.partitions[1].offset).unwrap();
            assert_eq!(usr, [1; 8192]);
        }
    }
}
