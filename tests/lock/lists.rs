//! Files that name packages, and the repositories that have them.

use std::fs;

use hullwright::rpmset::{Lock, SourceKind};

use crate::bench::{Bench, says};
use crate::server::Server;
use crate::support::tool;

/// Writes what `format` makes of each package into `name`.
fn write(bench: &Bench, name: &str, lock: &Lock, format: impl Fn(&str, &str) -> String, around: [&str; 2]) {
    let lines: Vec<_> = lock
        .packages
        .iter()
        .map(|package| format(&package.nevra, &package.sha256.to_string()))
        .collect();
    fs::write(
        bench.path(name),
        format!("{}{}{}", around[0], lines.join(""), around[1]),
    )
    .unwrap();
}

fn parts(nevra: &str) -> (&str, &str, &str) {
    let (rest, arch) = nevra.rsplit_once('.').unwrap();
    let at = rest.rmatch_indices('-').nth(1).unwrap().0;
    (&rest[..at], &rest[at + 1..], arch)
}

#[test]
fn lists_lockfiles_and_manifests_name_the_same_packages() {
    let Some(bench) = Bench::new(5) else { return };
    bench.createrepo(&[]);
    let plain = bench.locked(&["rpms"]);
    let server = Server::new(&bench.path("rpms"));
    let remote = bench.locked(&[&server.url, "--key", &bench.key()]);

    write(
        &bench,
        "list",
        &plain,
        |nevra, _| format!("{nevra} # why\n"),
        ["# the set\n\n", ""],
    );
    let lock = bench.locked(&["list", "--repo", "rpms"]);
    assert_eq!(lock.packages, plain.packages);
    assert_eq!(lock.sources[0].kind, SourceKind::NevraList);
    assert_eq!(lock.sources[0].location, "list");
    assert_eq!(lock.repositories[0].location, "rpms");
    let lock = bench.locked(&["list", "--repo", &server.url, "--key", &bench.key()]);
    assert_eq!(lock.packages, remote.packages);

    let entry = |nevra: &str, sha256: &str| {
        let (name, evr, arch) = parts(nevra);
        format!("\"{name}\": {{\"evra\": \"{evr}.{arch}\", \"digest\": \"sha256:{sha256}\"}},")
    };
    let last = [
        "{\"metadata\": {}, \"source-packages\": {\"x\": \"1-1\"}, \"packages\": {",
        "\"\": 0}}",
    ];
    write(&bench, "rpm-ostree.json", &plain, entry, last);
    let text = fs::read_to_string(bench.path("rpm-ostree.json"))
        .unwrap()
        .replace(",\"\": 0", "");
    fs::write(bench.path("rpm-ostree.json"), text).unwrap();
    // Its digests pin the packages: no key is needed.
    let lock = bench.locked(&["rpm-ostree.json", "--repo", &server.url]);
    assert_eq!(lock.sources[0].kind, SourceKind::RpmOstreeLockfile);
    assert!(
        lock.packages
            .iter()
            .zip(&remote.packages)
            .all(|(a, b)| a.sha256 == b.sha256)
    );

    let head = format!(
        "document: rpm-package-manifest\nversion: 0.2.0\ndata:\n  repositories:\n    - id: sample\n      \
         baseurl: {}/$what\n    - id: linked\n      metalink: https://x/\n  packages:\n",
        server.url.replace("127.0.0.1", "localhost")
    );
    let manifest = |with_location: bool, repository: &str| {
        let mut arches = std::collections::BTreeMap::<String, String>::new();
        for (package, file) in plain.packages.iter().zip(&remote.packages) {
            let (name, evr, arch) = parts(&package.nevra);
            let location = match with_location {
                true => format!(
                    "        location: {}\n",
                    file.location.to_string().rsplit('/').next().unwrap()
                ),
                false => String::new(),
            };
            arches.entry(arch.to_owned()).or_default().push_str(&format!(
                "      - name: {name}\n        repo_id: {repository}\n{location}        checksum: sha256:{}\n        \
                 size: {}\n        evr: {evr}\n",
                package.sha256, package.size
            ));
        }
        let body: String = arches
            .iter()
            .map(|(arch, text)| format!("    {arch}:\n{text}"))
            .collect();
        fs::write(bench.path("packages.manifest.yaml"), format!("{head}{body}")).unwrap();
    };
    for with_location in [true, false] {
        manifest(with_location, "sample");
        let lock = bench.locked(&["packages.manifest.yaml", "--var", "what=."]);
        assert_eq!(lock.sources[0].kind, SourceKind::DnfManifest);
        assert!(
            lock.packages
                .iter()
                .zip(&remote.packages)
                .all(|(a, b)| a.sha256 == b.sha256)
        );
    }
    says(
        &bench.refused(&["packages.manifest.yaml"]),
        &["$what, which stands for nothing"],
    );
    manifest(false, "linked");
    says(
        &bench.refused(&["packages.manifest.yaml"]),
        &["only a metalink", "--repo linked=https://"],
    );
    let named = format!("linked={}", server.url);
    bench.locked(&["packages.manifest.yaml", "--repo", &named]);
    let text = fs::read_to_string(bench.path("packages.manifest.yaml")).unwrap();
    fs::write(
        bench.path("new.yaml"),
        text.replace("version: 0.2.0", "version: 3.0.0"),
    )
    .unwrap();
    says(
        &bench.refused(&["new.yaml"]),
        &["has version 3.0.0", "versions 0 and 1"],
    );
    fs::write(
        bench.path("pin.yaml"),
        text.replace("sha256:", "sha256:0").replace("sha256:0", "sha256:"),
    )
    .unwrap();
    let digest = plain.packages[0].sha256.to_string();
    fs::write(bench.path("pin.yaml"), text.replace(&digest, &"0".repeat(64))).unwrap();
    says(
        &bench.refused(&["pin.yaml", "--repo", &named]),
        &["has the SHA-256", "but pin.yaml says SHA-256 0000"],
    );
}

#[test]
fn what_cannot_be_found_is_named_with_what_is_near() {
    let Some(bench) = Bench::new(4) else { return };
    bench.createrepo(&[]);
    let plain = bench.locked(&["rpms"]);
    let (name, evr, arch) = parts(&plain.packages[1].nevra);
    let other = format!("{name}-99-1.{arch}");
    let misspelt = format!("{name}x-{evr}.{arch}");
    fs::write(bench.path("list"), format!("{other}\n{misspelt}\n")).unwrap();
    says(
        &bench.refused(&["list", "--repo", "rpms"]),
        &[
            "2 of the packages are in no repository",
            &other,
            &misspelt,
            &format!("there is {}", plain.packages[1].nevra),
        ],
    );
    says(
        &bench.refused(&["list"]),
        &["no repository is named", "--repo URL|DIR"],
    );
    fs::write(
        bench.path("list"),
        format!("{name}-{evr}.{arch}\n\n{name}-{evr}.{arch}\n"),
    )
    .unwrap();
    says(&bench.refused(&["list"]), &["twice, in lines 1 and 3"]);
    fs::write(bench.path("list"), format!("{name}-{evr}.{arch}\nbash\n")).unwrap();
    says(
        &bench.refused(&["list"]),
        &["line 2, `bash`", "it has no architecture"],
    );
    fs::write(bench.path("prose"), "Dear reader,\n").unwrap();
    says(
        &bench.refused(&["prose"]),
        &[
            "nothing that can be locked",
            "rpm-package-manifest",
            "JSON",
            "line 1",
        ],
    );
    let package = bench.packages()[0].display().to_string();
    says(&bench.refused(&[&package]), &["is one package, not a set"]);
    says(&bench.refused(&["set.lock.toml"]), &["is a lock file already"]);
    says(&bench.refused(&["absent"]), &["`absent` cannot be read"]);
    fs::create_dir(bench.path("empty")).unwrap();
    says(&bench.refused(&["empty"]), &["no .rpm file and no repodata"]);
    says(
        &bench.refused(&["list", "--repo", "empty"]),
        &["no .rpm file and no repodata"],
    );
    fs::write(bench.path("x.json"), "{\"packages\": {\"a\": {\"evra\": \"1\"}}}").unwrap();
    says(
        &bench.refused(&["x.json"]),
        &["rpm-ostree lockfile `x.json`", "package `a`"],
    );
}

#[test]
fn several_repositories_agree_or_are_refused() {
    let (Some(bench), Some(sign)) = (Bench::new(3), tool("rpmsign")) else {
        return;
    };
    bench.createrepo(&[]);
    let plain = bench.locked(&["rpms"]);
    fs::create_dir(bench.path("more")).unwrap();
    for path in bench.packages() {
        fs::copy(&path, bench.path("more").join(path.file_name().unwrap())).unwrap();
    }
    bench.createrepo_in("more", &[]);
    write(&bench, "list", &plain, |nevra, _| format!("{nevra}\n"), ["", ""]);
    let both = ["list", "--repo", "rpms", "--repo", "more"];
    assert_eq!(bench.locked(&both).packages, plain.packages, "the first has them");
    // By digests of another kind, too; both are held against the file.
    bench.createrepo_in("more", &["--checksum", "sha512"]);
    let other = ["list", "--repo", "more", "--repo", "rpms"];
    for sources in [&both[..], &other, &["rpms", "more"], &["more", "rpms"]] {
        let lock = bench.locked(sources);
        let digests = |lock: &hullwright::rpmset::Lock| -> Vec<_> {
            lock.packages.iter().map(|package| package.sha256).collect()
        };
        assert_eq!(digests(&lock), digests(&plain), "{sources:?}");
    }
    let repodata = bench.path("more/repodata");
    bench.createrepo_in(
        "more",
        &[
            "--checksum",
            "sha512",
            "--general-compress-type",
            "gz",
            "--simple-md-filenames",
        ],
    );
    let primary = repodata.join("primary.xml.gz");
    let packed = fs::read(&primary).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&packed[..]), &mut text).unwrap();
    let at = text.find("pkgid=\"YES\">").unwrap() + "pkgid=\"YES\">".len();
    text.replace_range(at..at + 128, &"0".repeat(128));
    // A list of its own digests: repomd.xml names no others then.
    let digest = hullwright::store::Digest::of(text.as_bytes());
    fs::write(repodata.join("primary.xml"), &text).unwrap();
    let repomd = format!(
        "<repomd xmlns=\"http://linux.duke.edu/metadata/repo\"><data type=\"primary\"><checksum type=\"sha256\">\
         {digest}</checksum><location href=\"repodata/primary.xml\"/><size>{}</size></data></repomd>",
        text.len()
    );
    fs::write(repodata.join("repomd.xml"), repomd).unwrap();
    for sources in [&both[..], &other, &["rpms", "more"]] {
        says(
            &bench.refused(sources),
            &["its digest is SHA-512", "listed is SHA-512 0000"],
        );
    }
    bench.createrepo_in("more", &[]);
    // As sources, too: what both have counts once.
    assert_eq!(bench.locked(&["rpms", "more"]).packages, plain.packages);
    fs::remove_dir_all(bench.path("more/repodata")).unwrap();
    assert_eq!(bench.locked(&["rpms", "more"]).packages, plain.packages);

    // The same package with another signature header: other bytes under the same name.
    let victim = fs::read_dir(bench.path("more"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let stripped = std::process::Command::new(sign)
        .arg("--delsign")
        .arg(&victim)
        .output()
        .unwrap();
    assert!(stripped.status.success(), "{stripped:?}");
    says(&bench.refused(&["rpms", "more"]), &["with different bytes"]);
    bench.createrepo_in("more", &[]);
    says(
        &bench.refused(&both),
        &["is in rpms and in more, with different bytes"],
    );
    says(
        &bench.refused(&["more", "--key", &bench.key()]),
        &["1 package is not signed"],
    );
    let (name, _, _) = parts(&plain.packages[0].nevra);
    let _ = name;
    let text = victim
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .trim_end_matches(".rpm")
        .to_owned();
    let (name, _, _) = parts(&text);
    let lock = bench.locked(&["more", "--key", &bench.key(), "--unsigned-package", name]);
    let signed = lock
        .packages
        .iter()
        .filter(|package| package.signed_by.is_some())
        .count();
    assert_eq!(signed, 2);
}

#[test]
fn an_architecture_is_chosen_from_whatever_names_packages() {
    let Some(bench) = Bench::new(3) else { return };
    bench.createrepo(&["--simple-md-filenames", "--general-compress-type", "gz"]);
    // Of one package, another list has a build for another architecture, with the same bytes.
    let plain = bench.locked(&["rpms"]);
    let victim = plain
        .packages
        .iter()
        .find(|package| !package.nevra.ends_with(".noarch"));
    let victim = &victim.unwrap().nevra;
    let (name, evr, arch) = parts(victim);
    let repodata = bench.path("rpms/repodata");
    let mut text = String::new();
    let packed = fs::read(repodata.join("primary.xml.gz")).unwrap();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&packed[..]), &mut text).unwrap();
    let start = text.find(&format!("<name>{name}</name>")).unwrap();
    let start = text[..start].rfind("<package ").unwrap();
    let end = start + text[start..].find("</package>").unwrap() + "</package>".len();
    let twin = text[start..end].replace(&format!("<arch>{arch}</arch>"), "<arch>i686</arch>");
    text.insert_str(end, &twin);
    fs::write(repodata.join("primary.xml"), &text).unwrap();
    let repomd = format!(
        "<repomd xmlns=\"http://linux.duke.edu/metadata/repo\"><data type=\"primary\"><checksum type=\"sha256\">\
         {}</checksum><location href=\"repodata/primary.xml\"/><size>{}</size></data></repomd>",
        hullwright::store::Digest::of(text.as_bytes()),
        text.len()
    );
    fs::write(repodata.join("repomd.xml"), repomd).unwrap();
    let lockfile = format!("{{\"packages\": {{\"{name}\": {{\"evr\": \"{evr}\"}}}}}}");
    fs::write(bench.path("evr.json"), lockfile).unwrap();
    says(
        &bench.refused(&["evr.json", "--repo", "rpms"]),
        &[&format!("{name}-{evr} is there for "), "--arch ARCH"],
    );
    let named = |arguments: &[&str]| -> Vec<String> {
        let lock = bench.locked(&[arguments, &["--repo", "rpms", "--arch", arch]].concat());
        lock.packages.into_iter().map(|package| package.nevra).collect()
    };
    assert_eq!(named(&["evr.json"]), std::slice::from_ref(victim));
    let list = format!("{victim}\n{name}-{evr}.i686\n");
    fs::write(bench.path("list"), list).unwrap();
    assert_eq!(named(&["list"]), std::slice::from_ref(victim));
}

#[test]
fn packages_outside_the_lock_files_directory_are_refused_with_a_way_out() {
    let Some(bench) = Bench::new(1) else { return };
    fs::create_dir(bench.path("locks")).unwrap();
    let output = bench.lock(&["rpms", "-o", "locks/set.toml"]);
    assert_eq!(output.status.code(), Some(1));
    says(&crate::bench::words(&output), &["lies outside", "file:///"]);
    bench.createrepo(&[]);
    let url = format!("file://{}", bench.path("rpms").display());
    let output = bench.lock(&[&url, "-o", "locks/set.toml"]);
    assert!(output.status.success());
}
