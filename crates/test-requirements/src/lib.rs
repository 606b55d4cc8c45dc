//! Requirements of tests that not every machine meets. A test whose requirement is missing passes without testing, and `cargo test` lists
//! it at the end. `CHAOSRUN_REQUIRE` makes a missing requirement a failure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, Once, PoisonError};

/// Requirement of tests, with the name that `CHAOSRUN_REQUIRE` uses.
pub struct Need {
    pub name: &'static str,
    pub what: &'static str,
    /// Command or manual step that satisfies the requirement.
    pub how: &'static str,
}

const fn need(name: &'static str, what: &'static str, how: &'static str) -> Need {
    Need { name, what, how }
}

/// All requirements whose names `CHAOSRUN_REQUIRE` accepts. The name `all` selects every requirement, as `.ci/run` does.
pub const NEEDS: [Need; 21] = [
    need("bash", "Bash", "apt-get install bash"),
    need("bwrap", "bubblewrap, and user namespaces for it", "apt-get install bubblewrap"),
    need("cc", "a C compiler", "apt-get install gcc libc6-dev"),
    need("claude", "Claude Code below /usr", ".ci/run installs it"),
    need("codex", "Codex below /usr", ".ci/run installs it"),
    need("docker", "the stock Docker client", "apt-get install docker.io"),
    need("engine", "a Docker Engine", "apt-get install docker.io, and start it"),
    need("etcd", "etcd", "apt-get install etcd-server"),
    need("fuse", "/dev/fuse, and root or fusermount3", "apt-get install fuse3"),
    need("image", "the base image of containers", "a registry, or as root: apt-get install debootstrap"),
    need("mount", "the right to mount a file system", "run the tests as root"),
    need("nsenter", "nsenter, and root", "apt-get install util-linux"),
    need("perl", "Perl", "apt-get install perl"),
    need("prometheus", "Prometheus", "apt-get install prometheus"),
    need("promtool", "promtool", "apt-get install prometheus"),
    need("python3", "Python 3", "apt-get install python3"),
    need("redis-server", "Redis", "apt-get install redis-server"),
    need("release", "a release build of this program", "cargo build --release"),
    need("script", "script, which makes a terminal", "apt-get install bsdutils"),
    need("sdk", "the SDKs of model APIs in target/sdk", "just sdk"),
    need("sh", "a shell", "apt-get install dash"),
];

/// Returns the path of a program. If the program is missing, returns `None` and records the test as skipped, or panics if
/// `CHAOSRUN_REQUIRE` lists the program.
pub fn program(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file());
    if found.is_none() {
        missing(program, "it is not on the PATH");
    }
    found
}

/// Records that the running test is skipped because the requirement `name` is missing. The skipped tests are printed when the process ends,
/// after the summary of the test harness.
///
/// # Panics
/// Panics if `CHAOSRUN_REQUIRE` lists the name, or if [`NEEDS`] does not.
pub fn missing(name: &str, why: &str) {
    static LISTED: Once = Once::new();
    assert!(NEEDS.iter().any(|need| need.name == name), "`{name}` is not in the list of what tests need");
    let required = std::env::var("CHAOSRUN_REQUIRE").unwrap_or_default();
    let required = required.split(',').any(|word| [name, "all"].contains(&word.trim()));
    assert!(!required, "`{name}` is required: {why}");
    LISTED.call_once(|| {
        // SAFETY: `end` neither unwinds nor calls `exit`.
        let _ = unsafe { libc::atexit(end) };
    });
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    SKIPPED.lock().unwrap_or_else(PoisonError::into_inner).0.entry((name.to_owned(), why.to_owned())).or_default().push(test);
}

static SKIPPED: LazyLock<Mutex<Skipped>> = LazyLock::new(Mutex::default);

/// Names of skipped tests, by the missing requirement and the reason.
#[derive(Default)]
pub struct Skipped(BTreeMap<(String, String), Vec<String>>);

impl Skipped {
    /// Reads and deletes the list of skipped tests of all test programs with the same parent process.
    #[must_use]
    pub fn of_this_run() -> Self {
        let mut skipped = Self::default();
        let Ok(path) = journal() else { return skipped };
        for line in fs::read_to_string(&path).unwrap_or_default().lines() {
            let mut fields = line.split('\t').map(str::to_owned);
            if let (Some(name), Some(why), Some(test)) = (fields.next(), fields.next(), fields.next()) {
                skipped.0.entry((name, why)).or_default().push(test);
            }
        }
        let _ = fs::remove_file(path);
        skipped
    }

    /// Appends one line per skipped test to the journal file.
    fn append(&self) -> io::Result<()> {
        let mut text = String::new();
        for ((name, why), tests) in &self.0 {
            let why: String = why.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
            for test in tests {
                let _ = writeln!(text, "{name}\t{why}\t{test}");
            }
        }
        File::options().create(true).append(true).open(journal()?)?.write_all(text.as_bytes())
    }

    /// Returns a text that lists the missing requirements with the number of skipped tests. The text includes the names of the tests if
    /// `names` is true.
    #[must_use]
    pub fn text(&self, names: bool) -> String {
        let count: usize = self.0.values().map(Vec::len).sum();
        let mut text = format!("skipped {count} test{}", if count == 1 { "" } else { "s" });
        if count > 0 {
            text += "; `CHAOSRUN_REQUIRE=all cargo test` makes that a failure";
        }
        text += "\n";
        for ((name, why), tests) in &self.0 {
            let need = NEEDS.iter().find(|need| need.name == *name).map(|need| (need.what, need.how));
            let (what, how) = need.unwrap_or_default();
            let _ = writeln!(text, "  {name}: {} need {what} ({how}): {why}", tests.len());
            for test in tests.iter().filter(|_| names) {
                let _ = writeln!(text, "    {test}");
            }
        }
        text
    }
}

extern "C" fn end() {
    let Ok(skipped) = SKIPPED.try_lock() else { return };
    let mut text = skipped.text(false);
    if let Err(error) = skipped.append() {
        let _ = writeln!(text, "  (missing from the list at the end of `cargo test`: {error})");
    }
    let _ = io::stderr().lock().write_all((text + "\n").as_bytes());
}

/// Returns the path of the journal file, which all test programs with the same parent process share. The file is in the build directory,
/// next to `deps/`.
fn journal() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folder = program.ancestors().nth(2).ok_or_else(|| io::Error::other("the test program is in no folder"))?;
    Ok(folder.join(format!("skipped-tests-{}", parent_id())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_tests_are_listed_by_requirement() {
        let mut skipped = Skipped::default();
        assert_eq!(skipped.text(true), "skipped 0 tests\n");
        for (name, test) in [("perl", "a::one"), ("perl", "a::two"), ("etcd", "b")] {
            skipped.0.entry((name.into(), "it is not on the PATH".into())).or_default().push(test.into());
        }
        let head = "skipped 3 tests; `CHAOSRUN_REQUIRE=all cargo test` makes that a failure\n";
        let etcd = "  etcd: 1 need etcd (apt-get install etcd-server): it is not on the PATH\n";
        let perl = "  perl: 2 need Perl (apt-get install perl): it is not on the PATH\n";
        assert_eq!(skipped.text(false), format!("{head}{etcd}{perl}"));
        assert_eq!(skipped.text(true), format!("{head}{etcd}    b\n{perl}    a::one\n    a::two\n"));
    }

    #[test]
    fn names_of_requirements_are_sorted() {
        assert!(NEEDS.iter().map(|need| need.name).is_sorted());
    }
}
