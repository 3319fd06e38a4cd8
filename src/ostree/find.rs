//! Which repository and which commit people mean.

use std::path::Path;

use super::Error;
use super::read::Repo;
use crate::store::Digest;

impl Repo {
    /// Opens the repository at `path`, or the one in the output directory `path`.
    ///
    /// # Errors
    /// Where there is neither, or it cannot be read.
    pub fn find(path: &Path) -> Result<Self, Error> {
        let places = [path.to_owned(), path.join("repo")];
        match places.iter().find(|place| place.join("config").is_file()) {
            Some(place) => Self::open(place),
            None => Err(Error::NoRepository {
                path: path.to_owned(),
            }),
        }
    }

    /// The commit on the ref `reference`, where the repository has it, else on its only ref.
    ///
    /// # Errors
    /// Where it has several refs, and not that one; a ref that leads to no commit.
    pub fn head(&self, reference: &str) -> Result<Digest, Error> {
        let refs = self.refs()?;
        let named = refs.iter().find(|(name, _)| name == reference);
        let commit = match (named, &refs[..]) {
            (Some((_, commit)), _) | (None, [(_, commit)]) => *commit,
            _ => {
                return Err(Error::WhichRef {
                    path: self.layout.path.clone(),
                    found: match refs.is_empty() {
                        true => "no ref".to_owned(),
                        false => {
                            let names: Vec<_> = refs.iter().map(|(name, _)| name.as_str()).collect();
                            format!("the refs {}", names.join(", "))
                        }
                    },
                });
            }
        };
        self.commit(&commit).map(|_| commit)
    }
}
