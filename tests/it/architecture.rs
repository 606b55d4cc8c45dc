//! The architecture invariants of ARCHITECTURE.md that can be read from the source.

use std::fs;
use std::path::{Path, PathBuf};

fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("src is readable") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    paths.sort();
    let name = |path: &Path| path.strip_prefix(&root).expect("below src").display().to_string();
    paths.iter().map(|path| (name(path), fs::read_to_string(path).expect("text"))).collect()
}

/// Lines of code that name `word`, outside the places that may.
fn offenders(word: &str, allowed: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, text) in sources() {
        if allowed.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if code.contains(word) {
                found.push(format!("src/{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    found
}

fn only(word: &str, allowed: &[&str]) {
    let found = offenders(word, allowed);
    assert!(found.is_empty(), "`{word}` belongs in {allowed:?} alone:\n{}", found.join("\n"));
}

#[test]
fn each_wrapped_crate_has_one_home() {
    only("serde_yaml", &["scenario/yaml"]);
    only("saphyr", &["scenario/yaml", "diagnostic"]);
    only("rusqlite", &["store/"]);
    only("minijinja", &["expr"]);
    only("annotate_snippets", &["diagnostic"]);
    only("indicatif", &["report/"]);
    only("quick_junit", &["report/"]);
    only("raft::", &["standin/"]);
    only("bollard", &["cluster/docker"]);
    only("fuser::", &["disk/"]);
    only("rustls", &["agent/model/transport"]);
    only("rmcp", &["agent/mcp"]);
}

#[test]
fn only_reports_and_the_command_line_print() {
    let may_print = ["report/", "cli/", "standin/"];
    for word in ["println!", "eprintln!", "print!("] {
        only(word, &may_print);
    }
}

#[test]
fn only_main_ends_the_process() {
    // The supervisor and the stand-ins are processes of their own.
    only("process::exit", &["cluster/local/supervisor", "standin/"]);
}

#[test]
fn the_event_contract_depends_on_ids_serde_and_time_alone() {
    let allowed = ["use indexmap", "use jiff", "use serde", "use serde_json", "use crate::ids", "use std::", "use super::"];
    let contract: Vec<_> = sources().into_iter().filter(|(name, _)| name == "event.rs" || name.starts_with("event/")).collect();
    assert!(contract.len() > 1, "event.rs");
    for (name, text) in contract {
        for line in text.lines().filter(|line| line.starts_with("use ")) {
            assert!(allowed.iter().any(|prefix| line.starts_with(prefix)), "{name}: {line}");
        }
    }
}

#[test]
fn raw_types_stay_in_scenario() {
    only("scenario::raw", &["scenario/"]);
}
