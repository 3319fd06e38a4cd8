//! UKI add-ons: a command line in a signed program of its own, which systemd-stub appends to a UKI's.
//!
//! Specification: UAPI.5 *Unified Kernel Image*, systemd-stub(7). Names, order and contents of the sections are those of systemd's
//! `ukify`. Like a UKI, it leaves no byte outside headers and sections.

use super::at::{Content, WriteAt};
use super::pe_append::{NewSection, Written, append};
use super::uki::UkiError;

/// The revocation entry of add-ons as such.
const SBAT: &str = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n\
    uki-addon,1,UKI Addon,addon,1,https://www.freedesktop.org/software/systemd/man/latest/systemd-stub.html\n\0";

/// What an add-on is made of.
#[derive(Debug, Clone, Copy)]
pub struct Addon<'a> {
    /// systemd's stub for add-ons, which does nothing when it is run.
    pub stub: &'a [u8],
    /// Arguments, without a line break.
    pub cmdline: &'a str,
    /// The one kernel release that it fits; `None`: all.
    pub uname: Option<&'a str>,
}

impl Addon<'_> {
    /// Writes it to `out`, which is empty.
    ///
    /// # Errors
    /// Where the stub is no EFI program, text holds control characters, and I/O.
    pub fn write(&self, out: &impl WriteAt) -> Result<Written, UkiError> {
        let texts = [
            ("command line", Some(self.cmdline)),
            ("kernel release", self.uname),
        ];
        for (of, text) in texts {
            if let Some(text) = text.filter(|text| text.chars().any(char::is_control)) {
                let text = text.to_owned();
                return Err(UkiError::Control { of, text });
            }
        }
        let contents = [
            (".cmdline", Some(self.cmdline)),
            (".uname", self.uname),
            (".sbat", Some(SBAT)),
        ];
        let sections = contents.into_iter().filter_map(|(name, text)| {
            text.map(|text| NewSection::data(name, Content::bytes(text.as_bytes())))
        });
        let sections: Vec<_> = sections.collect();
        append(self.stub, &sections, true, out).map_err(UkiError::Stub)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::formats::pe::{Image, Section, tests::sample_stub};
    use crate::formats::testing::{run, tool};

    /// The sample stub without `.sbat`, as systemd's for add-ons is, and that itself where it is.
    fn stubs() -> Vec<Vec<u8>> {
        let mut sample = sample_stub("");
        let sbat = sample.windows(5).position(|bytes| bytes == b".sbat").unwrap();
        sample[sbat..sbat + 5].copy_from_slice(b".rest");
        let tools = crate::testing::trixie_tools();
        let real = tools.map(|tools| tools.join("root/usr/lib/systemd/boot/efi/addonx64.efi.stub"));
        let real = real.and_then(|path| fs::read(path).ok());
        [sample].into_iter().chain(real).collect()
    }

    #[test]
    fn ukify_puts_the_same_into_the_same_sections() {
        let dir = tempfile::tempdir().unwrap();
        let [ours, theirs, stub] = ["ours", "theirs", "stub"].map(|name| dir.path().join(name));
        let has_ukify = tool("ukify");
        for bytes in stubs() {
            for uname in [None, Some("6.12.9-cloud")] {
                let cmdline = "console=ttyS1 quiet";
                let addon = Addon {
                    stub: &bytes,
                    cmdline,
                    uname,
                };
                let written = addon.write(&File::create(&ours).unwrap()).unwrap();
                assert_eq!(written.size, fs::metadata(&ours).unwrap().len());
                if !has_ukify {
                    continue;
                }
                fs::write(&stub, &bytes).unwrap();
                let mut command = vec!["build".to_owned(), format!("--cmdline={cmdline}")];
                command.push(format!("--stub={}", stub.display()));
                command.push(format!("--output={}", theirs.display()));
                command.extend(uname.map(|uname| format!("--uname={uname}")));
                run("ukify", command);
                let sections = |path| {
                    let file = fs::read(path).unwrap();
                    let image = Image::read(&file, file.len() as u64).unwrap();
                    let names = image.sections().iter().map(Section::name);
                    let content = |name: String| {
                        let bytes = image.content(&file, &name, 1 << 20).unwrap();
                        (name, bytes)
                    };
                    names.map(content).collect::<Vec<_>>()
                };
                assert_eq!(sections(&ours), sections(&theirs));
            }
        }
    }

    #[test]
    fn control_characters_are_refused() {
        let stub = sample_stub("");
        let out = tempfile::tempfile().unwrap();
        for (cmdline, uname) in [("a\nb", None), ("a", Some("6\0"))] {
            let addon = Addon {
                stub: &stub,
                cmdline,
                uname,
            };
            assert!(matches!(addon.write(&out), Err(UkiError::Control { .. })));
        }
    }
}
