//! The listener: connections, TLS, header limits, shutdown.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
#[cfg(target_os = "linux")]
use socket2::SockRef;
use strongroom_core::{Error, ErrorKind, Result, limits};
use strongroom_service::Service;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::app::{ApiSettings, App};
use crate::caller::Source;
use crate::connections::{Busy, Connections, Place};
use crate::{entry, router};

/// Where to listen, bound already.
pub struct Listen {
    pub listener: TcpListener,
    pub tls: Option<TlsFiles>,
}

/// Certificate chain and private key, PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Serves until `shutdown`, then ends what is under way within the drain time.
pub async fn serve(
    listen: Listen,
    service: Service,
    settings: ApiSettings,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<()> {
    let tls = listen.tls.as_ref().map(acceptor).transpose()?;
    let app = App::new(service, settings, if tls.is_some() { "https" } else { "http" });
    let router = router::build(app.clone());
    let connections = Connections::new(app.settings.connections_max);
    let graceful = GracefulShutdown::new();
    tokio::pin!(shutdown);
    loop {
        // Somebody knocks first: nobody is sent away for a caller who never comes.
        let accepted = tokio::select! {
            accepted = listen.listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        let place = tokio::select! {
            place = connections.place() => place?,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, peer)) => open(&app, &router, &graceful, tls.clone(), stream, peer, place),
            Err(error) => {
                // Out of descriptors, or a connection that died in the queue: neither ends the server.
                tracing::warn!("A connection was not accepted: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
    let drain = std::time::Duration::from_millis(limits::DRAIN_TIMEOUT_MS / 6);
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("Some connections did not end in time and were closed.");
    }
    Ok(())
}

fn open(
    app: &App,
    router: &Router,
    graceful: &GracefulShutdown,
    tls: Option<TlsAcceptor>,
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
) {
    let _ = stream.set_nodelay(true);
    // The kernel ends a connection whose peer takes nothing; what was sent from then breaks off.
    #[cfg(target_os = "linux")]
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(app.settings.stalled_reader_timeout));
    let (app, router, watcher) = (app.clone(), router.clone(), graceful.watcher());
    tokio::spawn(async move {
        let place = Arc::new(place);
        let speaking = async {
            let source = Source(peer.ip());
            let Some(tls) = tls else { return speak(app, router, watcher, stream, source, &place).await };
            match tokio::time::timeout(app.settings.header_read_timeout, tls.accept(stream)).await {
                Ok(Ok(stream)) => speak(app, router, watcher, stream, source, &place).await,
                Ok(Err(error)) => tracing::debug!(peer = %peer, "TLS failed: {error}"),
                Err(_elapsed) => tracing::debug!(peer = %peer, "TLS took too long."),
            }
        };
        tokio::select! {
            () = speaking => {}
            () = place.is_wanted() => tracing::debug!(peer = %peer, "It had no request and made way."),
        }
    });
}

async fn speak(
    app: App,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    source: Source,
    place: &Arc<Place>,
) {
    let place = place.clone();
    let timeout = app.settings.header_read_timeout;
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (app, router, busy) = (app.clone(), router.clone(), Busy::new(&place));
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(source);
            let answer = entry::answer(app, router, request).await;
            // A body is work too, however long it streams.
            Ok::<_, std::convert::Infallible>(answer.map(|body| busy.until_the_end_of(body)))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_buf_size(limits::HEADERS_SIZE_BYTES_MAX)
        .keep_alive(true)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!("A connection ended early: {error}");
    }
}

fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor> {
    let unusable = |path: &Path, what: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Unavailable, format!("The TLS file {} cannot be used: {what}.", path.display()))
            .with_hint("give PEM files with --tls-cert and --tls-key")
    };
    let read = |path: &Path| std::fs::read(path).map_err(|error| unusable(path, &error));
    let (cert, key) = (read(&files.cert)?, read(&files.key)?);
    let chain: Vec<_> = rustls_pemfile::certs(&mut cert.as_slice())
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(&files.cert, &error))?;
    let key = rustls_pemfile::private_key(&mut key.as_slice())
        .map_err(|error| unusable(&files.key, &error))?
        .ok_or_else(|| unusable(&files.key, &"it holds no private key"))?;
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Error::internal)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| unusable(&files.cert, &error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
