//! Tests of container images on a real Docker Engine: images are built, found again, and replaced by newer images.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use chaosrun_backend_docker::engine::Engine;
use chaosrun_backend_docker::error::EngineError;
use chaosrun_backend_docker::image;
use chaosrun_backend_docker::image::{Image, ImageStep, PROGRAM, Sources};
use chaosrun_scenario::model::ImageSource;

use crate::require;

/// Project with image directories. The images that are built from them are removed when this value is dropped.
struct Project {
    dir: tempfile::TempDir,
    program: PathBuf,
    built: Mutex<Vec<String>>,
}

impl Project {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("scenarios")).unwrap();
        Self { dir, program: env!("CARGO_BIN_EXE_chaosrun").into(), built: Mutex::default() }
    }

    fn image(&self, name: &str, dockerfile: &str) {
        let folder = self.dir.path().join("images").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
    }

    /// Prepares an image. Returns the image and the progress messages.
    async fn prepare(&self, engine: &Engine, name: &str) -> Result<(Image, Vec<String>), EngineError> {
        let source = ImageSource::Build { folder: format!("images/{name}"), packages: Vec::new() };
        let beside = self.dir.path().join("scenarios/x.yaml");
        let told = Mutex::new(Vec::new());
        let tell = |progress: image::ImageProgress| {
            let word = if matches!(progress.step, ImageStep::Done(_)) { "done" } else { "begun" };
            told.lock().unwrap().push(format!("{word} {}", progress.image));
        };
        let sources = [(source.clone(), Sources { beside: &beside, program: &self.program })];
        let mut images = image::prepare(engine, &sources, &tell).await?;
        let image = images.swap_remove(&source).unwrap();
        self.built.lock().unwrap().push(image.reference.clone());
        Ok((image, told.into_inner().unwrap()))
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        for reference in self.built.lock().unwrap().iter() {
            let _ = docker(&["rmi", reference]);
        }
    }
}

/// Runs the `docker` command. Returns its exit code and its output.
fn docker(args: &[&str]) -> (i32, String) {
    let output = Command::new("docker").args(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).trim().to_owned())
}

#[tokio::test]
async fn program_runs_in_an_image_under_a_neutral_name() {
    let Some(engine) = require::engine().await.filter(|_| require::program("docker").is_some()) else { return };
    let project = Project::new();
    let server = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("images/server/Dockerfile")).unwrap();
    project.image("itserver", &server);
    let (image, told) = project.prepare(&engine, "itserver").await.unwrap();
    assert!(image.reference.starts_with("chaosrun/itserver:"), "{image:?}");
    assert_eq!(told, ["begun images/itserver", "done images/itserver"]);

    let (code, text) = docker(&["run", "--rm", "--network", "none", &image.reference, "node", "--help"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("tikv"), "{text}");
    let (code, text) = docker(&["run", "--rm", "--network", "none", "--entrypoint", "ls", &image.reference, PROGRAM, "/tmp"]);
    assert_eq!((code, text.as_str()), (0, format!("{PROGRAM}\n\n/tmp:").as_str()));

    // The image exists: no work, no messages.
    assert_eq!(project.prepare(&engine, "itserver").await.unwrap(), (image.clone(), Vec::new()));

    // Two later versions: the first is removed, the second newest is kept for a run that may still use it.
    project.image("itserver", &format!("{server}ENV version=2\n"));
    let (second, _) = project.prepare(&engine, "itserver").await.unwrap();
    assert_ne!((&second.reference, &second.digest), (&image.reference, &image.digest));
    project.image("itserver", &format!("{server}ENV version=3\n"));
    project.prepare(&engine, "itserver").await.unwrap();
    assert_ne!(docker(&["image", "inspect", &image.reference]).0, 0);
    assert_eq!(docker(&["image", "inspect", &second.reference]).0, 0);
}

#[tokio::test]
async fn invalid_dockerfile_is_reported_with_the_failed_step() {
    let Some(engine) = require::engine().await.filter(|_| require::program("docker").is_some()) else { return };
    let project = Project::new();
    project.image("broken", "FROM debian:bookworm-slim\nRUN echo the reason; false\n");
    let error = project.prepare(&engine, "broken").await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("images/broken/Dockerfile` cannot be built: a command ended with exit code 1"), "{text}");
    assert!(text.contains("\n    Step 2/"), "{text}");
    assert!(text.ends_with("\n    the reason"), "{text}");
    assert!(error.help().is_some());

    project.image("typo", "FROM debian:bookworm-slim\nRUM true\n");
    let error = project.prepare(&engine, "typo").await.unwrap_err().to_string();
    assert!(error.contains("unknown instruction: RUM"), "{error}");

    project.image("nobase", "FROM chaosrun.invalid/nothing:1\n");
    let error = project.prepare(&engine, "nobase").await.unwrap_err();
    assert!(matches!(error, EngineError::Pull { .. }), "{error:?}");
}
