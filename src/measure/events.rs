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

/// The program inside the UKI. Where Secure Boot is on, nobody measures it into PCR 4: systemd-stub keeps firmware from looking at
/// what the UKI's own signature covers.
pub(super) const KERNEL: &str = "kernel";
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
    /// Whether it happens on a machine only while Secure Boot is off there.
    pub(super) fn is_left_out_by_secure_boot(&self) -> bool {
        self.pcr == 4 && self.what == KERNEL
    }

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

impl<'a> Chain<'a> {
    /// The programs that firmware starts or looks into, in order of first use.
    pub fn programs(&self) -> Vec<&Content<'a>> {
        let addons = self.addons.iter().map(|addon| &addon.content);
        [&self.loader, &self.uki].into_iter().chain(addons).collect()
    }
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
    events.push(program(KERNEL.to_owned(), &kernel)?);

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
        // How systemd-boot hands the choice to the stub.
        let handed = utf16(&format!("@{}", chain.profile));
        events.push(Event::of(12, "choice of the profile", &handed, banks));
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
    pub fn read(content: Content<'a>, profile: usize) -> Result<Self, MeasureError> {
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

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::formats::pcr::uki::SectionDigests;
    use crate::formats::pe::tests::sample_stub;
    use crate::formats::uki::{self, DEFAULT_SBAT, Profile};
    use crate::formats::uki_addon;

    const BANKS: [Bank; 2] = [Bank::Sha256, Bank::Sha384];

    fn written(write: impl FnOnce(&std::fs::File)) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        write(file.as_file());
        std::fs::read(file.path()).unwrap()
    }

    /// A UKI with two profiles, the second with policies.
    pub fn sample() -> Vec<u8> {
        let stub = sample_stub("sbat,1,x\n");
        let profile = |description, osrel, cmdline, pcrsig| Profile {
            description,
            osrel,
            cmdline,
            pcrsig,
        };
        let profiles = [
            profile("ID=main\n", None, None, None),
            profile("ID=other\n", Some(&b"ID=y\n"[..]), Some("a b"), Some(&b"{2}"[..])),
        ];
        let image = uki::Uki {
            stub: &stub,
            osrel: b"ID=x\n",
            cmdline: "a",
            uname: "6.12",
            sbat: DEFAULT_SBAT,
            linux: Content::bytes(&stub),
            initrd: Content::bytes(b"the initrd"),
            pcrpkey: Some(b"a key"),
            pcrsig: None,
            profiles: &profiles,
        };
        written(|out| drop(image.write(out).unwrap()))
    }

    fn register(events: &[Event], pcr: u32) -> Value {
        let own = events.iter().filter(|event| event.pcr == pcr);
        own.fold(Value::zero(Bank::Sha256), |value, event| {
            value.extended(&event.digest(Bank::Sha256).unwrap())
        })
    }

    #[test]
    fn each_register_gets_its_own() {
        let (loader, uki) = (sample_stub("loader"), sample());
        let addon = |cmdline: &str| {
            let stub = &sample_stub("");
            let addon = uki_addon::Addon {
                stub,
                cmdline,
                uname: None,
            };
            written(|out| drop(addon.write(out).unwrap()))
        };
        let addons = [addon("all=1"), addon("one=2")];
        let chain = |profile, names: &[&'static str]| {
            let addons = names.iter().zip(&addons);
            let chain = Chain {
                loader: Content::bytes(&loader),
                loader_conf: b"timeout 0\n",
                uki: Content::bytes(&uki),
                profile,
                addons: addons
                    .map(|(&name, bytes)| Addon {
                        name,
                        content: Content::bytes(bytes),
                    })
                    .collect(),
            };
            events(&chain, &BANKS).unwrap()
        };
        let plain = chain(0, &[]);
        let image = Image::read(&uki, uki.len() as u64).unwrap();
        let digests = SectionDigests::of_image(&image, &uki, &BANKS).unwrap();
        let zero = Value::zero(Bank::Sha256);
        assert_eq!(register(&plain, 11), digests.pcr_11(0)[0]);
        assert!(register(&plain, 12).is_zero() && register(&plain, 13).is_zero());
        assert_eq!(register(&plain, 5), zero.measured(b"timeout 0\n"));
        let programs: Vec<_> = plain.iter().filter(|event| event.pcr == 4).collect();
        let names: Vec<_> = programs.iter().map(|event| event.what.as_str()).collect();
        assert_eq!(names, ["boot loader", "UKI", "kernel"]);
        let kernel = sample_stub("sbat,1,x\n");
        let kernel = image::digests(&Content::bytes(&kernel), &BANKS).unwrap();
        assert_eq!(programs[2].digests, kernel);

        let other = chain(1, &["all.addon.efi", "one.addon.efi"]);
        assert_eq!(register(&other, 11), digests.pcr_11(1)[0]);
        let twelve = zero
            .measured(&utf16("@1"))
            .measured(b"1\0\0\0")
            .measured(&utf16("all=1 one=2"));
        assert_eq!(register(&other, 12), twelve);
        let options = other.iter().find(|event| event.what == "command line").unwrap();
        assert_eq!(options.digests[0], Bank::Sha256.digest(&utf16("a b all=1 one=2")));
        let names = other.iter().filter(|event| event.pcr == 4);
        let names: Vec<_> = names.map(|event| event.what.as_str()).collect();
        let expected = [
            "boot loader",
            "UKI",
            "add-on all.addon.efi",
            "add-on one.addon.efi",
            "kernel",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn what_is_no_uki_is_refused() {
        let stub = sample_stub("");
        let error = |uki: &[u8]| {
            let chain = Chain {
                loader: Content::bytes(&stub),
                loader_conf: b"",
                uki: Content::bytes(uki),
                profile: 0,
                addons: Vec::new(),
            };
            events(&chain, &BANKS).unwrap_err().to_string()
        };
        assert_eq!(error(&stub), "the UKI has no section `.linux`");
        assert_eq!(error(b"MZ"), "the UKI cannot be read as an EFI program");
    }
}
