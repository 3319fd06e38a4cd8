//! How the parts of a volume fit together: areas, references, sizes. For what is read and for what is written.

use super::binary::BINARY_SIZE;
use super::error::Luks2Error;
use super::metadata::{Keyslot, Metadata};
use super::xts::TWEAK_UNIT;

/// Most bytes for keyslot areas.
pub const MAX_KEYSLOTS_SIZE: u64 = 128 << 20;
/// Keyslot areas begin, and their space ends, on such a boundary.
pub(super) const AREA_ALIGNMENT: u64 = 4096;

/// Whether `metadata` holds together, in a header of `header_size` bytes a copy on a volume of `volume_size` bytes.
///
/// # Errors
/// The first thing that does not fit.
pub(super) fn check(metadata: &Metadata, header_size: u64, volume_size: u64) -> Result<(), Luks2Error> {
    sizes(metadata, header_size, volume_size)?;
    areas(metadata, header_size)?;
    references(metadata)
}

fn sizes(metadata: &Metadata, header_size: u64, volume_size: u64) -> Result<(), Luks2Error> {
    let (config, segment) = (&metadata.config, &metadata.segment);
    let wrong = |place: &str, why: String| Err(Luks2Error::metadata(place, why));
    if config.json_size.checked_add(BINARY_SIZE) != Some(header_size) {
        return wrong(
            "its JSON",
            format!(
                "says it has {} bytes in a header of {header_size}",
                config.json_size
            ),
        );
    }
    let keyslots = config.keyslots_size;
    if keyslots > MAX_KEYSLOTS_SIZE || !keyslots.is_multiple_of(AREA_ALIGNMENT) {
        return wrong(
            "the keyslots' space",
            format!("has {keyslots} bytes: not a multiple of 4096 up to 128 MiB"),
        );
    }
    let name = format!("segment {}", segment.number);
    let sector = segment.sector_size.bytes();
    if segment.offset < 2 * header_size + keyslots {
        return wrong(
            &name,
            format!("begins at {}, inside headers and keyslots", segment.offset),
        );
    }
    if !segment.offset.is_multiple_of(TWEAK_UNIT) {
        return wrong(
            &name,
            format!("begins at {}, in the middle of a sector", segment.offset),
        );
    }
    let behind = volume_size.checked_sub(segment.offset);
    let Some(size) = behind.map(|behind| segment.size.unwrap_or(behind)) else {
        return wrong(
            &name,
            format!(
                "begins at {}, behind the volume's end at {volume_size}",
                segment.offset
            ),
        );
    };
    if size == 0 || !size.is_multiple_of(sector) {
        return wrong(
            &name,
            format!("has {size} bytes: not a positive number of sectors of {sector}"),
        );
    }
    if behind.is_none_or(|behind| size > behind) {
        return wrong(
            &name,
            format!("has {size} bytes, more than there are on the volume behind its start"),
        );
    }
    Ok(())
}

fn areas(metadata: &Metadata, header_size: u64) -> Result<(), Luks2Error> {
    let start = 2 * header_size;
    let end = start + metadata.config.keyslots_size;
    let mut areas = Vec::new();
    for (number, keyslot) in &metadata.keyslots {
        let area = keyslot.area;
        let wrong = |why: &str| {
            let why = format!("has its area of {} bytes at {} {why}", area.size, area.offset);
            Err(Luks2Error::metadata(format!("keyslot {number}"), why))
        };
        let Some(area_end) = area
            .offset
            .checked_add(area.size)
            .filter(|&area_end| area_end <= end)
        else {
            return wrong("behind the keyslots' space");
        };
        if area.offset < start {
            return wrong("in the headers");
        }
        if !area.offset.is_multiple_of(TWEAK_UNIT) {
            return wrong("in the middle of a sector");
        }
        if area.size < keyslot.stripes_size() as u64 {
            return wrong("too small for its stripes");
        }
        areas.push((area.offset, area_end, *number));
    }
    areas.sort_unstable();
    for pair in areas.windows(2) {
        if let [(_, end, first), (start, _, second)] = pair
            && start < end
        {
            let why = format!("has an area that overlaps the one of keyslot {first}");
            return Err(Luks2Error::metadata(format!("keyslot {second}"), why));
        }
    }
    Ok(())
}

fn references(metadata: &Metadata) -> Result<(), Luks2Error> {
    let missing = |place: String, keyslots: &[u32]| {
        let missing = keyslots
            .iter()
            .find(|number| !metadata.keyslots.contains_key(number));
        match missing {
            Some(number) => Err(Luks2Error::metadata(
                place,
                format!("names keyslot {number}, which is not there"),
            )),
            None => Ok(()),
        }
    };
    for (number, token) in &metadata.tokens {
        missing(format!("token {number}"), &token.keyslots)?;
    }
    let segment = metadata.segment.number;
    for (number, digest) in &metadata.digests {
        let place = format!("digest {number}");
        missing(place.clone(), &digest.keyslots)?;
        if let Some(other) = digest.segments.iter().find(|&&number| number != segment) {
            return Err(Luks2Error::metadata(
                place,
                format!("names segment {other}, which is not there"),
            ));
        }
        let size = |number: &u32| {
            metadata
                .keyslots
                .get(number)
                .map(|keyslot: &Keyslot| keyslot.key_size)
        };
        let mut sizes = digest.keyslots.iter().map(size);
        let first = sizes.next();
        if sizes.any(|size| Some(size) != first) {
            return Err(Luks2Error::metadata(
                place,
                "is of keyslots whose keys differ in length",
            ));
        }
    }
    let of_segment = metadata
        .digests
        .values()
        .filter(|digest| !digest.segments.is_empty());
    let count = of_segment.count();
    if count != 1 {
        return Err(Luks2Error::metadata(
            format!("segment {segment}"),
            format!("has {count} digests, not one"),
        ));
    }
    for number in metadata.keyslots.keys() {
        let digests = metadata.digests.values();
        let count = digests.filter(|digest| digest.keyslots.contains(number)).count();
        if count != 1 {
            return Err(Luks2Error::metadata(
                format!("keyslot {number}"),
                format!("has {count} digests, not one"),
            ));
        }
    }
    Ok(())
}
