//! `manifest.json` and `SHA256SUMS`, by sha256sum, a reading in Python, ostree, rpm and sfdisk.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::run::{answer, json, program, script};
use crate::sealed::root_hash;
use crate::support::image::{output_file, sample_image};
use crate::support::sample_rpms;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

fn manifest(directory: &Path) -> Value {
    serde_json::from_slice(&fs::read(directory.join("manifest.json")).unwrap()).unwrap()
}

fn sha256(path: &Path) -> Option<String> {
    let line = answer(program("sha256sum", ["--"])?.arg(path));
    Some(line[..64].to_owned())
}

#[test]
fn sha256sum_takes_every_sum() {
    let Some(directory) = sample_image() else { return };
    let Some(mut check) = program("sha256sum", ["--check", "--strict", "SHA256SUMS"]) else {
        return;
    };
    let checked = answer(check.current_dir(&directory));
    let checked: BTreeSet<_> = checked.lines().collect();
    let stem = "sample-container-host_13.20261121";
    let expected = [
        "manifest.json: OK".to_owned(),
        format!("{stem}.efi: OK"),
        format!("{stem}.usr.erofs: OK"),
        format!("{stem}.usr.verity: OK"),
    ];
    assert_eq!(checked, expected.iter().map(String::as_str).collect());
    let files: BTreeSet<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected = [
        "SHA256SUMS".to_owned(),
        "build-report.json".to_owned(),
        "manifest.json".to_owned(),
        "repo".to_owned(),
        format!("{stem}.efi"),
        format!("{stem}.raw"),
        format!("{stem}.usr.erofs"),
        format!("{stem}.usr.verity"),
        format!("{stem}.vhd"),
    ];
    assert_eq!(files, BTreeSet::from(expected), "nothing else is left");
}

#[test]
fn the_manifest_speaks_of_the_files_beside_it() {
    let Some(directory) = sample_image() else { return };
    let (Some(hash), Some(_)) = (root_hash(&directory), program("python3", [])) else {
        return;
    };
    let manifest = manifest(&directory);
    assert_eq!(text(&manifest["image"]), "sample-container-host");
    assert_eq!(text(&manifest["version"]), "13.20261121");
    assert_eq!(text(&manifest["usr_root_hash"]), hash);
    assert_eq!(number(&manifest["released"]), 1_795_219_200, "2026-11-21");

    let tree_digest = |file: &Path, range: &[String]| {
        let mut python = program("python3", []).unwrap();
        let digest = answer(python.arg(script("tree_digest.py")).arg(file).args(range));
        digest.trim_end().to_owned()
    };
    let outputs = manifest["outputs"].as_array().unwrap();
    let endings: Vec<_> = outputs
        .iter()
        .map(|output| text(&output["file"]).rsplit_once("20261121.").unwrap().1)
        .collect();
    assert_eq!(endings, ["usr.erofs", "usr.verity", "efi", "raw", "vhd"]);
    for output in outputs {
        let file = directory.join(text(&output["file"]));
        assert_eq!(number(&output["size"]), fs::metadata(&file).unwrap().len());
        match &output["sha256"] {
            Value::Null => assert_eq!(text(&output["tree_digest"]), tree_digest(&file, &[])),
            digest => assert_eq!(text(digest), sha256(&file).unwrap()),
        }
    }

    let raw = output_file(&directory, ".raw");
    let Some(mut sfdisk) = program("sfdisk", ["--json"]) else {
        return;
    };
    let table = json(sfdisk.arg(&raw));
    let table = table["partitiontable"]["partitions"].as_array().unwrap();
    let partitions = manifest["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), table.len());
    for (index, (partition, entry)) in partitions.iter().zip(table).enumerate() {
        let (offset, size) = (number(&partition["offset"]), number(&partition["size"]));
        assert_eq!(number(&partition["number"]), index as u64 + 1);
        assert_eq!(
            (offset, size),
            (number(&entry["start"]) * 512, number(&entry["size"]) * 512)
        );
        assert_eq!(text(&partition["uuid"]), text(&entry["uuid"]).to_lowercase());
        assert_eq!(text(&partition["type_uuid"]), text(&entry["type"]).to_lowercase());
        assert_eq!(text(&partition["label"]), text(&entry["name"]));
        let range = [offset.to_string(), size.to_string()];
        assert_eq!(text(&partition["tree_digest"]), tree_digest(&raw, &range));
    }

    let repo = format!("--repo={}", directory.join("repo").display());
    let reference = text(&manifest["commit"]["ref"]);
    if let Some(mut parse) = program("ostree", [repo.as_str(), "rev-parse", reference]) {
        assert_eq!(
            text(&manifest["commit"]["checksum"]),
            answer(&mut parse).trim_end()
        );
    }
    let Some(mut dump) = program("veritysetup", ["dump"]) else {
        return;
    };
    let dump = answer(dump.arg(output_file(&directory, ".usr.verity")));
    let salt = dump
        .lines()
        .find_map(|line| line.strip_prefix("Salt:"))
        .unwrap()
        .trim();
    assert_eq!(text(&manifest["usr_salt"]), salt);
}

#[test]
fn the_manifest_names_every_package_as_rpm_does() {
    let (Some(directory), Some(rpms)) = (sample_image(), sample_rpms()) else {
        return;
    };
    let format =
        "%{NEVRA}\\t%{BUILDTIME}\\t%{SHA256HEADER}\\t%{PAYLOADDIGEST}\\t%{LICENSE}\\t%{SOURCERPM}\\n";
    let Some(mut rpm) = program("rpm", ["-qp", "--nosignature", "--qf", format]) else {
        return;
    };
    let mut files: Vec<_> = fs::read_dir(&rpms)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rpm"))
        .collect();
    files.sort();
    let said = answer(rpm.args(&files));
    let by_rpm: BTreeSet<String> = said
        .lines()
        .zip(&files)
        .map(|(line, file)| {
            let name = file.file_name().unwrap().to_str().unwrap();
            format!("{name}\t{}\t{line}", fs::metadata(file).unwrap().len())
        })
        .collect();
    let manifest = manifest(&directory);
    let packages = manifest["packages"].as_array().unwrap();
    let field = |package: &Value, key: &str| match &package[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let keys = [
        "file",
        "size",
        "nevra",
        "build_time",
        "header_sha256",
        "payload_digest",
        "license",
        "source",
    ];
    let by_manifest: BTreeSet<String> = packages
        .iter()
        .map(|package| keys.map(|key| field(package, key)).join("\t"))
        .collect();
    assert_eq!(by_manifest, by_rpm);
    assert!(packages.len() > 200, "{}", packages.len());
    let Some(sum) = sha256(&files[0]) else { return };
    assert_eq!(text(&packages[0]["sha256"]), sum);
}
