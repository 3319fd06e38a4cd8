//! Keys that are elsewhere: what is asked for is signed by plain openssl, and the image equals one that was signed at build.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::run::{answer, program};
use crate::signed::{build, definition, hullwright};
use crate::support::detached::{keys, sign, tables};
use crate::support::tool;

pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(place) = open.pop() {
        for entry in fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => found.push(path.strip_prefix(directory).unwrap().to_owned()),
            }
        }
    }
    found.sort();
    found
}

/// That two files hold the same; of disks, holes are not read.
pub fn same(a: &Path, b: &Path) -> bool {
    if a.extension().is_some_and(|extension| extension == "raw") {
        let mut compare = program("qemu-img", ["compare", "-f", "raw", "-F", "raw"]).unwrap();
        return compare.arg(a).arg(b).status().unwrap().success();
    }
    let sizes = [a, b].map(|path| fs::metadata(path).unwrap().size());
    let mut compare = program("cmp", ["--silent", "--"]).unwrap();
    sizes[0] == sizes[1] && compare.arg(a).arg(b).status().unwrap().success()
}

/// What was said, without the frame and the line breaks that it is shown in.
fn words(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let words = text.split_whitespace().filter(|word| *word != "│");
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn signatures_made_elsewhere_give_the_same_bytes() {
    if !["openssl", "sha256sum", "cmp", "qemu-img"]
        .iter()
        .all(|name| tool(name).is_some())
    {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    // A small disk: two of them are compared byte by byte.
    let disk = "[disk]\nsize = \"7GiB\"\n[outputs]\nformats = [\"raw\"]\n[outputs.erofs]\ncompression = \"zstd\"\nlevel = 1\n";
    let path = definition(directory.path(), &format!("{disk}{}", tables(false)));
    let Some(mut command) = build(&path, &at("out")) else {
        return;
    };
    let text = answer(&mut command);
    assert!(
        text.contains("Not finished: 3 signatures are made elsewhere (round 1 of 4)"),
        "{text}"
    );
    let out = fs::read_dir(at("out")).unwrap().next().unwrap().unwrap().path();
    assert!(!out.join("manifest.json").exists() && out.join("repo/objects").is_dir());
    assert!(
        files(&out)
            .iter()
            .all(|path| !path.to_string_lossy().ends_with(".raw"))
    );

    // Who wants its disk is told what it waits for.
    for wants in ["verify", "boot"] {
        let output = hullwright().arg(wants).arg(&out).output().unwrap();
        let text = words(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{wants}: {text}");
        for says in [
            "waits for signatures",
            "hullwright sign request",
            "hullwright sign attach",
        ] {
            assert!(text.contains(says), "{wants}: {text}");
        }
    }

    // It goes on where it lies now.
    let stem = out.file_name().unwrap().to_str().unwrap().to_owned();
    let moved = at("elsewhere").join("renamed");
    fs::create_dir(at("elsewhere")).unwrap();
    fs::rename(&out, &moved).unwrap();
    let out = moved;

    let keys = keys(directory.path());
    let mut rounds = Vec::new();
    let mut request = at("request-1");
    answer(hullwright().args(["sign", "request"]).arg(&out).arg(&request));

    // Answers that are missing, or another's, change nothing.
    let attach = |request: &Path| {
        let mut command = hullwright();
        command.args(["sign", "attach"]).arg(&out).arg(request);
        command
    };
    let refused = |request: &Path| {
        let output = attach(request).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        words(&output.stderr)
    };
    let before = files(&out);
    let text = refused(&request);
    assert_eq!(
        text.matches("is missing: openssl dgst -sha256 -sign KEY").count(),
        3,
        "{text}"
    );
    rounds.push(sign(&request, &keys));
    let names: Vec<_> = fs::read_dir(&request)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sig"))
        .collect();
    let (first, second) = (fs::read(&names[0]).unwrap(), fs::read(&names[1]).unwrap());
    fs::write(&names[0], &second).unwrap();
    let text = refused(&request);
    assert!(text.contains(".sig is the signature of"), "{text}");
    fs::write(&names[0], &first[1..]).unwrap();
    let text = refused(&request);
    assert!(text.contains("is no rsa-pkcs1-sha256 signature of"), "{text}");
    assert_eq!(files(&out), before);
    // In base64, as services give it.
    fs::write(&names[0], &first).unwrap();
    let text = answer(program("openssl", ["base64", "-in"]).unwrap().arg(&names[0]));
    fs::write(&names[0], text).unwrap();

    for round in 2..=5 {
        let next = at(&format!("request-{round}"));
        answer(attach(&request).arg("--next").arg(&next));
        if !next.exists() {
            break;
        }
        rounds.push(sign(&next, &keys));
        request = next;
    }
    let entries = |place: &str| fs::read_dir(at(place)).unwrap().count();
    assert_eq!((entries("elsewhere"), entries("out")), (1, 0));
    let (uki, addon) = (format!("{stem}.efi"), format!("{stem}.console.addon.efi"));
    let expected = [
        vec!["EFI/BOOT/BOOTX64.EFI", "usr-root-hash", addon.as_str()],
        vec![
            "pcr-policy sha256 enter-initrd main",
            "pcr-policy sha384 enter-initrd main",
            "commit",
        ],
        vec![uki.as_str()],
        vec!["SHA256SUMS"],
    ];
    assert_eq!(rounds, expected);

    let path = definition(directory.path(), &format!("{disk}{}", tables(true)));
    answer(&mut build(&path, &at("direct")).unwrap());
    let direct = at("direct").join(&stem);
    let report = Path::new("build-report.json");
    assert_eq!(files(&out), files(&direct));
    for file in files(&direct).iter().filter(|path| *path != report) {
        assert!(same(&out.join(file), &direct.join(file)), "{}", file.display());
    }

    // What was predicted for firmware with these keys is computed again, from the disk.
    let output = hullwright()
        .arg("verify")
        .arg("--json")
        .arg(&direct)
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let pcrs = checks.iter().find(|check| check["check"] == "pcrs").unwrap();
    assert_eq!(pcrs["outcome"], "holds", "{report:#}");
    assert!(!pcrs.to_string().contains("not computed"), "{report:#}");
    assert_eq!(report["holds"], true, "{report:#}");
    let manifest: Value = serde_json::from_slice(&fs::read(direct.join("manifest.json")).unwrap()).unwrap();
    let firmware = manifest["pcrs"]["firmware"].as_array().unwrap();
    assert_eq!(firmware[1]["firmware"], "ovmf-secure-boot-on");

    // The sums, by openssl.
    let mut verify = program(
        "openssl",
        [
            "cms", "-verify", "-binary", "-inform", "DER", "-purpose", "any", "-in",
        ],
    )
    .unwrap();
    verify
        .arg(out.join("SHA256SUMS.p7s"))
        .arg("-content")
        .arg(out.join("SHA256SUMS"));
    verify
        .arg("-certfile")
        .arg(at("keys/db.pem"))
        .arg("-CAfile")
        .arg(at("keys/db.pem"));
    assert_eq!(
        answer(&mut verify).as_bytes(),
        fs::read(out.join("SHA256SUMS")).unwrap()
    );

    let output = hullwright().args(["sign", "request"]).arg(&out).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && text.contains("waits for no signature"),
        "{text}"
    );
}
