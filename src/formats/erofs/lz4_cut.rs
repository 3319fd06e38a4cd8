//! Cutting a compressed LZ4 block: what it says of the start of its input, without compressing that again.
//!
//! Specification: LZ4's `lz4_Block_format.md`. A block ends with literals alone; readers rely on its last
//! match beginning at least twelve bytes before the end, and ending at least five before it.

/// The shortest match.
const MATCH_MIN: usize = 4;
/// As many literals behind the last match satisfy both rules, even where the match is the shortest.
const LITERALS_MIN: usize = 8;
/// What the upper or lower half of a token holds at most; more follows in bytes of their own.
const NIBBLE_MAX: usize = 15;

/// Appends to `output` a block of at most `capacity` bytes for the start of `input`, of which `packed` is a whole
/// compressed block. Returns how much of the input that is; `None` where nothing useful fits.
pub(super) fn cut(packed: &[u8], input: &[u8], capacity: usize, output: &mut Vec<u8>) -> Option<usize> {
    // Where the sequences that are kept end, in `packed` and in `input`.
    let (mut kept, mut covered) = (0, 0);
    let (mut at, mut position) = (0, 0);
    while at < packed.len() {
        let sequence = Sequence::read(packed, at)?;
        if sequence.is_last || sequence.end + 1 + LITERALS_MIN > capacity {
            break;
        }
        at = sequence.end;
        position += sequence.literals + sequence.matched;
        (kept, covered) = (at, position);
    }
    let room = capacity.checked_sub(kept + 1)?;
    // Lengths from 15 on take a byte, and one more for every 255.
    let literals = match room < NIBBLE_MAX {
        true => room,
        false => (NIBBLE_MAX - 1).max(room - 1 - (room - NIBBLE_MAX) / 256),
    };
    let literals = literals.min(input.len().checked_sub(covered)?);
    if covered > 0 && literals < LITERALS_MIN {
        return None;
    }
    output.extend(packed.get(..kept)?);
    output.push((literals.min(NIBBLE_MAX) << 4) as u8);
    if let Some(mut more) = literals.checked_sub(NIBBLE_MAX) {
        while more >= 255 {
            output.push(255);
            more -= 255;
        }
        // Below 255.
        output.push(more as u8);
    }
    output.extend(input.get(covered..covered + literals)?);
    Some(covered + literals)
}

/// Some literals and the match behind them.
struct Sequence {
    literals: usize,
    /// Bytes of the match.
    matched: usize,
    /// Where it ends in the block.
    end: usize,
    /// It has no match, and the block ends.
    is_last: bool,
}

impl Sequence {
    fn read(packed: &[u8], start: usize) -> Option<Self> {
        let token = usize::from(*packed.get(start)?);
        let mut at = start + 1;
        let literals = length(token >> 4, packed, &mut at)?;
        at += literals;
        if at >= packed.len() {
            return Some(Self {
                literals,
                matched: 0,
                end: at,
                is_last: true,
            });
        }
        // The match's distance.
        at += 2;
        let matched = length(token & NIBBLE_MAX, packed, &mut at)? + MATCH_MIN;
        Some(Self {
            literals,
            matched,
            end: at,
            is_last: false,
        })
    }
}

/// The length that begins with half a token and may go on at `at`.
fn length(nibble: usize, packed: &[u8], at: &mut usize) -> Option<usize> {
    let mut length = nibble;
    if nibble == NIBBLE_MAX {
        loop {
            let byte = *packed.get(*at)?;
            *at += 1;
            length += usize::from(byte);
            if byte < 255 {
                break;
            }
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::lz4::{self, HcState};

    /// Words that repeat at changing distances, with some noise between them.
    fn text(words: u32) -> Vec<u8> {
        (0..words)
            .flat_map(|n| format!("{:x} ", n.wrapping_mul(2_654_435_761) % 4099).into_bytes())
            .collect()
    }

    #[test]
    fn a_cut_block_is_a_block_of_the_input_s_start() {
        let mut state = HcState::new();
        for input in [
            text(12_000),
            vec![7; 60_000],
            (0..=255).cycle().take(40_000).collect(),
        ] {
            let mut packed = Vec::new();
            let whole = lz4::fit_hc(&mut state, 9, &input, 1 << 20, &mut packed).unwrap();
            assert_eq!(whole, input.len());
            for capacity in (10..packed.len()).step_by(packed.len().div_ceil(400)) {
                let mut out = Vec::new();
                let Some(taken) = cut(&packed, &input, capacity, &mut out) else {
                    continue;
                };
                assert!(out.len() <= capacity, "{} bytes in {capacity}", out.len());
                let mut plain = vec![0; taken];
                assert!(lz4::decompress(&out, &mut plain), "{taken} bytes in {capacity}");
                assert!(plain == input[..taken]);
            }
        }
    }

    #[test]
    fn little_of_the_room_stays_empty() {
        let input = text(12_000);
        let mut packed = Vec::new();
        lz4::fit_hc(&mut HcState::new(), 9, &input, 1 << 20, &mut packed).unwrap();
        for capacity in [4096, 8192, 12288] {
            let (mut out, mut direct) = (Vec::new(), Vec::new());
            let taken = cut(&packed, &input, capacity, &mut out).unwrap();
            let best = lz4::fit_hc(&mut HcState::new(), 9, &input, capacity, &mut direct).unwrap();
            // A length can need a byte more than one that is shorter by one.
            assert!((capacity - 1..=capacity).contains(&out.len()));
            assert!(taken + 64 >= best, "{taken} instead of {best}");
        }
    }

    #[test]
    fn literals_fill_the_room_exactly() {
        let input = vec![0; 2000];
        for capacity in 2..1000 {
            let mut out = Vec::new();
            // A block whose first sequence is its last.
            let packed = [0xf0, 255, 255];
            let taken = cut(&packed, &input, capacity, &mut out);
            if let Some(taken) = taken {
                assert!(
                    out.len() <= capacity && out.len() + 1 >= capacity,
                    "{taken} in {capacity}"
                );
            }
        }
    }
}
