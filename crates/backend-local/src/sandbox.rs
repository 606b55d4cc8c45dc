//! Sandbox of an agent on the local backend: bubblewrap around the shell host, with access to the trial only.
//!
//! The sandbox has no network except its own loopback, on which the shell host forwards ports to the nodes. Only processes of the sandbox
//! are visible in it. The agent can read the programs of the machine, and write to memory of a fixed size. Process limits do not apply to
//! root, so an agent started by root gets a unique user id. If another user starts the agent, the agent keeps the id of this user, in a
//! user namespace.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::workspace;
use chaosrun_cluster::{ExecRequest, Workspace};

/// Name of the program that creates the sandbox.
pub(crate) const BWRAP: &str = "bwrap";

const HOME: &str = "/work";
const ENGINE: &str = "/run/engine/docker.sock";
const DOOR: &str = "/run/engine/nodes.sock";
const STATION: &str = "/opt/station/workstation";
const TOOLS: &str = "/opt/tools";
const FILES: &str = "/opt/agent";
/// PATH variable of the sandbox. The first folder contains the client of the docker proxy.
const PATH: &str = "/opt/tools:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Mode, size in bytes and path of each writable folder of the sandbox. All these folders are in memory.
const MEMORY: [(&str, &str, &str); 3] = [("0700", "268435456", HOME), ("1777", "134217728", "/tmp"), ("1777", "67108864", "/dev/shm")];

/// Files in /etc that programs need. They reveal nothing about the users of this machine.
const SETTINGS: &[&str] = &[
    "alternatives",
    "ca-certificates.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "protocols",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
];

/// Time limit for an attempt to create a sandbox.
const TRIED: Duration = Duration::from_secs(10);

/// Files, sockets and addresses of this machine that the sandbox makes available.
#[derive(Debug)]
pub struct Brought<'a> {
    /// Program file of the shell host, under a neutral name.
    pub shell_host: &'a Path,
    /// Program file of the client of the docker proxy.
    pub docker: &'a Path,
    /// Unix socket of the docker proxy.
    pub engine: &'a Path,
    /// Unix socket on which the port forwarder of the runner listens.
    pub door: &'a Path,
    /// Advertised addresses of the nodes, and addresses of the services of the runner.
    pub listen: Vec<SocketAddr>,
    /// Folder with the files for the agent.
    pub files: &'a Path,
    /// Folder for the generated files that appear in /etc of the sandbox.
    pub etc: &'a Path,
}

/// Creates a workspace for the agent within a sandbox. Blocks briefly.
///
/// # Errors
/// Returns an error if bubblewrap or bash is missing, or if the generated files cannot be written.
pub fn open_workspace(brought: &Brought) -> io::Result<Workspace> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = |what: &str| io::Error::new(io::ErrorKind::NotFound, what.to_owned());
    let bwrap = workspace::find(BWRAP, &path).ok_or_else(|| missing("no `bwrap` on the PATH: install bubblewrap"))?;
    let shell = workspace::find("bash", OsStr::new("/usr/bin:/usr/local/bin:/bin")).ok_or_else(|| missing("no `bash` below /usr"))?;
    // A unique user id per agent, so that process limits count only this agent.
    let user = nix::unistd::geteuid().is_root().then(|| 600_000_000 + rand::random::<u32>() % 1_000_000_000);
    // An agent started by root has another user id, so the socket must be writable for all users. The mode of the folder around the socket
    // excludes other users.
    fs::set_permissions(brought.engine, fs::Permissions::from_mode(0o666))?;
    let mut words = Words::new(&bwrap);
    words.walls(user);
    words.settings(brought.etc, user)?;
    let bound = [(brought.shell_host, STATION), (brought.docker, "/opt/tools/docker"), (brought.engine, ENGINE), (brought.door, DOOR)];
    for (from, to) in bound.into_iter().chain([(brought.files, FILES)]) {
        words.all(["--ro-bind", &text(from), to]);
    }
    words.all(["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", HOME, "--clearenv"]);
    for (name, value) in workspace::environment(PATH.into(), Path::new(HOME), ENGINE) {
        words.all(["--setenv", &name, &value]);
    }
    words.all([STATION, "node", "seat", "--shell", &text(&shell), "--confined", "--door", DOOR]);
    for address in &brought.listen {
        words.all(["--listen", &address.to_string()]);
    }
    if let Some(user) = user {
        words.all(["--user", &user.to_string()]);
    }
    let shell_host = ExecRequest { command: words.0, dir: "/".into(), interactive: true, ..ExecRequest::default() };
    Ok(Workspace { shell_host, sandbox: true, program: STATION.into(), files: FILES.into() })
}

/// Tests if a sandbox is possible, by creating one.
///
/// # Errors
/// Returns the reason why a sandbox is not possible.
pub async fn tried() -> Result<(), String> {
    let bwrap =
        workspace::find(BWRAP, &std::env::var_os("PATH").unwrap_or_default()).ok_or("`bwrap` is not on the PATH: install bubblewrap")?;
    let mut words = Words::new(&bwrap);
    words.walls(nix::unistd::geteuid().is_root().then_some(0));
    words.all(["--remount-ro", "/dev", "--remount-ro", "/", "--clearenv", "/usr/bin/true"]);
    let mut command = tokio::process::Command::new(&bwrap);
    command.args(&words.0[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().map_err(|error| error.to_string())?;
    match tokio::time::timeout(TRIED, child.wait_with_output()).await {
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(said.lines().next().unwrap_or("bwrap failed without a message").trim_start_matches("bwrap: ").to_owned())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("bwrap gave no answer in {TRIED:?}")),
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Words of a command line under construction.
struct Words(Vec<String>);

impl Words {
    fn new(bwrap: &Path) -> Self {
        Self(vec![text(bwrap)])
    }

    fn all<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) {
        self.0.extend(words.into_iter().map(str::to_owned));
    }

    /// Adds the options for namespaces, for the programs of the machine, and for writable memory.
    fn walls(&mut self, user: Option<u32>) {
        if user.is_some() {
            self.all(["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]);
            // Only the shell host has these capabilities. It changes the user of the shell and ends the processes of the shell.
            self.all(["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_KILL"]);
        } else {
            self.all(["--unshare-all"]);
        }
        self.all(["--die-with-parent", "--new-session", "--hostname", "workstation", "--ro-bind", "/usr", "/usr"]);
        for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
            let path = Path::new("/").join(name);
            match fs::read_link(&path) {
                Ok(target) => self.all(["--symlink", &text(&target), &text(&path)]),
                Err(_) => self.all(["--ro-bind-try", &text(&path), &text(&path)]),
            }
        }
        self.hide();
        self.all(["--proc", "/proc", "--dev", "/dev"]);
        for dir in ["/etc", "/etc/ssl", "/opt", "/opt/station", TOOLS, FILES, "/run", "/run/engine", "/var"] {
            self.all(["--perms", "0755", "--dir", dir]);
        }
        for (mode, size, at) in MEMORY {
            // The folder is writable for every user id, since the sandbox contains only the agent.
            let mode = if at == HOME && user.is_some() { "0777" } else { mode };
            self.all(["--perms", mode, "--size", size, "--tmpfs", at]);
        }
        self.all(["--symlink", "/tmp", "/var/tmp"]);
        for name in SETTINGS {
            let path = text(&Path::new("/etc").join(name));
            self.all(["--ro-bind-try", &path, &path]);
        }
    }

    /// Hides this program, which contains the scenarios, in the sandbox: the installed copies and the running file.
    fn hide(&mut self) {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let shown = std::env::split_paths(&path).chain(std::env::split_paths(OsStr::new(PATH)));
        let installed = shown.map(|folder| folder.join("chaosrun")).chain(std::env::current_exe());
        // Symbolic links are resolved, so that the real files are hidden.
        let files: BTreeSet<PathBuf> =
            installed.filter_map(|file| file.canonicalize().ok()).filter(|file| file.starts_with("/usr")).collect();
        for file in files {
            self.all(["--ro-bind", "/dev/null", &text(&file)]);
        }
    }

    fn settings(&mut self, etc: &Path, user: Option<u32>) -> io::Result<()> {
        let (id, group) = user.map_or_else(|| (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()), |user| (user, user));
        fs::create_dir_all(etc)?;
        let files = [
            ("passwd", format!("root:x:0:0:root:/:/usr/sbin/nologin\nagent:x:{id}:{group}::{HOME}:/bin/bash\n")),
            ("group", format!("root:x:0:\nagent:x:{group}:\n")),
            ("hosts", "127.0.0.1 localhost workstation\n".to_owned()),
        ];
        for (name, content) in files {
            let path = etc.join(name);
            fs::write(&path, content)?;
            self.all(["--ro-bind", &text(&path), &text(&PathBuf::from("/etc").join(name))]);
        }
        Ok(())
    }
}
