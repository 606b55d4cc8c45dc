//! Delays and losses of what comes into the namespace, where the kernel has no way of its own: packets wait in its queue
//! until a thread of ours lets go of them.
//!
//! Which packets come here, and of which path they are, the kernel decides by their marks ([`super::links`]). Without us it
//! lets all of them through: when nobody reads the queue, when it is full, when a lease is over.

mod fate;
mod netlink;
mod packet;
mod thread;

pub(super) use netlink::NUMBER;
pub(super) use thread::{Delayer, Shaped};
