//! Samples embedded in the binary: the last place where names are looked up, and the files that `init` writes.

use std::sync::LazyLock;

/// Path from the project's root and content of all files below `scenarios/`, `variants/` and `prompts/`.
pub static SAMPLES: LazyLock<Vec<(&'static str, &'static str)>> = LazyLock::new(|| chaosrun_base::samples::archive!("samples.bin"));

/// Returns the sample at that path.
#[must_use]
pub fn get(path: &str) -> Option<&'static str> {
    SAMPLES.iter().find(|(known, _)| *known == path).map(|(_, text)| *text)
}
