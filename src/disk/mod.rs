//! The disk: partition plan, budget, assembly.

mod assemble;
mod budget;
mod content;
mod copy;
mod error;
mod first_boot;
mod guid;
mod layout;
pub mod repart;
mod sparse;
mod table;
mod tree_digest;
pub mod usr;
mod volume;

pub use assemble::{Contents, DiskDigests, write_both, write_footer, write_qcow2, write_raw, write_vhd};
pub use budget::{check_disk, check_esp, check_space, check_vhd, default_slot_size, min_esp_size};
pub use error::DiskError;
pub use first_boot::{RepartPartition, repart_partitions};
pub use guid::{Arch, Role, derive_uuid};
pub use layout::{DiskPlan, DiskSpec, OtherPartition, Partition, Slot, Slots, Usr};
pub use tree_digest::{CHUNK_SIZE, TreeDigest, filled_chunks, padded_chunk};
pub use volume::{EncryptedVolume, FILE_SYSTEM_SIZE, VolumeIds};

/// Bytes that everything on a disk is aligned to.
pub const ALIGNMENT: u64 = 1 << 20;
