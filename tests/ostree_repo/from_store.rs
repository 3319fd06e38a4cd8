//! Repositories whose objects come from a store.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hullwright::ostree::{
    RepoMode, Shared, TreeRecord, check_kept, restore_tree, write_commit, write_commit_from, write_tree,
};
use hullwright::store::{Digest, Store};
use hullwright::tree::path::TreePath;
use hullwright::tree::{FileData, Kind, Meta, Node, Origin, Tree};

use crate::support::{MODES, Sample, options, ostree, scratch, tool};

/// The files below `directory`, by path from there.
fn files(directory: &Path) -> BTreeMap<PathBuf, PathBuf> {
    let mut found = BTreeMap::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(place) = todo.pop() {
        for entry in fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => todo.push(path),
                false => drop(found.insert(path.strip_prefix(directory).unwrap().to_owned(), path)),
            }
        }
    }
    found
}

/// What two repositories hold: the same names, bytes and permission bits.
fn equal(a: &Path, b: &Path) {
    let (a, b) = (files(a), files(b));
    assert!(a.keys().eq(b.keys()));
    for (one, other) in a.values().zip(b.values()) {
        let mode = |path: &Path| fs::metadata(path).unwrap().mode();
        assert_eq!(
            (fs::read(one).unwrap(), mode(one)),
            (fs::read(other).unwrap(), mode(other))
        );
    }
}

fn contents(repo: &Path, mode: RepoMode) -> Vec<PathBuf> {
    objects(
        repo,
        match mode {
            RepoMode::Archive { .. } => "filez",
            RepoMode::BareUser => "file",
        },
    )
}

fn objects(repo: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = files(&repo.join("objects")).into_values().collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == ending));
    found
}

#[test]
fn what_the_store_has_is_linked_and_what_was_changed_is_written_anew() {
    for mode in MODES {
        let sample = Sample::new();
        let directory = scratch();
        let path = |name: &str| directory.path().join(name);
        let store = Store::open(&path("store")).unwrap();
        let commit = |name: &str| {
            let written = write_commit_from(&sample.tree, &options(mode), &path(name), Some(&store)).unwrap();
            if tool("ostree") {
                ostree(&path(name), &["fsck", "-q"]);
            }
            written
        };
        let plain = write_commit(&sample.tree, &options(mode), &path("plain")).unwrap();
        assert_eq!(commit("first"), plain);
        assert_eq!(commit("second"), plain);
        equal(&path("plain"), &path("first"));
        equal(&path("plain"), &path("second"));
        let dirtrees = objects(&path("second"), "dirtree");
        assert!(dirtrees.len() > 1);
        let objects = contents(&path("second"), mode);
        assert_eq!(objects.len() as u64, plain.tree.content_objects);
        for object in objects.iter().chain(&dirtrees) {
            assert_eq!(fs::metadata(object).unwrap().nlink(), 3, "{}", object.display());
        }
        assert_eq!(commit("second").tree.objects_written, 0);
        assert_eq!(store.verify(&check_kept).unwrap().damage, []);

        // A user works on his output: another byte, and the time is another one.
        let can_change = |path: &&PathBuf| {
            let metadata = fs::metadata(path).unwrap();
            metadata.len() > 0 && metadata.mode() & 0o200 != 0
        };
        let changed = objects.iter().find(can_change).unwrap();
        for changed in [changed, &dirtrees[0]] {
            let file = File::options().write(true).open(changed).unwrap();
            file.write_all_at(b"!", 0).unwrap();
            file.set_modified(SystemTime::now()).unwrap();
        }
        assert_eq!(commit("third"), plain);
        equal(&path("plain"), &path("third"));
        assert_eq!(store.take_damage().len(), 2);
        assert_eq!(store.verify(&check_kept).unwrap().damage, []);

        // He sets the time back: only reading shows that.
        for changed in [changed, &dirtrees[0]] {
            let changed = path("third").join(changed.strip_prefix(path("second")).unwrap());
            let file = File::options().write(true).open(&changed).unwrap();
            file.write_all_at(b"?", 0).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
        let damage = store.verify(&check_kept).unwrap().damage;
        assert_eq!(damage.len(), 2, "{damage:?}");
        assert_eq!(commit("fourth"), plain);
        equal(&path("plain"), &path("fourth"));
    }
}

#[test]
fn what_one_store_has_another_takes_in_bundles() {
    for mode in MODES {
        let sample = Sample::new();
        let directory = scratch();
        let path = |name: &str| directory.path().join(name);
        let ours = Store::open(&path("ours")).unwrap();
        let (_, record) = write_tree(&sample.tree, mode, &path("made"), Some(&ours)).unwrap();
        let record = TreeRecord::from_bytes(&record.to_bytes()).unwrap();
        let shared = Shared::open(&record, mode, &ours).unwrap();
        assert!(shared.is_whole());
        let write = |keys: &&[&[u8; 32]]| {
            let mut bundle = Vec::new();
            shared.write(keys, &mut bundle).unwrap();
            bundle
        };
        let bundles: Vec<_> = shared.bundles().iter().map(write).collect();

        let theirs = Store::open(&path("theirs")).unwrap();
        let taken = Shared::open(&record, mode, &theirs).unwrap();
        assert!(!taken.is_whole() && taken.bundles() == shared.bundles());
        for bundle in &bundles {
            for end in [0, 5, bundle.len() / 2, bundle.len() - 1] {
                assert!(taken.read(&bundle[..end]).is_err(), "cut at {end}");
            }
            taken.read(bundle.as_slice()).unwrap();
        }
        taken.finish().unwrap();
        assert!(Shared::open(&record, mode, &theirs).unwrap().is_whole());
        assert!(restore_tree(&record, mode, &path("restored"), &theirs).unwrap());
        equal(&path("made"), &path("restored"));
        assert_eq!(theirs.take_damage(), []);

        // Nobody else's contents get in.
        let nothing = Store::open(&path("nothing")).unwrap();
        let none = TreeRecord::default();
        let taken = Shared::open(&none, mode, &nothing).unwrap();
        taken.read(bundles[0].as_slice()).unwrap();
        taken.finish().unwrap();
        assert!(!Shared::open(&record, mode, &nothing).unwrap().is_whole());
    }
}

/// Two large files of one content, of which a mode is another, and a small one, from a package's pack.
fn unpacked(store: &Store) -> Tree {
    let mut writer = store.new_pack().unwrap();
    for (number, content) in [(0, vec![b'l'; 200_000]), (1, b"small".to_vec())] {
        writer.begin_file(content.len() as u64).unwrap();
        writer.write(&content).unwrap();
        writer.end_file(number, Digest::of(&content)).unwrap();
    }
    let pack = writer.finish(Digest::of(b"package")).unwrap();
    let mut tree = Tree::new(Meta::root(0o755, 0));
    for (path, number, mode) in [("/large", 0, 0o644), ("/other", 0, 0o4511), ("/small", 1, 0o644)] {
        let (_, blob) = pack.entries()[number].clone();
        let kind = Kind::File(FileData { blob, link: None });
        let node = Node::new(Meta::root(mode, 0), kind, Origin::Composer("test"));
        tree.insert(&TreePath::literal(path), node).unwrap();
    }
    tree
}

#[test]
fn large_contents_of_packages_are_shared_instead_of_copied() {
    let directory = scratch();
    let path = |name: &str| directory.path().join(name);
    let options = options(RepoMode::BareUser);
    let numbers = |name: &str| {
        let objects = contents(&path(name), RepoMode::BareUser);
        let metadata = objects.iter().map(|object| fs::metadata(object).unwrap());
        metadata.map(|metadata| metadata.ino()).collect::<BTreeSet<_>>()
    };
    let store = Store::open(&path("store")).unwrap();
    let tree = unpacked(&store);
    let plain = write_commit(&tree, &options, &path("plain")).unwrap();
    let digest = Digest::of(&[b'l'; 200_000]).to_string();
    let first = path("store/objects").join(&digest[..2]).join(&digest[2..]);
    let number = fs::metadata(&first).unwrap().ino();
    assert!(numbers("plain").contains(&number));
    if tool("ostree") {
        ostree(&path("plain"), &["fsck", "-q"]);
    }

    for name in ["second", "third"] {
        let written = write_commit_from(&tree, &options, &path(name), Some(&store)).unwrap();
        assert_eq!(written.checksum, plain.checksum);
        equal(&path("plain"), &path(name));
        assert!(numbers(name).contains(&number));
        assert_eq!(numbers(name).len(), 3);
    }

    // Somebody works on an output: that stays as it is.
    let change = || {
        fs::set_permissions(&first, fs::Permissions::from_mode(0o666)).unwrap();
        File::open(&first)
            .unwrap()
            .set_modified(SystemTime::now())
            .unwrap();
    };
    let mode = || fs::metadata(&first).unwrap().mode() & 0o7777;
    // Of the two that want it, whichever came first.
    let given = mode();
    assert!([0o644, 0o511].contains(&given), "{given:o}");
    change();
    write_commit(&tree, &options, &path("fourth")).unwrap();
    assert!(!numbers("fourth").contains(&number));
    assert_eq!(mode(), 0o666);

    // A build was killed before it had given the file its mode and time: only the store has it.
    for name in ["plain", "second", "third", "store/linked"] {
        fs::remove_dir_all(path(name)).unwrap();
    }
    change();
    write_commit(&tree, &options, &path("fifth")).unwrap();
    assert!(numbers("fifth").contains(&number));
    equal(&path("fourth"), &path("fifth"));
    let time = fs::metadata(&first).unwrap().modified().unwrap();
    assert_eq!((mode(), time), (given, SystemTime::UNIX_EPOCH));
    assert_eq!(store.verify(&check_kept).unwrap().damage, []);
}
