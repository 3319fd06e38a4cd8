//! Against sbverify, sbsign, osslsigncode and pesign.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use super::*;
use crate::formats::pe::{PeError, tests::sample_stub};
use crate::formats::pe_append::append as relay;
use crate::formats::testing::{output, run, tool};
use crate::formats::x509::Certificate;
use crate::signing::{Credential, KeySource};

const SBAT: &str = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n";
const RSA: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";
const RSA_4096: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:4096";
const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";

struct Made(tempfile::TempDir);

impl Made {
    fn new() -> Option<Self> {
        let tools = ["openssl", "sbsign", "sbverify", "osslsigncode", "pesign"];
        tools
            .iter()
            .all(|name| tool(name))
            .then(|| Self(tempfile::tempdir().unwrap()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn words(&self, words: &str) -> Vec<String> {
        let at = self.0.path().to_str().unwrap();
        words
            .split_whitespace()
            .map(|word| word.replace('@', at))
            .collect()
    }

    fn run(&self, words: &str) -> String {
        let words = self.words(words);
        run(&words[0], &words[1..])
    }

    /// The key `name`.key with the certificate `name`, self-signed, or issued by `issuer`.
    fn credential(&self, name: &str, key: &str, issuer: Option<&str>) -> Credential {
        self.run(&format!("openssl genpkey {key} -out @/{name}.key"));
        if let Some(issuer) = issuer {
            self.run(&format!(
                "openssl req -new -key @/{name}.key -subj /CN={name} -out @/{name}.csr"
            ));
            self.run(&format!(
                "openssl x509 -req -in @/{name}.csr -CA @/{issuer} -CAkey @/{issuer}.key -CAcreateserial -days 36500 -out @/{name}"
            ));
        } else {
            self.run(&format!(
                "openssl req -x509 -new -key @/{name}.key -subj /CN={name} -days 36500 -out @/{name}"
            ));
        }
        let key = KeySource::File(self.path(&format!("{name}.key")));
        Credential::open(&key, &self.path(name)).unwrap().0
    }
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn sign(path: &Path, credential: &Credential, chain: &[Certificate]) {
    let file = open(path);
    let scanned = scan(&file, file.metadata().unwrap().len()).unwrap();
    let prepared = prepare(&scanned.sha256, credential.certificate(), chain);
    let message = prepared.attach(&credential.sign(prepared.to_sign()).unwrap());
    let size = append(&scanned, &message, &file).unwrap();
    assert_eq!(file.metadata().unwrap().len(), size);
}

fn check(path: &Path, trust: &Trust) -> Result<Option<String>, String> {
    let file = open(path);
    let verified = verify(&file, file.metadata().unwrap().len(), trust);
    let subject = |certificate: Certificate| certificate.subject().to_owned();
    verified
        .map(|found| found.map(subject))
        .map_err(|fault| fault.to_string())
}

fn trusting(credentials: &[&Credential]) -> Trust {
    let certificates = credentials
        .iter()
        .map(|credential| credential.certificate().clone());
    Trust {
        certificates: certificates.collect(),
        ..Trust::default()
    }
}

/// A small program, and systemd's boot loader as installed (made of its sections alone).
fn programs() -> Vec<(&'static str, Vec<u8>)> {
    let mut programs = vec![("sample", sample_stub(SBAT))];
    let path = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";
    match fs::read(path) {
        Ok(bytes) => {
            let error = scan(&bytes, bytes.len() as u64).err();
            let out = tempfile::NamedTempFile::new().unwrap();
            relay(&bytes, &[], true, out.as_file()).unwrap();
            let relaid = fs::read(out.path()).unwrap();
            assert!(matches!(error, Some(AuthenticodeError::Gap { .. })) || relaid == bytes);
            programs.push(("systemd-boot", relaid));
        }
        Err(_) => crate::testing::skip(&format!("{path} is missing")),
    }
    programs
}

#[test]
fn independent_programs_verify_what_is_signed_here() {
    let Some(made) = Made::new() else { return };
    for (kind, key) in [("rsa", RSA), ("rsa4096", RSA_4096), ("p256", P256)] {
        let credential = made.credential(kind, key, None);
        let foreign = made.credential("foreign", RSA, None);
        for (which, bytes) in programs() {
            let path = made.path("program");
            fs::write(&path, &bytes).unwrap();
            sign(&path, &credential, &[]);
            let once = fs::read(&path).unwrap();
            fs::write(&path, &bytes).unwrap();
            sign(&path, &credential, &[]);
            assert!(
                fs::read(&path).unwrap() == once,
                "{which}, {kind}: not deterministic"
            );

            let text = made.run(&format!("sbverify --cert @/{kind} @/program"));
            assert_eq!(text.trim(), "Signature verification OK", "{which}, {kind}");
            let (success, _) = output("sbverify", made.words("--cert @/foreign @/program"));
            assert!(!success, "{which}, {kind}");
            let (_, text) = output(
                "osslsigncode",
                made.words(&format!("verify -CAfile @/{kind} -in @/program")),
            );
            assert!(
                text.contains("Signature verification: ok"),
                "{which}, {kind}: {text}"
            );
            assert!(!text.contains("MISMATCH"), "{which}, {kind}: {text}");
            let text = made.run("pesign -S -i @/program");
            assert!(text.contains(kind), "{which}, {kind}: {text}");
            let text = made.run("pesign -h -i @/program");
            let size = bytes.len() as u64;
            let own = digest(&bytes, size).unwrap();
            assert_eq!(own, digest(&once, once.len() as u64).unwrap());
            assert_eq!(own, scan(&once, once.len() as u64).unwrap().sha256);
            assert!(text.contains(&crate::store::hex(&own)), "{which}, {kind}: {text}");

            let subject = format!("CN={kind}");
            assert_eq!(check(&path, &trusting(&[&credential])), Ok(Some(subject.clone())));
            assert_eq!(
                check(&path, &trusting(&[&foreign])).unwrap_err(),
                format!(
                    "none of its signatures counts: `{subject}` is not trusted: no trusted certificate issued it"
                )
            );
        }
    }
}

#[test]
fn signatures_of_other_programs_are_verified() {
    let Some(made) = Made::new() else { return };
    let credential = made.credential("db", RSA, None);
    for (which, bytes) in programs() {
        fs::write(made.path("program"), &bytes).unwrap();
        let _ = fs::remove_file(made.path("by-osslsigncode"));
        made.run("sbsign --key @/db.key --cert @/db --output @/by-sbsign @/program");
        made.run(
            "osslsigncode sign -h sha256 -key @/db.key -certs @/db -in @/program -out @/by-osslsigncode",
        );
        for name in ["by-sbsign", "by-osslsigncode"] {
            let checked = check(&made.path(name), &trusting(&[&credential]));
            assert_eq!(checked, Ok(Some("CN=db".to_owned())), "{which}, {name}");
        }
    }
}

#[test]
fn several_signatures_and_chains_stand_beside_each_other() {
    let Some(made) = Made::new() else { return };
    let vendor = made.credential("vendor", RSA, None);
    let root = made.credential("root", RSA, None);
    let leaf = made.credential("leaf", P256, Some("root"));
    let path = made.path("program");
    fs::write(&path, sample_stub(SBAT)).unwrap();
    made.run("sbsign --key @/vendor.key --cert @/vendor --output @/program @/program");
    sign(&path, &leaf, std::slice::from_ref(root.certificate()));

    let file = open(&path);
    let found = signatures(&file, file.metadata().unwrap().len()).unwrap();
    let carried: Vec<_> = found
        .iter()
        .map(|signature| signature.message.certificates.len())
        .collect();
    assert_eq!(carried, [1, 2]);
    for (trusted, subject) in [(&vendor, "CN=vendor"), (&root, "CN=leaf"), (&leaf, "CN=leaf")] {
        assert_eq!(check(&path, &trusting(&[trusted])), Ok(Some(subject.to_owned())));
    }
    for name in ["vendor", "root"] {
        let text = made.run(&format!("sbverify --cert @/{name} @/program"));
        assert!(text.contains("Signature verification OK"), "{name}: {text}");
    }
    let text = made.run("sbverify --list @/program");
    assert!(text.contains("/CN=vendor") && text.contains("/CN=leaf"), "{text}");
}

#[test]
fn keys_on_p384_keep_the_image_digest_that_everyone_takes() {
    let Some(made) = Made::new() else { return };
    let credential = made.credential("p384", "-algorithm EC -pkeyopt ec_paramgen_curve:P-384", None);
    let path = made.path("program");
    fs::write(&path, sample_stub(SBAT)).unwrap();
    sign(&path, &credential, &[]);
    let (_, text) = output("osslsigncode", made.words("verify -CAfile @/p384 -in @/program"));
    assert!(text.contains("Signature verification: ok"), "{text}");
    assert_eq!(
        check(&path, &trusting(&[&credential])),
        Ok(Some("CN=p384".to_owned()))
    );
}

#[test]
fn what_was_changed_unsigned_or_forbidden_is_refused() {
    let Some(made) = Made::new() else { return };
    let root = made.credential("root", RSA, None);
    let leaf = made.credential("leaf", RSA, Some("root"));
    let path = made.path("program");
    let plain = sample_stub(SBAT);
    fs::write(&path, &plain).unwrap();
    let allowed = trusting(&[&root]);
    let refused = |trust: &Trust| check(&path, trust).unwrap_err();
    assert_eq!(
        refused(&allowed),
        "it is not signed, and db does not hold its digest"
    );
    let image = digest(&plain, plain.len() as u64).unwrap();
    let by_digest = Trust {
        images: vec![image],
        ..Trust::default()
    };
    assert_eq!(check(&path, &by_digest), Ok(None));

    sign(&path, &leaf, &[]);
    assert_eq!(check(&path, &allowed), Ok(Some("CN=leaf".to_owned())));
    let tbs = |credential: &Credential| -> [u8; 32] {
        use sha2::Digest as _;
        sha2::Sha256::digest(credential.certificate().to_be_signed()).into()
    };
    for (which, trust, says) in [
        (
            "image",
            Trust {
                forbidden_images: vec![image],
                ..allowed.clone()
            },
            "dbx forbids this image",
        ),
        (
            "leaf",
            Trust {
                forbidden_certificates: vec![leaf.certificate().clone()],
                ..allowed.clone()
            },
            "dbx forbids the certificate `CN=leaf`",
        ),
        (
            "issuer",
            Trust {
                forbidden_hashes: vec![tbs(&root)],
                ..allowed.clone()
            },
            "dbx forbids the certificate `CN=root`",
        ),
        (
            "issuer that db does not know",
            Trust {
                images: vec![image],
                forbidden_certificates: vec![root.certificate().clone()],
                ..Trust::default()
            },
            "dbx forbids the certificate `CN=root`",
        ),
    ] {
        let error = refused(&trust);
        assert!(error.starts_with(says), "{which}: {error}");
    }

    let signed = fs::read(&path).unwrap();
    let mut accepted = Vec::new();
    for at in 0..plain.len() {
        let mut bad = signed.clone();
        bad[at] ^= 1;
        if verify(&bad, bad.len() as u64, &allowed).is_ok() {
            accepted.push(at);
        }
    }
    // The checksum is the one thing that no signature covers.
    assert_eq!(accepted, [0xd8, 0xd9, 0xda, 0xdb]);
    let mut bad = signed.clone();
    bad[0x500] ^= 1;
    fs::write(&path, bad).unwrap();
    assert!(refused(&allowed).contains("changed after it was signed"));
}

#[test]
fn files_with_gaps_or_bad_tables_are_refused() {
    let plain = sample_stub(SBAT);
    let scan = |bytes: &Vec<u8>| scan(bytes, bytes.len() as u64).map(|scanned| scanned.sha256);
    let trailing = [plain.clone(), vec![1; 100]].concat();
    assert!(matches!(
        scan(&trailing),
        Err(AuthenticodeError::Gap { bytes: 100, .. })
    ));
    let mut gap = plain.clone();
    // The second section's place in the file, one block later.
    let field = 0x98 + 0xf0 + 40 + 20;
    gap[field..field + 4].copy_from_slice(&0xc00_u32.to_le_bytes());
    assert!(matches!(
        scan(&gap),
        Err(AuthenticodeError::Gap { .. } | AuthenticodeError::Overlap)
    ));
    let mut few = plain.clone();
    few[0x98 + 108] = 4;
    assert!(matches!(scan(&few), Err(AuthenticodeError::NoDirectory)));
    for (at, length) in [(0, 8), (0x400, 8), (plain.len() as u32, 8), (u32::MAX - 7, 8)] {
        let mut bad = plain.clone();
        let directory = 0x98 + 112 + 4 * 8;
        bad[directory..directory + 4].copy_from_slice(&u32::to_le_bytes(at));
        bad[directory + 4..directory + 8].copy_from_slice(&u32::to_le_bytes(length));
        assert!(matches!(scan(&bad), Err(AuthenticodeError::Table)), "{at:#x}");
        assert!(signatures(&bad, bad.len() as u64).is_err(), "{at:#x}");
    }
    let text = b"not a program".to_vec();
    assert!(matches!(
        scan(&text),
        Err(AuthenticodeError::Pe(PeError::NotPe(_)))
    ));
    assert!(Signature::parse(b"\x30\x03\x02\x01\x01").is_err());
}
