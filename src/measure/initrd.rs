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
    write(uki, &mut |bytes| hasher.update(bytes))?;
    Ok(hasher.finish())
}

/// Hands the bytes to `out`, in order.
fn write(uki: &Uki<'_>, out: &mut impl FnMut(&[u8])) -> io::Result<()> {
    for name in [".ucode", ".initrd"] {
        if let Some(content) = uki.content(name) {
            padded(&content, out)?;
        }
    }
    for (section, file) in HANDED_ON {
        let Some(content) = uki.content(section) else {
            continue;
        };
        let file = format!("{DIRECTORY}/{file}");
        let size = u32::try_from(content.size()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        out(&header(1, 0o040_555, 0, DIRECTORY));
        out(&header(2, 0o100_444, size, &file));
        padded(&content, out)?;
        // Unlike other entries, this one has its length in capitals, and fills a whole four bytes with its end.
        out(b"070701");
        for field in 0..13 {
            out(match field {
                4 => b"00000001",
                11 => b"0000000B",
                _ => b"00000000",
            });
        }
        out(TRAILER.as_bytes());
        out(&[0; 4]);
    }
    Ok(())
}

/// `content`, padded to a whole four bytes.
fn padded(content: &Content<'_>, out: &mut impl FnMut(&[u8])) -> io::Result<()> {
    content.for_each_piece::<io::Error>(1 << 20, |piece| {
        out(piece);
        Ok(())
    })?;
    let padding = content.size().next_multiple_of(4) - content.size();
    out(&[0; 3][..padding as usize]);
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

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::process::Command;

    use super::super::events::tests::sample;
    use super::*;
    use crate::formats::testing::tool;

    #[test]
    fn cpio_unpacks_what_the_stub_adds() {
        if !tool("cpio") {
            return;
        }
        let uki = sample();
        let uki = Uki::read(Content::bytes(&uki), 1).unwrap();
        let mut bytes = Vec::new();
        write(&uki, &mut |part| bytes.extend_from_slice(part)).unwrap();
        // The UKI's own initrd comes first, padded; it is no archive here.
        let added = &bytes[12..];
        assert_eq!(&bytes[..12], b"the initrd\0\0");
        let mut names = Vec::new();
        for archive in archives(added) {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("archive"), archive).unwrap();
            let unpacked = Command::new("cpio")
                .args(["-idm", "--quiet", "--no-absolute-filenames"])
                .current_dir(dir.path())
                .stdin(File::open(dir.path().join("archive")).unwrap())
                .status();
            assert!(unpacked.unwrap().success());
            let below = fs::read_dir(dir.path().join(".extra")).unwrap();
            for entry in below {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                names.push((name, fs::read_to_string(entry.path()).unwrap()));
            }
        }
        let expected = [
            ("tpm2-pcr-signature.json", "{2}"),
            ("tpm2-pcr-public-key.pem", "a key"),
            ("os-release", "ID=y\n"),
            ("profile", "ID=other\n"),
        ];
        assert_eq!(
            names,
            expected.map(|(name, text)| (name.to_owned(), text.to_owned()))
        );
    }

    /// The archives in `bytes`, each up to its trailer.
    fn archives(bytes: &[u8]) -> Vec<&[u8]> {
        let end = b"TRAILER!!!\0\0\0\0";
        let mut archives = Vec::new();
        let mut start = 0;
        for at in 0..bytes.len() {
            if bytes[at..].starts_with(end) {
                archives.push(&bytes[start..at + end.len()]);
                start = at + end.len();
            }
        }
        archives
    }
}
