//! Preparation of images: pulls and builds of missing images.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::models::ImageInspect;
use futures_util::future::{BoxFuture, try_join_all};
use indexmap::IndexMap;

use super::folder::BuildFolder;
use super::identity::ImageIdentity;
use super::program::ProgramFiles;
use super::{build, context, dockerfile, pull};
use crate::engine::Engine;
use crate::error::EngineError;
use chaosrun_base::task;
use chaosrun_scenario::model::ImageSource;

/// Image that the engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Name of the image from which containers are created.
    pub reference: String,
    pub id: String,
    /// Digest for the yardstick. For a pulled image, it is the digest of the registry. For a built image, it is a digest of the inputs,
    /// independent of the time and machine of the build.
    pub digest: String,
    /// User of the processes of the image; empty for root.
    pub user: String,
    /// Value of `LD_PRELOAD` in the image: the libraries that programs preload; empty for none.
    pub preload: String,
}

/// Locations of the inputs of an image build.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// Path of the cluster file. Image folders are searched beside this file, then above it up to the root of the project, then in the
    /// binary.
    pub beside: &'a Path,
    /// Path of the copy of this binary, for images that contain the program.
    pub program: &'a Path,
}

/// Report about the progress of a pull or build of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageProgress {
    /// Folder name of a built image, or name of a pulled image.
    pub image: String,
    pub step: ImageStep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageStep {
    Pulling,
    Building,
    Done(Duration),
}

impl fmt::Display for ImageProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            ImageStep::Pulling => write!(f, "pulling {}", self.image),
            ImageStep::Building => write!(f, "building {}", self.image),
            ImageStep::Done(took) => write!(f, "{} is there after {:.1} s", self.image, took.as_secs_f64()),
        }
    }
}

/// Returns the image source of the network sidecar.
#[must_use]
pub fn sidecar() -> ImageSource {
    ImageSource::Build { folder: "images/holder".into(), packages: Vec::new() }
}

/// Pulls and builds missing images in parallel, each image once. `tell` is not called if no image is missing.
///
/// # Errors
/// Returns the first failure. Other pulls and builds in progress are abandoned.
pub fn prepare<'a>(
    engine: &'a Engine,
    sources: &'a [(ImageSource, Sources<'a>)],
    tell: &'a (dyn Fn(ImageProgress) + Sync),
) -> BoxFuture<'a, Result<IndexMap<ImageSource, Image>, EngineError>> {
    Box::pin(async move {
        let recipes = read(engine, sources).await?;

        let mut names: BTreeSet<&str> = BTreeSet::new();
        for (source, recipe) in &recipes {
            match (source, recipe) {
                (ImageSource::Pull(name), _) => names.extend([name.as_str()]),
                (_, Some(recipe)) => names.extend(recipe.bases.iter().map(String::as_str)),
                (_, None) => (),
            }
        }
        for name in &names {
            pull::check(name)?;
        }
        let named: BTreeMap<&str, ImageInspect> =
            try_join_all(names.iter().map(|name| async { Ok::<_, EngineError>((*name, named(engine, name, tell).await?)) }))
                .await?
                .into_iter()
                .collect();

        let named = &named;
        let images = recipes.iter().map(|(source, recipe)| async move {
            let image = match (source, recipe) {
                (ImageSource::Pull(name), _) => named.get(name.as_str()).map(|image| found(name, pull::digest(image), image)),
                (_, Some(recipe)) => Some(built(engine, recipe, named, tell).await?),
                (_, None) => None,
            };
            Ok::<_, EngineError>(image.map(|image| (source.clone(), image)))
        });
        Ok(try_join_all(images).await?.into_iter().flatten().collect())
    })
}

/// Local inputs of the build of one image.
#[derive(Debug)]
struct Recipe {
    folder: BuildFolder,
    packages: Vec<String>,
    bases: Vec<String>,
    program: Option<Arc<ProgramFiles>>,
}

/// Reads the image folders and programs of all `sources`, each folder and program once.
async fn read(engine: &Engine, sources: &[(ImageSource, Sources<'_>)]) -> Result<IndexMap<ImageSource, Option<Recipe>>, EngineError> {
    let wanted: IndexMap<ImageSource, (PathBuf, PathBuf)> =
        sources.iter().rev().map(|(source, of)| (source.clone(), (of.beside.to_owned(), of.program.to_owned()))).collect();
    let arch = engine.facts().arch.clone();
    let read = task::spawn_blocking(move || {
        let mut programs: BTreeMap<PathBuf, Arc<ProgramFiles>> = BTreeMap::new();
        let mut recipes = IndexMap::new();
        for (source, (beside, program)) in wanted.into_iter().rev() {
            let ImageSource::Build { folder, packages } = &source else {
                recipes.insert(source, None);
                continue;
            };
            let folder = BuildFolder::find(folder, &beside)?;
            let program = if dockerfile::wants_program(&folder.dockerfile) {
                let known = match programs.get(&program) {
                    Some(known) => Arc::clone(known),
                    None => Arc::new(ProgramFiles::gather(&program, &arch)?),
                };
                Some(Arc::clone(programs.entry(program).or_insert(known)))
            } else {
                None
            };
            let bases = dockerfile::bases(&folder.dockerfile);
            let recipe = Recipe { bases, packages: packages.clone(), folder, program };
            recipes.insert(source, Some(recipe));
        }
        Ok(recipes)
    });
    read.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

async fn named(engine: &Engine, name: &str, tell: &(dyn Fn(ImageProgress) + Sync)) -> Result<ImageInspect, EngineError> {
    if let Some(image) = pull::look_up(engine, name).await? {
        return Ok(image);
    }
    let begin = Instant::now();
    tell(ImageProgress { image: name.to_owned(), step: ImageStep::Pulling });
    let image = pull::pull(engine, name).await?;
    tell(ImageProgress { image: name.to_owned(), step: ImageStep::Done(begin.elapsed()) });
    Ok(image)
}

async fn built(
    engine: &Engine,
    recipe: &Recipe,
    named: &BTreeMap<&str, ImageInspect>,
    tell: &(dyn Fn(ImageProgress) + Sync),
) -> Result<Image, EngineError> {
    let id = |name: &String| named.get(name.as_str()).and_then(|image| image.id.clone()).unwrap_or_default();
    let bases: BTreeMap<String, String> = recipe.bases.iter().map(|name| (name.clone(), id(name))).collect();
    let own = std::env::current_exe().unwrap_or_default();
    let identity = ImageIdentity::of(&recipe.folder, &recipe.packages, &bases, recipe.program.as_deref(), &own.to_string_lossy());
    if let Some(image) = pull::look_up(engine, &identity.reference).await? {
        return Ok(found(&identity.reference, identity.digest, &image));
    }
    let begin = Instant::now();
    let name = &recipe.folder.name;
    tell(ImageProgress { image: name.clone(), step: ImageStep::Building });
    let archive = context::archive(&recipe.folder, recipe.program.as_deref())
        .map_err(|source| EngineError::Io { what: format!("`{}` cannot be packed", recipe.folder.place), source })?;
    build::build(engine, &recipe.folder, &recipe.packages, &identity, archive).await?;
    let image = pull::look_up(engine, &identity.reference).await?.ok_or_else(|| EngineError::Build {
        dockerfile: recipe.folder.path(),
        step: String::new(),
        lines: Vec::new(),
        problem: "it was built, but is not there".into(),
    })?;
    build::remove_superseded(engine, &identity).await;
    tell(ImageProgress { image: name.clone(), step: ImageStep::Done(begin.elapsed()) });
    Ok(found(&identity.reference, identity.digest, &image))
}

fn found(reference: &str, digest: String, image: &ImageInspect) -> Image {
    let user = image.config.as_ref().and_then(|config| config.user.clone()).unwrap_or_default();
    let env = image.config.as_ref().and_then(|config| config.env.as_deref()).unwrap_or_default();
    let preload = env.iter().find_map(|entry| entry.strip_prefix("LD_PRELOAD=")).unwrap_or_default().to_owned();
    Image { reference: reference.to_owned(), id: image.id.clone().unwrap_or_default(), digest, user, preload }
}
