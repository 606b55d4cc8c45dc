//! Samples that are embedded in the binary. The search for a file looks here last. The command `init` writes the samples to files.

use std::sync::LazyLock;

/// Samples as pairs of path and content: all files below `scenarios/`, `variants/` and `prompts/`. Paths are relative to the project root.
pub static SAMPLES: LazyLock<Vec<(&'static str, &'static str)>> = LazyLock::new(|| chaosrun_base::samples::archive!("samples.bin"));

/// Returns the content of the sample with that path. Returns `None` if no such sample exists.
#[must_use]
pub fn get(path: &str) -> Option<&'static str> {
    SAMPLES.iter().find(|(known, _)| *known == path).map(|(_, text)| *text)
}
