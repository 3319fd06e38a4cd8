//! The verdict on a whole set: every package signed by a listed key, or excepted by name.

use std::collections::BTreeMap;
use std::fmt;

use rayon::prelude::*;

use super::{Fault, Keyring, Policy, Verdict, verify};
use crate::rpmset::{RpmSet, SetError};

/// A package that need not be signed by a listed key, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// Name of the package.
    pub package: String,
    pub reason: String,
}

/// A package of a set that may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    pub verdict: Verdict,
    /// The reason of the exception that lets it pass; `None` where it is signed.
    pub excepted: Option<String>,
}

/// Why a set's signatures do not suffice. Packages are named by their files.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    #[error("{} not signed: {}", counted(files), files.join(", "))]
    Unsigned { files: Vec<String> },
    #[error("{} signed by key {key_ids}, which is not listed: {}", counted(files), files.join(", "))]
    Unknown { key_ids: String, files: Vec<String> },
    /// Of the other kinds of verdict.
    #[error("{file}: {verdict}")]
    Package {
        file: String,
        name: String,
        verdict: Box<Verdict>,
    },
    #[error("the exception for `{package}` ({reason}) is not needed: {why}")]
    Idle {
        package: String,
        reason: String,
        why: &'static str,
    },
}

fn counted(files: &[String]) -> String {
    match files.len() {
        1 => "1 package is".to_owned(),
        count => format!("{count} packages are"),
    }
}

impl miette::Diagnostic for Untrusted {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let exception = |name: &str| {
            format!("an entry in the definition: [[rpms.unsigned]] package = \"{name}\", reason = \"…\"")
        };
        let help = match self {
            Self::Idle { .. } => "remove its entry under `[[rpms.unsigned]]`".to_owned(),
            Self::Unsigned { .. } => format!(
                "fetch signed builds; to take one as it is, give it {}",
                exception("NAME")
            ),
            Self::Unknown { .. } => format!(
                "list the key's file under `rpms.keys` or after `--key`, once you know whose it is; to take a \
                 package without, give it {}",
                exception("NAME")
            ),
            Self::Package { name, verdict, .. } => match verdict.as_ref() {
                Verdict::Weak { .. } => format!(
                    "fetch a build of it signed over SHA-256 or better; to take it as if unsigned, give it {}",
                    exception(name)
                ),
                Verdict::Bad { fault, .. } => match fault {
                    Fault::Forged | Fault::Malformed { .. } => {
                        "fetch the package again from its distribution; if that does not help, do not use it"
                            .to_owned()
                    }
                    Fault::Unsupported(_) => {
                        "fetch a build of it that is signed with RSA, ECDSA or EdDSA".to_owned()
                    }
                    _ => "fetch a newer build of it, or the newest form of the key from its owner".to_owned(),
                },
                _ => return None,
            },
        };
        Some(Box::new(help))
    }
}

impl RpmSet {
    /// Holds every package's signatures against `keyring`: the verdicts in the order of the packages.
    ///
    /// An exception lets a package pass that no listed key has signed over a strong hash. It never lets pass
    /// what a listed key's signature speaks against.
    ///
    /// # Errors
    /// Where there is neither key nor exception; where packages do not pass or exceptions are not needed: all
    /// are named.
    pub fn verify_signatures(
        &self,
        keyring: &Keyring,
        policy: &Policy,
        exceptions: &[Exception],
    ) -> Result<Vec<Checked>, SetError> {
        if keyring.is_empty() && exceptions.is_empty() {
            return Err(SetError::NoKeys);
        }
        let verdicts: Vec<_> = self
            .packages()
            .par_iter()
            .with_max_len(1)
            .map(|package| verify(package, keyring, policy))
            .collect();
        let mut problems = Vec::new();
        let mut unsigned = Vec::new();
        let mut unknown: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut unread = Vec::new();
        let mut checked = Vec::with_capacity(verdicts.len());
        let mut used = vec![false; exceptions.len()];
        for (package, verdict) in self.packages().iter().zip(verdicts) {
            let verdict = match verdict {
                Ok(verdict) => verdict,
                Err(error) => {
                    unread.push(error);
                    continue;
                }
            };
            let number = exceptions
                .iter()
                .position(|exception| exception.package == package.nevra.name);
            let excepted = match verdict {
                Verdict::Signed { .. } => None,
                Verdict::Unsigned | Verdict::Unknown { .. } | Verdict::Weak { .. } if number.is_some() => {
                    number
                }
                verdict => {
                    let file = package.path.file_name().unwrap_or_default();
                    let file = file.to_string_lossy().into_owned();
                    match verdict {
                        Verdict::Unsigned => unsigned.push(file),
                        Verdict::Unknown { key_ids } => {
                            unknown.entry(key_ids.join(" and ")).or_default().push(file);
                        }
                        _ => problems.push(Untrusted::Package {
                            file,
                            name: package.nevra.name.clone(),
                            verdict: Box::new(verdict),
                        }),
                    }
                    // What is wrong with it is said; that its exception does not help is no further news.
                    number.into_iter().for_each(|number| used[number] = true);
                    continue;
                }
            };
            checked.push(Checked {
                verdict,
                excepted: excepted.map(|number| {
                    used[number] = true;
                    exceptions[number].reason.clone()
                }),
            });
        }
        if !unread.is_empty() {
            return Err(SetError::Packages { problems: unread });
        }
        if !unsigned.is_empty() {
            problems.push(Untrusted::Unsigned { files: unsigned });
        }
        let strangers = unknown.into_iter();
        problems.extend(strangers.map(|(key_ids, files)| Untrusted::Unknown { key_ids, files }));
        for (exception, _) in exceptions.iter().zip(used).filter(|(_, used)| !used) {
            let mut packages = self.packages().iter();
            let there = packages.any(|package| package.nevra.name == exception.package);
            problems.push(Untrusted::Idle {
                package: exception.package.clone(),
                reason: exception.reason.clone(),
                why: if there {
                    "a listed key has signed the package"
                } else {
                    "the set has no such package"
                },
            });
        }
        match problems.is_empty() {
            true => Ok(checked),
            false => Err(SetError::Untrusted { problems }),
        }
    }
}
