//! `chaosrun node tikv`: a store.

/// Flags of `chaosrun node tikv`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs until killed.
///
/// # Errors
/// When the node cannot start.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("not written yet")
}
