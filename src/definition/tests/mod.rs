//! Definitions in memory: what is merged how, and what is refused where.

mod partitions;
mod refused;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::values::ByteSize;
use super::{Definition, DefinitionError, Found, Loader, load_with, plan, sealing};

struct Memory(BTreeMap<PathBuf, String>);

impl Memory {
    fn of(files: &[(&str, &str)]) -> Self {
        Self(
            files
                .iter()
                .map(|(path, text)| ((*path).into(), (*text).into()))
                .collect(),
        )
    }
}

impl Loader for Memory {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.0
            .get(path)
            .cloned()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn found(&self, path: &Path) -> Option<Found> {
        if self.0.contains_key(path) {
            return Some(Found::File);
        }
        let below = |file: &PathBuf| file.starts_with(path);
        self.0.keys().any(below).then_some(Found::Directory)
    }
}

/// A definition to which nothing is lacking; `extra` goes before the first table.
const WHOLE: &str = r#"
[image]
id = "host"
version = "1.0"
released = 2026-11-21
arch = "x86_64"
[kernel]
package = "kernel"
[os]
ref = "a/b"
selinux = "none"
[disk]
size = "30GiB"
[encryption.root]
mode = "none"
"#;

fn load(files: &[(&str, &str)]) -> Result<Definition, DefinitionError> {
    load_with(&Memory::of(files), Path::new("defs/host.toml"))
}

fn plan_of(files: &[(&str, &str)]) -> plan::Plan {
    match load(files) {
        Ok(definition) => definition.plan,
        Err(error) => panic!("{:#?}", error.problems()),
    }
}

/// What is wrong, as `place: message (help)`.
fn problems(files: &[(&str, &str)]) -> Vec<String> {
    let error = load(files).expect_err("nothing was found wrong");
    let problem = |problem: &super::Problem| {
        let place = problem.place().unwrap_or("nowhere");
        format!(
            "{place}: {} ({})",
            problem.message(),
            problem.help_text().unwrap_or("no help")
        )
    };
    error.problems().iter().map(problem).collect()
}

fn alter(old: &str, new: &str) -> String {
    assert!(WHOLE.contains(old), "{old}");
    WHOLE.replacen(old, new, 1)
}

#[test]
fn a_small_definition_has_defaults() {
    let plan = plan_of(&[("defs/host.toml", WHOLE)]);
    assert_eq!(plan.image.stem(), "host_1.0");
    assert_eq!(plan.image.name, "host");
    assert_eq!(plan.image.released.epoch(), 1_795_219_200);
    assert_eq!(plan.disk.esp, ByteSize(256 << 20));
    assert_eq!(plan.disk.usr, None);
    assert_eq!(plan.os.default_target.as_str(), "multi-user.target");
    assert_eq!(plan.outputs.formats, [plan::DiskFormat::Raw]);
    assert_eq!(plan.rpms.source, None);
}

#[test]
fn nearer_values_win_and_lists_grow() {
    let base = "[initrd]\nmodules = [\"ext4\", \"erofs\"]\nudev-rules = [\"a.rules\"]\nunits = [\"x.service\"]\n\
                [disk]\nesp = \"512MiB\"\n[kernel]\nrequire = [\"../k/base.config\"]\ncmdline = [\"console=tty0\"]\n\
                [[files]]\npath = \"/etc/motd\"\ntext = \"base\"\nmode = \"0600\"\n\
                [[files]]\npath = \"/etc/issue\"\ntext = \"base\"\n";
    let near = "extends = [\"common/base.toml\"]\n[initrd]\nmodules = [\"erofs\", \"nvme\"]\n\
                units = { replace = [\"y.service\"] }\nudev-rules = { remove = [\"a.rules\"], add = [\"b.rules\"] }\n\
                [[files]]\npath = \"/etc/motd\"\ntext = \"near\"\n"
        .to_owned()
        + &alter("[kernel]", "[kernel]\ncmdline = [\"console=ttyS0\", \"console=tty0\"]");
    let plan = plan_of(&[
        ("defs/host.toml", &near),
        ("defs/common/base.toml", base),
        ("defs/k/base.config", ""),
    ]);
    assert_eq!(plan.initrd.modules, ["ext4", "erofs", "nvme"]);
    assert_eq!(
        plan.initrd
            .units
            .iter()
            .map(|unit| unit.as_str())
            .collect::<Vec<_>>(),
        ["y.service"]
    );
    assert_eq!(plan.initrd.udev_rules, ["b.rules"]);
    assert_eq!(plan.disk.esp, ByteSize(512 << 20));
    let cmdline: Vec<&str> = plan
        .kernel
        .cmdline
        .iter()
        .map(|argument| argument.as_str())
        .collect();
    assert_eq!(
        cmdline,
        ["console=tty0", "console=ttyS0", "console=tty0"],
        "the last console is the one that counts"
    );
    assert_eq!(plan.kernel.require[0].as_path(), Path::new("defs/k/base.config"));
    assert_eq!(plan.kernel.require[0].to_string(), "k/base.config");
    let files: Vec<_> = plan
        .files
        .iter()
        .map(|file| (file.path.to_string(), &file.content, file.mode.0))
        .collect();
    let text = |text: &str| plan::FileContent::Text(text.into());
    assert_eq!(
        files,
        [
            ("/etc/issue".into(), &text("base"), 0o644),
            ("/etc/motd".into(), &text("near"), 0o644)
        ],
        "an entry of the same path is replaced whole"
    );
}

#[test]
fn a_file_that_is_reached_twice_counts_once() {
    let top = "extends = [\"a.toml\", \"b.toml\"]\n".to_owned() + WHOLE;
    let files = [
        ("defs/host.toml", top.as_str()),
        ("defs/a.toml", "extends = [\"c.toml\"]\n[os]\nlocale = \"a\"\n"),
        (
            "defs/b.toml",
            "extends = [\"./c.toml\"]\n[os]\ntimezone = \"b\"\n",
        ),
        (
            "defs/c.toml",
            "[kernel]\ncmdline = [\"one\"]\n[os]\nlocale = \"c\"\ntimezone = \"c\"\n",
        ),
    ];
    let plan = plan_of(&files);
    assert_eq!(plan.kernel.cmdline.len(), 1);
    assert_eq!((plan.os.locale.as_str(), plan.os.timezone.as_str()), ("a", "b"));
}

#[test]
fn circles_and_depths_end() {
    let top = "extends = [\"a.toml\"]\n".to_owned() + WHOLE;
    let files = [
        ("defs/host.toml", top.as_str()),
        ("defs/a.toml", "extends = [\"b.toml\"]"),
        ("defs/b.toml", "extends = [\"a.toml\"]"),
    ];
    let found = problems(&files);
    assert_eq!(
        found,
        [
            "defs/b.toml:1:12: `defs/a.toml` extends itself (the circle is `defs/a.toml` → `defs/b.toml` → `defs/a.toml`\n\
          (included at defs/a.toml:1:12, included at defs/host.toml:1:12))"
        ]
    );
    let chain: Vec<(String, String)> = (0..40)
        .map(|n| {
            (
                format!("defs/{n}.toml"),
                format!("extends = [\"{}.toml\"]", n + 1),
            )
        })
        .collect();
    let mut files: Vec<(&str, &str)> = chain
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    files.push(("defs/host.toml", "extends = [\"0.toml\"]"));
    let found = problems(&files);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("defs/14.toml:1:12: definitions extend each other more than 16 deep"),
        "{found:?}"
    );
}

#[test]
fn an_error_in_an_included_file_stands_there_and_names_the_way() {
    let top = "extends = [\"a.toml\"]\n".to_owned() + WHOLE;
    let found = problems(&[
        ("defs/host.toml", &top),
        ("defs/a.toml", "\n[initrd]\n  modulse = [\"ext4\"]\n"),
    ]);
    assert_eq!(
        found,
        [
            "defs/a.toml:3:3: unknown key `modulse` in `[initrd]` (did you mean `modules`?\n(included at defs/host.toml:1:12))"
        ]
    );
}

#[test]
fn everything_wrong_is_said_at_once_from_top_to_bottom() {
    let text = alter("\"30GiB\"", "\"30\"")
        .replace("\"x86_64\"", "\"ppc\"")
        .replace("\"host\"", "\"Host\"");
    let found = problems(&[("defs/host.toml", &text)]);
    let places: Vec<&str> = found
        .iter()
        .filter_map(|problem| problem.split(": ").next())
        .collect();
    assert_eq!(
        places,
        ["defs/host.toml:3:6", "defs/host.toml:6:8", "defs/host.toml:13:8"]
    );
    let shown = load(&[("defs/host.toml", &text)]).unwrap_err();
    assert_eq!(
        shown.to_string(),
        "the image definition `defs/host.toml` cannot be used: 3 errors"
    );
    let report = format!("{:?}", miette::Report::new(shown));
    assert!(
        report.contains("[defs/host.toml:3:6]") && report.contains("id = \"Host\""),
        "{report}"
    );
}

#[test]
fn an_empty_definition_names_all_that_it_lacks() {
    let found = problems(&[("defs/host.toml", "")]);
    let keys = [
        "image.id",
        "image.version",
        "image.released",
        "image.arch",
        "kernel.package",
        "os.ref",
        "os.selinux",
        "disk.size",
        "encryption.root.recovery",
    ];
    for key in keys {
        assert!(
            found
                .iter()
                .any(|problem| problem.contains(&format!("`{key}` is missing"))),
            "{key}: {found:#?}"
        );
    }
    assert_eq!(found.len(), keys.len(), "{found:#?}");
}

#[test]
fn policies_are_signed_for_the_initrd_unless_more_is_said() {
    let plan = |text: &str| {
        let text = alter("[disk]", &format!("[measured-boot]\n{text}\n[disk]"));
        load(&[("defs/host.toml", &text)]).unwrap()
    };
    assert_eq!(
        load(&[("defs/host.toml", WHOLE)]).unwrap().plan.measured_boot,
        None
    );
    let definition = plan("key = \"pcr.key\"");
    let measured = definition.plan.measured_boot.unwrap();
    assert_eq!(measured.banks, [plan::PcrBank::Sha256, plan::PcrBank::Sha384]);
    let phases: Vec<_> = measured.phases.iter().map(|phase| phase.as_str()).collect();
    assert_eq!(phases, ["enter-initrd"]);
    assert_eq!(definition.warnings.len(), 1);
    let definition = plan("cert = \"pcr.pem\"\nphases = [\"enter-initrd:leave-initrd\", \"enter-initrd\"]");
    let messages: Vec<_> = definition
        .warnings
        .iter()
        .map(|problem| problem.message())
        .collect();
    let phase = "policies are signed for the phase `enter-initrd:leave-initrd` too";
    assert_eq!(messages, ["the root partition is not encrypted", phase]);
    let expanded = definition.plan.to_toml().unwrap();
    let again = load(&[("defs/host.toml", &expanded)]).unwrap();
    assert_eq!(again.plan, definition.plan);
}

#[test]
fn keys_are_files_beside_the_definition_or_on_tokens() {
    let text = "[secure-boot]\ndb = { key = \"pkcs11:object=db\", cert = \"keys/db.pem\" }\npk = \"keys/PK.pem\"\n\
                [verity]\nsignature = \"partition\"\nkey = \"../verity.key\"\ncert = \"verity.pem\"\n\
                corruption = \"panic\"\n[commit]\nkey = \"/keys/commit.key\"\n[disk]";
    let plan = plan_of(&[("defs/host.toml", &alter("[disk]", text))]);
    let secure_boot = plan.secure_boot.as_ref().unwrap();
    let token = sealing::KeySource::Token("pkcs11:object=db".into());
    assert_eq!(secure_boot.db.key, Some(token));
    assert_eq!(secure_boot.db.cert.as_path(), Path::new("defs/keys/db.pem"));
    assert_eq!((&secure_boot.kek, secure_boot.dbx.len()), (&None, 0));
    let pair = plan.verity.pair.as_ref().unwrap();
    let Some(sealing::KeySource::File(key)) = &pair.key else {
        panic!("{pair:?}");
    };
    assert_eq!(key.as_path(), Path::new("verity.key"));
    assert_eq!(plan.verity.algorithm, plan::VerityAlgorithm::Sha256);
    assert!(matches!(plan.commit, Some(sealing::CommitSigning::Key(_))));
    let expanded = plan.to_toml().unwrap();
    assert_eq!(plan_of(&[("defs/host.toml", &expanded)]), plan);
    // Keys that are elsewhere.
    let text = "[secure-boot]\ndb = { cert = \"db.pem\" }\n[verity]\nsignature = \"kernel\"\ncert = \"db.pem\"\n\
                [commit]\npublic = \"commit.pem\"\n[release]\ncert = \"release.pem\"\n[disk]";
    let plan = plan_of(&[("defs/host.toml", &alter("[disk]", text))]);
    assert_eq!(plan.secure_boot.as_ref().unwrap().db.key, None);
    assert_eq!(plan.verity.pair.as_ref().unwrap().key, None);
    assert!(matches!(plan.commit, Some(sealing::CommitSigning::Public(_))));
    assert_eq!(plan.release.as_ref().unwrap().key, None);
    let expanded = plan.to_toml().unwrap();
    assert_eq!(plan_of(&[("defs/host.toml", &expanded)]), plan);
    let plan = plan_of(&[("defs/host.toml", WHOLE)]);
    assert_eq!((plan.secure_boot, plan.commit), (None, None));
    assert_eq!(plan.verity.signature, plan::VeritySignature::None);
}

#[test]
fn parity_has_two_bytes_unless_more_is_said() {
    for (text, roots) in [
        ("fec = true", Some(2)),
        ("fec = true\nfec-roots = 24", Some(24)),
        ("fec = false", None),
    ] {
        let plan = plan_of(&[(
            "defs/host.toml",
            &alter("[disk]", &format!("[verity]\n{text}\n[disk]")),
        )]);
        assert_eq!((plan.verity.fec, plan.verity.fec_roots), (roots.is_some(), roots));
        let expanded = plan.to_toml().unwrap();
        assert_eq!(plan_of(&[("defs/host.toml", &expanded)]), plan);
    }
}

#[test]
fn later_errors_can_name_the_place_of_a_key() {
    let text = alter("[kernel]", "[rpms]\nrequire = [\"a\", \"b\"]\n[kernel]");
    let definition = load(&[("defs/host.toml", &text)]).unwrap();
    assert_eq!(definition.place("disk.size"), Some("defs/host.toml:15:8"));
    assert_eq!(definition.place("rpms.require[1]"), Some("defs/host.toml:8:17"));
    assert_eq!(definition.place("disk.esp"), None);
    assert_eq!(definition.warnings.len(), 1);
    assert_eq!(
        definition.warnings[0].message(),
        "the root partition is not encrypted"
    );
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}", at in 0..WHOLE.len(), cut in 0..40usize) {
        let mut damaged: Vec<u8> = WHOLE.into();
        let end = (at + cut).min(damaged.len());
        damaged.splice(at..end, text.bytes());
        let _ = load(&[("defs/host.toml", &String::from_utf8_lossy(&damaged))]);
        let _ = load(&[("defs/host.toml", &text)]);
    }
}
