//! Data: sparse writing, reading of any range, and ciphertext as an independent implementation makes it.

use std::ops::Range;

use proptest::prelude::*;

use super::*;
use crate::formats::at::{ReadAt, WriteAt};
use crate::formats::testing::{output, run};
use crate::testing::skip;

fn opened(image: &Image, seed: u64) -> Volume<File> {
    let header = image.header().unwrap();
    header
        .open(image.file(), &volume_key(seed), &Limits::default())
        .unwrap()
}

#[test]
fn extents_alone_are_written_widened_to_sectors() {
    let image = Image::made(12 * MIB, 1, &params(QUICK));
    let volume = opened(&image, 1);
    let source = noise(2, (11 * MIB) as usize);
    // One byte; several that overlap, touch or hold nothing, in disorder; more than a piece; the last sector.
    let extents: [Range<u64>; 7] = [
        6 * MIB..9 * MIB + 1,
        5..6,
        40_960..40_960,
        65_536..70_000,
        69_000..69_632,
        69_632..73_728,
        11 * MIB - 1..11 * MIB,
    ];
    let written = volume.encrypt(&source, &extents).unwrap();
    assert_eq!(written, 3 * MIB + 4096 + 4096 + 8192 + 4096);
    let inside = |sector: u64| {
        let sector = sector * 4096..(sector + 1) * 4096;
        extents
            .iter()
            .any(|extent| !extent.is_empty() && extent.start < sector.end && sector.start < extent.end)
    };
    let (mut plain, mut raw) = ([0; 4096], [0; 4096]);
    for (number, expected) in (0..).zip(source.chunks(4096)) {
        volume.read_exact_at(&mut plain, number * 4096).unwrap();
        image.file().read_exact_at(&mut raw, MIB + number * 4096).unwrap();
        if inside(number) {
            assert!(plain == expected, "sector {number}");
            assert!(raw != expected, "sector {number}");
        } else {
            assert!(raw.iter().all(|&byte| byte == 0), "sector {number}");
            assert!(plain.iter().any(|&byte| byte != 0), "sector {number}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let image = Image::made(2 * MIB, 1, &params(QUICK));
    let volume = opened(&image, 1);
    let source = noise(1, 3 * MIB as usize);
    let error = volume.encrypt(&source, &[0..1, MIB..MIB + 1]).unwrap_err();
    assert!(matches!(error, Luks2Error::TooLarge { end, size } if (end, size) == (MIB + 1, MIB)));
    let error = volume
        .encrypt(&noise(1, 4000), &[0..2000, 2000..4000])
        .unwrap_err();
    assert!(matches!(error, Luks2Error::Io(_)));
    for (offset, count) in [(1, 4096), (0, 512), (4096, 4097)] {
        let error = volume.write_all_at(&source[..count], offset).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
    for (offset, count) in [(MIB, 1), (MIB - 1, 2), (u64::MAX, 1), (u64::MAX - 4095, 4096)] {
        let error = volume.read_exact_at(&mut vec![0; count], offset).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    }
    for offset in [MIB, u64::MAX - 4095] {
        assert!(volume.write_all_at(&source[..4096], offset).is_err());
    }
}

#[test]
fn any_range_can_be_read() {
    let plain = noise(3, 102_400);
    for size in [512, 1024, 2048, 4096] {
        let params = Params {
            sector_size: SectorSize::new(size).unwrap(),
            ..params(QUICK)
        };
        let volume = opened(&Image::made(2 * MIB, 4, &params), 4);
        volume.write_all_at(&plain, 0).unwrap();
        proptest!(|(start in 0usize..70_000, count in 0usize..30_000)| {
            let mut read = vec![0; count];
            volume.read_exact_at(&mut read, start as u64).unwrap();
            prop_assert!(read == plain[start..][..count]);
        });
    }
}

/// Encrypts a file with a key given in hexadecimal, sector by sector, as dm-crypt does.
const PYTHON_XTS: &str = "
import sys
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
key, size = bytes.fromhex(sys.argv[1]), int(sys.argv[2])
plain = open(sys.argv[3], 'rb').read()
with open(sys.argv[4], 'wb') as out:
    for at in range(0, len(plain), size):
        tweak = (at // 512).to_bytes(16, 'little')
        cipher = Cipher(algorithms.AES(key), modes.XTS(tweak)).encryptor()
        out.write(cipher.update(plain[at:at + size]) + cipher.finalize())
";

/// A Python that has OpenSSL's ciphers: the first one of the path may be another than Debian's.
fn python() -> Option<&'static str> {
    let able = ["python3", "/usr/bin/python3"]
        .into_iter()
        .find(|python| output(python, ["-c", "import cryptography"]).0);
    if able.is_none() {
        skip("python3-cryptography is missing");
    }
    able
}

#[test]
fn ciphertext_is_that_of_an_independent_implementation() {
    let Some(python) = python() else {
        return;
    };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for (size, key_size) in [(512u32, 64), (1024, 64), (2048, 32), (4096, 64), (4096, 32)] {
        let params = Params {
            sector_size: SectorSize::new(size).unwrap(),
            ..params(QUICK)
        };
        let image = Image::empty(2 * MIB);
        let key = VolumeKey::new(noise(9, key_size).into()).unwrap();
        let mut entropy = Derived::new(&key, b"");
        let header = format(&image.file(), image.size, &key, &params, &mut entropy).unwrap();
        let volume = header.open(image.file(), &key, &Limits::default()).unwrap();
        let source = noise(8, MIB as usize);
        volume.encrypt(&source, &[0..5000, 5000..MIB]).unwrap();
        let (plain, theirs) = (image.beside("plain", &source), image.beside("theirs", &[]));
        let (key, size) = (hex(key.as_bytes()), size.to_string());
        run(python, ["-c", PYTHON_XTS, &key, &size, &plain, &theirs]);
        let mut ours = vec![0; source.len()];
        image.file().read_exact_at(&mut ours, MIB).unwrap();
        assert!(
            std::fs::read(theirs).unwrap() == ours,
            "sectors of {size}, key of {key_size}"
        );
    }
}
