use std::fs;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tempfile::TempDir;

use super::*;
use crate::signing;
use crate::testing::tool;

const KEY: &str = "ilgkbrgt-rtgfhudl-tcdujkkf-tenjrlkb-rkgtgbil-jruhicen-ncvhelvg-injtkcbl";

/// An escrow key pair of OpenSSL's, and `secret` wrapped to it as the scripts of the initrd do.
struct Fixture {
    dir: TempDir,
}

impl Fixture {
    fn new(secret: &str) -> Option<Self> {
        tool("openssl")?;
        let dir = tempfile::tempdir().unwrap();
        let fixture = Self { dir };
        fixture.openssl("genrsa -out escrow.key 2048");
        fixture.openssl("pkey -in escrow.key -pubout -out escrow.pem");
        fs::write(fixture.path("secret"), secret).unwrap();
        fixture.openssl(
            "pkeyutl -encrypt -pubin -inkey escrow.pem -in secret -out wrapped -pkeyopt rsa_padding_mode:oaep \
             -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256",
        );
        Some(fixture)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        let output = command
            .args(arguments.split_whitespace())
            .current_dir(&self.dir)
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{arguments}: {output:?}");
    }

    /// The record that a machine writes.
    fn record(&self) -> String {
        let fingerprint = signing::public_key(&self.path("escrow.pem"))
            .unwrap()
            .fingerprint();
        format!(
            "{{\"version\":1,\"scheme\":\"RSA-OAEP-SHA256\",\"escrow-key\":\"{}\",\"machine\":\"unknown\",\"wrapped\":\"{}\"}}\n",
            crate::store::hex(&fingerprint),
            BASE64.encode(fs::read(self.path("wrapped")).unwrap())
        )
    }

    fn recover(&self, record: &str) -> Result<Recovered, RecoveryError> {
        fs::write(self.path("record"), record).unwrap();
        let escrow = EscrowKey::read(&self.path("escrow.key")).unwrap();
        recover(&self.path("record"), &escrow)
    }
}

#[test]
fn what_openssl_wrapped_is_unwrapped() {
    let Some(fixture) = Fixture::new(KEY) else { return };
    let recovered = fixture.recover(&fixture.record()).unwrap();
    assert_eq!(*recovered.key, KEY);
    assert_eq!(recovered.record.machine, "unknown");
}

#[test]
fn other_keys_and_other_secrets_are_told_apart() {
    let Some(fixture) = Fixture::new(KEY) else { return };
    let record = fixture.record();
    fixture.openssl("genrsa -out escrow.key 2048");
    let error = fixture.recover(&record).err().unwrap();
    assert!(matches!(error, RecoveryError::OtherKey { .. }), "{error}");

    for secret in ["a passphrase", &KEY.to_uppercase(), &KEY[..70]] {
        let Some(fixture) = Fixture::new(secret) else {
            return;
        };
        let error = fixture.recover(&fixture.record()).err().unwrap();
        assert!(matches!(error, RecoveryError::NoRecoveryKey { .. }), "{error}");
    }
}

#[test]
fn damaged_records_are_refused() {
    let Some(fixture) = Fixture::new(KEY) else { return };
    let record = fixture.record();
    let altered = |from: &str, to: &str| {
        assert!(record.contains(from));
        record.replacen(from, to, 1)
    };
    let large = record.clone() + &" ".repeat(LARGEST as usize);
    let cases = [
        (altered("\"version\":1", "\"version\":2"), "of version 2"),
        (altered("OAEP-SHA256", "PKCS1"), "wrapped by `RSA-PKCS1`"),
        (altered("\"machine\"", "\"escrow\""), "not the JSON object"),
        (altered("\"unknown\"", "\"\\u001b[2J\""), "`machine` is longer"),
        (
            altered("\"escrow-key\":\"", "\"escrow-key\":\"0"),
            "`escrow-key` is no SHA-256",
        ),
        (
            altered("\"wrapped\":\"", "\"wrapped\":\"="),
            "`wrapped` is no base64",
        ),
        (
            altered("\"wrapped\":\"", "\"wrapped\":\"AAAA"),
            "does not open with this escrow key",
        ),
        (record[..40].to_owned(), "not the JSON object"),
        (large, "more than 64 KiB"),
    ];
    for (record, expected) in cases {
        let error = fixture.recover(&record).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
