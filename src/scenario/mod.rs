//! What a user writes: load (IO) -> yaml -> raw -> resolve (pure) -> model.
//!
//! A file is read as JSON ([`yaml`]), changed by what overrides it ([`document`], [`overrides`]), typed ([`raw`],
//! [`typed`]) and resolved ([`resolve`]) into the [`model`]. Only [`load`] and [`files`] read files.

mod alone;
mod check;
mod document;
pub mod embedded;
mod files;
mod kind;
mod load;
pub mod model;
mod names;
mod overrides;
mod path;
mod raw;
mod resolve;
pub mod schema;
mod sections;
pub mod seeds;
mod typed;
pub mod yaml;

pub use alone::{Alone, cluster_name, load_cluster};
pub use check::{check, collect};
pub use files::places_of_folder;
pub use kind::Kind;
pub use load::{Cell, Loaded, Overrides, load};
