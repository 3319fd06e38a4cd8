//! What systemd does to directories for the services that a boot starts: systemd.exec(5), `StateDirectory=` and its like.
//!
//! Services that wait for a socket, a timer or a device may start or not; they are not counted. Directories of dynamic
//! users belong to nobody whom an image could name.

use std::collections::{BTreeMap, BTreeSet};

use crate::tree::path::TreePath;
use crate::tree::units::drop_ins;
use crate::tree::{Kind, Node, Tree};

/// Where units lie, the first hides those of the same name in the second.
const PLACES: [&str; 2] = ["/etc/systemd/system", "/usr/lib/systemd/system"];
/// What every boot reaches.
const ROOTS: [&str; 3] = ["default.target", "basic.target", "sysinit.target"];
const BASES: [(&str, &str); 3] = [
    ("StateDirectory", "/var/lib"),
    ("CacheDirectory", "/var/cache"),
    ("LogsDirectory", "/var/log"),
];
const DEFAULT_MODE: u16 = 0o755;

/// A directory that a service gets.
#[derive(Debug, PartialEq, Eq)]
pub struct Directory {
    pub path: TreePath,
    pub mode: u16,
    /// User and group, where the service has its own.
    pub owner: Option<(String, String)>,
    pub unit: TreePath,
}

/// The settings of a unit, by section and key: each value in turn.
#[derive(Debug, Default)]
struct Settings(BTreeMap<(String, String), Vec<String>>);

impl Settings {
    fn read(text: &str) -> Self {
        let mut settings = Self::default();
        let mut section = String::new();
        for line in text.replace("\\\n", " ").lines().map(str::trim) {
            if line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                name.clone_into(&mut section);
            } else if let Some((key, value)) = line.split_once('=') {
                let key = (section.clone(), key.trim().to_owned());
                let values = settings.0.entry(key).or_default();
                match value.trim() {
                    "" => values.clear(),
                    value => values.push(value.to_owned()),
                }
            }
        }
        settings
    }

    fn all(&self, section: &str, key: &str) -> &[String] {
        let found = self.0.get(&(section.to_owned(), key.to_owned()));
        found.map_or(&[], Vec::as_slice)
    }

    fn words(&self, section: &str, key: &str) -> impl Iterator<Item = &str> {
        self.all(section, key)
            .iter()
            .flat_map(|value| value.split_whitespace())
    }

    /// The value that holds: the last.
    fn last(&self, section: &str, key: &str) -> Option<&str> {
        self.all(section, key).last().map(String::as_str)
    }
}

/// The directories of all services that a boot of `tree` starts, in the order of the units' names.
pub fn directories(tree: &Tree) -> Vec<Directory> {
    let mut found = Vec::new();
    for (file, settings) in started(tree).into_values() {
        let dynamic = settings.last("Service", "DynamicUser");
        if dynamic.is_some_and(|value| ["yes", "true", "on", "1"].contains(&value)) {
            continue;
        }
        for (key, base) in BASES {
            let mode = settings.last("Service", &format!("{key}Mode"));
            let mode = mode.and_then(|mode| u16::from_str_radix(mode, 8).ok());
            for name in settings.words("Service", key) {
                let name = name.split(':').next().unwrap_or_default();
                let path = TreePath::literal(base).join(name);
                let (Ok(path), false) = (path, name.contains('%')) else {
                    continue;
                };
                found.push(Directory {
                    path,
                    mode: mode.unwrap_or(DEFAULT_MODE) & 0o7777,
                    owner: owner(tree, &settings),
                    unit: file.clone(),
                });
            }
        }
    }
    found
}

/// Units that a boot reaches, by name, with their files.
fn started(tree: &Tree) -> BTreeMap<String, (TreePath, Settings)> {
    let mut found = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut todo: Vec<_> = ROOTS.map(str::to_owned).into();
    while let Some(wanted) = todo.pop() {
        if !seen.insert(wanted.clone()) {
            continue;
        }
        let Some((name, file)) = unit(tree, &wanted) else {
            continue;
        };
        let mut text = text(tree, &file);
        for drop_in in drop_ins(tree, "system", &name) {
            text.push('\n');
            text.push_str(&self::text(tree, &drop_in));
        }
        let settings = Settings::read(&text);
        if !conditions_hold(tree, &settings) {
            continue;
        }
        for key in ["Wants", "Requires", "BindsTo", "Upholds"] {
            todo.extend(settings.words("Unit", key).map(str::to_owned));
        }
        for name in [&wanted, &name] {
            for (place, kind) in PLACES
                .iter()
                .flat_map(|place| ["wants", "requires", "upholds"].map(|kind| (place, kind)))
            {
                let directory = TreePath::literal(place).join_name(format!("{name}.{kind}").as_bytes());
                let children = tree.get(&directory).and_then(Node::children);
                let names = children.into_iter().flat_map(|children| children.keys());
                todo.extend(names.filter_map(|name| String::from_utf8(name.to_vec()).ok()));
            }
        }
        found.insert(name, (file, settings));
    }
    found
}

/// The unit's own name, links followed, and its file; `None` for what is masked or absent.
fn unit(tree: &Tree, name: &str) -> Option<(String, TreePath)> {
    let template = name.split_once('@').and_then(|(prefix, rest)| {
        let (_, suffix) = rest.rsplit_once('.')?;
        Some(format!("{prefix}@.{suffix}"))
    });
    let names = [Some(name), template.as_deref()];
    let paths = names.into_iter().flatten().filter(|name| !name.contains('/'));
    let path = paths
        .flat_map(|name| PLACES.map(|place| TreePath::literal(place).join_name(name.as_bytes())))
        .find(|path| tree.get(path).is_some())?;
    let real = tree.resolve(&path)?;
    if !matches!(tree.get(&real)?.kind, Kind::File(_)) {
        return None;
    }
    Some((String::from_utf8(real.name()?.to_vec()).ok()?, real))
}

fn text(tree: &Tree, path: &TreePath) -> String {
    let bytes = tree.file(path).and_then(|file| file.blob.read_all().ok());
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

/// Conditions on paths of the image; what others ask for is taken to hold.
fn conditions_hold(tree: &Tree, settings: &Settings) -> bool {
    let holds = |condition: &String| {
        let (path, wanted) = match condition.strip_prefix('!') {
            Some(path) => (path, false),
            None => (condition.as_str(), true),
        };
        let image = ["/usr/", "/etc/"].iter().any(|place| path.starts_with(place));
        match TreePath::new(path) {
            Ok(path) if image => tree.resolve(&path).is_some() == wanted,
            _ => true,
        }
    };
    settings.all("Unit", "ConditionPathExists").iter().all(holds)
}

/// The user that the service runs as, with its group.
fn owner(tree: &Tree, settings: &Settings) -> Option<(String, String)> {
    let user = settings.last("Service", "User")?;
    let field = |file: &'static str, key: usize, wanted: &str, value: usize| {
        let text = text(tree, &TreePath::literal(file));
        let lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let mut fitting = lines.filter(|fields| fields.get(key) == Some(&wanted));
        fitting.find_map(|fields| fields.get(value).map(|&value| value.to_owned()))
    };
    let primary = || field("/etc/group", 2, &field("/etc/passwd", 0, user, 3)?, 0);
    let group = match settings.last("Service", "Group") {
        Some(group) => group.to_owned(),
        None => primary()?,
    };
    Some((user.to_owned(), group))
}
