//! `primary.xml`: the packages of a repository.

use std::io::BufRead;

use super::RepoProblem;
use super::repomd::number;
use super::xml::{self, Token};
use crate::fetch::{Url, relative};
use crate::rpmset::Nevra;
use crate::store::{Checksum, ChecksumError};

const NAMESPACE: &str = "http://linux.duke.edu/metadata/common";
/// Several times what the largest distribution has.
const MOST: usize = 1_000_000;

/// A package as a repository lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub nevra: Nevra,
    /// Below `base`.
    pub location: String,
    /// Where it lies, if not in the repository itself: an address, or a path below the repository.
    pub base: Option<ListedBase>,
    /// Length of the file in bytes.
    pub size: u64,
    pub checksum: Result<Checksum, ChecksumError>,
}

/// `xml:base` of a package's location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListedBase {
    Url(Url),
    Path(String),
}

#[derive(Default)]
struct Found {
    name: String,
    arch: String,
    version: Option<(u32, String, String)>,
    algorithm: String,
    checksum: Option<Result<Checksum, ChecksumError>>,
    size: Option<u64>,
    location: Option<(String, Option<ListedBase>)>,
}

impl Found {
    fn finish(self) -> Result<Listed, String> {
        let (epoch, version, release) = self.version.ok_or("a package has no version")?;
        let nevra = Nevra {
            name: self.name,
            epoch: (epoch != 0).then_some(epoch),
            version,
            release,
            arch: self.arch,
        };
        nevra
            .check()
            .map_err(|problem| format!("package `{}`: {problem}", nevra.to_string().escape_debug()))?;
        let lacks = |what: &str| format!("{nevra} has no {what}");
        let (location, base) = self.location.ok_or_else(|| lacks("location"))?;
        Ok(Listed {
            location,
            base,
            size: self.size.ok_or_else(|| lacks("size"))?,
            checksum: self.checksum.ok_or_else(|| lacks("checksum"))?,
            nevra,
        })
    }
}

/// Reads the packages of a list; gives the source back, at the document's end.
///
/// # Errors
/// Where the document is malformed, a package lacks what it needs, or its location could leave the repository.
pub fn parse<R: BufRead>(source: R) -> Result<(Vec<Listed>, R), RepoProblem> {
    let mut packages = Vec::new();
    let mut package = Found::default();
    let mut root = false;
    let source = xml::read(source, NAMESPACE, &mut |path, token| {
        match (path, token) {
            ("metadata", Token::Start(_)) => root = true,
            ("metadata/package", Token::Start(_)) => package = Found::default(),
            ("metadata/package/name", Token::End(text)) => text.clone_into(&mut package.name),
            ("metadata/package/arch", Token::End(text)) => text.clone_into(&mut package.arch),
            ("metadata/package/version", Token::Start(attributes)) => {
                let epoch = attributes.get("epoch").unwrap_or("0");
                let epoch =
                    u32::try_from(number(epoch)?).map_err(|_| format!("epoch {epoch} is too large"))?;
                let version = attributes.need("ver")?.to_owned();
                package.version = Some((epoch, version, attributes.need("rel")?.to_owned()));
            }
            ("metadata/package/checksum", Token::Start(attributes)) => {
                attributes.need("type")?.clone_into(&mut package.algorithm);
            }
            ("metadata/package/checksum", Token::End(text)) => {
                package.checksum = Some(Checksum::parse(&package.algorithm, text));
            }
            ("metadata/package/size", Token::Start(attributes)) => {
                package.size = Some(number(attributes.need("package")?)?);
            }
            ("metadata/package/location", Token::Start(attributes)) => {
                let problem = |error: crate::fetch::UrlError| error.to_string();
                let base = match attributes.get("base").filter(|base| !base.is_empty()) {
                    None => None,
                    Some(base) if Url::is_url(base) => {
                        Some(ListedBase::Url(Url::parse(base).map_err(problem)?))
                    }
                    Some(base) => Some(ListedBase::Path(relative(base).map_err(problem)?)),
                };
                if let Some(ListedBase::Url(url)) = &base
                    && url.local().is_some()
                {
                    return Err(format!("`{url}` names a place on this machine"));
                }
                let href = relative(attributes.need("href")?).map_err(problem)?;
                package.location = Some((href, base));
            }
            ("metadata/package", Token::End(_)) => {
                if packages.len() == MOST {
                    return Err(format!("it lists more than {MOST} packages"));
                }
                packages.push(std::mem::take(&mut package).finish()?);
            }
            _ => {}
        }
        Ok(())
    })?;
    match root {
        true => Ok((packages, source)),
        false => Err(RepoProblem::NotMetadata("primary")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Digest;

    fn document(location: &str) -> String {
        let digest = Digest::of(b"x");
        format!(
            "<?xml version='1.0' encoding='UTF-8'?>\n<metadata xmlns='{NAMESPACE}' xmlns:rpm='urn:rpm' packages='1'>\
             <package type='rpm'><name>a&amp;b</name><arch>x86_64</arch><version epoch='2' ver='1.0' rel='3'/>\
             <checksum type='sha256' pkgid='YES'>{digest}</checksum><summary>text &gt; text</summary>\
             <size package='10' installed='1' archive='1'/><location {location}/>\
             <format><rpm:license>MIT</rpm:license><file>/usr/bin/x</file><rpm:provides>\
             <rpm:entry name='name'/></rpm:provides></format></package></metadata>"
        )
    }

    #[test]
    fn packages_are_read() {
        let text = document("href='./Packages/a.rpm'");
        let (packages, _) = parse(text.as_bytes()).unwrap();
        assert_eq!(packages.len(), 1);
        assert_eq!(packages[0].nevra.to_string(), "a&b-2:1.0-3.x86_64");
        assert_eq!(packages[0].location, "Packages/a.rpm");
        assert_eq!((packages[0].size, packages[0].base.clone()), (10, None));
        assert_eq!(packages[0].checksum, Ok(Checksum::Sha256(Digest::of(b"x"))));
        for (base, expected) in [
            (
                "https://host/p/",
                ListedBase::Url(Url::parse("https://host/p/").unwrap()),
            ),
            ("disc-2/", ListedBase::Path("disc-2".to_owned())),
        ] {
            let text = document(&format!("xml:base='{base}' href='a.rpm'"));
            let (packages, _) = parse(text.as_bytes()).unwrap();
            assert_eq!(packages[0].base, Some(expected));
        }
    }

    #[test]
    fn hostile_lists_are_refused() {
        let good = document("href='a.rpm'");
        for (text, expected) in [
            (document("href='../../etc/a.rpm'"), "not a path below"),
            (document("href='/etc/a.rpm'"), "not a path below"),
            (document("href='https://evil/a.rpm'"), "not a path below"),
            (document("xml:base='../..' href='a.rpm'"), "not a path below"),
            (document("xml:base='file:///etc' href='a.rpm'"), "on this machine"),
            (document("xml:base='ftp://host/' href='a.rpm'"), "no http"),
            (document("name='a.rpm'"), "`href` is absent"),
            (
                document(&format!("href='{}.rpm'", "a".repeat(5000))),
                "not a path below",
            ),
            (
                good.replace("ver='1.0'", &format!("ver='{}'", "1".repeat(1000))),
                "its version is longer than 255 bytes",
            ),
            (good.replace("a&amp;b", "../a"), "characters"),
            (good.replace("epoch='2'", "epoch='99999999999'"), "too large"),
            (good.replace("package='10'", "package='x'"), "no number"),
            (good.replace("<arch>x86_64</arch>", ""), "architecture"),
            (good.replace("</metadata>", ""), "ends within"),
            (good.replace(NAMESPACE, "urn:other"), "not `primary` metadata"),
        ] {
            let error = parse(text.as_bytes()).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
