//! Changes of the definition of a node: arguments and environment that differ from the cluster file. An engine cannot change an existing
//! container. Therefore such a node gets a new container at its next start, with the same name, network, volume and files.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use bollard::models::{ChangeType, ContainerCreateBody, FilesystemChange};
use bollard::query_parameters::{
    DownloadFromContainerOptionsBuilder, RemoveContainerOptionsBuilder, RenameContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use futures_util::TryStreamExt;
use indexmap::IndexMap;

use super::ContainerNode;
use crate::plan::named;
use chaosrun_cluster::ClusterError;
use chaosrun_cluster::fault_control::Redefinition;

#[derive(Debug, Default)]
pub(super) struct DockerDefinition {
    wanted: Redefinition,
    /// Definition with which the current container was created.
    made: Redefinition,
}

impl ContainerNode {
    pub fn redefine(&self, definition: Option<&Redefinition>) {
        self.definition.lock().unwrap_or_else(PoisonError::into_inner).wanted = definition.cloned().unwrap_or_default();
    }

    fn wanted(&self) -> Redefinition {
        self.definition.lock().unwrap_or_else(PoisonError::into_inner).wanted.clone()
    }

    /// Returns the arguments and the environment variables of the node, without those of the image.
    pub fn definition(&self) -> (Vec<String>, IndexMap<String, String>) {
        let wanted = self.wanted();
        let args = wanted.args.or_else(|| self.plan.args.clone()).unwrap_or_default();
        let mut env: IndexMap<String, String> =
            self.plan.env.iter().filter_map(|entry| entry.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect();
        for (name, value) in wanted.env {
            match value {
                Some(value) => drop(env.insert(name, value)),
                None => drop(env.shift_remove(&name)),
            }
        }
        (args, env)
    }

    /// Returns the request to create the container with the current definition.
    pub fn body(&self) -> ContainerCreateBody {
        let wanted = self.wanted();
        let mut body = self.plan.workload(&self.net(), &self.container, &self.shared.labels);
        // A name without a value removes the variable of the image.
        let without = wanted.env.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name.clone());
        let (_, env) = self.definition();
        body.env = Some(env.iter().map(|(name, value)| format!("{name}={value}")).chain(without).collect());
        if let Some(args) = wanted.args {
            body.cmd = Some(args);
        }
        body
    }

    /// Creates the container again if its definition has changed. The container must not be running.
    pub async fn make_as_defined(&self) -> Result<(), ClusterError> {
        let wanted = {
            let definition = self.definition.lock().unwrap_or_else(PoisonError::into_inner);
            if definition.wanted == definition.made {
                return Ok(());
            }
            definition.wanted.clone()
        };
        let next = format!("{}-next", self.container);
        // This container exists if an earlier attempt was interrupted.
        self.remove(&next).await?;
        let made = async {
            let api = self.shared.engine.api();
            api.create_container(Some(named(&next)), self.body()).await.map_err(|error| self.failed(&error))?;
            self.furnish(&next, false).await?;
            self.carry_over(&next).await
        };
        if let Err(error) = made.await {
            // A container that cannot be removed here is removed at the end of the trial at the latest.
            let _ = self.remove(&next).await;
            return Err(error);
        }
        self.remove(&self.container).await?;
        let options = RenameContainerOptionsBuilder::new().name(&self.container).build();
        self.shared.engine.api().rename_container(&next, options).await.map_err(|error| self.failed(&error))?;
        self.definition.lock().unwrap_or_else(PoisonError::into_inner).made = wanted;
        Ok(())
    }

    /// Removes a container but keeps its volume.
    async fn remove(&self, container: &str) -> Result<(), ClusterError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(false).build();
        match self.shared.engine.api().remove_container(container, Some(options)).await {
            Ok(()) | Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Copies files of the directory of the node that were added or changed since its container was created. Deleted files of the cluster
    /// file remain deleted.
    async fn carry_over(&self, next: &str) -> Result<(), ClusterError> {
        let api = self.shared.engine.api();
        let changes = api.container_changes(&self.container).await.map_err(|error| self.failed(&error))?;
        for path in roots(&changes.unwrap_or_default(), &self.plan.dir, &self.plan.data) {
            let from = DownloadFromContainerOptionsBuilder::new().path(&path.to_string_lossy()).build();
            let pieces = api.download_from_container(&self.container, Some(from)).map_err(std::io::Error::other);
            let into = path.parent().unwrap_or(&self.plan.dir);
            let to = UploadToContainerOptionsBuilder::new().path(&into.to_string_lossy()).build();
            let pieces: Vec<_> = pieces
                .try_collect()
                .await
                .map_err(|source| ClusterError::Io { what: format!("cannot take `{}` over", path.display()), source })?;
            let body = bollard::body_stream(futures_util::stream::iter(pieces));
            api.upload_to_container(next, Some(to), body).await.map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }
}

/// Returns the topmost changed paths below `dir`, except paths that contain `data`. `data` is a volume, and the engine does not report
/// changes in volumes.
fn roots(changes: &[FilesystemChange], dir: &Path, data: &Path) -> Vec<PathBuf> {
    let above: Vec<&Path> = data.ancestors().skip(1).filter(|path| path.starts_with(dir)).collect();
    let is_above = |path: &Path| path == dir || above.contains(&path);
    let there = changes.iter().filter(|change| change.kind != ChangeType::_2).map(|change| Path::new(&change.path));
    let wanted = there.filter(|path| path.parent().is_some_and(is_above) && !is_above(path) && !path.starts_with(data));
    wanted.map(Path::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_of_a_volume_are_not_copied() {
        let change = |(path, kind): (&str, ChangeType)| FilesystemChange { path: path.into(), kind };
        let changes: Vec<_> = [
            ("/srv", ChangeType::_1),
            ("/srv/n", ChangeType::_1),
            ("/srv/n/a.toml", ChangeType::_1),
            ("/srv/n/gone.toml", ChangeType::_2),
            ("/srv/n/logs", ChangeType::_1),
            ("/srv/n/logs/1", ChangeType::_1),
            ("/srv/n/var", ChangeType::_1),
            ("/srv/n/var/lock", ChangeType::_0),
            ("/srv/n/var/data", ChangeType::_1),
            ("/srv/n/var/data/x", ChangeType::_1),
            ("/srv/n2/b", ChangeType::_1),
            ("/etc/hosts", ChangeType::_0),
        ]
        .map(change)
        .into();
        let found = |data: &str| roots(&changes, Path::new("/srv/n"), Path::new(data));
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(found("/srv/n/var/data"), paths(&["/srv/n/a.toml", "/srv/n/logs", "/srv/n/var/lock"]));
        assert_eq!(found("/elsewhere"), paths(&["/srv/n/a.toml", "/srv/n/logs", "/srv/n/var"]));
        assert_eq!(found("/srv/n"), paths(&[]));
    }
}
