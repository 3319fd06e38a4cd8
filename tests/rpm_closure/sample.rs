//! The sample set, whole and with packages taken out, and an rpmdb of a real distribution.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::oracle::{self, Verdict};
use super::support::{real_rpms, sample_rpms, tool};

/// Numbers that look random and are the same each time (an LCG with the constants of Knuth's MMIX).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

#[test]
fn the_sample_set_is_closed() {
    let (Some(sample), Some(rpm)) = (sample_rpms(), tool("rpm")) else {
        return;
    };
    assert_eq!(oracle::hullwright(&sample), Verdict::new());
    assert_eq!(oracle::rpm(&rpm, &oracle::packages(&sample)), Verdict::new());
}

#[test]
fn what_is_open_without_some_packages_is_what_rpm_finds() {
    let (Some(sample), Some(rpm)) = (sample_rpms(), tool("rpm")) else {
        return;
    };
    let all = oracle::packages(&sample);
    let mut numbers = Numbers(3);
    let mut found = 0;
    for round in 0..24 {
        let removed: BTreeSet<_> = (0..=round % 8).map(|_| numbers.below(all.len())).collect();
        let left = all
            .iter()
            .enumerate()
            .filter(|(index, _)| !removed.contains(index));
        let left: Vec<PathBuf> = left.map(|(_, path)| path.clone()).collect();
        let ours = oracle::hullwright(oracle::directory(&left).path());
        assert_eq!(ours, oracle::rpm(&rpm, &left), "without {removed:?}");
        found += ours.len();
    }
    assert!(found > 150, "{found}");
}

#[test]
fn the_most_wanted_package_is_missed_by_all() {
    let (Some(sample), Some(rpm)) = (sample_rpms(), tool("rpm")) else {
        return;
    };
    for name in ["libc6-", "systemd-2", "bash-", "python3-3", "filesystem-"] {
        let is_it = |path: &&PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(name);
        let left: Vec<_> = oracle::packages(&sample);
        let left: Vec<_> = left.iter().filter(|path| !is_it(path)).cloned().collect();
        let ours = oracle::hullwright(oracle::directory(&left).path());
        assert_eq!(ours, oracle::rpm(&rpm, &left), "without {name}");
    }
}

#[test]
fn nothing_is_open_in_a_real_rpmdb() {
    let Some(real) = real_rpms() else { return };
    let report = oracle::closure(&real.join("../rpmdb/cbl-mariner-2.0.rpmdb.sqlite"));
    assert_eq!(report["packages"], 129);
    assert_eq!(report["problems"], serde_json::json!([]));
}
