//! A plan whose sources have done their part: what is left of it are the keys and certificates that seal the image.

use std::path::{Path, PathBuf};

use super::measured_boot::PcrPublic;
use super::plan::{FileContent, Plan, Recovery, RpmSource};
use super::sealing::{CommitSigning, KeyPair, KeySource};
use super::values::SourcePath;

/// A public file that sealing reads: where it lies, and its name beside the spent definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub from: PathBuf,
    /// Below the definition's directory.
    pub name: String,
}

struct Keeping {
    directory: String,
    kept: Vec<Kept>,
}

impl Keeping {
    /// Names the file at `path` anew.
    fn keep(&mut self, path: &mut SourcePath) {
        let from = path.as_path().to_owned();
        let known = self.kept.iter().find(|kept| kept.from == from);
        let name = match known {
            Some(kept) => kept.name.clone(),
            None => {
                let file = from
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                let mut name = format!("{}/{file}", self.directory);
                if self.kept.iter().any(|kept| kept.name == name) {
                    name = format!("{}/{}-{file}", self.directory, self.kept.len() + 1);
                }
                self.kept.push(Kept {
                    from,
                    name: name.clone(),
                });
                name
            }
        };
        *path = SourcePath::renamed(name);
    }

    fn pair(&mut self, pair: &mut KeyPair) {
        self.keep(&mut pair.cert);
        if let Some(key) = &mut pair.key {
            stay(key);
        }
    }
}

/// Names a private key by its absolute path: it is never copied.
fn stay(key: &mut KeySource) {
    if let KeySource::File(path) = key {
        absolute(path);
    }
}

fn absolute(path: &mut SourcePath) {
    let there = std::path::absolute(path.as_path()).unwrap_or_else(|_| path.as_path().to_owned());
    *path = SourcePath::renamed(there.to_string_lossy().into_owned());
}

impl Plan {
    /// The files and directories that are read before anything is sealed.
    pub fn composed_from(&self) -> Vec<&SourcePath> {
        let files = self.files.iter().filter_map(|file| match &file.content {
            FileContent::Source(path) => Some(path),
            FileContent::Text(_) => None,
        });
        let escrow = match &self.encryption.root.recovery {
            Some(Recovery::Escrow { escrow }) => Some(escrow),
            _ => None,
        };
        let all = self
            .rpms
            .keys
            .iter()
            .chain(&self.kernel.require)
            .chain(self.initrd_overlays());
        let all = all.chain(&self.os.ids).chain(&self.os.overlays);
        all.chain(files).chain(escrow).collect()
    }

    /// The plan as it is wherever its sources lie: they are numbered in place of named. Their contents are a matter of their own.
    pub fn without_places(&self) -> Self {
        let (mut plan, _) = self.spent(Path::new(""));
        let mut count = 0;
        let mut number = |path: &mut SourcePath| {
            count += 1;
            *path = SourcePath::renamed(format!("source {count}"));
        };
        if let Some(RpmSource::Lock(path) | RpmSource::Directory(path)) = &mut plan.rpms.source {
            number(path);
        }
        let initrd = &mut plan.initrd;
        let etc = initrd.etc.persistent.iter_mut().chain(&mut initrd.etc.transient);
        let all = plan.rpms.keys.iter_mut().chain(&mut plan.kernel.require);
        let all = all.chain(&mut initrd.overlays).chain(etc);
        all.chain(&mut plan.os.ids)
            .chain(&mut plan.os.overlays)
            .for_each(&mut number);
        for file in &mut plan.files {
            if let FileContent::Source(path) = &mut file.content {
                number(path);
            }
        }
        if let Some(Recovery::Escrow { escrow }) = &mut plan.encryption.root.recovery {
            number(escrow);
        }
        plan.encryption.root.key_file.iter_mut().for_each(&mut number);
        plan
    }

    /// The keys, certificates and other files that the image is sealed with.
    pub fn sealed_with(&self) -> Vec<PathBuf> {
        let pairs = self.secure_boot.iter().map(|secure_boot| &secure_boot.db);
        let pairs = pairs.chain(&self.verity.pair).chain(&self.release);
        let commit = self.commit.iter().filter_map(|commit| match commit {
            CommitSigning::Key(key) => Some(key),
            CommitSigning::Public(_) => None,
        });
        let measured = self
            .measured_boot
            .iter()
            .filter_map(|measured| measured.key.as_ref());
        let addons = self.uki.addons.iter().filter_map(|addon| addon.signer.as_ref());
        let keys = pairs
            .filter_map(|pair| pair.key.as_ref())
            .chain(commit)
            .chain(measured);
        let keys = keys.chain(addons.map(|signer| &signer.key));
        let files = keys.filter_map(|key| match key {
            KeySource::File(path) => Some(path),
            KeySource::Token(_) => None,
        });
        let files = files.chain(&self.encryption.root.key_file);
        let mut keys: Vec<_> = files.map(|path| path.as_path().to_owned()).collect();
        let (_, kept) = self.spent(Path::new(""));
        keys.extend(kept.into_iter().map(|kept| kept.from));
        keys
    }

    /// The plan with the certificates and public keys that sealing reads under new names below `directory`, and what is
    /// to be copied there; private keys stay where they are.
    pub fn spent(&self, directory: &Path) -> (Self, Vec<Kept>) {
        let mut plan = self.clone();
        let mut keeping = Keeping {
            directory: directory.to_string_lossy().into_owned(),
            kept: Vec::new(),
        };
        if let Some(secure_boot) = &mut plan.secure_boot {
            keeping.pair(&mut secure_boot.db);
            let others = secure_boot.pk.iter_mut().chain(&mut secure_boot.kek);
            let others = others
                .chain(&mut secure_boot.dbx)
                .chain(&mut secure_boot.auto_enroll);
            others.for_each(|path| keeping.keep(path));
        }
        let pairs = plan.verity.pair.iter_mut().chain(&mut plan.release);
        pairs.for_each(|pair| keeping.pair(pair));
        match &mut plan.commit {
            Some(CommitSigning::Key(key)) => stay(key),
            Some(CommitSigning::Public(path)) => keeping.keep(path),
            None => {}
        }
        if let Some(measured) = &mut plan.measured_boot {
            measured.key.iter_mut().for_each(stay);
            if let Some(PcrPublic::Public(path) | PcrPublic::Cert(path)) = &mut measured.public {
                keeping.keep(path);
            }
        }
        for signer in plan
            .uki
            .addons
            .iter_mut()
            .filter_map(|addon| addon.signer.as_mut())
        {
            stay(&mut signer.key);
            keeping.keep(&mut signer.cert);
        }
        plan.encryption.root.key_file.iter_mut().for_each(absolute);
        (plan, keeping.kept)
    }
}
