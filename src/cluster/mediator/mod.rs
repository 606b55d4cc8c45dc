//! The mediated engine: the part of the Docker Engine API that an agent may use, over the `Cluster` trait.
