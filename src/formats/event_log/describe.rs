//! What events say, for people.

use std::fmt::Write as _;

use super::device_path;
use super::{
    EFI_ACTION, EFI_BOOT_SERVICES_APPLICATION, EFI_GPT_EVENT, EFI_GPT_EVENT2, EFI_HCRTM_EVENT,
    EFI_VARIABLE_AUTHORITY, EFI_VARIABLE_DRIVER_CONFIG, EVENT_TAG, Event, IPL, NO_ACTION, SEPARATOR,
};

const KINDS: &[(u32, &str)] = &[
    (0x0, "EV_PREBOOT_CERT"),
    (0x1, "EV_POST_CODE"),
    (NO_ACTION, "EV_NO_ACTION"),
    (SEPARATOR, "EV_SEPARATOR"),
    (0x5, "EV_ACTION"),
    (EVENT_TAG, "EV_EVENT_TAG"),
    (0x7, "EV_S_CRTM_CONTENTS"),
    (0x8, "EV_S_CRTM_VERSION"),
    (0x9, "EV_CPU_MICROCODE"),
    (0xa, "EV_PLATFORM_CONFIG_FLAGS"),
    (0xb, "EV_TABLE_OF_DEVICES"),
    (0xc, "EV_COMPACT_HASH"),
    (IPL, "EV_IPL"),
    (0xe, "EV_IPL_PARTITION_DATA"),
    (0xf, "EV_NONHOST_CODE"),
    (0x10, "EV_NONHOST_CONFIG"),
    (0x11, "EV_NONHOST_INFO"),
    (0x12, "EV_OMIT_BOOT_DEVICE_EVENTS"),
    (0x13, "EV_POST_CODE2"),
    (EFI_VARIABLE_DRIVER_CONFIG, "EV_EFI_VARIABLE_DRIVER_CONFIG"),
    (0x8000_0002, "EV_EFI_VARIABLE_BOOT"),
    (EFI_BOOT_SERVICES_APPLICATION, "EV_EFI_BOOT_SERVICES_APPLICATION"),
    (0x8000_0004, "EV_EFI_BOOT_SERVICES_DRIVER"),
    (0x8000_0005, "EV_EFI_RUNTIME_SERVICES_DRIVER"),
    (EFI_GPT_EVENT, "EV_EFI_GPT_EVENT"),
    (EFI_ACTION, "EV_EFI_ACTION"),
    (0x8000_0008, "EV_EFI_PLATFORM_FIRMWARE_BLOB"),
    (0x8000_0009, "EV_EFI_HANDOFF_TABLES"),
    (0x8000_000a, "EV_EFI_PLATFORM_FIRMWARE_BLOB2"),
    (0x8000_000b, "EV_EFI_HANDOFF_TABLES2"),
    (0x8000_000c, "EV_EFI_VARIABLE_BOOT2"),
    (EFI_GPT_EVENT2, "EV_EFI_GPT_EVENT2"),
    (EFI_HCRTM_EVENT, "EV_EFI_HCRTM_EVENT"),
    (EFI_VARIABLE_AUTHORITY, "EV_EFI_VARIABLE_AUTHORITY"),
    (0x8000_00e1, "EV_EFI_SPDM_FIRMWARE_BLOB"),
    (0x8000_00e2, "EV_EFI_SPDM_FIRMWARE_CONFIG"),
    (0x8000_00e3, "EV_EFI_SPDM_DEVICE_POLICY"),
    (0x8000_00e4, "EV_EFI_SPDM_DEVICE_AUTHORITY"),
];

/// Longest description of one event, in characters.
const LONGEST: usize = 300;

/// `UEFI_VARIABLE_DATA`: a variable of the firmware, or an entry of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable<'a> {
    /// Vendor, in the mixed order in which it is stored.
    pub guid: [u8; 16],
    pub name: String,
    pub value: &'a [u8],
}

/// `UEFI_IMAGE_LOAD_EVENT`: a program that was loaded. Its digest is Authenticode's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageLoad<'a> {
    /// Bytes in memory.
    pub size: u64,
    pub device_path: &'a [u8],
}

impl<'a> Event<'a> {
    /// The kind's name in the specification, `EV_…`; the number where it has none.
    pub fn kind_name(&self) -> String {
        let known = KINDS.iter().find(|(kind, _)| *kind == self.kind);
        known.map_or_else(|| format!("{:#010x}", self.kind), |(_, name)| (*name).to_owned())
    }

    /// The variable that it measures, where it measures one.
    pub fn variable(&self) -> Option<Variable<'a>> {
        let variables = [
            EFI_VARIABLE_DRIVER_CONFIG,
            0x8000_0002,
            0x8000_000c,
            EFI_VARIABLE_AUTHORITY,
        ];
        if !variables.contains(&self.kind) {
            return None;
        }
        let (guid, rest) = self.data.split_first_chunk::<16>()?;
        let (units, rest) = rest.split_first_chunk::<8>()?;
        let (size, rest) = rest.split_first_chunk::<8>()?;
        let bytes = usize::try_from(u64::from_le_bytes(*units)).ok()?.checked_mul(2)?;
        let size = usize::try_from(u64::from_le_bytes(*size)).ok()?;
        let (name, rest) = rest.split_at_checked(bytes)?;
        Some(Variable {
            guid: *guid,
            name: utf16(name),
            value: rest.get(..size)?,
        })
    }

    /// The program whose loading it measures, where it measures one.
    pub fn image_load(&self) -> Option<ImageLoad<'a>> {
        if !(EFI_BOOT_SERVICES_APPLICATION..=0x8000_0005).contains(&self.kind) {
            return None;
        }
        let u64_at = |at: usize| {
            let bytes = self.data.get(at..)?.first_chunk::<8>()?;
            Some(u64::from_le_bytes(*bytes))
        };
        let length = usize::try_from(u64_at(24)?).ok()?;
        Some(ImageLoad {
            size: u64_at(8)?,
            device_path: self.data.get(32..)?.get(..length)?,
        })
    }

    /// What it says, in one line of printable text.
    pub fn describe(&self) -> String {
        let text = self.words().unwrap_or_else(|| bytes(self.data));
        let mut line: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(LONGEST)
            .collect();
        if text.chars().nth(LONGEST).is_some() {
            line.push('…');
        }
        line
    }

    fn words(&self) -> Option<String> {
        if let Some(variable) = self.variable() {
            let value = match variable.value {
                [] => "empty".to_owned(),
                [byte] => byte.to_string(),
                value => format!("{} bytes", value.len()),
            };
            return Some(format!("{}: {value}", variable.name));
        }
        if let Some(image) = self.image_load() {
            return Some(device_path::text(image.device_path));
        }
        match self.kind {
            SEPARATOR => Some(match self.data {
                [0, 0, 0, 0] | [0xff, 0xff, 0xff, 0xff] => "separator".to_owned(),
                [1, 0, 0, 0] => "an error of the firmware".to_owned(),
                _ => return None,
            }),
            IPL => Some(either(self.data)),
            EVENT_TAG => {
                let (tag, rest) = self.data.split_first_chunk::<4>()?;
                let (_, rest) = rest.split_first_chunk::<4>()?;
                Some(format!(
                    "tag {:#010x}: {}",
                    u32::from_le_bytes(*tag),
                    either(rest)
                ))
            }
            EFI_GPT_EVENT | EFI_GPT_EVENT2 => {
                // The partition table's header (92 bytes), then the number of entries that are in use.
                let (count, _) = self.data.get(92..)?.split_first_chunk::<8>()?;
                Some(format!(
                    "partition table, {} partitions",
                    u64::from_le_bytes(*count)
                ))
            }
            _ => {
                let text = self.data.strip_suffix(b"\0").unwrap_or(self.data);
                let printable = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
                let is_text = !text.is_empty() && text.iter().all(printable);
                is_text.then(|| String::from_utf8_lossy(text).into_owned())
            }
        }
    }
}

/// UTF-16, little-endian, to its first NUL.
pub(super) fn utf16(bytes: &[u8]) -> String {
    let (units, _) = bytes.as_chunks::<2>();
    let units = units.iter().map(|unit| u16::from_le_bytes(*unit));
    let text = char::decode_utf16(units.take_while(|unit| *unit != 0));
    text.map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// Text in UTF-16 or, as its second byte shows, in ASCII.
fn either(data: &[u8]) -> String {
    if data.get(1) == Some(&0) {
        return utf16(data);
    }
    String::from_utf8_lossy(data.strip_suffix(b"\0").unwrap_or(data)).into_owned()
}

fn bytes(data: &[u8]) -> String {
    let mut text = format!("{} bytes", data.len());
    if !data.is_empty() {
        text.push_str(": ");
        for byte in data.iter().take(16) {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        if data.len() > 16 {
            text.push('…');
        }
    }
    text
}
