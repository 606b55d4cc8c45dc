//! `chaosrun cluster restart`: nodes of a kept cluster, one after the other.

use clap::Args;

use super::Which;
use crate::cli::exit::{Exit, Expected};
use crate::cli::style::Palette;
use crate::keeper::client;
use crate::keeper::wire::{Ask, Status, Told};
use crate::report::cluster as table;

#[derive(Debug, Args)]
pub struct RestartArgs {
    #[command(flatten)]
    which: Which,
    /// A node, or all of a role [default: every node, role after role]
    #[arg(value_name = "NODE")]
    node: Option<String>,
}

pub fn run(args: &RestartArgs) -> anyhow::Result<Exit> {
    let folder = match args.which.folder() {
        Ok(folder) => folder,
        Err(problem) => return Ok(super::tell_missing(&problem)),
    };
    if !folder.exists() {
        return Err(args.which.not_kept().into());
    }
    let status = client::status(&folder).map_err(|_| super::died(&folder))?;
    let nodes = named(&status, args.node.as_deref())?;
    for told in client::ask(&folder, &Ask::Restart { nodes }).map_err(|_| super::died(&folder))? {
        match told.map_err(|_| super::died(&folder))? {
            Told::Node { role, node, step } => eprint!("{}", table::step(&role, &node, &step, Palette::of_stderr())),
            Told::Failed { message, .. } => return Err(Expected::new(Exit::TrialInvalid, message).into()),
            Told::Note { .. } | Told::Status(_) | Told::Fault(_) | Told::Refused { .. } | Told::Ended { .. } => (),
        }
    }
    Ok(Exit::Ok)
}

/// The nodes that `name` means.
pub(super) fn named(status: &Status, name: Option<&str>) -> Result<Vec<String>, Expected> {
    let means = |node: &&crate::keeper::wire::NodeNow| name.is_none_or(|name| node.node == name || node.role == name);
    let nodes: Vec<String> = status.nodes.iter().filter(means).map(|node| node.node.clone()).collect();
    match name {
        Some(name) if nodes.is_empty() => {
            let known: Vec<&str> = status.nodes.iter().map(|node| node.node.as_str()).collect();
            let expected = Expected::new(Exit::Usage, format!("`{}` has no node or role `{name}`", status.about.name));
            Err(expected.help(format!("its nodes are {}", known.join(", "))))
        }
        _ => Ok(nodes),
    }
}
