//! Command `docker cp`: copies a single file into a node or out of a node.

use std::io::Read;
use std::path::Path;

use super::flags::CommandUsage;
use super::http::{EngineClient, encoded};
use super::{CommandFailure, CommandStreams};

const CP: CommandUsage = CommandUsage {
    name: "docker cp",
    line: "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tdocker cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    flags: &[(b'a', "archive", false), (b'L', "follow-link", false), (b'q', "quiet", false)],
    least: 2,
    stop: false,
};

pub(super) fn cp(words: &[String], client: &EngineClient, streams: &mut CommandStreams<'_>) -> Result<u8, CommandFailure> {
    let given = CP.parse(words)?;
    let [from, to] = given.arguments.as_slice() else { return Err(CommandFailure::new(1, "docker: 'docker cp' requires 2 arguments")) };
    // A path that begins with one of these prefixes is always local.
    let there = |text: &str| {
        let (node, path) = text.split_once(':')?;
        (!node.starts_with(['/', '.']) && !node.is_empty()).then(|| (node.to_owned(), path.to_owned()))
    };
    let done = match (there(from), there(to)) {
        (None, Some((node, path))) => put(client, from, &node, &path)?,
        (Some((node, path)), None) => get(client, &node, &path, to)?,
        (Some(_), Some(_)) => return Err(CommandFailure::new(1, "copying between containers is not supported")),
        (None, None) => return Err(CommandFailure::new(1, "must specify at least one container source")),
    };
    if !given.has("quiet") {
        writeln!(streams.stderr, "Successfully copied {done}B to {to}")?;
    }
    Ok(0)
}

fn archive_path(node: &str, path: &str) -> String {
    format!("/containers/{}/archive?path={}", encoded(node), encoded(path))
}

fn put(client: &EngineClient, from: &str, node: &str, path: &str) -> Result<usize, CommandFailure> {
    let said = |error: std::io::Error| CommandFailure::new(1, format!("{from}: {error}"));
    let content = std::fs::read(from).map_err(said)?;
    let own = Path::new(from).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // The file is copied into a directory under its own name, or to the given file name.
    let is_directory = path.ends_with('/') || client.is_directory(&archive_path(node, path));
    let (dir, name) = if is_directory {
        (path.to_owned(), own)
    } else {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("/", path));
        (if dir.is_empty() { "/".into() } else { dir.to_owned() }, name.to_owned())
    };
    let mut archive = tar::Builder::new(Vec::new());
    let mut head = tar::Header::new_gnu();
    head.set_mode(0o644);
    head.set_size(content.len() as u64);
    archive.append_data(&mut head, &name, content.as_slice()).map_err(said)?;
    client.put(&archive_path(node, &dir), &archive.into_inner().map_err(said)?)?;
    Ok(content.len())
}

fn get(client: &EngineClient, node: &str, path: &str, to: &str) -> Result<usize, CommandFailure> {
    let mut answer = client.ask("GET", &archive_path(node, path), None)?;
    let mut bytes = Vec::new();
    answer.body.read_to_end(&mut bytes)?;
    let mut archive = tar::Archive::new(bytes.as_slice());
    let said = |error: std::io::Error| CommandFailure::new(1, format!("{to}: {error}"));
    let Some(entry) = archive.entries().map_err(said)?.next() else { return Err(CommandFailure::new(1, "the archive is empty")) };
    let mut entry = entry.map_err(said)?;
    let mut content = Vec::new();
    entry.read_to_end(&mut content).map_err(said)?;
    let name = Path::new(path).file_name().unwrap_or_default();
    let target = if Path::new(to).is_dir() { Path::new(to).join(name) } else { to.into() };
    std::fs::write(target, &content).map_err(said)?;
    Ok(content.len())
}
