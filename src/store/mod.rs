//! Contents on disk, addressed by digest.

mod blob;
mod digest;

pub use blob::{Blob, BlobReader};
pub use digest::{Digest, ParseDigestError, hex, unhex};
