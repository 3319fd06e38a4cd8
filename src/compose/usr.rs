//! The sealed `/usr`: a file system and its hash tree.

use std::fs::File;
use std::sync::OnceLock;

use super::ComposeError;
use super::outputs;
use super::pool::Pool;
use super::workspace::{Workspace, output};
use crate::definition::plan::{ErofsCodec, Plan};
use crate::disk::{CHUNK_SIZE, derive_uuid, padded_chunk, usr};
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
    /// Of the chunks that the file system fills on a disk.
    pub chunks: Vec<Digest>,
    pub root_hash: Vec<u8>,
    pub salt: Digest,
}

/// Writes `/usr` as an erofs and its hash tree. Salt and UUIDs derive from what they seal.
pub fn seal(
    plan: &Plan,
    tree: &Tree,
    store: &Store,
    pool: &Pool,
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
    match options.compression {
        // Nothing comes from elsewhere more quickly.
        erofs::Compression::None | erofs::Compression::Lz4 => {
            usr::write_erofs(directory, &options, &file, &clusters)?;
            clusters.keep()?;
        }
        _ => {
            let clusters = pool.clusters(clusters);
            usr::write_erofs(directory, &options, &file, &clusters)?;
            clusters.keep()?;
        }
    }
    let size = workspace.size(&file)?;

    let salt = Digest::of(&[b"hullwright verity salt\0".as_slice(), &seed].concat());
    let params = verity::Params {
        algorithm: outputs::algorithm(plan),
        salt: salt.0.to_vec(),
        uuid: derive_uuid("verity", &seed),
    };
    let hashes = workspace.create(&format!("{stem}.usr.verity"))?;
    let digest = |name: &str| {
        let path = workspace.path(name);
        file_digest(&path).map_err(|source| output(&path, source))
    };
    let chunks: Vec<_> = (0..size.div_ceil(CHUNK_SIZE)).map(|_| OnceLock::new()).collect();
    let see = |number: u64, content: &[u8]| {
        let chunk = usize::try_from(number).ok().and_then(|number| chunks.get(number));
        chunk.map(|chunk| chunk.set(padded_chunk(content)));
    };
    let (root_hash, sha256) = rayon::join(
        || verity::format_seen(&file, size, &hashes, &params, see),
        || digest(&format!("{stem}.usr.erofs")),
    );
    let root_hash = root_hash?;
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
    Ok(SealedUsr {
        sha256: sha256?,
        verity_sha256: digest(&format!("{stem}.usr.verity"))?,
        chunks: chunks.into_iter().filter_map(OnceLock::into_inner).collect(),
        verity_size: workspace.size(&hashes)?,
        erofs: file,
        verity: hashes,
        size,
        root_hash,
        salt,
    })
}
