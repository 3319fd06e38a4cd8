//! Writes a volume: superblock, data, metadata.
//!
//! The data comes first, as it is compressed: where it ends is known only then. The metadata lies
//! behind it in one piece, so that a walk through the tree reads few blocks.

use std::io::{BufWriter, Seek, SeekFrom, Write};

use super::cache::{ClusterCache, NoCache};
use super::cluster;
use super::data;
use super::error::Error;
use super::format::{
    BLOCK, COMPACT_SIZE, EXTENDED_SIZE, INCOMPAT_BIG_PCLUSTER, INCOMPAT_CHUNKED, INCOMPAT_FRAGMENTS,
    INCOMPAT_ZERO_PADDING, INCOMPAT_ZTAILPACKING, InodeHead, Layout, NULL_ADDR, Super,
};
use super::metadata::Metadata;
use super::model::{Compression, Content, FileSystem, InodeKind, Options, Stats};
use super::plan::Plan;
use super::xattr::{Counter, SharedXattrs};

/// The largest cluster that the kernel reads.
const CLUSTER_MAX: u32 = 1 << 20;

/// Writes `tree` as an erofs volume to `out`, from its present position on. The same tree and
/// options give the same bytes, whatever the number of threads.
///
/// Uses as many threads as the current rayon pool has. Memory: the tree's metadata, at most 4 KiB
/// of packed tail a file, and about 20 MiB a thread.
///
/// # Errors
/// Where the tree cannot be stored, its content not be read or the volume not be written. `out`
/// is left incomplete then.
pub fn write<C: Content, W: Write + Seek>(
    tree: &FileSystem<C>,
    options: &Options,
    out: W,
) -> Result<Stats, Error> {
    write_cached(tree, options, &NoCache, out)
}

/// As [`write()`], but takes the clusters of files whose digest is known from `cache` where it has
/// them, and gives it those that it has not. The bytes written are the same.
///
/// # Errors
/// As [`write()`].
pub fn write_cached<C: Content, W: Write + Seek>(
    tree: &FileSystem<C>,
    options: &Options,
    cache: &dyn ClusterCache,
    mut out: W,
) -> Result<Stats, Error> {
    check(options)?;
    let plan = Plan::new(tree)?;
    let shared = count_xattrs(tree, &plan)?;
    let heads = head_lengths(tree, &plan, options, &shared)?;
    let mut stats = Stats {
        inodes: plan.order.len() as u64,
        ..Stats::default()
    };

    let start = out.stream_position().map_err(Error::Write)?;
    out.write_all(&[0; BLOCK]).map_err(Error::Write)?;
    let worker = data::Worker {
        tree,
        plan: &plan,
        options,
        cache,
        heads: &heads,
    };
    let data::Written {
        stored,
        packed,
        next: meta_block,
    } = data::write(&worker, 1, &mut out, &mut stats)?;
    let metadata = Metadata {
        tree,
        plan: &plan,
        options,
        shared: &shared,
        heads: &heads,
        stored: &stored,
        packed: packed.as_ref(),
    };
    let places = metadata.place();
    let blocks = u32::try_from(places.length)
        .ok()
        .and_then(|length| meta_block.checked_add(length))
        .filter(|blocks| *blocks < NULL_ADDR)
        .ok_or(Error::TooLarge)?;
    let mut buffered = BufWriter::with_capacity(1 << 20, &mut out);
    metadata.write(&places, meta_block, &mut buffered)?;
    buffered.flush().map_err(Error::Write)?;
    drop(buffered);

    let mut volume_name = [0; 16];
    volume_name[..options.volume_name.len()].copy_from_slice(&options.volume_name);
    let superblock = Super {
        incompat: incompat(options, packed.is_some(), stats.chunked_files > 0),
        root_nid: places.root_nid(),
        inodes: stats.inodes,
        build_time: options.build_time,
        blocks,
        meta_block,
        // Inside of the area, whose end has been checked.
        xattr_block: meta_block + (places.shared / BLOCK as u64) as u32,
        uuid: options.uuid,
        volume_name,
        algorithms: cluster::algorithm(options.compression).map_or(0, |algorithm| 1 << algorithm as u16),
        packed_nid: places.packed_nid(),
    };
    let end = out.stream_position().map_err(Error::Write)?;
    out.seek(SeekFrom::Start(start)).map_err(Error::Write)?;
    out.write_all(&superblock.encode(&cluster::parameters(options)))
        .map_err(Error::Write)?;
    out.seek(SeekFrom::Start(end)).map_err(Error::Write)?;
    out.flush().map_err(Error::Write)?;
    stats.blocks = u64::from(blocks);
    stats.metadata_blocks = places.length;
    Ok(stats)
}

fn check(options: &Options) -> Result<(), Error> {
    let size = options.cluster_size;
    if size == 0 || size > CLUSTER_MAX || !size.is_multiple_of(BLOCK as u32) {
        return Err(Error::Options(
            "the cluster size of an erofs volume must be a multiple of 4096, from 4096 to 1048576",
        ));
    }
    if options.volume_name.len() > 16 || options.volume_name.contains(&0) {
        return Err(Error::Options(
            "the name of an erofs volume has at most 16 bytes, none of them zero",
        ));
    }
    let compresses = data::compresses(options);
    if options.dedupe && !compresses {
        return Err(Error::Options(
            "`dedupe` of an erofs volume is about compressed clusters: choose a compression, or chunks",
        ));
    }
    if let Some(size) = options.chunk_size {
        if compresses {
            return Err(Error::Options("chunks of an erofs volume are not compressed"));
        }
        if !size.is_power_of_two() || !(BLOCK as u32..=CLUSTER_MAX).contains(&size) {
            return Err(Error::Options(
                "the chunks of an erofs volume must have a power of two of bytes, from 4096 to 1048576",
            ));
        }
    }
    if options.fragments && !compresses {
        return Err(Error::Options(
            "fragments of an erofs volume are compressed: choose a compression",
        ));
    }
    match options.compression {
        Compression::Lz4hc(level) if !(1..=12).contains(&level) => {
            Err(Error::Options("the level of LZ4 HC goes from 1 to 12"))
        }
        Compression::Deflate(level) if !(1..=9).contains(&level) => {
            Err(Error::Options("the level of Deflate goes from 1 to 9"))
        }
        Compression::Zstd(level) if !(1..=22).contains(&level) => {
            Err(Error::Options("the level of Zstandard goes from 1 to 22"))
        }
        _ => Ok(()),
    }
}

fn incompat(options: &Options, has_fragments: bool, has_chunks: bool) -> u32 {
    if !data::compresses(options) {
        return if has_chunks { INCOMPAT_CHUNKED } else { 0 };
    }
    let tail = match options.tail_packing && !options.fragments {
        true => INCOMPAT_ZTAILPACKING,
        false => 0,
    };
    let fragments = match has_fragments || options.dedupe {
        true => INCOMPAT_FRAGMENTS,
        false => 0,
    };
    INCOMPAT_ZERO_PADDING | INCOMPAT_BIG_PCLUSTER | tail | fragments
}

fn count_xattrs<C>(tree: &FileSystem<C>, plan: &Plan) -> Result<SharedXattrs, Error> {
    let mut counter = Counter::default();
    for &index in &plan.order {
        counter
            .add(&tree.inodes[index].xattrs)
            .map_err(|fault| Error::Entry {
                path: plan.path(index),
                fault,
            })?;
    }
    Ok(counter.finish())
}

/// Lengths of the inodes with their extended attributes, by index.
fn head_lengths<C: Content>(
    tree: &FileSystem<C>,
    plan: &Plan,
    options: &Options,
    shared: &SharedXattrs,
) -> Result<Vec<usize>, Error> {
    let mut lengths = vec![0; tree.inodes.len()];
    for &index in &plan.order {
        let inode = &tree.inodes[index];
        let body = shared.body(&inode.xattrs).map_err(|fault| Error::Entry {
            path: plan.path(index),
            fault,
        })?;
        let head = InodeHead {
            layout: Layout::FlatPlain,
            xattr_count: 0,
            mode: 0,
            nlink: plan.links[index],
            size: match &inode.kind {
                InodeKind::File(content) => content.size(),
                // The plan has checked that all others stay below 4 GiB.
                _ => 0,
            },
            union: 0,
            ino: 0,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
        };
        let own = match head.is_compact(options.build_time) {
            true => COMPACT_SIZE,
            false => EXTENDED_SIZE,
        };
        lengths[index] = own + body.len();
    }
    Ok(lengths)
}
