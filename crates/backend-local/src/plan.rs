//! Plan of the start of a node: program, environment and directories.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::definition::{LocalDefinition, NodeStartPlan, merged};
use super::place::tells;
use super::program::WorkRoot;
use super::{clock, layer};
use chaosrun_backend::render::{OURSELVES, Rendered};
use chaosrun_cluster::{ClusterError, PlacedNode};
use chaosrun_scenario::model;

pub(super) fn plan(
    node: &model::Node,
    placed: &PlacedNode,
    rendered: Rendered,
    work: &WorkRoot,
    logs: &Path,
) -> Result<NodeStartPlan, ClusterError> {
    let (mut command, mut args) = (rendered.command, rendered.args);
    if command.is_empty() && !args.is_empty() {
        command.push(args.remove(0));
    }
    let Some(first) = command.first_mut() else {
        let problem = "it has no command for the `local` backend".into();
        return Err(ClusterError::Start { node: placed.name.clone(), problem });
    };
    let is_copy = first == OURSELVES;
    let program = if is_copy {
        let server = work.server(&placed.role);
        *first = server.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        server.into_os_string()
    } else {
        OsString::from(&*first)
    };
    let mut env = clean();
    env.push(("HOME".into(), placed.dir.clone().into()));
    env.push(("TMPDIR".into(), placed.dir.join("tmp").into()));
    let clock = node.clock.then(|| clock::page(placed));
    let mut clock_env = Vec::new();
    if let Some(page) = &clock {
        // The copy of the program does not exist yet, so this program itself is used.
        let file = if is_copy { OsStr::new("/proc/self/exe") } else { &program };
        let before = merged(&env, &rendered.env);
        let mut with_clock = before.clone();
        clock::fit(&placed.name, file, page, &mut with_clock)?;
        clock_env.extend(with_clock.into_iter().filter(|one| !before.contains(one)));
    }
    Ok(NodeStartPlan {
        name: placed.name.clone(),
        role: placed.role.clone(),
        program,
        definition: LocalDefinition::new(command, args, env, rendered.env, clock_env),
        dir: placed.dir.clone(),
        data: placed.data.clone(),
        files: rendered.files,
        log: logs.join(format!("{}.log", placed.name)),
        log_link: placed.dir.with_file_name(format!("{}.log", placed.name)),
        ready: rendered.ready,
        is_copy,
        clock,
        layer: node.layer.then(|| layer::behind(placed)),
    })
}

/// Returns the environment variables that every process gets: PATH and LANG. They contain no API key, and no path that reveals chaosrun.
pub(super) fn clean() -> Vec<(OsString, OsString)> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    let neutral = std::env::split_paths(&path).filter(|dir| !tells(&dir.to_string_lossy()));
    let path = std::env::join_paths(neutral).unwrap_or(path);
    vec![("PATH".into(), path), ("LANG".into(), "C.UTF-8".into())]
}
