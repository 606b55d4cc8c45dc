//! Requirements of trials in containers: the engine and all images, which are prepared before the first trial begins.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

use chaosrun_backend_docker::image;
use chaosrun_backend_docker::image::{Image, ImageProgress, Sources};
use chaosrun_backend_docker::reap;
use chaosrun_backend_docker::reap::ReapSelection;
use chaosrun_backend_docker::{Engine, EngineError};
use chaosrun_base::ids::RunId;
use chaosrun_base::removal::RemovalLayer;
use chaosrun_plan::TrialPlan;
use chaosrun_scenario::model::{ClusterSpec, ImageSource};

/// Engine and images that all trials of a run share.
#[derive(Debug)]
pub struct Containers {
    pub run: RunId,
    pub engine: Engine,
    pub images: Arc<IndexMap<ImageSource, Image>>,
    /// Path of the program that is copied into images, and into containers that need it temporarily.
    pub program: PathBuf,
}

/// Removes objects that dead runs have left in the engine. A failed removal is ignored, and `doctor` reports such objects. For example,
/// some engines keep a network forever if a container was removed during its start.
async fn of_the_dead(engine: &Engine) {
    if RemovalLayer::Ledger.works() {
        let _ = reap::clear(engine, ReapSelection::Dead, Duration::from_secs(1)).await;
    }
}

impl Containers {
    /// Connects to the engine, removes objects that dead runs have left, and prepares all images that the clusters need. The file `program`
    /// is copied into images that contain chaosrun itself.
    ///
    /// # Errors
    /// Returns an error if the engine or an image is not available. In this case no trial of the run is possible.
    pub async fn prepare(
        run: RunId,
        clusters: &[&ClusterSpec],
        program: &Path,
        tell: &(dyn Fn(ImageProgress) + Sync),
    ) -> Result<Self, EngineError> {
        let engine = Engine::connect().await?;
        let mut sources = Vec::new();
        let mut known = HashSet::new();
        for cluster in clusters {
            let beside = Path::new(&cluster.file.name);
            let own = cluster.nodes.iter().filter_map(|node| node.image.clone()).chain(cluster.toolbox.clone()).chain([image::sidecar()]);
            for source in own {
                if known.insert(source.clone()) {
                    sources.push((source, Sources { beside, program }));
                }
            }
        }
        let (images, ()) = tokio::join!(image::prepare(&engine, &sources, tell), of_the_dead(&engine));
        Ok(Self { run, engine, images: Arc::new(images?), program: program.to_owned() })
    }

    /// Returns the trial plan with the digests of its images added. A plan whose nodes have no images remains unchanged.
    #[must_use]
    pub fn identified(&self, plan: &Arc<TrialPlan>) -> Arc<TrialPlan> {
        let cluster = &plan.scenario.cluster;
        let nodes = cluster.nodes.iter().filter_map(|node| Some((node.role.clone(), node.image.as_ref()?)));
        let toolbox = cluster.toolbox.as_ref().map(|source| ("toolbox".to_owned(), source));
        let digest = |(name, source): (String, &ImageSource)| Some((name, self.images.get(source)?.digest.clone()));
        let images = nodes.chain(toolbox).filter_map(digest).collect();
        Arc::new(TrialPlan { images, ..TrialPlan::clone(plan) })
    }

    /// Removes all remaining objects of this run from the engine. Trials that were killed could not remove their objects themselves.
    ///
    /// # Errors
    /// Returns an error if the engine does not answer, or does not remove an object.
    pub async fn clear(&self) -> Result<(), EngineError> {
        reap::clear(&self.engine, ReapSelection::Run(&self.run), reap::PATIENTLY).await.map(drop)
    }
}
