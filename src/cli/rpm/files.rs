//! `hullwright rpm files`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use hullwright::formats::rpm::tag::fileflag;
use hullwright::rpmset::{Error, FileEntry, Package};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::{escape, expand_all, print};

/// List the files of packages: mode, owner, size, time, marks, path, and what is particular about them
///
/// Marks are those of `rpm -V`: c %config, m missingok, n noreplace, d %doc, g %ghost, l %license, r %readme, a %artifact. `=1`
/// numbers sets of hard links.
#[derive(Debug, Args)]
pub struct FilesArgs {
    /// Packages, or directories of .rpm files
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &FilesArgs) -> miette::Result<ExitCode> {
    let paths = expand_all(&args.paths)?;
    let opened: Vec<_> = paths
        .par_iter()
        .with_max_len(1)
        .map(|path| Package::open(path))
        .collect();
    if args.json {
        let values = paths.iter().zip(&opened).map(|(path, opened)| {
            let mut value = super::head(path, opened.as_ref());
            if let Ok(package) = opened {
                value["files"] = each(package, describe).into();
            }
            value
        });
        print(&format!("{:#}\n", Value::from(values.collect::<Vec<_>>())))?;
    } else {
        let several = paths.len() > 1;
        print(
            &opened
                .iter()
                .map(|opened| listing(opened, several))
                .collect::<String>(),
        )?;
    }
    Ok(super::code(opened.iter().all(Result::is_ok)))
}

/// Every file with the number of its set of hard links, from 1 on.
fn each<T>(package: &Package, mut show: impl FnMut(&FileEntry, Option<usize>) -> T) -> Vec<T> {
    let mut sets = BTreeMap::new();
    let mut shown = Vec::with_capacity(package.files.len());
    for file in &package.files {
        let next = sets.len() + 1;
        let set = file.link.map(|link| *sets.entry(link).or_insert(next));
        shown.push(show(file, set));
    }
    shown
}

fn listing(opened: &Result<Package, Error>, several: bool) -> String {
    let package = match opened {
        Ok(package) => package,
        Err(error) => return format!("BAD {}\n", escape::line(error.to_string().as_bytes())),
    };
    let mut text = String::new();
    if several {
        text.push_str(&format!("{}:\n", package.nevra));
    }
    let width = |of: fn(&FileEntry) -> usize| package.files.iter().map(of).max().unwrap_or(0);
    let users = width(|file| escape::line(file.user.as_bytes()).chars().count());
    let groups = width(|file| escape::line(file.group.as_bytes()).chars().count());
    let sizes = width(|file| file.size.to_string().len());
    let marked = width(|file| marks(file).len());
    let lines = each(package, |file, set| {
        let (user, group) = (
            escape::line(file.user.as_bytes()),
            escape::line(file.group.as_bytes()),
        );
        let (size, time) = (file.size, escape::moment(file.mtime));
        let (mode, marks, path) = (mode(file.mode), marks(file), escape::line(file.path.as_bytes()));
        let time = time.trim_end_matches(" UTC");
        let mut line =
            format!("{mode} {user:users$} {group:groups$} {size:sizes$} {time} {marks:marked$} {path}");
        if file.is_symlink() {
            line.push_str(&format!(" -> {}", escape::line(&file.target)));
        }
        let mut notes = Vec::new();
        if let Some(digest) = &file.digest {
            notes.push(format!(
                "{} {}…",
                digest.algorithm.name(),
                digest.hex.get(..12).unwrap_or_default()
            ));
        }
        if !file.capabilities.is_empty() {
            notes.push(format!("capabilities {}", escape::line(&file.capabilities)));
        }
        if !file.languages.is_empty() {
            notes.push(format!("language {}", escape::line(&file.languages)));
        }
        notes.extend(color(file).map(str::to_owned));
        notes.extend(set.map(|set| format!("={set}")));
        if matches!(file.format(), 0o020_000 | 0o060_000) {
            notes.push(format!("device {}, {}", file.rdev >> 8, file.rdev & 0xff));
        }
        if !notes.is_empty() {
            line.push_str(&format!("  [{}]", notes.join(", ")));
        }
        line.push('\n');
        line
    });
    text.extend(lines);
    text
}

const MARKS: [(u32, char, &str); 8] = [
    (fileflag::CONFIG, 'c', "config"),
    (fileflag::MISSINGOK, 'm', "missingok"),
    (fileflag::NOREPLACE, 'n', "noreplace"),
    (fileflag::DOC, 'd', "doc"),
    (fileflag::GHOST, 'g', "ghost"),
    (fileflag::LICENSE, 'l', "license"),
    (fileflag::README, 'r', "readme"),
    (fileflag::ARTIFACT, 'a', "artifact"),
];

fn marks(file: &FileEntry) -> String {
    let set = MARKS.iter().filter(|(bit, ..)| file.flags & bit != 0);
    set.map(|(_, letter, _)| *letter).collect()
}

/// The ELF class, where the file has one.
fn color(file: &FileEntry) -> Option<&'static str> {
    match file.color & 3 {
        1 => Some("32-bit"),
        2 => Some("64-bit"),
        3 => Some("32-bit and 64-bit"),
        _ => None,
    }
}

/// As `ls -l` shows it.
fn mode(mode: u16) -> String {
    let kind = match mode & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o020_000 => 'c',
        0o060_000 => 'b',
        0o010_000 => 'p',
        0o140_000 => 's',
        0o100_000 => '-',
        _ => '?',
    };
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

fn describe(file: &FileEntry, set: Option<usize>) -> Value {
    let marks = MARKS.iter().filter(|(bit, ..)| file.flags & bit != 0);
    let mut value = json!({
        "path": escape::json(file.path.as_bytes()),
        "mode": format!("{:06o}", file.mode),
        "user": file.user,
        "group": file.group,
        "size": file.size,
        "mtime": file.mtime,
        "marks": marks.map(|(.., name)| *name).collect::<Vec<_>>(),
        "flags": file.flags,
        "verify_flags": file.verify_flags,
        "color": file.color,
    });
    if std::str::from_utf8(file.path.as_bytes()).is_err() {
        value["path_bytes"] = hullwright::store::hex(file.path.as_bytes()).into();
    }
    if let Some(digest) = &file.digest {
        value["digest"] = json!({ "algorithm": digest.algorithm.name(), "hex": digest.hex });
    }
    if file.is_symlink() {
        value["target"] = escape::json(&file.target);
    }
    if !file.capabilities.is_empty() {
        value["capabilities"] = escape::json(&file.capabilities);
    }
    if !file.languages.is_empty() {
        value["languages"] = escape::json(&file.languages);
    }
    if let Some(set) = set {
        value["hard_link_set"] = set.into();
    }
    if file.rdev != 0 {
        value["device"] = json!([file.rdev >> 8, file.rdev & 0xff]);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_those_of_ls() {
        for (bits, text) in [
            (0o100_644, "-rw-r--r--"),
            (0o104_755, "-rwsr-xr-x"),
            (0o102_644, "-rw-r-Sr--"),
            (0o041_777, "drwxrwxrwt"),
            (0o041_776, "drwxrwxrwT"),
            (0o120_777, "lrwxrwxrwx"),
            (0o020_600, "crw-------"),
        ] {
            assert_eq!(mode(bits), text, "{bits:o}");
        }
    }
}
