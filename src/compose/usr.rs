//! The sealed `/usr`: a file system and its hash tree.

use std::fs::File;

use super::ComposeError;
use super::outputs;
use super::workspace::{Workspace, output};
use crate::definition::plan::{ErofsCodec, Plan};
use crate::disk::{derive_uuid, usr};
use crate::formats::{erofs, fec, verity};
use crate::report::file_digest;
use crate::store::{Digest, Store};
use crate::tree::path::TreePath;
use crate::tree::{Tree, seal};

/// A sealed `/usr`, on disk.
pub struct SealedUsr {
    pub erofs: File,
    pub verity: File,
    /// Bytes.
    pub size: u64,
    pub verity_size: u64,
    /// Of the files.
    pub sha256: Digest,
    pub verity_sha256: Digest,
    pub root_hash: Vec<u8>,
    pub salt: Digest,
}

/// Writes `/usr` as an erofs and its hash tree. Salt and UUIDs derive from what they seal.
pub fn seal(
    plan: &Plan,
    tree: &Tree,
    store: &Store,
    workspace: &Workspace,
) -> Result<SealedUsr, ComposeError> {
    let path = TreePath::literal("/usr");
    let directory = tree.get(&path).ok_or(ComposeError::NoUsr)?;
    let seed = seal::digest(tree, &path).0;
    let level = |default: u8| plan.outputs.erofs.level.unwrap_or(default);
    let options = erofs::Options {
        uuid: derive_uuid("erofs", &seed).into_bytes(),
        build_time: plan.image.released.epoch(),
        compression: match plan.outputs.erofs.compression {
            ErofsCodec::None => erofs::Compression::None,
            ErofsCodec::Lz4 => erofs::Compression::Lz4,
            ErofsCodec::Lz4hc => erofs::Compression::Lz4hc(level(9)),
            ErofsCodec::Deflate => erofs::Compression::Deflate(level(6)),
            ErofsCodec::Zstd => erofs::Compression::Zstd(level(3)),
        },
        cluster_size: u32::try_from(plan.outputs.erofs.cluster.0).unwrap_or(u32::MAX),
        fragments: plan.outputs.erofs.fragments,
        dedupe: plan.outputs.erofs.dedupe,
        chunk_size: plan
            .outputs
            .erofs
            .chunk
            .map(|chunk| u32::try_from(chunk.0).unwrap_or(u32::MAX)),
        ..erofs::Options::default()
    };
    let stem = plan.image.stem();
    let file = workspace.create(&format!("{stem}.usr.erofs"))?;
    let clusters = store.values(usr::CLUSTERS)?;
    usr::write_erofs(directory, &options, &file, &clusters)?;
    clusters.keep()?;
    let size = workspace.size(&file)?;

    let salt = Digest::of(&[b"hullwright verity salt\0".as_slice(), &seed].concat());
    let params = verity::Params {
        algorithm: outputs::algorithm(plan),
        salt: salt.0.to_vec(),
        uuid: derive_uuid("verity", &seed),
    };
    let hashes = workspace.create(&format!("{stem}.usr.verity"))?;
    let root_hash = verity::format(&file, size, &hashes, &params)?;
    if let Some(roots) = plan.verity.fec_roots {
        let hash_size = verity::hash_device_size(size, params.algorithm);
        let protected = fec::Protected {
            data: &file,
            data_size: size,
            hash: &hashes,
            hash_size,
            roots,
        };
        protected.write(&hashes, hash_size)?;
    }
    let digest = |name: &str| {
        let path = workspace.path(name);
        file_digest(&path).map_err(|source| output(&path, source))
    };
    let (sha256, verity_sha256) = rayon::join(
        || digest(&format!("{stem}.usr.erofs")),
        || digest(&format!("{stem}.usr.verity")),
    );
    Ok(SealedUsr {
        sha256: sha256?,
        verity_sha256: verity_sha256?,
        verity_size: workspace.size(&hashes)?,
        erofs: file,
        verity: hashes,
        size,
        root_hash,
        salt,
    })
}
