//! Samples embedded in the binary. Names are looked up in them last, and `init` writes them to files.

use std::sync::LazyLock;

/// Samples as pairs of path and content: all files below `scenarios/`, `variants/` and `prompts/`. Paths are relative to the project root.
pub static SAMPLES: LazyLock<Vec<(&'static str, &'static str)>> = LazyLock::new(|| chaosrun_base::samples::archive!("samples.bin"));

/// Returns the sample at that path.
#[must_use]
pub fn get(path: &str) -> Option<&'static str> {
    SAMPLES.iter().find(|(known, _)| *known == path).map(|(_, text)| *text)
}
