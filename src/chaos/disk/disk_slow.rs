//! `disk_slow`: reads, writes and syncs of the node's data take longer.

use super::{LAYER, SHARED};
use crate::chaos::catalogue::{Kind, Repair};

pub(in crate::chaos) const KIND: Kind =
    Kind { name: "disk_slow", local: LAYER, docker: SHARED, refused: "", repair: Repair::Nobody, class: "disk_slow", holds: None };
