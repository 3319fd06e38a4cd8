//! What packages say, made fit for a terminal.

use serde_json::Value;

/// Characters that move a terminal's cursor, colour it, or turn text around.
fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `bytes` on one line: control characters, bytes that are no UTF-8 and, where there is any of these, backslashes are
/// written as escapes.
pub fn line(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(is_harmful) => text.to_owned(),
        _ => escaped(bytes),
    }
}

fn escaped(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_harmful(c) || c == '\\' {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// `bytes` line by line, tabs kept, `indent` before each.
pub fn block(bytes: &[u8], indent: &str) -> String {
    let mut out = String::new();
    for text in bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|&b| b == b'\n') {
        let columns: Vec<_> = text.split(|&b| b == b'\t').map(line).collect();
        out.push_str(format!("{indent}{}", columns.join("\t")).trim_end());
        out.push('\n');
    }
    out
}

/// For JSON: the text itself, which JSON escapes; as [`line`] where it is not UTF-8.
pub fn json(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => escaped(bytes).into(),
    }
}

/// Seconds since the epoch as `2026-11-21 08:30:00 UTC`.
pub fn moment(seconds: u32) -> String {
    let (days, of_day) = (seconds / 86_400 + 719_468, seconds % 86_400);
    // Years begin in March, so that the leap day is a year's last.
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u32::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_a_terminal_that_commands_it() {
        for (bytes, expected) in [
            (&b"a\\b \xc3\xbc"[..], "a\\b ü"),
            (b"a\x1b[31m\\", "a\\u{1b}[31m\\\\"),
            (b"a\n\x7f", "a\\n\\u{7f}"),
            (b"\xff\xfe", "\\xff\\xfe"),
            ("x\u{202e}y".as_bytes(), "x\\u{202e}y"),
        ] {
            assert_eq!(line(bytes), expected);
        }
        assert_eq!(block(b"a\n\tb\x07\n", "  "), "  a\n  \tb\\u{7}\n");
    }

    #[test]
    fn moments() {
        assert_eq!(moment(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(moment(951_827_696), "2000-02-29 12:34:56 UTC");
        assert_eq!(moment(u32::MAX), "2106-02-07 06:28:15 UTC");
    }
}
