//! What is in an image and should not be, or is missing, with everything else consistent.

use std::fs;

use serde_json::Value;

use super::fixture::{self, Parts, put};
use super::{failing, findings, report};
use crate::disk::{DiskPlan, Slots};
use crate::formats::pe::tests::sample_stub;
use crate::tree::Kind;
use crate::tree::path::TreePath;

type Change = fn(&mut Parts);

#[test]
fn what_differs_between_usr_and_commit_is_named() {
    fn odd(parts: &mut Parts) -> &mut crate::tree::Node {
        parts
            .committed
            .get_mut(&TreePath::literal("/usr/bin/odd-owner"))
            .unwrap()
    }
    let cases: [(Change, &str, &str); 13] = [
        (
            |p| put(&mut p.committed, "/usr/bin/added", 0o755, Kind::file(*b"x")),
            "/usr/bin/added",
            "the commit has it, and the sealed /usr does not",
        ),
        (
            |p| put(&mut p.sealed, "/usr/zz/added", 0o755, Kind::file(*b"x")),
            "/usr/zz/added",
            "the sealed /usr has it, and the commit does not",
        ),
        (
            |p| odd(p).meta.mode = 0o755,
            "/usr/bin/odd-owner",
            "its mode is 4755, and in the commit 0755",
        ),
        (
            |p| odd(p).meta.uid = 0,
            "/usr/bin/odd-owner",
            "its uid is 70000, and in the commit 0",
        ),
        (
            |p| odd(p).meta.gid = 6,
            "/usr/bin/odd-owner",
            "its gid is 5, and in the commit 6",
        ),
        (
            |p| odd(p).meta.xattrs.clear(),
            "/usr/bin/odd-owner",
            "its extended attribute `security.capability` is not in the commit",
        ),
        (
            |p| drop(odd(p).meta.xattrs.insert((*b"user.x").into(), [1].into())),
            "/usr/bin/odd-owner",
            "its extended attribute `user.x` is in the commit only",
        ),
        (
            |p| {
                drop(
                    odd(p)
                        .meta
                        .xattrs
                        .insert((*b"security.capability").into(), [1].into()),
                )
            },
            "/usr/bin/odd-owner",
            "has another value in the commit",
        ),
        (
            |p| {
                put(
                    &mut p.committed,
                    "/usr/bin/tool",
                    0o644,
                    Kind::file(vec![7; 9_000]),
                )
            },
            "/usr/bin/tool",
            "its content differs from the commit's from byte 0 on",
        ),
        (
            |p| {
                put(
                    &mut p.committed,
                    "/usr/bin/tool",
                    0o644,
                    Kind::file(vec![7; 9_001]),
                )
            },
            "/usr/bin/tool",
            "it has 9000 bytes, and in the commit 9001",
        ),
        (
            |p| {
                put(
                    &mut p.committed,
                    "/usr/bin/link",
                    0o777,
                    Kind::Symlink((*b"marker").into()),
                )
            },
            "/usr/bin/link",
            "it points to `tool`, and in the commit to `marker`",
        ),
        (
            |p| put(&mut p.committed, "/usr/bin/link", 0o644, Kind::file(*b"tool")),
            "/usr/bin/link",
            "the sealed /usr has a symbolic link, and the commit a regular file",
        ),
        (
            |p| {
                p.committed
                    .get_mut(&TreePath::literal("/usr/lib"))
                    .unwrap()
                    .meta
                    .mode = 0o700
            },
            "/usr/lib",
            "its mode is 0755, and in the commit 0700",
        ),
    ];
    for (change, path, words) in cases {
        let image = fixture::build(change);
        let report = report(&image.directory());
        assert_eq!(failing(&report), ["usr-is-commit"], "{words}: {report}");
        let text = findings(&report, "usr-is-commit");
        assert!(
            text.contains(words) && text.contains(&format!(", {path}]")),
            "{words}: {text}"
        );
        let lines = if path.contains("zz") { 2 } else { 1 };
        assert_eq!(text.lines().count(), lines, "{words}: {text}");
    }
}

#[test]
fn a_volume_that_is_another_tree_ends_the_comparison() {
    let image = fixture::build(|parts| {
        for number in 0..1500 {
            put(
                &mut parts.committed,
                &format!("/usr/share/{number}"),
                0o644,
                Kind::file(*b"x"),
            );
        }
    });
    let report = report(&image.directory());
    let text = report.to_string();
    assert!(text.contains("and 982 more"), "{text}");
}

#[test]
fn what_should_not_be_on_the_disk_is_named() {
    let cases: [(Change, &[&str], &str, &str); 18] = [
        (
            |p| p.pcr_11 = |_| "00".to_owned(),
            &["pcrs"],
            "pcrs",
            "`hullwright.uki-pcr-11.sha256` of the commit is `00`",
        ),
        (
            |p| p.esp.push(("loader/random-seed", vec![1])),
            &["esp"],
            "esp",
            "a machine that has booted writes this file",
        ),
        (
            |p| p.esp.push(("loader/addons/x.addon.efi", sample_stub("sbat,1\n"))),
            &["pcrs"],
            "pcrs",
            "measure",
        ),
        (
            |p| p.esp.push(("loader/credentials/x.cred", vec![1])),
            &["esp"],
            "esp",
            "nothing puts this file on the ESP of an image [image_1.raw, partition 1, loader/credentials/x.cred",
        ),
        (
            |p| p.esp.push(("EFI/Linux/image_1+3.efi.extra.d/x.cred", vec![1])),
            &["esp"],
            "esp",
            "nothing puts this file",
        ),
        (
            |p| p.esp.push(("EFI/Linux/other_2+3.efi", vec![1; 500])),
            &["uki"],
            "uki",
            "this is not a PE image",
        ),
        (
            |p| p.uki_path = "EFI/Linux/image_1.efi",
            &["esp"],
            "esp",
            "has no boot counter",
        ),
        (
            |p| p.uki_path = "EFI/other/image_1+3.efi",
            &["esp", "manifest-facts"],
            "esp",
            "there is no kernel image",
        ),
        (
            |p| p.loader_conf = b"timeout 5\n",
            &["esp"],
            "esp",
            "does not say `editor no`",
        ),
        (
            |p| p.loader_conf = b"editor no\neditor yes\n",
            &["esp"],
            "esp",
            "does not say `editor no`",
        ),
        (
            |p| p.loader = sample_stub("sbat,1,another\n"),
            &["boot-files"],
            "boot-files",
            "it is not /usr/lib/systemd/boot/efi/systemd-bootx64.efi",
        ),
        (
            |p| p.cmdline = |hash| format!("usrhash={hash} systemd.verity=0"),
            &["uki"],
            "uki",
            "takes the seal off /usr: `systemd.verity=0`",
        ),
        (
            |p| p.cmdline = |_| "rw".to_owned(),
            &["uki", "manifest-facts"],
            "uki",
            "its command line has no `usrhash=`",
        ),
        (
            |p| p.plan = |plan| plan.partitions[3].type_uuid = plan.disk_uuid,
            &["partitions"],
            "partitions",
            "`_empty` has a type that images do not have",
        ),
        (
            |p| p.plan = |plan| plan.partitions[1].attributes = 0,
            &["partitions"],
            "partitions",
            "`image_1` has the attributes 0x0, which a partition of type usr does not have",
        ),
        (
            |p| p.plan = |plan| plan.partitions[2].label = "other_1".to_owned(),
            &["partitions"],
            "partitions",
            "the partition of type usr-verity is called `other_1`",
        ),
        (
            |p| p.plan = |plan| plan.partitions[4].uuid = plan.partitions[3].uuid,
            &["gpt"],
            "gpt",
            "it has the UUID of partition 4",
        ),
        (
            |p| p.plan = shifted,
            &["gpt"],
            "gpt",
            "it does not begin on a 1 MiB boundary [image_1.raw, partition 5",
        ),
    ];
    for (change, expected, check, words) in cases {
        let image = fixture::build(change);
        let report = report(&image.directory());
        let found = failing(&report);
        assert!(
            expected.iter().all(|name| found.contains(name)),
            "{words}: {report}"
        );
        let text = findings(&report, check);
        assert!(text.contains(words), "{words}: {text}");
    }
}

fn shifted(plan: &mut DiskPlan) {
    plan.partitions[4].offset += 512;
}

#[test]
fn one_slot_is_as_good_as_two() {
    let image = fixture::build(|parts| parts.slots = Slots::A);
    assert!(report(&image.directory()).holds());
}

#[test]
fn a_manifest_of_another_image_is_found() {
    type Lie = fn(&mut Value);
    let cases: [(Lie, &[&str], &str, &str); 12] = [
        (
            |m| m["pcrs"]["uki"][1]["sha384"] = "00".into(),
            &["pcrs"],
            "pcrs",
            "PCR 11 (sha384) at enter-initrd of profile 0 comes to",
        ),
        (
            |m| m["pcrs"]["events"][2]["sha256"] = "00".into(),
            &["pcrs"],
            "pcrs",
            "what PCR 4 measures (UKI) is not what the manifest predicts (UKI)",
        ),
        (
            |m| m["pcrs"]["firmware"][0]["sha256"]["4"] = "00".into(),
            &["pcrs"],
            "pcrs",
            "PCR 4 (sha256) comes to",
        ),
        (
            |m| m["usr_root_hash"] = "00".into(),
            &["commit", "manifest-facts"],
            "manifest-facts",
            "the manifest says `00`",
        ),
        (
            |m| m["usr_salt"] = "00".into(),
            &["manifest-facts"],
            "manifest-facts",
            "the salt of the hash tree is",
        ),
        (
            |m| m["kernel"]["command_line"] = "x".into(),
            &["manifest-facts"],
            "manifest-facts",
            "the command line is",
        ),
        (
            |m| m["partitions"][1]["uuid"] = "x".into(),
            &["manifest-facts"],
            "manifest-facts",
            "its UUID is",
        ),
        (
            |m| drop(m["partitions"].as_array_mut().unwrap().pop()),
            &["manifest-facts"],
            "manifest-facts",
            "the manifest does not list partition 5",
        ),
        (
            |m| m["commit"]["checksum"] = "11".repeat(32).into(),
            &["commit"],
            "commit",
            "the ref leads to",
        ),
        (
            |m| m["outputs"][0]["size"] = 7.into(),
            &["manifest"],
            "manifest",
            "the manifest says 7",
        ),
        (
            |m| m["outputs"][0]["file"] = "../x".into(),
            &["sums", "manifest"],
            "manifest",
            "is no name of an output",
        ),
        (
            |m| m["partitions"] = 7.into(),
            &["manifest"],
            "manifest",
            "it is not the JSON of a manifest",
        ),
    ];
    for (change, expected, check, words) in cases {
        let image = fixture::build(|parts| parts.manifest = change);
        let report = report(&image.directory());
        assert_eq!(failing(&report), expected, "{words}: {report}");
        let text = findings(&report, check);
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn sums_that_do_not_hold_are_found() {
    let image = fixture::build(|_| {});
    let path = image.directory().join("SHA256SUMS");
    let good = fs::read_to_string(&path).unwrap();
    let without = good
        .lines()
        .filter(|line| !line.ends_with(".efi"))
        .map(|line| format!("{line}\n"));
    let cases = [
        (without.collect(), "it does not list `image_1.efi`"),
        (
            good.replace("  image_1.efi", "  ../image_1.efi"),
            "it is not a digest, two blanks and the name of a file",
        ),
        (format!("{good}{good}"), "is listed twice"),
        (String::new(), "it lists nothing"),
        (
            good.replace("image_1.efi", "image_2.efi"),
            "SHA256SUMS lists it, and it cannot be read",
        ),
    ];
    for (text, words) in cases {
        fs::write(&path, text).unwrap();
        let report = report(&image.directory());
        assert_eq!(failing(&report), ["sums"], "{words}: {report}");
        let text = findings(&report, "sums");
        assert!(text.contains(words), "{words}: {text}");
    }
}
