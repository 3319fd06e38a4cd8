//! The units of an initrd: files, drop-ins, what wants what, and the programs that they start.

use std::collections::BTreeSet;

use super::error::InitrdError;
use super::gather::Gather;
use super::recipe::Recipe;
use crate::tree::path::TreePath;
use crate::tree::{Kind, Tree};

/// Where packages put units.
const UNITS: &str = "/usr/lib/systemd/system";
/// Where a command without a path is looked for, in systemd's order.
const PATH: [&str; 2] = ["/usr/bin", "/usr/sbin"];

/// Takes over the recipe's units, their drop-ins, and the links of `.wants` and `.requires`
/// directories from one chosen unit to another.
pub fn add(gather: &mut Gather, recipe: &Recipe) -> Result<(), InitrdError> {
    let dir = TreePath::new(UNITS)?;
    let required = recipe.units.iter().map(|name| (name, true));
    let optional = recipe.units_optional.iter().map(|name| (name, false));
    let mut chosen = BTreeSet::new();
    for (name, required) in required.chain(optional) {
        let taken = gather.add(&dir.join(name)?)?.is_some();
        if taken {
            chosen.insert(name.as_bytes());
            gather.add(&dir.join(format!("{name}.d"))?)?;
        } else if required {
            return Err(InitrdError::Missing {
                key: "units",
                name: name.clone(),
            });
        }
    }
    let source = gather.source();
    let entries = source
        .get(&dir)
        .and_then(|node| node.children())
        .into_iter()
        .flatten();
    for (name, node) in entries {
        let unit = name
            .strip_suffix(b".wants")
            .or_else(|| name.strip_suffix(b".requires"));
        if !unit.is_some_and(|unit| chosen.contains(unit)) {
            continue;
        }
        for wanted in node.children().into_iter().flat_map(|children| children.keys()) {
            if chosen.contains(&**wanted) {
                gather.add(&dir.join_name(name).join_name(wanted))?;
            }
        }
    }
    Ok(())
}

/// Takes over the programs that the units in the gathered tree start. A command with `-` before it
/// may be absent.
pub fn add_programs(gather: &mut Gather) -> Result<(), InitrdError> {
    let mut wanted = Vec::new();
    for dir in [UNITS, "/etc/systemd/system"] {
        for (path, text) in texts(&gather.into, &TreePath::new(dir)?)? {
            wanted.extend(commands(&text).into_iter().map(|command| (path.clone(), command)));
        }
    }
    for (unit, command) in wanted {
        let candidates = match command.program.strip_prefix('/') {
            Some(_) => vec![TreePath::new(&command.program)?],
            None => PATH
                .iter()
                .map(|dir| TreePath::new(*dir)?.join(&command.program))
                .collect::<Result<_, _>>()?,
        };
        let mut found = false;
        for path in candidates {
            found = found || gather.add(&path)?.is_some();
        }
        if !found && !command.optional {
            return Err(InitrdError::MissingProgram {
                unit,
                program: command.program,
            });
        }
    }
    Ok(())
}

/// The contents of every regular file below `dir`.
fn texts(tree: &Tree, dir: &TreePath) -> Result<Vec<(TreePath, String)>, InitrdError> {
    let mut texts = Vec::new();
    for (path, node) in tree.walk_from(dir) {
        let Kind::File(file) = &node.kind else {
            continue;
        };
        let bytes = file.blob.read_all().map_err(|source| InitrdError::Read {
            path: path.clone(),
            source,
        })?;
        let text = String::from_utf8(bytes).map_err(|_| InitrdError::UnitText { unit: path.clone() })?;
        texts.push((path, text));
    }
    Ok(texts)
}

/// A command of an `Exec…=` line.
#[derive(Debug, PartialEq, Eq)]
struct Command {
    program: String,
    optional: bool,
}

/// The commands of a unit's `Exec…=` lines (`systemd.service(5)`).
fn commands(text: &str) -> Vec<Command> {
    let mut commands = Vec::new();
    for line in text.lines().map(str::trim_start) {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        if !key.starts_with("Exec") || key.starts_with("ExecSearchPath") {
            continue;
        }
        let value = value.trim_start();
        let program = value.trim_start_matches(['-', '@', ':', '+', '!', '|']);
        let prefix = &value[..value.len() - program.len()];
        let program = program
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .trim_matches(['"', '\'']);
        // An empty value takes earlier ones back; one with a specifier names no file as it stands.
        if !program.is_empty() && !program.contains(['%', '$']) {
            commands.push(Command {
                program: program.to_owned(),
                optional: prefix.contains('-'),
            });
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Meta, Node, Origin};

    fn gather_of<'a>(from: &'a Tree) -> Gather<'a> {
        Gather::new(from, Tree::new(Meta::root(0o755, 0)))
    }

    fn tree(entries: &[(&str, Kind)]) -> Tree {
        let mut tree = Tree::new(Meta::root(0o755, 0));
        for (at, kind) in entries {
            let node = Node::new(Meta::root(0o644, 0), kind.clone(), Origin::Composer("test"));
            tree.insert(&TreePath::new(at).unwrap(), node).unwrap();
        }
        tree
    }

    #[test]
    fn commands_are_read_as_systemd_reads_them() {
        let unit = "[Service]\nExecStart=\n ExecStartPre=-@/bin/a b c\nExecStart=!!repart --dry-run=no\n\
                    #ExecStop=/bin/no\nExecReload=\"/bin/q\" x\nExecStop=/bin/%i\nExecSearchPath=/bin\nType=exec\n";
        let found: Vec<(String, bool)> = commands(unit)
            .into_iter()
            .map(|c| (c.program, c.optional))
            .collect();
        let expected = [("/bin/a", true), ("repart", false), ("/bin/q", false)];
        assert_eq!(
            found,
            expected.map(|(program, optional)| (program.to_owned(), optional))
        );
    }

    #[test]
    fn wants_are_kept_between_chosen_units_only() {
        let dir = "/usr/lib/systemd/system";
        let service = || Kind::file(*b"[Service]\nExecStart=prog\n");
        let from = tree(&[
            (&format!("{dir}/a.target"), Kind::file(*b"[Unit]\n")),
            (&format!("{dir}/b.service"), service()),
            (&format!("{dir}/c.service"), service()),
            (&format!("{dir}/b.service.d/x.conf"), Kind::file(*b"[Unit]\n")),
            (
                &format!("{dir}/a.target.wants/b.service"),
                Kind::Symlink((*b"../b.service").into()),
            ),
            (
                &format!("{dir}/a.target.wants/c.service"),
                Kind::Symlink((*b"../c.service").into()),
            ),
            ("/usr/sbin/prog", Kind::file(*b"elf")),
        ]);
        let recipe = Recipe {
            units: vec!["a.target".into(), "b.service".into()],
            units_optional: vec!["absent.service".into()],
            ..Recipe::default()
        };
        let mut gather = gather_of(&from);
        add(&mut gather, &recipe).unwrap();
        add_programs(&mut gather).unwrap();
        let has = |path: &str| gather.into.get(&TreePath::new(path).unwrap()).is_some();
        assert!(has(&format!("{dir}/a.target.wants/b.service")));
        assert!(!has(&format!("{dir}/a.target.wants/c.service")) && !has(&format!("{dir}/c.service")));
        assert!(has(&format!("{dir}/b.service.d/x.conf")) && has("/usr/sbin/prog"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let unit = "/usr/lib/systemd/system/b.service";
        let from = tree(&[(unit, Kind::file(*b"[Service]\nExecStart=/usr/bin/gone\n"))]);
        let mut recipe = Recipe {
            units: vec!["b.service".into()],
            ..Recipe::default()
        };
        let mut gather = gather_of(&from);
        add(&mut gather, &recipe).unwrap();
        let error = add_programs(&mut gather).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`/usr/bin/gone`, which `/usr/lib/systemd/system/b.service` starts in the initrd, is not in the image"
        );
        recipe.units.push("c.service".into());
        let error = add(&mut gather_of(&from), &recipe).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`c.service`, which `units` of [initrd] names, is not in the image"
        );
    }
}
