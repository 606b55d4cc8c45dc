//! Tests of invalid input: each file of `tests/bad` must cause the expected error in the real program. The expected text is beside the
//! file. `CHAOSRUN_BLESS=1 cargo test bad_input` writes it again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn chaosrun(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaosrun"));
    // Variables of the developer's shell would change the output.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CHAOSRUN_")) {
        command.env_remove(name);
    }
    command.args(arguments).current_dir(folder).output().expect("the program starts")
}

/// Runs `chaosrun check` on files. Returns the exit code and the output.
fn check(folder: &Path, files: &[&str]) -> (Option<i32>, String) {
    let output = chaosrun(folder, &[&["check", "--files-only"], files].concat());
    assert!(output.stdout.is_empty(), "{files:?} printed on stdout");
    (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        if entry.path().is_dir() { walk(&entry.path(), found) } else { found.push(entry.path()) }
    }
}

/// Compares the output with `tests/bad/NAME.stderr`, or overwrites that file if requested.
fn golden(name: &str, said: &str) -> Result<(), String> {
    let path = Path::new(ROOT).join("tests/bad").join(name).with_extension("stderr");
    if std::env::var_os("CHAOSRUN_BLESS").is_some() {
        fs::write(&path, said).expect("written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if expected == said { Ok(()) } else { Err(format!("{}\n--- expected\n{expected}--- found\n{said}", path.display())) }
}

#[test]
fn every_bad_file_gives_its_error() {
    /// Valid files to which the invalid files refer.
    const GOOD: [&str; 5] =
        ["clusters/faults.yaml", "clusters/placed.yaml", "clusters/small.yaml", "names/first.yaml", "names/second.yaml"];
    let bad = Path::new(ROOT).join("tests/bad");
    let mut files = Vec::new();
    walk(&bad, &mut files);
    files.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    files.sort();
    assert!(files.len() > 30, "only {} files", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let name = path.strip_prefix(&bad).expect("below the folder").to_str().expect("UTF-8");
        let whole = format!("tests/bad/{name}");
        if GOOD.contains(&name) {
            assert!(chaosrun(Path::new(ROOT), &["check", "--files-only", &whole]).status.success(), "{name}");
            continue;
        }
        let (code, said) = check(Path::new(ROOT), &[&whole]);
        assert_eq!(code, Some(3), "{name}: {said}");
        assert!(said.lines().all(|line| line.chars().count() <= 80 || line.contains('`')), "{said}");
        wrong.extend(golden(name, &said).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn two_scenarios_of_one_name_are_refused() {
    let (code, said) = check(Path::new(ROOT), &["tests/bad/names"]);
    assert_eq!(code, Some(3), "{said}");
    golden("names.two", &said).unwrap_or_else(|wrong| panic!("{wrong}"));
}

#[test]
fn large_deep_and_absent_files_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
    file("large.yaml", &"name: x\n".repeat(1_300_000));
    file("brackets.yaml", &"[".repeat(1 << 20));
    file("braces.yaml", &"{a: ".repeat(1 << 18));
    file("dashes.yaml", &"- ".repeat(1 << 18));
    let (code, said) = check(folder.path(), &["large.yaml", "brackets.yaml", "braces.yaml", "dashes.yaml", "absent.yaml"]);
    assert_eq!(code, Some(3), "{said}");
    golden("large_and_deep.made", &said).unwrap_or_else(|wrong| panic!("{wrong}"));
}

#[test]
fn overrides_of_the_command_line_are_checked_too() {
    let plan = |arguments: &[&str]| {
        let output = chaosrun(Path::new(ROOT), &[&["plan", "scenarios/node_kill.yaml"], arguments].concat());
        (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
    };
    let set = |setting| ["--set", setting];
    let settings = [
        "chaos.kil.at=2s",
        "limits.turns=many",
        "cluster.nodes.tikv.cont=5",
        "chaos",
        "check.wipe.run[3]=ls",
        "timing.steady_for={a: ",
        "backend=docker",
        "repeat=2",
        "matrix.seed=1..3",
    ];
    let (code, said) = plan(&[&settings.map(set).concat()[..], &["--variant", "nop"]].concat());
    assert_eq!(code, Some(3), "{said}");
    golden("command_line.made", &said).unwrap_or_else(|wrong| panic!("{wrong}"));
    let (code, said) = plan(&["--seed", "9..1"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("the range `9..1` is empty"), "{said}");
}

#[test]
fn samples_are_written_once_and_are_valid() {
    let folder = tempfile::tempdir().expect("a folder");
    let init = || chaosrun(folder.path(), &["init", "new"]);
    assert!(init().status.success());
    let again = init();
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("nothing was written"));
    let output = chaosrun(&folder.path().join("new"), &["check", "--files-only", "scenarios", "variants"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let schemas = chaosrun(&folder.path().join("new"), &["schema", "--check", "schemas"]);
    assert!(schemas.status.success());
}

#[test]
fn committed_schemas_are_those_of_this_version() {
    let output = chaosrun(Path::new(ROOT), &["schema", "--check", "schemas"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
