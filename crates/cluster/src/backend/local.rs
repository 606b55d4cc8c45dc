use super::Description;

/// Description of the backend `local`, whose nodes are processes of this machine on loopback addresses.
pub static LOCAL: Description = Description {
    name: "local",
    about: "Processes on this machine",
    images: false,
    contains_agents: false,
    standins: true,
    own_disks: false,
    memory_limits: false,
    node_memory: 64 << 20,
    ways: &[],
};
