//! Kernel configurations (`.config`) and fragments held against them as requirements.

use std::collections::BTreeMap;

/// What an option is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `=y`
    BuiltIn,
    /// `=m`
    Module,
    /// `# CONFIG_X is not set`, `=n`, or absent.
    Off,
    /// A number or quoted string, as written.
    Text(String),
}

/// One line that sets an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// With its `CONFIG_`.
    pub name: String,
    pub value: Value,
    /// From 1.
    pub line: usize,
}

/// A line is not in the syntax of `.config`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: `{text}` is not `CONFIG_X=…` or `# CONFIG_X is not set`")]
pub struct SyntaxError {
    pub line: usize,
    pub text: String,
}

/// A configuration by option.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    options: BTreeMap<String, Value>,
}

/// A requirement that the kernel does not meet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{file}:{line}: {name} must be {}, and the kernel has it {}",
    must(wanted),
    has(found)
)]
pub struct Violation {
    /// The fragment.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    pub name: String,
    pub wanted: Value,
    pub found: Value,
}

/// What holding fragments against a configuration found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    pub violations: Vec<Violation>,
    /// Options asked for as `=m` that are modules: those that boot needs belong into the initrd.
    pub modules: Vec<String>,
}

fn must(wanted: &Value) -> String {
    match wanted {
        Value::BuiltIn => "built in (=y)".into(),
        Value::Module => "built in or a module (=m)".into(),
        Value::Off => "off".into(),
        Value::Text(text) => text.clone(),
    }
}

fn has(found: &Value) -> String {
    match found {
        Value::BuiltIn => "built in (=y)".into(),
        Value::Module => "as a module (=m)".into(),
        Value::Off => "off".into(),
        Value::Text(text) => format!("as {text}"),
    }
}

/// The settings of a fragment or a configuration, in order.
///
/// # Errors
/// The first line that is neither a setting, a comment nor blank.
pub fn parse(text: &str) -> Result<Vec<Setting>, SyntaxError> {
    let mut settings = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        let line = index + 1;
        let text = raw.trim();
        let wrong = || SyntaxError {
            line,
            text: text.chars().take(120).collect(),
        };
        let (name, value) = if let Some(comment) = text.strip_prefix('#') {
            let Some(name) = comment.trim().strip_suffix(" is not set") else {
                continue;
            };
            // An ordinary comment may end in these words; it is a setting where one option is named.
            let name = name.trim();
            if !is_option(name) {
                continue;
            }
            (name, Value::Off)
        } else if text.is_empty() {
            continue;
        } else {
            let (name, value) = text.split_once('=').ok_or_else(wrong)?;
            let value = match value {
                "y" => Value::BuiltIn,
                "m" => Value::Module,
                "n" => Value::Off,
                "" => return Err(wrong()),
                quoted if quoted.starts_with('"') && (quoted.len() < 2 || !quoted.ends_with('"')) => {
                    return Err(wrong());
                }
                value => Value::Text(value.to_owned()),
            };
            (name, value)
        };
        if !is_option(name) {
            return Err(wrong());
        }
        settings.push(Setting {
            name: name.to_owned(),
            value,
            line,
        });
    }
    Ok(settings)
}

fn is_option(name: &str) -> bool {
    name.strip_prefix("CONFIG_")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
}

impl Config {
    /// Reads a whole `.config`; of an option set twice, the last counts.
    ///
    /// # Errors
    /// As [`parse`].
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        let settings = parse(text)?;
        Ok(Self {
            options: settings.into_iter().map(|s| (s.name, s.value)).collect(),
        })
    }

    /// What `name` (with its `CONFIG_`) is set to; off where it is absent.
    pub fn get(&self, name: &str) -> &Value {
        self.options.get(name).unwrap_or(&Value::Off)
    }

    /// Holds a fragment's settings against this configuration. `file` names the fragment in the
    /// violations. `=y` must be built in; `=m` may be either; off must be off; everything else
    /// must be equal, numbers by value.
    pub fn check(&self, file: &str, fragment: &[Setting]) -> Verdict {
        let mut verdict = Verdict::default();
        for Setting {
            name,
            value: wanted,
            line,
        } in fragment
        {
            let found = self.get(name);
            let met = match (wanted, found) {
                (Value::Module, Value::BuiltIn | Value::Module) => true,
                (Value::Text(wanted), Value::Text(found)) => same_text(wanted, found),
                (wanted, found) => wanted == found,
            };
            if !met {
                verdict.violations.push(Violation {
                    file: file.to_owned(),
                    line: *line,
                    name: name.clone(),
                    wanted: wanted.clone(),
                    found: found.clone(),
                });
            } else if *wanted == Value::Module && *found == Value::Module {
                verdict.modules.push(name.clone());
            }
        }
        verdict
    }
}

/// Equal as written, or as numbers (`0x10` is 16).
fn same_text(a: &str, b: &str) -> bool {
    let number = |text: &str| match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => i128::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    a == b || number(a).is_some_and(|value| number(b) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: &str = "#\n# Linux/x86 6.12 Kernel Configuration\n#\nCONFIG_HYPERV=y\nCONFIG_NVME=m\n\
        # CONFIG_KEXEC is not set\nCONFIG_HZ=250\nCONFIG_LSM=\"landlock,lockdown\"\nCONFIG_BASE=0x1000000\n";

    #[test]
    fn fragments_are_held_against_a_kernel() {
        let kernel = Config::parse(KERNEL).unwrap();
        let table = [
            ("CONFIG_HYPERV=y", None),
            ("CONFIG_HYPERV=m", None),
            ("CONFIG_NVME=m", None),
            (
                "CONFIG_NVME=y",
                Some("must be built in (=y), and the kernel has it as a module (=m)"),
            ),
            ("# CONFIG_KEXEC is not set", None),
            ("CONFIG_KEXEC=n", None),
            ("# CONFIG_ABSENT is not set", None),
            (
                "CONFIG_ABSENT=m",
                Some("must be built in or a module (=m), and the kernel has it off"),
            ),
            (
                "# CONFIG_HYPERV is not set",
                Some("must be off, and the kernel has it built in (=y)"),
            ),
            ("CONFIG_HZ=250", None),
            (
                "CONFIG_HZ=1000",
                Some("must be 1000, and the kernel has it as 250"),
            ),
            ("CONFIG_LSM=\"landlock,lockdown\"", None),
            (
                "CONFIG_LSM=\"landlock\"",
                Some("must be \"landlock\", and the kernel has it as \"landlock,lockdown\""),
            ),
            ("CONFIG_BASE=0x01000000", None),
            ("CONFIG_BASE=16777216", None),
        ];
        for (line, expected) in table {
            let fragment = parse(&format!("# why\n\n{line}\n")).unwrap();
            let verdict = kernel.check("azure.config", &fragment);
            let shown: Vec<String> = verdict.violations.iter().map(ToString::to_string).collect();
            let name = &fragment[0].name;
            let expected: Vec<String> = expected
                .iter()
                .map(|text| format!("azure.config:3: {name} {text}"))
                .collect();
            assert_eq!(shown, expected, "{line}");
        }
        let fragment = parse("CONFIG_NVME=m\nCONFIG_HYPERV=m\n").unwrap();
        assert_eq!(kernel.check("f", &fragment).modules, ["CONFIG_NVME"]);
    }

    #[test]
    fn comments_are_not_settings_and_bad_lines_are_named() {
        assert_eq!(
            parse("# the root password is not set\n  # CONFIG x\n").unwrap(),
            []
        );
        for bad in [
            "HYPERV=y",
            "CONFIG_X",
            "CONFIG_=y",
            "CONFIG_X=",
            "CONFIG_X=\"a",
            "CONFIG_X =y",
        ] {
            let error = parse(&format!("\n{bad}\n")).unwrap_err();
            assert_eq!(error.line, 2, "{bad}");
            assert_eq!(error.text, bad);
        }
    }
}
