//! Images of nodes. An image is pulled if it is absent, or built from a folder of `images/`. This folder is beside the cluster file, above
//! it, or in the binary.

mod context;
mod dockerfile;
pub mod embedded;
mod folder;
mod identity;
mod program;

mod build;
pub mod local_images;
mod prepare;
mod pull;

pub use prepare::{Image, ImageProgress, ImageStep, Sources, prepare, sidecar};
pub use program::PROGRAM;
pub(super) use program::{FOLDER, carried};
