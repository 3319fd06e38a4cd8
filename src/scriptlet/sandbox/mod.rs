//! The sandbox in which scriptlets run: namespaces of their own, nothing of the host but a few device nodes, and a
//! supervisor that answers what an ordinary user cannot do.
//!
//! The tree lies in a directory of the host, owned by whoever builds. Inside, that user is root, and the only user there
//! is. Owners, device nodes and extended attributes are recorded by the supervisor, to whom the kernel hands the calls
//! (`seccomp_unotify(2)`), and shown to later `stat` and `getxattr` calls. The same happens where root builds.

mod calls;
mod error;
mod filter;
mod ground;
mod inside;
mod lay;
mod limits;
mod links;
mod probe;
mod read;
mod records;
mod snapshot;
mod supervise;
mod usage;
mod wire;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

pub use self::error::SandboxError;
use self::ground::Ground;
pub use self::inside::first_process;
pub use self::limits::Limits;
use self::links::Links;
pub use self::probe::probe;
use self::records::{Records, inode, real};
use self::snapshot::{Snapshot, State};
use self::supervise::{Ran, Stage};
use self::wire::{Request, Task};
use crate::path::TreePath;
use crate::tree::Node;

/// Longer than the kernel's clock for change times takes from one tick to the next: what changes later than this after a
/// look bears another time.
const TICK: Duration = Duration::from_millis(20);

/// What every scriptlet finds in its environment, unless it is given other values.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("HOME", "/root"),
    ("LANG", "C.UTF-8"),
    ("PATH", "/sbin:/bin:/usr/sbin:/usr/bin"),
    ("TZ", "UTC"),
];

/// A tree on disk in which scriptlets run, one at a time.
#[derive(Debug)]
pub struct Sandbox {
    program: PathBuf,
    limits: Limits,
    ground: Ground,
    /// For files that outlive a change of the tree.
    spare: PathBuf,
    records: Records,
    snapshot: Snapshot,
    links: Mutex<Links>,
}

/// What carries out a scriptlet's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Interpreter {
    /// A program of the tree with its first arguments. The body follows as the path of a file, then the scriptlet's
    /// arguments.
    Program(Vec<Vec<u8>>),
    /// The built-in Lua, run by the sandboxed process itself.
    Lua,
}

/// A scriptlet, ready to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// For messages: `bash-5.2-1.x86_64 %post`.
    pub name: String,
    pub interpreter: Interpreter,
    /// Empty where the interpreter alone is the scriptlet (`-p /sbin/ldconfig`).
    pub body: Vec<u8>,
    pub args: Vec<Vec<u8>>,
    pub stdin: Vec<u8>,
    /// Added to the fixed environment; the same name takes its place.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What a scriptlet did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub end: End,
    /// Standard output and error as they came, to [`Limits::output_kept`].
    pub output: Vec<u8>,
    /// Whether there was more output.
    pub output_cut: bool,
    /// Sorted by path; `/proc`, `/dev`, `/tmp` and `/run`, which are thrown away, are not looked at.
    pub changes: Vec<Change>,
}

/// How a scriptlet ended. All its processes are gone then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With this exit status; 127 also where its interpreter could not be started.
    Exit(i32),
    /// Killed by this signal.
    Signal(i32),
    /// Stopped after [`Limits::time`].
    TimedOut,
    /// Stopped at [`Limits::memory`].
    Memory,
    /// Stopped at [`Limits::processes`].
    Processes,
    /// Stopped at [`Limits::output`].
    Output,
    /// Stopped at [`Limits::disk`] or [`Limits::files`], or it left more when it ended.
    Disk,
}

/// A path that is not as it was before a scriptlet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub path: TreePath,
    pub kind: ChangeKind,
}

/// What about a path has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// Nothing was there, or something of another kind.
    Created,
    /// The content or a link's target; maybe metadata as well.
    Content,
    /// Mode, owner, device number or extended attributes. Times do not count.
    Metadata,
    Removed,
}

impl End {
    /// Whether the scriptlet did what it was to do.
    pub fn is_success(self) -> bool {
        self == Self::Exit(0)
    }

    /// How it ended, after the scriptlet's name: `ended with exit status 1`.
    pub fn words(self, limits: &Limits) -> String {
        let mebibytes = |bytes: u64| format!("{} MiB", bytes >> 20);
        match self {
            Self::Exit(code) => format!("ended with exit status {code}"),
            Self::Signal(signal) => match nix::sys::signal::Signal::try_from(signal) {
                Ok(nix::sys::signal::Signal::SIGSYS) => {
                    "was killed: it made a system call of another architecture".to_owned()
                }
                Ok(name) => format!("was killed by {name}"),
                Err(_) => format!("was killed by signal {signal}"),
            },
            Self::TimedOut => format!(
                "was stopped: it ran longer than {} seconds",
                limits.time.as_secs()
            ),
            Self::Memory => format!(
                "was stopped: it used more than {} of memory",
                mebibytes(limits.memory)
            ),
            Self::Processes => format!(
                "was stopped: it had more than {} processes at once",
                limits.processes
            ),
            Self::Output => format!(
                "was stopped: it wrote more than {} of output",
                mebibytes(limits.output)
            ),
            Self::Disk => format!(
                "was stopped: it added more than {} or {} files to the tree (holes in files count)",
                mebibytes(limits.disk),
                limits.files
            ),
        }
    }
}

impl Sandbox {
    /// An empty tree in `scratch`, an empty directory. `program` is the hullwright executable, which is started again as
    /// each sandbox's first process. Makes a sandbox once, for a trial.
    ///
    /// # Errors
    /// Where the directory cannot be written, or the sandbox cannot be made.
    pub fn new(program: &Path, scratch: &Path, limits: Limits) -> Result<Self, SandboxError> {
        let fail = |what| {
            move |source: io::Error| SandboxError::Scratch {
                path: scratch.to_owned(),
                what,
                source,
            }
        };
        let scratch = scratch.canonicalize().map_err(fail("cannot be found"))?;
        let fail = |what| {
            let path = scratch.clone();
            move |source: io::Error| SandboxError::Scratch { path, what, source }
        };
        let (root, spare) = (scratch.join("root"), scratch.join("spare"));
        for directory in [&root, &spare] {
            fs::create_dir(directory).map_err(fail("cannot be written to"))?;
            // A directory with the set-group-ID bit would give its files a group that is nobody inside.
            let group = nix::unistd::getegid().as_raw();
            std::os::unix::fs::chown(directory, None, Some(group))
                .map_err(fail("cannot be given to the user's own group"))?;
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755))
                .map_err(fail("cannot be made accessible"))?;
        }
        let ground = Ground::open(&root).map_err(fail("cannot be opened"))?;
        let stat = real(ground.root()).map_err(|error| fail("cannot be read")(error.into()))?;
        let mut sandbox = Self {
            program: program.to_owned(),
            limits,
            ground,
            spare,
            records: Records::default(),
            snapshot: Snapshot::new(State::laid(&stat, None, None, None)),
            links: Mutex::default(),
        };
        sandbox.in_sandbox("a trial", None, &[])?;
        Ok(sandbox)
    }

    /// Lays one node at `path`, in place of what is there; a directory stays one with what it holds, and of `node`'s own
    /// children nothing is laid. Directories above that are absent are made. Names of a hard link set share an inode
    /// from the second on. Not reported as a change.
    ///
    /// # Errors
    /// Where a scriptlet put something other than a directory above it; whatever the file system says.
    pub fn put(&mut self, path: &TreePath, node: &Node) -> Result<(), SandboxError> {
        self.lay_named(path, node)
    }

    /// Removes what lies at `path` and below; nothing where nothing does. Not reported as a change.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn remove(&mut self, path: &TreePath) -> Result<(), SandboxError> {
        self.take_out(path).map_err(|source| SandboxError::Tree {
            path: path.clone(),
            what: "removed from",
            source,
        })
    }

    /// Runs one scriptlet to its end and reports what it did.
    ///
    /// # Errors
    /// Where the sandbox cannot be made or watched. That a scriptlet fails is no error, but its [`Outcome::end`].
    pub fn run(&mut self, script: &Script) -> Result<Outcome, SandboxError> {
        let mut env: BTreeMap<Vec<u8>, Vec<u8>> = ENVIRONMENT
            .iter()
            .map(|(name, value)| (name.as_bytes().into(), value.as_bytes().into()))
            .collect();
        env.extend(script.env.iter().cloned());
        let task = Task {
            name: script.name.clone(),
            interpreter: script.interpreter.clone(),
            body: script.body.clone(),
            args: script.args.clone(),
            env: env.into_iter().collect(),
        };
        let before = self.snapshot.held();
        let ran = self.in_sandbox(&script.name, Some(task), &script.stdin)?;
        // Longer together than what was there and all that may be added: not to be read to the end.
        let most = before.bytes.saturating_add(self.limits.disk);
        let scanned = self.snapshot.scan(&self.ground, &self.records, most);
        let changes = scanned.map_err(|error| match error.source.kind() {
            io::ErrorKind::FileTooLarge => SandboxError::TooMuch {
                script: script.name.clone(),
                path: error.path,
                words: End::Disk.words(&self.limits),
            },
            _ => SandboxError::Tree {
                path: error.path,
                what: "looked at in",
                source: error.source,
            },
        })?;
        let exceeds = self.snapshot.held().exceeds(before.most(&self.limits));
        Ok(Outcome {
            end: match exceeds {
                true => End::Disk,
                false => ran.end,
            },
            output: ran.output,
            output_cut: ran.output_cut,
            changes,
        })
    }

    /// What now lies at `path`, with `time` as its time; a directory without its children. Symbolic links are not
    /// followed. The content is a copy, which later scriptlets do not change.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn read(&self, path: &TreePath, time: i64) -> Result<Option<Node>, SandboxError> {
        self.node(path, time).map_err(|source| SandboxError::Tree {
            path: path.clone(),
            what: "read from",
            source,
        })
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_sandbox(&mut self, script: &str, task: Option<Task>, stdin: &[u8]) -> Result<Ran, SandboxError> {
        let made = self.make_mount_points()?;
        let before = self.snapshot.held();
        let request = Request {
            supervisor: std::process::id() as i32,
            root: self.ground.path().to_owned(),
            task,
            limits: self.limits,
        };
        let stage = Stage {
            program: &self.program,
            limits: self.limits,
            not_before: self.not_before(),
            records: &mut self.records,
            ground: &self.ground,
            before,
            script,
        };
        let ran = supervise::run(stage, &request, stdin);
        for path in made {
            // Nothing can have been put into it: a file system lay over it.
            self.remove(&path)?;
        }
        if let Ok(stat) = real(self.ground.root()) {
            self.records.keep_only(inode(&stat).0);
        }
        ran
    }

    /// When the file system's clock tells the next change from what has been seen.
    fn not_before(&self) -> Instant {
        let now = Instant::now();
        let (seconds, nanoseconds) = self.snapshot.newest();
        let Ok(seconds) = u64::try_from(seconds) else {
            return now;
        };
        let Some(seen) = UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds)) else {
            return now;
        };
        match SystemTime::now().duration_since(seen) {
            Ok(since) => now + TICK.saturating_sub(since),
            // A clock that was set back.
            Err(_) => now + TICK,
        }
    }

    /// Makes the directories over which the sandbox lays its file systems, where the tree has none; gives those.
    fn make_mount_points(&mut self) -> Result<Vec<TreePath>, SandboxError> {
        let mut made = Vec::new();
        for name in inside::OVERLAID {
            let path = TreePath::root().join_name(name.as_bytes());
            let found = self.ground.find(&path).map_err(|source| SandboxError::Tree {
                path: path.clone(),
                what: "looked at in",
                source: source.into(),
            })?;
            if found.is_none() {
                use crate::tree::{Children, Kind, Meta, Origin};
                let origin = Origin::Composer("a mount point of the sandbox");
                let node = Node::new(Meta::root(0o755, 0), Kind::Dir(Children::new()), origin);
                self.lay_named(&path, &node)?;
                made.push(path);
            }
        }
        Ok(made)
    }
}
