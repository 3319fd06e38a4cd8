use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::policy::{Policy, Signed, to_json};
use super::uki::{MEASURED, Measured, SectionDigests, at_phase};
use super::*;
use crate::formats::pe::{Image, tests::sample_stub};
use crate::formats::testing::{noise, run, tool};

#[test]
fn digests_are_the_standards_own() {
    // FIPS 180-4: the digests of "abc".
    let cases = [
        (Bank::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (
            Bank::Sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            Bank::Sha384,
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed\
             8086072ba1e7cc2358baeca134c825a7",
        ),
        (
            Bank::Sha512,
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
    ];
    for (bank, expected) in cases {
        assert_eq!(bank.digest(b"abc").to_string(), expected);
        let content = bank.digest_content(&Content::bytes(b"abc"), 0).unwrap();
        assert_eq!(content, bank.digest(b"abc"));
        let padded = bank.digest_content(&Content::bytes(b"abc"), 5000).unwrap();
        assert_eq!(padded, bank.digest(&[b"abc".as_slice(), &[0; 5000]].concat()));
        assert_eq!(Bank::from_name(bank.name()), Some(bank));
        assert_eq!(Bank::from_algorithm(bank.algorithm()), Some(bank));
    }
    assert_eq!(Bank::from_name("md5"), None);
}

#[test]
fn extending_hashes_old_and_new() {
    let zero = Value::zero(Bank::Sha256);
    assert!(zero.is_zero());
    let event = Bank::Sha256.digest(b"x");
    let both = [[0; 32].as_slice(), event.as_bytes()].concat();
    assert_eq!(zero.extended(&event), Bank::Sha256.digest(&both));
    assert_eq!(zero.measured(b"x"), zero.extended(&event));
    assert!(!zero.measured(b"x").is_zero());
    assert_eq!(Value::new(Bank::Sha384, &[1; 32]), None);
    assert_eq!(Value::from_hex(Bank::Sha256, &event.to_string()), Some(event));
    for text in ["", "0", "zz", &"0".repeat(63), &"0".repeat(66)] {
        assert_eq!(Value::from_hex(Bank::Sha256, text), None);
    }
}

const PHASES: [&str; 4] = [
    "enter-initrd",
    "enter-initrd:leave-initrd",
    "enter-initrd:leave-initrd:sysinit",
    "enter-initrd:leave-initrd:sysinit:ready",
];

/// The sections that systemd-measure can be asked about: 257 takes `--dtbauto` for `.hwids`, and the other way round.
fn asked() -> &'static [&'static str] {
    let known = MEASURED.iter().position(|name| *name == ".dtbauto");
    &MEASURED[..known.unwrap()]
}

/// A file for each section, of an odd number of bytes.
fn files(dir: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let content = |(index, name): (usize, &&'static str)| {
        let bytes = noise(index as u64 + 7, 70_000 * index + 13);
        fs::write(dir.join(&name[1..]), &bytes).unwrap();
        (*name, bytes)
    };
    asked().iter().enumerate().map(content).collect()
}

fn arguments(dir: &Path, verb: &str, banks: &[Bank]) -> Vec<OsString> {
    let section = |name: &&str| format!("--{}={}", &name[1..], dir.join(&name[1..]).display()).into();
    let mut arguments = vec![verb.into()];
    arguments.extend(asked().iter().map(section));
    arguments.extend(banks.iter().map(|bank| format!("--bank={bank}").into()));
    arguments
}

/// An RSA key: `key.pem`, `key.pub`, and the public key as PKCS#1 has it.
fn key(dir: &Path) -> Vec<u8> {
    let path = |name| dir.join(name).into_os_string();
    let key = path("key.pem");
    let done = Command::new("openssl")
        .arg("genrsa")
        .arg("-out")
        .arg(&key)
        .arg("2048")
        .output();
    assert!(done.unwrap().status.success());
    let public = [
        OsString::from("rsa"),
        "-in".into(),
        key.clone(),
        "-pubout".into(),
        "-out".into(),
    ];
    run("openssl", public.into_iter().chain([path("key.pub")]));
    let public = [
        OsString::from("rsa"),
        "-in".into(),
        key,
        "-RSAPublicKey_out".into(),
    ];
    run(
        "openssl",
        public
            .into_iter()
            .chain(["-outform".into(), "DER".into(), "-out".into(), path("der")]),
    );
    fs::read(dir.join("der")).unwrap()
}

/// Signs by openssl, the hash that of the bank.
fn sign(dir: &Path, policy: Policy) -> Signed {
    let (message, signature) = (dir.join("message"), dir.join("signature"));
    fs::write(&message, policy.digest).unwrap();
    let options = [
        "dgst".into(),
        format!("-{}", policy.bank).into(),
        "-sign".into(),
        dir.join("key.pem").into(),
    ];
    let files = [OsString::from("-out"), signature.clone().into(), message.into()];
    run("openssl", options.into_iter().chain(files));
    let signature = fs::read(signature).unwrap();
    Signed { policy, signature }
}

#[test]
fn systemd_measure_calculates_the_same_in_every_bank_and_phase() {
    if !tool("systemd-measure") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let files = files(dir.path());
    // The image's own order of sections does not matter.
    let sections: Vec<_> = files
        .iter()
        .rev()
        .map(|(name, bytes)| Measured::new(name, Content::bytes(bytes)))
        .collect();
    let digests = SectionDigests::of(&sections, &Bank::ALL).unwrap();
    let ours = PHASES.iter().flat_map(|phase| {
        let at = digests.pcr_11(0).into_iter().map(|value| at_phase(value, phase));
        at.map(|value| format!("11:{}={value}", value.bank()))
            .collect::<Vec<_>>()
    });
    let theirs = run("systemd-measure", arguments(dir.path(), "calculate", &Bank::ALL));
    let theirs = theirs.lines().filter(|line| line.starts_with("11:"));
    assert_eq!(ours.collect::<Vec<_>>(), theirs.collect::<Vec<_>>());
}

#[test]
fn systemd_measure_signs_the_same_bytes() {
    if !tool("systemd-measure") || !tool("openssl") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let files = files(dir.path());
    let sections: Vec<_> = files
        .iter()
        .map(|(name, bytes)| Measured::new(name, Content::bytes(bytes)))
        .collect();
    let public = key(dir.path());
    for (banks, phases) in [
        (&[Bank::Sha384, Bank::Sha256][..], &["enter-initrd"][..]),
        (&[Bank::Sha256], &[PHASES[2], PHASES[0], PHASES[0]]),
        (&[Bank::Sha512, Bank::Sha1], &PHASES[1..3]),
    ] {
        let phases: Vec<String> = phases.iter().map(|&phase| phase.to_owned()).collect();
        let digests = SectionDigests::of(&sections, banks).unwrap();
        let policies = Policy::all(&digests.pcr_11(0), &phases);
        let signed: Vec<_> = policies
            .into_iter()
            .map(|policy| sign(dir.path(), policy))
            .collect();
        let mut arguments = arguments(dir.path(), "sign", banks);
        arguments.extend(phases.iter().map(|phase| format!("--phase={phase}").into()));
        arguments.push(format!("--private-key={}", dir.path().join("key.pem").display()).into());
        assert_eq!(
            to_json(&signed, &public),
            run("systemd-measure", arguments),
            "{banks:?}"
        );
    }
}

#[test]
fn ukify_makes_the_same_of_an_image_with_profiles() {
    if !tool("ukify") || !tool("systemd-measure") || !tool("openssl") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    let public = key(dir.path());
    fs::write(
        path("stub"),
        sample_stub("sbat,1,x\nstub,1,S,s,1,https://example.org\n"),
    )
    .unwrap();
    fs::write(
        path("linux"),
        sample_stub("sbat,1,x\nkernel,1,K,k,1,https://example.org\n"),
    )
    .unwrap();
    fs::write(path("initrd"), noise(3, 100_001)).unwrap();
    let option = |name: &str, file: &str| format!("--{name}={}", path(file).display());
    let stub = option("stub", "stub");
    // A profile comes in a program that has nothing else.
    let mut empty = sample_stub("");
    let sbat = empty.windows(5).position(|bytes| bytes == b".sbat").unwrap();
    empty[sbat..sbat + 5].copy_from_slice(b".rest");
    fs::write(path("empty"), empty).unwrap();
    let profile = [
        "build",
        "--profile=ID=debug\n",
        "--cmdline=debug",
        &option("stub", "empty"),
        &option("output", "profile"),
    ]
    .map(str::to_owned);
    run("ukify", profile);
    let image = [
        "build",
        "--profile=ID=main\n",
        "--cmdline=quiet",
        "--uname=6.12",
        "--os-release=ID=x\n",
        "--pcr-banks=sha384,sha256",
        "--phases=enter-initrd",
        "--efi-arch=x64",
        "--measure",
        &stub,
        &option("linux", "linux"),
        &option("initrd", "initrd"),
        &option("join-profile", "profile"),
        &option("pcr-private-key", "key.pem"),
        &option("pcr-public-key", "key.pub"),
        &option("output", "uki"),
    ];
    run("ukify", image);
    let bytes = fs::read(path("uki")).unwrap();
    let image = Image::read(&bytes, bytes.len() as u64).unwrap();
    let digests = SectionDigests::of_image(&image, &bytes, &[Bank::Sha256, Bank::Sha384]).unwrap();
    assert_eq!(digests.profiles(), 2);
    let signatures = image
        .sections()
        .iter()
        .filter(|section| section.name() == ".pcrsig");
    let signatures = signatures.map(|section| {
        let start = section.raw_offset as usize;
        let text = &bytes[start..start + section.virtual_size as usize];
        String::from_utf8(text.to_vec()).unwrap()
    });
    let ours = (0..2).map(|profile| {
        let policies = Policy::all(&digests.pcr_11(profile), &["enter-initrd".to_owned()]);
        let signed: Vec<_> = policies
            .into_iter()
            .map(|policy| sign(dir.path(), policy))
            .collect();
        // Python's spacing.
        to_json(&signed, &public)
            .trim_end()
            .replace(':', ": ")
            .replace(',', ", ")
    });
    assert_eq!(ours.collect::<Vec<_>>(), signatures.collect::<Vec<_>>());
}
