//! `disk_error`: a share of the operations on the node's data fails.

use super::{LAYER, SHARED};
use crate::chaos::catalogue::{Kind, Repair};

pub(in crate::chaos) const KIND: Kind =
    Kind { name: "disk_error", local: LAYER, docker: SHARED, refused: "", repair: Repair::Nobody, class: "disk_error", holds: None };
