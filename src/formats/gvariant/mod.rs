//! GVariant: the typed, self-aligning serialisation that GLib defines and ostree stores its metadata in.
//!
//! Numbers and framing offsets are little-endian. Only *normal form* is written, and only normal form
//! is accepted: one value has exactly one serialisation, so `serialise(parse(bytes)) == bytes`.
//!
//! Specification: <https://docs.gtk.org/glib/gvariant-specification.html>.

mod parse;
mod serialise;
mod types;

pub use parse::{Error, parse};
pub use serialise::serialise;
pub use types::{Fixed, Text, Type, TypeError};

use std::borrow::Cow;

/// A value. Built by the caller, or borrowed from the bytes it was parsed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number, boolean, handle or double: its bits, zero-extended.
    Fixed(Fixed, u64),
    /// A string without NUL.
    Text(Text, Cow<'a, str>),
    /// An array of bytes (`ay`).
    Bytes(Cow<'a, [u8]>),
    /// An array of anything but bytes: the element's type, the elements.
    Array(Type, Vec<Value<'a>>),
    /// A value that may be absent: its type, the value.
    Maybe(Type, Option<Box<Value<'a>>>),
    Tuple(Vec<Value<'a>>),
    /// A key and its value.
    DictEntry(Box<[Value<'a>; 2]>),
    /// A value that carries its own type.
    Variant(Box<Value<'a>>),
}

impl<'a> Value<'a> {
    pub fn bool(value: bool) -> Self {
        Self::Fixed(Fixed::Bool, u64::from(value))
    }

    pub fn u32(value: u32) -> Self {
        Self::Fixed(Fixed::U32, u64::from(value))
    }

    pub fn u64(value: u64) -> Self {
        Self::Fixed(Fixed::U64, value)
    }

    /// A string (`s`). It must hold no NUL: one would end it early for every reader.
    pub fn str(text: &'a str) -> Self {
        debug_assert!(!text.contains('\0'));
        Self::Text(Text::String, Cow::Borrowed(text))
    }

    /// Bytes (`ay`).
    pub fn bytes(bytes: &'a [u8]) -> Self {
        Self::Bytes(Cow::Borrowed(bytes))
    }

    pub fn variant(value: Self) -> Self {
        Self::Variant(Box::new(value))
    }

    /// A dictionary `a{sv}`, in the order given.
    pub fn vardict(entries: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        let entries = entries
            .into_iter()
            .map(|(key, value)| Self::DictEntry(Box::new([Self::str(key), Self::variant(value)])));
        let entry = Type::DictEntry(Box::new((Type::Text(Text::String), Type::Variant)));
        Self::Array(entry, entries.collect())
    }

    /// The value's type.
    pub fn type_of(&self) -> Type {
        match self {
            Self::Fixed(fixed, _) => Type::Fixed(*fixed),
            Self::Text(text, _) => Type::Text(*text),
            Self::Bytes(_) => Type::Array(Box::new(Type::Fixed(Fixed::Byte))),
            Self::Array(element, _) => Type::Array(Box::new(element.clone())),
            Self::Maybe(element, _) => Type::Maybe(Box::new(element.clone())),
            Self::Tuple(items) => Type::Tuple(items.iter().map(Self::type_of).collect()),
            Self::DictEntry(pair) => Type::DictEntry(Box::new((pair[0].type_of(), pair[1].type_of()))),
            Self::Variant(_) => Type::Variant,
        }
    }

    /// The same value, borrowing nothing.
    pub fn into_owned(self) -> Value<'static> {
        let all = |items: Vec<Value<'_>>| items.into_iter().map(Value::into_owned).collect();
        match self {
            Self::Fixed(fixed, bits) => Value::Fixed(fixed, bits),
            Self::Text(text, value) => Value::Text(text, Cow::Owned(value.into_owned())),
            Self::Bytes(bytes) => Value::Bytes(Cow::Owned(bytes.into_owned())),
            Self::Array(element, items) => Value::Array(element, all(items)),
            Self::Maybe(element, item) => Value::Maybe(element, item.map(|item| Box::new(item.into_owned()))),
            Self::Tuple(items) => Value::Tuple(all(items)),
            Self::DictEntry(pair) => Value::DictEntry(Box::new((*pair).map(Value::into_owned))),
            Self::Variant(value) => Value::Variant(Box::new(value.into_owned())),
        }
    }

    /// The number, where it is a `u`.
    pub fn as_u32(&self) -> Option<u32> {
        match self {
            Self::Fixed(Fixed::U32, bits) => u32::try_from(*bits).ok(),
            _ => None,
        }
    }

    /// The number, where it is a `t`.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Fixed(Fixed::U64, bits) => Some(*bits),
            _ => None,
        }
    }

    /// The text, where it is an `s`.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(Text::String, text) => Some(text),
            _ => None,
        }
    }

    /// The bytes, where it is an `ay`.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The members of a tuple, or the elements of an array of anything but bytes.
    pub fn items(&self) -> Option<&[Value<'a>]> {
        match self {
            Self::Tuple(items) | Self::Array(_, items) => Some(items),
            Self::DictEntry(pair) => Some(&**pair),
            _ => None,
        }
    }
}

/// The bytes an offset takes in a container of `total` bytes, its offsets included.
fn offset_width(total: usize) -> usize {
    match total {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    }
}

/// The narrowest width with which `body` bytes and `count` offsets fit their own container.
fn narrowest_width(body: usize, count: usize) -> usize {
    let fits = |width: &usize| {
        let total = count.checked_mul(*width).and_then(|n| n.checked_add(body));
        total.is_some_and(|total| offset_width(total) <= *width)
    };
    [1, 2, 4].into_iter().find(fits).unwrap_or(8)
}

#[cfg(test)]
mod tests;
