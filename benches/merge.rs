//! From RPM files to a complete, verified, merged tree in an empty store, beside `rpm -i` of the same files into an
//! empty root: all of it in memory, so that neither waits for a disk.

mod support;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use hullwright::rpmset::RpmSet;
use hullwright::rpmset::signature::{Keyring, Policy};
use hullwright::store::Store;
use hullwright::tree::merge::{Options, merge};

const ROUNDS: usize = 5;
/// The argument that makes this program do our side's work once.
const MERGE: &str = "--merge";

fn main() -> Result<(), Box<dyn Error>> {
    support::wrapper();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [flag, rpms, key, store] if flag == MERGE => ours(rpms, key, store),
        _ => compare(),
    }
}

/// What a build does up to the merged tree, with the time of each stage in milliseconds.
fn ours(rpms: &str, key: &str, store: &str) -> Result<(), Box<dyn Error>> {
    let mut started = Instant::now();
    let mut stage = |name: &str| {
        println!("{name} {:.0}", started.elapsed().as_secs_f64() * 1e3);
        started = Instant::now();
    };
    let set = RpmSet::load(Path::new(rpms))?;
    stage("read");
    set.verify_signatures(&Keyring::read(&[PathBuf::from(key)])?, &Policy::default(), &[])?;
    stage("signatures");
    let contents = set.contents(&Store::open(Path::new(store))?)?;
    stage("unpack");
    let merged = merge(&set, &contents, &Options::DEFAULT)?;
    stage("merge");
    println!("paths {}", merged.tree.walk().count());
    Ok(())
}

fn compare() -> Result<(), Box<dyn Error>> {
    let Some(sample) = support::sample_rpms() else {
        println!("merge: the sample RPM set is missing: run make sample");
        return Ok(());
    };
    let place = support::memory_directory()?;
    let rpms = place.path().join("rpms");
    std::fs::create_dir(&rpms)?;
    let mut files = Vec::new();
    let key = rpms.join("RPM-GPG-KEY-hullwright-sample");
    for entry in std::fs::read_dir(&sample)? {
        let from = entry?.path();
        let Some(name) = from.file_name() else { continue };
        let to = rpms.join(name);
        let is_package = to.extension().is_some_and(|extension| extension == "rpm");
        if is_package || to == key {
            std::fs::copy(&from, &to)?;
        }
        if is_package {
            files.push(to.to_string_lossy().into_owned());
        }
    }
    files.sort();

    let this = std::env::current_exe()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let [root, store] = ["root", "store"].map(|name| place.path().join(name));
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let (root_text, store_text) = (text(&root), text(&store));
        std::fs::create_dir(&root)?;
        let mut arguments = vec![
            "--root",
            &root_text,
            "-i",
            "--noscripts",
            "--nodeps",
            "--nosignature",
        ];
        arguments.extend(files.iter().map(String::as_str));
        theirs.push(support::measure(Path::new("rpm"), &arguments)?);
        std::fs::remove_dir_all(&root)?;

        let arguments = [MERGE, &text(&rpms), &text(&key), &store_text];
        ours.push(support::measure(&this, &arguments)?);
        std::fs::remove_dir_all(&store)?;
    }
    println!("merge: {} packages, median of {ROUNDS}", files.len());
    println!("{:<12} {:>8} {:>10} {:>10}", "", "wall s", "CPU s", "peak MiB");
    let mut walls = Vec::new();
    for (name, runs) in [("hullwright", &ours), ("rpm -i", &theirs)] {
        let of = |value: fn(&support::Run) -> f64| support::median(runs.iter().map(value));
        let (wall, processor, memory) = (of(|run| run.wall), of(|run| run.processor), of(|run| run.memory));
        println!("{name:<12} {wall:>8.2} {processor:>10.2} {memory:>10.0}");
        walls.push(wall);
    }
    let mut best: Vec<_> = ours.iter().collect();
    best.sort_by(|a, b| a.wall.total_cmp(&b.wall));
    if let Some(run) = best.get(ROUNDS / 2) {
        println!("stages in ms: {}", run.said.trim().replace('\n', ", "));
    }
    println!("ratio {:.2} (wanted: at most 0.70)", walls[0] / walls[1]);
    Ok(())
}
