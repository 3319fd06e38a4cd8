//! The commit's tree against what rpm says of its packages, and the sealed `/usr` against the commit.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hullwright::store::Digest;
use rayon::prelude::*;

use crate::run::{answer, program, scratch};
use crate::support::image::{output_file, sample_image};
use crate::support::sample_rpms;

const REFERENCE: &str = "sample/13/x86_64/container-host";

/// What is known of a path, whoever says it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    kind: char,
    mode: u32,
    uid: u32,
    gid: u32,
    target: Option<String>,
    content: Option<(u64, Digest)>,
    /// The value of `security.capability`, in hexadecimal.
    capabilities: Option<String>,
}

type Entries = BTreeMap<String, Entry>;

/// The commit by `ostree ls`, contents from a checkout into `checkout`.
fn commit(directory: &Path, checkout: &Path) -> Option<Entries> {
    let repo = format!("--repo={}", directory.join("repo").display());
    let mut ls = program("ostree", [repo.as_str(), "ls", "-R", "-X", REFERENCE, "/"])?;
    let listing = answer(&mut ls);
    let mut co = program("ostree", [repo.as_str(), "checkout", "-U", REFERENCE])?;
    answer(co.arg(checkout));
    let entries: BTreeMap<_, _> = listing
        .lines()
        .collect::<Vec<_>>()
        .par_iter()
        .map(|line| {
            // -00755 0 0 156136 { [(b'security.capability', [byte 0x00, …])] } /usr/bin/ping
            let (meta, rest) = line.split_once(" { ").unwrap();
            let (xattrs, path) = rest.split_once(" } /").unwrap();
            let kind = meta.chars().next().unwrap();
            let mut words = meta[1..].split_whitespace();
            let mode = u32::from_str_radix(words.next().unwrap(), 8).unwrap();
            let mut number = || words.next().unwrap().parse::<u64>().unwrap();
            let (uid, gid, size) = (number() as u32, number() as u32, number());
            let (path, target) = match path.split_once(" -> ") {
                Some((path, target)) if kind == 'l' => (path, Some(target.to_owned())),
                _ => (path, None),
            };
            let capabilities = xattrs
                .split_once("(b'security.capability', [byte ")
                .map(|(_, value)| {
                    let (value, _) = value.split_once(']').unwrap();
                    value.split(", ").map(|byte| &byte[2..]).collect()
                });
            let content = (kind == '-').then(|| {
                let file = checkout.join(path);
                let content = fs::read(&file).unwrap_or_else(|error| panic!("{line}: {error}"));
                (size, Digest::of(&content))
            });
            let entry = Entry {
                kind,
                mode,
                uid,
                gid,
                target,
                content,
                capabilities,
            };
            (format!("/{path}"), entry)
        })
        .collect();
    Some(entries)
}

/// Numbers of the accounts of `file` (`passwd`, `group`) in the checkout.
fn numbers(checkout: &Path, file: &str) -> BTreeMap<String, u32> {
    let text = fs::read_to_string(checkout.join("usr/etc").join(file)).unwrap();
    text.lines()
        .map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().unwrap().to_owned();
            (name, fields.nth(1).unwrap().parse().unwrap())
        })
        .collect()
}

/// Where a package's path is in the commit: links to directories followed, `/etc` in `/usr/etc`,
/// the kernel's files beside its modules. `None` for what first boot makes.
fn place(path: &str, commit: &Entries) -> Option<String> {
    if let Some(name) = path.strip_prefix("/boot/") {
        let (stem, release) = name.split_once('-').unwrap();
        return Some(format!("/usr/lib/modules/{release}/{stem}"));
    }
    let top = path[1..].split('/').next().unwrap();
    if [
        "boot", "dev", "home", "media", "mnt", "opt", "proc", "root", "run", "srv", "sys", "tmp", "var",
    ]
    .contains(&top)
        || path == "/usr/local"
        || path.starts_with("/usr/local/")
    {
        return None;
    }
    let path = match path.strip_prefix("/etc") {
        Some(rest) if top == "etc" => format!("/usr/etc{rest}"),
        _ => path.to_owned(),
    };
    let mut done = String::new();
    let mut components: Vec<&str> = path[1..].split('/').collect();
    let last = components.pop().unwrap();
    for name in components {
        let next = format!("{done}/{name}");
        done = match commit.get(&next).and_then(|entry| entry.target.as_deref()) {
            None => next,
            // Links between directories of the sample are relative: `bin -> usr/bin`.
            Some(target) => {
                let mut at: Vec<&str> = done.split('/').collect();
                for part in target.split('/') {
                    match part {
                        ".." => _ = at.pop(),
                        "" => at = vec![""],
                        part => at.push(part),
                    }
                }
                at.join("/")
            }
        };
    }
    Some(format!("{done}/{last}"))
}

/// Why a path of the commit is not as a package has it, or in no package.
fn reason(path: &str, overlays: &BTreeSet<String>) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap();
    let below = |directory: &str| {
        path.strip_prefix(directory)
            .is_some_and(|rest| rest.starts_with('/'))
    };
    if overlays.contains(path) {
        return Some("the definition's overlay");
    }
    if below("/usr/etc/systemd/system") || below("/usr/etc/systemd/user") {
        return Some("presets");
    }
    if below("/usr/lib/modules") && name.starts_with("modules.") {
        return Some("depmod's indexes");
    }
    if path == "/usr/etc/sysusers.d" || below("/usr/etc/sysusers.d") {
        return Some("packages' accounts with the numbers that they got");
    }
    if path == "/usr/lib/sysimage" || path == "/usr/lib/sysimage/rpm" || below("/usr/lib/sysimage/rpm") {
        return Some("the rpmdb");
    }
    if below("/usr/lib/repart.d") {
        return Some("partitions that first boot makes");
    }
    Some(match path {
        "/usr/lib/udev/hwdb.bin" => "udev's hardware database, compiled from the tree's own texts",
        "/usr/etc/passwd" | "/usr/etc/group" | "/usr/etc/shadow" | "/usr/etc/gshadow" => "accounts",
        "/usr/lib/sysusers.d/hullwright-accounts.conf" => "accounts",
        "/usr/etc/machine-id" => "uninitialized",
        "/usr/etc/locale.conf" | "/usr/etc/localtime" => "os.locale, os.timezone",
        "/usr/etc/ld.so.cache" => "ldconfig",
        "/usr/lib/os-release" => "IMAGE_ID and IMAGE_VERSION",
        "/usr/lib/tmpfiles.d/hullwright-state.conf" => "what first boot makes under /var",
        "/usr/lib/systemd/system-preset/00-hullwright.preset" => "os.enable, os.disable",
        "/usr/lib/systemd/system/default.target" => "os.default-target",
        "/usr/lib/repart.d" => "partitions that first boot makes",
        "/usr/local" => "the layout's link into /var",
        _ => return None,
    })
}

/// Paths of the definition's overlays, and the directories above them.
fn overlays() -> BTreeSet<String> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd-units/container-host");
    let mut paths = BTreeSet::new();
    let mut todo = vec![top.clone()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let below = path.strip_prefix(&top).unwrap().to_str().unwrap();
            let below = match below.strip_prefix("etc") {
                Some(rest) => format!("/usr/etc{rest}"),
                None => format!("/{below}"),
            };
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                todo.push(path);
            }
            paths.insert(below);
        }
    }
    paths
}

fn packages(rpms: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(rpms).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "rpm"))
        .collect()
}

#[test]
fn every_file_is_as_rpm_says() {
    let (Some(directory), Some(rpms)) = (sample_image(), sample_rpms()) else {
        return;
    };
    let format = "[%{=NEVRA}\\t%{FILENAMES}\\t%{FILEMODES:octal}\\t%{FILEUSERNAME}\\t%{FILEGROUPNAME}\\t\
                  %{FILESIZES}\\t%{FILEDIGESTS}\\t%{FILELINKTOS}\\t%{FILECAPS}\\t%{FILEFLAGS:fflags}\\n]";
    let Some(mut rpm) = program("rpm", ["-qp", "--nosignature", "--qf", format]) else {
        return;
    };
    let said = answer(rpm.args(packages(&rpms)));
    let scratch = scratch();
    let checkout = scratch.path().join("commit");
    let Some(commit) = commit(&directory, &checkout) else {
        return;
    };
    let (users, groups) = (numbers(&checkout, "passwd"), numbers(&checkout, "group"));
    let state = fs::read_dir(checkout.join("usr/lib/tmpfiles.d")).unwrap();
    let state = state.map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    let state: Vec<String> = state
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let overlays = overlays();

    let (mut seen, mut compared, mut made) = (BTreeSet::new(), 0, 0);
    let mut wrong = Vec::new();
    for line in said.lines() {
        let fields: Vec<_> = line.split('\t').collect();
        let [
            package,
            path,
            mode,
            user,
            group,
            size,
            digest,
            target,
            caps,
            flags,
        ] = fields[..]
        else {
            panic!("{line}");
        };
        let mode = u32::from_str_radix(mode, 8).unwrap();
        if flags.contains('g') {
            continue;
        }
        let Some(at) = place(path, &commit) else {
            // A directory that first boot makes: by the composer's line or by a package's own.
            if mode & 0o170_000 == 0o040_000 && path.starts_with("/var/") {
                let line = format!("d {path} {:04o} {user} {group} -", mode & 0o7777);
                let own = |line: &String| {
                    let mut words = line.split_whitespace();
                    words
                        .next()
                        .is_some_and(|kind| kind.starts_with(['d', 'D', 'q', 'Q', 'v']))
                        && words.next() == Some(path)
                };
                let parent = state.iter().any(|line| line.contains(&format!("{path}/")));
                if !state.contains(&line) && !state.iter().any(own) && !parent {
                    wrong.push(format!("{package}: nothing makes {path}"));
                }
                made += 1;
            }
            continue;
        };
        seen.insert(at.clone());
        let kind = match mode & 0o170_000 {
            0o040_000 => 'd',
            0o120_000 => 'l',
            0o100_000 => '-',
            other => panic!("{path}: {other:o}"),
        };
        let capabilities = match caps {
            "" | "(none)" => None,
            // CAP_NET_RAW is number 13; revision 2 of the attribute; permitted, not effective.
            "cap_net_raw=p" => Some(format!("0000000200200000{}", "00".repeat(12))),
            other => panic!("{path}: the test does not know {other}"),
        };
        let expected = Entry {
            kind,
            mode: if kind == 'l' { 0o777 } else { mode & 0o7777 },
            uid: users[user],
            gid: groups[group],
            target: (kind == 'l').then(|| target.to_owned()),
            content: (kind == '-').then(|| (size.parse().unwrap(), digest.parse().unwrap())),
            capabilities,
        };
        let there = commit.get(&at);
        compared += 1;
        if there != Some(&expected) && reason(&at, &overlays).is_none() {
            // RPM lets a directory be where another package has a link to it.
            let linked = kind == 'd' && there.is_some_and(|there| there.kind == 'l');
            if !linked {
                wrong.push(format!(
                    "{package}: {at}: {expected:?}, but the commit has {there:?}"
                ));
            }
        }
    }
    // And the other way: what no package has, but for the directories above what one has.
    let above = |path: &str| {
        let path = format!("{path}/");
        seen.range(path.clone()..)
            .next()
            .is_some_and(|next| next.starts_with(&path))
    };
    for (path, entry) in &commit {
        let sealed = path.starts_with("/usr/");
        let implied = entry.kind == 'd' && above(path);
        if sealed && !seen.contains(path) && !implied && reason(path, &overlays).is_none() {
            wrong.push(format!("no package has {path}: {entry:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differences:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(compared > 15_000 && made > 20, "{compared} {made}");
    assert_eq!(
        commit["/usr/bin/ping"].capabilities.as_deref().map(str::len),
        Some(40)
    );
    assert_eq!(
        commit["/usr/sbin/unix_chkpwd"].gid, 42,
        "shadow, of Debian's base-passwd"
    );
    assert_eq!(commit["/usr/sbin/unix_chkpwd"].mode, 0o2755);
}

#[test]
fn the_sealed_usr_is_the_commits() {
    let Some(directory) = sample_image() else { return };
    let scratch = scratch();
    let Some(commit) = commit(&directory, &scratch.path().join("commit")) else {
        return;
    };
    let root = nix::unistd::geteuid().is_root();
    let image = output_file(&directory, ".usr.erofs");
    let usr = scratch.path().join("usr");
    let mut flags = vec![
        format!("--extract={}", usr.display()),
        "--preserve-perms".to_owned(),
    ];
    if root {
        flags.push("--preserve-owner".to_owned());
    }
    let Some(mut fsck) = program("fsck.erofs", []) else {
        return;
    };
    answer(fsck.args(flags).arg(&image));

    let mut todo = vec![usr.clone()];
    let mut found = Vec::new();
    while let Some(path) = todo.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.push((path, metadata));
    }
    let sealed: Entries = found
        .par_iter()
        .map(|(path, metadata)| {
            let name = format!("/{}", path.strip_prefix(scratch.path()).unwrap().display());
            let link = metadata.is_symlink();
            let content = metadata.is_file().then(|| Digest::of(&fs::read(path).unwrap()));
            let entry = Entry {
                kind: if link {
                    'l'
                } else if metadata.is_dir() {
                    'd'
                } else {
                    '-'
                },
                mode: metadata.mode() & 0o7777,
                uid: metadata.uid(),
                gid: metadata.gid(),
                target: link.then(|| {
                    let target = fs::read_link(path).unwrap();
                    String::from_utf8(target.as_os_str().as_bytes().to_vec()).unwrap()
                }),
                content: content.map(|digest| (metadata.len(), digest)),
                capabilities: None,
            };
            (name, entry)
        })
        .collect();
    let expected = commit
        .iter()
        .filter(|(path, _)| *path == "/usr" || path.starts_with("/usr/"));
    let expected: Entries = expected
        .map(|(path, entry)| {
            let mut entry = Entry {
                capabilities: None,
                ..entry.clone()
            };
            if !root {
                (entry.uid, entry.gid) = (sealed[path].uid, sealed[path].gid);
            }
            (path.clone(), entry)
        })
        .collect();
    for path in expected.keys().chain(sealed.keys()) {
        assert_eq!(sealed.get(path), expected.get(path), "{path}");
    }
    assert!(sealed.len() > 10_000, "{}", sealed.len());

    // fsck.erofs loses capabilities when it sets the owner: dump.erofs counts their bytes.
    let Some(_) = program("dump.erofs", []) else {
        return;
    };
    for path in ["/usr/bin/ping", "/usr/bin/bash", "/usr/sbin/unix_chkpwd"] {
        let inside = format!("--path={}", &path["/usr".len()..]);
        let mut dump = program("dump.erofs", [inside.as_str()]).unwrap();
        let said = answer(dump.arg(&image));
        let has = !said.contains("Xattr size: 0\n");
        assert_eq!(has, commit[path].capabilities.is_some(), "{path}: {said}");
    }
}
