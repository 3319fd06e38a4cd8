//! `update-ca-trust` of Fedora's ca-certificates: the bundles of certificates that programs trust, in
//! `/etc/pki/ca-trust/extracted`. Also `ca-legacy install`, which that package calls before it.
//!
//! Which bundles there are differs between releases: one is made where the tree's own script names it. Sources that
//! share a directory are read in the order of their names; p11-kit reads them in the file system's.

use super::{CacheError, Report, place, program, put, put_link, read};
use crate::formats::jks;
use crate::formats::p11kit::{self, Entry, Hashed, Object, Place, Purpose, Store};
use crate::tree::path::TreePath;
use crate::tree::{Kind, Meta, Node, Origin, Tree};

pub const COMMAND: &str = "update-ca-trust";
const ORIGIN: &str = "certificates that the system trusts";
/// Directories of sources, as p11-kit is built to read them.
const SOURCES: [&str; 2] = ["/etc/pki/ca-trust/source", "/usr/share/pki/ca-trust-source"];
const EXTRACTED: &str = "/etc/pki/ca-trust/extracted";
const HASHED: &str = "pem/directory-hash";
/// Where OpenSSL looks for a certificate by its hash.
const OPENSSL_DIRECTORY: &str = "/etc/pki/tls/certs";
/// Links in the hashed directory, for programs that expect Debian's or an older Fedora's names.
const BUNDLE_LINKS: [&str; 2] = ["ca-certificates.crt", "ca-bundle.crt"];

const LEGACY_LINK: &str = "/etc/pki/ca-trust/source/ca-bundle.legacy.crt";
const LEGACY_CONFIG: &str = "/etc/pki/ca-trust/ca-legacy.conf";
const LEGACY_BUNDLES: &str = "/usr/share/pki/ca-trust-legacy";

/// Extracts the bundles, dated `time`, which is also the time of entries in Java's key store.
///
/// # Errors
/// Where a source cannot be read, or is a damaged p11-kit file.
pub fn run(tree: &mut Tree, time: i64) -> Result<Option<Report>, CacheError> {
    let Some((path, script)) = program(tree, COMMAND) else {
        return Ok(None);
    };
    let script = read(&path, script, "a script")?;
    let names = |what: &str| script.windows(what.len()).any(|part| part == what.as_bytes());
    let mut report = Report {
        command: COMMAND,
        written: Vec::new(),
        remarks: Vec::new(),
        not_done: None,
    };
    legacy(tree, time, &mut report)?;
    let Some(store) = load(tree, &mut report)? else {
        report.not_done = Some("there is no certificate in the tree");
        return Ok(Some(report));
    };

    let servers = store.anchors(Purpose::ServerAuth);
    let bundle = |purpose| move |store: &Store| p11kit::pem_bundle(&store.anchors(purpose));
    type Make<'a> = &'a dyn Fn(&Store) -> Vec<u8>;
    let outputs: [(&str, Make<'_>); 6] = [
        ("openssl/ca-bundle.trust.crt", &|store| {
            p11kit::openssl_bundle(&store.certificates())
        }),
        ("pem/tls-ca-bundle.pem", &bundle(Purpose::ServerAuth)),
        ("pem/email-ca-bundle.pem", &bundle(Purpose::Email)),
        ("pem/objsign-ca-bundle.pem", &bundle(Purpose::CodeSigning)),
        ("java/cacerts", &|_| {
            jks::write(servers.iter().map(|entry| (entry.name(), entry.der())), time)
        }),
        ("edk2/cacerts.bin", &|_| p11kit::edk2_cacerts(&servers)),
    ];
    for (name, make) in outputs {
        if names(name) {
            let path = below(EXTRACTED, name);
            put(tree, &path, 0o444, time, make(&store), ORIGIN)?;
            report.written.push(path);
        }
    }
    if names(HASHED) {
        let links = BUNDLE_LINKS
            .into_iter()
            .filter(|link| names(&format!("directory-hash/{link}")));
        hashed(tree, &servers, links, names(OPENSSL_DIRECTORY), time, &mut report)?;
    }
    let extracted = TreePath::literal(EXTRACTED);
    if !report.written.iter().any(|path| path.starts_with(&extracted)) {
        report.not_done = Some("the tree's own script names no bundle that the composer can make");
    }
    Ok(Some(report))
}

fn below(directory: &'static str, path: &str) -> TreePath {
    let names = path.split('/');
    names.fold(TreePath::literal(directory), |path, name| {
        path.join_name(name.as_bytes())
    })
}

/// The link to the bundle of certificates that are still trusted for old software's sake, or not.
fn legacy(tree: &mut Tree, time: i64, report: &mut Report) -> Result<(), CacheError> {
    let link = TreePath::literal(LEGACY_LINK);
    if program(tree, "ca-legacy").is_none() || tree.get(&place(tree, &link)).is_some() {
        return Ok(());
    }
    let config = TreePath::literal(LEGACY_CONFIG);
    let config = match tree.file(&config) {
        Some(file) => read(&config, file, "a configuration file")?,
        None => Vec::new(),
    };
    let disabled = config.split(|&byte| byte == b'\n').any(|line| {
        let mut parts = line.splitn(2, |&byte| byte == b'=');
        let key = parts.next().unwrap_or_default().trim_ascii_end();
        key.eq_ignore_ascii_case(b"legacy")
            && parts
                .next()
                .is_some_and(|value| value.trim_ascii().eq_ignore_ascii_case(b"disable"))
    });
    let name = if disabled { "disable" } else { "default" };
    let target = format!("{LEGACY_BUNDLES}/ca-bundle.legacy.{name}.crt");
    put_link(tree, &link, time, target.as_bytes(), ORIGIN)?;
    report.written.push(link);
    Ok(())
}

/// All sources; `None` where there is not one certificate.
fn load(tree: &Tree, report: &mut Report) -> Result<Option<Store>, CacheError> {
    let mut store = Store::default();
    let mut remarks = Vec::new();
    for source in SOURCES {
        let mut objects = Vec::new();
        for (subdirectory, place) in [
            ("", Place::Neutral),
            ("/anchors", Place::Anchors),
            ("/blocklist", Place::Blocklist),
            ("/blacklist", Place::Blocklist),
        ] {
            let path = subdirectory.trim_start_matches('/');
            let directory = if path.is_empty() {
                TreePath::literal(source)
            } else {
                below(source, path)
            };
            load_directory(tree, &directory, place, &mut objects, &mut remarks)?;
        }
        store.add_token(objects);
    }
    let remarks = remarks.iter();
    report.remarks = remarks
        .map(|remark: &p11kit::Remark| format!("{}:{}: {}", remark.file, remark.line, remark.what))
        .collect();
    Ok((!store.certificates().is_empty()).then_some(store))
}

fn load_directory(
    tree: &Tree,
    directory: &TreePath,
    place: Place,
    objects: &mut Vec<Object>,
    remarks: &mut Vec<p11kit::Remark>,
) -> Result<(), CacheError> {
    let children = tree
        .resolve(directory)
        .and_then(|real| tree.get(&real)?.children());
    for name in children.into_iter().flatten().map(|(name, _)| name) {
        let path = directory.join_name(name);
        if let Some(file) = tree.file(&path) {
            let text = read(&path, file, "a file of certificates")?;
            objects.extend(p11kit::parse(&path.to_string(), &text, place, remarks)?);
        }
    }
    Ok(())
}

/// The directory in which certificates are found by the hash of their subject; what was in it goes.
fn hashed(
    tree: &mut Tree,
    servers: &[&Entry],
    bundle_links: impl Iterator<Item = &'static str>,
    for_openssl: bool,
    time: i64,
    report: &mut Report,
) -> Result<(), CacheError> {
    let directory = below(EXTRACTED, HASHED);
    let real = tree.resolve(&directory).unwrap_or_else(|| directory.clone());
    tree.make_dirs(&real, time)?
        .retain(|_, node| matches!(node.kind, Kind::Dir(_)));
    if let Some(node) = tree.get_mut(&real) {
        node.meta = Meta::root(0o555, time);
    }
    for entry in p11kit::directory_hash(servers) {
        match entry {
            Hashed::Certificate { name, pem } => {
                let path = real.join(&name).map_err(|_| CacheError::CertificateName {
                    label: String::from_utf8_lossy(&name).into_owned(),
                })?;
                let kind = Kind::file(pem);
                let node = Node::new(Meta::root(0o444, time), kind, Origin::Composer(ORIGIN));
                tree.insert(&path, node)?;
            }
            Hashed::Link { name, target } => {
                put_link(tree, &real.join_name(&name), time, &target, ORIGIN)?;
                let path = TreePath::literal(OPENSSL_DIRECTORY).join_name(&name);
                if for_openssl && tree.get(&place(tree, &path)).is_none() {
                    let target = directory.join_name(&target);
                    put_link(tree, &path, time, target.as_bytes(), ORIGIN)?;
                    report.written.push(path);
                }
            }
        }
    }
    for name in bundle_links {
        let path = real.join_name(name.as_bytes());
        put_link(tree, &path, time, b"../tls-ca-bundle.pem", ORIGIN)?;
    }
    report.written.push(directory);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree;
    use super::*;
    use crate::formats::testing::{run as run_program, tool};

    /// As Fedora 43 has it, in short.
    const SCRIPT: &[u8] = b"#!/bin/sh
DEST=/etc/pki/ca-trust/extracted
trust extract --format=openssl-bundle --filter=certificates --overwrite --comment $DEST/openssl/ca-bundle.trust.crt
trust extract --format=pem-bundle --filter=ca-anchors --overwrite --comment --purpose server-auth $DEST/pem/tls-ca-bundle.pem
trust extract --format=java-cacerts --filter=ca-anchors --overwrite --purpose server-auth $DEST/java/cacerts
trust extract --format=pem-directory-hash --filter=ca-anchors --overwrite --purpose server-auth $DEST/pem/directory-hash
ln -s ../tls-ca-bundle.pem $DEST/pem/directory-hash/ca-bundle.crt
for link in $DEST/pem/directory-hash/*.0; do ln -s $(readlink -f $link) /etc/pki/tls/certs/; done
";

    fn authority() -> String {
        let arguments =
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout /dev/null -days 9";
        let arguments = arguments.split(' ').chain(["-subj", "/CN=Own Root"]);
        let text = run_program("openssl", arguments);
        // It also shows its progress.
        let end = "-----END CERTIFICATE-----\n";
        let (start, len) = (
            text.find("-----BEGIN").unwrap(),
            text.find(end).unwrap() + end.len(),
        );
        text[start..len].to_owned()
    }

    #[test]
    fn what_the_script_names_is_extracted() {
        if !tool("openssl") {
            return;
        }
        let pem = authority();
        let mut tree = tree(&[
            ("/usr/bin/update-ca-trust", SCRIPT),
            ("/usr/bin/ca-legacy", b"#!/bin/sh\n"),
            ("/etc/pki/ca-trust/ca-legacy.conf", b"# x\nlegacy = disable\n"),
            ("/etc/pki/ca-trust/source/README", b"read me"),
            ("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", b""),
            ("/etc/pki/ca-trust/extracted/pem/directory-hash/old.pem", b""),
            (
                "/etc/pki/tls/certs/ca-bundle.crt",
                b"->/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
            ),
            ("/usr/share/pki/ca-trust-source/anchors/own.pem", pem.as_bytes()),
        ]);
        let report = run(&mut tree, 9).unwrap().unwrap();
        assert_eq!(report.remarks, Vec::<String>::new());
        let written: Vec<_> = report.written.iter().map(ToString::to_string).collect();
        let extracted = |path: &str| format!("{EXTRACTED}/{path}");
        assert_eq!(written[0], LEGACY_LINK);
        assert_eq!(written[1], extracted("openssl/ca-bundle.trust.crt"));
        assert_eq!(written[2], extracted("pem/tls-ca-bundle.pem"));
        assert_eq!(written[3], extracted("java/cacerts"));
        assert_eq!(written[6], extracted("pem/directory-hash"));
        assert_eq!(written.len(), 7);

        let text = |path: &str| {
            let file = tree.file(&TreePath::new(path).unwrap()).unwrap();
            String::from_utf8(file.blob.read_all().unwrap()).unwrap()
        };
        // Through the links that openssl and other programs follow.
        assert_eq!(
            text("/etc/pki/tls/certs/ca-bundle.crt"),
            format!("# Own Root\n{pem}")
        );
        assert_eq!(text(&written[4]), pem);
        assert_eq!(text(&extracted("pem/directory-hash/Own_Root.pem")), pem);
        assert_eq!(
            text(&extracted("pem/directory-hash/ca-bundle.crt")),
            format!("# Own Root\n{pem}")
        );
        let get = |path: &str| tree.get(&TreePath::new(path).unwrap());
        assert!(get(&extracted("pem/directory-hash/old.pem")).is_none());
        assert!(get(&extracted("pem/email-ca-bundle.pem")).is_none());
        assert_eq!(get(&extracted("java/cacerts")).unwrap().meta.mode, 0o444);
        assert_eq!(get(&extracted("pem/directory-hash")).unwrap().meta.mode, 0o555);
        let legacy = get(LEGACY_LINK).unwrap();
        assert!(
            matches!(&legacy.kind, Kind::Symlink(target) if target.ends_with(b"ca-bundle.legacy.disable.crt"))
        );
    }

    #[test]
    fn without_script_or_certificates_nothing_is_extracted() {
        let mut bare = tree(&[
            ("/usr/bin/update-ca-trust", SCRIPT),
            ("/etc/pki/ca-trust/source/README", b"read me"),
        ]);
        let report = run(&mut bare, 9).unwrap().unwrap();
        assert_eq!(report.not_done, Some("there is no certificate in the tree"));
        assert_eq!(report.written, []);
        let mut other = tree(&[(
            "/usr/share/pki/ca-trust-source/x.p11-kit",
            b"[p11-kit-object-v1]\n",
        )]);
        assert_eq!(run(&mut other, 9).unwrap(), None);
    }

    #[test]
    fn a_damaged_source_is_named() {
        let mut damaged = tree(&[
            ("/usr/bin/update-ca-trust", SCRIPT),
            (
                "/usr/share/pki/ca-trust-source/x.p11-kit",
                b"[p11-kit-object-v1]\ntrusted: maybe\n",
            ),
        ]);
        assert_eq!(
            run(&mut damaged, 9).unwrap_err().to_string(),
            "the certificates that the system trusts cannot be read: /usr/share/pki/ca-trust-source/x.p11-kit:2: the \
             value is neither true nor false"
        );
    }
}
