//! LUKS2 headers of encrypted partitions.

use super::table::NO_TABLE;
use super::{Notes, Place, Subject};
use crate::formats::at::ReadAt as _;
use crate::formats::luks2::{CIPHER, CopyState, Header};

/// The first header's magic, and the second's.
const MAGICS: [&[u8; 6]; 2] = [b"LUKS\xba\xbe", b"SKUL\xba\xbe"];
/// The smallest offset of a second header.
const SECOND: u64 = 16 << 10;

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
            "partition {} `{}`: {CIPHER}, {} keyslot(s), {tokens}",
            entry.number,
            entry.label,
            header.metadata.keyslots.len()
        ));
    }
    if found == 0 {
        notes.held("no partition of the image is encrypted");
    }
}
