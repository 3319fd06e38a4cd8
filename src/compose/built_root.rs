//! The root partition that is encrypted at build: its key, and what it holds.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use super::ComposeError;
use super::workspace::{Workspace, output};
use crate::definition::plan::{EncryptionMode, KeyDerivation, Plan};
use crate::disk::EncryptedVolume;
use crate::disk::repart::RootEntry;
use crate::formats::at::Content;
use crate::formats::ext4;
use crate::formats::luks2::Kdf;
use crate::report::Progress;
use crate::tree::path::TreePath;
use crate::tree::{Kind, Meta, Node, Origin, Tree, selinux};

/// Bytes below which a key file could be guessed, by what derives keys from it: whatever has that many from a random
/// source, or is a passphrase of several words.
const SHORTEST: usize = 16;
/// Bytes that a fast derivation wants, if they are random: 256 bits.
const SHORTEST_FAST: usize = 32;
/// What cryptsetup reads.
const LONGEST: u64 = 8 << 20;
/// Letters that lie on the same keys of all keyboards, as systemd writes recovery keys.
const ALPHABET: &[u8; 16] = b"cbdefghijklnrtuv";

/// What opens the volume in the initrd, and nothing else does; and what that starts.
const OPENER: [&str; 4] = [
    "/usr/lib/systemd/system/built-root.service",
    "/usr/lib/hullwright/open-built-root",
    "/usr/lib/systemd/systemd-cryptsetup",
    "/usr/sbin/cryptsetup",
];

/// Whether the composer makes the root partition.
pub fn is_wanted(plan: &Plan) -> bool {
    plan.encryption.root.mode == EncryptionMode::Build
}

/// Name of the output with the key that was made for this build.
pub fn key_name(plan: &Plan) -> Option<String> {
    let made = is_wanted(plan) && plan.encryption.root.key_file.is_none();
    made.then(|| format!("{}.root.key", plan.image.stem()))
}

/// Features of `.note.dlopen` without which the volume can be neither opened nor grown.
pub fn features(plan: &Plan) -> Vec<String> {
    let wanted: &[&str] = if is_wanted(plan) { &["cryptsetup"] } else { &[] };
    wanted.iter().map(|feature| (*feature).to_owned()).collect()
}

/// Whether the initrd has what opens the volume.
///
/// # Errors
/// What it lacks.
pub fn check_initrd(plan: &Plan, initrd: &Tree) -> Result<(), ComposeError> {
    let lacks = |path: &&'static str| initrd.resolve(&TreePath::literal(path)).is_none();
    let missing: Vec<String> = OPENER.iter().copied().filter(lacks).map(str::to_owned).collect();
    if is_wanted(plan) && plan.encryption.root.rekey.is_none() && !missing.is_empty() {
        return Err(ComposeError::NoOpener { missing });
    }
    Ok(())
}

/// How the keyslot's key derives from the secret.
pub fn kdf(plan: &Plan) -> Kdf {
    match plan.encryption.root.kdf {
        Some(KeyDerivation::Pbkdf2) => Kdf::RANDOM_KEY,
        _ => Kdf::PASSPHRASE,
    }
}

/// What opens the volume: the definition's key file, or a new key, which is delivered. `None` where no volume is made.
///
/// # Errors
/// A key file that cannot be read, or is none.
pub fn secret(
    plan: &Plan,
    workspace: &Workspace,
    progress: &Progress,
) -> Result<Option<Zeroizing<Vec<u8>>>, ComposeError> {
    if !is_wanted(plan) {
        return Ok(None);
    }
    let Some(path) = &plan.encryption.root.key_file else {
        return new_key(plan, workspace).map(Some);
    };
    let secret = read_key(path.as_path(), kdf(plan))?;
    let metadata = fs::metadata(path.as_path()).map_err(unreadable(path.as_path()))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        progress.warn(&format!(
            "the key file `{path}` can be read by others than its owner: chmod 600 it"
        ));
    }
    Ok(Some(secret))
}

/// As [`secret`], of a build that goes on: a key that was made for it lies in `directory`, and is delivered from there.
///
/// # Errors
/// As [`secret`].
pub fn kept_secret(
    plan: &Plan,
    directory: &Path,
    workspace: &Workspace,
    progress: &Progress,
) -> Result<Option<Zeroizing<Vec<u8>>>, ComposeError> {
    let Some(name) = key_name(plan) else {
        return secret(plan, workspace, progress);
    };
    workspace.link_from(directory, &name)?;
    read_key(&workspace.path(&name), Kdf::PASSPHRASE).map(Some)
}

fn unreadable(path: &Path) -> impl Fn(std::io::Error) -> ComposeError {
    move |source| ComposeError::Source {
        path: path.to_owned(),
        source,
    }
}

/// All bytes of the key file at `path`.
fn read_key(path: &Path, kdf: Kdf) -> Result<Zeroizing<Vec<u8>>, ComposeError> {
    let refuse = |why: String| ComposeError::KeyFile {
        path: path.to_owned(),
        why,
    };
    let file = File::open(path).map_err(unreadable(path))?;
    let mut secret = Zeroizing::new(Vec::new());
    file.take(LONGEST + 1)
        .read_to_end(&mut secret)
        .map_err(unreadable(path))?;
    let least = if kdf == Kdf::RANDOM_KEY {
        SHORTEST_FAST
    } else {
        SHORTEST
    };
    if secret.len() as u64 > LONGEST {
        return Err(refuse(
            "is longer than 8 MiB, which cryptsetup does not read".to_owned(),
        ));
    }
    if secret.len() < least {
        return Err(refuse(format!(
            "has {} bytes; a key that nobody guesses has {least} at least",
            secret.len()
        )));
    }
    let text = secret
        .iter()
        .all(|byte| (b' '..=b'~').contains(byte) || *byte == b'\n');
    if text && secret.contains(&b'\n') {
        return Err(refuse(
            "is text with a line break, which would be a part of the key, and which nobody can type"
                .to_owned(),
        ));
    }
    Ok(secret)
}

/// 256 bits of the system's random source, in letters, written to the output that [`key_name`] names.
fn new_key(plan: &Plan, workspace: &Workspace) -> Result<Zeroizing<Vec<u8>>, ComposeError> {
    let name = key_name(plan).unwrap_or_default();
    let path = workspace.path(&name);
    let failed = |source| output(&path, source);
    let mut bytes = Zeroizing::new([0; 32]);
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(bytes.as_mut_slice()))
        .map_err(failed)?;
    let mut key = Zeroizing::new(Vec::with_capacity(71));
    for (index, byte) in bytes.iter().enumerate() {
        if index > 0 && index % 4 == 0 {
            key.push(b'-');
        }
        key.extend([byte >> 4, byte & 15].map(|digit| ALPHABET[usize::from(digit)]));
    }
    workspace.create_secret(&name)?.write_all(&key).map_err(failed)?;
    Ok(key)
}

/// The volume for the root partition, opened by `secret`. `root` is [`tree`].
pub fn volume<'a>(plan: &Plan, secret: &'a [u8], root: &'a Tree) -> EncryptedVolume<'a> {
    EncryptedVolume {
        secret,
        kdf: kdf(plan),
        label: "root",
        root: inode(root.root()),
    }
}

/// What the root file system holds at first: `entries`, with owners and modes of `system`'s top level, and labels of its
/// policy.
///
/// # Errors
/// A policy that cannot be read.
pub fn tree(plan: &Plan, system: &Tree, entries: &[RootEntry]) -> Result<Tree, ComposeError> {
    let time = plan.image.released.epoch();
    let mut root = Tree::new(system.root().meta.clone());
    let lost = RootEntry::Directory(TreePath::literal("/lost+found"));
    for entry in entries.iter().chain([&lost]) {
        let (path, kind) = match entry {
            RootEntry::Directory(path) => (path, Kind::Dir(Default::default())),
            RootEntry::Symlink(path, target) => (path, Kind::Symlink(target.as_bytes().into())),
        };
        let mode = if path.name() == Some(b"lost+found") {
            0o700
        } else {
            0o755
        };
        let found = system.get(path).map(|node| node.meta.clone());
        let mut meta = found.unwrap_or_else(|| Meta::root(mode, time));
        // What it had in the commit; asked for again below.
        meta.xattrs.clear();
        meta.mtime = time;
        root.insert(
            path,
            Node::new(meta, kind, Origin::Composer("the root partition")),
        )?;
    }
    if let Some(node) = root.get_mut(&TreePath::root()) {
        node.meta.mtime = time;
        node.meta.xattrs.clear();
    }
    match plan.os.selinux.as_str() {
        "none" => {}
        policy => selinux::label_by(&mut root, system, policy)?,
    }
    Ok(root)
}

fn inode(node: &Node) -> ext4::Inode<'_> {
    let kind = match &node.kind {
        Kind::Symlink(target) => ext4::Kind::Symlink(target.clone()),
        Kind::Dir(children) => ext4::Kind::Directory(
            children
                .iter()
                .map(|(name, child)| (name.clone(), inode(child)))
                .collect(),
        ),
        Kind::File(file) => ext4::Kind::File(Content::bytes(file.blob.in_memory().unwrap_or_default())),
        // `tree` makes nothing else.
        _ => ext4::Kind::File(Content::bytes(&[])),
    };
    ext4::Inode {
        mode: node.meta.mode,
        uid: node.meta.uid,
        gid: node.meta.gid,
        time: node.meta.mtime,
        xattrs: node.meta.xattrs.clone(),
        kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_files_that_are_none_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let cases: [(&[u8], Kdf, &str); 5] = [
            (b"", Kdf::PASSPHRASE, "has 0 bytes"),
            (
                b"short passphras",
                Kdf::PASSPHRASE,
                "has 15 bytes; a key that nobody guesses has 16",
            ),
            (
                b"correct horse battery staple",
                Kdf::RANDOM_KEY,
                "has 28 bytes; a key that nobody guesses has 32",
            ),
            (b"correct horse battery staple\n", Kdf::PASSPHRASE, "line break"),
            (&[1; (8 << 20) + 1], Kdf::PASSPHRASE, "longer than 8 MiB"),
        ];
        for (bytes, kdf, why) in cases {
            fs::write(&path, bytes).unwrap();
            let error = read_key(&path, kdf).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("key`"), "{error}");
        }
        let binary: Vec<u8> = (0..31).chain([b'\n']).collect();
        for bytes in [&b"correct horse battery staple"[..], &binary] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(&**read_key(&path, Kdf::PASSPHRASE).unwrap(), bytes);
        }
        assert!(read_key(&directory.path().join("absent"), Kdf::PASSPHRASE).is_err());
    }
}
