use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::*;
use crate::formats::pe::{Section, tests::sample_stub};
use crate::formats::testing::{noise, output, run, tool};

const STUB_SBAT: &str = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n\
    systemd-stub,1,The systemd Developers,systemd,257,https://systemd.io/\n";

struct Parts {
    stub: Vec<u8>,
    osrel: Vec<u8>,
    linux: Vec<u8>,
    initrd: Vec<u8>,
    pcrpkey: Option<Vec<u8>>,
    pcrsig: Option<Vec<u8>>,
}

impl Parts {
    fn new(stub: Vec<u8>) -> Self {
        Self {
            stub,
            osrel: b"ID=test\nVERSION_ID=1\n".to_vec(),
            linux: sample_stub("sbat,1,x\nkernel,1,K,k,1,https://example.org\n"),
            initrd: noise(3, 1_500_001),
            pcrpkey: None,
            pcrsig: None,
        }
    }

    fn write(&self, path: &Path) -> Result<Written, UkiError> {
        let uki = Uki {
            stub: &self.stub,
            osrel: &self.osrel,
            cmdline: "console=ttyS0 usrhash=00",
            uname: "6.12.9-cloud",
            sbat: DEFAULT_SBAT,
            linux: Content::bytes(&self.linux),
            initrd: Content::bytes(&self.initrd),
            pcrpkey: self.pcrpkey.as_deref(),
            pcrsig: self.pcrsig.as_deref(),
            profiles: &[],
        };
        uki.write(&File::create(path).unwrap())
    }
}

/// The sample stub, and bookworm's (trailing symbols, little room for `.sbat`) where it is.
fn stubs() -> Vec<(&'static str, Vec<u8>)> {
    let mut stubs = vec![("sample", sample_stub(STUB_SBAT))];
    let path = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
    match fs::read(path) {
        Ok(bytes) => stubs.push(("installed", bytes)),
        Err(_) => crate::testing::skip(&format!("{path} is missing")),
    }
    stubs
}

fn names(sections: &[Section]) -> Vec<String> {
    sections.iter().map(Section::name).collect()
}

#[test]
fn sections_read_back_as_given_and_leave_no_gap() {
    for (which, stub) in stubs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("uki.efi");
        let mut parts = Parts::new(stub);
        parts.pcrpkey = Some(b"-----BEGIN PUBLIC KEY-----\n".to_vec());
        parts.pcrsig = Some(b"{}".to_vec());
        let written = parts.write(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(written.size, bytes.len() as u64, "{which}");
        let image = Image::read(&bytes, written.size).unwrap();
        assert_eq!(image.sections(), written.sections);
        let content = |name| image.content(&bytes, name, 1 << 24).unwrap().unwrap();
        assert_eq!(content(".osrel"), parts.osrel);
        assert_eq!(content(".cmdline"), b"console=ttyS0 usrhash=00");
        assert_eq!(content(".uname"), b"6.12.9-cloud");
        assert_eq!(content(".linux"), parts.linux);
        assert_eq!(content(".initrd"), parts.initrd);
        assert_eq!(content(".pcrsig"), b"{}");
        let sbat = String::from_utf8(content(".sbat")).unwrap();
        assert!(sbat.ends_with("\n\0"));
        assert_eq!(sbat.matches("sbat,1,SBAT Version").count(), 1);
        let order = ["systemd", "\nkernel,1,", "\nuki,1,"].map(|part| sbat.find(part).unwrap());
        assert!(order.is_sorted(), "{which}: {sbat}");
        let mut end = 0x400;
        for section in image.sections() {
            if end != 0x400 {
                assert_eq!(u64::from(section.raw_offset), end, "{which}: {}", section.name());
            }
            end = u64::from(section.raw_offset) + u64::from(section.raw_size);
        }
        assert_eq!(end, written.size);
        let mut memory = 0;
        for section in image.sections() {
            assert!(section.virtual_address >= memory, "{which}: {}", section.name());
            memory = section.virtual_address + section.virtual_size;
        }
    }
}

#[test]
fn two_builds_are_equal_and_sbat_keeps_its_place_where_it_fits() {
    let dir = tempfile::tempdir().unwrap();
    let parts = Parts::new(sample_stub(STUB_SBAT));
    let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
    let written = parts.write(&a).unwrap();
    assert_eq!(parts.write(&b).unwrap(), written);
    assert!(fs::read(&a).unwrap() == fs::read(&b).unwrap());
    let expected = [
        ".text", ".sbat", ".sdmagic", ".reloc", ".osrel", ".cmdline", ".uname", ".linux", ".initrd",
    ];
    assert_eq!(names(&written.sections), expected);
}

#[test]
fn sbat_without_room_moves_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!("{STUB_SBAT}long,1,{}\n", "x".repeat(5000));
    let mut stub = sample_stub(STUB_SBAT);
    let parts = Parts {
        linux: sample_stub(STUB_SBAT),
        ..Parts::new(stub.clone())
    };
    let uki = Uki {
        stub: &parts.stub,
        osrel: &parts.osrel,
        cmdline: "",
        uname: "",
        sbat: &long,
        linux: Content::bytes(&parts.linux),
        initrd: Content::bytes(&parts.initrd),
        pcrpkey: None,
        pcrsig: None,
        profiles: &[],
    };
    let written = uki.write(&File::create(dir.path().join("uki")).unwrap()).unwrap();
    assert_eq!(names(&written.sections)[1], ".sdmagic");
    assert_eq!(written.sections.last().unwrap().name(), ".sbat");
    // With debug data found by file position, moving anything is refused.
    stub[0x98 + 112 + 6 * 8] = 1;
    let uki = Uki { stub: &stub, ..uki };
    let error = uki.write(&File::create(dir.path().join("uki")).unwrap());
    assert!(matches!(error, Err(UkiError::Stub(PeError::Debug))), "{error:?}");
}

#[test]
fn bad_input_is_refused_in_plain_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("uki");
    let mut parts = Parts::new(sample_stub("no sbat\n"));
    assert_eq!(
        parts.write(&path).unwrap_err().to_string(),
        "the SBAT data of the stub does not begin with a line `sbat,…`"
    );
    for line in [
        "systemd",
        "systemd,",
        "systemd,0,x",
        "systemd,+1,x",
        ",1,x",
        "systemd,one,x",
    ] {
        parts.stub = sample_stub(&format!("{STUB_SBAT}{line}\n"));
        assert_eq!(
            parts.write(&path).unwrap_err().to_string(),
            "the SBAT data of the stub has a line that is no `component,generation,…`",
            "{line}"
        );
    }
    parts.stub = sample_stub(STUB_SBAT);
    parts.linux = b"not a program".to_vec();
    assert!(matches!(parts.write(&path), Err(UkiError::Kernel(_))));
    // A header full of something leaves no slot.
    parts = Parts::new(sample_stub(STUB_SBAT));
    parts.stub[0x98 + 0xf0 + 4 * 40..0x400].fill(1);
    assert!(matches!(
        parts.write(&path),
        Err(UkiError::Stub(PeError::NoSlot(_)))
    ));
    let uki = Uki {
        stub: &parts.stub,
        osrel: &parts.osrel,
        cmdline: "a\nb",
        uname: "",
        sbat: DEFAULT_SBAT,
        linux: Content::bytes(&parts.linux),
        initrd: Content::bytes(&parts.initrd),
        pcrpkey: None,
        pcrsig: None,
        profiles: &[],
    };
    let error = uki.write(&File::create(&path).unwrap()).unwrap_err();
    assert!(matches!(
        error,
        UkiError::Control {
            of: "command line",
            ..
        }
    ));
}

#[test]
fn symbols_and_signatures_behind_the_sections_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let [plain, trailed] = ["plain", "trailed"].map(|name| dir.path().join(name));
    let mut parts = Parts::new(sample_stub(STUB_SBAT));
    parts.write(&plain).unwrap();
    let end = u32::try_from(parts.stub.len()).unwrap();
    parts.stub.extend_from_slice(&[7; 100]);
    let fields = [
        (0x84 + 8, end),
        (0x84 + 12, 2),
        (0x98 + 112 + 4 * 8, end),
        (0x98 + 112 + 4 * 8 + 4, 64),
    ];
    for (at, value) in fields {
        parts.stub[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    parts.write(&trailed).unwrap();
    assert!(fs::read(plain).unwrap() == fs::read(trailed).unwrap());
}

#[test]
fn a_kernel_without_nx_takes_the_bit_from_the_image() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("uki");
    let mut parts = Parts::new(sample_stub(STUB_SBAT));
    let nx = |parts: &Parts| {
        parts.write(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        let image = Image::read(&bytes, bytes.len() as u64).unwrap();
        image.dll_characteristics()
    };
    assert_eq!(nx(&parts), 0x160);
    parts.linux[0x98 + 71] = 0;
    assert_eq!(nx(&parts), 0x60);
}

#[test]
fn objdump_sees_the_sections() {
    if !tool("objdump") {
        return;
    }
    for (which, stub) in stubs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("uki");
        let written = Parts::new(stub).write(&path).unwrap();
        let text = run("objdump", ["-h".as_ref(), path.as_os_str()]);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|words| words.len() == 7 && words[1].starts_with('.'))
            .collect();
        assert_eq!(lines.len(), written.sections.len(), "{which}: {text}");
        for (words, section) in lines.iter().zip(&written.sections) {
            assert_eq!(words[1], section.name());
            assert_eq!(words[2], format!("{:08x}", section.content_size()));
            assert_eq!(words[5], format!("{:08x}", section.raw_offset));
        }
    }
}

#[test]
fn signers_compute_one_hash() {
    if !["openssl", "sbsign", "sbverify", "osslsigncode"]
        .iter()
        .all(|name| tool(name))
    {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (key, cert) = (at("key.pem"), at("cert.pem"));
    let subject = ["-subj", "/CN=throwaway", "-days", "1"];
    let request = [
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", &key, "-out", &cert,
    ];
    run("openssl", [&request[..], &subject[..]].concat());
    for (which, stub) in stubs() {
        Parts::new(stub).write(&PathBuf::from(at("uki"))).unwrap();
        let (_, text) = output("sbverify", ["--list", &at("uki")]);
        assert!(!text.contains("gap"), "{which}: {text}");
        for (tool, signed) in [
            ("sbsign", at(&format!("sb-{which}"))),
            ("osslsigncode", at(&format!("ossl-{which}"))),
        ] {
            let files = [key.as_str(), cert.as_str(), signed.as_str()];
            let [key, cert, signed] = files;
            let text = if tool == "sbsign" {
                run(
                    tool,
                    ["--key", key, "--cert", cert, "--output", signed, &at("uki")],
                )
            } else {
                run(
                    tool,
                    [
                        "sign",
                        "-h",
                        "sha256",
                        "-key",
                        key,
                        "-certs",
                        cert,
                        "-in",
                        &at("uki"),
                        "-out",
                        signed,
                    ],
                )
            };
            assert!(!text.contains("warning"), "{which}, {tool}: {text}");
            let verified = run("sbverify", ["--cert", cert, signed]);
            assert!(
                verified.contains("Signature verification OK"),
                "{which}, {tool}: {verified}"
            );
            assert!(!verified.contains("warning"), "{which}, {tool}: {verified}");
            // sbverify has found one hash for both; osslsigncode before 2.6 reads its own only.
            if tool == "sbsign" {
                continue;
            }
            let (_, text) = output("osslsigncode", ["verify", "-CAfile", cert, "-in", signed]);
            let value = |label: &str| {
                let line = text.lines().find(|line| line.contains(label)).unwrap_or_default();
                line.trim_end().rsplit(' ').next().unwrap_or_default().to_owned()
            };
            let digest = value("Current message digest");
            assert_eq!(digest.len(), 64, "{which}, {tool}: {text}");
            assert_eq!(
                digest,
                value("Calculated message digest"),
                "{which}, {tool}: {text}"
            );
        }
        // Of an unsigned file, osslsigncode tells whether the image checksum is right.
        let (_, text) = output("osslsigncode", ["verify", "-in", &at("uki")]);
        assert!(text.contains("PE checksum"), "{which}: {text}");
        assert!(!text.contains("MISMATCH"), "{which}: {text}");
        assert!(!text.contains("invalid PE checksum"), "{which}: {text}");
    }
}
