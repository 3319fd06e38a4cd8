//! Event logs: what firmware, boot loader and stub say that they have measured.
//!
//! Specification: TCG *PC Client Platform Firmware Profile*, 10: the crypto-agile log (`TCG_PCR_EVENT2` after a
//! `Spec ID Event03`), and the older one with SHA-1 alone. Linux shows it as
//! `/sys/kernel/security/tpm0/binary_bios_measurements`. Integers are little-endian. A log comes from a machine that is
//! not trusted yet: any bytes may be given.

mod describe;
mod device_path;
#[cfg(test)]
pub mod fixture;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::pcr::{Bank, Value};

pub use describe::{ImageLoad, Variable};

/// `EV_NO_ACTION`: tells, and extends nothing.
pub const NO_ACTION: u32 = 0x3;
pub const SEPARATOR: u32 = 0x4;
pub const EVENT_TAG: u32 = 0x6;
pub const IPL: u32 = 0xd;
pub const EFI_VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
pub const EFI_BOOT_SERVICES_APPLICATION: u32 = 0x8000_0003;
pub const EFI_GPT_EVENT: u32 = 0x8000_0006;
pub const EFI_ACTION: u32 = 0x8000_0007;
pub const EFI_GPT_EVENT2: u32 = 0x8000_000d;
pub const EFI_HCRTM_EVENT: u32 = 0x8000_0010;
pub const EFI_VARIABLE_AUTHORITY: u32 = 0x8000_00e0;

const SPEC_ID: &[u8; 16] = b"Spec ID Event03\0";
const STARTUP_LOCALITY: &[u8; 16] = b"StartupLocality\0";
/// Registers of a TPM on a PC.
const REGISTERS: u32 = 24;
/// Number of hash algorithms that a log can have; TPMs have five at most.
const MAX_ALGORITHMS: u32 = 16;

/// Bytes are no event log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    #[error("the log ends within its {what} at byte {at}")]
    Short { what: &'static str, at: usize },
    #[error("the log's header, its first event, {0}")]
    Header(&'static str),
    #[error("event {number} at byte {at} {why}")]
    Event { number: usize, at: usize, why: String },
}

/// A log, read.
#[derive(Debug, Clone)]
pub struct EventLog<'a> {
    /// The banks that its events have digests of, in the log's order.
    pub banks: Vec<Bank>,
    /// All of them, the header aside.
    pub events: Vec<Event<'a>>,
}

/// Something was measured, or is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// The register that it extends.
    pub pcr: u32,
    /// `EV_…`.
    pub kind: u32,
    /// What the register was extended with: a digest a bank.
    pub digests: Vec<Value>,
    /// What the event says of itself; by its kind, what was digested, or a description.
    pub data: &'a [u8],
}

impl Event<'_> {
    /// Its digest in `bank`.
    pub fn digest(&self, bank: Bank) -> Option<Value> {
        self.digests.iter().find(|digest| digest.bank() == bank).copied()
    }

    /// Whether the register was extended with it.
    pub fn extends(&self) -> bool {
        self.kind != NO_ACTION
    }

    /// Whether its digests are those of its data. They are of something else where the data describes only.
    pub fn digests_data(&self) -> bool {
        self.digests
            .iter()
            .all(|digest| digest.bank().digest(self.data) == *digest)
    }
}

impl<'a> EventLog<'a> {
    /// Reads a whole log. Trailing zero bytes, which some systems show, are passed over.
    ///
    /// # Errors
    /// Where it is cut off, or is no log.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, LogError> {
        let mut reader = Reader { bytes, at: 0 };
        let first = reader.old_event(0)?;
        let header = first.kind == NO_ACTION && first.data.starts_with(b"Spec ID Event");
        let mut log = Self {
            banks: vec![Bank::Sha1],
            events: Vec::new(),
        };
        if !header {
            log.events.push(first);
            while reader.has_more() {
                let number = log.events.len() + 1;
                log.events.push(reader.old_event(number)?);
            }
            return Ok(log);
        }
        let algorithms = algorithms(first.data)?;
        let known = |(number, _): &(u16, usize)| Bank::from_algorithm(*number);
        log.banks = algorithms.iter().filter_map(known).collect();
        while reader.has_more() {
            let number = log.events.len() + 1;
            log.events.push(reader.event(number, &algorithms)?);
        }
        Ok(log)
    }

    /// What the registers held when the last event had been measured, those that were extended at all.
    pub fn replay(&self, bank: Bank) -> BTreeMap<u32, Value> {
        let mut registers = BTreeMap::new();
        for event in self.events.iter().filter(|event| event.extends()) {
            if let Some(digest) = event.digest(bank) {
                let value = registers
                    .entry(event.pcr)
                    .or_insert_with(|| self.initial(event.pcr, bank));
                *value = value.extended(&digest);
            }
        }
        registers
    }

    /// What register `pcr` of `bank` held at the machine's start.
    pub fn initial(&self, pcr: u32, bank: Bank) -> Value {
        let fill = |byte: u8| Value::new(bank, &vec![byte; bank.size()]);
        let value = match pcr {
            0 => {
                let mut bytes = vec![0; bank.size()];
                if let Some(last) = bytes.last_mut() {
                    *last = self.locality();
                }
                Value::new(bank, &bytes)
            }
            // Registers of the dynamic root of trust.
            17..=22 => fill(0xff),
            _ => fill(0),
        };
        value.unwrap_or(Value::zero(bank))
    }

    /// From which locality the TPM was started, where the log says so; 0 otherwise.
    fn locality(&self) -> u8 {
        if self.events.iter().any(|event| event.kind == EFI_HCRTM_EVENT) {
            return 4;
        }
        let told = self.events.iter().find_map(|event| {
            let told = event.kind == NO_ACTION && event.pcr == 0;
            event.data.strip_prefix(STARTUP_LOCALITY).filter(|_| told)
        });
        told.and_then(|rest| rest.first()).copied().unwrap_or(0)
    }
}

/// Numbers and digest sizes of the algorithms that the header `TCG_EfiSpecIdEvent` announces.
fn algorithms(data: &[u8]) -> Result<Vec<(u16, usize)>, LogError> {
    if !data.starts_with(SPEC_ID) {
        return Err(LogError::Header("is of a version that is not understood"));
    }
    // Platform class (4 bytes), versions and size of integers (4) come between.
    let mut reader = Reader { bytes: data, at: 24 };
    let short = |_| LogError::Header("is too short");
    let count = reader.u32("header").map_err(short)?;
    if count == 0 || count > MAX_ALGORITHMS {
        return Err(LogError::Header(
            "announces an impossible number of hash algorithms",
        ));
    }
    let mut algorithms: Vec<(u16, usize)> = Vec::new();
    for _ in 0..count {
        let number = reader.u16("header").map_err(short)?;
        let size = usize::from(reader.u16("header").map_err(short)?);
        if Bank::from_algorithm(number).is_some_and(|bank| bank.size() != size) {
            return Err(LogError::Header(
                "gives a hash algorithm digests of another size than it has",
            ));
        }
        if algorithms.iter().any(|(known, _)| *known == number) {
            return Err(LogError::Header("announces a hash algorithm twice"));
        }
        algorithms.push((number, size));
    }
    Ok(algorithms)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn has_more(&self) -> bool {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        rest.iter().any(|byte| *byte != 0)
    }

    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], LogError> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or(LogError::Short { what, at: self.at })?;
        self.at += count;
        Ok(taken)
    }

    fn u16(&mut self, what: &'static str) -> Result<u16, LogError> {
        let bytes = self.take(2, what)?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, LogError> {
        let bytes = self.take(4, what)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// `TCG_PCR_EVENT`.
    fn old_event(&mut self, number: usize) -> Result<Event<'a>, LogError> {
        let start = self.at;
        let (pcr, kind) = (self.u32("events")?, self.u32("events")?);
        let digest = self.take(Bank::Sha1.size(), "events")?;
        let digests = Value::new(Bank::Sha1, digest).into_iter().collect();
        self.rest(number, start, pcr, kind, digests)
    }

    /// `TCG_PCR_EVENT2`.
    fn event(&mut self, number: usize, algorithms: &[(u16, usize)]) -> Result<Event<'a>, LogError> {
        let start = self.at;
        let wrong = |why: String| LogError::Event {
            number,
            at: start,
            why,
        };
        let (pcr, kind) = (self.u32("events")?, self.u32("events")?);
        let count = self.u32("events")?;
        if count as usize > algorithms.len() {
            return Err(wrong(format!(
                "has {count} digests, more than the log has algorithms"
            )));
        }
        let mut digests: Vec<Value> = Vec::new();
        for _ in 0..count {
            let algorithm = self.u16("events")?;
            let known = algorithms.iter().find(|(known, _)| *known == algorithm);
            let (_, size) = known.ok_or_else(|| {
                wrong(format!(
                    "has a digest of the unannounced algorithm {algorithm:#06x}"
                ))
            })?;
            let bytes = self.take(*size, "events")?;
            let Some(value) = Bank::from_algorithm(algorithm).and_then(|bank| Value::new(bank, bytes)) else {
                continue;
            };
            if digests.iter().any(|digest| digest.bank() == value.bank()) {
                return Err(wrong(format!("has two digests of {}", value.bank())));
            }
            digests.push(value);
        }
        self.rest(number, start, pcr, kind, digests)
    }

    fn rest(
        &mut self,
        number: usize,
        start: usize,
        pcr: u32,
        kind: u32,
        digests: Vec<Value>,
    ) -> Result<Event<'a>, LogError> {
        let size = self.u32("events")?;
        let data = self.take(size as usize, "events")?;
        if pcr >= REGISTERS && kind != NO_ACTION {
            return Err(LogError::Event {
                number,
                at: start,
                why: format!("extends PCR {pcr}, which no TPM has"),
            });
        }
        Ok(Event {
            pcr,
            kind,
            digests,
            data,
        })
    }
}
