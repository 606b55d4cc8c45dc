//! From where images come from to images that are there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::models::ImageInspect;
use futures_util::future::try_join_all;
use indexmap::IndexMap;

use super::folder::Folder;
use super::identity::Identity;
use super::program::Program;
use super::{build, context, dockerfile, pull};
use crate::cluster::docker::engine::Engine;
use crate::cluster::docker::error::EngineError;
use crate::scenario::model::ImageSource;

/// An image that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// What containers are created from.
    pub reference: String,
    pub id: String,
    /// What it is for the yardstick: the registry's digest of a pulled one; of a built one what went into it, however and
    /// whenever it was built.
    pub digest: String,
    /// Who its processes run as; empty for root.
    pub user: String,
    /// What its programs load before the C library; empty for nothing.
    pub preload: String,
}

/// Where the parts of a build are.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The cluster file: folders are found beside it, above it up to the project's root, then in the binary.
    pub beside: &'a Path,
    /// The copy of this binary that goes into the images that want it.
    pub program: &'a Path,
}

/// What is being done for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The folder of a built one, the name of a pulled one.
    pub image: String,
    pub step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Pulling,
    Building,
    Done(Duration),
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Step::Pulling => write!(f, "pulling {}", self.image),
            Step::Building => write!(f, "building {}", self.image),
            Step::Done(took) => write!(f, "{} is there after {:.1} s", self.image, took.as_secs_f64()),
        }
    }
}

/// What holds the network of a node.
#[must_use]
pub fn holder() -> ImageSource {
    ImageSource::Build { folder: "images/holder".into(), packages: Vec::new() }
}

/// Pulls and builds what is not there yet, each once, in parallel. `tell` hears of nothing when all are there.
///
/// # Errors
/// The first thing that goes wrong; what else was under way is given up.
pub async fn prepare(
    engine: &Engine,
    sources: &[(ImageSource, Sources<'_>)],
    tell: impl Fn(Progress) + Sync,
) -> Result<IndexMap<ImageSource, Image>, EngineError> {
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
        try_join_all(names.iter().map(|name| async { Ok::<_, EngineError>((*name, named(engine, name, &tell).await?)) }))
            .await?
            .into_iter()
            .collect();

    let (named, tell) = (&named, &tell);
    let images = recipes.iter().map(|(source, recipe)| async move {
        let image = match (source, recipe) {
            (ImageSource::Pull(name), _) => named.get(name.as_str()).map(|image| found(name, pull::digest(image), image)),
            (_, Some(recipe)) => Some(built(engine, recipe, named, tell).await?),
            (_, None) => None,
        };
        Ok::<_, EngineError>(image.map(|image| (source.clone(), image)))
    });
    Ok(try_join_all(images).await?.into_iter().flatten().collect())
}

/// What a build needs of this machine.
#[derive(Debug)]
struct Recipe {
    folder: Folder,
    packages: Vec<String>,
    bases: Vec<String>,
    program: Option<Arc<Program>>,
}

/// Reads all folders and programs, each once.
async fn read(engine: &Engine, sources: &[(ImageSource, Sources<'_>)]) -> Result<IndexMap<ImageSource, Option<Recipe>>, EngineError> {
    let wanted: IndexMap<ImageSource, (PathBuf, PathBuf)> =
        sources.iter().rev().map(|(source, of)| (source.clone(), (of.beside.to_owned(), of.program.to_owned()))).collect();
    let arch = engine.facts().arch.clone();
    let read = tokio::task::spawn_blocking(move || {
        let mut programs: BTreeMap<PathBuf, Arc<Program>> = BTreeMap::new();
        let mut recipes = IndexMap::new();
        for (source, (beside, program)) in wanted.into_iter().rev() {
            let ImageSource::Build { folder, packages } = &source else {
                recipes.insert(source, None);
                continue;
            };
            let folder = Folder::find(folder, &beside)?;
            let program = if dockerfile::wants_program(&folder.dockerfile) {
                let known = match programs.get(&program) {
                    Some(known) => Arc::clone(known),
                    None => Arc::new(Program::gather(&program, &arch)?),
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

async fn named(engine: &Engine, name: &str, tell: &(impl Fn(Progress) + Sync)) -> Result<ImageInspect, EngineError> {
    if let Some(image) = pull::look_up(engine, name).await? {
        return Ok(image);
    }
    let begin = Instant::now();
    tell(Progress { image: name.to_owned(), step: Step::Pulling });
    let image = pull::pull(engine, name).await?;
    tell(Progress { image: name.to_owned(), step: Step::Done(begin.elapsed()) });
    Ok(image)
}

async fn built(
    engine: &Engine,
    recipe: &Recipe,
    named: &BTreeMap<&str, ImageInspect>,
    tell: &(impl Fn(Progress) + Sync),
) -> Result<Image, EngineError> {
    let id = |name: &String| named.get(name.as_str()).and_then(|image| image.id.clone()).unwrap_or_default();
    let bases: BTreeMap<String, String> = recipe.bases.iter().map(|name| (name.clone(), id(name))).collect();
    let own = std::env::current_exe().unwrap_or_default();
    let identity = Identity::of(&recipe.folder, &recipe.packages, &bases, recipe.program.as_deref(), &own.to_string_lossy());
    if let Some(image) = pull::look_up(engine, &identity.reference).await? {
        return Ok(found(&identity.reference, identity.digest, &image));
    }
    let begin = Instant::now();
    let name = &recipe.folder.name;
    tell(Progress { image: name.clone(), step: Step::Building });
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
    tell(Progress { image: name.clone(), step: Step::Done(begin.elapsed()) });
    Ok(found(&identity.reference, identity.digest, &image))
}

fn found(reference: &str, digest: String, image: &ImageInspect) -> Image {
    let user = image.config.as_ref().and_then(|config| config.user.clone()).unwrap_or_default();
    let env = image.config.as_ref().and_then(|config| config.env.as_deref()).unwrap_or_default();
    let preload = env.iter().find_map(|entry| entry.strip_prefix("LD_PRELOAD=")).unwrap_or_default().to_owned();
    Image { reference: reference.to_owned(), id: image.id.clone().unwrap_or_default(), digest, user, preload }
}
