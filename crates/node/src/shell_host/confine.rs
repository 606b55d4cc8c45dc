//! Restrictions of a sandboxed shell in addition to namespaces, such as resource limits and refused system calls.

use std::io;

use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};
use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};

/// Largest number of processes and threads in the sandbox, including the shell host.
const PROCESSES: u64 = 256;
/// Largest data memory of a process in bytes. Memory mappings have a separate limit, since some programs reserve address space without
/// using it.
const MEMORY: u64 = 1 << 30;
const ADDRESSES: u64 = 16 << 30;
/// Largest size of a file, in bytes.
const FILE: u64 = 256 << 20;
const FILES: u64 = 1024;
/// Niceness of processes in the sandbox. Many busy processes must not delay the shell host or the nodes.
const NICENESS: libc::c_int = 5;

/// Restrictions of a shell and all its descendants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Confinement {
    /// User id and group id for the shell, or `None` for no change. The process limit does not apply to root.
    pub user: Option<u32>,
    pub limited: bool,
}

impl Confinement {
    /// Applies the restrictions to the process between fork and exec. Makes only system calls and allocates no memory.
    pub fn enter(self) -> io::Result<()> {
        if self.limited {
            let limits = [
                (Resource::RLIMIT_NPROC, PROCESSES),
                (Resource::RLIMIT_DATA, MEMORY),
                (Resource::RLIMIT_AS, ADDRESSES),
                (Resource::RLIMIT_FSIZE, FILE),
                (Resource::RLIMIT_NOFILE, FILES),
                (Resource::RLIMIT_CORE, 0),
            ];
            for (resource, limit) in limits {
                setrlimit(resource, limit, limit)?;
            }
            // SAFETY: the call takes numbers. If it fails, no limit changes.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
        }
        if let Some(user) = self.user {
            // SAFETY: these calls take numbers and an empty list.
            unsafe {
                Errno::result(libc::setgroups(0, std::ptr::null()))?;
                Errno::result(libc::setresgid(user, user, user))?;
                Errno::result(libc::setresuid(user, user, user))?;
            }
        }
        if self.limited { no_namespaces() } else { Ok(()) }
    }
}

/// Makes the kernel kill processes of the sandbox first when the machine runs out of memory. This needs no privilege.
pub(super) fn first_to_die() {
    // Without this file, the kernel chooses a process by its own rules.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}

/// Installs a seccomp filter against new user namespaces. In a user namespace, a process could mount memory without a limit and reach parts
/// of the kernel that are not needed here. `clone3` passes its flags in memory, so it returns "not implemented" and programs fall back to
/// `clone`. Calls of other architectures have other numbers (`int 0x80`; the x32 bit) and are all refused.
fn no_namespaces() -> io::Result<()> {
    const NUMBER: u32 = 0;
    const ARCHITECTURE: u32 = 4;
    const FIRST_ARGUMENT: u32 = 16;
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const DENY: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    const ABSENT: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
    let load = |offset| statement(BPF_LD | BPF_W | BPF_ABS, offset);
    let is = |value, then, other| jump(BPF_JMP | BPF_JEQ | BPF_K, value, then, other);
    let has = |bits, then, other| jump(BPF_JMP | BPF_JSET | BPF_K, bits, then, other);
    let answer = |value| statement(BPF_RET | BPF_K, value);
    let mut program = [
        load(ARCHITECTURE),
        is(NATIVE, 0, 9),
        load(NUMBER),
        has(X32, 7, 0),
        is(number(libc::SYS_clone3), 5, 0),
        is(number(libc::SYS_unshare), 1, 0),
        is(number(libc::SYS_clone), 0, 2),
        load(FIRST_ARGUMENT),
        has(libc::CLONE_NEWUSER.cast_unsigned(), 2, 0),
        answer(ALLOW),
        answer(ABSENT),
        answer(DENY),
    ];
    let filter = libc::sock_fprog { len: 12, filter: program.as_mut_ptr() };
    // SAFETY: the filter lives until the kernel has copied it.
    unsafe {
        Errno::result(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        Errno::result(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter))?;
    }
    Ok(())
}

/// Processor architecture in the encoding of seccomp (`AUDIT_ARCH_*` of linux/audit.h): ELF machine, 64 bits, little-endian.
const NATIVE: u32 = {
    let machine: u16 = if cfg!(target_arch = "aarch64") { libc::EM_AARCH64 } else { libc::EM_X86_64 };
    0xC000_0000 | machine as u32
};
/// Bit in the number of every system call of the x32 ABI (`__X32_SYSCALL_BIT`). No native call has a number this high.
const X32: u32 = 0x4000_0000;

const fn number(call: libc::c_long) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "numbers of calls are small")]
    let number = call as u32;
    number
}

fn statement(code: u32, k: u32) -> sock_filter {
    jump(code, k, 0, 0)
}

fn jump(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: u16::try_from(code).unwrap_or(0), jt, jf, k }
}
