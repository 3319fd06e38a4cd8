//! Type strings: `(a{sv}aya(say)sstayay)` and the like.

use std::fmt;

/// The longest type string that is read: the limit that D-Bus sets, several times over.
const MAX_LENGTH: usize = 1024;

/// How deep a type may nest. Sizes and alignments are worked out at every level, so this bounds the
/// work that a hostile type can ask for, too.
const MAX_DEPTH: usize = 16;

/// Types of a fixed number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fixed {
    Bool,
    Byte,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    Handle,
    Double,
}

/// Types of UTF-8 text. Paths and signatures are read as plain strings, their grammar unchecked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    String,
    ObjectPath,
    Signature,
}

/// A complete type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    Fixed(Fixed),
    Text(Text),
    Variant,
    Array(Box<Type>),
    Maybe(Box<Type>),
    Tuple(Vec<Type>),
    DictEntry(Box<(Type, Type)>),
}

/// The text is not one complete type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a GVariant type")]
pub struct TypeError(String);

impl Fixed {
    /// Bytes, which is also the alignment.
    pub fn size(self) -> usize {
        match self {
            Self::Bool | Self::Byte => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::U32 | Self::Handle => 4,
            Self::I64 | Self::U64 | Self::Double => 8,
        }
    }

    fn code(self) -> char {
        match self {
            Self::Bool => 'b',
            Self::Byte => 'y',
            Self::I16 => 'n',
            Self::U16 => 'q',
            Self::I32 => 'i',
            Self::U32 => 'u',
            Self::I64 => 'x',
            Self::U64 => 't',
            Self::Handle => 'h',
            Self::Double => 'd',
        }
    }
}

impl Type {
    /// Reads one complete type.
    ///
    /// # Errors
    /// Anything else, types nested deeper than 16 and texts longer than 1024 bytes.
    pub fn parse(text: &[u8]) -> Result<Self, TypeError> {
        let mut rest = text;
        match Self::next(&mut rest, 0) {
            Some(found) if rest.is_empty() && text.len() <= MAX_LENGTH => Ok(found),
            _ => {
                let shown = &text[..text.len().min(60)];
                Err(TypeError(shown.escape_ascii().to_string()))
            }
        }
    }

    fn next(rest: &mut &[u8], depth: usize) -> Option<Self> {
        if depth > MAX_DEPTH {
            return None;
        }
        let (&code, tail) = rest.split_first()?;
        *rest = tail;
        let fixed = |fixed| Some(Self::Fixed(fixed));
        match code {
            b'b' => fixed(Fixed::Bool),
            b'y' => fixed(Fixed::Byte),
            b'n' => fixed(Fixed::I16),
            b'q' => fixed(Fixed::U16),
            b'i' => fixed(Fixed::I32),
            b'u' => fixed(Fixed::U32),
            b'x' => fixed(Fixed::I64),
            b't' => fixed(Fixed::U64),
            b'h' => fixed(Fixed::Handle),
            b'd' => fixed(Fixed::Double),
            b's' => Some(Self::Text(Text::String)),
            b'o' => Some(Self::Text(Text::ObjectPath)),
            b'g' => Some(Self::Text(Text::Signature)),
            b'v' => Some(Self::Variant),
            b'a' => Some(Self::Array(Box::new(Self::next(rest, depth + 1)?))),
            b'm' => Some(Self::Maybe(Box::new(Self::next(rest, depth + 1)?))),
            b'(' => {
                let mut members = Vec::new();
                while rest.first() != Some(&b')') {
                    members.push(Self::next(rest, depth + 1)?);
                }
                *rest = &rest[1..];
                Some(Self::Tuple(members))
            }
            b'{' => {
                let key = Self::next(rest, depth + 1)?;
                let value = Self::next(rest, depth + 1)?;
                let basic = matches!(key, Self::Fixed(_) | Self::Text(_));
                let tail = rest.strip_prefix(b"}").filter(|_| basic)?;
                *rest = tail;
                Some(Self::DictEntry(Box::new((key, value))))
            }
            _ => None,
        }
    }

    /// The multiple of bytes, from the start of the whole, at which a value begins.
    pub fn alignment(&self) -> usize {
        match self {
            Self::Fixed(fixed) => fixed.size(),
            Self::Text(_) => 1,
            Self::Variant => 8,
            Self::Array(element) | Self::Maybe(element) => element.alignment(),
            Self::Tuple(members) => members.iter().map(Self::alignment).max().unwrap_or(1),
            Self::DictEntry(pair) => pair.0.alignment().max(pair.1.alignment()),
        }
    }

    /// The bytes that every value of the type takes, where that does not depend on the value.
    pub fn fixed_size(&self) -> Option<usize> {
        let add = |size: usize, member: &Self| {
            Some(size.next_multiple_of(member.alignment()) + member.fixed_size()?)
        };
        // The empty tuple takes one byte, so that an array of them has a length.
        let end = |size: usize| size.next_multiple_of(self.alignment()).max(1);
        match self {
            Self::Fixed(fixed) => Some(fixed.size()),
            Self::Tuple(members) => members.iter().try_fold(0, add).map(end),
            Self::DictEntry(pair) => add(0, &pair.0).and_then(|size| add(size, &pair.1)).map(end),
            Self::Text(_) | Self::Variant | Self::Array(_) | Self::Maybe(_) => None,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(fixed) => write!(f, "{}", fixed.code()),
            Self::Text(Text::String) => f.write_str("s"),
            Self::Text(Text::ObjectPath) => f.write_str("o"),
            Self::Text(Text::Signature) => f.write_str("g"),
            Self::Variant => f.write_str("v"),
            Self::Array(element) => write!(f, "a{element}"),
            Self::Maybe(element) => write!(f, "m{element}"),
            Self::Tuple(members) => {
                f.write_str("(")?;
                members.iter().try_for_each(|member| write!(f, "{member}"))?;
                f.write_str(")")
            }
            Self::DictEntry(pair) => write!(f, "{{{}{}}}", pair.0, pair.1),
        }
    }
}
