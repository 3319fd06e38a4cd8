//! Inputs to begin with: small, valid ones of every kind.

use std::io;
use std::sync::OnceLock;

use hullwright::formats::authenticode;
use hullwright::formats::cms::SignedData;
use hullwright::formats::efi::{AuthenticatedUpdate, SignatureDatabase, Time, Variable, VariableStore, guid};
use hullwright::formats::erofs;
use hullwright::formats::gvariant::{self, Value};
use hullwright::formats::kmodindex::Index;
use hullwright::formats::ldcache::{Cache, Entry};
use hullwright::formats::pem::{self, Block};
use hullwright::formats::rpm::{read_preamble, tag};
use hullwright::formats::vhd;
use hullwright::formats::x509::{Certificate, NewCertificate};
use hullwright::signing::{PemKey, Signer as _};
use pgp::composed::{KeyType, SecretKeyParamsBuilder, SignedSecretKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{PacketTrait as _, SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::ser::Serialize as _;
use pgp::types::{KeyDetails as _, KeyVersion, Password, Timestamp};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::targets::disks::{FAT_RESERVED, FAT_SIZE, FAT_TABLE};
use super::targets::package_header;

/// When the key was made, and the signature.
const BORN: u32 = 1_000_000_000;

/// The same key in every run; it is no secret.
fn key() -> &'static SignedSecretKey {
    static KEY: OnceLock<SignedSecretKey> = OnceLock::new();
    KEY.get_or_init(|| {
        let parameters = SecretKeyParamsBuilder::default()
            .version(KeyVersion::V4)
            .key_type(KeyType::Ed25519Legacy)
            .can_sign(true)
            .can_certify(true)
            .created_at(Timestamp::from_secs(BORN))
            .primary_user_id("Fuzzer <fuzzer@example.org>".to_owned())
            .build();
        let key = parameters.map(|parameters| parameters.generate(StdRng::seed_from_u64(7)));
        match key {
            Ok(Ok(key)) => key,
            _ => panic!("no key could be made"),
        }
    })
}

/// The key's certificate, binary.
pub fn public_key() -> Vec<u8> {
    let mut bytes = Vec::new();
    assert!(key().to_public_key().to_writer(&mut bytes).is_ok());
    bytes
}

/// A signature by [`key`] over the header that the target has.
fn signature() -> Vec<u8> {
    let key = &key().primary_key;
    let mut config = SignatureConfig::v4(SignatureType::Binary, key.algorithm(), HashAlgorithm::Sha256);
    let data = [
        SubpacketData::SignatureCreationTime(Timestamp::from_secs(BORN + 1)),
        SubpacketData::IssuerFingerprint(key.fingerprint()),
    ];
    config.hashed_subpackets = data
        .into_iter()
        .filter_map(|it| Subpacket::regular(it).ok())
        .collect();
    let header = package_header("none", b"not unpacked here");
    let mut bytes = Vec::new();
    match config.sign(key, &Password::empty(), &header[..]) {
        Ok(signature) => assert!(signature.to_writer_with_header(&mut bytes).is_ok()),
        Err(error) => panic!("{error}"),
    }
    bytes
}

/// Puts `fields` into `bytes`: place and little-endian value of so many bytes.
fn put(bytes: &mut [u8], fields: &[(usize, usize, u64)]) {
    for &(at, size, value) in fields {
        bytes[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
    }
}

/// The first sectors of a disk of 64 KiB with one partition.
fn gpt_table() -> Vec<u8> {
    let mut disk = vec![0; 34 * 512];
    disk[512..520].copy_from_slice(b"EFI PART");
    let fields = [
        (450, 1, 0xee),
        (454, 4, 1),
        (458, 4, 127),
        (510, 2, 0xaa55),
        (520, 4, 0x1_0000),
        (524, 4, 92),
        (536, 8, 1),
        (544, 8, 127),
        (552, 8, 34),
        (560, 8, 94),
        (584, 8, 2),
        (592, 4, 128),
        (596, 4, 128),
        (1024, 8, 77),
        (1040, 8, 78),
        (1056, 8, 40),
        (1064, 8, 50),
        (1080, 2, 0x61),
    ];
    put(&mut disk, &fields);
    disk
}

/// What the target makes a volume of: a file with a long name, and a directory.
fn fat_volume() -> Vec<u8> {
    let mut bytes = vec![0; 2560 + 3 * 512];
    let fields = [
        (11, 2, 512),
        (13, 1, 1),
        (14, 2, FAT_RESERVED / 512),
        (16, 1, 2),
        (32, 4, FAT_SIZE / 512),
        (36, 4, FAT_TABLE / 512),
        (44, 4, 2),
        (510, 2, 0xaa55),
        (512 + 8, 4, 0x0fff_ffff),
        (512 + 12, 4, 0x0fff_ffff),
        (512 + 16, 4, 0x0fff_ffff),
    ];
    put(&mut bytes, &fields);
    let short = b"LONGNA~1TXT";
    let sum = short
        .iter()
        .fold(0_u8, |sum, &byte| sum.rotate_right(1).wrapping_add(byte));
    let root = 2560;
    let long = &mut bytes[root..root + 32];
    long[1..32].fill(0xff);
    put(
        long,
        &[
            (0, 1, 0x41),
            (1, 2, 0x61),
            (3, 2, 0),
            (11, 1, 0x0f),
            (12, 1, 0),
            (13, 1, u64::from(sum)),
            (26, 2, 0),
        ],
    );
    bytes[root + 32..root + 43].copy_from_slice(short);
    put(&mut bytes[root + 32..root + 64], &[(26, 2, 3), (28, 4, 100)]);
    bytes[root + 64..root + 75].copy_from_slice(b"DIRECTORY  ");
    put(&mut bytes[root + 64..root + 96], &[(11, 1, 0x10), (26, 2, 4)]);
    let below = root + 2 * 512;
    for (at, name) in [(below, b".          "), (below + 32, b"..         ")] {
        bytes[at..at + 11].copy_from_slice(name);
        bytes[at + 11] = 0x10;
    }
    bytes
}

/// A disk of 1 MiB with data in one cluster of 4 KiB.
fn qcow2_image() -> Vec<u8> {
    let mut image = vec![0; 5 * 4096];
    image[..4].copy_from_slice(b"QFI\xfb");
    let fields: [(usize, &[u8]); 7] = [
        (4, &3_u32.to_be_bytes()),
        (20, &12_u32.to_be_bytes()),
        (24, &(1_u64 << 20).to_be_bytes()),
        (36, &1_u32.to_be_bytes()),
        (40, &4096_u64.to_be_bytes()),
        (4096, &8192_u64.to_be_bytes()),
        (8192 + 8, &(3 * 4096_u64).to_be_bytes()),
    ];
    for (at, bytes) in fields {
        image[at..at + bytes.len()].copy_from_slice(bytes);
    }
    image
}

/// A small variable store with two variables and a journal.
fn variable_store() -> Vec<u8> {
    let mut image = vec![0xff; 2 * 4096];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0; 16]);
    put(16, &guid::SYSTEM_NV_DATA.to_bytes_le());
    put(32, &[0, 0x20, 0, 0, 0, 0, 0, 0]);
    put(40, b"_FVH\xff\xfe\x04\0");
    put(48, &[72, 0, 0, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 0x10, 0, 0]);
    put(64, &[0; 8]);
    put(72, &guid::AUTHENTICATED_VARIABLES.to_bytes_le());
    put(88, &[0, 4, 0, 0, 0x5a, 0xfe, 0, 0, 0, 0, 0, 0]);
    put(4096, &guid::WORKING_BLOCK.to_bytes_le());
    put(4096 + 24, &[0, 1, 0, 0, 0, 0, 0, 0]);
    let words = image[..72]
        .chunks(2)
        .map(|word| u16::from_le_bytes([word[0], word[1]]));
    let sum = words.fold(0, u16::wrapping_add);
    image[50..52].copy_from_slice(&sum.wrapping_neg().to_le_bytes());
    let filled = VariableStore::parse(image).and_then(|mut store| {
        store.set(Variable::new(guid::GLOBAL_VARIABLE, "Lang", 7, b"eng".to_vec()));
        store.set(Variable::new(guid::GLOBAL_VARIABLE, "Timeout", 7, vec![0, 0]));
        store.to_bytes()
    });
    match filled {
        Ok(image) => image,
        Err(error) => panic!("{error}"),
    }
}

/// A header with dependencies of every kind.
fn dependencies() -> Vec<u8> {
    let wanted = [
        "(a if (b >= 1:2~rc1-3 or c) else (d with e))",
        "(a and (b unless c) and d)",
        "/bin/sh",
        "rpmlib(FileDigests)",
        "libc.so.6(GLIBC_2.38)(64bit)",
    ];
    let evr = ["", "", "", "4.6.0-1", "1:2.0^git-1"];
    let flags: Vec<u8> = [0u32, 0, 1 << 9, 10, 12]
        .into_iter()
        .flat_map(u32::to_be_bytes)
        .collect();
    super::targets::header(&[
        super::targets::text(tag::NAME, "x"),
        super::targets::strings(tag::PROVIDENAME, &wanted),
        super::targets::strings(tag::PROVIDEVERSION, &evr),
        (tag::PROVIDEFLAGS, 4, 5, flags.clone()),
        super::targets::strings(tag::REQUIRENAME, &wanted),
        super::targets::strings(tag::REQUIREVERSION, &evr),
        (tag::REQUIREFLAGS, 4, 5, flags.clone()),
        super::targets::strings(tag::CONFLICTNAME, &wanted),
        super::targets::strings(tag::CONFLICTVERSION, &evr),
        (tag::CONFLICTFLAGS, 4, 5, flags),
    ])
}

/// The archive that belongs to the header that the target has.
fn archive() -> Vec<u8> {
    let entry = |name: &str, mode: u32, content: &[u8]| {
        let mut bytes = b"070701".to_vec();
        let size = content.len();
        let fields = [1, mode as usize, 0, 0, 1, 1, size, 0, 0, 0, 0, name.len() + 1, 0];
        for field in fields {
            bytes.extend(format!("{field:08x}").bytes());
        }
        bytes.extend(name.bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    [
        entry("./usr/tool", 0o040_755, b""),
        entry("./usr/tool/file", 0o100_644, b"12345"),
        entry("./usr/tool/one", 0o100_644, b""),
        entry("./usr/tool/two", 0o100_644, b"1234567"),
        entry("./usr/tool/link", 0o120_777, b"file"),
        entry("TRAILER!!!", 0, b""),
    ]
    .concat()
}

fn volume(compression: erofs::Compression, change: impl FnOnce(&mut erofs::Options)) -> Vec<u8> {
    use erofs::{FileSystem, Inode, InodeIndex, InodeKind};
    let inode = |kind| Inode {
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: 0,
        xattrs: [(b"user.x"[..].into(), b"y"[..].into())].into(),
        kind,
    };
    let content: Vec<u8> = (0..9000_u32)
        .flat_map(|n| format!("{} ", n % 300).into_bytes())
        .collect();
    let names = [
        (b"file"[..].into(), InodeIndex(1)),
        (b"link"[..].into(), InodeIndex(2)),
        (b"small"[..].into(), InodeIndex(3)),
    ];
    let begun = [&content[..20_000], &[0; 9000]].concat();
    let tree = FileSystem {
        inodes: vec![
            inode(InodeKind::Dir(names.into())),
            inode(InodeKind::File(content)),
            inode(InodeKind::Symlink(b"file"[..].into())),
            inode(InodeKind::File(begun)),
        ],
        root: InodeIndex(0),
    };
    let mut options = erofs::Options {
        compression,
        cluster_size: 4096,
        ..erofs::Options::default()
    };
    change(&mut options);
    let mut out = io::Cursor::new(Vec::new());
    assert!(erofs::write(&tree, &options, &mut out).is_ok());
    out.into_inner()
}

/// A log of SHA-256 alone: a variable, a program, a tag, a partition table.
fn event_log() -> Vec<u8> {
    let event = |start: &[&[u8]], data: &[u8]| {
        let length = u32::try_from(data.len()).unwrap_or_default();
        [&start.concat(), &length.to_le_bytes()[..], data].concat()
    };
    let header = [
        b"Spec ID Event03\0".as_slice(),
        &[0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0b, 0, 32, 0, 0],
    ];
    let mut log = event(&[&[0, 0, 0, 0, 3, 0, 0, 0], &[0; 20]], &header.concat());
    let variable = [
        &[7; 16][..],
        &[2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        b"d\0b\0\x01",
    ]
    .concat();
    let mut program = vec![0; 24];
    program.extend([
        34, 0, 0, 0, 0, 0, 0, 0, 2, 1, 12, 0, 0xd0, 0x41, 3, 10, 0, 0, 0, 0, 1, 1, 6, 0, 0, 1,
    ]);
    program.extend(b"\x04\x04\x0c\0x\0y\0\0\0\0\0\x7f\xff\x04\0");
    let events: [(u8, [u8; 4], &[u8]); 4] = [
        (7, [1, 0, 0, 0x80], &variable),
        (4, [3, 0, 0, 0x80], &program),
        (9, [6, 0, 0, 0], b"\xec\x22\x3b\x8f\x04\0\0\0a\0\0\0"),
        (5, [6, 0, 0, 0x80], &[1; 108]),
    ];
    for (pcr, kind, data) in events {
        log.extend(event(
            &[&[pcr, 0, 0, 0], &kind, &[1, 0, 0, 0, 0x0b, 0], &[9; 32]],
            data,
        ));
    }
    log
}

/// Inputs for the target `name`.
pub fn of(name: &str) -> Vec<Vec<u8>> {
    let with = |number: u8, bytes: &[u8]| [&[number][..], bytes].concat();
    match name {
        "rpm_header" => vec![
            package_header("gzip", b""),
            super::targets::header(&[super::targets::text(1000, "x")]),
            dependencies(),
        ],
        "rpm_payload" => vec![with(5, &archive()), with(5, b"07070X00000001\0\x0012345\0\0\0")],
        "rpm_signature" => (0..4).map(|tag| with(tag, &signature())).collect(),
        "openpgp_keys" => vec![public_key(), b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n".to_vec()],
        "pe_image" => vec![pe_image()],
        "signed_messages" => signed_messages(),
        "gpt_table" => vec![gpt_table()],
        "fat_volume" => vec![fat_volume()],
        "qcow2_image" => vec![qcow2_image()],
        "erofs_volume" => vec![
            volume(erofs::Compression::None, |_| {}),
            volume(erofs::Compression::None, |options| options.chunk_size = Some(4096)),
            volume(erofs::Compression::Lz4, |_| {}),
            volume(erofs::Compression::Lz4, |options| options.fragments = true),
            volume(erofs::Compression::Lz4, |options| options.dedupe = true),
            volume(erofs::Compression::Zstd(3), |options| options.fragments = true),
        ],
        "event_log" => vec![event_log()],
        "remote_entry" => {
            let kind = "application/vnd.hullwright.remote-entry.v1+json";
            let signature = format!(r#"{{"keyid":"{}","sig":"AAEC"}}"#, "0123456789abcdef".repeat(4));
            let envelope = format!(r#"{{"payloadType":"{kind}","payload":"e30=","signatures":[{signature}]}}"#);
            vec![envelope.into_bytes()]
        }
        "recovery_record" => {
            let digest = "0123456789abcdef".repeat(4);
            let record = format!(
                r#"{{"version":1,"scheme":"RSA-OAEP-SHA256","escrow-key":"{digest}","machine":"unknown","wrapped":"AAECAw=="}}"#
            );
            vec![record.into_bytes()]
        }
        "vhd_footer" => {
            let footer = vhd::Footer {
                size: 64 << 20,
                uuid: uuid::Uuid::from_bytes([7; 16]),
                time: 1_700_000_000,
            };
            footer
                .to_bytes()
                .into_iter()
                .map(|bytes| bytes.to_vec())
                .collect()
        }
        "efi_signatures" => {
            let mut database = SignatureDatabase::default();
            database.add_certificate(uuid::Uuid::from_bytes([1; 16]), b"\x30\x05\x30\x03\x02\x01\x01");
            database.add_image(uuid::Uuid::from_bytes([1; 16]), [2; 32]);
            let update = AuthenticatedUpdate {
                time: Time::from_unix(1_700_000_000),
                signature: b"\x30\0".to_vec(),
                data: database.to_bytes(),
            };
            vec![database.to_bytes(), update.to_bytes()]
        }
        "efi_variables" => vec![variable_store()],
        "gvariant_value" => {
            let dictionary = Value::vardict([("a", Value::u32(1)), ("b", Value::str("text"))]);
            let typed = [b"a{sv}\0".to_vec(), gvariant::serialise(&dictionary)].concat();
            vec![typed, b"(tsay)\0".to_vec(), b"v\0\x01\0b".to_vec()]
        }
        "elf_file" | "kernel_module" => vec![elf()],
        "kernel_config" => vec![b"CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D=\"x\"\n".to_vec()],
        "module_index" => {
            let mut index = Index::default();
            for key in [&b"pci:v*"[..], b"pci:v1", b"usb"] {
                assert!(index.insert(key, b"module", 1).is_ok());
            }
            index.to_bytes().into_iter().collect()
        }
        "linker_cache" => {
            let entry = Entry {
                soname: b"libc.so.6".to_vec(),
                path: b"/usr/lib/libc.so.6".to_vec(),
                flags: 0x0303,
                hwcaps: Some((b"x86-64-v3".to_vec(), 3)),
            };
            let cache = Cache {
                entries: vec![entry],
                generator: b"x".to_vec(),
            };
            cache
                .to_bytes(&[b"libc.so.6".to_vec()].into())
                .into_iter()
                .collect()
        }
        "selinux_contexts" => vec![
            b"/usr/lib(64)?/.*\\.so(\\.[^/]*)*\t--\tsystem_u:object_r:lib_t:s0\n/x <<none>>\n".to_vec(),
            b"/run /var/run\n".to_vec(),
        ],
        "image_definition" => vec![
            include_bytes!("../image-defs/sample-container-host.toml").to_vec(),
            include_bytes!("../tests/golden/definitions/sample-container-host.toml").to_vec(),
        ],
        "lock_files" => vec![
            include_bytes!("../image-defs/sample-container-host.ids.lock").to_vec(),
            b"version = 1\n".to_vec(),
        ],
        "repository" => vec![
            b"<repomd xmlns='http://linux.duke.edu/metadata/repo'><data type='primary'><checksum type='sha256'>\
              0000000000000000000000000000000000000000000000000000000000000000</checksum>\
              <location href='repodata/p.xml.gz'/><size>5</size><open-size>7</open-size></data></repomd>"
                .to_vec(),
            b"<metadata xmlns='http://linux.duke.edu/metadata/common'><package type='rpm'><name>a&amp;b</name>\
              <arch>noarch</arch><version epoch='2' ver='1' rel='3'/><checksum type='sha256'>\
              0000000000000000000000000000000000000000000000000000000000000000</checksum><size package='10'/>\
              <location xml:base='https://host/' href='./a.rpm'/></package></metadata>"
                .to_vec(),
            b"[one]\nbaseurl=https://host/${x}\n https://other/\ngpgcheck=1\n".to_vec(),
        ],
        "package_lists" => vec![
            b"document: rpm-package-manifest\nversion: 0.2.0\ndata:\n  repositories:\n    - id: a\n  packages:\n    \
              noarch:\n      - name: b\n        repo_id: a\n        location: c\n        size: 1\n        evr: 1-1\n        \
              checksum: sha256:0000000000000000000000000000000000000000000000000000000000000000\n"
                .to_vec(),
            b"{\"packages\": {\"a\": {\"evra\": \"1:2-3.noarch\"}, \"b\": {\"evr\": \"1-1\"}}}".to_vec(),
            b"bash-0:5.2-1.x86_64 # shell\n2:zlib-1.3-1.i686\n".to_vec(),
        ],
        "mime_types" => vec![
            b"<mime-info xmlns='http://www.freedesktop.org/standards/shared-mime-info'><mime-type type='a/b'>\
              <comment xml:lang='de'>&#65;&amp;</comment><glob pattern='*.b' weight='9'/><alias type='a/c'/>\
              <magic priority='7'><match type='string' offset='0:9' value='\\0a' mask='0xff'><match type='big16' \
              offset='1' value='0x12'/></match></magic><treemagic><treematch path='x' type='file'/></treemagic>\
              <root-XML namespaceURI='u' localName='l'/><icon name='i'/></mime-type></mime-info>"
                .to_vec(),
        ],
        "account_files" => vec![
            b"u! a 5:users \"A b\" / -\ng b -\nm a b\nr - 1-5\n".to_vec(),
            b"root:x:0:0:root:/root:/bin/sh\n".to_vec(),
        ],
        "value_pack" => super::targets::kept::packs(),
        "static_delta" => super::targets::kept::deltas(),
        other => panic!("no seeds for {other}"),
    }
}

/// What the bytes of a whole package give each of the targets that read packages.
pub fn of_package(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut inputs = Vec::new();
    let mut rest = bytes;
    let Ok(preamble) = read_preamble(&mut rest) else {
        return inputs;
    };
    inputs.push(("rpm_header", preamble.header.raw().to_vec()));
    inputs.push(("rpm_header", preamble.signature.raw().to_vec()));
    for (number, (tag, _)) in (0_u8..).zip(super::targets::SIGNATURES) {
        if let Some(value) = preamble.signature.value(tag) {
            let bytes = value.bytes.strip_suffix(&[0]).unwrap_or(value.bytes);
            inputs.push(("rpm_signature", [&[number], bytes].concat()));
        }
    }
    let magics: [(&[u8], u8); 4] = [
        (&[0x1f, 0x8b], 0),
        (b"BZh", 1),
        (&[0xfd, b'7', b'z'], 3),
        (&[0x28, 0xb5, 0x2f, 0xfd], 4),
    ];
    let number = magics
        .iter()
        .find(|(magic, _)| rest.starts_with(magic))
        .map_or(2, |it| it.1);
    if rest.len() < 1 << 16 {
        inputs.push(("rpm_payload", [&[number], rest].concat()));
    }
    inputs
}

/// A key, its certificate, and messages that it signed.
fn signed_messages() -> Vec<Vec<u8>> {
    let prefix = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
    let block = Block {
        label: "PRIVATE KEY".to_owned(),
        encrypted: false,
        bytes: [&prefix[..], &[7; 32]].concat().into(),
    };
    let Ok(key) = PemKey::from_block(&block) else {
        panic!("the key is not read");
    };
    let sign = |message: &[u8]| key.sign(message).unwrap_or_default();
    let new = NewCertificate {
        common_name: "Fuzzer",
        public_key: key.public_key(),
        scheme: key.scheme(),
        serial: [7; 16],
        validity: (0, 1 << 32),
        code_signing: true,
    };
    let der = new.attach(&sign(&new.to_be_signed()));
    let Ok(certificate) = Certificate::from_der(&der) else {
        panic!("the certificate is not read");
    };
    let detached = SignedData {
        certificates: vec![&certificate],
        ..SignedData::detached(b"content", &certificate)
    };
    let image = authenticode::prepare(&[7; 32], &certificate, &[]);
    let messages = [detached.prepare(), image].map(|message| message.attach(&sign(message.to_sign())));
    let pem = pem::encode(&block.label, &block.bytes).as_bytes().to_vec();
    let spki = key.public_key().spki().to_vec();
    [vec![der, pem, spki], messages.to_vec()].concat()
}

/// An EFI program of one section.
fn pe_image() -> Vec<u8> {
    let mut image = vec![0; 0x400];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &0x80_u32.to_le_bytes());
    put(0x80, b"PE\0\0\x64\x86\x01");
    put(0x94, &[0xf0, 0, 0x0e, 0x02]);
    put(0x98, &[0x0b, 0x02]);
    put(0x98 + 60, &0x200_u32.to_le_bytes());
    put(0x98 + 108, &16_u32.to_le_bytes());
    let section = 0x98 + 0xf0;
    put(section, b".sbat");
    put(section + 8, &0x100_u32.to_le_bytes());
    put(section + 12, &0x1000_u32.to_le_bytes());
    put(section + 16, &0x200_u32.to_le_bytes());
    put(section + 20, &0x200_u32.to_le_bytes());
    image
}

/// An ELF file of one section beside that of names.
fn elf() -> Vec<u8> {
    let mut file = vec![0; 0x40];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[0x10..0x14].copy_from_slice(&[1, 0, 0x3e, 0]);
    file[0x28] = 0x80;
    file[0x34] = 0x40;
    file[0x3a..0x3f].copy_from_slice(&[0x40, 0, 3, 0, 1]);
    file.extend(b"\0.shstrtab\0.modinfo\0name=x\0depends=a,b\0");
    file.resize(0x80, 0);
    let section = |name: u32, kind: u32, at: u64, size: u64| {
        let mut bytes = [name.to_le_bytes(), kind.to_le_bytes()].concat();
        bytes.extend([0; 16]);
        bytes.extend(at.to_le_bytes());
        bytes.extend(size.to_le_bytes());
        bytes.resize(0x40, 0);
        bytes
    };
    file.extend(section(0, 0, 0, 0));
    file.extend(section(1, 3, 0x40, 20));
    file.extend(section(11, 1, 0x54, 19));
    file
}
