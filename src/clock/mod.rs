//! Clocks of nodes: a small library that a node's programs load before the C library, and a page of memory that tells it what
//! to say. The page is a file, so that clocks change while programs run, and stay changed when they are started anew.
//!
//! Only what asks the C library can be told: static programs and those of Go ask the kernel, and are refused by name
//! ([`program`]). How long sleeps and relative timeouts last does not change; absolute deadlines move with the clock.
//!
//! Everything here can be seen by an agent that looks at a node: no name says what it is for.

pub mod look;
pub mod page;
pub mod program;

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

pub use page::{Page, Seen};

/// The library, built from `shim.c`. Empty where it cannot be: not on Linux.
const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/shim.so"));

/// Its name, in whatever folder it is put.
pub const NAME: &str = "libtz.so";

/// Where programs find their page.
pub const PAGE: &str = "TZPAGE";

/// In the environment of a program of ours that looks at a node's clock: it does not count as the node's.
pub const QUIET: &str = "TZQUIET";

/// What a node's environment needs: `before` is what it says of its own should be loaded.
#[must_use]
pub fn environment(folder: &Path, page: &Path, before: Option<&str>) -> [(&'static str, String); 2] {
    let library = folder.join(NAME).to_string_lossy().into_owned();
    let all = match before {
        Some(own) if !own.is_empty() => format!("{library}:{own}"),
        _ => library,
    };
    [("LD_PRELOAD", all), (PAGE, page.to_string_lossy().into_owned())]
}

/// The page of a folder that holds one node's.
#[must_use]
pub fn page_in(folder: &Path) -> PathBuf {
    folder.join("page")
}

/// Writes the library into `folder`.
///
/// # Errors
/// When it cannot be written, or there is none for this system.
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

/// How far a node's clock is from ours, in microseconds: `shown` is what was printed between `begin` and `end` of our clock, all
/// in nanoseconds since 1970. What the library itself has noted is exact, and counts when the two agree.
fn offset(noted: Option<i64>, shown: i64, begin: i64, end: i64) -> i64 {
    // Of the library's note and of a printed time that somebody else made.
    const SLACK: i64 = 1_000_000;
    let (least, most) = (shown.saturating_sub(end), shown.saturating_sub(begin));
    let offset = match noted {
        Some(noted) if (least - SLACK..=most + SLACK).contains(&noted) => noted,
        _ => least + (most - least) / 2,
    };
    offset / 1000
}

/// Our clock, in nanoseconds since 1970.
#[must_use]
pub fn ours() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_counts_when_it_agrees_with_what_was_printed() {
        assert_eq!(offset(Some(5_000_000_000), 105_010_000_000, 100_000_000_000, 100_020_000_000), 5_000_000);
        // A page that somebody has written to.
        assert_eq!(offset(Some(0), 105_010_000_000, 100_000_000_000, 100_020_000_000), 5_000_000);
        assert_eq!(offset(None, 95_010_000_000, 100_000_000_000, 100_020_000_000), -5_000_000);
    }

    #[test]
    fn what_a_node_loads_itself_is_kept() {
        let [(name, value), (_, page)] = environment(Path::new("/run/tz"), Path::new("/run/tz/page"), Some("/lib/x.so"));
        assert_eq!((name, value.as_str(), page.as_str()), ("LD_PRELOAD", "/run/tz/libtz.so:/lib/x.so", "/run/tz/page"));
    }
}
