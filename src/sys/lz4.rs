//! LZ4 with an output of bounded size, which the safe wrappers of the library do not offer.

use std::ffi::{c_char, c_int, c_void};

use lz4_sys::LZ4_decompress_safe;

// Of liblz4 1.10, which lz4-sys builds and links; it declares only a part of its functions.
unsafe extern "C" {
    fn LZ4_compress_destSize(
        source: *const c_char,
        destination: *mut c_char,
        source_size: *mut c_int,
        capacity: c_int,
    ) -> c_int;
    fn LZ4_sizeofStateHC() -> c_int;
    fn LZ4_compress_HC_destSize(
        state: *mut c_void,
        source: *const c_char,
        destination: *mut c_char,
        source_size: *mut c_int,
        capacity: c_int,
        level: c_int,
    ) -> c_int;
    fn LZ4_decompress_safe_partial(
        source: *const c_char,
        destination: *mut c_char,
        size: c_int,
        wanted: c_int,
        capacity: c_int,
    ) -> c_int;
}

/// The memory of the thorough compressor; its content does not matter between calls.
pub(crate) struct HcState(Box<[u64]>);

impl HcState {
    pub(crate) fn new() -> Self {
        // SAFETY: the function takes nothing and reads a constant.
        let size = unsafe { LZ4_sizeofStateHC() };
        // 64-bit units, as the library asks for the alignment of a pointer.
        let units = usize::try_from(size).unwrap_or_default().div_ceil(8);
        Self(vec![0; units].into())
    }
}

/// Calls `compress` with lengths and an output buffer that the C functions understand.
fn bounded(
    input: &[u8],
    capacity: usize,
    output: &mut Vec<u8>,
    compress: impl FnOnce(*const c_char, *mut c_char, *mut c_int, c_int) -> c_int,
) -> Result<usize, String> {
    let too_long = |_| "more than 2 GiB at once".to_owned();
    let mut taken = c_int::try_from(input.len()).map_err(too_long)?;
    let room = c_int::try_from(capacity).map_err(too_long)?;
    output.clear();
    output.resize(capacity, 0);
    let written = compress(
        input.as_ptr().cast(),
        output.as_mut_ptr().cast(),
        &raw mut taken,
        room,
    );
    match (usize::try_from(written), usize::try_from(taken)) {
        (Ok(written @ 1..), Ok(taken)) if written <= capacity && taken <= input.len() => {
            output.truncate(written);
            Ok(taken)
        }
        _ => Err(format!("LZ4 returned {written}")),
    }
}

/// Compresses as much of the start of `input` as fits `capacity` bytes, with the fast search.
/// Returns how much that is.
pub(crate) fn fit(input: &[u8], capacity: usize, output: &mut Vec<u8>) -> Result<usize, String> {
    bounded(input, capacity, output, |source, destination, size, room| {
        // SAFETY: `source` is readable for `*size` bytes and `destination` writable for `room`
        // bytes: `bounded` derives both from slices of these lengths, which outlive the call. The
        // function keeps no pointer and reads and writes only within these bounds.
        unsafe { LZ4_compress_destSize(source, destination, size, room) }
    })
}

/// As [`fit`], with the thorough search of `level` (1 to 12).
pub(crate) fn fit_hc(
    state: &mut HcState,
    level: u8,
    input: &[u8],
    capacity: usize,
    output: &mut Vec<u8>,
) -> Result<usize, String> {
    bounded(input, capacity, output, |source, destination, size, room| {
        // SAFETY: as in `fit`. `state` has at least `LZ4_sizeofStateHC` bytes, aligned to eight; the
        // function initialises them itself before it reads them.
        unsafe {
            LZ4_compress_HC_destSize(
                state.0.as_mut_ptr().cast(),
                source,
                destination,
                size,
                room,
                c_int::from(level),
            )
        }
    })
}

/// Decompresses `input`, which must give exactly as many bytes as `output` has. `false` where it
/// does not or is malformed.
pub(crate) fn decompress(input: &[u8], output: &mut [u8]) -> bool {
    let (Ok(size), Ok(room)) = (c_int::try_from(input.len()), c_int::try_from(output.len())) else {
        return false;
    };
    // SAFETY: `input` is readable for `size` bytes and `output` writable for `room` bytes; the
    // function is made for hostile input and stays within these bounds.
    let written =
        unsafe { LZ4_decompress_safe(input.as_ptr().cast(), output.as_mut_ptr().cast(), size, room) };
    written == room
}

/// As [`decompress`], of the beginning of what `input` holds.
pub(crate) fn decompress_start(input: &[u8], output: &mut [u8]) -> bool {
    let (Ok(size), Ok(room)) = (c_int::try_from(input.len()), c_int::try_from(output.len())) else {
        return false;
    };
    let (source, destination) = (input.as_ptr().cast(), output.as_mut_ptr().cast());
    // SAFETY: `input` is readable for `size` bytes and `output` writable for `room` bytes; the function is made for
    // hostile input and stays within these bounds.
    let written = unsafe { LZ4_decompress_safe_partial(source, destination, size, room, room) };
    written == room
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_comes_back() {
        let input: Vec<u8> = (0..200_000_u32)
            .flat_map(|n| format!("{:x} ", n.wrapping_mul(2_654_435_761) % 4099).into_bytes())
            .collect();
        let mut state = HcState::new();
        for capacity in [4096, 65536] {
            let mut fast = Vec::new();
            let fast_taken = fit(&input, capacity, &mut fast).unwrap();
            let mut thorough = Vec::new();
            let thorough_taken = fit_hc(&mut state, 9, &input, capacity, &mut thorough).unwrap();
            assert!(fast_taken > capacity && thorough_taken > fast_taken);
            for (taken, packed) in [(fast_taken, fast), (thorough_taken, thorough)] {
                assert!(packed.len() <= capacity && packed.len() > capacity - 64);
                let mut output = vec![0; taken];
                assert!(decompress(&packed, &mut output));
                assert_eq!(output, input[..taken]);
                assert!(!decompress(&packed, &mut output[..taken - 1]));
                assert!(!decompress(&packed[..packed.len() - 1], &mut output));
            }
        }
    }
}
