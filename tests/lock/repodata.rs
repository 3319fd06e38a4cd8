//! Repositories: every compression, hostile and damaged metadata.

use std::fs;
use std::process::Command;

use hullwright::rpmset::{Location, SourceKind};
use hullwright::store::Digest;

use crate::bench::{Bench, says};
use crate::server::{Fault, Server};
use crate::support::tool;

#[test]
fn a_directory_and_its_repository_give_the_same_packages_whatever_the_compression() {
    let (Some(bench), Some(rpm)) = (Bench::new(6), tool("rpm")) else {
        return;
    };
    let plain = bench.locked(&["rpms"]);
    assert_eq!(plain.sources[0].kind, SourceKind::Directory);
    assert_eq!(plain.packages.len(), 6);
    let text = fs::read(bench.path("set.lock.toml")).unwrap();
    bench.locked(&["rpms"]);
    assert_eq!(
        fs::read(bench.path("set.lock.toml")).unwrap(),
        text,
        "the same bytes again"
    );
    let mut expected: Vec<_> = bench
        .packages()
        .iter()
        .map(|path| {
            let query = Command::new(&rpm)
                .args(["-qp", "--nosignature", "--qf", "%{NEVRA}"])
                .arg(path)
                .output()
                .unwrap();
            (
                String::from_utf8(query.stdout).unwrap(),
                Digest::of(&fs::read(path).unwrap()),
            )
        })
        .collect();
    expected.sort();
    let mut found: Vec<_> = plain
        .packages
        .iter()
        .map(|it| (it.nevra.clone(), it.sha256))
        .collect();
    found.sort();
    assert_eq!(found, expected);

    for compression in ["gz", "xz", "bz2"] {
        bench.createrepo(&["--general-compress-type", compression]);
        let locked = bench.locked(&["rpms"]);
        assert_eq!(locked.sources[0].kind, SourceKind::Repository, "{compression}");
        assert_eq!(locked.packages, plain.packages, "{compression}");
    }
    bench.createrepo(&["--checksum", "sha512"]);
    assert_eq!(bench.locked(&["rpms/repodata"]).packages, plain.packages);
    for (name, pack) in [
        (
            "primary.xml",
            &(|bytes: &[u8]| bytes.to_vec()) as &dyn Fn(&[u8]) -> Vec<u8>,
        ),
        ("primary.xml.zst", &|bytes: &[u8]| {
            zstd::encode_all(bytes, 3).unwrap()
        }),
    ] {
        replace_primary(&bench, name, pack, |text| text);
        assert_eq!(bench.locked(&["rpms"]).packages, plain.packages, "{name}");
    }
}

/// Puts another list of packages into `rpms/`, changed by `change` and packed by `pack`, under a sound `repomd.xml`.
fn replace_primary(
    bench: &Bench,
    name: &str,
    pack: &dyn Fn(&[u8]) -> Vec<u8>,
    change: impl Fn(String) -> String,
) {
    bench.createrepo(&["--simple-md-filenames", "--general-compress-type", "gz"]);
    let repodata = bench.path("rpms/repodata");
    let packed = fs::read(repodata.join("primary.xml.gz")).unwrap();
    fs::remove_file(repodata.join("primary.xml.gz")).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&packed[..]), &mut text).unwrap();
    let old = (text.clone(), packed);
    let text = change(text);
    let packed = pack(text.as_bytes());
    fs::write(repodata.join(name), &packed).unwrap();
    let mut repomd = fs::read_to_string(repodata.join("repomd.xml")).unwrap();
    for (from, to) in [
        (Digest::of(&old.1).to_string(), Digest::of(&packed).to_string()),
        (
            Digest::of(old.0.as_bytes()).to_string(),
            Digest::of(text.as_bytes()).to_string(),
        ),
        (
            format!("<size>{}<", old.1.len()),
            format!("<size>{}<", packed.len()),
        ),
        (
            format!("<open-size>{}<", old.0.len()),
            format!("<open-size>{}<", text.len()),
        ),
        ("primary.xml.gz".to_owned(), name.to_owned()),
    ] {
        assert!(from == to || repomd.contains(&from), "{from} in {repomd}");
        repomd = repomd.replace(&from, &to);
    }
    fs::write(repodata.join("repomd.xml"), repomd).unwrap();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn hostile_lists_are_refused() {
    let Some(bench) = Bench::new(2) else { return };
    let name = bench.packages()[0]
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let href = format!("href=\"{name}\"");
    let sub = |from: &str, to: &str| {
        let (from, to) = (from.to_owned(), to.to_owned());
        move |text: String| {
            assert!(text.contains(&from), "{from}");
            text.replacen(&from, &to, 1)
        }
    };
    type Change = Box<dyn Fn(String) -> String>;
    let cases: [(Change, &[&str]); 8] = [
        (
            Box::new(sub(&href, "href=\"../../../etc/x.rpm\"")),
            &["not a path below the repository"],
        ),
        (
            Box::new(sub(&href, "href=\"/etc/x.rpm\"")),
            &["not a path below the repository"],
        ),
        (
            Box::new(sub(&href, "xml:base=\"file:///etc\" href=\"x.rpm\"")),
            &["a place on this machine"],
        ),
        (
            Box::new(sub("<metadata", "<!DOCTYPE a [<!ENTITY b \"c\">]><metadata")),
            &["document type"],
        ),
        (
            Box::new(sub("<summary>", "<summary>&lol;")),
            &["the entity `lol`"],
        ),
        (Box::new(sub("</metadata>", "")), &["ends within"]),
        (
            Box::new(sub("<checksum type=\"sha256\"", "<checksum type=\"sha\"")),
            &["SHA-1, which can be forged", "createrepo_c --checksum sha256"],
        ),
        (
            Box::new(|text| text.replacen("<size package=\"", "<size package=\"1", 1)),
            &["is not the package that", "its size is"],
        ),
    ];
    for (change, expected) in cases {
        replace_primary(&bench, "primary.xml.gz", &gzip, change);
        says(&bench.refused(&["rpms"]), expected);
    }
    replace_primary(&bench, "primary.xml.gz", &gzip, |text| {
        let start = text.find("<package ").unwrap();
        let end = text.find("</package>").unwrap() + "</package>".len();
        let twin = text[start..end].replacen("ver=\"", "ver=\"9", 1);
        format!("{}{twin}{}", &text[..end], &text[end..])
    });
    says(
        &bench.refused(&["rpms"]),
        &["has several versions of", "dnf5 download --resolve", "--repo"],
    );
}

#[test]
fn damaged_metadata_is_refused() {
    let Some(bench) = Bench::new(2) else { return };
    let repodata = bench.path("rpms/repodata");
    let fresh = || {
        bench.createrepo(&["--simple-md-filenames", "--general-compress-type", "gz"]);
        fs::read(repodata.join("primary.xml.gz")).unwrap()
    };
    let packed = fresh();
    let mut flipped = packed.clone();
    flipped[packed.len() / 2] ^= 4;
    for (bytes, expected) in [
        (packed[..packed.len() - 5].to_vec(), "primary.xml.gz has the size"),
        (flipped, "primary.xml.gz has the digest"),
        ([packed.as_slice(), b"x"].concat(), "primary.xml.gz has the size"),
    ] {
        fs::write(repodata.join("primary.xml.gz"), bytes).unwrap();
        says(&bench.refused(&["rpms"]), &[expected, "createrepo_c"]);
    }
    fs::remove_file(repodata.join("primary.xml.gz")).unwrap();
    says(&bench.refused(&["rpms"]), &["primary.xml.gz cannot be read"]);

    // A bomb: the list unpacks to more than repomd.xml says.
    replace_primary(&bench, "primary.xml.gz", &gzip, |text| text);
    let repomd = fs::read_to_string(repodata.join("repomd.xml")).unwrap();
    let bomb = gzip(&vec![b' '; 64 << 20]);
    let old = fs::read(repodata.join("primary.xml.gz")).unwrap();
    let text = repomd
        .replace(&Digest::of(&old).to_string(), &Digest::of(&bomb).to_string())
        .replace(
            &format!("<size>{}<", old.len()),
            &format!("<size>{}<", bomb.len()),
        );
    fs::write(repodata.join("repomd.xml"), text).unwrap();
    fs::write(repodata.join("primary.xml.gz"), &bomb).unwrap();
    says(&bench.refused(&["rpms"]), &["cannot be unpacked", "that it may"]);

    fresh();
    fs::write(repodata.join("repomd.xml"), "<html>Sign in</html>").unwrap();
    says(&bench.refused(&["rpms"]), &["is not `repomd` metadata"]);
    fs::write(repodata.join("repomd.xml"), &repomd[..repomd.len() / 2]).unwrap();
    says(&bench.refused(&["rpms"]), &["malformed"]);

    fresh();
    fs::copy(&bench.packages()[0], bench.path("rpms/unlisted.rpm")).unwrap();
    says(
        &bench.refused(&["rpms"]),
        &["unlisted.rpm, which its repodata does not list"],
    );
}

#[test]
fn the_address_may_name_repodata_and_packages_may_lie_deeper() {
    let Some(bench) = Bench::new(3) else { return };
    fs::create_dir_all(bench.path("rpms/Packages/a")).unwrap();
    for path in bench.packages() {
        let name = path.file_name().unwrap();
        fs::rename(&path, bench.path("rpms/Packages/a").join(name)).unwrap();
    }
    bench.createrepo(&[]);
    let server = Server::new(&bench.path("rpms"));
    let mut locks = Vec::new();
    for end in ["", "/", "/repodata", "/repodata/repomd.xml"] {
        let url = format!("{}{end}", server.url);
        locks.push(bench.locked(&[&url, "--key", &bench.key()]));
    }
    assert!(locks.iter().all(|lock| lock.packages == locks[0].packages));
    for package in &locks[0].packages {
        let Location::Url(url) = &package.location else {
            panic!("{package:?}")
        };
        assert!(
            url.as_str().starts_with(&format!("{}/Packages/a/", server.url)),
            "{url}"
        );
    }
    let local = format!("file://{}", bench.path("rpms").display());
    let lock = bench.locked(&[&local]);
    assert!(lock.packages[0].location.to_string().starts_with(&local));
    server.fail("repomd.xml", Fault::Redirect, 1);
    assert_eq!(
        bench.locked(&[&server.url, "--key", &bench.key()]).packages,
        locks[0].packages
    );
    says(
        &bench.refused(&[&format!("{}/Packages", server.url), "--key", &bench.key()]),
        &["it has no repodata/repomd.xml"],
    );
}
