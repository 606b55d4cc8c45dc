//! The sandbox of an agent beside processes: bubblewrap around the station, with the trial in reach and nothing else.
//!
//! No network but a loopback of its own, on which the station is the door to the nodes; no processes but its own; of the
//! machine's files its programs, to be read; and memory to write to, of a fixed size. Root's processes are bound by no limit
//! on their number, so root's agent becomes a user that nobody else is; anybody else's stays who it is, in a user namespace.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::seat;
use crate::cluster::{Exec, Seat};

/// What it is made with.
pub const BWRAP: &str = "bwrap";

const HOME: &str = "/work";
const ENGINE: &str = "/run/engine/docker.sock";
const DOOR: &str = "/run/engine/nodes.sock";
const STATION: &str = "/opt/station/workstation";
const TOOLS: &str = "/opt/tools";
const FILES: &str = "/opt/agent";
/// The client of the trial's engine comes first.
const PATH: &str = "/opt/tools:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes of what can be written to: all of it is memory.
const MEMORY: [(&str, &str, &str); 3] = [("0700", "268435456", HOME), ("1777", "134217728", "/tmp"), ("1777", "67108864", "/dev/shm")];

/// What programs look for in /etc, and nothing that tells of this machine's users.
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

/// How long an attempt may take.
const TRIED: Duration = Duration::from_secs(10);

/// What of this machine is brought in.
#[derive(Debug)]
pub struct Brought<'a> {
    /// Our own program under a neutral name, and as the client of the mediated engine.
    pub station: &'a Path,
    pub docker: &'a Path,
    /// Sockets: of the mediated engine, and of the runner's side of the door.
    pub engine: &'a Path,
    pub door: &'a Path,
    /// The nodes' advertised addresses, and those at which we serve.
    pub listen: Vec<SocketAddr>,
    /// A folder of the agent's own.
    pub files: &'a Path,
    /// A folder for what stands in its /etc.
    pub etc: &'a Path,
}

/// A seat within a sandbox. Blocks a little.
///
/// # Errors
/// When bubblewrap or a bash is missing, or files of it cannot be written.
pub fn seat(brought: &Brought) -> io::Result<Seat> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = |what: &str| io::Error::new(io::ErrorKind::NotFound, what.to_owned());
    let bwrap = seat::find(BWRAP, &path).ok_or_else(|| missing("no `bwrap` on the PATH: install bubblewrap"))?;
    let shell = seat::find("bash", OsStr::new("/usr/bin:/usr/local/bin:/bin")).ok_or_else(|| missing("no `bash` below /usr"))?;
    // One number an agent: whatever else runs on this machine, limits count this one alone.
    let user = nix::unistd::geteuid().is_root().then(|| 600_000_000 + rand::random::<u32>() % 1_000_000_000);
    // Root's agent is somebody else; the folder around keeps others out.
    fs::set_permissions(brought.engine, fs::Permissions::from_mode(0o666))?;
    let mut words = Words::new(&bwrap);
    words.walls(user);
    words.settings(brought.etc, user)?;
    let bound = [(brought.station, STATION), (brought.docker, "/opt/tools/docker"), (brought.engine, ENGINE), (brought.door, DOOR)];
    for (from, to) in bound.into_iter().chain([(brought.files, FILES)]) {
        words.all(["--ro-bind", &text(from), to]);
    }
    words.all(["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", HOME, "--clearenv"]);
    for (name, value) in seat::environment(PATH.into(), Path::new(HOME), ENGINE) {
        words.all(["--setenv", &name, &value]);
    }
    words.all([STATION, "node", "seat", "--shell", &text(&shell), "--confined", "--door", DOOR]);
    for address in &brought.listen {
        words.all(["--listen", &address.to_string()]);
    }
    if let Some(user) = user {
        words.all(["--user", &user.to_string()]);
    }
    let station = Exec { command: words.0, dir: "/".into(), interactive: true, ..Exec::default() };
    Ok(Seat { station, sandbox: true, program: STATION.into(), files: FILES.into() })
}

/// Whether there can be one: by making one.
///
/// # Errors
/// In words, why not.
pub async fn tried() -> Result<(), String> {
    let bwrap = seat::find(BWRAP, &std::env::var_os("PATH").unwrap_or_default()).ok_or("`bwrap` is not on the PATH: install bubblewrap")?;
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
            Err(said.lines().next().unwrap_or("bwrap failed without a word").trim_start_matches("bwrap: ").to_owned())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("bwrap gave no answer in {TRIED:?}")),
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The words of a command line.
struct Words(Vec<String>);

impl Words {
    fn new(bwrap: &Path) -> Self {
        Self(vec![text(bwrap)])
    }

    fn all<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) {
        self.0.extend(words.into_iter().map(str::to_owned));
    }

    /// Namespaces, the machine's programs, and memory to write to.
    fn walls(&mut self, user: Option<u32>) {
        if user.is_some() {
            self.all(["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]);
            // For the station alone, which makes the shell somebody else and ends what that leaves.
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
            // Whoever the shell is: nobody else is here.
            let mode = if at == HOME && user.is_some() { "0777" } else { mode };
            self.all(["--perms", mode, "--size", size, "--tmpfs", at]);
        }
        self.all(["--symlink", "/tmp", "/var/tmp"]);
        for name in SETTINGS {
            let path = text(&Path::new("/etc").join(name));
            self.all(["--ro-bind-try", &path, &path]);
        }
    }

    /// This program carries the scenarios: where it is installed, whichever of them runs now, it is not to be read.
    fn hide(&mut self) {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let shown = std::env::split_paths(&path).chain(std::env::split_paths(OsStr::new(PATH)));
        let installed = shown.map(|folder| folder.join(env!("CARGO_PKG_NAME"))).chain(std::env::current_exe());
        // What a link leads to is hidden in its own place.
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
