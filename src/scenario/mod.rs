//! What a user writes: load (IO) -> yaml -> raw -> resolve (pure) -> model.
//!
//! A file is read as JSON ([`yaml`]), changed by what overrides it ([`document`], [`overrides`]), typed ([`raw`],
//! [`typed`]) and resolved ([`resolve`]) into the [`model`]. Only [`load`] and [`files`] read files.

mod alone;
mod asked;
mod by_hand;
mod campaign;
mod check;
mod document;
pub mod embedded;
mod files;
mod foreign;
mod judging;
mod kind;
mod load;
mod matrix;
pub mod model;
pub mod names;
mod overrides;
mod path;
mod raw;
mod resolve;
pub mod schema;
mod sections;
pub mod seeds;
mod taped;
mod typed;
mod variants;
pub mod written;
pub mod yaml;

pub use alone::{Alone, cluster_name, load_cluster};
pub use by_hand::fault_by_hand;
pub use campaign::{LoadedCampaign, load_campaign};
pub use check::{check, collect};
pub use files::places_of_folder;
pub use foreign::Foreign;
#[cfg(test)]
pub use judging::default_autopsy;
pub use judging::{load_judge, load_scoring, recorded_scoring};
pub use kind::Kind;
pub use load::{Cell, Loaded, Overrides, load};
pub use overrides::argument;
pub use path::parse as parse_path;
pub use resolve::FAULT_CLASSES;
pub use resolve::quantity::duration;
pub use taped::Replay;
