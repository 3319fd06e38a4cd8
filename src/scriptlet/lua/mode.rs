//! Permissions as RPM's `posix.chmod` and `posix.umask` write and read them.

/// `mode` changed by `text`: octal digits, nine letters (`rwxr-xr-x`), or changes as chmod(1) takes them (`u+x,go-w`).
/// `None` where it is none of those.
pub fn change(mode: u32, text: &str) -> Option<u32> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        let new = u32::from_str_radix(text, 8).ok()?;
        return (new <= 0o7777).then_some(new);
    }
    if text.len() == 9 && text.chars().all(|c| "rwxstST-".contains(c)) {
        return letters(text);
    }
    let mut mode = mode;
    for clause in text.split(',') {
        mode = apply(mode, clause.trim())?;
    }
    Some(mode)
}

/// `rwxr-xr-x`.
fn letters(text: &str) -> Option<u32> {
    let mut mode = 0;
    for (at, c) in text.chars().enumerate() {
        let bit = 0o400 >> at;
        let special = [0o4000, 0o2000, 0o1000][at / 3];
        mode |= match (at % 3, c) {
            (_, '-') => 0,
            (0, 'r') | (1, 'w') | (2, 'x') => bit,
            (2, 's') if at < 8 => bit | special,
            (2, 'S') if at < 8 => special,
            (2, 't') if at == 8 => bit | special,
            (2, 'T') if at == 8 => special,
            _ => return None,
        };
    }
    Some(mode)
}

/// One clause: `[ugoa]*[+-=][rwxst]*`.
fn apply(mode: u32, clause: &str) -> Option<u32> {
    let at = clause.find(['+', '-', '='])?;
    let (who, what) = clause.split_at(at);
    let mut mask = 0;
    for c in who.chars() {
        mask |= match c {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    if who.is_empty() {
        mask = 0o7777;
    }
    let mut bits = 0;
    for c in what[1..].chars() {
        bits |= match c {
            'r' => 0o444,
            'w' => 0o222,
            'x' => 0o111,
            's' => 0o6000,
            't' => 0o1000,
            ' ' => 0,
            _ => return None,
        };
    }
    let bits = bits & mask;
    Some(match &what[..1] {
        "+" => mode | bits,
        "-" => mode & !bits,
        _ => mode & !mask | bits,
    })
}

/// `mode` as nine letters.
pub fn show(mode: u32) -> String {
    let mut text = String::with_capacity(9);
    for (place, letter) in (0..9).zip("rwxrwxrwx".chars()) {
        text.push(if mode & (0o400 >> place) != 0 { letter } else { '-' });
    }
    let mut letters: Vec<char> = text.chars().collect();
    for (bit, place, set, unset) in [(0o4000, 2, 's', 'S'), (0o2000, 5, 's', 'S')] {
        if mode & bit != 0 {
            letters[place] = if letters[place] == 'x' { set } else { unset };
        }
    }
    letters.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_and_shown() {
        let cases = [
            (0o644, "755", Some(0o755)),
            (0o644, "u+x", Some(0o744)),
            (0o644, "+x", Some(0o755)),
            (0o755, "go-rx", Some(0o700)),
            (0o755, "a=r,u+w", Some(0o644)),
            (0, "rwxr-sr-x", Some(0o2755)),
            (0, "rw-r-----", Some(0o640)),
            (0, "x+u", None),
            (0, "99", None),
            (0, "", None),
        ];
        for (mode, text, expected) in cases {
            assert_eq!(change(mode, text), expected, "{text}");
        }
        assert_eq!(show(0o4755), "rwsr-xr-x");
        assert_eq!(show(0o640), "rw-r-----");
    }
}
