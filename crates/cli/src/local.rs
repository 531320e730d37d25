//! Commands through the agent of this machine.

use crate::args::{Args, Command, Usage, user_name};
use crate::{Failure, nobody_reads, notice, outgoing, print, stop_signals, write_out};
use qpc_agent::local::{Local, LocalError};
use qpc_agent::protocol::{
    Accept, Answer, AskStatus, CompareWith, Item, ListContacts, ListDevices, MarkRead, Notify, Receive, Send,
};
use qpc_client::executor::{Descriptor, block_on, hung_up, readable, timeout, timeout_at, unless};
use qpc_client::{Contact, Error, Kind, UserName};
use qpc_proto::wire::{Blob, Text};
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) fn status(error: &LocalError) -> u8 {
    match error {
        LocalError::NoAgent | LocalError::NotAsked => 3,
        LocalError::Refused(refused) => match u32::from(refused.code) {
            code @ 1..10 => code as u8,
            _ => 4,
        },
        LocalError::System(error) if error.kind() == io::ErrorKind::PermissionDenied => 4,
        LocalError::Timeout => 7,
        LocalError::Garbled | LocalError::Gone | LocalError::System(_) => 1,
    }
}

pub(crate) fn talk(args: &Args, mut agent: Local) -> Result<(), Failure> {
    let mut out = String::new();
    match &args.command {
        Command::Send { recipient, text, lines } => {
            return send(&mut agent, &user_name(recipient)?, &outgoing(text.as_ref(), *lines)?);
        }
        Command::Receive { timeout, follow, json, since } => {
            let (since, unread) = (*since, since.is_none());
            return Receiving { args, json: *json, since, unread, printed: None }
                .run(agent, *timeout, *follow);
        }
        Command::Notify { recipient, kind, text } => {
            return notify(&mut agent, &user_name(recipient)?, kind, text.as_ref());
        }
        Command::Accept { user } => {
            agent.ask(Accept { user: user_name(user)? })?;
        }
        Command::SafetyNumber { user } => {
            let user = user_name(user)?;
            let Answer::SafetyNumber(number) = agent.ask(CompareWith { user: user.clone() })? else {
                return Err(LocalError::Garbled.into());
            };
            if number.changed {
                notice(&print::new_identity(&user));
            }
            out = format!("{}\n", &*number.digits);
        }
        Command::Contacts => {
            let mut after = None;
            loop {
                let Answer::Contacts(page) = agent.ask(ListContacts { after })? else {
                    return Err(LocalError::Garbled.into());
                };
                after = page.contacts.last().map(|contact| contact.user.clone());
                for contact in page.contacts.into_vec() {
                    let (user, identity, changed) = (contact.user, contact.identity, contact.changed);
                    print::contact(&Contact { user, identity, changed }, &mut out);
                }
                if !page.more || after.is_none() {
                    break;
                }
            }
        }
        Command::Devices => {
            let Answer::Devices(devices) = agent.ask(ListDevices {})? else {
                return Err(LocalError::Garbled.into());
            };
            for device in devices.devices.iter() {
                print::device(device, device.device == devices.this, &mut out);
            }
        }
        Command::Status => {
            let Answer::Status(status) = agent.ask(AskStatus {})? else {
                return Err(LocalError::Garbled.into());
            };
            print::status(&status, &mut out);
        }
        _ => {}
    }
    write_out(out.as_bytes())
}

fn send(agent: &mut Local, recipient: &UserName, messages: &[String]) -> Result<(), Failure> {
    let mut queued = 0;
    for (index, message) in messages.iter().enumerate() {
        let body =
            Blob::new(message.clone().into_bytes()).map_err(|body| Error::MessageTooLong(body.len()))?;
        let request = Send { recipient: recipient.clone(), kind: Kind::Text, body, wait: WAIT };
        let answer = agent.ask(request);
        if answer.is_err() && messages.len() > 1 {
            notice(&print::stopped(index, messages.len()));
        }
        let Answer::Sent(sent) = answer? else { return Err(LocalError::Garbled.into()) };
        queued += usize::from(!sent.confirmed);
        for device in sent.refused.iter() {
            notice(&print::full_queue(recipient, device));
        }
    }
    match queued {
        0 => Ok(()),
        _ => Err(Error::Unconfirmed.into()),
    }
}

fn notify(
    agent: &mut Local,
    recipient: &UserName,
    kind: &str,
    text: Option<&OsString>,
) -> Result<(), Failure> {
    let texts = outgoing(text, false)?;
    let text = texts.first().map_or("", |text| text.trim_end());
    let request = Notify { recipient: recipient.clone(), kind: Text::new(kind), text: Text::new(text) };
    if *request.kind != *kind {
        return Err(Usage("a kind of event has at most 32 bytes".into()).into());
    }
    agent.ask(request)?;
    Ok(())
}

struct Receiving<'a> {
    args: &'a Args,
    json: bool,
    /// Where to go on.
    since: Option<u64>,
    /// What is printed counts as read.
    unread: bool,
    /// The last message that was printed, until the agent knows.
    printed: Option<u64>,
}

impl Receiving<'_> {
    fn run(mut self, mut agent: Local, patience: Duration, follow: bool) -> Result<(), Failure> {
        let stop = stop_signals()
            .map_err(|error| Failure::Io { doing: "waiting for signals", source: error.into() })?;
        let until = (!follow).then(|| Instant::now() + patience);
        loop {
            match self.follow(&mut agent, &stop, until) {
                // The agent will be back.
                Err(Failure::Local(LocalError::Gone | LocalError::NotAsked)) if follow => {}
                done => return done,
            }
            agent = loop {
                let pause = timeout(AGAIN, hung_up(Arc::new(io::stdout())));
                match block_on(unless(readable(Arc::clone(&stop)), pause)) {
                    None => return Ok(()),
                    Some(Some(())) => return Err(nobody_reads()),
                    Some(None) => {}
                }
                match Local::connect(&self.args.run_dir()) {
                    Err(LocalError::NoAgent) => {}
                    agent => break agent?,
                }
            };
        }
    }

    /// Prints what comes; with a time, only until everything there is was printed.
    fn follow(
        &mut self,
        agent: &mut Local,
        stop: &Descriptor,
        until: Option<Instant>,
    ) -> Result<(), Failure> {
        let socket = agent.as_fd().try_clone_to_owned().map_err(LocalError::from)?;
        let socket: Descriptor = Arc::new(socket);
        let unread = self.since.is_none();
        agent.start(Receive { since: self.since.unwrap_or(0), unread })?;
        let mut caught_up = false;
        loop {
            let Some((_, answer)) = agent.next(Some(Instant::now()))? else {
                // However impatient: what the agent has it gives.
                let slack = if caught_up { Duration::ZERO } else { SLACK };
                let came = async {
                    let socket = readable(Arc::clone(&socket));
                    match until {
                        Some(until) => timeout_at(until + slack, socket).await,
                        None => {
                            socket.await;
                            Some(())
                        }
                    }
                };
                let came = unless(hung_up(Arc::new(io::stdout())), came);
                match block_on(unless(readable(Arc::clone(stop)), came)) {
                    None => return Ok(self.mark_read(agent).map(drop)?),
                    Some(None) => return Err(nobody_reads()),
                    Some(Some(None)) if self.mark_read(agent)? => return Ok(()),
                    Some(Some(None)) => return Err(Failure::NothingCame),
                    Some(Some(Some(()))) => continue,
                }
            };
            match answer {
                Answer::Item(item) => {
                    let position = item.position;
                    self.print(item)?;
                    (self.printed, self.since) = (Some(position), Some(position));
                }
                Answer::CaughtUp(so_far) => {
                    caught_up = true;
                    if so_far.missed {
                        notice("the agent has not kept all messages since then");
                    }
                    if self.mark_read(agent)? && until.is_some() {
                        return Ok(());
                    }
                }
                Answer::Happened(happened) => notice(&print::harmless(&happened.text)),
                Answer::Refused(refused) => return Err(LocalError::Refused(refused).into()),
                _ => {}
            }
        }
    }

    /// Tells the agent what was printed, if anything was that it does not know of.
    fn mark_read(&mut self, agent: &mut Local) -> Result<bool, LocalError> {
        let Some(position) = self.printed else { return Ok(false) };
        if self.unread {
            agent.ask(MarkRead { position })?;
        }
        self.printed = None;
        Ok(true)
    }

    fn print(&self, item: Item) -> Result<(), Failure> {
        let mut out = String::new();
        print::message(&item.into(), self.json, &mut out);
        write_out(out.as_bytes())
    }
}

/// Milliseconds to wait for the relay to confirm a message.
const WAIT: u32 = 10_000;
/// How much longer an agent may be busy with the relay.
const SLACK: Duration = Duration::from_secs(30);
/// How long to wait before looking whether the agent is back.
const AGAIN: Duration = Duration::from_secs(1);
