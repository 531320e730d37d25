//! Runs a [`Peer`] over plain quinn, the way programs use it: a task for each connection and each stream.

use crate::client::Client;
use crate::driver::Target;
use crate::peer::{Action, Event, Peer, Send, Time};
use crate::protocol::{CONTROL_STREAM, PAYLOAD};
use crate::server::Server;
use bytes::Bytes;
use quinn::{
    Connection, ConnectionError, Endpoint, ReadError, RecvStream, SendStream, TokioRuntime, WriteError,
};
use std::collections::HashMap;
use std::future::{Future, pending, poll_fn};
use std::net::UdpSocket;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::timeout;

/// The longest to wait for what was said last to be heard.
const GOODBYE: Duration = Duration::from_secs(2);

static PIECE: [u8; 64 * 1024] = [PAYLOAD; 64 * 1024];

/// Serves until the server is finished, or told to stop.
pub(crate) async fn serve(
    io: UdpSocket,
    config: quinn::ServerConfig,
    server: Server,
    stop: impl Future<Output = ()>,
) -> Result<(), String> {
    let endpoint = Endpoint::new(quinn::EndpointConfig::default(), Some(config), io, Arc::new(TokioRuntime));
    let endpoint = endpoint.map_err(|error| format!("cannot use the socket: {error}"))?;
    let shared = Shared::new(endpoint, server, None);
    tokio::spawn(Arc::clone(&shared).accept());
    shared.run(stop).await;
    Ok(())
}

/// Measures until the client is finished.
pub(crate) async fn measure(
    io: UdpSocket,
    config: quinn::ClientConfig,
    target: Target,
    client: Client,
) -> Result<Client, String> {
    let endpoint = Endpoint::new(quinn::EndpointConfig::default(), None, io, Arc::new(TokioRuntime));
    let mut endpoint = endpoint.map_err(|error| format!("cannot use the socket: {error}"))?;
    endpoint.set_default_client_config(config);
    let shared = Shared::new(endpoint, client, Some(target));
    shared.run(pending()).await.ok_or_else(|| "the client is gone".into())
}

struct Shared<P> {
    endpoint: Endpoint,
    target: Option<Target>,
    start: Instant,
    state: Mutex<State<P>>,
    /// The peer is finished, or wants to be asked at an earlier time.
    changed: Notify,
}

struct State<P> {
    /// Until it is finished.
    peer: Option<P>,
    /// When it will be asked.
    armed: Option<Time>,
    connections: HashMap<u64, Connection>,
    /// Sending sides that more than one task writes to.
    streams: HashMap<(u64, u64), Arc<tokio::sync::Mutex<SendStream>>>,
}

impl<P: Peer + std::marker::Send + 'static> Shared<P> {
    fn new(endpoint: Endpoint, peer: P, target: Option<Target>) -> Arc<Self> {
        Arc::new(Self {
            endpoint,
            target,
            start: Instant::now(),
            state: Mutex::new(State {
                peer: Some(peer),
                armed: None,
                connections: HashMap::new(),
                streams: HashMap::new(),
            }),
            changed: Notify::new(),
        })
    }

    /// Watches over the time, and ends everything.
    async fn run(self: &Arc<Self>, stop: impl Future<Output = ()>) -> Option<P> {
        let mut stop = pin!(stop);
        let mut stopped = false;
        let mut heard = 0;
        self.perform(self.tell(Event::Tick));
        loop {
            let deadline = {
                let mut state = self.state();
                let peer = state.peer.as_ref()?;
                if peer.finished() {
                    break;
                }
                let deadline = peer.deadline();
                state.armed = deadline;
                deadline
            };
            let mut changed = pin!(self.changed.notified());
            let due = self.start + Duration::from_micros(deadline.unwrap_or(0));
            let mut due = pin!(tokio::time::sleep_until(due.into()));
            let event = poll_fn(|context| {
                if stop.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Some(Event::Stop));
                }
                if deadline.is_some() && due.as_mut().poll(context).is_ready() {
                    // Acknowledgements are progress, of which tasks see nothing.
                    let before = std::mem::replace(&mut heard, self.heard());
                    return Poll::Ready(Some(if heard == before { Event::Tick } else { Event::Progress }));
                }
                changed.as_mut().poll(context).map(|()| None)
            })
            .await;
            if let Some(event) = event {
                stopped |= matches!(event, Event::Stop);
                self.perform(self.tell(event));
            }
        }
        // What was sent last gets lost if this side closes first; the client goes when it has everything.
        if self.target.is_none() && !stopped {
            let connections: Vec<_> = self.state().connections.values().cloned().collect();
            let gone = async {
                for connection in connections {
                    connection.closed().await;
                }
            };
            let _ = timeout(GOODBYE, gone).await;
        }
        let peer = self.state().peer.take();
        self.endpoint.close(0u32.into(), b"done");
        let _ = timeout(GOODBYE, self.endpoint.wait_idle()).await;
        peer
    }

    async fn accept(self: Arc<Self>) {
        let mut key = 0;
        while let Some(incoming) = self.endpoint.accept().await {
            key += 1;
            let shared = Arc::clone(&self);
            tokio::spawn(async move {
                let Ok(connection) = incoming.await else { return };
                shared.state().connections.insert(key, connection.clone());
                shared.perform(shared.tell(Event::Ready { connection: key }));
                let error = loop {
                    match connection.accept_bi().await {
                        Ok((send, receive)) => shared.answer(key, send, receive),
                        Err(error) => break error,
                    }
                };
                shared.closed(key, &error);
            });
        }
    }

    fn answer(self: &Arc<Self>, key: u64, send: SendStream, receive: RecvStream) {
        let stream = u64::from(quinn::VarInt::from(send.id()));
        let shared = Arc::clone(self);
        let mut send = Some(send);
        if stream == CONTROL_STREAM
            && let Some(send) = send.take()
        {
            let send = Arc::new(tokio::sync::Mutex::new(send));
            self.state().streams.insert((key, stream), send);
        }
        tokio::spawn(async move { shared.read(key, stream, send.as_mut(), receive).await });
    }

    fn connect(self: &Arc<Self>, key: u64) {
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let Some(target) = &shared.target else { return };
            let connection = match shared.endpoint.connect(target.address, &target.server_name) {
                Ok(connecting) => connecting.await,
                Err(_) => Err(ConnectionError::LocallyClosed),
            };
            let error = match connection {
                Ok(connection) => {
                    shared.state().connections.insert(key, connection.clone());
                    shared.perform(shared.tell(Event::Ready { connection: key }));
                    connection.closed().await
                }
                Err(error) => error,
            };
            shared.closed(key, &error);
        });
    }

    fn closed(self: &Arc<Self>, connection: u64, error: &ConnectionError) {
        {
            let mut state = self.state();
            state.connections.remove(&connection);
            state.streams.retain(|(of, _), _| *of != connection);
        }
        let failed = !matches!(error, ConnectionError::ApplicationClosed(_) | ConnectionError::LocallyClosed);
        self.perform(self.tell(Event::Closed { connection, failed }));
    }

    /// Opens a stream for a request, and others for those that follow from its response.
    fn request(self: &Arc<Self>, connection: Connection, mut request: Send) {
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                let Ok((mut send, receive)) = connection.open_bi().await else { return };
                let (key, stream, fin) = (request.connection, request.stream, request.fin);
                if shared.write(&mut send, request).await.is_err() {
                    return;
                }
                let mut send = Some(send);
                if !fin && let Some(send) = send.take() {
                    let send = Arc::new(tokio::sync::Mutex::new(send));
                    shared.state().streams.insert((key, stream), send);
                }
                match shared.read(key, stream, send.as_mut(), receive).await {
                    Some(next) => request = next,
                    None => return,
                }
            }
        });
    }

    /// Reads a stream to its end; gives a request that is to be sent next, on another stream.
    async fn read(
        self: &Arc<Self>,
        connection: u64,
        stream: u64,
        mut send: Option<&mut SendStream>,
        mut receive: RecvStream,
    ) -> Option<Send> {
        loop {
            let chunk = match receive.read_chunk(usize::MAX, true).await {
                Ok(chunk) => chunk,
                Err(error) => {
                    if let ReadError::Reset(_) = error {
                        self.perform(self.tell(Event::Reset { connection, stream }));
                    }
                    return None;
                }
            };
            let bytes = chunk.as_ref().map_or(&[][..], |chunk| &chunk.bytes);
            let mut next = None;
            for action in self.tell(Event::Data { connection, stream, bytes, fin: chunk.is_none() }) {
                match action {
                    Action::Send(data) if data.connection == connection && data.stream == stream => {
                        let _ = match &mut send {
                            Some(send) => self.write(send, data).await,
                            None => self.write_shared(data).await,
                        };
                    }
                    Action::Send(data)
                        if chunk.is_none() && next.is_none() && self.is_new(connection, &data) =>
                    {
                        next = Some(data);
                    }
                    action => self.perform([action]),
                }
            }
            if chunk.is_none() {
                return next;
            }
        }
    }

    /// A request on a stream that is not there yet.
    fn is_new(&self, connection: u64, data: &Send) -> bool {
        self.target.is_some()
            && data.connection == connection
            && !self.state().streams.contains_key(&(connection, data.stream))
    }

    async fn write(&self, stream: &mut SendStream, data: Send) -> Result<(), WriteError> {
        let Send { head, mut payload, fin, .. } = data;
        if !head.is_empty() {
            stream.write_chunk(Bytes::from(head)).await?;
        }
        while payload > 0 {
            let piece = payload.min(PIECE.len() as u64);
            stream.write_chunk(Bytes::from_static(&PIECE[..piece as usize])).await?;
            payload -= piece;
            self.tell(Event::Progress);
        }
        if fin {
            let _ = stream.finish();
        }
        Ok(())
    }

    async fn write_shared(&self, data: Send) -> Result<(), WriteError> {
        let stream = self.state().streams.get(&(data.connection, data.stream)).cloned();
        match stream {
            Some(stream) => self.write(&mut *stream.lock().await, data).await,
            None => Ok(()),
        }
    }

    fn perform(self: &Arc<Self>, actions: impl IntoIterator<Item = Action>) {
        for action in actions {
            match action {
                Action::Connect { connection } => self.connect(connection),
                Action::Send(data) => {
                    let (open, connection) = {
                        let state = self.state();
                        let open = state.streams.contains_key(&(data.connection, data.stream));
                        (open, state.connections.get(&data.connection).cloned())
                    };
                    if open {
                        let shared = Arc::clone(self);
                        tokio::spawn(async move { shared.write_shared(data).await });
                    } else if let Some(connection) = connection {
                        self.request(connection, data);
                    }
                }
                Action::Close { connection, reason } => {
                    if let Some(connection) = self.state().connections.get(&connection) {
                        connection.close(0u32.into(), reason.as_bytes());
                    }
                }
            }
        }
    }

    fn tell(&self, event: Event<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        let now = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut state = self.state();
        let armed = state.armed;
        if let Some(peer) = &mut state.peer {
            peer.handle(event, now, &mut actions);
            let earlier = peer.deadline().is_some_and(|deadline| armed.is_none_or(|armed| deadline < armed));
            if earlier || peer.finished() {
                self.changed.notify_one();
            }
        }
        actions
    }

    /// Datagrams that have come.
    fn heard(&self) -> u64 {
        self.state().connections.values().map(|connection| connection.stats().udp_rx.datagrams).sum()
    }

    fn state(&self) -> MutexGuard<'_, State<P>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
