//! The table of commands that scriptlets are full of and that need not run: what is done in their place, and why that is as
//! good. A scriptlet is replaced only where every command in it is in this table.

use super::accounts;
use super::collect::Scriptlet;
use super::shell::{Call, evaluate};

/// Work that the composer does on the finished tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Native {
    Linker,
    Units,
    Accounts,
    Modules,
    Labels,
    Hwdb,
    Catalog,
    Trust,
}

/// What is left to do of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Nothing,
    Native(Native),
    /// Lines of sysusers.d(5).
    Accounts(Vec<String>),
}

/// A command that is not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// As it would have been called; `…` for what is not known before it runs.
    pub command: String,
    pub effect: Effect,
    pub reason: &'static str,
}

/// What becomes of one run of a scriptlet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It would do nothing: why.
    Skip(&'static str),
    Replace(Vec<Replacement>),
    /// It must run: why it cannot be replaced.
    Run(String),
}

/// A row of the table.
struct Row {
    programs: &'static [&'static str],
    /// What is left to do, where the arguments are of the kind that this row is about.
    effect: fn(&Arguments<'_>) -> Option<Effect>,
    reason: &'static str,
}

/// The words after the program.
struct Arguments<'a> {
    words: &'a [Option<String>],
    input: Option<&'a str>,
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

const TABLE: &[Row] = &[
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

/// Where the programs of the table lie.
const DIRECTORIES: [&str; 8] = [
    "/bin",
    "/sbin",
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib/systemd",
    "/lib/systemd",
    "/usr/libexec",
    "/usr/local/sbin",
];

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

/// What becomes of `scriptlet`, whose text, macros expanded, is `text`, when RPM would run it with `arguments`.
pub fn judge(scriptlet: &Scriptlet, text: Option<&[u8]>, arguments: &[u32]) -> Verdict {
    let words = |words: &[Vec<u8>]| -> Option<Vec<String>> {
        words
            .iter()
            .map(|word| String::from_utf8(word.clone()).ok())
            .collect()
    };
    let Some(interpreter) = words(&scriptlet.interpreter) else {
        return Verdict::Run("its interpreter's name is not UTF-8 text".to_owned());
    };
    let Some(text) = text else {
        let call = Call {
            words: interpreter.into_iter().map(Some).collect(),
            input: None,
        };
        return replace(&[call]);
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return Verdict::Run("its text is not UTF-8".to_owned());
    };
    if scriptlet.is_lua() {
        let comment = |line: &str| line.is_empty() || (line.starts_with("--") && !line.starts_with("--["));
        return match text.lines().map(str::trim).all(comment) {
            true => Verdict::Skip("there is no command in it"),
            false => Verdict::Run("Lua is run, not read".to_owned()),
        };
    }
    let shells = ["/bin/sh", "/usr/bin/sh", "/bin/bash", "/usr/bin/bash"];
    match interpreter.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [shell] | [shell, "-e"] if shells.contains(&shell) => {}
        _ => return Verdict::Run(format!("`{}` is run, not read", interpreter.join(" "))),
    }
    match evaluate(text, arguments) {
        Err(unclear) => Verdict::Run(format!("{} is not understood", quoted(&unclear.0))),
        Ok(calls) if calls.is_empty() => {
            Verdict::Skip("there is nothing for it to do at a first installation")
        }
        Ok(calls) => replace(&calls),
    }
}

fn quoted(what: &str) -> String {
    if what.contains('`') {
        what.to_owned()
    } else {
        format!("`{what}`")
    }
}

fn replace(calls: &[Call]) -> Verdict {
    let mut replaced = Vec::with_capacity(calls.len());
    for call in calls {
        let command: Vec<_> = call
            .words
            .iter()
            .map(|word| word.as_deref().unwrap_or("…"))
            .collect();
        let Some((effect, reason)) = look_up(call) else {
            return Verdict::Run(format!("`{}` is not replaced", command.join(" ")));
        };
        replaced.push(Replacement {
            command: command.join(" "),
            effect,
            reason,
        });
    }
    Verdict::Replace(replaced)
}

fn look_up(call: &Call) -> Option<(Effect, &'static str)> {
    let (program, words) = call.words.split_first()?;
    let program = program.as_deref()?;
    let name = match program.rsplit_once('/') {
        Some((directory, name)) if DIRECTORIES.contains(&directory) => name,
        Some(_) => return None,
        None => program,
    };
    let arguments = Arguments {
        words,
        input: call.input.as_deref(),
    };
    let mut rows = TABLE.iter().filter(|row| row.programs.contains(&name));
    rows.find_map(|row| Some(((row.effect)(&arguments)?, row.reason)))
}

#[cfg(test)]
mod tests;
