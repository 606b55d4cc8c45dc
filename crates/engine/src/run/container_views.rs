//! Descriptions of nodes that an agent sees through the docker proxy.

use indexmap::IndexMap;

use chaosrun_cluster::{PlacedNode, Topology};
use chaosrun_docker_proxy::ContainerView;
use chaosrun_scenario::model::{ImageSource, Scenario};

/// Returns the container views of the nodes, by node name. If the cluster file names an image for a node, the view contains this image. All
/// other nodes have a neutral view, because the name of a locally built image would reveal too much.
pub fn of(scenario: &Scenario, topology: &Topology) -> IndexMap<String, ContainerView> {
    let face = |node: &PlacedNode| {
        let spec = scenario.cluster.nodes.iter().find(|spec| spec.name == node.name)?;
        match &spec.image {
            Some(ImageSource::Pull(image)) => {
                Some((node.name.clone(), ContainerView { image: image.clone(), ..ContainerView::neutral(node) }))
            }
            Some(ImageSource::Build { .. }) | None => None,
        }
    };
    topology.nodes.iter().filter_map(face).collect()
}
