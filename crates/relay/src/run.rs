//! The life of a relay: opening the store, listening, regular work, and a clean end.

use crate::bounds::NetBounds;
use crate::cli::address_of;
use crate::clock::Clock;
use crate::config::{Config, without_ipv6};
use crate::control::{self, About};
use crate::keys::{DataDir, KeyError, local_names};
use crate::net::endpoint::{ListenError, Listeners, listen, server_config};
use crate::net::hub::Hub;
use crate::sandbox::Sandbox;
use crate::service::{Origin, Rng, Service};
use crate::store::{JournalStore, StoreError};
use crate::tasks::spawn;
use crate::{logger, status};
use qpc_journal::{Directory, Options};
use quinn::Endpoint;
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use tokio::runtime::LocalOptions;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{interval, sleep, timeout};

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
    #[error("the address cannot be printed")]
    Print,
    #[error("another relay is running on {}", .0.display())]
    Running(PathBuf),
    #[error("cannot start: {0}")]
    Start(io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Runs until it is told to stop. `announce` is given the address once the relay listens.
pub(crate) fn run(config: &Config, data: DataDir, announce: impl Fn(&str) -> bool) -> Result<(), RunError> {
    logger::install(config.log_level);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build_local(LocalOptions::default()).map_err(RunError::Start)?;
    runtime.block_on(serve(config, data, announce))
}

async fn serve(config: &Config, data: DataDir, announce: impl Fn(&str) -> bool) -> Result<(), RunError> {
    let data = DataDir::create(&data.path(""))?;
    let root = data.path("");
    let metrics = config.metrics_file.as_deref().and_then(Path::parent);
    let sandbox = Sandbox::enter(&[Some(&*root), metrics].into_iter().flatten().collect::<Vec<_>>());
    let clock = Clock::new(config.clock_file.clone());
    let service = open(config, &data, &clock)?;
    let (hub, results) = Hub::new(service, clock).map_err(RunError::Start)?;
    {
        let hub = Rc::clone(&hub);
        spawn(async move { hub.run_syncs(results).await });
    }

    let bounds = NetBounds::default();
    let mut names = local_names(&config.name);
    let identity = data.identity(&names)?;
    let secret = std::fs::read(data.path("opaque.key"));
    let secret = secret.map_err(|source| RunError::File { path: data.path("opaque.key"), source })?;
    let listeners = Listeners::new(Rc::clone(&hub), bounds.clone(), config.max_connections);
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for address in config.listen() {
        let endpoint = match (listen(address, &identity, &bounds, &secret), without_ipv6(address)) {
            (Err(_), Some(v4)) if config.listen.is_empty() => listen(v4, &identity, &bounds, &secret),
            (endpoint, _) => endpoint,
        }?;
        spawn(Rc::clone(&listeners).serve(endpoint.clone()));
        endpoints.push(endpoint);
    }
    let bound: Vec<SocketAddr> = endpoints.iter().filter_map(|endpoint| endpoint.local_addr().ok()).collect();
    let port = bound.first().map_or(0, SocketAddr::port);
    let address = address_of(config, &bound, port, identity.fingerprint).to_string();
    let about = Rc::new(About {
        address: address.clone(),
        listen: bound.iter().map(ToString::to_string).collect(),
        sandbox,
    });

    let socket = data.path(control::SOCKET);
    let door = control::listen(&socket).map_err(|source| RunError::File { path: socket.clone(), source })?;
    spawn(control::serve(door, Rc::clone(&hub), Rc::clone(&about)));
    if let Some(file) = config.metrics_file.clone() {
        spawn(write_metrics(Rc::clone(&hub), Rc::clone(&about), file, config.metrics_interval));
    }
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Start)?;
    // A terminal that is closed, or a habit: configuration is read at start only.
    let mut hangup = signal(SignalKind::hangup()).map_err(RunError::Start)?;
    log::info!("listening on {}", about.listen.join(" and "));
    if !announce(&address) {
        return Err(RunError::Print);
    }

    let mut minutes = interval(TICK);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => log::info!("restart the relay to read its configuration again"),
            _ = minutes.tick() => {
                hub.tick(config.compaction_bytes);
                renew(config, &data, &bounds, &endpoints, &mut names);
            }
        }
    }
    log::info!("going down");
    hub.say_goodbye();
    // Sessions say goodbye and end; those that do not are closed.
    let _ = timeout(FAREWELL, async {
        while hub.connections.get() > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let synced = hub.sync_now();
    for endpoint in &endpoints {
        endpoint.close(0u32.into(), b"the relay is restarting");
        let _ = timeout(FAREWELL, endpoint.wait_idle()).await;
    }
    let _ = std::fs::remove_file(socket);
    Ok(synced?)
}

fn open(config: &Config, data: &DataDir, clock: &Clock) -> Result<crate::net::hub::RelayService, RunError> {
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
    let origin = Origin { place: place(&path), damaged: report.damaged };
    Ok(Service::new(store, keys, config.policy.clone(), rng, origin, clock.now())?)
}

/// What tells a directory from its copy.
fn place(path: &Path) -> Vec<u8> {
    let Ok(metadata) = std::fs::metadata(path) else { return Vec::new() };
    [metadata.dev().to_be_bytes(), metadata.ino().to_be_bytes()].concat()
}

/// Shows new connections a certificate with today's addresses.
fn renew(
    config: &Config,
    data: &DataDir,
    bounds: &NetBounds,
    endpoints: &[Endpoint],
    names: &mut BTreeSet<String>,
) {
    let today = local_names(&config.name);
    if today == *names {
        return;
    }
    let renewed = data.identity(&today).map_err(RunError::from).and_then(|identity| {
        for endpoint in endpoints {
            endpoint.set_server_config(Some(server_config(&identity, bounds)?));
        }
        Ok(())
    });
    match renewed {
        Ok(()) => *names = today,
        Err(error) => log::warn!("this machine's addresses changed, but not the certificate: {error}"),
    }
}

async fn write_metrics(hub: Rc<Hub>, about: Rc<About>, file: PathBuf, every: Duration) {
    let temporary = file.with_extension("new");
    let mut failed = false;
    loop {
        let text = status::metrics(&status::status(&hub, &about));
        let write = || -> io::Result<()> {
            let mut options = std::fs::OpenOptions::new();
            let mut out = options.write(true).create(true).truncate(true).mode(0o644).open(&temporary)?;
            io::Write::write_all(&mut out, text.as_bytes())?;
            std::fs::rename(&temporary, &file)
        };
        match write() {
            Ok(()) => failed = false,
            // Once, not every minute.
            Err(error) if !failed => {
                log::warn!("cannot write {}: {error}", file.display());
                failed = true;
            }
            Err(_) => {}
        }
        sleep(every).await;
    }
}

/// How often regular work is done.
const TICK: Duration = Duration::from_secs(60);
/// How long the end may take.
const FAREWELL: Duration = Duration::from_secs(2);
