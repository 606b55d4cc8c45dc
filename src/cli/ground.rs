//! Common preparation of all commands that start clusters: the work folder, the program for nodes, the tools of agents, and the container
//! engine.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;

use crate::doctor::leftovers;
use crate::exit::{Exit, Expected};
use chaosrun_backend_docker::image;
use chaosrun_backend_local::supervisor::SupervisorClient;
use chaosrun_backend_local::{WorkRoot, workspace};
use chaosrun_base::ids::RunId;
use chaosrun_base::removal::RemovalLayer;
use chaosrun_base::task;
use chaosrun_engine::run::containers::Containers;
use chaosrun_engine::run::stage::RunShared;
use chaosrun_probe::HttpClient;
use chaosrun_scenario::model::ClusterSpec;

/// Prepares everything that all clusters of this process share. `contained` are the clusters that run in containers. For these clusters,
/// the function connects to the container engine and prepares all images.
///
/// # Errors
/// Returns an error if a work folder cannot be created, if the file of this program is not found, or if the container engine or an image is
/// missing.
pub async fn shared(
    supervisor: SupervisorClient,
    run: RunId,
    contained: &[&ClusterSpec],
    tell: &(dyn Fn(image::ImageProgress) + Sync),
) -> anyhow::Result<RunShared> {
    let program = std::env::current_exe().context("cannot find the file of this program")?;
    if RemovalLayer::Ledger.works() {
        // `doctor` reports objects that cannot be removed.
        let _ = task::spawn_blocking(|| leftovers::remove(leftovers::find())).await;
    }
    let work = WorkRoot::new(&program, &supervisor).context("cannot create a folder for the nodes")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tools_dir = if workspace::find("docker", &path).is_none() {
        let docker = work.make_tool("docker").context("cannot create the tools of the agent")?;
        docker.parent().map(Path::to_owned)
    } else {
        None
    };
    let containers = if contained.is_empty() {
        None
    } else {
        // This copy is for images. It runs nodes and nothing else.
        let program = work.make_tool("server").context("cannot create the program for images")?;
        let prepared = Containers::prepare(run, contained, &program, tell).await;
        Some(Arc::new(prepared.map_err(|error| {
            let expected = Expected::new(Exit::TrialInvalid, error.to_string());
            match error.help() {
                Some(help) => expected.help(help),
                None => expected,
            }
        })?))
    };
    Ok(RunShared {
        supervisor,
        work: Arc::new(work),
        http: HttpClient::new(),
        tools_dir,
        host_shell: false,
        containers,
        records: Arc::default(),
    })
}
