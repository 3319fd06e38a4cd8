//! Which system calls a scriptlet may make, which fail, and which the supervisor answers.

use nix::libc::{self, c_long};

use crate::sys::seccomp::Instruction;

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xC000_003E; // AUDIT_ARCH_X86_64
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xC000_00B7; // AUDIT_ARCH_AARCH64

/// `mseal`: the newest call that has been looked at. What a later kernel adds is as good as absent.
const NEWEST: u32 = 462;

/// All `CLONE_NEW*` but the time namespace's, whose bit means something else to `clone`.
const NEW_NAMESPACES: u32 = 0x7E02_0000;

/// Calls that the supervisor answers: those that show or change owners, device numbers and extended attributes.
#[rustfmt::skip]
const ANSWERED: &[c_long] = &[
    #[cfg(target_arch = "x86_64")] libc::SYS_chown,
    #[cfg(target_arch = "x86_64")] libc::SYS_lchown,
    libc::SYS_fchown, libc::SYS_fchownat,
    #[cfg(target_arch = "x86_64")] libc::SYS_stat,
    #[cfg(target_arch = "x86_64")] libc::SYS_lstat,
    libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_statx,
    libc::SYS_setxattr, libc::SYS_lsetxattr, libc::SYS_fsetxattr,
    libc::SYS_getxattr, libc::SYS_lgetxattr, libc::SYS_fgetxattr,
    libc::SYS_listxattr, libc::SYS_llistxattr, libc::SYS_flistxattr,
    libc::SYS_removexattr, libc::SYS_lremovexattr, libc::SYS_fremovexattr,
    // To count processes.
    #[cfg(target_arch = "x86_64")] libc::SYS_fork,
    #[cfg(target_arch = "x86_64")] libc::SYS_vfork,
];

/// Calls that fail with `EPERM`, as they would for a user without privilege.
#[rustfmt::skip]
const FORBIDDEN: &[c_long] = &[
    // Mounts and roots.
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_chroot, libc::SYS_open_tree,
    libc::SYS_move_mount, libc::SYS_fsopen, libc::SYS_fsconfig, libc::SYS_fsmount, libc::SYS_fspick,
    libc::SYS_mount_setattr, libc::SYS_quotactl, libc::SYS_quotactl_fd, libc::SYS_swapon, libc::SYS_swapoff,
    // Namespaces: a user namespace would give capabilities back.
    libc::SYS_unshare, libc::SYS_setns,
    // Files by other ways than their path.
    libc::SYS_open_by_handle_at, libc::SYS_name_to_handle_at,
    // Other processes' memory, and the first process's.
    libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise, libc::SYS_kcmp,
    // The kernel itself.
    libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module, libc::SYS_kexec_load, libc::SYS_reboot,
    libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_userfaultfd, libc::SYS_syslog, libc::SYS_lookup_dcookie,
    libc::SYS_vhangup, libc::SYS_acct, libc::SYS_fanotify_init, libc::SYS_nfsservctl,
    #[cfg(target_arch = "x86_64")] libc::SYS_kexec_file_load,
    #[cfg(target_arch = "x86_64")] libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")] libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")] libc::SYS_modify_ldt,
    // Keys are not in a namespace of their own.
    libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl,
    // Clocks, names, priorities.
    libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_adjtimex, libc::SYS_clock_adjtime,
    libc::SYS_sethostname, libc::SYS_setdomainname, libc::SYS_migrate_pages, libc::SYS_move_pages,
];

/// Calls that fail with `ENOSYS`, for which programs have another way.
#[rustfmt::skip]
const ABSENT: &[c_long] = &[
    // Its flags lie in memory, where they could change after they were looked at; C libraries then take clone.
    libc::SYS_clone3,
    // Memory that belongs to no process is not counted.
    libc::SYS_memfd_create, libc::SYS_memfd_secret, libc::SYS_shmget, libc::SYS_shmat,
    // Calls that pass by the filter.
    libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
    libc::SYS_io_setup, libc::SYS_io_submit,
    // statmount, listmount
    457, 458,
];

/// Families of sockets that stay inside the network namespace (others, such as `AF_VSOCK`, do not).
const FAMILIES: &[c_long] = &[
    libc::AF_UNIX as c_long,
    libc::AF_INET as c_long,
    libc::AF_INET6 as c_long,
    libc::AF_NETLINK as c_long,
];

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const ANSWER: u32 = libc::SECCOMP_RET_USER_NOTIF;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

const fn fail(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno as u32
}

// Opcodes of classic BPF.
const LOAD: u16 = 0x20; // a 32-bit word at an absolute offset of `struct seccomp_data`
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_ANY_BIT: u16 = 0x45;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

const fn statement(code: u16, k: u32) -> Instruction {
    Instruction {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

/// Skips the next instruction unless the test holds.
const fn test(code: u16, k: u32) -> Instruction {
    Instruction {
        code,
        jt: 0,
        jf: 1,
        k,
    }
}

/// Offset of the low half of argument `index`.
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

/// The filter's program.
pub(super) fn program() -> Vec<Instruction> {
    let mut program = vec![
        // Another architecture's calls have other numbers.
        statement(LOAD, 4),
        Instruction {
            code: JUMP_EQUAL,
            jt: 1,
            jf: 0,
            k: ARCH,
        },
        statement(RETURN, KILL),
        statement(LOAD, 0),
        // Also those of x32, which have bit 30.
        test(JUMP_GREATER, NEWEST),
        statement(RETURN, fail(libc::ENOSYS)),
    ];
    let mut all = |calls: &[c_long], action: u32| {
        for &call in calls {
            program.push(test(JUMP_EQUAL, call as u32));
            program.push(statement(RETURN, action));
        }
    };
    all(ANSWERED, ANSWER);
    all(FORBIDDEN, fail(libc::EPERM));
    all(ABSENT, fail(libc::ENOSYS));

    let mut with_argument = |call: c_long, index: u32, then: &[Instruction]| {
        // Jumps count to 255.
        let length = then.len() as u8 + 1;
        program.push(Instruction {
            code: JUMP_EQUAL,
            jt: 0,
            jf: length,
            k: call as u32,
        });
        program.push(statement(LOAD, argument(index)));
        program.extend_from_slice(then);
    };
    with_argument(
        libc::SYS_clone,
        0,
        &[
            test(JUMP_ANY_BIT, NEW_NAMESPACES),
            statement(RETURN, fail(libc::EPERM)),
            statement(RETURN, ANSWER),
        ],
    );
    // Only device nodes need privilege.
    let node = [
        statement(AND, libc::S_IFMT),
        test(JUMP_EQUAL, libc::S_IFCHR),
        statement(RETURN, ANSWER),
        test(JUMP_EQUAL, libc::S_IFBLK),
        statement(RETURN, ANSWER),
        statement(RETURN, ALLOW),
    ];
    #[cfg(target_arch = "x86_64")]
    with_argument(libc::SYS_mknod, 1, &node);
    with_argument(libc::SYS_mknodat, 2, &node);
    // Typing on the terminal of someone else.
    let terminal = [
        test(JUMP_EQUAL, libc::TIOCSTI as u32),
        statement(RETURN, fail(libc::EPERM)),
        test(JUMP_EQUAL, libc::TIOCLINUX as u32),
        statement(RETURN, fail(libc::EPERM)),
        statement(RETURN, ALLOW),
    ];
    with_argument(libc::SYS_ioctl, 1, &terminal);
    // Room beyond a file's end counts for nobody: FALLOC_FL_KEEP_SIZE without FALLOC_FL_PUNCH_HOLE.
    let beyond = [
        statement(
            AND,
            (libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE) as u32,
        ),
        test(JUMP_EQUAL, libc::FALLOC_FL_KEEP_SIZE as u32),
        statement(RETURN, fail(libc::EOPNOTSUPP)),
        statement(RETURN, ALLOW),
    ];
    with_argument(libc::SYS_fallocate, 1, &beyond);
    let mut families: Vec<Instruction> = FAMILIES
        .iter()
        .flat_map(|&family| [test(JUMP_EQUAL, family as u32), statement(RETURN, ALLOW)])
        .collect();
    families.push(statement(RETURN, fail(libc::EAFNOSUPPORT)));
    with_argument(libc::SYS_socket, 0, &families);
    with_argument(libc::SYS_socketpair, 0, &families);

    program.push(statement(RETURN, ALLOW));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program says, by the rules of classic BPF.
    fn verdict(arch: u32, call: u32, arguments: [u64; 6]) -> u32 {
        let program = program();
        let mut data = Vec::new();
        data.extend(call.to_ne_bytes());
        data.extend(arch.to_ne_bytes());
        data.extend(0_u64.to_ne_bytes());
        data.extend(arguments.iter().flat_map(|a| a.to_ne_bytes()));
        let (mut at, mut word) = (0, 0_u32);
        loop {
            let Instruction { code, jt, jf, k } = program[at];
            at += 1;
            let holds = match code {
                LOAD => {
                    let k = k as usize;
                    word = u32::from_ne_bytes(data[k..k + 4].try_into().unwrap());
                    continue;
                }
                AND => {
                    word &= k;
                    continue;
                }
                RETURN => return k,
                JUMP_EQUAL => word == k,
                JUMP_GREATER => word > k,
                JUMP_ANY_BIT => word & k != 0,
                _ => panic!("opcode {code:#x}"),
            };
            at += usize::from(if holds { jt } else { jf });
        }
    }

    #[test]
    fn each_call_has_its_verdict() {
        let say =
            |call: c_long, first: u64, second: u64| verdict(ARCH, call as u32, [first, second, 0, 0, 0, 0]);
        let eperm = fail(libc::EPERM);
        assert_eq!(say(libc::SYS_read, 0, 0), ALLOW);
        assert_eq!(say(libc::SYS_openat, 0, 0), ALLOW);
        assert_eq!(say(libc::SYS_fchownat, 0, 0), ANSWER);
        assert_eq!(say(libc::SYS_statx, 0, 0), ANSWER);
        assert_eq!(say(libc::SYS_mount, 0, 0), eperm);
        assert_eq!(say(libc::SYS_clone3, 0, 0), fail(libc::ENOSYS));
        assert_eq!(say(libc::SYS_clone, 0x11, 0), ANSWER);
        for namespace in [0x1000_0000, 0x2_0000, 0x2000_0000, 0x4000_0000, 0x0200_0000] {
            assert_eq!(say(libc::SYS_clone, 0x11 | namespace, 0), eperm);
        }
        assert_eq!(say(libc::SYS_ioctl, 0, libc::TIOCSTI), eperm);
        assert_eq!(say(libc::SYS_ioctl, 0, libc::TCGETS), ALLOW);
        assert_eq!(say(libc::SYS_socket, libc::AF_INET as u64, 0), ALLOW);
        for (mode, expected) in [
            (0, ALLOW),
            (libc::FALLOC_FL_KEEP_SIZE, fail(libc::EOPNOTSUPP)),
            (
                libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_ZERO_RANGE,
                fail(libc::EOPNOTSUPP),
            ),
            (libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE, ALLOW),
        ] {
            assert_eq!(say(libc::SYS_fallocate, 3, mode as u64), expected, "{mode}");
        }
        for family in [libc::AF_VSOCK, libc::AF_ALG, libc::AF_PACKET] {
            let refused = fail(libc::EAFNOSUPPORT);
            assert_eq!(say(libc::SYS_socket, family as u64, 0), refused);
        }
        let mknodat = |mode: u32| verdict(ARCH, libc::SYS_mknodat as u32, [0, 0, u64::from(mode), 0, 0, 0]);
        assert_eq!(mknodat(libc::S_IFCHR | 0o600), ANSWER);
        assert_eq!(mknodat(libc::S_IFBLK), ANSWER);
        assert_eq!(mknodat(libc::S_IFIFO | 0o600), ALLOW);
        assert_eq!(mknodat(0o644), ALLOW);
    }

    #[test]
    fn other_tables_of_calls_are_closed() {
        const I386: u32 = 0x4000_0003;
        assert_eq!(verdict(I386, 1, [0; 6]), KILL);
        let absent = fail(libc::ENOSYS);
        // x32, and what a later kernel may bring.
        assert_eq!(verdict(ARCH, 0x4000_0000, [0; 6]), absent);
        assert_eq!(verdict(ARCH, NEWEST + 1, [0; 6]), absent);
    }
}
