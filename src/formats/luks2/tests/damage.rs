//! Copies that are damaged, old or at odds; and headers that are made up.

use proptest::prelude::*;

use super::super::binary::{Fields, HEADER_SALT_SIZE, Which, encode};
use super::refusals::{good_json, with_json};
use super::*;

const HEADER: usize = 16 << 10;

fn read(volume: &Vec<u8>) -> Result<Header, Luks2Error> {
    Header::read(volume, volume.len() as u64)
}

fn good() -> Vec<u8> {
    with_json(&serde_json::to_vec(&good_json()).unwrap())
}

/// Replaces a copy of [`good`] by one of another sequence number and label.
fn put(volume: &mut [u8], which: Which, sequence: u64, label: &str) {
    let fields = Fields {
        sequence,
        label: label.to_owned(),
        subsystem: String::new(),
        uuid: UUID.to_string(),
        salt: [0; HEADER_SALT_SIZE],
    };
    let json = serde_json::to_vec(&good_json()).unwrap();
    let at = if which == Which::First { 0 } else { HEADER };
    volume[at..at + HEADER].copy_from_slice(&encode(which, &fields, HEADER, &json));
}

#[test]
fn the_newest_intact_copy_counts() {
    let outdated = |sequence| CopyState::Outdated { sequence };
    for (first, second, states, label) in [
        (6, 5, [CopyState::Good, outdated(5)], "first"),
        (5, 6, [outdated(5), CopyState::Good], "second"),
        (6, 6, [CopyState::Good, CopyState::Different], "first"),
    ] {
        let mut volume = good();
        put(&mut volume, Which::First, first, "first");
        put(&mut volume, Which::Second, second, "second");
        let header = read(&volume).unwrap();
        assert_eq!((header.copies, header.label.as_str()), (states, label));
    }
}

#[test]
fn an_intact_copy_that_is_refused_is_not_replaced_by_the_other() {
    let mut json = good_json();
    json["segments"]["0"]["encryption"] = "cipher_null-ecb".into();
    let mut volume = with_json(&serde_json::to_vec(&json).unwrap());
    // The second is acceptable, but older than the first would be.
    put(&mut volume, Which::Second, 4, "");
    let error = read(&volume).unwrap_err().to_string();
    assert!(error.contains("cipher_null-ecb"), "{error}");
}

#[test]
fn damage_in_one_copy_is_named_and_in_both_is_fatal() {
    type Damage = fn(&mut [u8], usize);
    let cases: [(Damage, &str); 7] = [
        (|volume, at| volume[at] ^= 1, "is not there"),
        (|volume, at| volume[at + 7] = 1, "is of version 1, not 2"),
        (|volume, at| volume[at + 15] = 1, "which no LUKS2 header has"),
        (|volume, at| volume[at + 263] ^= 1, "made for another place"),
        (|volume, at| volume[at + 72] = b'S', "unknown kind \"Sha256\""),
        (|volume, at| volume[at + 448] ^= 1, "checksum is of other bytes"),
        (
            |volume, at| volume[at + HEADER - 1] ^= 1,
            "checksum is of other bytes",
        ),
    ];
    for (damage, why) in cases {
        for (damaged, at) in [(0, 0), (1, HEADER)] {
            let mut volume = good();
            damage(&mut volume, at);
            let header = read(&volume).unwrap();
            assert_eq!(header.copies[1 - damaged], CopyState::Good);
            let state = &header.copies[damaged];
            assert!(
                matches!(state, CopyState::Damaged(found) if found.contains(why)),
                "{why}: {state:?}"
            );
        }
        let mut volume = good();
        damage(&mut volume, 0);
        damage(&mut volume, HEADER);
        let error = read(&volume).unwrap_err();
        assert!(matches!(error, Luks2Error::NoHeader { .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn a_volume_that_is_cut_off_is_an_error() {
    let volume = good();
    for (size, why) in [
        (0, "its first header is not there; its second header is not there"),
        (4095, "its first header is not there"),
        (4096, "its first header is cut off by the volume's end"),
        (HEADER, "behind the volume's end"),
        (HEADER + 5000, "behind the volume's end"),
        (1 << 20, "0 bytes"),
        ((1 << 20) + 4095, "4095 bytes"),
    ] {
        let error = read(&volume[..size].to_vec()).unwrap_err().to_string();
        assert!(error.contains(why), "{size}: {error}");
        // The same where the length is a lie.
        let lied = Header::read(&volume[..size.min(20_000)].to_vec(), 2 << 20);
        if size < HEADER + 5000 {
            assert!(matches!(lied, Err(Luks2Error::Io(_))), "{size}");
        }
    }
}

/// Limits under which whatever was made up costs little.
const CHEAP: Limits = Limits {
    pbkdf2_iterations: 2000,
    argon2: Argon2Costs {
        time: 5,
        memory: 128,
        lanes: 4,
    },
};

/// Reads, and uses what was read in every way: nothing may panic.
fn exercise(volume: &Vec<u8>) -> Result<(), Luks2Error> {
    let header = read(volume)?;
    let again = serde_json::to_vec(&header.metadata.to_json()).unwrap();
    if (again.len() as u64) < header.metadata.config.json_size && header.header_size == HEADER as u64 {
        let mut rewritten = with_json(&again);
        rewritten.resize(volume.len(), 0);
        assert_eq!(read(&rewritten).unwrap().metadata, header.metadata);
    }
    let _ = header.unlock(volume, b"second", &CHEAP);
    let opened = header.open(volume, &volume_key(1), &CHEAP)?;
    let mut bytes = vec![0; opened.size().min(10_000) as usize];
    crate::formats::at::ReadAt::read_exact_at(&opened, &mut bytes, 0).unwrap();
    Ok(())
}

/// A value that metadata has somewhere, or that it should not have.
fn any_value() -> impl Strategy<Value = serde_json::Value> {
    let texts = [
        "",
        "0",
        "1",
        "31",
        "32",
        "4096",
        "32768",
        "290816",
        "1048576",
        "18446744073709551615",
        "dynamic",
        "aes-xts-plain64",
        "cipher_null-ecb",
        "sha1",
        "sha512",
        "argon2i",
        "pbkdf2",
        "AAAA",
        "luks2",
    ];
    prop_oneof![
        prop::sample::select(texts.to_vec()).prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        (0u32..5000).prop_map(Into::into),
        Just(serde_json::json!(["0", "1"])),
        Just(serde_json::json!({})),
        Just(serde_json::Value::Null),
    ]
}

/// Puts `value` in the place of the `at`-th value below the root.
fn replace(json: &mut serde_json::Value, at: &mut usize, value: &serde_json::Value) -> bool {
    let children: Vec<&mut serde_json::Value> = match json {
        serde_json::Value::Object(map) => map.values_mut().collect(),
        serde_json::Value::Array(values) => values.iter_mut().collect(),
        _ => return false,
    };
    for child in children {
        if *at == 0 {
            *child = value.clone();
            return true;
        }
        *at -= 1;
        if replace(child, at, value) {
            return true;
        }
    }
    false
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn changed_values_are_read_or_refused(changes in prop::collection::vec((0usize..70, any_value()), 1..4)) {
        let mut json = good_json();
        for (mut at, value) in changes {
            replace(&mut json, &mut at, &value);
        }
        let _ = exercise(&with_json(&serde_json::to_vec(&json).unwrap()));
    }

    #[test]
    fn changed_bytes_are_read_or_refused(changes in prop::collection::vec((0usize..2500, any::<u8>()), 1..5)) {
        let mut text = serde_json::to_vec(&good_json()).unwrap();
        for (at, byte) in changes {
            let at = at % text.len();
            text[at] = byte;
        }
        let _ = exercise(&with_json(&text));
    }

    #[test]
    fn any_bytes_are_no_header(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
        prop_assert!(exercise(&bytes).is_err());
    }

    // But for the end of the checksum's field, which one of SHA-256 leaves unused and nothing covers.
    #[test]
    fn damage_anywhere_in_a_copy_is_found(at in (0..HEADER).prop_filter("unused", |at| !(480..512).contains(at)), bit in 0u8..8) {
        let mut volume = good();
        volume[at] ^= 1 << bit;
        let header = read(&volume).unwrap();
        prop_assert!(matches!(header.copies[0], CopyState::Damaged(_)));
    }
}
