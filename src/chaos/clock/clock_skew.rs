//! `clock_skew`: the wall clock of the node's processes is ahead or behind.

use super::PRELOADED;
use crate::chaos::catalogue::{Kind, Repair};

pub(in crate::chaos) const KIND: Kind = Kind {
    name: "clock_skew",
    local: PRELOADED,
    docker: PRELOADED,
    refused: "",
    repair: Repair::Nobody,
    class: "clock_skew",
    holds: Some("wall clock"),
};
