//! `coquic-perf`: measures QUIC. See the README.

#![deny(unsafe_code)]

mod client;
mod driver;
mod options;
mod peer;
mod protocol;
mod quinn_backend;
mod report;
mod server;
mod setup;
mod socket;

use client::Client;
use driver::Target;
use options::{Backend, Command, Options, Role, USAGE};
use report::{Measured, Report};
use server::Server;
use socket::Socket;
use std::future::{Future, pending};
use std::io::Write;
use std::net::UdpSocket;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// A run that failed.
const FAILED: u8 = 1;
/// A command line that makes no sense.
const USAGE_ERROR: u8 = 2;

fn main() -> ExitCode {
    match Options::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        Ok(Command::Run(options)) => match run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => {
                eprintln!("coquic-perf: {reason}");
                ExitCode::from(FAILED)
            }
        },
        Err(usage) => {
            eprintln!("coquic-perf: {}\n{USAGE}", usage.0);
            ExitCode::from(USAGE_ERROR)
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    match options.role {
        Role::Server => runtime.block_on(serve(options)),
        Role::Client => {
            let (measured, result) = match runtime.block_on(measure(options)) {
                Ok(client) => client.result(),
                Err(reason) => (Measured::default(), Err(reason)),
            };
            publish(options, &Report::new(options, measured, result))
        }
    }
}

async fn serve(options: &Options) -> Result<(), String> {
    let mut server = Server::new(options.alpn, setup::exit());
    let io = socket::bind(socket::resolve(&options.host, options.port)?)?;
    let local = io.local_addr().map_err(|error| error.to_string())?;
    let identity = setup::Identity::find(options)?;
    // Whoever started this with port 0 wants to know.
    let listening = || eprintln!("coquic-perf: listening on {local}");
    match options.backend {
        Backend::Coquic => {
            let endpoint = setup::coquic_server(options, identity)?;
            listening();
            driver::run(endpoint, open(io)?, None, &mut server, stop()?).await
        }
        Backend::Quinn => {
            let config = setup::quinn_server(options, &identity)?;
            listening();
            quinn_backend::serve(io, config, server, stop()?).await
        }
    }
}

async fn measure(options: &Options) -> Result<Client, String> {
    let mut client = Client::new(options.work.clone(), options.alpn);
    let address = socket::resolve(&options.host, options.port)?;
    let io = socket::bind(socket::any_for(address))?;
    let target = Target { address, server_name: options.server_name.clone() };
    match options.backend {
        Backend::Coquic => {
            let endpoint = setup::coquic_client(options)?;
            driver::run(endpoint, open(io)?, Some(target), &mut client, pending()).await?;
            Ok(client)
        }
        Backend::Quinn => quinn_backend::measure(io, setup::quinn_client(options)?, target, client).await,
    }
}

fn open(io: UdpSocket) -> Result<Socket, String> {
    Socket::new(io).map_err(|error| format!("cannot use the socket: {error}"))
}

/// SIGTERM or SIGINT.
fn stop() -> Result<impl Future<Output = ()>, String> {
    let of = |kind| signal(kind).map_err(|error| format!("cannot watch for signals: {error}"));
    let (mut terminate, mut interrupt) = (of(SignalKind::terminate())?, of(SignalKind::interrupt())?);
    Ok(std::future::poll_fn(move |context| {
        if terminate.poll_recv(context).is_ready() || interrupt.poll_recv(context).is_ready() {
            return std::task::Poll::Ready(());
        }
        std::task::Poll::Pending
    }))
}

fn publish(options: &Options, report: &Report<'_>) -> Result<(), String> {
    writeln!(std::io::stdout(), "{}", report.line()).map_err(|error| format!("standard output: {error}"))?;
    if let Some(path) = &options.json_out {
        std::fs::write(path, report.json()).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    report.failure().map_or(Ok(()), |reason| Err(reason.to_owned()))
}
