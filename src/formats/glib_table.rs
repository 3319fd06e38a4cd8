//! The order in which GLib's `GHashTable` of strings gives its entries back: programs that write files straight from
//! such tables leave it in their outputs, so equal bytes need the same table.
//!
//! As in GLib 2.60 and newer: open addressing, a prime modulus below a power of two, triangular steps, and entries that
//! are moved within the array where it grows. Only what programs of this kind need is here: nothing is ever removed.

/// Prime moduli for arrays of 2, 4, 8 … slots; the first stands for one slot.
const MODULI: [u32; 32] = [
    1,
    2,
    3,
    7,
    13,
    31,
    61,
    127,
    251,
    509,
    1021,
    2039,
    4093,
    8191,
    16381,
    32749,
    65521,
    131_071,
    262_139,
    524_287,
    1_048_573,
    2_097_143,
    4_194_301,
    8_388_593,
    16_777_213,
    33_554_393,
    67_108_859,
    134_217_689,
    268_435_399,
    536_870_909,
    1_073_741_789,
    2_147_483_647,
];
const LEAST_SHIFT: u32 = 3;

#[derive(Debug)]
struct Entry<V> {
    hash: u32,
    key: String,
    value: V,
}

/// A table whose order of iteration is GLib's.
#[derive(Debug)]
pub struct GlibTable<V> {
    slots: Vec<Option<Entry<V>>>,
    shift: u32,
    count: usize,
}

impl<V> Default for GlibTable<V> {
    fn default() -> Self {
        Self {
            slots: empty(1 << LEAST_SHIFT),
            shift: LEAST_SHIFT,
            count: 0,
        }
    }
}

fn empty<V>(size: usize) -> Vec<Option<Entry<V>>> {
    std::iter::repeat_with(|| None).take(size).collect()
}

/// `g_str_hash`; the two values that GLib keeps for itself are replaced.
fn hash(key: &str) -> u32 {
    let add = |hash: u32, &byte: &u8| {
        let signed = i32::from(byte.cast_signed());
        hash.wrapping_mul(33).wrapping_add_signed(signed)
    };
    match key.as_bytes().iter().fold(5381, add) {
        0 | 1 => 2,
        hash => hash,
    }
}

impl<V> GlibTable<V> {
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn get(&self, key: &str) -> Option<&V> {
        let slot = self.find(hash(key), key);
        self.slots[slot].as_ref().map(|entry| &entry.value)
    }

    /// Puts `value` under `key`; where the key is there, only its value is replaced.
    pub fn insert(&mut self, key: &str, value: V) {
        let hash = hash(key);
        let slot = self.find(hash, key);
        if let Some(entry) = &mut self.slots[slot] {
            entry.value = value;
        } else {
            self.add(slot, hash, key, value);
        }
    }

    /// In GLib's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        let entries = self.slots.iter().flatten();
        entries.map(|entry| (entry.key.as_str(), &entry.value))
    }

    /// In GLib's order, the table taken apart.
    pub fn into_entries(self) -> impl Iterator<Item = (String, V)> {
        self.slots
            .into_iter()
            .flatten()
            .map(|entry| (entry.key, entry.value))
    }

    fn mask(&self) -> usize {
        self.slots.len() - 1
    }

    fn home(&self, hash: u32) -> usize {
        (hash.wrapping_mul(11) % MODULI[self.shift as usize]) as usize
    }

    /// The slot that holds `key`, or that it would go to. There is always a free one.
    fn find(&self, hash: u32, key: &str) -> usize {
        let (mut slot, mut step) = (self.home(hash), 0);
        while let Some(entry) = &self.slots[slot] {
            if entry.hash == hash && entry.key == key {
                break;
            }
            step += 1;
            slot = (slot + step) & self.mask();
        }
        slot
    }

    fn add(&mut self, slot: usize, hash: u32, key: &str, value: V) {
        let key = key.to_owned();
        self.slots[slot] = Some(Entry { hash, key, value });
        self.count += 1;
        if self.slots.len() <= self.count + self.count / 16 {
            self.grow();
        }
    }

    /// Each entry goes to its new place, from where it pushes out one that has not been placed yet, which goes on.
    fn grow(&mut self) {
        // GLib computes the size as a number with a fraction, and drops that.
        let wanted = self.count * 1333 / 1000;
        self.shift = (usize::BITS - wanted.leading_zeros()).max(LEAST_SHIFT);
        let old = self.slots.len();
        let size = (1 << self.shift).max(old);
        self.slots.resize_with(size, || None);
        let mut placed = vec![false; size];
        for start in 0..old {
            if placed[start] {
                continue;
            }
            let mut moving = self.slots[start].take();
            while let Some(entry) = moving {
                let (mut slot, mut step) = (self.home(entry.hash), 0);
                while placed[slot] {
                    step += 1;
                    slot = (slot + step) & self.mask();
                }
                placed[slot] = true;
                moving = self.slots[slot].replace(entry);
            }
        }
    }
}

impl<V: Default> GlibTable<V> {
    /// The value under `key`, made where there is none.
    pub fn entry(&mut self, key: &str) -> &mut V {
        let hash = hash(key);
        let mut slot = self.find(hash, key);
        if self.slots[slot].is_none() {
            self.add(slot, hash, key, V::default());
            slot = self.find(hash, key);
        }
        let entry = self.slots[slot].get_or_insert_with(|| Entry {
            hash,
            key: key.to_owned(),
            value: V::default(),
        });
        &mut entry.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_gives_back_what_was_put_in() {
        let mut table = GlibTable::default();
        for number in 0..5000 {
            table.insert(&format!("key {number}"), number);
            table.insert(&format!("key {}", number / 2), number / 2);
            *table.entry("counter") += 1;
        }
        assert_eq!((table.len(), table.is_empty()), (5001, false));
        assert_eq!(table.get("counter"), Some(&5000));
        assert_eq!(table.get("key 4999"), Some(&4999));
        assert_eq!(table.get("key 5000"), None);
        let mut values: Vec<_> = table.into_entries().filter(|(key, _)| key != "counter").collect();
        values.sort_by_key(|(_, value)| *value);
        assert_eq!(values.len(), 5000);
        assert!(values.iter().all(|(key, value)| *key == format!("key {value}")));
    }

    #[test]
    fn the_order_is_that_of_glib() {
        // As `g_hash_table_foreach` of GLib 2.74 gives them.
        let expected = [
            22, 1, 38, 12, 28, 7, 18, 33, 23, 2, 39, 13, 29, 8, 19, 34, 24, 3, 14, 9, 35, 25, 4, 30, 15, 20,
            36, 10, 26, 5, 16, 31, 21, 0, 37, 11, 27, 6, 17, 32,
        ];
        let mut table = GlibTable::default();
        for number in 0..40 {
            table.insert(&format!("key {number}"), number);
        }
        let order: Vec<_> = table.iter().map(|(_, number)| *number).collect();
        assert_eq!(order, expected);
    }
}
