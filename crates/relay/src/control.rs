//! The owner's door: a Unix socket in the data directory. A request is one line of JSON, `{"command": "status"}`, and so
//! is the answer: `{"ok": ...}` or `{"error": "..."}`.

use crate::net::hub::Hub;
use crate::plugins::LoadedPlugins;
use crate::sandbox::Sandbox;
use crate::service::{AdminReply, AdminRequest};
use crate::status;
use nix::poll::{PollFd, PollFlags};
use qpc_journal::Position;
use qpc_proto::id::{DeviceId, UserName};
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// Name of the socket in the data directory.
pub(crate) const SOCKET: &str = "control.sock";
/// Bytes of a request.
const MAX_REQUEST: usize = 4096;
/// How long the owner may take to ask.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is told besides what the hub knows.
pub(crate) struct About {
    pub(crate) address: String,
    pub(crate) listen: Vec<String>,
    pub(crate) sandbox: Sandbox,
    pub(crate) plugins: LoadedPlugins,
}

/// The door, and who stands in it. One at a time: it is one person.
#[derive(Debug)]
pub(crate) struct Door {
    listener: UnixListener,
    visitor: Option<Visitor>,
    /// Nobody is let in before: letting in failed.
    shut_until: Option<Instant>,
}

#[derive(Debug)]
struct Visitor {
    stream: UnixStream,
    /// Whoever takes longer is sent away.
    until: Instant,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Asking(Vec<u8>),
    /// For the disk.
    Waiting(AdminReply, Position),
    Answering {
        answer: Vec<u8>,
        written: usize,
    },
}

impl Door {
    /// Opens the door. What an earlier process left is in the way, and nobody's: the journal's lock is held.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, visitor: None, shut_until: None })
    }

    /// What is to be waited for.
    pub(crate) fn wait_for(&self) -> Option<PollFd<'_>> {
        let Some(visitor) = &self.visitor else {
            let open = self.shut_until.is_none();
            return open.then(|| PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
        };
        let flags = match visitor.stage {
            Stage::Asking(_) => PollFlags::POLLIN,
            Stage::Waiting(..) => return None,
            Stage::Answering { .. } => PollFlags::POLLOUT,
        };
        Some(PollFd::new(visitor.stream.as_fd(), flags))
    }

    /// When the next turn is due at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.visitor.as_ref().map_or(self.shut_until, |visitor| Some(visitor.until))
    }

    /// Does what can be done without waiting.
    pub(crate) fn turn(&mut self, hub: &mut Hub, about: &About, now: Instant) {
        if self.shut_until.is_some_and(|until| until <= now) {
            self.shut_until = None;
        }
        if self.visitor.is_none() && self.shut_until.is_none() {
            match self.listener.accept().and_then(|(stream, _)| Visitor::new(stream, now)) {
                Ok(visitor) => self.visitor = Some(visitor),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    log::warn!("control socket: {error}");
                    self.shut_until = Some(now + Duration::from_secs(1));
                }
            }
        }
        // One who went away is let go as one who was served.
        let served = |visitor: &mut Visitor| visitor.until <= now || visitor.turn(hub, about).unwrap_or(true);
        self.visitor.take_if(served);
    }
}

impl Visitor {
    fn new(stream: UnixStream, now: Instant) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, until: now + PATIENCE, stage: Stage::Asking(Vec::new()) })
    }

    /// Whether the visit is over.
    fn turn(&mut self, hub: &mut Hub, about: &About) -> io::Result<bool> {
        loop {
            match &mut self.stage {
                Stage::Asking(request) => {
                    let mut piece = [0; 512];
                    let Some(count) = ready(self.stream.read(&mut piece))? else { return Ok(false) };
                    request.extend_from_slice(&piece[..count]);
                    let end = piece[..count].contains(&b'\n') || count == 0 || request.len() >= MAX_REQUEST;
                    if end {
                        let request = String::from_utf8_lossy(request);
                        self.stage = match serde_json::from_str(request.lines().next().unwrap_or_default()) {
                            Ok(request) => decide(&request, hub, about),
                            Err(error) => Stage::answer(Err(error.to_string())),
                        };
                    }
                }
                Stage::Waiting(reply, position) => {
                    let durable = hub.durable();
                    if !durable.decided(*position) {
                        return Ok(false);
                    }
                    self.stage = Stage::answer(match *position <= durable.position {
                        true => tell(std::mem::replace(reply, AdminReply::Done)),
                        false => Err("the relay's disk failed".into()),
                    });
                }
                Stage::Answering { answer, written } => {
                    if *written == answer.len() {
                        return Ok(true);
                    }
                    let Some(count) = ready(self.stream.write(&answer[*written..]))? else {
                        return Ok(false);
                    };
                    *written += count;
                }
            }
        }
    }
}

/// What was done; nothing if it has to wait.
fn ready(done: io::Result<usize>) -> io::Result<Option<usize>> {
    match done {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Asks a running relay. `None` if none runs.
pub(crate) fn ask(path: &Path, request: &Value) -> io::Result<Option<Result<Value, String>>> {
    let mut stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream.take(64 << 20)).read_line(&mut line)?;
    let answer: Value = serde_json::from_str(&line)?;
    Ok(Some(match answer.get("error").and_then(Value::as_str) {
        Some(error) => Err(error.to_owned()),
        None => Ok(answer["ok"].clone()),
    }))
}

impl Stage {
    fn answer(answer: Result<Value, String>) -> Self {
        let answer = match answer {
            Ok(value) => json!({ "ok": value }),
            Err(error) => json!({ "error": error }),
        };
        Self::Answering { answer: format!("{answer}\n").into_bytes(), written: 0 }
    }
}

fn decide(request: &Value, hub: &mut Hub, about: &About) -> Stage {
    let answer = match text(request, "command") {
        "status" => Ok(status::status(hub, about)),
        "address" => Ok(about.address.clone().into()),
        command => match admin_request(command, request) {
            Ok(request) => {
                let (reply, position) = hub.admin(request);
                return Stage::Waiting(reply, position);
            }
            Err(error) => Err(error),
        },
    };
    Stage::answer(answer)
}

fn text<'a>(request: &'a Value, name: &str) -> &'a str {
    request.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn admin_request(command: &str, request: &Value) -> Result<AdminRequest, String> {
    let user = || UserName::new(text(request, "user")).map_err(|error| error.to_string());
    let device = || {
        DeviceId::from_hex(text(request, "device")).ok_or("a device id has 32 hexadecimal digits".to_owned())
    };
    Ok(match command {
        "invite" => AdminRequest::Invite,
        "user list" => AdminRequest::UserList,
        "user remove" => AdminRequest::UserRemove(user()?),
        "device list" => AdminRequest::DeviceList(user()?),
        "device revoke" => AdminRequest::DeviceRevoke(user()?, device()?),
        other => return Err(format!("'{}' is no command", other.escape_debug())),
    })
}

fn tell(reply: AdminReply) -> Result<Value, String> {
    match reply {
        AdminReply::Invite { code, seconds } => Ok(json!({ "code": code, "seconds": seconds })),
        AdminReply::Users(users) => {
            let user = |user: crate::service::AdminUser| json!({ "user": user.user.as_str(), "devices": user.devices });
            Ok(users.into_iter().map(user).collect())
        }
        AdminReply::Devices(devices) => {
            let device = |device: crate::service::AdminDevice| {
                json!({
                    "device": device.device.to_string(),
                    "label": device.label,
                    "online": device.online,
                    "queued": device.queued,
                    "idle_seconds": device.idle_seconds,
                })
            };
            Ok(devices.into_iter().map(device).collect())
        }
        AdminReply::Done => Ok(Value::Null),
        AdminReply::Refused(refusal) => Err(refusal.to_string()),
    }
}
