//! Runner's side before it has a runtime: starts the supervisor. A client is attached later.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;

use super::SupervisorClient;

/// Running supervisor that waits for its first request.
///
/// If the supervisor is dropped without being attached, its socket closes and it ends.
#[derive(Debug)]
pub struct Supervisor {
    pub(super) socket: UnixStream,
    pub(super) child: Child,
    /// First half of every marker of the run.
    pub(super) nonce: String,
}

impl Supervisor {
    /// Starts this program as supervisor.
    ///
    /// Must be called on the main thread before there is a second one. The kernel ties the supervisor to the thread that started it, and
    /// only the main thread lives as long as the process.
    ///
    /// # Errors
    /// The system refuses a socket or a process, or is not Linux.
    pub fn spawn() -> io::Result<Self> {
        // Not `current_exe`, since the file may have been replaced since this process was started.
        Self::spawn_program(Path::new("/proc/self/exe"))
    }

    /// Starts another program that has the hidden subcommand `supervise`.
    ///
    /// # Errors
    /// See [`Supervisor::spawn`].
    #[cfg(target_os = "linux")]
    pub fn spawn_program(program: &Path) -> io::Result<Self> {
        use std::os::fd::OwnedFd;
        use std::os::unix::process::CommandExt;
        use std::process::{Command, Stdio};

        // Random bits from the end of the uuid; its beginning is the time.
        let nonce = uuid::Uuid::now_v7().simple().to_string()[16..].to_owned();
        // The supervisor is told the possible directories before any of them exists.
        let folders = crate::place::folders(&nonce).into_iter().flat_map(|path| ["--folder".into(), path.into_os_string()]);
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new(program)
            .arg0("supervisor")
            .args(["supervise", "--runner", &std::process::id().to_string()])
            .args(folders)
            // Processes that the supervisor starts can read its environment and directory, which must therefore be empty.
            .env_clear()
            .envs(chaosrun_base::removal::passed_on())
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { socket: ours, child, nonce })
    }

    /// Starts another program that has the hidden subcommand `supervise`.
    ///
    /// # Errors
    /// Always, since supervision needs Linux's subreaper and `/proc`.
    #[cfg(not(target_os = "linux"))]
    pub fn spawn_program(_program: &Path) -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the `local` backend needs Linux (subreaper, pidfd, /proc)"))
    }

    /// Returns the pid of the supervisor.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Attaches an asynchronous client. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The socket cannot be registered with the runtime.
    pub fn attach(self) -> io::Result<SupervisorClient> {
        SupervisorClient::new(self)
    }
}
