//! Locally built images, which the engine keeps for later runs.

use std::collections::HashMap;

use bollard::query_parameters::{ListImagesOptionsBuilder, RemoveImageOptions};
use futures_util::future::BoxFuture;

use super::build::LABEL;
use super::identity::REPOSITORY;
use super::pull;
use crate::engine::Engine;
use crate::error::EngineError;

/// Locally built image in the engine, with one of its tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalImage {
    /// Reference such as `chaosrun/etcd:0123456789ab`.
    pub reference: String,
    /// Creation time of the image in seconds since 1970.
    pub created: i64,
    /// Size of the image in bytes, including layers that other images share.
    pub size: u64,
}

impl LocalImage {
    /// Returns true if the image was built from the image folder with this name.
    #[must_use]
    pub fn is_of(&self, folder: &str) -> bool {
        let name = folder.rsplit('/').next().unwrap_or(folder);
        self.reference.strip_prefix(REPOSITORY).and_then(|rest| rest.strip_prefix('/')?.split_once(':')).is_some_and(|(of, _)| of == name)
    }
}

/// Returns all locally built images, newest first.
///
/// # Errors
/// Returns an error if the engine does not answer.
pub fn list(engine: &Engine) -> BoxFuture<'_, Result<Vec<LocalImage>, EngineError>> {
    Box::pin(async move {
        let filters = HashMap::from([("label".to_owned(), vec![LABEL.to_owned()])]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        let mut images =
            engine.api().list_images(Some(options)).await.map_err(|error| EngineError::from_api("listing the images", &error))?;
        images.sort_unstable_by_key(|image| std::cmp::Reverse(image.created));
        let tags = images.into_iter().flat_map(|image| {
            let (created, size) = (image.created, u64::try_from(image.size).unwrap_or_default());
            image.repo_tags.into_iter().map(move |reference| LocalImage { reference, created, size })
        });
        Ok(tags.filter(|kept| !kept.reference.starts_with('<')).collect())
    })
}

/// Returns true if the engine has an image with this name.
///
/// # Errors
/// Returns an error if the engine does not answer.
pub fn has<'a>(engine: &'a Engine, reference: &'a str) -> BoxFuture<'a, Result<bool, EngineError>> {
    Box::pin(async move { Ok(pull::look_up(engine, reference).await?.is_some()) })
}

/// Removes all locally built images that no container uses. Returns the names of the removed images.
///
/// # Errors
/// Returns an error if the engine does not answer.
pub fn remove_all(engine: &Engine) -> BoxFuture<'_, Result<Vec<String>, EngineError>> {
    Box::pin(async move {
        let mut removed = Vec::new();
        for kept in list(engine).await? {
            match engine.api().remove_image(&kept.reference, None::<RemoveImageOptions>, None).await {
                Ok(_) => removed.push(kept.reference),
                Err(error) => match EngineError::from_api(format!("removing image `{}`", kept.reference), &error) {
                    error if error.is_conflict() || error.is_gone() => (),
                    error => return Err(error),
                },
            }
        }
        Ok(removed)
    })
}
