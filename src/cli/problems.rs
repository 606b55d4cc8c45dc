//! Output of problems of files, as text or as lines of JSON.
#![expect(clippy::print_stdout, reason = "a program reads the problems there")]

use std::collections::BTreeSet;

use super::output::MessageFormat;
use crate::exit::Exit;
use chaosrun_base::style::Palette;
use chaosrun_diagnostic::{Diagnostic, DiagnosticLevel, RenderStyle, json, render};

/// Prints problems of files: as text on stderr, or as one JSON object per line on stdout. Returns the exit code, which is
/// [`Exit::InvalidFile`] if any problem is an error.
#[must_use]
pub fn tell(problems: &[Diagnostic], format: MessageFormat) -> Exit {
    match format {
        MessageFormat::Json => {
            for problem in problems {
                println!("{}", json(problem));
            }
        }
        MessageFormat::Human => {
            let look = RenderStyle { colours: Palette::of_stderr() == Palette::COLOURS, ..RenderStyle::default() };
            eprint!("{}", render(problems, look));
            if let Some(sum) = sum(problems) {
                eprintln!("{sum}");
            }
        }
    }
    if problems.iter().any(|problem| problem.level == DiagnosticLevel::Error) { Exit::InvalidFile } else { Exit::Ok }
}

/// Formats the number of problems, such as `3 problems in 2 files`.
fn sum(problems: &[Diagnostic]) -> Option<String> {
    let names = problems.iter().filter_map(|problem| problem.place.as_ref()).map(|place| place.file.name.as_str());
    // An option of the command line is no file.
    let files: BTreeSet<&str> = names.filter(|name| !name.starts_with("--")).collect();
    let counted = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    match (problems.len(), files.len()) {
        (0, _) => None,
        (count, 0) => Some(counted(count, "problem")),
        (count, files) => Some(format!("{} in {}", counted(count, "problem"), counted(files, "file"))),
    }
}
