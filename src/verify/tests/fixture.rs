//! A small image with everything that a build leaves, made by the same writers.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::disk::{self, Arch, Contents, DiskDigests, DiskPlan, DiskSpec, Role, Slots, Usr};
use crate::formats::at::Content;
use crate::formats::fat::FatFile;
use crate::formats::pcr::uki::{SectionDigests, at_phase};
use crate::formats::pcr::{self, Bank};
use crate::formats::pe::{self, tests::sample_stub};
use crate::formats::testing::noise;
use crate::formats::uki::{DEFAULT_SBAT, Uki};
use crate::formats::{erofs, verity};
use crate::measure::{self, Chain, Firmware};
use crate::ostree::{self, CommitOptions, RepoMode};
use crate::report::{file_digest, write_sums};
use crate::store::{Store, hex};
use crate::tree::path::TreePath;
use crate::tree::{Kind, Meta, Node, Origin, Tree};

const MIB: u64 = 1 << 20;
const TIME: i64 = 1_763_683_199;
pub const STEM: &str = "image_1";
pub const REFERENCE: &str = "test/1";
pub const SBAT: &str = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n";

pub type SignHash = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// What goes into an image; tests change it before it is made.
pub struct Parts {
    /// What is sealed, and what is committed.
    pub sealed: Tree,
    pub committed: Tree,
    /// The command line, given the root hash.
    pub cmdline: fn(&str) -> String,
    pub loader: Vec<u8>,
    pub loader_conf: &'static [u8],
    pub uki_path: &'static str,
    /// More files of the ESP.
    pub esp: Vec<(&'static str, Vec<u8>)>,
    pub plan: fn(&mut DiskPlan),
    pub slots: Slots,
    pub manifest: fn(&mut Value),
    /// What the commit says of PCR 11, given the truth.
    pub pcr_11: fn(&str) -> String,
    /// Signs boot loader and kernel image.
    pub sign: Box<dyn Fn(Vec<u8>) -> Vec<u8>>,
    /// From a root hash to the content of its signature partition; `None`: there is none.
    pub sign_hash: Option<SignHash>,
}

/// An image that was made.
pub struct Image {
    dir: tempfile::TempDir,
    pub plan: DiskPlan,
    pub root_hash: String,
}

/// 40,000 bytes that stand in a file of their own.
pub fn marker() -> Vec<u8> {
    noise(77, 40_000)
}

pub fn put(tree: &mut Tree, path: &str, mode: u16, kind: Kind) {
    let path = TreePath::new(path).unwrap();
    let node = Node::new(Meta::root(mode, TIME), kind, Origin::Composer("test"));
    tree.insert(&path, node).unwrap();
}

fn tree() -> Tree {
    let mut tree = Tree::new(Meta::root(0o755, TIME));
    let files: [(&str, Vec<u8>); 7] = [
        ("/usr/bin/marker", marker()),
        ("/usr/bin/tool", noise(1, 9_000)),
        ("/usr/lib/empty", Vec::new()),
        ("/usr/lib/os-release", b"ID=image\n".to_vec()),
        (
            "/usr/lib/modules/6.1/vmlinuz",
            sample_stub("sbat,1,x\nkernel,1,K,k,1,https://example.org\n"),
        ),
        ("/usr/lib/systemd/boot/efi/linuxx64.efi.stub", sample_stub(SBAT)),
        (
            "/usr/lib/systemd/boot/efi/systemd-bootx64.efi",
            sample_stub(&format!("{SBAT}boot,1\n")),
        ),
    ];
    for (path, bytes) in files {
        put(&mut tree, path, 0o644, Kind::file(bytes));
    }
    put(
        &mut tree,
        "/usr/bin/link",
        0o777,
        Kind::Symlink((*b"tool").into()),
    );
    put(&mut tree, "/usr/bin/odd-owner", 0o4755, Kind::file(*b"odd"));
    let odd = tree.get_mut(&TreePath::literal("/usr/bin/odd-owner")).unwrap();
    (odd.meta.uid, odd.meta.gid) = (70_000, 5);
    odd.meta
        .xattrs
        .insert((*b"security.capability").into(), [1, 0, 0, 2].into());
    put(&mut tree, "/etc", 0o755, Kind::Dir(BTreeMap::new()));
    tree
}

fn create(path: &Path) -> File {
    File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .unwrap()
}

/// What a boot of these files measures, as manifests have it.
fn pcrs(loader: &[u8], loader_conf: &[u8], uki: &[u8]) -> Value {
    let banks = [Bank::Sha256, Bank::Sha384];
    let chain = Chain {
        loader: Content::bytes(loader),
        loader_conf,
        uki: Content::bytes(uki),
        profile: 0,
        addons: Vec::new(),
    };
    let events = measure::events(&chain, &banks).unwrap();
    let text = |value: Option<pcr::Value>| value.unwrap().to_string();
    let image = pe::Image::read(uki, uki.len() as u64).unwrap();
    let digests = SectionDigests::of_image(&image, &uki, &banks).unwrap();
    let [sha256, sha384] = [0, 1].map(|bank| digests.pcr_11(0)[bank]);
    let moment = |phase: &str| {
        let [sha256, sha384] = [sha256, sha384].map(|value| at_phase(value, phase).to_string());
        json!({ "phase": phase, "sha256": sha256, "sha384": sha384 })
    };
    let registers = |bank| {
        let registers = Firmware::ovmf().predict(&events, bank);
        let registers = registers
            .iter()
            .map(|(pcr, value)| (pcr.to_string(), value.to_string().into()));
        Value::Object(registers.collect())
    };
    json!({
        "uki": [moment(""), moment("enter-initrd")],
        "firmware": [{
            "firmware": Firmware::ovmf().name,
            "sha256": registers(Bank::Sha256),
            "sha384": registers(Bank::Sha384),
        }],
        "events": events.iter().map(|event| json!({
            "pcr": event.pcr,
            "what": event.what,
            "sha256": text(event.digest(Bank::Sha256)),
            "sha384": text(event.digest(Bank::Sha384)),
        })).collect::<Vec<_>>(),
    })
}

/// Makes an image of what `change` leaves of the parts.
pub fn build(change: impl FnOnce(&mut Parts)) -> Image {
    let mut parts = Parts {
        sealed: tree(),
        committed: tree(),
        cmdline: |hash| format!("usrhash={hash} rw"),
        loader: sample_stub(&format!("{SBAT}boot,1\n")),
        loader_conf: b"timeout 0\neditor no\n",
        uki_path: "EFI/Linux/image_1+3.efi",
        esp: Vec::new(),
        plan: |_| {},
        slots: Slots::AAndB,
        manifest: |_| {},
        pcr_11: str::to_owned,
        sign: Box::new(|program| program),
        sign_hash: None,
    };
    change(&mut parts);
    parts.loader = (parts.sign)(parts.loader);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join(STEM);
    fs::create_dir(&out).unwrap();
    let path = |ending: &str| out.join(format!("{STEM}.{ending}"));

    let usr = parts.sealed.get(&TreePath::literal("/usr")).unwrap();
    let volume = create(&path("usr.erofs"));
    let store = Store::open(&dir.path().join("store")).unwrap();
    let clusters = store.values(disk::usr::CLUSTERS).unwrap();
    disk::usr::write_erofs(usr, &erofs::Options::default(), &volume, &clusters).unwrap();
    let size = volume.metadata().unwrap().len();
    let params = verity::Params {
        algorithm: verity::Algorithm::Sha256,
        salt: vec![9; 32],
        uuid: disk::derive_uuid("verity", b"test"),
    };
    let hashes = create(&path("usr.verity"));
    let root_hash = verity::format(&volume, size, &hashes, &params).unwrap();
    let hash = hex(&root_hash);

    let file = |name: &str| {
        parts
            .sealed
            .file(&TreePath::new(name).unwrap())
            .unwrap()
            .blob
            .read_all()
            .unwrap()
    };
    let (stub, kernel) = (
        file("/usr/lib/systemd/boot/efi/linuxx64.efi.stub"),
        file("/usr/lib/modules/6.1/vmlinuz"),
    );
    let initrd = marker();
    let cmdline = (parts.cmdline)(&hash);
    let uki = Uki {
        stub: &stub,
        osrel: b"ID=image\n",
        cmdline: &cmdline,
        uname: "6.1",
        sbat: DEFAULT_SBAT,
        linux: Content::bytes(&kernel),
        initrd: Content::bytes(&initrd),
        pcrpkey: None,
        pcrsig: None,
        profiles: &[],
    };
    uki.write(&create(&path("efi"))).unwrap();
    let uki = (parts.sign)(fs::read(path("efi")).unwrap());
    fs::write(path("efi"), &uki).unwrap();
    let pcrs = pcrs(&parts.loader, parts.loader_conf, &uki);
    let pcr_11 = pcrs["uki"][0]["sha256"].as_str().unwrap();
    let text = |text: &str| ostree::Value::Str(text.to_owned());
    let options = CommitOptions {
        ref_name: REFERENCE.to_owned(),
        bind_refs: Vec::new(),
        subject: "test".to_owned(),
        body: String::new(),
        timestamp: TIME as u64,
        parent: None,
        metadata: BTreeMap::from([
            ("version".to_owned(), text("1")),
            ("ostree.linux".to_owned(), text("6.1")),
            ("hullwright.image-id".to_owned(), text("image")),
            ("hullwright.usr-root-hash".to_owned(), text(&hash)),
            (
                "hullwright.uki-pcr-11.sha256".to_owned(),
                text(&(parts.pcr_11)(pcr_11)),
            ),
        ]),
        mode: RepoMode::Archive { level: 1 },
        sync: false,
    };
    let commit = ostree::write_commit(&parts.committed, &options, &out.join("repo")).unwrap();

    let mut esp = vec![
        ("EFI/BOOT/BOOTX64.EFI", parts.loader.as_slice()),
        (parts.uki_path, uki.as_slice()),
        ("loader/loader.conf", parts.loader_conf),
    ];
    esp.extend(parts.esp.iter().map(|(path, bytes)| (*path, bytes.as_slice())));
    let esp = esp.into_iter().map(|(path, bytes)| FatFile {
        path,
        content: Content::bytes(bytes),
    });
    let esp: Vec<_> = esp.collect();

    let spec = DiskSpec {
        arch: Arch::X86_64,
        image_id: "image".to_owned(),
        version: "1".to_owned(),
        size: 64 * MIB,
        esp_size: 34 * MIB,
        slot_size: Some(2 * MIB),
        slots: parts.slots,
        min_root_size: MIB,
        signed: parts.sign_hash.is_some(),
        fec_roots: None,
        root_in_image: false,
        others: Vec::new(),
    };
    let content = Usr {
        size,
        verity_size: hashes.metadata().unwrap().len(),
        algorithm: verity::Algorithm::Sha256,
        root_hash: &root_hash,
    };
    let signature = parts.sign_hash.as_ref().map(|sign| sign(&root_hash));
    let mut plan = DiskPlan::new(&spec, content, b"seed").unwrap();
    (parts.plan)(&mut plan);
    let contents = Contents {
        esp: &esp,
        usr: &volume,
        verity: &hashes,
        root: None,
        others: &[],
        signature: signature.as_deref(),
        time: TIME,
    };
    let raw = create(&path("raw"));
    disk::write_raw(&plan, &contents, &raw).unwrap();
    disk::write_vhd(&plan, &raw, &create(&path("vhd")), TIME).unwrap();
    let image = Image {
        dir,
        plan,
        root_hash: hash,
    };
    // Beside, for it is no output of this image.
    disk::write_qcow2(
        &image.plan,
        &raw,
        &create(&image.dir.path().join("image_1.qcow2")),
    )
    .unwrap();
    image.write_manifest(&commit.checksum.to_string(), &cmdline, pcrs, parts.manifest);
    image
}

impl Image {
    pub fn directory(&self) -> PathBuf {
        self.dir.path().join(STEM)
    }

    /// The output with this ending.
    pub fn file(&self, ending: &str) -> PathBuf {
        let name = format!("{STEM}.{ending}");
        match ending {
            "qcow2" => self.dir.path().join(name),
            _ => self.directory().join(name),
        }
    }

    fn write_manifest(&self, commit: &str, cmdline: &str, pcrs: Value, change: fn(&mut Value)) {
        let raw = File::open(self.file("raw")).unwrap();
        let digests = DiskDigests::of(&self.plan, &raw, TIME).unwrap();
        let flat = |ending: &str| {
            let path = self.file(ending);
            let digest = file_digest(&path).unwrap();
            json!({ "file": format!("{STEM}.{ending}"), "size": fs::metadata(path).unwrap().len(), "sha256": digest })
        };
        let size = self.plan.spec.size;
        let partitions = self
            .plan
            .partitions
            .iter()
            .zip(&digests.partitions)
            .map(|(partition, digest)| {
                json!({
                    "number": partition.number,
                    "label": partition.label,
                    "type_uuid": partition.type_uuid,
                    "uuid": partition.uuid,
                    "offset": partition.offset,
                    "size": partition.size,
                    "tree_digest": digest,
                })
            });
        let mut manifest = json!({
            "manifest_version": 1,
            "image": "image",
            "version": "1",
            "kernel": { "release": "6.1", "command_line": cmdline },
            "commit": { "ref": REFERENCE, "checksum": commit },
            "usr_root_hash": self.root_hash,
            "usr_salt": "09".repeat(32),
            "pcrs": pcrs,
            "partitions": partitions.collect::<Vec<_>>(),
            "outputs": [
                flat("usr.erofs"), flat("usr.verity"), flat("efi"),
                { "file": format!("{STEM}.raw"), "size": size, "tree_digest": digests.raw },
                { "file": format!("{STEM}.vhd"), "size": size + 512, "tree_digest": digests.vhd },
            ],
        });
        change(&mut manifest);
        fs::write(self.directory().join("manifest.json"), manifest.to_string()).unwrap();
        let names = ["usr.erofs", "usr.verity", "efi"].map(|ending| format!("{STEM}.{ending}"));
        let directory = self.directory();
        let names = names.into_iter().chain(["manifest.json".to_owned()]);
        let sums = names.map(|name| {
            let digest = file_digest(&directory.join(&name)).unwrap();
            (name, digest)
        });
        write_sums(&directory, &sums.collect::<Vec<_>>()).unwrap();
    }

    /// Where the partition of `role` in slot A begins on the disk.
    pub fn start(&self, role: Role) -> u64 {
        self.plan.partition(role).unwrap().offset
    }

    /// Where `bytes` first stand in the file with this ending.
    pub fn find(&self, ending: &str, bytes: &[u8]) -> u64 {
        let content = fs::read(self.file(ending)).unwrap();
        content
            .windows(bytes.len())
            .position(|window| window == bytes)
            .unwrap() as u64
    }

    /// Changes the byte at `at` of the file with this ending; a second time, it is as it was.
    pub fn flip(&self, ending: &str, at: u64) {
        let file = File::options()
            .read(true)
            .write(true)
            .open(self.file(ending))
            .unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x11], at).unwrap();
    }
}
