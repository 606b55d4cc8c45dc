//! Images by name: lookup in the engine, and pull of an absent image.

use bollard::models::ImageInspect;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;

use crate::engine::Engine;
use crate::error::{EngineError, PullProblem, pull_problem};

/// Returns the image that the engine has under the name `reference`; `None` if the image is absent.
pub(super) async fn look_up(engine: &Engine, reference: &str) -> Result<Option<ImageInspect>, EngineError> {
    match engine.api().inspect_image(reference).await {
        Ok(image) => Ok(Some(image)),
        Err(error) => match EngineError::from_api(format!("looking for image `{reference}`"), &error) {
            error if error.is_gone() => Ok(None),
            error => Err(error),
        },
    }
}

pub(super) async fn pull(engine: &Engine, reference: &str) -> Result<ImageInspect, EngineError> {
    // If the reference had no tag, the engine would pull all tags.
    let options = CreateImageOptionsBuilder::default().from_image(&with_tag(reference)).build();
    let mut answers = std::pin::pin!(engine.api().create_image(Some(options), None, None));
    while let Some(answer) = answers.next().await {
        if let Err(error) = answer {
            return Err(match EngineError::from_api(format!("pulling `{reference}`"), &error) {
                EngineError::Refused { status: Some(400), .. } => EngineError::Reference(reference.to_owned()),
                EngineError::Refused { problem, .. } => {
                    let kind = pull_problem(&problem);
                    EngineError::Pull { image: reference.to_owned(), problem, kind }
                }
                error => error,
            });
        }
    }
    look_up(engine, reference).await?.ok_or_else(|| EngineError::Pull {
        image: reference.to_owned(),
        problem: "it was pulled, but is not there".into(),
        kind: PullProblem::Other,
    })
}

fn with_tag(reference: &str) -> String {
    let last = reference.rsplit('/').next().unwrap_or(reference);
    if last.contains([':', '@']) { reference.to_owned() } else { format!("{reference}:latest") }
}

/// Checks the name of an image before the name becomes part of a path of the engine API. Returns an error for an invalid name.
pub(super) fn check(reference: &str) -> Result<(), EngineError> {
    let (name, digest) = reference.split_once('@').map_or((reference, None), |(name, digest)| (name, Some(digest)));
    let (path, last) = name.rsplit_once('/').map_or((None, name), |(path, last)| (Some(path), last));
    let (last, tag) = last.split_once(':').map_or((last, None), |(last, tag)| (last, Some(tag)));
    let among = |text: &str, others: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || others.as_bytes().contains(&byte))
    };
    let part = |text: &str| {
        among(text, "._-") && !text.bytes().any(|byte| byte.is_ascii_uppercase()) && text.as_bytes()[0].is_ascii_alphanumeric()
    };
    let path_is_right = path.is_none_or(|path| {
        let mut parts = path.split('/');
        // The first part may be a registry with a port.
        parts.next().is_some_and(|first| part(first) || is_registry(first)) && parts.all(part)
    });
    let right = part(last)
        && path_is_right
        && tag.is_none_or(|tag| among(tag, "._-") && tag.len() <= 128)
        && digest.is_none_or(|digest| digest.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && among(hex, "")));
    if right { Ok(()) } else { Err(EngineError::Reference(reference.to_owned())) }
}

/// Returns true if `text` has the form of a registry with a port, such as `localhost:5000` or `[::1]:5000`.
fn is_registry(text: &str) -> bool {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, "0"));
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte)) && port.parse::<u16>().is_ok()
}

/// Returns the digest of a pulled image: the digest of the registry, or the id of the image if no registry has it.
pub(super) fn digest(image: &ImageInspect) -> String {
    let digests = image.repo_digests.iter().flatten();
    let known = digests.filter_map(|digest| digest.split_once('@').map(|(_, digest)| digest)).min();
    known.map_or_else(|| image.id.clone().unwrap_or_default(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_names_are_checked_before_they_reach_the_engine() {
        let digest = format!("debian@sha256:{}", "0".repeat(64));
        let right = ["debian", "debian:bookworm-slim", "pingcap/tikv:v8.5.7", "localhost:5000/a/b:1", "ghcr.io/a/b_c-d.e", &digest];
        for name in right {
            assert!(check(name).is_ok(), "{name}");
        }
        for name in ["", "Debian", "a b", "a/../b", "debian:", "debian:a/b", "/a", "a//b", "a?x=y", "a@sha256:12", "-a", "ä"] {
            assert!(check(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_name_without_a_tag_means_the_latest() {
        assert_eq!(with_tag("debian"), "debian:latest");
        assert_eq!(with_tag("localhost:5000/x"), "localhost:5000/x:latest");
        assert_eq!(with_tag("x:1"), "x:1");
        assert_eq!(with_tag("x@sha256:1"), "x@sha256:1");
    }
}
