//! Headers that are intact and say what must not be accepted; parameters that must not be written.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::super::binary::{Fields, HEADER_SALT_SIZE, Which, encode};
use super::*;

const HEADER: usize = 16 << 10;

/// A volume's bytes with `text` for its JSON, and good checksums.
pub(super) fn with_json(text: &[u8]) -> Vec<u8> {
    let mut volume = vec![0; 2 << 20];
    let fields = Fields {
        sequence: 5,
        label: String::new(),
        subsystem: String::new(),
        uuid: UUID.to_string(),
        salt: [0; HEADER_SALT_SIZE],
    };
    for (which, at) in [(Which::First, 0), (Which::Second, HEADER)] {
        volume[at..at + HEADER].copy_from_slice(&encode(which, &fields, HEADER, text));
    }
    volume
}

/// Metadata of two keyslots and a token, for a volume of 2 MiB.
pub(super) fn good_json() -> Value {
    static GOOD: LazyLock<Value> = LazyLock::new(make_good_json);
    GOOD.clone()
}

fn make_good_json() -> Value {
    let key = volume_key(1);
    let image = Image::empty(2 * MIB);
    let mut params = params(QUICK);
    params.keyslots.push(NewKeyslot {
        secret: b"second",
        kdf: QUICK_ARGON2,
        priority: Priority::Normal,
    });
    let token = json!({"type": "mine", "keyslots": ["0"]});
    params.tokens = vec![Token::try_from(token.as_object().unwrap().clone()).unwrap()];
    let mut entropy = Derived::new(&key, b"");
    let header = format(&image.file(), image.size, &key, &params, &mut entropy).unwrap();
    header.metadata.to_json()
}

fn read(text: &[u8]) -> Result<Header, Luks2Error> {
    let volume = with_json(text);
    Header::read(&volume, volume.len() as u64)
}

/// Replaces the value at `pointer`, or removes it.
fn changed(pointer: &str, value: Option<Value>) -> Vec<u8> {
    let mut json = good_json();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = json.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => parent.insert(key.to_owned(), value),
        None => parent.shift_remove(key),
    };
    serde_json::to_vec(&json).unwrap()
}

#[test]
fn metadata_that_is_not_known_and_safe_is_refused() {
    read(&serde_json::to_vec(&good_json()).unwrap()).unwrap();
    let cases = [
        (
            "/segments/0/encryption",
            json!("cipher_null-ecb"),
            "segment 0 has the encryption \"cipher_null-ecb\"",
        ),
        (
            "/segments/0/encryption",
            json!("aes-cbc-essiv:sha256"),
            "only \"aes-xts-plain64\" is accepted",
        ),
        (
            "/segments/0/type",
            json!("linear"),
            "segment 0 has the type \"linear\"",
        ),
        (
            "/segments/0/integrity",
            json!({"type": "hmac(sha256)"}),
            "\"integrity\", which is not supported",
        ),
        (
            "/segments/0/flags",
            json!(["backup-previous"]),
            "\"flags\", which is not supported",
        ),
        ("/segments/0/sector_size", json!(8192), "sectors of 8192 bytes"),
        (
            "/segments/0/sector_size",
            json!("512"),
            "no positive number \"sector_size\"",
        ),
        ("/segments/0/offset", json!("1048575"), "middle of a sector"),
        ("/segments/0/offset", json!("1024"), "inside headers and keyslots"),
        ("/segments/0/offset", json!("0"), "inside headers and keyslots"),
        ("/segments/0/offset", json!("2097152"), "0 bytes"),
        (
            "/segments/0/offset",
            json!("18446744073709551104"),
            "behind the volume's end",
        ),
        ("/segments/0/offset", json!("-1"), "no number of 64 bits"),
        ("/segments/0/size", json!("2097152"), "more than there are"),
        (
            "/segments/0/size",
            json!("18446744073709547520"),
            "more than there are",
        ),
        ("/segments/0/size", json!("0"), "0 bytes"),
        ("/segments/0/size", json!("4608"), "sectors of 4096"),
        ("/segments/0/size", json!("all"), "no number of 64 bits"),
        ("/segments/0/iv_tweak", json!("1e3"), "\"iv_tweak\""),
        ("/segments/1", json!({"type": "crypt"}), "2 segments; exactly one"),
        ("/segments", json!({}), "0 segments; exactly one"),
        ("/segments", json!([]), "no object \"segments\""),
        (
            "/keyslots/0/type",
            json!("reencrypt"),
            "keyslot 0 has the type \"reencrypt\"",
        ),
        ("/keyslots/0/key_size", json!(48), "a key of 48 bytes"),
        ("/keyslots/0/key_size", json!(32), "whose keys differ in length"),
        ("/keyslots/0/priority", json!(3), "unknown priority 3"),
        ("/keyslots/0/af/stripes", json!(1), "has not 4000 stripes"),
        (
            "/keyslots/0/af/type",
            json!("luks9"),
            "keyslot 0.af has the type \"luks9\"",
        ),
        ("/keyslots/0/af/hash", json!("md5"), "unknown hash \"md5\""),
        ("/keyslots/0/area/type", json!("datashift"), "\"raw\" is accepted"),
        (
            "/keyslots/0/area/encryption",
            json!("cipher_null-ecb"),
            "keyslot 0.area has the encryption",
        ),
        ("/keyslots/0/area/key_size", json!(0), "a key of 0 bytes"),
        (
            "/keyslots/0/area/offset",
            json!("290816"),
            "overlaps the one of keyslot 0",
        ),
        (
            "/keyslots/0/area/offset",
            json!("33280"),
            "overlaps the one of keyslot 0",
        ),
        ("/keyslots/0/area/offset", json!("16384"), "in the headers"),
        ("/keyslots/0/area/offset", json!("32769"), "middle of a sector"),
        (
            "/keyslots/0/area/offset",
            json!("1048576"),
            "behind the keyslots' space",
        ),
        (
            "/keyslots/0/area/offset",
            json!("18446744073709551104"),
            "behind the keyslots' space",
        ),
        (
            "/keyslots/0/area/size",
            json!("253952"),
            "too small for its stripes",
        ),
        (
            "/keyslots/0/area/size",
            json!("18446744073709551615"),
            "behind the keyslots' space",
        ),
        ("/keyslots/0/kdf/type", json!("scrypt"), "unknown type \"scrypt\""),
        ("/keyslots/0/kdf/iterations", json!(0), "iterations 0"),
        (
            "/keyslots/0/kdf/iterations",
            json!(1u32 << 31),
            "no positive number \"iterations\"",
        ),
        ("/keyslots/0/kdf/hash", json!("crc32"), "unknown hash \"crc32\""),
        ("/keyslots/0/kdf/salt", json!("AAAA"), "a salt of 3 bytes, not 32"),
        ("/keyslots/1/kdf/time", json!(0), "time 0"),
        ("/keyslots/1/kdf/memory", json!(-5), "\"memory\""),
        ("/keyslots/1/kdf/cpus", json!(0), "cpus 0"),
        (
            "/keyslots/1/kdf/memory",
            json!(15),
            "15 KiB of memory for 2 lanes",
        ),
        ("/keyslots/32", json!({}), "no number below 32"),
        ("/keyslots/01", json!({}), "no number below 32"),
        ("/keyslots/3", json!(3), "keyslot \"3\" is not an object"),
        ("/tokens/0/keyslots", json!(["7"]), "token 0 names keyslot 7"),
        ("/tokens/0/keyslots", json!([0]), "array of strings"),
        ("/tokens/0/type", json!(1), "token 0 has no string \"type\""),
        ("/digests/0/type", json!("crc"), "digest 0 has the type \"crc\""),
        ("/digests/0/segments", json!([]), "0 digests, not one"),
        ("/digests/0/segments", json!(["0", "1"]), "names segment 1"),
        ("/digests/0/keyslots", json!(["0"]), "keyslot 1 has 0 digests"),
        ("/digests/0/keyslots", json!(["0", "1", "2"]), "names keyslot 2"),
        ("/digests/0/digest", json!("AAAA"), "has 3 bytes, not 32"),
        ("/digests/0/digest", json!(""), "has 0 bytes, not 32"),
        (
            "/config/json_size",
            json!("8192"),
            "8192 bytes in a header of 16384",
        ),
        (
            "/config/json_size",
            json!("18446744073709551615"),
            "in a header of 16384",
        ),
        ("/config/keyslots_size", json!("134221824"), "up to 128 MiB"),
        ("/config/keyslots_size", json!("786433"), "multiple of 4096"),
        (
            "/config/keyslots_size",
            json!("1048576"),
            "inside headers and keyslots",
        ),
        (
            "/config/requirements",
            json!({"mandatory": ["online-reencrypt-v2"]}),
            "demands \"online-reencrypt-v2\"",
        ),
        ("/config/flags", json!([1]), "array of strings"),
    ];
    for (pointer, value, why) in cases {
        let error = read(&changed(pointer, Some(value.clone())))
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{pointer} = {value}: {error}");
    }
    for section in ["keyslots", "tokens", "segments", "digests", "config"] {
        let error = read(&changed(&format!("/{section}"), None))
            .unwrap_err()
            .to_string();
        assert!(error.contains(&format!("no object {section:?}")), "{error}");
    }
    // Two digests for one segment: the second would decide in some readers.
    let mut json = good_json();
    json["digests"]["1"] = json["digests"]["0"].clone();
    let error = read(&serde_json::to_vec(&json).unwrap()).unwrap_err().to_string();
    assert!(error.contains("2 digests, not one"), "{error}");
}

#[test]
fn text_that_readers_could_take_in_two_ways_is_refused() {
    let good = serde_json::to_string(&good_json()).unwrap();
    let twice = good.replacen(
        "\"offset\":\"1048576\"",
        "\"offset\":\"1048576\",\"offset\":\"2048\"",
        1,
    );
    let cases = [
        (twice, "\"offset\" occurs twice"),
        (format!(" {good}"), "does not begin with an object"),
        (format!("{good}\0x"), "other bytes than zeros"),
        (format!("{good}}}"), "cannot be read"),
        (good.replace("aes-xts", "aes\u{1}xts"), "cannot be read"),
        (format!("{{{}", " ".repeat(12_287)), "last byte"),
        (String::new(), "does not begin with an object"),
    ];
    for (text, why) in cases {
        let error = read(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_uuid_that_is_none_is_refused() {
    let mut volume = vec![0; 2 << 20];
    let fields = Fields {
        sequence: 5,
        label: String::new(),
        subsystem: String::new(),
        uuid: "../../x".to_owned(),
        salt: [0; HEADER_SALT_SIZE],
    };
    let json = serde_json::to_vec(&good_json()).unwrap();
    volume[..HEADER].copy_from_slice(&encode(Which::First, &fields, HEADER, &json));
    let error = Header::read(&volume, volume.len() as u64).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the LUKS2 header is refused: it has \"../../x\" for a UUID"
    );
}

#[test]
fn parameters_that_protect_nothing_or_do_not_fit_are_refused() {
    let deep = (0..29).fold(json!(1), |inner, _| json!([inner]));
    let token = |fields: Value| Token::try_from(fields.as_object().unwrap().clone()).unwrap();
    let with = |change: &dyn Fn(&mut Params<'_>)| {
        let mut params = params(QUICK);
        change(&mut params);
        let image = Image::empty(2 * MIB);
        let key = volume_key(1);
        let result = format(
            &image.file(),
            image.size,
            &key,
            &params,
            &mut Derived::new(&key, b""),
        );
        // Nothing was written where something is wrong.
        if result.is_err() {
            assert!(std::fs::read(image.path()).unwrap().iter().all(|&byte| byte == 0));
        }
        result
    };
    with(&|_| ()).unwrap();
    type Change<'a> = &'a dyn Fn(&mut Params<'_>);
    let cases: [(Change<'_>, &str); 17] = [
        (
            &|p| p.label = "012345678901234567890123456789012345678901234567",
            "the label",
        ),
        (&|p| p.subsystem = "a\0b", "the subsystem"),
        (&|p| p.keyslots.clear(), "without a keyslot"),
        (&|p| p.keyslots[0].secret = b"", "keeps nobody out"),
        (
            &|p| {
                p.keyslots[0].kdf = Kdf::Pbkdf2 {
                    hash: Hash::Sha256,
                    iterations: 1,
                }
            },
            "1000 iterations",
        ),
        (
            &|p| p.keyslots = vec![p.keyslots[0].clone(); 33],
            "32 keyslots, not 33",
        ),
        (
            &|p| p.keyslots = vec![p.keyslots[0].clone(); 4],
            "keyslot 3 has its area",
        ),
        (&|p| p.digest_iterations = 10, "1000 iterations"),
        (&|p| p.layout.header_size = 20_000, "power of two"),
        (&|p| p.layout.header_size = 8 << 20, "power of two"),
        (&|p| p.layout.keyslots_size = 5000, "multiple of 4096"),
        (&|p| p.layout.keyslots_size = 129 << 20, "up to 128 MiB"),
        (&|p| p.layout.data_offset = MIB + 4096, "boundary of 1 MiB"),
        (&|p| p.layout.keyslots_size = MIB, "behind headers and keyslots"),
        (&|p| p.layout.data_offset = 2 * MIB, "0 bytes"),
        (
            &|p| p.tokens = vec![token(json!({"type": "t", "keyslots": [], "x": deep}))],
            "nested deeper",
        ),
        (
            &|p| {
                p.tokens = vec![token(
                    json!({"type": "t", "keyslots": [], "x": "y".repeat(12_000)}),
                )]
            },
            "larger ones",
        ),
    ];
    for (change, why) in cases {
        let error = with(change).unwrap_err();
        assert!(matches!(error, Luks2Error::Parameters(_)), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    let error = with(&|p| p.tokens = vec![token(json!({"type": "t", "keyslots": ["4"]}))]).unwrap_err();
    assert!(error.to_string().contains("token 0 names keyslot 4"), "{error}");
    for wrong in [
        json!({"type": "t"}),
        json!({"keyslots": []}),
        json!({"type": "t", "keyslots": ["x"]}),
    ] {
        assert!(
            Token::try_from(wrong.as_object().unwrap().clone()).is_err(),
            "{wrong}"
        );
    }
}
