use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::formats::jks;
use crate::formats::testing::{run, tool};
use crate::testing;

/// 2026-01-01, for key stores.
const TIME: i64 = 1_767_225_600;
const MOZILLA: &str = "/usr/share/ca-certificates/mozilla";

/// Mozilla's roots as Debian ships them: name and PEM.
fn roots() -> Vec<(String, String)> {
    let mut roots: Vec<_> = fs::read_dir(MOZILLA)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().replace('_', " ");
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    roots.sort();
    roots
}

fn der_of(pem: &str) -> Vec<u8> {
    let lines = pem.lines().filter(|line| !line.starts_with("-----"));
    STANDARD.decode(lines.collect::<String>()).unwrap()
}

fn quoted(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("%{byte:02x}"));
    format!("\"{}\"", digits.collect::<String>())
}

/// A section that attaches the extension `id` with `value` to the key of `der`.
fn attached(der: &[u8], id: &[u8], value: &[u8]) -> String {
    let extension = [
        der::encode(der::OID, id),
        der::encode(der::BOOLEAN, &[0xff]),
        der::encode(der::OCTET_STRING, value),
    ]
    .concat();
    let key = STANDARD.encode(Certificate::parse(der).unwrap().public_key);
    format!(
        "[p11-kit-object-v1]\nclass: x-certificate-extension\nobject-id: 2.5.29.{}\nvalue: {}\nmodifiable: false\n\
         -----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----\n\n",
        id[2],
        quoted(&der::encode(der::SEQUENCE, &extension))
    )
}

fn usage(purposes: &[&[u8]]) -> Vec<u8> {
    let purposes = purposes.iter().map(|purpose| der::encode(der::OID, purpose));
    der::encode(der::SEQUENCE, &purposes.collect::<Vec<_>>().concat())
}

/// A bundle like Fedora's `ca-bundle.trust.p11-kit`, with every oddity that the format allows.
fn bundle(roots: &[(String, String)]) -> String {
    let known = extract::KNOWN_PURPOSES;
    let mut text = String::from("# This is a bundle.\n\n");
    for (index, (name, pem)) in roots.iter().enumerate() {
        let der = der_of(pem);
        text.push_str("[p11-kit-object-v1]\n");
        match index % 10 {
            // Without a label, the certificate's own name counts.
            0 => {}
            1 => text.push_str("label: \"One%20and%20the same\"\n"),
            2 => text.push_str("  label :\t\"\"  \n"),
            _ => text.push_str(&format!("label: \"{name}\"\n")),
        }
        text.push_str(match index % 17 {
            5 => "x-distrusted: true\n",
            6 => "trusted: false\n",
            7 => "trusted: true\ncertificate-category: other-entry\n",
            _ => "trusted: true\nnss-mozilla-ca-policy: true\nmodifiable: false\n",
        });
        text.push_str(pem);
        text.push('\n');
        let purposes = match index % 7 {
            0 => usage(&known[..1]),
            1 => usage(&known[2..4]),
            2 => usage(&[known[3], known[0]]),
            3 => usage(&[ANY_PURPOSE]),
            4 => usage(&[RESERVED_PURPOSE]),
            _ => continue,
        };
        text.push_str(&attached(&der, oid::EXTENDED_KEY_USAGE, &purposes));
        if index % 5 == 0 {
            text.push_str(&attached(
                &der,
                oid::SUBJECT_KEY_ID,
                &der::encode(der::OCTET_STRING, b"key"),
            ));
        }
    }
    // A certificate that is no authority by itself becomes one, an authority ceases to be one.
    let odd = der_of(&roots[20 % roots.len()].1);
    text.push_str(&attached(
        &odd,
        oid::BASIC_CONSTRAINTS,
        &der::encode(der::SEQUENCE, &[]),
    ));
    text.push_str("[other-section]\nwhat: ever\n[p11-kit-object-v1]\nclass: data\nvalue: \"x\"\n");
    let distrusted = der_of(&roots[31 % roots.len()].1);
    let distrusted = Certificate::parse(&distrusted).unwrap();
    text.push_str(&format!(
        "[p11-kit-object-v1]\nclass: certificate\ncertificate-type: x-509\nissuer: {}\nserial-number: {}\nx-distrusted: true\n",
        quoted(distrusted.issuer),
        quoted(distrusted.serial)
    ));
    text
}

/// Runs `trust extract` as somebody whose configuration, below `home`, points to `tokens`.
fn trust(home: &Path, arguments: &[&str]) {
    let mut command = if nix::unistd::geteuid().is_root() {
        // For root, p11-kit reads no configuration of a user.
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "faketime"]);
        command
    } else {
        Command::new("faketime")
    };
    let output = command
        .args(["-f", "2026-01-01 00:00:00", "trust", "extract", "--overwrite"])
        .args(arguments)
        .env("HOME", home)
        .env_remove("XDG_CONFIG_HOME")
        .env("TZ", "UTC")
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {text}");
}

/// Files and links below `directory`.
fn listing(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let content = match fs::read_link(&path) {
            Ok(target) => format!("-> {}", target.display()).into_bytes(),
            Err(_) => fs::read(&path).unwrap(),
        };
        (name, content)
    });
    entries.collect()
}

fn ours(hashed: Vec<Hashed>) -> BTreeMap<String, Vec<u8>> {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    hashed
        .into_iter()
        .map(|entry| match entry {
            Hashed::Certificate { name, pem } => (text(name), pem),
            Hashed::Link { name, target } => (text(name), [b"-> ", target.as_slice()].concat()),
        })
        .collect()
}

#[test]
fn bundles_are_those_of_trust_extract() {
    if !tool("trust") || !tool("faketime") || !tool("openssl") {
        return;
    }
    let roots = roots();
    assert!(roots.len() > 100, "{} roots", roots.len());
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    open(root);

    // Files are read in the order of the directory, which p11-kit leaves to chance: one file in each.
    let trusted = |name: &str, index: usize, arguments: &[&str]| {
        let (from, to) = (root.join("in.pem"), root.join("out.pem"));
        fs::write(&from, &roots[index].1).unwrap();
        let files = [
            "x509",
            "-in",
            from.to_str().unwrap(),
            "-trustout",
            "-setalias",
            name,
            "-out",
        ];
        run(
            "openssl",
            files.iter().chain(&[to.to_str().unwrap()]).chain(arguments),
        );
        fs::read(to).unwrap()
    };
    let own = run(
        "openssl",
        [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            "/dev/null",
            "-days",
            "9",
            "-utf8",
            "-multivalue-rdn",
            "-subj",
            "/C=DE/O=  Große   Sache /OU=b+CN=Ä  B/L=x",
            "-addext",
            "extendedKeyUsage=serverAuth,clientAuth",
        ],
    );
    let (all, rest) = roots.split_at(roots.len() - 8);
    let files: Vec<(&str, Place, Vec<u8>)> = vec![
        ("1/both.p11-kit", Place::Neutral, bundle(all).into_bytes()),
        (
            "1/anchors/pem.crt",
            Place::Anchors,
            [&rest[0].1, "junk\n", &rest[1].1, &own].concat().into_bytes(),
        ),
        (
            "1/blocklist/x.crt",
            Place::Blocklist,
            roots[44].1.clone().into_bytes(),
        ),
        ("2/anchors/der.cer", Place::Anchors, der_of(&rest[2].1)),
        ("2/README", Place::Neutral, b"read me\n".to_vec()),
        (
            "3/x.pem",
            Place::Neutral,
            trusted(
                "Ein Name",
                all.len() + 3,
                &["-addtrust", "serverAuth", "-addreject", "emailProtection"],
            ),
        ),
        (
            "4/x.pem",
            Place::Neutral,
            trusted("rejected", all.len() + 4, &["-addreject", "serverAuth"]),
        ),
        (
            "4/anchors/x.pem",
            Place::Anchors,
            trusted("again", 3, &["-addtrust", "emailProtection"]),
        ),
        (
            "5/blocklist/x.p11-kit",
            Place::Blocklist,
            bundle(&roots[50..53]).into_bytes(),
        ),
        ("6/x.crt", Place::Anchors, rest[5].1.clone().into_bytes()),
    ];
    let mut store = Store::default();
    let mut remarks = Vec::new();
    let mut paths = Vec::<PathBuf>::new();
    let mut objects = Vec::new();
    for (index, (name, place, text)) in files.iter().enumerate() {
        let path = root.join("tokens").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        objects.extend(parse(name, text, *place, &mut remarks).unwrap());
        let token = &name[..1];
        // The last token is a file by itself, which makes it a place for anchors.
        let path = if token == "6" {
            path
        } else {
            root.join("tokens").join(token)
        };
        if files.get(index + 1).is_none_or(|next| !next.0.starts_with(token)) {
            store.add_token(std::mem::take(&mut objects));
            paths.push(path);
        }
    }
    assert_eq!(remarks, []);

    let modules = root.join("home/.config/pkcs11/modules");
    fs::create_dir_all(&modules).unwrap();
    fs::write(modules.join("../pkcs11.conf"), "user-config: merge\n").unwrap();
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    let module = format!(
        "module: p11-kit-trust.so\ntrust-policy: yes\nx-init-reserved: paths='{}'\n",
        paths.join(":")
    );
    fs::write(modules.join("p11-kit-trust.module"), module).unwrap();

    let out = root.join("out");
    fs::create_dir(&out).unwrap();
    open(&out);
    let extracted = |arguments: &[&str]| {
        let path = out.join("file");
        let arguments = [arguments, &[path.to_str().unwrap()]].concat();
        trust(&root.join("home"), &arguments);
        fs::read(path).unwrap()
    };
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for (purpose, name, least) in [
        (Purpose::ServerAuth, "server-auth", 60),
        (Purpose::Email, "email", 60),
        (Purpose::CodeSigning, "code-signing", 40),
    ] {
        let anchors = store.anchors(purpose);
        assert!(anchors.len() > least, "{name}: {}", anchors.len());
        let filter = ["--filter=ca-anchors", "--purpose", name];
        let theirs = extracted(&[&filter[..], &["--format=pem-bundle", "--comment"]].concat());
        similar_asserts(&shown(&theirs), &shown(&pem_bundle(&anchors)), name);
        let theirs = extracted(&[&filter[..], &["--format=edk2-cacerts"]].concat());
        assert!(theirs == edk2_cacerts(&anchors), "{name}: edk2");
        let theirs = extracted(&[&filter[..], &["--format=java-cacerts"]].concat());
        let pairs = anchors.iter().map(|entry| (entry.name(), entry.der()));
        assert!(theirs == jks::write(pairs, TIME), "{name}: java");

        let hashed = out.join(name);
        let last = ["--format=pem-directory-hash", hashed.to_str().unwrap()];
        trust(&root.join("home"), &[&filter[..], &last].concat());
        let (theirs, ours) = (listing(&hashed), ours(directory_hash(&anchors)));
        assert_eq!(theirs.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>());
        assert!(theirs == ours, "{name}: hashed directory");
    }
    let theirs = extracted(&["--filter=certificates", "--format=openssl-bundle", "--comment"]);
    let certificates = store.certificates();
    assert!(certificates.len() > roots.len() - 4, "{}", certificates.len());
    similar_asserts(&shown(&theirs), &shown(&openssl_bundle(&certificates)), "openssl");
}

/// Fails with the first part that differs.
fn similar_asserts(theirs: &str, ours: &str, what: &str) {
    for (theirs, ours) in theirs.split("\n\n").zip(ours.split("\n\n")) {
        assert_eq!(theirs, ours, "{what}");
    }
    assert_eq!(theirs.len(), ours.len(), "{what}");
}

#[test]
fn damaged_files_are_refused_with_their_line() {
    let table: [(&[u8], &str); 9] = [
        (
            b"[p11-kit-object-v1]\nclass certificate\n",
            "f:2: neither a section nor `name: value`",
        ),
        (
            b"label: \"x\"\n[p11-kit-object-v1]\n",
            "f:1: an attribute outside of any section",
        ),
        (
            b"\n[p11-kit-object-v1]\nlabel: \"x\"\n",
            "f:2: the section says no class and holds no certificate",
        ),
        (
            b"[p11-kit-object-v1]\ntrusted: yes\n",
            "f:2: the value is neither true nor false",
        ),
        (
            b"[p11-kit-object-v1]\nlabel: \"%4\"\n",
            "f:2: the value is not a quoted string",
        ),
        (
            b"[p11-kit-object-v1]\n[x\n",
            "f:2: a section's name is not closed by `]`",
        ),
        (
            b"[p11-kit-object-v1]\n-----BEGIN CERTIFICATE-----\n",
            "f:2: a PEM block without its end",
        ),
        (
            b"[p11-kit-object-v1]\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "f:2: the block is not a certificate",
        ),
        (
            b"[p11-kit-object-v1]\n-----BEGIN CERTIFICATE-----\n####\n-----END CERTIFICATE-----\nx",
            "f:2: a PEM block that is not base64",
        ),
    ];
    for (text, expected) in table {
        let error = parse("f", text, Place::Neutral, &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn certificates_that_are_none_are_left_out_and_told() {
    let text = b"\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n-----BEGIN X-----\nAAAA\n-----END X-----\n";
    let mut remarks = Vec::new();
    let objects = parse("f", text, Place::Anchors, &mut remarks).unwrap();
    assert!(objects.is_empty());
    assert_eq!(remarks.len(), 1);
    assert_eq!(
        (remarks[0].line, remarks[0].what),
        (2, "not a certificate: left out")
    );
}

proptest::proptest! {
    #[test]
    fn any_cut_and_changed_file_is_read_or_refused(at in 0usize..100_000, byte: u8, cut in 0usize..100_000) {
        if !Path::new(MOZILLA).is_dir() {
            testing::skip("/usr/share/ca-certificates is missing");
            return Ok(());
        }
        let roots = roots();
        let mut text = bundle(&roots[..3]).into_bytes();
        let (len, first) = (text.len(), der_of(&roots[0].1));
        text[at % len] = byte;
        text.truncate(len - cut % len);
        let mut store = Store::default();
        store.add_token(parse("f", &text, Place::Neutral, &mut Vec::new()).unwrap_or_default());
        directory_hash(&store.anchors(Purpose::ServerAuth));
        let mut der = first;
        let len = der.len();
        der[at % len] = byte;
        der.truncate(len - cut % len);
        let mut store = Store::default();
        store.add_token(parse("f", &der, Place::Anchors, &mut Vec::new()).unwrap_or_default());
        directory_hash(&store.anchors(Purpose::Email));
    }
}
