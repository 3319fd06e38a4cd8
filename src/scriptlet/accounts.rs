//! `groupadd`, `useradd` and `usermod`, said as lines of sysusers.d(5). Where they ask for more than those can say, there is no
//! answer.

/// Options with and without a value, and what is none.
struct Options<'a> {
    values: Vec<(&'a str, &'a str)>,
    flags: Vec<&'a str>,
    names: Vec<&'a str>,
}

impl<'a> Options<'a> {
    /// `known`: each option in its short and long form, and whether it takes a value.
    fn read(words: &[&'a str], known: &[(&'static str, &'static str, bool)]) -> Option<Self> {
        let mut options = Self {
            values: Vec::new(),
            flags: Vec::new(),
            names: Vec::new(),
        };
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            if !word.starts_with('-') {
                options.names.push(word);
                continue;
            }
            let (flag, attached) = match word.split_once('=') {
                Some((flag, value)) if flag.starts_with("--") => (flag, Some(value)),
                _ => (word, None),
            };
            let found = known
                .iter()
                .find(|(short, long, _)| flag == *short || flag == *long);
            match *found? {
                (short, _, true) => options.values.push((short, attached.or_else(|| words.next())?)),
                (short, _, false) if attached.is_none() => options.flags.push(short),
                _ => return None,
            }
        }
        Some(options)
    }

    fn value(&self, option: &str) -> Option<&'a str> {
        let mut found = self.values.iter().rev().filter(|(name, _)| *name == option);
        found.next().map(|(_, value)| *value)
    }

    fn name(&self) -> Option<&'a str> {
        match self.names[..] {
            [name] if is_name(name) => Some(name),
            _ => None,
        }
    }
}

/// What `groupadd` with `words` as arguments asks for.
pub fn group(words: &[&str]) -> Option<Vec<String>> {
    let known = [
        ("-r", "--system", false),
        ("-f", "--force", false),
        ("-g", "--gid", true),
    ];
    let options = Options::read(words, &known)?;
    let gid = match options.value("-g") {
        Some(gid) => number(gid)?.to_string(),
        None => "-".to_owned(),
    };
    Some(vec![format!("g {} {gid}", options.name()?)])
}

/// What `useradd` with `words` as arguments asks for.
pub fn user(words: &[&str]) -> Option<Vec<String>> {
    let known = [
        ("-r", "--system", false),
        ("-M", "--no-create-home", false),
        ("-l", "--no-log-init", false),
        ("-U", "--user-group", false),
        ("-N", "--no-user-group", false),
        ("-u", "--uid", true),
        ("-g", "--gid", true),
        ("-G", "--groups", true),
        ("-c", "--comment", true),
        ("-d", "--home-dir", true),
        ("-s", "--shell", true),
    ];
    // `--home` is an old form of `--home-dir`.
    let words: Vec<_> = words
        .iter()
        .map(|word| if *word == "--home" { "--home-dir" } else { word })
        .collect();
    let options = Options::read(&words, &known)?;
    let name = options.name()?;
    let uid = match options.value("-u") {
        Some(uid) => number(uid)?.to_string(),
        None => "-".to_owned(),
    };
    let id = match options.value("-g") {
        Some(group) if is_name(group) => format!("{uid}:{group}"),
        Some(_) => return None,
        None if options.flags.contains(&"-N") => return None,
        None => uid,
    };
    // Without one, the shell is what the image's /etc/default/useradd says.
    let shell = options.value("-s")?;
    let home = match options.value("-d") {
        Some(home) => home.to_owned(),
        None => format!("/home/{name}"),
    };
    let comment = options.value("-c").unwrap_or_default();
    let plain = |text: &str| !text.contains(['"', '\\', '\n', '%', ':']);
    let path = |text: &str| text.starts_with('/') && !text.contains(char::is_whitespace) && plain(text);
    if !plain(comment) || !path(&home) || !path(shell) {
        return None;
    }
    let comment = match comment {
        "" => "-".to_owned(),
        comment => format!("\"{comment}\""),
    };
    let mut lines = vec![format!("u {name} {id} {comment} {home} {shell}")];
    lines.extend(members(name, options.value("-G").unwrap_or_default())?);
    Some(lines)
}

/// What `usermod` with `words` as arguments asks for: nothing but more groups.
pub fn membership(words: &[&str]) -> Option<Vec<String>> {
    let known = [
        ("-a", "--append", false),
        ("-G", "--groups", true),
        ("-aG", "-aG", true),
    ];
    let options = Options::read(words, &known)?;
    let groups = match options.value("-aG") {
        Some(groups) => groups,
        None if options.flags.contains(&"-a") => options.value("-G")?,
        None => return None,
    };
    members(options.name()?, groups)
}

fn members(user: &str, groups: &str) -> Option<Vec<String>> {
    let groups: Vec<_> = groups.split(',').filter(|group| !group.is_empty()).collect();
    let fit = groups.iter().all(|group| is_name(group));
    fit.then(|| groups.iter().map(|group| format!("m {user} {group}")).collect())
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

/// Names as useradd(8) takes them, or numbers.
fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    !name.is_empty() && name.len() <= 31 && !name.starts_with('-') && name.chars().all(fits)
}
