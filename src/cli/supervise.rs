//! `chaosrun supervise`: the hidden process that starts and ends all other processes of a run.

use clap::Args;

use crate::exit::{Exit, Expected};

#[derive(Debug, Args)]
pub struct SuperviseArgs {
    /// Process ID of the runner, which started this process.
    #[arg(long)]
    runner: u32,
    /// Directory that the run may create.
    #[arg(long)]
    folder: Vec<std::path::PathBuf>,
}

#[cfg(target_os = "linux")]
pub fn run(args: &SuperviseArgs) -> anyhow::Result<Exit> {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use anyhow::Context;
    use nix::sys::socket::{SockType, getsockopt, sockopt};

    let stdin = std::io::stdin();
    if getsockopt(&stdin, sockopt::SockType).ok() != Some(SockType::Stream) {
        return Err(Expected::new(Exit::Usage, "`supervise` is started by a run, with a socket as its stdin").into());
    }
    // Open files that were inherited must not reach a node.
    close_on_exec().context("cannot read `/proc/self/fd`")?;
    // The copy is closed on exec. No process that is started here may hold the socket open.
    let socket = UnixStream::from(stdin.as_fd().try_clone_to_owned()?);
    let null = std::fs::File::open("/dev/null")?;
    nix::unistd::dup2_stdin(null).context("cannot detach from stdin")?;
    chaosrun_backend_local::supervisor::serve(socket, args.runner, args.folder.clone()).context("the supervisor cannot start")?;
    Ok(Exit::Ok)
}

/// Marks every file descriptor except stdin, stdout and stderr as close-on-exec, so that child processes do not inherit it.
#[cfg(target_os = "linux")]
fn close_on_exec() -> std::io::Result<()> {
    use nix::libc;

    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(fd) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if fd > libc::STDERR_FILENO {
            // SAFETY: only a flag of a descriptor is set; the directory's own is marked already.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub fn run(_args: &SuperviseArgs) -> anyhow::Result<Exit> {
    Err(Expected::new(Exit::Usage, "the `local` backend needs Linux").into())
}
