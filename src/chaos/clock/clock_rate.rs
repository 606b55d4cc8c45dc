//! `clock_rate`: the clocks of the node's processes are fast or slow.

use super::PRELOADED;
use crate::chaos::catalogue::{Kind, Repair};

pub(in crate::chaos) const KIND: Kind = Kind {
    name: "clock_rate",
    local: PRELOADED,
    docker: PRELOADED,
    refused: "",
    repair: Repair::Nobody,
    class: "clock_skew",
    holds: Some("speed of the clock"),
};
