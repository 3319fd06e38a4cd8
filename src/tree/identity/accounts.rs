//! The account databases: passwd(5), group(5), shadow(5), gshadow(5).

use std::collections::BTreeMap;

use super::sysusers;

/// One line of passwd, with what shadow adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub gecos: String,
    pub home: String,
    pub shell: String,
    /// Whether the account is locked in full (`u!` of sysusers.d): it expired on day 1.
    pub locked: bool,
}

/// One line of group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub gid: u32,
    pub members: Vec<String>,
}

/// Users and groups of an image, in the order of their numbers when written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    pub users: BTreeMap<String, User>,
    pub groups: BTreeMap<String, Group>,
    /// Whole lines of shadow that packages brought, by name.
    shadow: BTreeMap<String, String>,
    /// Passwords and administrators of gshadow that packages brought, by name; its members are the group's.
    gshadow: BTreeMap<String, (String, String)>,
}

/// The texts of the four files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    pub passwd: String,
    pub group: String,
    pub shadow: String,
    pub gshadow: String,
}

/// Hashes of these kinds, or nothing at all, would let someone in.
fn allows_login(password: &str) -> bool {
    password.is_empty() || !(password.starts_with('!') || password.starts_with('*'))
}

/// A group's password lets anyone in who knows it; without one, its members only.
fn group_allows_login(password: &str) -> bool {
    !password.is_empty() && allows_login(password)
}

fn password(place: &str, name: &str) -> String {
    format!("{place}: a password for `{name}`; images have none")
}

/// That a line of sysusers.d can say the same.
fn check_user(place: &str, user: &User) -> Result<(), String> {
    let User {
        gecos, home, shell, ..
    } = user;
    sysusers::check_gecos(gecos)
        .and_then(|()| sysusers::check_place(home))
        .and_then(|()| sysusers::check_place(shell))
        .map_err(|what| format!("{place}: {what}"))
}

impl Accounts {
    /// Takes the files that packages brought; absent ones are empty.
    ///
    /// # Errors
    /// A malformed line, or a password: with the file's name and the line's number.
    pub fn parse(passwd: &str, group: &str, shadow: &str, gshadow: &str) -> Result<Self, String> {
        let mut accounts = Self::default();
        for (place, fields) in lines("passwd", passwd, 7)? {
            if fields[1] != "x" && allows_login(fields[1]) {
                return Err(password(&place, fields[0]));
            }
            check_name(&place, fields[0])?;
            let user = User {
                uid: number(&place, fields[2])?,
                gid: number(&place, fields[3])?,
                gecos: fields[4].to_owned(),
                home: fields[5].to_owned(),
                shell: fields[6].to_owned(),
                locked: false,
            };
            check_user(&place, &user)?;
            accounts.users.insert(fields[0].to_owned(), user);
        }
        for (place, fields) in lines("group", group, 4)? {
            if fields[1] != "x" && group_allows_login(fields[1]) {
                return Err(password(&place, fields[0]));
            }
            check_name(&place, fields[0])?;
            let members = fields[3].split(',').filter(|name| !name.is_empty());
            let group = Group {
                gid: number(&place, fields[2])?,
                members: members.map(str::to_owned).collect(),
            };
            accounts.groups.insert(fields[0].to_owned(), group);
        }
        for (place, fields) in lines("shadow", shadow, 9)? {
            if allows_login(fields[1]) {
                return Err(password(&place, fields[0]));
            }
            accounts.shadow.insert(fields[0].to_owned(), fields.join(":"));
        }
        for (place, fields) in lines("gshadow", gshadow, 4)? {
            if group_allows_login(fields[1]) {
                return Err(password(&place, fields[0]));
            }
            let kept = (fields[1].to_owned(), fields[2].to_owned());
            accounts.gshadow.insert(fields[0].to_owned(), kept);
        }
        Ok(accounts)
    }

    /// The user or group that has `id` already.
    pub fn user_by_id(&self, uid: u32) -> Option<&str> {
        self.users
            .iter()
            .find(|(_, user)| user.uid == uid)
            .map(|(name, _)| name.as_str())
    }

    /// As [`Accounts::user_by_id`].
    pub fn group_by_id(&self, gid: u32) -> Option<&str> {
        self.groups
            .iter()
            .find(|(_, group)| group.gid == gid)
            .map(|(name, _)| name.as_str())
    }

    /// The files, in the order of numbers; `day` is the day since the epoch on which locked
    /// passwords are said to have been set.
    pub fn files(&self, day: i64) -> Files {
        let mut users: Vec<_> = self.users.iter().collect();
        users.sort_by_key(|(name, user)| (user.uid, name.as_str()));
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(name, group)| (group.gid, name.as_str()));
        let mut files = Files {
            passwd: String::new(),
            group: String::new(),
            shadow: String::new(),
            gshadow: String::new(),
        };
        for (
            name,
            User {
                uid,
                gid,
                gecos,
                home,
                shell,
                locked,
            },
        ) in users
        {
            files
                .passwd
                .push_str(&format!("{name}:x:{uid}:{gid}:{gecos}:{home}:{shell}\n"));
            let expires = if *locked { "1" } else { "" };
            let line = format!("{name}:!*:{day}:::::{expires}:");
            files.shadow.push_str(self.shadow.get(name).unwrap_or(&line));
            files.shadow.push('\n');
        }
        for (name, Group { gid, members }) in groups {
            let members = members.join(",");
            files.group.push_str(&format!("{name}:x:{gid}:{members}\n"));
            let (password, administrators) = match self.gshadow.get(name) {
                Some((password, administrators)) => (password.as_str(), administrators.as_str()),
                None => ("!*", ""),
            };
            files
                .gshadow
                .push_str(&format!("{name}:{password}:{administrators}:{members}\n"));
        }
        files
    }
}

/// The lines of a database with their place, split at colons.
fn lines<'a>(file: &str, text: &'a str, fields: usize) -> Result<Vec<(String, Vec<&'a str>)>, String> {
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let place = format!("/etc/{file}, line {}", index + 1);
        // Compatibility entries of the NIS era mean nothing in an image.
        if line.trim().is_empty() || line.starts_with(['#', '+', '-']) {
            continue;
        }
        let split: Vec<_> = line.split(':').collect();
        if split.len() != fields || split[0].is_empty() {
            return Err(format!("{place}: {} fields where {fields} belong", split.len()));
        }
        lines.push((place, split));
    }
    Ok(lines)
}

fn check_name(place: &str, name: &str) -> Result<(), String> {
    match sysusers::is_name(name) {
        true => Ok(()),
        false => Err(format!("{place}: `{name}` is no valid user or group name")),
    }
}

fn number(place: &str, text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| format!("{place}: `{text}` is no user or group number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_ordered_by_number_and_locked() {
        let accounts = Accounts::parse(
            "zed:x:1:1:Z,,,:/z:/bin/sh\nroot:x:0:0:root:/root:/bin/bash\n",
            "zed:x:1:\nroot:x:0:zed,root\n",
            "root:*:1::::::\n",
            "root:::old\n",
        )
        .unwrap();
        let files = accounts.files(20_000);
        assert_eq!(
            files.passwd,
            "root:x:0:0:root:/root:/bin/bash\nzed:x:1:1:Z,,,:/z:/bin/sh\n"
        );
        assert_eq!(files.shadow, "root:*:1::::::\nzed:!*:20000::::::\n");
        assert_eq!(files.group, "root:x:0:zed,root\nzed:x:1:\n");
        // The members are the group's: memberships that sysusers.d adds count there as well.
        assert_eq!(files.gshadow, "root:::zed,root\nzed:!*::\n");
    }

    #[test]
    fn passwords_and_broken_lines_are_refused() {
        let cases = [
            ("root::0:0::/:/bin/sh\n", "", "line 1: a password for `root`"),
            (
                "a b:x:1:1::/:/bin/sh\n",
                "",
                "`a b` is no valid user or group name",
            ),
            (
                "a:x:1:1:\u{1b}[2J:/:/bin/sh\n",
                "",
                "`\\u{1b}[2J` has control characters",
            ),
            (
                "a:x:1:1::home:/bin/sh\n",
                "",
                "line 1: `home` is no absolute path",
            ),
            ("root:x:0:0::/\n", "", "line 1: 6 fields where 7 belong"),
            (
                "root:x:zero:0::/:/bin/sh\n",
                "",
                "`zero` is no user or group number",
            ),
            ("", "\nroot:$y$j9T$x:1::::::\n", "/etc/shadow, line 2: a password"),
            ("", "root::1::::::\n", "/etc/shadow, line 1: a password"),
        ];
        for (passwd, shadow, expected) in cases {
            let error = Accounts::parse(passwd, "", shadow, "").unwrap_err();
            assert!(error.contains(expected), "{error} / {expected}");
        }
        let group = "wheel:$6$salt$hash:10:\n";
        let error = Accounts::parse("", group, "", "").unwrap_err();
        assert_eq!(
            error,
            "/etc/group, line 1: a password for `wheel`; images have none"
        );
        let error = Accounts::parse("", "wheel:x:10:\n", "", "wheel:$6$salt$hash::\n").unwrap_err();
        assert_eq!(
            error,
            "/etc/gshadow, line 1: a password for `wheel`; images have none"
        );
    }
}
