//! What a firmware measures by itself, and the registers that follow.
//!
//! Specification: TCG *PC Client Platform Firmware Profile*, 3.3.4 and 10.4; the order is that of EDK II, on which OVMF and Azure's firmware build.

use std::collections::BTreeMap;

use super::events::Event;
use crate::formats::pcr::{Bank, Value};

/// The registers that are predicted.
pub const PREDICTED: [u32; 6] = [4, 7, 9, 11, 12, 13];

const ACTION: &[u8] = b"Calling EFI Application from Boot Option";
const SEPARATOR: [u8; 4] = [0; 4];
/// `EFI_GLOBAL_VARIABLE`: 8be4df61-93ca-11d2-aa0d-00e098032b8c, in mixed order.
const GLOBAL: [u8; 16] = [
    0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c,
];
/// `EFI_IMAGE_SECURITY_DATABASE`: d719b2cb-3d3a-4596-a3bc-dad00e67656f, in mixed order.
const SECURITY: [u8; 16] = [
    0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f,
];

/// A firmware with its variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    /// For people and scripts: `ovmf-secure-boot-off`.
    pub name: String,
    pub secure_boot: bool,
    /// Contents of the variables `PK`, `KEK`, `db`, `dbx`: signature lists, empty where a variable is not there.
    pub keys: [Vec<u8>; 4],
    /// The entries of db (`EFI_SIGNATURE_DATA`: owner and certificate) that vouch for the programs that are
    /// loaded, each once, in the order of first use.
    pub authorities: Vec<Vec<u8>>,
}

impl Firmware {
    /// The name of OVMF with an image's keys as `keys enroll-ovmf` enrols them.
    pub const SECURE_BOOT_ON: &str = "ovmf-secure-boot-on";
    /// The same as the boot loader enrols them.
    pub const AUTO_ENROLLED: &str = "ovmf-secure-boot-auto-enrolled";

    /// OVMF as it comes, without keys.
    pub fn ovmf() -> Self {
        Self {
            name: "ovmf-secure-boot-off".to_owned(),
            secure_boot: false,
            keys: Default::default(),
            authorities: Vec::new(),
        }
    }

    /// OVMF with these contents of `PK`, `KEK`, `db` and `dbx`, Secure Boot on.
    pub fn ovmf_with_keys(name: &str, keys: [Vec<u8>; 4], authorities: Vec<Vec<u8>>) -> Self {
        Self {
            name: name.to_owned(),
            secure_boot: true,
            keys,
            authorities,
        }
    }

    /// What it measures into PCR 4 and PCR 7 around the programs of an image, before them and, for authorities, while it
    /// loads them.
    pub fn events(&self, banks: &[Bank]) -> Vec<Event> {
        let variable = |guid: &[u8; 16], name: &str, value: &[u8]| {
            let bytes = variable(guid, name, value);
            Event::of(7, format!("variable {name}"), &bytes, banks)
        };
        let [pk, kek, db, dbx] = &self.keys;
        let mut events = vec![
            variable(&GLOBAL, "SecureBoot", &[u8::from(self.secure_boot)]),
            variable(&GLOBAL, "PK", pk),
            variable(&GLOBAL, "KEK", kek),
            variable(&SECURITY, "db", db),
            variable(&SECURITY, "dbx", dbx),
            Event::of(7, "separator", &SEPARATOR, banks),
            Event::of(4, "action: calling a boot option", ACTION, banks),
            Event::of(4, "separator", &SEPARATOR, banks),
        ];
        for authority in &self.authorities {
            let bytes = self::variable(&SECURITY, "db", authority);
            events.push(Event::of(
                7,
                "entry of db that vouches for a program",
                &bytes,
                banks,
            ));
        }
        events
    }

    /// The registers [`PREDICTED`] in `bank`, as the kernel is started by an image with the events `image`.
    pub fn predict(&self, image: &[Event], bank: Bank) -> BTreeMap<u32, Value> {
        let mut registers: BTreeMap<_, _> = PREDICTED.map(|pcr| (pcr, Value::zero(bank))).into();
        let image = image
            .iter()
            .filter(|event| !(self.secure_boot && event.is_left_out_by_secure_boot()));
        for event in self.events(&[bank]).iter().chain(image) {
            if let (Some(value), Some(digest)) = (registers.get_mut(&event.pcr), event.digest(bank)) {
                *value = value.extended(&digest);
            }
        }
        registers
    }
}

/// `UEFI_VARIABLE_DATA`: what of a variable is measured.
fn variable(guid: &[u8; 16], name: &str, value: &[u8]) -> Vec<u8> {
    let units: Vec<u16> = name.encode_utf16().collect();
    let mut bytes = guid.to_vec();
    bytes.extend_from_slice(&(units.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
    bytes.extend_from_slice(value);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ovmf_without_keys_has_its_well_known_pcr_7() {
        // As a machine under QEMU showed them.
        let cases = [
            (Bank::Sha1, "518bd167271fbb64589c61e43d8c0165861431d8"),
            (
                Bank::Sha256,
                "65caf8dd1e0ea7a6347b635d2b379c93b9a1351edc2afc3ecda700e534eb3068",
            ),
            (
                Bank::Sha384,
                "98441c7f7625d10058c47683aec486ce311c633235eb555593a7ee791121e3578ae72d04ecef661f272d59058b77af35",
            ),
        ];
        for (bank, expected) in cases {
            let registers = Firmware::ovmf().predict(&[], bank);
            assert_eq!(registers[&7].to_string(), expected);
            assert!(registers[&12].is_zero() && registers[&13].is_zero());
        }
    }

    #[test]
    fn secure_boot_leaves_the_kernel_out_and_tells_who_vouched() {
        let event = |what: &str| Event::of(4, what, what.as_bytes(), &[Bank::Sha256]);
        let image = [event("UKI"), event("kernel")];
        let register =
            |firmware: &Firmware, image: &[Event], pcr: u32| firmware.predict(image, Bank::Sha256)[&pcr];
        let off = Firmware::ovmf();
        assert_ne!(register(&off, &image, 4), register(&off, &image[..1], 4));
        let keys = || [vec![1], vec![2], vec![3], Vec::new()];
        let on = Firmware::ovmf_with_keys("on", keys(), Vec::new());
        assert_eq!(register(&on, &image, 4), register(&off, &image[..1], 4));
        let vouched = Firmware::ovmf_with_keys("on", keys(), vec![vec![3]]);
        let seven = register(&on, &image, 7);
        let entry = variable(&SECURITY, "db", &[3]);
        assert_eq!(register(&vouched, &image, 7), seven.measured(&entry));
    }
}
