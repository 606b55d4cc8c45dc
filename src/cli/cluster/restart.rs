//! `chaosrun cluster restart`: restarts nodes of a kept cluster, one after another.

use clap::Args;

use super::Which;
use crate::cluster_daemon::client;
use crate::cluster_daemon::wire::{DaemonMessage, DaemonRequest, KeptClusterStatus};
use crate::exit::{Exit, Expected};
use crate::report::cluster as table;
use chaosrun_base::style::Palette;

#[derive(Debug, Args)]
pub struct RestartArgs {
    #[command(flatten)]
    which: Which,
    /// Name of a node, or name of a role for all its nodes [default: all nodes, role by role]
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
    for told in client::ask(&folder, DaemonRequest::Restart { nodes }).map_err(|_| super::died(&folder))? {
        match told.map_err(|_| super::died(&folder))? {
            DaemonMessage::Node { role, node, step } => eprint!("{}", table::step(&role, &node, &step, Palette::of_stderr())),
            DaemonMessage::Failed { message, .. } => return Err(Expected::new(Exit::TrialInvalid, message).into()),
            DaemonMessage::Note { .. }
            | DaemonMessage::Status(_)
            | DaemonMessage::Fault(_)
            | DaemonMessage::Refused { .. }
            | DaemonMessage::Ended { .. } => (),
        }
    }
    Ok(Exit::Ok)
}

/// Returns the names of the nodes that have the name or the role `name`. Returns all nodes if `name` is `None`.
pub(super) fn named(status: &KeptClusterStatus, name: Option<&str>) -> Result<Vec<String>, Expected> {
    let means = |node: &&crate::cluster_daemon::wire::NodeNow| name.is_none_or(|name| node.node == name || node.role == name);
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
