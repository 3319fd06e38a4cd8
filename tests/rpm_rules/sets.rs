//! Whole sets: RPMs of real distributions, and the sample set.

use std::fs;
use std::path::PathBuf;

use hullwright::rpmset::{Filter, Package, RpmSet};
use hullwright::tree::merge::Options;

use crate::oracle::oracles;
use crate::support::{real_rpms, sample_rpms};

/// The choices that each set is held against RPM with.
fn choices(languages: &[String]) -> [Options<'_>; 2] {
    let filter = |exclude_docs, languages| Options {
        filter: Filter {
            exclude_docs,
            languages,
            ..Filter::KEEP
        },
        ..Options::DEFAULT
    };
    [filter(false, &[]), filter(true, languages)]
}

fn languages() -> Vec<String> {
    ["de_DE", "zh_TW"].map(str::to_owned).to_vec()
}

/// The RPMs of real distributions that we take for whole.
fn real_packages() -> Option<Vec<Package>> {
    let real = real_rpms()?;
    let mut packages = Vec::new();
    for directory in ["distro", "features"] {
        for entry in fs::read_dir(real.join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if let Ok(package) = Package::open(&path)
                && package.check_payload().is_ok()
            {
                packages.push(package);
            }
        }
    }
    packages.sort_by(|a, b| (&a.nevra, &a.path).cmp(&(&b.nevra, &b.path)));
    Some(packages)
}

#[test]
fn every_real_package_alone() {
    let Some(packages) = real_packages() else { return };
    let languages = languages();
    for oracle in oracles() {
        let mut installed = 0;
        for package in &packages {
            let paths = [package.path.clone()];
            // RPM 4.18 knows neither the signature types of RPM 6 nor what has no digest that it still believes.
            if !oracle.takes(&paths) {
                eprintln!("{} does not take {}", oracle.name, package.path.display());
                continue;
            }
            for options in choices(&languages) {
                oracle.compare(&paths, &options, &[]).installed();
            }
            installed += 1;
        }
        assert!(installed > 30, "{}: {installed}", oracle.name);
    }
}

#[test]
fn all_real_packages_that_agree_at_once() {
    let Some(packages) = real_packages() else { return };
    let languages = languages();
    for oracle in oracles() {
        let mut together: Vec<&Package> = Vec::new();
        for package in &packages {
            let known = |other: &&Package| {
                other.nevra.name == package.nevra.name && other.nevra.arch == package.nevra.arch
            };
            if together.iter().any(known) || !oracle.takes(std::slice::from_ref(&package.path)) {
                continue;
            }
            let paths: Vec<PathBuf> = together
                .iter()
                .copied()
                .chain([package])
                .map(|p| p.path.clone())
                .collect();
            let set = RpmSet::open(&paths).unwrap();
            match oracle.merge(&set, &Options::DEFAULT) {
                Ok(_) => together.push(package),
                Err(errors) => {
                    eprintln!("{}: {errors}", package.nevra);
                    oracle.compare(&paths, &Options::DEFAULT, &[]).refused();
                }
            }
        }
        assert!(together.len() > 22, "{}: {}", oracle.name, together.len());
        let paths: Vec<_> = together.iter().map(|package| package.path.clone()).collect();
        for options in choices(&languages) {
            let tree = oracle.compare(&paths, &options, &[]).installed();
            assert!(tree.len() > 1000, "{}", tree.len());
        }
    }
}

/// One choice by each RPM.
#[test]
fn the_sample_set() {
    sample_set(|oracle, choice| oracle == choice);
}

#[test]
#[ignore = "installs the sample set four times"]
fn the_sample_set_by_every_rpm_and_choice() {
    sample_set(|_, _| true);
}

/// Holds the sample set against the RPMs and choices, by their numbers, that are `wanted`.
fn sample_set(wanted: impl Fn(usize, usize) -> bool) {
    let Some(sample) = sample_rpms() else { return };
    let mut paths = Vec::new();
    for entry in fs::read_dir(&sample).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rpm") {
            paths.push(path);
        }
    }
    let languages = languages();
    for (number, oracle) in oracles().iter().enumerate() {
        let mut sizes = Vec::new();
        for (_, options) in (0..)
            .zip(choices(&languages))
            .filter(|(choice, _)| wanted(number, *choice))
        {
            sizes.push(oracle.compare(&paths, &options, &[]).installed().len());
        }
        eprintln!("{}: {sizes:?} paths of {} packages", oracle.name, paths.len());
        let whole = sizes.iter().all(|size| *size > 10_000);
        assert!(whole && sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
        assert!(!sizes.is_empty());
    }
}
