//! Macros of RPM, as far as scriptlets need them when they run: directories.

use std::collections::BTreeMap;

use crate::rpmset::Package;

/// Directories by Fedora's macros, which the distributions that images are made of share.
const DIRECTORIES: [(&str, &str); 30] = [
    ("_prefix", "/usr"),
    ("_exec_prefix", "/usr"),
    ("_bindir", "/usr/bin"),
    ("_sbindir", "/usr/sbin"),
    ("_libexecdir", "/usr/libexec"),
    ("_datadir", "/usr/share"),
    ("_datarootdir", "/usr/share"),
    ("_sysconfdir", "/etc"),
    ("_sharedstatedir", "/var/lib"),
    ("_localstatedir", "/var"),
    ("_rundir", "/run"),
    ("_lib", "lib64"),
    ("_libdir", "/usr/lib64"),
    ("_includedir", "/usr/include"),
    ("_infodir", "/usr/share/info"),
    ("_mandir", "/usr/share/man"),
    ("_docdir", "/usr/share/doc"),
    ("_defaultdocdir", "/usr/share/doc"),
    ("_unitdir", "/usr/lib/systemd/system"),
    ("_userunitdir", "/usr/lib/systemd/user"),
    ("_presetdir", "/usr/lib/systemd/system-preset"),
    ("_udevhwdbdir", "/usr/lib/udev/hwdb.d"),
    ("_udevrulesdir", "/usr/lib/udev/rules.d"),
    ("_journalcatalogdir", "/usr/lib/systemd/catalog"),
    ("_tmpfilesdir", "/usr/lib/tmpfiles.d"),
    ("_sysusersdir", "/usr/lib/sysusers.d"),
    ("_sysctldir", "/usr/lib/sysctl.d"),
    ("_modulesloaddir", "/usr/lib/modules-load.d"),
    ("_tmppath", "/var/tmp"),
    ("_dbpath", "/usr/lib/sysimage/rpm"),
];

/// Nested deeper, text is left as it is: a macro may name itself.
const MAX_DEPTH: usize = 32;
/// And so it is where it has grown past this length: macros may double and double again.
const MAX_LENGTH: usize = 4 << 20;

/// Macros by name; of several definitions of one, the last holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Macros {
    defined: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
}

impl Macros {
    /// The directories.
    pub fn standard() -> Self {
        let mut macros = Self::default();
        for (name, body) in DIRECTORIES {
            macros.define(name.as_bytes(), body.as_bytes());
        }
        macros.define(b"nil", b"");
        macros
    }

    pub fn define(&mut self, name: &[u8], body: &[u8]) {
        self.defined.entry(name.to_vec()).or_default().push(body.to_vec());
    }

    /// Takes back the last definition of `name`.
    pub fn undefine(&mut self, name: &[u8]) {
        if let Some(bodies) = self.defined.get_mut(name) {
            bodies.pop();
            if bodies.is_empty() {
                self.defined.remove(name);
            }
        }
    }

    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.defined.get(name)?.last().map(Vec::as_slice)
    }

    /// `text` with macros expanded: `%name`, `%{name}`, `%{?name}`, `%{?name:text}`, `%{!?name:text}`, `%%`. What is not
    /// known is left as it stands, as RPM leaves it; so are macros that run programs or Lua.
    pub fn expand(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        self.expand_into(text, &mut out, 0);
        out
    }

    fn expand_into(&self, text: &[u8], out: &mut Vec<u8>, depth: usize) {
        let mut rest = text;
        while let Some(at) = rest.iter().position(|&byte| byte == b'%') {
            out.extend_from_slice(&rest[..at]);
            rest = &rest[at..];
            if depth > MAX_DEPTH || out.len() > MAX_LENGTH {
                break;
            }
            let taken = self.one(rest, out, depth);
            rest = &rest[taken..];
        }
        out.extend_from_slice(rest);
    }

    /// Expands what stands at the start of `text`, a `%`; how many bytes it took.
    fn one(&self, text: &[u8], out: &mut Vec<u8>, depth: usize) -> usize {
        match text.get(1) {
            Some(b'%') => {
                out.push(b'%');
                2
            }
            Some(b'{') => match closing(&text[2..]) {
                Some(length) => {
                    if !self.braced(&text[2..2 + length], out, depth) {
                        out.extend_from_slice(&text[..length + 3]);
                    }
                    length + 3
                }
                None => {
                    out.push(b'%');
                    1
                }
            },
            _ => {
                let marks = text[1..]
                    .iter()
                    .take_while(|byte| matches!(byte, b'?' | b'!'))
                    .count();
                let name = &text[1 + marks..];
                let length = name.iter().take_while(|&&byte| is_name(byte)).count();
                let expression = &text[1..1 + marks + length];
                if length == 0 || !self.braced(expression, out, depth) {
                    out.extend_from_slice(&text[..1 + marks + length]);
                }
                1 + marks + length
            }
        }
    }

    /// Expands what stands between braces; `false` where it is not known.
    fn braced(&self, expression: &[u8], out: &mut Vec<u8>, depth: usize) -> bool {
        let marks = expression
            .iter()
            .take_while(|byte| matches!(byte, b'?' | b'!'))
            .count();
        let (marks, rest) = expression.split_at(marks);
        let length = rest.iter().take_while(|&&byte| is_name(byte)).count();
        let (name, rest) = rest.split_at(length);
        let text = match rest {
            [] => None,
            [b':', text @ ..] => Some(text),
            _ => return false,
        };
        if name.is_empty() {
            return false;
        }
        let body = self.get(name);
        let negated = marks.iter().filter(|&&mark| mark == b'!').count() % 2 == 1;
        if marks.contains(&b'?') {
            if body.is_some() != negated
                && let Some(text) = text.or(body.filter(|_| !negated))
            {
                self.expand_into(text, out, depth + 1);
            }
            return true;
        }
        match (body, text) {
            (Some(body), None) => {
                self.expand_into(body, out, depth + 1);
                true
            }
            _ => false,
        }
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where the brace closes that was opened before `text`.
fn closing(text: &[u8]) -> Option<usize> {
    let mut open = 1usize;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(at);
        }
    }
    None
}

/// `text` as a query format of the header of `package`: `%{NAME}` and its like, `%%`, and the escapes of C.
///
/// # Errors
/// What in it is not one of the tags that name the package.
pub fn query_format(package: &Package, text: &[u8]) -> Result<Vec<u8>, String> {
    let nevra = &package.nevra;
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'%' | b'\\' | b'[')) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let shown = || String::from_utf8_lossy(&rest[..rest.len().min(24)]).into_owned();
        match (rest[0], rest.get(1)) {
            (b'%', Some(b'%')) => {
                out.push(b'%');
                rest = &rest[2..];
            }
            (b'%', Some(b'{')) => {
                let end = closing(&rest[2..]).ok_or_else(shown)?;
                let tag = rest[2..2 + end].to_ascii_uppercase();
                match tag.as_slice() {
                    b"NAME" => out.extend_from_slice(nevra.name.as_bytes()),
                    b"VERSION" => out.extend_from_slice(nevra.version.as_bytes()),
                    b"RELEASE" => out.extend_from_slice(nevra.release.as_bytes()),
                    b"ARCH" => out.extend_from_slice(nevra.arch.as_bytes()),
                    b"EVR" => out.extend_from_slice(nevra.evr().as_bytes()),
                    b"NEVRA" => out.extend_from_slice(nevra.to_string().as_bytes()),
                    b"EPOCH" => match nevra.epoch {
                        Some(epoch) => out.extend_from_slice(epoch.to_string().as_bytes()),
                        None => out.extend_from_slice(b"(none)"),
                    },
                    _ => return Err(shown()),
                }
                rest = &rest[end + 3..];
            }
            (b'\\', Some(&escaped)) => {
                out.push(match escaped {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'r' => b'\r',
                    other => other,
                });
                rest = &rest[2..];
            }
            _ => return Err(shown()),
        }
    }
    out.extend_from_slice(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::testing::tool;

    #[test]
    fn macros_expand_as_rpm_expands_them() {
        let Some(rpm) = tool("rpm") else {
            return;
        };
        let mut macros = Macros::default();
        let defined = [
            ("a", "1"),
            ("b", "%{a}2"),
            ("c", "x%{?none}y%{?a:yes}%{!?a:no}%{!?none:%b}"),
        ];
        let mut command = Command::new(rpm);
        for (name, body) in defined {
            macros.define(name.as_bytes(), body.as_bytes());
            command.arg("--define").arg(format!("{name} {body}"));
        }
        let text = "%a %{a}%{b}b %c|%{c}|%% %unknown_macro %{unknown_macro} %{?unknown_macro} %?a %!?a %{?a} 100% %{!?unknown_macro}|%a-%b_";
        let output = command.args(["--eval", text]).output().unwrap();
        let expected = String::from_utf8(output.stdout).unwrap();
        let ours = String::from_utf8(macros.expand(text.as_bytes())).unwrap();
        assert_eq!(ours, expected.trim_end_matches('\n'));
    }

    #[test]
    fn macros_that_name_themselves_end() {
        let mut macros = Macros::default();
        macros.define(b"a", b"%a");
        macros.define(b"b", b"%{b}%{b}%{b}");
        assert_eq!(macros.expand(b"%a"), b"%a");
        assert!(macros.expand(b"%b").len() < 64 << 20);
        macros.undefine(b"a");
        macros.undefine(b"a");
        assert_eq!(macros.expand(b"%{?a}%{a"), b"%{a");
    }
}
