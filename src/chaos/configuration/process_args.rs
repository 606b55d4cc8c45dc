//! `process_args`: arguments of the node are other ones.

use super::{DOCKER, LOCAL};
use crate::chaos::catalogue::{Kind, Repair};

pub(in crate::chaos) const KIND: Kind = Kind {
    name: "process_args",
    local: LOCAL,
    docker: DOCKER,
    refused: "",
    repair: Repair::Nobody,
    class: "bad_config",
    holds: Some("definition"),
};
