use std::fs;
use std::path::Path;

use super::*;
use crate::formats::testing::{run, tool};
use crate::testing;

/// What `systemd-hwdb` makes of `files` (names and texts), with the version that it writes, and what we make of them.
fn both(files: &[(&str, &[u8])]) -> (Vec<u8>, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let hwdb_d = directory.path().join("usr/lib/udev/hwdb.d");
    fs::create_dir_all(&hwdb_d).unwrap();
    for (name, text) in files {
        fs::write(hwdb_d.join(name), text).unwrap();
    }
    let root = format!("--root={}", directory.path().display());
    run("systemd-hwdb", ["update", "--usr", &root]);
    let theirs = fs::read(directory.path().join("usr/lib/udev/hwdb.bin")).unwrap();
    let version = u64::from_le_bytes(theirs[8..16].try_into().unwrap());
    // Under `--root`, systemd 257 names files with the root in front.
    let names: Vec<_> = files
        .iter()
        .map(|(name, _)| hwdb_d.join(name).display().to_string())
        .collect();
    let sources: Vec<_> = names
        .iter()
        .zip(files)
        .map(|(name, (_, text))| Source {
            name: name.as_bytes(),
            text,
        })
        .collect();
    let ours = compile(&sources, version).unwrap();
    (theirs, ours.bytes)
}

#[test]
fn odd_texts_compile_as_by_systemd_hwdb() {
    if !tool("systemd-hwdb") {
        return;
    }
    let tables: [&[(&str, &[u8])]; 7] = [
        &[("10-a.hwdb", b"")],
        &[(
            "10-a.hwdb",
            b"usb:v1234*\n A=1\n B=2 # why\n\nusb:v12*\nusb:v1234*\n B=3\n C=\n",
        )],
        // A later file wins; the same key keeps its place.
        &[
            ("10-a.hwdb", b"x*\n K=one\n L=two\n"),
            ("20-b.hwdb", b"x*\n K=three\n\nx\n K=\xff\xfe\n"),
        ],
        // Warnings: no match, no properties, no key, no equals sign, a match below properties, no end.
        &[(
            "10-a.hwdb",
            b" A=1\n\nx*\n\nx*\n =1\n   =2\n A\n \t B=3\nlost*\n C=4\n\ny*\n D=5\n\nz*",
        )],
        // Line ends of several kinds; blanks before keys; nothing but a comment.
        &[(
            "10-a.hwdb",
            b"a\r\n A=1\r\r\nb\n\r B=2\n\n\0c\0 C=3\n# x\n   \t  \t D=4   \t\nnone #\n\n#",
        )],
        // Splits at every place, tails of tails.
        &[(
            "10-a.hwdb",
            b"abcdef\n K=abc\n\nabc\n K=bc\n\nabcdxf\n bc=K\n\n\nab\n c=c\n\na\n a=a\n\nzabc\n K=K\n",
        )],
        &[("10-a.hwdb", b"x\n b=1\n a=2\n aa=3\n B=4\n \xc3\xa4=5\n a=6\n")],
    ];
    for files in tables {
        let (theirs, ours) = both(files);
        assert!(
            theirs == ours,
            "{}:\n{}\n{}",
            files[0].1.escape_ascii(),
            theirs.escape_ascii(),
            ours.escape_ascii()
        );
    }
}

#[test]
fn the_whole_database_of_systemd_compiles_as_by_systemd_hwdb() {
    let Some(tools) = testing::trixie_tools() else {
        return testing::skip("the newer tools are missing: run tests/setup");
    };
    let directory = tools.join("root/usr/lib/udev/hwdb.d");
    let mut files: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let texts: Vec<_> = files
        .iter()
        .map(|name| fs::read(Path::new(&directory).join(name)).unwrap())
        .collect();
    let files: Vec<_> = files
        .iter()
        .zip(&texts)
        .map(|(name, text)| (name.as_str(), text.as_slice()))
        .collect();
    let (theirs, ours) = both(&files);
    assert!(theirs.len() > 8_000_000, "{} bytes", theirs.len());
    assert!(theirs == ours, "{} and {} bytes", theirs.len(), ours.len());
}

#[test]
fn what_counts_for_nothing_is_told() {
    let text = b"\n A=1\nx*\n\ny*\n =1\n A\nz*\n";
    let source = Source {
        name: b"/usr/lib/udev/hwdb.d/a.hwdb",
        text,
    };
    let compiled = compile(&[source], 257).unwrap();
    let told: Vec<_> = compiled
        .remarks
        .iter()
        .map(|remark| (remark.line, &remark.what[..16]))
        .collect();
    assert_eq!(
        told,
        [
            (2, "a property witho"),
            (4, "the record above"),
            (6, "the property's k"),
            (7, "a property is wr"),
            (8, "a match right be"),
        ]
    );
    assert_eq!(compiled.properties, 0);
}

#[test]
fn what_is_too_large_is_refused() {
    let name: &[u8] = b"a.hwdb";
    let long = [b"x\n A=", vec![b'y'; MAX_LINE].as_slice()].concat();
    let refused = compile(&[Source { name, text: &long }], 257).unwrap_err();
    assert_eq!(refused.to_string(), "a.hwdb:2: a line of more than 1 MiB");

    // A small file can ask for a great many properties.
    let mut bomb = Vec::new();
    for index in 0..1100 {
        bomb.extend_from_slice(format!("{index:x}\n").as_bytes());
    }
    for index in 0..1100 {
        bomb.extend_from_slice(format!(" {index:x}=\n").as_bytes());
    }
    let refused = compile(&[Source { name, text: &bomb }], 257).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "a.hwdb:2054: more than 1048576 properties in all"
    );
}
