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
mod tests {
    use super::*;
    use crate::formats::efi::variable::attribute;

    const VENDOR: Uuid = guid::GLOBAL_VARIABLE;

    /// An empty store as firmware formats it: a store of 1 KiB, and a journal.
    fn empty() -> Vec<u8> {
        let mut image = vec![ERASED; 3 * BLOCK];
        image[..16].fill(0);
        image[16..32].copy_from_slice(&guid::SYSTEM_NV_DATA.to_bytes_le());
        image[32..40].copy_from_slice(&(3 * BLOCK as u64).to_le_bytes());
        image[40..44].copy_from_slice(VOLUME_SIGNATURE);
        image[44..48].copy_from_slice(&0x0004_feff_u32.to_le_bytes());
        image[48..56].copy_from_slice(&[72, 0, 0, 0, 0, 0, 0, 2]);
        image[56..72].fill(0);
        image[56] = 3;
        image[61] = 0x10;
        let sum = image[..72]
            .chunks(2)
            .fold(0, |sum: u16, word| sum.wrapping_add(u16_at(word, 0).unwrap()));
        image[50..52].copy_from_slice(&sum.wrapping_neg().to_le_bytes());
        image[72..88].copy_from_slice(&guid::AUTHENTICATED_VARIABLES.to_bytes_le());
        image[88..92].copy_from_slice(&(1024_u32 - 72).to_le_bytes());
        image[92..100].copy_from_slice(&[STORE_FORMATTED, STORE_HEALTHY, 0, 0, 0, 0, 0, 0]);
        let journal = &mut image[BLOCK..];
        journal[..16].copy_from_slice(&guid::WORKING_BLOCK.to_bytes_le());
        journal[24..32].copy_from_slice(&(BLOCK as u64 - 32).to_le_bytes());
        image
    }

    fn variable(name: &str, data: &[u8]) -> Variable {
        Variable::new(VENDOR, name, attribute::NON_VOLATILE, data.to_vec())
    }

    fn filled() -> VariableStore {
        let mut store = VariableStore::parse(empty()).unwrap();
        store.set(variable("Boot0000", b"one"));
        store.set(variable("Lang", b"two"));
        store
    }

    #[test]
    fn variables_stand_as_firmware_has_them() {
        let mut store = filled();
        store.set(Variable {
            time: Time::from_unix(1_262_304_000),
            ..Variable::new(
                guid::IMAGE_SECURITY_DATABASE,
                "db",
                attribute::SECURE_BOOT,
                vec![7],
            )
        });
        let bytes = store.to_bytes().unwrap();
        assert_eq!(bytes.len(), empty().len());
        let first = &bytes[100..];
        assert_eq!(first[..8], [0xaa, 0x55, 0x3f, 0, 1, 0, 0, 0]);
        assert_eq!(first[8..36], [0; 28]);
        assert_eq!(first[36..44], [18, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(first[44..60], VENDOR.to_bytes_le());
        assert_eq!(&first[60..78], b"B\0o\0o\0t\x000\x000\x000\x000\0\0\0".as_slice());
        assert_eq!(&first[78..84], b"one\xff\xff\xff");
        assert_eq!(first[84..86], [0xaa, 0x55]);

        let again = VariableStore::parse(bytes).unwrap();
        assert_eq!(again.variables(), store.variables());
        let db = again.get(guid::IMAGE_SECURITY_DATABASE, "db").unwrap();
        assert_eq!((db.attributes, db.data.as_slice()), (0x27, [7].as_slice()));
        assert_eq!(db.time.to_string(), "2010-01-01T00:00:00Z");
    }

    #[test]
    fn variables_are_replaced_and_removed() {
        let mut store = filled();
        store.set(variable("Boot0000", b"anew"));
        let other = Variable::new(guid::CUSTOM_MODE, "Lang", 1, vec![]);
        store.set(other.clone());
        assert!(store.remove(VENDOR, "Lang") && !store.remove(VENDOR, "Lang"));
        let again = VariableStore::parse(store.to_bytes().unwrap()).unwrap();
        assert_eq!(again.variables(), [variable("Boot0000", b"anew"), other]);
        assert_eq!(again.get(VENDOR, "Lang"), None);
    }

    #[test]
    fn states_of_variables_are_heeded() {
        const FIRST: usize = 100;
        let image = filled().to_bytes().unwrap();
        let second = FIRST + 84;
        let state = |at: usize, value: u8| {
            let mut image = image.clone();
            image[at + 2] = value;
            VariableStore::parse(image).unwrap()
        };
        for gone in [0x3d, 0x3c, 0x7f, 0xff, 0] {
            let store = state(FIRST, gone);
            assert_eq!(store.variables(), [variable("Lang", b"two")], "{gone:#x}");
        }
        assert_eq!(state(FIRST, 0x3e).variables().len(), 2);

        // The same name twice: the old value on its way out, the new one in.
        let mut store = VariableStore::parse(empty()).unwrap();
        store.variables = vec![variable("Lang", b"old"), variable("Lang", b"new")];
        let mut image = store.to_bytes().unwrap();
        assert!(matches!(
            VariableStore::parse(image.clone()),
            Err(StoreError::Broken {
                what: "a variable is there twice",
                ..
            })
        ));
        image[FIRST + 2] = 0x3e;
        assert_eq!(
            VariableStore::parse(image.clone()).unwrap().variables(),
            [variable("Lang", b"new")]
        );
        let size = (second - FIRST) - 8;
        image[FIRST + 2] = 0x3f;
        image[FIRST + size + 2] = 0x3e;
        assert_eq!(
            VariableStore::parse(image).unwrap().variables(),
            [variable("Lang", b"old")]
        );
    }

    #[test]
    fn a_full_store_says_so() {
        let mut store = filled();
        store.set(variable("big", &[0; 2000]));
        match store.to_bytes() {
            Err(StoreError::Full { needed, room }) => assert_eq!((needed, room), (84 + 76 + 2068, 924)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn broken_stores_are_refused() {
        let good = filled().to_bytes().unwrap();
        let with = |at: usize, bytes: &[u8]| {
            let mut image = good.clone();
            image[at..at + bytes.len()].copy_from_slice(bytes);
            image
        };
        let table: &[(Vec<u8>, &str)] = &[
            (vec![], "does not begin with a firmware volume"),
            (good[..43].to_vec(), "does not begin with a firmware volume"),
            (with(16, &[0; 16]), "holds no variables"),
            (good[..70].to_vec(), "no possible length"),
            (with(48, &[0xff, 0xff]), "no possible length"),
            (with(48, &[2, 0]), "no possible length"),
            (with(46, &[9]), "checksum"),
            (good[..BLOCK].to_vec(), "longer than the file"),
            (with(72, &guid::PLAIN_VARIABLES.to_bytes_le()), "no Secure Boot"),
            (with(72, &[0; 16]), "no store of authenticated variables"),
            (with(92, &[0]), "not formatted"),
            (with(93, &[0]), "marked as broken"),
            (with(88, &[0xff; 4]), "does not fit"),
            (with(88, &[27, 0, 0, 0]), "does not fit"),
            (with(136, &[0xff; 4]), "beyond the store's end"),
            (with(140, &[0xff; 4]), "beyond the store's end"),
            (with(136, &[17]), "not UTF-16 with an end"),
            (with(160, &[0, 0]), "not UTF-16 with an end"),
            (with(160, &[0, 0xd8]), "not UTF-16 with an end"),
        ];
        for (image, part) in table {
            let error = VariableStore::parse(image.clone()).unwrap_err().to_string();
            assert!(error.contains(part), "{part}: {error}");
        }
        // Deleted, and its length is a lie: what follows cannot be found.
        let mut image = with(140, &[0xff; 4]);
        image[102] = 0x3c;
        assert!(VariableStore::parse(image).is_err());
    }

    #[test]
    fn an_interrupted_rewrite_is_noticed() {
        let entry = |head: u8, write: u8| {
            let mut image = filled().to_bytes().unwrap();
            let journal = &mut image[BLOCK + 32..];
            journal[..2 * ENTRY + WRITE].fill(0);
            // One that was completed, with one write that has 8 private bytes.
            journal[0] = 0xf8;
            journal[24] = 1;
            journal[32] = 8;
            journal[40] = 0xf9;
            journal.copy_within(..88, 88);
            journal[88] = head;
            journal[128] = write;
            image
        };
        for (head, write, expected) in [
            (0xf8, 0xf9, false),
            (0xfc, 0xff, false),
            (0xfe, 0xff, false),
            (0xfc, 0xfd, true),
            (0xfc, 0xf9, false),
        ] {
            let image = entry(head, write);
            match VariableStore::parse(image) {
                Ok(store) => {
                    assert!(!expected, "{head:#x} {write:#x}");
                    let written = store.to_bytes().unwrap();
                    assert_eq!(written, filled().to_bytes().unwrap(), "the journal is emptied");
                }
                Err(error) => assert!(expected && error == StoreError::Interrupted, "{error}"),
            }
        }
    }
}
