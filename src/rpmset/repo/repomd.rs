//! `repodata/repomd.xml`: which metadata a repository has.

use super::RepoProblem;
use super::xml::{self, Token};
use crate::fetch::relative;
use crate::store::{Checksum, ChecksumError};

const NAMESPACE: &str = "http://linux.duke.edu/metadata/repo";

/// The list of packages, as `repomd.xml` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Primary {
    /// Below the repository.
    pub location: String,
    pub checksum: Checksum,
    /// Of the unpacked file.
    pub open_checksum: Option<Checksum>,
    /// In bytes.
    pub size: Option<u64>,
    pub open_size: Option<u64>,
}

#[derive(Default)]
struct Found {
    kind: String,
    location: Option<String>,
    checksum: Option<Result<Checksum, ChecksumError>>,
    open_checksum: Option<Result<Checksum, ChecksumError>>,
    size: Option<u64>,
    open_size: Option<u64>,
    algorithm: String,
}

/// Finds the list of packages (`primary`; SQLite and zchunk forms of it are passed over).
///
/// # Errors
/// Where the document is malformed, or has no list with a strong checksum.
pub fn parse(bytes: &[u8]) -> Result<Primary, RepoProblem> {
    let mut data = Found::default();
    let mut primary = None;
    let mut root = false;
    xml::read(bytes, NAMESPACE, &mut |path, token| {
        match (path, token) {
            ("repomd", Token::Start(_)) => root = true,
            ("repomd/data", Token::Start(attributes)) => {
                data = Found {
                    kind: attributes.need("type")?.to_owned(),
                    ..Found::default()
                };
            }
            ("repomd/data/location", Token::Start(attributes)) => {
                data.location = Some(attributes.need("href")?.to_owned());
            }
            ("repomd/data/checksum" | "repomd/data/open-checksum", Token::Start(attributes)) => {
                data.algorithm = attributes.need("type")?.to_owned();
            }
            ("repomd/data/checksum", Token::End(text)) => {
                data.checksum = Some(Checksum::parse(&data.algorithm, text));
            }
            ("repomd/data/open-checksum", Token::End(text)) => {
                data.open_checksum = Some(Checksum::parse(&data.algorithm, text));
            }
            ("repomd/data/size", Token::End(text)) => data.size = Some(number(text)?),
            ("repomd/data/open-size", Token::End(text)) => data.open_size = Some(number(text)?),
            ("repomd/data", Token::End(_)) if data.kind == "primary" => {
                match primary.replace(std::mem::take(&mut data)) {
                    None => {}
                    Some(_) => return Err("it names two lists of packages".to_owned()),
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    if !root {
        return Err(RepoProblem::NotMetadata("repomd"));
    }
    let Found {
        location,
        checksum,
        open_checksum,
        size,
        open_size,
        ..
    } = primary.ok_or(RepoProblem::NoPrimary)?;
    Ok(Primary {
        location: relative(&location.ok_or(RepoProblem::Lacks("location"))?)?,
        checksum: checksum.ok_or(RepoProblem::Lacks("checksum"))??,
        open_checksum: open_checksum.transpose()?,
        size,
        open_size,
    })
}

pub(super) fn number(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("`{}` is no number", text.escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Digest;

    fn document(data: &str) -> String {
        format!("<?xml version='1.0'?><repomd xmlns='{NAMESPACE}'><revision>1</revision>{data}</repomd>")
    }

    fn primary(location: &str, checksum: &str) -> String {
        format!(
            "<data type='primary_db'><location href='repodata/x.sqlite'/></data><data type='primary'>{checksum}\
             <location href='{location}'/><size>5</size><open-size>7</open-size><timestamp>1.5</timestamp></data>"
        )
    }

    #[test]
    fn the_list_is_found() {
        let digest = Digest::of(b"x");
        let checksum = format!("<checksum type='sha256'>{digest}</checksum>");
        let parsed = parse(document(&primary("repodata/p.xml.gz", &checksum)).as_bytes()).unwrap();
        assert_eq!(
            parsed,
            Primary {
                location: "repodata/p.xml.gz".to_owned(),
                checksum: Checksum::Sha256(digest),
                open_checksum: None,
                size: Some(5),
                open_size: Some(7),
            }
        );
        for (data, expected) in [
            (primary("../p.xml", &checksum), "not a path below the repository"),
            (
                primary("http://evil/p.xml", &checksum),
                "not a path below the repository",
            ),
            (
                primary("p.xml", "<checksum type='sha'>00</checksum>"),
                "SHA-1, which can be forged",
            ),
            (primary("p.xml", ""), "checksum"),
            (String::new(), "no list of packages"),
            (primary("p", &checksum) + &primary("p", &checksum), "two lists"),
            (
                primary("p", &checksum).replace(">5<", ">-5<"),
                "`-5` is no number",
            ),
        ] {
            let error = parse(document(&data).as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let error = parse(b"<html><body>Sign in</body></html>")
            .unwrap_err()
            .to_string();
        assert!(error.contains("not `repomd` metadata"), "{error}");
    }
}
