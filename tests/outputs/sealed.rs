//! The commit, the sealed `/usr` and the kernel image that seals it, by ostree, veritysetup,
//! fsck.erofs, objdump and ukify.

use std::fs;
use std::path::Path;

use crate::run::{answer, bytes, json, program, scratch};
use crate::support::image::{output_file, sample_image};
use crate::support::tool;

const REFERENCE: &str = "sample/13/x86_64/container-host";

/// The content of `section` of the PE file `image`, by objcopy.
fn section(image: &Path, section: &str) -> Option<Vec<u8>> {
    let scratch = scratch();
    let content = scratch.path().join("content");
    let dump = format!("{section}={}", content.display());
    let mut objcopy = program("objcopy", ["-O", "binary", "--dump-section", &dump])?;
    bytes(objcopy.arg(image).arg(scratch.path().join("rest")));
    Some(fs::read(content).unwrap())
}

/// The root hash that the command line of the kernel image carries.
pub fn root_hash(directory: &Path) -> Option<String> {
    let cmdline = section(&output_file(directory, ".efi"), ".cmdline")?;
    let cmdline = String::from_utf8(cmdline).unwrap();
    let cmdline = cmdline.trim_end_matches('\0');
    let hash = cmdline
        .split(' ')
        .find_map(|argument| argument.strip_prefix("usrhash="));
    let hash = hash.unwrap_or_else(|| panic!("no usrhash= in {cmdline}"));
    assert_eq!(hash.len(), 64, "{hash}");
    Some(hash.to_owned())
}

#[test]
fn ostree_takes_the_repository() {
    let Some(directory) = sample_image() else { return };
    let repo = format!("--repo={}", directory.join("repo").display());
    let ostree = |arguments: &[&str]| {
        let mut command = program("ostree", [repo.as_str()])?;
        Some(answer(command.args(arguments)))
    };
    let Some(refs) = ostree(&["refs"]) else { return };
    assert_eq!(refs, format!("{REFERENCE}\n"));
    let fsck = ostree(&["fsck"]).unwrap();
    assert!(
        fsck.ends_with("object fsck of 1 commits completed successfully - no errors found.\n"),
        "{fsck}"
    );

    let Some(hash) = root_hash(&directory) else { return };
    let key = |key: &str| {
        let key = format!("--print-metadata-key={key}");
        ostree(&["show", &key, REFERENCE]).unwrap().trim_end().to_owned()
    };
    assert_eq!(key("version"), "'13.20261121'");
    assert_eq!(key("ostree.bootable"), "true");
    assert_eq!(key("hullwright.usr-root-hash"), format!("'{hash}'"));
    let release = key("ostree.linux").trim_matches('\'').to_owned();
    let modules = ostree(&["ls", REFERENCE, &format!("/usr/lib/modules/{release}/vmlinuz")]).unwrap();
    assert!(modules.starts_with("-0"), "{modules}");

    let top = ostree(&["ls", REFERENCE, "/"]).unwrap();
    let top: Vec<_> = top
        .lines()
        .map(|line| {
            let (meta, path) = line.split_once(" /").unwrap();
            format!("{} /{path}", &meta[..6])
        })
        .collect();
    let mut sorted = top.clone();
    sorted[1..].sort_by(|a, b| a[7..].cmp(&b[7..]));
    let expected = [
        "d00755 /",
        "l00777 /bin -> usr/bin",
        "d00755 /boot",
        "d00755 /dev",
        "l00777 /home -> var/home",
        "l00777 /lib -> usr/lib",
        "l00777 /lib64 -> usr/lib64",
        "l00777 /media -> run/media",
        "l00777 /mnt -> var/mnt",
        "l00777 /opt -> var/opt",
        "l00777 /ostree -> sysroot/ostree",
        "d00755 /proc",
        "l00777 /root -> var/roothome",
        "d00755 /run",
        "l00777 /sbin -> usr/sbin",
        "l00777 /srv -> var/srv",
        "d00755 /sys",
        "d00755 /sysroot",
        "d01777 /tmp",
        "d00755 /usr",
        "d00755 /var",
    ];
    assert_eq!(sorted, expected);
    let var = ostree(&["ls", REFERENCE, "/var"]).unwrap();
    assert_eq!(var.lines().count(), 1, "/var is empty: {var}");
}

#[test]
fn veritysetup_verifies_with_the_hash_of_the_kernel_image() {
    let Some(directory) = sample_image() else { return };
    let (Some(hash), Some(mut verify)) = (root_hash(&directory), program("veritysetup", ["verify"])) else {
        return;
    };
    let data = output_file(&directory, ".usr.erofs");
    bytes(
        verify
            .arg(&data)
            .arg(output_file(&directory, ".usr.verity"))
            .arg(&hash),
    );

    // The check can fail: one bit of the data.
    let scratch = scratch();
    let copy = scratch.path().join("usr.erofs");
    let mut content = fs::read(&data).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&copy, content).unwrap();
    let mut verify = program("veritysetup", ["verify"]).unwrap();
    verify
        .arg(&copy)
        .arg(output_file(&directory, ".usr.verity"))
        .arg(&hash);
    assert!(!verify.output().unwrap().status.success());
}

#[test]
fn both_generations_of_fsck_erofs_are_content() {
    let Some(directory) = sample_image() else { return };
    let image = output_file(&directory, ".usr.erofs");
    let Some(newer) = tool("fsck.erofs") else { return };
    let older = Path::new("/usr/bin/fsck.erofs");
    for fsck in [newer.as_path(), older] {
        if fsck.is_file() {
            bytes(std::process::Command::new(fsck).arg("--extract").arg(&image));
        }
    }
}

#[test]
fn ukify_and_objdump_read_the_kernel_image() {
    let Some(directory) = sample_image() else { return };
    let image = output_file(&directory, ".efi");
    let (Some(hash), Some(mut ukify)) = (
        root_hash(&directory),
        program("ukify", ["--json=short", "inspect"]),
    ) else {
        return;
    };
    let sections = json(ukify.arg(&image));
    let sections = sections.as_object().unwrap();
    let names: Vec<_> = sections.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [".sbat", ".osrel", ".cmdline", ".uname", ".linux", ".initrd"]
    );
    let text = |name: &str| sections[name]["text"].as_str().unwrap().to_owned();
    assert_eq!(
        text(".cmdline"),
        format!(
            "usrhash={hash} mount.usrfstype=erofs mount.usrflags=ro rw systemd.firstboot=no console=tty0 \
             console=ttyS0,115200n8 earlyprintk=ttyS0,115200 nvme_core.io_timeout=240"
        )
    );
    let release = text(".osrel");
    assert!(
        release.contains("\nIMAGE_ID=sample-container-host\nIMAGE_VERSION=13.20261121\n"),
        "{release}"
    );
    assert!(text(".sbat").starts_with("sbat,1,SBAT Version,sbat,1,"));
    let initrd = sections[".initrd"]["size"].as_u64().unwrap();
    assert!((1 << 20..20 << 20).contains(&initrd), "{initrd}");

    // The kernel is the commit's, byte for byte.
    let repo = format!("--repo={}", directory.join("repo").display());
    let kernel = format!("/usr/lib/modules/{}/vmlinuz", text(".uname"));
    let Some(mut cat) = program("ostree", [repo.as_str(), "cat", REFERENCE, &kernel]) else {
        return;
    };
    let (kernel, linux) = (bytes(&mut cat), section(&image, ".linux").unwrap());
    assert!(linux.starts_with(&kernel) && linux[kernel.len()..].iter().all(|&byte| byte == 0));

    let Some(mut objdump) = program("objdump", ["-p"]) else {
        return;
    };
    let headers = answer(objdump.arg(&image));
    for line in [
        "Subsystem\t\t0000000a\t(EFI application)",
        "Magic\t\t\t020b\t(PE32+)",
    ] {
        assert!(headers.contains(line), "{line} is not in\n{headers}");
    }
}
