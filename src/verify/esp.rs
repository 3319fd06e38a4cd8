//! What lies on the EFI system partition.

use super::table::NO_TABLE;
use super::{Notes, Place, Subject};
use crate::disk::Arch;
use crate::formats::at::ReadAt as _;
use crate::formats::fat_reader::{FatReadError, StoredFile, Volume};

pub const LOADER_CONF: &str = "loader/loader.conf";
const MAX_LOADER_CONF: u64 = 1 << 16;
/// Below it, kernel images; beside each, a directory with its add-ons.
pub const KERNELS: &str = "EFI/Linux/";

/// What firmware starts from a disk that it knows nothing of.
pub fn loader_path(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "EFI/BOOT/BOOTX64.EFI",
        Arch::Aarch64 => "EFI/BOOT/BOOTAA64.EFI",
    }
}

/// What a file of the ESP is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Loader,
    Configuration,
    Kernel,
    Addon,
    /// What systemd-boot enrols as firmware variables.
    Enrolment,
    /// What a machine writes that has booted: its wrapped recovery key, a random seed.
    Machine,
    Unexpected,
}

fn kind(path: &str, arch: Arch) -> Kind {
    let below = |prefix: &str| path.strip_prefix(prefix);
    if path.eq_ignore_ascii_case(loader_path(arch)) {
        return Kind::Loader;
    }
    if path == LOADER_CONF {
        return Kind::Configuration;
    }
    if let Some(name) = below(KERNELS) {
        return match name.split_once('/') {
            None if name.ends_with(".efi") => Kind::Kernel,
            Some((directory, name))
                if directory.ends_with(".efi.extra.d")
                    && name.ends_with(".addon.efi")
                    && !name.contains('/') =>
            {
                Kind::Addon
            }
            _ => Kind::Unexpected,
        };
    }
    if below("loader/addons/").is_some_and(|name| name.ends_with(".addon.efi") && !name.contains('/')) {
        return Kind::Addon;
    }
    let recovery = below("EFI/hullwright/recovery/");
    if path == "loader/random-seed"
        || recovery.is_some_and(|name| name.ends_with(".json") && !name.contains('/'))
    {
        return Kind::Machine;
    }
    let enrolled = ["PK.auth", "KEK.auth", "db.auth", "dbx.auth"];
    match below("loader/keys/auto/") {
        Some(name) if enrolled.contains(&name) => Kind::Enrolment,
        _ => Kind::Unexpected,
    }
}

/// Whether it is something that firmware starts or stub loads.
pub fn is_program(path: &str) -> bool {
    path.to_ascii_lowercase().ends_with(".efi")
}

/// The add-ons that the stub of the kernel image at `path` loads: those for every image, then its own, each by name.
pub fn addons<'a>(volume: &'a Volume, path: &str) -> Vec<&'a StoredFile> {
    // The boot loader takes the counter off before it looks for them.
    let stem = path.strip_suffix(".efi").unwrap_or(path);
    let plain = match has_counter(path) {
        true => stem.rsplit_once('+').map_or(stem, |(stem, _)| stem),
        false => stem,
    };
    let own = format!("{plain}.efi.extra.d/");
    let below = |prefix: &str| {
        let files = volume.files.iter().filter(|file| {
            let name = file.path.strip_prefix(prefix);
            name.is_some_and(|name| name.ends_with(".addon.efi") && !name.contains('/'))
        });
        let mut files: Vec<_> = files.collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    };
    [below("loader/addons/"), below(&own)].concat()
}

/// Whether a kernel image's name has a boot counter: `…+3.efi`, `…+2-1.efi`.
fn has_counter(path: &str) -> bool {
    let counter = path.strip_suffix(".efi").and_then(|stem| stem.rsplit_once('+'));
    counter.is_some_and(|(_, counter)| {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match counter.split_once('-') {
            Some((left, done)) => digits(left) && digits(done),
            None => digits(counter),
        }
    })
}

/// Check `esp`.
pub fn esp(subject: &Subject, notes: &mut Notes) {
    let Some((medium, _)) = subject.partitions() else {
        return notes.not_checked(NO_TABLE);
    };
    let disk = Place::file(&medium.name);
    let Some((entry, volume)) = &subject.esp else {
        return notes.fail(disk, "there is no EFI system partition");
    };
    let place = |path: &str| disk.clone().partition(entry.number).path(path);
    let volume = match volume {
        Ok(volume) => volume,
        Err(FatReadError::Wrong { what, path, at }) => {
            let mut place = disk.clone().partition(entry.number).at(entry.offset() + at);
            place.path = (!path.is_empty()).then(|| path.clone());
            return notes.fail(place, *what);
        }
        Err(error) => return notes.fail(disk.clone().partition(entry.number), error.to_string()),
    };
    if volume.lost > 0 {
        let place = disk
            .clone()
            .partition(entry.number)
            .at(entry.offset() + volume.first_lost);
        notes.fail(
            place,
            format!("{} clusters are in use and belong to no file", volume.lost),
        );
    }
    let arch = subject.arch.unwrap_or(Arch::X86_64);
    let mut kinds = Vec::new();
    for file in &volume.files {
        let kind = kind(&file.path, arch);
        let at = place(&file.path).at(entry.offset() + file.offset());
        match kind {
            Kind::Unexpected => notes.fail(at, "nothing puts this file on the ESP of an image"),
            Kind::Machine if subject.directory.is_some() => {
                notes.fail(
                    at,
                    "a machine that has booted writes this file, and no build does",
                );
            }
            Kind::Kernel if subject.directory.is_some() && !has_counter(&file.path) => notes.fail(
                at,
                "the kernel image has no boot counter in its name: one that does not start is tried for ever",
            ),
            Kind::Configuration => {
                if let Err(problem) = check_configuration(subject, file) {
                    notes.fail(at, problem);
                }
            }
            _ => {}
        }
        kinds.push(kind);
    }
    let count = |kind| kinds.iter().filter(|found| **found == kind).count();
    if count(Kind::Loader) == 0 {
        notes.fail(place(loader_path(arch)), "there is no boot loader");
    }
    if count(Kind::Kernel) == 0 {
        notes.fail(place(KERNELS), "there is no kernel image");
    }
    notes.held(format!("boot loader, {} kernel image(s)", count(Kind::Kernel)));
    for (kind, name) in [
        (Kind::Addon, "add-on(s)"),
        (Kind::Enrolment, "file(s) of keys to enrol"),
        (Kind::Machine, "file(s) of the machine"),
    ] {
        if count(kind) > 0 {
            notes.held(format!("{} {name}", count(kind)));
        }
    }
}

/// That whoever sits at the console cannot change the command line.
fn check_configuration(subject: &Subject, file: &StoredFile) -> Result<(), String> {
    let (Some((entry, _)), true) = (&subject.esp, file.size <= MAX_LOADER_CONF) else {
        return Err("it is larger than 64 KiB".to_owned());
    };
    let mut bytes = vec![0; file.size as usize];
    let part = subject.part(entry).ok_or("it cannot be read")?;
    file.content(part)
        .read_exact_at(&mut bytes, 0)
        .map_err(|error| format!("it cannot be read: {error}"))?;
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text")?;
    let mut editor = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("editor")).then(|| words.next().unwrap_or_default())
    });
    match editor.next_back() {
        Some("no" | "false" | "0" | "n" | "f" | "off") => Ok(()),
        _ => Err(
            "it does not say `editor no`: whoever sits at the console may change the command line".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_their_kinds() {
        let table = [
            ("EFI/BOOT/BOOTX64.EFI", Kind::Loader),
            ("efi/boot/bootx64.efi", Kind::Loader),
            ("EFI/BOOT/BOOTAA64.EFI", Kind::Unexpected),
            ("loader/loader.conf", Kind::Configuration),
            ("EFI/Linux/a_1+3.efi", Kind::Kernel),
            ("EFI/Linux/a_1.efi.extra.d/debug.addon.efi", Kind::Addon),
            ("EFI/Linux/a_1.efi.extra.d/x.cred", Kind::Unexpected),
            ("EFI/Linux/a_1.efi.extra.d/x/y.addon.efi", Kind::Unexpected),
            ("loader/addons/x.addon.efi", Kind::Addon),
            ("loader/credentials/x.cred", Kind::Unexpected),
            ("loader/keys/auto/db.auth", Kind::Enrolment),
            ("loader/keys/other/db.auth", Kind::Unexpected),
            ("loader/random-seed", Kind::Machine),
            ("EFI/hullwright/recovery/x.json", Kind::Machine),
            ("EFI/hullwright/recovery/x/y.json", Kind::Unexpected),
            ("loader/entries/x.conf", Kind::Unexpected),
            ("startup.nsh", Kind::Unexpected),
        ];
        for (path, expected) in table {
            assert_eq!(kind(path, Arch::X86_64), expected, "{path}");
        }
        let counters = [
            ("a+3.efi", true),
            ("a+2-1.efi", true),
            ("a.efi", false),
            ("a+.efi", false),
            ("a+x.efi", false),
        ];
        for (path, expected) in counters {
            assert_eq!(has_counter(path), expected, "{path}");
        }
    }
}
