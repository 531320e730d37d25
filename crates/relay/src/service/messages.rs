//! Application messages.

use super::caller::Session;
use super::change::Change;
use super::refusal::Refusal;
use super::{Now, Service, list};
use crate::store::Store;
use qpc_proto::id::ConversationId;
use qpc_proto::limits::{MAX_LEAVES, PAST_EPOCHS};
use qpc_proto::message::{Durability, ErrorCode, MessageEntry, SendMessage, Stored, Submitter};
use qpc_proto::wire::List;
use std::rc::Rc;

/// What a message has to know of its group.
pub(super) struct Group {
    id: ConversationId,
    epoch: u64,
    members: List<u32, MAX_LEAVES>,
}

impl<S: Store> Service<S> {
    /// Puts a message into the queues of all devices of the group but the sender's.
    pub(super) fn send_message(
        &mut self,
        now: Now,
        session: &Session,
        request: &SendMessage,
    ) -> Result<Change, Refusal> {
        match &request.submitter {
            Some(Submitter::ThisDevice(_)) => {}
            Some(Submitter::Token(_)) => return Err(ErrorCode::Unsupported.into()),
            None => return Err(Refusal::invalid("nobody submits the message")),
        }
        let group = self.group(&request.conversation)?;
        let Group { epoch, members, .. } = &*group;
        if !members.contains(&session.number) {
            // The same to strangers as if there were no such conversation.
            self.accounts(&request.conversation, &session.user)?;
            return Err(ErrorCode::NotMember.into());
        }
        if request.epoch > *epoch || request.epoch + PAST_EPOCHS < *epoch {
            return Err(Refusal::with_detail(ErrorCode::WrongEpoch, *epoch));
        }
        let entry = MessageEntry { payload: request.payload.clone() };
        let entry = self.entry(now, request.conversation, Some(session.device), entry);
        if self.store.live_bytes() + entry.len() as u64 > self.policy.max_bytes {
            return Err(ErrorCode::StorageFull.into());
        }
        let others = members.iter().copied().filter(|number| *number != session.number);
        let (room, full): (Vec<u32>, Vec<u32>) =
            others.partition(|number| self.has_room(*number, entry.len()));
        if room.is_empty() && !full.is_empty() {
            self.counters.queue_full += full.len() as u64;
            return Err(ErrorCode::QueueFull.into());
        }
        self.counters.queue_full += full.len() as u64;
        let mut refused = Vec::with_capacity(full.len());
        for number in &full {
            refused.extend(self.device_of(*number)?);
        }
        let event = self.ask_hooks(session, request.conversation, request.payload.len(), &room)?;
        let mut change = Change::reply(Stored {
            durability: Durability::Durable,
            time: now.wall.unwrap_or(0),
            refused: list(refused)?,
            devices: room.len() as u32,
        });
        change.deliver(&room, entry);
        self.mark_refused(now, &mut change, full)?;
        change.events.extend(event);
        change.count = Some(|counters| counters.messages += 1);
        Ok(change)
    }

    fn group(&mut self, id: &ConversationId) -> Result<Rc<Group>, Refusal> {
        if let Some(group) = self.group.as_ref().filter(|group| group.id == *id) {
            return Ok(Rc::clone(group));
        }
        let epoch = self.conversation(id)?.epoch;
        let group = Rc::new(Group { id: *id, epoch, members: self.members(id)?.members });
        self.group = Some(Rc::clone(&group));
        Ok(group)
    }
}
