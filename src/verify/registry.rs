//! The checks: one function each, with a name, what it proves, why that matters and what to do where it does not hold.

use super::{
    Notes, Subject, addons, commit, deltas, disk, equal, esp, kernel, luks, manifest, outdir, pcrs, policies,
    sbat, sealed, signatures, signed, table,
};

/// A check.
pub struct Check {
    /// What it is called in reports: stable, lower case.
    pub name: &'static str,
    /// What is true if it holds.
    pub proves: &'static str,
    /// What follows if it does not.
    pub why: &'static str,
    /// What to do then.
    pub way_out: &'static str,
    pub(super) run: fn(&Subject, &mut Notes),
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const BUILD_AGAIN: &str = "copy the image again from where it was built, or build it again";
const DO_NOT_USE: &str = "do not use the image; build it again, and find out who or what changed it";

/// All checks, in the order of reports.
pub const CHECKS: &[Check] = &[
    Check {
        name: "sums",
        proves: "every file that SHA256SUMS lists is there and has its digest",
        why: "the files are not those that were built",
        way_out: BUILD_AGAIN,
        run: outdir::sums,
    },
    Check {
        name: "manifest",
        proves: "manifest.json can be read, and every output that it lists has the size and digest that it says",
        why: "what the manifest says of this image is about another one",
        way_out: BUILD_AGAIN,
        run: manifest::outputs,
    },
    Check {
        name: "disk-images",
        proves: "every disk image can be read, a VHD's footer is whole and tells its size, and all images hold the same disk",
        why: "a cloud or hypervisor refuses the image, or another disk than the tested one boots there",
        way_out: BUILD_AGAIN,
        run: disk::images,
    },
    Check {
        name: "gpt",
        proves: "both copies of the partition table are whole and say the same; partitions are aligned and do not overlap",
        why: "firmware or system repair a table that contradicts itself, each its own way, or find no partition",
        way_out: BUILD_AGAIN,
        run: table::gpt,
    },
    Check {
        name: "partitions",
        proves: "every partition has a known type, the label and attributes that go with it, and is the one that the manifest lists",
        why: "the system finds its partitions by type and label: a planted one is taken for its own",
        way_out: DO_NOT_USE,
        run: table::partitions,
    },
    Check {
        name: "empty-space",
        proves: "outside partitions, behind the contents of sealed ones and in empty slots there is nothing but zeroes",
        why: "something was put where no check looks and no file system shows it",
        way_out: DO_NOT_USE,
        run: table::empty_space,
    },
    Check {
        name: "esp",
        proves: "the EFI system partition is a sound FAT32 volume and holds a boot loader, kernel images with boot counters and nothing unexpected",
        why: "firmware and boot loader take from there whatever lies there: kernel images, add-ons, credentials",
        way_out: DO_NOT_USE,
        run: esp::esp,
    },
    Check {
        name: "uki",
        proves: "every kernel image is a whole PE file with the sections that it needs, each once, and a command line that seals /usr",
        why: "the kernel would start without what was built for it, or without the seal",
        way_out: DO_NOT_USE,
        run: kernel::uki,
    },
    Check {
        name: "signatures",
        proves: "boot loader, kernel images and add-ons are signed by a given certificate of db, and none is forbidden",
        why: "firmware that enforces Secure Boot does not start them, or somebody changed them after they were signed",
        way_out: "give the certificates that the image is signed for; else sign it again from a build that can be trusted",
        run: signatures::signatures,
    },
    Check {
        name: "addons",
        proves: "no add-on in the image opens a way into the machine, and no certificate of db signed one beside it that does",
        why: "whoever lays the add-on on a machine's EFI system partition is let in",
        way_out: "sign debug add-ons with a certificate that is in no production machine's db",
        run: addons::addons,
    },
    Check {
        name: "sbat",
        proves: "every program that firmware starts has SBAT data, and kernel images have all that the EFI stub of /usr has, of no lower generation",
        why: "a revocation by generation does not reach the image, or reaches it although it is mended",
        way_out: BUILD_AGAIN,
        run: sbat::sbat,
    },
    Check {
        name: "boot-files",
        proves: "boot loader, EFI stub, kernel and os-release of the boot path are those of the sealed /usr",
        why: "what starts the system is not what was built with it",
        way_out: DO_NOT_USE,
        run: kernel::boot_files,
    },
    Check {
        name: "root-hash",
        proves: "hash tree and data of /usr give the root hash on the kernel image's command line",
        why: "the machine stops at the first block that does not fit, or does not boot at all",
        way_out: BUILD_AGAIN,
        run: sealed::root_hash,
    },
    Check {
        name: "verity-signature",
        proves: "the signature of the root hash, in its partition and on the command line, is by a given certificate and for this root hash",
        why: "a kernel that demands the signature refuses /usr, or it believes another one",
        way_out: "give the certificate that the root hash is signed for; else sign it again from a build that can be trusted",
        run: signed::root_hash,
    },
    Check {
        name: "partition-uuids",
        proves: "the UUIDs of /usr's partitions are the two halves of the root hash, by which they are found",
        why: "the system does not find its /usr, or finds another one",
        way_out: DO_NOT_USE,
        run: sealed::partition_uuids,
    },
    Check {
        name: "commit",
        proves: "the ref leads to the manifest's commit, every object of the commit has its checksum, and its metadata names this /usr",
        why: "clients that pull the commit get something else, or nothing",
        way_out: BUILD_AGAIN,
        run: commit::commit,
    },
    Check {
        name: "deltas",
        proves: "every static delta is whole, leads to a commit of the repository, and makes objects of it that have their checksums",
        why: "machines refuse the delta, and fetch every object by itself or do not update",
        way_out: "write the delta again: `hullwright delta EARLIER OUTDIR`",
        run: deltas::deltas,
    },
    Check {
        name: "commit-signature",
        proves: "the commit is signed by the given key",
        why: "clients that demand the signature do not pull the commit",
        way_out: "give the public key that commits are signed for; else sign it again from a build that can be trusted",
        run: signed::commit_signature,
    },
    Check {
        name: "usr-is-commit",
        proves: "the sealed /usr holds exactly the commit's /usr: path, type, mode, uid, gid, content, target and extended attributes",
        why: "disk and commit are two systems: what was tested on one is not what the other runs",
        way_out: "build it again: both come from one tree, so one of them was changed afterwards",
        run: equal::usr_is_commit,
    },
    Check {
        name: "manifest-facts",
        proves: "root hash, salt, command line, kernel release and partitions of manifest.json are those of the disk",
        why: "decisions that rest on the manifest (updates, attestation, inventories) are about another image",
        way_out: BUILD_AGAIN,
        run: manifest::facts,
    },
    Check {
        name: "pcrs",
        proves: "the PCR values and events that the manifest predicts are those that a boot of the disk's files gives",
        why: "secrets that are bound to the predicted values cannot be had, or attestation fails",
        way_out: BUILD_AGAIN,
        run: pcrs::pcrs,
    },
    Check {
        name: "pcr-policies",
        proves: "every signed PCR policy in a kernel image is by the key beside it, over PCR 11 alone, and for a moment of this image's boot",
        why: "what is bound to the PCR key opens for a system that was not built, or does not open at all",
        way_out: DO_NOT_USE,
        run: policies::policies,
    },
    Check {
        name: "luks",
        proves: "encrypted partitions have two intact, equal LUKS2 headers with AES-256-XTS and nothing else, as the manifest says",
        why: "a header with another cipher, a null cipher or foreign keys gives away what the machine writes",
        way_out: DO_NOT_USE,
        run: luks::luks,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_stable_and_differ() {
        let names: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), names.len());
        for check in CHECKS {
            let plain = |c: char| c.is_ascii_lowercase() || c == '-';
            assert!(check.name.chars().all(plain), "{}", check.name);
            for text in [check.proves, check.why, check.way_out] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{text}");
            }
        }
    }
}
