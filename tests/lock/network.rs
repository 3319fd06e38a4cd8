//! Fetching: broken connections, wrong bytes, mirrors, TLS; and building from what was fetched.

use std::fs;
use std::process::Command;

use hullwright::rpmset::Location;

use crate::bench::{Bench, said, says, words};
use crate::server::{Fault, Server, TlsServer};
use crate::support::tool;

fn name(path: &std::path::Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn broken_connections_are_taken_up_where_they_broke() {
    let Some(bench) = Bench::new(4) else { return };
    bench.createrepo(&[]);
    let packages = bench.packages();
    let server = Server::new(&bench.path("rpms"));
    let [cut, busy, deaf, moved] = [0, 1, 2, 3].map(|n| name(&packages[n]));
    server.fail(&cut, Fault::Cut(1000), 3);
    server.fail(&busy, Fault::Status(503), 1);
    server.fail(&deaf, Fault::Cut(2000), 1);
    server.fail(&deaf, Fault::NoRange, 1);
    server.fail(&moved, Fault::Redirect, 1);
    server.fail("repomd.xml", Fault::Status(502), 1);
    let lock = bench.locked(&[&server.url, "--key", &bench.key()]);
    assert_eq!(lock.packages.len(), 4);
    let requests = server.requests();
    let of = |name: &str| -> Vec<&String> { requests.iter().filter(|line| line.contains(name)).collect() };
    let froms: Vec<_> = of(&cut).iter().map(|line| line.split(" from ").nth(1)).collect();
    assert_eq!(froms, [None, Some("1000"), Some("2000"), Some("3000")]);
    assert_eq!(of(&busy).len(), 2);
    assert!(of(&deaf)[1].ends_with(" from 2000"));
    assert_eq!(of(&moved).len(), 2);

    // All is in the store now: only the metadata is asked for again.
    bench.locked(&[&server.url, "--key", &bench.key()]);
    let requests = server.requests();
    assert!(
        requests.iter().all(|line| line.contains("repomd.xml")),
        "{requests:?}"
    );
}

#[test]
fn a_part_of_a_stopped_run_is_completed() {
    let Some(bench) = Bench::new(1) else { return };
    bench.createrepo(&[]);
    let package = name(&bench.packages()[0]);
    let server = Server::new(&bench.path("rpms"));
    server.fail(&package, Fault::Cut(1500), 1);
    server.fail(&package, Fault::Status(500), 2);
    let arguments = [server.url.as_str(), "--key", &bench.key()];
    says(
        &bench.refused(&arguments),
        &["the server answers 500", "2 attempts", "is kept"],
    );
    server.requests();
    bench.locked(&arguments);
    let requests = server.requests();
    assert!(
        requests.contains(&format!("/{package} from 1500")),
        "{requests:?}"
    );
    // Parts that are not of this file do no harm.
    let parts = bench.path("store/parts");
    assert_eq!(fs::read_dir(&parts).unwrap().count(), 0);
    let digest = bench.read_lock().packages[0].sha256.to_string();
    fs::remove_dir_all(bench.path("store/rpms")).unwrap();
    fs::write(parts.join(&digest), vec![0; 700]).unwrap();
    bench.locked(&arguments);
    fs::remove_dir_all(bench.path("store/rpms")).unwrap();
    fs::write(parts.join(&digest), vec![0; 70_000_000]).unwrap();
    bench.locked(&arguments);
}

#[test]
fn a_damaged_list_of_packages_is_fetched_again() {
    let Some(bench) = Bench::new(1) else { return };
    bench.createrepo(&[]);
    let server = Server::new(&bench.path("rpms"));
    let arguments = [server.url.as_str(), "--key", &bench.key()];
    bench.locked(&arguments);
    let mut kept: Vec<_> = fs::read_dir(bench.path("store/repodata"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(kept.len(), 1);
    let list = fs::read_dir(kept.remove(0))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut bytes = fs::read(&list).unwrap();
    bytes[9] ^= 1;
    fs::write(&list, bytes).unwrap();
    says(&bench.refused(&arguments), &["has the digest"]);
    bench.locked(&arguments);
}

#[test]
fn wrong_answers_are_refused() {
    let Some(bench) = Bench::new(2) else { return };
    bench.createrepo(&[]);
    let package = name(&bench.packages()[0]);
    let key = bench.key();
    for (path, fault, expected) in [
        (package.as_str(), Fault::Flip, "its digest is SHA-256"),
        (&package, Fault::Longer, "bytes, and should have"),
        (&package, Fault::Status(404), "answers 404 (not there)"),
        (&package, Fault::Status(403), "answers 403 (not allowed)"),
        (&package, Fault::Status(503), "2 attempts"),
        (&package, Fault::Cut(0), "the connection broke off"),
        ("primary", Fault::Flip, "its digest is SHA-256"),
        ("repomd.xml", Fault::Status(404), "it has no repodata/repomd.xml"),
    ] {
        let _ = fs::remove_dir_all(bench.path("store"));
        let server = Server::new(&bench.path("rpms"));
        server.fail(path, fault, 9);
        let text = bench.refused(&[&server.url, "--key", &key]);
        says(&text, &[expected]);
        let shelf = bench.path("store/rpms");
        let kept: Vec<_> = fs::read_dir(&shelf).unwrap().collect();
        assert!(kept.len() < 2, "{fault:?}: nothing wrong is kept");
    }
    // A lasting refusal is not asked again.
    let server = Server::new(&bench.path("rpms"));
    server.fail(&package, Fault::Status(404), 9);
    bench.refused(&[&server.url, "--key", &key]);
    let asked = server
        .requests()
        .iter()
        .filter(|line| line.contains(&package))
        .count();
    assert_eq!(asked, 1);
    // Nobody listens.
    let text = bench.refused(&["http://127.0.0.1:9/repo", "--key", &key]);
    says(&text, &["127.0.0.1:9", "2 attempts", "check the address"]);
    for (address, expected) in [
        ("ftp://host/repo", "no http, https or file address"),
        ("https://me:secret@host/repo", "user name or password"),
        ("https://host/repo?token=x", "query or fragment"),
    ] {
        let text = bench.refused(&[address, "--key", &key]);
        says(&text, &[expected]);
        assert!(!text.contains("secret"), "{text}");
    }
    says(
        &bench.refused(&[&server.url, "--key", &key, "--offline"]),
        &["nothing may be fetched", "without `--offline`"],
    );
}

#[test]
fn the_next_mirror_is_asked() {
    let Some(bench) = Bench::new(3) else { return };
    bench.createrepo(&[]);
    let package = name(&bench.packages()[0]);
    let (first, second) = (Server::new(&bench.path("rpms")), Server::new(&bench.path("rpms")));
    first.fail(&package, Fault::Flip, 9);
    let list: Vec<String> = bench.packages().iter().map(|path| name(path)).collect();
    fs::write(bench.path("list"), list.join("\n")).unwrap();
    fs::write(
        bench.path("rpms/mirrors"),
        format!("# best first\n{}\nrsync://x/\n{}\n", first.url, second.url),
    )
    .unwrap();
    let repo = format!(
        "[main]\n[one]\nname=One\nmirrorlist={}/$what?x=y\ngpgcheck=1\ngpgkey=file://{}\n",
        first.url,
        bench.key()
    );
    fs::write(bench.path("one.repo"), repo).unwrap();
    let lock = bench.locked(&["list", "--repo-file", "one.repo", "--var", "what=mirrors"]);
    assert_eq!(lock.repositories[0].id.as_deref(), Some("one"));
    assert_eq!(lock.repositories[0].mirrors, [second.url.as_str()]);
    assert!(
        lock.packages.iter().all(|it| it.signed_by.is_some()),
        "gpgkey counts"
    );
    assert_eq!(second.requests().len(), 1);

    // A build with an empty store goes the same way.
    let output = bench.run(&build(&bench, &["--store", "other"]));
    says(&words(&output), &["fetch packages", "3 packages"]);
    assert_eq!(second.requests().len(), 1);
}

/// Arguments of a build from `set.lock.toml`; it ends where the packages turn out to be no system.
fn build<'a>(bench: &Bench, more: &[&'a str]) -> Vec<&'a str> {
    let definition = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/image-defs/sample-container-host.toml"
    );
    fs::copy(&bench.key, bench.path("key")).unwrap();
    let fixed = [
        "build",
        definition,
        "--rpms",
        "set.lock.toml",
        "--key",
        "key",
        "--out",
        "out",
        "--retries",
        "1",
    ];
    [&fixed, more].concat()
}

#[test]
fn builds_fetch_what_is_locked() {
    let Some(bench) = Bench::new(5) else { return };
    bench.createrepo(&[]);
    let server = Server::new(&bench.path("rpms"));
    let lock = bench.locked(&[&server.url, "--key", &bench.key()]);
    server.requests();

    let output = bench.run(&build(&bench, &["--store", "empty", "--offline"]));
    assert_eq!(output.status.code(), Some(1));
    let text = words(&output);
    says(
        &text,
        &[
            "5 locked packages lie on servers and are not in the store",
            "--offline",
        ],
    );
    says(&text, &[&lock.packages[0].location.to_string()]);
    assert!(server.requests().is_empty());

    // The store of the lock has them all.
    let text = words(&bench.run(&build(&bench, &["--store", "store", "--offline"])));
    says(&text, &["5 packages signed"]);
    let text = words(&bench.run(&build(&bench, &["--store", "empty"])));
    says(&text, &["fetch packages", "5 packages signed"]);
    assert_eq!(server.requests().len(), 5);
    let text = words(&bench.run(&build(&bench, &["--store", "empty", "--offline"])));
    says(&text, &["5 packages signed"]);

    // What decays in the store is told, and fetched again.
    let victim = &lock.packages[2];
    let Location::Url(url) = &victim.location else {
        panic!("{victim:?}")
    };
    let kept = bench
        .path("empty/rpms")
        .join(victim.sha256.to_string())
        .join(url.file_name().unwrap());
    let mut bytes = fs::read(&kept).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&kept, bytes).unwrap();
    let text = words(&bench.run(&build(&bench, &["--store", "empty"])));
    says(&text, &["is not the package that the lock file names"]);
    let text = words(&bench.run(&build(&bench, &["--store", "empty"])));
    says(&text, &["5 packages signed"]);
    assert_eq!(server.requests(), [format!("/{}", url.file_name().unwrap())]);

    // A server that has other bytes by now.
    fs::write(bench.path("rpms").join(url.file_name().unwrap()), "changed").unwrap();
    let output = bench.run(&build(&bench, &["--store", "third"]));
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    says(&words(&output), &["it has 7 bytes, and should have"]);
}

#[test]
fn https_is_held_against_an_authority() {
    let (Some(bench), Some(openssl), Some(python)) = (Bench::new(2), tool("openssl"), tool("python3")) else {
        return;
    };
    bench.createrepo(&[]);
    let server = TlsServer::new(&bench.path("rpms"), &bench.path("tls"), &openssl, &python);
    let ca = server.ca.display().to_string();
    let lock = bench.locked(&[&server.url, "--key", &bench.key(), "--ca", &ca]);
    assert_eq!(lock.packages.len(), 2);
    let text = bench.refused(&[&server.url, "--key", &bench.key(), "--store", "other"]);
    says(&text, &["no trusted connection", "--ca FILE"]);
    says(
        &bench.refused(&[&server.url, "--ca", &bench.key(), "--key", &bench.key()]),
        &["holds no certificate"],
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_hullwright"));
    let by_environment = command
        .args([
            "lock",
            &server.url,
            "--key",
            &bench.key(),
            "-o",
            "env.toml",
            "--store",
            "third",
        ])
        .env("SSL_CERT_FILE", &ca)
        .env_remove("https_proxy")
        .current_dir(bench.path(""))
        .output()
        .unwrap();
    assert!(by_environment.status.success(), "{}", said(&by_environment));
}

#[test]
fn the_whole_sample_set_comes_over_a_bad_line() {
    let Some(bench) = Bench::new(0) else { return };
    let server = Server::new(&bench.samples);
    server.fail("lib", Fault::Cut(60_000), 40);
    server.fail(".rpm", Fault::Status(503), 20);
    let lock = bench.locked(&[
        &server.url,
        "--key",
        &bench.key(),
        "--retries",
        "6",
        "--connections",
        "16",
    ]);
    let files = bench.sample_files();
    assert_eq!(lock.packages.len(), files.len());
    let mut digests: Vec<_> = files
        .iter()
        .map(|path| hullwright::store::Digest::of(&fs::read(path).unwrap()))
        .collect();
    digests.sort();
    let mut locked: Vec<_> = lock.packages.iter().map(|package| package.sha256).collect();
    locked.sort();
    assert_eq!(locked, digests);
    assert!(server.requests().len() >= files.len() + 60);
}

#[test]
fn a_disk_without_room_is_told() {
    let (Some(bench), Some(bash)) = (Bench::new(2), tool("bash")) else {
        return;
    };
    bench.createrepo(&[]);
    let server = Server::new(&bench.path("rpms"));
    // As a full disk, no file may grow beyond a block.
    let script = "trap '' XFSZ; ulimit -f 1; exec \"$@\"";
    let output = Command::new(bash)
        .args([
            "-c",
            script,
            "bash",
            env!("CARGO_BIN_EXE_hullwright"),
            "lock",
            &server.url,
        ])
        .args(["--key", &bench.key(), "--store", "store", "-o", "full.toml"])
        .env_remove("http_proxy")
        .current_dir(bench.path(""))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    says(
        &words(&output),
        &["the store `store` cannot be used", "with room"],
    );
    assert!(!bench.path("full.toml").exists());
    bench.locked(&[&server.url, "--key", &bench.key()]);
}
