//! `disk_slow`: reads, writes and syncs of the node's data take longer.

use super::{LAYER, NO_LAYER};
use crate::chaos::catalogue::{Kind, Repair};

pub(in crate::chaos) const KIND: Kind =
    Kind { name: "disk_slow", local: LAYER, docker: &[], refused: NO_LAYER, repair: Repair::Nobody, class: "disk_slow", holds: None };
