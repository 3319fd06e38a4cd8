//! What systemd-repart must be told, so that first boot completes the same layout.

use super::layout::{DiskSpec, hash_partition_size};
use super::{Role, Slot};
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
}

/// The definitions for the layout of `spec` with slots of `slot_size` bytes.
pub fn repart_partitions(spec: &DiskSpec, slot_size: u64, algorithm: Algorithm) -> Vec<RepartPartition> {
    let hash_size = hash_partition_size(slot_size, algorithm);
    let fixed = |stem: &str, role, slot, label: &str, size| RepartPartition {
        file_stem: stem.to_owned(),
        role,
        slot,
        label: label.to_owned(),
        min_size: size,
        max_size: Some(size),
        read_only: role.is_sealed(),
    };
    let own = spec.label();
    vec![
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
    ]
}
