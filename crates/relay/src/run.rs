//! The life of a relay: opening the store, listening, regular work, and a clean end.

use crate::bounds::NetBounds;
use crate::cli::address_of;
use crate::clock::Clock;
use crate::config::{Config, without_ipv6};
use crate::control::{self, About, Door};
use crate::keys::{DataDir, KeyError, local_names};
use crate::logger;
use crate::net::endpoint::{ListenError, listen, server_config};
use crate::net::hub::{Hub, RelayService};
use crate::net::server::Server;
use crate::plugins::LoadedPlugins;
use crate::sandbox::Sandbox;
use crate::service::{Origin, Rng, Service};
use crate::status::MetricsFile;
use crate::store::{JournalStore, StoreError};
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use qpc_journal::{Directory, Options};
use qpc_plugin_host::LoadError;
use qpc_transport::executor::wait;
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Why the relay does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Journal(#[from] qpc_journal::Error),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("plugin {name} is required: {source}")]
    Plugin { name: String, source: LoadError },
    #[error("the address cannot be printed")]
    Print,
    #[error("another relay is running on {}", .0.display())]
    Running(PathBuf),
    #[error("cannot start: {0}")]
    Start(io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot wait for the network: {0}")]
    Wait(io::Error),
}

/// Runs until it is told to stop. `announce` is given the address once the relay listens.
pub(crate) fn run(config: &Config, data: DataDir, announce: impl Fn(&str) -> bool) -> Result<(), RunError> {
    logger::install(config.log_level);
    let data = DataDir::create(&data.path(""))?;
    let root = data.path("");
    let metrics = config.metrics_file.as_deref().and_then(Path::parent);
    // Before there is another thread, which would get them instead.
    let signals = signals().map_err(|error| RunError::Start(error.into()))?;
    // Before the sandbox, which would keep them from their files.
    let plugins = LoadedPlugins::load(config).map_err(|(name, source)| RunError::Plugin { name, source })?;
    let of_plugins = config.plugin_open.iter().map(PathBuf::as_path);
    let writable: Vec<&Path> = [Some(&*root), metrics].into_iter().flatten().chain(of_plugins).collect();
    let sandbox = Sandbox::enter(&writable);
    let clock = Clock::new(config.clock_file.clone());
    let mut service = open(config, &data, &clock)?;
    service.set_hooks(plugins.hooks());
    let hub = Hub::new(service, clock).map_err(RunError::Start)?;

    let bounds = NetBounds::default();
    let names = local_names(&config.name);
    let identity = data.identity(&names)?;
    let secret = std::fs::read(data.path("opaque.key"));
    let secret = secret.map_err(|source| RunError::File { path: data.path("opaque.key"), source })?;
    let mut listeners = Vec::new();
    for address in config.listen() {
        listeners.push(match (listen(address, &identity, &bounds, &secret), without_ipv6(address)) {
            (Err(_), Some(v4)) if config.listen.is_empty() => listen(v4, &identity, &bounds, &secret),
            (listener, _) => listener,
        }?);
    }
    let bound: Vec<SocketAddr> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let port = bound.first().map_or(0, SocketAddr::port);
    let address = address_of(config, &bound, port, identity.fingerprint).to_string();
    let listen = bound.iter().map(ToString::to_string).collect();
    let about = About { address: address.clone(), listen, sandbox, plugins };

    let socket = data.path(control::SOCKET);
    let door = Door::open(&socket).map_err(|source| RunError::File { path: socket.clone(), source })?;
    log::info!("listening on {}", about.listen.join(" and "));
    if !announce(&address) {
        return Err(RunError::Print);
    }
    let now = Instant::now();
    let file = config.metrics_file.clone();
    let relay = Relay {
        config,
        data: &data,
        names,
        server: Server::new(hub, listeners, bounds, config.max_connections),
        signals,
        door,
        metrics: file.map(|file| MetricsFile::new(file, config.metrics_interval, now)),
        about,
        tick: now,
        end: End::NotYet,
    };
    let ended = relay.run();
    let _ = std::fs::remove_file(socket);
    ended
}

/// A relay that listens: all that is waited for, on one thread.
struct Relay<'a> {
    config: &'a Config,
    data: &'a DataDir,
    /// In the certificate.
    names: BTreeSet<String>,
    server: Server,
    signals: SignalFd,
    door: Door,
    metrics: Option<MetricsFile>,
    about: About,
    /// When regular work is due.
    tick: Instant,
    end: End,
}

/// How far the end has come.
#[derive(Clone, Copy)]
enum End {
    NotYet,
    /// Sessions say goodbye and end.
    Farewell(Instant),
    /// Those that did not are closed.
    Closing(Instant),
}

impl Relay<'_> {
    fn run(mut self) -> Result<(), RunError> {
        let mut synced = Ok(());
        loop {
            let ready = self.wait().map_err(|error| RunError::Wait(error.into()))?;
            let now = Instant::now();
            let [signals, door, server @ ..] = &*ready else { continue };
            self.server.turn(server, now);
            let visited = !door.is_empty() || self.door.deadline().is_some();
            if visited {
                self.door.turn(self.server.hub(), &self.about, now);
            }
            if !signals.is_empty() {
                self.take_signals(now);
            }
            self.work(now);
            match self.end {
                End::Farewell(until) if self.server.hub().connections == 0 || until <= now => {
                    synced = self.server.hub().sync_now();
                    self.server.close();
                    self.end = End::Closing(now + FAREWELL);
                }
                End::Closing(until) if self.server.is_empty() || until <= now => return Ok(synced?),
                _ => {}
            }
        }
    }

    /// Waits until something can be done: signals, the door, and what else the server waits for.
    fn wait(&self) -> nix::Result<Vec<PollFlags>> {
        let now = Instant::now();
        let end = match self.end {
            End::NotYet => None,
            End::Farewell(until) | End::Closing(until) => Some(until),
        };
        let metrics = self.metrics.as_ref().map(|metrics| metrics.due);
        let plugins = self.about.plugins.deadline();
        let deadlines =
            [self.server.deadline(now), self.door.deadline(), plugins, metrics, end, Some(self.tick)];
        let until = deadlines.into_iter().flatten().min().unwrap_or(self.tick);
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        // Its place is taken even if there is nothing to wait for.
        let nothing = || PollFd::new(self.signals.as_fd(), PollFlags::empty());
        fds.push(self.door.wait_for().unwrap_or_else(nothing));
        self.server.wait_for(&mut fds);
        wait(&mut fds, Some(until))?;
        Ok(fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty())).collect())
    }

    fn take_signals(&mut self, now: Instant) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            // A terminal that is closed, or a habit: configuration is read at start only.
            if signal.ssi_signo == Signal::SIGHUP as u32 {
                log::info!("restart the relay to read its configuration again");
            } else if matches!(self.end, End::NotYet) {
                log::info!("going down");
                self.about.plugins.shut_down();
                self.server.hub().say_goodbye();
                self.end = End::Farewell(now + FAREWELL);
            }
        }
    }

    /// What is due by the clock.
    fn work(&mut self, now: Instant) {
        if self.tick <= now {
            self.tick = now + TICK;
            self.server.hub().tick(self.config.compaction_bytes);
            self.renew();
        }
        self.about.plugins.watch(now);
        if let Some(metrics) = &mut self.metrics {
            metrics.turn(self.server.hub(), &self.about, now);
        }
    }

    /// Shows new connections a certificate with today's addresses.
    fn renew(&mut self) {
        let today = local_names(&self.config.name);
        if today == self.names {
            return;
        }
        let renewed = self.data.identity(&today).map_err(RunError::from).and_then(|identity| {
            self.server.set_config(&server_config(&identity, &NetBounds::default())?);
            Ok(())
        });
        match renewed {
            Ok(()) => self.names = today,
            Err(error) => log::warn!("this machine's addresses changed, but not the certificate: {error}"),
        }
    }
}

/// Has signals wait to be read.
fn signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().for_each(|signal| set.add(signal));
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

fn open(config: &Config, data: &DataDir, clock: &Clock) -> Result<RelayService, RunError> {
    let path = data.path("store");
    let options = Options {
        segment_bytes: config.segment_bytes,
        max_bytes: config.disk_bytes,
        // What was delivered is gone from the disk within a month.
        garbage_age: Some(Duration::from_secs(30 * 24 * 3600)),
        ..Options::default()
    };
    let directory = Directory::open(&path).map_err(|error| match error {
        qpc_journal::Error::Locked { .. } => RunError::Running(data.path("")),
        error => error.into(),
    })?;
    let (store, report) = JournalStore::open(directory, options)?;
    if report.torn_bytes > 0 {
        log::info!("cut {} bytes that a crash had left half written", report.torn_bytes);
    }
    if report.damaged > 0 {
        log::error!("the store is damaged in {} places; clients will be asked to compare", report.damaged);
    }
    let mut rng: Rng = Box::new(rand_core::OsRng);
    let keys = data.service_keys(&mut rng)?;
    let origin = Origin { place: place(&data.path("opaque.key")), damaged: report.damaged };
    Ok(Service::new(store, keys, config.policy.clone(), rng, origin, clock.now())?)
}

/// What tells a store from its copy: which inode a file has that is as old as the store. Not the folder's: where a router's flash lies
/// over its squashfs that is another after each boot, and so is the device.
fn place(key: &Path) -> Vec<u8> {
    std::fs::metadata(key).map(|metadata| metadata.ino().to_be_bytes().to_vec()).unwrap_or_default()
}

/// How often regular work is done.
const TICK: Duration = Duration::from_secs(60);
/// How long the end may take.
const FAREWELL: Duration = Duration::from_secs(2);
