//! Builders that share a remote store on real servers: what one has composed the other takes, and no more than that.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::lab::{files, outputs_in};
use crate::servers::Server;
use crate::support::image::{
    build_command, output_directory, said as said_by, sample_definition, sample_image, sample_store,
};
use crate::support::sample_rpms;

struct Fleet {
    directory: TempDir,
    rpms: PathBuf,
}

impl Fleet {
    /// `None` (said as a skip) without the sample set.
    fn new() -> Option<Self> {
        let rpms = sample_rpms()?;
        // Composed once, for all tests.
        sample_image()?;
        let fleet = Self {
            directory: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
            rpms,
        };
        for name in ["ours", "theirs"] {
            let mut openssl = Command::new("openssl");
            openssl
                .args(["genpkey", "-algorithm", "ED25519", "-out"])
                .arg(fleet.path(name));
            assert!(openssl.status().unwrap().success());
            fs::set_permissions(fleet.path(name), fs::Permissions::from_mode(0o600)).unwrap();
            let mut openssl = Command::new("openssl");
            openssl.args(["pkey", "-pubout", "-in"]).arg(fleet.path(name));
            openssl.arg("-out").arg(fleet.path(&format!("{name}.pub")));
            assert!(openssl.status().unwrap().success());
        }
        Some(fleet)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A definition that differs from the sample in what it says of `/etc`.
    fn changed_definition(&self) -> PathBuf {
        let text = format!(
            "extends = [{:?}]\nos.timezone = \"Europe/Berlin\"\n",
            sample_definition()
        );
        fs::write(self.path("changed.toml"), text).unwrap();
        self.path("changed.toml")
    }

    /// A store that has the packages of the sample unpacked, and nothing that was made of them.
    fn unpacked_store(&self, name: &str) -> PathBuf {
        let store = self.path(name);
        for shelf in ["packs", "objects", "linked"] {
            link_all(&sample_store().join(shelf), &store.join(shelf));
        }
        link_all(
            &sample_store().join("values/ostree-bare-user-names"),
            &store.join("values/ostree-bare-user-names"),
        );
        store
    }

    fn command(&self, out: &str, store: &Path, server: &Server) -> Command {
        self.command_of(&sample_definition(), out, store, server)
    }

    fn command_of(&self, definition: &Path, out: &str, store: &Path, server: &Server) -> Command {
        let mut command = build_command(definition, &self.rpms, &self.path(out), store);
        command.args(["--remote-store", server.url]);
        command.envs(server.environment.iter().cloned());
        command
    }

    /// The command of a builder that has composed the image already.
    fn writer(&self, out: &str, server: &Server) -> Command {
        let mut command = self.command(out, &sample_store(), server);
        command.arg("--remote-sign").arg(self.path("ours"));
        command
    }

    /// The command of a builder with an empty store.
    fn reader(&self, out: &str, server: &Server, key: &str) -> Command {
        let mut command = self.command(out, &self.path(&format!("{out}-store")), server);
        command.arg("--remote-key").arg(self.path(&format!("{key}.pub")));
        command
    }

    /// Runs a build, which must succeed: what it said, and digests of its outputs by name.
    fn run(&self, command: Command, out: &str) -> (String, BTreeMap<PathBuf, String>) {
        let (said, outputs, _) = self.run_counted(command, out);
        (said, outputs)
    }

    /// As [`Self::run`]; also what went back and forth in each stage.
    fn run_counted(
        &self,
        mut command: Command,
        out: &str,
    ) -> (String, BTreeMap<PathBuf, String>, BTreeMap<String, Traffic>) {
        let output: Output = command.output().unwrap();
        assert!(output.status.success(), "{out}: {}", said_by(&output));
        let directory = output_directory(&self.path(out));
        let report = fs::read(directory.join("build-report.json")).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
        let stages = report["stages"].as_array().unwrap().iter().map(|stage| {
            let number = |key: &str| stage[key].as_u64().unwrap();
            let traffic = Traffic {
                hits: number("remote_hits"),
                misses: number("remote_misses"),
                received: number("remote_bytes_received"),
                sent: number("remote_bytes_sent"),
            };
            (stage["name"].as_str().unwrap().to_owned(), traffic)
        });
        let stages = stages.collect();
        let outputs = outputs_in(&directory);
        fs::remove_dir_all(self.path(out)).unwrap();
        let _ = fs::remove_dir_all(self.path(&format!("{out}-store")));
        (said_by(&output), outputs, stages)
    }
}

/// What a stage had to do with the server.
#[derive(Debug)]
struct Traffic {
    hits: u64,
    misses: u64,
    received: u64,
    sent: u64,
}

/// Links every file below `from` to the same place below `to`.
fn link_all(from: &Path, to: &Path) {
    for path in files(from) {
        let place = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::hard_link(path, place).unwrap();
    }
}

/// Whether the build has done the costly work itself.
fn composed_itself(said: &str) -> bool {
    let stages = [
        "unpack and verify",
        "make the tree",
        "compose the initrd",
        "seal /usr",
    ];
    let found = stages.map(|stage| said.contains(stage));
    assert!(found == [true; 4] || found == [false; 4], "{said}");
    found[0]
}

/// What the sample is without any remote store.
fn alone(fleet: &Fleet) -> BTreeMap<PathBuf, String> {
    let place = fleet.path("right");
    let command = build_command(&sample_definition(), &fleet.rpms, &place, &sample_store());
    fleet.run(command, "right").1
}

/// One builder adds to `server`, another takes from it.
fn share(fleet: &Fleet, server: &Server, right: &BTreeMap<PathBuf, String>) {
    let (said, outputs) = fleet.run(fleet.writer("writer", server), "writer");
    assert!(said.contains("what was composed") && outputs == *right, "{said}");
    let (said, outputs) = fleet.run(fleet.reader("reader", server, "ours"), "reader");
    assert!(
        said.contains("composed elsewhere") && !composed_itself(&said),
        "{said}"
    );
    assert_eq!(outputs, *right);
    let warned = |line: &str| line.starts_with("warning") && line.contains("remote store");
    assert!(!said.lines().any(warned), "{said}");
}

/// What a builder of the sample takes from `server`, where another has added a changed image: its outputs must be `right`.
fn share_pieces(fleet: &Fleet, server: &Server, right: &BTreeMap<PathBuf, String>) {
    let mut taker = fleet.command("taker", &fleet.unpacked_store("taker-store"), server);
    taker.arg("--remote-key").arg(fleet.path("ours.pub"));
    let (said, outputs, stages) = fleet.run_counted(taker, "taker");
    assert!(composed_itself(&said) && outputs == *right, "{said}");
    for (stage, hits) in [("make the tree", 1), ("compose the initrd", 1), ("seal /usr", 5)] {
        let Traffic { hits: found, .. } = stages[stage];
        assert!(found >= hits, "{stage}: {stages:?}");
    }
    assert!(stages["seal /usr"].received > 10 << 20, "{stages:?}");
    assert_eq!(stages["ask the remote store"].misses, 1);
}

/// A builder with all of the sample in its store composes a changed image, and adds it.
fn add_changed(fleet: &Fleet, server: &Server) {
    let store = fleet.unpacked_store("changer-store");
    for kind in ["erofs-clusters", "kernel-modules"] {
        let kind = Path::new("values").join(kind);
        link_all(&sample_store().join(&kind), &store.join(&kind));
    }
    let mut changer = fleet.command_of(&fleet.changed_definition(), "changer", &store, server);
    changer.arg("--remote-sign").arg(fleet.path("ours"));
    let (said, _, stages) = fleet.run_counted(changer, "changer");
    assert!(said.contains("what was composed and "), "{said}");
    let added = &stages["add to the remote store"];
    assert!(added.sent > 200 << 20, "{stages:?}");
}

#[test]
fn what_one_builder_composes_another_takes_from_the_server() {
    let Some(fleet) = Fleet::new() else { return };
    let Some(mut server) = Server::s3(&fleet.path("s3")) else {
        return;
    };
    let right = alone(&fleet);
    add_changed(&fleet, &server);
    share_pieces(&fleet, &server, &right);
    share(&fleet, &server, &right);
    server.stop();
    let (said, outputs) = fleet.run(fleet.writer("alone", &server), "alone");
    assert_eq!(said.matches("goes on without it").count(), 1, "{said}");
    assert_eq!(outputs, right);
}

#[test]
#[ignore = "five builds, and half a GiB sent twice"]
fn pieces_of_a_server_that_lies_are_made_here_and_mended() {
    let Some(fleet) = Fleet::new() else { return };
    let Some(server) = Server::s3(&fleet.path("s3")) else {
        return;
    };
    let right = alone(&fleet);
    add_changed(&fleet, &server);
    for path in files(&server.directory) {
        let size = fs::metadata(&path).unwrap().len();
        if path.to_string_lossy().contains("objects") && size > 1000 {
            let file = fs::File::options().read(true).write(true).open(&path).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, size / 2).unwrap();
            file.write_all_at(&[byte[0] ^ 4], size / 2).unwrap();
        }
    }
    let mut taker = fleet.command("lied-to", &fleet.unpacked_store("lied-to-store"), &server);
    taker.arg("--remote-sign").arg(fleet.path("ours"));
    let (said, outputs, stages) = fleet.run_counted(taker, "lied-to");
    assert_eq!(outputs, right);
    for kind in ["erofs-clusters", "kernel-modules", "initrd"] {
        let told = format!("an entry `{kind}` of the remote store");
        assert_eq!(said.matches(&told).count(), 1, "{said}");
    }
    assert_eq!(stages["seal /usr"].hits, 0, "{stages:?}");
    // It has added the whole sample too, which a taker would take.
    let composed = files(&server.directory).into_iter();
    let composed = composed.filter(|path| path.to_string_lossy().contains("entries/composed"));
    composed.for_each(|path| fs::remove_file(path).unwrap());
    share_pieces(&fleet, &server, &right);
}

#[test]
#[ignore = "uploads half a GiB twice"]
fn azure_serves_as_well_and_what_is_there_is_not_sent_again() {
    let Some(fleet) = Fleet::new() else { return };
    let right = alone(&fleet);
    let Some(server) = Server::azure(&fleet.path("azure")) else {
        return;
    };
    share(&fleet, &server, &right);
    let (said, _) = fleet.run(fleet.writer("writer", &server), "writer");
    assert!(
        said.contains("add to the remote store") && said.contains("nothing"),
        "{said}"
    );
}

#[test]
#[ignore = "a server that refuses"]
fn whoever_may_not_write_builds_all_the_same() {
    let Some(fleet) = Fleet::new() else { return };
    let right = alone(&fleet);
    let Some(server) = Server::s3(&fleet.path("s3")) else {
        return;
    };
    let mut command = fleet.writer("refused", &server);
    command.env("AWS_ACCESS_KEY_ID", "nobody");
    command.env("AWS_SECRET_ACCESS_KEY", "wrong-and-secret");
    let (said, outputs) = fleet.run(command, "refused");
    assert_eq!(said.matches("goes on without it").count(), 1, "{said}");
    assert!(!said.contains("wrong-and-secret"), "{said}");
    assert_eq!(outputs, right);
}

#[test]
#[ignore = "six builds with empty stores"]
fn a_server_that_lies_or_dies_costs_time_and_nothing_else() {
    let Some(fleet) = Fleet::new() else { return };
    let Some(mut server) = Server::s3(&fleet.path("s3")) else {
        return;
    };
    // Two at once, both from nothing.
    let writers = ["first", "second"].map(|out| {
        let mut command = fleet.command(out, &fleet.path(&format!("{out}-store")), &server);
        command.arg("--remote-sign").arg(fleet.path("ours"));
        command
    });
    let right = std::thread::scope(|scope| {
        let [first, second] = writers;
        let second = scope.spawn(|| fleet.run(second, "second").1);
        let first = fleet.run(first, "first").1;
        assert_eq!(first, second.join().unwrap());
        first
    });
    let (said, outputs) = fleet.run(fleet.reader("reader", &server, "ours"), "reader");
    assert!(!composed_itself(&said) && outputs == right, "{said}");

    let (said, outputs) = fleet.run(fleet.reader("foreign", &server, "theirs"), "foreign");
    assert!(said.contains("not signed by a key that is trusted"), "{said}");
    assert!(composed_itself(&said) && outputs == right, "{said}");

    // The largest object, as the server keeps it.
    let mut kept = files(&server.directory);
    kept.sort_by_key(|path| fs::metadata(path).unwrap().len());
    let largest = fs::File::options()
        .read(true)
        .write(true)
        .open(kept.last().unwrap())
        .unwrap();
    let mut byte = [0];
    largest.read_exact_at(&mut byte, 5000).unwrap();
    largest.write_all_at(&[byte[0] ^ 4], 5000).unwrap();
    let (said, outputs) = fleet.run(fleet.reader("rotten", &server, "ours"), "rotten");
    assert!(said.contains("is not what was signed"), "{said}");
    assert!(composed_itself(&said) && outputs == right, "{said}");

    // Killed while the build reads from it.
    largest.write_all_at(&byte, 5000).unwrap();
    let mut command = fleet.reader("dying", &server, "ours");
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let build = command.spawn().unwrap();
    let store = fleet.path("dying-store/tmp");
    while fs::read_dir(&store).map_or(0, Iterator::count) == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    server.stop();
    let output = build.wait_with_output().unwrap();
    let told = said_by(&output);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("goes on without it"), "{told}");
    assert_eq!(outputs_in(&output_directory(&fleet.path("dying"))), right);
}
