//! e2fsck, dumpe2fs and debugfs.

use super::*;

/// Sizes of one group and of many, whole ones and not.
const SIZES: &[u64] = &[64 * MIB, 100 * MIB + 4096, 256 * MIB, 2100 * MIB, 24 << 30];

#[test]
fn e2fsck_finds_nothing_though_what_was_not_written_is_noise() {
    if !tool("e2fsck") || !tool("dumpe2fs") {
        return;
    }
    let tree = Tree::new();
    for &size in SIZES {
        let image = Image::made(size, &tree.root());
        // Beyond, noise would take too long to write.
        if size <= 256 * MIB {
            drown(&image, &tree);
        }
        let said = run("e2fsck", ["-f", "-n", &image.text()]);
        assert!(said.contains("Pass 5") && !said.contains("ix?"), "{size}: {said}");
        let summary = run("dumpe2fs", ["-h", &image.text()]);
        let field = |name: &str| {
            let line = summary.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("{name}: {summary}"))
                .trim()
                .to_owned()
        };
        assert_eq!(field("Filesystem UUID:"), "7c1a4a20-4a3b-8c5d-9e6f-001122334455");
        assert_eq!(field("Filesystem volume name:"), "root");
        assert_eq!(field("Filesystem state:"), "clean");
        assert_eq!(field("Block count:"), (image.size / 4096).to_string());
        assert_eq!(
            field("Filesystem features:"),
            "has_journal ext_attr resize_inode dir_index filetype extent 64bit flex_bg sparse_super large_file \
             huge_file dir_nlink extra_isize metadata_csum"
        );
    }
}

/// Noise wherever nothing was written.
fn drown(image: &Image, tree: &Tree) {
    let blocks = Blocks::default();
    write(
        &blocks,
        &params(image.file().metadata().unwrap().len()),
        &tree.root(),
    )
    .unwrap();
    let blocks = blocks.0.into_inner().unwrap();
    let noise = noise(9, BLOCK_SIZE as usize);
    let out = image.file();
    for number in 0..out.metadata().unwrap().len() / BLOCK_SIZE {
        let block = blocks.get(&number).unwrap_or(&noise);
        out.write_all_at(block, number * BLOCK_SIZE).unwrap();
    }
}

/// Copies, reserve, journal and numbers of inodes are as mke2fs chooses them.
#[test]
fn its_shape_is_that_of_mke2fs() {
    if !tool("mke2fs") || !tool("dumpe2fs") {
        return;
    }
    for size in [128 * MIB, 5 << 29] {
        let ours = Image::made(size, &directory([]));
        let theirs = ours.directory.path().join("theirs");
        File::create_new(&theirs).unwrap().set_len(size).unwrap();
        let theirs = theirs.to_str().unwrap();
        let features = "^metadata_csum_seed,^orphan_file,64bit,metadata_csum";
        // As many reserved blocks as here.
        let grow = format!("resize={},lazy_itable_init=1,lazy_journal_init=1", 1u64 << 30);
        let options = [
            "-q", "-F", "-t", "ext4", "-b", "4096", "-i", "16384", "-O", features, "-E", &grow,
        ];
        run("mke2fs", options.into_iter().chain([theirs]));
        let shape = |path: &str| {
            let said = run("dumpe2fs", [path]);
            let places = said.lines().map(str::trim_start).filter(|line| {
                [
                    "Primary",
                    "Backup",
                    "Reserved",
                    "Inodes per",
                    "Journal size",
                    "Total journal",
                ]
                .iter()
                .any(|start| line.starts_with(start))
            });
            places.map(str::to_owned).collect::<Vec<_>>()
        };
        let (ours, theirs) = (shape(&ours.text()), shape(theirs));
        assert!(
            ours.iter()
                .any(|line| line.starts_with("Reserved GDT blocks at 2-512"))
        );
        assert_eq!(ours, theirs, "{size}");
    }
}

#[test]
fn debugfs_reads_the_tree() {
    if !tool("debugfs") {
        return;
    }
    let tree = Tree::new();
    let image = Image::made(2100 * MIB, &tree.root());
    let list = image.debugfs("ls -p /");
    let rows: Vec<Vec<&str>> = list
        .lines()
        .filter(|line| line.starts_with('/'))
        .map(|line| line.trim_matches('/').split('/').collect())
        .collect();
    let names: Vec<_> = rows.iter().map(|row| (row[4], row[1])).collect();
    let expected = [
        (".", "040755"),
        ("..", "040755"),
        ("lost+found", "040700"),
        ("bin", "120777"),
        ("etc", "040755"),
        ("long", "120777"),
        ("many", "040755"),
        ("owned", "042750"),
        ("small", "100644"),
        ("tmp", "041777"),
        ("usr", "040755"),
    ];
    assert_eq!(names, expected);
    let owned = rows.iter().find(|row| row[4] == "owned").unwrap();
    assert_eq!((owned[2], owned[3]), ("100000", "70000"));
    let copy = image.directory.path().join("copy");
    image.debugfs(&format!("dump /owned/deep/file {}", copy.display()));
    assert!(std::fs::read(copy).unwrap() == tree.large);
    assert!(image.debugfs("stat /bin").contains("Fast link dest: \"usr/bin\""));
    assert!(image.debugfs("cat /long").contains(&tree.long));
    let many = image.debugfs("ls -p /many");
    assert_eq!(many.lines().filter(|line| line.contains("name-")).count(), 300);
    assert!(many.contains(&format!("/{}/", tree.names[299])));
    let labels = [
        ("/", "system_u:object_r:root_t:s0"),
        ("/usr", "system_u:object_r:usr_t:s0"),
    ];
    for (path, label) in labels {
        let listed = image.debugfs(&format!("ea_get {path} security.selinux"));
        assert!(listed.contains(label), "{listed}");
    }
    let value = image.directory.path().join("value");
    image.debugfs(&format!("ea_get -f {} /small user.large", value.display()));
    assert!(std::fs::read(value).unwrap() == tree.value);
    let stat = image.debugfs("stat /usr");
    for time in ["ctime", "atime", "mtime", "crtime"] {
        assert!(stat.contains(&format!("{time}: 0x{TIME:08x}:00000000")), "{stat}");
    }
}

#[test]
fn a_file_system_costs_what_is_in_it() {
    let image = Image::made(24 << 30, &directory([("usr", directory([]))]));
    let used = image.file().metadata().unwrap().blocks() * 512;
    assert!(used < 4 * MIB, "{used}");
}

/// As Linux would online: descriptors go into the reserve.
#[test]
fn resize2fs_grows_it() {
    if !tool("resize2fs") || !tool("e2fsck") {
        return;
    }
    let tree = Tree::new();
    let image = Image::made(256 * MIB, &tree.root());
    image.file().set_len(40 << 30).unwrap();
    run("resize2fs", [&image.text()]);
    run("e2fsck", ["-f", "-n", &image.text()]);
    let summary = run("dumpe2fs", ["-h", &image.text()]);
    assert!(
        summary.contains("Block count:              10485760"),
        "{summary}"
    );
    let copy = image.directory.path().join("copy");
    image.debugfs(&format!("dump /owned/deep/file {}", copy.display()));
    assert!(std::fs::read(copy).unwrap() == tree.large);
}
