//! Zstandard with an output of bounded size. The library has no such function, so the length of
//! input is searched; a good first guess makes one or two attempts of it.

use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use super::format::BLOCK;

/// Attempts at a cluster.
const ATTEMPTS: usize = 5;
/// Bytes of a cluster's last block that may stay empty without another attempt.
const WASTE: usize = 192;
/// Aimed at so many bytes below a limit, as a guess can be a little too long.
const MARGIN: usize = 64;

/// A compressor and what it has learnt of the file.
pub(super) struct ZstdFit {
    compressor: Option<Compressor<'static>>,
    level: u8,
    window_log: u32,
    /// Bytes of input that 1024 bytes of output stood for last.
    ratio: usize,
    scratch: Vec<u8>,
}

impl ZstdFit {
    pub(super) fn new(level: u8, window_log: u32) -> Self {
        Self {
            compressor: None,
            level,
            window_log,
            ratio: FIRST_RATIO,
            scratch: Vec::new(),
        }
    }

    /// Forgets the ratio of another file.
    pub(super) fn begin(&mut self) {
        self.ratio = FIRST_RATIO;
    }

    fn compress(&mut self, input: &[u8]) -> Result<(), String> {
        let shown = |error: std::io::Error| error.to_string();
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            none => {
                let mut compressor = Compressor::new(i32::from(self.level)).map_err(shown)?;
                compressor
                    .set_parameter(CParameter::WindowLog(self.window_log))
                    .map_err(shown)?;
                none.insert(compressor)
            }
        };
        self.scratch.clear();
        self.scratch.reserve(zstd::zstd_safe::compress_bound(input.len()));
        compressor
            .compress_to_buffer(input, &mut self.scratch)
            .map_err(shown)?;
        Ok(())
    }

    /// Compresses as much of the start of `input` as fits `capacity` bytes, or nearly as much.
    /// Returns how much that is.
    pub(super) fn fit(
        &mut self,
        input: &[u8],
        capacity: usize,
        output: &mut Vec<u8>,
    ) -> Result<usize, String> {
        let mut best = 0;
        // The shortest input known not to fit.
        let mut over = input.len() + 1;
        let mut guess = input
            .len()
            .min(capacity.saturating_sub(MARGIN) * self.ratio / 1024)
            .max(1);
        let mut attempt = 0;
        // Without any result that fits, the search goes on until one does.
        while attempt < ATTEMPTS || best == 0 {
            attempt += 1;
            self.compress(&input[..guess])?;
            let packed = self.scratch.len();
            if packed <= capacity {
                best = guess;
                std::mem::swap(output, &mut self.scratch);
                let waste = packed.next_multiple_of(BLOCK).min(capacity) - packed;
                if guess == input.len() || (waste <= WASTE && packed >= capacity / 4 * 3) {
                    break;
                }
            } else {
                over = guess;
                if over == 1 {
                    return Err(format!("not even one byte fits {capacity} bytes"));
                }
            }
            let aim = capacity.saturating_sub(MARGIN).max(1);
            let next = (guess as u64 * aim as u64 / packed.max(1) as u64) as usize;
            let next = next.clamp(best + 1, (over - 1).max(best + 1));
            if next == guess || next >= over {
                if best > 0 {
                    break;
                }
                guess = (over / 2).max(1);
                continue;
            }
            guess = next;
        }
        self.ratio = (best * 1024 / output.len().max(1)).max(1024);
        Ok(best)
    }
}

/// The guess for the first cluster of a file: what executables reach.
const FIRST_RATIO: usize = 3 * 1024;
