//! What is written: the same each time, and the same as what is read.

use serde_json::json;

use super::*;
use crate::formats::at::ReadAt;

fn token(value: serde_json::Value) -> Token {
    Token::try_from(value.as_object().unwrap().clone()).unwrap()
}

#[test]
fn a_volume_is_read_back_as_it_was_described() {
    let image = Image::empty(20 * MIB);
    let key = volume_key(7);
    let keyslot = |secret, kdf, priority| NewKeyslot {
        secret,
        kdf,
        priority,
    };
    let params = Params {
        label: "root",
        subsystem: "an image",
        layout: Layout::new(64 << 10, 4 << 20),
        keyslots: vec![
            keyslot(PASSPHRASE, QUICK, Priority::Normal),
            keyslot(b"second\n", QUICK_ARGON2, Priority::Prefer),
            keyslot(b"third", QUICK, Priority::Ignore),
        ],
        tokens: vec![token(json!({
            "type": "systemd-recovery",
            "keyslots": ["1", "0"],
            "nested": {"list": [1, 2.5, null, "ü/\""], "big": u64::MAX},
        }))],
        flags: vec!["allow-discards".to_owned()],
        digest_iterations: 1234,
        ..Params::new(UUID, PASSPHRASE, QUICK)
    };
    let mut entropy = Derived::new(&key, b"test");
    let written = format(&image.file(), image.size, &key, &params, &mut entropy).unwrap();
    let read = image.header().unwrap();
    assert_eq!(read, written);
    assert_eq!(read.copies, [CopyState::Good, CopyState::Good]);
    assert_eq!(
        (read.label.as_str(), read.subsystem.as_str()),
        ("root", "an image")
    );
    assert_eq!(read.uuid, UUID);
    assert_eq!(read.header_size, 64 << 10);
    assert_eq!(read.metadata.segment.offset, 5 * MIB);
    assert_eq!(read.metadata.tokens[&0].keyslots, [0, 1]);
    assert_eq!(read.metadata.tokens[&0].fields["nested"]["list"][1], json!(2.5));
    assert_eq!(read.metadata.config.flags, ["allow-discards"]);
    let offsets: Vec<u64> = read
        .metadata
        .keyslots
        .values()
        .map(|slot| slot.area.offset)
        .collect();
    assert_eq!(offsets, [131_072, 131_072 + 258_048, 131_072 + 2 * 258_048]);

    for (secret, keyslot) in [(PASSPHRASE, 0), (b"second\n".as_slice(), 1)] {
        let unlocked = image.unlock(secret).unwrap();
        assert_eq!((unlocked.keyslot, &unlocked.key), (keyslot, &key));
    }
    for wrong in [b"second".as_slice(), b"", b"third"] {
        let error = image.unlock(wrong).unwrap_err();
        assert!(
            matches!(&error, Luks2Error::Locked { skipped } if skipped.is_empty()),
            "{error}"
        );
    }
    let open = |key| read.open(image.file(), key, &Limits::default());
    assert_eq!(open(&key).unwrap().size(), 15 * MIB);
    assert!(matches!(open(&volume_key(8)), Err(Luks2Error::VolumeKey)));
}

#[test]
fn the_same_key_and_context_give_the_same_bytes_and_others_do_not() {
    let bytes = |seed, context: &[u8]| {
        let image = Image::empty(2 * MIB);
        let key = volume_key(seed);
        let mut entropy = Derived::new(&key, context);
        format(&image.file(), image.size, &key, &params(QUICK), &mut entropy).unwrap();
        std::fs::read(image.path()).unwrap()
    };
    let first = bytes(1, b"a");
    assert!(first == bytes(1, b"a"));
    for other in [bytes(2, b"a"), bytes(1, b"b")] {
        // No stripe of the keyslot and no salt in common.
        let equal = |at: usize| first[at..at + 32] == other[at..at + 32];
        let area = (32 << 10..(32 << 10) + 256_000).step_by(32);
        assert!(!area.chain([104, 136, 16_488]).any(equal));
    }
    // Pinned: a change of output is a decision.
    assert_eq!(
        Hash::Sha256.digest(&[&first])[..8],
        [8, 38, 4, 98, 203, 167, 255, 236]
    );
}

#[test]
fn random_bytes_of_the_caller_are_used_as_they_come() {
    let image = Image::empty(2 * MIB);
    let key = volume_key(1);
    let bytes = noise(5, 300_000);
    let mut entropy = Fresh(bytes.as_slice());
    let header = format(&image.file(), image.size, &key, &params(QUICK), &mut entropy).unwrap();
    assert_eq!(header.metadata.keyslots[&0].salt, bytes[..32]);
    assert_eq!(header.metadata.digests[&0].salt, bytes[32..64]);
    assert_eq!(image.unlock(PASSPHRASE).unwrap().key, key);
    let mut few = Fresh(&bytes[..100_000]);
    let error = format(&image.file(), image.size, &key, &params(QUICK), &mut few).unwrap_err();
    assert!(matches!(error, Luks2Error::Io(_)), "{error}");
}

#[test]
fn nothing_but_headers_and_stripes_is_written() {
    use std::os::unix::fs::MetadataExt;
    let image = Image::made(64 * MIB, 1, &Params::new(UUID, PASSPHRASE, QUICK));
    let mut rest = vec![1; (16 * MIB) as usize - (32 << 10) - 256_000];
    image
        .file()
        .read_exact_at(&mut rest, (32 << 10) + 256_000)
        .unwrap();
    assert!(rest.iter().all(|&byte| byte == 0));
    let blocks = image.file().metadata().unwrap().blocks();
    assert!(blocks * 512 < 400_000, "{blocks}");
}

#[test]
fn costs_above_the_limits_are_skipped_and_named() {
    let image = Image::made(2 * MIB, 1, &params(QUICK_ARGON2));
    let header = image.header().unwrap();
    let mut limits = Limits::default();
    limits.argon2.memory = 63;
    let error = header.unlock(&image.file(), PASSPHRASE, &limits).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the passphrase or key file opens none of the volume's keyslots (not tried, for the costs of their key \
         derivation are above the limits: 0)"
    );
    limits = Limits {
        pbkdf2_iterations: 999,
        ..Limits::default()
    };
    let error = header.unlock(&image.file(), PASSPHRASE, &limits).unwrap_err();
    assert!(error.to_string().contains("1000 iterations"), "{error}");
}
