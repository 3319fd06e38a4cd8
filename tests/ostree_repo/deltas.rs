//! Static deltas: what `ostree` makes of them, and what becomes of damaged ones.

use std::fs;
use std::path::{Path, PathBuf};

use hullwright::ostree::{Commit, Delta, DeltaOptions, Repo, RepoMode, check_delta, list_deltas};
use hullwright::ostree::{write_commit, write_delta};
use hullwright::tree::path::TreePath;
use hullwright::tree::{Kind, Meta, Node, Origin, Tree};

use crate::server::Server;
use crate::support::*;

/// Bytes that no compressor likes, the same each time.
fn noise(count: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 9) as u8
    };
    (0..count).map(|_| next()).collect()
}

fn put(tree: &mut Tree, path: &'static str, bytes: Vec<u8>) {
    let node = Node::new(Meta::root(0o644, 0), Kind::file(bytes), Origin::Composer("test"));
    tree.insert(&TreePath::literal(path), node).unwrap();
}

/// Two versions of the sample, each in a repository of its own.
struct Versions {
    sample: Sample,
    earlier: PathBuf,
    later: PathBuf,
    from: Commit,
    to: Commit,
}

impl Versions {
    fn new(mode: RepoMode) -> Self {
        let sample = Sample::new();
        let mut tree = sample.tree.clone();
        let library = noise(300_000, 1);
        put(&mut tree, "/usr/lib/libx.so.1.2.3", library.clone());
        put(&mut tree, "/usr/lib/private", noise(50_000, 2));
        let private = TreePath::literal("/usr/lib/private");
        tree.get_mut(&private).unwrap().meta.mode = 0o600;
        let earlier = sample.path("earlier");
        let from = write_commit(&tree, &options(mode), &earlier).unwrap();

        // Changed within and renamed; changed, and nobody but its owner may read it; other attributes only; new; gone.
        let grown = [&library[..100_000], b"something", &library[100_000..]].concat();
        tree.remove(&TreePath::literal("/usr/lib/libx.so.1.2.3"));
        put(&mut tree, "/usr/lib/libx.so.1.2.10", grown);
        let mut hidden = noise(50_000, 2);
        hidden[7] ^= 1;
        put(&mut tree, "/usr/lib/private", hidden);
        tree.get_mut(&private).unwrap().meta.mode = 0o600;
        let large = tree.get_mut(&TreePath::literal("/usr/lib/large")).unwrap();
        large
            .meta
            .xattrs
            .insert((*b"user.label").into(), (*b"another").into());
        // In an archive, large enough to be left out.
        let size = if mode == ARCHIVE { 4_100_000 } else { 100_000 };
        put(&mut tree, "/usr/share/large-and-new", noise(size, 3));
        put(&mut tree, "/usr/share/new/empty", Vec::new());
        let link = Kind::Symlink((*b"nowhere").into());
        let link = Node::new(Meta::root(0o777, 0), link, Origin::Composer("test"));
        tree.insert(&TreePath::literal("/usr/share/new/link"), link)
            .unwrap();
        tree.remove(&TreePath::literal("/usr/bin/tool-again"));
        let later = sample.path("later");
        let to = write_commit(&tree, &options(mode), &later).unwrap();
        Self {
            sample,
            earlier,
            later,
            from,
            to,
        }
    }

    fn write(&self, options: DeltaOptions) -> Delta {
        let earlier = Repo::open(&self.earlier).unwrap();
        write_delta(
            &earlier,
            &self.from.checksum,
            &self.later,
            &self.to.checksum,
            options,
        )
        .unwrap()
    }

    fn error(&self) -> String {
        let earlier = Repo::open(&self.earlier).unwrap();
        let (from, to) = (&self.from.checksum, &self.to.checksum);
        let error = write_delta(&earlier, from, &self.later, to, DeltaOptions::default()).unwrap_err();
        assert_eq!(list_deltas(&self.later).unwrap(), []);
        error.to_string()
    }

    /// The files of the only delta.
    fn files(&self) -> Vec<PathBuf> {
        let deltas = self.later.join("deltas");
        let all = snapshot(&deltas).into_keys().map(|path| deltas.join(path));
        all.filter(|path| path.is_file()).collect()
    }

    /// A client that has the earlier version.
    fn client(&self, name: &str) -> PathBuf {
        let client = self.sample.path(name);
        init(&client, RepoMode::BareUser);
        ostree(&client, &["pull-local", self.earlier.to_str().unwrap(), REF]);
        client
    }

    fn check(&self, client: &Path) {
        let fsck = ostree(client, &["fsck"]);
        assert!(fsck.contains("completed successfully"), "{fsck}");
        let shown = ostree(client, &["show", &self.to.checksum.to_string()]);
        assert!(shown.contains(&self.to.checksum.to_string()), "{shown}");
    }
}

const INLINE: DeltaOptions = DeltaOptions { inline: true };

#[test]
fn ostree_gets_the_new_version_by_the_delta() {
    if !tool("ostree") {
        return;
    }
    for mode in MODES {
        let versions = Versions::new(mode);
        let delta = versions.write(DeltaOptions::default());
        assert_eq!(
            ostree(&versions.later, &["static-delta", "list"]).trim(),
            delta.name.to_string()
        );
        let shown = ostree(
            &versions.later,
            &["static-delta", "show", &delta.name.to_string()],
        );
        for expected in [
            "Endianness: little".to_owned(),
            "Timestamp: 1795219200".to_owned(),
            format!("Number of parts: {}", delta.parts),
            format!("Number of fallback entries: {}", delta.fallbacks),
        ] {
            assert!(shown.contains(&expected), "{shown}");
        }
        let archive = mode == ARCHIVE;
        assert_eq!(delta.fallbacks, usize::from(archive));
        // The library, and what has other attributes only.
        assert_eq!(delta.patched, 2);
        assert!(delta.size < if archive { 60_000 } else { 160_000 }, "{delta:?}");

        let client = versions.client("client");
        if !archive {
            let directory = versions.files()[0].parent().unwrap().to_owned();
            ostree(
                &client,
                &["static-delta", "apply-offline", directory.to_str().unwrap()],
            );
            versions.check(&client);
            continue;
        }
        let server = Server::new(&versions.later);
        ostree(
            &client,
            &["remote", "add", "--no-gpg-verify", "origin", &server.url],
        );
        ostree(&client, &["pull", "--require-static-deltas", "origin", REF]);
        versions.check(&client);
        let requests = server.requests();
        let fetched = |part: &str| requests.iter().filter(|request| request.contains(part)).count();
        assert_eq!(fetched("/delta-indexes/"), 1, "{requests:?}");
        assert_eq!(fetched("/superblock"), 1, "{requests:?}");
        assert_eq!(fetched("/deltas/"), 1 + delta.parts, "{requests:?}");
        // Not one of the thousands that it has; but ostree looks what is missing while parts are on their way, also of its
        // own deltas.
        let most = delta.objects + delta.fallbacks;
        assert!(
            (delta.fallbacks..=most).contains(&fetched("/objects/")),
            "{requests:?}"
        );
    }
}

#[test]
fn a_delta_in_one_file_is_applied_offline() {
    if !tool("ostree") {
        return;
    }
    for mode in MODES {
        let versions = Versions::new(mode);
        let delta = versions.write(INLINE);
        assert_eq!(delta.fallbacks, 0);
        let files = versions.files();
        assert_eq!(files.len(), 1, "{files:?}");
        assert_eq!(fs::metadata(&files[0]).unwrap().len(), delta.size);
        let client = versions.client("client");
        ostree(
            &client,
            &["static-delta", "apply-offline", files[0].to_str().unwrap()],
        );
        versions.check(&client);
    }
}

#[test]
fn it_takes_no_more_than_ostrees_own() {
    if !tool("ostree") {
        return;
    }
    let versions = Versions::new(ARCHIVE);
    let ours = versions.write(DeltaOptions::default());
    let both = versions.sample.path("both");
    init(&both, ARCHIVE);
    let (from, to) = (
        versions.from.checksum.to_string(),
        versions.to.checksum.to_string(),
    );
    ostree(&both, &["pull-local", versions.earlier.to_str().unwrap(), REF]);
    ostree(&both, &["pull-local", versions.later.to_str().unwrap(), REF]);
    let (from, to) = (format!("--from={from}"), format!("--to={to}"));
    ostree(&both, &["static-delta", "generate", &from, &to]);
    let theirs: u64 = snapshot(&both.join("deltas"))
        .keys()
        .map(|path| fs::metadata(both.join("deltas").join(path)).unwrap())
        .filter(fs::Metadata::is_file)
        .map(|status| status.len())
        .sum();
    assert!(
        ours.size <= theirs + theirs / 20,
        "{} bytes, ostree's {theirs}",
        ours.size
    );
    // What ostree has written is read here, too.
    let repo = Repo::open(&both).unwrap();
    let checked = check_delta(&repo, &ours.name, None).unwrap();
    assert!(checked.complete && checked.objects >= 10, "{checked:?}");
}

#[test]
fn any_number_of_threads_writes_the_same_delta() {
    for (mode, options) in [(ARCHIVE, DeltaOptions::default()), (RepoMode::BareUser, INLINE)] {
        let versions = Versions::new(mode);
        let write = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let delta = pool.build().unwrap().install(|| versions.write(options));
            (delta, snapshot(&versions.later))
        };
        let first = write(1);
        for threads in [2, 3] {
            assert!(write(threads) == first, "{threads} threads");
        }
    }
}

#[test]
fn every_damaged_byte_of_a_delta_is_found() {
    for options in [DeltaOptions::default(), INLINE] {
        let versions = Versions::new(RepoMode::BareUser);
        let delta = versions.write(options);
        let repo = Repo::open(&versions.later).unwrap();
        let earlier = Repo::open(&versions.earlier).unwrap();
        let check = || check_delta(&repo, &delta.name, Some(&earlier));
        let checked = check().unwrap();
        assert!(checked.complete, "{checked:?}");
        assert_eq!((checked.unmade, checked.size), (0, delta.size));
        let alone = check_delta(&repo, &delta.name, None).unwrap();
        assert_eq!(
            (alone.unmade, alone.complete),
            (delta.patched, false),
            "{alone:?}"
        );
        for path in versions.files() {
            let bytes = fs::read(&path).unwrap();
            let place = path.file_name().unwrap().to_string_lossy().into_owned();
            for at in [0, bytes.len() / 3, bytes.len() / 2, bytes.len() - 1] {
                let mut damaged = bytes.clone();
                damaged[at] ^= 0x10;
                fs::write(&path, &damaged).unwrap();
                let error = check().unwrap_err().to_string();
                assert!(error.contains("deltas/"), "{place} at {at}: {error}");
            }
            fs::remove_file(&path).unwrap();
            assert!(check().is_err(), "{place} is absent");
            fs::write(&path, &bytes).unwrap();
            assert!(check().is_ok());
        }
    }
}

#[test]
fn without_both_versions_whole_there_is_no_delta() {
    let versions = Versions::new(RepoMode::BareUser);
    let earlier = Repo::open(&versions.earlier).unwrap();
    let (from, to) = (&versions.from.checksum, &versions.to.checksum);
    let same = write_delta(&earlier, to, &versions.later, to, DeltaOptions::default()).unwrap_err();
    assert!(same.to_string().contains("no way to go"), "{same}");
    let absent = write_delta(&earlier, to, &versions.later, from, DeltaOptions::default()).unwrap_err();
    assert!(
        absent.to_string().contains(&format!("{from}.commit is not in")),
        "{absent}"
    );
    let nowhere = Repo::find(&versions.sample.path("nowhere")).unwrap_err();
    assert!(
        nowhere.to_string().contains("there is no ostree repository"),
        "{nowhere}"
    );

    // A file that differences are from is damaged.
    let objects = versions.earlier.join("objects");
    let library = snapshot(&objects)
        .into_keys()
        .map(|path| objects.join(path))
        .find(|path| fs::metadata(path).unwrap().len() == 300_000)
        .unwrap();
    let bytes = fs::read(&library).unwrap();
    let mut damaged = bytes.clone();
    damaged[1000] ^= 1;
    write_over(&library, &damaged);
    let error = versions.error();
    assert!(error.contains("is corrupt"), "{error}");
    write_over(&library, &bytes);
    versions.write(DeltaOptions::default());
    fs::remove_dir_all(versions.later.join("deltas")).unwrap();

    let root = versions.from.tree.root_dirtree.to_string();
    fs::remove_file(objects.join(&root[..2]).join(format!("{}.dirtree", &root[2..]))).unwrap();
    let error = versions.error();
    assert!(
        error.contains(&format!("object {root}.dirtree is not in repository")),
        "{error}"
    );
}

/// In place: extended attributes stay.
fn write_over(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::FileExt as _;
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, 0).unwrap();
}
