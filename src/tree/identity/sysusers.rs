//! sysusers.d(5): which users and groups packages want.

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    User {
        name: String,
        uid: Option<u32>,
        /// A group other than the one of the user's own name.
        group: Option<GroupRef>,
        gecos: String,
        home: String,
        shell: String,
        locked: bool,
    },
    Group {
        name: String,
        gid: Option<u32>,
    },
    Member {
        user: String,
        group: String,
    },
    /// `r`: a range to draw numbers from.
    Range,
}

impl Request {
    /// A user without wishes, as a membership of an unknown one makes.
    pub fn system_user(name: &str) -> Self {
        Self::User {
            name: name.to_owned(),
            uid: None,
            group: None,
            gecos: String::new(),
            home: "/".to_owned(),
            shell: "/usr/sbin/nologin".to_owned(),
            locked: false,
        }
    }
}

/// A group by number or name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupRef {
    Number(u32),
    Name(String),
}

/// A line with its request; `text` is kept so that it can be written again with a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub text: String,
    pub request: Option<Request>,
}

/// The lines of a file, comments and empty ones included (without a request).
///
/// # Errors
/// What is wrong, with the line's number.
pub fn parse(text: &str) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    for (index, text) in text.lines().enumerate() {
        let trimmed = text.trim();
        let request = if trimmed.is_empty() || trimmed.starts_with('#') {
            None
        } else {
            Some(request(trimmed).map_err(|what| format!("line {}: {what}", index + 1))?)
        };
        lines.push(Line {
            text: text.to_owned(),
            request,
        });
    }
    Ok(lines)
}

fn request(text: &str) -> Result<Request, String> {
    let fields = split(text)?;
    let field = |index: usize| {
        let value = fields.get(index).map(String::as_str).unwrap_or_default();
        if value == "-" {
            String::new()
        } else {
            value.replace("%%", "%")
        }
    };
    let name = field(1);
    if fields
        .iter()
        .skip(1)
        .any(|field| field.replace("%%", "").contains('%'))
    {
        return Err("a specifier (`%…`): its value is known on the running machine only".to_owned());
    }
    if field(0) != "r" && !is_name(&name) {
        return Err(format!("`{name}` is no valid user or group name"));
    }
    let id = field(2);
    // A path stands for the owner of that file; the image's own file decides, which has none yet.
    let id = if id.starts_with('/') { "" } else { &id };
    match field(0).as_str() {
        kind @ ("u" | "u!") => {
            let (uid, group) = match id.split_once(':') {
                Some((uid, group)) => (uid, Some(group)),
                None => (id, None),
            };
            let group = match group.map(|group| (group, group.parse())) {
                None => None,
                Some((_, Ok(number))) => Some(GroupRef::Number(number)),
                Some((group, Err(_))) if is_name(group) => Some(GroupRef::Name(group.to_owned())),
                Some((group, Err(_))) => return Err(format!("`{group}` is no valid group name")),
            };
            check_gecos(&field(3))?;
            check_place(&field(4))?;
            check_place(&field(5))?;
            let or = |value: String, default: &str| match value.is_empty() {
                true => default.to_owned(),
                false => value,
            };
            Ok(Request::User {
                uid: number(uid)?,
                group,
                gecos: field(3),
                home: or(field(4), "/"),
                shell: or(
                    field(5),
                    if number(uid)? == Some(0) {
                        "/bin/sh"
                    } else {
                        "/usr/sbin/nologin"
                    },
                ),
                locked: kind == "u!",
                name,
            })
        }
        "g" => Ok(Request::Group {
            gid: number(id)?,
            name,
        }),
        "m" if is_name(id) => Ok(Request::Member {
            user: name,
            group: id.to_owned(),
        }),
        "m" => Err(format!("`{id}` is no valid group name")),
        "r" => Ok(Request::Range),
        other => Err(format!("the unknown type `{other}`")),
    }
}

fn number(text: &str) -> Result<Option<u32>, String> {
    match text {
        "" | "-" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| format!("`{text}` is no user or group number")),
    }
}

/// That `text` can stand between the colons of passwd(5) as what a user is called.
///
/// # Errors
/// What is wrong with it.
pub fn check_gecos(text: &str) -> Result<(), String> {
    if text.contains(':') {
        return Err(format!(
            "`{text}` has a colon, which parts the fields of /etc/passwd"
        ));
    }
    match text.contains(char::is_control) {
        true => Err(format!("`{}` has control characters", text.escape_debug())),
        false => Ok(()),
    }
}

/// As [`check_gecos`], for a home directory or shell; empty where the default is meant.
///
/// # Errors
/// What is wrong with it.
pub fn check_place(text: &str) -> Result<(), String> {
    check_gecos(text)?;
    match text.is_empty() || text.starts_with('/') {
        true => Ok(()),
        false => Err(format!("`{text}` is no absolute path")),
    }
}

/// `text` as one field that reads as just that, whatever it holds; `-` where it is empty.
pub fn quoted(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '%' => quoted.push_str("%%"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// As [`quoted`], but bare where it can be.
pub fn quoted_place(text: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+');
    match !text.is_empty() && text.chars().all(bare) {
        true => text.to_owned(),
        false => quoted(text),
    }
}

/// As systemd's `valid_user_group_name`, without its relaxed mode.
pub fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && name.len() <= 31 && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// Fields between white space; quotes hold one together.
fn split(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut field: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                field.get_or_insert_default();
            }
            (_, '\\') => field.get_or_insert_default().extend(characters.next()),
            (None, c) if c.is_whitespace() => fields.extend(field.take()),
            (_, c) => field.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote without its end".to_owned());
    }
    fields.extend(field);
    Ok(fields)
}

/// `line` with `id` in place of its number.
pub fn with_id(line: &str, id: &str) -> String {
    let mut rest = line.trim_start();
    let mut head = String::new();
    for _ in 0..2 {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let next = rest[end..]
            .find(|c: char| !c.is_whitespace())
            .map_or(rest.len(), |at| end + at);
        head.push_str(&rest[..next]);
        rest = &rest[next..];
    }
    if !head.ends_with(char::is_whitespace) {
        head.push(' ');
    }
    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
    format!("{head}{id}{}", &rest[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_systemd_reads_them() {
        let text =
            "# comment\nu sshd - \"sshd privilege separation\" /run/sshd\ng kvm 61\nm a b\nu! x 5:users\n";
        let requests: Vec<_> = parse(text)
            .unwrap()
            .into_iter()
            .filter_map(|line| line.request)
            .collect();
        let user = |name: &str, uid, group, gecos: &str, home: &str, locked| Request::User {
            name: name.to_owned(),
            uid,
            group,
            gecos: gecos.to_owned(),
            home: home.to_owned(),
            shell: "/usr/sbin/nologin".to_owned(),
            locked,
        };
        let group = GroupRef::Name("users".to_owned());
        assert_eq!(
            requests,
            [
                user(
                    "sshd",
                    None,
                    None,
                    "sshd privilege separation",
                    "/run/sshd",
                    false
                ),
                Request::Group {
                    name: "kvm".to_owned(),
                    gid: Some(61)
                },
                Request::Member {
                    user: "a".to_owned(),
                    group: "b".to_owned()
                },
                user("x", Some(5), Some(group), "", "/", true),
            ]
        );
    }

    #[test]
    fn nonsense_is_refused_with_its_line() {
        for (text, expected) in [
            ("\nx y -", "line 2: the unknown type `x`"),
            ("u bad:name -", "no valid user or group name"),
            ("u a b", "`b` is no user or group number"),
            ("u a - \"open", "a quote without its end"),
            ("u a - \"%h\"", "a specifier"),
            ("u a - \"50%%%\"", "a specifier"),
            ("u app -:evil:x:0", "`evil:x:0` is no valid group name"),
            ("u app 5:", "`` is no valid group name"),
            ("u app - \"App: server\"", "`App: server` has a colon"),
            ("u app - - /home:/root", "`/home:/root` has a colon"),
            ("u app - - / /bin/sh:x", "`/bin/sh:x` has a colon"),
            ("u app - - home", "`home` is no absolute path"),
            ("u app - \"a\u{7}b\"", "`a\\u{7}b` has control characters"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{error} / {expected}");
        }
    }

    #[test]
    fn quoted_fields_are_read_as_they_were() {
        for (gecos, home) in [
            ("plain", "/srv/www-data"),
            ("a \"b\" \\ c's 100%% %h", "/a b/\"%h\"/\\"),
            ("", ""),
        ] {
            let line = format!("u x 5 {} {} /bin/sh", quoted(gecos), quoted_place(home));
            let Some(Request::User {
                gecos: read_gecos,
                home: read_home,
                shell,
                ..
            }) = parse(&line).unwrap().remove(0).request
            else {
                panic!("{line}");
            };
            assert_eq!(read_gecos, gecos, "{line}");
            assert_eq!(read_home, if home.is_empty() { "/" } else { home }, "{line}");
            assert_eq!(shell, "/bin/sh", "{line}");
        }
        assert_eq!(quoted_place("/srv/www-data"), "/srv/www-data");
        assert_eq!(quoted("50% \"x\""), "\"50%% \\\"x\\\"\"");
    }

    #[test]
    fn a_number_is_put_into_a_line() {
        assert_eq!(
            with_id("u  sshd\t-  \"x y\" /run", "74"),
            "u  sshd\t74  \"x y\" /run"
        );
        assert_eq!(with_id("g kvm", "61"), "g kvm 61");
    }
}
