//! What a run needs for trials in containers: the engine, and every image before the first trial begins.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

use crate::cluster::docker::image::{self, Image, Progress, Sources};
use crate::cluster::docker::reap::{self, Which};
use crate::cluster::docker::{Engine, EngineError};
use crate::ids::RunId;
use crate::plan::TrialPlan;
use crate::removal::Layer;
use crate::scenario::model::{Backend, Cluster, ImageSource};

/// Shared by all trials of a run.
#[derive(Debug)]
pub struct Containers {
    pub run: RunId,
    pub engine: Engine,
    pub images: Arc<IndexMap<ImageSource, Image>>,
    /// What goes into images that hold this program, and into containers that need it for a while.
    pub program: PathBuf,
}

/// Removes what dead runs have left. What cannot be removed is in nobody's way, and `doctor` tells it: engines have been seen to keep a
/// network for ever whose container was removed while it started.
async fn of_the_dead(engine: &Engine) {
    if Layer::Ledger.works() {
        let _ = reap::clear(engine, Which::Dead, Duration::from_secs(1)).await;
    }
}

impl Containers {
    /// Connects, removes what dead runs have left, and makes all images that the clusters need. None when no trial runs in
    /// containers. `program` is what goes into images that hold this program.
    ///
    /// # Errors
    /// No engine, no image: the whole run cannot be.
    pub async fn prepare(
        run: RunId,
        clusters: &[&Cluster],
        program: &Path,
        tell: impl Fn(Progress) + Send + Sync,
    ) -> Result<Self, EngineError> {
        let engine = Engine::connect().await?;
        let mut sources = Vec::new();
        let mut known = HashSet::new();
        for cluster in clusters {
            let beside = Path::new(&cluster.file.name);
            let own = cluster.nodes.iter().filter_map(|node| node.image.clone()).chain(cluster.toolbox.clone()).chain([image::holder()]);
            for source in own {
                if known.insert(source.clone()) {
                    sources.push((source, Sources { beside, program }));
                }
            }
        }
        let (images, ()) = tokio::join!(image::prepare(&engine, &sources, tell), of_the_dead(&engine));
        Ok(Self { run, engine, images: Arc::new(images?), program: program.to_owned() })
    }

    /// The trial with the digests of its images.
    #[must_use]
    pub fn identified(&self, plan: &Arc<TrialPlan>) -> Arc<TrialPlan> {
        let cluster = &plan.scenario.cluster;
        if plan.scenario.backend != Backend::Docker {
            return Arc::clone(plan);
        }
        let nodes = cluster.nodes.iter().filter_map(|node| Some((node.role.clone(), node.image.as_ref()?)));
        let toolbox = cluster.toolbox.as_ref().map(|source| ("toolbox".to_owned(), source));
        let digest = |(name, source): (String, &ImageSource)| Some((name, self.images.get(source)?.digest.clone()));
        let images = nodes.chain(toolbox).filter_map(digest).collect();
        Arc::new(TrialPlan { images, ..TrialPlan::clone(plan) })
    }

    /// Removes whatever trials of this run could not remove themselves: those that were killed.
    ///
    /// # Errors
    /// When the engine does not answer, or keeps something.
    pub async fn clear(&self) -> Result<(), EngineError> {
        reap::clear(&self.engine, Which::Run(&self.run), reap::PATIENTLY).await.map(drop)
    }
}
