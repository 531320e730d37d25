//! Whole messages, for programs that do not want pieces: a request goes in with its content, a response comes out with its own.
//!
//! What QUIC receives is handed to [`Client::connection`] or [`Server::connection`]; `update` then gives what QUIC is to do and what is complete.
//! CONNECT is the exception, for what it opens is a tunnel: its messages come with their head, every later update that has content for
//! it brings that in a message of the same stream, and one without content is the end of what the peer sends.

use std::collections::BTreeMap;

use crate::connection::{Action, Connection, Event, Role, Target};
use crate::error::{Code, ConnectionError, Error};
use crate::map::Map;
use crate::message::{RequestHead, ResponseHead, trailers_to_fields};
use crate::qpack::Field;
use crate::settings::Config;

/// A request as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Its head.
    pub head: RequestHead,
    /// Its content.
    pub body: Vec<u8>,
    /// Fields behind the content.
    pub trailers: Vec<Field>,
}

/// A response as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Heads of interim responses before it.
    pub interim: Vec<ResponseHead>,
    /// Its head.
    pub head: ResponseHead,
    /// Its content.
    pub body: Vec<u8>,
    /// Fields behind the content.
    pub trailers: Vec<Field>,
}

/// Something QUIC is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Close the connection.
    Close(ConnectionError),
    /// Send a datagram.
    Datagram(Vec<u8>),
    /// End our side of a stream by RESET_STREAM.
    Reset {
        /// Which.
        stream: u64,
        /// With which code.
        code: Code,
    },
    /// Send bytes on a stream, all of them.
    Send {
        /// Which; the first bytes open it.
        stream: u64,
        /// The bytes.
        data: Vec<u8>,
        /// Whether the stream ends behind them.
        fin: bool,
    },
    /// Ask by STOP_SENDING that the peer's side of a stream ends.
    StopSending {
        /// Which.
        stream: u64,
        /// With which code.
        code: Code,
    },
}

/// What a client's calls and input led to.
#[derive(Debug, Default)]
pub struct ClientUpdate {
    /// What QUIC is to do.
    pub inputs: Vec<Input>,
    /// Responses that are complete.
    pub responses: Vec<Answered>,
    /// Requests that will get no response.
    pub request_errors: Vec<Unanswered>,
    /// Pushed responses that are complete, with the promise.
    pub push_responses: Vec<Pushed>,
    /// Pushes that came to nothing.
    pub push_errors: Vec<PushFailed>,
    /// Datagrams, with the stream of their request.
    pub datagrams: Vec<(u64, Vec<u8>)>,
}

/// A request with its response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Of the request.
    pub stream: u64,
    /// As it was submitted.
    pub request: Request,
    /// As it came.
    pub response: Response,
}

/// A request that will get no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// Of the request.
    pub stream: u64,
    /// As it was submitted.
    pub request: Request,
    /// Why.
    pub code: Code,
}

/// A promise with its response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The request the promise came with.
    pub request_stream: u64,
    /// Which push.
    pub push: u64,
    /// What was promised to be answered.
    pub request: RequestHead,
    /// As it came.
    pub response: Response,
}

/// A push that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushFailed {
    /// Which push.
    pub push: u64,
    /// The promise, if it had come.
    pub request: Option<RequestHead>,
    /// Why.
    pub code: Code,
}

/// A client of whole messages.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    requests: Map<Exchange>,
    pushes: Map<Push>,
    /// Streams of pushes.
    push_streams: BTreeMap<u64, u64>,
    /// Requests in 0-RTT that the server has not looked at.
    rejected: Vec<Unanswered>,
    kept: Kept,
}

#[derive(Debug, Default)]
struct Exchange {
    request: Request,
    response: Response,
    /// It is an open tunnel, with something to report.
    is_tunnel: bool,
    has_news: bool,
}

#[derive(Debug, Default)]
struct Push {
    promise: Option<(u64, RequestHead)>,
    response: Response,
    has_ended: bool,
}

impl Client {
    /// A client that keeps at most `max_kept` bytes of content that is not complete, and 16 interim heads of a response.
    pub fn new(config: Config, max_kept: usize) -> Self {
        Self {
            connection: Connection::new(Role::Client, Config { max_unsent: usize::MAX, ..config }),
            requests: Map::new(),
            pushes: Map::new(),
            push_streams: BTreeMap::new(),
            rejected: Vec::new(),
            kept: Kept { count: 0, max: max_kept },
        }
    }

    /// The server has refused 0-RTT, and QUIC begins anew with its streams: so does this, with nothing [remembered](Connection::remember). The
    /// next update has the requests so far as errors, with the code that says that they can be submitted again.
    pub fn start_over(&mut self) {
        let rejected = std::mem::take(&mut self.requests).into_iter().map(|(stream, exchange)| Unanswered {
            stream,
            request: exchange.request,
            code: Code::H3_REQUEST_REJECTED,
        });
        self.rejected.extend(rejected);
        self.connection = self.connection.anew();
        self.pushes.clear();
        self.push_streams.clear();
        self.kept.count = 0;
    }

    /// What the client is made of: to hand in what QUIC receives, and for calls that are not about whole messages.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Whether the connection has ended.
    pub fn has_ended(&self) -> bool {
        self.connection.has_ended()
    }

    /// Whether requests wait for their responses.
    pub fn is_waiting(&self) -> bool {
        !self.requests.is_empty()
    }

    /// Sends a request. Returns its stream.
    pub fn submit_request(&mut self, request: Request) -> Result<u64, Error> {
        check_length(request.head.content_length, request.body.len())?;
        let stream = self.connection.send_request(&request.head, false)?;
        let is_tunnel = request.head.is_connect();
        if let Err(error) =
            send_rest(&mut self.connection, stream, &request.body, &request.trailers, is_tunnel)
        {
            self.connection.cancel(stream, Code::H3_REQUEST_CANCELLED);
            return Err(error);
        }
        self.requests.insert(stream, Box::new(Exchange { request, ..Exchange::default() }));
        Ok(stream)
    }

    /// Gives up a push, which is not reported then.
    pub fn cancel_push(&mut self, push: u64) -> Result<(), Error> {
        self.connection.cancel_push(push)?;
        self.fail_push(push, Code::H3_REQUEST_CANCELLED, &mut ClientUpdate::default());
        Ok(())
    }

    /// What there is to do and to know since the last update.
    pub fn update(&mut self) -> ClientUpdate {
        let mut update =
            ClientUpdate { request_errors: std::mem::take(&mut self.rejected), ..ClientUpdate::default() };
        while let Some(event) = self.connection.poll_event() {
            self.handle(event, &mut update);
        }
        for (stream, exchange) in &mut self.requests {
            if std::mem::take(&mut exchange.has_news) {
                let response = exchange.response.clone();
                self.kept.release(exchange.response.body.len());
                exchange.response.body.clear();
                exchange.response.interim.clear();
                update.responses.push(Answered {
                    stream: *stream,
                    request: exchange.request.clone(),
                    response,
                });
            }
        }
        if self.connection.has_ended() {
            // The transport's connection has ended, or ours was closed.
            self.fail_all(Code::H3_INTERNAL_ERROR, &mut update);
        }
        // What the program itself has given up is no news to it.
        self.requests.retain(|stream, exchange| {
            let is_open = self.connection.is_open(*stream);
            if !is_open {
                self.kept.release(exchange.response.body.len());
            }
            is_open
        });
        update.inputs = inputs(&mut self.connection);
        update
    }

    fn handle(&mut self, event: Event, update: &mut ClientUpdate) {
        match event {
            Event::Interim { stream, head } => match self.response(stream) {
                Some(response) if response.interim.len() < MAX_INTERIM => response.interim.push(head),
                Some(_) => {
                    self.connection.cancel(stream, Code::H3_EXCESSIVE_LOAD);
                    self.fail(stream, Code::H3_EXCESSIVE_LOAD, update);
                }
                None => {}
            },
            Event::Response { stream, head } => {
                if let Some(exchange) = self.requests.get_mut(&stream)
                    && exchange.request.head.is_connect()
                    && (200..300).contains(&head.status)
                {
                    (exchange.is_tunnel, exchange.has_news) = (true, true);
                }
                if let Some(response) = self.response(stream) {
                    response.head = head;
                }
            }
            Event::Body { stream, data } => {
                // Behind content that was too much there may be more events of its stream.
                if self.response(stream).is_none() {
                    return;
                }
                if !self.kept.add(data.len()) {
                    self.connection.cancel(stream, Code::H3_EXCESSIVE_LOAD);
                    return self.fail(stream, Code::H3_EXCESSIVE_LOAD, update);
                }
                if let Some(exchange) = self.requests.get_mut(&stream) {
                    exchange.has_news = exchange.is_tunnel;
                }
                if let Some(response) = self.response(stream) {
                    response.body.extend_from_slice(&data);
                }
            }
            Event::Trailers { stream, fields } => {
                if let Some(response) = self.response(stream) {
                    response.trailers = fields;
                }
            }
            Event::End { stream } => self.end(stream, update),
            Event::Failed { stream, code, .. } => self.fail(stream, code, update),
            Event::Promise { stream, push, head } => {
                let known = self.pushes.entry(push).or_default();
                known.promise.get_or_insert((stream, head));
                self.deliver_push(push, update);
            }
            Event::Push { push, stream } => {
                self.push_streams.insert(stream, push);
                self.pushes.entry(push).or_default();
            }
            Event::PushCancelled { push } => self.fail_push(push, Code::H3_REQUEST_CANCELLED, update),
            Event::Datagram { stream, payload } => update.datagrams.push((stream, payload)),
            Event::Closed(error) => self.fail_all(error.code, update),
            _ => {}
        }
    }

    fn response(&mut self, stream: u64) -> Option<&mut Response> {
        let push = self.push_streams.get(&stream).and_then(|push| self.pushes.get_mut(push));
        let push = push.map(|push| &mut push.response);
        self.requests.get_mut(&stream).map(|exchange| &mut exchange.response).or(push)
    }

    fn end(&mut self, stream: u64, update: &mut ClientUpdate) {
        if let Some(exchange) = self.requests.remove(&stream) {
            let Exchange { request, mut response, is_tunnel, has_news } = *exchange;
            self.kept.release(response.body.len());
            if is_tunnel && has_news {
                let news = Answered { stream, request: request.clone(), response: response.clone() };
                update.responses.push(news);
                response.body.clear();
                response.interim.clear();
            }
            update.responses.push(Answered { stream, request, response });
        } else if let Some(push) = self.push_streams.remove(&stream)
            && let Some(known) = self.pushes.get_mut(&push)
        {
            known.has_ended = true;
            self.deliver_push(push, update);
        }
    }

    fn deliver_push(&mut self, push: u64, update: &mut ClientUpdate) {
        if !self.pushes.get(&push).is_some_and(|known| known.has_ended && known.promise.is_some()) {
            return;
        }
        if let Some(Push { promise: Some((request_stream, request)), response, .. }) =
            self.pushes.remove(&push).map(|known| *known)
        {
            self.kept.release(response.body.len());
            update.push_responses.push(Pushed { request_stream, push, request, response });
        }
    }

    fn fail(&mut self, stream: u64, code: Code, update: &mut ClientUpdate) {
        if let Some(exchange) = self.requests.remove(&stream) {
            let Exchange { request, response, .. } = *exchange;
            self.kept.release(response.body.len());
            update.request_errors.push(Unanswered { stream, request, code });
        } else if let Some(push) = self.push_streams.remove(&stream) {
            self.fail_push(push, code, update);
        }
    }

    fn fail_push(&mut self, push: u64, code: Code, update: &mut ClientUpdate) {
        self.push_streams.retain(|_, other| *other != push);
        let Some(known) = self.pushes.remove(&push) else { return };
        let Push { promise, response, .. } = *known;
        self.kept.release(response.body.len());
        let request = promise.map(|(_, request)| request);
        update.push_errors.push(PushFailed { push, request, code });
    }

    fn fail_all(&mut self, code: Code, update: &mut ClientUpdate) {
        for stream in self.requests.keys().copied().collect::<Vec<_>>() {
            self.fail(stream, code, update);
        }
        for push in self.pushes.keys().copied().collect::<Vec<_>>() {
            self.fail_push(push, code, update);
        }
    }
}

/// What a server's calls and input led to.
#[derive(Debug, Default)]
pub struct ServerUpdate {
    /// What QUIC is to do.
    pub inputs: Vec<Input>,
    /// Requests that are complete, with their streams; of tunnels also content and its end.
    pub requests: Vec<(u64, Request)>,
    /// Requests whose responses nobody wants any more.
    pub cancelled: Vec<Cancelled>,
    /// The client's wishes how to send responses.
    pub priorities: Vec<(Target, Vec<u8>)>,
    /// Datagrams, with the stream of their request.
    pub datagrams: Vec<(u64, Vec<u8>)>,
}

/// A request that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancelled {
    /// Of the request.
    pub stream: u64,
    /// Its head, if that had come.
    pub head: Option<RequestHead>,
    /// What had come of its content and was not handed out.
    pub body: Vec<u8>,
    /// What had come of its trailers and was not handed out.
    pub trailers: Vec<Field>,
    /// Why.
    pub code: Code,
}

/// A server of whole messages.
#[derive(Debug)]
pub struct Server {
    connection: Connection,
    requests: Map<Arriving>,
    kept: Kept,
}

#[derive(Debug)]
struct Arriving {
    request: Request,
    has_news: bool,
    /// The end of a tunnel has not been told.
    has_ended: bool,
}

impl Server {
    /// A server that keeps at most `max_kept` bytes of content that is not complete.
    pub fn new(config: Config, max_kept: usize) -> Self {
        Self {
            connection: Connection::new(Role::Server, Config { max_unsent: usize::MAX, ..config }),
            requests: Map::new(),
            kept: Kept { count: 0, max: max_kept },
        }
    }

    /// What the server is made of: to hand in what QUIC receives, and for calls that are not about whole messages.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Whether the connection has ended.
    pub fn has_ended(&self) -> bool {
        self.connection.has_ended()
    }

    /// Answers a request. What is wrong with the response is an error that changes nothing; where the client does not take all of it,
    /// for the fields are too large, the request is cancelled.
    pub fn submit_response(&mut self, stream: u64, response: &Response) -> Result<(), Error> {
        let Some(arriving) = self.requests.get(&stream) else { return Err(Error::Unknown) };
        let is_head = arriving.request.head.method == b"HEAD";
        let is_tunnel = arriving.request.head.is_connect() && (200..300).contains(&response.head.status);
        if !is_head {
            check_length(response.head.content_length, response.body.len())?;
        }
        if response.head.is_interim() || !response.interim.iter().all(ResponseHead::is_interim) {
            return Err(Error::WrongState("heads with a status of 1xx come before the one without"));
        }
        let mut has_begun = false;
        for head in response.interim.iter().chain([&response.head]) {
            head.to_fields(&mut Default::default())?;
        }
        trailers_to_fields(&response.trailers)?;
        let mut send = || {
            for head in response.interim.iter().chain([&response.head]) {
                self.connection.send_response(stream, head, false)?;
                has_begun = true;
            }
            let body = if is_head { &[][..] } else { &response.body };
            send_rest(&mut self.connection, stream, body, &response.trailers, is_tunnel)
        };
        let sent = send();
        if sent.is_err() && has_begun {
            self.connection.cancel(stream, Code::H3_INTERNAL_ERROR);
        }
        sent
    }

    /// In place of [`update`](Self::update) as long as the client's handshake is not done: what came in 0-RTT counts as kept, and is given later.
    /// Forgotten is what the client has given up already, and what may get lost: datagrams and priorities.
    pub fn take_early(&mut self) {
        self.take_events(&mut ServerUpdate::default());
    }

    /// What there is to do and to know since the last update.
    pub fn update(&mut self) -> ServerUpdate {
        let mut update = ServerUpdate::default();
        self.take_events(&mut update);
        let connection = &self.connection;
        self.requests.retain(|stream, arriving| {
            if std::mem::take(&mut arriving.has_news) {
                self.kept.release(arriving.request.body.len());
                let (body, trailers) = (
                    std::mem::take(&mut arriving.request.body),
                    std::mem::take(&mut arriving.request.trailers),
                );
                let head = arriving.request.head.clone();
                update.requests.push((*stream, Request { head, body, trailers }));
            }
            if std::mem::take(&mut arriving.has_ended) {
                update.requests.push((*stream, arriving.request.clone()));
            }
            let is_open = connection.is_open(*stream);
            if !is_open {
                self.kept.release(arriving.request.body.len());
            }
            is_open
        });
        update.inputs = inputs(&mut self.connection);
        update
    }

    fn take_events(&mut self, update: &mut ServerUpdate) {
        while let Some(event) = self.connection.poll_event() {
            self.handle(event, update);
        }
    }

    fn handle(&mut self, event: Event, update: &mut ServerUpdate) {
        match event {
            Event::Request { stream, head } => {
                let has_news = head.is_connect();
                let request = Request { head, ..Request::default() };
                self.requests.insert(stream, Box::new(Arriving { request, has_news, has_ended: false }));
            }
            Event::Body { stream, data } => {
                // Behind content that was too much there may be more events of its stream.
                let Some(arriving) = self.requests.get_mut(&stream) else { return };
                if self.kept.add(data.len()) {
                    arriving.request.body.extend_from_slice(&data);
                    arriving.has_news = arriving.request.head.is_connect();
                } else {
                    self.connection.cancel(stream, Code::H3_EXCESSIVE_LOAD);
                    self.fail(stream, Code::H3_EXCESSIVE_LOAD, update);
                }
            }
            Event::Trailers { stream, fields } => {
                if let Some(arriving) = self.requests.get_mut(&stream) {
                    arriving.request.trailers = fields;
                }
            }
            Event::End { stream } => {
                if let Some(arriving) = self.requests.get_mut(&stream) {
                    let is_tunnel = arriving.request.head.is_connect();
                    *if is_tunnel { &mut arriving.has_ended } else { &mut arriving.has_news } = true;
                }
            }
            Event::Failed { stream, code, .. } => self.fail(stream, code, update),
            Event::Priority { target, value } => update.priorities.push((target, value)),
            Event::Datagram { stream, payload } => update.datagrams.push((stream, payload)),
            Event::Closed(error) => {
                for stream in self.requests.keys().copied().collect::<Vec<_>>() {
                    self.fail(stream, error.code, update);
                }
            }
            _ => {}
        }
    }

    fn fail(&mut self, stream: u64, code: Code, update: &mut ServerUpdate) {
        // Pushes fail, too, which only their client may want to know.
        if stream & 3 != 0 {
            return;
        }
        let request = self.requests.remove(&stream).map(|arriving| arriving.request);
        let (head, body, trailers) = match request {
            Some(Request { head, body, trailers }) => (Some(head), body, trailers),
            None => (None, Vec::new(), Vec::new()),
        };
        self.kept.release(body.len());
        update.cancelled.push(Cancelled { stream, head, body, trailers, code });
    }
}

/// Interim responses to one request.
const MAX_INTERIM: usize = 16;

/// Content of messages that are not complete.
#[derive(Debug)]
struct Kept {
    count: usize,
    max: usize,
}

impl Kept {
    fn add(&mut self, count: usize) -> bool {
        let fits = count <= self.max - self.count;
        if fits {
            self.count += count;
        }
        fits
    }

    fn release(&mut self, count: usize) {
        self.count -= count;
    }
}

fn check_length(said: Option<u64>, length: usize) -> Result<(), Error> {
    if said.is_none_or(|said| said == length as u64) { Ok(()) } else { Err(Error::ContentLength) }
}

/// Sends what comes behind a head.
fn send_rest(
    connection: &mut Connection,
    stream: u64,
    body: &[u8],
    trailers: &[Field],
    is_tunnel: bool,
) -> Result<(), Error> {
    if !body.is_empty() {
        connection.send_body(stream, body, false)?;
    }
    if !trailers.is_empty() {
        connection.send_trailers(stream, trailers, true)
    } else if !is_tunnel {
        connection.finish(stream, true)
    } else {
        Ok(())
    }
}

fn inputs(connection: &mut Connection) -> Vec<Input> {
    let mut inputs = Vec::new();
    while let Some(send) = connection.next_send() {
        let (stream, data, fin) = (send.stream, send.data.to_vec(), send.fin);
        connection.sent(stream, data.len());
        inputs.push(Input::Send { stream, data, fin });
    }
    while let Some(action) = connection.poll_action() {
        inputs.push(match action {
            Action::Close(error) => Input::Close(error),
            Action::Datagram(datagram) => Input::Datagram(datagram),
            Action::Reset { stream, code } => Input::Reset { stream, code },
            Action::StopSending { stream, code } => Input::StopSending { stream, code },
        });
    }
    inputs
}

#[cfg(test)]
mod tests;
