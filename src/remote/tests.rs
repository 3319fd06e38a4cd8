//! A remote store in a directory: what comes back, and what does not.

use std::fs;

use super::*;
use crate::signing::{Algorithm, generate};

struct Lab {
    directory: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let lab = Self { directory };
        fs::write(lab.path("program"), "program").unwrap();
        lab.draw("ours");
        lab.draw("theirs");
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn draw(&self, name: &str) {
        let new = generate(Algorithm::Ed25519).unwrap();
        fs::write(self.path(name), new.pem.as_bytes()).unwrap();
        fs::set_permissions(
            self.path(name),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )
        .unwrap();
        fs::write(self.path(&format!("{name}.pub")), new.key.public_key().to_pem()).unwrap();
    }

    fn remote(&self, keys: &[&str], sign: Option<&str>) -> Remote {
        Remote::new(&Options {
            url: format!("file://{}", self.path("remote").display()),
            keys: keys.iter().map(|key| self.path(&format!("{key}.pub"))).collect(),
            sign: sign.map(|key| KeySource::File(self.path(key))),
            program: self.path("program"),
        })
        .unwrap()
    }

    /// The only file below `directory` of the remote store.
    fn only(&self, directory: &str) -> PathBuf {
        let mut place = self.path("remote/v1").join(directory);
        while place.is_dir() {
            place = fs::read_dir(place).unwrap().next().unwrap().unwrap().path();
        }
        place
    }
}

const KIND: &str = "test";

fn fetched(remote: &Remote, key: Digest) -> Option<Vec<u8>> {
    let entry = remote.entry(KIND, key)?;
    let mut bytes = Vec::new();
    remote.fetch(KIND, &entry.parts[0], &mut bytes)?;
    Some(bytes)
}

#[test]
fn what_a_trusted_builder_adds_comes_back_and_nothing_else() {
    let lab = Lab::new();
    let key = Digest::of(b"inputs");
    let writer = lab.remote(&[], Some("ours"));
    assert_eq!(fetched(&writer, key), None);
    writer.add(KIND, key, &[bytes_part("value", b"value")]).unwrap();
    assert_eq!(fetched(&writer, key).as_deref(), Some(b"value".as_slice()));
    let sent = writer.counters().so_far().sent;
    // Only what is new goes up.
    writer
        .add(KIND, Digest::of(b"more"), &[bytes_part("value", b"value")])
        .unwrap();
    assert_eq!(writer.counters().so_far().sent, 2 * sent - 5);
    assert_eq!(writer.take_warnings(), Vec::<String>::new());

    let reader = lab.remote(&["ours"], None);
    assert!(!reader.is_written());
    assert_eq!(fetched(&reader, key).as_deref(), Some(b"value".as_slice()));
    assert_eq!(reader.entry("other", key), None);
    assert_eq!(reader.add(KIND, key, &[]), None);

    let stranger = lab.remote(&["theirs"], None);
    assert_eq!(fetched(&stranger, key), None);
    assert_eq!(fetched(&stranger, Digest::of(b"more")), None);
    let [warning] = stranger.take_warnings().try_into().unwrap();
    assert!(
        warning.contains("not signed by a key that is trusted"),
        "{warning}"
    );

    // Another version of the program makes something else of the same.
    fs::write(lab.path("program"), "another").unwrap();
    assert_eq!(fetched(&lab.remote(&["ours"], None), key), None);
}

#[test]
fn what_the_server_changes_is_found() {
    let lab = Lab::new();
    let (key, other) = (Digest::of(b"inputs"), Digest::of(b"others"));
    let remote = lab.remote(&[], Some("ours"));
    remote.add(KIND, key, &[bytes_part("value", b"value")]).unwrap();
    let (object, entry) = (lab.only("objects"), lab.only("entries"));

    // A sound entry under another key.
    let moved = lab.path("remote").join(remote.entry_name(KIND, other));
    fs::create_dir_all(moved.parent().unwrap()).unwrap();
    fs::copy(&entry, moved).unwrap();
    assert_eq!(fetched(&remote, other), None);
    let said = remote.take_warnings().concat();
    assert!(said.contains("signed as another entry"), "{said}");

    let whole = fs::read(&entry).unwrap();
    for (bytes, wrong) in [(&whole[1..], "no entry"), (b"{}", "no entry")] {
        fs::write(&entry, bytes).unwrap();
        let remote = lab.remote(&["ours"], None);
        assert_eq!(fetched(&remote, key), None);
        let said = remote.take_warnings().concat();
        assert!(said.contains(wrong), "{said}");
    }
    fs::write(&entry, &whole).unwrap();
    for content in [b"valuE".as_slice(), b"valu", b"value and more", b""] {
        fs::write(&object, content).unwrap();
        let remote = lab.remote(&["ours"], None);
        assert_eq!(fetched(&remote, key), None);
        let said = remote.take_warnings().concat();
        assert!(said.contains("is not what was signed"), "{said}");
    }
    // Of the right size, and gone: whoever makes it anew mends both.
    fs::write(&object, b"valuE").unwrap();
    let remote = lab.remote(&["ours"], Some("ours"));
    assert_eq!(fetched(&remote, key), None);
    remote.add(KIND, key, &[bytes_part("value", b"value")]).unwrap();
    assert_eq!(fetched(&remote, key).as_deref(), Some(b"value".as_slice()));
    fs::remove_file(&object).unwrap();
    let remote = lab.remote(&["ours"], Some("ours"));
    assert_eq!(fetched(&remote, key), None);
    remote.add(KIND, key, &[bytes_part("value", b"value")]).unwrap();
    assert_eq!(fetched(&remote, key).as_deref(), Some(b"value".as_slice()));
}

#[test]
fn an_entry_of_many_contents_lies_under_each_and_under_no_other() {
    let lab = Lab::new();
    let keys: Vec<_> = (0..130_u8).map(|number| Digest::of(&[number])).collect();
    let content = |place: usize| Some(vec![place as u8; place]);
    let writer = lab.remote(&[], Some("ours"));
    assert_eq!(writer.add_batches(KIND, &keys, content), 130);
    let sent = writer.counters().so_far().sent;
    assert_eq!(lab.remote(&[], Some("ours")).add_batches(KIND, &keys, content), 0);
    assert_eq!(lab.remote(&["ours"], None).add_batches(KIND, &keys, content), 0);
    assert!(sent < 130 * 40_000, "{sent}");

    let found = |remote: &Remote, place: usize| {
        let part = remote.find(KIND, keys[place])?;
        let mut bytes = Vec::new();
        remote.fetch(KIND, &part, &mut bytes)?;
        Some(bytes)
    };
    let reader = lab.remote(&["ours"], None);
    assert_eq!(found(&reader, 3), Some(vec![3; 3]));
    // What lies in the same entry is known now.
    let entry = |key: Digest| lab.path("remote").join(reader.entry_name(KIND, key));
    let whole = fs::read(entry(keys[5])).unwrap();
    fs::remove_file(entry(keys[5])).unwrap();
    assert_eq!(found(&reader, 5), Some(vec![5; 5]));
    let other = lab.remote(&["ours"], None);
    assert_eq!(found(&other, 5), None);
    assert_eq!(found(&other, 100), Some(vec![100; 100]));
    assert_eq!(other.take_warnings(), Vec::<String>::new());

    // A sound entry where it does not belong, and one of another sort.
    let refused = || {
        let reader = lab.remote(&["ours"], None);
        assert_eq!(found(&reader, 5), None);
        let warnings = reader.take_warnings().concat();
        assert!(warnings.contains("signed as another entry"), "{warnings}");
        reader
    };
    fs::copy(entry(keys[100]), entry(keys[5])).unwrap();
    refused();
    fs::write(entry(keys[5]), &whole).unwrap();
    assert_eq!(found(&lab.remote(&["ours"], None), 5), Some(vec![5; 5]));
    let name = keys[5].to_string();
    writer.add(KIND, keys[5], &[bytes_part(&name, b"value")]).unwrap();
    let reader = refused();
    fs::write(entry(keys[5]), &whole).unwrap();
    assert!(reader.entry(KIND, keys[5]).is_none());

    let stranger = lab.remote(&["theirs"], None);
    assert_eq!(found(&stranger, 5), None);
    assert!(stranger.take_warnings().concat().contains("not signed by a key"));
}

#[test]
fn who_has_no_more_use_for_what_comes_says_so_and_nothing_is_blamed() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::other(Unwanted))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let lab = Lab::new();
    let key = Digest::of(b"inputs");
    let remote = lab.remote(&[], Some("ours"));
    assert_eq!(remote.add_batches(KIND, &[key], |_| Some(b"value".to_vec())), 1);
    let remote = lab.remote(&["ours"], None);
    let part = remote.find(KIND, key).unwrap();
    assert_eq!(remote.fetch(KIND, &part, &mut Full), None);
    assert_eq!(remote.take_warnings(), Vec::<String>::new());
    let mut bytes = Vec::new();
    remote.fetch(KIND, &part, &mut bytes).unwrap();
    assert_eq!(bytes, b"value");
}

#[test]
fn a_place_that_fails_is_left_alone_and_named_once() {
    let lab = Lab::new();
    let key = Digest::of(b"inputs");
    let remote = lab.remote(&[], Some("ours"));
    remote.add(KIND, key, &[bytes_part("value", b"value")]).unwrap();
    let entry = lab.only("entries");
    let whole = fs::read(&entry).unwrap();
    fs::remove_file(&entry).unwrap();
    fs::create_dir(&entry).unwrap();
    assert_eq!(fetched(&remote, key), None);
    fs::remove_dir(&entry).unwrap();
    fs::write(&entry, whole).unwrap();
    assert_eq!(fetched(&remote, key), None);
    assert_eq!(remote.add(KIND, key, &[bytes_part("value", b"value")]), None);
    assert!(!remote.is_written());
    let [warning] = remote.take_warnings().try_into().unwrap();
    assert!(warning.contains("goes on without it"), "{warning}");
    assert_eq!(remote.take_warnings(), Vec::<String>::new());
}

#[test]
fn without_keys_nothing_is_used() {
    let options = Options {
        url: "file:///remote".to_owned(),
        keys: Vec::new(),
        sign: None,
        program: PathBuf::from("/proc/self/exe"),
    };
    assert!(matches!(Remote::new(&options), Err(RemoteError::NoKey)));
}
