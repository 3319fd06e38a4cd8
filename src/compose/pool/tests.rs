//! Runs, and clusters that one builder adds to a directory and another takes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::{fs, thread, time::Duration};

use super::*;
use crate::formats::erofs::ClusterCache as _;
use crate::remote::Options;
use crate::signing::{Algorithm, KeySource, generate};

fn key(number: u32) -> Key {
    Digest::of(&number.to_le_bytes()).0
}

/// Values of some sizes, small and large.
fn list(numbers: impl Iterator<Item = u32>) -> Vec<(Key, u64)> {
    numbers
        .map(|number| (key(number), [100, 5000, 70_000, 4 << 20][number as usize % 4]))
        .collect()
}

fn value(key: &Key) -> Vec<u8> {
    key[..usize::from(key[0] % 32)].repeat(10)
}

#[test]
fn runs_are_the_whole_list_and_a_change_touches_few() {
    let coming = list(0..4000);
    let found = runs(&coming, CLUSTER_RUN, 7);
    let mut at = 0;
    for run in &found {
        assert_eq!(run.begin, 7 + at);
        let these = &coming[at..at + run.values.len()];
        assert!(these.iter().map(|(key, _)| key).eq(run.values.iter()));
        assert_eq!(run.size, these.iter().map(|(_, length)| length).sum::<u64>());
        assert!(run.size < CLUSTER_RUN * 4 + (4 << 20));
        at += these.len();
    }
    assert_eq!(at, coming.len());
    let total: u64 = coming.iter().map(|(_, length)| length).sum();
    let mean = total / found.len() as u64;
    assert!((CLUSTER_RUN / 2..CLUSTER_RUN * 2).contains(&mean), "{mean}");

    let keys = |found: &[Run]| {
        found
            .iter()
            .map(|run| run.key)
            .collect::<std::collections::BTreeSet<_>>()
    };
    for changed in [
        list((0..2000).chain(2001..4000)),
        list((0..2000).chain([9999]).chain(2000..4000)),
        list(1..4000),
    ] {
        let other = keys(&runs(&changed, CLUSTER_RUN, 0));
        let lost = keys(&found).difference(&other).count();
        assert!((1..=4).contains(&lost), "{lost} of {}", found.len());
    }
    assert_eq!(runs(&[], CLUSTER_RUN, 0).len(), 0);
}

#[test]
fn only_the_values_of_a_run_are_read() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path()).unwrap();
    let values = store.values("test").unwrap();
    let [run] = runs(&list(0..3), 64 << 20, 0).try_into().unwrap();
    assert_eq!(encode(&run.values, &values), None);
    for key in run.values.iter() {
        values.put(key, &value(key));
    }
    let bytes = encode(&run.values, &values).unwrap();
    let read = decode(&run, &bytes).unwrap();
    let right: Vec<_> = run.values.iter().map(|key| (key, value(key))).collect();
    assert!(read.iter().map(|(key, value)| (*key, value.to_vec())).eq(right));
    for end in 0..bytes.len() {
        assert_eq!(decode(&run, &bytes[..end]), None, "cut off at {end}");
    }
    assert_eq!(decode(&run, &[&*bytes, b"x"].concat()), None);
    assert_eq!(decode(&run, &[0xff; 40]), None);
}

struct Lab {
    directory: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let new = generate(Algorithm::Ed25519).unwrap();
        let key = directory.path().join("key");
        fs::write(&key, new.pem.as_bytes()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(directory.path().join("program"), "program").unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn store(&self, name: &str) -> Store {
        Store::open(&self.path(name)).unwrap()
    }

    fn pool(&self) -> (Pool, Arc<Remote>) {
        let remote = Remote::new(&Options {
            url: format!("file://{}", self.path("remote").display()),
            keys: vec![],
            sign: Some(KeySource::File(self.path("key"))),
            program: self.path("program"),
        });
        let remote = Arc::new(remote.unwrap());
        (Pool::new(Some(Arc::clone(&remote))), remote)
    }

    /// Makes all of `coming` over the store `name`, and adds it.
    fn make(&self, name: &str, coming: &[(Key, u64)]) -> u64 {
        let store = self.store(name);
        let (pool, _) = self.pool();
        let clusters = pool.clusters(store.values(CLUSTERS).unwrap());
        clusters.expect(coming);
        for (key, _) in coming {
            if clusters.get(key).is_none() {
                clusters.put(key, &value(key));
            }
        }
        clusters.keep().unwrap();
        pool.add(&store)
    }
}

/// Waits for what other threads do.
fn until(condition: impl Fn() -> bool) {
    let done = (0..2000).any(|_| {
        thread::sleep(Duration::from_millis(5));
        condition()
    });
    assert!(done);
}

#[test]
fn clusters_of_one_builder_come_to_another_from_the_end() {
    let lab = Lab::new();
    let coming = list(0..400);
    let count = runs(&coming, CLUSTER_RUN, 0).len() as u64;
    assert_eq!(lab.make("first", &coming), count);
    assert_eq!(lab.make("first", &coming), 0, "all of it is there");

    let changed = list((0..200).chain([9999]).chain(200..400));
    let store = lab.store("second");
    let (pool, remote) = lab.pool();
    let clusters = pool.clusters(store.values(CLUSTERS).unwrap());
    clusters.expect(&changed);
    until(|| {
        remote.counters().so_far().hits + remote.counters().so_far().misses
            == runs(&changed, CLUSTER_RUN, 0).len() as u64
    });
    let traffic = remote.counters().so_far();
    assert!((1..=4).contains(&traffic.misses), "{traffic:?}");
    assert!(changed.iter().filter(|(key, _)| clusters.values.has(key)).count() > 300);
    // One entry told of all others.
    let asked = traffic.misses + 1;
    let objects: u64 = 400 * 200;
    assert!(traffic.received < objects + asked * 20_000, "{traffic:?}");
    for (key, _) in &changed {
        match clusters.get(key) {
            Some(found) => assert_eq!(found, value(key)),
            None => clusters.put(key, &value(key)),
        }
    }
    clusters.keep().unwrap();
    let kept = store.values(CLUSTERS).unwrap();
    assert!(changed.iter().all(|(key, _)| kept.get(key) == Some(value(key))));
    assert_eq!(pool.add(&store), traffic.misses, "only what is new");
    assert_eq!(remote.take_warnings(), Vec::<String>::new());
}

#[test]
fn what_the_writer_has_passed_is_not_fetched() {
    let lab = Lab::new();
    let coming = list(0..400);
    lab.make("first", &coming);
    let (pool, remote) = lab.pool();
    let clusters = pool.clusters(lab.store("second").values(CLUSTERS).unwrap());
    coming.iter().for_each(|(key, _)| drop(clusters.get(key)));
    clusters.expect(&coming);
    until(|| Arc::strong_count(&clusters.door.0) == 1);
    assert_eq!(remote.counters().so_far().received, 0);
    // Without any remote store.
    let alone = Pool::new(None);
    let clusters = alone.clusters(lab.store("third").values(CLUSTERS).unwrap());
    clusters.expect(&coming);
    assert_eq!(clusters.get(&coming[0].0), None);
    clusters.put(&coming[0].0, b"value");
    clusters.keep().unwrap();
    assert_eq!(alone.add(&lab.store("third")), 0);
}

fn objects(directory: &Path) -> Vec<PathBuf> {
    let fans = fs::read_dir(directory.join("v1/objects")).unwrap();
    let files = fans.flat_map(|fan| fs::read_dir(fan.unwrap().path()).unwrap());
    files.map(|file| file.unwrap().path()).collect()
}

#[test]
fn what_the_server_changes_is_made_here_and_mended() {
    let lab = Lab::new();
    let coming = list(0..200);
    let count = lab.make("first", &coming);
    for object in objects(&lab.path("remote")) {
        let mut bytes = fs::read(&object).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&object, bytes).unwrap();
    }
    let store = lab.store("second");
    let (pool, remote) = lab.pool();
    let clusters = pool.clusters(store.values(CLUSTERS).unwrap());
    clusters.expect(&coming);
    until(|| remote.counters().so_far().misses == count);
    assert!(coming.iter().all(|(key, _)| clusters.get(key).is_none()));
    for (key, _) in &coming {
        clusters.put(key, &value(key));
    }
    clusters.keep().unwrap();
    let warnings = remote.take_warnings();
    assert!(
        warnings.len() == 1 && warnings[0].contains("is not what was signed"),
        "{warnings:?}"
    );
    assert_eq!(pool.add(&store), count, "sent anew");
    let (pool, remote) = lab.pool();
    let clusters = pool.clusters(lab.store("third").values(CLUSTERS).unwrap());
    clusters.expect(&coming);
    until(|| remote.counters().so_far().hits == count);
    drop(clusters);
}

#[test]
fn modules_and_initrds_come_too() {
    let lab = Lab::new();
    let coming = list(0..100);
    let initrd = Digest::of(b"initrd");
    let store = lab.store("first");
    let (pool, _) = lab.pool();
    let values = store.values(depmod::KEPT).unwrap();
    pool.modules(|| coming.clone(), &values);
    for (key, _) in &coming {
        assert!(!values.has(key));
        values.put(key, &value(key));
    }
    values.keep().unwrap();
    pool.offer_initrd(initrd);
    assert_eq!(pool.initrd(initrd, &store), None);
    store.keep_record(initrd, b"packed").unwrap();
    let runs = runs(&coming, MODULE_RUN, 0).len() as u64;
    assert_eq!(pool.add(&store), runs + 1);

    let store = lab.store("second");
    let (pool, remote) = lab.pool();
    let values = store.values(depmod::KEPT).unwrap();
    pool.modules(|| coming.clone(), &values);
    assert!(coming.iter().all(|(key, _)| values.get(key) == Some(value(key))));
    assert_eq!(pool.initrd(initrd, &store).as_deref(), Some(b"packed".as_slice()));
    assert_eq!(
        store.record(initrd).unwrap().as_deref(),
        Some(b"packed".as_slice())
    );
    let traffic = remote.counters().so_far();
    assert_eq!((traffic.hits, traffic.misses), (runs + 1, 0));
    assert_eq!(pool.add(&store), 0);
}
