//! PCR 11: what systemd-stub and systemd-pcrphase measure of a unified kernel image and the boot's progress.
//!
//! For every section that the stub knows and the image has, in an order of its own: the section's name with its NUL, then
//! its content (the bytes that it takes in memory, `VirtualSize`). `.pcrsig` is left out, since it signs the outcome.
//! Then each phase's name, without NUL, as the boot gets there.

use std::io;

use rayon::prelude::*;

use super::{Bank, Value};
use crate::formats::at::{Content, ReadAt};
use crate::formats::pe::{Image, Section};

/// The sections that are measured, in the order of measuring (systemd 257; `.efifw` came later).
pub const MEASURED: [&str; 14] = [
    ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey",
    ".profile", ".dtbauto", ".hwids", ".efifw",
];

/// A section to be measured.
#[derive(Clone, Copy)]
pub struct Measured<'a> {
    /// One of [`MEASURED`]; others are passed over.
    pub name: &'a str,
    pub content: Content<'a>,
    /// Zero bytes that follow in memory, where the section is larger there than in the file.
    pub zeroes: u64,
}

impl<'a> Measured<'a> {
    pub fn new(name: &'a str, content: Content<'a>) -> Self {
        let zeroes = 0;
        Self {
            name,
            content,
            zeroes,
        }
    }
}

/// A UKI's sections with their digests: read once, put together for each profile.
#[derive(Debug, Clone)]
pub struct SectionDigests {
    /// In the image's order. Empty sections are not there.
    sections: Vec<(String, Vec<Value>)>,
    banks: Vec<Bank>,
}

impl SectionDigests {
    /// Reads and digests `sections`, several at once.
    ///
    /// # Errors
    /// Whatever reading gives.
    pub fn of(sections: &[Measured<'_>], banks: &[Bank]) -> io::Result<Self> {
        let known = |section: &&Measured<'_>| {
            MEASURED.contains(&section.name) && section.content.size() + section.zeroes > 0
        };
        let known: Vec<_> = sections.iter().filter(known).collect();
        let work = known
            .par_iter()
            .flat_map(|section| banks.par_iter().map(move |bank| (section, bank)));
        let values: Vec<Value> = work
            .map(|(section, bank)| bank.digest_content(&section.content, section.zeroes))
            .collect::<io::Result<_>>()?;
        let mut values = values.chunks(banks.len().max(1));
        let sections = known.iter().map(|section| {
            (
                section.name.to_owned(),
                values.next().unwrap_or_default().to_vec(),
            )
        });
        Ok(Self {
            sections: sections.collect(),
            banks: banks.to_vec(),
        })
    }

    /// The same of a finished image in `source`.
    ///
    /// # Errors
    /// Whatever reading gives.
    pub fn of_image(image: &Image, source: &impl ReadAt, banks: &[Bank]) -> io::Result<Self> {
        let names: Vec<String> = image.sections().iter().map(Section::name).collect();
        let sections: Vec<_> = image
            .sections()
            .iter()
            .zip(&names)
            .map(|(section, name)| Measured {
                name,
                content: Content::range(source, section.raw_offset.into(), section.content_size().into()),
                zeroes: u64::from(section.virtual_size - section.content_size()),
            })
            .collect();
        Self::of(&sections, banks)
    }

    /// Number of profiles; an image without `.profile` sections has one.
    pub fn profiles(&self) -> usize {
        let marks = self.sections.iter().filter(|(name, _)| name == ".profile");
        marks.count().max(1)
    }

    /// PCR 11 as the stub leaves it when it boots `profile`, before any phase: a value a bank, in the order of the
    /// banks. The sections before the first `.profile` are every profile's, unless it has its own.
    pub fn pcr_11(&self, profile: usize) -> Vec<Value> {
        let find = sections(&self.sections, |(name, _)| name.clone(), profile);
        let mut pcr: Vec<Value> = self.banks.iter().map(|&bank| Value::zero(bank)).collect();
        for name in MEASURED {
            let Some((_, digests)) = find(name) else { continue };
            let name = [name.as_bytes(), b"\0"].concat();
            for (pcr, digest) in pcr.iter_mut().zip(digests) {
                *pcr = pcr.measured(&name).extended(digest);
            }
        }
        pcr
    }
}

/// How the stub finds a section when it boots `profile`, among `all` in the image's order: the profile's own comes
/// first, then what stands before the first `.profile`.
pub fn sections<'s, T>(
    all: &'s [T],
    name: impl Fn(&T) -> String,
    profile: usize,
) -> impl Fn(&str) -> Option<&'s T> {
    let names: Vec<String> = all.iter().map(&name).collect();
    let marks = names.iter().enumerate();
    let marks: Vec<usize> = marks
        .filter(|(_, name)| *name == ".profile")
        .map(|(at, _)| at)
        .collect();
    let mark = |number: usize| marks.get(number).copied().unwrap_or(names.len());
    let (first, start, end) = (mark(0), mark(profile), mark(profile + 1));
    move |wanted| {
        let at = (start..end).chain(0..first).find(|at| names[*at] == wanted)?;
        all.get(at)
    }
}

/// The moments that systemd-pcrphase measures, in the order of a boot.
pub const PHASES: [&str; 6] = [
    "enter-initrd",
    "leave-initrd",
    "sysinit",
    "ready",
    "shutdown",
    "final",
];

/// `pcr`, once the boot has come to `phase`: of [`PHASES`], joined by colons (`enter-initrd:leave-initrd`). No word, no change.
pub fn at_phase(pcr: Value, phase: &str) -> Value {
    let words = phase.split(':').filter(|word| !word.is_empty());
    words.fold(pcr, |pcr, word| pcr.measured(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_the_stubs_and_the_signature_is_left_out() {
        let sections = [
            Measured::new(".osrel", Content::bytes(b"ID=x\n")),
            Measured::new(".pcrsig", Content::bytes(b"{}")),
            Measured::new(".text", Content::bytes(b"code")),
            Measured::new(".uname", Content::bytes(b"")),
            Measured::new(".linux", Content::bytes(b"kernel")),
        ];
        let banks = [Bank::Sha384, Bank::Sha256];
        let digests = SectionDigests::of(&sections, &banks).unwrap();
        let expected = banks.map(|bank| {
            let zero = Value::zero(bank);
            let events: [&[u8]; 4] = [b".linux\0", b"kernel", b".osrel\0", b"ID=x\n"];
            events.iter().fold(zero, |pcr, event| pcr.measured(event))
        });
        assert_eq!(digests.pcr_11(0), expected);
        assert_eq!(digests.profiles(), 1);
        let [_, pcr] = expected;
        let later = pcr.measured(b"enter-initrd").measured(b"leave-initrd");
        assert_eq!(at_phase(pcr, "enter-initrd:leave-initrd"), later);
        assert_eq!(at_phase(pcr, ":"), pcr);
    }

    #[test]
    fn a_profile_overrides_what_all_share() {
        let section = |name, text: &'static str| Measured::new(name, Content::bytes(text.as_bytes()));
        let sections = [
            section(".linux", "kernel"),
            section(".cmdline", "a"),
            section(".profile", "ID=main"),
            section(".pcrsig", "{1}"),
            section(".profile", "ID=other"),
            section(".cmdline", "b"),
        ];
        let digests = SectionDigests::of(&sections, &[Bank::Sha256]).unwrap();
        assert_eq!(digests.profiles(), 2);
        let alone = |cmdline, profile| {
            let sections = [
                section(".linux", "kernel"),
                section(".cmdline", cmdline),
                section(".profile", profile),
            ];
            let digests = SectionDigests::of(&sections, &[Bank::Sha256]).unwrap();
            digests.pcr_11(0)
        };
        assert_eq!(digests.pcr_11(0), alone("a", "ID=main"));
        assert_eq!(digests.pcr_11(1), alone("b", "ID=other"));
        assert_ne!(digests.pcr_11(0), digests.pcr_11(1));
    }
}
