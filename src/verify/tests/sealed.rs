//! Signatures of the root hash and of the commit; add-ons; SBAT; parity.

use std::fs;

use super::fixture::{self, Image, Parts};
use super::signed::{credential, sign};
use super::{Options, Outcome, Report, Subject, failing, findings, verify};
use crate::formats::cms::SignedData;
use crate::formats::ddi_signature::DdiSignature;
use crate::formats::pe::tests::sample_stub;
use crate::formats::uki_addon::Addon;
use crate::ostree;
use crate::signing::{Algorithm, Certificate, NewKey, Signer as _, generate};
use crate::store::hex;

fn outcome(report: &Report, name: &str) -> Outcome {
    let mut checked = report.checked.iter();
    checked
        .find(|checked| checked.check.name == name)
        .unwrap()
        .outcome()
}

fn message(root_hash: &[u8], key: &NewKey, certificate: &Certificate) -> Vec<u8> {
    let text = hex(root_hash);
    let prepared = SignedData::detached(text.as_bytes(), certificate).prepare();
    prepared.attach(&key.key.sign(prepared.to_sign()).unwrap())
}

fn with(image: &Image, change: impl FnOnce(&mut Options)) -> Report {
    let mut options = Options::default();
    change(&mut options);
    verify(&Subject::open(&image.directory(), &options).unwrap())
}

#[test]
fn the_root_hash_is_signed_for_this_image_by_whom_it_says() {
    const NAME: &str = "verity-signature";
    let (_, other) = credential("other");
    // What is wrong with it, and what is said then.
    let cases = [
        ("", ""),
        ("hash", "which no kernel image has"),
        ("bytes", "the root hash's signature does not hold"),
        ("fingerprint", "names another certificate"),
        ("noise", "holds no JSON of a signature"),
    ];
    for (wrong, words) in cases {
        let (key, certificate) = credential("verity");
        let (signer, fingerprint) = (certificate.clone(), other.fingerprint());
        let image = fixture::build(move |parts: &mut Parts| {
            parts.sign_hash = Some(Box::new(move |hash: &[u8]| {
                let (turned, own) = ([0x55; 32], signer.fingerprint());
                let named = if wrong == "hash" { &turned[..] } else { hash };
                let about = if wrong == "bytes" { &turned[..] } else { named };
                let by = if wrong == "fingerprint" {
                    &fingerprint
                } else {
                    &own
                };
                match wrong {
                    "noise" => b"noise".to_vec(),
                    _ => DdiSignature::new(named, by, &message(about, &key, &signer)).to_bytes(),
                }
            }));
        });
        let report = with(&image, |options| {
            options.verity_certificates = vec![certificate.clone()]
        });
        if wrong.is_empty() {
            assert_eq!(
                (failing(&report), outcome(&report, NAME)),
                (vec![], Outcome::Holds),
                "{report}"
            );
            assert!(
                report.to_string().contains("root hash signed by CN=verity"),
                "{report}"
            );
            // One key signs everything, where nothing else is said; a foreign one does not; none leaves it open.
            let report = with(&image, |options| options.certificates = vec![certificate.clone()]);
            assert_eq!(outcome(&report, NAME), Outcome::Holds, "{report}");
            let report = with(&image, |options| {
                options.verity_certificates = vec![other.clone()]
            });
            assert!(findings(&report, NAME).contains("does not hold"), "{report}");
            assert_eq!(outcome(&with(&image, |_| {}), NAME), Outcome::NotChecked);
        } else {
            let text = findings(&report, NAME);
            assert!(text.contains(words), "{wrong}: {report}");
        }
    }
}

#[test]
fn the_commit_is_signed_by_the_key_that_is_given() {
    const NAME: &str = "commit-signature";
    let image = fixture::build(|_| {});
    let [key, other] = [0, 1].map(|_| generate(Algorithm::Ed25519).unwrap().key);
    let repo = image.directory().join("repo");
    let refs = ostree::Repo::open(&repo).unwrap().refs().unwrap();
    let commit = refs[0].1;
    let by = |key: &crate::signing::PemKey| {
        let key = key.public_key().clone();
        with(&image, |options| options.commit_key = Some(key))
    };
    assert_eq!(outcome(&with(&image, |_| {}), NAME), Outcome::Holds);
    assert!(findings(&by(&key), NAME).contains("the commit is not signed"));
    let bytes = ostree::commit_bytes(&repo, &commit).unwrap();
    ostree::write_signatures(&repo, &commit, &[key.sign(&bytes).unwrap()]).unwrap();
    let good = by(&key);
    assert_eq!(
        (failing(&good), outcome(&good, NAME)),
        (vec![], Outcome::Holds),
        "{good}"
    );
    assert!(findings(&by(&other), NAME).contains("none of the commit's signatures"));
    assert_eq!(outcome(&with(&image, |_| {}), NAME), Outcome::NotChecked);
    let rsa = generate(Algorithm::P256).unwrap().key;
    assert!(findings(&by(&rsa), NAME).contains("commits are signed with Ed25519"));
}

fn addon(cmdline: &str) -> Vec<u8> {
    let stub = sample_stub("sbat,1,x\nstub,1\n");
    let file = tempfile::NamedTempFile::new().unwrap();
    let addon = Addon {
        stub: &stub,
        cmdline,
        uname: None,
    };
    addon.write(file.as_file()).unwrap();
    fs::read(file.path()).unwrap()
}

#[test]
fn add_ons_that_let_someone_in_are_believed_by_no_machine() {
    const NAME: &str = "addons";
    let image = fixture::build(|parts: &mut Parts| {
        parts
            .esp
            .push(("loader/addons/console.addon.efi", addon("console=ttyS1")));
        parts.esp.push((
            "loader/addons/shell.addon.efi",
            addon("quiet systemd.debug_shell=1"),
        ));
    });
    let report = with(&image, |_| {});
    let text = findings(&report, NAME);
    assert!(
        text.contains("it lies in the image, and `systemd.debug_shell=1` opens a way")
            && text.lines().count() == 1,
        "{text}"
    );

    let image = fixture::build(|_| {});
    let ((db_key, db), (debug_key, debug)) = (credential("db"), credential("debug"));
    let place = image.directory().join("image_1.shell.addon.efi");
    let believe = |options: &mut Options| options.certificates = vec![db.clone()];
    let plain = addon("rd.break");
    fs::write(&place, sign(&plain, &debug_key, &debug)).unwrap();
    assert_eq!(outcome(&with(&image, believe), NAME), Outcome::Holds);
    assert_eq!(outcome(&with(&image, |_| {}), NAME), Outcome::NotChecked);
    fs::write(&place, sign(&plain, &db_key, &db)).unwrap();
    let text = findings(&with(&image, believe), NAME);
    assert!(
        text.contains("a certificate of db signed it, and `rd.break`"),
        "{text}"
    );
    fs::write(&place, b"MZ").unwrap();
    assert_eq!(outcome(&with(&image, |_| {}), NAME), Outcome::Fails);
}

#[test]
fn programs_without_generations_are_found() {
    let image = fixture::build(|parts: &mut Parts| parts.loader = sample_stub("boot,1\n"));
    let report = with(&image, |_| {});
    let text = findings(&report, "sbat");
    assert!(
        text.contains("does not begin with a line `sbat,…` [image_1.raw, partition 1, EFI/BOOT/"),
        "{report}"
    );
}

#[test]
fn files_of_the_esp_can_be_had() {
    let image = fixture::build(|parts: &mut Parts| {
        let directory = "EFI/hullwright/recovery";
        assert_eq!(directory, crate::recovery::DIRECTORY);
        parts.esp.push(("EFI/hullwright/recovery/a.json", b"{}".to_vec()));
        parts
            .esp
            .push(("EFI/hullwright/recovery/large.json", vec![b' '; 101]));
    });
    for ending in ["raw", "vhd", "qcow2"] {
        let subject = Subject::open(&image.file(ending), &Options::default()).unwrap();
        let files = subject.esp_files(crate::recovery::DIRECTORY, 100).unwrap();
        assert_eq!(
            files,
            [("EFI/hullwright/recovery/a.json".to_owned(), b"{}".to_vec())],
            "{ending}"
        );
        assert_eq!(subject.luks_uuids(), Vec::<String>::new());
    }
}
