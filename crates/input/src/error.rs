//! Errors of values that do not match their expected type. Each error is data with a pointer to the value.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use chaosrun_diagnostic::Pointer;

/// Reason why a value does not match its expected type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeMismatch {
    UnknownField {
        name: String,
        known: &'static [&'static str],
    },
    MissingField {
        name: &'static str,
    },
    UnknownVariant {
        name: String,
        known: &'static [&'static str],
    },
    /// The value has the wrong type. Both texts are plain words, such as `a list` or ``number `5` ``. The deserializer replaces a missing
    /// `found`.
    WrongType {
        expected: String,
        found: Option<String>,
    },
    Other(String),
}

/// First mismatch between a value and its expected type. `at` is the pointer of the mismatch, which the deserializer sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub at: Option<Pointer>,
    pub mismatch: TypeMismatch,
}

impl Error {
    pub(super) fn wrong_type(expected: &str, found: Option<String>) -> Self {
        TypeMismatch::WrongType { expected: expected.to_owned(), found }.into()
    }
}

impl From<TypeMismatch> for Error {
    fn from(mismatch: TypeMismatch) -> Self {
        Self { at: None, mismatch }
    }
}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        TypeMismatch::Other(message.to_string()).into()
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::wrong_type(&expected.to_string(), None)
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::wrong_type(&expected.to_string(), None)
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::wrong_type(&expected.to_string(), Some(length.to_string()))
    }

    fn unknown_variant(name: &str, known: &'static [&'static str]) -> Self {
        TypeMismatch::UnknownVariant { name: name.to_owned(), known }.into()
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Self {
        TypeMismatch::UnknownField { name: name.to_owned(), known }.into()
    }

    fn missing_field(name: &'static str) -> Self {
        TypeMismatch::MissingField { name }.into()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = self.at.as_ref().filter(|at| !at.0.is_empty()) {
            write!(f, "{at}: ")?;
        }
        match &self.mismatch {
            TypeMismatch::UnknownField { name, .. } => write!(f, "unknown field `{name}`"),
            TypeMismatch::MissingField { name } => write!(f, "`{name}` is missing"),
            TypeMismatch::UnknownVariant { name, .. } => write!(f, "unknown word `{name}`"),
            TypeMismatch::WrongType { expected, found } => {
                write!(f, "expected {expected}, found {}", found.as_deref().unwrap_or("something else"))
            }
            TypeMismatch::Other(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Error {}
