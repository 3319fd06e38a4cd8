//! The header of an installed package: the package's own, its signature header's tags under their names in the
//! rpmdb, and what RPM notes at installation.

use super::{Options, Problem};
use crate::formats::rpm::header_writer::{self, Added, kind};
use crate::formats::rpm::tag::{self, signature};
use crate::rpmset::Package;

/// How the rpmdb calls a tag of the signature header.
struct Translation {
    from: u32,
    to: u32,
    kind: u32,
    /// Items it must have; 0 where any number will do.
    count: usize,
    /// Whether packages of format 4 may have it in their main header instead.
    either: bool,
}

const fn row(from: u32, to: u32, kind: u32, count: usize, either: bool) -> Translation {
    Translation {
        from,
        to,
        kind,
        count,
        either,
    }
}

/// As `headerMergeLegacySigs` of RPM 4.20 does it.
const TRANSLATIONS: &[Translation] = &[
    row(signature::SIZE, tag::SIGSIZE, kind::INT32, 1, false),
    row(signature::PGP, tag::SIGPGP, kind::BINARY, 0, false),
    row(signature::MD5, tag::SIGMD5, kind::BINARY, 16, false),
    row(signature::GPG, tag::SIGGPG, kind::BINARY, 0, false),
    row(signature::PAYLOADSIZE, tag::ARCHIVESIZE, kind::INT32, 1, true),
    row(
        signature::FILESIGNATURES,
        tag::FILESIGNATURES,
        kind::STRING_ARRAY,
        0,
        true,
    ),
    row(
        signature::FILESIGNATURELENGTH,
        tag::FILESIGNATURELENGTH,
        kind::INT32,
        1,
        true,
    ),
    row(
        signature::VERITYSIGNATURES,
        tag::VERITYSIGNATURES,
        kind::STRING_ARRAY,
        0,
        false,
    ),
    row(
        signature::VERITYSIGNATUREALGO,
        tag::VERITYSIGNATUREALGO,
        kind::INT32,
        1,
        false,
    ),
    row(signature::SHA1, tag::SHA1HEADER, kind::STRING, 1, false),
    row(signature::SHA256, tag::SHA256HEADER, kind::STRING, 1, false),
    row(signature::SHA3_256, tag::SHA3_256HEADER, kind::STRING, 1, false),
    row(signature::DSA, tag::DSAHEADER, kind::BINARY, 0, false),
    row(signature::RSA, tag::RSAHEADER, kind::BINARY, 0, false),
    row(signature::LONGSIZE, tag::LONGSIGSIZE, INT64, 1, false),
    row(signature::LONGARCHIVESIZE, tag::LONGARCHIVESIZE, INT64, 1, false),
    row(signature::OPENPGP, tag::OPENPGP, kind::STRING_ARRAY, 0, false),
];
const INT64: u32 = 5;

/// The record of `package` in the rpmdb. `states` has one byte a file.
pub(super) fn record(package: &Package, states: Vec<u8>, options: &Options<'_>) -> Result<Vec<u8>, Problem> {
    let header = &package.preamble.header;
    if !header.is_immutable() || header.has(tag::OLDFILENAMES) {
        return Err(Problem::Legacy);
    }
    let mut added = signature_tags(package)?;
    // RPM tells binary from source packages by it.
    if !header.has(tag::SOURCERPM) {
        added.push(Added::string(tag::SOURCERPM, "(none)"));
    }
    added.push(Added::number(tag::INSTALLTIME, options.time));
    added.push(Added::number(tag::INSTALLCOLOR, options.color));
    added.push(Added::number(tag::INSTALLTID, options.time));
    if let Some(prefixes) = header.value(tag::PREFIXES) {
        added.push(Added::copy(tag::INSTPREFIXES, prefixes));
    }
    if !states.is_empty() {
        added.push(Added::characters(tag::FILESTATES, states));
    }
    if let Some(twice) = added.iter().find(|entry| header.has(entry.tag)) {
        return Err(Problem::Foreign(twice.tag));
    }
    Ok(header_writer::append(header, added)?)
}

fn signature_tags(package: &Package) -> Result<Vec<Added>, Problem> {
    let (header, signatures) = (&package.preamble.header, &package.preamble.signature);
    let format = header.u32(tag::RPMFORMAT)?.unwrap_or(4);
    let mut added = Vec::new();
    for row in TRANSLATIONS {
        // Packages of format 6 have these only as padding for old readers.
        if format >= 6 && row.from >= signature::SIZE {
            continue;
        }
        let Some(value) = signatures.value(row.from) else {
            if header.has(row.to) && !(row.either && format < 6) {
                return Err(Problem::Foreign(row.to));
            }
            continue;
        };
        if value.kind != row.kind || (row.count != 0 && value.count != row.count) {
            return Err(Problem::Signature(row.from));
        }
        added.push(Added::copy(row.to, value));
    }
    Ok(added)
}
