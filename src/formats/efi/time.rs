//! `EFI_TIME`, the time stamp of authenticated variables.

use std::fmt;

use super::super::fat_mend::civil;

/// A date and a time of day in 16 bytes. In variables it is in UTC, and firmware takes an update only if its time is later
/// than that of what it replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time(pub [u8; 16]);

/// The first second of year 10000.
const END: i64 = 253_402_300_800;

impl Time {
    /// The time of variables that are not authenticated, and of revocations that always hold.
    pub const ZERO: Self = Self([0; 16]);

    /// Seconds since 1970 in UTC; years outside 1970 to 9999 become the nearest of these.
    pub fn from_unix(seconds: i64) -> Self {
        let seconds = seconds.clamp(0, END - 1);
        let (year, month, day) = civil(seconds / 86_400);
        let of_day = seconds % 86_400;
        let small = |value: i64| u8::try_from(value).unwrap_or(u8::MAX);
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&u16::try_from(year).unwrap_or(u16::MAX).to_le_bytes());
        bytes[2] = small(month);
        bytes[3] = small(day);
        bytes[4] = small(of_day / 3600);
        bytes[5] = small(of_day / 60 % 60);
        bytes[6] = small(of_day % 60);
        Self(bytes)
    }

    /// Year, month, day, hour, minute and second, unchecked.
    pub fn fields(&self) -> (u16, [u8; 5]) {
        let [y0, y1, month, day, hour, minute, second, ..] = self.0;
        (u16::from_le_bytes([y0, y1]), [month, day, hour, minute, second])
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, [month, day, hour, minute, second]) = self.fields();
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told() {
        let table = [
            (0, "1970-01-01T00:00:00Z"),
            (1_262_304_000, "2010-01-01T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (i64::MIN, "1970-01-01T00:00:00Z"),
            (i64::MAX, "9999-12-31T23:59:59Z"),
        ];
        for (seconds, expected) in table {
            assert_eq!(Time::from_unix(seconds).to_string(), expected);
        }
        assert_eq!(
            Time::from_unix(1_262_304_061).0,
            [0xda, 7, 1, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
    }
}
