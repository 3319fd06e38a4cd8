//! The RPM package file: lead, signature header, header, payload.
//!
//! Follows the format documents of the RPM project (versions 3, 4 and 6 of the format). All
//! integers in headers are big-endian.

pub mod header;
pub mod header_writer;
pub mod payload;
pub mod tag;

use std::io::Read;

pub use header::{Header, HeaderError, Limits};

/// Length of the lead in bytes.
pub const LEAD_SIZE: u64 = 96;
const LEAD_MAGIC: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];

/// What precedes the payload of a package.
#[derive(Debug, Clone)]
pub struct Preamble {
    /// Whether the lead says that it is a source package.
    pub is_source: bool,
    pub signature: Header,
    pub header: Header,
    /// Where the header's bytes start and end in the file; the payload follows.
    pub header_range: std::ops::Range<u64>,
}

/// A file is not an RPM package, or its headers are broken.
#[derive(Debug, thiserror::Error)]
pub enum PreambleError {
    #[error("it is not an RPM package: it starts with {0:02x?} and not with {LEAD_MAGIC:02x?}")]
    NotAnRpm([u8; 4]),
    #[error("it ends within the first {LEAD_SIZE} bytes, the lead")]
    ShortLead,
    #[error("the signature header at byte {LEAD_SIZE} is broken: {0}")]
    Signature(#[source] HeaderError),
    #[error("the header at byte {at} is broken: {source}")]
    Header { at: u64, source: HeaderError },
    #[error("it cannot be read: {0}")]
    Io(#[from] std::io::Error),
}

/// Reads lead and headers, leaving `reader` at the payload's first byte.
///
/// # Errors
/// Where lead or headers are not of the format; whatever reading gives.
pub fn read_preamble(reader: &mut impl Read) -> Result<Preamble, PreambleError> {
    let mut lead = [0; LEAD_SIZE as usize];
    reader.read_exact(&mut lead).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => PreambleError::ShortLead,
        _ => error.into(),
    })?;
    let magic = [lead[0], lead[1], lead[2], lead[3]];
    if magic != LEAD_MAGIC {
        return Err(PreambleError::NotAnRpm(magic));
    }
    let signature = Header::read(reader, &Limits::SIGNATURE).map_err(PreambleError::Signature)?;
    let padding = (8 - signature.raw().len() % 8) % 8;
    let mut pad = [0; 8];
    reader.read_exact(&mut pad[..padding])?;
    let at = LEAD_SIZE + (signature.raw().len() + padding) as u64;
    let header =
        Header::read(reader, &Limits::PACKAGE).map_err(|source| PreambleError::Header { at, source })?;
    Ok(Preamble {
        is_source: u16::from_be_bytes([lead[6], lead[7]]) == 1,
        header_range: at..at + header.raw().len() as u64,
        signature,
        header,
    })
}
