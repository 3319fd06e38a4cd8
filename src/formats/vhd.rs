//! Fixed virtual hard disks (VHD): the 512-byte footer behind a raw disk.
//!
//! Specification: Microsoft, *Virtual Hard Disk Image Format Specification* 1.0 (2006); all
//! integers are big-endian. Azure's rules: the virtual size is a whole number of MiB, between
//! 20 MiB and 1,023 GiB.

use uuid::Uuid;

/// Length of the footer in bytes.
pub const FOOTER_SIZE: u64 = 512;

/// Smallest virtual size Azure accepts, in bytes.
pub const MIN_SIZE: u64 = 20 << 20;

/// Largest virtual size Azure accepts in an upload, in bytes.
pub const MAX_SIZE: u64 = 1023 << 30;

const MIB: u64 = 1 << 20;
const COOKIE: &[u8; 8] = b"conectix";
/// Bit 1 is "reserved, always set".
const FEATURES: u32 = 2;
const FORMAT_VERSION: u32 = 0x0001_0000;
/// A fixed disk has no dynamic header.
const NO_HEADER: u64 = u64::MAX;
/// Readers (qemu among them) take the size from the geometry, which is too small, unless the
/// creator is one they know to write true sizes: Windows' own is.
const CREATOR: &[u8; 4] = b"win ";
const CREATOR_VERSION: u32 = 0x0006_0001;
const CREATOR_HOST: &[u8; 4] = b"Wi2k";
const FIXED: u32 = 2;
/// 2000-01-01T00:00:00Z in seconds since the Unix epoch.
const VHD_EPOCH: i64 = 946_684_800;
const CHECKSUM_AT: usize = 64;

/// A size or a footer that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VhdError {
    #[error("a VHD of {0} bytes is not a whole number of MiB, which Azure requires")]
    NotWholeMib(u64),
    #[error("a VHD of {0} bytes is outside what Azure takes: 20 MiB to 1023 GiB")]
    SizeOutOfRange(u64),
    #[error(
        "the time {0} (seconds since 1970) cannot be written in a VHD footer: it counts from 2000 to 2136"
    )]
    Time(i64),
    #[error("this is not the footer of a fixed VHD: {0}")]
    Footer(&'static str),
}

/// What a fixed disk's footer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// Virtual size of the disk in bytes; the file is [`FOOTER_SIZE`] longer.
    pub size: u64,
    pub uuid: Uuid,
    /// Seconds since the Unix epoch.
    pub time: i64,
}

/// Whether Azure takes a disk of `size` bytes.
///
/// # Errors
/// Which rule it breaks.
pub fn check_size(size: u64) -> Result<(), VhdError> {
    if !(MIN_SIZE..=MAX_SIZE).contains(&size) {
        return Err(VhdError::SizeOutOfRange(size));
    }
    if !size.is_multiple_of(MIB) {
        return Err(VhdError::NotWholeMib(size));
    }
    Ok(())
}

impl Footer {
    /// The footer's bytes.
    ///
    /// # Errors
    /// A size that [`check_size`] refuses, or a time outside the format's range.
    pub fn to_bytes(self) -> Result<[u8; 512], VhdError> {
        check_size(self.size)?;
        let time = self
            .time
            .checked_sub(VHD_EPOCH)
            .and_then(|seconds| u32::try_from(seconds).ok())
            .ok_or(VhdError::Time(self.time))?;
        let (cylinders, heads, sectors) = geometry(self.size / 512);
        let mut bytes = [0; 512];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(COOKIE);
        put(&FEATURES.to_be_bytes());
        put(&FORMAT_VERSION.to_be_bytes());
        put(&NO_HEADER.to_be_bytes());
        put(&time.to_be_bytes());
        put(CREATOR);
        put(&CREATOR_VERSION.to_be_bytes());
        put(CREATOR_HOST);
        put(&self.size.to_be_bytes());
        put(&self.size.to_be_bytes());
        put(&cylinders.to_be_bytes());
        put(&[heads, sectors]);
        put(&FIXED.to_be_bytes());
        put(&[0; 4]);
        put(self.uuid.as_bytes());
        let sum = checksum(&bytes);
        bytes[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&sum.to_be_bytes());
        Ok(bytes)
    }

    /// Reads a footer.
    ///
    /// # Errors
    /// Where it is not that of a fixed disk, or its checksum is wrong.
    pub fn parse(bytes: &[u8; 512]) -> Result<Self, VhdError> {
        let u32_at = |at: usize| {
            bytes[at..at + 4]
                .iter()
                .fold(0, |value, &b| value << 8 | u32::from(b))
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) << 32 | u64::from(u32_at(at + 4));
        if bytes[..8] != *COOKIE {
            return Err(VhdError::Footer("it does not begin with `conectix`"));
        }
        if u32_at(60) != FIXED {
            return Err(VhdError::Footer("the disk type is not 2 (fixed)"));
        }
        if u32_at(CHECKSUM_AT) != checksum(bytes) {
            return Err(VhdError::Footer("its checksum is wrong"));
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&bytes[68..84]);
        Ok(Self {
            size: u64_at(48),
            uuid: Uuid::from_bytes(uuid),
            time: VHD_EPOCH + i64::from(u32_at(24)),
        })
    }
}

/// Ones' complement of the sum of all bytes, the checksum's own taken as zero.
fn checksum(bytes: &[u8; 512]) -> u32 {
    let sum: u32 = bytes
        .iter()
        .enumerate()
        .filter(|(at, _)| !(CHECKSUM_AT..CHECKSUM_AT + 4).contains(at))
        .map(|(_, &byte)| u32::from(byte))
        .sum();
    !sum
}

/// Cylinders, heads and sectors a track for `sectors` sectors, by the specification's appendix.
fn geometry(sectors: u64) -> (u16, u8, u8) {
    let total = sectors.min(65535 * 16 * 255);
    let (cylinders_times_heads, heads, per_track) = if total >= 65535 * 16 * 63 {
        (total / 255, 16, 255)
    } else {
        let mut per_track = 17;
        let mut tracks = total / per_track;
        let mut heads = tracks.div_ceil(1024).max(4);
        if tracks >= heads * 1024 || heads > 16 {
            (per_track, heads) = (31, 16);
            tracks = total / per_track;
        }
        if tracks >= heads * 1024 {
            (per_track, heads) = (63, 16);
            tracks = total / per_track;
        }
        (tracks, heads, per_track)
    };
    // All three fit by construction: `total` is bounded by 65535 × 16 × 255.
    let byte = |value: u64| u8::try_from(value).unwrap_or(u8::MAX);
    let cylinders = u16::try_from(cylinders_times_heads / heads).unwrap_or(u16::MAX);
    (cylinders, byte(heads), byte(per_track))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOOTER: Footer = Footer {
        size: 30 << 30,
        uuid: Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
        time: 1_700_000_000,
    };

    #[test]
    fn the_footer_stands_as_the_specification_says() {
        let bytes = FOOTER.to_bytes().unwrap();
        assert_eq!(&bytes[..8], b"conectix");
        assert_eq!(bytes[8..16], [0, 0, 0, 2, 0, 1, 0, 0]);
        assert_eq!(bytes[16..24], [0xff; 8]);
        assert_eq!(bytes[24..28], (1_700_000_000u32 - 946_684_800).to_be_bytes());
        assert_eq!(&bytes[28..32], b"win ");
        assert_eq!(bytes[40..48], (30u64 << 30).to_be_bytes());
        assert_eq!(bytes[60..64], [0, 0, 0, 2]);
        assert_eq!(bytes[68..72], [0, 0x11, 0x22, 0x33]);
        let sum: u32 = bytes
            .iter()
            .enumerate()
            .filter(|(at, _)| !(64..68).contains(at))
            .map(|(_, &b)| u32::from(b))
            .sum();
        assert_eq!(bytes[64..68], (!sum).to_be_bytes());
        assert_eq!(Footer::parse(&bytes), Ok(FOOTER));
    }

    #[test]
    fn one_flipped_byte_is_noticed() {
        for at in [0, 24, 48, 63, 66, 70, 511] {
            let mut bytes = FOOTER.to_bytes().unwrap();
            bytes[at] ^= 1;
            assert!(Footer::parse(&bytes).is_err(), "byte {at}");
        }
    }

    #[test]
    fn geometries_are_those_of_the_specification() {
        let table = [
            (20 << 20, (602, 4, 17)),
            (1 << 30, (2080, 16, 63)),
            (30 << 30, (62415, 16, 63)),
            (40 << 30, (20560, 16, 255)),
            (1023 << 30, (65535, 16, 255)),
        ];
        for (size, (cylinders, heads, per_track)) in table {
            assert_eq!(geometry(size / 512), (cylinders, heads, per_track), "{size}");
        }
    }

    #[test]
    fn sizes_and_times_azure_refuses_are_refused() {
        let mib = 1 << 20;
        assert_eq!(check_size(30 * mib), Ok(()));
        assert_eq!(
            check_size(30 * mib + 512),
            Err(VhdError::NotWholeMib(30 * mib + 512))
        );
        assert_eq!(check_size(19 * mib), Err(VhdError::SizeOutOfRange(19 * mib)));
        assert!(check_size((1023 << 30) + mib).is_err());
        for time in [0, 946_684_799, i64::MIN, i64::MAX] {
            assert_eq!(Footer { time, ..FOOTER }.to_bytes(), Err(VhdError::Time(time)));
        }
    }
}
