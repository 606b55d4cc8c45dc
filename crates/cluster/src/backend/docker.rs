use super::Description;

/// Backend of containers in a Docker Engine.
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
