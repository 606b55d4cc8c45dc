//! Problems of the user's files: what, where, how to fix. Used for files and for broken invariants alike.

mod locate;
mod render;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

pub use locate::sorted;
pub use render::{Look, json, render};

/// A file as it was read; places point into its text.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// As the user named it, or `embedded:clusters/tikv.yaml`.
    pub name: String,
    pub text: String,
}

/// One step from a YAML value into a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum Step {
    Key(String),
    Index(usize),
}

/// Path of a value within a file: `invariants.node_up.expect`, `nodes.tikv.args[2]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Pointer(pub Vec<Step>);

impl Pointer {
    #[must_use]
    pub fn key(&self, key: impl Into<String>) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Key(key.into()));
        Self(steps)
    }

    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Self(steps)
    }

    /// The last key on the way, past any index.
    #[must_use]
    pub fn last_key(&self) -> Option<&str> {
        self.0.iter().rev().find_map(|step| if let Step::Key(key) = step { Some(key.as_str()) } else { None })
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if place == 0 => write!(f, "{key}")?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Where something stands. Line and column are found only when something is wrong (`Place::spot`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: Arc<SourceFile>,
    pub pointer: Pointer,
    /// Point at the key instead of the value.
    pub on_key: bool,
    /// Bytes within the (decoded) text of the value: where in an expression the error is. Without a pointer, bytes of
    /// the file itself: a place in a template's file, or where YAML is broken.
    pub inner: Option<Range<usize>>,
}

impl Place {
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
pub enum Level {
    Error,
    Warning,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub level: Level,
    /// A stable name: `unknown_field`, `bad_duration`, ...
    pub code: &'static str,
    /// Lowercase, names in backticks, no final dot.
    pub message: String,
    pub place: Option<Place>,
    /// Beside the caret: what was expected here.
    pub label: Option<String>,
    pub help: Option<String>,
}

impl Diagnostic {
    #[must_use]
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self { level: Level::Error, code, message: message.into(), place: None, label: None, help: None }
    }

    #[must_use]
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::error(code, message) }
    }

    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
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

/// What an IO error says, without its number and without a capital letter.
#[must_use]
pub fn io_words(error: &std::io::Error) -> String {
    let said = error.to_string();
    let words = said.split(" (os error").next().unwrap_or(&said);
    let mut letters = words.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}
