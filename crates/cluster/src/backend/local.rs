use super::Description;

/// Backend of processes of this machine, on loopback.
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
