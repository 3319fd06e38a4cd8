//! Addresses of repositories and of files in them.

use std::fmt;
use std::path::PathBuf;

/// Longest address that is taken.
const LONGEST: usize = 4096;

/// An `http`, `https` or `file` address without user name, query and fragment: what may be written
/// into a lock file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url(String);

/// An address or a path in a repository that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("`{0}` is no http, https or file address")]
    Scheme(String),
    #[error("`{0}` names no host")]
    Host(String),
    #[error("`{0}` has to begin with file:///")]
    File(String),
    #[error("the address of `{0}` has a user name or password, which would be written into the lock file")]
    Secret(String),
    #[error("`{0}` has a query or fragment, which would be written into the lock file")]
    Query(String),
    #[error("the address has blanks, control characters or letters outside ASCII: `{0}`")]
    Characters(String),
    #[error("the address is longer than {LONGEST} bytes")]
    Length,
    #[error("`{0}` is not a path below the repository")]
    Path(String),
}

impl Url {
    /// Takes an address.
    ///
    /// # Errors
    /// Where it is of another scheme, malformed, or holds what must not be written down.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let url = Self::with_query(text)?;
        match url.0.contains(['?', '#']) {
            true => Err(UrlError::Query(text.to_owned())),
            false => Ok(url),
        }
    }

    /// As [`Url::parse`], for addresses that are not written down: of lists of mirrors.
    ///
    /// # Errors
    /// Where it is of another scheme or malformed.
    pub fn with_query(text: &str) -> Result<Self, UrlError> {
        if text.len() > LONGEST {
            return Err(UrlError::Length);
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(UrlError::Characters(text.escape_debug().to_string()));
        }
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| UrlError::Scheme(text.to_owned()))?;
        let scheme = scheme.to_ascii_lowercase();
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        match scheme.as_str() {
            "http" | "https" if host.contains('@') => {
                let (_, host) = host.rsplit_once('@').unwrap_or_default();
                Err(UrlError::Secret(host.to_owned()))
            }
            "http" | "https" if host.is_empty() => Err(UrlError::Host(text.to_owned())),
            "http" | "https" => Ok(Self(format!("{scheme}://{rest}"))),
            "file" => match rest.strip_prefix("localhost").unwrap_or(rest) {
                path if path.starts_with('/') => Ok(Self(format!("file://{path}"))),
                _ => Err(UrlError::File(text.to_owned())),
            },
            _ => Err(UrlError::Scheme(text.to_owned())),
        }
    }

    /// Whether `text` looks like an address rather than a path.
    pub fn is_url(text: &str) -> bool {
        let scheme = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        };
        text.split_once("://")
            .is_some_and(|(before, _)| !before.is_empty() && scheme(before))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }

    /// The path that a `file` address names.
    pub fn local(&self) -> Option<PathBuf> {
        use std::os::unix::ffi::OsStringExt as _;
        let path = self.0.strip_prefix("file://")?;
        Some(std::ffi::OsString::from_vec(decoded(path)).into())
    }

    /// `path`, a relative path as [`relative`] gives it, below this address.
    pub fn join(&self, path: &str) -> Self {
        let mut text = self.0.trim_end_matches('/').to_owned();
        text.push('/');
        let bytes = path.as_bytes();
        for (at, &byte) in bytes.iter().enumerate() {
            let escape = byte == b'%'
                && bytes
                    .get(at + 1..at + 3)
                    .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
            if escape || byte.is_ascii_alphanumeric() || b"-._~/+:@!$&'()*,;=".contains(&byte) {
                text.push(byte as char);
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
        Self(text)
    }

    /// The last part of its path, percent-decoded; `None` where that is no file name.
    pub fn file_name(&self) -> Option<String> {
        let name = String::from_utf8(decoded(self.0.rsplit('/').next()?)).ok()?;
        let fit = |c: char| !c.is_control() && c != '/';
        (!name.is_empty() && !name.starts_with('.') && name.chars().all(fit)).then_some(name)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).filter(|_| byte == b'%');
        let value = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(value.unwrap_or(byte));
        at += if value.is_some() { 3 } else { 1 };
    }
    out
}

/// A path as a repository's metadata gives it: cleaned of empty and `.` parts.
///
/// # Errors
/// Where it could leave the repository: it is absolute, an address, or has `..`, plain or percent-encoded.
pub fn relative(path: &str) -> Result<String, UrlError> {
    let refused = || {
        UrlError::Path(
            path.chars()
                .take(200)
                .collect::<String>()
                .escape_debug()
                .to_string(),
        )
    };
    if path.len() > LONGEST || path.starts_with('/') || Url::is_url(path) {
        return Err(refused());
    }
    let mut parts = Vec::new();
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        let plain = decoded(part);
        let hostile = plain == b".." || plain.iter().any(|b| b.is_ascii_control() || *b == b'/');
        if hostile {
            return Err(refused());
        }
        parts.push(part);
    }
    match parts.is_empty() {
        true => Err(refused()),
        false => Ok(parts.join("/")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn addresses_are_taken_or_refused() {
        for (text, expected) in [
            ("HTTPS://host/a/", Some("https://host/a/")),
            ("http://host:8080", Some("http://host:8080")),
            ("file:///srv/repo", Some("file:///srv/repo")),
            ("file://localhost/srv", Some("file:///srv")),
            ("file://host/srv", None),
            ("ftp://host/", None),
            ("https:///path", None),
            ("https://user:secret@host/", None),
            ("https://host/?token=secret", None),
            ("https://host/a b", None),
            ("/srv/repo", None),
        ] {
            assert_eq!(
                Url::parse(text).ok().as_ref().map(Url::as_str),
                expected,
                "{text}"
            );
        }
        let error = Url::parse("https://user:secret@host/").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
        assert!(Url::with_query("https://host/list?arch=x").is_ok());
    }

    #[test]
    fn paths_are_joined_and_escaped() {
        let url = Url::parse("https://host/repo/").unwrap();
        for (path, expected) in [
            (
                "Packages/a+b-1~rc^1.rpm",
                "https://host/repo/Packages/a+b-1~rc%5E1.rpm",
            ),
            ("a%2Bb.rpm", "https://host/repo/a%2Bb.rpm"),
            ("a?b#c d%.rpm", "https://host/repo/a%3Fb%23c%20d%25.rpm"),
        ] {
            assert_eq!(url.join(path).as_str(), expected);
        }
        assert_eq!(url.join("x/a%2Bb.rpm").file_name().as_deref(), Some("a+b.rpm"));
        assert_eq!(url.file_name(), None);
        assert_eq!(url.join("x/%2e%2e").file_name(), None);
        let local = Url::parse("file:///srv/a%20b").unwrap();
        assert_eq!(local.local().as_deref(), Some(Path::new("/srv/a b")));
        assert_eq!(url.local(), None);
    }

    #[test]
    fn paths_stay_below_the_repository() {
        assert_eq!(relative("./Packages//a.rpm").unwrap(), "Packages/a.rpm");
        assert_eq!(relative("a..b/c.rpm").unwrap(), "a..b/c.rpm");
        for hostile in [
            "/etc/passwd",
            "../x.rpm",
            "a/../../x.rpm",
            "a/%2e%2E/x.rpm",
            "a%2fb",
            "http://evil/x.rpm",
            "a\nb",
            "a/%00",
            "",
            "./",
        ] {
            assert!(matches!(relative(hostile), Err(UrlError::Path(_))), "{hostile}");
        }
    }
}
