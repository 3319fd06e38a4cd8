//! From bytes to values: hostile bytes give an error, never a panic, and take memory in proportion
//! to their length.

use std::borrow::Cow;

use super::{Fixed, Type, TypeError, Value, narrowest_width, offset_width};

/// How deep values may nest, through variants and containers alike.
const MAX_DEPTH: usize = 64;

/// The bytes are not the normal form of a value of the type asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("a value of type `{kind}` takes {expected} bytes, not {found}")]
    Size {
        kind: String,
        expected: usize,
        found: usize,
    },
    #[error("a boolean is {0}, neither 0 nor 1")]
    Bool(u8),
    #[error("a string is not UTF-8 that ends in its only NUL byte")]
    Text,
    #[error("padding between values is not zero")]
    Padding,
    #[error("the framing offsets of a `{0}` are out of order, out of bounds or too wide")]
    Offsets(String),
    #[error("a variant does not name its type")]
    Untyped,
    #[error("values nest deeper than {MAX_DEPTH}")]
    Depth,
    #[error(transparent)]
    Type(#[from] TypeError),
}

/// Reads a value of type `kind` that takes up all of `bytes`.
///
/// # Errors
/// Where `bytes` is not its normal form, or values nest deeper than 64.
pub fn parse<'a>(kind: &Type, bytes: &'a [u8]) -> Result<Value<'a>, Error> {
    value(kind, bytes, 0)
}

fn value<'a>(kind: &Type, bytes: &'a [u8], depth: usize) -> Result<Value<'a>, Error> {
    if depth > MAX_DEPTH {
        return Err(Error::Depth);
    }
    match kind {
        Type::Fixed(fixed) => number(*fixed, bytes),
        Type::Text(text) => {
            let body = bytes.strip_suffix(&[0]).filter(|body| !body.contains(&0));
            let body = body.and_then(|body| std::str::from_utf8(body).ok());
            Ok(Value::Text(*text, Cow::Borrowed(body.ok_or(Error::Text)?)))
        }
        Type::Variant => {
            let nul = bytes.iter().rposition(|&b| b == 0).ok_or(Error::Untyped)?;
            let inner = Type::parse(&bytes[nul + 1..])?;
            let inner = value(&inner, &bytes[..nul], depth + 1)?;
            Ok(Value::variant(inner))
        }
        Type::Array(element) if **element == Type::Fixed(Fixed::Byte) => Ok(Value::bytes(bytes)),
        Type::Array(element) => array(element, bytes, depth),
        Type::Maybe(element) if bytes.is_empty() => Ok(Value::Maybe((**element).clone(), None)),
        Type::Maybe(element) => {
            let inner = match (element.fixed_size(), bytes.split_last()) {
                (None, Some((0, inner))) => inner,
                (None, _) => return Err(Error::Offsets(kind.to_string())),
                (Some(_), _) => bytes,
            };
            let inner = value(element, inner, depth + 1)?;
            Ok(Value::Maybe((**element).clone(), Some(Box::new(inner))))
        }
        Type::Tuple(members) => {
            let members: Vec<&Type> = members.iter().collect();
            Ok(Value::Tuple(tuple(kind, &members, bytes, depth)?))
        }
        Type::DictEntry(pair) => {
            let found = tuple(kind, &[&pair.0, &pair.1], bytes, depth)?;
            let pair = found.try_into().map_err(|_| Error::Offsets(kind.to_string()))?;
            Ok(Value::DictEntry(Box::new(pair)))
        }
    }
}

fn number(fixed: Fixed, bytes: &[u8]) -> Result<Value<'static>, Error> {
    check_size(&Type::Fixed(fixed), fixed.size(), bytes)?;
    let mut bits = [0; 8];
    bits[..bytes.len()].copy_from_slice(bytes);
    match (fixed, bits[0]) {
        (Fixed::Bool, 2..) => Err(Error::Bool(bits[0])),
        _ => Ok(Value::Fixed(fixed, u64::from_le_bytes(bits))),
    }
}

fn array<'a>(element: &Type, bytes: &'a [u8], depth: usize) -> Result<Value<'a>, Error> {
    if let Some(size) = element.fixed_size() {
        check_size(element, bytes.len().next_multiple_of(size), bytes)?;
        let items = bytes
            .chunks_exact(size)
            .map(|item| value(element, item, depth + 1));
        return Ok(Value::Array(element.clone(), items.collect::<Result<_, _>>()?));
    }
    if bytes.is_empty() {
        return Ok(Value::Array(element.clone(), Vec::new()));
    }
    let wrong = || Error::Offsets(format!("a{element}"));
    let width = offset_width(bytes.len());
    let body = bytes
        .len()
        .checked_sub(width)
        .and_then(|at| offset(bytes, at, width));
    let body = body.ok_or_else(wrong)?;
    let table = bytes
        .len()
        .checked_sub(body)
        .filter(|table| table.is_multiple_of(width));
    let count = table.ok_or_else(wrong)? / width;
    if count == 0 || narrowest_width(body, count) != width {
        return Err(wrong());
    }
    let mut at = 0;
    let mut items = Vec::with_capacity(count);
    for index in 0..count {
        let end = offset(bytes, body + index * width, width).ok_or_else(wrong)?;
        let item = slice(&bytes[..body], at, element.alignment(), end)?.ok_or_else(wrong)?;
        items.push(value(element, item, depth + 1)?);
        at = end;
    }
    Ok(Value::Array(element.clone(), items))
}

fn tuple<'a>(kind: &Type, members: &[&Type], bytes: &'a [u8], depth: usize) -> Result<Vec<Value<'a>>, Error> {
    let wrong = || Error::Offsets(kind.to_string());
    if let Some(size) = kind.fixed_size() {
        check_size(kind, size, bytes)?;
    }
    let sizes: Vec<_> = members.iter().map(|member| member.fixed_size()).collect();
    let before_last = sizes.len().saturating_sub(1);
    let count = sizes[..before_last].iter().filter(|size| size.is_none()).count();
    let width = offset_width(bytes.len());
    let body = count
        .checked_mul(width)
        .and_then(|table| bytes.len().checked_sub(table));
    let body = body.ok_or_else(wrong)?;
    if count > 0 && narrowest_width(body, count) != width {
        return Err(wrong());
    }
    let mut at = 0_usize;
    let mut table = bytes.len();
    let mut items = Vec::with_capacity(members.len());
    for (index, (member, size)) in members.iter().zip(&sizes).enumerate() {
        let alignment = member.alignment();
        let end = match size {
            Some(size) => at.next_multiple_of(alignment).checked_add(*size),
            None if index == before_last => Some(body),
            None => {
                table -= width;
                offset(bytes, table, width)
            }
        };
        let end = end.ok_or_else(wrong)?;
        let item = slice(&bytes[..body], at, alignment, end)?.ok_or_else(wrong)?;
        items.push(value(member, item, depth + 1)?);
        at = end;
    }
    // Only a tuple of a fixed size is padded at its end.
    match kind.fixed_size() {
        Some(_) if bytes[at..].iter().any(|&b| b != 0) => Err(Error::Padding),
        None if at != body => Err(wrong()),
        _ => Ok(items),
    }
}

fn check_size(kind: &Type, expected: usize, bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() == expected {
        return Ok(());
    }
    Err(Error::Size {
        kind: kind.to_string(),
        expected,
        found: bytes.len(),
    })
}

/// The offset of `width` bytes that stands at `at`.
fn offset(bytes: &[u8], at: usize, width: usize) -> Option<usize> {
    let mut number = [0; 8];
    number[..width].copy_from_slice(bytes.get(at..at.checked_add(width)?)?);
    usize::try_from(u64::from_le_bytes(number)).ok()
}

/// The bytes from `at`, aligned, up to `end`; `None` where they do not lie in `body` in that order.
fn slice(body: &[u8], at: usize, alignment: usize, end: usize) -> Result<Option<&[u8]>, Error> {
    let start = at.next_multiple_of(alignment);
    let Some(item) = body.get(start..end) else {
        return Ok(None);
    };
    if body[at..start].iter().any(|&b| b != 0) {
        return Err(Error::Padding);
    }
    Ok(Some(item))
}
