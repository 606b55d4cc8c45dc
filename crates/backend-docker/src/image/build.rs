//! Builds of images, and removal of older images that a build supersedes.

use std::collections::{HashMap, VecDeque};

use bollard::body_stream;
use bollard::models::BuildInfo;
use bollard::query_parameters::{BuildImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptions};
use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::folder::BuildFolder;
use super::identity::ImageIdentity;
use crate::engine::Engine;
use crate::error::{EngineError, is_disk_full};

/// Label that stores the lineage of a locally built image. Builds with the same lineage supersede one another.
pub const LABEL: &str = "chaosrun.image";

/// Maximum number of output lines of a failing step that an error shows.
const SHOWN: usize = 12;

/// Prefixes of lines that the engine itself adds to the output of a step.
const NOISE: [&str; 2] = ["---> ", "Removing intermediate container "];

/// Builds an image from the build context `archive`.
pub(super) async fn build(
    engine: &Engine,
    folder: &BuildFolder,
    packages: &[String],
    identity: &ImageIdentity,
    archive: Vec<Bytes>,
) -> Result<(), EngineError> {
    let arguments = HashMap::from([("PACKAGES".to_owned(), packages.join(" "))]);
    let labels = HashMap::from([(LABEL.to_owned(), identity.lineage.clone())]);
    let options = BuildImageOptionsBuilder::default().t(&identity.reference).rm(true).forcerm(true).buildargs(&arguments).labels(&labels);
    let body = body_stream(stream::iter(archive));
    let mut answers = std::pin::pin!(engine.api().build_image(options.build(), None, Some(body)));
    let mut output = Output::default();
    while let Some(answer) = answers.next().await {
        let problem = match answer {
            Ok(BuildInfo { error_detail: Some(detail), .. }) => detail.message.unwrap_or_default(),
            Ok(BuildInfo { stream, .. }) => {
                output.add(stream.as_deref().unwrap_or_default());
                continue;
            }
            Err(error) => match EngineError::from_api(format!("building `{}`", folder.path()), &error) {
                // This is the message of the engine about the Dockerfile, or about a failed step.
                EngineError::Refused { status: None | Some(400 | 500), problem, .. } => problem,
                error => return Err(error),
            },
        };
        return Err(output.failed(folder.path(), problem));
    }
    Ok(())
}

/// Output that the current step of a build has printed.
#[derive(Debug, Default)]
struct Output {
    step: String,
    lines: VecDeque<String>,
    /// Incomplete last line of the output, whose end has not arrived yet.
    begun: String,
}

impl Output {
    fn add(&mut self, text: &str) {
        self.begun.push_str(text);
        while let Some(end) = self.begun.find('\n') {
            let line: String = self.begun.drain(..=end).collect();
            self.line(line.trim_end());
        }
    }

    fn line(&mut self, line: &str) {
        // `apt` overwrites its progress line. A terminal shows only the text behind the last carriage return, so this code keeps only that
        // text.
        let line = plain(line.rsplit('\r').next().unwrap_or(line));
        let line = line.trim_end();
        if line.starts_with("Step ") && line.contains(" : ") {
            line.clone_into(&mut self.step);
            self.lines.clear();
        } else if !line.is_empty() && !NOISE.iter().any(|noise| line.trim_start().starts_with(noise)) {
            if self.lines.len() == SHOWN {
                self.lines.pop_front();
            }
            self.lines.push_back(line.to_owned());
        }
    }

    fn failed(mut self, dockerfile: String, problem: String) -> EngineError {
        let begun = std::mem::take(&mut self.begun);
        self.line(&begun);
        if let Some(line) = self.lines.iter().chain([&problem]).find(|line| is_disk_full(line)) {
            return EngineError::DiskFull(line.clone());
        }
        // The engine repeats the whole command, which the description of the step contains already.
        let problem = match problem.strip_prefix("The command '").and_then(|rest| rest.rsplit_once("' returned a non-zero code: ")) {
            Some((_, code)) => format!("a command ended with exit code {code}"),
            None => problem,
        };
        EngineError::Build { dockerfile, step: self.step, lines: self.lines.into(), problem }
    }
}

/// Removes escape sequences from `text`, since the engine colours stderr red.
fn plain(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // An escape sequence ends with its first letter.
        text.push_str(part.find(|letter: char| letter.is_ascii_alphabetic()).map_or("", |end| &part[end + 1..]));
    }
    text
}

/// Removes images that the image `identity` supersedes, except the newest of them, since a run of the previous build may be starting.
/// Images that a container uses also remain. After a failure the image remains, and the next build removes it.
pub(super) async fn remove_superseded(engine: &Engine, identity: &ImageIdentity) {
    let filters = HashMap::from([("label".to_owned(), vec![format!("{LABEL}={}", identity.lineage)])]);
    let Ok(mut images) = engine.api().list_images(Some(ListImagesOptionsBuilder::default().filters(&filters).build())).await else {
        return;
    };
    images.sort_unstable_by_key(|image| std::cmp::Reverse(image.created));
    // Images are selected by name, because builds that differ only in a comment are one image with several names.
    let names = images.iter().flat_map(|image| &image.repo_tags).filter(|name| **name != identity.reference && !name.starts_with('<'));
    for name in names.skip(1) {
        let _ = engine.api().remove_image(name, None::<RemoveImageOptions>, None).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_build_shows_the_end_of_the_step() {
        let mut output = Output::default();
        output.add("Step 1/3 : FROM debian\n ---> 0123\nStep 2/3 : RUN apt-get install x\n");
        output.add(" ---> Running in 4567\nReading package lists...\n10%\r50%\rdone\nE: Unable to loc");
        output.add("ate package x\n\u{1b}[91mred\n\u{1b}[0mRemoving intermediate container 4567\n");
        let problem = "The command '/bin/sh -c apt-get install x' returned a non-zero code: 100";
        let error = output.failed("images/x/Dockerfile".into(), problem.into());
        assert_eq!(
            error.to_string(),
            "`images/x/Dockerfile` cannot be built: a command ended with exit code 100\n    Step 2/3 : RUN apt-get install x\n    \
             Reading package lists...\n    done\n    E: Unable to locate package x\n    red"
        );
        assert!(error.help().unwrap().starts_with("this package is not in this Debian release"));
    }

    #[test]
    fn full_disk_in_a_step_is_recognised() {
        let mut output = Output::default();
        output.add("Step 2/3 : RUN fill\ncp: error writing '/x': No space left on device\n");
        let error = output.failed("images/x/Dockerfile".into(), "The command 'x' returned a non-zero code: 1".into());
        assert!(matches!(error, EngineError::DiskFull(_)));
    }
}
