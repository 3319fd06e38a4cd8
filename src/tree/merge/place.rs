//! Where the files of packages really lie: symbolic links to directories followed.

use std::collections::HashMap;

use crate::tree::path::TreePath;

/// As in `path_resolution(7)`.
const MAX_LINKS: usize = 40;

/// The symbolic links of a set, each where it really lies.
#[derive(Default)]
pub(super) struct Links<'a> {
    targets: HashMap<TreePath, &'a [u8]>,
}

/// What keeps a path from being reached: where it lies, and what it is.
pub(super) type Obstacle = (TreePath, String);

impl<'a> Links<'a> {
    /// Of `links`, path and target each, the first counts where several have one path.
    pub fn new(links: &[(&'a TreePath, &'a [u8])]) -> Self {
        let mut found = Self::default();
        let mut places: Vec<TreePath> = links.iter().map(|(path, _)| (*path).clone()).collect();
        // A link may lie behind others, in whatever order the packages bring them: go on until nothing moves.
        for _ in 0..MAX_LINKS {
            let mut targets = HashMap::with_capacity(links.len());
            for (place, (_, target)) in places.iter().zip(links) {
                targets.entry(place.clone()).or_insert(*target);
            }
            found.targets = targets;
            let mut moved = false;
            for (place, (path, _)) in places.iter_mut().zip(links) {
                // What is in a circle stays where it is, and is refused when something lies behind it.
                if let Ok(next) = found.place(path)
                    && next != *place
                {
                    *place = next;
                    moved = true;
                }
            }
            if !moved {
                break;
            }
        }
        found
    }

    /// Where the file lies that packages call `path`: its directory with all links followed, itself not.
    pub fn place(&self, path: &TreePath) -> Result<TreePath, Obstacle> {
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
            return Ok(TreePath::root());
        };
        Ok(self.directory(&parent)?.join_name(name))
    }

    /// Where directory `path` really lies.
    pub fn directory(&self, path: &TreePath) -> Result<TreePath, Obstacle> {
        let mut followed = 0;
        let mut done = TreePath::root();
        let mut todo: Vec<&[u8]> = path.components().rev().collect();
        let mut link = TreePath::root();
        while let Some(name) = todo.pop() {
            if name == b".." {
                // Only links have such components. A system would stay at its root; no honest
                // package counts on that, and a dishonest one hopes for more.
                done = done.parent().ok_or_else(|| {
                    let what = "a symbolic link that leads out of the image's root";
                    (link.clone(), what.to_owned())
                })?;
                continue;
            }
            let next = done.join_name(name);
            let Some(target) = self.targets.get(&next) else {
                done = next;
                continue;
            };
            followed += 1;
            if followed > MAX_LINKS {
                return Err((next, "one of a loop of symbolic links".to_owned()));
            }
            if target.starts_with(b"/") {
                done = TreePath::root();
            }
            link = next;
            let parts = target.split(|&b| b == b'/').rev();
            todo.extend(parts.filter(|part| !part.is_empty() && *part != b"."));
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    fn place(links: &[(&str, &str)], of: &str) -> Result<String, String> {
        let links: Vec<_> = links.iter().map(|(at, to)| (path(at), to.as_bytes())).collect();
        let links: Vec<_> = links.iter().map(|(at, to)| (at, *to)).collect();
        let place = Links::new(&links).place(&path(of));
        place
            .map(|path| path.to_string())
            .map_err(|(at, what)| format!("{at}: {what}"))
    }

    #[test]
    fn links_count_wherever_they_stand_in_the_order() {
        let links = [("/lib", "usr/lib"), ("/usr/lib", "../z/lib"), ("/z", "y")];
        assert_eq!(place(&links, "/lib/x").unwrap(), "/y/lib/x");
        // A link that only counts where another one puts it.
        let links = [("/b", "s/t"), ("/b/m", "/n"), ("/s/t", "../real")];
        assert_eq!(place(&links, "/b/m/f").unwrap(), "/n/f");
        assert_eq!(place(&links, "/real/m/f").unwrap(), "/n/f");
        // The last component is not followed.
        assert_eq!(place(&links, "/b").unwrap(), "/b");
        assert_eq!(place(&links, "/").unwrap(), "/");
    }

    #[test]
    fn circles_and_ways_out_are_refused() {
        let links = [("/a", "b"), ("/b", "a"), ("/up", "../../x")];
        let error = place(&links, "/a/f").unwrap_err();
        assert!(error.ends_with(": one of a loop of symbolic links"), "{error}");
        assert_eq!(
            place(&links, "/up/f").unwrap_err(),
            "/up: a symbolic link that leads out of the image's root"
        );
        assert_eq!(place(&links, "/c/f").unwrap(), "/c/f");
    }
}
