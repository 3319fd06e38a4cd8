//! Keys and certificates as `openssl` makes them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::*;
use crate::formats::testing::{run, tool};
use miette::Diagnostic as _;

/// A day within the validity of everything made here.
const NOW: i64 = 4_000_000_000;

struct Made(tempfile::TempDir);

impl Made {
    fn new() -> Option<Self> {
        tool("openssl").then(|| Self(tempfile::tempdir().unwrap()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs `openssl` with words in which `@` stands for this directory.
    fn openssl(&self, words: &str) {
        let at = self.0.path().to_str().unwrap();
        let words = words.split_whitespace().map(|word| word.replace('@', at));
        run("openssl", words.collect::<Vec<_>>());
    }

    /// A self-signed certificate, named `name`, of the key file `key`.
    fn certificate(&self, name: &str, key: &str, extra: &str) {
        self.openssl(&format!(
            "req -x509 -new -key @/{key} -out @/{name} -subj /CN={name} -days 36500 {extra}"
        ));
    }
}

fn key(path: &Path) -> KeySource {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    KeySource::File(path.to_owned())
}

fn help(error: &SigningError) -> String {
    error.help().map(|help| help.to_string()).unwrap_or_default()
}

#[test]
fn every_kind_of_key_signs_what_openssl_verifies() {
    let Some(made) = Made::new() else { return };
    let (message, signature) = (made.path("message"), made.path("signature"));
    fs::write(&message, b"what is to be signed").unwrap();
    let rsa = |bits| format!("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:{bits} -out @/key");
    let ec = |curve| format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:{curve} -out @/key");
    for (make, algorithm, hash) in [
        (rsa(2048), Algorithm::Rsa(2048), "sha256"),
        (rsa(3072), Algorithm::Rsa(3072), "sha256"),
        (
            "genrsa -traditional -out @/key 2048".into(),
            Algorithm::Rsa(2048),
            "sha256",
        ),
        (ec("P-256"), Algorithm::P256, "sha256"),
        (ec("P-384"), Algorithm::P384, "sha384"),
        (
            "ecparam -name prime256v1 -genkey -out @/key".into(),
            Algorithm::P256,
            "sha256",
        ),
        (
            "ecparam -name secp384r1 -genkey -out @/key".into(),
            Algorithm::P384,
            "sha384",
        ),
        (
            "genpkey -algorithm ED25519 -out @/key".into(),
            Algorithm::Ed25519,
            "",
        ),
    ] {
        made.openssl(&make);
        let opened = open_signer(&key(&made.path("key"))).unwrap();
        let public = opened.signer.public_key();
        assert_eq!(
            (public.algorithm(), &opened.warnings),
            (algorithm, &vec![]),
            "{make}"
        );
        made.openssl("pkey -in @/key -pubout -out @/public");
        assert_eq!(public.to_pem(), fs::read_to_string(made.path("public")).unwrap());

        let bytes = fs::read(&message).unwrap();
        let signed = opened.signer.sign(&bytes).unwrap();
        assert_eq!(
            opened.signer.sign(&bytes).unwrap(),
            signed,
            "{make}: not deterministic"
        );
        fs::write(&signature, &signed).unwrap();
        if algorithm == Algorithm::Ed25519 {
            made.openssl("pkeyutl -verify -pubin -inkey @/public -rawin -in @/message -sigfile @/signature");
        } else {
            made.openssl(&format!(
                "dgst -{hash} -verify @/public -signature @/signature @/message"
            ));
        }
        public.verify(public.scheme(), &bytes, &signed).unwrap();
        assert!(public.verify(public.scheme(), b"other", &signed).is_err());
        if let Algorithm::Rsa(bits) = algorithm {
            made.openssl("dgst -sha256 -sign @/key -out @/signature @/message");
            assert_eq!(fs::read(&signature).unwrap(), signed, "{make}");
            let (modulus, exponent) = public.rsa().unwrap();
            assert_eq!((modulus.len() * 8, exponent), (bits, &[1, 0, 1][..]));
        }
    }
}

#[test]
fn keys_that_cannot_be_used_say_why() {
    let Some(made) = Made::new() else { return };
    made.openssl("genrsa -out @/good 2048");
    made.openssl("rsa -in @/good -traditional -aes256 -passout pass:x -out @/old-encrypted");
    made.openssl("pkcs8 -topk8 -in @/good -passout pass:x -out @/encrypted");
    made.openssl("genrsa -out @/short 1024");
    made.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1 -out @/foreign");
    made.openssl("rsa -in @/good -pubout -out @/public");
    let twice = [
        fs::read(made.path("good")).unwrap(),
        fs::read(made.path("short")).unwrap(),
    ]
    .concat();
    fs::write(made.path("twice"), twice).unwrap();
    fs::write(made.path("nothing"), "nothing\n").unwrap();
    for (name, says, way_out) in [
        ("encrypted", "the private key is encrypted", "openssl pkey -in"),
        ("old-encrypted", "the private key is encrypted", "pkcs11:"),
        ("short", "an RSA key of less than 2048 bits", "2048, 3072 or 4096"),
        ("foreign", "it lies on the curve 1.3.132.0.10", "P-256 or P-384"),
        (
            "public",
            "holds no private key: it holds `PUBLIC KEY`",
            "BEGIN PRIVATE KEY",
        ),
        (
            "nothing",
            "holds no private key: it holds no PEM block",
            "BEGIN PRIVATE KEY",
        ),
        ("twice", "more than one private key", "a file of its own"),
    ] {
        let error = open_signer(&key(&made.path(name))).err().unwrap();
        assert!(error.to_string().contains(says), "{name}: {error}");
        assert!(help(&error).contains(way_out), "{name}: {}", help(&error));
    }
    let error = open_signer(&KeySource::File(made.path("absent"))).err().unwrap();
    assert!(matches!(error, SigningError::Read { .. }), "{error}");
}

#[test]
fn a_key_that_everyone_may_read_is_warned_of() {
    let Some(made) = Made::new() else { return };
    made.openssl("genrsa -out @/key 2048");
    for (mode, count) in [(0o600, 0), (0o640, 0), (0o644, 1), (0o604, 1)] {
        fs::set_permissions(made.path("key"), fs::Permissions::from_mode(mode)).unwrap();
        let warnings = open_signer(&KeySource::File(made.path("key"))).unwrap().warnings;
        assert_eq!(warnings.len(), count, "{mode:o}: {warnings:?}");
        assert!(warnings.iter().all(|warning| warning.contains("chmod 600")));
    }
}

#[test]
fn key_and_certificate_must_match_and_chains_hold() {
    let Some(made) = Made::new() else { return };
    made.openssl("genrsa -out @/root.key 2048");
    made.openssl("genrsa -out @/leaf.key 2048");
    made.certificate("root", "root.key", "-addext keyUsage=keyCertSign");
    made.openssl("req -new -key @/leaf.key -subj /O=Example/CN=leaf -out @/leaf.csr");
    made.openssl("x509 -req -in @/leaf.csr -CA @/root -CAkey @/root.key -CAcreateserial -days 36500 -sha384 -out @/leaf");
    made.openssl("x509 -in @/leaf -outform DER -out @/leaf.der");
    let read = |name: &str| fs::read(made.path(name)).unwrap();
    fs::write(made.path("chain"), [read("leaf"), read("root")].concat()).unwrap();
    fs::write(made.path("turned"), [read("root"), read("leaf")].concat()).unwrap();

    let leaf = key(&made.path("leaf.key"));
    let (credential, _) = Credential::open(&leaf, &made.path("chain")).unwrap();
    assert_eq!(credential.certificate().subject(), "CN=leaf,O=Example");
    assert_eq!(credential.certificate().issuer(), "CN=root");
    assert_eq!(credential.chain().len(), 1);
    credential.check(NOW, Usage::CodeSigning).unwrap();
    credential.sign(b"message").unwrap();
    let (from_der, _) = Credential::open(&leaf, &made.path("leaf.der")).unwrap();
    assert_eq!(from_der.certificate(), credential.certificate());
    assert_eq!(from_der.certificate().der(), read("leaf.der"));

    let error = Credential::open(&leaf, &made.path("root"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("does not belong to the certificate `CN=root`"),
        "{error}"
    );
    let root = key(&made.path("root.key"));
    let error = Credential::open(&root, &made.path("turned"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`CN=leaf,O=Example` is not the issuer of `CN=root`"),
        "{error}"
    );
    let error = Credential::open(&root, &made.path("root.key")).unwrap_err();
    assert!(matches!(error, SigningError::NoCertificate { .. }), "{error}");
}

#[test]
fn certificates_are_held_to_time_and_usage() {
    let Some(made) = Made::new() else { return };
    made.openssl("genrsa -out @/key 2048");
    let (far, past) = (10_000_000_000, 0);
    for (name, extensions, at, code, data) in [
        ("plain", "", NOW, "", ""),
        (
            "authority",
            "-addext basicConstraints=critical,CA:TRUE",
            NOW,
            "",
            "",
        ),
        ("late", "", far, "was valid until 2", "was valid until 2"),
        ("early", "", past, "is valid from 2", "is valid from 2"),
        (
            "code",
            "-addext extendedKeyUsage=codeSigning -addext keyUsage=digitalSignature",
            NOW,
            "",
            "",
        ),
        (
            "server",
            "-addext extendedKeyUsage=serverAuth",
            NOW,
            "leaves `codeSigning` out",
            "",
        ),
        (
            "ca",
            "-addext keyUsage=keyCertSign,cRLSign",
            NOW,
            "is an authority's and may only sign certificates",
            "is an authority's and may only sign certificates",
        ),
        (
            "cipher",
            "-addext basicConstraints=CA:FALSE -addext keyUsage=keyEncipherment",
            NOW,
            "leaves `digitalSignature` out",
            "leaves `digitalSignature` out",
        ),
    ] {
        made.certificate(name, "key", extensions);
        let certificate = certificates(&made.path(name)).unwrap().remove(0);
        for (usage, says) in [(Usage::CodeSigning, code), (Usage::Signing, data)] {
            match check_usage(&certificate, at, usage) {
                Ok(()) => assert_eq!(says, "", "{name}, {usage:?}"),
                Err(error) => {
                    let text = error.to_string();
                    assert!(
                        !says.is_empty() && text.contains(says),
                        "{name}, {usage:?}: {text}"
                    );
                    assert!(help(&error).starts_with("take one") || help(&error).starts_with("let the"));
                }
            }
        }
    }
}

#[test]
fn damaged_certificates_are_errors() {
    let Some(made) = Made::new() else { return };
    made.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out @/key");
    made.certificate("cert", "key", "-addext extendedKeyUsage=codeSigning");
    let good = certificates(&made.path("cert")).unwrap().remove(0);
    let der = good.der();
    good.issued_by(&good).unwrap();
    for length in 0..der.len() {
        assert!(Certificate::from_der(&der[..length]).is_err(), "{length} bytes");
    }
    for at in 0..der.len() {
        for value in [0, 1, 0x30, 0x7f, 0x80, 0x84, 0xff] {
            let mut bad = der.to_vec();
            bad[at] = value;
            if let Ok(read) = Certificate::from_der(&bad)
                && read.to_be_signed() != good.to_be_signed()
            {
                assert!(read.issued_by(&good).is_err(), "{value:#x} at {at}");
            }
        }
    }
}

#[test]
fn new_keys_and_certificates_are_what_openssl_takes() {
    let Some(made) = Made::new() else { return };
    let validity = (1_700_000_000, 5_000_000_000);
    for algorithm in [
        Algorithm::Rsa(2048),
        Algorithm::P256,
        Algorithm::P384,
        Algorithm::Ed25519,
    ] {
        let new = generate(algorithm).unwrap();
        assert_eq!(new.key.public_key().algorithm(), algorithm);
        fs::write(made.path("key"), new.pem.as_bytes()).unwrap();
        made.openssl("pkey -in @/key -check -noout");
        made.openssl("pkey -in @/key -pubout -out @/public");
        let public = fs::read_to_string(made.path("public")).unwrap();
        assert_eq!(public, new.key.public_key().to_pem());

        let certificate = self_signed(&new.key, "Üse", validity, true).unwrap();
        fs::write(made.path("cert"), certificate.to_pem()).unwrap();
        made.openssl("verify -x509_strict -check_ss_sig -partial_chain -trusted @/cert @/cert");
        let path = made.path("cert");
        let words = [
            "x509",
            "-noout",
            "-text",
            "-nameopt",
            "oneline,-space_eq,utf8,-esc_msb",
        ];
        let text = run(
            "openssl",
            words.into_iter().chain(["-in", path.to_str().unwrap()]),
        );
        for part in [
            "Version: 3 (0x2)",
            "=Üse",
            "Not Before: Nov 14 22:13:20 2023 GMT",
            "Not After : Jun 11 08:53:20 2128 GMT",
            "CA:FALSE",
            "Digital Signature",
            "Code Signing",
        ] {
            assert!(text.contains(part), "{algorithm}, {part}: {text}");
        }
        let credential = Credential::open(&key(&made.path("key")), &path).unwrap().0;
        credential.check(NOW, Usage::CodeSigning).unwrap();
        assert_eq!(credential.certificate().validity(), validity);
        credential
            .certificate()
            .issued_by(credential.certificate())
            .unwrap();
        let other = self_signed(&new.key, "Üse", validity, true).unwrap();
        assert_ne!(other.serial_der(), certificate.serial_der());
    }
    assert!(generate(Algorithm::Rsa(1024)).is_err());
}
