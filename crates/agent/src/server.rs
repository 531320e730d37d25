//! The edge: the sockets of programs and the client's connection, in one loop of one thread.

use crate::protocol::{Devices, SERVICE};
use crate::rights::{Credentials, Policy, Rule};
use crate::run_dir::{self, RunDirError};
use crate::service::{Config, Output, Service, Session};
use nix::unistd::Uid;
use qpc_client::executor::{Descriptor, readable, sleep_until, timeout, unless};
use qpc_client::{
    Client, Contact, DeviceId, Error, Event, InboxState, Interrupt, Kind, Message, MessageId, Update,
    UserName,
};
use qpc_ipc::{Context, EventKind};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// How an agent behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where its socket is.
    pub run_dir: PathBuf,
    /// What others than root, its own user and the run directory's group may do.
    pub rules: Vec<Rule>,
    /// What it says of itself.
    pub config: Config,
    /// Puts an event into words.
    pub describe: fn(&Event) -> String,
    /// Takes a line for the log.
    pub log: fn(&str),
}

/// Why an agent ends.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The session or the state cannot be used any more.
    #[error(transparent)]
    Client(#[from] Error),
    /// The service cannot be offered.
    #[error("cannot serve programs: {0}")]
    Ipc(#[from] qpc_ipc::Error),
    /// The run directory will not do.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// From the operating system.
    #[error("cannot serve programs: {0}")]
    System(#[from] io::Error),
}

/// An agent that is about to serve.
pub struct Server {
    options: Options,
    policy: Policy,
    group: u32,
}

impl Server {
    /// Looks whether the run directory will do.
    pub fn new(options: Options) -> Result<Self, AgentError> {
        let group = run_dir::check(&options.run_dir)?;
        let policy = Policy::new(Uid::effective().as_raw(), group, &options.rules);
        Ok(Self { options, policy, group })
    }

    /// Serves programs until `stop` is readable. The client is logged in or [opened](Client::open), with
    /// [`keep_inbox`](qpc_client::Options::keep_inbox).
    pub async fn run(self, mut client: Client, stop: Descriptor) -> Result<(), AgentError> {
        let Self { options, policy, group } = self;
        let mut context = Context::in_dir(&options.run_dir)?;
        context.set_queue_limit(QUEUE_LIMIT);
        context.set_memory_limit(MEMORY_LIMIT);
        context.listen(SERVICE)?;
        let socket = options.run_dir.join(OsStr::from_bytes(SERVICE));
        if let Err(error) = chown(&socket, None, Some(group)) {
            (options.log)(&format!("the run directory's group cannot use the agent: {error}"));
        }
        if policy.has_rules() {
            fs::set_permissions(socket, Permissions::from_mode(0o666))?;
        }
        let service = Service::new(options.config.clone(), policy, Instant::now());
        let mut agent = Agent { options, context, service };
        let result = agent.serve(&mut client, stop).await;
        agent.service.stop(&mut client, Instant::now());
        agent.write();
        agent.finish_writing();
        client.disconnect().await;
        result
    }
}

struct Agent {
    options: Options,
    context: Context,
    service: Service,
}

impl Agent {
    async fn serve(&mut self, client: &mut Client, stop: Descriptor) -> Result<(), AgentError> {
        let programs: OwnedFd = self.context.as_fd().try_clone_to_owned()?;
        let programs: Descriptor = Arc::new(programs);
        loop {
            let mut more = self.hear_programs(client)?;
            self.service.work(client, Instant::now())?;
            if self.service.wants_devices() {
                let devices = self.devices(client).await;
                self.service.devices(devices);
            }
            // What is scheduled goes out when the context is asked for events.
            more |= self.write();
            if timeout(Duration::ZERO, readable(Arc::clone(&stop))).await.is_some() {
                return Ok(());
            }
            // Now and then in any case: services that had no file descriptors left try again.
            let due = self.service.due().unwrap_or_else(|| Instant::now() + LOOK);
            let due = if more { Instant::now() } else { due.min(Instant::now() + LOOK) };
            let wake = async {
                let local = unless(readable(Arc::clone(&programs)), sleep_until(due));
                unless(readable(Arc::clone(&stop)), local).await;
            };
            if let Some(update) = next(client, wake).await? {
                self.take(update);
            }
        }
    }

    /// Takes what programs have sent, up to a number of events; true if there may be more.
    fn hear_programs(&mut self, client: &mut Client) -> Result<bool, AgentError> {
        for _ in 0..EVENTS {
            let Some(event) = self.context.poll()? else { return Ok(false) };
            let (kind, fd) = (event.kind, event.fd);
            match kind {
                EventKind::MessageRx => self.service.request(fd, event.message, client, Instant::now()),
                EventKind::MessageTx => self.service.written(fd),
                EventKind::Disconnection => self.service.closed(fd),
                EventKind::Connection { .. } => match self.context.borrow(fd).map(Credentials::of) {
                    Some(Ok(who)) => self.service.opened(fd, &who),
                    _ => drop(self.context.close(fd)),
                },
                _ => {}
            }
            // One that is cut off must not be heard any more.
            self.write();
        }
        Ok(true)
    }

    /// Hands out what the service has to say; false if that is nothing.
    fn write(&mut self) -> bool {
        let mut any = false;
        while let Some(output) = self.service.output() {
            any = true;
            self.put_out(output);
        }
        any
    }

    async fn devices(&self, client: &mut Client) -> Result<Devices, Error> {
        // The connection may have gone since the program was heard, and who waits for another one waits long.
        if !client.is_connected() {
            let reason = client.trouble().unwrap_or("the connection is gone").to_owned();
            return Err(Error::Unreachable { address: self.options.config.relay.clone(), reason });
        }
        let this = client.account().ok_or(Error::NotLoggedIn)?.device;
        Ok(Devices { this, devices: client.devices().await?.devices })
    }

    fn put_out(&mut self, output: Output) {
        let cut_off = match &output {
            Output::Message(program, bytes) => {
                self.context.schedule(*program, bytes).is_err().then_some(*program)
            }
            Output::Reject(program, bytes) => {
                // Nothing is before it: the kernel takes it at once.
                let _ = self.context.write(*program, bytes);
                Some(*program)
            }
            Output::Close(program) => Some(*program),
        };
        if let Some(program) = cut_off {
            self.service.closed(program);
            // It may be gone already.
            let _ = self.context.close(program);
        }
    }

    fn take(&mut self, update: Update) {
        let log = self.options.log;
        match update {
            Update::Connected => {
                self.service.connected(Instant::now());
                log("connected to the relay");
            }
            Update::Disconnected { reason } => log(&format!("the connection to the relay is gone: {reason}")),
            Update::Event(event) => {
                let text = (self.options.describe)(&event);
                log(&text);
                self.service.happened(&text);
            }
            Update::NotSent { id, recipient, error } => {
                let told = self.service.not_sent(id, &error);
                if told {
                    return;
                }
                let text = format!("a message to {recipient} that waited was not sent: {error}");
                log(&text);
                self.service.happened(&text);
            }
            Update::Sent { sent, .. } => self.service.confirmed(sent),
            // Of the inbox the service is told anyway, and of others only clients that asked for them.
            _ => {}
        }
    }

    /// The last words: as far as programs take them at once.
    fn finish_writing(&mut self) {
        for _ in 0..EVENTS {
            if !matches!(self.context.poll(), Ok(Some(_))) {
                break;
            }
        }
    }
}

/// The next thing that happens to the session, or nothing once `wake` has come to an end.
async fn next(client: &mut Client, wake: impl Future<Output = ()>) -> Result<Option<Update>, Error> {
    let interrupt = Interrupt::default();
    let (mut update, mut wake) = (pin!(client.next(&interrupt)), pin!(wake));
    let mut woken = false;
    poll_fn(|context| {
        if let Poll::Ready(update) = update.as_mut().poll(context) {
            return Poll::Ready(update);
        }
        // Not asked again: it would stay ready while the client ends what it has begun.
        if !woken && wake.as_mut().poll(context).is_ready() {
            woken = true;
            interrupt.set();
            return update.as_mut().poll(context);
        }
        Poll::Pending
    })
    .await
}

impl Session for Client {
    fn send(&mut self, recipient: &UserName, kind: Kind, body: &[u8]) -> Result<MessageId, Error> {
        let envelope = qpc_client::envelope(kind, body, false)?;
        self.hold(recipient, &envelope)?;
        Ok(envelope.id)
    }

    fn inbox(&self) -> Result<InboxState, Error> {
        Self::inbox(self)
    }

    fn message_after(&mut self, position: u64) -> Result<Option<Message>, Error> {
        Ok(self.messages_after(position, 1)?.pop())
    }

    fn mark_read(&mut self, position: u64) -> Result<(), Error> {
        Self::mark_read(self, position)
    }

    fn bound_inbox(&mut self, messages: u64, bytes: u64) -> Result<u64, Error> {
        Self::bound_inbox(self, messages, bytes)
    }

    fn contacts(&self) -> Result<Vec<Contact>, Error> {
        Self::contacts(self)
    }

    fn safety_number(&self, user: &UserName) -> Result<String, Error> {
        Self::safety_number(self, user)
    }

    fn accept(&mut self, user: &UserName) -> Result<(), Error> {
        self.accept_identity(user)
    }

    fn account(&self) -> Option<(UserName, DeviceId)> {
        Self::account(self).map(|me| (me.user.clone(), me.device))
    }

    fn is_connected(&self) -> bool {
        Self::is_connected(self)
    }

    fn trouble(&self) -> Option<&str> {
        Self::trouble(self)
    }

    fn waiting(&self) -> usize {
        Self::waiting(self)
    }

    fn is_half_full(&self) -> bool {
        Self::is_half_full(self)
    }

    fn memory(&self) -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kilobytes.unwrap_or(0) * 1024
    }
}

/// Events of programs that are taken before it is the relay's turn.
const EVENTS: usize = 256;
/// Bytes that may wait for a program: more than [`crate::service`] hands out.
const QUEUE_LIMIT: usize = 256 * 1024;
/// Bytes that all programs together may have the agent hold for them.
const MEMORY_LIMIT: usize = 2 << 20;
/// How often to look without a reason.
const LOOK: Duration = Duration::from_secs(60);
