//! Preset files: the first line that matches a unit decides.

use regex::Regex;

/// What presets say of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// For a template: these instances, or its default one.
    Enable(Vec<String>),
    Disable,
    Ignore,
}

/// The lines of all preset files, in order.
#[derive(Debug, Clone, Default)]
pub struct Presets {
    rules: Vec<(Regex, Action)>,
}

impl Presets {
    /// Takes the texts of the files, in the order of their names.
    pub fn parse(texts: impl Iterator<Item = String>) -> Self {
        let mut rules = Vec::new();
        for text in texts {
            for line in text
                .lines()
                .map(str::trim)
                .filter(|line| !line.starts_with(['#', ';']))
            {
                let mut words = line.split_whitespace();
                let (Some(verb), Some(pattern)) = (words.next(), words.next()) else {
                    continue;
                };
                let action = match verb {
                    "enable" => Action::Enable(words.map(str::to_owned).collect()),
                    "disable" => Action::Disable,
                    "ignore" => Action::Ignore,
                    _ => continue,
                };
                // systemd passes over lines that it cannot read, and so does this.
                rules.extend(glob(pattern).map(|glob| (glob, action)));
            }
        }
        Self { rules }
    }

    /// systemd enables what no line matches.
    pub fn action(&self, unit: &str) -> Action {
        let rule = self.rules.iter().find(|(pattern, _)| pattern.is_match(unit));
        rule.map_or_else(|| Action::Enable(Vec::new()), |(_, action)| action.clone())
    }
}

/// `fnmatch(3)` with `*`, `?` and `[…]`.
fn glob(pattern: &str) -> Option<Regex> {
    let mut regex = String::from("^");
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            '[' => {
                let end = rest.get(1..)?.find(']')? + 1;
                let class = rest[..end].replacen('!', "^", usize::from(rest.starts_with('!')));
                regex.push_str(&format!("[{}]", class.replace('\\', "\\\\").replace('[', "\\[")));
                rest = &rest[end + 1..];
            }
            c => regex.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    Regex::new(&format!("{regex}$")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_match_decides() {
        let files = [
            "enable a.service\nignore [xy]*.socket",
            "# no\ndisable a*\nenable t@.service one two\n",
        ];
        let presets = Presets::parse(files.iter().map(|text| (*text).to_owned()));
        let instances = vec!["one".to_owned(), "two".to_owned()];
        for (unit, expected) in [
            ("a.service", Action::Enable(vec![])),
            ("ab.service", Action::Disable),
            ("y.socket", Action::Ignore),
            ("t@.service", Action::Enable(instances)),
            ("other.service", Action::Enable(vec![])),
        ] {
            assert_eq!(presets.action(unit), expected, "{unit}");
        }
    }
}
