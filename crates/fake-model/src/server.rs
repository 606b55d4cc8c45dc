//! State of the fake model server that all requests share.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use super::conversation::Conversations;
use super::limits::FakeLimits;
use super::record::RequestRecord;
use super::turn::Script;

pub(crate) struct FakeServer {
    pub script: Script,
    pub conversations: Mutex<Conversations>,
    pub limits: FakeLimits,
    pub record: RequestRecord,
    pub requests: AtomicU64,
}
