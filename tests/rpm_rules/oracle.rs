//! One and the same set of packages, installed by RPM into an empty root and merged by us.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use hullwright::formats::rpm::tag;
use hullwright::rpmset::{RpmSet, rpmdb};
use hullwright::store::{Digest, Store};
use hullwright::tree::merge::{MergeErrors, Merged, Options, merge};
use hullwright::tree::{Kind, Meta, Origin};
use tempfile::TempDir;

use crate::support;

/// A path: everything that both sides can say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub kind: char,
    pub mode: u32,
    pub owner: (String, String),
    /// Of regular files: bytes and SHA-256.
    pub content: Option<(u64, Digest)>,
    pub target: Option<Vec<u8>>,
    pub device: Option<(u64, u64)>,
    /// The first path, in byte order, of the same inode; only where there are several.
    pub inode: Option<Vec<u8>>,
    /// Of all but directories, whose time RPM changes by putting files into them.
    pub mtime: Option<i64>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

pub type Seens = BTreeMap<Vec<u8>, Seen>;

/// What came of a set on both sides.
pub enum Outcome {
    /// Both have the same tree.
    Installed { tree: Seens, states: Vec<Vec<u8>> },
    /// Both refuse: what RPM says, what we say.
    Refused { rpm: String, ours: String },
}

impl Outcome {
    #[track_caller]
    pub fn installed(self) -> Seens {
        match self {
            Self::Installed { tree, .. } => tree,
            Self::Refused { rpm, ours } => panic!("refused: {rpm}\n{ours}"),
        }
    }

    #[track_caller]
    pub fn refused(self) -> (String, String) {
        match self {
            Self::Refused { rpm, ours } => (rpm, ours),
            Self::Installed { .. } => panic!("installed on both sides"),
        }
    }
}

/// An RPM to ask.
pub struct Oracle {
    program: PathBuf,
    pub name: &'static str,
    /// An ordinary user's RPM can neither give files away nor make devices: owners and attributes go unseen.
    pub privileged: bool,
    /// Unpacked packages, for all that is asked.
    store: Arc<TempDir>,
}

const DATABASE: &str = "/.oracle";
/// Numbers that the names of owners get in the root that RPM installs into.
const FIRST_ID: u32 = 20_000;

/// The RPMs that can be asked: the host's, and 4.20. What is missing is said as a skip.
pub fn oracles() -> Vec<Oracle> {
    let store = Arc::new(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
    let found = ["rpm", "rpm-4.20"].into_iter().filter_map(|name| {
        Some(Oracle {
            store: Arc::clone(&store),
            program: support::tool(name)?,
            name,
            privileged: nix::unistd::geteuid().is_root(),
        })
    });
    found.collect()
}

impl Oracle {
    fn command(&self) -> Command {
        if self.privileged {
            return Command::new(&self.program);
        }
        let mut command = Command::new("unshare");
        command.arg("-r").arg(&self.program);
        command
    }

    /// Whether it takes `packages` for whole.
    pub fn takes(&self, packages: &[PathBuf]) -> bool {
        let mut command = Command::new(&self.program);
        command.args("-K --nosignature".split(' ')).args(packages);
        command.output().unwrap().status.success()
    }

    /// Our side alone.
    pub fn merge(&self, set: &RpmSet, options: &Options<'_>) -> Result<Merged, MergeErrors> {
        let store = Store::open(self.store.path()).unwrap();
        let contents = set.contents(&store);
        let contents = contents.unwrap_or_else(|error| panic!("{:?}", miette::Report::new(error)));
        merge(set, &contents, options)
    }

    /// Installs `packages` on both sides, `flags` being what RPM is told beside what `options` says, and holds the
    /// trees against each other.
    #[track_caller]
    pub fn compare(&self, packages: &[PathBuf], options: &Options<'_>, flags: &[&str]) -> Outcome {
        let set = RpmSet::open(packages).unwrap_or_else(|error| panic!("{:?}", miette::Report::new(error)));
        let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let ours = self.merge(&set, options);

        let root = place.path().join("root");
        let names = self.seed(&root, &set);
        let mut command = self.command();
        command.arg("--root").arg(&root).args(["--dbpath", DATABASE]);
        let always = "-i --noscripts --nodeps --nosignature --ignorearch --ignoreos";
        command.args(always.split(' ')).args(flags);
        command.args(["--define", "_transaction_color 3"]);
        if self.name != "rpm" {
            // It would make the accounts that packages provide, which here is not asked for.
            command.arg("--nosysusers");
        }
        if options.filter.exclude_docs {
            command.arg("--excludedocs");
        }
        if !options.filter.languages.is_empty() {
            let languages = options.filter.languages.join(":");
            command.arg("--define").arg(format!("_install_langs {languages}"));
        }
        // In the order of the set, which RPM keeps where nothing is required.
        command.args(set.packages().iter().map(|package| &package.path));
        let output = command.env("LC_ALL", "C.UTF-8").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        match (output.status.success(), ours) {
            (false, Err(errors)) => Outcome::Refused {
                rpm: said,
                ours: errors.to_string(),
            },
            (true, Err(errors)) => panic!("{} installs what we refuse: {errors}\n{said}", self.name),
            (false, Ok(_)) => panic!("{} refuses what we merge: {said}", self.name),
            (true, Ok(merged)) => {
                let states = self.compare_states(&root, &set, &merged);
                self.unseed(&root, &merged);
                let theirs = self.on_disk(&root, &names);
                let ours = self.merged(&merged);
                let paths: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
                let times = shared_times(&set, &merged);
                for path in paths {
                    let ours = ours.get(path);
                    let mut theirs = theirs.get(path).cloned();
                    // Of a file that several packages have, RPM installs the one that comes first in its order.
                    if let (Some(theirs), Some(times)) = (&mut theirs, times.get(path))
                        && theirs.mtime.is_some_and(|time| times.contains(&time))
                    {
                        theirs.mtime = ours.and_then(|ours| ours.mtime);
                    }
                    let theirs = theirs.as_ref();
                    let path = path.escape_ascii();
                    assert_eq!(ours, theirs, "ours and that of {}: {path}; {said}", self.name);
                }
                Outcome::Installed { tree: ours, states }
            }
        }
    }

    /// Gives every owner of the set a number of its own; says which.
    fn seed(&self, root: &Path, set: &RpmSet) -> BTreeMap<u32, String> {
        let files = || set.packages().iter().flat_map(|package| &package.files);
        let all = files().flat_map(|file| [file.user.as_str(), file.group.as_str()]);
        let mut all: BTreeSet<_> = all.collect();
        all.remove("root");
        let mut names = BTreeMap::from([(0, "root".to_owned())]);
        let (mut passwd, mut group) = ("root:x:0:0::/:\n".to_owned(), "root:x:0:\n".to_owned());
        for (number, name) in (FIRST_ID..).zip(all) {
            let id = if self.privileged { number } else { 0 };
            passwd.push_str(&format!("{name}:x:{id}:0::/:\n"));
            group.push_str(&format!("{name}:x:{id}:\n"));
            names.insert(number, name.to_owned());
        }
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("etc/passwd"), passwd).unwrap();
        fs::write(root.join("etc/group"), group).unwrap();
        names
    }

    /// Takes away what [`Oracle::seed`] put there, and puts what RPM laid aside for its sake into its place.
    fn unseed(&self, root: &Path, merged: &Merged) {
        fs::remove_dir_all(root.join(&DATABASE[1..])).unwrap();
        for name in ["passwd", "group"] {
            let at = |suffix: &str| root.join(format!("etc/{name}{suffix}"));
            let path = hullwright::path::TreePath::new(format!("/etc/{name}")).unwrap();
            let _ = fs::remove_file(at(".rpmorig"));
            if at(".rpmnew").exists() {
                fs::rename(at(".rpmnew"), at("")).unwrap();
            } else if merged.tree.get(&path).is_none() {
                fs::remove_file(at("")).unwrap();
            }
        }
        let etc = hullwright::path::TreePath::literal("/etc");
        if merged.tree.get(&etc).is_none() {
            fs::remove_dir(root.join("etc")).unwrap();
        }
    }

    /// That RPM notes the same states of files as we do.
    fn compare_states(&self, root: &Path, set: &RpmSet, merged: &Merged) -> Vec<Vec<u8>> {
        let database = root.join(&DATABASE[1..]).join(rpmdb::FILE_NAME);
        let headers = rpmdb::headers(&database).unwrap();
        let text = |header: &hullwright::formats::rpm::Header, tag| {
            String::from_utf8_lossy(header.string(tag).unwrap().unwrap_or_default()).into_owned()
        };
        let theirs: BTreeMap<_, _> = headers
            .iter()
            .map(|header| {
                let states = header.value(tag::FILESTATES);
                let states = states.map(|value| value.bytes.to_vec()).unwrap_or_default();
                ((text(header, tag::NAME), text(header, tag::ARCH)), states)
            })
            .collect();
        let mut all = Vec::new();
        for (package, states) in set.packages().iter().zip(&merged.states) {
            let ours: Vec<u8> = states.iter().map(|state| *state as u8).collect();
            let key = (package.nevra.name.clone(), package.nevra.arch.clone());
            let theirs = &theirs[&key];
            for ((file, ours), theirs) in package.files.iter().zip(&ours).zip(theirs) {
                assert_eq!(
                    ours, theirs,
                    "state, ours and {}'s, of {} in {}",
                    self.name, file.path, package.nevra
                );
            }
            assert_eq!(ours.len(), theirs.len());
            all.push(ours);
        }
        all
    }

    fn on_disk(&self, root: &Path, names: &BTreeMap<u32, String>) -> Seens {
        let mut found = BTreeMap::new();
        let mut todo = vec![root.to_owned()];
        while let Some(path) = todo.pop() {
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            let below = path.strip_prefix(root).unwrap().as_os_str().as_bytes();
            found.insert([b"/", below].concat(), (path, metadata));
        }
        // Nobody asked RPM for its root.
        found.remove(b"/".as_slice());
        let mut inodes: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut seen = Seens::new();
        for (name, (path, metadata)) in found {
            let kind = metadata.file_type();
            let (regular, link) = (kind.is_file(), kind.is_symlink());
            let inode = (regular && metadata.nlink() > 1).then(|| {
                let first = inodes.entry(metadata.ino());
                first.or_insert_with(|| name.clone()).clone()
            });
            let device = kind.is_char_device() || kind.is_block_device();
            let owner = |id: u32| names.get(&id).cloned().unwrap_or_else(|| id.to_string());
            let entry = Seen {
                kind: match () {
                    () if regular => '-',
                    () if link => 'l',
                    () if kind.is_dir() => 'd',
                    () if kind.is_char_device() => 'c',
                    () if kind.is_block_device() => 'b',
                    () if kind.is_fifo() => 'p',
                    () => 's',
                },
                mode: metadata.mode() & 0o7777,
                owner: match self.privileged {
                    true => (owner(metadata.uid()), owner(metadata.gid())),
                    false => Default::default(),
                },
                content: regular.then(|| (metadata.len(), Digest::of(&fs::read(&path).unwrap()))),
                target: link.then(|| fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()),
                device: device.then(|| {
                    let number = metadata.rdev();
                    (nix::sys::stat::major(number), nix::sys::stat::minor(number))
                }),
                inode,
                mtime: (!kind.is_dir()).then(|| metadata.mtime()),
                xattrs: if self.privileged {
                    xattrs(&path)
                } else {
                    BTreeMap::new()
                },
            };
            seen.insert(name, entry);
        }
        seen
    }

    fn merged(&self, merged: &Merged) -> Seens {
        let mut seen = Seens::new();
        let mut links: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
        for (at, node) in merged.tree.walk().filter(|(at, _)| !at.is_root()) {
            let at = at.as_bytes().to_vec();
            let Meta { user, group, .. } = &node.meta;
            let name = |name: &Option<Arc<str>>| name.as_deref().unwrap_or("root").to_owned();
            let mut entry = Seen {
                kind: 'd',
                mode: u32::from(node.meta.mode),
                owner: match self.privileged {
                    true => (name(user), name(group)),
                    false => Default::default(),
                },
                content: None,
                target: None,
                device: None,
                inode: None,
                mtime: Some(node.meta.mtime),
                xattrs: BTreeMap::new(),
            };
            let device = |major: &u32, minor: &u32| Some((u64::from(*major), u64::from(*minor)));
            match &node.kind {
                Kind::Dir(_) => entry.mtime = None,
                Kind::Symlink(target) => (entry.kind, entry.target) = ('l', Some(target.to_vec())),
                Kind::File(file) => {
                    entry.kind = '-';
                    let content = file.blob.read_all().unwrap();
                    entry.content = Some((file.blob.size(), Digest::of(&content)));
                    if let Some(link) = file.link {
                        links.entry(link.0).or_default().push(at.clone());
                    }
                }
                Kind::CharDevice { major, minor } => (entry.kind, entry.device) = ('c', device(major, minor)),
                Kind::BlockDevice { major, minor } => {
                    (entry.kind, entry.device) = ('b', device(major, minor))
                }
                Kind::Fifo => entry.kind = 'p',
                Kind::Socket => entry.kind = 's',
            }
            if self.privileged {
                let pairs = node.meta.xattrs.iter();
                entry.xattrs = pairs
                    .map(|(name, value)| (name.to_vec(), value.to_vec()))
                    .collect();
            }
            seen.insert(at, entry);
        }
        for mut group in links.into_values() {
            assert!(group.len() > 1, "one name is no set: {group:?}");
            group.sort();
            for at in &group {
                seen.get_mut(at).unwrap().inode = Some(group[0].clone());
            }
        }
        seen
    }
}

/// Of paths with several owners, the times that these give it.
fn shared_times(set: &RpmSet, merged: &Merged) -> BTreeMap<Vec<u8>, BTreeSet<i64>> {
    let mut times = BTreeMap::new();
    for (at, node) in merged.tree.walk() {
        let Origin::Packages(owners) = &node.origin else {
            continue;
        };
        if owners.len() > 1 {
            // Wherever a link leads to, the name is the same.
            let files = owners
                .iter()
                .flat_map(|&owner| &set.packages()[owner as usize].files);
            let named = files.filter(|file| file.path.name() == at.name());
            let all = named.map(|file| i64::from(file.mtime)).collect();
            times.insert(at.as_bytes().to_vec(), all);
        }
    }
    times
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0u8; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..length].split(|&b| b == 0).filter(|name| !name.is_empty());
    let mut found = BTreeMap::new();
    for name in names {
        let mut value = vec![0u8; 4096];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        value.truncate(length);
        found.insert(name.to_vec(), value);
    }
    found
}
