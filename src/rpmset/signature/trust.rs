//! The verdict on a whole set: every package signed by a listed key, or excepted by name.

use std::fmt;
use std::path::PathBuf;

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

/// Why a set's signatures do not suffice.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    #[error("{}: {verdict}", path.display())]
    Package {
        path: PathBuf,
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

impl miette::Diagnostic for Untrusted {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let exception = |name: &str| {
            format!("add to the definition: [[rpms.unsigned]] package = \"{name}\", reason = \"…\"")
        };
        let help = match self {
            Self::Idle { .. } => "remove its entry under `[[rpms.unsigned]]`".to_owned(),
            Self::Package { name, verdict, .. } => match verdict.as_ref() {
                Verdict::Signed { .. } => return None,
                Verdict::Unsigned => {
                    format!(
                        "fetch a signed build of it; or, to take it as it is, {}",
                        exception(name)
                    )
                }
                Verdict::Unknown { .. } => format!(
                    "list the key's file under `rpms.keys` or after `--key`, once you know whose it is; or, to \
                     take the package without, {}",
                    exception(name)
                ),
                Verdict::Weak { .. } => format!(
                    "fetch a build of it signed over SHA-256 or better; or, to take it as if unsigned, {}",
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
                _ => {
                    problems.push(Untrusted::Package {
                        path: package.path.clone(),
                        name: package.nevra.name.clone(),
                        verdict: Box::new(verdict),
                    });
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
