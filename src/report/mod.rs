//! What a build says: its progress, its manifest, its sums.

mod manifest;
mod progress;
mod sums;
pub mod timings;
mod traffic;

pub use manifest::{
    Manifest, ManifestCommit, ManifestDifference, ManifestFirmwarePcrs, ManifestKernel, ManifestOpen,
    ManifestOutput, ManifestPackage, ManifestPartition, ManifestPcrEvent, ManifestPcrs, ManifestSignature,
    ManifestUkiPcr, ManifestVolume,
};
pub use progress::{Progress, Stage};
pub use sums::{file_digest, write_sums};
pub use traffic::{Counters, Traffic};
