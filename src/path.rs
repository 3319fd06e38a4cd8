//! Paths inside a tree.

use std::fmt;

/// An absolute, normalised path of raw bytes: no empty, `.` or `..` component, no NUL, no
/// trailing slash. The root is the empty list of components, shown as `/`.
///
/// Orders by components, so that a directory's content follows it directly.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TreePath {
    /// `/a/b`, or empty for the root.
    bytes: Box<[u8]>,
}

/// A path that does not stay inside the tree, or that no file system can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("`{0}` has a `..` component: it could leave the image's root")]
    ParentComponent(String),
    #[error("`{0}` holds a NUL byte")]
    Nul(String),
    #[error("`{0}` has a component of more than 255 bytes")]
    LongComponent(String),
    #[error("a path of {0} bytes is longer than the 4095 that Linux takes")]
    TooLong(usize),
}

impl TreePath {
    /// `/`.
    pub fn root() -> Self {
        Self {
            bytes: Box::default(),
        }
    }

    /// Takes a path as packages write it (`/a/b`, `./a/b`, `a//b/`), relative to the root.
    ///
    /// # Errors
    /// `..`, NUL, components over 255 bytes, paths over 4095 bytes.
    pub fn new(path: impl AsRef<[u8]>) -> Result<Self, PathError> {
        let path = path.as_ref();
        let shown = || path.escape_ascii().to_string();
        if path.len() > 4095 {
            return Err(PathError::TooLong(path.len()));
        }
        let mut bytes = Vec::with_capacity(path.len() + 1);
        for part in path.split(|&b| b == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => return Err(PathError::ParentComponent(shown())),
                _ if part.contains(&0) => return Err(PathError::Nul(shown())),
                _ if part.len() > 255 => return Err(PathError::LongComponent(shown())),
                _ => {
                    bytes.push(b'/');
                    bytes.extend_from_slice(part);
                }
            }
        }
        Ok(Self { bytes: bytes.into() })
    }

    /// A path written in this program's own source.
    ///
    /// # Panics
    /// Where the literal is not a path: a mistake in this program, never in its input.
    #[expect(clippy::panic, reason = "only literals are given")]
    pub fn literal(path: &'static str) -> Self {
        match Self::new(path) {
            Ok(path) => path,
            Err(error) => panic!("{error}"),
        }
    }

    /// `/a/b`; `/` for the root.
    pub fn as_bytes(&self) -> &[u8] {
        if self.is_root() { b"/" } else { &self.bytes }
    }

    pub fn is_root(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The names from the root down.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.bytes.split(|&b| b == b'/').filter(|part| !part.is_empty())
    }

    /// The last component; `None` for the root.
    pub fn name(&self) -> Option<&[u8]> {
        self.components().next_back()
    }

    /// The directory that holds it; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        let slash = self.bytes.iter().rposition(|&b| b == b'/')?;
        Some(Self {
            bytes: self.bytes[..slash].into(),
        })
    }

    /// The entry `name` below it. `name` is one component, as directories hold it.
    pub fn join_name(&self, name: &[u8]) -> Self {
        debug_assert!(!name.is_empty() && !name.contains(&b'/'));
        let mut bytes = Vec::with_capacity(self.bytes.len() + 1 + name.len());
        bytes.extend_from_slice(&self.bytes);
        bytes.push(b'/');
        bytes.extend_from_slice(name);
        Self { bytes: bytes.into() }
    }

    /// The path `below` (relative or absolute) taken from here.
    ///
    /// # Errors
    /// As [`TreePath::new`].
    pub fn join(&self, below: impl AsRef<[u8]>) -> Result<Self, PathError> {
        Self::new([&self.bytes, b"/" as &[u8], below.as_ref()].concat())
    }

    /// Whether it is `ancestor` or lies below it.
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        self.bytes.starts_with(&ancestor.bytes)
            && matches!(self.bytes.get(ancestor.bytes.len()), None | Some(b'/'))
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // A path holds no NUL, so a slash that counts as one sorts as the end of a component does.
        let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
        let (a, b) = (&self.bytes, &other.bytes);
        match a.iter().zip(b).find(|(a, b)| a != b) {
            Some((&a, &b)) => rank(a).cmp(&rank(b)),
            None => a.len().cmp(&b.len()),
        }
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(self.as_bytes()) {
            Ok(text) if !text.chars().any(char::is_control) => f.write_str(text),
            _ => self.as_bytes().escape_ascii().fmt(f),
        }
    }
}

impl serde::Serialize for TreePath {
    /// As shown.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for TreePath {
    /// What [`TreePath`] serialises to; bytes that were escaped stay so.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::new(text.as_bytes()).map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_and_ordered_by_component() {
        let path = |text: &str| TreePath::new(text).unwrap();
        assert_eq!(path("./usr//bin/").to_string(), "/usr/bin");
        assert_eq!(path("/").to_string(), "/");
        assert_eq!(path("/usr").parent(), Some(TreePath::root()));
        assert_eq!(TreePath::root().parent(), None);
        assert!(
            path("/a/b") < path("/a-b"),
            "a directory's content follows it directly"
        );
        assert!(path("/usr/lib").starts_with(&path("/usr")));
        assert!(!path("/usrlocal").starts_with(&path("/usr")));
        assert!(path("/usr").starts_with(&TreePath::root()));
    }

    #[test]
    fn paths_that_leave_the_root_are_refused() {
        for bad in ["../etc/passwd", "/usr/../../etc", "/a\0b"] {
            assert!(TreePath::new(bad).is_err(), "{bad}");
        }
        assert!(TreePath::new(vec![b'a'; 256]).is_err());
        assert!(TreePath::new([b"/a".as_slice(); 2048].concat()).is_err());
    }
}
