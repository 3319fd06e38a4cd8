//! Partition types and the identifiers that are derived instead of drawn.
//!
//! Types: UAPI.2 *Discoverable Partitions Specification*.

use sha2::{Digest as _, Sha256};
use uuid::{Builder, Uuid, uuid};

/// The machine an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arch {
    #[serde(rename = "x86_64")]
    X86_64,
    Aarch64,
}

/// Where boot loaders look for entries beside the ESP.
const XBOOTLDR: Uuid = uuid!("bc13c2ff-59e6-4262-a352-b275fd6f7172");

/// What a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Esp,
    Usr,
    UsrVerity,
    /// The signature of the hash tree's root hash.
    UsrVeritySig,
    Root,
    /// What a definition declares beside.
    Other,
}

impl Role {
    /// The partition type's GUID.
    pub fn type_uuid(self, arch: Arch) -> Uuid {
        match (self, arch) {
            (Self::Esp, _) => uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"),
            (Self::Usr, Arch::X86_64) => uuid!("8484680c-9521-48c6-9c11-b0720656f69e"),
            (Self::Usr, Arch::Aarch64) => uuid!("b0e01050-ee5f-4390-949a-9101b17104e9"),
            (Self::UsrVerity, Arch::X86_64) => uuid!("77ff5f63-e7b6-4633-acf4-1565b864c0e6"),
            (Self::UsrVerity, Arch::Aarch64) => uuid!("6e11a4e7-fbca-4ded-b9e9-e1a512bb664e"),
            (Self::UsrVeritySig, Arch::X86_64) => uuid!("e7bb33fb-06cf-4e81-8273-e543b413e2e2"),
            (Self::UsrVeritySig, Arch::Aarch64) => uuid!("c23ce4ff-44bd-4b00-b2d4-b41b3419e02a"),
            (Self::Root, Arch::X86_64) => uuid!("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"),
            (Self::Root, Arch::Aarch64) => uuid!("b921b045-1df0-41c3-af44-4c6f280d3fae"),
            // Each has one of its own; this is what systemd calls `linux-generic`.
            (Self::Other, _) => uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4"),
        }
    }

    /// Whether `kind` is a type that machines find the layout's own partitions, or further boot entries, by.
    pub fn is_reserved(kind: Uuid) -> bool {
        let own = [
            Self::Esp,
            Self::Usr,
            Self::UsrVerity,
            Self::UsrVeritySig,
            Self::Root,
        ];
        let of = |arch| own.into_iter().any(|role| role.type_uuid(arch) == kind);
        kind == XBOOTLDR || of(Arch::X86_64) || of(Arch::Aarch64)
    }

    /// Whether verity covers it, so that nothing may ever write to it.
    pub fn is_sealed(self) -> bool {
        matches!(self, Self::Usr | Self::UsrVerity | Self::UsrVeritySig)
    }

    /// The type's name in `repart.d` on a machine of the image's own architecture.
    pub fn name(self) -> &'static str {
        match self {
            Self::Esp => "esp",
            Self::Usr => "usr",
            Self::UsrVerity => "usr-verity",
            Self::UsrVeritySig => "usr-verity-sig",
            Self::Root => "root",
            Self::Other => "other",
        }
    }
}

/// A UUID (version 8) that follows from `seed` alone; another for every `namespace`, which says
/// what it names.
pub fn derive_uuid(namespace: &str, seed: &[u8]) -> Uuid {
    Builder::from_custom_bytes(derive(namespace, seed)).into_uuid()
}

/// 16 bytes for `namespace` from `seed`.
pub(super) fn derive(namespace: &str, seed: &[u8]) -> [u8; 16] {
    let digest = Sha256::new()
        .chain_update((namespace.len() as u64).to_le_bytes())
        .chain_update(namespace)
        .chain_update(seed)
        .finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_uuids_stay_and_differ_by_namespace_and_seed() {
        let uuid = derive_uuid("disk", b"seed");
        assert_eq!(uuid.to_string(), "229b1f8a-7ee2-8db6-84dd-2e0b62ad0e93");
        assert_ne!(derive_uuid("esp", b"seed"), uuid);
        assert_ne!(derive_uuid("disk", b"seed2"), uuid);
        assert_ne!(derive_uuid("disks", b"eed"), uuid);
    }
}
