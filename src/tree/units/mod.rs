//! What `systemctl preset-all` and `systemctl mask` would do: which units the image starts.
//!
//! Follows systemd.preset(5) and the `[Install]` section of systemd.unit(5).

mod install;
mod preset;

use std::collections::{BTreeMap, BTreeSet};

use super::path::TreePath;
use super::{Kind, Meta, Node, Origin, Tree, TreeError};
use install::Install;
use preset::{Action, Presets};

/// What the definition says of units, above all presets.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    pub enable: Vec<String>,
    pub disable: Vec<String>,
    pub mask: Vec<String>,
    pub default_target: String,
}

/// A wish or a unit that cannot be.
#[derive(Debug, Clone, thiserror::Error, miette::Diagnostic)]
pub enum UnitError {
    #[error("`{wish}` names `{unit}`, which the image does not have{}", nearest.as_ref().map(|n| format!("; the nearest name is `{n}`")).unwrap_or_default())]
    #[diagnostic(help("correct the name, or add the package that brings the unit"))]
    Absent {
        wish: &'static str,
        unit: String,
        nearest: Option<String>,
    },
    #[error("`{wish}` names `{unit}`, which has no [Install] section: systemd cannot enable it")]
    #[diagnostic(help(
        "it starts when others need it: leave it out, or link it from a target with `[[symlinks]]`"
    ))]
    NotInstallable { wish: &'static str, unit: String },
    #[error("`{path}` cannot be read: {what}")]
    #[diagnostic(help("the file comes from a package or from the definition: correct it there"))]
    Malformed { path: TreePath, what: String },
    #[error(transparent)]
    Tree(#[from] TreeError),
}

const LINK: Origin = Origin::Composer("a unit enabled by presets or definition");

/// Enables, disables and masks units in `tree` (in RPM layout), and writes the wishes down as a
/// preset file, so that systemd comes to the same result at first boot.
///
/// # Errors
/// Wishes that cannot be met; unit and preset files that cannot be read.
pub fn apply(tree: &mut Tree, wishes: &Wishes, time: i64) -> Result<(), UnitError> {
    let mut preset = String::from("# Units that the image definition turns on and off.\n");
    for (word, units) in [("enable", &wishes.enable), ("disable", &wishes.disable)] {
        for unit in units {
            preset.push_str(&format!("{word} {unit}\n"));
        }
    }
    let path = TreePath::literal("/usr/lib/systemd/system-preset/00-hullwright.preset");
    let origin = Origin::Composer("the definition's wishes for units");
    let node = Node::new(Meta::root(0o644, time), Kind::file(preset.into_bytes()), origin);
    tree.insert(&path, node)?;

    let system = Scope::read(tree, "system")?;
    system.check(wishes)?;
    system.apply(tree, time)?;
    Scope::read(tree, "user")?.apply(tree, time)?;

    let etc = TreePath::literal("/etc/systemd/system");
    for unit in &wishes.mask {
        link(tree, &etc.join_name(unit.as_bytes()), "/dev/null", time)?;
    }
    let target = format!("/usr/lib/systemd/system/{}", wishes.default_target);
    link(tree, &etc.join_name(b"default.target"), &target, time)
}

fn link(tree: &mut Tree, path: &TreePath, target: &str, time: i64) -> Result<(), UnitError> {
    let kind = Kind::Symlink(target.as_bytes().into());
    tree.insert(path, Node::new(Meta::root(0o777, time), kind, LINK))?;
    Ok(())
}

/// The units of the system manager, or those of user managers.
struct Scope {
    name: &'static str,
    presets: Presets,
    /// Unit files by name, with where they lie.
    units: BTreeMap<String, (TreePath, Install)>,
}

impl Scope {
    fn read(tree: &Tree, name: &'static str) -> Result<Self, UnitError> {
        let mut presets = BTreeMap::new();
        for directory in ["/usr/lib/systemd", "/etc/systemd"] {
            let directory = TreePath::literal(directory).join_name(format!("{name}-preset").as_bytes());
            for (file, path) in files_in(tree, &directory) {
                if file.ends_with(".preset") {
                    presets.insert(file, text(tree, &path)?);
                }
            }
        }
        let mut units = BTreeMap::new();
        for directory in ["/usr/lib/systemd", "/etc/systemd"] {
            let directory = TreePath::literal(directory).join_name(name.as_bytes());
            for (file, path) in files_in(tree, &directory) {
                // Links are aliases: what they point at is installed.
                if is_unit(&file) && matches!(tree.get(&path).map(|node| &node.kind), Some(Kind::File(_))) {
                    let mut content = text(tree, &path)?;
                    for drop_in in drop_ins(tree, name, &file) {
                        content.push('\n');
                        content.push_str(&text(tree, &drop_in)?);
                    }
                    units.insert(file, (path, Install::parse(&content)));
                }
            }
        }
        Ok(Self {
            name,
            presets: Presets::parse(presets.into_values()),
            units,
        })
    }

    /// The unit file behind a unit's name: templates for their instances.
    fn file_of(&self, unit: &str) -> Option<&str> {
        if self.units.contains_key(unit) {
            return self.units.get_key_value(unit).map(|(name, _)| name.as_str());
        }
        let (prefix, rest) = unit.split_once('@')?;
        let (_, suffix) = rest.rsplit_once('.')?;
        let template = format!("{prefix}@.{suffix}");
        self.units.get_key_value(&template).map(|(name, _)| name.as_str())
    }

    fn check(&self, wishes: &Wishes) -> Result<(), UnitError> {
        for (wish, units) in [("os.enable", &wishes.enable), ("os.disable", &wishes.disable)] {
            for unit in units {
                let Some(file) = self.file_of(unit) else {
                    let score = |name: &&String| strsim::jaro_winkler(name, unit);
                    let nearest = self.units.keys().max_by(|a, b| score(a).total_cmp(&score(b)));
                    let nearest = nearest.filter(|name| score(name) > 0.8).cloned();
                    let unit = unit.clone();
                    return Err(UnitError::Absent { wish, unit, nearest });
                };
                if wish == "os.enable" && self.units[file].1.is_empty() {
                    let unit = unit.clone();
                    return Err(UnitError::NotInstallable { wish, unit });
                }
            }
        }
        Ok(())
    }

    fn apply(&self, tree: &mut Tree, time: i64) -> Result<(), UnitError> {
        let mut enabled = BTreeSet::new();
        for (name, (_, install)) in &self.units {
            if install.is_empty() {
                continue;
            }
            match self.presets.action(name) {
                Action::Enable(instances) if instances.is_empty() => {
                    enabled.insert(name.clone());
                }
                Action::Enable(instances) => {
                    enabled.extend(
                        instances
                            .iter()
                            .map(|instance| name.replacen('@', &format!("@{instance}"), 1)),
                    );
                }
                Action::Disable => self.unlink(tree, name),
                Action::Ignore => {}
            }
        }
        let mut done = BTreeSet::new();
        let mut todo: Vec<_> = enabled.into_iter().rev().collect();
        while let Some(unit) = todo.pop() {
            if !done.insert(unit.clone()) {
                continue;
            }
            let Some(file) = self.file_of(&unit) else {
                continue;
            };
            let (path, install) = &self.units[file];
            let Some(links) = install.links(&unit) else {
                // A template that names no default instance has nothing to start.
                continue;
            };
            let base = TreePath::literal("/etc/systemd").join_name(self.name.as_bytes());
            for below in links {
                let at = base.join(&below).map_err(|error| UnitError::Malformed {
                    path: path.clone(),
                    what: error.to_string(),
                })?;
                link(tree, &at, &path.to_string(), time)?;
            }
            todo.extend(install.also(&unit).into_iter().rev());
        }
        Ok(())
    }

    /// Takes away the links that packages brought for a unit that presets turn off.
    fn unlink(&self, tree: &mut Tree, unit: &str) {
        let base = TreePath::literal("/etc/systemd").join_name(self.name.as_bytes());
        let links: Vec<_> = tree
            .walk_from(&base)
            .filter(|(path, node)| {
                let wanted = path.parent().and_then(|parent| {
                    let name = parent.name()?;
                    Some(
                        name.ends_with(b".wants")
                            || name.ends_with(b".requires")
                            || name.ends_with(b".upholds"),
                    )
                });
                matches!(node.kind, Kind::Symlink(_))
                    && wanted == Some(true)
                    && path
                        .name()
                        .and_then(|name| std::str::from_utf8(name).ok())
                        .and_then(|name| self.file_of(name))
                        == Some(unit)
            })
            .map(|(path, _)| path)
            .collect();
        for path in links {
            tree.remove(&path);
        }
    }
}

fn files_in(tree: &Tree, directory: &TreePath) -> Vec<(String, TreePath)> {
    let children = tree.get(directory).and_then(Node::children);
    let names = children.into_iter().flat_map(|children| children.keys());
    names
        .filter_map(|name| Some((String::from_utf8(name.to_vec()).ok()?, directory.join_name(name))))
        .collect()
}

/// Files that add to `unit`, in the order in which they count.
pub fn drop_ins(tree: &Tree, scope: &str, unit: &str) -> Vec<TreePath> {
    let mut paths = BTreeMap::new();
    for directory in ["/usr/lib/systemd", "/etc/systemd"] {
        let directory = TreePath::literal(directory).join_name(scope.as_bytes());
        let directory = directory.join_name(format!("{unit}.d").as_bytes());
        paths.extend(
            files_in(tree, &directory)
                .into_iter()
                .filter(|(name, _)| name.ends_with(".conf")),
        );
    }
    paths.into_values().collect()
}

fn is_unit(name: &str) -> bool {
    let types = [
        "service",
        "socket",
        "target",
        "timer",
        "path",
        "mount",
        "automount",
        "swap",
        "slice",
    ];
    name.rsplit_once('.')
        .is_some_and(|(_, suffix)| types.contains(&suffix))
}

/// An empty text for what is no file (a link to /dev/null masks).
fn text(tree: &Tree, path: &TreePath) -> Result<String, UnitError> {
    let malformed = |what: String| UnitError::Malformed {
        path: path.clone(),
        what,
    };
    match tree.file(path) {
        Some(file) => {
            let bytes = file
                .blob
                .read_all()
                .map_err(|error| malformed(error.to_string()))?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        None => Ok(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&'static str, &'static str)]) -> Tree {
        let mut tree = Tree::new(Meta::root(0o755, 0));
        for (path, content) in files {
            let node = Node::new(
                Meta::root(0o644, 0),
                Kind::file(content.as_bytes()),
                Origin::Composer("test"),
            );
            tree.insert(&TreePath::literal(path), node).unwrap();
        }
        tree
    }

    fn links(tree: &Tree) -> Vec<String> {
        let of = |(path, node): (TreePath, &Node)| match &node.kind {
            Kind::Symlink(target) => Some(format!("{path} -> {}", target.escape_ascii())),
            _ => None,
        };
        tree.walk_from(&TreePath::literal("/etc/systemd"))
            .filter_map(of)
            .collect()
    }

    fn wishes(enable: &[&str], disable: &[&str]) -> Wishes {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Wishes {
            enable: owned(enable),
            disable: owned(disable),
            mask: vec!["swap.target".to_owned()],
            default_target: "multi-user.target".to_owned(),
        }
    }

    const UNITS: [(&str, &str); 6] = [
        (
            "/usr/lib/systemd/system/a.service",
            "[Install]\nWantedBy=multi-user.target\nAlias=b.service\nAlso=a.socket\n",
        ),
        (
            "/usr/lib/systemd/system/a.socket",
            "[Install]\nWantedBy=sockets.target\n",
        ),
        (
            "/usr/lib/systemd/system/off.service",
            "[Install]\nRequiredBy=multi-user.target\n",
        ),
        (
            "/usr/lib/systemd/system/getty@.service",
            "[Install]\nWantedBy=getty.target\nDefaultInstance=tty1\n",
        ),
        (
            "/usr/lib/systemd/system/plain.service",
            "[Service]\nExecStart=/bin/true\n",
        ),
        (
            "/usr/lib/systemd/system-preset/90-all.preset",
            "# all\nenable getty@.service\ndisable *\n",
        ),
    ];

    #[test]
    fn units_are_linked_as_systemctl_links_them() {
        let mut tree = tree(&UNITS);
        apply(&mut tree, &wishes(&["a.service"], &[]), 0).unwrap();
        assert_eq!(
            links(&tree),
            [
                "/etc/systemd/system/b.service -> /usr/lib/systemd/system/a.service",
                "/etc/systemd/system/default.target -> /usr/lib/systemd/system/multi-user.target",
                "/etc/systemd/system/getty.target.wants/getty@tty1.service -> /usr/lib/systemd/system/getty@.service",
                "/etc/systemd/system/multi-user.target.wants/a.service -> /usr/lib/systemd/system/a.service",
                "/etc/systemd/system/sockets.target.wants/a.socket -> /usr/lib/systemd/system/a.socket",
                "/etc/systemd/system/swap.target -> /dev/null",
            ]
        );
    }

    #[test]
    fn wishes_that_cannot_be_met_are_refused() {
        let error = apply(&mut tree(&UNITS), &wishes(&["a.sevice"], &[]), 0).unwrap_err();
        assert!(
            error.to_string().ends_with("the nearest name is `a.service`"),
            "{error}"
        );
        let error = apply(&mut tree(&UNITS), &wishes(&["plain.service"], &[]), 0).unwrap_err();
        assert!(matches!(error, UnitError::NotInstallable { .. }), "{error}");
    }
}
