//! Kernel images (UKIs), and that what starts the system is what the sealed `/usr` brings.

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::esp::{KERNELS, loader_path};
use super::medium::Part;
use super::walk;
use super::{Notes, Place, Subject};
use crate::disk::Arch;
use crate::formats::at::ReadAt;
use crate::formats::erofs;
use crate::formats::fat_reader::{FileContent, StoredFile, Volume};
use crate::formats::fec;
use crate::formats::pe::{Image, PeError, Section};
use crate::store::unhex;

const MAX_TEXT: u32 = 1 << 16;
/// Boot loaders and stubs have some hundred KiB.
pub(super) const MAX_PROGRAM: u64 = 16 << 20;
/// An ESP has room for a handful; each takes time.
const MAX_KERNELS: usize = 64;
const NEEDED: [&str; 6] = [".osrel", ".cmdline", ".uname", ".linux", ".initrd", ".sbat"];
/// Where what starts the system lies in `/usr`.
pub(super) const PROGRAMS: &str = "lib/systemd/boot/efi";

/// A kernel image on the ESP.
#[derive(Debug)]
pub struct KernelImage {
    pub path: String,
    pub file: StoredFile,
    /// Or a sentence that says why it cannot be read.
    pub facts: Result<Facts, String>,
}

/// What a kernel image says.
#[derive(Debug)]
pub struct Facts {
    pub image: Image,
    pub cmdline: String,
    pub release: String,
    /// Of `usrhash=`, where it stands once and is a hash.
    pub root_hash: Option<Vec<u8>>,
}

impl KernelImage {
    /// Those on the ESP in `part`.
    pub fn find(volume: &Volume, part: Part<'_>) -> Vec<Self> {
        let files = volume.files.iter().filter(|file| {
            let name = file.path.strip_prefix(KERNELS);
            name.is_some_and(|name| !name.contains('/') && name.ends_with(".efi"))
        });
        let read = |file: &StoredFile| Self {
            path: file.path.clone(),
            facts: Facts::read(file, &file.content(part)),
            file: file.clone(),
        };
        files.take(MAX_KERNELS + 1).map(read).collect()
    }

    fn content<'a>(&'a self, subject: &'a Subject) -> Option<FileContent<'a, Part<'a>>> {
        let (entry, _) = subject.esp.as_ref()?;
        Some(self.file.content(subject.part(entry)?))
    }
}

/// Where parity over `/usr` and its hash tree lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parity {
    /// Bytes from the start of the hash partition.
    pub offset: u64,
    pub roots: u8,
}

impl Facts {
    /// What the command line says of parity.
    pub fn parity(&self) -> Option<Parity> {
        let mut words = self.cmdline.split_ascii_whitespace();
        let options = words.find_map(|word| word.strip_prefix("systemd.verity_usr_options="))?;
        let option = |name: &str| options.split(',').find_map(|option| option.strip_prefix(name));
        Some(Parity {
            offset: option("fec-offset=")?.parse().ok()?,
            roots: option("fec-roots=")?
                .parse()
                .ok()
                .filter(|roots| fec::ROOTS.contains(roots))?,
        })
    }

    fn read(file: &StoredFile, content: &impl ReadAt) -> Result<Self, String> {
        let image = Image::read(content, file.size).map_err(|error| error.to_string())?;
        let text = |name: &str| -> Result<String, String> {
            let bytes = image
                .content(content, name, MAX_TEXT)
                .map_err(|error| error.to_string())?;
            let bytes = bytes.ok_or_else(|| format!("it has no section `{name}`"))?;
            let text =
                String::from_utf8(bytes).map_err(|_| format!("its section `{name}` is not UTF-8 text"))?;
            Ok(text.trim_end_matches('\0').to_owned())
        };
        let (cmdline, release) = (text(".cmdline")?, text(".uname")?);
        let root_hash = match root_hashes(&cmdline).as_slice() {
            [hash] => hash.clone(),
            _ => None,
        };
        Ok(Self {
            image,
            cmdline,
            release,
            root_hash,
        })
    }
}

/// Every `usrhash=` of a command line, `None` where it is no hash of SHA-256 or SHA-512.
fn root_hashes(cmdline: &str) -> Vec<Option<Vec<u8>>> {
    let values = cmdline
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix("usrhash="));
    let hash = |text: &str| unhex(text).filter(|hash| [32, 64].contains(&hash.len()));
    values.map(hash).collect()
}

/// A word of the command line that takes the seal off.
fn unsealing(cmdline: &str) -> Option<&str> {
    let no = ["0", "no", "n", "false", "f", "off"];
    cmdline
        .split_ascii_whitespace()
        .find(|word| match word.split_once('=') {
            Some(("systemd.verity" | "rd.systemd.verity", value)) => no.contains(&value),
            Some(("mount.usr" | "usr", _)) => true,
            _ => false,
        })
}

/// Check `uki`.
pub fn uki(subject: &Subject, notes: &mut Notes) {
    let Some((medium, Some((entry, _)))) = subject.medium().map(|medium| (medium, &subject.esp)) else {
        return notes.not_checked("there is no EFI system partition that can be read (see check `esp`)");
    };
    if subject.kernels.is_empty() {
        return notes.not_checked("no kernel image can be read from the ESP (see check `esp`)");
    }
    if subject.kernels.len() > MAX_KERNELS {
        let place = Place::file(&medium.name).partition(entry.number).path(KERNELS);
        notes.fail(
            place,
            "there are more than 64 kernel images; the others are not looked at",
        );
    }
    for kernel in &subject.kernels {
        let place = || {
            let disk = Place::file(&medium.name).partition(entry.number);
            disk.path(kernel.path.clone())
        };
        let facts = match &kernel.facts {
            Ok(facts) => facts,
            Err(problem) => {
                notes.fail(place(), problem.clone());
                continue;
            }
        };
        // Sections behind `.profile` are another profile's.
        let names: Vec<String> = facts.image.sections().iter().map(Section::name).collect();
        let base: Vec<_> = names.iter().take_while(|name| *name != ".profile").collect();
        for needed in NEEDED {
            if !base.iter().any(|name| *name == needed) {
                notes.fail(place(), format!("it has no section `{needed}`"));
            }
        }
        for profile in names.split(|name| name == ".profile") {
            let mut seen = BTreeSet::new();
            for name in profile.iter().filter(|name| !seen.insert(*name)) {
                notes.fail(
                    place(),
                    format!("it has the section `{}` twice", name.escape_debug()),
                );
            }
        }
        let content = kernel.content(subject);
        let cmdlines = facts
            .image
            .sections()
            .iter()
            .filter(|section| section.name() == ".cmdline");
        for section in cmdlines {
            match content.as_ref().map(|content| text(section, content)) {
                Some(Ok(cmdline)) => {
                    if let Some(problem) = check_cmdline(&cmdline, facts) {
                        notes.fail(place(), problem);
                    }
                }
                Some(Err(problem)) => notes.fail(place(), problem),
                None => {}
            }
        }
        if let Some(problem) = check_end(&facts.image, kernel.file.size) {
            notes.fail(place(), problem);
        }
        notes.held(format!("{}: kernel {}", kernel.path, facts.release));
    }
}

fn text(section: &Section, content: &impl ReadAt) -> Result<String, String> {
    if section.content_size() > MAX_TEXT {
        return Err(format!("its section `{}` is larger than 64 KiB", section.name()));
    }
    let mut bytes = vec![0; section.content_size() as usize];
    content
        .read_exact_at(&mut bytes, section.raw_offset.into())
        .map_err(|error| format!("it cannot be read: {error}"))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| format!("its section `{}` is not UTF-8 text", section.name()))?;
    Ok(text.trim_end_matches('\0').to_owned())
}

fn check_cmdline(cmdline: &str, facts: &Facts) -> Option<String> {
    if cmdline.chars().any(char::is_control) {
        return Some("its command line holds a control character".to_owned());
    }
    if let Some(word) = unsealing(cmdline) {
        return Some(format!("its command line takes the seal off /usr: `{word}`"));
    }
    match root_hashes(cmdline).as_slice() {
        [Some(hash)] if facts.root_hash.as_ref() == Some(hash) => None,
        [Some(_)] => Some("its profiles name different root hashes".to_owned()),
        [None] => Some("the `usrhash=` of its command line is no hash of SHA-256 or SHA-512".to_owned()),
        [] => Some("its command line has no `usrhash=`: /usr is not sealed".to_owned()),
        several => Some(format!("its command line has `usrhash=` {} times", several.len())),
    }
}

/// That nothing stands behind the sections but a signature.
fn check_end(image: &Image, size: u64) -> Option<String> {
    let ends = image
        .sections()
        .iter()
        .map(|section| u64::from(section.raw_offset) + u64::from(section.raw_size));
    let end = ends.max().unwrap_or(0);
    match image.certificates() {
        None if end == size => None,
        Some(range) if range.end == size && range.start == end.next_multiple_of(8) => None,
        _ => Some(format!(
            "bytes that belong to no section and no signature stand behind byte {end}"
        )),
    }
}

/// Check `boot-files`.
pub fn boot_files(subject: &Subject, notes: &mut Notes) {
    let hashes = subject.root_hashes();
    let (Some(medium), Some((esp, Ok(volume)))) = (subject.medium(), &subject.esp) else {
        return notes.not_checked("there is no EFI system partition that can be read (see check `esp`)");
    };
    let arch = subject.arch.unwrap_or(Arch::X86_64);
    let suffix = match arch {
        Arch::X86_64 => "x64",
        Arch::Aarch64 => "aa64",
    };
    let place = |path: &str| Place::file(&medium.name).partition(esp.number).path(path);
    let mut loaders = Vec::new();
    let mut checked = 0;
    for (kernel, root_hash) in hashes {
        let [Some(usr), _] = subject.sealed(root_hash) else {
            continue;
        };
        let open = erofs::Image::open(medium.partition(usr));
        let (Ok(usr), Ok(facts), Some(content)) = (open, &kernel.facts, kernel.content(subject)) else {
            continue;
        };
        checked += 1;
        let mut compare = |path: &str, section: &str, what: &str| {
            let same = || -> io::Result<bool> {
                let Some(section) = facts.image.section(section) else {
                    return Ok(false);
                };
                let mut against =
                    Against::new(&content, section.raw_offset.into(), section.content_size().into());
                let found = walk::find(&usr, path).map_err(io::Error::other)?;
                let Some(inode) = found.filter(|inode| inode.size() == u64::from(section.content_size()))
                else {
                    return Ok(false);
                };
                // A difference ends the reading with an error of its own.
                let read = usr.read(&inode, &mut against);
                Ok(!against.differs && read.is_ok() && against.left == 0)
            };
            match same() {
                Ok(true) => {}
                Ok(false) => notes.fail(place(&kernel.path), format!("its {what} is not /usr/{path}")),
                Err(error) => notes.fail(
                    place(&kernel.path),
                    format!("its {what} cannot be compared: {error}"),
                ),
            }
        };
        compare(
            &format!("lib/modules/{}/vmlinuz", facts.release),
            ".linux",
            "kernel",
        );
        compare("lib/os-release", ".osrel", "os-release");
        let stub = walk::read(&usr, &format!("{PROGRAMS}/linux{suffix}.efi.stub"), MAX_PROGRAM);
        match stub.map(|stub| same_sections(&stub, &facts.image, &content)) {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(section))) => notes.fail(
                place(&kernel.path),
                format!("its section `{section}` is not that of /usr/{PROGRAMS}/linux{suffix}.efi.stub"),
            ),
            Ok(Err(error)) => notes.fail(
                place(&kernel.path),
                format!("its stub cannot be compared: {error}"),
            ),
            Err(error) => notes.fail(
                place(&kernel.path),
                format!("its stub cannot be compared: {error}"),
            ),
        }
        loaders.push(walk::read(
            &usr,
            &format!("{PROGRAMS}/systemd-boot{suffix}.efi"),
            MAX_PROGRAM,
        ));
    }
    if checked == 0 {
        return notes
            .not_checked("no kernel image names a /usr that can be read (see checks `uki` and `root-hash`)");
    }
    let path = loader_path(arch);
    let loader = volume
        .files
        .iter()
        .find(|file| file.path.eq_ignore_ascii_case(path));
    if let Some(file) = loader {
        let mut bytes = vec![0; usize::try_from(file.size.min(MAX_PROGRAM)).unwrap_or(0)];
        let read = file.content(medium.partition(esp)).read_exact_at(&mut bytes, 0);
        let same = |original: &Vec<u8>| same_program(&bytes, original);
        if read.is_err() || !loaders.iter().flatten().any(same) {
            let at = place(path).at(esp.offset() + file.offset());
            notes.fail(at, format!("it is not /usr/{PROGRAMS}/systemd-boot{suffix}.efi"));
        }
    }
    notes.held(format!("those of {checked} sealed /usr"));
}

/// The first section of the program `original` that `image` does not have with the same content. SBAT data grows with the
/// image.
fn same_sections(original: &[u8], image: &Image, content: &impl ReadAt) -> Result<Option<String>, PeError> {
    let program = Image::read(original, original.len() as u64)?;
    for section in program
        .sections()
        .iter()
        .filter(|section| section.name() != ".sbat")
    {
        let name = section.name();
        let limit = MAX_PROGRAM as u32;
        let expected = program.content(original, &name, limit)?;
        if image.content(content, &name, limit)? != expected {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Whether `program` is `original`, but for a signature.
fn same_program(program: &[u8], original: &[u8]) -> bool {
    let Ok(image) = Image::read(program, program.len() as u64) else {
        return false;
    };
    let Some(certificates) = image.certificates() else {
        return program == original;
    };
    let start = usize::try_from(certificates.start).unwrap_or(usize::MAX);
    let (Some(program), true) = (program.get(..start), certificates.end == program.len() as u64) else {
        return false;
    };
    let (mut program, mut original) = (program.to_vec(), original.to_vec());
    original.resize(original.len().next_multiple_of(8), 0);
    for range in image.signing_fields() {
        for bytes in [&mut program, &mut original] {
            if let Some(field) = bytes.get_mut(range.clone()) {
                field.fill(0);
            }
        }
    }
    program == original
}

/// Takes bytes and holds them against those of `source` from `at` on.
struct Against<'a, S> {
    source: &'a S,
    at: u64,
    left: u64,
    differs: bool,
    buffer: Vec<u8>,
}

impl<'a, S: ReadAt> Against<'a, S> {
    fn new(source: &'a S, at: u64, left: u64) -> Self {
        Self {
            source,
            at,
            left,
            differs: false,
            buffer: Vec::new(),
        }
    }
}

impl<S: ReadAt> Write for Against<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.differs |= bytes.len() as u64 > self.left;
        if !self.differs {
            self.buffer.resize(bytes.len(), 0);
            self.source.read_exact_at(&mut self.buffer, self.at)?;
            self.differs = self.buffer != bytes;
            self.at += bytes.len() as u64;
            self.left -= bytes.len() as u64;
        }
        match self.differs {
            true => Err(io::ErrorKind::InvalidData.into()),
            false => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_that_do_not_seal_are_told_apart() {
        let hash = "ab".repeat(32);
        let facts = Facts {
            image: Image::read(&crate::formats::pe::tests::sample_stub("sbat,1\n"), 1 << 12).unwrap(),
            cmdline: String::new(),
            release: String::new(),
            root_hash: Some(vec![0xab; 32]),
        };
        let table = [
            (format!("usrhash={hash} quiet"), None),
            (format!("quiet\nusrhash={hash}"), Some("control character")),
            (
                format!("usrhash={hash} systemd.verity=0"),
                Some("takes the seal off"),
            ),
            (
                format!("usrhash={hash} rd.systemd.verity=no"),
                Some("takes the seal off"),
            ),
            (
                format!("usrhash={hash} mount.usr=/dev/sdb"),
                Some("takes the seal off"),
            ),
            (
                format!("usrhash={hash} systemd.verity=1 mount.usrfstype=erofs"),
                None,
            ),
            ("quiet".to_owned(), Some("no `usrhash=`")),
            ("usrhash=abc".to_owned(), Some("no hash of SHA-256")),
            (
                format!("usrhash={}", "cd".repeat(32)),
                Some("different root hashes"),
            ),
            (format!("usrhash={hash} usrhash={hash}"), Some("2 times")),
        ];
        for (cmdline, expected) in table {
            let found = check_cmdline(&cmdline, &facts);
            match (found.as_deref(), expected) {
                (None, None) => {}
                (Some(found), Some(expected)) => assert!(found.contains(expected), "{cmdline}: {found}"),
                (found, _) => panic!("{cmdline}: {found:?}"),
            }
        }
    }
}
