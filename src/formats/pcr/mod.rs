//! Platform configuration registers (PCRs) of a TPM 2.0: what they come to hold, worked out without one.
//!
//! Specifications: TCG *TPM 2.0 Library*, part 1 (extending) and part 3 (PolicyPCR); systemd-stub(7) and
//! systemd-pcrphase.service(8) for PCR 11; systemd-measure(1) for the file of signed policies.

pub mod image;
pub mod policy;
#[cfg(test)]
mod tests;
pub mod uki;

use std::fmt;
use std::io;

use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::at::Content;

/// A bank: the PCRs of one hash algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bank {
    /// Read in logs only: no policy is made for it.
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Bank {
    pub const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// As Linux and systemd name it: `sha256`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// The bank of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bank| bank.name() == name)
    }

    /// The hash algorithm's number, `TPM_ALG_ID`.
    pub const fn algorithm(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
            Self::Sha512 => 0x000d,
        }
    }

    /// The bank of that `TPM_ALG_ID`.
    pub fn from_algorithm(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|bank| bank.algorithm() == number)
    }

    /// Bytes of a digest.
    pub const fn size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The digest of `bytes`.
    pub fn digest(self, bytes: &[u8]) -> Value {
        self.digest_parts(&[bytes])
    }

    fn digest_parts(self, parts: &[&[u8]]) -> Value {
        let mut hasher = Hasher::new(self);
        for part in parts {
            hasher.update(part);
        }
        hasher.finish()
    }

    /// The digest of `content`, read in pieces, and of `zeroes` zero bytes after it.
    ///
    /// # Errors
    /// Whatever reading gives.
    pub fn digest_content(self, content: &Content<'_>, zeroes: u64) -> io::Result<Value> {
        let mut hasher = Hasher::new(self);
        content.for_each_piece::<io::Error>(1 << 20, |piece| {
            hasher.update(piece);
            Ok(())
        })?;
        let mut left = zeroes;
        while left > 0 {
            let count = left.min(4096);
            hasher.update(&[0; 4096][..count as usize]);
            left -= count;
        }
        Ok(hasher.finish())
    }
}

impl fmt::Display for Bank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A digest of a bank: what a PCR holds, or what it is extended with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value {
    bank: Bank,
    /// As many as the bank's digests have; zero behind them.
    bytes: [u8; 64],
}

impl Value {
    /// All zero: a PCR after the machine's start.
    pub fn zero(bank: Bank) -> Self {
        Self { bank, bytes: [0; 64] }
    }

    /// The digest `bytes`; `None` where they are not as many as the bank's digests have.
    pub fn new(bank: Bank, bytes: &[u8]) -> Option<Self> {
        let mut value = Self::zero(bank);
        (bytes.len() == bank.size()).then(|| value.bytes[..bytes.len()].copy_from_slice(bytes))?;
        Some(value)
    }

    /// The digest that `text` has in hexadecimal.
    pub fn from_hex(bank: Bank, text: &str) -> Option<Self> {
        let nibble = |byte: u8| char::from(byte).to_digit(16);
        let pairs = text.as_bytes().as_chunks::<2>();
        let (pairs, []) = pairs else { return None };
        let bytes = pairs.iter().map(|&[high, low]| {
            let byte = nibble(high)? << 4 | nibble(low)?;
            u8::try_from(byte).ok()
        });
        Self::new(bank, &bytes.collect::<Option<Vec<u8>>>()?)
    }

    pub fn bank(&self) -> Bank {
        self.bank
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.bank.size()]
    }

    /// Whether nothing was ever extended into it.
    pub fn is_zero(&self) -> bool {
        self.bytes == [0; 64]
    }

    /// `TPM2_PCR_Extend`: the digest of this value with `digest` behind it. `digest` is of the same bank.
    #[must_use]
    pub fn extended(&self, digest: &Value) -> Self {
        self.bank.digest_parts(&[self.as_bytes(), digest.as_bytes()])
    }

    /// Extended with the digest of `event`.
    #[must_use]
    pub fn measured(&self, event: &[u8]) -> Self {
        self.extended(&self.bank.digest(event))
    }
}

impl fmt::Display for Value {
    /// In lower-case hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{self}", self.bank)
    }
}

/// A digest in the making.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha1(Sha1),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Hasher {
    pub fn new(bank: Bank) -> Self {
        Self(match bank {
            Bank::Sha1 => State::Sha1(Sha1::new()),
            Bank::Sha256 => State::Sha256(Sha256::new()),
            Bank::Sha384 => State::Sha384(Sha384::new()),
            Bank::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha1(state) => state.update(bytes),
            State::Sha256(state) => state.update(bytes),
            State::Sha384(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    pub fn finish(self) -> Value {
        let value = |bank: Bank, digest: &[u8]| {
            let mut value = Value::zero(bank);
            value.bytes[..digest.len()].copy_from_slice(digest);
            value
        };
        match self.0 {
            State::Sha1(state) => value(Bank::Sha1, &state.finalize()),
            State::Sha256(state) => value(Bank::Sha256, &state.finalize()),
            State::Sha384(state) => value(Bank::Sha384, &state.finalize()),
            State::Sha512(state) => value(Bank::Sha512, &state.finalize()),
        }
    }
}
