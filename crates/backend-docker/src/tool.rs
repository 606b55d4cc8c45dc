//! Tool container: the program of chaosrun running in the container of a node. The resource limits of the container apply to the program
//! from its first instruction on.
//!
//! If the node itself runs the program of chaosrun, the file exists in the container. Otherwise the program is copied into the container
//! with all its libraries. The program removes the copied files before it begins its work.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters::UploadToContainerOptionsBuilder;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::OnceCell;

use super::error::words;
use super::image;
use super::node::ContainerNode;
use chaosrun_base::task;
use chaosrun_cluster::ClusterError;
use chaosrun_node::burner::{BurnerReply, BurnerRequest};

/// Time limit for an answer or for the end of the program, in case the container gives it no CPU time.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct ToolContainer {
    program: PathBuf,
    archive: OnceCell<Bytes>,
    /// Locks by node name. A lock is held from the copy of the program until the files are removed, since two concurrent copies would
    /// interfere.
    bringing: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// Running burner, the program that loads CPU and memory of a node. When the burner is dropped, its stdin ends, and the program exits.
pub(super) struct Burner {
    /// Id of the command in the engine.
    pub id: String,
    output: std::pin::Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>,
    input: std::pin::Pin<Box<dyn AsyncWrite + Send>>,
    heard: Vec<u8>,
}

impl ToolContainer {
    pub fn new(program: PathBuf) -> Self {
        Self { program, archive: OnceCell::new(), bringing: Mutex::default() }
    }

    /// Starts a burner in a running node.
    pub async fn start(&self, node: &ContainerNode) -> Result<Burner, ClusterError> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        if let Some(server) = &node.plan.server {
            let command = [words(&[&server.to_string_lossy()]), words(&["node", "work"])].concat();
            return execute(node, command, None, Vec::new()).await;
        }
        let turn = Arc::clone(self.bringing.lock().unwrap_or_else(PoisonError::into_inner).entry(node.plan.name.clone()).or_default());
        let _alone = turn.lock().await;
        let archive = self.archive(node).await?;
        let options = UploadToContainerOptionsBuilder::new().path("/").build();
        let sent = node.shared.engine.api().upload_to_container(&node.container, Some(options), bollard::body_full(archive)).await;
        sent.map_err(|error| refused(node, &error))?;
        let command = words(&[&format!("{}/upkeep", image::FOLDER), "node", "work"]);
        let env = vec![format!("LD_LIBRARY_PATH={}", image::FOLDER)];
        // Root may remove the copied files. The program then changes to the user of the node.
        let mut burner = execute(node, command, Some("0".into()), env).await?;
        match burner.ask(&BurnerRequest::Settle(image::FOLDER.into())).await {
            Some(BurnerReply::Done) => Ok(burner),
            _ => Err(node.conflict("has ended a process that chaosrun started in it")),
        }
    }

    async fn archive(&self, node: &ContainerNode) -> Result<Bytes, ClusterError> {
        let made = self.archive.get_or_try_init(|| async {
            let (program, arch) = (self.program.clone(), node.shared.engine.facts().arch.clone());
            let packed = task::spawn_blocking(move || image::carried(&program, &arch)).await;
            packed.map_err(|error| ClusterError::Engine(error.to_string()))?.map(Bytes::from).map_err(ClusterError::from)
        });
        made.await.cloned()
    }
}

async fn execute(node: &ContainerNode, command: Vec<String>, user: Option<String>, env: Vec<String>) -> Result<Burner, ClusterError> {
    let options = CreateExecOptions {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        env: Some(env),
        cmd: Some(command),
        user,
        working_dir: Some("/".to_owned()),
        ..CreateExecOptions::default()
    };
    let api = node.shared.engine.api();
    let id = api.create_exec(&node.container, options).await.map_err(|error| refused(node, &error))?.id;
    match api.start_exec(&id, None::<StartExecOptions>).await.map_err(|error| refused(node, &error))? {
        StartExecResults::Attached { output, input } => Ok(Burner { id, output, input, heard: Vec::new() }),
        StartExecResults::Detached => Err(ClusterError::Engine("it did not attach to a command".into())),
    }
}

fn refused(node: &ContainerNode, error: &Error) -> ClusterError {
    match error {
        Error::DockerResponseServerError { status_code: 409, message } if message.contains("paused") => node.conflict("is paused"),
        Error::DockerResponseServerError { status_code: 409, .. } => node.conflict("is not running"),
        error => ClusterError::Engine(words(error)),
    }
}

impl std::fmt::Debug for Burner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Burner").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Burner {
    /// Sends a request to the burner. Returns `None` if the program has ended or does not answer.
    pub async fn ask(&mut self, order: &BurnerRequest) -> Option<BurnerReply> {
        let mut line = serde_json::to_vec(order).ok()?;
        line.push(b'\n');
        let answered = async {
            self.input.write_all(&line).await.ok()?;
            self.input.flush().await.ok()?;
            loop {
                if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = self.heard.drain(..=end).collect();
                    return serde_json::from_slice(&line).ok();
                }
                match self.output.next().await?.ok()? {
                    LogOutput::StdOut { message } | LogOutput::Console { message } => self.heard.extend_from_slice(&message),
                    LogOutput::StdErr { .. } | LogOutput::StdIn { .. } => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, answered).await.ok().flatten()
    }

    /// Ends the burner. Returns when its program has ended.
    pub async fn end(mut self) {
        let _ = self.input.shutdown().await;
        let ended = async { while let Some(Ok(_)) = self.output.next().await {} };
        let _ = tokio::time::timeout(PATIENCE, ended).await;
    }
}
