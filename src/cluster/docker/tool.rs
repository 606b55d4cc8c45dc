//! Our own program at work in a node's container, in its limits from its first instruction on.
//!
//! Where the node itself is this program it is there already. Into any other container it is brought with all that it needs,
//! and its files are gone again before it begins.

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
use super::node::Node;
use crate::burner::{Order, Reply};
use crate::cluster::ClusterError;

/// Only there to end what would never: a container that has no time at all for it.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Tool {
    program: PathBuf,
    archive: OnceCell<Bytes>,
    /// By node, held from bringing it until its files are gone: two at once would be in each other's way.
    bringing: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// A started one. When it is dropped its stdin ends, and so does it.
pub(super) struct Burner {
    /// Of the command, for the engine.
    pub id: String,
    output: std::pin::Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>,
    input: std::pin::Pin<Box<dyn AsyncWrite + Send>>,
    heard: Vec<u8>,
}

impl Tool {
    pub fn new(program: PathBuf) -> Self {
        Self { program, archive: OnceCell::new(), bringing: Mutex::default() }
    }

    /// Starts it in a node that runs.
    pub async fn start(&self, node: &Node) -> Result<Burner, ClusterError> {
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
        // Root may remove its own files; then it becomes whom the node runs as.
        let mut burner = execute(node, command, Some("0".into()), env).await?;
        match burner.ask(&Order::Settle(image::FOLDER.into())).await {
            Some(Reply::Done) => Ok(burner),
            _ => Err(node.conflict("has ended what was to work in it")),
        }
    }

    async fn archive(&self, node: &Node) -> Result<Bytes, ClusterError> {
        let made = self.archive.get_or_try_init(|| async {
            let (program, arch) = (self.program.clone(), node.shared.engine.facts().arch.clone());
            let packed = tokio::task::spawn_blocking(move || image::carried(&program, &arch)).await;
            packed.map_err(|error| ClusterError::Engine(error.to_string()))?.map(Bytes::from).map_err(ClusterError::from)
        });
        made.await.cloned()
    }
}

async fn execute(node: &Node, command: Vec<String>, user: Option<String>, env: Vec<String>) -> Result<Burner, ClusterError> {
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

fn refused(node: &Node, error: &Error) -> ClusterError {
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
    /// None when it has ended, or does not answer.
    pub async fn ask(&mut self, order: &Order) -> Option<Reply> {
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

    /// Ends it. Returns when it has.
    pub async fn end(mut self) {
        let _ = self.input.shutdown().await;
        let ended = async { while let Some(Ok(_)) = self.output.next().await {} };
        let _ = tokio::time::timeout(PATIENCE, ended).await;
    }
}
