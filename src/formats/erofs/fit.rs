//! Zstandard and Deflate with an output of bounded size. Their libraries have no such function, so the length of
//! input is searched, and any end of a block is good enough; a good first guess makes two attempts of it.

use flate2::{Compress, Compression as Level, FlushCompress, Status};
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use super::format::BLOCK;

/// Attempts at a cluster.
const ATTEMPTS: usize = 3;
/// Bytes of a cluster's last block that may stay empty without another attempt.
const WASTE: usize = 448;
/// Aimed at so many bytes below a limit, as a guess can be a little too long.
const MARGIN: usize = 64;

/// A compressor and what it has learnt of the file.
pub(super) struct Fit {
    engine: Engine,
    /// Bytes of input that 1024 bytes of output stood for last.
    ratio: usize,
    scratch: Vec<u8>,
}

enum Engine {
    /// Made at its first use, which may fail.
    Zstd {
        compressor: Option<Compressor<'static>>,
        level: u8,
        window_log: u32,
    },
    Deflate(Compress),
}

impl Engine {
    /// Compresses all of `input` to `output`, in place of what is there.
    fn compress(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), String> {
        output.clear();
        match self {
            Self::Zstd {
                compressor,
                level,
                window_log,
            } => {
                let shown = |error: std::io::Error| error.to_string();
                let compressor = match compressor {
                    Some(compressor) => compressor,
                    none => {
                        let mut compressor = Compressor::new(i32::from(*level)).map_err(shown)?;
                        compressor
                            .set_parameter(CParameter::WindowLog(*window_log))
                            .map_err(shown)?;
                        none.insert(compressor)
                    }
                };
                output.reserve(zstd::zstd_safe::compress_bound(input.len()));
                compressor.compress_to_buffer(input, output).map_err(shown)?;
            }
            Self::Deflate(compressor) => {
                compressor.reset();
                // As much as input that does not get smaller can need.
                output.reserve(input.len() + input.len() / 8 + 1024);
                loop {
                    // At most the input's length, which is a number of bytes in memory.
                    let rest = &input[compressor.total_in() as usize..];
                    match compressor.compress_vec(rest, output, FlushCompress::Finish) {
                        Ok(Status::StreamEnd) => break,
                        Ok(Status::Ok | Status::BufError) => output.reserve(input.len() / 8 + 256),
                        Err(error) => return Err(error.to_string()),
                    }
                }
            }
        }
        Ok(())
    }
}

impl Fit {
    fn new(engine: Engine) -> Self {
        Self {
            engine,
            ratio: FIRST_RATIO,
            scratch: Vec::new(),
        }
    }

    pub(super) fn zstd(level: u8, window_log: u32) -> Self {
        Self::new(Engine::Zstd {
            compressor: None,
            level,
            window_log,
        })
    }

    /// Without zlib's header, as erofs has it.
    pub(super) fn deflate(level: u8) -> Self {
        Self::new(Engine::Deflate(Compress::new(
            Level::new(u32::from(level)),
            false,
        )))
    }

    /// Forgets the ratio of another file.
    pub(super) fn begin(&mut self) {
        self.ratio = FIRST_RATIO;
    }

    fn compress(&mut self, input: &[u8]) -> Result<(), String> {
        self.engine.compress(input, &mut self.scratch)
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
            let least = capacity / 4 * 3;
            let is_full = (least..=capacity).contains(&packed);
            let below = packed / BLOCK * BLOCK;
            let scaled = |end: usize| {
                let aim = end.saturating_sub(MARGIN).max(1);
                (guess as u64 * aim as u64 / packed.max(1) as u64) as usize
            };
            if is_full && below >= least && packed - below <= BLOCK / 2 {
                // Shorter input that fills one block less is as good; so near an aim is met at once.
                let shorter = scaled(below).max(1);
                self.compress(&input[..shorter])?;
                if self.scratch.len() <= below {
                    best = shorter;
                    std::mem::swap(output, &mut self.scratch);
                }
                break;
            }
            let next = match is_full {
                true => scaled((below + BLOCK).min(capacity)),
                false => scaled(capacity),
            };
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
