//! LUKS2 headers of encrypted partitions.

use super::manifest::Volume;
use super::table::NO_TABLE;
use super::{Notes, Place, Subject};
use crate::formats::at::ReadAt as _;
use crate::formats::luks2::{CIPHER, CopyState, Header, Kdf};

/// The first header's magic, and the second's.
const MAGICS: [&[u8; 6]; 2] = [b"LUKS\xba\xbe", b"SKUL\xba\xbe"];
/// The smallest offset of a second header.
const SECOND: u64 = 16 << 10;
/// Bytes of a key of AES-256-XTS.
const KEY_SIZE: usize = 64;

/// Check `luks`.
pub fn luks(subject: &Subject, notes: &mut Notes) {
    let Some((medium, entries)) = subject.partitions() else {
        return notes.not_checked(NO_TABLE);
    };
    let mut found = 0;
    for entry in entries {
        let part = medium.partition(entry);
        let place = || {
            Place::file(&medium.name)
                .partition(entry.number)
                .at(entry.offset())
        };
        let has = |at: u64, magic: &[u8; 6]| {
            let mut bytes = [0; 6];
            part.read_exact_at(&mut bytes, at).is_ok() && bytes == *magic
        };
        if !has(0, MAGICS[0]) && !has(SECOND, MAGICS[1]) {
            continue;
        }
        found += 1;
        let header = match Header::read(&part, part.size) {
            Ok(header) => header,
            Err(error) => {
                notes.fail(place(), error.to_string());
                continue;
            }
        };
        for (state, which) in header.copies.iter().zip(["first", "second"]) {
            let problem = match state {
                CopyState::Good => continue,
                CopyState::Outdated { sequence } => {
                    format!("is older ({sequence}) than the other one ({})", header.sequence)
                }
                CopyState::Different => "says something else than the other one".to_owned(),
                CopyState::Damaged(why) => format!("is damaged: it {why}"),
            };
            notes.fail(place(), format!("the {which} copy of the LUKS2 header {problem}"));
        }
        let kdfs = check_keys(&header, |problem| notes.fail(place(), problem));
        let sector = header.metadata.segment.sector_size.bytes();
        if let Some(Ok(manifest)) = &subject.manifest {
            let mut listed = manifest.partitions.iter();
            let listed = listed.find(|listed| listed.number == entry.number);
            if let Some(volume) = listed.and_then(|listed| listed.volume()) {
                for problem in against(&header, &kdfs, &volume) {
                    notes.fail(place(), problem);
                }
            } else {
                notes.fail(place(), "it is encrypted, and the manifest does not say so");
            }
        }
        let tokens: Vec<_> = header
            .metadata
            .tokens
            .values()
            .map(|token| token.kind.as_str())
            .collect();
        let tokens = match tokens.is_empty() {
            true => "no tokens".to_owned(),
            false => tokens.join(" + "),
        };
        notes.held(format!(
            "partition {} `{}`: {CIPHER}, sectors of {sector}, {} keyslot(s) by {}, {tokens}",
            entry.number,
            entry.label,
            header.metadata.keyslots.len(),
            kdfs.join(" + ")
        ));
    }
    if found == 0 {
        notes.held("no partition of the image is encrypted");
    }
}

/// In what the volume is not as the manifest says.
fn against(header: &Header, kdfs: &[&str], volume: &Volume) -> Vec<String> {
    let sector = header.metadata.segment.sector_size.bytes();
    let pairs = [
        ("UUID", header.uuid.to_string(), volume.luks_uuid.clone()),
        ("cipher", CIPHER.to_owned(), volume.cipher.clone()),
        ("sector size", sector.to_string(), volume.sector_size.to_string()),
        ("key derivation", kdfs.join(" + "), volume.kdf.clone()),
    ];
    let other = pairs.into_iter().filter(|(_, found, expected)| found != expected);
    other
        .map(|(what, found, expected)| {
            format!("the volume's {what} is {found}; the manifest says {expected}")
        })
        .collect()
}

/// The derivations that keyslots use; `fail` is told of keys shorter than AES-256-XTS takes.
fn check_keys(header: &Header, mut fail: impl FnMut(String)) -> Vec<&'static str> {
    let mut kdfs = Vec::new();
    for (number, keyslot) in &header.metadata.keyslots {
        if keyslot.key_size != KEY_SIZE || keyslot.area.key_size != KEY_SIZE {
            let bits = keyslot.key_size.min(keyslot.area.key_size) * 8;
            fail(format!("keyslot {number} has a key of {bits} bits, not of 512"));
        }
        let kdf = match keyslot.kdf {
            Kdf::Pbkdf2 { .. } => "pbkdf2",
            Kdf::Argon2i(_) => "argon2i",
            Kdf::Argon2id(_) => "argon2id",
        };
        if !kdfs.contains(&kdf) {
            kdfs.push(kdf);
        }
    }
    kdfs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::luks2::{self, Derived, VolumeKey};

    #[test]
    fn a_header_is_held_against_the_manifest() {
        const SIZE: u64 = 20 << 20;
        let file = tempfile::tempfile().unwrap();
        file.set_len(SIZE).unwrap();
        let uuid = uuid::Uuid::from_bytes([7; 16]);
        let make = |bytes: usize| {
            let key = VolumeKey::new((0..bytes as u8).collect::<Vec<_>>().into()).unwrap();
            let params = luks2::Params::new(uuid, b"0123456789abcdef0123456789abcdef", Kdf::RANDOM_KEY);
            luks2::format(&file, SIZE, &key, &params, &mut Derived::new(&key, b"test")).unwrap()
        };
        let volume = |kdf: &str, sector_size| Volume {
            luks_uuid: uuid.to_string(),
            cipher: CIPHER.to_owned(),
            sector_size,
            kdf: kdf.to_owned(),
        };
        let header = make(64);
        let mut problems = Vec::new();
        let kdfs = check_keys(&header, |problem| problems.push(problem));
        assert_eq!((kdfs.as_slice(), problems.len()), (&["pbkdf2"][..], 0));
        assert_eq!(
            against(&header, &kdfs, &volume("pbkdf2", 4096)),
            Vec::<String>::new()
        );
        let found = against(&header, &kdfs, &volume("argon2id", 512));
        assert_eq!(
            found,
            [
                "the volume's sector size is 4096; the manifest says 512",
                "the volume's key derivation is pbkdf2; the manifest says argon2id"
            ]
        );
        check_keys(&make(32), |problem| problems.push(problem));
        assert!(
            problems[0].contains("keyslot 0 has a key of 256 bits, not of 512"),
            "{problems:?}"
        );
    }
}
