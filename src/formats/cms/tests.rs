use std::fs;

use super::*;
use crate::formats::testing::{output, run, tool};
use crate::formats::x509::Certificate;
use crate::signing::{Credential, KeySource};

const CONTENT: &[u8] = b"0123456789abcdef";

struct Made {
    dir: tempfile::TempDir,
    credential: Credential,
}

impl Made {
    /// A key and self-signed certificate (`key`, `cert`) beside the content (`content`).
    fn new(key: &str) -> Option<Self> {
        tool("openssl").then_some(())?;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("content"), CONTENT).unwrap();
        openssl(&dir, &format!("genpkey {key} -out @/key"));
        openssl(
            &dir,
            "req -x509 -new -key @/key -out @/cert -subj /CN=cms -days 36500",
        );
        let (credential, _) = Credential::open(&KeySource::File(at("key")), &at("cert")).unwrap();
        Some(Self { dir, credential })
    }

    fn openssl(&self, words: &str) -> Vec<u8> {
        openssl(&self.dir, words);
        fs::read(self.dir.path().join("out")).unwrap_or_default()
    }

    fn verifies(&self, message: &[u8], command: &str) -> bool {
        fs::write(self.dir.path().join("message"), message).unwrap();
        let at = self.dir.path().to_str().unwrap();
        let words = format!(
            "{command} -verify -binary -inform DER -in @/message -content @/content -CAfile @/cert -purpose any -certfile @/cert"
        );
        output("openssl", words.split(' ').map(|word| word.replace('@', at))).0
    }

    fn sign(&self, message: &SignedData<'_>) -> Vec<u8> {
        let prepared = message.prepare();
        prepared.attach(&self.credential.sign(prepared.to_sign()).unwrap())
    }
}

fn openssl(dir: &tempfile::TempDir, words: &str) {
    let at = dir.path().to_str().unwrap();
    run("openssl", words.split(' ').map(|word| word.replace('@', at)));
}

const RSA: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";
const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
const P384: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-384";

#[test]
fn messages_equal_those_of_openssl() {
    let Some(made) = Made::new(RSA) else { return };
    let certificate = made.credential.certificate();
    let bare = SignedData::detached(CONTENT, certificate);
    let carrying = SignedData {
        certificates: vec![certificate, certificate],
        ..bare.clone()
    };
    let sign =
        "smime -sign -noattr -binary -in @/content -signer @/cert -inkey @/key -outform DER -out @/out";
    assert_eq!(made.sign(&bare), made.openssl(&format!("{sign} -nocerts")));
    assert_eq!(made.sign(&carrying), made.openssl(sign));
    // The inner structure alone is the same without its wrapping.
    let prepared = bare.prepare();
    let signature = made.credential.sign(prepared.to_sign()).unwrap();
    let whole = prepared.attach(&signature);
    assert!(whole.ends_with(&prepared.attach_bare(&signature)));
    let parsed = Message::parse(&prepared.attach_bare(&signature)).unwrap();
    assert_eq!(parsed.signers, Message::parse(&whole).unwrap().signers);
}

#[test]
fn openssl_verifies_every_kind_and_no_other_content() {
    for key in [RSA, P256, P384] {
        let Some(made) = Made::new(key) else { return };
        let certificate = made.credential.certificate();
        let bare = SignedData::detached(CONTENT, certificate);
        let attributes = SignedData {
            attributes: Some(Vec::new()),
            ..bare.clone()
        };
        for message in [made.sign(&bare), made.sign(&attributes)] {
            assert!(made.verifies(&message, "smime"), "{key}");
            assert!(made.verifies(&message, "cms"), "{key}");
            fs::write(made.dir.path().join("content"), b"other").unwrap();
            assert!(!made.verifies(&message, "smime"), "{key}");
            fs::write(made.dir.path().join("content"), CONTENT).unwrap();
        }
    }
}

#[test]
fn messages_of_openssl_are_verified() {
    for (key, options) in [
        (RSA, "-noattr -nocerts"),
        (RSA, "-md sha512"),
        (P256, ""),
        (P384, "-noattr -md sha384"),
    ] {
        let Some(made) = Made::new(key) else { return };
        let message = made.openssl(
            format!("cms -sign -binary -in @/content -signer @/cert -inkey @/key -outform DER -out @/out {options}").trim(),
        );
        let message = Message::parse(&message).unwrap();
        let trusted = [made.credential.certificate().clone()];
        let signers = message.verify(Some(CONTENT), &trusted).unwrap();
        assert_eq!(signers, trusted);
        let error = message.verify(Some(b"other"), &trusted).unwrap_err();
        let expected = [CmsError::OtherContent, CmsError::BadSignature("CN=cms".into())];
        assert!(expected.contains(&error), "{error}");
        let error = message.verify(Some(CONTENT), &[]).unwrap_err();
        let expected = [CmsError::UnknownSigner, CmsError::Untrusted("CN=cms".into())];
        assert!(expected.contains(&error), "{error}");
    }
}

#[test]
fn chains_lead_to_a_trusted_certificate() {
    let Some(made) = Made::new(RSA) else { return };
    made.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out @/leaf.key");
    made.openssl("req -new -key @/leaf.key -subj /CN=leaf -out @/leaf.csr");
    made.openssl("x509 -req -in @/leaf.csr -CA @/cert -CAkey @/key -CAcreateserial -days 36500 -out @/leaf");
    let at = |name: &str| made.dir.path().join(name);
    let (leaf, _) = Credential::open(&KeySource::File(at("leaf.key")), &at("leaf")).unwrap();
    let root = made.credential.certificate().clone();
    let data = SignedData {
        certificates: vec![leaf.certificate(), &root],
        ..SignedData::detached(CONTENT, leaf.certificate())
    };
    let prepared = data.prepare();
    let message = prepared.attach(&leaf.sign(prepared.to_sign()).unwrap());
    let message = Message::parse(&message).unwrap();
    assert_eq!(message.certificates.len(), 2);
    let verify = |trusted: &[Certificate]| message.verify(Some(CONTENT), trusted);
    assert_eq!(
        verify(std::slice::from_ref(&root)).unwrap(),
        [leaf.certificate().clone()]
    );
    assert_eq!(verify(&[leaf.certificate().clone()]).unwrap().len(), 1);
    let chain = message
        .chain(leaf.certificate(), std::slice::from_ref(&root))
        .unwrap();
    assert_eq!(chain, [leaf.certificate().clone(), root]);
    let foreign = Made::new(RSA).unwrap();
    let error = verify(&[foreign.credential.certificate().clone()]).unwrap_err();
    assert_eq!(error, CmsError::Untrusted("CN=leaf".into()));
}

#[test]
fn damage_is_an_error_or_does_not_verify() {
    let Some(made) = Made::new(P256) else { return };
    let certificate = made.credential.certificate();
    let data = SignedData {
        certificates: vec![certificate],
        attributes: Some(Vec::new()),
        ..SignedData::detached(CONTENT, certificate)
    };
    let message = made.sign(&data);
    let signature = made.credential.sign(data.prepare().to_sign()).unwrap();
    let trusted = [certificate.clone()];
    for length in 0..message.len() {
        assert!(Message::parse(&message[..length]).is_err(), "{length} bytes");
    }
    let mut refused = 0;
    for at in 0..message.len() {
        let mut bad = message.clone();
        bad[at] ^= 0x41;
        let verified = Message::parse(&bad).and_then(|bad| bad.verify(Some(CONTENT), &trusted));
        refused += usize::from(verified.is_err());
        if at >= message.len() - signature.len() {
            assert!(verified.is_err(), "byte {at}");
        }
    }
    // What is left over is what nobody signs: the message's version, the digest named twice.
    assert!(
        refused > message.len() - certificate.der().len() - 40,
        "{refused}"
    );
    let other = crate::formats::asn1::sequence(&[&crate::formats::asn1::oid(DATA)]);
    assert_eq!(Message::parse(&other).unwrap_err(), CmsError::Kind(DATA));
}
