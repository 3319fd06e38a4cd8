//! What firmware measures of an EFI program that it loads: Authenticode's digest, in every bank.
//!
//! Specifications: Microsoft, *Windows Authenticode Portable Executable Signature Format*, and TCG *PC Client Platform Firmware
//! Profile*, 3.3.4 (PCR 4). The digest leaves out the image's checksum, the directory entry of the table of signatures, and the
//! table; so it is the same before and after signing, if the file's size is a multiple of eight.

use std::io;

use rayon::prelude::*;

use super::{Bank, Hasher, Value};
use crate::formats::at::Content;
use crate::formats::pe::{CERTIFICATES, Image, PeError};

/// Of the checksum in the optional header.
const CHECKSUM: usize = 64;

/// The digests of the image `content` in `banks`, in their order.
///
/// # Errors
/// Where it is no sound PE image, and whatever reading gives.
pub fn digests(content: &Content<'_>, banks: &[Bank]) -> Result<Vec<Value>, PeError> {
    let image = Image::read(content, content.size())?;
    let (directories, entries) = image.directories;
    let headers = &image.headers;
    let checksum = image.optional + CHECKSUM;
    let kept = match entries > CERTIFICATES {
        true => {
            let entry = directories + CERTIFICATES * 8;
            [&headers[checksum + 4..entry], &headers[entry + 8..]]
        }
        false => [&headers[checksum + 4..], &[]],
    };
    let mut sections: Vec<_> = image
        .sections()
        .iter()
        .filter(|section| section.raw_size > 0)
        .collect();
    sections.sort_by_key(|section| section.raw_offset);
    let mut parts = Vec::new();
    let mut hashed = headers.len() as u64;
    for section in sections {
        let size = u64::from(section.raw_size);
        parts.push((u64::from(section.raw_offset), size));
        hashed += size;
    }
    // What trails counts from the sum of what was hashed, wherever the sections lie.
    let (_, table) = image.directory(CERTIFICATES);
    let rest = content.size().checked_sub(hashed + u64::from(table));
    let rest = rest.ok_or(PeError::NotPe("its sections overlap"))?;
    parts.push((hashed, rest));
    let digest = |bank: &Bank| {
        let mut hasher = Hasher::new(*bank);
        hasher.update(&headers[..checksum]);
        kept.iter().for_each(|part| hasher.update(part));
        for &(at, size) in &parts {
            let part = Content::range(content, at, size);
            part.for_each_piece::<io::Error>(1 << 20, |piece| {
                hasher.update(piece);
                Ok(())
            })?;
        }
        Ok(hasher.finish())
    };
    banks.par_iter().map(digest).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::formats::pe::tests::sample_stub;
    use crate::formats::testing::{run, tool};

    #[test]
    fn signing_tools_compute_the_same() {
        let mut images = vec![sample_stub("sbat,1,x\n")];
        let tools = crate::testing::trixie_tools();
        let real = tools.map(|tools| tools.join("root/usr/lib/systemd/boot/efi/systemd-bootx64.efi"));
        images.extend(real.and_then(|path| fs::read(path).ok()));
        if !tool("osslsigncode") {
            return;
        }
        for bytes in images {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), &bytes).unwrap();
            let banks = [Bank::Sha1, Bank::Sha256, Bank::Sha384, Bank::Sha512];
            let digests = digests(&Content::bytes(&bytes), &banks).unwrap();
            for (bank, digest) in banks.iter().zip(&digests) {
                let out = file.path().with_extension(bank.name());
                let paths = [file.path(), &out].map(|path| path.to_str().unwrap().to_owned());
                let command = [
                    "extract-data",
                    "-h",
                    bank.name(),
                    "-in",
                    &paths[0],
                    "-out",
                    &paths[1],
                ];
                run("osslsigncode", command);
                // SPC_INDIRECT_DATA ends with the digest.
                let data = fs::read(&out).unwrap();
                fs::remove_file(&out).unwrap();
                assert!(
                    data.windows(digest.as_bytes().len())
                        .any(|part| part == digest.as_bytes())
                );
            }
        }
    }

    #[test]
    fn any_header_gives_an_error_or_a_digest() {
        let stub = sample_stub("sbat,1\n");
        let good = digests(&Content::bytes(&stub), &[Bank::Sha256]).unwrap();
        let mut other = 0;
        for at in 0..0x400 {
            for value in [0x00, 0x01, 0x7f, 0xff] {
                let mut bad = stub.clone();
                bad[at] = value;
                if let Ok(digest) = digests(&Content::bytes(&bad), &[Bank::Sha256]) {
                    other += usize::from(digest != good);
                }
            }
        }
        assert!(other > 1000, "{other}");
        // The checksum is not part of it.
        let mut checked = stub;
        checked[0x98 + 64..0x98 + 68].fill(7);
        assert_eq!(digests(&Content::bytes(&checked), &[Bank::Sha256]).unwrap(), good);
    }
}
