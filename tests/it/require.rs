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

/// As [`program`], below `/usr`: what else is on a PATH is not in the sandbox of an agent.
pub fn installed(name: &str) -> Option<PathBuf> {
    let found = program(name)?;
    let there = found.starts_with("/usr") && found.canonicalize().is_ok_and(|file| file.starts_with("/usr"));
    if !there {
        missing(name, &format!("`{}` is not below /usr", found.display()));
    }
    there.then_some(found)
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

/// Whether layers can be mounted here, called `fuse` in `CHAOSRUN_REQUIRE`.
pub fn fuse() -> bool {
    let there = std::path::Path::new("/dev/fuse").exists() && (nix::unistd::geteuid().is_root() || program("fusermount3").is_some());
    if !there {
        missing("fuse", "no /dev/fuse, or neither root nor fusermount3");
    }
    there
}

/// A Python that has the official SDKs of the model APIs, and the models of ATIF, called `sdk` in `CHAOSRUN_REQUIRE`: `.ci/run` makes it below `target/`.
pub fn sdk() -> Option<PathBuf> {
    let python = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("sdk").join("bin/python");
    let works =
        std::process::Command::new(&python).args(["-c", "import anthropic, atif, openai"]).output().is_ok_and(|ran| ran.status.success());
    if !works {
        missing("sdk", &format!("`{}` has no anthropic, atif and openai, which `just sdk` installs", python.display()));
    }
    works.then_some(python)
}

/// Whether an agent can have a sandbox here, called `bwrap` in `CHAOSRUN_REQUIRE`.
pub async fn sandbox() -> bool {
    let tried = chaosrun::cluster::local::sandbox::tried().await;
    if let Err(why) = &tried {
        missing("bwrap", why);
    }
    tried.is_ok()
}

fn missing(name: &str, why: &str) {
    let required = std::env::var("CHAOSRUN_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|word| word.trim() == name), "`{name}` is required: {why}");
    println!("skipped: needs {name}: {why}");
}
