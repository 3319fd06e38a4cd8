//! Packed metadata, unpacked within bounds and held against its digests.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek as _};

use crate::store::{Checksum, Hasher};

/// Most that a list of packages may take unpacked, whatever its repository says: ten times the largest known. No more than
/// that is kept of it in memory.
pub(super) const MOST: u64 = 2 << 30;
const XZ_MEMORY: u64 = 256 << 20;
/// As `zstd --long=27`, the largest window that zstd itself unpacks unasked.
const ZSTD_WINDOW: u32 = 27;

/// The SHA-256 or SHA-512 and the length of what `file` holds, from its beginning.
pub(in crate::rpmset) fn digest(file: &mut File, expected: &Checksum) -> io::Result<(Checksum, u64)> {
    file.rewind()?;
    let mut hasher = Hasher::new(Some(expected));
    let mut buffer = vec![0; 128 << 10];
    let mut length = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => {
                hasher.update(&buffer[..count]);
                length += count as u64;
            }
        }
    }
    file.rewind()?;
    Ok((hasher.finish().1, length))
}

/// Unpacks `file`, whatever its compression, to `most` bytes at most, and hashes what comes out.
pub(super) fn open(file: File, most: u64, expected: Option<&Checksum>) -> io::Result<Unpacked> {
    let mut packed = BufReader::with_capacity(128 << 10, file);
    let magic = packed.fill_buf()?;
    let source: Box<dyn Read + Send> = match magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            let flags = liblzma::stream::CONCATENATED;
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, flags)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(packed, stream))
        }
        [b'B', b'Z', b'h', ..] => Box::new(bzip2::bufread::MultiBzDecoder::new(packed)),
        _ => Box::new(packed),
    };
    Ok(Unpacked {
        source,
        hasher: Hasher::new(expected),
        length: 0,
        most,
    })
}

/// Unpacked bytes.
pub(super) struct Unpacked {
    source: Box<dyn Read + Send>,
    hasher: Hasher,
    length: u64,
    most: u64,
}

impl Unpacked {
    /// Reads on to the end; digest and length of all.
    pub fn finish(mut self) -> io::Result<(Checksum, u64)> {
        let mut buffer = vec![0; 64 << 10];
        while self.read(&mut buffer)? > 0 {}
        Ok((self.hasher.finish().1, self.length))
    }
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.length += count as u64;
        if self.length > self.most {
            let most = self.most;
            return Err(io::Error::other(format!(
                "it takes more than the {most} bytes unpacked that it may"
            )));
        }
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
