//! The variable store of OVMF and other edk2 firmware (`OVMF_VARS*.fd`): the flash memory that holds its variables.
//!
//! A firmware volume (PI 1.8, volume 3, 3.2.1) whose content is, in edk2's own layout: a store header of 28 bytes, the
//! variables one after another at multiples of 4 bytes, erased bytes (0xff) to the store's end; then an event log, and the
//! journal and the spare area of the fault-tolerant writer, with which firmware compacts the store. A variable is never
//! changed in place: it is written behind the others, then the old one is marked as deleted.

use std::collections::HashMap;
use std::ops::Range;

use uuid::Uuid;

use super::bytes::{array, guid_at, size_at, u16_at, u32_at, u64_at};
use super::guid;
use super::time::Time;
use super::variable::Variable;

const VOLUME_SIGNATURE: &[u8; 4] = b"_FVH";
/// Fixed part of the volume's header, before its block map.
const VOLUME_HEADER: usize = 56;
const STORE_HEADER: usize = 28;
const STORE_FORMATTED: u8 = 0x5a;
const STORE_HEALTHY: u8 = 0xfe;
const VARIABLE_HEADER: usize = 60;
const START_ID: u16 = 0x55aa;
/// States of a variable; a step clears a bit, as flash memory can.
const ADDED: u8 = 0x3f;
const ADDED_AND_BEING_REPLACED: u8 = 0x3e;
const ERASED: u8 = 0xff;

/// Bytes are no variable store that can be worked with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No firmware volume of variables.
    #[error("not a variable store of UEFI firmware: {0}")]
    NotAStore(&'static str),
    /// The store is one, and is broken.
    #[error("byte {at} of the variable store: {what}")]
    Broken { at: usize, what: &'static str },
    /// Firmware was interrupted while it compacted the store.
    #[error("firmware was interrupted while it rewrote the variable store")]
    Interrupted,
    /// There are more variables than the store has room for.
    #[error("the variables take {needed} bytes, and the store has room for {room}")]
    Full { needed: usize, room: usize },
}

/// A variable store: its live variables, in their order, and everything around them.
#[derive(Debug, Clone)]
pub struct VariableStore {
    image: Vec<u8>,
    /// Where variables stand.
    area: Range<usize>,
    /// The journal's entries.
    journal: Option<Range<usize>>,
    variables: Vec<Variable>,
}

impl VariableStore {
    /// Reads a store: all of an `OVMF_VARS*.fd`.
    ///
    /// # Errors
    /// Something else, a store whose firmware knows no authenticated variables, or a broken one.
    pub fn parse(image: Vec<u8>) -> Result<Self, StoreError> {
        let (start, volume_end) = volume(&image)?;
        let area = store(&image, start, volume_end)?;
        let journal = journal(&image, area.end, volume_end);
        if let Some(journal) = &journal
            && image.get(journal.clone()).is_some_and(interrupted)
        {
            return Err(StoreError::Interrupted);
        }
        let variables = variables(&image, area.clone())?;
        Ok(Self {
            image,
            area,
            journal,
            variables,
        })
    }

    /// The live variables.
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// A variable.
    pub fn get(&self, vendor: Uuid, name: &str) -> Option<&Variable> {
        self.variables
            .iter()
            .find(|variable| variable.vendor == vendor && variable.name == name)
    }

    /// Whether firmware that starts with this store enforces Secure Boot: it has a platform key, and edk2's own switch is
    /// not off.
    pub fn enforces_secure_boot(&self) -> bool {
        let owned = self.get(guid::GLOBAL_VARIABLE, "PK");
        let switch = self.get(guid::SECURE_BOOT_ENABLE, "SecureBootEnable");
        owned.is_some_and(|key| !key.data.is_empty()) && switch.is_none_or(|switch| switch.data != [0])
    }

    /// Puts `variable` in the place of the one of its name and vendor, else behind all others.
    pub fn set(&mut self, variable: Variable) {
        let mut known = self.variables.iter_mut();
        match known.find(|known| known.vendor == variable.vendor && known.name == variable.name) {
            Some(known) => *known = variable,
            None => self.variables.push(variable),
        }
    }

    /// Removes a variable; whether it was there.
    pub fn remove(&mut self, vendor: Uuid, name: &str) -> bool {
        let before = self.variables.len();
        self.variables
            .retain(|variable| variable.vendor != vendor || variable.name != name);
        self.variables.len() != before
    }

    /// The store with its variables one after another, free of deleted ones, and with an empty journal; of the same length
    /// as what was read.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, StoreError> {
        let mut content = Vec::new();
        for variable in &self.variables {
            write(variable, &mut content);
        }
        if content.len() > self.area.len() {
            return Err(StoreError::Full {
                needed: content.len(),
                room: self.area.len(),
            });
        }
        content.resize(self.area.len(), ERASED);
        let mut image = self.image.clone();
        let mut put = |place: &Range<usize>, bytes: &[u8]| {
            if let Some(target) = image.get_mut(place.clone()) {
                target.copy_from_slice(bytes);
            }
        };
        put(&self.area, &content);
        if let Some(journal) = &self.journal {
            put(journal, &vec![ERASED; journal.len()]);
        }
        Ok(image)
    }
}

/// Length of the volume's header, and the volume's end.
fn volume(image: &[u8]) -> Result<(usize, usize), StoreError> {
    let not = StoreError::NotAStore;
    if image.get(40..44) != Some(VOLUME_SIGNATURE.as_slice()) {
        return Err(not("it does not begin with a firmware volume"));
    }
    if guid_at(image, 16) != Some(guid::SYSTEM_NV_DATA) {
        return Err(not("the firmware volume at its start holds no variables"));
    }
    let broken = |at, what| StoreError::Broken { at, what };
    let header = u16_at(image, 48).map_or(0, usize::from);
    let fields = image
        .get(..header)
        .filter(|_| header >= VOLUME_HEADER && header.is_multiple_of(4))
        .ok_or(broken(48, "the firmware volume's header has no possible length"))?;
    let words = fields.chunks_exact(2).filter_map(|word| u16_at(word, 0));
    if words.fold(0, u16::wrapping_add) != 0 {
        return Err(broken(
            50,
            "the checksum of the firmware volume's header is wrong",
        ));
    }
    let length = u64_at(image, 32).and_then(|length| usize::try_from(length).ok());
    let end = length
        .filter(|length| (header..=image.len()).contains(length))
        .ok_or(broken(32, "the firmware volume is longer than the file"))?;
    Ok((header, end))
}

/// Where variables stand in the store at `start`.
fn store(image: &[u8], start: usize, volume_end: usize) -> Result<Range<usize>, StoreError> {
    let broken = |offset, what| StoreError::Broken {
        at: start + offset,
        what,
    };
    match guid_at(image, start) {
        Some(guid::AUTHENTICATED_VARIABLES) => {}
        Some(guid::PLAIN_VARIABLES) => {
            return Err(StoreError::NotAStore(
                "it belongs to firmware that knows no authenticated variables, and so no Secure Boot",
            ));
        }
        _ => return Err(broken(0, "no store of authenticated variables begins here")),
    }
    let header: Option<[u8; 2]> = array(image, start + 20);
    if header != Some([STORE_FORMATTED, STORE_HEALTHY]) {
        return Err(broken(20, "the store is not formatted, or marked as broken"));
    }
    let end = size_at(image, start + 16)
        .and_then(|size| start.checked_add(size))
        .filter(|end| (start + STORE_HEADER..=volume_end).contains(end))
        .ok_or(broken(16, "the store does not fit into its firmware volume"))?;
    Ok(start + STORE_HEADER..end)
}

/// The live variables in `area`.
fn variables(image: &[u8], area: Range<usize>) -> Result<Vec<Variable>, StoreError> {
    let bytes = image.get(..area.end).unwrap_or_default();
    let mut found: Vec<Variable> = Vec::new();
    let mut places: HashMap<(Uuid, String), (usize, u8)> = HashMap::new();
    let mut at = area.start;
    while u16_at(bytes, at) == Some(START_ID) {
        let broken = |what| StoreError::Broken { at, what };
        const CUT: &str = "a variable reaches beyond the store's end";
        let name_size = size_at(bytes, at + 36).ok_or(broken(CUT))?;
        let data_size = size_at(bytes, at + 40).ok_or(broken(CUT))?;
        let name_at = at + VARIABLE_HEADER;
        let data_at = name_at.checked_add(name_size).ok_or(broken(CUT))?;
        let end = data_at.checked_add(data_size).ok_or(broken(CUT))?;
        let state = bytes.get(at + 2).copied().unwrap_or(ERASED);
        if state == ADDED || state == ADDED_AND_BEING_REPLACED {
            let name = bytes.get(name_at..data_at).ok_or(broken(CUT))?;
            let data = bytes.get(data_at..end).ok_or(broken(CUT))?;
            let name = name_of(name).ok_or(broken("a variable's name is not UTF-16 with an end"))?;
            let variable = Variable {
                vendor: guid_at(bytes, at + 44).ok_or(broken(CUT))?,
                attributes: u32_at(bytes, at + 4).ok_or(broken(CUT))?,
                monotonic_count: u64_at(bytes, at + 8).ok_or(broken(CUT))?,
                time: Time(array(bytes, at + 16).ok_or(broken(CUT))?),
                public_key_index: u32_at(bytes, at + 32).ok_or(broken(CUT))?,
                data: data.to_vec(),
                name,
            };
            let key = (variable.vendor, variable.name.clone());
            match places.get(&key) {
                None => {
                    places.insert(key, (found.len(), state));
                    found.push(variable);
                }
                // A replacement that was interrupted before the old value was marked: the new one counts.
                Some(&(index, ADDED_AND_BEING_REPLACED)) if state == ADDED => {
                    places.insert(key, (index, state));
                    found[index] = variable;
                }
                Some((_, ADDED)) if state == ADDED_AND_BEING_REPLACED => {}
                Some(_) => return Err(broken("a variable is there twice")),
            }
        } else if end > area.end {
            return Err(broken(CUT));
        }
        at = end.next_multiple_of(4);
    }
    Ok(found)
}

fn name_of(bytes: &[u8]) -> Option<String> {
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    let units: Vec<u16> = bytes.chunks_exact(2).filter_map(|unit| u16_at(unit, 0)).collect();
    match units.split_last()? {
        (0, name) if !name.contains(&0) => String::from_utf16(name).ok(),
        _ => None,
    }
}

fn write(variable: &Variable, out: &mut Vec<u8>) {
    let name: Vec<u8> = variable
        .name
        .encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect();
    // More than 4 GiB does not fit into the store, which says so.
    let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    out.extend(START_ID.to_le_bytes());
    out.extend([ADDED, 0]);
    out.extend(variable.attributes.to_le_bytes());
    out.extend(variable.monotonic_count.to_le_bytes());
    out.extend(variable.time.0);
    out.extend(variable.public_key_index.to_le_bytes());
    out.extend(size(&name));
    out.extend(size(&variable.data));
    out.extend(variable.vendor.to_bytes_le());
    out.extend(name);
    out.extend(&variable.data);
    out.resize(out.len().next_multiple_of(4), ERASED);
}

/// Granularity in which firmware lays out the parts of the volume.
const BLOCK: usize = 4096;
const JOURNAL_HEADER: usize = 32;
/// Head of an entry of the journal, and what each of its writes begins with.
const ENTRY: usize = 40;
const WRITE: usize = 40;

/// The entries of the fault-tolerant writer's journal (edk2, `EFI_FAULT_TOLERANT_WORKING_BLOCK_HEADER`).
fn journal(image: &[u8], store_end: usize, volume_end: usize) -> Option<Range<usize>> {
    let mut at = store_end.next_multiple_of(BLOCK);
    while at < volume_end {
        if guid_at(image, at) == Some(guid::WORKING_BLOCK) {
            let size = usize::try_from(u64_at(image, at + 24)?).ok()?;
            let start = at + JOURNAL_HEADER;
            let end = start.checked_add(size)?;
            return (end <= volume_end).then_some(start..end);
        }
        at += BLOCK;
    }
    None
}

/// Whether the last entry's new content stands complete in the spare area and not yet in its place. Flags are set by
/// clearing their bit.
fn interrupted(journal: &[u8]) -> bool {
    let set = |flags: u8, bit: u8| flags & 1 << bit == 0;
    let mut at = 0;
    while let Some(&flags) = journal.get(at) {
        if flags == ERASED {
            return false;
        }
        let (Some(writes), Some(private)) = (u64_at(journal, at + 24), u64_at(journal, at + 32)) else {
            return false;
        };
        let each = private.saturating_add(WRITE as u64);
        let size = writes.saturating_mul(each).saturating_add(ENTRY as u64);
        let Some(end) = usize::try_from(size).ok().and_then(|size| at.checked_add(size)) else {
            return false;
        };
        // Allocated, its writes too, and not complete.
        if set(flags, 0) && set(flags, 1) && !set(flags, 2) {
            let step = usize::try_from(each).unwrap_or(usize::MAX);
            let records = journal
                .get(at + ENTRY..end.min(journal.len()))
                .unwrap_or_default();
            return records
                .chunks(step)
                .any(|record| set(record[0], 1) && !set(record[0], 2));
        }
        at = end;
    }
    false
}

#[cfg(test)]
mod tests;
