//! `strongroom serve`: API, catalog and a local worker in one process, until it is told to stop.

use strongroom_api::{ApiSettings, Listen, TlsFiles};
use strongroom_service::work::Worker;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::bootstrap::{self, Opened, read_credentials};
use crate::config::{Config, ServeOptions};
use crate::exit::{Exit, Outcome, Stop};
use crate::{output, telemetry};

pub(crate) fn run(options: &ServeOptions) -> Outcome<()> {
    let config = Config::load(options)?;
    telemetry::start(&config.log, config.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Stop::new(Exit::Failed, format!("the runtime does not start: {error}")))?;
    runtime.block_on(serve(&config))
}

async fn serve(config: &Config) -> Outcome<()> {
    let stop = stop_signal()?;
    let opened = bootstrap::open(config).await?;
    let listener = TcpListener::bind(config.listen).await.map_err(|error| {
        Stop::new(Exit::Failed, format!("{} cannot be listened on: {error}", config.listen))
            .with_hint("stop what listens there, or give another --listen")
    })?;
    let endpoint = announce(config, &opened, &listener).await?;
    let settings = ApiSettings { region: config.region.clone(), ..ApiSettings::default() };
    let tls = config.tls.clone().map(|(cert, key)| TlsFiles { cert, key });
    let worker = Worker::new(opened.service.clone()).run(told(stop.clone()));
    let worker = tokio::spawn(worker);
    output::data(format_args!("listening on {endpoint}"));
    let listen = Listen { listener, tls };
    let served = strongroom_api::serve(listen, opened.service.clone(), settings, told(stop)).await;
    if served.is_ok() {
        // It was told to stop as well, and hands back what it cannot finish.
        let _ = worker.await;
    }
    opened.catalog.close().await;
    tracing::info!("Stopped.");
    Ok(served?)
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
    let address = listener
        .local_addr()
        .map_err(|error| Stop::new(Exit::Failed, format!("the listener has no address: {error}")))?;
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let endpoint = format!("{scheme}://{address}");
    if let Some(credentials) = read_credentials(&opened.data_dir)? {
        credentials.listen_at(&opened.data_dir, &endpoint)?;
    }
    output::note(format_args!(
        "strongroom {}  data {}  repository {} (encrypted)  catalog sqlite",
        env!("CARGO_PKG_VERSION"),
        opened.data_dir.display(),
        config.repository_dir.display()
    ));
    if !opened.service.recovery_kit_printed().await? {
        output::note("! The recovery kit has not been saved. A lost disk would mean lost backups.");
        output::next("strongroom recovery-kit print > kit.txt      (and keep it somewhere else)");
    }
    Ok(endpoint)
}
