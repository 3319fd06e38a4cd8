//! `icon-theme.cache`: the index of an icon theme that GTK maps into memory, version 1.0.
//!
//! Big-endian: a hash table of the icons' names, each with the directories that have it and in which formats; then the
//! directories. Without the pictures themselves, as `gtk-update-icon-cache` of GTK 3.24 and 4 writes it, byte for byte.

use std::collections::HashMap;

use super::glib_table::GlibTable;

const MAJOR: u16 = 1;
const MINOR: u16 = 0;
const HEADER: usize = 12;
const NOTHING: u32 = 0xffff_ffff;
const XPM: u16 = 1;
const SVG: u16 = 2;
const PNG: u16 = 4;
/// Sizes of hash tables: GLib's primes, each about half as large again as the one before.
const PRIMES: [usize; 34] = [
    11, 19, 37, 73, 109, 163, 251, 367, 557, 823, 1237, 1861, 2777, 4177, 6247, 9371, 14057, 21089, 31627,
    47431, 71143, 106_721, 160_073, 240_101, 360_163, 540_217, 810_343, 1_215_497, 1_823_231, 2_734_867,
    4_102_283, 6_153_409, 9_230_113, 13_845_163,
];

/// A directory of a theme; icons that lie in the theme's own directory do not count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    /// Below the theme: `48x48/apps`. Empty for the theme itself.
    pub path: String,
    /// In the order of their names.
    pub entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A regular file, or a link to one.
    File(String),
    Directory(Directory),
}

/// No cache can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IconCacheError {
    #[error("`{0}` says where text goes in a picture, which is not put into caches here")]
    Metadata(String),
    /// The tool would find its own cache invalid, and leave none.
    #[error("`{0}` is no name that a cache can hold: it needs printing ASCII characters, 1024 at the most")]
    Name(String),
    #[error("it has more directories or icons than a cache can name")]
    TooLarge,
}

/// The cache of `theme`; `None` where it has no icons.
///
/// # Errors
/// Where there are `.icon` files, names that the format has no room for, or too many directories.
pub fn write(theme: &Directory) -> Result<Option<Vec<u8>>, IconCacheError> {
    let mut found = Found::default();
    found.scan(theme)?;
    let Found { directories, icons } = found;
    if icons.is_empty() {
        return Ok(None);
    }
    let size = size(icons.len() / 3);
    let mut buckets: Vec<Vec<(String, Vec<Image>)>> = vec![Vec::new(); size];
    for (name, images) in icons.into_entries() {
        buckets[hash(&name) as usize % size].push((name, images));
    }
    let mut out = Vec::new();
    let mut strings = HashMap::new();
    out.extend_from_slice(&MAJOR.to_be_bytes());
    out.extend_from_slice(&MINOR.to_be_bytes());
    word(&mut out, HEADER);
    word(&mut out, 0);
    word(&mut out, size);
    let table = out.len();
    out.resize(table + 4 * size, 0xff);
    for (number, bucket) in buckets.iter().enumerate() {
        let start = narrow(out.len());
        if !bucket.is_empty() {
            out[table + 4 * number..][..4].copy_from_slice(&start.to_be_bytes());
        }
        // The last that came is the first of the chain, and of the images of one icon.
        for (left, (name, images)) in (0..bucket.len()).rev().zip(bucket.iter().rev()) {
            let here = out.len();
            let list = here + 12 + padded(name);
            let end = list + 4 + 8 * images.len();
            word(&mut out, if left == 0 { NOTHING as usize } else { end });
            word(&mut out, here + 12);
            word(&mut out, list);
            strings.insert(name.as_str(), out.len());
            string(&mut out, name);
            word(&mut out, images.len());
            for image in images.iter().rev() {
                out.extend_from_slice(&image.directory.to_be_bytes());
                out.extend_from_slice(&image.formats.to_be_bytes());
                word(&mut out, 0);
            }
        }
    }
    let list = narrow(out.len());
    out[8..HEADER].copy_from_slice(&list.to_be_bytes());
    word(&mut out, directories.len());
    let mut next = out.len() + 4 * directories.len();
    let mut own = Vec::new();
    for directory in &directories {
        // A directory may be called as an icon is.
        let place = *strings.entry(directory).or_insert_with(|| {
            let place = next;
            next += padded(directory);
            own.push(directory);
            place
        });
        word(&mut out, place);
    }
    own.into_iter().for_each(|directory| string(&mut out, directory));
    match u32::try_from(out.len()) {
        Ok(_) => Ok(Some(out)),
        Err(_) => Err(IconCacheError::TooLarge),
    }
}

#[derive(Debug, Clone, Copy)]
struct Image {
    directory: u16,
    formats: u16,
}

#[derive(Default)]
struct Found<'a> {
    directories: Vec<&'a str>,
    icons: GlibTable<Vec<Image>>,
}

impl<'a> Found<'a> {
    fn scan(&mut self, directory: &'a Directory) -> Result<(), IconCacheError> {
        let mut here = GlibTable::<u16>::default();
        let mut number = 0;
        for entry in &directory.entries {
            let name = match entry {
                Entry::Directory(below) => {
                    self.scan(below)?;
                    continue;
                }
                Entry::File(_) if directory.path.is_empty() => continue,
                Entry::File(name) => name,
            };
            let (stem, format) = match name.rsplit_once('.') {
                Some((stem, "png")) => (stem, PNG),
                Some((stem, "svg")) => (stem, SVG),
                Some((stem, "xpm")) => (stem, XPM),
                Some((_, "icon")) => {
                    let path = format!("{}/{name}", directory.path);
                    return Err(IconCacheError::Metadata(path));
                }
                _ => continue,
            };
            if !is_plain(stem) || !is_plain(&directory.path) {
                return Err(IconCacheError::Name(format!("{}/{name}", directory.path)));
            }
            if here.is_empty() {
                number = u16::try_from(self.directories.len()).map_err(|_| IconCacheError::TooLarge)?;
                self.directories.push(&directory.path);
            }
            *here.entry(stem) |= format;
        }
        for (name, formats) in here.into_entries() {
            let image = Image {
                directory: number,
                formats,
            };
            self.icons.entry(&name).push(image);
        }
        Ok(())
    }
}

fn is_plain(name: &str) -> bool {
    name.len() <= 1024 && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The first of [`PRIMES`] above `wanted`.
fn size(wanted: usize) -> usize {
    let found = PRIMES.iter().find(|prime| **prime > wanted);
    *found.unwrap_or(&PRIMES[PRIMES.len() - 1])
}

/// X11's old hash of names, by signed bytes.
fn hash(name: &str) -> u32 {
    let mut bytes = name
        .bytes()
        .map(|byte| i32::from(byte.cast_signed()).cast_unsigned());
    let first = bytes.next().unwrap_or(0);
    bytes.fold(first, |hash, byte| {
        (hash << 5).wrapping_sub(hash).wrapping_add(byte)
    })
}

fn padded(text: &str) -> usize {
    (text.len() + 1).next_multiple_of(4)
}

fn string(out: &mut Vec<u8>, text: &str) {
    let end = out.len() + padded(text);
    out.extend_from_slice(text.as_bytes());
    out.resize(end, 0);
}

/// Wraps where the file is too large to be written at all.
fn narrow(number: usize) -> u32 {
    number as u32
}

fn word(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(&narrow(number).to_be_bytes());
}

#[cfg(test)]
mod tests;
