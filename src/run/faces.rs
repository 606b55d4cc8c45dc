//! How nodes look to an agent that asks the mediated engine.

use indexmap::IndexMap;

use crate::cluster::mediator::Face;
use crate::cluster::{Placed, Topology};
use crate::scenario::model::{Backend, ImageSource, Scenario};

/// In containers a node shows the image that its file names. An image that is built here would tell too much: such a
/// node keeps the neutral face, as all do on `local`.
pub fn of(scenario: &Scenario, topology: &Topology) -> IndexMap<String, Face> {
    if scenario.backend != Backend::Docker {
        return IndexMap::new();
    }
    let face = |node: &Placed| {
        let spec = scenario.cluster.nodes.iter().find(|spec| spec.name == node.name)?;
        match &spec.image {
            Some(ImageSource::Pull(image)) => Some((node.name.clone(), Face { image: image.clone(), ..Face::neutral(node) })),
            Some(ImageSource::Build { .. }) | None => None,
        }
    };
    topology.nodes.iter().filter_map(face).collect()
}
