//! Device paths: where firmware found a program.
//!
//! Specification: UEFI 2.10, 10.3, and the text form of 10.6.

use std::fmt::Write as _;

use super::describe::utf16;

const END: u8 = 0x7f;

/// The path in text: the nodes that name things in the form of the specification, others by their numbers.
pub fn text(mut path: &[u8]) -> String {
    let mut text = String::new();
    while let [kind, subtype, low, high, ..] = *path {
        let length = usize::from(u16::from_le_bytes([low, high]));
        if kind == END || length < 4 {
            break;
        }
        let Some((node, rest)) = path.split_at_checked(length) else {
            break;
        };
        if !text.is_empty() {
            text.push('/');
        }
        self::node(kind, subtype, &node[4..], &mut text);
        path = rest;
    }
    text
}

fn node(kind: u8, subtype: u8, data: &[u8], text: &mut String) {
    let u32_at = |at: usize| {
        let bytes = data.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*bytes))
    };
    let known = match (kind, subtype) {
        (1, 1) => match data {
            [function, device, ..] => Some(format!("Pci({device:#x},{function:#x})")),
            _ => None,
        },
        (2, 1) => match (u32_at(0), u32_at(4)) {
            (Some(0x0a03_41d0), Some(uid)) => Some(format!("PciRoot({uid:#x})")),
            (Some(hid), Some(uid)) => Some(format!("Acpi({hid:#x},{uid:#x})")),
            _ => None,
        },
        (3, 2) => u32_at(0).map(|both| format!("Scsi({:#x},{:#x})", both & 0xffff, both >> 16)),
        (4, 1) => u32_at(0).map(|number| match data.get(20..36) {
            Some(id) => format!("HD({number},GPT,{})", guid(id)),
            None => format!("HD({number})"),
        }),
        (4, 4) => Some(utf16(data)),
        (4, 6) => Some(format!("FvFile({})", guid(data))),
        (4, 7) => Some(format!("Fv({})", guid(data))),
        _ => None,
    };
    match known {
        Some(known) => text.push_str(&known),
        // Writing to a string cannot fail.
        None => drop(write!(text, "Path({kind},{subtype})")),
    }
}

/// A GUID as text; it is stored in mixed order.
fn guid(bytes: &[u8]) -> String {
    let bytes = bytes.first_chunk::<16>();
    bytes.map_or_else(String::new, |bytes| uuid::Uuid::from_bytes_le(*bytes).to_string())
}
