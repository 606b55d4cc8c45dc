//! Programs that run inside or beside a node: network sidecar, disk layer, shell host, clock library, CPU burner, docker command line.

pub mod burner;
pub mod clock;
pub mod disk;
pub mod docker_cli;
pub mod netns_sidecar;
pub mod shell_host;
