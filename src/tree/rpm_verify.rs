//! What `rpm -V --all` says in a machine that runs the image, and why: RPM's rules of verification over the tree
//! instead of a disk.

use std::io;

use super::booted::{Booted, booted};
use super::path::TreePath;
use super::{Kind, Node, Origin, Tree, capability};
use crate::formats::rpm::tag::{fileflag, verifyflag};
use crate::rpmset::{FileEntry, FileState, RpmSet, States};

/// A path that is not as its package has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub path: TreePath,
    /// NEVRA.
    pub package: String,
    /// The nine characters of `rpm -V`, or `missing`.
    pub code: String,
    /// RPM's letter for what the file is: `c`, `d`, `g`, `l` …
    pub mark: Option<char>,
    pub reason: String,
}

/// The differences cannot be found.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum VerifyError {
    #[error("`{path}` cannot be compared with its package: {source}")]
    #[diagnostic(help("check that the store can be read"))]
    Content { path: TreePath, source: io::Error },
}

/// Compares every file of `set` that `states` calls installed with `tree`, in ostree's layout, as it is once booted.
/// `rules` are the definition's for paths, with their reasons. In the order of packages and their file lists.
///
/// # Errors
/// Where contents cannot be read.
pub fn differences(
    set: &RpmSet,
    states: &States,
    tree: &Tree,
    rules: &[(TreePath, String)],
) -> Result<Vec<Difference>, VerifyError> {
    let booted = booted(tree);
    let mut found = Vec::new();
    for (package, states) in set.packages().iter().zip(states) {
        for (file, state) in package.files.iter().zip(states) {
            if *state != FileState::Normal {
                continue;
            }
            let place = booted.place(&file.path).unwrap_or_else(|| file.path.clone());
            let node = booted.tree.get(&place);
            let code = code(&booted, &place, node, file).map_err(|source| VerifyError::Content {
                path: file.path.clone(),
                source,
            })?;
            found.extend(code.map(|code| Difference {
                path: file.path.clone(),
                package: package.nevra.to_string(),
                reason: reason(&booted, &place, node, file, &code, rules),
                code,
                mark: mark(file),
            }));
        }
    }
    Ok(found)
}

/// What `rpm -V` prints of `file`, which is `node`; `None` where all is well. As `rpmfilesVerify` of RPM 4.18 to 6.
fn code(
    booted: &Booted,
    place: &TreePath,
    node: Option<&Node>,
    file: &FileEntry,
) -> io::Result<Option<String>> {
    let Some(mut node) = node else {
        let excused = file.flags & (fileflag::MISSINGOK | fileflag::GHOST) != 0;
        return Ok((!excused).then(|| "missing".to_owned()));
    };
    // A link to a directory is as good as the directory.
    if file.is_dir() && matches!(node.kind, Kind::Symlink(_)) {
        let behind = booted.tree.resolve(place).and_then(|path| booted.tree.get(&path));
        node = behind.filter(|node| node.children().is_some()).unwrap_or(node);
    }
    let mut wanted = file.verify_flags;
    wanted &= match file.format() {
        0o120_000 => !verifyflag::MODE,
        _ => !verifyflag::LINKTO,
    };
    if !file.is_regular() {
        wanted &= !(verifyflag::DIGEST | verifyflag::SIZE | verifyflag::MTIME | verifyflag::CAPS);
    }
    if file.is_ghost() {
        wanted &= !(verifyflag::DIGEST | verifyflag::SIZE | verifyflag::MTIME | verifyflag::LINKTO);
    }
    let asked = |flag: u32| wanted & flag != 0;
    let name = |name: &Option<std::sync::Arc<str>>| name.as_deref().unwrap_or("root").to_owned();
    let content = match &node.kind {
        Kind::File(data) => Some(&data.blob),
        _ => None,
    };
    let size = match &node.kind {
        Kind::File(data) => data.blob.size(),
        Kind::Symlink(target) => target.len() as u64,
        _ => 0,
    };
    let digest = match (&file.digest, content) {
        (Some(digest), Some(blob)) if asked(verifyflag::DIGEST) => digest.is_of(blob)?,
        (Some(_), None) => !asked(verifyflag::DIGEST),
        _ => true,
    };
    let device = match node.kind {
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            let claimed = (u32::from(file.rdev >> 8), u32::from(file.rdev & 0xff));
            !matches!(file.format(), 0o020_000 | 0o060_000) || (major, minor) == claimed
        }
        _ => true,
    };
    let link = matches!(&node.kind, Kind::Symlink(target) if **target == *file.target);
    let attribute = node
        .meta
        .xattrs
        .get(capability::XATTR)
        .map(|value| value.to_vec());
    let expected = capability::from_text(&file.capabilities).unwrap_or_default();
    let checks = [
        ('S', verifyflag::SIZE, size == file.size),
        ('M', verifyflag::MODE, node.st_mode() == file.mode),
        ('5', verifyflag::DIGEST, digest),
        ('D', verifyflag::RDEV, device),
        ('L', verifyflag::LINKTO, link),
        ('U', verifyflag::USER, name(&node.meta.user) == file.user),
        ('G', verifyflag::GROUP, name(&node.meta.group) == file.group),
        ('T', verifyflag::MTIME, node.meta.mtime == i64::from(file.mtime)),
        ('P', verifyflag::CAPS, attribute == expected),
    ];
    let text: String = checks
        .iter()
        .map(|(letter, flag, holds)| if asked(*flag) && !holds { *letter } else { '.' })
        .collect();
    Ok(text.contains(|c| c != '.').then_some(text))
}

/// RPM names the first that fits.
fn mark(file: &FileEntry) -> Option<char> {
    let marks = [
        (fileflag::CONFIG, 'c'),
        (fileflag::DOC, 'd'),
        (fileflag::GHOST, 'g'),
        (fileflag::LICENSE, 'l'),
        (fileflag::README, 'r'),
        (fileflag::ARTIFACT, 'a'),
    ];
    let fits = marks.iter().find(|(bit, _)| file.flags & bit != 0);
    fits.map(|(_, letter)| *letter)
}

/// Files that the composer writes anew where packages have them.
const REWRITTEN: [(&str, &str); 6] = [
    ("/etc/passwd", "users are numbered by the composer"),
    ("/etc/group", "groups are numbered by the composer"),
    ("/etc/shadow", "users are numbered by the composer"),
    ("/etc/gshadow", "groups are numbered by the composer"),
    (
        "/usr/lib/os-release",
        "it names the image: IMAGE_ID and IMAGE_VERSION",
    ),
    ("/etc/machine-id", "each machine gets its own at its first boot"),
];

fn reason(
    booted: &Booted,
    place: &TreePath,
    node: Option<&Node>,
    file: &FileEntry,
    code: &str,
    rules: &[(TreePath, String)],
) -> String {
    if let Some((_, reason)) = REWRITTEN
        .iter()
        .find(|(path, _)| place.as_bytes() == path.as_bytes())
    {
        return (*reason).to_owned();
    }
    if let Some((path, reason)) = rules.iter().find(|(path, _)| file.path.starts_with(path)) {
        return format!("the definition's rule for `{path}`: {reason}");
    }
    let Some(node) = node else {
        let boot = file.path.starts_with(&TreePath::literal("/boot"));
        let what = if boot {
            "the kernel lies in /usr/lib/modules, where ostree looks for it"
        } else {
            "nothing brings it to a machine's own file systems"
        };
        return what.to_owned();
    };
    match (&node.origin, booted.touched.get(place)) {
        // A place on the machine that builds is not the same for all.
        (Origin::Definition(what), _) if what.starts_with('/') => {
            "a file of the definition's overlays takes its place".to_owned()
        }
        (Origin::Definition(what), _) => format!("the definition puts another one there: {what}"),
        (_, Some(why)) => why.clone(),
        (Origin::Composer(what), _) => format!("the composer puts another one there: {what}"),
        (Origin::Packages(_), None) if code.trim_matches('.') == "T" => {
            "its time was later than the newest build of the set, and was set back".to_owned()
        }
        (Origin::Packages(_), None) => "another package brings it too, and that one's is there".to_owned(),
    }
}
