//! A machine's event log beside what an image would make it log.
//!
//! A log tells the firmware's own events from those that the image brings by register and kind: programs in PCR 4, the boot
//! loader's configuration in PCR 5, what the kernel's stub measures in PCR 9, all of PCR 11, 12 and 13. So the image's
//! part can be compared event by event, or be taken out for that of another image, which predicts the registers of any firmware that
//! has once been seen booting.

use std::collections::BTreeMap;
use std::fmt;

use super::events::Event;
use super::firmware::PREDICTED;
use crate::formats::event_log::{EFI_BOOT_SERVICES_APPLICATION, EVENT_TAG, Event as Logged, EventLog};
use crate::formats::pcr::{Bank, Value};

/// The registers that an image has a part in.
const PARTS: [u32; 6] = [4, 5, 9, 11, 12, 13];

/// An event of the log that is not what the image brings, or the other way round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The same place, another digest.
    Other {
        pcr: u32,
        /// What the image brings there.
        what: String,
        expected: Value,
        found: Value,
        /// What the log says of it.
        said: String,
    },
    /// The log has more.
    Added { pcr: u32, said: String, found: Value },
    /// The log ends before it.
    Missing { pcr: u32, what: String, expected: Value },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other {
                pcr,
                what,
                expected,
                found,
                said,
            } => write!(
                f,
                "PCR {pcr}: another {what}: the log has {found} ({said}), the image {expected}"
            ),
            Self::Added { pcr, said, found } => {
                write!(f, "PCR {pcr}: the image brings nothing like {found} ({said})")?;
                match pcr {
                    4 => f.write_str(": another program was started, or an add-on loaded"),
                    12 => f.write_str(": an add-on, a credential, a configuration extension, a profile or arguments from outside"),
                    13 => f.write_str(": a system extension"),
                    _ => Ok(()),
                }
            }
            Self::Missing { pcr, what, expected } => {
                write!(f, "PCR {pcr}: the log lacks the image's {what} ({expected})")
            }
        }
    }
}

/// Whether the image, not the firmware, is behind an event.
fn is_images(event: &Logged<'_>) -> bool {
    event.extends()
        && match event.pcr {
            4 => event.kind == EFI_BOOT_SERVICES_APPLICATION,
            5 | 9 => event.kind == EVENT_TAG,
            11..=13 => true,
            _ => false,
        }
}

/// The variable that says whether firmware enforces Secure Boot.
const SECURE_BOOT: &str = "SecureBoot";

/// What of `image` the machine that wrote `log` measures.
fn measured<'a>(log: &EventLog<'_>, image: &'a [Event]) -> Vec<&'a Event> {
    let variables = log.events.iter().filter(|event| event.pcr == 7);
    let on = variables
        .filter_map(Logged::variable)
        .any(|variable| variable.name == SECURE_BOOT && variable.value == [1]);
    let all = image.iter();
    all.filter(|event| !(on && event.is_left_out_by_secure_boot()))
        .collect()
}

/// What differs between the image's part of `log` in `bank` and `image`, register by register.
pub fn differences(log: &EventLog<'_>, image: &[Event], bank: Bank) -> Vec<Difference> {
    let image = measured(log, image);
    let mut differences = Vec::new();
    for pcr in PARTS {
        let found = log
            .events
            .iter()
            .filter(|event| event.pcr == pcr && is_images(event));
        let mut found = found.filter_map(|event| Some((event, event.digest(bank)?)));
        let expected = image.iter().filter(|event| event.pcr == pcr);
        for event in expected {
            let Some(expected) = event.digest(bank) else {
                continue;
            };
            let what = event.what.clone();
            match found.next() {
                Some((_, found)) if found == expected => {}
                Some((logged, found)) => differences.push(Difference::Other {
                    pcr,
                    what,
                    expected,
                    found,
                    said: logged.describe(),
                }),
                None => differences.push(Difference::Missing { pcr, what, expected }),
            }
        }
        differences.extend(found.map(|(event, found)| Difference::Added {
            pcr,
            said: event.describe(),
            found,
        }));
    }
    differences
}

/// The registers [`PREDICTED`] in `bank` of the machine that wrote `log`, had it booted the image with the events `image`: the
/// firmware's events are the log's, and the image's stand in the place of those that were there.
pub fn predict(log: &EventLog<'_>, image: &[Event], bank: Bank) -> BTreeMap<u32, Value> {
    let image = measured(log, image);
    let register = |pcr: u32| {
        let mut value = log.initial(pcr, bank);
        let mut own: Vec<Value> = image
            .iter()
            .filter(|event| event.pcr == pcr)
            .filter_map(|event| event.digest(bank))
            .collect();
        let extends = |event: &&Logged<'_>| event.pcr == pcr && event.extends();
        for event in log.events.iter().filter(extends) {
            if is_images(event) {
                for digest in own.drain(..) {
                    value = value.extended(&digest);
                }
            } else if let Some(digest) = event.digest(bank) {
                value = value.extended(&digest);
            }
        }
        let rest = own.iter();
        (pcr, rest.fold(value, |value, digest| value.extended(digest)))
    };
    PREDICTED.map(register).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::event_log::fixture::{Log, image_load};
    use crate::formats::event_log::{EFI_VARIABLE_DRIVER_CONFIG, IPL, SEPARATOR};

    const BANKS: [Bank; 2] = [Bank::Sha256, Bank::Sha384];

    fn image(version: &str) -> Vec<Event> {
        let event = |pcr, what: &str| Event::of(pcr, what, format!("{what} {version}").as_bytes(), &BANKS);
        vec![
            event(4, "boot loader"),
            event(4, "UKI"),
            event(11, "section .linux"),
            event(9, "initrd"),
        ]
    }

    /// A log of firmware that boots `image`, and says more in PCR 4 when it has done so.
    fn log(image: &[Event], more: &[(u32, u32)]) -> Vec<u8> {
        let mut log = Log::new(&BANKS);
        log.variable(7, EFI_VARIABLE_DRIVER_CONFIG, "SecureBoot", &[0]);
        log.action(4, "Calling EFI Application from Boot Option");
        log.add(4, SEPARATOR, &[0; 4], &[0; 4]);
        for event in image {
            let load = image_load(1, "\\EFI\\x.efi");
            let (kind, data) = match event.pcr {
                4 => (EFI_BOOT_SERVICES_APPLICATION, load.as_slice()),
                9 => (EVENT_TAG, &[0; 12][..]),
                _ => (IPL, &b"x"[..]),
            };
            log.add_digests(event.pcr, kind, &event.digests, data);
        }
        log.action(4, "Returning from EFI Application from Boot Option");
        for (pcr, kind) in more {
            log.add(*pcr, *kind, b"more", b"more");
        }
        log.bytes
    }

    #[test]
    fn another_images_part_is_put_in_the_place_of_the_first() {
        let [first, second] = ["1", "2"].map(image);
        let [old, new] = [&first, &second].map(|image| log(image, &[]));
        let (old, new) = (EventLog::parse(&old).unwrap(), EventLog::parse(&new).unwrap());
        for bank in BANKS {
            let told = new.replay(bank);
            let zero = Value::zero(bank);
            let expected = PREDICTED.map(|pcr| (pcr, told.get(&pcr).copied().unwrap_or(zero)));
            assert_eq!(predict(&old, &second, bank), expected.into());
            assert_ne!(predict(&old, &first, bank), expected.into());
        }
        assert_eq!(differences(&new, &second, Bank::Sha256), []);
    }

    #[test]
    fn under_secure_boot_the_kernel_is_not_measured_by_firmware() {
        let program = |what: &str| Event::of(4, what, what.as_bytes(), &BANKS);
        let image = [program("UKI"), program("kernel")];
        for (on, found) in [(1, &image[..1]), (0, &image[..])] {
            let mut log = Log::new(&BANKS);
            log.variable(7, EFI_VARIABLE_DRIVER_CONFIG, "SecureBoot", &[on]);
            for event in found {
                let load = image_load(1, "\\EFI\\x.efi");
                log.add_digests(4, EFI_BOOT_SERVICES_APPLICATION, &event.digests, &load);
            }
            let log = EventLog::parse(&log.bytes).unwrap();
            assert_eq!(differences(&log, &image, Bank::Sha256), []);
            let told = predict(&log, &image, Bank::Sha256);
            assert_eq!(told[&4], log.replay(Bank::Sha256)[&4]);
        }
    }

    #[test]
    fn what_differs_is_named() {
        let (mut expected, found) = (image("1"), image("1"));
        expected[1] = Event::of(4, "UKI", b"another", &BANKS);
        expected.push(Event::of(12, "command line of add-ons", b"quiet", &BANKS));
        let bytes = log(&found, &[(13, IPL), (4, EFI_BOOT_SERVICES_APPLICATION)]);
        let log = EventLog::parse(&bytes).unwrap();
        let said: Vec<String> = differences(&log, &expected, Bank::Sha256)
            .iter()
            .map(ToString::to_string)
            .collect();
        let starts = [
            "PCR 4: another UKI: the log has ",
            "PCR 4: the image brings nothing like ",
            "PCR 12: the log lacks the image's command line of add-ons (",
            "PCR 13: the image brings nothing like ",
        ];
        assert_eq!(said.len(), starts.len(), "{said:#?}");
        for (said, start) in said.iter().zip(starts) {
            assert!(said.starts_with(start), "{said}");
        }
        assert!(said[0].contains("\\EFI\\x.efi"), "{}", said[0]);
        assert!(said[1].ends_with("another program was started, or an add-on loaded"));
        assert!(said[3].ends_with(": a system extension"));
    }
}
