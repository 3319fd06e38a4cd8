//! What a console says of the guest's health.

use std::fmt;

use super::console::Lines;

/// The guest's own word: its health unit prints `hullwright-health: healthy`, or
/// `hullwright-health: unhealthy: <reasons>`, on the serial console.
const HEALTH: &str = "hullwright-health: ";

/// What the console has settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The guest says that it is healthy.
    Healthy,
    /// It will not become so.
    Failed(Failure),
}

/// A sign that a guest will not come up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of sign.
    pub kind: FailureKind,
    /// The line of the console, or another explanation.
    pub detail: String,
}

/// Kinds of [`Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The guest's health unit says so.
    Unhealthy,
    /// Firmware found nothing that boots.
    NothingToBoot,
    /// Firmware refused an image whose signature it does not trust.
    Refused,
    /// The kernel panicked, or PID 1 froze.
    Panic,
    /// dm-verity met a block that is not what was built.
    Verity,
    /// The guest is in systemd's emergency or rescue mode.
    Emergency,
    /// Nothing was decided in time.
    TimedOut,
    /// The machine was switched off or restarted before it was healthy.
    Ended,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            FailureKind::Unhealthy => "unhealthy",
            FailureKind::NothingToBoot => "firmware found nothing to boot",
            FailureKind::Refused => "firmware refused what it was to start",
            FailureKind::Panic => "the system crashed",
            FailureKind::Verity => "dm-verity found corrupt data",
            FailureKind::Emergency => "the system is in emergency mode",
            FailureKind::TimedOut => "timed out",
            FailureKind::Ended => "the machine ended",
        };
        write!(f, "{kind}: {}", self.detail)
    }
}

/// Lines that settle a boot, by a part of their text. The first that matches counts.
const SIGNS: &[(&str, FailureKind)] = &[
    ("Kernel panic - not syncing", FailureKind::Panic),
    ("Freezing execution", FailureKind::Panic),
    ("You are in emergency mode", FailureKind::Emergency),
    ("You are in rescue mode", FailureKind::Emergency),
    ("Entering emergency mode", FailureKind::Emergency),
    ("Reached target emergency.target", FailureKind::Emergency),
    ("Reached target Emergency Mode", FailureKind::Emergency),
    ("Reached target rescue.target", FailureKind::Emergency),
    (
        "Cannot open access to console, the root account is locked",
        FailureKind::Emergency,
    ),
    ("Verity device detected corruption", FailureKind::Verity),
    (
        "BdsDxe: No bootable option or device was found",
        FailureKind::NothingToBoot,
    ),
    ("No bootable device", FailureKind::NothingToBoot),
    ("UEFI Interactive Shell", FailureKind::NothingToBoot),
];

/// Judges one line, free of escape sequences, by itself.
fn judge(line: &str) -> Option<Verdict> {
    let failed = |kind| {
        Some(Verdict::Failed(Failure {
            kind,
            detail: line.trim().to_owned(),
        }))
    };
    // The health unit's line may carry a time stamp or a unit's name before it, never a quoted command.
    if let Some((_, said)) = line.split_once(HEALTH) {
        let said = said.trim();
        if said == "healthy" {
            return Some(Verdict::Healthy);
        }
        if let Some(reasons) = said.strip_prefix("unhealthy") {
            let reasons = reasons.trim_start_matches(':').trim();
            return Some(Verdict::Failed(Failure {
                kind: FailureKind::Unhealthy,
                detail: if reasons.is_empty() {
                    "no reason given"
                } else {
                    reasons
                }
                .to_owned(),
            }));
        }
    }
    if let Some((_, kind)) = SIGNS.iter().find(|(sign, _)| line.contains(sign)) {
        return failed(*kind);
    }
    // "device-mapper: verity: 254:0: data block 17 is corrupted", "…: metadata block 3 is corrupted",
    // but not "device-mapper: verity: sha256 using implementation …".
    let corrupt = line.contains("is corrupted") || line.contains("reached maximum errors");
    if corrupt && line.contains("device-mapper: verity") {
        return failed(FailureKind::Verity);
    }
    if line.contains("BdsDxe: failed to")
        && (line.contains("Access Denied") || line.contains("Security Violation"))
    {
        return failed(FailureKind::Refused);
    }
    // systemd-boot, of the UKI: "../src/boot/boot.c:2576@image_start: Error loading \EFI\Linux\a.efi: Access denied".
    let end = line.trim_end();
    if end.contains("Error loading ")
        && [": Access denied", ": Security violation"]
            .iter()
            .any(|why| end.ends_with(why))
    {
        return failed(FailureKind::Refused);
    }
    None
}

/// Watches a console for the first line that settles the boot.
#[derive(Debug, Default)]
pub struct Watch {
    lines: Lines,
    firmware_said: Option<String>,
    verdict: Option<Verdict>,
}

impl Watch {
    /// Takes the console's next bytes. The verdict is settled once and for all by the first telling line.
    pub fn feed(&mut self, bytes: &[u8]) -> Option<&Verdict> {
        if self.verdict.is_none() {
            for line in self.lines.feed(bytes) {
                if line.starts_with("BdsDxe: failed to") {
                    self.firmware_said = Some(line.trim().to_owned());
                }
                if let Some(mut verdict) = judge(&line) {
                    if let (Verdict::Failed(failure), Some(said)) = (&mut verdict, &self.firmware_said)
                        && failure.kind == FailureKind::NothingToBoot
                    {
                        failure.detail.clone_from(said);
                    }
                    self.verdict = Some(verdict);
                    break;
                }
            }
        }
        self.verdict.as_ref()
    }

    /// What is settled so far.
    pub fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(text: &str) -> Option<Verdict> {
        let mut whole = Watch::default();
        whole.feed(text.as_bytes());
        let mut bytewise = Watch::default();
        for byte in text.bytes() {
            bytewise.feed(&[byte]);
        }
        assert_eq!(
            whole.verdict(),
            bytewise.verdict(),
            "chunks must not matter: {text:?}"
        );
        whole.verdict().cloned()
    }

    #[test]
    fn failures() {
        let cases = [
            (
                "hullwright-health: unhealthy: 1 failed unit: containerd.service; no default route\r\n",
                FailureKind::Unhealthy,
                "1 failed unit: containerd.service; no default route",
            ),
            (
                "[   61.2] health[512]: hullwright-health: unhealthy\n",
                FailureKind::Unhealthy,
                "no reason given",
            ),
            (
                "[    3.141592] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\r\n",
                FailureKind::Panic,
                "[    3.141592] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
            ),
            (
                "[    3.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b\n",
                FailureKind::Panic,
                "[    3.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b",
            ),
            (
                "\x1b[1;31m[!!!!!!] Failed to mount early API filesystems.\x1b[0m\n[    2.0] systemd[1]: Freezing execution.\n",
                FailureKind::Panic,
                "[    2.0] systemd[1]: Freezing execution.",
            ),
            (
                "[    5.1] device-mapper: verity: sha256 using implementation \"sha256-ni\"\r\n[    9.8] device-mapper: verity: 254:0: data block 17 is corrupted\r\n",
                FailureKind::Verity,
                "[    9.8] device-mapper: verity: 254:0: data block 17 is corrupted",
            ),
            (
                "[    4.0] device-mapper: verity: 254:0: metadata block 71234 is corrupted\n",
                FailureKind::Verity,
                "[    4.0] device-mapper: verity: 254:0: metadata block 71234 is corrupted",
            ),
            (
                "[    4.0] systemd-veritysetup[201]: Verity device detected corruption after activation.\n",
                FailureKind::Verity,
                "[    4.0] systemd-veritysetup[201]: Verity device detected corruption after activation.",
            ),
            (
                "[\x1b[0;32m  OK  \x1b[0m] Reached target \x1b[0;1;39memergency.target\x1b[0m - Emergency Mode.\r\n",
                FailureKind::Emergency,
                "[  OK  ] Reached target emergency.target - Emergency Mode.",
            ),
            (
                "You are in emergency mode. After logging in, type \"journalctl -xb\" to view\n",
                FailureKind::Emergency,
                "You are in emergency mode. After logging in, type \"journalctl -xb\" to view",
            ),
            (
                "\x1b[2J\x1b[01;01H\x1b[=3hBdsDxe: failed to load Boot0001 \"UEFI Misc Device\" from PciRoot(0x0)/Pci(0x1,0x0): Not Found\r\nBdsDxe: starting Boot0002 \"EFI Internal Shell\" from Fv(7CB8BDC9)\r\n\x1b[2J\x1b[01;01H\x1b[01;01HUEFI Interactive Shell v2.2\r\n",
                FailureKind::NothingToBoot,
                "BdsDxe: failed to load Boot0001 \"UEFI Misc Device\" from PciRoot(0x0)/Pci(0x1,0x0): Not Found",
            ),
            (
                "BdsDxe: No bootable option or device was found.\r\nBdsDxe: Press any key to enter the Boot Manager Menu.\r\n",
                FailureKind::NothingToBoot,
                "BdsDxe: No bootable option or device was found.",
            ),
            (
                "BdsDxe: failed to load Boot0001 \"UEFI Misc Device\" from PciRoot(0x0)/Pci(0x3,0x0): Access Denied\r\n",
                FailureKind::Refused,
                "BdsDxe: failed to load Boot0001 \"UEFI Misc Device\" from PciRoot(0x0)/Pci(0x3,0x0): Access Denied",
            ),
        ];
        for (text, kind, detail) in cases {
            let expected = Verdict::Failed(Failure {
                kind,
                detail: detail.into(),
            });
            assert_eq!(watch(text), Some(expected), "{text:?}");
        }
    }

    #[test]
    fn healthy() {
        for text in [
            "hullwright-health: healthy\n",
            "BdsDxe: failed to load Boot0001 \"UEFI QEMU DVD\": Not Found\r\nBdsDxe: starting Boot0002 \"UEFI Misc Device\"\r\n\x1b[0mhullwright-health: healthy\r\n",
            "[   70.1] hullwright-health[611]: hullwright-health: healthy\r\n",
        ] {
            assert_eq!(watch(text), Some(Verdict::Healthy), "{text:?}");
        }
    }

    #[test]
    fn undecided() {
        for text in [
            "hullwright-health: healthy", // the line has not ended: "healthy-ish" may follow
            "hullwright-health: checking\n",
            "Started hullwright-health.service - Report health on the console.\n",
            "[    5.1] device-mapper: verity: sha256 using implementation \"sha256-generic\"\n",
            "[    1.0] Command line: console=ttyS0 panic=-1 systemd.verity_usr_options=panic-on-corruption\n",
            "BdsDxe: failed to load Boot0001 \"UEFI QEMU DVD-ROM\" from PciRoot(0x0): Not Found\n",
            "debian login: ",
        ] {
            assert_eq!(watch(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_first_word_stands() {
        let text = "device-mapper: verity: 254:0: data block 9 is corrupted\nhullwright-health: healthy\n";
        assert!(matches!(
            watch(text),
            Some(Verdict::Failed(Failure {
                kind: FailureKind::Verity,
                ..
            }))
        ));
    }
}
