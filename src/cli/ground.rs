//! What everything stands on that starts clusters: the nodes' folder and program, the agent's tools, the engine.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;

use super::exit::{Exit, Expected};
use crate::cluster::docker::image;
use crate::cluster::doctor::leftovers;
use crate::cluster::local::supervisor::SupervisorClient;
use crate::cluster::local::{WorkRoot, seat};
use crate::ids::RunId;
use crate::observe::HttpClient;
use crate::removal::Layer;
use crate::run::containers::Containers;
use crate::run::stage::Shared;
use crate::scenario::embedded;
use crate::scenario::model::Cluster;

/// `contained` are the clusters that run in containers: for them the engine is connected to, and all images are made.
///
/// # Errors
/// No folder can be made where nodes may be, or this program's own file is not found; no engine, or no image.
pub async fn shared(
    supervisor: SupervisorClient,
    run: RunId,
    contained: &[&Cluster],
    tell: impl Fn(image::Progress) + Send + Sync,
) -> anyhow::Result<Shared> {
    let program = std::env::current_exe().context("this program's own file cannot be found")?;
    if Layer::Ledger.works() {
        // What cannot be removed `doctor` tells.
        let _ = tokio::task::spawn_blocking(|| leftovers::remove(leftovers::find())).await;
    }
    let hidden = embedded::SAMPLES.iter().chain(image::embedded::FILES).map(|(_, text)| *text).collect();
    let work = WorkRoot::new(&program, hidden, &supervisor).context("no folder for the nodes could be made")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tools_dir = if seat::find("docker", &path).is_none() {
        let docker = work.make_tool("docker").context("the agent's tools could not be made")?;
        docker.parent().map(Path::to_owned)
    } else {
        None
    };
    let containers = if contained.is_empty() {
        None
    } else {
        // The copy that goes into images: it runs nodes and nothing else.
        let program = work.make_tool("server").context("the program for images could not be made")?;
        let prepared = Containers::prepare(run, contained, &program, tell).await;
        Some(Arc::new(prepared.map_err(|error| {
            let expected = Expected::new(Exit::TrialInvalid, error.to_string());
            match error.help() {
                Some(help) => expected.help(help),
                None => expected,
            }
        })?))
    };
    Ok(Shared {
        supervisor,
        work: Arc::new(work),
        http: HttpClient::new(),
        tools_dir,
        host_shell: false,
        containers,
        records: Arc::default(),
    })
}
