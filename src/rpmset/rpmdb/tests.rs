//! Against RPM itself: what it enters for the same packages, and what it reads from our database.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use super::*;
use crate::formats::rpm::tag;
use crate::rpmset::Filter;
use crate::testing::{real_rpms, sample_rpms, tool};

const TIME: u32 = 1_795_219_200;

/// The database of `set` as `filter` leaves it.
fn written(set: &RpmSet, filter: &Filter<'_>) -> Vec<u8> {
    let packages = set.packages().iter();
    let states = packages.map(|package| filter.states(&package.files)).collect();
    let options = Options {
        time: TIME,
        color: 3,
        states: &states,
    };
    write(set, &options).unwrap()
}

fn identity(header: &Header) -> String {
    let text = |tag| String::from_utf8_lossy(header.string(tag).unwrap().unwrap()).into_owned();
    let parts = [tag::NAME, tag::VERSION, tag::RELEASE, tag::ARCH].map(text);
    format!("{}-{}-{}.{}", parts[0], parts[1], parts[2], parts[3])
}

/// Values of `header` by tag, except those of time and those that RPM 4.18 does not know yet.
fn values(header: &Header) -> BTreeMap<u32, (u32, usize, Vec<u8>)> {
    let left_out = [
        tag::INSTALLTIME,
        tag::INSTALLTID,
        tag::OPENPGP,
        tag::SHA3_256HEADER,
    ];
    let tags = header.tags().filter(|(tag, ..)| !left_out.contains(tag));
    tags.map(|(tag, ..)| {
        let value = header.value(tag).unwrap();
        (tag, (value.kind, value.count, value.bytes.to_vec()))
    })
    .collect()
}

/// The rows of table `name` with packages by name, however the headers are numbered.
fn rows(database: &Path, name: &str) -> Vec<(Vec<u8>, String, u32)> {
    let names: Vec<_> = headers(database).unwrap().iter().map(identity).collect();
    let connection = Connection::open(database).unwrap();
    let mut statement = connection
        .prepare(&format!("SELECT key, hnum, idx FROM '{name}'"))
        .unwrap();
    let row = |row: &rusqlite::Row<'_>| {
        let key = row.get_ref(0)?.as_bytes()?.to_vec();
        let number: u32 = row.get(1)?;
        Ok((key, names[number as usize - 1].clone(), row.get(2)?))
    };
    let mut rows: Vec<_> = statement
        .query_map([], row)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    rows.sort();
    rows
}

/// The tables and indexes with the SQL that makes them.
fn schema(database: &Path) -> BTreeMap<String, String> {
    let connection = Connection::open(database).unwrap();
    let mut statement = connection
        .prepare("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
        .unwrap();
    let pairs = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    pairs.unwrap().map(Result::unwrap).collect()
}

fn rpm(database: &Path, arguments: &[&str]) -> String {
    let output = Command::new("rpm")
        .arg("--dbpath")
        .arg(database)
        .args(arguments)
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "rpm {arguments:?}: {shown}");
    String::from_utf8(output.stdout).unwrap()
}

/// Enters `set` with RPM and with us, and holds one database against the other.
fn compare(set: &RpmSet) {
    let directory = tempfile::tempdir().unwrap();
    let [ours, theirs] = ["ours", "theirs"].map(|name| directory.path().join(name));
    for path in [&ours, &theirs] {
        std::fs::create_dir(path).unwrap();
    }
    let flags =
        "-i --justdb --nodeps --noscripts --notriggers --nosignature --force --ignorearch --ignoresize";
    let mut arguments: Vec<_> = flags.split(' ').collect();
    let paths = set
        .packages()
        .iter()
        .map(|package| package.path.to_str().unwrap());
    arguments.extend(paths);
    rpm(&theirs, &arguments);
    let bytes = written(set, &Filter::KEEP);
    let ours = ours.join(FILE_NAME);
    let theirs = theirs.join(FILE_NAME);
    std::fs::write(&ours, bytes).unwrap();

    let by_name = |path: &Path| -> BTreeMap<String, Header> {
        let headers = headers(path).unwrap().into_iter();
        headers.map(|header| (identity(&header), header)).collect()
    };
    let (our_headers, their_headers) = (by_name(&ours), by_name(&theirs));
    assert_eq!(our_headers.len(), set.packages().len());
    let names = |headers: &BTreeMap<String, Header>| headers.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&our_headers), names(&their_headers));
    for (name, header) in &our_headers {
        let (ours, theirs) = (values(header), values(&their_headers[name]));
        let tags = |values: &BTreeMap<u32, _>| values.keys().copied().collect::<BTreeSet<_>>();
        assert_eq!(tags(&ours), tags(&theirs), "{name}");
        for (tag, value) in &ours {
            assert_eq!(value, &theirs[tag], "tag {tag} of {name}");
        }
        assert_eq!(header.u32(tag::INSTALLTIME).unwrap(), Some(TIME));
    }
    for index in INDEXES.iter().filter(|index| index.name != "Installtid") {
        let (ours, theirs) = (rows(&ours, index.name), rows(&theirs, index.name));
        for (row, other) in ours.iter().zip(&theirs) {
            let key = String::from_utf8_lossy(&row.0);
            assert_eq!(row, other, "{} {key}", index.name);
        }
        assert_eq!(ours.len(), theirs.len(), "{}", index.name);
    }
    assert_eq!(
        rows(&ours, "Installtid")[0].0,
        TIME.to_le_bytes(),
        "bytes as they lie in memory"
    );
    assert_eq!(schema(&ours), schema(&theirs));
}

fn real_set() -> Option<RpmSet> {
    let directory = real_rpms()?;
    // RPM 4.18 refuses what is left out: an unknown signature type, broken packages, format 3.
    let mut packages = Vec::new();
    for name in ["distro", "features"] {
        for entry in std::fs::read_dir(directory.join(name)).unwrap() {
            let path = entry.unwrap().path();
            let Ok(package) = Package::open(&path) else {
                continue;
            };
            let checked = Command::new("rpm")
                .args(["-K", "--nosignature"])
                .arg(&path)
                .output()
                .unwrap();
            if checked.status.success() {
                packages.push(package);
            }
        }
    }
    packages.sort_by(|a, b| (&a.nevra, &a.path).cmp(&(&b.nevra, &b.path)));
    packages.dedup_by(|a, b| a.nevra.name == b.nevra.name && a.nevra.arch == b.nevra.arch);
    let paths: Vec<_> = packages.into_iter().map(|package| package.path).collect();
    Some(RpmSet::open(&paths).unwrap())
}

#[test]
fn real_packages_are_entered_as_rpm_does_it() {
    if tool("rpm").is_none() {
        return;
    }
    let Some(set) = real_set() else { return };
    assert!(set.packages().len() > 25, "{}", set.packages().len());
    compare(&set);
}

#[test]
fn the_sample_set_is_entered_as_rpm_does_it() {
    let (Some(_), Some(sample)) = (tool("rpm"), sample_rpms()) else {
        return;
    };
    compare(&RpmSet::load(&sample).unwrap());
}

#[test]
fn documentation_that_is_left_out_is_noted_as_rpm_does_it() {
    let (Some(_), Some(_), Some(real)) = (tool("rpm"), tool("unshare"), real_rpms()) else {
        return;
    };
    let package = real.join("distro/zlib-1.2.7-17.el7.x86_64.rpm");
    let root = tempfile::tempdir().unwrap();
    // `--justdb` would note every file as installed; `--root` wants a user that may change its root.
    let mut command = Command::new("rpm");
    if !nix::unistd::geteuid().is_root() {
        command = Command::new("unshare");
        command.args(["-r", "rpm"]);
    }
    let output = command
        .arg("--root")
        .arg(root.path())
        .args("--dbpath /db -i --excludedocs --nodeps --noscripts --nosignature".split(' '))
        .arg(&package)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let theirs = headers(&root.path().join("db").join(FILE_NAME)).unwrap();
    let filter = Filter {
        exclude_docs: true,
        ..Filter::KEEP
    };
    let ours = root.path().join("ours.sqlite");
    let bytes = written(&RpmSet::open(&[package]).unwrap(), &filter);
    std::fs::write(&ours, bytes).unwrap();
    let ours = headers(&ours).unwrap();
    let noted = |headers: &[Header]| headers[0].value(tag::FILESTATES).unwrap().bytes.to_vec();
    assert_eq!(noted(&ours), noted(&theirs));
    assert!(noted(&ours).contains(&2) && noted(&ours).contains(&0));
}

#[test]
fn rpm_queries_and_verifies_it() {
    let (Some(_), Some(_), Some(sample)) = (tool("rpm"), tool("rpmdb"), sample_rpms()) else {
        return;
    };
    let set = RpmSet::load(&sample).unwrap();
    let started = std::time::Instant::now();
    let bytes = written(&set, &Filter::KEEP);
    eprintln!("{} packages in {:?}", set.packages().len(), started.elapsed());
    assert_eq!(bytes, written(&set, &Filter::KEEP), "the same bytes each time");
    assert_eq!(bytes[18..20], [1, 1], "rollback-journal mode");
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path();
    std::fs::write(database.join(FILE_NAME), &bytes).unwrap();

    let listed = rpm(database, &["-qa", "--qf", "%{nevra}\n"]);
    let listed: BTreeSet<_> = listed.lines().map(str::to_owned).collect();
    let expected: BTreeSet<_> = set
        .packages()
        .iter()
        .map(|package| package.nevra.to_string())
        .collect();
    assert_eq!(listed, expected);
    let query = |arguments: &[&str]| rpm(database, arguments).trim().to_owned();
    let name = ["--qf", "%{name}\n"];
    assert_eq!(
        query(&[&["-q", "--whatprovides", "libc6"], &name[..]].concat()),
        "libc6"
    );
    assert_eq!(query(&[&["-qf", "/usr/bin/bash"], &name[..]].concat()), "bash");
    let requires = query(&[&["-q", "--whatrequires", "libc6"], &name[..]].concat());
    assert!(requires.lines().any(|line| line == "bash"), "{requires}");
    let info = query(&["-qi", "bash"]);
    assert!(info.contains("Install Date: Sat Nov 21 00:00:00 2026"), "{info}");
    assert_eq!(query(&["-q", "--qf", "%{installtime}", "bash"]), TIME.to_string());
    let files = query(&["-ql", "bash"]);
    assert!(files.lines().any(|line| line == "/usr/bin/bash"), "{files}");
    let verified = Command::new("rpmdb")
        .arg("--verifydb")
        .arg("--dbpath")
        .arg(database)
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");
    let broken = query(&["-Va", "--nofiles", "--noscripts", "--nosignature"]);
    assert_eq!(broken, "", "every dependency is met, every header digest holds");
}
