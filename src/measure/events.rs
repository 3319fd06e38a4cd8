//! What an image's own programs make firmware, stub and kernel measure, wherever it boots.
//!
//! Sources: systemd-stub(7) and systemd-boot(7) of systemd 257; the kernel's EFI stub, which measures its load options and
//! the initrd (`LINUX_EFI_INITRD_MEDIA_GUID`) into PCR 9; the firmware profile for programs (PCR 4).

use super::MeasureError;
use super::initrd;
use crate::formats::at::Content;
use crate::formats::pcr::uki::{MEASURED, sections};
use crate::formats::pcr::{Bank, Value, image};
use crate::formats::pe::{Image, Section};

/// Longest text that is read out of a UKI.
const LONGEST_TEXT: u64 = 1 << 20;

/// Something that is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The register that it extends.
    pub pcr: u32,
    /// For people.
    pub what: String,
    /// What the register is extended with: a digest a bank.
    pub digests: Vec<Value>,
}

impl Event {
    /// The measuring of `bytes`.
    pub fn of(pcr: u32, what: impl Into<String>, bytes: &[u8], banks: &[Bank]) -> Self {
        Self {
            pcr,
            what: what.into(),
            digests: banks.iter().map(|bank| bank.digest(bytes)).collect(),
        }
    }

    /// Its digest in `bank`.
    pub fn digest(&self, bank: Bank) -> Option<Value> {
        self.digests.iter().find(|digest| digest.bank() == bank).copied()
    }
}

/// What boots, in its order.
pub struct Chain<'a> {
    /// The boot loader, as it lies on the ESP.
    pub loader: Content<'a>,
    /// The boot loader's configuration.
    pub loader_conf: &'a [u8],
    /// The UKI, as it lies on the ESP.
    pub uki: Content<'a>,
    /// Number of its profile that boots.
    pub profile: usize,
    /// Add-ons on the ESP that the firmware accepts: those for every image, then those for this one, each by name.
    pub addons: Vec<Addon<'a>>,
}

/// An add-on on the ESP.
pub struct Addon<'a> {
    pub name: &'a str,
    pub content: Content<'a>,
}

/// Events of one boot, in order within each register.
///
/// # Errors
/// Where a program of the chain is none, and whatever reading gives.
pub fn events(chain: &Chain<'_>, banks: &[Bank]) -> Result<Vec<Event>, MeasureError> {
    let uki = Uki::read(chain.uki, chain.profile)?;
    let kernel = uki.content(".linux").ok_or(MeasureError::NoSection(".linux"))?;
    let program = |what: String, content: &Content<'_>| {
        let digests = image::digests(content, banks).map_err(|source| MeasureError::Program {
            what: what.clone(),
            source,
        })?;
        Ok::<_, MeasureError>(Event {
            pcr: 4,
            what,
            digests,
        })
    };
    let mut events = vec![
        program("boot loader".to_owned(), &chain.loader)?,
        Event::of(5, "loader.conf", chain.loader_conf, banks),
        program("UKI".to_owned(), &chain.uki)?,
    ];
    let mut appended = Vec::new();
    for addon in &chain.addons {
        events.push(program(format!("add-on {}", addon.name), &addon.content)?);
        appended.push(Uki::read(addon.content, 0)?.text(".cmdline")?);
    }
    events.push(program("kernel".to_owned(), &kernel)?);

    for name in MEASURED {
        let Some(content) = uki.content(name) else {
            continue;
        };
        let named = [name.as_bytes(), b"\0"].concat();
        events.push(Event::of(11, format!("name of section {name}"), &named, banks));
        let digests = banks.iter().map(|bank| bank.digest_content(&content, 0));
        events.push(Event {
            pcr: 11,
            what: format!("section {name}"),
            digests: digests.collect::<Result<_, _>>()?,
        });
    }

    if chain.profile > 0 {
        let number = utf16(&chain.profile.to_string());
        events.push(Event::of(
            12,
            format!("profile {}", chain.profile),
            &number,
            banks,
        ));
    }
    let appended = appended.join(" ");
    events.extend(of_addons(&appended, banks));
    let own = uki.text(".cmdline")?;
    let whole = [own, appended];
    let whole: Vec<_> = whole
        .iter()
        .filter(|part| !part.is_empty())
        .map(String::as_str)
        .collect();
    let options = utf16(&whole.join(" "));
    events.push(Event::of(9, "command line", &options, banks));
    let digests = banks.iter().map(|&bank| initrd::digest(&uki, bank));
    events.push(Event {
        pcr: 9,
        what: "initrd".to_owned(),
        digests: digests.collect::<Result<_, _>>()?,
    });
    Ok(events)
}

/// What the stub measures of add-ons whose command lines, in the order of [`Chain::addons`] with spaces between them, are
/// `appended`.
pub fn of_addons(appended: &str, banks: &[Bank]) -> Option<Event> {
    let event = || Event::of(12, "command line of add-ons", &utf16(appended), banks);
    (!appended.is_empty()).then(event)
}

/// A UKI's sections as the stub sees them when it boots one profile.
pub(super) struct Uki<'a> {
    content: Content<'a>,
    image: Image,
    profile: usize,
}

impl<'a> Uki<'a> {
    fn read(content: Content<'a>, profile: usize) -> Result<Self, MeasureError> {
        let image = Image::read(&content, content.size()).map_err(|source| MeasureError::Program {
            what: "UKI".to_owned(),
            source,
        })?;
        Ok(Self {
            content,
            image,
            profile,
        })
    }

    /// The content of section `name`; `None` where there is none, or nothing in it.
    pub fn content(&self, name: &str) -> Option<Content<'_>> {
        let find = sections(self.image.sections(), Section::name, self.profile);
        let section = find(name)?;
        let (at, size) = (section.raw_offset, section.content_size());
        (size > 0).then(|| Content::range(&self.content, at.into(), size.into()))
    }

    fn text(&self, name: &'static str) -> Result<String, MeasureError> {
        let Some(content) = self.content(name) else {
            return Ok(String::new());
        };
        if content.size() > LONGEST_TEXT {
            return Err(MeasureError::LongSection(name));
        }
        let mut text = vec![0; content.size() as usize];
        crate::formats::at::ReadAt::read_exact_at(&content, &mut text, 0)?;
        let text = String::from_utf8(text).map_err(|_| MeasureError::NotText(name))?;
        Ok(text.trim_end_matches('\0').to_owned())
    }
}

/// As the stub hands texts on: UTF-16, little-endian, with a NUL at the end.
fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect()
}
