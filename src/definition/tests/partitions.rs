//! `[[disk.partitions]]`.

use super::{alter, load, plan, plan_of, problems};
use crate::definition::partitions::{PartitionSize, PartitionType};
use crate::definition::values::ByteSize;

const SEALED: &str = "[encryption.root]\nrecovery = \"none\"\nreason = \"a test\"\n\
    [measured-boot]\nkey = \"pcr.key\"\n";
const BUILT: &str = "[encryption.root]\nmode = \"build\"\n";
const PLAIN: &str = "[encryption.root]\nmode = \"none\"\n";

fn text(root: &str, partitions: &str) -> String {
    alter(
        "[encryption.root]\nmode = \"none\"\n",
        &format!("{partitions}\n{root}"),
    )
}

#[test]
fn they_are_encrypted_where_the_root_is() {
    let partitions = "[[disk.partitions]]\nlabel = \"one\"\nsize = \"1GiB\"\nmount = \"/var/lib/one\"\n\
        [[disk.partitions]]\nlabel = \"two\"\ntype = \"swap\"\nminimum = \"1GiB\"\nmaximum = \"2GiB\"\n\
        [[disk.partitions]]\nlabel = \"three\"\ntype = \"home\"\nminimum = \"1GiB\"\nformat = \"xfs\"\n\
        [[disk.partitions]]\nlabel = \"four\"\ntype = \"773f91ef-66d4-49b5-bd83-d683bf40ad16\"\nsize = \"64MiB\"\n\
        mount = \"/var/four\"\n";
    for (root, usual) in [
        (SEALED, plan::EncryptionMode::FirstBoot),
        (PLAIN, plan::EncryptionMode::None),
    ] {
        let plan = plan_of(&[("defs/host.toml", &text(root, partitions))]);
        let [one, two, three, four] = plan.disk.partitions.as_slice() else {
            panic!("{:?}", plan.disk.partitions);
        };
        assert_eq!((one.kind, one.encryption), (PartitionType::LINUX, usual));
        assert_eq!(one.format, Some(plan::RootFormat::Ext4));
        assert_eq!((one.size.least(), one.size.most()), (1 << 30, Some(1 << 30)));
        // A key of each boot needs no place to lie.
        assert_eq!(
            (two.encryption, two.format),
            (plan::EncryptionMode::FirstBoot, None)
        );
        assert_eq!(
            three.mount.as_ref().map(ToString::to_string).as_deref(),
            Some("/home")
        );
        let open = PartitionSize::Range {
            minimum: ByteSize::gib(1),
            maximum: None,
        };
        assert_eq!((three.size, three.size.most()), (open, None));
        assert_eq!(four.kind.0.to_string(), "773f91ef-66d4-49b5-bd83-d683bf40ad16");
        let expanded = plan.to_toml().unwrap();
        assert_eq!(plan_of(&[("defs/host.toml", &expanded)]), plan);
    }
}

#[test]
fn what_is_not_encrypted_is_said() {
    let partitions =
        "[[disk.partitions]]\nlabel = \"one\"\nsize = \"1GiB\"\nmount = \"/var/one\"\nencryption = \"none\"";
    let definition = load(&[("defs/host.toml", &text(SEALED, partitions))]).unwrap();
    let said: Vec<_> = definition.warnings.iter().map(|it| it.message()).collect();
    assert!(said.contains(&"the partition `one` is not encrypted"), "{said:?}");
    let partitions = partitions.replace("none", "build");
    let definition = load(&[("defs/host.toml", &text(BUILT, &partitions))]).unwrap();
    let said: Vec<_> = definition.warnings.iter().map(|it| it.message()).collect();
    assert!(
        said.iter()
            .any(|said| said.ends_with("same key for its partition `one`")),
        "{said:?}"
    );
}

#[test]
fn what_cannot_be_is_refused() {
    let entry = "[[disk.partitions]]\nlabel = \"one\"\nsize = \"1GiB\"\nmount = \"/var/one\"\n";
    let change = |from: &str, to: &str| {
        assert!(entry.contains(from), "{from}");
        entry.replace(from, to)
    };
    let swap = change("mount = \"/var/one\"", "type = \"swap\"");
    let vhd = format!("{swap}[outputs]\nformats = [\"vhd\"]\n");
    let cases = [
        (
            SEALED,
            change("one\"\nsize", "root\"\nsize"),
            "`root` is what another partition of the layout is called",
        ),
        (
            SEALED,
            change("label = \"one\"", "label = \"host_1\""),
            "`disk.partitions[0].label`",
        ),
        (
            SEALED,
            change("size = \"1GiB\"\n", ""),
            "`disk.partitions[0].size` is missing",
        ),
        (
            SEALED,
            change("\"1GiB\"", "\"1GiB\"\nminimum = \"1GiB\""),
            "stands beside `minimum`",
        ),
        (
            SEALED,
            change("size = \"1GiB\"", "minimum = \"2GiB\"\nmaximum = \"1GiB\""),
            "is less than its `minimum`",
        ),
        (SEALED, change("1GiB", "65537KiB"), "is no whole number of MiB"),
        (
            SEALED,
            change("1GiB", "63MiB"),
            "`one` is too small for a file system",
        ),
        (
            SEALED,
            change("mount = \"/var/one\"", ""),
            "`one` is mounted nowhere",
        ),
        (
            SEALED,
            change("/var/one", "/usr/local"),
            "`/usr` is the image's or the system's own",
        ),
        (SEALED, change("/var/one", "/var/a b"), "has other characters"),
        (
            SEALED,
            change("mount", "type = \"root\"\nmount"),
            "is no type of a partition",
        ),
        (
            SEALED,
            change("mount", "encryption = \"build\"\nmount"),
            "has no place",
        ),
        (
            PLAIN,
            change("mount", "encryption = \"first-boot\"\nmount"),
            "would lie on a root partition that anyone can read",
        ),
        (
            PLAIN,
            change("mount", "encryption = \"build\"\nmount"),
            "has no place",
        ),
        (BUILT, change("size", "minimum"), "leaves the size open"),
        (
            BUILT,
            change("mount", "encryption = \"build\"\nformat = \"xfs\"\nmount"),
            "only ext4 is made at build",
        ),
        (
            SEALED,
            swap.replace("type", "mount = \"/var/s\"\ntype"),
            "is given for swap",
        ),
        (
            SEALED,
            swap.replace("type", "encryption = \"build\"\ntype"),
            "swap cannot be encrypted at build",
        ),
        (SEALED, vhd, "an image for Azure has no swap on its disk"),
        (
            SEALED,
            format!("{entry}{}", change("label = \"one\"", "label = \"two\"")),
            "two partitions are mounted at `/var/one`",
        ),
        (
            SEALED,
            (0..9).map(|at| entry.replace("one", &format!("p{at}"))).collect(),
            "has 9 entries",
        ),
    ];
    for (root, partitions, words) in cases {
        let found = problems(&[("defs/host.toml", &text(root, &partitions))]);
        assert!(
            found.iter().any(|found| found.contains(words)),
            "{words}: {found:#?}"
        );
    }
    let text = text(SEALED, &change("1GiB", "29GiB"))
        .replace("size = \"30GiB\"", "size = \"30GiB\"\nusr = \"1GiB\"");
    let found = problems(&[("defs/host.toml", &text)]);
    assert!(
        found[0].contains("`disk.size` is 30GiB, but its partitions need"),
        "{found:?}"
    );
}
