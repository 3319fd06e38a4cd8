//! Scriptlets that try to get out or never end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hullwright::scriptlet::sandbox::{End, Limits};

use crate::support::tool;
use crate::tree::{Lab, lab, path, put_file, script, tight};

const FILLED: &str = "probe-1-1.x86_64 %post was stopped: it added more than 32 MiB";

/// Runs `body`, which must be stopped soon.
fn stopped(limits: Limits, body: &str) -> (End, String, Lab) {
    let mut lab = lab(limits);
    let begun = Instant::now();
    let outcome = lab.run(body);
    assert!(
        begun.elapsed() < limits.time + Duration::from_secs(20),
        "{body}: {:?}",
        begun.elapsed()
    );
    assert_eq!(lab.output("echo still usable"), "still usable\n");
    let text = String::from_utf8_lossy(&outcome.output).into_owned();
    (outcome.end, text, lab)
}

#[test]
fn a_fork_bomb_is_stopped() {
    let (end, ..) = stopped(
        tight(),
        "bomb() { bomb | bomb & }; bomb; while :; do sleep 1; done",
    );
    assert_eq!(end, End::Processes);
    assert_eq!(
        end.words(&tight()),
        "was stopped: it had more than 64 processes at once"
    );
}

#[test]
fn an_endless_loop_is_stopped() {
    let limits = Limits {
        time: Duration::from_secs(1),
        ..tight()
    };
    for body in [
        "while :; do :; done",
        "sleep 1000",
        "trap '' TERM INT HUP XCPU; sleep 1000 & wait; sleep 1000",
    ] {
        let (end, ..) = stopped(limits, body);
        assert_eq!(end, End::TimedOut, "{body}");
    }
}

#[test]
fn endless_output_is_cut_and_stopped() {
    let (end, text, _) = stopped(
        tight(),
        "while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done",
    );
    assert_eq!((end, text.len()), (End::Output, 4096));
    let mut lab = lab(tight());
    let outcome = lab.run("head -c 100000 /dev/zero");
    assert_eq!(
        (outcome.end, outcome.output.len(), outcome.output_cut),
        (End::Exit(0), 4096, true)
    );
}

#[test]
fn memory_has_an_end() {
    // One process runs into its own limit, several into that of all.
    let (end, text, _) = stopped(tight(), "exec dd if=/dev/zero of=/dev/null bs=1000M count=1");
    assert_eq!(end, End::Exit(1));
    assert!(text.contains("memory exhausted"), "{text}");
    let hog = "for i in 1 2 3 4; do dd if=/dev/zero of=/dev/null bs=100M count=100000 & done; wait";
    let (end, ..) = stopped(tight(), hog);
    assert_eq!(end, End::Memory);
}

#[test]
fn a_full_disk_is_the_scriptlets_own() {
    let many = "i=0; while :; do dd if=/dev/zero of=/data/f$i bs=1M count=1 2>/dev/null; i=$((i+1)); done";
    // Where its owner may not look, too.
    let hidden = "mkdir /data/h; cd /data/h; chmod 0 .; i=0; \
                  while :; do dd if=/dev/zero of=f$i bs=1M count=1 2>/dev/null; i=$((i+1)); done";
    for body in [
        "exec dd if=/dev/zero of=/data/big bs=1M",
        many,
        "i=0; while :; do : >/data/f$i; i=$((i+1)); done",
        hidden,
    ] {
        let mut lab = lab(tight());
        let begun = Instant::now();
        let outcome = lab.sandbox.run(&script(body));
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{body}: {:?}",
            begun.elapsed()
        );
        match outcome {
            Ok(outcome) => assert_eq!(outcome.end, End::Disk, "{body}"),
            // What it left before it was stopped may be more than is ever read.
            Err(error) => assert!(error.to_string().contains(FILLED), "{body}: {error}"),
        }
    }
    // What lies in memory is thrown away, and bounded.
    let mut lab = lab(tight());
    let text = lab.output(
        "for d in /tmp /dev/shm; do for i in 1 2 3 4; do dd if=/dev/zero of=$d/$i bs=1M count=30 2>&1; done; rm $d/?; done",
    );
    assert_eq!(text.matches("No space left on device").count(), 4, "{text}");
}

#[test]
fn what_others_write_meanwhile_is_not_the_scriptlets() {
    let mut lab = lab(tight());
    // What it holds, its owner may not see.
    lab.output("mkdir /data/h; : >/data/h/one; chmod 0 /data/h");
    let (scratch, data) = (
        lab.scratch.path().to_owned(),
        lab.scratch.path().join("root/data"),
    );
    let others = std::thread::spawn(move || {
        let begun = Instant::now();
        while !data.join("begun").exists() {
            assert!(begun.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(10));
        }
        // Twice what the scriptlet may add.
        fs::write(scratch.join("others"), vec![1; 64 << 20]).unwrap();
        fs::write(data.join("written"), "").unwrap();
    });
    // Until the file system has been looked at a few times more.
    lab.output(": >/data/begun; while [ ! -e /data/written ]; do sleep 0.05; done; sleep 0.4");
    others.join().unwrap();
}

#[test]
fn holes_count_and_are_not_read_for_ever() {
    let mut lab = lab(tight());
    let sparse = |name: &str, length: &str| {
        format!("dd if=/dev/zero of=/data/{name} bs=1 count=0 seek={length} 2>/dev/null")
    };
    assert_eq!(lab.run(&sparse("a", "30M")).end, End::Exit(0));
    // Neither another name of it nor another place is more.
    let outcome = lab.run("ln /data/a /data/b; mv /data/a /data/c; chmod 600 /data/c");
    assert_eq!(outcome.end, End::Exit(0));
    let both = [sparse("d", "20M"), sparse("e", "20M")].join("; ");
    let outcome = lab.run(&both);
    assert_eq!((outcome.end, outcome.changes.len()), (End::Disk, 2));
    let many: Vec<_> = (0..40)
        .map(|number| sparse(&format!("s{number}"), "32M"))
        .collect();
    let body = many.join("; ");
    let begun = Instant::now();
    let error = match lab.sandbox.run(&script(&body)) {
        // Where the machine is slow, it is stopped before.
        Ok(outcome) => {
            assert_eq!(outcome.end, End::Disk);
            return;
        }
        Err(error) => error.to_string(),
    };
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(error.contains(FILLED), "{error}");
}

#[test]
fn extended_attributes_have_an_end() {
    let mut lab = lab(tight());
    let outcome = lab.run(
        "v=$(printf %060000d 0); i=0; while [ $i -lt 1300 ]; do : >/data/$i; i=$((i+1)); done; \
         setfattr -n user.a -v \"$v\" /data/* 2>/data/errors; \
         grep -c 'No space left' /data/errors; cd /data; getfattr --only-values -n user.a 1 | head -c 3",
    );
    let text = String::from_utf8_lossy(&outcome.output).into_owned();
    let (refused, value) = text.split_once('\n').unwrap();
    // 64 MiB hold 1115 of them.
    assert_eq!((refused.parse(), value), (Ok(1300 - 1115), "000"), "{text}");
}

#[test]
fn daemons_end_with_their_scriptlet() {
    let mut lab = lab(tight());
    let begun = Instant::now();
    lab.output("(trap '' HUP TERM; while :; do echo alive >>/data/log; sleep 0.05; done) </dev/null >/dev/null 2>&1 & sleep 0.3");
    assert!(begun.elapsed() < Duration::from_secs(5));
    let log = lab.scratch.path().join("root/data/log");
    let length = fs::metadata(&log).unwrap().len();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(fs::metadata(&log).unwrap().len(), length);
}

#[test]
fn nothing_of_the_host_can_be_reached() {
    let secret = tempfile::Builder::new()
        .prefix("hullwright-host-")
        .tempdir()
        .unwrap();
    fs::write(secret.path().join("secret"), "of the host").unwrap();
    let file = secret.path().join("secret");
    let file = file.to_str().unwrap();
    let mut lab = lab(tight());
    let text = lab.output(&format!(
        "try() {{ cat \"$1\" 2>/dev/null && echo REACHED $1; }}
         try {file}; up=; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do up=../$up; done
         try $up{file}; try /../..{file}
         for p in /proc/[0-9]*; do for w in root cwd; do try $p/$w{file}; try $p/$w/../..{file}; done
           for f in $p/fd/*; do try $f{file}; try $f/../../../../../../../..{file}; done; done
         ln -s {file} /data/link; try /data/link; ln -s /proc/1/root /data/r; try /data/r{file}
         cat /proc/1/environ /proc/1/mem /proc/1/exe 2>/dev/null | head -c 1 | grep -q . && echo REACHED init
         ls -l /proc/1/fd /proc/1/cwd 2>/dev/null | grep -e '->' && echo REACHED fds
         for d in /dev/sda /dev/vda /dev/mem /dev/kmsg /dev/kvm /dev/fuse /sys/kernel /proc/sys /proc/kcore; do test -e $d && echo REACHED $d; done
         mknod /data/vda b 254 0; head -c 1 /data/vda | grep -q . && echo REACHED disk
         exit 0"
    ));
    assert_eq!(text, "");
    // Nor do answered calls follow links to the host.
    let before = fs::metadata(file).unwrap();
    let text = lab.output(&format!(
        "chown 5 {file} 2>&1; ln -sfn / /data/up; chown 5 /data/up{file} 2>&1; chown -h 5 /data/link; stat -L /data/link 2>&1; exit 0"
    ));
    assert_eq!(text.matches("No such file or directory").count(), 3, "{text}");
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(fs::metadata(file).unwrap().ctime_nsec(), before.ctime_nsec());
}

#[test]
fn dangerous_calls_are_refused() {
    let mut lab = lab(tight());
    let text = lab.output(
        "mount -t tmpfs x /data 2>&1; mount --bind /usr /data 2>&1; unshare -U true 2>&1; unshare -r id 2>&1; unshare -m true 2>&1; \
         date -s 2000-01-01 2>&1; echo evil >/proc/sys/kernel/hostname 2>&1; kill -9 1; \
         (exec 3<>/dev/tcp/127.0.0.1/22) 2>&1; (exec 3<>/dev/tcp/1.1.1.1/53) 2>&1; exit 0",
    );
    assert!(!text.contains("uid="), "{text}");
    for word in [
        "permission denied",
        "Operation not permitted",
        "Network is unreachable",
    ] {
        assert!(
            text.to_lowercase().contains(&word.to_lowercase()),
            "{word}: {text}"
        );
    }
    assert!(text.matches("ermitted").count() >= 3, "{text}");
    let status = lab.output("cat /proc/self/status");
    let line = |name: &str| {
        status
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap()
            .to_owned()
    };
    assert_eq!(line("NoNewPrivs"), "NoNewPrivs:\t1");
    assert_eq!(line("Seccomp:"), "Seccomp:\t2");
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, SETFCAP
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(line(set), format!("{set}:\t00000000800001fb"));
    }
}

/// Compiles C into a program without libraries.
fn compiled(source: &str, name: &str) -> Option<(tempfile::TempDir, PathBuf)> {
    let gcc = tool("gcc")?;
    let place = tempfile::tempdir().unwrap();
    let (text, program) = (place.path().join("x.c"), place.path().join(name));
    fs::write(&text, source).unwrap();
    let done = Command::new(gcc)
        .args(["-O1", "-static", "-pthread", "-o"])
        .args([&program, &text])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Some((place, program))
}

fn with_program(source: &str) -> Option<Lab> {
    let (_place, program) = compiled(source, "probe")?;
    let mut lab = lab(tight());
    put_file(&mut lab.sandbox, &program, "/usr/bin/probe");
    Some(lab)
}

#[test]
fn raw_calls_meet_the_filter() {
    let source = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <sys/socket.h>
#include <sched.h>
#define TRY(name, ...) do { long r = syscall(__VA_ARGS__); printf("%s %s\n", name, r < 0 ? strerrorname_np(errno) : "DONE"); } while (0)
int main(void) {
  char fh[160] = {0}; int id; char buffer[4096];
  TRY("ptrace", SYS_ptrace, 16, 1, 0, 0);
  TRY("bpf", SYS_bpf, 0, 0, 0);
  TRY("perf", SYS_perf_event_open, 0, 0, -1, -1, 0);
  TRY("keyctl", SYS_keyctl, 0, -3, 0);
  TRY("userfaultfd", SYS_userfaultfd, 0);
  TRY("uring", SYS_io_uring_setup, 1, buffer);
  TRY("handle", SYS_open_by_handle_at, -100, fh, 0);
  TRY("chroot", SYS_chroot, "/data");
  TRY("setns", SYS_setns, 0, 0);
  TRY("clone", SYS_clone, CLONE_NEWUSER | 17, 0, 0, 0, 0);
  TRY("clone3", SYS_clone3, buffer, 64);
  TRY("fsopen", SYS_fsopen, "tmpfs", 0);
  TRY("vsock", SYS_socket, 40, SOCK_STREAM, 0);
  TRY("alg", SYS_socket, 38, SOCK_SEQPACKET, 0);
  TRY("vmwrite", SYS_process_vm_writev, 1, 0, 0, 0, 0, 0);
  TRY("new", 4000, 0);
  fflush(stdout);
#ifdef __x86_64__
  long r;
  __asm__ volatile("syscall" : "=a"(r) : "a"(0x40000000L + 39) : "rcx", "r11", "memory");
  printf("x32 %ld\n", r); fflush(stdout);
  __asm__ volatile("int $0x80" : "=a"(r) : "a"(20L) : "memory");
  printf("i386 %ld\n", r);
#endif
  return 0;
}
"#;
    let Some(mut lab) = with_program(source) else {
        return;
    };
    let outcome = lab.run("exec /bin/probe");
    let text = String::from_utf8(outcome.output).unwrap();
    let refused = "ptrace EPERM\nbpf EPERM\nperf EPERM\nkeyctl EPERM\nuserfaultfd EPERM\nuring ENOSYS\nhandle EPERM\n\
                   chroot EPERM\nsetns EPERM\nclone EPERM\nclone3 ENOSYS\nfsopen EPERM\nvsock EAFNOSUPPORT\n\
                   alg EAFNOSUPPORT\nvmwrite EPERM\nnew ENOSYS\n";
    assert!(text.starts_with(refused), "{text}");
    if cfg!(target_arch = "x86_64") {
        assert_eq!(&text[refused.len()..], "x32 -38\n");
        assert_eq!(outcome.end, End::Signal(nix::libc::SIGSYS));
        assert_eq!(
            outcome.end.words(&tight()),
            "was killed: it made a system call of another architecture"
        );
    }
}

#[test]
fn a_link_that_flips_while_its_call_is_answered_leads_nowhere() {
    let source = r#"
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
static char name[4096];
static void *flip(void *host) {
  for (;;) {
    unlink("/data/flip"); symlink("/data/own", "/data/flip");
    unlink("/data/flip"); symlink(host, "/data/flip");
    rename("/data/d", "/d"); rename("/d", "/data/d");
    strcpy(name, "/data/own"); strcpy(name, host);
  }
}
int main(int argc, char **argv) {
  pthread_t thread; struct stat st; int i, seen = 0;
  pthread_create(&thread, 0, flip, argv[1]);
  for (i = 0; i < 500; i++) {
    chown("/data/flip", 1234, 1234); chown(name, 1234, 1234);
    setxattr("/data/flip", "user.x", "1", 1, 0); setxattr(name, "user.x", "1", 1, 0);
    chdir("/data/d"); chown("../../../../../../../../data/own", 7, 7); chown("../..", -1, -1);
    mknod("/data/flip", S_IFCHR | 0600, 0x103); mknod(name, S_IFBLK, 0);
    if (stat(argv[1], &st) == 0) seen++;
  }
  printf("%d\n", seen);
  return 0;
}
"#;
    let Some(mut lab) = with_program(source) else {
        return;
    };
    let host = tempfile::tempdir().unwrap();
    let file = host.path().join("victim");
    fs::write(&file, "of the host").unwrap();
    let before = fs::metadata(&file).unwrap();
    let file_name = file.to_str().unwrap();
    let text = lab.output(&format!(
        "mkdir /data/d; : >/data/own; exec /bin/probe {file_name}"
    ));
    assert_eq!(text, "0\n");
    use std::os::unix::fs::MetadataExt as _;
    let after = fs::metadata(&file).unwrap();
    assert_eq!(
        (after.uid(), after.ctime_nsec()),
        (before.uid(), before.ctime_nsec())
    );
    assert_eq!(fs::read_dir(host.path()).unwrap().count(), 1);
    assert!([7, 1234].contains(&lab.read("/data/own").meta.uid));
}

#[test]
fn the_sandbox_ends_with_its_supervisor() {
    // The test itself, in a process of its own that is killed.
    const INNER: &str = "HULLWRIGHT_TEST_VICTIM";
    if let Some(marker) = std::env::var_os(INNER) {
        let mut lab = lab(Limits::default());
        let log = lab.scratch.path().join("root/data/log");
        fs::write(Path::new(&marker), log.to_str().unwrap()).unwrap();
        lab.run("while :; do echo alive >>/data/log; sleep 0.05; done");
        unreachable!();
    }
    let place = tempfile::tempdir().unwrap();
    let marker = place.path().join("marker");
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hostile::the_sandbox_ends_with_its_supervisor"])
        .env(INNER, &marker)
        .env("TMPDIR", place.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let log = || PathBuf::from(fs::read_to_string(&marker).unwrap_or_default());
    let length = || fs::metadata(log()).map_or(0, |metadata| metadata.len());
    for _ in 0..600 {
        if length() > 12 {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(length() > 12, "it never ran");
    victim.kill().unwrap();
    victim.wait().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let before = length();
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(length(), before);
}

#[test]
fn a_tree_full_of_traps_is_laid_and_read_safely() {
    let host = tempfile::tempdir().unwrap();
    let mut lab = lab(tight());
    let at = host.path().to_str().unwrap().to_owned();
    lab.output(&format!(
        "rm -rf /etc /tmp/x; ln -s {at} /etc; ln -s {at} /data/up; mkdir /data/deep; chmod 0 /data/deep"
    ));
    let file = crate::tree::node(0o644, hullwright::tree::Kind::file(*b"x"));
    let error = lab.sandbox.put(&path("/etc/passwd"), &file).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("`/etc/passwd` cannot be laid into the sandbox: "),
        "{error}"
    );
    assert!(lab.sandbox.put(&path("/data/up/x"), &file).is_err());
    lab.sandbox.put(&path("/data/deep/x"), &file).unwrap();
    assert_eq!(lab.read("/data/deep").meta.mode, 0);
    lab.sandbox.remove(&path("/data/up")).unwrap();
    assert_eq!(fs::read_dir(host.path()).unwrap().count(), 0);
    // Below what was a directory and is a link now, there is nothing.
    lab.output("mkdir -p /data/dir/below; : >/data/dir/below/file");
    let outcome = lab.run("mv /data/dir /data/moved; ln -s moved /data/dir");
    let below = path("/data/dir/below/file");
    assert!(outcome.changes.iter().any(|change| change.path == below));
    assert!(lab.sandbox.read(&below, 0).unwrap().is_none());
    lab.sandbox.remove(&below).unwrap();
    lab.read("/data/moved/below/file");
    // A scriptlet cannot place the sandbox's own file systems elsewhere on the host either.
    lab.output(&format!("mkdir -p /data{at}"));
    lab.sandbox.remove(&path("/tmp")).unwrap();
}
