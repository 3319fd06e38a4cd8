//! Package manifests of libpkgmanifest, as `dnf5 manifest new` writes them (YAML).

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::rpmset::Nevra;
use crate::store::Checksum;

/// Packages by architecture, each with its digest, and the repositories that have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub repositories: Vec<ManifestRepository>,
    /// Without source packages.
    pub packages: Vec<ManifestPackage>,
}

/// A repository of a manifest, its variables not replaced.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ManifestRepository {
    pub id: String,
    #[serde(default)]
    pub baseurl: Option<String>,
    #[serde(default)]
    pub mirrorlist: Option<String>,
    #[serde(default)]
    pub metalink: Option<String>,
}

/// A package of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestPackage {
    pub nevra: Nevra,
    pub repository: String,
    /// Below the repository; absent where the manifest relies on the repository's metadata.
    pub location: Option<String>,
    pub checksum: Checksum,
    /// Length of the file in bytes.
    pub size: u64,
}

/// Why a manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestProblem {
    Version(String),
    Content(String),
}

/// The value of `document`.
const DOCUMENT: &str = "rpm-package-manifest";

#[derive(Deserialize)]
struct Head {
    document: String,
    version: String,
}

#[derive(Deserialize)]
struct Body {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    repositories: Option<Vec<ManifestRepository>>,
    #[serde(default)]
    packages: Option<BTreeMap<String, Vec<RawPackage>>>,
}

#[derive(Deserialize)]
struct RawPackage {
    name: String,
    evr: String,
    repo_id: String,
    #[serde(default)]
    location: Option<String>,
    checksum: String,
    size: u64,
}

/// Whether `text` says that it is a manifest.
pub fn is_manifest(text: &str) -> bool {
    text.lines()
        .take(100)
        .any(|line| line.starts_with("document:") && line.contains(DOCUMENT))
}

/// Takes the text of a manifest.
///
/// # Errors
/// Where it is malformed, of another version, or a package's digest cannot be trusted.
pub fn parse(text: &str) -> Result<Manifest, ManifestProblem> {
    let syntax = |error: serde_saphyr::Error| ManifestProblem::Content(error.to_string());
    let head: Head = serde_saphyr::from_str(text).map_err(syntax)?;
    if head.document != DOCUMENT {
        let problem = format!(
            "its document is `{}`, not `{DOCUMENT}`",
            head.document.escape_debug()
        );
        return Err(ManifestProblem::Content(problem));
    }
    if !matches!(head.version.split('.').next(), Some("0" | "1")) {
        return Err(ManifestProblem::Version(head.version.escape_debug().to_string()));
    }
    let Body { data } = serde_saphyr::from_str(text).map_err(syntax)?;
    let mut packages = Vec::new();
    for (arch, raw) in data.packages.unwrap_or_default() {
        if matches!(arch.as_str(), "src" | "nosrc") {
            continue;
        }
        for raw in raw {
            packages.push(package(&arch, raw).map_err(ManifestProblem::Content)?);
        }
    }
    if packages.is_empty() {
        return Err(ManifestProblem::Content("it has no package".to_owned()));
    }
    Ok(Manifest {
        repositories: data.repositories.unwrap_or_default(),
        packages,
    })
}

fn package(arch: &str, raw: RawPackage) -> Result<ManifestPackage, String> {
    let name = format!("{}-{}.{arch}", raw.name, raw.evr);
    let named = |problem: String| format!("package {}: {problem}", name.escape_debug());
    let (algorithm, digits) = raw
        .checksum
        .split_once(':')
        .ok_or_else(|| named(format!("`{}` names no digest", raw.checksum.escape_debug())))?;
    Ok(ManifestPackage {
        nevra: Nevra::parse(&name).map_err(|problem| named(problem.to_string()))?,
        checksum: Checksum::parse(algorithm, digits).map_err(|problem| named(problem.to_string()))?,
        repository: raw.repo_id,
        location: raw.location.filter(|location| !location.is_empty()),
        size: raw.size,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Digest;

    fn sample() -> String {
        let digest = Digest::of(b"x");
        format!(
            "document: rpm-package-manifest\nversion: 0.2.0\ndata:\n    repositories:\n        - id: fedora\n          \
             metalink: https://m/?arch=$arch\n        - id: updates\n          baseurl: https://host/$arch/\n    \
             packages:\n        noarch:\n            - name: yes\n              repo_id: updates\n              \
             location: p/yes.rpm\n              checksum: SHA256:{digest}\n              size: 7\n              \
             evr: 3:4.5-2\n              srpm: yes-3:4.5-2.src\n        src:\n            - name: b\n              \
             repo_id: fedora\n              checksum: md5:00\n              size: 1\n              evr: 1-1\n        \
             x86_64:\n            - name: bash\n              repo_id: fedora\n              \
             checksum: sha256:{digest}\n              size: 9\n              evr: 5.2.26-3.fc40\n"
        )
    }

    #[test]
    fn a_manifest_is_read() {
        let text = sample();
        assert!(is_manifest(&text) && !is_manifest("bash-1-1.x86_64\n"));
        let manifest = parse(&text).unwrap();
        assert_eq!(manifest.repositories.len(), 2);
        assert_eq!(
            manifest.repositories[1].baseurl.as_deref(),
            Some("https://host/$arch/")
        );
        let packages: Vec<_> = manifest
            .packages
            .iter()
            .map(|package| {
                (
                    package.nevra.to_string(),
                    package.location.as_deref(),
                    package.size,
                )
            })
            .collect();
        assert_eq!(
            packages,
            [
                ("yes-3:4.5-2.noarch".to_owned(), Some("p/yes.rpm"), 7),
                ("bash-5.2.26-3.fc40.x86_64".to_owned(), None, 9)
            ]
        );
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        let good = sample();
        let content = |text: &str| match parse(text).unwrap_err() {
            ManifestProblem::Content(problem) => problem,
            ManifestProblem::Version(version) => panic!("{version}"),
        };
        for version in ["2.0.0", "10", "next"] {
            let text = good.replace("0.2.0", version);
            assert_eq!(parse(&text), Err(ManifestProblem::Version(version.to_owned())));
        }
        for (text, expected) in [
            (
                good.replace("rpm-package-manifest", "other"),
                "its document is `other`",
            ),
            (good.replace("SHA256:", "sha1:"), "SHA-1, which can be forged"),
            (good.replace("SHA256:", ""), "names no digest"),
            (good.replace("size: 7", "size: -7"), "line"),
            (good.replace("name: bash", "name: ../bash"), "characters"),
            (good.replace("data:", "data: ["), "line"),
            (
                "document: rpm-package-manifest\nversion: 1.0.0\ndata:\n  packages: ~".to_owned(),
                "no package",
            ),
        ] {
            let problem = content(&text);
            assert!(problem.contains(expected), "{problem}");
        }
    }

    #[test]
    fn aliases_do_not_multiply() {
        let mut text =
            "document: rpm-package-manifest\nversion: 1.0.0\na0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..12 {
            let before = vec![format!("*a{}", level - 1); 10].join(",");
            text.push_str(&format!("a{level}: &a{level} [{before}]\n"));
        }
        assert!(parse(&text).is_err());
    }
}
