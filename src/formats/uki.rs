//! Unified kernel images: an EFI stub with kernel, initrd and command line as PE sections.
//!
//! Specification: UAPI.5 *Unified Kernel Image* and systemd-stub(7). Names, order and contents of
//! the sections are those of systemd's `ukify`. The image is not signed here; its layout leaves no
//! byte outside headers and sections, so any signer computes the same Authenticode hash.

use std::io;

use super::at::{Content, WriteAt};
use super::pcr::Bank;
use super::pcr::uki::{Measured, SectionDigests};
use super::pe::{Image, NX_COMPAT, PeError};
use super::pe_append::{CODE, NewSection, Written, append};

const SBAT_HEADER: &str = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md";
/// The revocation entry of UKIs as such, where the definition brings none.
pub const DEFAULT_SBAT: &str = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n\
    uki,1,UKI,uki,1,https://uapi-group.org/specifications/specs/unified_kernel_image/\n";
const LONGEST_SBAT: u32 = 1 << 16;

/// What a UKI is made of.
pub struct Uki<'a> {
    /// systemd's EFI stub.
    pub stub: &'a [u8],
    /// `os-release` of the image.
    pub osrel: &'a [u8],
    /// The kernel's command line, without a line break.
    pub cmdline: &'a str,
    /// The kernel's release, as `uname -r` shows it.
    pub uname: &'a str,
    /// The image's own SBAT entries, first line included ([`DEFAULT_SBAT`]); those of stub and
    /// kernel are put before them.
    pub sbat: &'a str,
    /// The kernel, an EFI program itself.
    pub linux: Content<'a>,
    pub initrd: Content<'a>,
    /// Public key (PEM) that PCR policies are signed with.
    pub pcrpkey: Option<&'a [u8]>,
    /// Signed PCR policies (JSON) of the image without profiles; of those with profiles, see there.
    pub pcrsig: Option<&'a [u8]>,
    /// Ways to boot it, the default first; empty: one way, without a name.
    pub profiles: &'a [Profile<'a>],
}

/// A profile of a multi-profile UKI: a way to boot it, which a boot loader shows as an entry of its own.
#[derive(Debug, Clone, Copy)]
pub struct Profile<'a> {
    /// Content of `.profile`: lines `ID=…`, `TITLE=…` in the syntax of os-release.
    pub description: &'a str,
    /// In place of the image's `os-release`: its version orders the entries of the boot menu.
    pub osrel: Option<&'a [u8]>,
    /// In place of the image's command line.
    pub cmdline: Option<&'a str>,
    /// Signed PCR policies (JSON) of this profile.
    pub pcrsig: Option<&'a [u8]>,
}

/// A UKI cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum UkiError {
    #[error("the EFI stub cannot be extended")]
    Stub(#[source] PeError),
    #[error("the kernel cannot be read as an EFI program")]
    Kernel(#[source] PeError),
    #[error("the SBAT data of the {of} {why}")]
    Sbat { of: &'static str, why: &'static str },
    #[error("the {of} `{text}` holds a line break, a NUL or another control character")]
    Control { of: &'static str, text: String },
    #[error("reading what is measured")]
    Measure(#[source] io::Error),
}

impl Uki<'_> {
    /// Writes the image to `out`, which is empty.
    ///
    /// # Errors
    /// Where stub or kernel is not an EFI program, SBAT data is malformed, text holds control
    /// characters, and I/O.
    pub fn write(&self, out: &impl WriteAt) -> Result<Written, UkiError> {
        let kernel = self.kernel()?;
        let sbat = self.merged_sbat(&kernel)?;
        // Firmware that enforces NX treats the whole image by this bit, so it must not promise
        // more than the kernel inside holds.
        let nx_compat = kernel.dll_characteristics() & NX_COMPAT != 0;
        append(self.stub, &self.sections(&sbat)?, nx_compat, out).map_err(UkiError::Stub)
    }

    /// Digests of what the stub will measure, [`Uki::pcrsig`] aside, which is made from them.
    ///
    /// # Errors
    /// As [`Uki::write`].
    pub fn measure(&self, banks: &[Bank]) -> Result<SectionDigests, UkiError> {
        let sbat = self.merged_sbat(&self.kernel()?)?;
        let sections = self.sections(&sbat)?;
        let measured: Vec<_> = sections
            .iter()
            .map(|section| Measured::new(section.name, section.content))
            .collect();
        SectionDigests::of(&measured, banks).map_err(UkiError::Measure)
    }

    fn kernel(&self) -> Result<Image, UkiError> {
        Image::read(&self.linux, self.linux.size()).map_err(UkiError::Kernel)
    }

    fn merged_sbat(&self, kernel: &Image) -> Result<Vec<u8>, UkiError> {
        let stub = Image::read(self.stub, self.stub.len() as u64).map_err(UkiError::Stub)?;
        let stub_sbat = stub.content(self.stub, ".sbat", LONGEST_SBAT);
        let kernel_sbat = kernel.content(&self.linux, ".sbat", LONGEST_SBAT);
        merge_sbat(&[
            ("stub", stub_sbat.map_err(UkiError::Stub)?),
            ("kernel", kernel_sbat.map_err(UkiError::Kernel)?),
            ("definition", Some(self.sbat.into())),
        ])
    }

    /// The sections in their order: what all profiles share, then each profile's own, its mark first.
    fn sections<'s>(&'s self, sbat: &'s [u8]) -> Result<Vec<NewSection<'s>>, UkiError> {
        let cmdlines = self.profiles.iter().filter_map(|profile| profile.cmdline);
        let lines = cmdlines.chain([self.cmdline]).map(|line| ("command line", line));
        for (of, text) in lines.chain([("kernel release", self.uname)]) {
            if text.chars().any(char::is_control) {
                let text = text.to_owned();
                return Err(UkiError::Control { of, text });
            }
        }
        let data = |name, content: &'s [u8]| NewSection::data(name, Content::bytes(content));
        let linux = NewSection {
            name: ".linux",
            content: self.linux,
            characteristics: CODE,
        };
        let mut sections = vec![
            data(".osrel", self.osrel),
            data(".cmdline", self.cmdline.as_bytes()),
            data(".uname", self.uname.as_bytes()),
        ];
        sections.extend(self.pcrpkey.map(|key| data(".pcrpkey", key)));
        sections.extend([
            linux,
            NewSection::data(".initrd", self.initrd),
            data(".sbat", sbat),
        ]);
        if self.profiles.is_empty() {
            sections.extend(self.pcrsig.map(|signed| data(".pcrsig", signed)));
        }
        for profile in self.profiles {
            sections.push(data(".profile", profile.description.as_bytes()));
            sections.extend(profile.osrel.map(|osrel| data(".osrel", osrel)));
            sections.extend(profile.cmdline.map(|line| data(".cmdline", line.as_bytes())));
            sections.extend(profile.pcrsig.map(|signed| data(".pcrsig", signed)));
        }
        Ok(sections)
    }
}

/// All entries in order below one header, ended by a line break and a NUL as `ukify` does.
fn merge_sbat(parts: &[(&'static str, Option<Vec<u8>>)]) -> Result<Vec<u8>, UkiError> {
    let mut merged = String::from(SBAT_HEADER);
    for (of, bytes) in parts {
        let Some(bytes) = bytes else { continue };
        let wrong = |why| UkiError::Sbat { of, why };
        let text = std::str::from_utf8(bytes).map_err(|_| wrong("is not UTF-8 text"))?;
        let mut lines = text.trim_end_matches('\0').lines();
        if !lines.next().is_some_and(|line| line.starts_with("sbat,")) {
            return Err(wrong("does not begin with a line `sbat,…`"));
        }
        for line in lines.filter(|line| !line.is_empty()) {
            if line.contains('\0') {
                return Err(wrong("holds a NUL between its lines"));
            }
            // What cannot be read is revoked by nobody: shim refuses such programs.
            if sbat_entry(line).is_none() {
                return Err(wrong("has a line that is no `component,generation,…`"));
            }
            merged.push('\n');
            merged.push_str(line);
        }
    }
    merged.push_str("\n\0");
    Ok(merged.into_bytes())
}

/// A component and its generation, a number from 1 on: what an SBAT line gives.
pub fn sbat_entry(line: &str) -> Option<(&str, u32)> {
    let mut fields = line.split(',');
    let component = fields.next()?;
    let generation = fields.next()?;
    let digits = !component.is_empty() && generation.bytes().all(|byte| byte.is_ascii_digit());
    let generation = generation.parse().ok().filter(|&number| digits && number > 0)?;
    Some((component, generation))
}

#[cfg(test)]
mod tests;
