//! What the tests of this room share.

/// Numbers as text, pseudo-random but always the same: compresses by half or so.
pub(super) fn words(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::new();
    for _ in 0..count {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bytes.extend(format!("{} ", (state >> 33) % 5000).into_bytes());
    }
    bytes
}
