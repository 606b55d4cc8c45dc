//! `chaosrun node pd`: the placement driver.

pub mod cluster;
pub mod durable;
pub mod identity;
pub mod operators;
pub mod regions;
pub mod stores;
pub mod text;
pub mod timing;

/// Flags of `chaosrun node pd`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs until killed.
///
/// # Errors
/// When the node cannot start.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("not written yet")
}
