//! Workspace of an agent on the local backend: its shell, its PATH, and its environment.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use chaosrun_cluster::{ExecRequest, Workspace};

/// Creates a workspace in `dir` without a sandbox. The folder `tools` is first on the PATH, and the docker proxy is at `engine`.
/// `shell_host` is the program of the shell host, under a neutral name. `files` is the folder with the files of the agent.
///
/// # Errors
/// Returns an error if bash is not installed.
pub fn beside(dir: &Path, tools: Option<&Path>, engine: &Path, shell_host: &Path, files: &Path) -> io::Result<Workspace> {
    let path = outward(tools, &std::env::var_os("PATH").unwrap_or_default());
    let shell = find("bash", path.as_ref()).ok_or_else(no_bash)?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let command = [text(shell_host), "node".into(), "seat".into(), "--shell".into(), text(&shell)].into();
    let env = environment(path, dir, &text(engine));
    let exec = ExecRequest { command, env, dir: dir.to_owned(), interactive: true, ..ExecRequest::default() };
    Ok(Workspace { shell_host: exec, sandbox: false, program: shell_host.to_owned(), files: files.to_owned() })
}

/// Configures the shell host of the workspace to listen on `addresses` and to forward connections to the port forwarder at `door`.
pub(super) fn behind(workspace: &mut Workspace, door: &Path, addresses: &[SocketAddr]) {
    let listen = addresses.iter().flat_map(|address| ["--listen".to_owned(), address.to_string()]);
    workspace.shell_host.command.extend(["--door".to_owned(), door.to_string_lossy().into_owned()].into_iter().chain(listen));
}

/// Writes the files of the agent below `folder`. All users can read and execute them, and no user can write them. Blocks.
pub(super) fn bring(folder: &Path, files: &IndexMap<String, String>) -> io::Result<()> {
    let mode = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o555));
    fs::create_dir_all(folder)?;
    for (name, text) in files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text)?;
        mode(&path)?;
    }
    Ok(())
}

fn no_bash() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no `bash` on the PATH: an agent's shell is one")
}

/// Returns the environment variables of the commands of the agent. The only variable taken from the runner is PATH.
pub(super) fn environment(path: String, dir: &Path, engine: &str) -> IndexMap<String, String> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    [
        ("PATH", path),
        ("HOME", text(dir)),
        ("PWD", text(dir)),
        ("SHELL", "/bin/sh".into()),
        ("LANG", "C.UTF-8".into()),
        ("TERM", "dumb".into()),
        ("DOCKER_HOST", format!("unix://{engine}")),
        // The stock client prints advertisements, which would count as output.
        ("DOCKER_CLI_HINTS", "false".into()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into_iter()
    .collect()
}

/// Finds the executable program `name` on the search path `path`. Folders with a relative path are ignored.
#[must_use]
pub fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).filter(|folder| folder.is_absolute()).map(|folder| folder.join(name)).find(|file| executable(file))
}

fn executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Returns the PATH of the runner without folders that contain this program, since this program contains the scenarios.
fn outward(tools: Option<&Path>, path: &OsStr) -> String {
    let own = |folder: &PathBuf| !folder.is_absolute() || executable(&folder.join("chaosrun"));
    let folders = tools.map(Path::to_owned).into_iter().chain(std::env::split_paths(path).filter(|folder| !own(folder)));
    let texts: Vec<String> = folders.map(|folder| folder.to_string_lossy().into_owned()).filter(|text| !text.contains(':')).collect();
    if texts.is_empty() { "/usr/local/bin:/usr/bin:/bin".into() } else { texts.join(":") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(folder: &Path, name: &str) {
        std::fs::create_dir_all(folder).expect("a folder");
        let file = folder.join(name);
        std::fs::write(&file, "#!/bin/sh\n").expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("set");
    }

    #[test]
    fn executable_programs_are_found() {
        let dir = tempfile::tempdir().expect("a folder");
        program(dir.path(), "docker");
        std::fs::write(dir.path().join("text"), "").expect("written");
        assert_eq!(find("docker", dir.path().as_os_str()), Some(dir.path().join("docker")));
        assert_eq!(find("text", dir.path().as_os_str()), None);
        assert_eq!(find("nothing", dir.path().as_os_str()), None);
    }

    #[test]
    fn our_own_folder_is_not_on_the_path() {
        let dir = tempfile::tempdir().expect("a folder");
        let (own, other) = (dir.path().join("own"), dir.path().join("other"));
        program(&own, "chaosrun");
        program(&other, "ls");
        let path = std::env::join_paths([&own, &other, &PathBuf::from("relative")]).expect("joins");
        assert_eq!(outward(Some(Path::new("/t")), &path), format!("/t:{}", other.display()));
        assert_eq!(outward(None, OsStr::new("")), "/usr/local/bin:/usr/bin:/bin");
    }
}
