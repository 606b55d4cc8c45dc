//! Loading of the files that users write. The steps are: reading (IO), parsing of YAML, deserialization to raw types, and resolution (pure)
//! to the model.
//!
//! A file is read as JSON ([`yaml`]), changed by overrides ([`chaosrun_input::Document`], [`overrides`]), deserialized ([`raw`], [`typed`])
//! and resolved ([`resolve`]) into the [`model`]. Only [`files`] and [`cassette`] read files.

pub mod digest;
pub mod params;
pub mod timeline;
pub mod weigh;

mod campaign;
pub mod cassette;
mod cassette_replay;
pub mod check;
mod cli_request;
mod cluster_file;
mod deserialize;
pub mod embedded;
mod file_kind;
mod files;
mod library;
mod load;
mod loader;
mod manual_fault;
mod matrix;
pub mod model;
mod overrides;
mod path;
pub mod prices;
mod raw;
mod resolve;
pub mod schema;
mod scoring_file;
mod sections;
pub mod seeds;
mod variants;

pub use campaign::{LoadedCampaign, load_campaign};
pub use cassette::CassetteReplay;
pub use chaosrun_input::quantity::duration;
pub use check::collect;
pub use cli_request::Overrides;
pub use cluster_file::{ClusterRequest, cluster_name, load_cluster};
pub use file_kind::FileKind;
pub use files::places_of_folder;
pub use library::Library;
pub use load::{Cell, Loaded, load};
pub use manual_fault::manual_fault;
pub use overrides::argument;
pub use path::parse as parse_path;
pub use resolve::FAULT_CLASSES;
pub use scoring_file::{load_judge, load_scoring, recorded_scoring};
