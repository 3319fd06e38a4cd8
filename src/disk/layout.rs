//! The "verity-usr" layout: ESP, `/usr` and its hash tree in slots, root made at first boot or in the image.

use uuid::Uuid;

use super::guid::{derive, derive_uuid};
use super::volume::VolumeIds;
use super::{ALIGNMENT, Arch, DiskError, Role, budget};
use crate::formats::fec;
use crate::formats::verity::{Algorithm, hash_device_size};

/// GPT's name field, in UTF-16 units.
const LONGEST_LABEL: usize = 36;
/// Bytes of a signature partition: more than any signature takes, and systemd reads 4 MiB at most.
pub(super) const SIGNATURE_SIZE: u64 = ALIGNMENT;
/// Label of a slot without content, which systemd's tools look for.
const EMPTY: &str = "_empty";
/// Discoverable Partitions Specification: the partition is not to be written.
const READ_ONLY: u64 = 1 << 60;
/// The same: not to be used by whoever finds it.
const NO_AUTO: u64 = 1 << 63;
/// The same: its file system is to be grown to the partition's size.
const GROW_FILE_SYSTEM: u64 = 1 << 59;

/// What a definition says of its disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSpec {
    pub arch: Arch,
    pub image_id: String,
    pub version: String,
    /// Bytes of the whole disk; whole MiB, as all sizes here.
    pub size: u64,
    pub esp_size: u64,
    /// Bytes of a slot for `/usr`; by default, half as much again as the content.
    pub slot_size: Option<u64>,
    pub slots: Slots,
    /// Whether each slot has a partition for the signature of its root hash.
    pub signed: bool,
    /// Bytes of parity for each code word, where damaged blocks of `/usr` can be mended: behind the hash tree.
    pub fec_roots: Option<u8>,
    /// Bytes that must be left for the root partition.
    pub min_root_size: u64,
    /// Whether the root partition stands in the image, at its end; then both slots do, since nothing could be made
    /// behind it that would not keep it from growing with the disk.
    pub root_in_image: bool,
    /// What stands before the root partition, in order; in the image where that is.
    pub others: Vec<OtherPartition>,
}

/// A partition that a definition declares beside those of the layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherPartition {
    pub label: String,
    pub type_uuid: Uuid,
    /// Bytes that it has at least, and at most.
    pub min_size: u64,
    pub max_size: Option<u64>,
    /// Whether it is made with an encrypted volume, which only one in the image can be.
    pub volume: bool,
}

/// Which slots stand in the image; the others are made at first boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slots {
    A,
    AAndB,
}

/// One of the two places for `/usr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub enum Slot {
    A,
    B,
}

/// The sealed `/usr` that goes into slot A.
#[derive(Debug, Clone, Copy)]
pub struct Usr<'a> {
    /// Bytes of the file system.
    pub size: u64,
    /// Bytes of the hash device, parity included.
    pub verity_size: u64,
    pub algorithm: Algorithm,
    pub root_hash: &'a [u8],
}

/// A partition of the image.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Partition {
    /// Its number in the table, from 1.
    pub number: u32,
    pub role: Role,
    pub slot: Option<Slot>,
    pub label: String,
    pub type_uuid: Uuid,
    pub uuid: Uuid,
    /// Bytes from the start of the disk.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// GPT attribute bits.
    pub attributes: u64,
    /// Of the encrypted volume that it is made with.
    pub volume: Option<VolumeIds>,
}

/// A disk, planned to the byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskPlan {
    pub spec: DiskSpec,
    pub slot_size: u64,
    pub disk_uuid: Uuid,
    pub partitions: Vec<Partition>,
    /// Bytes of `/usr`'s file system and of its hash device.
    pub usr_size: u64,
    pub verity_size: u64,
    /// Serial number of the ESP's file system.
    pub esp_volume_id: u32,
    pub vhd_uuid: Uuid,
}

impl DiskSpec {
    /// Label of the partitions that hold this version: `<id>_<version>`.
    pub fn label(&self) -> String {
        format!("{}_{}", self.image_id, self.version)
    }

    /// Whether [`DiskSpec::label`] fits and can be written on a command line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_label(&self) -> Result<(), DiskError> {
        let label = self.label();
        let units = label.encode_utf16().count();
        if units > LONGEST_LABEL {
            return Err(DiskError::Label { label, units });
        }
        if label.contains(|c: char| c.is_control() || c.is_whitespace() || c == '/') {
            return Err(DiskError::LabelCharacter(label));
        }
        Ok(())
    }
}

/// Bytes of the hash partition of a slot of `slot_size` bytes: enough for whatever the slot may
/// come to hold.
pub(super) fn hash_partition_size(spec: &DiskSpec, slot_size: u64, algorithm: Algorithm) -> u64 {
    let tree = hash_device_size(slot_size, algorithm);
    let parity = spec.fec_roots.map(|roots| fec::area_size(slot_size, tree, roots));
    tree.saturating_add(parity.unwrap_or(0))
        .next_multiple_of(ALIGNMENT)
}

impl DiskPlan {
    /// Plans the disk of `spec` with `usr` in slot A. What is not given is derived from `seed`,
    /// which stands for definition and content.
    ///
    /// # Errors
    /// Every way in which the parts do not fit.
    pub fn new(spec: &DiskSpec, usr: Usr<'_>, seed: &[u8]) -> Result<Self, DiskError> {
        let slot_size = spec
            .slot_size
            .unwrap_or_else(|| budget::default_slot_size(usr.size));
        budget::check_disk(spec, slot_size, usr.algorithm)?;
        let hash_size = hash_partition_size(spec, slot_size, usr.algorithm);
        if usr.size > slot_size || usr.verity_size > hash_size {
            return Err(DiskError::SlotTooSmall {
                slot: slot_size,
                content: usr.size,
                wanted: budget::default_slot_size(usr.size),
            });
        }
        let hash = usr.root_hash;
        let (Some(head), Some(tail)) = (hash.first_chunk::<16>(), hash.last_chunk::<16>()) else {
            return Err(DiskError::RootHash(hash.len()));
        };
        let label = spec.label();
        let mut partitions = Partitions {
            arch: spec.arch,
            next: ALIGNMENT,
            list: Vec::new(),
        };
        let empty = |role: Role| derive_uuid(&format!("{} B", role.name()), seed);
        partitions.add(Role::Esp, None, "esp", derive_uuid("esp", seed), spec.esp_size);
        let mut slot_a = vec![
            (Role::Usr, Uuid::from_bytes(*head), slot_size),
            (Role::UsrVerity, Uuid::from_bytes(*tail), hash_size),
        ];
        if spec.signed {
            let uuid = derive_uuid(Role::UsrVeritySig.name(), seed);
            slot_a.push((Role::UsrVeritySig, uuid, SIGNATURE_SIZE));
        }
        for &(role, uuid, size) in &slot_a {
            partitions.add(role, Some(Slot::A), &label, uuid, size);
        }
        if spec.slots == Slots::AAndB || spec.root_in_image {
            for &(role, _, size) in &slot_a {
                partitions.add(role, Some(Slot::B), EMPTY, empty(role), size);
            }
        }
        if spec.root_in_image {
            for other in &spec.others {
                partitions.add_other(other, seed);
            }
            // `check_disk` has left room for it, and for the table's copy behind it.
            let size = spec.size - ALIGNMENT - partitions.next;
            partitions.add(Role::Root, None, "root", derive_uuid("root", seed), size);
            if let Some(root) = partitions.list.last_mut() {
                root.volume = Some(VolumeIds::new("root", seed));
            }
        }
        let [a, b, c, d, ..] = derive("esp volume id", seed);
        Ok(Self {
            spec: spec.clone(),
            slot_size,
            disk_uuid: derive_uuid("disk", seed),
            partitions: partitions.list,
            usr_size: usr.size,
            verity_size: usr.verity_size,
            esp_volume_id: u32::from_le_bytes([a, b, c, d]),
            vhd_uuid: derive_uuid("vhd", seed),
        })
    }

    /// The partition of `role` that has content: the ESP, or one of slot A.
    pub fn partition(&self, role: Role) -> Option<&Partition> {
        self.partitions
            .iter()
            .find(|partition| partition.role == role && partition.slot != Some(Slot::B))
    }
}

struct Partitions {
    arch: Arch,
    next: u64,
    list: Vec<Partition>,
}

impl Partitions {
    fn add(&mut self, role: Role, slot: Option<Slot>, label: &str, uuid: Uuid, size: u64) {
        self.list.push(Partition {
            number: self.list.len() as u32 + 1,
            role,
            slot,
            label: label.to_owned(),
            type_uuid: role.type_uuid(self.arch),
            uuid,
            offset: self.next,
            size,
            attributes: match role {
                Role::Other => NO_AUTO,
                Role::Root => GROW_FILE_SYSTEM,
                role if role.is_sealed() => READ_ONLY,
                _ => 0,
            },
            volume: None,
        });
        self.next += size;
    }

    fn add_other(&mut self, other: &OtherPartition, seed: &[u8]) {
        // No name of another partition holds a colon.
        let name = format!("other:{}", other.label);
        let uuid = derive_uuid(&name, seed);
        self.add(Role::Other, None, &other.label, uuid, other.min_size);
        if let Some(partition) = self.list.last_mut() {
            partition.type_uuid = other.type_uuid;
            partition.volume = other.volume.then(|| VolumeIds::new(&name, seed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::repart_partitions;

    const MIB: u64 = 1 << 20;

    fn spec() -> DiskSpec {
        DiskSpec {
            arch: Arch::Aarch64,
            image_id: "id".to_owned(),
            version: "2.0".to_owned(),
            size: 4096 * MIB,
            esp_size: 512 * MIB,
            slot_size: Some(1024 * MIB),
            slots: Slots::AAndB,
            signed: false,
            fec_roots: None,
            min_root_size: 1024 * MIB,
            root_in_image: false,
            others: Vec::new(),
        }
    }

    #[test]
    fn a_root_in_the_image_takes_the_rest_behind_both_slots() {
        let hash = [7; 32];
        let spec = DiskSpec {
            slots: Slots::A,
            root_in_image: true,
            ..spec()
        };
        let plan = DiskPlan::new(&spec, usr(100 * MIB, &hash), b"seed").unwrap();
        let roles: Vec<Role> = plan.partitions.iter().map(|partition| partition.role).collect();
        let slot = [Role::Usr, Role::UsrVerity];
        assert_eq!(roles, [&[Role::Esp][..], &slot, &slot, &[Role::Root]].concat());
        let root = plan.partition(Role::Root).unwrap();
        assert_eq!((root.offset, root.size), (2579 * MIB, (4096 - 1 - 2579) * MIB));
        assert_eq!((root.label.as_str(), root.attributes), ("root", 1 << 59));
        let ids = root.volume.unwrap();
        assert_ne!(ids.luks, ids.file_system);
        let other = DiskPlan::new(&spec, usr(MIB, &hash), b"other").unwrap();
        assert_ne!(
            other.partition(Role::Root).unwrap().volume.unwrap().luks,
            ids.luks
        );
        let last = repart_partitions(&spec, plan.slot_size, Algorithm::Sha256)
            .pop()
            .unwrap();
        assert_eq!((last.role, last.max_size), (Role::Root, None));
    }

    fn usr(size: u64, root_hash: &[u8]) -> Usr<'_> {
        Usr {
            size,
            verity_size: hash_device_size(size, Algorithm::Sha256),
            algorithm: Algorithm::Sha256,
            root_hash,
        }
    }

    #[test]
    fn partitions_follow_one_another_and_repart_sees_the_same_sizes() {
        let hash: Vec<u8> = (0..32).collect();
        let plan = DiskPlan::new(&spec(), usr(100 * MIB, &hash), b"seed").unwrap();
        let rows: Vec<_> = plan
            .partitions
            .iter()
            .map(|p| (p.number, p.role, p.label.as_str(), p.offset / MIB, p.size / MIB))
            .collect();
        // 1 GiB of data has 2049+16+1 hash blocks and a superblock: 8.07 MiB.
        let expected = [
            (1, Role::Esp, "esp", 1, 512),
            (2, Role::Usr, "id_2.0", 513, 1024),
            (3, Role::UsrVerity, "id_2.0", 1537, 9),
            (4, Role::Usr, "_empty", 1546, 1024),
            (5, Role::UsrVerity, "_empty", 2570, 9),
        ];
        assert_eq!(rows, expected);
        assert_eq!(
            plan.partitions[1].uuid.to_string(),
            "00010203-0405-0607-0809-0a0b0c0d0e0f"
        );
        assert_eq!(
            plan.partitions[2].uuid.to_string(),
            "10111213-1415-1617-1819-1a1b1c1d1e1f"
        );
        let mut uuids: Vec<_> = plan.partitions.iter().map(|p| p.uuid).collect();
        uuids.extend([plan.disk_uuid, plan.vhd_uuid]);
        uuids.sort();
        uuids.dedup();
        assert_eq!(uuids.len(), 7, "every UUID is another");
        let repart = repart_partitions(&spec(), plan.slot_size, Algorithm::Sha256);
        assert!(repart.is_sorted_by(|a, b| a.file_stem < b.file_stem));
        for (definition, partition) in repart.iter().zip(&plan.partitions) {
            assert_eq!(definition.role, partition.role);
            assert_eq!(definition.slot, partition.slot);
            assert_eq!(definition.label, partition.label);
            assert_eq!(definition.min_size, partition.size);
            assert_eq!(definition.max_size, Some(partition.size));
            assert_eq!(definition.read_only, partition.attributes == 1 << 60);
        }
        let root = repart.last().unwrap();
        assert_eq!(
            (root.min_size, root.max_size, root.read_only),
            (1024 * MIB, None, false)
        );
    }

    #[test]
    fn each_slot_has_a_partition_for_its_signature() {
        let hash = [7; 32];
        let spec = DiskSpec {
            signed: true,
            fec_roots: None,
            size: 3606 * MIB,
            ..spec()
        };
        let plan = DiskPlan::new(&spec, usr(100 * MIB, &hash), b"seed").unwrap();
        let rows: Vec<_> = plan
            .partitions
            .iter()
            .map(|p| (p.role, p.slot, p.size / MIB, p.attributes))
            .collect();
        let slot = |slot| {
            let sizes = [(Role::Usr, 1024), (Role::UsrVerity, 9), (Role::UsrVeritySig, 1)];
            sizes.map(|(role, size)| (role, Some(slot), size, READ_ONLY))
        };
        let esp = (Role::Esp, None, 512, 0);
        assert_eq!(
            rows,
            [vec![esp], slot(Slot::A).into(), slot(Slot::B).into()].concat()
        );
        let repart = repart_partitions(&spec, plan.slot_size, Algorithm::Sha256);
        assert!(repart.is_sorted_by(|a, b| a.file_stem < b.file_stem));
        assert_eq!(repart.len(), 8);
        for (definition, partition) in repart.iter().zip(&plan.partitions) {
            let found = (
                definition.role,
                definition.slot,
                &definition.label,
                definition.min_size,
            );
            assert_eq!(
                found,
                (partition.role, partition.slot, &partition.label, partition.size)
            );
            assert!(definition.read_only == (partition.attributes == READ_ONLY));
        }
        let small = DiskSpec {
            size: 3605 * MIB,
            ..spec
        };
        assert!(DiskPlan::new(&small, usr(MIB, &hash), b"").is_err());
    }

    #[test]
    fn what_does_not_fit_is_refused_with_figures() {
        type Change = fn(&mut DiskSpec);
        let hash = [7; 32];
        let refuse = |change: Change, size| {
            let mut spec = spec();
            change(&mut spec);
            DiskPlan::new(&spec, usr(size, &hash), b"")
                .unwrap_err()
                .to_string()
        };
        let table: [(Change, &str); 5] = [
            (
                |spec| spec.image_id = "x".repeat(33),
                "the partition label `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx_2.0` has 37 UTF-16 units; GPT holds 36",
            ),
            (
                |spec| spec.version = "2 0".to_owned(),
                "the partition label `id_2 0` holds a control character, a blank or a slash",
            ),
            (
                |spec| spec.esp_size += 512,
                "the ESP of 536871424 bytes is not a whole, positive number of MiB",
            ),
            (
                |spec| spec.slot_size = Some(99 * MIB),
                "the slot of 99 MiB does not hold /usr, whose file system has 100 MiB",
            ),
            (
                |spec| spec.size = 3603 * MIB,
                "the disk of 3603 MiB is too small: ESP 512 MiB, two slots of 1024 MiB with 9 MiB of hashes each, \
                 root at least 1024 MiB and the partition table take 3604 MiB",
            ),
        ];
        for (change, message) in table {
            assert_eq!(refuse(change, 100 * MIB), message);
        }
        assert!(refuse(|spec| spec.slot_size = Some(u64::MAX - MIB + 1), MIB).contains("too small"));
        let mut least = spec();
        least.size = 3604 * MIB;
        DiskPlan::new(&least, usr(100 * MIB, &hash), b"").unwrap();
        assert!(matches!(
            DiskPlan::new(&least, usr(MIB, &hash[..15]), b""),
            Err(DiskError::RootHash(15))
        ));
    }
}
