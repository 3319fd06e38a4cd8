//! The tree as a machine that runs it has it: `/etc` from `/usr/etc`, what systemd-tmpfiles makes of tmpfiles.d(5) at
//! boot, directories of services, the machine's own id, and where the boot partition is mounted. Contents of `/run` and the
//! like that programs write later are not known here.

mod services;

use std::collections::BTreeMap;

use super::path::TreePath;
use super::{Children, Kind, Meta, Node, Origin, Tree};

/// A running machine's files, as far as the image says.
#[derive(Debug)]
pub struct Booted {
    pub tree: Tree,
    /// Paths that a boot makes or changes: how, in words.
    pub touched: BTreeMap<TreePath, String>,
}

const TMPFILES: Origin = Origin::Composer("made at boot by tmpfiles.d");

/// A line of tmpfiles.d(5) that creates or adjusts a path.
struct Line<'a> {
    file: &'a TreePath,
    kind: u8,
    /// `+`: in place of whatever is there.
    replaces: bool,
    path: TreePath,
    mode: Option<u16>,
    user: Option<String>,
    group: Option<String>,
    argument: Vec<u8>,
}

/// `tree`, in ostree's layout, as it is after a boot.
pub fn booted(tree: &Tree) -> Booted {
    let mut tree = tree.clone();
    if let Some(etc) = tree.get(&TreePath::literal("/usr/etc")).cloned() {
        // The root is a directory.
        let _ = tree.insert(&TreePath::literal("/etc"), etc);
    }
    // What the kernel mounts there.
    for path in ["/proc", "/sys"] {
        if let Some(node) = tree.get_mut(&TreePath::literal(path)) {
            node.meta.mode = 0o555;
        }
    }
    let files = configuration(&tree);
    let mut lines = Vec::new();
    for (path, text) in &files {
        lines.extend(text.split(|&b| b == b'\n').filter_map(|text| line(path, text)));
    }
    let mut booted = Booted {
        tree,
        touched: BTreeMap::new(),
    };
    // Of lines for one path, the first counts; those that adjust come after those that create.
    let (adjusting, mut creating): (Vec<_>, Vec<_>) = lines
        .into_iter()
        .partition(|line| matches!(line.kind, b'z' | b'Z'));
    creating.sort_by(|a, b| a.path.cmp(&b.path));
    creating.dedup_by(|later, first| later.path == first.path && later.kind == first.kind);
    for line in creating {
        booted.create(&line);
    }
    for line in adjusting {
        booted.adjust(&line);
    }
    for directory in services::directories(&booted.tree) {
        booted.give(&directory);
    }
    booted.name_machine();
    booted.mount_esp();
    booted
}

/// What mounts the EFI system partition where fstab(5) says nothing of it.
const MOUNTER: &str = "/usr/lib/systemd/system-generators/systemd-gpt-auto-generator";
/// Where it mounts it: at the first of these that there is.
const ESP_PLACES: [&str; 2] = ["/efi", "/boot"];
/// With its own umask: firmware's files are for root.
const ESP_MODE: u16 = 0o700;
/// Nothing is seen of it until something looks inside, nor two minutes after the last look.
const MOUNTED: &str = "the EFI system partition, while systemd has it mounted there";
/// No time that a package could have.
const LATER: i64 = -1;

/// The files of tmpfiles.d that count, in the order of their names.
fn configuration(tree: &Tree) -> Vec<(TreePath, Vec<u8>)> {
    let mut files = BTreeMap::new();
    for directory in ["/usr/lib/tmpfiles.d", "/etc/tmpfiles.d"] {
        let directory = TreePath::literal(directory);
        let children = tree.get(&directory).and_then(Node::children);
        for name in children.into_iter().flat_map(|children| children.keys()) {
            if name.ends_with(b".conf") {
                files.insert(name.clone(), directory.join_name(name));
            }
        }
    }
    let text = |path: TreePath| {
        let text = tree.file(&path).and_then(|file| file.blob.read_all().ok());
        (path, text.unwrap_or_default())
    };
    files.into_values().map(text).collect()
}

/// `None` for comments, for lines of other kinds, and for paths that are known on the running machine only.
fn line<'a>(file: &'a TreePath, text: &[u8]) -> Option<Line<'a>> {
    let mut words = words(text).into_iter();
    let kind = words.next()?;
    let (&letter, modifiers) = kind.split_first()?;
    if !b"dDvqQeLCfFzZ".contains(&letter) {
        return None;
    }
    let path = words.next()?;
    if path.contains(&b'%') || path.contains(&b'*') {
        return None;
    }
    let mut field = || words.next().filter(|word| word != b"-");
    // `:` is for what does not exist yet, `~` takes bits away from what does.
    let plain = |word: Vec<u8>| {
        String::from_utf8(word)
            .ok()
            .filter(|text| !text.starts_with([':', '~']))
    };
    let mode = field()
        .and_then(plain)
        .and_then(|mode| u16::from_str_radix(&mode, 8).ok());
    let (user, group) = (field().and_then(plain), field().and_then(plain));
    field();
    Some(Line {
        file,
        kind: letter,
        replaces: modifiers.contains(&b'+'),
        path: TreePath::new(path).ok()?,
        mode,
        user,
        group,
        argument: field().unwrap_or_default(),
    })
}

/// Words between blanks; quotes hold one together, `\x20` and `\\` are read.
fn words(text: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut rest = text;
    if rest.trim_ascii_start().starts_with(b"#") {
        return words;
    }
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (quote, byte) {
            (Some(open), byte) if open == byte => quote = None,
            (None, b'"' | b'\'') => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (_, b'\\') => {
                let hex = rest.strip_prefix(b"x").and_then(|hex| hex.get(..2));
                let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
                match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                    Some(byte) => {
                        word.get_or_insert_default().push(byte);
                        rest = &rest[3..];
                    }
                    None => {
                        word.get_or_insert_default().extend(rest.first());
                        rest = rest.get(1..).unwrap_or_default();
                    }
                }
            }
            (None, byte) if byte.is_ascii_whitespace() => words.extend(word.take()),
            (_, byte) => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    words
}

/// Why a path is another one after a boot.
fn by(file: &TreePath) -> String {
    format!("`{file}` gives it another owner or mode at boot")
}

impl Booted {
    /// Where `path` lies, the links of its directories followed.
    pub fn place(&self, path: &TreePath) -> Option<TreePath> {
        let (parent, name) = (path.parent()?, path.name()?);
        Some(self.tree.resolve(&parent)?.join_name(name))
    }

    /// Where directory `path` lies, made with those above it where it is absent; `None` where something else is in the way.
    fn directory(&mut self, path: &TreePath, links: usize) -> Option<TreePath> {
        if let Some(there) = self.tree.resolve(path) {
            let node = self.tree.get(&there)?;
            return node.children().is_some().then_some(there);
        }
        let (parent, name) = (path.parent()?, path.name()?);
        let parent = self.directory(&parent, links)?;
        let path = parent.join_name(name);
        match self.tree.get(&path).map(|node| &node.kind) {
            None => {
                let node = Node::new(Meta::root(0o755, 0), Kind::Dir(Children::new()), TMPFILES);
                self.tree.insert(&path, node).ok()?;
                Some(path)
            }
            // A link whose target is to be made.
            Some(Kind::Symlink(target)) if links < 40 => {
                let target = parent.join(&**target).ok()?;
                self.directory(&target, links + 1)
            }
            Some(_) => None,
        }
    }

    /// A line that cannot be done is passed over, as systemd-tmpfiles does.
    fn create(&mut self, line: &Line<'_>) {
        let (Some(parent), Some(name)) = (line.path.parent(), line.path.name()) else {
            return;
        };
        let Some(path) = self.directory(&parent, 0).map(|parent| parent.join_name(name)) else {
            return;
        };
        let there = self.tree.get(&path).is_some();
        let kind = match line.kind {
            b'd' | b'D' | b'v' | b'q' | b'Q' | b'e' if there => {
                self.adjust(line);
                return;
            }
            _ if there && !line.replaces => return,
            b'd' | b'D' | b'v' | b'q' | b'Q' => Kind::Dir(Children::new()),
            b'L' if !line.argument.is_empty() => Kind::Symlink(line.argument.clone().into()),
            b'f' | b'F' => Kind::file(line.argument.clone()),
            b'C' => {
                let source = TreePath::new(&line.argument).ok();
                let Some(node) = source.and_then(|path| self.tree.get(&path)).cloned() else {
                    return;
                };
                if self.tree.insert(&path, node).is_ok() {
                    self.adjust(line);
                }
                return;
            }
            _ => return,
        };
        let mode = match kind {
            Kind::Dir(_) => 0o755,
            Kind::Symlink(_) => 0o777,
            _ => 0o644,
        };
        let node = Node::new(Meta::root(mode, 0), kind, TMPFILES);
        if self.tree.insert(&path, node).is_ok() {
            self.adjust(line);
        }
    }

    /// Gives what lies at the line's path the owner and mode that the line names.
    fn adjust(&mut self, line: &Line<'_>) {
        let Some(path) = self.place(&line.path) else {
            return;
        };
        let Some(node) = self.tree.get_mut(&path) else {
            return;
        };
        let before = node.meta.clone();
        let name = |name: &Option<String>, there: &Option<std::sync::Arc<str>>| match name.as_deref() {
            Some("root" | "0") => None,
            Some(name) => Some(name.into()),
            None => there.clone(),
        };
        node.meta.user = name(&line.user, &node.meta.user);
        node.meta.group = name(&line.group, &node.meta.group);
        if let Some(mode) = line.mode.filter(|_| !matches!(node.kind, Kind::Symlink(_))) {
            node.meta.mode = mode & 0o7777;
        }
        if node.meta != before || node.origin == TMPFILES {
            self.touched.insert(path, by(line.file));
        }
    }

    /// Does for a service what systemd does before it starts: the mode always, owners all the way down where the directory
    /// itself has another.
    fn give(&mut self, wanted: &services::Directory) {
        let Some(top) = self.directory(&wanted.path, 0) else {
            return;
        };
        let name = |name: &str| (name != "root").then(|| name.into());
        let owner = wanted
            .owner
            .as_ref()
            .map(|(user, group)| (name(user), name(group)));
        let Some(node) = self.tree.get_mut(&top) else {
            return;
        };
        if node.meta.mode != wanted.mode {
            node.meta.mode = wanted.mode;
            self.touched.insert(top.clone(), by(&wanted.unit));
        }
        let owned = (node.meta.user.clone(), node.meta.group.clone());
        let Some(owner) = owner.filter(|owner| *owner != owned) else {
            return;
        };
        let below: Vec<_> = self.tree.walk_from(&top).map(|(path, _)| path).collect();
        for path in below {
            if let Some(node) = self.tree.get_mut(&path) {
                (node.meta.user, node.meta.group) = owner.clone();
                self.touched.insert(path, by(&wanted.unit));
            }
        }
    }

    /// First boot replaces the word that stands for no id by one of 32 digits and a line break.
    fn name_machine(&mut self) {
        let path = TreePath::literal("/etc/machine-id");
        if let Some(node) = self.tree.get_mut(&path) {
            node.kind = Kind::file([[b'0'; 32].as_slice(), b"\n"].concat());
            node.meta.mtime = LATER;
        }
    }

    /// The root of a FAT file system hides the directory that it is mounted on.
    fn mount_esp(&mut self) {
        let text = |path: &'static str| {
            let file = self.tree.file(&TreePath::literal(path))?;
            Some(String::from_utf8_lossy(&file.blob.read_all().ok()?).into_owned())
        };
        let table = text("/etc/fstab").unwrap_or_default();
        let mut lines = table.lines().filter(|line| !line.trim_start().starts_with('#'));
        let place = ESP_PLACES
            .into_iter()
            .find(|place| self.tree.get(&TreePath::literal(place)).is_some());
        let (Some(place), Some(_)) = (place, self.tree.get(&TreePath::literal(MOUNTER))) else {
            return;
        };
        let path = TreePath::literal(place);
        let taken = lines.any(|line| line.split_whitespace().nth(1) == Some(place));
        if let Some(node) = self.tree.get_mut(&path).filter(|_| !taken)
            && node.children().is_some_and(|children| children.is_empty())
        {
            node.meta = Meta::root(ESP_MODE, 0);
            self.touched.insert(path, MOUNTED.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_does_what_tmpfiles_says() {
        let mut tree = Tree::new(Meta::root(0o755, 0));
        let mut put = |path: &'static str, kind: Kind| {
            let node = Node::new(Meta::root(0o644, 5), kind, Origin::Composer("test"));
            tree.insert(&TreePath::literal(path), node).unwrap();
        };
        put("/usr/etc/secret", Kind::Dir(Children::new()));
        put("/usr/share/factory/var/x", Kind::file(*b"x"));
        put("/opt", Kind::Symlink(b"var/opt"[..].into()));
        put("/root", Kind::Symlink(b"var/roothome"[..].into()));
        put("/proc", Kind::Dir(Children::new()));
        let text = "# comment\nd /etc/secret 0700 - keepers\nd! /var/log/a 2755 root adm -\nz /var/log/a 0750\n\
                    d$ /var/opt 0755\nd /opt/tool 0711\nL \"/var/li\\x6ek\" - - - - ../t\nC /var/x 0600 a b - /usr/share/factory/var/x\n\
                    d /var/log/a 0700\nr /gone\nd /root/.config 0700\nd /var/roothome 0700\nd /run/%m 0755\nd /var/new :0700\n";
        for (path, text) in [
            (
                "/usr/lib/systemd/system/served.service",
                "[Unit]\nConditionPathExists=!/etc/no\n[Service]\nUser=server\nStateDirectory=served kept/new:link\nStateDirectoryMode=0700\nLogsDirectory=served\n",
            ),
            (
                "/usr/etc/systemd/system/served.service.d/a.conf",
                "[Service]\nStateDirectoryMode=0750\n",
            ),
            (
                "/usr/lib/systemd/system/multi-user.target",
                "[Unit]\nRequires=other.service\nWants=dynamic.service\n",
            ),
            (
                "/usr/lib/systemd/system/other.service",
                "[Unit]\nConditionPathExists=/etc/no\n[Service]\nStateDirectory=other\n",
            ),
            (
                "/usr/lib/systemd/system/dynamic.service",
                "[Service]\nDynamicUser=yes\nStateDirectory=dynamic\n",
            ),
            (
                "/usr/lib/systemd/system/idle.service",
                "[Service]\nStateDirectory=idle\n",
            ),
            (
                "/usr/lib/systemd/system-generators/systemd-gpt-auto-generator",
                "",
            ),
            ("/usr/etc/passwd", "server:x:7:8::/:/bin/sh\n"),
            ("/usr/etc/group", "other:x:7:\nservers:x:8:\n"),
            ("/usr/etc/machine-id", "uninitialized\n"),
            ("/usr/etc/fstab", "# LABEL=x /boot vfat\n"),
            ("/var/lib/served/file", ""),
        ] {
            put(path, Kind::file(text.as_bytes()));
        }
        let link = |target: &str| Kind::Symlink(target.as_bytes().into());
        put(
            "/usr/etc/systemd/system/default.target",
            link("/usr/lib/systemd/system/multi-user.target"),
        );
        put(
            "/usr/etc/systemd/system/alias.service",
            link("/usr/lib/systemd/system/served.service"),
        );
        put(
            "/usr/etc/systemd/system/multi-user.target.wants/alias.service",
            link("../alias.service"),
        );
        put("/boot", Kind::Dir(Children::new()));
        put("/usr/lib/tmpfiles.d/a.conf", Kind::file(text.as_bytes()));
        let booted = booted(&tree);
        let found = |path: &'static str| {
            let node = booted.tree.get(&TreePath::literal(path)).unwrap();
            let name = |name: &Option<std::sync::Arc<str>>| name.as_deref().unwrap_or("root").to_owned();
            (node.meta.mode, name(&node.meta.user), name(&node.meta.group))
        };
        let is = |mode, user: &str, group: &str| (mode, user.to_owned(), group.to_owned());
        assert_eq!(found("/etc/secret"), is(0o700, "root", "keepers"));
        assert_eq!(found("/usr/etc/secret"), is(0o644, "root", "root"));
        assert_eq!(found("/var/log/a"), is(0o750, "root", "adm"));
        assert_eq!(found("/var/opt/tool"), is(0o711, "root", "root"));
        assert_eq!(found("/var/x"), is(0o600, "a", "b"));
        assert_eq!(found("/var/new"), is(0o755, "root", "root"));
        assert_eq!(found("/var/roothome/.config"), is(0o700, "root", "root"));
        assert_eq!(found("/var/roothome"), is(0o700, "root", "root"));
        assert_eq!(found("/proc"), is(0o555, "root", "root"));
        assert_eq!(
            booted.tree.get(&TreePath::literal("/var/x")).unwrap().meta.mtime,
            5
        );
        assert_eq!(found("/var/lib/kept/new"), is(0o750, "server", "servers"));
        assert_eq!(found("/var/lib/served"), is(0o750, "server", "servers"));
        assert_eq!(found("/var/lib/served/file"), is(0o644, "server", "servers"));
        assert_eq!(found("/var/log/served"), is(0o755, "server", "servers"));
        for absent in ["/var/lib/idle", "/var/lib/dynamic", "/var/lib/other"] {
            assert!(booted.tree.get(&TreePath::literal(absent)).is_none(), "{absent}");
        }
        let said = |path: &'static str| booted.touched.get(&TreePath::literal(path)).map(String::as_str);
        let by_unit = "`/usr/lib/systemd/system/served.service` gives it another owner or mode at boot";
        assert_eq!(said("/var/lib/served/file"), Some(by_unit));
        assert_eq!(found("/boot"), is(0o700, "root", "root"));
        assert_eq!(said("/boot"), Some(MOUNTED));
        let id = booted.tree.file(&TreePath::literal("/etc/machine-id")).unwrap();
        assert_eq!(id.blob.size(), 33);
        let link = &booted.tree.get(&TreePath::literal("/var/link")).unwrap().kind;
        assert!(matches!(link, Kind::Symlink(target) if **target == *b"../t"));
        assert!(booted.touched.contains_key(&TreePath::literal("/etc/secret")));
    }
}
