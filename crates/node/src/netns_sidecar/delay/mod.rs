//! Delays and losses of packets that enter the namespace, for effects that the kernel does not offer. Packets wait in a queue of the kernel
//! until a thread of this program releases them.
//!
//! The kernel selects these packets and their paths by marks ([`super::links`]). The kernel lets all packets through if no process reads
//! the queue, if the queue is full, or after a lease has ended.

mod netlink;
mod packet;
mod packet_action;
mod thread;

pub(super) use netlink::NUMBER;
pub(super) use thread::{Delayer, Shaped};
