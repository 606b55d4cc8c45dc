//! Clocks of nodes in containers. The network sidecar writes the clock library and the clock page into memory that it shares with the node.

use std::io::Read;
use std::path::{Component, Path, PathBuf};

use bollard::query_parameters::{DownloadFromContainerOptionsBuilder, InspectContainerOptions};
use futures_util::StreamExt;

use super::clock_volume::FOLDER;
use super::node::ContainerNode;
use super::sidecar::{ClockReply, ClockRequest, Holder};
use chaosrun_cluster::ClusterError;
use chaosrun_cluster::fault_control::{ClockReading, NodeClock};
use chaosrun_node::clock;
use chaosrun_node::clock::{ClockReaders, look, program};

/// Maximum number of symbolic links that are followed to find a program.
const LINKS: usize = 10;

impl ContainerNode {
    /// Returns the name of the volume that contains the clock page and the clock library.
    pub fn clock_volume(&self) -> String {
        format!("{}-tz", self.container)
    }

    /// Installs the clock library and the clock page, before the node starts.
    pub async fn make_clock(&self, sidecar: &Holder) -> Result<(), ClusterError> {
        if self.plan.clock {
            sidecar.clock(ClockRequest::Make { folder: FOLDER.into() }).await?;
        }
        Ok(())
    }

    pub async fn set_clock(&self, clock: Option<NodeClock>) -> Result<(), ClusterError> {
        self.clock_sidecar()?.clock(ClockRequest::Set(clock)).await.map(drop)
    }

    /// Reads the clock with a command in the node. If the command is missing or the node does not run, returns the last value that programs
    /// of the node have recorded.
    pub async fn clock(&self) -> Result<ClockReading, ClusterError> {
        let before = self.clock_seen().await?;
        let begin = clock::ours();
        let running = self.inside().run(look::exec(), &self.plan.dir).await;
        let reading = match running {
            Ok(running) => look::reading(begin, running, before.reads, async || self.clock_seen().await.ok()).await,
            Err(error) => Err(error.to_string()),
        };
        reading.or_else(|why| match before.offset_ns {
            Some(offset) => Ok(ClockReading { offset_us: offset / 1000, reads: before.reads }),
            None => Err(self.conflict(&format!("cannot be asked for the time: {why}"))),
        })
    }

    async fn clock_seen(&self) -> Result<ClockReaders, ClusterError> {
        match self.clock_sidecar()?.clock(ClockRequest::Seen).await? {
            ClockReply::Seen(seen) => Ok(seen),
            ClockReply::Done => Ok(ClockReaders { reads: 0, offset_ns: None }),
        }
    }

    fn clock_sidecar(&self) -> Result<&Holder, ClusterError> {
        if !self.plan.clock {
            return Err(self.conflict("was started without a clock of its own"));
        }
        self.sidecar.get().ok_or_else(|| self.conflict("has no network sidecar yet"))
    }

    /// Inspects the program in the created container. Returns an error if the program would ignore a change of the clock.
    pub async fn check_clock(&self) -> Result<(), ClusterError> {
        if !self.plan.clock {
            return Ok(());
        }
        let api = self.shared.engine.api();
        let found = api.inspect_container(&self.container, None::<InspectContainerOptions>).await.map_err(|error| self.failed(&error))?;
        let program = found.path.unwrap_or_default();
        let env = found.config.and_then(|config| config.env).unwrap_or_default();
        let path = env
            .iter()
            .find_map(|entry| entry.strip_prefix("PATH="))
            .unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        for place in places(&program, path) {
            let Some(head) = self.head(place).await else { continue };
            return match program::refusal(&head) {
                None => Ok(()),
                Some(why) => {
                    let problem = format!("the clock of `{program}` cannot be changed: {why}");
                    Err(ClusterError::Start { node: self.plan.name.clone(), problem })
                }
            };
        }
        // The engine reports a missing program when the container starts.
        Ok(())
    }

    /// Returns the first bytes of a file in the container. Symbolic links are followed.
    async fn head(&self, mut path: PathBuf) -> Option<Vec<u8>> {
        for _ in 0..LINKS {
            let options = DownloadFromContainerOptionsBuilder::new().path(&path.to_string_lossy()).build();
            let mut pieces = self.shared.engine.api().download_from_container(&self.container, Some(options));
            let mut archive = Vec::new();
            // Programs may be large, so only the beginning of the archive is read.
            while archive.len() < program::HEAD + 4096
                && let Some(piece) = pieces.next().await
            {
                archive.extend_from_slice(&piece.ok()?);
            }
            let mut archive = tar::Archive::new(archive.as_slice());
            let entry = archive.entries().ok()?.next()?.ok()?;
            if let Some(link) = entry.link_name().ok()?.filter(|_| entry.header().entry_type().is_symlink()) {
                path = followed(&path, &link);
                continue;
            }
            let mut head = Vec::new();
            // The archive entry is truncated unless the program is small, so an early end is not an error.
            let _ = entry.take(program::HEAD as u64).read_to_end(&mut head);
            return Some(head);
        }
        None
    }
}

fn places(program: &str, path: &str) -> Vec<PathBuf> {
    if program.contains('/') {
        return vec![PathBuf::from(program)];
    }
    path.split(':').filter(|folder| folder.starts_with('/')).map(|folder| Path::new(folder).join(program)).collect()
}

/// Returns the target path of the symbolic link `link` at `path`, without `..` components.
fn followed(path: &Path, link: &Path) -> PathBuf {
    let mut to = PathBuf::new();
    for part in path.parent().unwrap_or(Path::new("/")).join(link).components() {
        match part {
            Component::ParentDir => drop(to.pop()),
            Component::CurDir => {}
            part => to.push(part),
        }
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_like_an_engine_finds_them() {
        let path = |text: &str| PathBuf::from(text);
        assert_eq!(places("redis-server", "/usr/bin:relative:/bin"), [path("/usr/bin/redis-server"), path("/bin/redis-server")]);
        assert_eq!(places("/pd-server", "/bin"), [path("/pd-server")]);
        assert_eq!(followed(Path::new("/usr/bin/a"), Path::new("../lib/./b")), path("/usr/lib/b"));
        assert_eq!(followed(Path::new("/usr/bin/a"), Path::new("/etc/b")), path("/etc/b"));
    }
}
