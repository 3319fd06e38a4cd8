//! Who owns what: users and groups of the image, and the numbers of every owner in its tree.

pub mod accounts;
pub mod sysusers;

use std::collections::{BTreeMap, BTreeSet};

use super::path::TreePath;
use super::{Kind, Meta, Node, Origin, Tree, TreeError};
use accounts::{Accounts, Group, User};
use sysusers::{GroupRef, Line, Request};

/// The highest number that a system account draws, as systemd has it built in.
const SYSTEM_MAX: u32 = 999;
const ACCOUNTS_FILE: &str = "/usr/lib/sysusers.d/hullwright-accounts.conf";

/// An account cannot be made, or an owner cannot be found.
#[derive(Debug, Clone, thiserror::Error, miette::Diagnostic)]
pub enum IdentityError {
    #[error("{0}")]
    #[diagnostic(help("the file comes from a package or from the definition: correct it there"))]
    Database(String),
    #[error("`{file}`, {what}")]
    #[diagnostic(help("the file comes from a package or from the definition: correct it there"))]
    Sysusers { file: TreePath, what: String },
    #[error("`{file}` wants {kind} `{name}` to have number {wanted}, but it has {found}")]
    #[diagnostic(help(
        "one number must win: set it under `os.users` or `os.groups` in the definition, and leave the other out"
    ))]
    Clash {
        file: TreePath,
        kind: &'static str,
        name: String,
        wanted: u32,
        found: u32,
    },
    #[error("`{file}` wants number {id} for {kind} `{name}`, but `{other}` has it")]
    #[diagnostic(help("give one of the two another number in the definition"))]
    Taken {
        file: TreePath,
        kind: &'static str,
        name: String,
        id: u32,
        other: String,
    },
    #[error("no number from 1 to {SYSTEM_MAX} is free for {kind} `{name}`")]
    #[diagnostic(help("remove system accounts, or number this one in the definition"))]
    Exhausted { kind: &'static str, name: String },
    #[error("`{path}` belongs to {kind} `{name}`, which the image does not have ({count} paths in all do)")]
    #[diagnostic(help(
        "add a package whose sysusers.d makes it, or an entry under `os.users` or `os.groups` in the definition"
    ))]
    Unknown {
        path: TreePath,
        kind: &'static str,
        name: String,
        count: usize,
    },
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// By name: where each file lies, and its lines.
type SysusersFiles = BTreeMap<Vec<u8>, (TreePath, Vec<Line>)>;

struct Builder {
    accounts: Accounts,
    /// Numbers that some line names: not to be drawn for another account.
    reserved: BTreeSet<u32>,
}

/// Makes users and groups from /etc/passwd and /etc/group of `tree` (in RPM layout), then from its
/// sysusers.d, as systemd-sysusers would; writes the four databases and sysusers.d lines that fix
/// every number; and numbers every owner in the tree. `time` (seconds since the epoch) dates what
/// is written.
///
/// # Errors
/// Malformed databases or lines, numbers that clash, owners without an account.
pub fn apply(tree: &mut Tree, time: i64) -> Result<Accounts, IdentityError> {
    let mut builder = Builder::from_databases(tree)?;
    let files = sysusers_files(tree)?;
    builder.run(&files)?;
    let accounts = builder.accounts;
    write_databases(tree, &accounts, time)?;
    write_sysusers(tree, &accounts, &files, time)?;
    number_owners(tree, &accounts)?;
    Ok(accounts)
}

fn text(tree: &Tree, path: &TreePath) -> Result<Option<String>, IdentityError> {
    let Some(file) = tree.file(path) else {
        return Ok(None);
    };
    let bytes = file
        .blob
        .read_all()
        .map_err(|error| IdentityError::Database(format!("`{path}`: {error}")))?;
    let text = String::from_utf8(bytes);
    text.map(Some)
        .map_err(|_| IdentityError::Database(format!("`{path}` is not UTF-8 text")))
}

/// The sysusers.d files that count, by name: /etc hides /usr/lib.
fn sysusers_files(tree: &Tree) -> Result<SysusersFiles, IdentityError> {
    let mut paths = BTreeMap::new();
    for directory in ["/usr/lib/sysusers.d", "/etc/sysusers.d"] {
        let directory = TreePath::literal(directory);
        let children = tree.get(&directory).and_then(Node::children);
        for name in children.into_iter().flat_map(|children| children.keys()) {
            if name.ends_with(b".conf") {
                paths.insert(name.to_vec(), directory.join_name(name));
            }
        }
    }
    let mut files = BTreeMap::new();
    for (name, path) in paths {
        let content = text(tree, &path)?.unwrap_or_default();
        let lines = sysusers::parse(&content).map_err(|what| IdentityError::Sysusers {
            file: path.clone(),
            what,
        })?;
        files.insert(name, (path, lines));
    }
    Ok(files)
}

impl Builder {
    fn from_databases(tree: &Tree) -> Result<Self, IdentityError> {
        let read = |name: &'static str| {
            Ok::<_, IdentityError>(text(tree, &TreePath::literal(name))?.unwrap_or_default())
        };
        let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
        let (shadow, gshadow) = (read("/etc/shadow")?, read("/etc/gshadow")?);
        let mut accounts =
            Accounts::parse(&passwd, &group, &shadow, &gshadow).map_err(IdentityError::Database)?;
        accounts.groups.entry("root".to_owned()).or_insert(Group {
            gid: 0,
            members: Vec::new(),
        });
        accounts.users.entry("root".to_owned()).or_insert(User {
            uid: 0,
            gid: 0,
            gecos: "Super User".to_owned(),
            home: "/root".to_owned(),
            shell: "/bin/bash".to_owned(),
            locked: false,
        });
        Ok(Self {
            accounts,
            reserved: BTreeSet::new(),
        })
    }

    fn run(&mut self, files: &SysusersFiles) -> Result<(), IdentityError> {
        let requests = || {
            let lines = files
                .values()
                .flat_map(|(path, lines)| lines.iter().map(move |line| (path, line)));
            lines.filter_map(|(path, line)| Some((path, line.request.as_ref()?)))
        };
        for (_, request) in requests() {
            let (id, group) = match request {
                Request::User { uid, group, .. } => (*uid, group.as_ref()),
                Request::Group { gid, .. } => (*gid, None),
                _ => (None, None),
            };
            self.reserved.extend(id);
            if let Some(GroupRef::Number(gid)) = group {
                self.reserved.insert(*gid);
            }
        }
        // systemd-sysusers makes all groups before the users, and named numbers win over drawn ones.
        for named in [true, false] {
            for (file, request) in requests() {
                if let Request::Group { name, gid } = request
                    && gid.is_some() == named
                {
                    self.group(file, name, *gid, None)?;
                }
            }
        }
        for named in [true, false] {
            for (file, request) in requests() {
                if let Request::User { uid, .. } = request
                    && uid.is_some() == named
                {
                    self.user(file, request)?;
                }
            }
        }
        for (file, request) in requests() {
            if let Request::Member { user, group } = request {
                if !self.accounts.users.contains_key(user) {
                    self.user(file, &Request::system_user(user))?;
                }
                if !self.accounts.groups.contains_key(group) {
                    self.group(file, group, None, None)?;
                }
                if let Some(entry) = self.accounts.groups.get_mut(group)
                    && !entry.members.contains(user)
                {
                    entry.members.push(user.clone());
                }
            }
        }
        Ok(())
    }

    fn group(
        &mut self,
        file: &TreePath,
        name: &str,
        gid: Option<u32>,
        like: Option<u32>,
    ) -> Result<u32, IdentityError> {
        if let Some(present) = self.accounts.groups.get(name) {
            return same_number(file, "group", name, gid, present.gid);
        }
        if let Some(id) = gid
            && let Some(other) = self.accounts.group_by_id(id)
        {
            return Err(taken(file, "group", name, id, other));
        }
        let like = like.filter(|&id| self.accounts.group_by_id(id).is_none());
        let gid = match gid.or(like) {
            Some(gid) => gid,
            None => self.draw("group", name)?,
        };
        let members = Vec::new();
        self.accounts
            .groups
            .insert(name.to_owned(), Group { gid, members });
        Ok(gid)
    }

    fn user(&mut self, file: &TreePath, request: &Request) -> Result<(), IdentityError> {
        let Request::User {
            name,
            uid,
            group,
            gecos,
            home,
            shell,
            locked,
        } = request
        else {
            return Ok(());
        };
        if let Some(present) = self.accounts.users.get(name) {
            same_number(file, "user", name, *uid, present.uid)?;
            return Ok(());
        }
        if let Some(id) = *uid
            && let Some(other) = self.accounts.user_by_id(id)
        {
            return Err(taken(file, "user", name, id, other));
        }
        let gid = match group {
            Some(GroupRef::Number(gid)) => *gid,
            Some(GroupRef::Name(group)) => self.group(file, group, None, None)?,
            None => self.group(file, name, None, *uid)?,
        };
        let same = Some(gid).filter(|&id| group.is_none() && self.accounts.user_by_id(id).is_none());
        let uid = match uid.or(same) {
            Some(uid) => uid,
            None => self.draw("user", name)?,
        };
        let user = User {
            uid,
            gid,
            gecos: gecos.clone(),
            home: home.clone(),
            shell: shell.clone(),
            locked: *locked,
        };
        self.accounts.users.insert(name.clone(), user);
        Ok(())
    }

    /// The highest number that neither a user nor a group has, and no line names.
    fn draw(&self, kind: &'static str, name: &str) -> Result<u32, IdentityError> {
        let users: BTreeSet<_> = self.accounts.users.values().map(|user| user.uid).collect();
        let groups: BTreeSet<_> = self.accounts.groups.values().map(|group| group.gid).collect();
        let free = |id: &u32| !users.contains(id) && !groups.contains(id) && !self.reserved.contains(id);
        (1..=SYSTEM_MAX)
            .rev()
            .find(free)
            .ok_or_else(|| IdentityError::Exhausted {
                kind,
                name: name.to_owned(),
            })
    }
}

fn same_number(
    file: &TreePath,
    kind: &'static str,
    name: &str,
    wanted: Option<u32>,
    found: u32,
) -> Result<u32, IdentityError> {
    match wanted.filter(|&wanted| wanted != found) {
        // The base's passwd and group win over later wishes, as they do for systemd-sysusers; but
        // root and the kernel's overflow user have one number everywhere.
        Some(wanted) if matches!(wanted, 0 | 65534) || found == 0 => Err(IdentityError::Clash {
            file: file.clone(),
            kind,
            name: name.to_owned(),
            wanted,
            found,
        }),
        _ => Ok(found),
    }
}

fn taken(file: &TreePath, kind: &'static str, name: &str, id: u32, other: &str) -> IdentityError {
    IdentityError::Taken {
        file: file.clone(),
        kind,
        name: name.to_owned(),
        id,
        other: other.to_owned(),
    }
}

/// Puts `content` at `path`, keeping mode, owner and provenance of a file that is there.
fn write(tree: &mut Tree, path: &TreePath, content: String, mode: u16, time: i64) -> Result<(), TreeError> {
    if let Some(node) = tree.get_mut(path) {
        node.kind = Kind::file(content.into_bytes());
        node.meta.mtime = time;
        return Ok(());
    }
    let meta = Meta::root(mode, time);
    let node = Node::new(
        meta,
        Kind::file(content.into_bytes()),
        Origin::Composer("accounts"),
    );
    tree.insert(path, node).map(|_| ())
}

fn write_databases(tree: &mut Tree, accounts: &Accounts, time: i64) -> Result<(), IdentityError> {
    let files = accounts.files(time.div_euclid(86_400));
    for (path, content, mode) in [
        ("/etc/passwd", files.passwd, 0o644),
        ("/etc/group", files.group, 0o644),
        ("/etc/shadow", files.shadow, 0o000),
        ("/etc/gshadow", files.gshadow, 0o000),
    ] {
        write(tree, &TreePath::literal(path), content, mode, time)?;
    }
    Ok(())
}

/// Every number as a sysusers.d line, so that a machine whose /etc/passwd is older than the image
/// makes new accounts with the image's numbers. Lines of packages that leave the number open are
/// written again, with it, under the same name in /etc, which hides theirs: a second line for one
/// account would be a conflict.
fn write_sysusers(
    tree: &mut Tree,
    accounts: &Accounts,
    files: &SysusersFiles,
    time: i64,
) -> Result<(), IdentityError> {
    let mut covered = BTreeSet::new();
    for (name, (_, lines)) in files {
        let mut changed = false;
        let mut content =
            String::from("# As in /usr/lib/sysusers.d, with the numbers that this image has.\n");
        for line in lines {
            let id = match &line.request {
                Some(Request::User { name, uid, group, .. }) => {
                    covered.extend([("user", name.clone()), ("group", name.clone())]);
                    let user = &accounts.users[name];
                    let suffix = match group {
                        Some(GroupRef::Name(name)) => format!(":{name}"),
                        Some(GroupRef::Number(gid)) => format!(":{gid}"),
                        None if user.gid != user.uid => format!(":{}", user.gid),
                        None => String::new(),
                    };
                    let fits = *uid == Some(user.uid) && (group.is_some() || suffix.is_empty());
                    (!fits).then(|| format!("{}{suffix}", user.uid))
                }
                Some(Request::Group { name, gid }) => {
                    covered.insert(("group", name.clone()));
                    let found = accounts.groups[name].gid;
                    (*gid != Some(found)).then(|| found.to_string())
                }
                _ => None,
            };
            changed |= id.is_some();
            content.push_str(&id.map_or_else(|| line.text.clone(), |id| sysusers::with_id(&line.text, &id)));
            content.push('\n');
        }
        if changed {
            let path = TreePath::literal("/etc/sysusers.d").join_name(name);
            write(tree, &path, content, 0o644, time)?;
        }
    }
    let mut content = String::from("# Accounts of this image that no package's sysusers.d names.\n");
    let mut groups: Vec<_> = accounts.groups.iter().collect();
    groups.sort_by_key(|(_, group)| group.gid);
    for (name, group) in groups {
        if !covered.contains(&("group", name.clone())) {
            content.push_str(&format!("g {name} {}\n", group.gid));
        }
    }
    let mut users: Vec<_> = accounts.users.iter().collect();
    users.sort_by_key(|(_, user)| user.uid);
    for (name, user) in users {
        if !covered.contains(&("user", name.clone())) {
            let gecos = if user.gecos.is_empty() {
                "-".to_owned()
            } else {
                format!("\"{}\"", user.gecos)
            };
            let User {
                uid,
                gid,
                home,
                shell,
                ..
            } = user;
            content.push_str(&format!("u {name} {uid}:{gid} {gecos} {home} {shell}\n"));
        }
    }
    write(tree, &TreePath::literal(ACCOUNTS_FILE), content, 0o644, time)?;
    Ok(())
}

fn number_owners(tree: &mut Tree, accounts: &Accounts) -> Result<(), IdentityError> {
    let mut unknown: BTreeMap<(&'static str, String), (TreePath, usize)> = BTreeMap::new();
    tree.for_each_mut(|path, node| {
        let user = node.meta.user.as_deref().map(|name| {
            let found = accounts.users.get(name).map(|user| user.uid);
            ("user", name.to_owned(), found.or_else(|| name.parse().ok()))
        });
        let group = node.meta.group.as_deref().map(|name| {
            let found = accounts.groups.get(name).map(|group| group.gid);
            ("group", name.to_owned(), found.or_else(|| name.parse().ok()))
        });
        for (kind, name, id) in [user, group].into_iter().flatten() {
            match id {
                Some(id) if kind == "user" => node.meta.uid = id,
                Some(id) => node.meta.gid = id,
                None => unknown.entry((kind, name)).or_insert((path.clone(), 0)).1 += 1,
            }
        }
    });
    match unknown.into_iter().next() {
        None => Ok(()),
        Some(((kind, name), (path, count))) => Err(IdentityError::Unknown {
            path,
            kind,
            name,
            count,
        }),
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

    fn read(tree: &Tree, path: &'static str) -> String {
        text(tree, &TreePath::literal(path)).unwrap().unwrap_or_default()
    }

    const BASE: [(&str, &str); 3] = [
        (
            "/etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nbase:x:6:6::/:/usr/sbin/nologin\n",
        ),
        ("/etc/group", "root:x:0:\nbase:x:6:\nutmp:x:43:\n"),
        (
            "/usr/lib/sysusers.d/pkg.conf",
            "u drawn - \"Drawn\" /run\ng utmp -\nu fixed 999\nm base utmp\nm newcomer utmp\n",
        ),
    ];

    #[test]
    fn accounts_are_made_as_systemd_sysusers_makes_them() {
        let mut tree = tree(&BASE);
        let accounts = apply(&mut tree, 86_400).unwrap();
        let uid = |name: &str| accounts.users[name].uid;
        assert_eq!((uid("fixed"), uid("drawn"), uid("newcomer")), (999, 998, 997));
        assert_eq!(accounts.groups["utmp"].gid, 43);
        assert_eq!(accounts.groups["utmp"].members, ["base", "newcomer"]);
        assert!(read(&tree, "/etc/passwd").contains("drawn:x:998:998:Drawn:/run:/usr/sbin/nologin\n"));
        assert!(read(&tree, "/etc/shadow").contains("drawn:!*:1::::::\n"));
    }

    #[test]
    fn every_number_is_fixed_by_a_line() {
        let mut tree = tree(&BASE);
        apply(&mut tree, 0).unwrap();
        let lines = read(&tree, "/etc/sysusers.d/pkg.conf");
        assert!(
            lines.contains("u drawn 998 \"Drawn\" /run\ng utmp 43\nu fixed 999\n"),
            "{lines}"
        );
        let others = read(&tree, ACCOUNTS_FILE);
        assert!(others.contains("u base 6:6 - / /usr/sbin/nologin\n"), "{others}");
        assert!(!others.contains("drawn") && !others.contains("fixed"), "{others}");
        // What was written gives the same accounts again.
        let passwd = read(&tree, "/etc/passwd");
        apply(&mut tree, 0).unwrap();
        assert_eq!(read(&tree, "/etc/passwd"), passwd);
    }

    #[test]
    fn owners_need_an_account_and_numbers_one_owner() {
        let mut unowned = tree(&BASE);
        let path = TreePath::literal("/etc/passwd");
        unowned.get_mut(&path).unwrap().meta.user = Some("nobody-knows".into());
        let error = apply(&mut unowned, 0).unwrap_err().to_string();
        assert!(
            error.starts_with("`/etc/passwd` belongs to user `nobody-knows`"),
            "{error}"
        );

        let mut clash = tree(&[BASE[0], BASE[1], ("/usr/lib/sysusers.d/x.conf", "u other 6\n")]);
        let error = apply(&mut clash, 0).unwrap_err().to_string();
        assert!(
            error.contains("wants number 6 for user `other`, but `base` has it"),
            "{error}"
        );
    }
}
