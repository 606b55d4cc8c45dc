//! Clocks of nodes: a small library that the node's programs load before the C library, and a memory page with the clock settings. The page
//! is a file. Clocks therefore change while programs run, and the settings survive restarts of programs.
//!
//! Only programs that read the time through the C library are affected. Static programs and Go programs call the kernel directly, so a
//! change of their clocks is refused with a reason ([`program`]). The duration of sleeps and relative timeouts does not change. Absolute
//! deadlines move with the clock.
//!
//! An agent that inspects a node can see the library and the page, so no name reveals their purpose.

pub mod look;
pub mod page;
pub mod program;

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

pub use page::{ClockPage, ClockReaders};

/// Bytes of the clock library built from `shim.c`. Empty on systems other than Linux.
const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/shim.so"));

/// File name of the clock library in a node.
pub const NAME: &str = "libtz.so";

/// Environment variable of a node's programs with the path of the page of clock settings.
pub const PAGE: &str = "TZPAGE";

/// Environment variable for programs with which chaosrun reads a clock. The clock library does not count readings by such programs.
pub(crate) const QUIET: &str = "TZQUIET";

/// Returns the environment variables that load the clock library in a node. `before` is the node's own value of `LD_PRELOAD`.
#[must_use]
pub fn environment(folder: &Path, page: &Path, before: Option<&str>) -> [(&'static str, String); 2] {
    let library = folder.join(NAME).to_string_lossy().into_owned();
    let all = match before {
        Some(own) if !own.is_empty() => format!("{library}:{own}"),
        _ => library,
    };
    [("LD_PRELOAD", all), (PAGE, page.to_string_lossy().into_owned())]
}

/// Returns the path of the page of clock settings in a folder that belongs to one node.
#[must_use]
pub fn page_in(folder: &Path) -> PathBuf {
    folder.join("page")
}

/// Writes the clock library into `folder`.
///
/// # Errors
/// Returns an error if the library cannot be written, or if chaosrun contains no library for this system.
pub fn install(folder: &Path) -> io::Result<()> {
    if LIBRARY.is_empty() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "clocks of nodes can be changed on Linux alone"));
    }
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    let path = folder.join(NAME);
    fs::write(&path, LIBRARY)?;
    fs::set_permissions(&path, Permissions::from_mode(0o755))
}

/// Returns the offset of a node's clock from the clock of this process, in microseconds. All parameters are in nanoseconds. The node
/// printed the time `shown` between the times `begin` and `end`; all three are times since 1970. `noted` is the offset noted by the clock
/// library. This exact value is used if it agrees with `shown`.
fn offset(noted: Option<i64>, shown: i64, begin: i64, end: i64) -> i64 {
    // Tolerance between the noted offset and the printed time, since another process printed the time.
    const SLACK: i64 = 1_000_000;
    let (least, most) = (shown.saturating_sub(end), shown.saturating_sub(begin));
    let offset = match noted {
        Some(noted) if (least - SLACK..=most + SLACK).contains(&noted) => noted,
        _ => least + (most - least) / 2,
    };
    offset / 1000
}

/// Returns the wall-clock time of this process, in nanoseconds since 1970.
#[must_use]
pub fn ours() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn note_is_used_if_it_agrees_with_the_printed_time() {
        assert_eq!(offset(Some(5_000_000_000), 105_010_000_000, 100_000_000_000, 100_020_000_000), 5_000_000);
        // A program of the node has overwritten the page.
        assert_eq!(offset(Some(0), 105_010_000_000, 100_000_000_000, 100_020_000_000), 5_000_000);
        assert_eq!(offset(None, 95_010_000_000, 100_000_000_000, 100_020_000_000), -5_000_000);
    }

    #[test]
    fn preloaded_libraries_of_a_node_are_kept() {
        let [(name, value), (_, page)] = environment(Path::new("/run/tz"), Path::new("/run/tz/page"), Some("/lib/x.so"));
        assert_eq!((name, value.as_str(), page.as_str()), ("LD_PRELOAD", "/run/tz/libtz.so:/lib/x.so", "/run/tz/page"));
    }
}
