//! `hullwright rpm show`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use hullwright::formats::rpm::tag::{self, sense, signature};
use hullwright::formats::rpm::{Header, HeaderError};
use hullwright::rpmset::signature::{Keyring, Policy, Verdict, verify};
use hullwright::rpmset::{Error, Package};
use hullwright::scriptlet::{CollectError, of_package};
use hullwright::store::hex;
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::{escape, expand_all, print};

/// Show what packages say of themselves, and whether it holds; exit status 1 if one is damaged or, with --key, not signed
/// by a given key
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Packages, or directories of .rpm files
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    /// A file of OpenPGP public keys that packages must be signed by; may be repeated
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,

    /// Print JSON, with every dependency and the changelog
    #[arg(long)]
    json: bool,
}

/// A package and what became of its checks.
struct Looked {
    package: Package,
    facts: Facts,
    payload: Result<(), Error>,
    verdict: Verdict,
    /// Whether the verdict was asked for.
    keyed: bool,
    /// Kinds of its scriptlets, or why they cannot be read.
    scriptlets: Result<Vec<&'static str>, CollectError>,
}

impl Looked {
    fn open(path: &Path, keyring: &Keyring) -> Result<Self, Error> {
        let package = Package::open(path)?;
        let facts = Facts::read(&package.preamble.header).map_err(|error| Error {
            path: path.to_owned(),
            problem: error.into(),
        })?;
        Ok(Self {
            facts,
            payload: package.check_payload(),
            verdict: verify(&package, keyring, &Policy::default())?,
            keyed: !keyring.is_empty(),
            scriptlets: of_package(&package).map(|all| all.iter().map(|it| it.kind.name()).collect()),
            package,
        })
    }

    fn is_good(&self) -> bool {
        self.payload.is_ok()
            && self.scriptlets.is_ok()
            && (!self.keyed || matches!(self.verdict, Verdict::Signed { .. }))
    }

    /// What is to be said of its signatures.
    fn signature(&self) -> String {
        match &self.verdict {
            Verdict::Unknown { key_ids } if !self.keyed => {
                format!(
                    "by key {}, not checked (name its owner's keys with --key)",
                    key_ids.join(", ")
                )
            }
            verdict => verdict.to_string(),
        }
    }
}

pub fn run(args: &ShowArgs) -> miette::Result<ExitCode> {
    let keyring = Keyring::read(&args.keys)?;
    let paths = expand_all(&args.paths)?;
    let looked: Vec<_> = paths
        .par_iter()
        .with_max_len(1)
        .map(|path| Looked::open(path, &keyring))
        .collect();
    if args.json {
        let values = paths.iter().zip(&looked).map(|(path, looked)| match looked {
            Ok(looked) => looked.describe(),
            Err(error) => {
                let (file, reason) = (path.display().to_string(), error.problem.to_string());
                json!({ "file": file, "ok": false, "reason": reason })
            }
        });
        print(&format!("{:#}\n", Value::from(values.collect::<Vec<_>>())))?;
    } else {
        let texts = looked.iter().map(|looked| match looked {
            Ok(looked) => looked.text(),
            Err(error) => format!("BAD {}\n", escape::line(error.to_string().as_bytes())),
        });
        print(&texts.collect::<Vec<_>>().join("\n"))?;
    }
    let good = |looked: &Result<Looked, Error>| looked.as_ref().is_ok_and(Looked::is_good);
    Ok(super::code(looked.iter().all(good)))
}

/// Single texts: tag, key in JSON, label.
const TEXTS: [(u32, &str, &str); 12] = [
    (tag::SUMMARY, "summary", "Summary"),
    (tag::LICENSE, "license", "License"),
    (tag::GROUP, "group", "Group"),
    (tag::VENDOR, "vendor", "Vendor"),
    (tag::PACKAGER, "packager", "Packager"),
    (tag::DISTRIBUTION, "distribution", "Distribution"),
    (tag::URL, "url", "URL"),
    (tag::BUGURL, "bug_url", "Bug URL"),
    (tag::SOURCERPM, "source_rpm", "Source RPM"),
    (tag::BUILDHOST, "build_host", "Build host"),
    (tag::RPMVERSION, "rpm_version", "RPM version"),
    (tag::MODULARITYLABEL, "modularity_label", "Module"),
];

/// Kinds of dependencies: key in JSON, then the tags of names, flags and versions.
const RELATIONS: [(&str, [u32; 3]); 8] = [
    (
        "provides",
        [tag::PROVIDENAME, tag::PROVIDEFLAGS, tag::PROVIDEVERSION],
    ),
    (
        "requires",
        [tag::REQUIRENAME, tag::REQUIREFLAGS, tag::REQUIREVERSION],
    ),
    (
        "conflicts",
        [tag::CONFLICTNAME, tag::CONFLICTFLAGS, tag::CONFLICTVERSION],
    ),
    (
        "obsoletes",
        [tag::OBSOLETENAME, tag::OBSOLETEFLAGS, tag::OBSOLETEVERSION],
    ),
    (
        "recommends",
        [tag::RECOMMENDNAME, tag::RECOMMENDFLAGS, tag::RECOMMENDVERSION],
    ),
    (
        "suggests",
        [tag::SUGGESTNAME, tag::SUGGESTFLAGS, tag::SUGGESTVERSION],
    ),
    (
        "supplements",
        [tag::SUPPLEMENTNAME, tag::SUPPLEMENTFLAGS, tag::SUPPLEMENTVERSION],
    ),
    (
        "enhances",
        [tag::ENHANCENAME, tag::ENHANCEFLAGS, tag::ENHANCEVERSION],
    ),
];

/// What the header says, in this program's order.
struct Facts {
    texts: Vec<(&'static str, &'static str, Vec<u8>)>,
    description: Option<Vec<u8>>,
    /// Bytes of all files.
    installed_size: u64,
    /// `cpio`, compressor, level.
    payload: [Vec<u8>; 3],
    relocations: Vec<Vec<u8>>,
    relations: Vec<(&'static str, Vec<Relation>)>,
    changelog: Vec<(u32, Vec<u8>, Vec<u8>)>,
}

/// A dependency.
struct Relation {
    text: Vec<u8>,
    flags: u32,
}

impl Facts {
    fn read(header: &Header) -> Result<Self, HeaderError> {
        let owned = |values: Vec<&[u8]>| values.into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>();
        let single = |tag, default: &[u8]| -> Result<Vec<u8>, HeaderError> {
            Ok(header.string(tag)?.unwrap_or(default).to_vec())
        };
        let mut texts = Vec::new();
        for (tag, key, label) in TEXTS {
            texts.extend(header.string(tag)?.map(|value| (key, label, value.to_vec())));
        }
        let mut relations = Vec::new();
        for (key, tags) in RELATIONS {
            relations.push((key, read_relations(header, tags)?));
        }
        let times = header.u32s(tag::CHANGELOGTIME)?;
        let names = owned(header.strings(tag::CHANGELOGNAME)?);
        let notes = owned(header.strings(tag::CHANGELOGTEXT)?);
        let changelog = times.into_iter().zip(names).zip(notes);
        let long = header.u64s(tag::LONGSIZE)?.first().copied();
        Ok(Self {
            texts,
            description: header.string(tag::DESCRIPTION)?.map(<[u8]>::to_vec),
            installed_size: match long {
                Some(size) => size,
                None => header.u32(tag::SIZE)?.map_or(0, u64::from),
            },
            payload: [
                single(tag::PAYLOADFORMAT, b"cpio")?,
                single(tag::PAYLOADCOMPRESSOR, b"gzip")?,
                single(tag::PAYLOADFLAGS, b"")?,
            ],
            relocations: owned(header.strings(tag::PREFIXES)?),
            relations,
            changelog: changelog.map(|((time, name), text)| (time, name, text)).collect(),
        })
    }
}

fn read_relations(header: &Header, [names, flags, versions]: [u32; 3]) -> Result<Vec<Relation>, HeaderError> {
    let (flags, versions) = (header.u32s(flags)?, header.strings(versions)?);
    let names = header.strings(names)?.into_iter().enumerate();
    let relation = |(index, name): (usize, &[u8])| {
        let flags = flags.get(index).copied().unwrap_or(0);
        let version = versions.get(index).copied().unwrap_or_default();
        let mut text = name.to_vec();
        let signs: String = [(sense::LESS, '<'), (sense::GREATER, '>'), (sense::EQUAL, '=')]
            .iter()
            .filter_map(|(bit, sign)| (flags & bit != 0).then_some(*sign))
            .collect();
        if !signs.is_empty() && !version.is_empty() {
            text.extend(format!(" {signs} ").bytes());
            text.extend(version);
        }
        Relation { text, flags }
    };
    Ok(names.map(relation).collect())
}

impl Looked {
    /// Digests that the package claims: what of, algorithm, value. Those of the header were found to hold.
    fn digests(&self) -> Vec<(&'static str, &'static str, String)> {
        let claim = |header: &Header, tag| Some(header.string(tag).ok()??.escape_ascii().to_string());
        let (sig, header) = (&self.package.preamble.signature, &self.package.preamble.header);
        let number = header.u32(tag::PAYLOADDIGESTALGO).ok().flatten().unwrap_or(8);
        let of_payload = hullwright::rpmset::DigestAlgorithm::from_number(number);
        let of_payload = of_payload.map_or("unknown", hullwright::rpmset::DigestAlgorithm::name);
        let md5 = sig.binary(signature::MD5).ok().flatten().map(hex);
        let all = [
            ("header", "SHA3-256", claim(sig, signature::SHA3_256)),
            ("header", "SHA-256", claim(sig, signature::SHA256)),
            ("header", "SHA-1", claim(sig, signature::SHA1)),
            ("payload", of_payload, claim(header, tag::PAYLOADDIGEST)),
            ("payload", "SHA-512", claim(header, tag::PAYLOADSHA512)),
            ("payload", "SHA3-256", claim(header, tag::PAYLOADSHA3_256)),
            ("header and payload", "MD5", md5),
        ];
        all.into_iter()
            .filter_map(|(of, name, value)| Some((of, name, value?)))
            .collect()
    }

    fn text(&self) -> String {
        let Self { package, facts, .. } = self;
        let mut out = String::new();
        let mut row = |label: &str, value: &str| out.push_str(&format!("{label:<13}: {value}\n"));
        row("Name", &package.nevra.name);
        if let Some(epoch) = package.nevra.epoch {
            row("Epoch", &epoch.to_string());
        }
        row("Version", &package.nevra.version);
        row("Release", &package.nevra.release);
        row("Architecture", &package.nevra.arch);
        for (_, label, value) in &facts.texts {
            row(label, &escape::line(value));
        }
        row("Build date", &escape::moment(package.build_time));
        row(
            "File",
            &format!("{} bytes, SHA-256 {}", package.size, package.sha256),
        );
        row(
            "Installed",
            &format!(
                "{} bytes in {}",
                facts.installed_size,
                number(package.files.len(), "path")
            ),
        );
        let [format, compressor, level] = facts.payload.each_ref().map(|value| escape::line(value));
        let level = if level.is_empty() {
            level
        } else {
            format!(", level {level}")
        };
        row("Payload", &format!("{format}, {compressor}{level}"));
        for (of, name, value) in self.digests() {
            row("Digest", &format!("{of}'s {name} {value}"));
        }
        match &self.payload {
            Ok(()) => row("Whole", "yes: all digests hold"),
            Err(error) => row(
                "Whole",
                &format!("NO: {}", escape::line(error.problem.to_string().as_bytes())),
            ),
        }
        row("Signature", &escape::line(self.signature().as_bytes()));
        if !facts.relocations.is_empty() {
            let prefixes: Vec<_> = facts
                .relocations
                .iter()
                .map(|prefix| escape::line(prefix))
                .collect();
            row("Relocatable", &prefixes.join(", "));
        }
        let relations = facts.relations.iter().filter(|(_, all)| !all.is_empty());
        let relations = relations.map(|(key, all)| {
            let rich = all.iter().filter(|it| it.text.starts_with(b"(")).count();
            let rich = if rich > 0 {
                format!(" ({rich} rich)")
            } else {
                String::new()
            };
            format!("{} {key}{rich}", all.len())
        });
        row("Dependencies", &relations.collect::<Vec<_>>().join(", "));
        match &self.scriptlets {
            Ok(kinds) if kinds.is_empty() => {}
            Ok(kinds) => row("Scriptlets", &kinds.join(", ")),
            Err(error) => row("Scriptlets", &format!("BAD, {error}")),
        }
        if let Some(description) = &facts.description {
            out.push_str("Description  :\n");
            out.push_str(&escape::block(description, "  "));
        }
        out
    }

    fn describe(&self) -> Value {
        let Self { package, facts, .. } = self;
        let mut value = super::head(&package.path, Ok(package));
        value["ok"] = self.is_good().into();
        let reason = match &self.payload {
            Err(error) => Some(error.problem.to_string()),
            Ok(()) if !self.is_good() => Some(self.verdict.to_string()),
            Ok(()) => None,
        };
        if let Some(reason) = reason {
            value["reason"] = reason.into();
        }
        value["name"] = package.nevra.name.clone().into();
        value["epoch"] = package.nevra.epoch.into();
        value["version"] = package.nevra.version.clone().into();
        value["release"] = package.nevra.release.clone().into();
        value["arch"] = package.nevra.arch.clone().into();
        for (key, _, text) in &facts.texts {
            value[*key] = escape::json(text);
        }
        value["description"] = facts.description.as_deref().map(escape::json).into();
        value["build_time"] = package.build_time.into();
        value["file_size"] = package.size.into();
        value["sha256"] = package.sha256.to_string().into();
        value["installed_size"] = facts.installed_size.into();
        value["paths"] = package.files.len().into();
        let [format, compressor, level] = facts.payload.each_ref().map(|value| escape::json(value));
        value["payload"] = json!({ "format": format, "compressor": compressor, "level": level, "whole": self.payload.is_ok() });
        let digests = self.digests().into_iter();
        value["digests"] = digests
            .map(|(of, algorithm, hex)| json!({ "of": of, "algorithm": algorithm, "hex": hex }))
            .collect();
        value["signature"] = self.signature().into();
        value["relocations"] = facts
            .relocations
            .iter()
            .map(|prefix| escape::json(prefix))
            .collect();
        let mut relations = Map::new();
        for (key, all) in &facts.relations {
            let all = all
                .iter()
                .map(|it| json!({ "text": escape::json(&it.text), "flags": it.flags }));
            relations.insert((*key).to_owned(), all.collect());
        }
        value["dependencies"] = relations.into();
        value["scriptlets"] = match &self.scriptlets {
            Ok(kinds) => kinds.clone().into(),
            Err(error) => json!({ "error": error.to_string() }),
        };
        let changelog = facts.changelog.iter().map(|(time, name, text)| {
            json!({ "time": time, "name": escape::json(name), "text": escape::json(text) })
        });
        value["changelog"] = changelog.collect();
        value
    }
}

fn number(count: usize, what: &str) -> String {
    if count == 1 {
        format!("1 {what}")
    } else {
        format!("{count} {what}s")
    }
}
