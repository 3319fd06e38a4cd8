use super::*;
use crate::formats::efi::variable::attribute;

const VENDOR: Uuid = guid::GLOBAL_VARIABLE;

/// An empty store as firmware formats it: a store of 1 KiB, and a journal.
fn empty() -> Vec<u8> {
    let mut image = vec![ERASED; 3 * BLOCK];
    image[..16].fill(0);
    image[16..32].copy_from_slice(&guid::SYSTEM_NV_DATA.to_bytes_le());
    image[32..40].copy_from_slice(&(3 * BLOCK as u64).to_le_bytes());
    image[40..44].copy_from_slice(VOLUME_SIGNATURE);
    image[44..48].copy_from_slice(&0x0004_feff_u32.to_le_bytes());
    image[48..56].copy_from_slice(&[72, 0, 0, 0, 0, 0, 0, 2]);
    image[56..72].fill(0);
    image[56] = 3;
    image[61] = 0x10;
    let sum = image[..72]
        .chunks(2)
        .fold(0, |sum: u16, word| sum.wrapping_add(u16_at(word, 0).unwrap()));
    image[50..52].copy_from_slice(&sum.wrapping_neg().to_le_bytes());
    image[72..88].copy_from_slice(&guid::AUTHENTICATED_VARIABLES.to_bytes_le());
    image[88..92].copy_from_slice(&(1024_u32 - 72).to_le_bytes());
    image[92..100].copy_from_slice(&[STORE_FORMATTED, STORE_HEALTHY, 0, 0, 0, 0, 0, 0]);
    let journal = &mut image[BLOCK..];
    journal[..16].copy_from_slice(&guid::WORKING_BLOCK.to_bytes_le());
    journal[24..32].copy_from_slice(&(BLOCK as u64 - 32).to_le_bytes());
    image
}

fn variable(name: &str, data: &[u8]) -> Variable {
    Variable::new(VENDOR, name, attribute::NON_VOLATILE, data.to_vec())
}

fn filled() -> VariableStore {
    let mut store = VariableStore::parse(empty()).unwrap();
    store.set(variable("Boot0000", b"one"));
    store.set(variable("Lang", b"two"));
    store
}

#[test]
fn variables_stand_as_firmware_has_them() {
    let mut store = filled();
    store.set(Variable {
        time: Time::from_unix(1_262_304_000),
        ..Variable::new(
            guid::IMAGE_SECURITY_DATABASE,
            "db",
            attribute::SECURE_BOOT,
            vec![7],
        )
    });
    let bytes = store.to_bytes().unwrap();
    assert_eq!(bytes.len(), empty().len());
    let first = &bytes[100..];
    assert_eq!(first[..8], [0xaa, 0x55, 0x3f, 0, 1, 0, 0, 0]);
    assert_eq!(first[8..36], [0; 28]);
    assert_eq!(first[36..44], [18, 0, 0, 0, 3, 0, 0, 0]);
    assert_eq!(first[44..60], VENDOR.to_bytes_le());
    assert_eq!(&first[60..78], b"B\0o\0o\0t\x000\x000\x000\x000\0\0\0".as_slice());
    assert_eq!(&first[78..84], b"one\xff\xff\xff");
    assert_eq!(first[84..86], [0xaa, 0x55]);

    let again = VariableStore::parse(bytes).unwrap();
    assert_eq!(again.variables(), store.variables());
    let db = again.get(guid::IMAGE_SECURITY_DATABASE, "db").unwrap();
    assert_eq!((db.attributes, db.data.as_slice()), (0x27, [7].as_slice()));
    assert_eq!(db.time.to_string(), "2010-01-01T00:00:00Z");
}

#[test]
fn variables_are_replaced_and_removed() {
    let mut store = filled();
    store.set(variable("Boot0000", b"anew"));
    let other = Variable::new(guid::CUSTOM_MODE, "Lang", 1, vec![]);
    store.set(other.clone());
    assert!(store.remove(VENDOR, "Lang") && !store.remove(VENDOR, "Lang"));
    let again = VariableStore::parse(store.to_bytes().unwrap()).unwrap();
    assert_eq!(again.variables(), [variable("Boot0000", b"anew"), other]);
    assert_eq!(again.get(VENDOR, "Lang"), None);
}

#[test]
fn states_of_variables_are_heeded() {
    const FIRST: usize = 100;
    let image = filled().to_bytes().unwrap();
    let second = FIRST + 84;
    let state = |at: usize, value: u8| {
        let mut image = image.clone();
        image[at + 2] = value;
        VariableStore::parse(image).unwrap()
    };
    for gone in [0x3d, 0x3c, 0x7f, 0xff, 0] {
        let store = state(FIRST, gone);
        assert_eq!(store.variables(), [variable("Lang", b"two")], "{gone:#x}");
    }
    assert_eq!(state(FIRST, 0x3e).variables().len(), 2);

    // The same name twice: the old value on its way out, the new one in.
    let mut store = VariableStore::parse(empty()).unwrap();
    store.variables = vec![variable("Lang", b"old"), variable("Lang", b"new")];
    let mut image = store.to_bytes().unwrap();
    assert!(matches!(
        VariableStore::parse(image.clone()),
        Err(StoreError::Broken {
            what: "a variable is there twice",
            ..
        })
    ));
    image[FIRST + 2] = 0x3e;
    assert_eq!(
        VariableStore::parse(image.clone()).unwrap().variables(),
        [variable("Lang", b"new")]
    );
    let size = (second - FIRST) - 8;
    image[FIRST + 2] = 0x3f;
    image[FIRST + size + 2] = 0x3e;
    assert_eq!(
        VariableStore::parse(image).unwrap().variables(),
        [variable("Lang", b"old")]
    );
}

#[test]
fn a_full_store_says_so() {
    let mut store = filled();
    store.set(variable("big", &[0; 2000]));
    match store.to_bytes() {
        Err(StoreError::Full { needed, room }) => assert_eq!((needed, room), (84 + 76 + 2068, 924)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn broken_stores_are_refused() {
    let good = filled().to_bytes().unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut image = good.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        image
    };
    let table: &[(Vec<u8>, &str)] = &[
        (vec![], "does not begin with a firmware volume"),
        (good[..43].to_vec(), "does not begin with a firmware volume"),
        (with(16, &[0; 16]), "holds no variables"),
        (good[..70].to_vec(), "no possible length"),
        (with(48, &[0xff, 0xff]), "no possible length"),
        (with(48, &[2, 0]), "no possible length"),
        (with(46, &[9]), "checksum"),
        (good[..BLOCK].to_vec(), "longer than the file"),
        (with(72, &guid::PLAIN_VARIABLES.to_bytes_le()), "no Secure Boot"),
        (with(72, &[0; 16]), "no store of authenticated variables"),
        (with(92, &[0]), "not formatted"),
        (with(93, &[0]), "marked as broken"),
        (with(88, &[0xff; 4]), "does not fit"),
        (with(88, &[27, 0, 0, 0]), "does not fit"),
        (with(136, &[0xff; 4]), "beyond the store's end"),
        (with(140, &[0xff; 4]), "beyond the store's end"),
        (with(136, &[17]), "not UTF-16 with an end"),
        (with(160, &[0, 0]), "not UTF-16 with an end"),
        (with(160, &[0, 0xd8]), "not UTF-16 with an end"),
    ];
    for (image, part) in table {
        let error = VariableStore::parse(image.clone()).unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
    // Deleted, and its length is a lie: what follows cannot be found.
    let mut image = with(140, &[0xff; 4]);
    image[102] = 0x3c;
    assert!(VariableStore::parse(image).is_err());
}

#[test]
fn an_interrupted_rewrite_is_noticed() {
    let entry = |head: u8, write: u8| {
        let mut image = filled().to_bytes().unwrap();
        let journal = &mut image[BLOCK + 32..];
        journal[..2 * ENTRY + WRITE].fill(0);
        // One that was completed, with one write that has 8 private bytes.
        journal[0] = 0xf8;
        journal[24] = 1;
        journal[32] = 8;
        journal[40] = 0xf9;
        journal.copy_within(..88, 88);
        journal[88] = head;
        journal[128] = write;
        image
    };
    for (head, write, expected) in [
        (0xf8, 0xf9, false),
        (0xfc, 0xff, false),
        (0xfe, 0xff, false),
        (0xfc, 0xfd, true),
        (0xfc, 0xf9, false),
    ] {
        let image = entry(head, write);
        match VariableStore::parse(image) {
            Ok(store) => {
                assert!(!expected, "{head:#x} {write:#x}");
                let written = store.to_bytes().unwrap();
                assert_eq!(written, filled().to_bytes().unwrap(), "the journal is emptied");
            }
            Err(error) => assert!(expected && error == StoreError::Interrupted, "{error}"),
        }
    }
}
