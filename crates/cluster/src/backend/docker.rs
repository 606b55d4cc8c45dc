use super::Description;

/// Description of the backend `docker`, whose nodes are containers in a Docker Engine.
pub static DOCKER: Description = Description {
    name: "docker",
    about: "Docker containers",
    images: true,
    contains_agents: true,
    standins: false,
    own_disks: true,
    memory_limits: true,
    node_memory: 512 << 20,
    ways: &[],
};
