//! Volumes of ours in the hands of cryptsetup.

use serde_json::{Value, json};

use super::*;
use crate::formats::testing::{output, run, tool};

fn opens(image: &Image, secret: &[u8], keyslot: Option<u32>) -> bool {
    let key = image.beside("try", secret);
    let mut args = vec!["open".to_owned(), "--test-passphrase".to_owned(), image.text()];
    args.extend(["--key-file".to_owned(), key]);
    if let Some(keyslot) = keyslot {
        args.extend(["--key-slot".to_owned(), keyslot.to_string()]);
    }
    output("cryptsetup", args).0
}

fn dumped_json(image: &Image) -> Value {
    let args = ["luksDump", "--dump-json-metadata", &image.text()];
    serde_json::from_str(&run("cryptsetup", args)).unwrap()
}

#[test]
fn it_reads_what_was_meant_and_opens_it() {
    if !tool("cryptsetup") {
        return;
    }
    let token = json!({
        "type": "systemd-tpm2", "keyslots": ["1"], "tpm2-pcrs": [7], "tpm2_pubkey_pcrs": [11],
        "tpm2-blob": "AAAA/+8=", "nested": {"a": [{"b": "\u{e4}\"\\/"}]},
    });
    // As deep as json-c reads.
    let deep = (0..28).fold(json!(1), |inner, _| json!([inner]));
    let deep = json!({"type": "deep", "keyslots": [], "x": deep});
    let params = Params {
        label: "root",
        subsystem: "hull",
        keyslots: vec![
            NewKeyslot {
                secret: PASSPHRASE,
                kdf: QUICK_ARGON2,
                priority: Priority::Normal,
            },
            NewKeyslot {
                secret: &[0, 10, 255, 0],
                kdf: Kdf::RANDOM_KEY,
                priority: Priority::Prefer,
            },
        ],
        tokens: [&token, &deep]
            .map(|token| Token::try_from(token.as_object().unwrap().clone()).unwrap())
            .into(),
        flags: vec!["allow-discards".to_owned()],
        ..Params::new(UUID, PASSPHRASE, QUICK)
    };
    let image = Image::made(20 * MIB, 3, &params);
    let untouched = std::fs::read(image.path()).unwrap();
    run("cryptsetup", ["isLuks", "--type", "luks2", &image.text()]);
    let uuid = run("cryptsetup", ["luksUUID", &image.text()]);
    assert_eq!(uuid.trim(), UUID.to_string());

    let dump = run("cryptsetup", ["luksDump", &image.text()]);
    let dump: Vec<String> = dump
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for line in [
        "Version: 2",
        "Epoch: 1",
        "Metadata area: 16384 [bytes]",
        "Keyslots area: 16744448 [bytes]",
        "Label: root",
        "Subsystem: hull",
        "Flags: allow-discards",
        "offset: 16777216 [bytes]",
        "length: (whole device)",
        "cipher: aes-xts-plain64",
        "sector: 4096 [bytes]",
        "Key: 512 bits",
        "Cipher key: 512 bits",
        "PBKDF: argon2id",
        "Time cost: 4",
        "Memory: 64",
        "Threads: 2",
        "PBKDF: pbkdf2",
        "Hash: sha512",
        "Iterations: 1000",
        "Priority: preferred",
        "AF stripes: 4000",
        "AF hash: sha256",
        "Area offset:32768 [bytes]",
        "Area offset:290816 [bytes]",
        "Area length:258048 [bytes]",
        "0: systemd-tpm2",
        "1: deep",
    ] {
        assert!(dump.iter().any(|found| found == line), "{line}\n{dump:#?}");
    }
    // Not a byte differs in meaning: what it prints is what was written.
    assert_eq!(dumped_json(&image), image.header().unwrap().metadata.to_json());
    let exported = run(
        "cryptsetup",
        ["token", "export", "--token-id", "0", &image.text()],
    );
    assert_eq!(serde_json::from_str::<Value>(&exported).unwrap(), token);

    assert!(opens(&image, PASSPHRASE, None));
    assert!(opens(&image, PASSPHRASE, Some(0)));
    assert!(!opens(&image, PASSPHRASE, Some(1)));
    assert!(opens(&image, &[0, 10, 255, 0], Some(1)));
    assert!(!opens(&image, &[0, 10, 254, 0], None));
    assert!(!opens(&image, b"wrong", None));
    let key = image.beside("volume-key", volume_key(3).as_bytes());
    let args = [
        "open",
        "--test-passphrase",
        &image.text(),
        "--master-key-file",
        &key,
    ];
    run("cryptsetup", args);
    // Reading is all that it has done: it found nothing to mend.
    assert!(std::fs::read(image.path()).unwrap() == untouched);
}

#[test]
fn sizes_of_all_parts_are_taken_as_they_are() {
    if !tool("cryptsetup") {
        return;
    }
    for (header, keyslots, sector) in [
        (16 << 10, 256 << 10, 512),
        (32 << 10, 1 << 20, 1024),
        (128 << 10, 4096 * 200, 2048),
        (4 << 20, 128 << 20, 4096),
    ] {
        let params = Params {
            layout: Layout::new(header, keyslots),
            sector_size: SectorSize::new(sector).unwrap(),
            ..Params::new(UUID, PASSPHRASE, QUICK)
        };
        let image = Image::made(params.layout.data_offset + MIB, 3, &params);
        assert!(opens(&image, PASSPHRASE, None), "{header} {keyslots}");
        let dumped = dumped_json(&image);
        assert_eq!(dumped["config"]["keyslots_size"], keyslots.to_string());
        assert_eq!(dumped["segments"]["0"]["sector_size"], sector);
    }
}

#[test]
fn aes_128_opens_as_well() {
    if !tool("cryptsetup") {
        return;
    }
    let image = Image::empty(2 * MIB);
    let key = VolumeKey::new(noise(77, 32).into()).unwrap();
    let mut entropy = Derived::new(&key, b"");
    format(&image.file(), image.size, &key, &params(QUICK), &mut entropy).unwrap();
    assert!(opens(&image, PASSPHRASE, None));
    assert_eq!(image.unlock(PASSPHRASE).unwrap().key, key);
}

#[test]
fn it_mends_a_destroyed_copy_and_so_does_reading() {
    if !tool("cryptsetup") {
        return;
    }
    for (destroyed, at) in [(0usize, 0u64), (1, 16 << 10)] {
        let image = Image::made(2 * MIB, 3, &params(QUICK));
        std::os::unix::fs::FileExt::write_all_at(&image.file(), &noise(9, 16 << 10), at).unwrap();
        let header = image.header().unwrap();
        assert!(matches!(header.copies[destroyed], CopyState::Damaged(_)));
        assert_eq!(header.copies[1 - destroyed], CopyState::Good);
        assert_eq!(image.unlock(PASSPHRASE).unwrap().key, volume_key(3));

        run("cryptsetup", ["repair", "--batch-mode", &image.text()]);
        let mended = image.header().unwrap();
        assert_eq!(mended.copies, [CopyState::Good, CopyState::Good]);
        assert_eq!(mended.metadata, header.metadata);
        assert!(opens(&image, PASSPHRASE, None));
    }
}

#[test]
fn keys_that_it_adds_and_changes_open_here() {
    if !tool("cryptsetup") {
        return;
    }
    let image = Image::made(2 * MIB, 3, &params(QUICK));
    let old = image.beside("old", PASSPHRASE);
    let new = image.beside("new", b"another\0key");
    let newest = image.beside("newest", b"the newest");
    let quick = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
    let argon2 = ["--pbkdf", "argon2id", "--pbkdf-force-iterations", "4"];
    let memory = ["--pbkdf-memory", "32", "--pbkdf-parallel", "1"];
    let add = ["luksAddKey", "--key-file", &old, &image.text(), &new].map(str::to_owned);
    let args = add.iter().map(String::as_str).chain(argon2).chain(memory);
    run("cryptsetup", args);
    let path = image.text();
    let change = ["luksChangeKey", "--key-file", &old, &path, &newest];
    run("cryptsetup", change.into_iter().chain(quick));

    let header = image.header().unwrap();
    assert_eq!(header.copies, [CopyState::Good, CopyState::Good]);
    assert!(header.sequence > 1);
    assert_eq!(header.metadata.keyslots.len(), 2);
    for secret in [b"another\0key".as_slice(), b"the newest"] {
        assert_eq!(image.unlock(secret).unwrap().key, volume_key(3));
    }
    assert!(matches!(image.unlock(PASSPHRASE), Err(Luks2Error::Locked { .. })));

    let token = image.beside("token", br#"{"type":"mine","keyslots":[],"any":{"x":[1]}}"#);
    run(
        "cryptsetup",
        ["token", "import", "--json-file", &token, &image.text()],
    );
    let header = image.header().unwrap();
    assert_eq!(header.metadata.tokens[&0].kind, "mine");
    assert_eq!(header.metadata.tokens[&0].fields["any"], json!({"x": [1]}));
}
