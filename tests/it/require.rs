//! Tests of programs that are not everywhere.

use std::path::PathBuf;

/// Where `program` is. Without it the test that asks is over, with a word; when `CHAOSRUN_REQUIRE` lists it, as CI does, it fails.
pub fn program(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file());
    if found.is_none() {
        let required = std::env::var("CHAOSRUN_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|name| name.trim() == program), "`{program}` is required and not on the PATH");
        println!("skipped: needs {program}");
    }
    found
}
