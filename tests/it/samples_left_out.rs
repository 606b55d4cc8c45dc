//! Tests that the copy of the program for nodes and sandboxes contains none of the embedded sample files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use chaosrun_backend_docker::image::embedded::FILES;
use chaosrun_backend_local::WorkRoot;
use chaosrun_backend_local::supervisor::Supervisor;
use chaosrun_scenario::embedded::SAMPLES;

use super::require;

/// Sample lines that the program for nodes legitimately contains: the rate limiter stand-in runs the same line as a Redis script.
const SHARED: &[&str] = &["local time = redis.call('TIME')"];

/// Returns all sample lines that are long enough to be unique, each with its file.
fn lines() -> Vec<(&'static str, &'static str)> {
    let lines = |(path, text): &(&'static str, &'static str)| {
        let path = *path;
        text.lines().map(str::trim).filter(|line| line.len() >= 30).map(move |line| (path, line)).collect::<Vec<_>>()
    };
    SAMPLES.iter().chain(&*FILES).flat_map(lines).collect()
}

/// Returns the texts that a program file contains as a complete line. Zero bytes also end a line.
fn found<'a>(texts: &BTreeSet<&'a str>, program: &Path) -> BTreeSet<&'a str> {
    let bytes = fs::read(program).unwrap();
    let lines = bytes.split(|byte| matches!(byte, 0 | b'\n')).filter(|line| (30..2000).contains(&line.len()));
    lines.filter_map(|line| texts.get(std::str::from_utf8(line).ok()?.trim()).copied()).collect()
}

#[tokio::test]
async fn no_line_of_a_sample_is_in_the_copy() {
    let lines = lines();
    // Paths of samples may be in help texts, which are public.
    let texts: BTreeSet<&str> = lines.iter().map(|(_, line)| *line).collect();
    let built = Path::new(env!("CARGO_BIN_EXE_chaosrun")).to_owned();
    for program in [Some(built), require::release()].into_iter().flatten() {
        let client = Supervisor::spawn_program(&program).unwrap().attach().unwrap();
        let work = WorkRoot::new(&program, &client).unwrap();
        work.make_server("node").unwrap();
        let whole = found(&texts, &program);
        let seen: BTreeSet<&str> = lines.iter().filter(|(_, line)| whole.contains(line)).map(|(path, _)| *path).collect();
        let unseen: Vec<&str> = SAMPLES.iter().chain(&*FILES).map(|(path, _)| *path).filter(|path| !seen.contains(path)).collect();
        assert!(unseen.is_empty(), "no line of these samples is found in the program itself: {unseen:?}");
        let left: Vec<&str> = found(&texts, &work.server("node")).into_iter().collect();
        assert_eq!(left, SHARED);
        let refused = std::process::Command::new(work.server("node")).args(["run", "scenarios/empty.yaml"]).output().unwrap();
        assert!(!refused.status.success(), "it runs nodes and nothing else: {refused:?}");
        client.close().await;
    }
}
