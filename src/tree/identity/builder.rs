//! Accounts from the base's databases and from sysusers.d, each with its number.

use std::collections::BTreeSet;

use super::super::path::TreePath;
use super::super::{Meta, Tree};
use super::accounts::{Accounts, Group, User};
use super::error::{Hands, Reassigned};
use super::lock::{IdKind, IdsLock};
use super::sysusers::{GroupRef, Request};
use super::{IdentityError, SYSTEM_MAX, SysusersFiles, text};

pub(super) struct Builder<'a> {
    tree: &'a Tree,
    accounts: Accounts,
    lock: Option<&'a IdsLock>,
    /// Numbers that some line names, or the lock: not to be drawn for another account.
    reserved: BTreeSet<u32>,
    /// Primary groups named by their number: by which file, for which user.
    primary: Vec<(TreePath, String, u32)>,
}

/// The accounts of `tree`, by its databases and `files`. With `lock`, its numbers are kept, and only names that
/// it lacks draw new ones.
pub(super) fn accounts(
    tree: &Tree,
    files: &SysusersFiles,
    lock: Option<&IdsLock>,
) -> Result<Accounts, IdentityError> {
    let mut builder = Builder::from_databases(tree, lock)?;
    builder.run(files)?;
    builder.check_primary()?;
    Ok(builder.accounts)
}

impl<'a> Builder<'a> {
    fn from_databases(tree: &'a Tree, lock: Option<&'a IdsLock>) -> Result<Self, IdentityError> {
        let (passwd, group) = (TreePath::literal("/etc/passwd"), TreePath::literal("/etc/group"));
        let read = |path: &TreePath| Ok::<_, IdentityError>(text(tree, path)?.unwrap_or_default());
        let shadow = read(&TreePath::literal("/etc/shadow"))?;
        let gshadow = read(&TreePath::literal("/etc/gshadow"))?;
        let mut accounts = Accounts::parse(&read(&passwd)?, &read(&group)?, &shadow, &gshadow)
            .map_err(IdentityError::Database)?;
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
        let primary = accounts.users.iter();
        let primary: Vec<_> = primary
            .map(|(name, user)| (passwd.clone(), name.clone(), user.gid))
            .collect();
        let mut reserved: BTreeSet<u32> = lock.into_iter().flat_map(IdsLock::numbers).collect();
        reserved.extend(primary.iter().map(|(.., gid)| *gid));
        let builder = Self {
            tree,
            accounts,
            lock,
            reserved,
            primary,
        };
        for (name, user) in &builder.accounts.users {
            builder.fixed(&passwd, IdKind::User, name, Some(user.uid))?;
        }
        for (name, entry) in &builder.accounts.groups {
            builder.fixed(&group, IdKind::Group, name, Some(entry.gid))?;
        }
        Ok(builder)
    }

    /// The number that `name` must have: the lock's, which `file` may not contradict, or `wanted`.
    fn fixed(
        &self,
        file: &TreePath,
        kind: IdKind,
        name: &str,
        wanted: Option<u32>,
    ) -> Result<Option<u32>, IdentityError> {
        let Some(lock) = self.lock else {
            return Ok(wanted);
        };
        let locked = lock.id(kind, name);
        match (wanted, locked) {
            (Some(wanted), Some(locked)) if wanted != locked => Err(reassigned(Reassigned::Changed {
                file: file.clone(),
                kind: kind.as_str(),
                name: name.to_owned(),
                wanted,
                lock: lock.shown().to_owned(),
                locked,
                hands: self.hands(kind, name),
            })),
            (Some(id), None) => match lock.holder(kind, id) {
                Some(other) => Err(reassigned(Reassigned::Reused {
                    file: file.clone(),
                    kind: kind.as_str(),
                    name: name.to_owned(),
                    id,
                    lock: lock.shown().to_owned(),
                    other: other.to_owned(),
                    hands: self.hands(kind, other),
                })),
                None => Ok(wanted),
            },
            _ => Ok(locked),
        }
    }

    /// Whose hands a number's files would leave.
    fn hands(&self, kind: IdKind, name: &str) -> Hands {
        let owner = |meta: &Meta| match kind {
            IdKind::User => meta.user.as_deref() == Some(name),
            IdKind::Group => meta.group.as_deref() == Some(name),
        };
        let mut paths = self.tree.walk().filter(|(_, node)| owner(&node.meta));
        paths.next().map_or(Hands::State, |(path, _)| Hands::Path(path))
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
        let gid = self.fixed(file, IdKind::Group, name, gid)?;
        if let Some(id) = gid
            && let Some(other) = self.accounts.group_by_id(id)
        {
            return Err(taken(file, "group", name, id, other));
        }
        let free = |id: &u32| self.accounts.group_by_id(*id).is_none() && !self.is_locked(IdKind::Group, *id);
        let like = like.filter(free);
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
        let uid = self.fixed(file, IdKind::User, name, *uid)?;
        if let Some(id) = uid
            && let Some(other) = self.accounts.user_by_id(id)
        {
            return Err(taken(file, "user", name, id, other));
        }
        let gid = match group {
            Some(GroupRef::Number(gid)) => {
                self.primary.push((file.clone(), name.clone(), *gid));
                *gid
            }
            Some(GroupRef::Name(group)) => self.group(file, group, None, None)?,
            None => self.group(file, name, None, uid)?,
        };
        let free = |id: &u32| self.accounts.user_by_id(*id).is_none() && !self.is_locked(IdKind::User, *id);
        let same = Some(gid).filter(|id| group.is_none() && free(id));
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

    /// A number that no group has would make the user a member of whatever group has it on a machine: one that was
    /// there before, or comes later.
    fn check_primary(&self) -> Result<(), IdentityError> {
        let dangling = |(.., gid): &&(TreePath, String, u32)| self.accounts.group_by_id(*gid).is_none();
        let Some((file, user, gid)) = self.primary.iter().find(dangling) else {
            return Ok(());
        };
        let (file, user, gid) = (file.clone(), user.clone(), *gid);
        let holder = |lock: &'a IdsLock| Some((lock, lock.holder(IdKind::Group, gid)?));
        Err(match self.lock.and_then(holder) {
            Some((lock, other)) => reassigned(Reassigned::Primary {
                file,
                user,
                gid,
                lock: lock.shown().to_owned(),
                other: other.to_owned(),
                hands: self.hands(IdKind::Group, other),
            }),
            None => IdentityError::NoGroup { file, user, gid },
        })
    }

    fn is_locked(&self, kind: IdKind, id: u32) -> bool {
        self.lock.is_some_and(|lock| lock.holder(kind, id).is_some())
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

fn reassigned(what: Reassigned) -> IdentityError {
    IdentityError::Reassigned(Box::new(what))
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
