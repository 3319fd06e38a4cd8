//! Verdicts on single packages and on sets.

use pgp::composed::KeyType;
use pgp::crypto::ecc_curve::ECCCurve;
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::SignatureType;
use pgp::types::{KeyDetails as _, KeyVersion};
use proptest::prelude::*;

use super::fixture::{BORN, Make, Unsigned, ed25519, key, keyring, upper};
use crate::formats::rpm::tag::signature::{DSA, GPG, OPENPGP, PGP, RSA};
use crate::rpmset::signature::verify::parse;
use crate::rpmset::signature::{Exception, Fault, Policy, Verdict, verify};
use crate::rpmset::{Package, RpmSet, SetError};

#[test]
fn every_algorithm_and_version_is_verified() {
    let cases = [
        ("RSA", KeyType::Rsa(2048), KeyVersion::V4, HashAlgorithm::Sha256),
        (
            "ECDSA P-256",
            KeyType::ECDSA(ECCCurve::P256),
            KeyVersion::V4,
            HashAlgorithm::Sha256,
        ),
        (
            "ECDSA P-521",
            KeyType::ECDSA(ECCCurve::P521),
            KeyVersion::V4,
            HashAlgorithm::Sha512,
        ),
        (
            "EdDSA",
            KeyType::Ed25519Legacy,
            KeyVersion::V4,
            HashAlgorithm::Sha256,
        ),
        (
            "Ed25519, v6",
            KeyType::Ed25519,
            KeyVersion::V6,
            HashAlgorithm::Sha512,
        ),
        (
            "Ed448, v6",
            KeyType::Ed448,
            KeyVersion::V6,
            HashAlgorithm::Sha3_512,
        ),
        (
            "ML-DSA-65 with Ed25519, v6",
            KeyType::MlDsa65Ed25519,
            KeyVersion::V6,
            HashAlgorithm::Sha3_256,
        ),
        (
            "ML-DSA-87 with Ed448, v6",
            KeyType::MlDsa87Ed448,
            KeyVersion::V6,
            HashAlgorithm::Sha512,
        ),
    ];
    let package = Unsigned::new();
    for (name, kind, version, hash) in cases {
        let secret = key(kind, version);
        let make = Make {
            hash,
            ..Make::default()
        };
        let expected = upper(&secret.fingerprint());
        let primary = make.sign(&secret.primary_key, &package.header);
        let subkey = make.sign(&secret.secret_subkeys[0].key, &package.header);
        for (maker, bytes) in [("primary key", primary), ("subkey", subkey)] {
            let verdict = package.verdict(&[(OPENPGP, bytes)], &[secret.to_public_key()]);
            let Verdict::Signed { signer, unknown } = verdict else {
                panic!("{name}, {maker}: {verdict}");
            };
            assert_eq!(signer.fingerprint, expected, "{name}");
            assert_eq!(
                signer.key_fingerprint == expected,
                maker == "primary key",
                "{name}"
            );
            assert_eq!(signer.user_id, "Packager <p@example.org>");
            assert_eq!(signer.created, BORN + 1000);
            assert!(unknown.is_empty());
        }
    }
}

#[test]
fn signatures_of_version_3_are_verified() {
    let secret = key(KeyType::Rsa(2048), KeyVersion::V4);
    let package = Unsigned::new();
    let make = Make {
        v3: true,
        ..Make::default()
    };
    let bytes = make.sign(&secret.primary_key, &package.header);
    assert_eq!(bytes[bytes.len() - 256 - 21], 3, "the packet's version");
    let verdict = package.verdict(&[(RSA, bytes)], &[secret.to_public_key()]);
    assert!(matches!(verdict, Verdict::Signed { .. }), "{verdict}");
}

#[test]
fn each_tag_is_over_its_own_bytes() {
    let secret = ed25519();
    let package = Unsigned::new();
    let header = Make::default().sign(&secret.primary_key, &package.header);
    let both = Make::default().sign(&secret.primary_key, &package.both());
    for (tag, over_header) in [
        (RSA, true),
        (DSA, true),
        (OPENPGP, true),
        (PGP, false),
        (GPG, false),
    ] {
        for (bytes, is_header) in [(&header, true), (&both, false)] {
            let verdict = package.verdict(&[(tag, bytes.clone())], &[secret.to_public_key()]);
            let held = matches!(verdict, Verdict::Signed { .. });
            assert_eq!(held, over_header == is_header, "tag {tag}: {verdict}");
        }
    }
}

#[test]
fn of_several_signatures_one_suffices_and_none_may_be_wrong() {
    let (ours, theirs) = (ed25519(), key(KeyType::Ed25519, KeyVersion::V6));
    let package = Unsigned::new();
    let good = Make::default().sign(&ours.primary_key, &package.header);
    let wrong = Make::default().sign(&ours.primary_key, b"another header");
    let foreign = Make::default().sign(&theirs.primary_key, &package.header);
    let list = [ours.to_public_key()];
    let id = upper(&theirs.fingerprint())[..16].to_owned();

    let verdict = package.verdict(&[(OPENPGP, foreign.clone()), (OPENPGP, good.clone())], &list);
    assert!(
        matches!(&verdict, Verdict::Signed { unknown, .. } if *unknown == [id.clone()]),
        "{verdict}"
    );
    let verdict = package.verdict(&[(OPENPGP, foreign)], &list);
    assert_eq!(verdict, Verdict::Unknown { key_ids: vec![id] });
    let verdict = package.verdict(&[(OPENPGP, good), (OPENPGP, wrong)], &list);
    assert!(
        matches!(
            verdict,
            Verdict::Bad {
                fault: Fault::Forged,
                ..
            }
        ),
        "{verdict}"
    );
    assert_eq!(package.verdict(&[], &list), Verdict::Unsigned);
}

#[test]
fn weak_hashes_are_believed_by_name_only() {
    let secret = key(KeyType::Rsa(2048), KeyVersion::V4);
    let package = Unsigned::new();
    let list = keyring(&[secret.to_public_key()]);
    for hash in [HashAlgorithm::Sha1, HashAlgorithm::Md5] {
        let make = Make {
            hash,
            ..Make::default()
        };
        let package = package.with(&[(RSA, make.sign(&secret.primary_key, &package.header))]);
        let verdict = verify(&package, &list, &Policy::default()).unwrap();
        assert!(
            matches!(&verdict, Verdict::Weak { hash: name, .. } if *name == hash.to_string()),
            "{verdict}"
        );
        let by_package = Policy {
            weak_packages: ["tool".to_owned()].into(),
            ..Policy::default()
        };
        let by_key = Policy {
            weak_keys: [upper(&secret.fingerprint())].into(),
            ..Policy::default()
        };
        let by_another = Policy {
            weak_packages: ["tools".to_owned()].into(),
            ..Policy::default()
        };
        for (policy, held) in [(by_package, true), (by_key, true), (by_another, false)] {
            let verdict = verify(&package, &list, &policy).unwrap();
            assert_eq!(matches!(verdict, Verdict::Signed { .. }), held, "{policy:?}");
        }
    }
}

#[test]
fn a_header_that_says_nothing_of_the_payload_is_not_enough() {
    let secret = ed25519();
    let package = Unsigned::named("old", false);
    let header = Make::default().sign(&secret.primary_key, &package.header);
    let both = Make::default().sign(&secret.primary_key, &package.both());
    let list = [secret.to_public_key()];
    let verdict = package.verdict(&[(DSA, header.clone())], &list);
    assert!(
        matches!(
            verdict,
            Verdict::Bad {
                fault: Fault::HeaderOnly,
                ..
            }
        ),
        "{verdict}"
    );
    let verdict = package.verdict(&[(DSA, header), (GPG, both)], &list);
    assert!(matches!(verdict, Verdict::Signed { .. }), "{verdict}");
}

#[test]
fn odd_signatures_are_refused() {
    let secret = ed25519();
    let package = Unsigned::new();
    let list = [secret.to_public_key()];
    let text = Make {
        kind: SignatureType::Text,
        ..Make::default()
    };
    let good = Make::default().sign(&secret.primary_key, &package.header);
    let cases = [
        (
            "over text",
            text.sign(&secret.primary_key, &package.header),
            "type 0x01",
        ),
        (
            "before its key",
            Make::at(BORN - 1).sign(&secret.primary_key, &package.header),
            "made before the key",
        ),
        ("twice", [&good[..], &good].concat(), "something follows"),
        ("cut", good[..good.len() - 1].to_vec(), "malformed"),
        ("empty packet", vec![0x88, 0], "malformed"),
        ("no packet", vec![0], "malformed"),
    ];
    for (name, bytes, expected) in cases {
        let verdict = package.verdict(&[(DSA, bytes)], &list);
        assert!(matches!(verdict, Verdict::Bad { .. }), "{name}: {verdict}");
        assert!(verdict.to_string().contains(expected), "{name}: {verdict}");
    }
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let secret = ed25519();
    let package = Unsigned::new();
    let list = keyring(&[secret.to_public_key()]);
    let sign = |data: &[u8]| Make::default().sign(&secret.primary_key, data);
    let path = package.write(&[(DSA, sign(&package.header)), (GPG, sign(&package.both()))]);
    let whole = std::fs::read(&path).unwrap();
    let held = || {
        let package = Package::open(&path)?;
        package.check_payload()?;
        verify(&package, &list, &Policy::default())
    };
    let verdict = held().unwrap();
    assert!(matches!(verdict, Verdict::Signed { .. }), "{verdict}");
    let start = whole.len() - package.both().len();
    for at in start..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, bytes).unwrap();
        let verdict = held();
        assert!(!matches!(verdict, Ok(Verdict::Signed { .. })), "byte {at}");
    }
}

#[test]
fn a_set_is_taken_whole_or_not_at_all() {
    let (ours, theirs) = (ed25519(), key(KeyType::Ed25519, KeyVersion::V6));
    let names = ["good", "bare", "foreign", "forged"];
    let packages = names.map(|name| Unsigned::named(name, true));
    let sign = |number: usize, data: &[u8]| {
        Make::default().sign(&[&ours, &ours, &theirs, &ours][number].primary_key, data)
    };
    let paths = [
        packages[0].write(&[(OPENPGP, sign(0, &packages[0].header))]),
        packages[1].write(&[]),
        packages[2].write(&[(OPENPGP, sign(2, &packages[2].header))]),
        packages[3].write(&[(OPENPGP, sign(3, b"another"))]),
    ];
    let list = keyring(&[ours.to_public_key()]);
    let check = |paths: &[std::path::PathBuf], names: &[&str]| {
        let exceptions: Vec<_> = names
            .iter()
            .map(|name| Exception {
                package: (*name).to_owned(),
                reason: "made here".to_owned(),
            })
            .collect();
        let set = RpmSet::open(paths).unwrap();
        set.verify_signatures(&list, &Policy::default(), &exceptions)
    };
    let problems = |result: Result<_, SetError>| match result {
        Err(SetError::Untrusted { problems }) => problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };

    let found = problems(check(&paths, &[]));
    assert_eq!(found.len(), 3, "{found:?}");
    for (line, part) in found.iter().zip([
        "does not fit",
        "1 package is not signed: bare.rpm",
        "is not listed: foreign.rpm",
    ]) {
        assert!(line.contains(part), "{line}");
    }
    // An exception does not excuse what speaks against itself.
    let found = problems(check(&paths, &["bare", "foreign", "forged"]));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("forged.rpm"), "{found:?}");
    let checked = check(&paths[..3], &["bare", "foreign"]).unwrap();
    let excepted: Vec<_> = checked.iter().map(|it| it.excepted.is_some()).collect();
    assert_eq!(
        excepted,
        [true, true, false],
        "in the order of names: bare, foreign, good"
    );
    // Nor may one stay behind.
    let found = problems(check(&paths[..1], &["good", "gone"]));
    assert_eq!(
        found,
        [
            "the exception for `good` (made here) is not needed: a listed key has signed the package",
            "the exception for `gone` (made here) is not needed: the set has no such package",
        ]
    );
    let set = RpmSet::open(&paths[..1]).unwrap();
    let result = set.verify_signatures(&keyring(&[]), &Policy::default(), &[]);
    assert!(matches!(result, Err(SetError::NoKeys)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse("RSA", &bytes);
    }

    #[test]
    fn a_changed_signature_is_never_good(at in 0_usize..1000, bit in 0_u8..8) {
        let secret = ed25519();
        let package = Unsigned::new();
        let good = Make::default().sign(&secret.primary_key, &package.header);
        let mut bytes = good.clone();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let verdict = package.verdict(&[(DSA, bytes.clone())], &[secret.to_public_key()]);
        if matches!(verdict, Verdict::Signed { .. }) {
            // Lengths may be written in more ways than one; what they measure may not change.
            let (found, good) = (parse("DSA", &bytes).unwrap(), parse("DSA", &good).unwrap());
            prop_assert_eq!(found.config(), good.config(), "byte {}", at);
            prop_assert_eq!(found.signature(), good.signature(), "byte {}", at);
        }
    }
}
