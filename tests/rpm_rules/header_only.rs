//! What headers say beside the files: IMA signatures, accounts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hullwright::path::TreePath;
use hullwright::rpmset::RpmSet;
use hullwright::store::{Store, hex};
use hullwright::tree::identity::provided;
use hullwright::tree::merge::{Ima, Options, merge};
use hullwright::tree::{Kind, Meta, Tree};

use crate::spec::{Bench, Spec};
use crate::support::tool;

fn merged(bench: &Bench, packages: &[PathBuf], ima: Ima) -> Result<Tree, String> {
    let set = RpmSet::open(packages).map_err(|error| format!("{:?}", miette::Report::new(error)))?;
    let place = tempfile::tempdir_in(bench.path()).unwrap();
    let contents = set.contents(&Store::open(place.path()).unwrap()).unwrap();
    let options = Options {
        ima,
        ..Options::DEFAULT
    };
    let merged = merge(&set, &contents, &options).map_err(|errors| errors.to_string())?;
    Ok(merged.tree)
}

/// Adds a string array to the signature header of the package at `path`, as `rpmsign` would, were it built with IMA.
fn add_signature_tag(path: &Path, tag: u32, values: &[String]) {
    let content = fs::read(path).unwrap();
    let number = |at: usize| u32::from_be_bytes(content[at..at + 4].try_into().unwrap()) as usize;
    let (start, index) = (96, 96 + 16);
    let (entries, length) = (number(start + 8), number(start + 12));
    let store = index + entries * 16;
    let end = store + length;
    let mut data = content[store..end].to_vec();
    let offset = data.len() as u32;
    for value in values {
        data.extend([value.as_bytes(), b"\0"].concat());
    }
    let mut out = content[..start + 8].to_vec();
    out.extend((entries as u32 + 1).to_be_bytes());
    out.extend((data.len() as u32).to_be_bytes());
    out.extend(&content[index..store]);
    for word in [tag, 8, offset, values.len() as u32] {
        out.extend(word.to_be_bytes());
    }
    out.extend(data);
    while !out.len().is_multiple_of(8) {
        out.push(0);
    }
    out.extend(&content[end.next_multiple_of(8)..]);
    fs::write(path, out).unwrap();
}

/// A report in one line: where it breaks depends on how long the place is.
fn unwrapped(report: &str) -> String {
    let words = report.split_whitespace().filter(|word| *word != "│");
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn ima_signatures_are_kept_by_choice() {
    let Some(bench) = Bench::new() else { return };
    let signed = bench.package(
        "signed",
        "put usr/a a; put usr/conf c; ln -s a usr/link; put usr/none n; put usr/zero z",
        "/usr/a\n%config /usr/conf\n/usr/link\n/usr/none\n/usr/zero",
    );
    let signature = |byte: u8| hex(&[&[3u8, 2, 4][..], &[byte; 70]].concat());
    let values = [
        signature(1),
        signature(2),
        signature(3),
        String::new(),
        "00".repeat(70),
    ];
    add_signature_tag(&signed, 274, &values);
    let shown = Command::new(tool("rpm").unwrap())
        .args("-qp --nosignature --qf".split(' '))
        .arg("[%{FILESIGNATURES}\n]")
        .arg(&signed)
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(shown.lines().collect::<Vec<_>>(), values, "RPM sees them");

    let attributes = |ima| {
        let tree = merged(&bench, std::slice::from_ref(&signed), ima).unwrap();
        let with = tree.walk().filter(|(_, node)| !node.meta.xattrs.is_empty());
        with.map(|(path, node)| {
            let value = &node.meta.xattrs[b"security.ima".as_slice()];
            (path.to_string(), hex(value))
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(attributes(Ima::Drop), []);
    // Neither what is meant to change, nor what is none.
    assert_eq!(attributes(Ima::Keep), [("/usr/a".to_owned(), signature(1))]);

    let broken = bench.package("broken", "put usr/b b", "/usr/b");
    add_signature_tag(&broken, 274, &["0g".to_owned()]);
    let said = unwrapped(&merged(&bench, &[broken], Ima::Drop).unwrap_err());
    assert!(
        said.contains("an IMA signature that is not hexadecimal"),
        "{said}"
    );
    let many = bench.package("many", "put usr/b b", "/usr/b");
    add_signature_tag(&many, 274, &["00".to_owned(), "11".to_owned()]);
    let said = unwrapped(&merged(&bench, &[many], Ima::Drop).unwrap_err());
    assert!(said.contains("2 values in FILESIGNATURES, 1 files"), "{said}");
}

#[test]
fn accounts_that_packages_provide_become_sysusers_lines() {
    let Some(bench) = Bench::new() else { return };
    // As RPM from 4.19 on writes them: NULs in place of what base64 would pad with.
    let provide = |what: &str, line: &str| {
        let mut line = line.as_bytes().to_vec();
        line.resize(line.len().next_multiple_of(3), 0);
        format!("Provides: {what} = {}\n", STANDARD.encode(line))
    };
    let head = [
        provide("user(bare)", "u bare - \"Bare of a file\" /var/lib/bare"),
        provide("group(wheelish)", "g wheelish 55"),
        provide("groupmember(bare/wheelish)", "m bare wheelish"),
        provide("user(filed)", "u filed 78"),
    ]
    .concat();
    let filed = Spec {
        head: "Provides: user(fake) = 1.0",
        ..Spec::new(
            "filed",
            "put usr/lib/sysusers.d/filed.conf 'u filed 77 \"Filed\" /run'",
            "/usr/lib/sysusers.d/filed.conf",
        )
    };
    let bare = Spec {
        head: &head,
        ..Spec::new("bare", "put usr/bare b", "%attr(-,bare,wheelish) /usr/bare")
    };
    let packages = [filed, bare].map(|spec| bench.build(&spec, &[]));
    let provides = Command::new(tool("rpm").unwrap())
        .args("-qp --nosignature --provides".split(' '))
        .args(&packages)
        .output()
        .unwrap();
    let provides = String::from_utf8(provides.stdout).unwrap();
    assert!(
        provides.contains("user(bare) = ") && provides.contains("groupmember("),
        "{provides}"
    );

    let set = RpmSet::open(&packages).unwrap();
    let mut tree = merged(&bench, &packages, Ima::Drop).unwrap();
    provided::put(&mut tree, &set, 7).unwrap();
    let path = TreePath::literal("/usr/lib/sysusers.d/hullwright-provided.conf");
    let Kind::File(file) = &tree.get(&path).unwrap().kind else {
        panic!()
    };
    let text = String::from_utf8(file.blob.read_all().unwrap()).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    let expected = [
        "# bare provides",
        "g wheelish 55",
        "m bare wheelish",
        "u bare - \"Bare of a file\" /var/lib/bare",
    ];
    assert_eq!(lines, expected, "what a file says is not said again");
    assert_eq!(tree.get(&path).unwrap().meta, Meta::root(0o644, 7));
    let accounts = hullwright::tree::identity::apply(&mut tree, 7, None).unwrap();
    assert_eq!(
        (accounts.users["filed"].uid, accounts.groups["wheelish"].gid),
        (77, 55)
    );
    assert_eq!(accounts.groups["wheelish"].members, ["bare"]);
    let owner = &tree.get(&TreePath::literal("/usr/bare")).unwrap().meta;
    assert_eq!((owner.uid, owner.gid), (accounts.users["bare"].uid, 55));
}
