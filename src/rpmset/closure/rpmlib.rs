//! What packages may require of the program that installs them.

use super::dependency::Dependency;
use crate::formats::rpm::tag::sense;

/// Features that reading and installing packages here has, with the version of RPM that each came with: the names and
/// versions of `rpm --showrc`, RPM 4.18 to 6.
const FEATURES: &[(&str, &str)] = &[
    ("rpmlib(BuiltinLuaScripts)", "4.2.2-1"),
    ("rpmlib(CaretInVersions)", "4.15.0-1"),
    ("rpmlib(CompressedFileNames)", "3.0.4-1"),
    ("rpmlib(ConcurrentAccess)", "4.1-1"),
    ("rpmlib(DynamicBuildRequires)", "4.15.0-1"),
    ("rpmlib(ExplicitPackageProvide)", "4.0-1"),
    ("rpmlib(FileCaps)", "4.6.1-1"),
    ("rpmlib(FileDigests)", "4.6.0-1"),
    ("rpmlib(HeaderLoadSortsTags)", "4.0.1-1"),
    ("rpmlib(LargeFiles)", "4.12.0-1"),
    ("rpmlib(PartialHardlinkSets)", "4.0.4-1"),
    ("rpmlib(PayloadFilesHavePrefix)", "4.0-1"),
    ("rpmlib(PayloadIsBzip2)", "3.0.5-1"),
    ("rpmlib(PayloadIsLzma)", "4.4.2-1"),
    ("rpmlib(PayloadIsXz)", "5.2-1"),
    ("rpmlib(PayloadIsZstd)", "5.4.18-1"),
    ("rpmlib(RichDependencies)", "4.12.0-1"),
    ("rpmlib(ScriptletExpansion)", "4.9.0-1"),
    ("rpmlib(ScriptletInterpreterArgs)", "4.0.3-1"),
    ("rpmlib(TildeInVersions)", "4.10.0-1"),
    ("rpmlib(VersionedDependencies)", "3.0.3-1"),
];

/// The feature that `wanted` names, in whatever version.
pub fn feature(wanted: &Dependency<'_>) -> Option<Dependency<'static>> {
    let (name, evr) = FEATURES.iter().find(|(name, _)| name.as_bytes() == wanted.name)?;
    Some(Dependency {
        name: name.as_bytes(),
        evr: evr.as_bytes(),
        flags: sense::EQUAL,
    })
}

/// Whether `wanted` is there.
pub fn provides(wanted: &Dependency<'_>) -> bool {
    feature(wanted).is_some_and(|feature| feature.overlaps(wanted))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::testing::tool;

    #[test]
    fn features_are_those_of_rpm() {
        let Some(rpm) = tool("rpm") else { return };
        let shown = Command::new(rpm).arg("--showrc").output().unwrap();
        let shown = String::from_utf8_lossy(&shown.stdout);
        let listed: Vec<_> = shown
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("rpmlib("))
            .collect();
        let ours: Vec<_> = FEATURES
            .iter()
            .map(|(name, evr)| format!("{name} = {evr}"))
            .collect();
        assert_eq!(ours, listed);
    }
}
