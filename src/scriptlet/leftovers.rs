//! What scriptlets leave behind that is no part of an image, or differs from build to build: dropped, each with its reason.

use crate::tree::path::TreePath;

/// Directories that stay, and lose what scriptlets put into them.
const DIRECTORIES: [(&str, &str); 11] = [
    ("/dev", "device files are made by the kernel"),
    ("/proc", "it is the kernel's"),
    ("/sys", "it is the kernel's"),
    ("/run", "it is empty at each boot"),
    ("/tmp", "it is empty at first boot"),
    ("/var/tmp", "it is empty at first boot"),
    (
        "/var/cache",
        "caches hold times of the build, and are made again when they are missing",
    ),
    ("/var/log", "logs hold times of the build"),
    ("/var/lib/rpm", "the composer writes the database of packages"),
    (
        "/usr/lib/sysimage/rpm",
        "the composer writes the database of packages",
    ),
    ("/usr/share/rpm", "the composer writes the database of packages"),
];

const FILES: [(&str, &str); 5] = [
    ("/etc/ld.so.cache", "the composer makes it from the finished tree"),
    ("/etc/machine-id", "every machine makes its own at first boot"),
    (
        "/var/lib/dbus/machine-id",
        "every machine makes its own at first boot",
    ),
    (
        "/var/lib/systemd/random-seed",
        "a seed that machines share is none",
    ),
    (
        "/etc/udev/hwdb.bin",
        "the composer compiles it from the finished tree",
    ),
];

/// Files of /etc by their name.
const NAMES: [(&str, &str); 7] = [
    ("passwd-", "a copy of what was before"),
    ("group-", "a copy of what was before"),
    ("shadow-", "a copy of what was before"),
    ("gshadow-", "a copy of what was before"),
    ("subuid-", "a copy of what was before"),
    ("subgid-", "a copy of what was before"),
    (".pwd.lock", "a lock of programs that ran"),
];

const BYTECODE: &str = "bytecode holds times, and Python does without it";

/// Why `path`, which a scriptlet made or changed, is not taken into the image.
pub fn reason(path: &TreePath) -> Option<&'static str> {
    let bytes = path.as_bytes();
    let below = |place: &str| {
        let rest = bytes.strip_prefix(place.as_bytes());
        rest.is_some_and(|rest| rest.starts_with(b"/"))
    };
    let directory = DIRECTORIES.iter().find(|(place, _)| below(place));
    let file = || FILES.iter().find(|(file, _)| file.as_bytes() == bytes);
    let name = path.name()?;
    let named = || {
        NAMES
            .iter()
            .find(|(wanted, _)| wanted.as_bytes() == name && below("/etc"))
    };
    if let Some((_, reason)) = directory.or_else(file).or_else(named) {
        return Some(reason);
    }
    let bytecode = name.ends_with(b".pyc") || name.ends_with(b".pyo");
    (bytecode || path.components().any(|name| name == b"__pycache__")).then_some(BYTECODE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_between_builds_is_dropped() {
        let cases = [
            ("/run/lock/x", true),
            ("/run", false),
            ("/runner", false),
            ("/var/cache/ldconfig/aux-cache", true),
            ("/var/lib/alternatives/vi", false),
            ("/etc/machine-id", true),
            ("/etc/machine-info", false),
            ("/etc/passwd-", true),
            ("/etc/passwd", false),
            ("/usr/share/passwd-", false),
            ("/usr/lib/python3/__pycache__/x.cpython-313.pyc", true),
            ("/usr/lib/python3/__pycache__", true),
            ("/var/lib/systemd/random-seed", true),
            ("/usr/lib/x.pyc", true),
        ];
        for (path, dropped) in cases {
            assert_eq!(reason(&TreePath::new(path).unwrap()).is_some(), dropped, "{path}");
        }
    }
}
