//! What is refused, and in which words.

use super::*;

#[test]
fn what_cannot_be_stored_is_named() {
    let refused = |change: &dyn Fn(&mut Builder)| {
        let mut b = Builder::new();
        b.add(0, "file", InodeKind::File(Vec::new()));
        change(&mut b);
        let result = write(&b.0, &options(Compression::None, true), Cursor::new(Vec::new()));
        result.unwrap_err().to_string()
    };
    let prefix = "cannot be stored in an erofs volume";
    for (change, message) in [
        (
            &(|b: &mut Builder| b.link(0, "two", 7)) as &dyn Fn(&mut Builder),
            format!("`/two` {prefix}: it refers to inode 7, which does not exist"),
        ),
        (
            &|b| b.link(0, "..", 1),
            format!("`/..` {prefix}: its name is empty, `.` or `..`, or contains `/` or a zero byte"),
        ),
        (
            &|b| b.link(0, &"n".repeat(256), 1),
            format!(
                "`/{}` {prefix}: its name has 256 bytes; at most 255 are allowed",
                "n".repeat(256)
            ),
        ),
        (
            &|b| b.link(0, "loop", 0),
            format!("`/loop` {prefix}: it is a directory that stands in more than one place"),
        ),
        (
            &|b| b.0.inodes[1].mode = 0o100_644,
            format!("`/file` {prefix}: its mode 100644 has bits outside of 07777"),
        ),
        (
            &|b| xattr(&mut b.0.inodes[1], "btrfs.x", b""),
            format!(
                "`/file` {prefix}: the extended attribute `btrfs.x` is not in the namespace user, trusted, \
                 security or posix_acl"
            ),
        ),
        (
            &|b| {
                let sub = b.add(0, "sub", dir()).0;
                b.add(
                    sub,
                    "device",
                    InodeKind::CharDevice {
                        major: 4096,
                        minor: 0,
                    },
                );
            },
            format!(
                "`/sub/device` {prefix}: device 4096:0 is out of range (major below 4096, minor below 1048576)"
            ),
        ),
        (
            &|b| b.0.inodes.push(b.0.inodes[1].clone()),
            "inode 2 of the tree for the erofs volume stands in no directory".to_owned(),
        ),
    ] {
        assert_eq!(refused(change), message);
    }
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    for (compression, fragments, dedupe, chunk_size, message) in [
        (
            Compression::None,
            true,
            false,
            None,
            "fragments of an erofs volume are compressed: choose a compression",
        ),
        (
            Compression::None,
            false,
            true,
            None,
            "`dedupe` of an erofs volume is about compressed clusters: choose a compression, or chunks",
        ),
        (
            Compression::Lz4,
            false,
            false,
            Some(4096),
            "chunks of an erofs volume are not compressed",
        ),
        (
            Compression::None,
            false,
            false,
            Some(5000),
            "the chunks of an erofs volume must have a power of two of bytes, from 4096 to 1048576",
        ),
    ] {
        let options = Options {
            fragments,
            dedupe,
            chunk_size,
            ..options(compression, true)
        };
        let result = write(&Builder::new().0, &options, Cursor::new(Vec::new()));
        assert_eq!(result.unwrap_err().to_string(), message);
    }
}

#[test]
fn what_lies_beyond_the_end_is_refused() {
    let bytes = volume(&Builder::new().0, &options(Compression::None, true));
    let image = Image::open(bytes.clone()).unwrap();
    for nid in [u64::from(u32::MAX), u64::MAX / 32, u64::MAX] {
        let message = image.inode(nid).unwrap_err().to_string();
        assert_eq!(
            message,
            format!("the erofs volume cannot be read: an inode lies beyond its end (inode {nid})")
        );
    }
    let opened = |bytes: Vec<u8>| Image::open(bytes).err().map(|error| error.to_string());
    let prefix = "the erofs volume cannot be read:";
    assert_eq!(
        opened(bytes[..4096].to_vec()),
        Some(format!(
            "{prefix} it is cut off: the superblock says that it is longer"
        ))
    );
    assert_eq!(
        opened(bytes[..100].to_vec()),
        Some(format!("{prefix} it is shorter than a block"))
    );
    let mut damaged = bytes;
    damaged[1024 + 48] ^= 1;
    assert_eq!(
        opened(damaged),
        Some(format!("{prefix} the checksum of the superblock is wrong"))
    );
}
