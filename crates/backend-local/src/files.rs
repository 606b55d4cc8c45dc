//! Files of a node, restricted to the directory of the node. All functions block.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;

/// Maximum size of a file that is read, in bytes.
const LONGEST: u64 = 64 << 20;

/// Opens the file `name` within `dir`. The kernel resolves the path within `dir`. Neither `..` nor a symbolic link leads out of `dir`, even
/// if the link is created concurrently.
fn open(dir: &Path, name: &str, flags: OFlag) -> io::Result<File> {
    let dir = File::open(dir)?;
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    // Opening a pipe without a reader must not block.
    let mut how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).resolve(resolve);
    if flags.contains(OFlag::O_CREAT) {
        how = how.mode(Mode::from_bits_truncate(0o644));
    }
    let file = openat2(&dir, name, how).map(File::from).map_err(|errno| match errno {
        nix::Error::EXDEV => io::Error::new(io::ErrorKind::InvalidInput, "it is not below the node's directory"),
        errno => errno.into(),
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")) }
}

pub(super) fn read(dir: &Path, name: &str) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let longest = open(dir, name, OFlag::O_RDONLY)?.take(LONGEST + 1).read_to_end(&mut content)?;
    if longest as u64 > LONGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {LONGEST} bytes")));
    }
    Ok(content)
}

/// Writes `content` to the file `name` within `dir`. An existing file keeps its owner and mode.
pub(super) fn write(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let mut file = open(dir, name, OFlag::O_WRONLY | OFlag::O_CREAT)?;
    file.set_len(0)?;
    file.write_all(content)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_are_read_and_written_within_the_directory_only() {
        let all = tempfile::tempdir().expect("a folder");
        let (dir, secret) = (all.path().join("n1"), all.path().join("secret"));
        std::fs::create_dir_all(dir.join("conf")).expect("made");
        std::fs::write(&secret, "s").expect("written");
        write(&dir, "conf/a.toml", b"a long one").expect("written");
        write(&dir, "conf/a.toml", b"short").expect("written");
        assert_eq!(read(&dir, "conf/a.toml").expect("read"), b"short");
        symlink("conf/a.toml", dir.join("inside")).expect("linked");
        assert_eq!(read(&dir, "inside").expect("read"), b"short");
        assert_eq!(read(&dir, "conf/none").expect_err("missing").kind(), io::ErrorKind::NotFound);

        symlink("..", dir.join("up")).expect("linked");
        symlink(&secret, dir.join("straight")).expect("linked");
        for name in ["../secret", "conf/../../secret", "up/secret", "straight", &secret.display().to_string(), "conf"] {
            assert_eq!(read(&dir, name).expect_err(name).kind(), io::ErrorKind::InvalidInput, "{name}");
            assert!(write(&dir, name, b"x").is_err(), "{name}");
        }
        assert_eq!(std::fs::read(secret).expect("read"), b"s");
    }
}
