//! The owner's door: a Unix socket in the data directory. A request is one line of JSON, `{"command": "status"}`, and so
//! is the answer: `{"ok": ...}` or `{"error": "..."}`.

use crate::net::hub::Hub;
use crate::sandbox::Sandbox;
use crate::service::{AdminReply, AdminRequest};
use crate::status;
use qpc_proto::id::{DeviceId, UserName};
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// Name of the socket in the data directory.
pub(crate) const SOCKET: &str = "control.sock";
/// Bytes of a request.
const MAX_REQUEST: u64 = 4096;
/// How long the owner may take to ask.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is told besides what the hub knows.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) address: String,
    pub(crate) listen: Vec<String>,
    pub(crate) sandbox: Sandbox,
}

/// Opens the door. What an earlier process left is in the way, and nobody's: the journal's lock is held.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers for ever.
pub(crate) async fn serve(listener: UnixListener, hub: Rc<Hub>, about: Rc<About>) {
    loop {
        match listener.accept().await {
            // One at a time: it is one person.
            Ok((stream, _)) => drop(timeout(PATIENCE, talk(stream, &hub, &about)).await),
            Err(error) => {
                log::warn!("control socket: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Asks a running relay. `None` if none runs.
pub(crate) fn ask(path: &Path, request: &Value) -> io::Result<Option<Result<Value, String>>> {
    let mut stream = match BlockingStream::connect(path) {
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

async fn talk(stream: UnixStream, hub: &Hub, about: &About) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    tokio::io::BufReader::new(read.take(MAX_REQUEST)).read_line(&mut line).await?;
    let answer = match serde_json::from_str(&line) {
        Ok(request) => decide(&request, hub, about).await,
        Err(error) => Err(error.to_string()),
    };
    let answer = match answer {
        Ok(value) => json!({ "ok": value }),
        Err(error) => json!({ "error": error }),
    };
    write.write_all(format!("{answer}\n").as_bytes()).await
}

async fn decide(request: &Value, hub: &Hub, about: &About) -> Result<Value, String> {
    let text = |name: &str| request.get(name).and_then(Value::as_str).unwrap_or_default();
    let user = || UserName::new(text("user")).map_err(|error| error.to_string());
    let device =
        || DeviceId::from_hex(text("device")).ok_or("a device id has 32 hexadecimal digits".to_owned());
    let request = match text("command") {
        "status" => return Ok(status::status(hub, about)),
        "address" => return Ok(about.address.clone().into()),
        "invite" => AdminRequest::Invite,
        "user list" => AdminRequest::UserList,
        "user remove" => AdminRequest::UserRemove(user()?),
        "device list" => AdminRequest::DeviceList(user()?),
        "device revoke" => AdminRequest::DeviceRevoke(user()?, device()?),
        other => return Err(format!("'{}' is no command", other.escape_debug())),
    };
    let (reply, position) = hub.admin(request);
    let mut durable = hub.durable();
    let waited = durable.wait_for(|now| now.position >= position || now.failed).await;
    if !waited.is_ok_and(|now| now.position >= position) {
        return Err("the relay's disk failed".into());
    }
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
