//! What is fuzzed: every parser that reads bytes from outside. A target takes any bytes and must come back, in time
//! and memory that they pay for; what it says of them is not looked at.
//!
//! `fuzz_targets/` hands each to libFuzzer, `tests/fuzz_small.rs` runs all of them for a moment with stable tools.

#[path = "disks.rs"]
pub mod disks;
#[path = "kept.rs"]
pub mod kept;

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use hullwright::definition::{self, Found, Loader};
use hullwright::formats::at::ReadAt;
use hullwright::formats::efi::{AuthenticatedUpdate, SignatureDatabase, VariableStore};
use hullwright::formats::elf::Elf;
use hullwright::formats::event_log::EventLog;
use hullwright::formats::gvariant::{self, Type};
use hullwright::formats::kmod::Module;
use hullwright::formats::ldcache::Cache;
use hullwright::formats::pe::Image;
use hullwright::formats::rpm::payload::{Archive, Compression, PayloadError};
use hullwright::formats::rpm::tag::{self, signature};
use hullwright::formats::rpm::{Header, Limits, read_preamble};
use hullwright::formats::x509::{Certificate, PublicKey, Usage};
use hullwright::formats::{authenticode, cms, erofs, file_contexts, kconfig, kmodindex, mime, pem, vhd};
use hullwright::recovery::Record;
use hullwright::remote::open_entry;
use hullwright::rpmset::closure;
use hullwright::rpmset::repo;
use hullwright::rpmset::signature::{Keyring, Policy, verify, verify_detached};
use hullwright::rpmset::source::Source;
use hullwright::rpmset::{Lock, Package, RpmSet};
use hullwright::signing::PemKey;
use hullwright::store::Store;
use hullwright::tree::identity::{IdsLock, accounts::Accounts, sysusers};
use sha2::{Digest as _, Sha256};

/// A target.
pub type Target = fn(&[u8]);

/// All of them, by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("rpm_header", rpm_header),
    ("rpm_payload", rpm_payload),
    ("rpm_signature", rpm_signature),
    ("openpgp_keys", openpgp_keys),
    ("pe_image", pe_image),
    ("signed_messages", signed_messages),
    ("erofs_volume", erofs_volume),
    ("vhd_footer", vhd_footer),
    ("event_log", event_log),
    ("gpt_table", disks::gpt_table),
    ("fat_volume", disks::fat_volume),
    ("qcow2_image", disks::qcow2_image),
    ("efi_signatures", efi_signatures),
    ("efi_variables", efi_variables),
    ("recovery_record", recovery_record),
    ("remote_entry", remote_entry),
    ("gvariant_value", gvariant_value),
    ("elf_file", elf_file),
    ("kernel_module", kernel_module),
    ("kernel_config", kernel_config),
    ("module_index", module_index),
    ("linker_cache", linker_cache),
    ("selinux_contexts", selinux_contexts),
    ("image_definition", image_definition),
    ("lock_files", lock_files),
    ("repository", repository),
    ("package_lists", package_lists),
    ("account_files", account_files),
    ("mime_types", mime_types),
    ("value_pack", kept::value_pack),
    ("static_delta", kept::static_delta),
];

/// More bytes than this are not taken out of a decompressor or a volume.
const MOST: u64 = 4 << 20;

/// An entry of a header: tag, RPM's number of the type, count, bytes.
pub type Value = (u32, u32, usize, Vec<u8>);

/// A header as packages have it, without a region.
pub fn header(values: &[Value]) -> Vec<u8> {
    let (mut index, mut store) = (Vec::new(), Vec::new());
    let word = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes();
    for (tag, kind, count, bytes) in values {
        let width = match kind {
            3 => 2,
            4 => 4,
            5 => 8,
            _ => 1,
        };
        while store.len() % width != 0 {
            store.push(0);
        }
        index.extend(tag.to_be_bytes());
        index.extend(kind.to_be_bytes());
        index.extend(word(store.len()));
        index.extend(word(*count));
        store.extend(bytes);
    }
    let magic = [0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];
    [
        &magic[..],
        &word(values.len()),
        &word(store.len()),
        &index,
        &store,
    ]
    .concat()
}

/// A string.
pub fn text(tag: u32, value: &str) -> Value {
    (tag, 6, 1, [value.as_bytes(), &[0]].concat())
}

pub fn strings(tag: u32, values: &[&str]) -> Value {
    let bytes = values.iter().flat_map(|value| value.bytes().chain([0]));
    (tag, 8, values.len(), bytes.collect())
}

fn words(tag: u32, values: &[u32]) -> Value {
    let bytes = values.iter().flat_map(|value| value.to_be_bytes());
    (tag, 4, values.len(), bytes.collect())
}

fn halves(tag: u32, values: &[u16]) -> Value {
    let bytes = values.iter().flat_map(|value| value.to_be_bytes());
    (tag, 3, values.len(), bytes.collect())
}

/// The header of a small package with a directory, three files of which two are linked, a link and a ghost; `payload`
/// is what stands in its file, compressed by `compressor`.
pub fn package_header(compressor: &str, payload: &[u8]) -> Vec<u8> {
    header(&[
        text(tag::NAME, "tool"),
        text(tag::VERSION, "1"),
        text(tag::RELEASE, "1"),
        words(tag::BUILDTIME, &[1_000_000_000]),
        words(tag::FILESIZES, &[0, 5, 7, 7, 4, 9]),
        halves(
            tag::FILEMODES,
            &[0o040_755, 0o100_644, 0o100_644, 0o100_644, 0o120_777, 0o100_644],
        ),
        halves(tag::FILERDEVS, &[0; 6]),
        words(tag::FILEMTIMES, &[1; 6]),
        strings(tag::FILEDIGESTS, &[""; 6]),
        strings(tag::FILELINKTOS, &["", "", "", "", "file", ""]),
        words(tag::FILEFLAGS, &[0, 0, 0, 0, 0, tag::fileflag::GHOST]),
        strings(tag::FILEUSERNAME, &["root"; 6]),
        strings(tag::FILEGROUPNAME, &["root"; 6]),
        words(tag::FILEDEVICES, &[1; 6]),
        words(tag::FILEINODES, &[1, 2, 3, 3, 4, 5]),
        words(tag::DIRINDEXES, &[0, 1, 1, 1, 1, 1]),
        strings(tag::BASENAMES, &["tool", "file", "one", "two", "link", "ghost"]),
        strings(tag::DIRNAMES, &["/usr/", "/usr/tool/"]),
        text(tag::ARCH, "noarch"),
        text(tag::PAYLOADFORMAT, "cpio"),
        text(tag::PAYLOADCOMPRESSOR, compressor),
        strings(tag::PAYLOADDIGEST, &[&hex(&Sha256::digest(payload))]),
        words(tag::PAYLOADDIGESTALGO, &[8]),
    ])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A package file of `signatures`, header and payload.
pub fn package(signatures: &[Value], header_bytes: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 96];
    file[..8].copy_from_slice(&[0xed, 0xab, 0xee, 0xdb, 3, 0, 0, 0]);
    let mut values = vec![text(signature::SHA256, &hex(&Sha256::digest(header_bytes)))];
    values.extend(signatures.iter().cloned());
    file.extend(header(&values));
    file.resize(file.len().next_multiple_of(8), 0);
    file.extend(header_bytes);
    file.extend(payload);
    file
}

/// A directory of this run, in memory where the machine has a place for that.
fn scratch() -> &'static Path {
    static PLACE: OnceLock<Option<tempfile::TempDir>> = OnceLock::new();
    let made = PLACE.get_or_init(|| {
        let memory = tempfile::tempdir_in("/dev/shm");
        memory.or_else(|_| tempfile::tempdir()).ok()
    });
    match made {
        Some(place) => place.path(),
        None => panic!("no directory for temporary files"),
    }
}

/// A file with `bytes`, of the calling thread.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let thread: String = format!("{:?}", std::thread::current().id())
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    let path = scratch().join(format!("{thread}-{name}"));
    if let Err(error) = std::fs::write(&path, bytes) {
        panic!("{}: {error}", path.display());
    }
    path
}

/// Bytes of a header, with its magic: read as a header of every kind, and as that of a package whose digests hold.
fn rpm_header(data: &[u8]) {
    let _ = read_preamble(&mut &data[..]);
    for limits in [&Limits::PACKAGE, &Limits::SIGNATURE, &Limits::DATABASE] {
        let _ = Header::read(&mut &data[..], limits);
        if let Ok(header) = Header::from_database(data.get(8..).unwrap_or_default(), limits) {
            values(&header);
            let _ = closure::check(&[&header], closure::Options::default());
        }
    }
    let path = file("header.rpm", &package(&[], data, b""));
    if let Ok(package) = Package::open(&path) {
        let _ = package.check_payload();
        let _ = hullwright::scriptlet::of_package(&package);
        let _ = package.claimed_payload_digest();
        let _ = verify(&package, &Keyring::default(), &Policy::default());
    }
}

fn values(header: &Header) {
    for (tag, ..) in header.tags() {
        let _ = header.string(tag);
        let _ = header.strings(tag);
        let _ = header.u16s(tag);
        let _ = header.u32s(tag);
        let _ = header.u64s(tag);
        let _ = header.binary(tag);
    }
}

const COMPRESSORS: [&str; 6] = ["gzip", "bzip2", "lzma", "xz", "zstd", "none"];

/// A number of a compressor, then a payload: its entries, and the unpacking of a package that has it.
fn rpm_payload(data: &[u8]) {
    let Some((&choice, payload)) = data.split_first() else {
        return;
    };
    let compressor = COMPRESSORS[usize::from(choice) % COMPRESSORS.len()];
    let compression = Compression::from_tag(Some(compressor.as_bytes()), payload);
    if let Some(Ok(reader)) = compression.map(|compression| compression.decoder(payload)) {
        let mut archive = Archive::new(reader.take(MOST));
        while let Ok(Some(entry)) = archive.next_entry() {
            let size = entry.newc.map_or(0, |fields| u64::from(fields.size));
            if archive.content(size, |_| Ok::<_, PayloadError>(())).is_err() {
                break;
            }
        }
    }
    let bytes = package(&[], &package_header(compressor, payload), payload);
    let path = file("payload.rpm", &bytes);
    let store = scratch().join("store");
    if let (Ok(set), Ok(store_opened)) = (RpmSet::open(&[path]), Store::open(&store)) {
        // What unpacks well would stay.
        if set.contents(&store_opened).is_ok() {
            let _ = std::fs::remove_dir_all(&store);
        }
    }
}

/// Tags that hold signatures.
pub const SIGNATURES: [(u32, u32); 5] = [
    (signature::RSA, 7),
    (signature::DSA, 7),
    (signature::PGP, 7),
    (signature::GPG, 7),
    (signature::OPENPGP, 8),
];

/// A number of a tag, then what stands in it: held against a key of ours.
fn rpm_signature(data: &[u8]) {
    static KEYS: OnceLock<Option<Keyring>> = OnceLock::new();
    let keyring = KEYS.get_or_init(|| {
        let path = file("key", &super::seeds::public_key());
        Keyring::read(&[path]).ok()
    });
    let (Some(keyring), Some((&choice, bytes))) = (keyring, data.split_first()) else {
        return;
    };
    let (tag, kind) = SIGNATURES[usize::from(choice) % SIGNATURES.len()];
    let bytes = match kind {
        7 => bytes.to_vec(),
        _ => [bytes, &[0]].concat(),
    };
    let count = if kind == 7 { bytes.len() } else { 1 };
    let payload = b"not unpacked here";
    let package = package(
        &[(tag, kind, count, bytes)],
        &package_header("none", payload),
        payload,
    );
    if let Ok(package) = Package::open(&file("signature.rpm", &package)) {
        let policy = Policy {
            weak_packages: ["tool".to_owned()].into(),
            ..Policy::default()
        };
        let _ = verify(&package, keyring, &policy);
    }
}

fn openpgp_keys(data: &[u8]) {
    let _ = Keyring::read(&[file("keys", data)]);
}

fn pe_image(data: &[u8]) {
    let Ok(image) = Image::read(data, data.len() as u64) else {
        return;
    };
    for section in image.sections() {
        let _ = image.content(data, &section.name(), 1 << 16);
    }
    let _ = image.dll_characteristics();
    let _ = authenticode::digest(data, data.len() as u64);
    let _ = authenticode::scan(data, data.len() as u64);
    let _ = authenticode::verify(data, data.len() as u64, &authenticode::Trust::default());
}

fn signed_messages(data: &[u8]) {
    if let Ok(certificate) = Certificate::from_der(data) {
        let _ = certificate.check(0, Usage::CodeSigning);
        let _ = certificate.issued_by(&certificate);
    }
    let _ = PublicKey::from_spki(data);
    if let Ok(message) = cms::Message::parse(data) {
        let trusted = message.certificates.clone();
        let _ = message.verify(Some(b"content"), &trusted);
        let _ = message.verify(None, &trusted);
    }
    let _ = authenticode::Signature::parse(data);
    if let Ok(blocks) = std::str::from_utf8(data).map(pem::blocks) {
        for block in blocks.iter().flatten() {
            let _ = PemKey::from_block(block);
        }
    }
}

/// A volume in memory.
struct Volume<'a>(&'a [u8]);

impl erofs::Content for Volume<'_> {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }
}

/// Throws away what is written, until it is too much.
struct Sink(u64);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self
            .0
            .checked_sub(bytes.len() as u64)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn erofs_volume(data: &[u8]) {
    let Ok(image) = erofs::Image::open(Volume(data)) else {
        return;
    };
    let _ = image.volume();
    let Ok(root) = image.root() else { return };
    let mut todo = vec![(root.nid(), 0)];
    let mut seen = 0;
    let mut sink = Sink(MOST);
    while let Some((nid, depth)) = todo.pop() {
        seen += 1;
        // Volumes may be written so that a walk never ends.
        if seen > 200 || depth > 20 {
            return;
        }
        let Ok(inode) = image.inode(nid) else { continue };
        let _ = image.xattrs(&inode);
        let _ = image.target(&inode);
        let _ = image.read(&inode, &mut sink);
        if let Ok(children) = image.children(&inode) {
            todo.extend(children.into_values().map(|child| (child, depth + 1)));
        }
    }
}

fn vhd_footer(data: &[u8]) {
    let mut footer = [0; 512];
    let length = data.len().min(512);
    footer[..length].copy_from_slice(&data[..length]);
    let _ = vhd::Footer::parse(&footer);
}

fn event_log(data: &[u8]) {
    let Ok(log) = EventLog::parse(data) else { return };
    for bank in &log.banks {
        log.replay(*bank);
    }
    for event in &log.events {
        assert!(event.describe().len() < 2000);
        event.digests_data();
    }
}

/// Signature lists, and a signed update of a variable: what is understood is written back as it was.
fn efi_signatures(data: &[u8]) {
    if let Ok(database) = SignatureDatabase::parse(data) {
        assert!(database.to_bytes() == data);
        let mut all = SignatureDatabase::default();
        all.add_all(&database);
        let _ = database.lists_certificate(data);
    }
    if let Ok(update) = AuthenticatedUpdate::parse(data) {
        assert!(update.to_bytes() == data);
    }
}

/// A variable store: what is written has the variables that were read.
fn efi_variables(data: &[u8]) {
    let Ok(store) = VariableStore::parse(data.to_vec()) else {
        return;
    };
    if let Ok(bytes) = store.to_bytes() {
        assert!(bytes.len() == data.len());
        let again = VariableStore::parse(bytes).map(|again| again.variables() == store.variables());
        assert!(again == Ok(true));
    }
}

/// Signed by nobody, so that nothing may come of it.
fn remote_entry(data: &[u8]) {
    let key = PublicKey::from_key(hullwright::formats::x509::Algorithm::Ed25519, &[0x58; 32]);
    let trusted: Vec<_> = key.into_iter().collect();
    assert!(open_entry(data, &trusted).is_err());
}

fn recovery_record(data: &[u8]) {
    if let Ok(record) = Record::parse(data) {
        assert!(record.machine.len() <= 64 && record.wrapped.len() <= 2048);
    }
}

/// A type, a NUL, a value.
fn gvariant_value(data: &[u8]) {
    let Some(end) = data.iter().position(|&b| b == 0) else {
        return;
    };
    let bytes = &data[end + 1..];
    let Ok(kind) = Type::parse(&data[..end]) else {
        return;
    };
    if let Ok(value) = gvariant::parse(&kind, bytes) {
        assert_eq!(
            gvariant::serialise(&value),
            bytes,
            "what is accepted is in normal form"
        );
    }
}

fn elf_file(data: &[u8]) {
    let Ok(elf) = Elf::parse(data) else { return };
    let _ = elf.interpreter();
    let _ = elf.dynamic();
    let _ = elf.symbols();
    let _ = elf.section(b".modinfo");
}

fn kernel_module(data: &[u8]) {
    let _ = Module::parse(data);
    // The decompressors have targets of their own makers; what counts is that they are bounded.
    if data.len() < 1 << 16 {
        let _ = Module::read(data);
    }
}

fn kernel_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let _ = kconfig::parse(text);
    let _ = kconfig::Config::parse(text);
}

fn module_index(data: &[u8]) {
    let _ = kmodindex::Index::parse(data);
}

fn linker_cache(data: &[u8]) {
    let _ = Cache::parse(data);
}

fn selinux_contexts(data: &[u8]) {
    let _ = file_contexts::parse(data);
    let _ = file_contexts::parse_substitutions(data);
}

/// One definition, which can name nothing that is there.
struct Single<'a>(&'a str);

impl Loader for Single<'_> {
    fn read(&self, path: &Path) -> io::Result<String> {
        if path == Path::new("image.toml") {
            Ok(self.0.to_owned())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn found(&self, path: &Path) -> Option<Found> {
        let directory = path.extension().is_none();
        Some(if directory { Found::Directory } else { Found::File })
    }
}

fn image_definition(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match definition::load_with(&Single(text), Path::new("image.toml")) {
        Ok(definition) => assert!(definition.plan.to_toml().is_ok()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn lock_files(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let _ = Lock::parse(text, Path::new("rpms.lock.toml"));
    if let Ok(lock) = IdsLock::parse(text, "ids.lock") {
        assert_eq!(IdsLock::parse(&lock.to_text(), "ids.lock").as_ref(), Ok(&lock));
    }
}

fn repository(data: &[u8]) {
    let _ = repo::parse_repomd(data);
    let _ = repo::parse_primary(data);
    let _ = verify_detached(data, data, &Keyring::default());
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = repo::parse_repo_file(text, &repo::Variables::new());
    }
}

fn package_lists(data: &[u8]) {
    let _ = Source::recognise(&file("list", data));
}

fn mime_types(data: &[u8]) {
    let source = mime::Source {
        name: "types.xml",
        bytes: data,
    };
    let _ = mime::compile(&[source], "2.4");
}

fn account_files(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let _ = sysusers::parse(text);
    if let Ok(accounts) = Accounts::parse(text, text, text, text) {
        let _ = accounts.files(0);
    }
}
