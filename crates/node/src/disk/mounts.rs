//! Removal of mounts of disk layers. Before a folder is removed, all layers mounted below the folder are detached, even if their processes
//! still run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Detaches all disk layers mounted at and below `dir`. If a layer cannot be detached, the later removal of the folder fails.
#[cfg(target_os = "linux")]
pub fn detach_below(dir: &Path) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // Innermost mounts are detached first.
    for at in below(&table, dir).into_iter().rev() {
        if nix::mount::umount2(&at, nix::mount::MntFlags::MNT_DETACH).is_err() {
            // Without root, this program mounts and unmounts layers.
            let mut command = Command::new("fusermount3");
            let _ = command.args(["-u", "-z", "--"]).arg(&at).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub fn detach_below(_dir: &Path) {}

/// Finds the mount points of disk layers at and below `dir` in lines of `/proc/self/mountinfo`, such as `36 35 0:32 / /mnt rw shared:1 -
/// fuse.x source rw`. Spaces and some other characters are octal escapes.
fn below(table: &str, dir: &Path) -> Vec<PathBuf> {
    let mounted = |line: &str| {
        let (head, tail) = line.split_once(" - ")?;
        let of_ours = tail.split(' ').next().is_some_and(|kind| kind == "fuse" || kind.starts_with("fuse."));
        let at = PathBuf::from(unescaped(head.split(' ').nth(4)?));
        (of_ours && at.starts_with(dir)).then_some(at)
    };
    table.lines().filter_map(mounted).collect()
}

fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_layers_below_the_folder_are_found() {
        let table = "22 27 0:21 / /proc rw - proc proc rw\n\
                     90 27 0:50 / /tmp/w1/n\\0401/data rw,nosuid shared:3 - fuse data rw\n\
                     91 27 0:51 / /tmp/w10/data rw - fuse data rw\n\
                     92 27 0:52 / /tmp/w1/x rw - tmpfs tmpfs rw\n";
        assert_eq!(below(table, Path::new("/tmp/w1")), [PathBuf::from("/tmp/w1/n 1/data")]);
    }
}
