//! (to be written)
pub mod dispatcher;
