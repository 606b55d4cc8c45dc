//! Checks of test requirements that not every machine meets. [`NEEDS`] lists all requirements.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use chaosrun_backend_docker::engine::Engine;
use test_requirements::NEEDS;
pub use test_requirements::{missing, program};

/// Returns the path of an installed program below `/usr`, since the sandbox of an agent contains no other program directories.
pub fn installed(name: &str) -> Option<PathBuf> {
    let found = program(name)?;
    let there = found.starts_with("/usr") && found.canonicalize().is_ok_and(|file| file.starts_with("/usr"));
    if !there {
        missing(name, &format!("`{}` is not below /usr", found.display()));
    }
    there.then_some(found)
}

/// Returns the Docker Engine of this machine if the engine has the base image of containers.
pub async fn engine() -> Option<Engine> {
    match Engine::connect().await {
        Ok(engine) => base_image().then_some(engine),
        Err(error) => {
            missing("engine", &error.to_string());
            None
        }
    }
}

/// Returns true if the engine has the base image. The image is pulled, or created by `images/base.sh`, at most once per process.
fn base_image() -> bool {
    const BASE: &str = "debian:bookworm-slim";
    static FOUND: OnceLock<Result<(), String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        // Tests in other processes wait for the same image.
        let lock = Path::new(env!("CARGO_TARGET_TMPDIR")).join("base-image.lock");
        let lock = std::fs::File::create(&lock).map_err(|error| format!("{}: {error}", lock.display()))?;
        let _locked = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).map_err(|(_, error)| error.to_string())?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/images/base.sh");
        let run = |words: &[&str]| {
            let ran = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output();
            ran.map_err(|error| format!("{}: {error}", words[0])).and_then(|output| {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                if output.status.success() { Ok(()) } else { Err(said) }
            })
        };
        run(&["docker", "image", "inspect", BASE])
            .or_else(|_| run(&["timeout", "60", "docker", "pull", "-q", BASE]))
            .or_else(|pulled| run(&[script, BASE]).map_err(|made| format!("{pulled}; {made}")))
    });
    if let Err(why) = found {
        missing("image", &why.replace('\n', " "));
    }
    found.is_ok()
}

/// Returns true if this machine can mount file systems in user space (FUSE).
pub fn fuse() -> bool {
    let there = Path::new("/dev/fuse").exists() && (nix::unistd::geteuid().is_root() || program("fusermount3").is_some());
    if !there {
        missing("fuse", "no /dev/fuse, or neither root nor fusermount3");
    }
    there
}

/// Returns the path of a Python interpreter with the official model SDKs and the ATIF models. `just sdk` installs it below `target/`.
pub fn sdk() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("sdk").join("bin/python");
    let works = Command::new(&python).args(["-c", "import anthropic, atif, openai"]).output().is_ok_and(|ran| ran.status.success());
    if !works {
        missing("sdk", &format!("`{}` has no anthropic, atif and openai", python.display()));
    }
    works.then_some(python)
}

/// Returns true if this machine supports the sandbox of agents.
pub async fn sandbox() -> bool {
    let tried = chaosrun_backend_local::sandbox::tried().await;
    if let Err(why) = &tried {
        missing("bwrap", why);
    }
    tried.is_ok()
}

/// Returns the path of the release build: the value of `CHAOSRUN_RELEASE_BINARY`, or the program in this target directory.
/// `CHAOSRUN_REQUIRE` calls this requirement `release`.
pub fn release() -> Option<PathBuf> {
    let built = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("release").join("chaosrun");
    let program = std::env::var_os("CHAOSRUN_RELEASE_BINARY").map_or(built, PathBuf::from);
    if !program.is_file() {
        missing("release", &format!("`{}` is not there: `cargo build --release` makes it", program.display()));
        return None;
    }
    Some(program)
}

/// Returns the names that follow `CHAOSRUN_REQUIRE=` in a text.
fn named(text: &str) -> Vec<String> {
    let lists = text.split("CHAOSRUN_REQUIRE=").skip(1);
    let list = |rest: &str| rest.split(|letter: char| !letter.is_ascii_alphanumeric() && !"-,".contains(letter)).next().map(str::to_owned);
    lists.filter_map(list).flat_map(|list| list.split(',').map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn names_of_requirements_are_known() {
    let known = |name: &str| name == "all" || NEEDS.iter().any(|need| need.name == name);
    let mut unknown: Vec<String> = Vec::new();
    for file in [".ci/run", "README.md"] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("it reads");
        let names = named(&text);
        assert!(!names.is_empty(), "{file} does not say how to require what tests need");
        unknown.extend(names.iter().filter(|name| !known(name)).map(|name| format!("{file}: {name}")));
    }
    let required = std::env::var("CHAOSRUN_REQUIRE").unwrap_or_default();
    let required = required.split(',').map(str::trim).filter(|name| !name.is_empty() && !known(name));
    unknown.extend(required.map(|name| format!("the environment: {name}")));
    let names: Vec<&str> = NEEDS.iter().map(|need| need.name).collect();
    assert!(unknown.is_empty(), "unknown names after CHAOSRUN_REQUIRE: {unknown:?}; known are all, {}", names.join(", "));
}
