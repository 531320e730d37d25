//! The client as a program uses it: registering and logging in (`login`), sending (`send`), receiving and coming back
//! after the connection or the relay was gone (`sync`).

mod follow;
mod login;
mod send;
mod sync;
#[cfg(test)]
mod tests;

use crate::engine::{Account as Me, Answered, Contact, Event, InboxMessage, InboxState};
use crate::error::Error;
use crate::link::{Link, RelayEndpoint, refused};
use crate::safety::safety_number;
use crate::state::Engine;
use follow::Following;
use qpc_proto::id::{DeviceId, MessageId, UserName};
use qpc_proto::message::{Devices, ErrorCode, HelloReply, KsfProfile, ListDevices, Reply, Request, Stored};
use qpc_transport::executor::{sleep, timeout, timeout_at};
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, Instant};

pub use follow::{Interrupt, Update};
pub use send::{Sent, envelope};

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where state folders are.
    pub state_root: PathBuf,
    /// What a new account's password is stretched with.
    pub ksf: KsfProfile,
    /// Also keep a key file, so that a later [`Client::login_with_key_file`] needs no password.
    pub keep_key: bool,
    /// How this device is called in lists.
    pub label: String,
    /// Name and version of the program.
    pub software: String,
    /// How long to wait for the relay before giving up.
    pub patience: Duration,
    /// How often a silent connection is kept from being forgotten by the routers on its way; less than a minute and a
    /// half, or the relay forgets it too.
    pub keep_alive: Duration,
    /// Tell senders who ask for it that their messages were stored.
    pub receipts: bool,
    /// [`Client::next`] leaves the inbox alone and only says that something came: the program reads with
    /// [`Client::messages_after`], and says with [`Client::confirm`] what need not be kept.
    pub keep_inbox: bool,
}

impl Options {
    /// State in `$QPC_STATE_DIR`, else `$XDG_STATE_HOME/quicprochat`, else `~/.local/state/quicprochat`.
    pub fn from_environment() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let state_root = variable("QPC_STATE_DIR").unwrap_or_else(|| {
            let base = variable("XDG_STATE_HOME")
                .or_else(|| variable("HOME").map(|home| home.join(".local/state")))
                .unwrap_or_else(|| PathBuf::from("/var/lib"));
            base.join("quicprochat")
        });
        // What lives on a router has little memory and no other choice.
        let small = cfg!(target_pointer_width = "32");
        Self {
            state_root,
            ksf: if small { KsfProfile::Router } else { KsfProfile::Standard },
            keep_key: false,
            label: String::new(),
            software: concat!("qpc-client ", env!("CARGO_PKG_VERSION")).to_owned(),
            patience: Duration::from_secs(10),
            keep_alive: Duration::from_secs(25),
            receipts: true,
            keep_inbox: false,
        }
    }
}

/// A connection to a relay and, after a login, a device of an account.
pub struct Client {
    relay: RelayEndpoint,
    options: Options,
    link: Option<Link>,
    /// The connection that is being made; that can take longer than whoever needs it waits.
    opening: Option<Opening>,
    engine: Option<Engine>,
    /// Why no other session is opened until the user logs in again.
    ended: Option<Ended>,
    /// The connection has a session, and everything that follows from opening one is done.
    synchronised: bool,
    /// The relay's list of conversations was compared with what is known here since the session was opened.
    compared: bool,
    /// Deliveries granted and not yet come.
    credit: u32,
    /// The delivery up to which the queue reached when the session was opened.
    backlog: u64,
    /// The newest things that happened; who never asks for them does not collect them.
    events: VecDeque<Event>,
    /// What became of the messages that somebody waits for.
    outcomes: HashMap<MessageId, Option<Result<Stored, Error>>>,
    following: Following,
    /// Why the relay does not take messages now.
    postponed: Option<qpc_proto::message::Error>,
    started: Instant,
    maintained: Option<Instant>,
}

impl Client {
    /// Connects to a relay and asks it how it is.
    pub async fn connect(relay: RelayEndpoint, options: Options) -> Result<Self, Error> {
        let link = Link::open(&relay, &options, options.patience).await?;
        Ok(Self::with(relay, options, Some(link)))
    }

    /// Whether this client speaks for a device.
    pub fn is_logged_in(&self) -> bool {
        self.engine.is_some()
    }

    /// What the relay said of itself when it was connected to last.
    pub fn relay(&self) -> Option<&HelloReply> {
        self.link.as_ref().map(|link| &link.hello)
    }

    /// The account and device, after a login.
    pub fn account(&self) -> Option<&Me> {
        self.engine.as_ref().map(Engine::account)
    }

    /// What else has happened since the last call.
    pub fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events).into()
    }

    /// The account's devices.
    pub async fn devices(&mut self) -> Result<Devices, Error> {
        let deadline = Instant::now() + self.options.patience;
        loop {
            self.ensure_session(deadline).await?;
            match self.ask(ListDevices {}.into()).await {
                Ok(Reply::Devices(devices)) => return Ok(devices),
                Ok(_) => return Err(Error::Protocol),
                // The connection was dead, and nobody had noticed.
                Err(error) if error.is_of_the_link() && Instant::now() < deadline => self.give_link_up(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether there is a connection with a session.
    pub fn is_connected(&self) -> bool {
        self.synchronised && self.link.as_ref().is_some_and(|link| !link.is_closed())
    }

    /// Why [`Client::next`] could not connect when it tried last.
    pub fn trouble(&self) -> Option<&str> {
        self.following.trouble()
    }

    /// How many messages wait to be sent, or for the relay to confirm them.
    pub fn waiting(&self) -> usize {
        self.engine.as_ref().map_or(0, Engine::waiting_messages)
    }

    /// Whether half of what may wait for a connection or a conversation does.
    pub fn is_half_full(&self) -> bool {
        self.engine.as_ref().is_some_and(Engine::is_half_full)
    }

    /// What the inbox holds.
    pub fn inbox(&self) -> Result<InboxState, Error> {
        Ok(self.engine.as_ref().ok_or(Error::NotLoggedIn)?.inbox_state())
    }

    /// Received messages behind this position, the oldest first; no more than `max`.
    pub fn messages_after(&mut self, position: u64, max: usize) -> Result<Vec<InboxMessage>, Error> {
        Ok(self.engine()?.inbox_after(position, max)?)
    }

    /// Forgets the oldest messages where there are more than these, and says how many of them nobody had read.
    pub fn bound_inbox(&mut self, messages: u64, bytes: u64) -> Result<u64, Error> {
        Ok(self.engine()?.bound_inbox(messages, bytes)?)
    }

    /// Messages up to this position count as read: [`Client::receive`] gives those behind it.
    pub fn mark_read(&mut self, position: u64) -> Result<(), Error> {
        Ok(self.engine()?.mark_read(position)?)
    }

    /// The accounts whose identity is known.
    pub fn contacts(&self) -> Result<Vec<Contact>, Error> {
        Ok(self.engine.as_ref().ok_or(Error::NotLoggedIn)?.contacts().collect())
    }

    /// 60 digits that are the same on this side and the other's, unless somebody stands between them. For a user whose
    /// identity has changed they are those of the new one: that is what has to be compared before it is accepted.
    pub fn safety_number(&self, user: &UserName) -> Result<String, Error> {
        let me = self.account().ok_or(Error::NotLoggedIn)?;
        let contact = self.contacts()?.into_iter().find(|contact| contact.user == *user);
        let contact = contact.ok_or_else(|| Error::Stranger(user.clone()))?;
        let identity = contact.changed.unwrap_or(contact.identity);
        Ok(safety_number((&me.user, &me.identity_key), (user, &identity)))
    }

    /// Trusts the new identity of a user whose messages are refused since it changed.
    pub fn accept_identity(&mut self, user: &UserName) -> Result<(), Error> {
        Ok(self.engine()?.accept_identity(user)?)
    }

    /// Removes a device from the account. It reads nothing of what is sent from then on.
    pub async fn revoke(&mut self, device: DeviceId) -> Result<(), Error> {
        let deadline = Instant::now() + self.options.patience;
        self.ensure_session(deadline).await?;
        let outgoing = self.engine()?.revoke_device(device)?;
        match self.submit(outgoing, deadline).await? {
            Answered::Refused { error, .. } | Answered::Later { error, .. } => Err(refused(error)),
            _ => Ok(()),
        }
    }

    /// Tells the relay what was received, and closes the connection.
    pub async fn disconnect(mut self) {
        // What goes wrong here nobody can be told any more; the messages come again.
        let _ = self.put_inbox_back();
        let Some(link) = &self.link else { return };
        if !link.is_closed() && self.engine.is_some() {
            let deadline = Instant::now() + Duration::from_millis(500);
            // What is not acknowledged now comes again and is recognised.
            let _ = timeout_at(deadline, self.acknowledge()).await;
        }
        if let Some(link) = self.link.take() {
            link.close().await;
        }
    }

    /// A request whose refusal is an error. A relay that is busy is asked again.
    async fn ask(&mut self, request: Request) -> Result<Reply, Error> {
        let deadline = Instant::now() + self.options.patience;
        loop {
            let error = match self.exchange(0, &request).await? {
                Reply::Error(error) => error,
                reply => return Ok(reply),
            };
            let pause = Duration::from_secs(error.detail.max(1));
            let busy = matches!(error.code, ErrorCode::Busy | ErrorCode::RateLimited);
            if !busy || Instant::now() + pause > deadline {
                return Err(refused(error));
            }
            self.pause(pause).await;
        }
    }

    /// Lets time pass. The connection goes on meanwhile.
    async fn pause(&mut self, time: Duration) {
        match &mut self.link {
            Some(link) => drop(timeout(time, link.ended()).await),
            None => sleep(time).await,
        }
    }

    /// Sends a request, and takes what was pushed before its answer.
    async fn exchange(&mut self, number: u64, request: &Request) -> Result<Reply, Error> {
        let patience = self.options.patience;
        let patience = patience.min(ANSWER.max(patience * 2 / 5));
        let link = self.link()?;
        let result = timeout(patience, link.exchange(number, request)).await.unwrap_or(Err(Error::Timeout));
        if result.as_ref().is_err_and(Error::is_of_the_link) {
            // An answer that comes later would be taken for another one's.
            self.give_link_up();
        }
        let reply = result?;
        if self.engine.is_some() {
            self.take_pushes_now().await?;
        }
        Ok(reply)
    }

    /// Nothing more goes over this connection; what it has brought can still be looked at.
    fn give_link_up(&mut self) {
        if let Some(link) = &mut self.link {
            link.abandon();
        }
    }

    /// A client that speaks for nobody yet.
    fn with(relay: RelayEndpoint, options: Options, link: Option<Link>) -> Self {
        Self {
            relay,
            options,
            link,
            opening: None,
            engine: None,
            ended: None,
            synchronised: false,
            compared: false,
            credit: 0,
            backlog: 0,
            events: VecDeque::new(),
            outcomes: HashMap::new(),
            following: Following::default(),
            postponed: None,
            started: Instant::now(),
            maintained: None,
        }
    }

    fn engine(&mut self) -> Result<&mut Engine, Error> {
        self.engine.as_mut().ok_or(Error::NotLoggedIn)
    }

    fn link(&mut self) -> Result<&mut Link, Error> {
        let gone =
            || Error::Unreachable { address: "its address".into(), reason: "the connection is gone".into() };
        self.link.as_mut().ok_or_else(gone)
    }
}

type Opening = Pin<Box<dyn Future<Output = Result<Link, Error>> + Send>>;

/// Why a device's session has ended for good. Opened anew by itself it would be taken from whoever has it now, who would
/// take it back, and so on.
#[derive(Clone, Copy, Debug)]
enum Ended {
    Replaced,
    Revoked,
}

impl From<Ended> for Error {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Replaced => Self::Replaced,
            Ended::Revoked => Self::Revoked,
        }
    }
}

/// How long an answer may take before the connection is taken for dead and made anew; longer for who has much patience. A relay
/// on a slow router needs a tenth of a second for the longest, a login.
const ANSWER: Duration = Duration::from_secs(4);
