//! Delays and losses of packets that enter the namespace, for effects that the kernel does not offer: packets wait in the kernel's queue
//! until a thread of this program releases them.
//!
//! The kernel selects these packets and their paths by marks ([`super::links`]). The kernel lets all packets through when no process reads
//! the queue, when the queue is full, and when a lease has ended.

mod netlink;
mod packet;
mod packet_action;
mod thread;

pub(super) use netlink::NUMBER;
pub(super) use thread::{Delayer, Shaped};
