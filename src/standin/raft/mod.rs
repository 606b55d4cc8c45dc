//! The consensus host: many Raft groups in one process over one log on disk.
