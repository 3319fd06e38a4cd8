//! From values to bytes.

use super::{Value, narrowest_width};

/// The normal form of `value`, as if it began at an offset that is a multiple of 8.
pub fn serialise(value: &Value<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, &mut out);
    out
}

/// Appends `value`; `out` is aligned for it already.
fn write(value: &Value<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    match value {
        Value::Fixed(fixed, bits) => out.extend_from_slice(&bits.to_le_bytes()[..fixed.size()]),
        Value::Text(_, text) => {
            out.extend_from_slice(text.as_bytes());
            out.push(0);
        }
        Value::Bytes(bytes) => out.extend_from_slice(bytes),
        Value::Variant(inner) => {
            write(inner, out);
            out.push(0);
            out.extend_from_slice(inner.type_of().to_string().as_bytes());
        }
        Value::Maybe(_, None) => {}
        Value::Maybe(element, Some(inner)) => {
            write(inner, out);
            // Tells an empty value from an absent one.
            if element.fixed_size().is_none() {
                out.push(0);
            }
        }
        Value::Array(element, items) => {
            let alignment = element.alignment();
            let mut ends = Vec::with_capacity(items.len());
            for item in items {
                pad(out, alignment);
                write(item, out);
                ends.push(out.len() - start);
            }
            if element.fixed_size().is_none() {
                write_offsets(&ends, start, out);
            }
        }
        Value::Tuple(members) => write_members(members, out),
        Value::DictEntry(pair) => write_members(&**pair, out),
    }
}

fn write_members(members: &[Value<'_>], out: &mut Vec<u8>) {
    let start = out.len();
    let mut ends = Vec::new();
    let mut fixed = true;
    for (index, member) in members.iter().enumerate() {
        pad(out, alignment(member));
        write(member, out);
        if !is_fixed(member) {
            fixed = false;
            // The last member ends where the offsets begin.
            if index + 1 < members.len() {
                ends.push(out.len() - start);
            }
        }
    }
    if members.is_empty() {
        out.push(0);
    } else if fixed {
        pad(out, members.iter().map(alignment).max().unwrap_or(1));
    }
    ends.reverse();
    write_offsets(&ends, start, out);
}

fn write_offsets(ends: &[usize], start: usize, out: &mut Vec<u8>) {
    let width = narrowest_width(out.len() - start, ends.len());
    for end in ends {
        out.extend_from_slice(&(*end as u64).to_le_bytes()[..width]);
    }
}

fn pad(out: &mut Vec<u8>, alignment: usize) {
    out.resize(out.len().next_multiple_of(alignment), 0);
}

/// As [`super::Type::alignment`], without building the type.
fn alignment(value: &Value<'_>) -> usize {
    match value {
        Value::Fixed(fixed, _) => fixed.size(),
        Value::Text(..) | Value::Bytes(_) => 1,
        Value::Variant(_) => 8,
        Value::Array(element, _) | Value::Maybe(element, _) => element.alignment(),
        Value::Tuple(members) => members.iter().map(alignment).max().unwrap_or(1),
        Value::DictEntry(pair) => alignment(&pair[0]).max(alignment(&pair[1])),
    }
}

fn is_fixed(value: &Value<'_>) -> bool {
    match value {
        Value::Fixed(..) => true,
        Value::Tuple(members) => members.iter().all(is_fixed),
        Value::DictEntry(pair) => pair.iter().all(is_fixed),
        _ => false,
    }
}
