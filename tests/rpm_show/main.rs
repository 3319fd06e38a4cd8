//! `hullwright rpm show|files|scriptlets` beside `rpm -qp`, over all real packages.

#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code)]
#[path = "../../fuzz/targets.rs"]
mod targets;
// The targets take their keys from there.
#[allow(dead_code)]
#[path = "../../fuzz/seeds.rs"]
mod seeds;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use support::{real_rpms, tool};

fn hullwright(what: &str, arguments: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hullwright"));
    command.args(["rpm", what]).args(arguments).output().unwrap()
}

/// What `hullwright rpm WHAT --json` says of `path`.
fn shown(what: &str, path: &Path) -> (Option<i32>, Value) {
    let output = hullwright(what, &[path, Path::new("--json")]);
    let mut values: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(values.len(), 1);
    (output.status.code(), values.remove(0))
}

/// What `rpm` says of `path` in `format`; `None` where it cannot read the package.
fn query(rpm: &Path, path: &Path, format: &str) -> Option<Vec<u8>> {
    let mut command = Command::new(rpm);
    command.args(["-qp", "--nosignature", "--qf", format]).arg(path);
    let output = command.env("LC_ALL", "C.UTF-8").output().unwrap();
    (output.status.success() && !output.stdout.is_empty()).then_some(output.stdout)
}

/// Every real package.
fn packages() -> Option<Vec<PathBuf>> {
    let real = real_rpms()?;
    let mut paths: Vec<_> = ["distro", "features"]
        .iter()
        .flat_map(|name| fs::read_dir(real.join(name)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rpm"))
        .collect();
    paths.sort();
    Some(paths)
}

/// As the program escapes what is not UTF-8; `(none)` is nothing.
fn text(bytes: &[u8]) -> Option<String> {
    (bytes != b"(none)").then(|| {
        bytes.utf8_chunks().fold(String::new(), |mut out, chunk| {
            let whole = bytes.utf8_chunks().count() == 1 && chunk.invalid().is_empty();
            let valid = if whole {
                chunk.valid().to_owned()
            } else {
                chunk.valid().replace('\n', "\\n")
            };
            out.push_str(&valid);
            out.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
            out
        })
    })
}

const FIELD: u8 = 0x1f;
const ROW: u8 = 0x1e;

fn fields(bytes: &[u8]) -> Vec<Option<String>> {
    bytes.split(|&b| b == FIELD).map(text).collect()
}

fn rows(bytes: &[u8]) -> Vec<Vec<Option<String>>> {
    let rows = bytes.strip_suffix(&[ROW]).unwrap_or(bytes).split(|&b| b == ROW);
    rows.map(fields).collect()
}

/// JSON's value as `rpm` would print it; `None` for what is not there.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[test]
fn show_says_what_rpm_says() {
    let (Some(packages), Some(rpm)) = (packages(), tool("rpm")) else {
        return;
    };
    const FIELDS: [(&str, &str); 19] = [
        ("name", "NAME"),
        ("epoch", "EPOCH"),
        ("version", "VERSION"),
        ("release", "RELEASE"),
        ("arch", "ARCH"),
        ("summary", "SUMMARY"),
        ("description", "DESCRIPTION"),
        ("license", "LICENSE"),
        ("group", "GROUP"),
        ("vendor", "VENDOR"),
        ("packager", "PACKAGER"),
        ("distribution", "DISTRIBUTION"),
        ("url", "URL"),
        ("bug_url", "BUGURL"),
        ("source_rpm", "SOURCERPM"),
        ("build_host", "BUILDHOST"),
        ("rpm_version", "RPMVERSION"),
        ("build_time", "BUILDTIME"),
        ("installed_size", "LONGSIZE"),
    ];
    let format: Vec<_> = FIELDS.iter().map(|(_, tag)| format!("%{{{tag}}}")).collect();
    let format = format.join("\u{1f}");
    let (mut compared, mut relations, mut notes) = (0, 0, 0);
    for path in &packages {
        let (code, value) = shown("show", path);
        let Some(answer) = query(&rpm, path, &format) else {
            assert_eq!(code, Some(1), "{}: rpm cannot read it", path.display());
            continue;
        };
        if value.get("name").is_none() {
            // What is refused here and read by rpm: source packages, and headers whose digests do not hold.
            assert!(code == Some(1) && value["reason"].is_string(), "{value}");
            continue;
        }
        for ((key, _), expected) in FIELDS.iter().zip(fields(&answer)) {
            assert_eq!(plain(&value[*key]), expected, "{}: {key}", path.display());
        }
        for (key, tag) in [
            ("provides", "PROVIDENEVRS"),
            ("requires", "REQUIRENEVRS"),
            ("conflicts", "CONFLICTNEVRS"),
            ("obsoletes", "OBSOLETENEVRS"),
            ("recommends", "RECOMMENDNEVRS"),
            ("suggests", "SUGGESTNEVRS"),
            ("supplements", "SUPPLEMENTNEVRS"),
            ("enhances", "ENHANCENEVRS"),
        ] {
            let expected = query(&rpm, path, &format!("[%{{{tag}}}\u{1e}]")).unwrap_or_default();
            let expected: Vec<_> = rows(&expected)
                .into_iter()
                .filter_map(|row| row[0].clone())
                .collect();
            let found = value["dependencies"][key].as_array().unwrap();
            let found: Vec<_> = found.iter().filter_map(|it| plain(&it["text"])).collect();
            let expected: Vec<_> = expected.into_iter().filter(|text| !text.is_empty()).collect();
            assert_eq!(found, expected, "{}: {key}", path.display());
            relations += found.len();
        }
        let format = "[%{CHANGELOGTIME}\u{1f}%{CHANGELOGNAME}\u{1f}%{CHANGELOGTEXT}\u{1e}]";
        let expected = query(&rpm, path, format).unwrap_or_default();
        let expected: Vec<_> = rows(&expected).into_iter().filter(|row| row.len() == 3).collect();
        let found = value["changelog"].as_array().unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|it| ["time", "name", "text"].map(|key| plain(&it[key])).to_vec())
            .collect();
        assert_eq!(found, expected, "{}", path.display());
        notes += found.len();
        compared += 1;
    }
    println!("{compared} packages, {relations} dependencies, {notes} notes of change");
    assert!(compared > 40 && relations > 500, "{compared} {relations}");
}

#[test]
fn files_are_listed_as_rpm_has_them() {
    let (Some(packages), Some(rpm)) = (packages(), tool("rpm")) else {
        return;
    };
    const KEYS: [&str; 12] = [
        "path",
        "mode",
        "user",
        "group",
        "size",
        "mtime",
        "flags",
        "verify_flags",
        "target",
        "capabilities",
        "languages",
        "color",
    ];
    let format = "[%{FILENAMES}\u{1f}%{FILEMODES:octal}\u{1f}%{FILEUSERNAME}\u{1f}%{FILEGROUPNAME}\u{1f}%{LONGFILESIZES}\u{1f}\
                  %{FILEMTIMES}\u{1f}%{FILEFLAGS}\u{1f}%{FILEVERIFYFLAGS}\u{1f}%{FILELINKTOS}\u{1f}%{FILECAPS}\u{1f}\
                  %{FILELANGS}\u{1f}%{FILECOLORS}\u{1f}%{FILEDIGESTS}\u{1e}]";
    let (mut packages_compared, mut compared) = (0, 0);
    for path in &packages {
        let (code, value) = shown("files", path);
        let Some(answer) = query(&rpm, path, format) else {
            continue;
        };
        let Some(files) = value["files"].as_array() else {
            assert_eq!(code, Some(1));
            continue;
        };
        let expected: Vec<_> = rows(&answer).into_iter().filter(|row| row.len() == 13).collect();
        assert_eq!(files.len(), expected.len(), "{}", path.display());
        for (file, row) in files.iter().zip(expected) {
            for (key, expected) in KEYS.iter().zip(&row) {
                let expected = expected.clone().filter(|text| !text.is_empty());
                let found = match *key {
                    // RPM prints six or seven digits.
                    "mode" => plain(&file[*key]).map(|mode| mode.trim_start_matches('0').to_owned()),
                    "color" | "verify_flags" if expected.is_none() => None,
                    _ => plain(&file[*key]).filter(|text| !text.is_empty()),
                };
                let expected = match *key {
                    "mode" => expected.map(|mode| mode.trim_start_matches('0').to_owned()),
                    _ => expected,
                };
                assert_eq!(found, expected, "{}: {key} of {}", path.display(), file["path"]);
            }
            let digest = row[12].clone().filter(|text| !text.is_empty());
            assert_eq!(plain(&file["digest"]["hex"]), digest, "{}", file["path"]);
            compared += 1;
        }
        packages_compared += 1;
    }
    println!("{compared} files of {packages_compared} packages");
    assert!(compared > 500, "{compared}");
}

#[test]
fn scriptlets_are_those_of_the_header() {
    let (Some(packages), Some(rpm)) = (packages(), tool("rpm")) else {
        return;
    };
    let mut bodies = 0;
    for path in &packages {
        let (_, value) = shown("scriptlets", path);
        let Some(scriptlets) = value["scriptlets"].as_array() else {
            continue;
        };
        for (kind, tag) in [
            ("pretrans", "PRETRANS"),
            ("pre", "PREIN"),
            ("post", "POSTIN"),
            ("preun", "PREUN"),
            ("postun", "POSTUN"),
            ("posttrans", "POSTTRANS"),
            ("verify", "VERIFYSCRIPT"),
        ] {
            let format = format!("%{{{tag}}}\u{1f}[%{{{tag}PROG}} ]");
            let Some(answer) = query(&rpm, path, &format) else {
                continue;
            };
            let expected = fields(&answer);
            let found = scriptlets.iter().find(|scriptlet| scriptlet["kind"] == kind);
            let body = found.and_then(|scriptlet| plain(&scriptlet["body"]));
            assert_eq!(body, expected[0], "{}: %{kind}", path.display());
            if let Some(found) = found {
                let words: Vec<_> = found["interpreter"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter_map(plain)
                    .collect();
                let program = expected[1].clone().unwrap();
                if program.trim_end() != "(none)" {
                    assert_eq!(words.join(" "), program.trim_end(), "{}: %{kind}", path.display());
                }
                bodies += 1;
            }
        }
        for (kinds, tag) in [
            (
                &["triggerprein", "triggerin", "triggerun", "triggerpostun"][..],
                "TRIGGER",
            ),
            (
                &["filetriggerin", "filetriggerun", "filetriggerpostun"],
                "FILETRIGGER",
            ),
            (
                &[
                    "transfiletriggerin",
                    "transfiletriggerun",
                    "transfiletriggerpostun",
                ],
                "TRANSFILETRIGGER",
            ),
        ] {
            let answer = query(&rpm, path, &format!("[%{{{tag}SCRIPTS}}\u{1e}]")).unwrap_or_default();
            let expected: Vec<_> = rows(&answer)
                .into_iter()
                .filter_map(|row| row[0].clone())
                .collect();
            let expected: Vec<_> = expected.into_iter().filter(|text| !text.is_empty()).collect();
            let of = |scriptlet: &&Value| kinds.iter().any(|kind| scriptlet["kind"] == **kind);
            let found: Vec<_> = scriptlets
                .iter()
                .filter(of)
                .filter_map(|it| plain(&it["body"]))
                .collect();
            assert_eq!(found, expected, "{}: {tag}", path.display());
            bodies += found.len();
        }
    }
    println!("{bodies} scriptlets");
    assert!(bodies > 20, "{bodies}");
}

#[test]
fn scriptlets_are_told_with_what_a_build_does_about_them() {
    let Some(real) = real_rpms() else { return };
    let of = |name: &str| {
        let path = real.join("distro").join(name);
        let (code, value) = shown("scriptlets", &path);
        assert_eq!(code, Some(0));
        (path, value["scriptlets"].as_array().unwrap().clone())
    };
    let said = |scriptlets: &[Value]| -> Vec<String> {
        let said = |it: &Value| {
            let text = |key: &str| it[key].as_str().unwrap().to_owned();
            format!("{} {}: {}", text("name"), text("outcome"), text("reason"))
        };
        scriptlets.iter().map(said).collect()
    };
    let (zlib, scriptlets) = of("zlib-1.2.7-17.el7.x86_64.rpm");
    let replaced = "replaced: every command in it is replaced";
    let later = "skipped: it belongs to updates, removals or verification";
    assert_eq!(
        said(&scriptlets),
        [format!("post {replaced}"), format!("postun {later}")]
    );
    assert_eq!(
        scriptlets[0]["replaced"],
        json!([{ "command": "/sbin/ldconfig", "reason": "ld.so.cache is made from the finished tree" }])
    );
    assert_eq!(scriptlets[1]["replaced"], Value::Null);
    let output = hullwright("scriptlets", &[&zlib]);
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = "%post -p /sbin/ldconfig\n# replaced: every command in it is replaced\n\
                    #   /sbin/ldconfig: ld.so.cache is made from the finished tree\n    (the program alone)\n";
    assert!(text.contains(expected), "{text}");

    let directory = fs::read_dir(real.join("distro")).unwrap();
    let mut names = directory.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let keyd = names.find(|name| name.starts_with("keyd-")).unwrap();
    let (_, scriptlets) = of(&keyd);
    assert!(
        said(&scriptlets).contains(&"post run: `systemctl enable keyd.service` is not replaced".to_owned()),
        "{scriptlets:?}"
    );
}

/// A package that tries to command a terminal.
fn hostile(place: &Path) -> PathBuf {
    use hullwright::formats::rpm::tag;
    let strings = |tag, value: &[u8]| (tag, 8, 1, [value, &[0]].concat());
    let header = targets::header(&[
        targets::text(tag::NAME, "hostile"),
        targets::text(tag::VERSION, "1"),
        targets::text(tag::RELEASE, "1"),
        targets::text(tag::SUMMARY, "x\u{1b}]0;title\u{7}"),
        targets::text(tag::DESCRIPTION, "one\u{1b}[2J\ntwo\u{202e}"),
        targets::text(tag::ARCH, "noarch"),
        targets::text(tag::POSTIN, "echo \u{1b}c"),
        (tag::FILESIZES, 4, 1, vec![0; 4]),
        (tag::FILEMODES, 3, 1, 0o100_644_u16.to_be_bytes().to_vec()),
        (tag::FILERDEVS, 3, 1, vec![0; 2]),
        (tag::FILEMTIMES, 4, 1, vec![0; 4]),
        strings(tag::FILEDIGESTS, b""),
        strings(tag::FILELINKTOS, b""),
        (tag::FILEFLAGS, 4, 1, vec![0; 4]),
        strings(tag::FILEUSERNAME, b"root"),
        strings(tag::FILEGROUPNAME, b"root"),
        (tag::DIRINDEXES, 4, 1, vec![0; 4]),
        strings(tag::BASENAMES, b"\x1b[31m\xff"),
        strings(tag::DIRNAMES, b"/usr/"),
        strings(
            tag::PAYLOADDIGEST,
            hullwright::store::Digest::of(b"").to_string().as_bytes(),
        ),
    ]);
    let path = place.join("hostile.rpm");
    fs::write(&path, targets::package(&[], &header, b"")).unwrap();
    path
}

#[test]
fn nothing_that_a_package_says_reaches_a_terminal_raw() {
    let place = tempfile::tempdir().unwrap();
    let path = hostile(place.path());
    for (what, expected) in [
        ("show", "Summary      : x\\u{1b}]0;title\\u{7}\n"),
        ("show", "  one\\u{1b}[2J\n  two\\u{202e}\n"),
        ("files", " /usr/\\u{1b}[31m\\xff\n"),
        ("scriptlets", "    echo \\u{1b}c\n"),
    ] {
        let output = hullwright(what, &[&path]);
        assert_eq!(output.status.code(), Some(0), "{what}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    }
    let (_, value) = shown("files", &path);
    assert_eq!(value["files"][0]["path_bytes"], "2f7573722f1b5b33316dff");
    assert_eq!(value["files"][0]["path"], "/usr/\\u{1b}[31m\\xff");
}

#[test]
fn a_damaged_package_and_a_foreign_key_are_said_and_counted() {
    let Some(real) = real_rpms() else { return };
    let package = real.join("distro/zlib-1.2.7-17.el7.x86_64.rpm");
    let key = real.join("../keys/RPM-GPG-KEY-CentOS-7");
    let place = tempfile::tempdir().unwrap();
    let mut bytes = fs::read(&package).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let damaged = place.path().join("damaged.rpm");
    fs::write(&damaged, &bytes).unwrap();
    let cut = place.path().join("cut.rpm");
    fs::write(&cut, &bytes[..500]).unwrap();

    let (code, value) = shown("show", &package);
    assert_eq!(code, Some(0));
    let unchecked = "by key 24C6A8A7F4A80EB5, not checked (name its owner's keys with --key)";
    assert_eq!(value["signature"], unchecked);
    let output = hullwright("show", &[&package, Path::new("--key"), &key]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("Signature    : signed by 6341AB2753D78A78A7C27BB124C6A8A7F4A80EB5"),
        "{text}"
    );
    assert!(text.contains("Whole        : yes: all digests hold\n"), "{text}");

    let unsigned = real.join("features/capstest-1.0-1.noarch.rpm");
    let output = hullwright("show", &[&unsigned, Path::new("--key"), &key]);
    assert_eq!(output.status.code(), Some(1));

    let (code, value) = shown("show", &damaged);
    assert_eq!(code, Some(1));
    assert_eq!(
        (&value["ok"], &value["payload"]["whole"]),
        (&json!(false), &json!(false))
    );
    assert!(value["reason"].as_str().unwrap().starts_with("its "), "{value}");
    for what in ["show", "files", "scriptlets"] {
        let (code, value) = shown(what, &cut);
        assert_eq!(code, Some(1), "{what}");
        assert!(
            value["reason"].as_str().unwrap().contains("ends inside it"),
            "{value}"
        );
        let output = hullwright(what, &[&cut]);
        assert!(output.stdout.starts_with(b"BAD "), "{what}");
    }
}
