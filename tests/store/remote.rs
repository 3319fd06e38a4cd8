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

    fn command(&self, out: &str, store: &Path, server: &Server) -> Command {
        let mut command = build_command(&sample_definition(), &self.rpms, &self.path(out), store);
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
    fn run(&self, mut command: Command, out: &str) -> (String, BTreeMap<PathBuf, String>) {
        let output: Output = command.output().unwrap();
        assert!(output.status.success(), "{out}: {}", said_by(&output));
        let outputs = outputs_in(&output_directory(&self.path(out)));
        fs::remove_dir_all(self.path(out)).unwrap();
        let _ = fs::remove_dir_all(self.path(&format!("{out}-store")));
        (said_by(&output), outputs)
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
    assert!(said.contains("1 entries") && outputs == *right, "{said}");
    let (said, outputs) = fleet.run(fleet.reader("reader", server, "ours"), "reader");
    assert!(
        said.contains("composed elsewhere") && !composed_itself(&said),
        "{said}"
    );
    assert_eq!(outputs, *right);
    let warned = |line: &str| line.starts_with("warning") && line.contains("remote store");
    assert!(!said.lines().any(warned), "{said}");
}

#[test]
fn what_one_builder_composes_another_takes_from_the_server() {
    let Some(fleet) = Fleet::new() else { return };
    let Some(mut server) = Server::s3(&fleet.path("s3")) else {
        return;
    };
    let right = alone(&fleet);
    share(&fleet, &server, &right);
    server.stop();
    let (said, outputs) = fleet.run(fleet.writer("alone", &server), "alone");
    assert_eq!(said.matches("goes on without it").count(), 1, "{said}");
    assert_eq!(outputs, right);
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
