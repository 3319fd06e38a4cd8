//! Signatures of repositories, made by gpg, and of packages.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use hullwright::rpmset::SignatureState;

use crate::bench::{Bench, said, says};
use crate::server::Server;
use crate::support::tool;

/// A key of gpg.
struct Gpg {
    program: PathBuf,
    home: PathBuf,
    pub public: PathBuf,
}

impl Gpg {
    fn new(bench: &Bench, name: &str) -> Option<Self> {
        let gpg = Self {
            program: tool("gpg")?,
            home: bench.path(&format!("gnupg-{name}")),
            public: bench.path(&format!("{name}.asc")),
        };
        fs::create_dir(&gpg.home).unwrap();
        std::os::unix::fs::chown(&gpg.home, None, None).unwrap();
        fs::set_permissions(&gpg.home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let user = format!("{name} <{name}@example.org>");
        gpg.run(&[
            "--passphrase",
            "",
            "--quick-generate-key",
            &user,
            "rsa2048",
            "sign",
            "never",
        ]);
        let public = gpg.run(&["--armor", "--export", name]);
        fs::write(&gpg.public, public).unwrap();
        Some(gpg)
    }

    fn run(&self, arguments: &[&str]) -> Vec<u8> {
        let mut command = Command::new(&self.program);
        let output = command
            .args(["--batch", "--quiet", "--pinentry-mode", "loopback", "--no-tty"])
            .args(arguments)
            .env("GNUPGHOME", &self.home)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }

    fn sign(&self, bench: &Bench, more: &[&str]) -> Vec<u8> {
        let repomd = bench.path("rpms/repodata/repomd.xml").display().to_string();
        self.run(&[more, &["--detach-sign", "--output", "-", &repomd]].concat())
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf")
            .args(["--kill", "gpg-agent"])
            .env("GNUPGHOME", &self.home)
            .output();
    }
}

#[test]
fn a_repositorys_signature_must_hold() {
    let Some(bench) = Bench::new(2) else { return };
    let (Some(mine), Some(other)) = (Gpg::new(&bench, "mine"), Gpg::new(&bench, "other")) else {
        return;
    };
    bench.createrepo(&[]);
    let server = Server::new(&bench.path("rpms"));
    let asc = bench.path("rpms/repodata/repomd.xml.asc");
    let public = |gpg: &Gpg| gpg.public.display().to_string();
    let key = bench.key();
    for more in [&["--armor"][..], &[]] {
        fs::write(&asc, mine.sign(&bench, more)).unwrap();
        let lock = bench.locked(&[&server.url, "--key", &key, "--key", &public(&mine)]);
        assert_eq!(lock.repositories[0].signature, SignatureState::Good);
        let fingerprint = lock.repositories[0].signed_by.clone().unwrap();
        let listed = String::from_utf8(mine.run(&["--list-keys", "--with-colons"])).unwrap();
        assert!(listed.contains(&fingerprint), "{fingerprint}: {listed}");
    }
    // Two signatures, one by a stranger.
    let two = [mine.sign(&bench, &[]), other.sign(&bench, &[])].concat();
    fs::write(&asc, two).unwrap();
    bench.locked(&[&server.url, "--key", &key, "--key", &public(&mine)]);

    fs::write(&asc, other.sign(&bench, &["--armor"])).unwrap();
    let keys = [server.url.as_str(), "--key", &key, "--key", &public(&mine)];
    says(
        &bench.refused(&keys),
        &["is signed by key", "which is not listed", "--key"],
    );
    let weak = mine.sign(&bench, &["--armor", "--digest-algo", "SHA1"]);
    fs::write(&asc, weak).unwrap();
    says(&bench.refused(&keys), &["is over SHA1, which can be forged"]);
    fs::write(&asc, mine.sign(&bench, &["--armor"])).unwrap();
    let repomd = bench.path("rpms/repodata/repomd.xml");
    let text = fs::read_to_string(&repomd).unwrap();
    fs::write(&repomd, text.replace("<revision>", "<revision>1")).unwrap();
    says(&bench.refused(&keys), &["is bad: it does not fit"]);
    fs::write(&repomd, text).unwrap();
    for damaged in [
        &b"no signature"[..],
        b"-----BEGIN PGP SIGNATURE-----\n\nAAAA\n",
        b"",
    ] {
        fs::write(&asc, damaged).unwrap();
        says(&bench.refused(&keys), &["its signature does not suffice"]);
    }
}

#[test]
fn what_nothing_vouches_for_is_refused() {
    let Some(bench) = Bench::new(2) else { return };
    let Some(gpg) = Gpg::new(&bench, "mine") else {
        return;
    };
    bench.createrepo(&[]);
    let server = Server::new(&bench.path("rpms"));
    says(
        &bench.refused(&[&server.url]),
        &["is not signed, and no key is named", "--unsigned-repository URL"],
    );
    let output = bench.lock(&[
        &server.url,
        "-o",
        "set.lock.toml",
        "--unsigned-repository",
        &server.url,
    ]);
    assert!(output.status.success(), "{}", said(&output));
    says(
        &said(&output),
        &[
            "is not signed: nothing but its server",
            "no signature was checked",
        ],
    );
    assert_eq!(
        bench.read_lock().repositories[0].signature,
        SignatureState::Absent
    );
    says(
        &bench.refused(&[
            &server.url,
            "--key",
            &bench.key(),
            "--unsigned-repository",
            "https://x/",
        ]),
        &["is about no repository"],
    );
    // A repository on this machine is the user's own.
    let lock = bench.locked(&["rpms"]);
    assert!(lock.packages.iter().all(|package| package.signed_by.is_none()));

    let repo = |more: &str| {
        let text = format!("[one]\nbaseurl={}\n{more}", server.url);
        fs::write(bench.path("one.repo"), text).unwrap();
    };
    let names: Vec<_> = lock
        .packages
        .iter()
        .map(|package| package.nevra.clone())
        .collect();
    fs::write(bench.path("list"), names.join("\n")).unwrap();
    let arguments = ["list", "--repo-file", "one.repo"];
    repo("gpgcheck=1\ngpgkey=https://example.org/key\n");
    says(
        &bench.refused(&arguments),
        &["repository one in `one.repo`", "make sure whose it is"],
    );
    repo("gpgcheck=0\n");
    says(&bench.refused(&arguments), &["is not signed, and no key"]);
    assert!(
        bench
            .lock(&[&arguments[..], &["-o", "x", "--unsigned-repository", "one"]].concat())
            .status
            .success()
    );
    repo(&format!(
        "repo_gpgcheck=1\ngpgkey=file://{}\n",
        gpg.public.display()
    ));
    says(
        &bench.refused(&arguments),
        &["has to be signed", "no repodata/repomd.xml.asc"],
    );
    fs::write(
        bench.path("rpms/repodata/repomd.xml.asc"),
        gpg.sign(&bench, &["--armor"]),
    )
    .unwrap();
    // The repository's signature holds; packages are signed by another key.
    says(&bench.refused(&arguments), &["2 packages are signed by key"]);
    let lock = bench.locked(&[&arguments[..], &["--key", &bench.key()]].concat());
    assert_eq!(lock.repositories[0].signature, SignatureState::Good);
    // Signed, and no key to see by.
    says(
        &bench.refused(&[&server.url]),
        &["is signed, but that was not checked"],
    );
}

#[test]
fn every_package_is_held_against_the_keys() {
    let Some(bench) = Bench::new(3) else { return };
    let Some(gpg) = Gpg::new(&bench, "mine") else {
        return;
    };
    let lock = bench.locked(&["rpms", "--key", &bench.key()]);
    let signers: Vec<_> = lock
        .packages
        .iter()
        .map(|package| package.signed_by.clone().unwrap())
        .collect();
    let shown = gpg.run(&["--with-colons", "--show-keys", &bench.key()]);
    says(&String::from_utf8(shown).unwrap(), &[&signers[0]]);
    assert!(signers.iter().all(|signer| *signer == signers[0]));
    let public = gpg.public.display().to_string();
    says(
        &bench.refused(&["rpms", "--key", &public]),
        &["3 packages are signed by key", "which is not listed"],
    );
    // The signature is over the header, which names the payload's digest: another payload is not signed.
    let victim = &bench.packages()[1];
    let mut bytes = fs::read(victim).unwrap();
    let last = bytes.len() - 9;
    bytes[last] ^= 1;
    fs::write(victim, bytes).unwrap();
    says(
        &bench.refused(&["rpms", "--key", &bench.key()]),
        &[
            "1 of the packages cannot be used",
            victim.file_name().unwrap().to_str().unwrap(),
            "fetch it again",
        ],
    );
}
