//! Reading of files: documents that know the places of their values, values with several notations, and checks that collect all problems.
//!
//! Reading order: [`Document`] (a file as JSON), [`deserialize`] (conversion to Rust types), [`scalar`] (values in the notation of the
//! file), [`quantity`] (parsing of notations), [`Checker`] (collection of problems with their places).

mod check;
mod deserialize;
mod document;
mod error;
pub mod names;
pub mod quantity;
pub mod scalar;

pub use check::{Checker, Names, item_of, unknown};
pub use deserialize::deserialize;
pub use document::{Document, get, get_mut};
pub use error::{Error, TypeMismatch};
pub use scalar::*;
