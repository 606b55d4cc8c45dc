//! Problems of the user's files. Each problem has a message, a place in the file and a help text. Violated invariants are reported in the
//! same form.

pub mod yaml;

mod locate;
mod render;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

pub use locate::sorted;
pub use render::{RenderStyle, json, render};

/// File with its complete text. Places of problems point into this text.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Name of the file as the user gave it, or `embedded:clusters/tikv.yaml` for a file that is built into the program.
    pub name: String,
    pub text: String,
}

/// One step from a YAML value into a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum PathStep {
    Key(String),
    Index(usize),
}

/// Path of a value within a file, such as `invariants.node_up.expect` or `nodes.tikv.args[2]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Pointer(pub Vec<PathStep>);

impl Pointer {
    #[must_use]
    pub fn key(&self, key: impl Into<String>) -> Self {
        let mut steps = self.0.clone();
        steps.push(PathStep::Key(key.into()));
        Self(steps)
    }

    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(PathStep::Index(index));
        Self(steps)
    }

    /// Returns the last map key of the pointer. List indexes after this key are ignored.
    #[must_use]
    pub fn last_key(&self) -> Option<&str> {
        self.0.iter().rev().find_map(|step| if let PathStep::Key(key) = step { Some(key.as_str()) } else { None })
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step {
                PathStep::Key(key) if place == 0 => write!(f, "{key}")?,
                PathStep::Key(key) => write!(f, ".{key}")?,
                PathStep::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Place in a file. The line and the column are computed only when the place is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePlace {
    pub file: Arc<SourceFile>,
    pub pointer: Pointer,
    /// True if the place is the key of the value. False if the place is the value itself.
    pub on_key: bool,
    /// Byte range within the decoded text of the value, such as the position of an error in an expression. If the pointer is empty, the
    /// range counts the bytes of the file. `None` means the whole value.
    pub inner: Option<Range<usize>>,
}

impl SourcePlace {
    #[must_use]
    pub fn new(file: Arc<SourceFile>, pointer: Pointer) -> Self {
        Self { file, pointer, on_key: false, inner: None }
    }

    #[must_use]
    pub fn within(&self, inner: Range<usize>) -> Self {
        Self { inner: Some(inner), ..self.clone() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DiagnosticLevel {
    Error,
    Warning,
}

/// Problem of a user's file: an error or a warning, with its message and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub level: DiagnosticLevel,
    /// Stable identifier of the kind of problem, such as `unknown_field` or `bad_duration`.
    pub code: &'static str,
    /// Message in lowercase. Names are in backticks, and the message has no final dot.
    pub message: String,
    pub place: Option<SourcePlace>,
    /// Text that the report prints beside the caret, such as the expected value.
    pub label: Option<String>,
    pub help: Option<String>,
}

impl Diagnostic {
    #[must_use]
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self { level: DiagnosticLevel::Error, code, message: message.into(), place: None, label: None, help: None }
    }

    #[must_use]
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { level: DiagnosticLevel::Warning, ..Self::error(code, message) }
    }

    #[must_use]
    pub fn at(mut self, place: SourcePlace) -> Self {
        self.place = Some(place);
        self
    }

    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Returns the text of an IO error without the error number. The first letter is in lowercase.
#[must_use]
pub fn io_words(error: &std::io::Error) -> String {
    let said = error.to_string();
    let words = said.split(" (os error").next().unwrap_or(&said);
    let mut letters = words.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}
