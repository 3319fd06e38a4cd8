//! Numbers, strings and masks of `match` elements.

/// A decimal number at the start of `text`, as C's `strtol` reads it, with what follows; 0 where there is none. `None`
/// where it is out of range.
pub fn decimal(text: &str) -> Option<(i64, &str)> {
    let (negative, digits) = sign(text);
    let length = digits.bytes().take_while(u8::is_ascii_digit).count();
    if length == 0 {
        return Some((0, text));
    }
    let number: i64 = digits[..length].parse().ok()?;
    Some((if negative { -number } else { number }, &digits[length..]))
}

fn sign(text: &str) -> (bool, &str) {
    let text = text.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

/// A number, all of it, as C's `strtoul` reads it: octal after `0`, hexadecimal after `0x`; a negative one wraps.
fn number(text: &str) -> Result<u64, String> {
    let (negative, digits) = sign(text);
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let (digits, radix) = match hex {
        Some(digits) => (digits, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (digits, 8),
        None => (digits, 10),
    };
    let valid = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    let number = u64::from_str_radix(digits, radix).ok().filter(|_| valid);
    let number = number.ok_or_else(|| format!("`{text}` is no number"))?;
    Ok(if negative { number.wrapping_neg() } else { number })
}

/// `start` or `start:end`: the first offset, and how many there are.
pub fn range(text: &str) -> Option<(i64, i32)> {
    let (start, rest) = decimal(text)?;
    if rest.is_empty() {
        return Some((start, 1));
    }
    let end = rest
        .strip_prefix(':')
        .filter(|end| !end.is_empty() && start >= 0)?;
    let (last, rest) = decimal(end)?;
    let count = last.checked_sub(start)?.checked_add(1)?;
    let count = i32::try_from(count).ok()?;
    (rest.is_empty() && count > 0).then_some((start, count))
}

/// The bytes to look for and their mask.
pub fn value(kind: &str, text: &str, mask: Option<&str>) -> Result<(Vec<u8>, Option<Vec<u8>>), String> {
    let (size, little) = match kind {
        "string" => {
            let data = unescape(text);
            let mask = mask.filter(|_| !data.is_empty());
            let mask = mask.map(|mask| string_mask(mask, data.len())).transpose()?;
            return Ok((data, mask));
        }
        "byte" => (1, true),
        "big16" | "host16" => (2, false),
        "little16" => (2, true),
        "big32" | "host32" => (4, false),
        "little32" => (4, true),
        other => return Err(format!("`{other}` is no type of a match")),
    };
    let bytes = |number: u64| {
        let mut bytes = number.to_le_bytes()[..size].to_vec();
        if !little {
            bytes.reverse();
        }
        bytes
    };
    let found = number(text)?;
    if size < 4 && found >> (8 * size) != 0 {
        return Err(format!("`{text}` does not fit into {size} bytes"));
    }
    let mask = mask.map(number).transpose()?;
    Ok((bytes(found), mask.map(bytes)))
}

/// The escapes of C, octal and hexadecimal numbers among them.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let Some(escaped) = bytes.next() else {
            break;
        };
        out.push(match escaped {
            b'n' => b'\n',
            b'r' => b'\r',
            b'b' => 8,
            b't' => b'\t',
            b'f' => 12,
            b'v' => 11,
            b'0'..=b'7' => {
                let mut value = escaped - b'0';
                for _ in 0..2 {
                    let Some(digit) = bytes.next_if(|byte| (b'0'..=b'7').contains(byte)) else {
                        break;
                    };
                    value = (value << 3) | (digit - b'0');
                }
                value
            }
            b'x' => {
                let mut value = None;
                for _ in 0..2 {
                    let Some(digit) = bytes.next_if(u8::is_ascii_hexdigit) else {
                        break;
                    };
                    value = Some((value.unwrap_or(0) << 4) | nibble(digit));
                }
                value.unwrap_or(b'x')
            }
            other => other,
        });
    }
    out
}

fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

/// A mask of a string with `length` bytes: hexadecimal, filled up with zeros.
fn string_mask(text: &str, length: usize) -> Result<Vec<u8>, String> {
    let digits = text
        .strip_prefix("0x")
        .ok_or_else(|| format!("the mask `{text}` does not begin with 0x"))?;
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("the mask `{text}` is not hexadecimal"));
    }
    if digits.len() > length * 2 {
        return Err(format!("the mask `{text}` is longer than the value"));
    }
    let mut mask = vec![0; length];
    for (place, digit) in digits.bytes().enumerate() {
        mask[place / 2] |= nibble(digit) << if place % 2 == 0 { 4 } else { 0 };
    }
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_c_reads_them() {
        assert_eq!(decimal(" -12x"), Some((-12, "x")));
        assert_eq!(decimal("x"), Some((0, "x")));
        assert_eq!(decimal("99999999999999999999"), None);
        for (text, expected) in [
            ("0", Some((0, 1))),
            ("4:7", Some((4, 4))),
            ("7:7", Some((7, 1))),
            ("7:4", None),
            ("-1:4", None),
            ("4:", None),
            ("4x", None),
            ("0:4294967296", None),
        ] {
            assert_eq!(range(text), expected, "{text}");
        }
        type Found = Result<(Vec<u8>, Option<Vec<u8>>), String>;
        let cases: [(&str, &str, Option<&str>, Found); 12] = [
            (
                "string",
                r"a\n\0\101\x41\xg\\",
                None,
                Ok((b"a\n\0AAxg\\".to_vec(), None)),
            ),
            ("string", r"\377\1234", None, Ok((vec![255, 0o123, b'4'], None))),
            (
                "string",
                "abc",
                Some("0xff0F"),
                Ok((b"abc".to_vec(), Some(vec![255, 15, 0]))),
            ),
            (
                "string",
                "a",
                Some("0xffff"),
                Err("the mask `0xffff` is longer than the value".to_owned()),
            ),
            (
                "string",
                "a",
                Some("ff"),
                Err("the mask `ff` does not begin with 0x".to_owned()),
            ),
            ("byte", "0x41", Some("0xf0"), Ok((vec![0x41], Some(vec![0xf0])))),
            ("big16", "0x0102", None, Ok((vec![1, 2], None))),
            ("little16", "0402", None, Ok((vec![2, 1], None))),
            ("host32", "16909060", None, Ok((vec![1, 2, 3, 4], None))),
            ("little32", "-1", None, Ok((vec![255; 4], None))),
            (
                "big16",
                "65536",
                None,
                Err("`65536` does not fit into 2 bytes".to_owned()),
            ),
            (
                "big64",
                "1",
                None,
                Err("`big64` is no type of a match".to_owned()),
            ),
        ];
        for (kind, text, mask, expected) in cases {
            assert_eq!(value(kind, text, mask), expected, "{kind} {text}");
        }
    }
}
