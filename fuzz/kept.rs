//! Targets that read what lies in stores and repositories: packs of values, static deltas.

use std::fs;

use hullwright::formats::bsdiff;
use hullwright::formats::gvariant::{self, Type, Value};
use hullwright::ostree::{apply_part, parse_superblock};
use hullwright::store::{Digest, Store};
use sha2::{Digest as _, Sha256};

/// Bytes of a pack's two tables for each value, and of its footer.
const TABLES: usize = 8 + 40;

/// A pack of values as it is; then with as many values as the first byte says, and digests that are right, or nothing
/// behind them would be reached. Values are looked up, and damaged ones found.
pub fn value_pack(data: &[u8]) {
    // In memory where that is to be had: thousands of stores are made.
    let Ok(place) = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()) else {
        return;
    };
    let (count, rest) = data.split_first().unwrap_or((&0, &[]));
    let count = usize::from(*count).min(rest.len() / TABLES);
    let (values, tables) = rest.split_at(rest.len() - count * TABLES);
    let (prefixes, entries) = tables.split_at(count * 8);
    let number = u32::try_from(count).unwrap_or(0).to_le_bytes();
    let digests = [prefixes, entries].map(|table| Sha256::digest(table).to_vec());
    let sealed = [values, tables, &number, &digests[0], &digests[1], b"hwvals\0\x01"].concat();
    // Writing waits for the disk: with one input of sixteen.
    let write = data.iter().fold(0, |sum, byte| sum ^ byte) & 15 == 0;
    let directory = place.path().join("values/fuzz");
    let Ok(store) = Store::open(place.path()) else {
        return;
    };
    let written = fs::create_dir_all(&directory).and_then(|()| {
        if write {
            fs::write(directory.join("0".repeat(64)), data)?;
        }
        fs::write(directory.join("1".repeat(64)), &sealed)
    });
    if written.is_err() {
        return;
    }
    if let Ok(kept) = store.values("fuzz") {
        let keys = prefixes.chunks_exact(8).zip(entries.chunks_exact(40));
        let keys = keys.map(|(prefix, entry)| [prefix, &entry[..24]].concat());
        for key in keys.chain([vec![0; 32]]) {
            let Ok(key) = <[u8; 32]>::try_from(key) else {
                continue;
            };
            let value = kept.get(&key);
            assert!(value.is_none_or(|value| value.len() <= values.len()));
        }
        if !write {
            return;
        }
        kept.put(&[7; 32], b"new");
        // What is damaged is dropped when what is sound is written anew.
        assert!(kept.keep().is_ok());
    }
    assert!(store.verify(&|_, _, _| None).is_ok());
    if let Ok(kept) = store.values("fuzz") {
        assert!(kept.get(&[7; 32]).is_some());
    }
}

/// A superblock; then a part, uncompressed or not, with objects of any kind; then differences.
pub fn static_delta(data: &[u8]) {
    let _ = parse_superblock(data);
    let (count, part) = data.split_first().unwrap_or((&0, &[]));
    let objects: Vec<_> = (0..*count & 0x0f)
        .map(|kind| (1 + (kind >> 1 & 3), Digest([kind; 32])))
        .collect();
    for source in [None, Some(b"what a client has".to_vec())] {
        let find = |_: &Digest| Ok(source.clone());
        let _ = apply_part(part, &objects, 1 << 20, &find, "part");
    }
    if let Ok(new) = bsdiff::patch(b"what a client has", part, 1000) {
        assert_eq!(new.len(), 1000);
    }
}

/// Inputs for [`value_pack`]: a pack as the store writes it, without its footer.
pub fn packs() -> Vec<Vec<u8>> {
    let Ok(place) = tempfile::tempdir() else {
        return Vec::new();
    };
    let write = || -> Option<Vec<u8>> {
        let values = Store::open(place.path()).ok()?.values("seed").ok()?;
        values.put(&[1; 32], b"one");
        values.put(&[2; 32], b"another one");
        values.keep().ok()?;
        let mut entries = fs::read_dir(place.path().join("values/seed")).ok()?;
        let pack = fs::read(entries.next()?.ok()?.path()).ok()?;
        let whole = pack.len().checked_sub(4 + 32 + 32 + 8)?;
        Some([&[2], &pack[..whole]].concat())
    };
    write().into_iter().collect()
}

/// Inputs for [`static_delta`]: a superblock; a part that makes two objects by differences and by pieces.
pub fn deltas() -> Vec<Vec<u8>> {
    let kind = |text: &[u8]| Type::parse(text).unwrap_or(Type::Variant);
    let none = |text: &[u8]| Value::Array(kind(text), Vec::new());
    let endianness = Value::Fixed(gvariant::Fixed::Byte, u64::from(b'l'));
    let commit = Value::Tuple(vec![
        none(b"{sv}"),
        Value::bytes(&[]),
        none(b"(say)"),
        Value::str(""),
        Value::str(""),
        Value::u64(0),
        Value::bytes(&[1; 32]),
        Value::bytes(&[2; 32]),
    ]);
    let part = Value::Tuple(vec![
        Value::u32(0),
        Value::bytes(&[3; 32]),
        Value::u64(100),
        Value::u64(200),
        Value::bytes(&[1; 33]),
    ]);
    let superblock = gvariant::serialise(&Value::Tuple(vec![
        Value::vardict([("ostree.endianness", endianness)]),
        Value::u64(0),
        Value::bytes(&[4; 32]),
        Value::bytes(&[5; 32]),
        commit,
        Value::bytes(&[]),
        Value::Array(kind(b"(uayttay)"), vec![part]),
        none(b"(yaytt)"),
    ]));
    let old = b"what a client has";
    let differences = bsdiff::diff(old, b"what a server has").unwrap_or_default();
    let payload = [&[0; 32], &differences[..]].concat();
    let length = u8::try_from(differences.len()).unwrap_or(0);
    let operations = [
        &[b'r', 0, b'o', 0, 0, 17, b'B', 32, length, b'c'][..],
        &[
            b'o', 0, 0, 9, b'w', 4, 0, b'r', 0, b'w', 5, 2, b'R', b'c', b'S', 3, 0,
        ],
    ]
    .concat();
    let mode = Value::Tuple(
        [0, 0, 0o100_644]
            .map(|n: u32| Value::u32(n.swap_bytes()))
            .to_vec(),
    );
    let part = gvariant::serialise(&Value::Tuple(vec![
        Value::Array(kind(b"(uuu)"), vec![mode]),
        Value::Array(kind(b"a(ayay)"), vec![none(b"(ayay)")]),
        Value::bytes(&payload),
        Value::bytes(&operations),
    ]));
    vec![superblock, [&[3, 0][..], &part].concat()]
}
