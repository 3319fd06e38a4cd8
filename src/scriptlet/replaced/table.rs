//! The table of commands that scriptlets are full of and that need not run: what is done in their place, and why that is as
//! good.

use super::{Effect, Native};
use crate::path::TreePath;
use crate::scriptlet::accounts;
use crate::tree::caches::icons::Theme;

/// A row of the table.
pub(super) struct Row {
    pub(super) programs: &'static [&'static str],
    /// What is left to do, where the arguments are of the kind that this row is about.
    pub(super) effect: fn(&Arguments<'_>) -> Option<Effect>,
    pub(super) reason: &'static str,
}

/// What a program is called with.
pub(super) struct Arguments<'a> {
    /// Its name, without a directory.
    pub(super) program: &'a str,
    /// The words after it.
    pub(super) words: &'a [Option<String>],
    pub(super) input: Option<&'a str>,
}

const ACCOUNTS: &str = "users and groups are made in the tree as by sysusers.d, with fixed numbers";

/// They change how a verb is carried out, not what is left once it was.
const SYSTEMCTL_FLAGS: &[&str] = &[
    "--no-reload",
    "--quiet",
    "-q",
    "--global",
    "--user",
    "--system",
    "--no-block",
    "--force",
    "--no-pager",
    "--now",
];

pub(super) const TABLE: &[Row] = &[
    Row {
        programs: &["ldconfig"],
        effect: |arguments| arguments.only(&["-X"]).then_some(Effect::Native(Native::Linker)),
        reason: "ld.so.cache is made from the finished tree",
    },
    Row {
        programs: &["systemctl"],
        effect: |arguments| match arguments.verb(SYSTEMCTL_FLAGS)? {
            "preset" | "preset-all" => Some(Effect::Native(Native::Units)),
            _ => None,
        },
        reason: "all units are enabled and disabled by presets in the finished tree",
    },
    Row {
        programs: &["systemd-update-helper"],
        effect: |arguments| match arguments.verb(&[])? {
            "install-system-units" | "install-user-units" => Some(Effect::Native(Native::Units)),
            _ => None,
        },
        reason: "all units are enabled and disabled by presets in the finished tree",
    },
    Row {
        programs: &["systemctl"],
        effect: |arguments| {
            let running = [
                "daemon-reload",
                "daemon-reexec",
                "start",
                "stop",
                "restart",
                "try-restart",
                "condrestart",
                "reload",
                "try-reload-or-restart",
                "reload-or-restart",
                "reload-or-try-restart",
                "force-reload",
                "reset-failed",
                "kill",
                "set-property",
                "is-active",
                "is-enabled",
                "is-failed",
                "is-system-running",
                "isolate",
            ];
            running
                .contains(&arguments.verb(SYSTEMCTL_FLAGS)?)
                .then_some(Effect::Nothing)
        },
        reason: "no system is running while an image is composed",
    },
    Row {
        programs: &["systemd-update-helper"],
        effect: |arguments| {
            let running = [
                "mark-restart-system-units",
                "mark-restart-user-units",
                "mark-reload-system-units",
                "mark-reload-user-units",
                "system-reload-restart",
                "system-reload",
                "system-restart",
                "user-reload-restart",
                "user-reload",
                "user-restart",
            ];
            running.contains(&arguments.verb(&[])?).then_some(Effect::Nothing)
        },
        reason: "no system is running while an image is composed",
    },
    Row {
        programs: &["udevadm"],
        effect: |arguments| match arguments.verb(&[])? {
            "control" | "trigger" | "settle" => Some(Effect::Nothing),
            _ => None,
        },
        reason: "no udev is running while an image is composed",
    },
    Row {
        programs: &[
            "dbus-send",
            "busctl",
            "killall",
            "pkill",
            "pgrep",
            "pidof",
            "modprobe",
            "rmmod",
            "insmod",
        ],
        effect: |_| Some(Effect::Nothing),
        reason: "no system is running while an image is composed",
    },
    Row {
        programs: &[
            "sysctl",
            "systemd-sysctl",
            "systemd-binfmt",
            "systemd-modules-load",
        ],
        effect: |_| Some(Effect::Nothing),
        reason: "the kernel that it would set up is not the image's; each boot does it",
    },
    Row {
        programs: &["systemd-tmpfiles"],
        effect: |arguments| {
            let known = |word: &str| {
                word == "--create"
                    || word == "-"
                    || word.starts_with("--replace=")
                    || word.starts_with("--prefix=")
                    || word.starts_with("--exclude-prefix=")
                    || word.ends_with(".conf")
            };
            // Lines that no file of the image has would be lost.
            let lost = arguments.input.is_some() && !arguments.any(|word| word.starts_with("--replace="));
            (arguments.all(known) && !lost).then_some(Effect::Nothing)
        },
        reason: "tmpfiles.d is followed at each boot, where the state is that it makes",
    },
    Row {
        programs: &["systemd-sysusers"],
        effect: |arguments| {
            let known = |word: &str| word == "-" || word.starts_with("--replace=") || word.ends_with(".conf");
            if !arguments.all(known) {
                return None;
            }
            match arguments.input {
                Some(lines) if !arguments.any(|word| word.starts_with("--replace=")) => {
                    Some(Effect::Accounts(lines.lines().map(str::to_owned).collect()))
                }
                _ => Some(Effect::Native(Native::Accounts)),
            }
        },
        reason: "users and groups of sysusers.d are made in the tree, with fixed numbers",
    },
    Row {
        programs: &["groupadd"],
        effect: |arguments| accounts::group(&arguments.known()?).map(Effect::Accounts),
        reason: ACCOUNTS,
    },
    Row {
        programs: &["useradd"],
        effect: |arguments| accounts::user(&arguments.known()?).map(Effect::Accounts),
        reason: ACCOUNTS,
    },
    Row {
        programs: &["usermod"],
        effect: |arguments| accounts::membership(&arguments.known()?).map(Effect::Accounts),
        reason: ACCOUNTS,
    },
    Row {
        programs: &[
            "getent",
            "id",
            "selinuxenabled",
            "systemd-detect-virt",
            "systemd-escape",
        ],
        effect: |_| Some(Effect::Nothing),
        reason: "it only asks, and what may follow either answer is replaced",
    },
    Row {
        programs: &["depmod", "weak-modules"],
        effect: |_| Some(Effect::Native(Native::Modules)),
        reason: "the indexes of the kernel's modules are made from the finished tree",
    },
    Row {
        programs: &[
            "kernel-install",
            "dracut",
            "new-kernel-pkg",
            "grubby",
            "grub2-mkconfig",
            "update-initramfs",
            "mkinitrd",
            "bootctl",
        ],
        effect: |_| Some(Effect::Nothing),
        reason: "the composer makes initrd, UKI and boot partition itself",
    },
    Row {
        programs: &["restorecon", "fixfiles", "load_policy", "setfiles", "chcon"],
        effect: |_| Some(Effect::Native(Native::Labels)),
        reason: "every path of the finished tree is labelled by the image's policy",
    },
    Row {
        programs: &["udevadm"],
        effect: |arguments| match arguments.verb(&[])? {
            "hwdb" if arguments.has("--update") => Some(Effect::Native(Native::Hwdb)),
            _ => None,
        },
        reason: "hwdb.bin is compiled from the finished tree",
    },
    Row {
        programs: &["systemd-hwdb"],
        effect: |arguments| (arguments.verb(&[])? == "update").then_some(Effect::Native(Native::Hwdb)),
        reason: "hwdb.bin is compiled from the finished tree",
    },
    Row {
        programs: &["journalctl"],
        effect: |arguments| {
            (arguments.only(&["--update-catalog"]) && !arguments.words.is_empty())
                .then_some(Effect::Native(Native::Catalog))
        },
        reason: "the journal's catalog is compiled from the finished tree",
    },
    Row {
        programs: &["update-ca-trust"],
        effect: |arguments| {
            arguments
                .only(&["extract"])
                .then_some(Effect::Native(Native::Trust))
        },
        reason: "the bundles of trusted certificates are extracted from the finished tree",
    },
    Row {
        programs: &["update-mime-database"],
        effect: |arguments| {
            let place = ["/usr/share/mime", "/usr/share/mime/"];
            // Whether it is newer is no question where nothing is there yet.
            let known = |word: &str| word == "-n" || word == "-V" || place.contains(&word);
            (arguments.all(known) && arguments.any(|word| place.contains(&word)))
                .then_some(Effect::Native(Native::Mime))
        },
        reason: "the database of MIME types is made from the finished tree",
    },
    Row {
        programs: &["gtk-update-icon-cache", "gtk4-update-icon-cache"],
        effect: |arguments| theme(arguments).map(Effect::Icons),
        reason: "the index of the icon theme is made from the finished tree",
    },
    Row {
        programs: &["touch"],
        effect: |arguments| {
            let flags = ["--no-create", "-c"];
            let safe = arguments.any(|word| flags.contains(&word));
            safe.then_some(Effect::Nothing)
        },
        reason: "it changes nothing but times, which an image has fixed",
    },
    Row {
        programs: &["systemd-machine-id-setup"],
        effect: |arguments| arguments.only(&[]).then_some(Effect::Nothing),
        reason: "every machine makes its own identity at first boot",
    },
];

/// The theme that the tool is asked to index, without the pictures.
fn theme(arguments: &Arguments<'_>) -> Option<Theme> {
    let (mut without_index, mut path) = (false, None);
    for word in arguments.known()? {
        match word {
            "--force" | "--quiet" | "--index-only" => {}
            "--ignore-theme-index" => without_index = true,
            _ if word.starts_with("--") => return None,
            _ if word.starts_with('-') => {
                let flags = &word[1..];
                if flags.is_empty() || !flags.chars().all(|flag| "fqit".contains(flag)) {
                    return None;
                }
                without_index |= flags.contains('t');
            }
            _ => {
                let name = word.strip_prefix("/usr/share/icons/")?.trim_end_matches('/');
                let real = !name.is_empty() && name != "." && name != ".." && !name.contains('/');
                if !real || path.is_some() {
                    return None;
                }
                path = Some(TreePath::new(format!("/usr/share/icons/{name}")).ok()?);
            }
        }
    }
    Some(Theme {
        program: arguments.program.to_owned(),
        path: path?,
        without_index,
    })
}

impl<'a> Arguments<'a> {
    fn all(&self, fits: impl Fn(&str) -> bool) -> bool {
        self.words.iter().all(|word| word.as_deref().is_some_and(&fits))
    }

    fn any(&self, fits: impl Fn(&str) -> bool) -> bool {
        self.words.iter().any(|word| word.as_deref().is_some_and(&fits))
    }

    fn has(&self, wanted: &str) -> bool {
        self.any(|word| word == wanted)
    }

    /// All words, where all are known.
    fn known(&self) -> Option<Vec<&'a str>> {
        self.words.iter().map(Option::as_deref).collect()
    }

    /// Whether there is nothing but `known` words.
    fn only(&self, known: &[&str]) -> bool {
        self.all(|word| known.contains(&word))
    }

    /// The first word that is no flag; `None` where there is a flag that is not among `flags`. Other words may be unknown.
    fn verb(&self, flags: &[&str]) -> Option<&'a str> {
        let mut verb = None;
        for word in self.words {
            match word.as_deref() {
                Some(flag) if flag.starts_with('-') && verb.is_none() && !flags.contains(&flag) => {
                    return None;
                }
                Some(flag) if flag.starts_with('-') => {}
                known if verb.is_none() => verb = Some(known?),
                _ => {}
            }
        }
        verb
    }
}
