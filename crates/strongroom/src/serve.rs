//! `strongroom serve`: API, catalog, scheduler and a local worker in one process, until it is told to stop.
//! `strongroom worker`: the worker alone, beside servers and workers on the same catalog.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use strongroom_api::{ApiSettings, Listen, Pages, TlsFiles};
use strongroom_core::limits;
use strongroom_service::work::Worker;
use strongroom_service::{Scheduler, Service};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::bootstrap::{self, Opened, read_credentials};
use crate::config::{CatalogPlace, Config, ServeOptions, WorkerOptions};
use crate::exit::{Exit, Outcome, Stop};
use crate::{output, telemetry};

pub(crate) fn run(options: &ServeOptions) -> Outcome<()> {
    let config = Config::load(options)?;
    telemetry::start(&config.log, config.log_format)?;
    runtime()?.block_on(serve(&config))
}

pub(crate) fn run_worker(options: &WorkerOptions) -> Outcome<()> {
    let config = Config::load_worker(options)?;
    telemetry::start(&config.log, config.log_format)?;
    runtime()?.block_on(work(&config))
}

fn runtime() -> Outcome<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Stop::new(Exit::Failed, format!("the runtime does not start: {error}")))
}

async fn serve(config: &Config) -> Outcome<()> {
    let stop = stop_signal()?;
    let opened = bootstrap::open(config).await?;
    let listener = bind(config.listen, "--listen").await?;
    let endpoint = announce(config, &opened, &listener).await?;
    let settings = ApiSettings {
        region: config.region.clone(),
        connections_max: connections_for(open_files()),
        ..ApiSettings::default()
    };
    let worker = (!config.no_worker)
        .then(|| tokio::spawn(Worker::new(opened.service.clone()).run(told(stop.clone()))));
    let scheduler = tokio::spawn(schedule(opened.service.clone(), stop.clone()));
    output::data(format_args!("listening on {endpoint}"));
    let listen = Listen { listener, tls: tls(config) };
    let served = strongroom_api::serve(listen, opened.service.clone(), settings, told(stop)).await;
    if served.is_ok() {
        // They were told to stop as well; the worker hands back what it cannot finish.
        let _ = scheduler.await;
        if let Some(worker) = worker {
            let _ = worker.await;
        }
    }
    opened.service.refusals_end().await;
    opened.catalog.close().await;
    tracing::info!("Stopped.");
    Ok(served?)
}

/// A scheduler that broke would be missed by nobody for days: it begins anew.
async fn schedule(service: Service, stop: watch::Receiver<bool>) {
    loop {
        let scheduler = Scheduler::new(service.clone());
        let Err(broken) = tokio::spawn(scheduler.run(told(stop.clone()))).await else { return };
        tracing::error!("The scheduler ended early and begins anew: {broken}");
        tokio::time::sleep(Duration::from_millis(limits::SCHEDULE_INTERVAL_MS)).await;
    }
}

/// A worker without an API. Says on stdout that it works, and where it answers about its health.
async fn work(config: &Config) -> Outcome<()> {
    let stop = stop_signal()?;
    let opened = bootstrap::open_existing(config).await?;
    let worker = Worker::new(opened.service.clone());
    output::note(format_args!("{}", about(config, &opened)));
    if let Some(address) = config.health_listen {
        let listener = bind(address, "--health-listen").await?;
        output::data(format_args!("listening on {}", endpoint(config, &listener)?));
        let settings = ApiSettings { pages: Pages::Health, ..ApiSettings::default() };
        let listen = Listen { listener, tls: tls(config) };
        let served = strongroom_api::serve(listen, opened.service.clone(), settings, told(stop.clone()));
        tokio::spawn(async move {
            if let Err(error) = served.await {
                tracing::error!("Nobody is told about this worker's health any more: {}", error.chain());
            }
        });
    }
    output::data(format_args!("working as {}", worker.id()));
    worker.run(told(stop)).await;
    opened.catalog.close().await;
    tracing::info!("Stopped.");
    Ok(())
}

/// How many files this process may have open, after asking for all it can have.
fn open_files() -> usize {
    let allowed = getrlimit(Resource::Nofile);
    // Refused, it stays as it was.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: allowed.maximum, maximum: allowed.maximum });
    getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

/// Each connection is an open file; without one left, not even a refusal could be sent.
fn connections_for(files: usize) -> usize {
    let left = files.saturating_sub(limits::FILES_BESIDE_CONNECTIONS).max(files / 4);
    if left < limits::CONNECTIONS_MAX {
        tracing::warn!(
            "{files} open files are allowed: {left} connections at once are served, {} would be. \
             Raise the limit (LimitNOFILE, ulimit -n).",
            limits::CONNECTIONS_MAX
        );
    }
    left.min(limits::CONNECTIONS_MAX)
}

async fn bind(address: SocketAddr, option: &str) -> Outcome<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        Stop::new(Exit::Failed, format!("{address} cannot be listened on: {error}"))
            .with_hint(format!("stop what listens there, or give another {option}"))
    })
}

fn tls(config: &Config) -> Option<TlsFiles> {
    config.tls.clone().map(|(cert, key)| TlsFiles { cert, key })
}

fn endpoint(config: &Config, listener: &TcpListener) -> Outcome<String> {
    let address = listener
        .local_addr()
        .map_err(|error| Stop::new(Exit::Failed, format!("the listener has no address: {error}")))?;
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    Ok(format!("{scheme}://{address}"))
}

/// What a process begins with, for people.
fn about(config: &Config, opened: &Opened) -> String {
    let catalog = match &config.catalog {
        CatalogPlace::File(_) => "sqlite".to_owned(),
        server @ CatalogPlace::Server(_) => server.shown(),
    };
    format!(
        "strongroom {}  data {}  repository {} (encrypted)  catalog {catalog}",
        env!("CARGO_PKG_VERSION"),
        opened.data_dir.display(),
        config.repository_dir.display()
    )
}

/// Turns true at the first SIGTERM or SIGINT.
fn stop_signal() -> Outcome<watch::Receiver<bool>> {
    let listen = |kind| {
        signal(kind).map_err(|error| Stop::new(Exit::Failed, format!("signals cannot be received: {error}")))
    };
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let (tell, stop) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("Asked to stop; running jobs are given back.");
        let _ = tell.send(true);
    });
    Ok(stop)
}

async fn told(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|told| *told).await;
}

/// Tells people and files where it listens, and what is missing.
async fn announce(config: &Config, opened: &Opened, listener: &TcpListener) -> Outcome<String> {
    let endpoint = endpoint(config, listener)?;
    if let Some(credentials) = read_credentials(&opened.data_dir)? {
        credentials.listen_at(&opened.data_dir, &endpoint)?;
    }
    output::note(format_args!("{}", about(config, opened)));
    if !opened.service.recovery_kit_printed().await? {
        output::note("! The recovery kit has not been saved. A lost disk would mean lost backups.");
        output::next("strongroom recovery-kit print > kit.txt      (and keep it somewhere else)");
    }
    Ok(endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a09_connections_leave_files_for_everything_else() {
        assert_eq!(connections_for(usize::MAX), limits::CONNECTIONS_MAX);
        assert_eq!(
            connections_for(limits::CONNECTIONS_MAX + limits::FILES_BESIDE_CONNECTIONS),
            limits::CONNECTIONS_MAX
        );
        assert_eq!(connections_for(1024), 512);
        assert_eq!(connections_for(256), 64);
        assert!(open_files() >= 256);
    }
}
