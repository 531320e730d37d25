//! What a handler decided.

use super::Counters;
use super::caller::Progress;
use super::sessions::Online;
use crate::records::deliveries;
use crate::store::Batch;
use qpc_plugin_host::Event;
use qpc_proto::id::{DeviceId, Generation, UserName};
use qpc_proto::message::{NoticeKind, Reply};

/// One decision: everything in it takes effect, or nothing.
#[derive(Default)]
pub(super) struct Change {
    pub(super) reply: Option<Reply>,
    pub(super) batch: Batch,
    /// What the batch writes need not be durable before the answer.
    pub(super) lazy: bool,
    /// Numbers of the devices whose queues grow.
    pub(super) grown: Vec<u32>,
    pub(super) notices: Vec<(DeviceId, NoticeKind)>,
    /// Devices that are no more.
    pub(super) gone: Vec<DeviceId>,
    /// The connection becomes the session of this device.
    pub(super) opened: Option<Opened>,
    /// The numbered request that this is the remembered answer to.
    pub(super) answered: Option<(DeviceId, u64)>,
    /// What the connection is from now on.
    pub(super) progress: Option<Progress>,
    pub(super) generation: Option<Generation>,
    pub(super) credit: u32,
    pub(super) close: bool,
    /// What plugins are told once the change has been made.
    pub(super) events: Vec<Event>,
    /// What to count once the change has been made.
    pub(super) count: Option<fn(&mut Counters)>,
}

/// A session to be opened.
pub(super) struct Opened {
    pub(super) device: DeviceId,
    pub(super) user: UserName,
    pub(super) online: Online,
}

impl Change {
    /// An answer that changes nothing.
    pub(super) fn reply(reply: impl Into<Reply>) -> Self {
        Self { reply: Some(reply.into()), ..Self::default() }
    }

    /// Appends one encoded entry to the deliveries of several devices, each named once.
    pub(super) fn deliver(&mut self, numbers: &[u32], entry: Vec<u8>) {
        if !numbers.is_empty() {
            self.batch.push(numbers.iter().map(|&number| deliveries(number)).collect(), entry);
            self.grown.extend_from_slice(numbers);
        }
    }
}
