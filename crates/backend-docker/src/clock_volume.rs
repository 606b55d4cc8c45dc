//! Volume for the clock of a node: memory that the node shares with its network sidecar.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::VolumeCreateRequest;

use chaosrun_node::clock;

/// Mount point, in both containers, of the memory that a node shares with its network sidecar.
pub(super) const FOLDER: &str = "/run/tz";

/// Size of the memory that a node shares with its network sidecar, in bytes.
const SIZE: u32 = 256 << 10;

/// Returns the additional environment variables of a node with a changeable clock. `before` is the preload variable (`LD_PRELOAD`) that the
/// node already has.
pub(super) fn environment(before: Option<&str>) -> [(&'static str, String); 2] {
    let folder = Path::new(FOLDER);
    clock::environment(folder, &clock::page_in(folder), before)
}

/// Returns the request to create the volume with the shared memory.
pub(super) fn volume(name: &str, labels: &HashMap<String, String>) -> VolumeCreateRequest {
    let options = [("type", "tmpfs".to_owned()), ("device", "tmpfs".to_owned()), ("o", format!("size={SIZE},mode=0755"))];
    VolumeCreateRequest {
        name: Some(name.into()),
        driver_opts: Some(options.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()),
        labels: Some(labels.clone()),
        ..VolumeCreateRequest::default()
    }
}
