//! Volumes of cryptsetup's, in every variant that is accepted, and some that are not.

use std::path::Path;

use super::*;
use crate::formats::at::ReadAt;
use crate::formats::testing::{output, run, tool};
use crate::testing::skip;

const QUICK: [&str; 4] = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];

fn luks_format(size: u64, options: &[&str]) -> Image {
    let image = Image::empty(size);
    let secret = image.beside("secret", PASSPHRASE);
    let path = image.text();
    let args = [
        "luksFormat",
        "--batch-mode",
        "--type",
        "luks2",
        "--key-file",
        &secret,
        &path,
    ];
    run("cryptsetup", args.into_iter().chain(options.iter().copied()));
    image
}

#[test]
fn every_accepted_variant_opens() {
    if !tool("cryptsetup") {
        return;
    }
    let cases: [&[&str]; 8] = [
        &["--sector-size", "512"],
        &["--sector-size", "4096", "--hash", "sha512"],
        &["--sector-size", "1024", "--hash", "sha1"],
        &["--hash", "sha384", "--key-size", "256"],
        &[
            "--luks2-metadata-size",
            "65536",
            "--luks2-keyslots-size",
            "2097152",
        ],
        &["--offset", "65536", "--label", "a label", "--subsystem", "sub"],
        &["--keyslot-cipher", "aes-xts-plain64", "--keyslot-key-size", "256"],
        &["--uuid", "12345678-1234-4234-8234-123456789012"],
    ];
    for options in cases {
        let image = luks_format(40 * MIB, &[QUICK.as_slice(), options].concat());
        let key = image.beside("key", &[]);
        std::fs::remove_file(&key).unwrap();
        let secret = image.beside("secret", PASSPHRASE);
        let dump = [
            "luksDump",
            "--dump-master-key",
            "--batch-mode",
            "--key-file",
            &secret,
        ];
        run(
            "cryptsetup",
            dump.into_iter().chain(["--master-key-file", &key, &image.text()]),
        );
        let unlocked = image.unlock(PASSPHRASE).unwrap();
        assert_eq!(
            unlocked.key.as_bytes(),
            std::fs::read(&key).unwrap(),
            "{options:?}"
        );
        assert!(image.unlock(b"wrong").is_err());
        let header = image.header().unwrap();
        assert_eq!(header.copies, [CopyState::Good, CopyState::Good], "{options:?}");
        if options.contains(&"--label") {
            assert_eq!(
                (header.label.as_str(), header.subsystem.as_str()),
                ("a label", "sub")
            );
            assert_eq!(header.metadata.segment.offset, 32 * MIB);
        }
    }
    for kind in ["argon2i", "argon2id"] {
        let image = luks_format(
            20 * MIB,
            &[
                "--pbkdf",
                kind,
                "--pbkdf-force-iterations",
                "5",
                "--pbkdf-memory",
                "200",
                "--pbkdf-parallel",
                "2",
            ],
        );
        let kdf = image.header().unwrap().metadata.keyslots[&0].kdf;
        let expected = Argon2Costs {
            time: 5,
            memory: 200,
            lanes: 2,
        };
        match kdf {
            Kdf::Argon2i(costs) => assert_eq!((kind, costs), ("argon2i", expected)),
            Kdf::Argon2id(costs) => assert_eq!((kind, costs), ("argon2id", expected)),
            Kdf::Pbkdf2 { .. } => panic!("{kind}"),
        }
        image.unlock(PASSPHRASE).unwrap();
    }
}

#[test]
fn other_ciphers_are_refused() {
    if !tool("cryptsetup") {
        return;
    }
    for (cipher, size) in [
        ("aes-cbc-essiv:sha256", "256"),
        ("aes-cbc-plain64", "256"),
        ("aes-xts-plain", "512"),
    ] {
        let image = luks_format(
            20 * MIB,
            &[QUICK.as_slice(), &["--cipher", cipher, "--key-size", size]].concat(),
        );
        let error = image.header().unwrap_err().to_string();
        assert!(error.contains(&format!("{cipher:?}")), "{error}");
    }
}

/// Runs `cryptsetup reencrypt` where it can keep its temporary files. It locks a file in `/run` that only root may make:
/// others get a `/run` of their own.
fn reencrypt(directory: &Path, args: &[&str]) -> bool {
    let there = format!("--chdir={}", directory.display());
    let run = |program: &[&str]| {
        let words = program.iter().chain(&["cryptsetup", "reencrypt"]);
        let words = words.chain(args).chain(&QUICK).copied();
        output("env", [there.as_str()].into_iter().chain(words))
    };
    let (success, text) = run(&[]);
    if success {
        return true;
    }
    assert!(text.contains("reencryption lock"), "{text}");
    let own_run = r#"mount -t tmpfs none /run && exec "$@""#;
    let (success, text) = run(&[
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        own_run,
        "sh",
    ]);
    if !success {
        skip(&format!(
            "cryptsetup reencrypt needs root or user namespaces: {text}"
        ));
    }
    success
}

/// cryptsetup encrypts a file system in place; the same key and plain text must give the same ciphertext here.
#[test]
fn its_ciphertext_is_ours() {
    if !tool("cryptsetup") {
        return;
    }
    for sector in [512u32, 4096] {
        let plain = noise(6, 3 * MIB as usize);
        let theirs = Image::empty(3 * MIB + 32 * MIB);
        std::os::unix::fs::FileExt::write_all_at(&theirs.file(), &plain, 0).unwrap();
        let key = theirs.beside("key", volume_key(5).as_bytes());
        let secret = theirs.beside("secret", PASSPHRASE);
        let (path, size) = (theirs.text(), sector.to_string());
        let args = [
            "--encrypt",
            "--force-offline-reencrypt",
            "--batch-mode",
            "--type",
            "luks2",
            "--reduce-device-size",
            "32M",
            "--sector-size",
            &size,
            "--key-file",
            &secret,
            "--master-key-file",
            &key,
            "--key-size",
            "512",
            &path,
        ];
        if !reencrypt(theirs.directory.path(), &args) {
            return;
        }
        let header = theirs.header().unwrap();
        assert_eq!(header.metadata.segment.sector_size.bytes(), u64::from(sector));
        let unlocked = theirs.unlock(PASSPHRASE).unwrap();
        assert_eq!(unlocked.key, volume_key(5));

        let ours = Image::made(
            MIB + plain.len() as u64,
            5,
            &Params {
                sector_size: SectorSize::new(sector).unwrap(),
                ..params(super::QUICK)
            },
        );
        let volume = ours
            .header()
            .unwrap()
            .open(ours.file(), &volume_key(5), &Limits::default())
            .unwrap();
        volume
            .encrypt(&plain, &[0..MIB, MIB..plain.len() as u64])
            .unwrap();
        let (mut a, mut b) = (vec![0; plain.len()], vec![0; plain.len()]);
        let offset = header.metadata.segment.offset;
        theirs.file().read_exact_at(&mut a, offset).unwrap();
        ours.file().read_exact_at(&mut b, MIB).unwrap();
        assert!(a == b, "sectors of {sector}");
        let volume = header
            .open(theirs.file(), &unlocked.key, &Limits::default())
            .unwrap();
        volume.read_exact_at(&mut a, 0).unwrap();
        assert!(a == plain);
    }
}
