//! Sets of packages that change: the sample set, and beside it a few packages of the test's own, made by rpmbuild.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::{IteratorRandom as _, SliceRandom as _};

use crate::support::image::said;
use crate::support::tool;

/// A package of the test.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Package {
    version: u32,
    /// Name below its directory, and what it repeats.
    files: BTreeMap<u32, u32>,
    /// A second name for the first file.
    linked: bool,
    summary: u32,
    scriptlet: bool,
    module: bool,
}

/// The packages by name.
pub type State = BTreeMap<&'static str, Package>;

const NAMES: [&str; 4] = ["changing-a", "changing-b", "changing-c", "changing-d"];

/// A kind of change. What it finds nothing to do it on, it leaves alone.
pub type Change = fn(&mut State, &mut StdRng);

/// All of them.
pub const KINDS: [(&str, Change); 8] = [
    ("added", add),
    ("removed", remove),
    ("replaced by another version", replace),
    ("a file moved to another package", move_file),
    ("another summary", |state, random| {
        with(state, random, |package, _| package.summary += 1);
    }),
    ("a scriptlet more or less", |state, random| {
        with(state, random, |package, _| package.scriptlet = !package.scriptlet);
    }),
    ("hard links made or parted", |state, random| {
        with(state, random, |package, _| package.linked = !package.linked);
    }),
    ("a kernel module more or less", |state, random| {
        with(state, random, |package, _| package.module = !package.module);
    }),
];

fn with(state: &mut State, random: &mut StdRng, change: fn(&mut Package, &mut StdRng)) {
    if let Some(package) = state.values_mut().choose(random) {
        change(package, random);
    }
}

fn add(state: &mut State, random: &mut StdRng) {
    let free: Vec<_> = NAMES
        .into_iter()
        .filter(|name| !state.contains_key(name))
        .collect();
    let Some(name) = free.choose(random) else { return };
    let first = unused(state);
    let package = Package {
        version: 1,
        files: (first..first + 4)
            .map(|file| (file, random.gen_range(0..5)))
            .collect(),
        ..Package::default()
    };
    state.insert(name, package);
}

fn remove(state: &mut State, random: &mut StdRng) {
    if let Some(name) = state.keys().copied().choose(random) {
        state.remove(name);
    }
}

fn replace(state: &mut State, random: &mut StdRng) {
    let new = unused(state);
    let Some(package) = state.values_mut().choose(random) else {
        return;
    };
    package.version += 1;
    for content in package.files.values_mut() {
        if random.r#gen() {
            *content += 5;
        }
    }
    if let Some(file) = package.files.keys().copied().choose(random) {
        package.files.remove(&file);
        package.files.insert(new, 9);
    }
}

/// The number of a file that no package has.
fn unused(state: &State) -> u32 {
    let files = state.values().flat_map(|package| package.files.keys());
    files.max().map_or(0, |last| last + 1)
}

fn move_file(state: &mut State, random: &mut StdRng) {
    let names: Vec<_> = state.keys().copied().choose_multiple(random, 2);
    let &[from, to] = &names[..] else { return };
    let Some((file, content)) = state.get_mut(from).and_then(|package| package.files.pop_first()) else {
        return;
    };
    state.get_mut(to).unwrap().files.insert(file, content);
}

/// Makes directories with sets.
pub struct Sets {
    directory: PathBuf,
    sample: PathBuf,
    kernel: String,
}

impl Sets {
    /// `None` (said as a skip) without rpmbuild.
    pub fn new(directory: &Path, sample: &Path) -> Option<Self> {
        tool("rpmbuild")?;
        let image = fs::read_dir(sample).unwrap().map(|entry| entry.unwrap().path());
        let image = image
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .filter_map(|name| Some(name.strip_prefix("linux-image-")?.to_owned()))
            .find(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            .unwrap();
        // `linux-image-RELEASE-VERSION-REVISION.ARCH.rpm`
        let kernel = image.rsplitn(3, '-').last().unwrap().to_owned();
        Some(Self {
            directory: directory.to_owned(),
            sample: sample.to_owned(),
            kernel,
        })
    }

    /// Puts the sample set and the packages of `state` into the directory `rpms`; what a definition says of them.
    pub fn lay(&self, state: &State, rpms: &Path) -> String {
        let _ = fs::remove_dir_all(rpms);
        fs::create_dir(rpms).unwrap();
        for entry in fs::read_dir(&self.sample).unwrap() {
            let path = entry.unwrap().path();
            symlink(&path, rpms.join(path.file_name().unwrap())).unwrap();
        }
        let mut text = String::new();
        for (name, package) in state {
            fs::copy(self.build(name, package), rpms.join(format!("{name}.rpm"))).unwrap();
            let reason = "made by this test";
            writeln!(
                text,
                "[[rpms.unsigned]]\npackage = \"{name}\"\nreason = \"{reason}\""
            )
            .unwrap();
        }
        // Two states are two definitions, for whoever goes by their text.
        writeln!(text, "# {state:?}").unwrap();
        text
    }

    fn build(&self, name: &str, package: &Package) -> PathBuf {
        let (mut install, mut files) = (String::new(), String::new());
        let mut put = |path: &str, command: &str| {
            let place = format!("\"%{{buildroot}}{path}\"");
            writeln!(install, "mkdir -p $(dirname {place})\n{command} {place}").unwrap();
            writeln!(files, "{path}").unwrap();
        };
        let shared = "/usr/share/changing";
        for (file, content) in &package.files {
            // Of the kernel's page and more, so that clusters are shared and parted.
            let command = format!("yes 'content {content}' | head -c {} >", 3000 + content * 7000);
            put(&format!("{shared}/{file}"), &command);
        }
        if let Some(file) = package.files.keys().next().filter(|_| package.linked) {
            let command = format!("ln \"%{{buildroot}}{shared}/{file}\"");
            put(&format!("{shared}/again-{file}"), &command);
        }
        if package.module {
            let bytes = module(&name.replace('-', "_"));
            let octal: String = bytes.iter().map(|byte| format!("\\{byte:03o}")).collect();
            let place = format!("/usr/lib/modules/{}/updates/{name}.ko", self.kernel);
            put(&place, &format!("printf '{octal}' >"));
        }
        let scriptlet = match package.scriptlet {
            true => "%post\nsystemctl daemon-reload >/dev/null 2>&1 || :\n",
            false => "",
        };
        let Package { version, summary, .. } = package;
        let spec = format!(
            "%global __os_install_post %{{nil}}\n%global debug_package %{{nil}}\n\
             %global _build_id_links none\nName: {name}\nVersion: {version}\nRelease: 1\nSummary: Number {summary}\n\
             License: MIT\nAutoReqProv: no\n%description\nA package of a test.\n{scriptlet}\
             %install\n{install}\n%files\n{files}"
        );
        let place = self.directory.join("packages");
        fs::create_dir_all(&place).unwrap();
        let file = place.join(format!("{name}.spec"));
        fs::write(&file, spec).unwrap();
        let define =
            |name: &str, value: &Path| ["--define".to_owned(), format!("{name} {}", value.display())];
        let output = Command::new("rpmbuild")
            .args(["-bb", "--quiet", "--buildroot"])
            .arg(place.join("root"))
            .args(define("_topdir", &place.join("top")))
            .args(define("_rpmdir", &place))
            .args(define("_rpmfilename", Path::new("%%{NAME}.rpm")))
            .args(define("_binary_payload", Path::new("w3.gzdio")))
            .arg(&file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{package:?}: {}", said(&output));
        place.join(format!("{name}.rpm"))
    }
}

/// An ELF file as far as depmod reads it: section names, and what a module says of itself.
fn module(name: &str) -> Vec<u8> {
    let strings = b"\0.shstrtab\0.modinfo\0";
    let info = format!("name={name}\0license=MIT\0alias=changing:{name}\0depends=\0");
    let mut file = vec![0; 0x40];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[0x10..0x14].copy_from_slice(&[1, 0, 0x3e, 0]);
    file[0x34] = 0x40;
    file[0x3a..0x3f].copy_from_slice(&[0x40, 0, 3, 0, 1]);
    file.extend(strings);
    file.extend(info.as_bytes());
    file.resize(file.len().next_multiple_of(8), 0);
    let table = file.len() as u64;
    file[0x28..0x30].copy_from_slice(&table.to_le_bytes());
    let places = [
        (0_u32, 0_u32, 0, 0),
        (1, 3, 0x40, strings.len()),
        (11, 1, 0x40 + strings.len(), info.len()),
    ];
    for (name, kind, at, size) in places {
        let mut section = [name.to_le_bytes(), kind.to_le_bytes()].concat();
        section.extend([0; 16]);
        section.extend((at as u64).to_le_bytes());
        section.extend((size as u64).to_le_bytes());
        section.resize(0x40, 0);
        file.extend(section);
    }
    file
}
