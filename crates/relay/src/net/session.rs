//! One connection: frames in, answers and deliveries out.
//!
//! The reader hands each request to the service and passes the answer, with the position it waits for, to the writer.
//! The writer sends answers in their order as soon as they are durable, and deliveries against credit in between. A peer that
//! does not read stops its own writer, then its own reader, and nobody else.

use super::endpoint::{Listeners, close};
use super::hub::{Durable, Hub, Mailbox};
use crate::service::Caller;
use crate::tasks::spawn;
use qpc_journal::Position;
use qpc_proto::frame::{self, Decoder};
use qpc_proto::id::DeviceId;
use qpc_proto::limits::{MAX_BULK_FRAME, MAX_CONTROL_FRAME, MAX_CREDIT, MAX_PIPELINE};
use qpc_proto::message::{
    ClientFrame, Delivery, Entry, Error, ErrorCode, Notice, NoticeKind, RelayFrame, Reply, Request,
};
use qpc_proto::signing::EXPORTER_LABEL;
use qpc_proto::wire::{Message, Text};
use quinn::{Connection, RecvStream, SendStream};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// An answer on its way.
struct Answer {
    id: u32,
    reply: Reply,
    /// It may be told once the store is durable up to here.
    position: Position,
    /// Close the connection after it.
    close: bool,
}

/// What reader, writer and bulk streams of a connection share.
struct Shared {
    caller: RefCell<Caller>,
    mailbox: RefCell<Option<Rc<Mailbox>>>,
    /// Deliveries granted and not sent.
    credit: Cell<u32>,
    /// Deliveries that were durable when the session was opened.
    opened_at: Cell<u64>,
}

/// Serves a connection until it ends.
pub(super) async fn serve(listeners: &Rc<Listeners>, connection: Connection) {
    let hub = &listeners.hub;
    let mut exporter = [0; 32];
    if connection.export_keying_material(&mut exporter, EXPORTER_LABEL, b"").is_err() {
        return close(&connection, ErrorCode::Internal, "no exporter");
    }
    let shared = Rc::new(Shared {
        caller: RefCell::new(Caller::new(exporter, connection.remote_address().ip())),
        mailbox: RefCell::default(),
        credit: Cell::new(0),
        opened_at: Cell::new(0),
    });
    let login_time = listeners.bounds.login_time;
    let opened = timeout(login_time, connection.accept_bi()).await;
    if let Ok(Ok((send, recv))) = opened {
        let (answers, queue) = mpsc::channel(MAX_PIPELINE);
        let gate = {
            let (shared, connection) = (Rc::clone(&shared), connection.clone());
            spawn(async move {
                tokio::time::sleep(login_time).await;
                if !shared.caller.borrow().authenticated() {
                    close(&connection, ErrorCode::NotAuthenticated, "log in sooner");
                }
            })
        };
        let bulk = spawn(accept_bulk(Rc::clone(listeners), connection.clone(), Rc::clone(&shared)));
        tokio::select! {
            () = read(hub, &connection, recv, &shared, answers) => {}
            () = write(hub, &connection, send, &shared, queue) => {}
        }
        gate.abort();
        bulk.abort();
    }
    if connection.close_reason().is_none() {
        close(&connection, ErrorCode::Internal, "");
    }
    hub.close(&shared.caller.borrow(), shared.mailbox.borrow().as_ref());
}

async fn read(
    hub: &Hub,
    connection: &Connection,
    mut recv: RecvStream,
    shared: &Shared,
    answers: mpsc::Sender<Answer>,
) {
    let mut decoder = Decoder::new(MAX_CONTROL_FRAME);
    while let Ok(Some(chunk)) = recv.read_chunk(MAX_CONTROL_FRAME, true).await {
        decoder.feed(&chunk.bytes);
        loop {
            let frame = match decoder.next_frame() {
                Ok(Some(frame)) => ClientFrame::decode(frame).map_err(|error| error.to_string()),
                Ok(None) => break,
                Err(error) => Err(error.to_string()),
            };
            let answer = match frame {
                Ok(frame) => answer(hub, shared, &frame),
                Err(reason) => Some(malformed(hub, &reason)),
            };
            if let Some(answer) = answer {
                let last = answer.close;
                if answers.send(answer).await.is_err() {
                    return;
                }
                if last {
                    // The writer closes the connection behind the answer.
                    connection.closed().await;
                    return;
                }
            }
        }
    }
}

/// Has the service answer a request, and does what follows for this connection.
fn answer(hub: &Hub, shared: &Shared, frame: &ClientFrame) -> Option<Answer> {
    let (outcome, position) = hub.handle(&mut shared.caller.borrow_mut(), frame);
    shared.credit.set((shared.credit.get() + outcome.credit).min(MAX_CREDIT));
    if let Some(device) = outcome.opened {
        if let Some(Reply::Session(session)) = &outcome.reply {
            shared.opened_at.set(session.next_delivery.saturating_sub(1));
        }
        shared.credit.set(0);
        *shared.mailbox.borrow_mut() = Some(hub.open_mailbox(device));
    }
    // Acknowledgements speak of nothing that could be lost.
    let lazy = matches!(frame.request, Some(Request::Ack(_)));
    let position = if lazy { Position::default() } else { position };
    outcome.reply.map(|reply| Answer { id: frame.id, reply, position, close: outcome.close })
}

fn malformed(hub: &Hub, reason: &str) -> Answer {
    let position = hub.durable().borrow().position;
    let error = Error { code: ErrorCode::Malformed, reason: Text::new(reason), detail: 0 };
    Answer { id: 0, reply: error.into(), position, close: true }
}

async fn write(
    hub: &Hub,
    connection: &Connection,
    mut send: SendStream,
    shared: &Shared,
    mut answers: mpsc::Receiver<Answer>,
) {
    let mut durable = hub.durable();
    let mut held: Option<Answer> = None;
    let mut sent = 0;
    let mut ready = 0;
    loop {
        let now = *durable.borrow_and_update();
        if held.is_none() {
            held = answers.try_recv().ok();
        }
        if let Some(answer) = held.take_if(|answer| answer.position <= now.position || now.failed) {
            let last = answer.close;
            if send.write_all(&encode(answer, now)).await.is_err() {
                return;
            }
            if last {
                let _ = send.finish();
                let _ = timeout(GOODBYE, send.stopped()).await;
                return close(connection, ErrorCode::Malformed, "");
            }
            continue;
        }
        let mailbox = shared.mailbox.borrow().clone();
        if let Some(mailbox) = &mailbox {
            if let Some(kind) = mailbox.next_notice() {
                let frame = RelayFrame { id: 0, reply: Some(Notice { kind }.into()) };
                if send.write_all(&frame::encode(&frame)).await.is_err() {
                    return;
                }
                if matches!(kind, NoticeKind::Replaced | NoticeKind::Revoked | NoticeKind::Closing) {
                    let _ = send.finish();
                    let _ = timeout(GOODBYE, send.stopped()).await;
                    return;
                }
                continue;
            }
            ready = ready.max(shared.opened_at.get()).max(mailbox.ready(now.position).unwrap_or(0));
            if shared.credit.get() > 0 && sent < ready {
                match next(hub, shared, sent, ready) {
                    Some((seq, frame)) => {
                        sent = seq;
                        shared.credit.set(shared.credit.get() - 1);
                        if send.write_all(&frame).await.is_err() {
                            return;
                        }
                    }
                    // Expired meanwhile.
                    None => sent = ready,
                }
                continue;
            }
        }
        let woken = async {
            match &mailbox {
                Some(mailbox) => mailbox.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            answer = answers.recv(), if held.is_none() => match answer {
                Some(answer) => held = Some(answer),
                None => return,
            },
            () = woken => {}
            changed = durable.changed() => if changed.is_err() { return },
        }
    }
}

/// The next delivery behind `sent`, as a frame; its entry is left out if it is too large for this stream.
fn next(hub: &Hub, shared: &Shared, sent: u64, ready: u64) -> Option<(u64, Vec<u8>)> {
    let device: DeviceId = shared.caller.borrow().device()?;
    let (seq, entry) = hub.next_delivery(device, sent)?;
    if seq > ready {
        return None;
    }
    let delivery = if entry.len() + DELIVERY_OVERHEAD > MAX_CONTROL_FRAME {
        Delivery { seq, too_large: u32::try_from(entry.len()).unwrap_or(u32::MAX), entry: None }
    } else {
        // What the store has was encoded by the service.
        Delivery { seq, too_large: 0, entry: Entry::decode(&entry).ok() }
    };
    Some((seq, frame::encode(&RelayFrame { id: 0, reply: Some(delivery.into()) })))
}

async fn accept_bulk(listeners: Rc<Listeners>, connection: Connection, shared: Rc<Shared>) {
    while let Ok((send, recv)) = connection.accept_bi().await {
        // A place for each request that is held in memory, of all connections; others wait in the network.
        let Ok(place) = std::sync::Arc::clone(&listeners.bulk).acquire_owned().await else { return };
        let (listeners, connection, shared) = (Rc::clone(&listeners), connection.clone(), Rc::clone(&shared));
        spawn(async move {
            let done =
                timeout(listeners.bounds.login_time, serve_bulk(&listeners.hub, &shared, send, recv)).await;
            if !matches!(done, Ok(true)) {
                close(&connection, ErrorCode::Malformed, "a bulk request was not one");
            }
            drop(place);
        });
    }
}

/// One request and its answer; whether they were that.
async fn serve_bulk(hub: &Hub, shared: &Shared, mut send: SendStream, mut recv: RecvStream) -> bool {
    if shared.caller.borrow().device().is_none() {
        return false;
    }
    let Ok(bytes) = recv.read_to_end(MAX_BULK_FRAME + 4).await else { return false };
    let mut decoder = Decoder::new(MAX_BULK_FRAME);
    decoder.feed(&bytes);
    let Ok(Some(frame)) = decoder.next_frame() else { return false };
    let Ok(frame) = ClientFrame::decode(frame) else { return false };
    let Some(answer) = answer(hub, shared, &frame) else { return false };
    let mut durable = hub.durable();
    let waited = durable.wait_for(|now| now.position >= answer.position || now.failed).await;
    let Ok(now) = waited.map(|now| *now) else { return false };
    send.write_all(&encode(answer, now)).await.is_ok() && send.finish().is_ok()
}

/// An answer as a frame; one whose batch could not be made durable says that instead.
fn encode(answer: Answer, now: Durable) -> Vec<u8> {
    let reply = if answer.position <= now.position {
        answer.reply
    } else {
        let reason = Text::new("the relay's disk failed; ask again once it is repaired");
        Error { code: ErrorCode::StorageFailed, reason, detail: 0 }.into()
    };
    frame::encode(&RelayFrame { id: answer.id, reply: Some(reply) })
}

/// What a delivery's frame has besides the entry, at most.
const DELIVERY_OVERHEAD: usize = 64;
/// How long a last word may take to arrive.
const GOODBYE: std::time::Duration = std::time::Duration::from_secs(1);
