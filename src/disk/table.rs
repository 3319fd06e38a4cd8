//! The GUID partition table, with its protective MBR and its copy at the end.

use std::collections::BTreeMap;
use std::fs::File;

use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition::Partition as Entry;
use gpt::partition_types::{OperatingSystem, Type};

use super::{DiskError, DiskPlan, Partition};

const SECTOR: u64 = 512;

/// Writes the table of `plan` to `disk`, which has its full length.
pub(super) fn write(plan: &DiskPlan, disk: &File) -> Result<(), DiskError> {
    let broken = |error: &dyn std::fmt::Display| DiskError::Table(error.to_string());
    // The protective partition covers the disk as far as 32 bits reach.
    let sectors = u32::try_from(plan.spec.size / SECTOR - 1).unwrap_or(u32::MAX);
    let mut device = disk;
    ProtectiveMBR::with_lb_size(sectors)
        .overwrite_lba0(&mut device)
        .map_err(|error| broken(&error))?;
    let mut table = GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .create_from_device(device, Some(plan.disk_uuid))
        .map_err(|error| broken(&error))?;
    // A full map: adding partitions one by one would draw random GUIDs.
    let entries: BTreeMap<u32, Entry> = plan
        .partitions
        .iter()
        .map(|partition| (partition.number, entry(partition)))
        .collect();
    table.update_partitions(entries).map_err(|error| broken(&error))?;
    table.write().map_err(|error| broken(&error))?;
    Ok(())
}

fn entry(partition: &Partition) -> Entry {
    Entry {
        part_type_guid: Type {
            guid: partition.type_uuid,
            os: OperatingSystem::None,
        },
        part_guid: partition.uuid,
        first_lba: partition.offset / SECTOR,
        last_lba: (partition.offset + partition.size) / SECTOR - 1,
        flags: partition.attributes,
        name: partition.label.clone(),
    }
}
