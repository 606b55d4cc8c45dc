//! Tests of programs that are not everywhere.

use std::path::PathBuf;

use chaosrun::cluster::docker::engine::Engine;

/// Where `program` is. Without it the test that asks is over, with a word; when `CHAOSRUN_REQUIRE` lists it, as CI does, it fails.
pub fn program(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file());
    if found.is_none() {
        missing(program, "not on the PATH");
    }
    found
}

/// The Docker Engine of this machine, called `engine` in `CHAOSRUN_REQUIRE`; as [`program`] otherwise.
pub async fn engine() -> Option<Engine> {
    match Engine::connect().await {
        Ok(engine) => Some(engine),
        Err(error) => {
            missing("engine", &error.to_string());
            None
        }
    }
}

fn missing(name: &str, why: &str) {
    let required = std::env::var("CHAOSRUN_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|word| word.trim() == name), "`{name}` is required: {why}");
    println!("skipped: needs {name}: {why}");
}
