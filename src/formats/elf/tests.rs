//! Tests of [`super`].

use std::path::PathBuf;
use std::process::Command;

use super::fixture::{Object, module};
use super::{DlopenPriority, ET_DYN, Elf, ElfError, machine};

const OBJECT: Object<'static> = Object {
    soname: Some("libx.so.1"),
    needed: &["liba.so.1", "libb.so.2"],
    rpath: Some("/old"),
    runpath: Some("$ORIGIN/../lib"),
    interpreter: Some("/lib64/ld-linux-x86-64.so.2"),
    dlopen: Some(
        r#"[{"soname":["liby.so.2","liby.so.1"],"feature":"y","priority":"required"},{"soname":["libz.so.1"]}]"#,
    ),
    isa: Some(7),
};

#[test]
fn the_parts_of_an_object_are_read() {
    let bytes = OBJECT.build();
    let elf = Elf::parse(&bytes).unwrap();
    assert_eq!(
        (elf.is_64, elf.machine, elf.kind),
        (true, machine::X86_64, ET_DYN)
    );
    assert_eq!(elf.interpreter(), Some(&b"/lib64/ld-linux-x86-64.so.2"[..]));
    let dynamic = elf.dynamic().unwrap().unwrap();
    assert_eq!(dynamic.soname, Some(&b"libx.so.1"[..]));
    assert_eq!(dynamic.needed, [&b"liba.so.1"[..], b"libb.so.2"]);
    assert_eq!(dynamic.rpath, Some(&b"/old"[..]));
    assert_eq!(dynamic.runpath, Some(&b"$ORIGIN/../lib"[..]));
    assert_eq!(elf.x86_isa_level(), 2, "the greatest bit of 7");
    let dlopen = elf.dlopen().unwrap();
    assert_eq!(dlopen[0].soname, ["liby.so.2", "liby.so.1"]);
    assert_eq!(dlopen[0].priority, DlopenPriority::Required);
    assert_eq!(
        dlopen[1].priority,
        DlopenPriority::Recommended,
        "when none is named"
    );
}

#[test]
fn a_bad_dlopen_note_is_an_error() {
    let bytes = Object {
        dlopen: Some("{}"),
        ..Object::default()
    }
    .build();
    let error = Elf::parse(&bytes).unwrap().dlopen().unwrap_err();
    assert!(matches!(error, ElfError::DlopenNote(_)), "{error}");
}

#[test]
fn sections_and_symbols_of_a_module_are_read() {
    let bytes = module(&["license=GPL"], &["give"], &["take"]);
    let elf = Elf::parse(&bytes).unwrap();
    assert_eq!(elf.section(b".modinfo"), Some(&b"license=GPL\0"[..]));
    let names: Vec<_> = elf
        .symbols()
        .iter()
        .map(|symbol| (symbol.name, symbol.section, symbol.value))
        .collect();
    assert_eq!(names, [(&b"take"[..], 0, 0), (b"__crc_give", 0xfff1, 7)]);
}

/// Everything that can be asked of a file that may be nonsense.
fn exercise(bytes: &[u8]) -> bool {
    let Ok(elf) = Elf::parse(bytes) else {
        return false;
    };
    let _ = (
        elf.interpreter(),
        elf.dynamic(),
        elf.dlopen(),
        elf.x86_isa_level(),
    );
    let _ = (elf.symbols(), elf.section(b".modinfo"), elf.section_at(9));
    true
}

#[test]
fn cut_files_never_panic() {
    for bytes in [OBJECT.build(), module(&["a=b"], &["c"], &["d"])] {
        assert!(exercise(&bytes));
        for cut in 0..bytes.len() {
            exercise(&bytes[..cut]);
        }
        assert!(!exercise(&bytes[..63]));
        assert_eq!(Elf::parse(&bytes[..3]).unwrap_err(), ElfError::NotElf);
    }
}

proptest::proptest! {
    #[test]
    fn damaged_files_never_panic(at in 4_usize..500, values in proptest::collection::vec(0_u8.., 1..16)) {
        for mut bytes in [OBJECT.build(), module(&["a=b"], &["c"], &["d"])] {
            for (index, value) in values.iter().enumerate() {
                if let Some(byte) = bytes.get_mut(at + index) {
                    *byte = *value;
                }
            }
            exercise(&bytes);
        }
    }
}

#[test]
fn the_hosts_libraries_read_as_readelf_reads_them() {
    let Ok(output) = Command::new("readelf").arg("--version").output() else {
        crate::testing::skip("readelf is missing");
        return;
    };
    assert!(output.status.success());
    let dirs = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
    ];
    let dir = dirs
        .iter()
        .find(|dir| PathBuf::from(dir).join("libc.so.6").exists());
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir.unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains(".so."))
        .collect();
    files.sort();
    let mut compared = 0;
    for path in files.iter().take(60) {
        let Some(bytes) = std::fs::read(path).ok().filter(|bytes| Elf::has_magic(bytes)) else {
            continue;
        };
        let output = Command::new("readelf").args(["-dW"]).arg(path).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let named = |tag: &str| -> Vec<Vec<u8>> {
            let lines = text.lines().filter(|line| line.contains(tag));
            let names = lines.map(|line| line[line.find('[').unwrap() + 1..line.rfind(']').unwrap()].into());
            names.collect()
        };
        let elf = Elf::parse(&bytes).unwrap();
        let dynamic = elf.dynamic().unwrap().unwrap();
        assert_eq!(dynamic.needed, named("(NEEDED)"), "{}", path.display());
        let soname: Vec<&[u8]> = dynamic.soname.into_iter().collect();
        assert_eq!(soname, named("(SONAME)"), "{}", path.display());
        compared += 1;
    }
    assert!(compared >= 10, "{compared} libraries");
}
