//! Reading of files: documents that know their places, values that people write in more than one way, and checks that collect every
//! problem.
//!
//! Reading order: [`Document`] (a file as JSON), [`deserialize`] (typed values, with errors as data), [`scalar`] (values in their
//! written form), [`quantity`] (their meanings), [`Checker`] (problems with places).

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
