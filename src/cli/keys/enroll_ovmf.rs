//! `hullwright keys enroll-ovmf`: the keys of Secure Boot in the forms that firmware, boot loader and Azure take.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgGroup, Args, ValueEnum};
use hullwright::definition::values::Released;
use hullwright::firmware::{
    Database, Databases, Enrolment, OWNER, SignatureTemplate, UpdateSigners, enroll, key_files,
    read_directory, read_into,
};
use hullwright::formats::efi::Time;
use hullwright::signing::{Credential, KeySource};
use hullwright::vm::Ovmf;
use miette::{Context as _, IntoDiagnostic as _, miette};
use uuid::Uuid;

/// Writes an OVMF variable store with PK, KEK, db and dbx enrolled and Secure Boot on
///
/// With --files also the keys as EFI signature lists (.esl), as signed updates (.auth, where the private keys of PK and KEK are
/// given), which systemd-boot enrols by itself from loader/keys/auto on the ESP, and as the `uefiSettings` of an image version
/// in an Azure Compute Gallery (uefi-settings.json).
///
/// Keys come as certificates (PEM or DER), signature lists or signed updates.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("outputs").required(true).multiple(true).args(["output", "files"]))]
pub struct EnrollOvmfArgs {
    /// The variable store to write
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// The store to begin from [default: the empty one of this machine's OVMF with Secure Boot]
    #[arg(long, value_name = "TEMPLATE")]
    vars: Option<PathBuf>,

    /// Add to what TEMPLATE has in KEK, db and dbx, instead of replacing it
    #[arg(long)]
    append: bool,

    /// A directory with PK, KEK, db and perhaps dbx, as `keys init` makes it; PK.key and KEK.key in it sign .auth files
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,

    /// The platform key
    #[arg(long, value_name = "FILE")]
    pk: Option<PathBuf>,

    /// A key that may change db and dbx (may be repeated)
    #[arg(long, value_name = "FILE")]
    kek: Vec<PathBuf>,

    /// A certificate whose signatures count; or `sha256:HEX`, the Authenticode digest of an image (may be repeated)
    #[arg(long, value_name = "FILE|sha256:HEX")]
    db: Vec<String>,

    /// What is revoked: a certificate or a signature list; or the digest of an image (may be repeated)
    #[arg(long, value_name = "FILE|sha256:HEX")]
    dbx: Vec<String>,

    /// Write PK.esl, PK.auth and so on, and uefi-settings.json, into DIR
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,

    /// The platform key's private key, which signs PK.auth and KEK.auth
    #[arg(long, value_name = "KEY", requires = "files")]
    pk_key: Option<PathBuf>,

    /// The private key of the first KEK, which signs db.auth and dbx.auth
    #[arg(long, value_name = "KEY", requires = "files")]
    kek_key: Option<PathBuf>,

    /// Whom firmware is told that certificates belong to
    #[arg(long, value_name = "GUID", default_value_t = OWNER)]
    owner: Uuid,

    /// The databases' time, as `2026-11-21` or `2026-11-21T08:30:00Z`; firmware takes an update only if its time is later than
    /// that of what it has [default: when the newest certificate of each begins to be valid]
    #[arg(long, value_parser = time)]
    time: Option<Time>,

    /// What Azure adds the keys to
    #[arg(long, value_enum, default_value_t = AzureTemplate::None, requires = "files")]
    azure_template: AzureTemplate,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum AzureTemplate {
    /// Nothing: only these keys count
    None,
    /// Microsoft's keys, and its authority for other vendors' boot loaders; PK is then Microsoft's
    MicrosoftUefi,
    /// Microsoft's keys for Windows; PK is then Microsoft's
    MicrosoftWindows,
}

fn time(text: &str) -> Result<Time, String> {
    let written = text.parse().map_err(|_| "no date".to_owned())?;
    let moment = Released::new(written).map_err(|fault| format!("it {}", fault.message))?;
    Ok(Time::from_unix(moment.epoch()))
}

/// Runs `hullwright keys enroll-ovmf`.
pub fn run(args: &EnrollOvmfArgs) -> miette::Result<ExitCode> {
    let databases = databases(args)?;
    databases.check()?;
    if let Some(output) = &args.output {
        let template = match &args.vars {
            Some(template) => template.clone(),
            None => Ovmf::find(true)?.vars,
        };
        let enrolment = Enrolment {
            databases: databases.clone(),
            append: args.append,
            time: args.time,
        };
        write(output, &enroll(&template, &enrolment)?)?;
        println!("{}  {} with Secure Boot on", output.display(), template.display());
    }
    if let Some(directory) = &args.files {
        write_files(args, &databases, directory)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The directory's databases; those that options name take the place of its own.
fn databases(args: &EnrollOvmfArgs) -> miette::Result<Databases> {
    let mut databases = match &args.keys {
        Some(directory) => read_directory(directory, args.owner)?,
        None => Databases::default(),
    };
    let names = |paths: &[PathBuf]| -> Vec<String> {
        let texts = paths.iter().filter_map(|path| path.to_str());
        texts.map(str::to_owned).collect()
    };
    for (database, sources) in [
        (Database::Pk, names(args.pk.as_slice())),
        (Database::Kek, names(&args.kek)),
        (Database::Db, args.db.clone()),
        (Database::Dbx, args.dbx.clone()),
    ] {
        if sources.is_empty() {
            continue;
        }
        let lists = databases.get_mut(database);
        *lists = Default::default();
        for source in sources {
            match source.strip_prefix("sha256:") {
                Some(hex) => lists.add_image(args.owner, digest(hex)?),
                None => read_into(Path::new(&source), args.owner, lists)?,
            }
        }
    }
    Ok(databases)
}

fn digest(hex: &str) -> miette::Result<[u8; 32]> {
    let digits: Option<Vec<u8>> = hex
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let bytes = digits.map(|digits| -> Vec<u8> {
        digits
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
            .collect()
    });
    let digest = bytes
        .filter(|_| hex.len() == 64)
        .and_then(|bytes| bytes.try_into().ok());
    digest.ok_or_else(|| {
        miette!(
            help = "`pesign --hash --in FILE` and `hash-to-efi-sig-list` tell an image's Authenticode digest",
            "`sha256:{hex}` is no SHA-256 digest of 64 hexadecimal digits"
        )
    })
}

fn write_files(args: &EnrollOvmfArgs, databases: &Databases, directory: &Path) -> miette::Result<()> {
    let pk = signer(args, "PK", &args.pk_key, args.pk.as_ref())?;
    let kek = signer(args, "KEK", &args.kek_key, args.kek.first())?;
    let signers = UpdateSigners {
        pk: pk.as_ref(),
        kek: kek.as_ref(),
    };
    let template = match args.azure_template {
        AzureTemplate::None => SignatureTemplate::None,
        AzureTemplate::MicrosoftUefi => SignatureTemplate::MicrosoftUefi,
        AzureTemplate::MicrosoftWindows => SignatureTemplate::MicrosoftWindows,
    };
    let files = key_files(databases, signers, args.time, template)?;
    fs::create_dir_all(directory)
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot create {}", directory.display()))?;
    for (name, bytes) in files {
        let path = directory.join(name);
        write(&path, &bytes)?;
        println!("{}", path.display());
    }
    for (signer, name, unsigned) in [(&pk, "PK", "PK.auth and KEK.auth"), (&kek, "KEK", "db.auth")] {
        if signer.is_none() {
            eprintln!("note: {unsigned} were not written: the private key of {name} was not given");
        }
    }
    Ok(())
}

/// The key that an option names, else the one that lies with the certificates in --keys.
fn signer(
    args: &EnrollOvmfArgs,
    name: &str,
    key: &Option<PathBuf>,
    certificate: Option<&PathBuf>,
) -> miette::Result<Option<Credential>> {
    let beside = |ending: &str| {
        let directory = args.keys.as_ref()?;
        Some(directory.join(format!("{name}.{ending}"))).filter(|path| path.is_file())
    };
    let certificate = certificate.cloned().or_else(|| beside("pem"));
    let (key, certificate) = match (key.clone().or_else(|| beside("key")), certificate) {
        (Some(key), Some(certificate)) => (key, certificate),
        (None, _) => return Ok(None),
        (Some(key), None) => {
            return Err(miette!(
                help = "name the certificate by --pk or --kek",
                "{} is to sign, and which certificate belongs to it was not said",
                key.display()
            ));
        }
    };
    let (credential, warnings) = Credential::open(&KeySource::File(key), &certificate)?;
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    Ok(Some(credential))
}

/// Writes a file under its name only when it is whole.
fn write(path: &Path, bytes: &[u8]) -> miette::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let made = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(parent.unwrap_or(Path::new(".")))
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.persist(path).map_err(|error| error.error)
        });
    made.map(drop)
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot write {}", path.display()))
}
