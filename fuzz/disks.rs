//! Targets that read disks and the volumes on them.

use std::io;

use hullwright::formats::at::ReadAt;
use hullwright::formats::{fat_reader, gpt, qcow2_reader};

/// The first sectors of a disk. CRCs are put right, or nothing behind them would be reached.
pub fn gpt_table(data: &[u8]) {
    const SIZE: usize = 64 << 10;
    let mut disk = data[..data.len().min(SIZE)].to_vec();
    disk.resize(SIZE, 0);
    let _ = gpt::check_protective(&disk, SIZE as u64);
    let _ = gpt::read(&disk, SIZE as u64, gpt::Copy::Backup);
    let sum = crc32(&disk[1024..1024 + 128 * 128]).to_le_bytes();
    disk[600..604].copy_from_slice(&sum);
    disk[528..532].fill(0);
    let sum = crc32(&disk[512..604]).to_le_bytes();
    disk[528..532].copy_from_slice(&sum);
    if let Ok(table) = gpt::read(&disk, SIZE as u64, gpt::Copy::Primary) {
        for entry in &table.entries {
            let _ = (entry.offset(), entry.size());
        }
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum: u32, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            if sum & 1 == 0 {
                sum >> 1
            } else {
                sum >> 1 ^ 0xedb8_8320
            }
        })
    })
}

/// Bytes of a FAT32 volume that are zeroes but for its boot sector, the first 2 KiB of each allocation table, and the
/// first clusters: the smallest volume is larger than an input.
struct FatVolume<'a>(&'a [u8]);

/// Shape of [`FatVolume`]: bytes of the volume, of a table, and before the tables.
pub const FAT_SIZE: u64 = 40 << 20;
pub const FAT_TABLE: u64 = 640 * 512;
pub const FAT_RESERVED: u64 = 8 * 512;

impl ReadAt for FatVolume<'_> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if offset
            .checked_add(buffer.len() as u64)
            .is_none_or(|end| end > FAT_SIZE)
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.fill(0);
        let data_start = FAT_RESERVED + 2 * FAT_TABLE;
        // Where it stands in the volume, and in the input.
        let parts = [
            (0, 0..512),
            (FAT_RESERVED, 512..2560),
            (FAT_RESERVED + FAT_TABLE, 512..2560),
            (data_start, 2560..usize::MAX),
        ];
        for (start, range) in parts {
            let end = range.end.min(self.0.len());
            let bytes = self.0.get(range.start..end).unwrap_or_default();
            for (byte, at) in bytes.iter().zip(start..) {
                let place = at.checked_sub(offset).and_then(|at| usize::try_from(at).ok());
                if let Some(target) = place.and_then(|at| buffer.get_mut(at)) {
                    *target = *byte;
                }
            }
        }
        Ok(())
    }
}

pub fn fat_volume(data: &[u8]) {
    let source = FatVolume(data);
    if let Ok(volume) = fat_reader::read(&source, FAT_SIZE) {
        for file in volume.files.iter().take(50) {
            let mut bytes = vec![0; usize::try_from(file.size.min(4096)).unwrap_or(0)];
            let _ = file.content(&source).read_exact_at(&mut bytes, 0);
        }
    }
}

pub fn qcow2_image(data: &[u8]) {
    if let Ok(image) = qcow2_reader::Image::open(data) {
        for at in [0, image.size() / 2, image.size() - 512] {
            let _ = image.read_exact_at(&mut [0; 512], at);
        }
        let _ = image.filled(1 << 20);
    }
}
