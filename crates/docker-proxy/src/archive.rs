//! Endpoint for `docker cp` of single files in the directory of a node, where its configuration is. No other file of a node is accessible.

use std::io::Read;
use std::path::{Component, Path, PathBuf};

use axum::http::{HeaderName, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::audit::Audit;
use super::container::Container;
use super::describe::query;
use super::engine::{ProxyState, empty};
use super::problem::EngineProblem;

/// Response header with the properties of a file, as JSON in base64.
const STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");
/// Mode bit of a directory in Go's `os.FileMode` (`os.ModeDir`).
const DIRECTORY: u32 = 1 << 31;
/// Largest size of a file that is copied into a node, in bytes.
const LARGEST: u64 = 1 << 20;

#[derive(Debug, Deserialize)]
struct Asked {
    path: String,
}

enum Found {
    Directory,
    File(Vec<u8>),
}

/// Handles a request about a file in a node. Depending on the HTTP method, returns its properties, reads it or writes it.
pub(super) async fn serve(
    engine: &ProxyState,
    container: &Container,
    method: &Method,
    text: &str,
    body: &[u8],
    audit: &mut Audit,
) -> Result<Response, EngineProblem> {
    let asked: Asked = query(text)?;
    let path = plain(&asked.path);
    audit.detail(format!("{} {}", if method == Method::PUT { "to" } else { "from" }, path.display()));
    if method == Method::PUT {
        return put(engine, container, &path, body).await;
    }
    let found = look(engine, container, &path).await?;
    let name = path.file_name().map_or_else(|| "/".into(), |name| name.to_string_lossy().into_owned());
    let (size, mode) = match &found {
        Found::Directory => (4096, DIRECTORY | 0o755),
        Found::File(content) => (content.len(), 0o644),
    };
    let stat = json!({ "name": name, "size": size, "mode": mode, "mtime": "1970-01-01T00:00:00Z", "linkTarget": "" });
    let stat = [(STAT, BASE64_STANDARD.encode(stat.to_string()))];
    match found {
        _ if method == Method::HEAD => Ok((StatusCode::OK, stat).into_response()),
        Found::Directory => Err(EngineProblem::bad_request("only single files can be copied on this engine")),
        Found::File(content) => {
            let archive = packed(&name, &content).map_err(|error| EngineProblem::internal(error.to_string()))?;
            Ok((StatusCode::OK, stat, [(header::CONTENT_TYPE, "application/x-tar")], archive).into_response())
        }
    }
}

/// Removes `.` components and trailing slashes from a path. Leaves `..` unchanged, so a path with `..` is never found.
fn plain(path: &str) -> PathBuf {
    Path::new("/").join(path).components().filter(|part| !matches!(part, Component::CurDir)).collect()
}

/// Returns the part of `path` below the directory of the node; `None` for a path outside the directory.
fn inside<'a>(container: &Container, path: &'a Path) -> Option<&'a str> {
    let rest = path.strip_prefix(&container.node.dir).ok()?;
    rest.components().all(|part| matches!(part, Component::Normal(_))).then(|| rest.to_str()).flatten()
}

fn missing(container: &Container, path: &Path) -> EngineProblem {
    let message = format!("Could not find the file {} in container {}", path.display(), container.node.name);
    EngineProblem::new(StatusCode::NOT_FOUND, message)
}

async fn look(engine: &ProxyState, container: &Container, path: &Path) -> Result<Found, EngineProblem> {
    if container.node.dir.starts_with(path) {
        return Ok(Found::Directory);
    }
    let name = inside(container, path).ok_or_else(|| missing(container, path))?;
    match engine.cluster.read_file(&container.node.name, name).await {
        Ok(content) => Ok(Found::File(content)),
        // All paths except those of readable files are reported as missing.
        Err(_) => Err(missing(container, path)),
    }
}

async fn put(engine: &ProxyState, container: &Container, to: &Path, body: &[u8]) -> Result<Response, EngineProblem> {
    let bad = |error: std::io::Error| EngineProblem::bad_request(format!("the archive cannot be read: {error}"));
    let mut archive = tar::Archive::new(body);
    let mut files = Vec::new();
    for entry in archive.entries().map_err(bad)? {
        let mut entry = entry.map_err(bad)?;
        match entry.header().entry_type() {
            tar::EntryType::Regular => (),
            tar::EntryType::Directory => continue,
            _ => return Err(EngineProblem::bad_request("only plain files can be copied on this engine")),
        }
        if entry.size() > LARGEST {
            return Err(EngineProblem::bad_request("files of more than 1 MiB cannot be copied on this engine"));
        }
        let path = to.join(entry.path().map_err(bad)?);
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(bad)?;
        files.push((path, content));
    }
    for (path, content) in files {
        let name = inside(container, &path).filter(|name| !name.is_empty()).ok_or_else(|| missing(container, &path))?;
        let written = engine.cluster.write_file(&container.node.name, name, &content).await;
        written.map_err(|error| engine.failed(&error, &container.id, &format!("Cannot copy to {}", container.node.name)))?;
    }
    Ok(empty(StatusCode::OK))
}

fn packed(name: &str, content: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut head = tar::Header::new_gnu();
    head.set_mode(0o644);
    head.set_size(content.len() as u64);
    archive.append_data(&mut head, name, content)?;
    archive.into_inner()
}
