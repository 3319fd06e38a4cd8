//! The `[Install]` section of a unit file.

/// What enabling a unit links.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Install {
    aliases: Vec<String>,
    wanted_by: Vec<String>,
    required_by: Vec<String>,
    upheld_by: Vec<String>,
    also: Vec<String>,
    default_instance: Option<String>,
}

impl Install {
    /// Takes the text of a unit file with its drop-ins.
    pub fn parse(text: &str) -> Self {
        let mut install = Self::default();
        let mut inside = false;
        let joined = text.replace("\\\n", " ");
        for line in joined.lines().map(str::trim) {
            if line.starts_with('[') {
                inside = line == "[Install]";
            } else if inside
                && !line.starts_with(['#', ';'])
                && let Some((key, value)) = line.split_once('=')
            {
                install.set(key.trim(), value.trim());
            }
        }
        install
    }

    fn set(&mut self, key: &str, value: &str) {
        let list = match key {
            "Alias" => &mut self.aliases,
            "WantedBy" => &mut self.wanted_by,
            "RequiredBy" => &mut self.required_by,
            "UpheldBy" => &mut self.upheld_by,
            "Also" => &mut self.also,
            "DefaultInstance" => {
                self.default_instance = Some(value.to_owned()).filter(|value| !value.is_empty());
                return;
            }
            _ => return,
        };
        if value.is_empty() {
            list.clear();
        }
        list.extend(value.split_whitespace().map(str::to_owned));
    }

    /// Whether there is nothing to enable.
    pub fn is_empty(&self) -> bool {
        let Self {
            aliases,
            wanted_by,
            required_by,
            upheld_by,
            also,
            ..
        } = self;
        [aliases, wanted_by, required_by, upheld_by, also]
            .iter()
            .all(|list| list.is_empty())
    }

    /// The links, below `/etc/systemd/system`, that enabling `unit` makes; `None` for a template
    /// without a default instance.
    pub fn links(&self, unit: &str) -> Option<Vec<String>> {
        let instance = match (unit.contains("@."), &self.default_instance) {
            (true, Some(default)) => unit.replacen('@', &format!("@{default}"), 1),
            (true, None) if self.aliases.is_empty() => return None,
            _ => unit.to_owned(),
        };
        let mut links: Vec<String> = self
            .aliases
            .iter()
            .map(|alias| expand(alias, &instance))
            .collect();
        links.retain(|alias| alias != unit);
        for (list, suffix) in [
            (&self.wanted_by, "wants"),
            (&self.required_by, "requires"),
            (&self.upheld_by, "upholds"),
        ] {
            links.extend(
                list.iter()
                    .map(|target| format!("{}.{suffix}/{instance}", expand(target, &instance))),
            );
        }
        Some(links)
    }

    /// Units that are enabled with `unit`.
    pub fn also(&self, unit: &str) -> Vec<String> {
        self.also.iter().map(|also| expand(also, unit)).collect()
    }
}

/// Specifiers that have a meaning before a machine runs.
fn expand(text: &str, unit: &str) -> String {
    let (stem, _) = unit.rsplit_once('.').unwrap_or((unit, ""));
    let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
    let pairs = [
        ("%i", instance),
        ("%I", instance),
        ("%p", prefix),
        ("%N", stem),
        ("%n", unit),
    ];
    let last = prefix.rsplit('-').next().unwrap_or(prefix);
    let text = pairs
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    text.replace("%j", last).replace("%%", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_read_with_continuations_and_resets() {
        let text = "[Unit]\nWantedBy=no\n[Install]\n; no\nWantedBy=a.target \\\n  b.target\nAlias=%p-%i.service\n\
                    RequiredBy=x\nRequiredBy=\n";
        let install = Install::parse(text);
        let links = install.links("t@1.service").unwrap();
        assert_eq!(
            links,
            [
                "t-1.service",
                "a.target.wants/t@1.service",
                "b.target.wants/t@1.service"
            ]
        );
        assert!(Install::parse("[Service]\nAlias=x").is_empty());
    }

    #[test]
    fn a_template_needs_an_instance() {
        let install = Install::parse("[Install]\nWantedBy=a.target\n");
        assert_eq!(install.links("t@.service"), None);
        assert_eq!(
            install.links("t@x.service").unwrap(),
            ["a.target.wants/t@x.service"]
        );
    }
}
