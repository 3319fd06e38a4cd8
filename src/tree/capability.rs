//! File capabilities: from RPM's text to the `security.capability` attribute.
//!
//! The text is that of `cap_from_text(3)`; the attribute is `struct vfs_cap_data`, revision 2
//! (capabilities(7), "File capability extended attribute versioning").

/// The extended attribute that holds them.
pub const XATTR: &[u8] = b"security.capability";

/// Names by number, as in the kernel's `capability.h`.
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];
const ALL: u64 = (1 << NAMES.len()) - 1;

/// The three sets of a file.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sets {
    effective: u64,
    permitted: u64,
    inheritable: u64,
}

/// The value of [`XATTR`] for capabilities written as `text`; `None` where there is no text. Text for none
/// at all (`=`) makes an attribute nevertheless, as RPM has it: even root gains nothing from such a program.
///
/// # Errors
/// What is wrong with the text; and an effective set that is neither empty nor the union of the
/// other two, which a file cannot have.
pub fn from_text(text: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let shown = text.escape_ascii();
    let text = std::str::from_utf8(text).map_err(|_| format!("capabilities that are no text: `{shown}`"))?;
    if text.is_empty() {
        return Ok(None);
    }
    let mut sets = Sets::default();
    for clause in text.split_whitespace() {
        apply(&mut sets, clause)?;
    }
    let union = sets.permitted | sets.inheritable;
    if sets.effective != 0 && sets.effective != union {
        return Err(format!(
            "capabilities `{text}`: on a file, the effective set is empty or all of the others"
        ));
    }
    let flag = u32::from(sets.effective != 0);
    let words = [
        0x0200_0000 | flag,
        low(sets.permitted),
        low(sets.inheritable),
        low(sets.permitted >> 32),
        low(sets.inheritable >> 32),
    ];
    Ok(Some(words.iter().flat_map(|word| word.to_le_bytes()).collect()))
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
fn low(bits: u64) -> u32 {
    bits as u32
}

/// One clause: a list of capabilities, then operators with flags (`cap_a,cap_b=ep`, `=`, `all+i`).
fn apply(sets: &mut Sets, clause: &str) -> Result<(), String> {
    let start = clause
        .find(['=', '+', '-'])
        .ok_or_else(|| format!("capabilities `{clause}` without `=`"))?;
    let (names, mut actions) = clause.split_at(start);
    let bits = match names {
        "" if actions.starts_with('=') => ALL,
        "all" => ALL,
        names => names
            .split(',')
            .try_fold(0, |bits, name| Ok::<_, String>(bits | bit(name)?))?,
    };
    while let Some(operator) = actions.chars().next() {
        let rest = &actions[1..];
        let end = rest.find(['=', '+', '-']).unwrap_or(rest.len());
        let (flags, next) = rest.split_at(end);
        if operator == '=' {
            for set in [&mut sets.effective, &mut sets.permitted, &mut sets.inheritable] {
                *set &= !bits;
            }
        }
        for flag in flags.chars() {
            let set = match flag {
                'e' => &mut sets.effective,
                'p' => &mut sets.permitted,
                'i' => &mut sets.inheritable,
                _ => return Err(format!("capabilities `{clause}` with the unknown flag `{flag}`")),
            };
            if operator == '-' {
                *set &= !bits;
            } else {
                *set |= bits;
            }
        }
        actions = next;
    }
    Ok(())
}

fn bit(name: &str) -> Result<u64, String> {
    let lower = name.to_ascii_lowercase();
    let plain = lower.strip_prefix("cap_").unwrap_or(&lower);
    let known = NAMES.iter().position(|known| *known == plain);
    let number = known.or_else(|| name.parse().ok().filter(|number| *number < NAMES.len()));
    number
        .map(|number| 1 << number)
        .ok_or_else(|| format!("the unknown capability `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::hex;

    #[test]
    fn attributes_equal_those_that_setcap_writes() {
        // The values are what setcap(8) stored, read back by getfattr(1).
        let cases = [
            ("cap_net_raw=ep", "0100000200200000000000000000000000000000"),
            (
                "cap_net_admin,cap_net_raw+p",
                "0000000200300000000000000000000000000000",
            ),
            ("cap_perfmon=ep", "0100000200000000000000004000000000000000"),
            ("=", "0000000200000000000000000000000000000000"),
            ("= cap_chown=i", "0000000200000000010000000000000000000000"),
        ];
        for (text, expected) in cases {
            let value = from_text(text.as_bytes()).unwrap().unwrap();
            assert_eq!(hex(&value), expected, "{text}");
        }
        assert_eq!(from_text(b"").unwrap(), None);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "cap_net_raw",
            "cap_magic=ep",
            "cap_chown=x",
            "cap_chown=p cap_kill=e",
        ] {
            assert!(from_text(text.as_bytes()).is_err(), "{text}");
        }
    }
}
