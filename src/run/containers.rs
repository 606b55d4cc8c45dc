//! What a run needs for trials in containers: the engine, and every image before the first trial begins.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;

use crate::cluster::docker::image::{self, Image, Progress, Sources};
use crate::cluster::docker::reap::{self, Which};
use crate::cluster::docker::{Engine, EngineError};
use crate::ids::RunId;
use crate::plan::TrialPlan;
use crate::scenario::model::{Backend, Cluster, ImageSource};

/// Shared by all trials of a run.
#[derive(Debug)]
pub struct Containers {
    pub run: RunId,
    pub engine: Engine,
    pub images: Arc<IndexMap<ImageSource, Image>>,
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
        let (images, reaped) = tokio::join!(image::prepare(&engine, &sources, tell), reap::reap(&engine, Which::Dead));
        reaped?;
        Ok(Self { run, engine, images: Arc::new(images?) })
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
        reap::clear(&self.engine, Which::Run(&self.run)).await
    }
}
