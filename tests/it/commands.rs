//! Tests of the command line: the help of every subcommand, commands that take little time, and the commands of the README.
//!
//! The expected texts are in `tests/cmd/`. `TRYCMD=overwrite cargo test --test it commands` writes them again, for new subcommands as well.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::program::Program;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Returns the words of every subcommand in the order of the help. The first entry is the program itself.
fn subcommands() -> Vec<Vec<String>> {
    fn visit(words: &[String], found: &mut Vec<Vec<String>>) {
        let help = Program::new().args(words).arg("--help").run().exits(0).stdout;
        found.push(words.to_vec());
        let listed = help.lines().take_while(|line| *line != "Options:").skip_while(|line| !line.starts_with("Usage:")).skip(1);
        // Arguments are listed with brackets.
        let named = listed.filter_map(|line| line.strip_prefix("  ")?.split_once(' ').map(|(name, _)| name));
        for name in named.filter(|name| name.starts_with(|first: char| first.is_ascii_lowercase()) && *name != "help") {
            visit(&[words, &[name.to_owned()]].concat(), found);
        }
    }
    let mut found = Vec::new();
    visit(&[], &mut found);
    found
}

#[test]
fn help_of_every_subcommand_is_as_recorded() {
    let folder = Path::new(ROOT).join("tests/cmd/help");
    let overwrite = std::env::var_os("TRYCMD").is_some_and(|mode| mode == "overwrite");
    let mut expected: BTreeSet<PathBuf> = BTreeSet::new();
    for words in subcommands() {
        let words = [&["chaosrun".to_owned()][..], &words].concat();
        let file = folder.join(words.join("_")).with_extension("trycmd");
        if overwrite && !file.exists() {
            fs::write(&file, format!("```console\n$ {} --help\n\n```\n", words.join(" "))).expect("written");
        }
        expected.insert(file);
    }
    assert!(expected.len() > 20, "{expected:?}");
    let found: BTreeSet<PathBuf> = fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    assert_eq!(expected, found, "one file per subcommand; `TRYCMD=overwrite cargo test --test it commands` writes those that are missing");
    cases().case("tests/cmd/help/*.trycmd");
}

#[test]
fn cheap_commands_print_what_is_recorded() {
    cases().case("tests/cmd/*.trycmd").case("README.md");
}

/// Returns command-line test cases. The cases run when the returned value is dropped.
fn cases() -> trycmd::TestCases {
    let cases = trycmd::TestCases::new();
    cases.register_bin("chaosrun", Path::new(env!("CARGO_BIN_EXE_chaosrun")));
    cases.env("COLUMNS", "100");
    cases
}

/// Returns the command lines in the code blocks of the README, without comments.
fn readme() -> Vec<String> {
    let text = fs::read_to_string(Path::new(ROOT).join("README.md")).expect("it reads");
    let blocks = text.split("```").skip(1).step_by(2).filter(|block| ["sh\n", "console\n"].iter().any(|kind| block.starts_with(kind)));
    let command = |line: &str| line.split(" #").next().unwrap_or_default().trim().trim_start_matches("$ ").to_owned();
    blocks.flat_map(|block| block.lines().skip(1).map(command).collect::<Vec<_>>()).filter(|line| !line.is_empty()).collect()
}

/// Splits a command line into words. Text in single quotes belongs to one word.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (part, text) in line.split('\'').enumerate() {
        match part % 2 {
            0 => words.extend(text.split_whitespace().map(str::to_owned)),
            _ => words.push(text.to_owned()),
        }
    }
    words
}

/// Checks the commands of the README by planning their runs, which reads the same files and options as running them.
#[test]
fn commands_of_the_readme_are_accepted() {
    let lines = readme();
    assert!(lines.len() >= 5, "{lines:?}");
    let folder = tempfile::tempdir().expect("a folder");
    for line in &lines {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let words = match &words[..] {
            ["cargo", "run", "--release", "--", rest @ ..] | ["chaosrun", rest @ ..] => rest,
            ["cargo", "test" | "build", ..] => continue,
            _ => panic!("the README has a command of an unknown program: {line}"),
        };
        let ran = match words.first().copied() {
            Some(file) if file.ends_with(".yaml") => Program::new().arg("plan").args(words).env("CHAOSRUN_STORE", folder.path()).run(),
            Some("plan") => Program::new().args(words).env("CHAOSRUN_STORE", folder.path()).run(),
            Some("check" | "list" | "schema") => Program::new().args(words).run(),
            _ => Program::new().arg(words[0]).arg("--help").run(),
        };
        assert_eq!(ran.code, Some(0), "{line}\n{ran}");
    }
}
