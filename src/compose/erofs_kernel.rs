//! Whether the image's kernel reads the erofs that `[outputs.erofs]` asks for.

use super::ComposeError;
use crate::definition::plan::{Erofs, ErofsCodec};
use crate::formats::kconfig;
use crate::tree::Tree;
use crate::tree::path::TreePath;

/// Major and minor version of a kernel.
type Version = (u32, u32);

/// What a kernel must be at least, and for which setting, where one asks for more than any supported kernel has.
fn needs(erofs: &Erofs) -> Vec<(&'static str, Version)> {
    let compression = match erofs.compression {
        ErofsCodec::None => None,
        // The ends of files stand behind inodes.
        ErofsCodec::Lz4 | ErofsCodec::Lz4hc => Some((5, 17)),
        ErofsCodec::Deflate => Some((6, 6)),
        ErofsCodec::Zstd => Some((6, 10)),
    };
    [
        ("compression", compression),
        ("fragments", erofs.fragments.then_some((6, 1))),
        ("dedupe", erofs.dedupe.then_some((6, 1))),
        ("chunk", erofs.chunk.map(|_| (5, 15))),
    ]
    .into_iter()
    .filter_map(|(setting, since)| Some((setting, since?)))
    .collect()
}

/// The version at the start of a release such as `6.12.48-cloud-amd64`.
fn version(release: &str) -> Option<Version> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The first setting that `release` is too old for.
fn too_old(erofs: &Erofs, release: &str) -> Option<(&'static str, Version)> {
    let version = version(release)?;
    needs(erofs).into_iter().find(|(_, since)| version < *since)
}

/// What the kernel must have been built with.
fn options(erofs: &Erofs) -> &'static [&'static str] {
    match erofs.compression {
        ErofsCodec::None => &[],
        ErofsCodec::Lz4 | ErofsCodec::Lz4hc => &["CONFIG_EROFS_FS_ZIP"],
        ErofsCodec::Deflate => &["CONFIG_EROFS_FS_ZIP", "CONFIG_EROFS_FS_ZIP_DEFLATE"],
        ErofsCodec::Zstd => &["CONFIG_EROFS_FS_ZIP", "CONFIG_EROFS_FS_ZIP_ZSTD"],
    }
}

/// Holds the kernel `release`, whose files are in `directory`, against what /usr will be. A release that begins with no
/// version and a configuration that is not in the tree say nothing.
pub(super) fn check(
    erofs: &Erofs,
    release: &str,
    directory: &TreePath,
    tree: &Tree,
) -> Result<(), ComposeError> {
    if let Some((setting, (major, minor))) = too_old(erofs, release) {
        return Err(ComposeError::OldForErofs {
            kernel: release.to_owned(),
            setting,
            since: format!("{major}.{minor}"),
        });
    }
    let path = directory.join_name(b"config");
    let (options, Some(file)) = (options(erofs), tree.file(&path)) else {
        return Ok(());
    };
    if options.is_empty() {
        return Ok(());
    }
    let bytes = file.blob.read_all().map_err(|source| ComposeError::Stored {
        path: path.clone(),
        source,
    })?;
    let config = kconfig::Config::parse(&String::from_utf8_lossy(&bytes)).map_err(|source| {
        ComposeError::KernelFragment {
            file: path.to_string(),
            source,
        }
    })?;
    match options
        .iter()
        .find(|option| *config.get(option) == kconfig::Value::Off)
    {
        Some(option) => Err(ComposeError::NoErofsOption {
            kernel: directory.to_string(),
            option,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::values::ByteSize;

    #[test]
    fn a_kernel_that_is_too_old_is_named_with_the_setting() {
        let plain = Erofs {
            compression: ErofsCodec::Lz4hc,
            level: None,
            cluster: ByteSize(65536),
            fragments: false,
            dedupe: false,
            chunk: None,
        };
        let with = |change: &dyn Fn(&mut Erofs)| {
            let mut erofs = plain.clone();
            change(&mut erofs);
            erofs
        };
        for (erofs, release, expected) in [
            (plain.clone(), "5.17.0", None),
            (plain.clone(), "5.16.9-x", Some(("compression", (5, 17)))),
            (
                with(&|e| e.compression = ErofsCodec::Zstd),
                "6.9.12",
                Some(("compression", (6, 10))),
            ),
            (
                with(&|e| e.compression = ErofsCodec::Zstd),
                "6.12.48+deb13-cloud-amd64",
                None,
            ),
            (
                with(&|e| e.compression = ErofsCodec::Deflate),
                "6.5",
                Some(("compression", (6, 6))),
            ),
            (
                with(&|e| e.fragments = true),
                "6.0.19",
                Some(("fragments", (6, 1))),
            ),
            (with(&|e| e.dedupe = true), "5.19", Some(("dedupe", (6, 1)))),
            (with(&|e| e.fragments = true), "6.1.0-44", None),
            (
                with(&|e| {
                    e.compression = ErofsCodec::None;
                    e.chunk = Some(ByteSize(4096));
                }),
                "5.14.0",
                Some(("chunk", (5, 15))),
            ),
            (with(&|e| e.fragments = true), "mainline", None),
        ] {
            assert_eq!(too_old(&erofs, release), expected, "{release}");
        }
    }
}
