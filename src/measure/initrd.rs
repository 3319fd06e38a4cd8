//! The initrd that systemd-stub hands to the kernel: the UKI's own, and small archives that the stub makes of other sections.
//!
//! Written as the stub writes them (newc, systemd 257), since the kernel measures the whole.

use std::io;

use super::events::Uki;
use crate::formats::at::Content;
use crate::formats::pcr::{Bank, Hasher, Value};

/// Sections that the stub hands on as files below `/.extra`, in its order.
const HANDED_ON: [(&str, &str); 4] = [
    (".pcrsig", "tpm2-pcr-signature.json"),
    (".pcrpkey", "tpm2-pcr-public-key.pem"),
    (".osrel", "os-release"),
    (".profile", "profile"),
];
const DIRECTORY: &str = ".extra";
const TRAILER: &str = "TRAILER!!!";

/// The digest of what the kernel gets when it boots `uki`.
pub(super) fn digest(uki: &Uki<'_>, bank: Bank) -> io::Result<Value> {
    let mut hasher = Hasher::new(bank);
    for name in [".ucode", ".initrd"] {
        if let Some(content) = uki.content(name) {
            add(&mut hasher, &content)?;
        }
    }
    for (section, file) in HANDED_ON {
        let Some(content) = uki.content(section) else {
            continue;
        };
        let file = format!("{DIRECTORY}/{file}");
        let size = u32::try_from(content.size()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        hasher.update(&header(1, 0o040_555, 0, DIRECTORY));
        hasher.update(&header(2, 0o100_444, size, &file));
        add(&mut hasher, &content)?;
        // Unlike other entries, this one has its length in capitals, and fills a whole four bytes with its end.
        hasher.update(b"070701");
        for field in 0..13 {
            let value: &[u8; 8] = match field {
                4 => b"00000001",
                11 => b"0000000B",
                _ => b"00000000",
            };
            hasher.update(value);
        }
        hasher.update(TRAILER.as_bytes());
        hasher.update(&[0; 4]);
    }
    Ok(hasher.finish())
}

/// `content`, padded to a whole four bytes.
fn add(hasher: &mut Hasher, content: &Content<'_>) -> io::Result<()> {
    content.for_each_piece::<io::Error>(1 << 20, |piece| {
        hasher.update(piece);
        Ok(())
    })?;
    let padding = content.size().next_multiple_of(4) - content.size();
    hasher.update(&[0; 3][..padding as usize]);
    Ok(())
}

/// Header and name of an entry, padded.
fn header(inode: u32, mode: u32, size: u32, name: &str) -> Vec<u8> {
    let length = u32::try_from(name.len()).unwrap_or(u32::MAX) + 1;
    let fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, length, 0];
    let mut entry = String::from("070701");
    for field in fields {
        entry.push_str(&format!("{field:08x}"));
    }
    entry.push_str(name);
    let mut entry = entry.into_bytes();
    entry.push(0);
    entry.resize(entry.len().next_multiple_of(4), 0);
    entry
}
