//! Start of the supervisor by the runner, before the runner has an asynchronous runtime. A client is attached later.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;

use super::SupervisorClient;

/// Running supervisor that waits for its first request.
///
/// If this value is dropped without being attached, its socket closes and the supervisor ends.
#[derive(Debug)]
pub struct Supervisor {
    pub(super) socket: UnixStream,
    pub(super) child: Child,
    /// Random text with which the markers of all processes of the run begin.
    pub(super) nonce: String,
}

impl Supervisor {
    /// Starts this program as supervisor.
    ///
    /// Must be called on the main thread before a second thread exists. The kernel ties the supervisor to the thread that started it, and
    /// only the main thread lives as long as the process.
    ///
    /// # Errors
    /// Returns an error if the system refuses a socket or a process, or if the system is not Linux.
    pub fn spawn() -> io::Result<Self> {
        // `current_exe` is not used, since the file may have been replaced after this process was started.
        Self::spawn_program(Path::new("/proc/self/exe"))
    }

    /// Starts the program at `program` as supervisor. The program must have the hidden subcommand `supervise`.
    ///
    /// # Errors
    /// Returns an error in the cases of [`Supervisor::spawn`].
    #[cfg(target_os = "linux")]
    pub fn spawn_program(program: &Path) -> io::Result<Self> {
        use std::os::fd::OwnedFd;
        use std::os::unix::process::CommandExt;
        use std::process::{Command, Stdio};

        // The end of the uuid consists of random bits. Its beginning is the time.
        let nonce = uuid::Uuid::now_v7().simple().to_string()[16..].to_owned();
        // The supervisor gets the possible directories before any of them exists.
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

    /// Starts the program at `program` as supervisor. Not possible on this system.
    ///
    /// # Errors
    /// Always returns an error, since supervision needs the subreaper and `/proc` of Linux.
    #[cfg(not(target_os = "linux"))]
    pub fn spawn_program(_program: &Path) -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the `local` backend needs Linux (subreaper, pidfd, /proc)"))
    }

    /// Returns the pid of the supervisor.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Attaches an asynchronous client to the supervisor. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Returns an error if the socket cannot be registered with the runtime.
    pub fn attach(self) -> io::Result<SupervisorClient> {
        SupervisorClient::new(self)
    }
}
