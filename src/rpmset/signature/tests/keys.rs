//! What makes a key count, and for how long; files of keys.

use pgp::composed::{KeyType, SignedPublicKey, SignedSecretKey};
use pgp::packet::{KeyFlags, RevocationCode, SignatureType, SubpacketData};
use pgp::ser::Serialize as _;
use pgp::types::{KeyDetails as _, KeyVersion, Password, Tag};
use proptest::prelude::*;

use super::fixture::{BORN, Make, Unsigned, certified, ed25519, key, keyring, lifetime, read, upper};
use crate::formats::rpm::tag::signature::DSA;
use crate::rpmset::signature::{Fault, SignatureError, Verdict};

fn flags(sign: bool) -> SubpacketData {
    let mut flags = KeyFlags::default();
    flags.set_certify(true);
    flags.set_sign(sign);
    SubpacketData::KeyFlags(flags)
}

/// The fault of a signature made at `made` by the primary key or the subkey; `None` where it is good.
fn fault(secret: &SignedSecretKey, list: &[SignedPublicKey], made: u32, subkey: bool) -> Option<Fault> {
    let package = Unsigned::new();
    let make = Make::at(made);
    let bytes = match subkey {
        true => make.sign(&secret.secret_subkeys[0].key, &package.header),
        false => make.sign(&secret.primary_key, &package.header),
    };
    match package.verdict(&[(DSA, bytes)], list) {
        Verdict::Signed { .. } => None,
        Verdict::Bad { fault, .. } => Some(fault),
        other => panic!("{other}"),
    }
}

#[test]
fn a_key_counts_until_it_expires() {
    let secret = ed25519();
    let list = [certified(&secret, BORN, vec![lifetime(500), flags(true)])];
    for subkey in [false, true] {
        assert_eq!(fault(&secret, &list, BORN + 499, subkey), None);
        assert_eq!(
            fault(&secret, &list, BORN + 500, subkey),
            Some(Fault::Expired { at: BORN + 500 })
        );
    }
    assert_eq!(
        Fault::Expired { at: BORN }.to_string(),
        "the key expired on 2001-09-09, before it signed"
    );
}

#[test]
fn the_newest_self_signature_decides() {
    let secret = ed25519();
    let (old, new) = (
        certified(&secret, BORN, vec![lifetime(500)]),
        certified(&secret, BORN + 10, vec![lifetime(900)]),
    );
    // In whichever file it lies.
    for list in [[old.clone(), new.clone()], [new, old]] {
        assert_eq!(fault(&secret, &list, BORN + 899, false), None);
        assert_eq!(
            fault(&secret, &list, BORN + 900, false),
            Some(Fault::Expired { at: BORN + 900 })
        );
        assert_eq!(keyring(&list).certificates().len(), 1);
    }
}

#[test]
fn keys_that_are_not_meant_to_sign_do_not() {
    let secret = ed25519();
    let list = [certified(&secret, BORN, vec![flags(false)])];
    assert_eq!(fault(&secret, &list, BORN + 5, false), Some(Fault::NotForSigning));
    assert_eq!(fault(&secret, &list, BORN + 5, true), None);
    // Certificates from before there were flags.
    let list = [certified(&secret, BORN, vec![])];
    assert_eq!(fault(&secret, &list, BORN + 5, false), None);
}

#[test]
fn revocation_is_final_unless_the_key_was_merely_retired() {
    let secret = ed25519();
    let at = BORN + 700;
    let revoked = |code: Option<RevocationCode>| {
        let reason = code.map(|code| SubpacketData::RevocationReason(code, Vec::new().into()));
        let make = Make {
            kind: SignatureType::KeyRevocation,
            extra: reason.into_iter().collect(),
            ..Make::at(at)
        };
        let primary = &secret.primary_key;
        let signature = make
            .config(primary)
            .sign_key(primary, &Password::empty(), primary.public_key());
        let mut public = secret.to_public_key();
        public.details.revocation_signatures.push(signature.unwrap());
        public
    };
    for subkey in [false, true] {
        for code in [
            None,
            Some(RevocationCode::KeyCompromised),
            Some(RevocationCode::NoReason),
        ] {
            let fault = fault(&secret, &[revoked(code)], BORN + 5, subkey);
            assert!(
                matches!(fault, Some(Fault::Revoked { at: found, .. }) if found == at),
                "{code:?}"
            );
        }
        let list = [revoked(Some(RevocationCode::KeySuperseded))];
        assert_eq!(fault(&secret, &list, at - 1, subkey), None);
        let expected = Fault::Revoked {
            reason: "superseded",
            at,
        };
        assert_eq!(fault(&secret, &list, at, subkey), Some(expected));
    }
    // It counts where another file has the key without it.
    let list = [secret.to_public_key(), revoked(None)];
    assert!(matches!(
        fault(&secret, &list, BORN + 5, false),
        Some(Fault::Revoked { .. })
    ));
    // That of another key does not.
    let other = key(KeyType::Rsa(2048), KeyVersion::V4);
    let mut public = other.to_public_key();
    public.details.revocation_signatures = revoked(None).details.revocation_signatures;
    assert_eq!(fault(&other, &[public], BORN + 5, false), None);
}

#[test]
fn subkeys_need_a_binding_from_both_sides() {
    let secret = ed25519();
    let mut bare = secret.to_public_key();
    let subkey = &mut bare.public_subkeys[0];
    subkey.signatures[0] = subkey
        .key
        .sign(
            super::fixture::rng(),
            &secret.primary_key,
            secret.primary_key.public_key(),
            &Password::empty(),
            secret.secret_subkeys[0].signatures[0].key_flags(),
            None,
        )
        .unwrap();
    assert_eq!(fault(&secret, &[bare], BORN + 5, true), Some(Fault::Unconfirmed));
    // A binding by another primary key.
    let other = key(KeyType::Rsa(2048), KeyVersion::V4);
    let mut stolen = other.to_public_key();
    stolen.public_subkeys = secret.to_public_key().public_subkeys;
    assert_eq!(fault(&secret, &[stolen], BORN + 5, true), Some(Fault::Unbound));
}

#[test]
fn files_of_keys_are_read_in_every_form() {
    let (one, two) = (ed25519(), key(KeyType::Ed25519, KeyVersion::V6));
    let armor = |secret: &SignedSecretKey| secret.to_public_key().to_armored_string(None.into()).unwrap();
    let expected = {
        let mut both = [upper(&one.fingerprint()), upper(&two.fingerprint())];
        both.sort();
        both
    };
    let binary = [
        one.to_public_key().to_bytes().unwrap(),
        two.to_public_key().to_bytes().unwrap(),
    ]
    .concat();
    let latin1 = [armor(&one).as_bytes(), b"caf\xe9\n", armor(&two).as_bytes()].concat();
    let crlf = format!("first\n{}\nsecond\n{}", armor(&one), armor(&two)).replace('\n', "\r\n");
    for bytes in [binary, latin1, crlf.into_bytes()] {
        let keyring = read(&bytes).unwrap();
        let found: Vec<_> = keyring
            .certificates()
            .iter()
            .map(|it| it.fingerprint.clone())
            .collect();
        assert_eq!(found, expected);
        assert_eq!(keyring.certificates()[0].user_id, "Packager <p@example.org>");
    }
}

#[test]
fn files_without_keys_are_refused() {
    let secret = ed25519();
    let armored = secret.to_public_key().to_armored_string(None.into()).unwrap();
    let private = secret.to_armored_string(None.into()).unwrap();
    let half = armored[..armored.len() / 2].to_owned();
    let mut foreign = secret.to_public_key();
    foreign.details.users = key(KeyType::Rsa(2048), KeyVersion::V4).details.users;
    foreign.details.direct_signatures.clear();
    assert!(matches!(read(b""), Err(SignatureError::NoKey { .. })));
    assert!(matches!(
        read(b"no key\n"),
        Err(SignatureError::Malformed { .. } | SignatureError::NoKey { .. })
    ));
    assert!(matches!(
        read(private.as_bytes()),
        Err(SignatureError::Secret { .. })
    ));
    assert!(matches!(
        read(half.as_bytes()),
        Err(SignatureError::Malformed { .. })
    ));
    assert!(matches!(
        read(&foreign.to_bytes().unwrap()),
        Err(SignatureError::Unusable { .. })
    ));
    let absent = crate::rpmset::signature::Keyring::read(&["/nonexistent/key".into()]);
    assert!(matches!(absent, Err(SignatureError::Io { .. })));
}

#[test]
fn a_revoked_user_id_does_not_vouch() {
    let secret = ed25519();
    let mut public = certified(&secret, BORN, vec![]);
    let user = &mut public.details.users[0];
    let make = Make {
        kind: SignatureType::CertRevocation,
        ..Make::at(BORN + 1)
    };
    let primary = &secret.primary_key;
    let signature = make
        .config(primary)
        .sign_certification(
            primary,
            primary.public_key(),
            &Password::empty(),
            Tag::UserId,
            &user.id,
        )
        .unwrap();
    user.signatures.push(signature);
    public.details.direct_signatures.clear();
    assert!(matches!(
        read(&public.to_bytes().unwrap()),
        Err(SignatureError::Unusable { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&bytes);
    }

    #[test]
    fn no_change_of_a_key_makes_the_reader_panic(at in 0_usize..100_000, value in any::<u8>(), armored in any::<bool>()) {
        let public = ed25519().to_public_key();
        let mut bytes = match armored {
            true => public.to_armored_bytes(None.into()).unwrap(),
            false => public.to_bytes().unwrap(),
        };
        let at = at % bytes.len();
        bytes[at] = value;
        let _ = read(&bytes);
    }
}
