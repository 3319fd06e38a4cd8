//! What was written here and by mtools, and damage.

use std::fs;

use super::*;
use crate::formats::at::Content;
use crate::formats::fat::{self, FatFile, Params};
use crate::formats::testing::{noise, run, tool};

const SIZE: u64 = 40 << 20;

fn sample() -> Vec<(String, Vec<u8>)> {
    let mut files = vec![
        ("EFI/BOOT/BOOTX64.EFI".to_owned(), noise(1, 140_000)),
        ("EFI/Linux/sample_1.0+3.efi".to_owned(), noise(2, 3_000_001)),
        ("loader/empty".to_owned(), Vec::new()),
        (
            "loader/entries/Grüße aus Köln, sehr lang.conf".to_owned(),
            noise(4, 1),
        ),
    ];
    files.extend((0..60).map(|n| (format!("many/a rather long file name {n:03}.conf"), vec![b'x'; n])));
    files
}

fn written() -> Vec<u8> {
    let target = tempfile::NamedTempFile::new().unwrap();
    target.as_file().set_len(SIZE).unwrap();
    let files = sample();
    let files: Vec<_> = files
        .iter()
        .map(|(path, bytes)| FatFile {
            path,
            content: Content::bytes(bytes),
        })
        .collect();
    let params = Params {
        size: SIZE,
        volume_id: 0x1234_abcd,
        label: "ESP",
        time: 1_763_683_199,
    };
    fat::write(target.as_file(), params, &files).unwrap();
    fs::read(target.path()).unwrap()
}

fn contents(bytes: &Vec<u8>) -> Vec<(String, Vec<u8>)> {
    let volume = read(bytes, SIZE).unwrap();
    assert_eq!(
        (volume.label.as_str(), volume.serial, volume.lost),
        ("ESP", 0x1234_abcd, 0)
    );
    let read = |file: &StoredFile| {
        let mut content = vec![0; file.size as usize];
        file.content(bytes).read_exact_at(&mut content, 0).unwrap();
        assert!(
            file.content(bytes)
                .read_exact_at(&mut [0; 2], file.size.saturating_sub(1))
                .is_err()
        );
        (file.path.clone(), content)
    };
    let mut files: Vec<_> = volume.files.iter().map(read).collect();
    files.sort();
    files
}

#[test]
fn what_was_written_reads_back() {
    let mut expected = sample();
    expected.sort();
    let bytes = written();
    assert!(contents(&bytes) == expected);
    let directories = read(&bytes, SIZE).unwrap().directories;
    assert_eq!(
        directories,
        ["EFI", "EFI/BOOT", "EFI/Linux", "loader", "loader/entries", "many"]
    );
}

#[test]
fn what_mtools_wrote_reads_back() {
    if !tool("mformat") || !tool("mcopy") || !tool("mmd") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let [image, file] = ["image", "file"].map(|name| dir.path().join(name).to_str().unwrap().to_owned());
    fs::File::create(&image).unwrap().set_len(SIZE).unwrap();
    run(
        "mformat",
        ["-F", "-c", "1", "-v", "ESP", "-N", "1234abcd", "-i", &image, "::"],
    );
    let (short, long) = (noise(7, 70_000), noise(8, 100));
    run("mmd", ["-i", &image, "::/EFI"]);
    for (path, bytes) in [
        ("::/EFI/SHORT.TXT", &short),
        ("::/EFI/lower.txt", &long),
        ("::/A long name.x", &long),
    ] {
        fs::write(&file, bytes).unwrap();
        run("mcopy", ["-i", &image, &file, path]);
    }
    let expected = [
        ("A long name.x".to_owned(), long.clone()),
        ("EFI/SHORT.TXT".to_owned(), short),
        ("EFI/lower.txt".to_owned(), long),
    ];
    assert!(contents(&fs::read(&image).unwrap()) == expected);
}

#[test]
fn damage_is_named_with_its_place() {
    let good = written();
    let shape = Shape::read(&good, SIZE).unwrap();
    let table = shape.tables_start as usize;
    let second = table + shape.table_size as usize;
    let both = |bytes: &mut Vec<u8>, cluster: usize, value: u32| {
        for start in [table, second] {
            bytes[start + cluster * 4..][..4].copy_from_slice(&value.to_le_bytes());
        }
    };
    let efi = shape.place(3) as usize;
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bad = good.clone();
        change(&mut bad);
        let error = read(&bad, SIZE).unwrap_err();
        let at = match &error {
            FatReadError::Wrong { at, .. } => *at as usize,
            FatReadError::Io(_) => usize::MAX,
        };
        (error.to_string(), at)
    };
    type Case<'a> = (&'a dyn Fn(&mut Vec<u8>), &'a str, usize);
    let cases: [Case<'_>; 9] = [
        (&|b| b[510] = 0, "no boot sector", 0),
        (&|b| b[13] = 3, "not one of a FAT32 volume", 0),
        (&|b| b[35] = 0x7f, "longer than it is", 32),
        (&|b| b[100] = 1, "its copy differ", 6 * 512),
        (
            &|b| b[second + 9] ^= 1,
            "two allocation tables differ",
            second + 9,
        ),
        (&|b| both(b, 3, 3), "twice to one (`EFI`)", efi),
        (&|b| both(b, 3, 0x00ff_ffff), "out of the volume (`EFI`)", table),
        (&|b| b[efi] = b'x', "begin with `.` and `..`", efi),
        (
            &|b| b[efi + 511] = 1,
            "behind a directory's end (`EFI`)",
            efi + 6 * 32,
        ),
    ];
    for (change, expected, place) in cases {
        let (error, at) = refused(change);
        assert!(error.contains(expected), "{error}, not {expected}");
        assert_eq!(at, place, "{error}");
    }
    let mut lost = good.clone();
    let free = shape.clusters as usize;
    both(&mut lost, free, END);
    let volume = read(&lost, SIZE).unwrap();
    assert_eq!((volume.lost, volume.first_lost), (1, shape.place(free as u32)));
}

#[test]
fn any_bytes_are_an_error_or_a_volume() {
    let good = written();
    let shape = Shape::read(&good, SIZE).unwrap();
    let places = (0..90)
        .chain(shape.tables_start as usize..shape.tables_start as usize + 40)
        .chain(shape.place(2) as usize..shape.place(2) as usize + 128);
    let mut bad = good.clone();
    for at in places {
        for value in [0, 1, 0x7f, 0xe5, 0xff] {
            bad[at] = value;
            if let Ok(volume) = read(&bad, SIZE) {
                for file in &volume.files {
                    let _ = file.content(&bad).read_exact_at(&mut [0; 1], 0);
                }
            }
        }
        bad[at] = good[at];
    }
}
