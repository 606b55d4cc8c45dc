//! Files of nodes, read and written through the engine. The engine can access the files of nodes that do not run.

use std::io::{self, Read};
use std::path::{Component, Path};

use bollard::query_parameters::{DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder};
use futures_util::{StreamExt, TryStreamExt};

use super::error::words;
use super::node::ContainerNode;
use chaosrun_cluster::ClusterError;

/// File of a node with its mode and owner, as stored in a tar archive.
struct Found {
    content: Vec<u8>,
    mode: u32,
    owner: (u64, u64),
}

/// Creates an empty file that every user of the node may read.
impl Default for Found {
    fn default() -> Self {
        Self { content: Vec::new(), mode: 0o644, owner: (0, 0) }
    }
}

impl ContainerNode {
    /// Reads the file `name`, a path relative to the directory of the node.
    pub async fn read_file(&self, name: &str) -> Result<Vec<u8>, ClusterError> {
        let found = self.find(name).await?;
        found.map(|found| found.content).ok_or_else(|| self.no_file(name, io::ErrorKind::NotFound.into()))
    }

    /// Replaces the content of a file. The file keeps its owner and mode.
    pub async fn write_file(&self, name: &str, content: &[u8]) -> Result<(), ClusterError> {
        let before = self.find(name).await?.unwrap_or_default();
        let archive = packed(name, &before, content).map_err(|error| self.no_file(name, error))?;
        let options = UploadToContainerOptionsBuilder::new().path(&self.plan.dir.to_string_lossy()).build();
        let body = bollard::body_full(archive.into());
        let sent = self.shared.engine.api().upload_to_container(&self.container, Some(options), body).await;
        sent.map_err(|error| self.no_file(name, io::Error::other(words(&error))))
    }

    async fn find(&self, name: &str) -> Result<Option<Found>, ClusterError> {
        if !is_below(name) {
            return Err(self.no_file(name, io::Error::new(io::ErrorKind::InvalidInput, "it is not below the node's directory")));
        }
        let path = self.plan.dir.join(name);
        let options = DownloadFromContainerOptionsBuilder::new().path(&path.to_string_lossy()).build();
        let pieces = self.shared.engine.api().download_from_container(&self.container, Some(options));
        match pieces.map(|piece| piece.map(Vec::from)).try_concat().await {
            Ok(archive) => unpacked(&archive).map(Some).map_err(|error| self.no_file(name, error)),
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(self.no_file(name, io::Error::other(words(&error)))),
        }
    }

    fn no_file(&self, name: &str, source: io::Error) -> ClusterError {
        ClusterError::Io { what: format!("`{name}` of node `{}`", self.plan.name), source }
    }
}

fn is_below(name: &str) -> bool {
    let mut parts = Path::new(name).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

fn unpacked(archive: &[u8]) -> io::Result<Found> {
    let mut archive = tar::Archive::new(archive);
    let mut entry = archive.entries()?.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    if !entry.header().entry_type().is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    let mut found = Found { mode: entry.header().mode()?, owner: (entry.header().uid()?, entry.header().gid()?), ..Found::default() };
    entry.read_to_end(&mut found.content)?;
    Ok(found)
}

/// Packs a file as a tar archive, with the mode and owner of the file `as_before`. The engine creates missing folders.
fn packed(name: &str, as_before: &Found, content: &[u8]) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(as_before.mode);
    header.set_uid(as_before.owner.0);
    header.set_gid(as_before.owner.1);
    header.set_mtime(u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default());
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, name, content)?;
    archive.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_cannot_leave_the_directory() {
        for name in ["a", "a/b.toml", "data/x"] {
            assert!(is_below(name), "{name}");
        }
        for name in ["", ".", "..", "/etc/passwd", "a/../../b", "a/.."] {
            assert!(!is_below(name), "{name}");
        }
    }

    #[test]
    fn packed_file_round_trips() {
        let before = Found { mode: 0o600, owner: (1000, 70_000), content: Vec::new() };
        let found = unpacked(&packed("a/b", &before, b"text").unwrap()).unwrap();
        assert_eq!((found.content.as_slice(), found.mode, found.owner), (&b"text"[..], 0o600, (1000, 70_000)));
        assert!(unpacked(&[0; 1024]).is_err());
    }
}
