//! What the shell of a sandbox may not do, where namespaces say nothing of it.

use std::io;

use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};
use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};

/// Processes and threads of the whole sandbox, the station's own among them.
const PROCESSES: u64 = 256;
/// Bytes that one process may allocate; what it may map at all, for there are programs that reserve what they never use.
const MEMORY: u64 = 1 << 30;
const ADDRESSES: u64 = 16 << 30;
/// Bytes of one file.
const FILE: u64 = 256 << 20;
const FILES: u64 = 1024;
/// So many processes shall not keep the station, or the nodes beside, from their turn.
const NICENESS: libc::c_int = 5;

/// What holds for a shell and all that descends from it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Confinement {
    /// The user and group it becomes: root's processes are not counted.
    pub user: Option<u32>,
    pub limited: bool,
}

impl Confinement {
    /// Between fork and exec: system calls alone, and no allocation.
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
            // SAFETY: it takes numbers. What fails changes no limit.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
        }
        if let Some(user) = self.user {
            // SAFETY: these take numbers, and a list that is empty.
            unsafe {
                Errno::result(libc::setgroups(0, std::ptr::null()))?;
                Errno::result(libc::setresgid(user, user, user))?;
                Errno::result(libc::setresuid(user, user, user))?;
            }
        }
        if self.limited { no_namespaces() } else { Ok(()) }
    }
}

/// When the machine runs out of memory, it shall be the sandbox that goes. Raising it is everybody's right.
pub(super) fn first_to_die() {
    // Where it is not, the machine decides.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}

/// In a user namespace of its own a process could mount memory without a limit, and reach parts of the kernel that nobody needs
/// here. `clone3` hides its flags in memory: it is said not to be there, and programs take `clone`. Calls of another architecture have
/// other numbers (`int 0x80`; the x32 bit): none is let through.
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
    // SAFETY: the program lives until the kernel has copied it.
    unsafe {
        Errno::result(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        Errno::result(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter))?;
    }
    Ok(())
}

/// The architecture as the kernel names it (`AUDIT_ARCH_*` of linux/audit.h): the machine of ELF, 64 bits, little-endian.
const NATIVE: u32 = {
    let machine: u16 = if cfg!(target_arch = "aarch64") { libc::EM_AARCH64 } else { libc::EM_X86_64 };
    0xC000_0000 | machine as u32
};
/// `__X32_SYSCALL_BIT`; no call of another architecture has a number as high.
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
