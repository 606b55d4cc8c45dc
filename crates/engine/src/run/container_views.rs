//! Views of nodes for an agent that uses the docker proxy.

use indexmap::IndexMap;

use chaosrun_cluster::{PlacedNode, Topology};
use chaosrun_docker_proxy::ContainerView;
use chaosrun_scenario::model::{ImageSource, Scenario};

/// Returns the views of the nodes by node name. A node whose file names an image shows that image. All other nodes have the neutral view:
/// the name of a locally built image would reveal too much.
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
