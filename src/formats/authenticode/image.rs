//! The file's side: its digest, and the table of signatures at its end.

use super::AuthenticodeError;
use super::message::Signature;
use crate::formats::at::{Content, ReadAt, WriteAt};
use crate::formats::pe::{CERTIFICATES, Image, Section, u16_at, u32_at};
use crate::formats::pe_append::{CHECKSUM, Checksum};

/// What is read at once.
const PIECE: usize = 1 << 20;
/// `WIN_CERTIFICATE`: length, revision, type.
const ENTRY_HEADER: usize = 8;
const REVISION_2: u16 = 0x0200;
const PKCS_SIGNED_DATA: u16 = 0x0002;
/// More signatures than any file has.
const MOST_SIGNATURES: usize = 64;
const LARGEST_TABLE: u32 = 1 << 20;

/// An image that has been read once to be signed.
#[derive(Debug, Clone)]
pub struct Scanned {
    /// SHA-256 as Authenticode takes it.
    pub sha256: [u8; 32],
    image: Image,
    /// Bytes of the file without its table, and those of zero that pad it to a whole eight.
    size: u64,
    padding: u64,
    /// The checksum's running sum over all but headers and table.
    sum: Checksum,
    table: Vec<u8>,
}

/// Reads the image in the first `size` bytes of `source` to sign it. Signatures that it has stay.
///
/// # Errors
/// Where it is no PE image that every program computes the same digest of.
pub fn scan(source: &(impl ReadAt + ?Sized), size: u64) -> Result<Scanned, AuthenticodeError> {
    let image = Image::read(source, size)?;
    let (directory, table_at, table_size) = table(&image, size)?;
    let end = if table_size == 0 { size } else { table_at };
    check_layout(&image, end)?;
    let mut entries = vec![0; table_size as usize];
    source.read_exact_at(&mut entries, table_at)?;

    let mut hasher = Hasher::new(&image, directory);
    let mut sum = Checksum::default();
    let headers = image.headers.len() as u64;
    let padding = end.next_multiple_of(8) - end;
    Content::range(&source, headers, end - headers).for_each_piece::<AuthenticodeError>(PIECE, |piece| {
        hasher.add(piece);
        sum.add(piece);
        Ok(())
    })?;
    hasher.add(&[0; 8][..padding as usize]);
    Ok(Scanned {
        sha256: hasher.finish(),
        image,
        size: end,
        padding,
        sum,
        table: entries,
    })
}

/// Adds the signature `message` (PKCS #7, DER) to the `scanned` file: table, its place in the
/// header, and the image's checksum. Returns the file's new size in bytes.
///
/// # Errors
/// Where the file would grow past 4 GiB, and I/O.
pub fn append(scanned: &Scanned, message: &[u8], out: &impl WriteAt) -> Result<u64, AuthenticodeError> {
    let length = ENTRY_HEADER + message.len();
    let mut table = scanned.table.clone();
    table.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    table.extend_from_slice(&REVISION_2.to_le_bytes());
    table.extend_from_slice(&PKCS_SIGNED_DATA.to_le_bytes());
    table.extend_from_slice(message);
    table.resize(table.len().next_multiple_of(8), 0);
    let at = scanned.size + scanned.padding;
    let size = at + table.len() as u64;
    let word = |value: u64| u32::try_from(value).map_err(|_| AuthenticodeError::Table);

    let image = &scanned.image;
    let mut header = image.headers.clone();
    let directory = image.directories.0 + CERTIFICATES * 8;
    header[directory..directory + 4].copy_from_slice(&word(at)?.to_le_bytes());
    header[directory + 4..directory + 8].copy_from_slice(&word(table.len() as u64)?.to_le_bytes());
    let field = image.optional + CHECKSUM;
    header[field..field + 4].fill(0);
    let mut sum = scanned.sum;
    sum.add(&header);
    sum.add(&table);
    header[field..field + 4].copy_from_slice(&sum.finish(word(size)?).to_le_bytes());

    let tail = [vec![0; scanned.padding as usize], table].concat();
    out.write_all_at(&tail, scanned.size)?;
    out.write_all_at(&header, 0)?;
    Ok(size)
}

/// The digest of the image in the first `size` bytes of `source`, as firmware computes it.
///
/// # Errors
/// Where it is no sound PE image.
pub fn digest(source: &(impl ReadAt + ?Sized), size: u64) -> Result<[u8; 32], AuthenticodeError> {
    let image = Image::read(source, size)?;
    let (directory, table_at, table_size) = table(&image, size)?;
    let end = if table_size == 0 { size } else { table_at };
    let mut hasher = Hasher::new(&image, directory);
    let mut hashed = image.headers.len() as u64;
    for section in by_place(&image) {
        let size = u64::from(section.raw_size);
        hashed += size;
        if hashed > end {
            return Err(AuthenticodeError::Overlap);
        }
        add_range(&source, section.raw_offset.into(), size, &mut hasher)?;
    }
    // What trails counts from the sum of what was hashed, wherever the sections lie.
    add_range(&source, hashed, end - hashed, &mut hasher)?;
    Ok(hasher.finish())
}

/// The signatures of the image in the first `size` bytes of `source`, in order. Entries of other
/// kinds than PKCS #7 are passed over, as firmware does.
///
/// # Errors
/// Where the table or a signature is malformed.
pub fn signatures(source: &(impl ReadAt + ?Sized), size: u64) -> Result<Vec<Signature>, AuthenticodeError> {
    let image = Image::read(source, size)?;
    let (_, at, length) = table(&image, size)?;
    let mut bytes = vec![0; length as usize];
    source.read_exact_at(&mut bytes, at)?;
    let mut rest = bytes.as_slice();
    let mut found = Vec::new();
    while rest.len() >= ENTRY_HEADER {
        let length = u32_at(rest, 0) as usize;
        if length < ENTRY_HEADER || length > rest.len() || found.len() == MOST_SIGNATURES {
            return Err(AuthenticodeError::Entry);
        }
        if u16_at(rest, 6) == PKCS_SIGNED_DATA {
            found.push(Signature::parse(&rest[ENTRY_HEADER..length])?);
        }
        rest = &rest[rest.len().min(length.next_multiple_of(8))..];
    }
    Ok(found)
}

/// Position in the headers of the certificate table's directory entry, if there is one; place and size of the table.
fn table(image: &Image, size: u64) -> Result<(Option<usize>, u64, u32), AuthenticodeError> {
    let (directories, entries) = image.directories;
    let directory = (entries > CERTIFICATES).then_some(directories + CERTIFICATES * 8);
    let (at, length) = image.directory(CERTIFICATES);
    let at = u64::from(at);
    if length == 0 {
        return Ok((directory, size, 0));
    }
    let ends = at + u64::from(length);
    if at < image.headers.len() as u64 || ends != size || at % 8 != 0 || length > LARGEST_TABLE {
        return Err(AuthenticodeError::Table);
    }
    Ok((directory, at, length))
}

/// The sections that have content in the file, in the order in which it stands there.
fn by_place(image: &Image) -> Vec<&Section> {
    let with_content = image.sections().iter().filter(|section| section.raw_size > 0);
    let mut sections: Vec<_> = with_content.collect();
    sections.sort_by_key(|section| section.raw_offset);
    sections
}

/// Sections must follow headers and each other without a gap; anything may trail the last.
fn check_layout(image: &Image, end: u64) -> Result<(), AuthenticodeError> {
    if image.directories.1 <= CERTIFICATES {
        return Err(AuthenticodeError::NoDirectory);
    }
    let mut at = image.headers.len() as u64;
    for section in by_place(image) {
        let start = u64::from(section.raw_offset);
        if start < at {
            return Err(AuthenticodeError::Overlap);
        }
        if start > at {
            let bytes = start - at;
            return Err(AuthenticodeError::Gap { at, bytes });
        }
        at += u64::from(section.raw_size);
    }
    if at > end {
        return Err(AuthenticodeError::Overlap);
    }
    if at < end {
        return Err(AuthenticodeError::Gap { at, bytes: end - at });
    }
    Ok(())
}

/// SHA-256 of an image without its checksum, the place of its table, and the table.
struct Hasher(sha2::Sha256);

impl Hasher {
    fn new(image: &Image, directory: Option<usize>) -> Self {
        use sha2::Digest as _;
        let headers = &image.headers;
        let checksum = image.optional + CHECKSUM;
        let mut hasher = sha2::Sha256::new();
        hasher.update(&headers[..checksum]);
        match directory {
            Some(directory) => {
                hasher.update(&headers[checksum + 4..directory]);
                hasher.update(&headers[directory + 8..]);
            }
            None => hasher.update(&headers[checksum + 4..]),
        }
        Self(hasher)
    }

    fn add(&mut self, bytes: &[u8]) {
        sha2::Digest::update(&mut self.0, bytes);
    }

    fn finish(self) -> [u8; 32] {
        sha2::Digest::finalize(self.0).into()
    }
}

fn add_range(source: &dyn ReadAt, at: u64, size: u64, hasher: &mut Hasher) -> Result<(), AuthenticodeError> {
    Content::range(source, at, size).for_each_piece(PIECE, |piece| {
        hasher.add(piece);
        Ok(())
    })
}
