//! Disk images as files: their format, and that all of them hold the same disk.

use super::medium::{Format, Medium};
use super::{Notes, Place, Subject};
use crate::disk::{CHUNK_SIZE, TreeDigest};
use crate::formats::vhd::{FOOTER_SIZE, Footer};

/// Check `disk-images`.
pub fn images(subject: &Subject, notes: &mut Notes) {
    if subject.images.is_empty() {
        return notes.not_checked("the directory holds no disk image (.raw, .vhd, .qcow2)");
    }
    let mut first: Option<(&Medium, &TreeDigest)> = None;
    for image in &subject.images {
        let medium = match image {
            Ok(medium) => medium,
            Err((name, error)) => {
                notes.fail(
                    Place::file(name),
                    format!("the disk image cannot be read: {error}"),
                );
                continue;
            }
        };
        if medium.format == Format::Vhd {
            footer(medium, notes);
        }
        notes.held(medium.name.clone());
        // A lone image is compared with nothing.
        if subject.images.len() == 1 {
            continue;
        }
        let digests = match medium.digests() {
            Ok(digests) => digests,
            Err(error) => {
                notes.fail(
                    Place::file(&medium.name),
                    format!("the disk image cannot be read: {error}"),
                );
                continue;
            }
        };
        let Some((other, expected)) = first else {
            first = Some((medium, digests));
            continue;
        };
        if medium.size != other.size {
            let what = format!(
                "its disk has {} bytes, that of `{}` {}",
                medium.size, other.name, other.size
            );
            notes.fail(Place::file(&medium.name), what);
        }
        let pairs = digests.chunks().iter().zip(expected.chunks());
        if let Some(chunk) = pairs.clone().position(|(a, b)| a != b) {
            let count = pairs.filter(|(a, b)| a != b).count();
            let what = format!(
                "its disk differs from that of `{}` in {count} MiB, the first here",
                other.name
            );
            notes.fail(Place::file(&medium.name).at(chunk as u64 * CHUNK_SIZE), what);
        }
    }
}

fn footer(medium: &Medium, notes: &mut Notes) {
    let place = || Place::file(&medium.name).at(medium.size);
    let bytes = match medium.footer() {
        Ok(bytes) if medium.file_size > FOOTER_SIZE => bytes,
        Ok(_) => return notes.fail(place(), "the file is shorter than a VHD's footer"),
        Err(error) => return notes.fail(place(), format!("the VHD's footer cannot be read: {error}")),
    };
    match Footer::parse(&bytes) {
        Err(error) => notes.fail(place(), format!("the VHD's footer is damaged: {error}")),
        Ok(footer) if footer.size != medium.size => notes.fail(
            place(),
            format!(
                "the VHD's footer says {} bytes; the disk has {}",
                footer.size, medium.size
            ),
        ),
        Ok(footer) => match footer.to_bytes() {
            Ok(expected) if expected == bytes => {}
            Ok(expected) => {
                let at = expected.iter().zip(&bytes).position(|(a, b)| a != b).unwrap_or(0);
                notes.fail(
                    Place::file(&medium.name).at(medium.size + at as u64),
                    "the VHD's footer has a field that readers take the wrong size or kind of disk from",
                );
            }
            Err(error) => notes.fail(place(), format!("Azure does not take the VHD: {error}")),
        },
    }
}
