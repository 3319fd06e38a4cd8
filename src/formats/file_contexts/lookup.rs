//! Which entry a path falls to.
//!
//! libselinux keeps entries in a tree of the first three path components that are literal. An entry without special
//! characters that is the path itself wins. Else, from the deepest branch that the path leads into up to the root, the
//! last entry that matches is taken if it stands behind what deeper branches gave; an entry `<<none>>` that is
//! met on the way ends the search.

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;
use regex::bytes::{RegexBuilder, RegexSet, RegexSetBuilder};

use super::pattern::translate;
use super::{Fault, FileKind, Spec, Substitution, SyntaxError, parse, parse_substitutions};

/// Components by which libselinux branches.
const MAX_BRANCH: usize = 3;
/// Bytes that one compiled pattern may take.
const MAX_COMPILED: usize = 4 << 20;
/// Bytes that the compiled patterns of a branch may take together.
const MAX_COMPILED_SET: usize = 16 << 20;
/// Bytes that the states of a branch may take while paths are looked up, a thread.
const MAX_STATES: usize = 32 << 20;

/// A policy's files, to be compiled.
#[derive(Debug, Clone, Default)]
pub struct Database {
    specs: Vec<(Entry, Matching)>,
    /// Of `.subs`, applied first, and of `.subs_dist`.
    local: Vec<Substitution>,
    distribution: Vec<Substitution>,
    inputs: usize,
}

/// A pattern, or several together, that cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    #[error("line {line}: the pattern `{pattern}` needs more than {} MiB when compiled", MAX_COMPILED >> 20)]
    Pattern {
        /// Which of the inputs, in the order of [`Database::add`], from 0.
        input: usize,
        /// From 1.
        line: usize,
        pattern: String,
    },
    #[error("the patterns below `{branch}` need more than {} MiB when compiled", MAX_COMPILED_SET >> 20)]
    Branch { branch: String },
}

/// A policy's answers.
#[derive(Debug)]
pub struct FileContexts {
    literals: HashMap<Vec<u8>, Vec<Entry>>,
    branches: HashMap<Vec<u8>, Branch>,
    local: Vec<Substitution>,
    distribution: Vec<Substitution>,
}

#[derive(Debug, Clone)]
struct Entry {
    /// Input and line: what stands later wins.
    order: (usize, usize),
    kind: Option<FileKind>,
    context: Option<Arc<str>>,
    pattern: String,
}

#[derive(Debug, Clone)]
enum Matching {
    Literal(Vec<u8>),
    /// In the syntax of the crate `regex`, and the branch that it stands on.
    Pattern {
        regex: String,
        branch: Vec<u8>,
    },
}

#[derive(Debug)]
struct Branch {
    set: RegexSet,
    /// By their index in `set`, in order.
    entries: Vec<Entry>,
}

impl Database {
    /// Adds the text of `file_contexts`, then of `file_contexts.homedirs`, then of `file_contexts.local`.
    ///
    /// # Errors
    /// The first line that is no entry, or whose pattern this program cannot match.
    pub fn add(&mut self, text: &[u8]) -> Result<(), SyntaxError> {
        let specs = parse(text)?;
        for spec in specs {
            let matching = matching(&spec.pattern).map_err(|fault| SyntaxError {
                line: spec.line,
                fault,
            })?;
            let Spec {
                pattern,
                kind,
                context,
                line,
            } = spec;
            let entry = Entry {
                order: (self.inputs, line),
                kind,
                context: context.map(Arc::from),
                pattern,
            };
            self.specs.push((entry, matching));
        }
        self.inputs += 1;
        Ok(())
    }

    /// Adds the text of `file_contexts.subs`.
    ///
    /// # Errors
    /// As [`parse_substitutions`].
    pub fn add_local_substitutions(&mut self, text: &[u8]) -> Result<(), SyntaxError> {
        self.local.extend(parse_substitutions(text)?);
        Ok(())
    }

    /// Adds the text of `file_contexts.subs_dist`.
    ///
    /// # Errors
    /// As [`parse_substitutions`].
    pub fn add_distribution_substitutions(&mut self, text: &[u8]) -> Result<(), SyntaxError> {
        self.distribution.extend(parse_substitutions(text)?);
        Ok(())
    }

    /// Compiles the patterns, on all cores.
    ///
    /// # Errors
    /// Patterns that take too much memory.
    pub fn compile(self) -> Result<FileContexts, CompileError> {
        let mut literals: HashMap<Vec<u8>, Vec<Entry>> = HashMap::new();
        let mut branches: HashMap<Vec<u8>, Vec<(Entry, String)>> = HashMap::new();
        for (entry, matching) in self.specs {
            match matching {
                Matching::Literal(path) => literals.entry(path).or_default().push(entry),
                Matching::Pattern { regex, branch } => {
                    branches.entry(branch).or_default().push((entry, regex))
                }
            }
        }
        for entries in literals.values_mut() {
            // Entries for one type before those for all; of the same, those of a later file first.
            entries.sort_by_key(|entry| std::cmp::Reverse((entry.kind, entry.order.0)));
        }
        let mut branches: Vec<_> = branches.into_iter().collect();
        branches.sort_by(|a, b| a.0.cmp(&b.0));
        let branches = branches
            .into_par_iter()
            .map(|(path, entries)| Branch::compile(&path, entries).map(|branch| (path, branch)))
            .collect::<Vec<Result<_, _>>>();
        Ok(FileContexts {
            literals,
            branches: branches.into_iter().collect::<Result<_, _>>()?,
            local: self.local,
            distribution: self.distribution,
        })
    }
}

impl Branch {
    fn compile(path: &[u8], entries: Vec<(Entry, String)>) -> Result<Self, CompileError> {
        let (entries, patterns): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        let set = RegexSetBuilder::new(&patterns)
            .size_limit(MAX_COMPILED_SET)
            .dfa_size_limit(MAX_STATES)
            .build();
        let fits = |pattern: &String| {
            RegexBuilder::new(pattern)
                .size_limit(MAX_COMPILED)
                .build()
                .is_ok()
        };
        match set {
            Ok(set) => Ok(Self { set, entries }),
            Err(_) => Err(match patterns.iter().position(|pattern| !fits(pattern)) {
                Some(index) => CompileError::Pattern {
                    input: entries[index].order.0,
                    line: entries[index].order.1,
                    pattern: entries[index].pattern.clone(),
                },
                None => CompileError::Branch {
                    branch: format!("/{}", path.escape_ascii()),
                },
            }),
        }
    }

    /// The last entry for `path`.
    fn find(&self, path: &[u8], kind: FileKind) -> Option<&Entry> {
        let matches = self.set.matches(path);
        let mut entries = matches.iter().rev().filter_map(|index| self.entries.get(index));
        entries.find(|entry| entry.kind.is_none_or(|only| only == kind))
    }
}

impl FileContexts {
    /// The label of the file of type `kind` at `path` (absolute, without double or trailing slashes), without a
    /// trailing NUL; `None` where the policy gives none.
    pub fn lookup(&self, path: &[u8], kind: FileKind) -> Option<&Arc<str>> {
        let local = substitute(&self.local, path);
        let path = local.as_deref().unwrap_or(path);
        let distribution = substitute(&self.distribution, path);
        let path = distribution.as_deref().unwrap_or(path);
        let mut literal = self.literals.get(path).into_iter().flatten();
        if let Some(entry) = literal.find(|entry| entry.kind.is_none_or(|only| only == kind)) {
            return entry.context.as_ref();
        }
        let mut best: Option<&Entry> = None;
        for branch in self.branches_of(path) {
            let Some(entry) = branch.find(path, kind) else {
                continue;
            };
            if best.is_some_and(|best| entry.order < best.order) {
                continue;
            }
            entry.context.as_ref()?;
            best = Some(entry);
        }
        best?.context.as_ref()
    }

    /// The branches that `path` leads into, the deepest first.
    fn branches_of(&self, path: &[u8]) -> impl Iterator<Item = &Branch> + use<'_> {
        let mut ends = vec![0];
        if path.first() == Some(&b'/') {
            let slashes = (1..path.len()).filter(|&index| path[index] == b'/');
            ends.extend(slashes.take(MAX_BRANCH));
        }
        let branches = ends
            .into_iter()
            .rev()
            .filter_map(|end| self.branches.get(path.get(1..end).unwrap_or_default()));
        branches.collect::<Vec<_>>().into_iter()
    }
}

/// `path` as the first fitting line has it.
fn substitute(lines: &[Substitution], path: &[u8]) -> Option<Vec<u8>> {
    lines.iter().find_map(|line| {
        let rest = path.strip_prefix(&*line.from)?;
        let below = rest.first() == Some(&b'/');
        if !below && !rest.is_empty() {
            return None;
        }
        let rest = if below && line.to == b"/" {
            &rest[1..]
        } else {
            rest
        };
        Some([&line.to, rest].concat())
    })
}

fn matching(pattern: &str) -> Result<Matching, Fault> {
    if let Some(path) = literal(pattern.as_bytes()) {
        return Ok(Matching::Literal(path));
    }
    let regex = translate(pattern).map_err(|fault| Fault::Pattern {
        pattern: pattern.to_owned(),
        fault,
    })?;
    Ok(Matching::Pattern {
        regex,
        branch: branch(pattern.as_bytes()),
    })
}

/// What `text` stands for, if libselinux sees no special character in it.
fn literal(text: &[u8]) -> Option<Vec<u8>> {
    const SPECIAL: &[u8] = b".^$?*+|[({])}";
    let mut path = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' => {
                let escaped = bytes.next().copied()?;
                if !SPECIAL.contains(&escaped) && !b"-_,".contains(&escaped) {
                    return None;
                }
                path.push(escaped);
            }
            byte if SPECIAL.contains(&byte) => return None,
            byte => path.push(byte),
        }
    }
    Some(path)
}

/// The literal components, up to three, that a pattern begins with and that something follows.
fn branch(pattern: &[u8]) -> Vec<u8> {
    let mut branch = Vec::new();
    let mut at = 0;
    let mut depth = 0;
    while depth < MAX_BRANCH {
        let from = at + 1;
        let slash = pattern
            .get(from..)
            .and_then(|rest| rest.iter().position(|&byte| byte == b'/'));
        let Some(length) = slash else {
            break;
        };
        at = from + length;
        if length == 0 {
            continue;
        }
        let Some(name) = literal(&pattern[from..at]) else {
            break;
        };
        if depth > 0 {
            branch.push(b'/');
        }
        branch.extend(name);
        depth += 1;
    }
    branch
}
