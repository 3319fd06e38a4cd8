//! What modules say of themselves, kept from one build to the next by the digest of the file: reading it anew means to
//! decompress every module.

use sha2::{Digest as _, Sha256};

use crate::formats::kmod::{KmodError, Module, Need};
use crate::store::{Blob, Digest, Key, Values};

/// The kind of values that knows modules.
pub const KIND: &str = "kernel-modules";
/// Changes with every change of what is kept or of how it is read.
const VERSION: &[u8] = b"hullwright kernel module 1\0";

/// What is known of the module in `blob` is kept under this.
pub(super) fn key(blob: &Blob) -> Key {
    Digest::finish(Sha256::new_with_prefix(VERSION).chain_update(blob.sha256().0)).0
}

/// Reads the module in `blob`, or takes what `known` has of it.
pub(super) fn read(blob: &Blob, known: Option<&Values>) -> Result<Module, KmodError> {
    let Some(known) = known else {
        return Module::read(blob.reader());
    };
    let key = key(blob);
    if let Some(module) = known.get(&key).and_then(|value| decode(&value)) {
        return Ok(module);
    }
    let module = Module::read(blob.reader())?;
    known.put(&key, &encode(&module));
    Ok(module)
}

/// Three lists, each led by its length: pairs of `.modinfo`, exports with their CRC, needs with 1 where they are weak.
/// Texts are led by their length; all numbers are little-endian, lengths u32, CRCs u64.
fn encode(module: &Module) -> Vec<u8> {
    let mut value = Vec::new();
    let length = |value: &mut Vec<u8>, length: usize| value.extend((length as u32).to_le_bytes());
    let text = |value: &mut Vec<u8>, text: &[u8]| {
        length(value, text.len());
        value.extend(text);
    };
    length(&mut value, module.info.len());
    for (name, content) in &module.info {
        text(&mut value, name);
        text(&mut value, content);
    }
    length(&mut value, module.exports.len());
    for (name, crc) in &module.exports {
        text(&mut value, name);
        value.extend(crc.to_le_bytes());
    }
    length(&mut value, module.needs.len());
    for need in &module.needs {
        text(&mut value, &need.symbol);
        value.push(u8::from(need.weak));
    }
    value
}

/// `None` for anything but what [`encode`] gives.
fn decode(value: &[u8]) -> Option<Module> {
    let mut rest = value;
    let info = list(&mut rest, |rest| Some((text(rest)?, text(rest)?)))?;
    let exports = list(&mut rest, |rest| {
        Some((text(rest)?, u64::from_le_bytes(take(rest)?)))
    })?;
    let needs = list(&mut rest, |rest| {
        let symbol = text(rest)?;
        let weak = match take(rest)? {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        Some(Need { symbol, weak })
    })?;
    rest.is_empty().then_some(Module { info, exports, needs })
}

fn list<T>(rest: &mut &[u8], item: impl Fn(&mut &[u8]) -> Option<T>) -> Option<Vec<T>> {
    let count = u32::from_le_bytes(take(rest)?);
    (0..count).map(|_| item(rest)).collect()
}

fn text(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let length = u32::from_le_bytes(take(rest)?);
    let (text, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = behind;
    Some(text.to_vec())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    fn module() -> Module {
        Module {
            info: vec![
                (b"name".to_vec(), b"sample".to_vec()),
                (b"retpoline".to_vec(), vec![]),
            ],
            exports: vec![(b"sample_open".to_vec(), 0x1234_5678_9abc)],
            needs: vec![
                Need {
                    symbol: b"printk".to_vec(),
                    weak: false,
                },
                Need {
                    symbol: b"perhaps".to_vec(),
                    weak: true,
                },
            ],
        }
    }

    #[test]
    fn a_module_is_kept_without_loss_and_nothing_else_is_taken_for_one() {
        let value = encode(&module());
        assert_eq!(decode(&value), Some(module()));
        assert_eq!(decode(&encode(&Module::default())), Some(Module::default()));
        for end in 0..value.len() {
            assert_eq!(decode(&value[..end]), None, "cut off at {end}");
        }
        assert_eq!(decode(&[&*value, &[0]].concat()), None);
        let mut weak = value.clone();
        *weak.last_mut().unwrap() = 2;
        assert_eq!(decode(&weak), None);
        assert_eq!(decode(&u32::MAX.to_le_bytes()), None);
    }

    #[test]
    fn what_is_known_is_not_read_again() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        let blob = Blob::from_bytes(b"no module".to_vec());
        let known = store.values(KIND).unwrap();
        assert!(read(&blob, Some(&known)).is_err());
        let key = Digest::finish(Sha256::new_with_prefix(VERSION).chain_update(blob.sha256().0)).0;
        known.put(&key, &encode(&module()));
        known.keep().unwrap();
        let known = store.values(KIND).unwrap();
        assert_eq!(read(&blob, Some(&known)).unwrap(), module());
        assert!(read(&blob, None).is_err());
    }
}
