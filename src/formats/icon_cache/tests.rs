use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::{Directory, Entry, IconCacheError, write};
use crate::testing::tool;

fn scan(theme: &Path, path: &str) -> Directory {
    let entries = fs::read_dir(theme.join(path)).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut entries = Vec::new();
    for name in names {
        let below = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}/{name}")
        };
        let real = theme.join(&below);
        if real.is_dir() {
            entries.push(Entry::Directory(scan(theme, &below)));
        } else if real.is_file() {
            entries.push(Entry::File(name));
        }
    }
    let path = path.to_owned();
    Directory { path, entries }
}

fn compare(tool: &Path, theme: &Path) -> usize {
    let made = write(&scan(theme, "")).unwrap();
    let cache = theme.join("icon-theme.cache");
    let status = Command::new(tool)
        .args(["-f", "-t", "-q"])
        .arg(theme)
        .status()
        .unwrap();
    assert!(status.success());
    assert!(made == fs::read(&cache).ok(), "{}", theme.display());
    if let Some(made) = &made {
        fs::write(&cache, made).unwrap();
        let valid = Command::new(tool)
            .args(["--validate", "-q"])
            .arg(theme)
            .status()
            .unwrap();
        assert!(valid.success());
    }
    made.map_or(0, |bytes| bytes.len())
}

#[test]
fn the_index_is_that_of_the_tool() {
    let Some(tool) = tool("gtk-update-icon-cache") else {
        return;
    };
    let place = tempfile::tempdir().unwrap();
    for theme in ["Adwaita", "hicolor"] {
        let real = Path::new("/usr/share/icons").join(theme);
        let copy = place.path().join(theme);
        let copied = Command::new("cp")
            .arg("-r")
            .arg(&real)
            .arg(&copy)
            .status()
            .unwrap();
        assert!(copied.success(), "{}", real.display());
        let _ = fs::remove_file(copy.join("icon-theme.cache"));
        let size = compare(&tool, &copy);
        assert_eq!(size > 100_000, theme == "Adwaita", "{size}");
    }
    // Two thousand icons in three formats and several directories, one of which is called as an icon is.
    let theme = place.path().join("made");
    for directory in ["48x48/apps", "scalable/apps", "apps"] {
        fs::create_dir_all(theme.join(directory)).unwrap();
    }
    for number in 0..2000 {
        let suffix = ["png", "svg", "xpm"][number % 3];
        fs::write(
            theme.join(format!("48x48/apps/org.example.App{number}.{suffix}")),
            "",
        )
        .unwrap();
        fs::write(
            theme.join(format!("scalable/apps/org.example.App{}.svg", number * 2)),
            "",
        )
        .unwrap();
    }
    for name in [
        "apps/apps.png",
        "48x48/apps/org.example.App1.png",
        "top.png",
        "apps/.png",
        "apps/a.b.svg",
        "apps/README",
    ] {
        fs::write(theme.join(name), "").unwrap();
    }
    symlink("apps.png", theme.join("apps/link.png")).unwrap();
    symlink("nowhere.png", theme.join("apps/dangling.png")).unwrap();
    symlink("48x48", theme.join("48x48@2")).unwrap();
    assert!(compare(&tool, &theme) > 100_000);
}

#[test]
fn what_is_not_put_into_caches_is_refused() {
    let of = |name: &str| {
        write(&Directory {
            path: String::new(),
            entries: vec![Entry::Directory(Directory {
                path: "a".to_owned(),
                entries: vec![Entry::File(name.to_owned())],
            })],
        })
    };
    assert_eq!(of("README"), Ok(None));
    assert_eq!(of("b.icon"), Err(IconCacheError::Metadata("a/b.icon".to_owned())));
    assert_eq!(of("é.png"), Err(IconCacheError::Name("a/é.png".to_owned())));
}
