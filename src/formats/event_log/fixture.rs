//! For tests: logs made of parts.

use super::{EFI_ACTION, NO_ACTION};
use crate::formats::pcr::Bank;

/// A crypto-agile log in the making.
pub struct Log {
    pub bytes: Vec<u8>,
    banks: Vec<Bank>,
}

impl Log {
    pub fn new(banks: &[Bank]) -> Self {
        let mut data = b"Spec ID Event03\0".to_vec();
        data.extend([0, 0, 0, 0, 0, 2, 0, 2]);
        data.extend((banks.len() as u32).to_le_bytes());
        for bank in banks {
            data.extend(bank.algorithm().to_le_bytes());
            data.extend((bank.size() as u16).to_le_bytes());
        }
        data.push(0);
        let mut bytes = [0u32.to_le_bytes(), NO_ACTION.to_le_bytes()].concat();
        bytes.extend([0; 20]);
        bytes.extend((data.len() as u32).to_le_bytes());
        bytes.extend(data);
        let banks = banks.to_vec();
        Self { bytes, banks }
    }

    /// An event whose digests are of `measured`, and which says `data`.
    pub fn add(&mut self, pcr: u32, kind: u32, measured: &[u8], data: &[u8]) -> &mut Self {
        let digests = self.banks.iter().map(|bank| bank.digest(measured));
        let digests: Vec<_> = digests.collect();
        self.add_digests(pcr, kind, &digests, data)
    }

    pub fn add_digests(
        &mut self,
        pcr: u32,
        kind: u32,
        digests: &[crate::formats::pcr::Value],
        data: &[u8],
    ) -> &mut Self {
        self.bytes.extend(pcr.to_le_bytes());
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend((digests.len() as u32).to_le_bytes());
        for digest in digests {
            self.bytes.extend(digest.bank().algorithm().to_le_bytes());
            self.bytes.extend(digest.as_bytes());
        }
        self.bytes.extend((data.len() as u32).to_le_bytes());
        self.bytes.extend(data);
        self
    }

    /// Firmware's word for what it does.
    pub fn action(&mut self, pcr: u32, text: &str) -> &mut Self {
        self.add(pcr, EFI_ACTION, text.as_bytes(), text.as_bytes())
    }

    /// A variable, as it is measured.
    pub fn variable(&mut self, pcr: u32, kind: u32, name: &str, value: &[u8]) -> &mut Self {
        let data = variable(name, value);
        self.add(pcr, kind, &data, &data)
    }
}

/// `UEFI_VARIABLE_DATA`.
pub fn variable(name: &str, value: &[u8]) -> Vec<u8> {
    let mut data = vec![0x61; 16];
    data.extend((name.len() as u64).to_le_bytes());
    data.extend((value.len() as u64).to_le_bytes());
    data.extend(name.encode_utf16().flat_map(u16::to_le_bytes));
    data.extend(value);
    data
}

/// `UEFI_IMAGE_LOAD_EVENT` of a program at `path` on the third partition of a disk.
pub fn image_load(size: u64, path: &str) -> Vec<u8> {
    let mut nodes = vec![2, 1, 12, 0, 0xd0, 0x41, 0x03, 0x0a, 0, 0, 0, 0];
    nodes.extend([1, 1, 6, 0, 2, 3]);
    nodes.extend([4, 1, 42, 0, 3, 0, 0, 0]);
    nodes.extend([0; 16]);
    nodes.extend(1..=16);
    nodes.extend([2, 2]);
    let name: Vec<u8> = path
        .encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect();
    nodes.extend([4, 4]);
    nodes.extend((name.len() as u16 + 4).to_le_bytes());
    nodes.extend(name);
    nodes.extend([0x7f, 0xff, 4, 0]);
    let mut data = [0x1000u64, size, 0, nodes.len() as u64]
        .map(u64::to_le_bytes)
        .concat();
    data.extend(nodes);
    data
}
