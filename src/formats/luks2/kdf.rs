//! Key derivation: from a passphrase or key file to the key of a keyslot's area.

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use super::error::Luks2Error;
use super::hash::Hash;

/// Bytes of every salt but the header's.
pub const SALT_SIZE: usize = 32;

/// What cryptsetup accepts when it sets a key, and so what is written.
const PBKDF2_LEAST: u32 = 1000;
const ARGON2_TIME_LEAST: u32 = 4;
const ARGON2_MEMORY: std::ops::RangeInclusive<u32> = 32..=4 << 20;
const ARGON2_LANES: std::ops::RangeInclusive<u32> = 1..=4;

/// A key derivation function and its costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kdf {
    /// RFC 8018.
    Pbkdf2 { hash: Hash, iterations: u32 },
    /// RFC 9106, with access that does not depend on data. Read, never written.
    Argon2i(Argon2Costs),
    /// RFC 9106, the hybrid.
    Argon2id(Argon2Costs),
}

/// The costs of argon2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2Costs {
    /// Passes over the memory.
    pub time: u32,
    /// In KiB.
    pub memory: u32,
    /// Lanes that can be filled at once; `cpus` in the metadata.
    pub lanes: u32,
}

/// The most that deriving one key may cost. What a hostile header asks for beyond it is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub pbkdf2_iterations: u32,
    pub argon2: Argon2Costs,
}

impl Default for Limits {
    /// What cryptsetup itself chooses at most (1 GiB for argon2), and minutes at worst.
    fn default() -> Self {
        Self {
            pbkdf2_iterations: 50_000_000,
            argon2: Argon2Costs {
                time: 64,
                memory: 1 << 20,
                lanes: 16,
            },
        }
    }
}

impl Kdf {
    /// For a passphrase that a person remembers: argon2id, 4 passes over 256 MiB in 4 lanes, about a second.
    ///
    /// cryptsetup measures the machine and takes what fills two seconds there. A build must give the same bytes on
    /// every machine, and its own says nothing of the one that boots: so the costs are fixed, above the second
    /// recommendation of RFC 9106 (3 passes over 64 MiB), and such that an initrd in 1 GiB of memory can pay them.
    pub const PASSPHRASE: Self = Self::Argon2id(Argon2Costs {
        time: 4,
        memory: 256 << 10,
        lanes: 4,
    });

    /// For a key of full entropy (at least 32 random bytes), which cannot be guessed at any speed: the least that
    /// cryptsetup accepts, as systemd-repart and systemd-cryptenroll write it.
    pub const RANDOM_KEY: Self = Self::Pbkdf2 {
        hash: Hash::Sha512,
        iterations: PBKDF2_LEAST,
    };

    /// Whether deriving a key stays within `limits`.
    pub fn within(&self, limits: &Limits) -> bool {
        match self {
            Self::Pbkdf2 { iterations, .. } => *iterations <= limits.pbkdf2_iterations,
            Self::Argon2i(costs) | Self::Argon2id(costs) => {
                costs.time <= limits.argon2.time
                    && costs.memory <= limits.argon2.memory
                    && costs.lanes <= limits.argon2.lanes
            }
        }
    }

    /// Whether this is to be written: what cryptsetup would set as well.
    pub(super) fn check(&self) -> Result<(), Luks2Error> {
        let refuse = |what: String| Err(Luks2Error::Parameters(what));
        match *self {
            Self::Pbkdf2 { hash: Hash::Sha1, .. } => refuse("PBKDF2 with SHA-1 is only read".to_owned()),
            Self::Pbkdf2 { iterations, .. } if iterations < PBKDF2_LEAST => refuse(format!(
                "PBKDF2 needs at least {PBKDF2_LEAST} iterations, not {iterations}"
            )),
            Self::Pbkdf2 { iterations, .. } if i32::try_from(iterations).is_err() => refuse(format!(
                "{iterations} iterations of PBKDF2 are more than cryptsetup can count"
            )),
            Self::Pbkdf2 { .. } => Ok(()),
            Self::Argon2i(_) => refuse("argon2i is only read; write argon2id".to_owned()),
            Self::Argon2id(costs) => {
                if costs.time < ARGON2_TIME_LEAST || i32::try_from(costs.time).is_err() {
                    return refuse(format!(
                        "argon2id needs at least {ARGON2_TIME_LEAST} passes, and cryptsetup counts up to 2^31; not {}",
                        costs.time
                    ));
                }
                if !ARGON2_MEMORY.contains(&costs.memory) {
                    return refuse(format!(
                        "argon2id takes between 32 KiB and 4 GiB of memory, not {} KiB",
                        costs.memory
                    ));
                }
                if !ARGON2_LANES.contains(&costs.lanes) {
                    return refuse(format!("argon2id takes 1 to 4 lanes, not {}", costs.lanes));
                }
                Ok(())
            }
        }
    }

    /// The key of `size` bytes that `secret` and `salt` give.
    ///
    /// # Errors
    /// Costs that argon2 does not know (fewer than 8 KiB a lane), or memory that cannot be had.
    pub(super) fn derive(
        &self,
        secret: &[u8],
        salt: &[u8],
        size: usize,
    ) -> Result<Zeroizing<Vec<u8>>, Luks2Error> {
        let mut key = Zeroizing::new(vec![0; size]);
        let (algorithm, costs) = match self {
            Self::Pbkdf2 { hash, iterations } => {
                hash.pbkdf2(secret, salt, *iterations, &mut key);
                return Ok(key);
            }
            Self::Argon2i(costs) => (Algorithm::Argon2i, costs),
            Self::Argon2id(costs) => (Algorithm::Argon2id, costs),
        };
        let failed = |error| match error {
            argon2::Error::OutOfMemory => Luks2Error::Memory(costs.memory),
            other => Luks2Error::metadata("argon2", other.to_string()),
        };
        let params = Params::new(costs.memory, costs.time, costs.lanes, Some(size)).map_err(failed)?;
        Argon2::new(algorithm, Version::V0x13, params)
            .hash_password_into(secret, salt, &mut key)
            .map_err(failed)?;
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Argon2Costs = Argon2Costs {
        time: 4,
        memory: 32,
        lanes: 1,
    };

    #[test]
    fn costs_that_cryptsetup_would_not_set_are_not_written() {
        let argon2 = |time, memory, lanes| Kdf::Argon2id(Argon2Costs { time, memory, lanes });
        let pbkdf2 = |hash, iterations| Kdf::Pbkdf2 { hash, iterations };
        let good = [
            Kdf::PASSPHRASE,
            Kdf::RANDOM_KEY,
            argon2(4, 32, 1),
            argon2(9, 4 << 20, 4),
        ];
        for kdf in good {
            kdf.check().unwrap();
        }
        let bad = [
            (pbkdf2(Hash::Sha256, 999), "at least 1000"),
            (pbkdf2(Hash::Sha256, 1 << 31), "count"),
            (pbkdf2(Hash::Sha1, 1000), "SHA-1"),
            (Kdf::Argon2i(SMALL), "argon2i is only read"),
            (argon2(3, 32, 1), "at least 4 passes"),
            (argon2(4, 31, 1), "32 KiB"),
            (argon2(4, (4 << 20) + 1, 1), "4 GiB"),
            (argon2(4, 64, 0), "1 to 4"),
            (argon2(4, 64, 5), "1 to 4"),
        ];
        for (kdf, why) in bad {
            let error = kdf.check().unwrap_err().to_string();
            assert!(error.contains(why), "{kdf:?}: {error}");
        }
    }

    #[test]
    fn costs_above_the_limits_are_known_before_they_are_paid() {
        let limits = Limits {
            pbkdf2_iterations: 1000,
            argon2: SMALL,
        };
        assert!(Kdf::RANDOM_KEY.within(&limits));
        assert!(Kdf::Argon2i(SMALL).within(&limits));
        for costs in [
            Argon2Costs { time: 5, ..SMALL },
            Argon2Costs { memory: 33, ..SMALL },
            Argon2Costs { lanes: 2, ..SMALL },
        ] {
            assert!(!Kdf::Argon2id(costs).within(&limits), "{costs:?}");
        }
        let more = Kdf::Pbkdf2 {
            hash: Hash::Sha256,
            iterations: 1001,
        };
        assert!(!more.within(&limits));
    }

    #[test]
    fn argon2_with_too_little_memory_for_its_lanes_is_an_error() {
        let kdf = Kdf::Argon2id(Argon2Costs {
            time: 1,
            memory: 8,
            lanes: 2,
        });
        assert!(kdf.derive(b"secret", &[0; 32], 64).is_err());
    }
}
