//! `farebox serve`: from a checked configuration to three listeners, and back down without losing a request.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::listener::{Bound, ListenError, Protocols};
use crate::api::{self, Gateways, Identities, Operators, Public, Tokens};
use crate::app::NotReady;
use crate::assembly::{AssemblyError, assemble};
use crate::config::{Config, ConfigError};
use crate::events::{EventSender, EventSettingsError};
use crate::jobs;
use crate::metrics::{self, ListenerName, MetricsError};
use crate::store::{Store, StoreError};
use crate::webhook::{CallbackKeyError, CallbackKeys};

mod descriptors;
mod listener;

/// How long a shutdown waits for requests in progress, then for jobs and connections.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Why the sidecar did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A secret that only `serve` needs is missing.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The settings of what stands beside the database cannot be used.
    #[error(transparent)]
    Assembly(#[from] AssemblyError),
    /// A callback secret is no key.
    #[error("payment_service {0}")]
    CallbackKey(#[from] CallbackKeyError),
    /// Events cannot be sent with these settings.
    #[error(transparent)]
    Events(#[from] EventSettingsError),
    /// The price book was not brought in line.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An address that cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The ready file cannot be written or removed.
    #[error("--ready-file is {path:?}: {problem}; name a file in a directory that can be written")]
    ReadyFile {
        /// Its path.
        path: String,
        /// What the system said.
        problem: io::Error,
    },
    /// The system gives no signals.
    #[error("signals cannot be received: {0}")]
    Signals(io::Error),
    /// Nothing can be measured.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The schema is not this program's.
    #[error(transparent)]
    NotReady(#[from] NotReady),
}

/// The bound addresses, as the ready file tells them.
#[derive(Debug, Serialize)]
struct Addresses {
    internal: SocketAddr,
    admin: SocketAddr,
    public: SocketAddr,
}

struct Listeners {
    internal: Bound,
    admin: Bound,
    public: Bound,
}

/// Serves on a database that is connected, until SIGTERM or SIGINT.
pub async fn serve(
    config: &Config,
    store: Store,
    ready_file: Option<PathBuf>,
) -> Result<(), ServeError> {
    let gateway_tokens = config.require_gateway_tokens()?;
    let callback_keys = CallbackKeys::new(config.require_callback_secrets()?)?;
    let events = config.require_signed_events()?.map(EventSender::new).transpose()?;
    if let Some(path) = &ready_file {
        remove_stale(path)?;
    }
    let metrics = metrics::install()?;
    let (app, cache) = assemble(config, store.clone())?;
    let app = match events {
        Some(events) => app.with_events(events),
        None => app,
    };
    app.ready().await?;
    let changed = app.seed_prices().await?;
    tracing::info!(price.changed_count = changed, "the price book follows the configuration");
    let listeners = Listeners::bind(config).await?;
    let addresses = listeners.addresses();

    let (stop, stopping) = watch::channel(false);
    let mut signals = Signals::new().map_err(ServeError::Signals)?;
    let jobs = tokio::spawn(jobs::run(app.clone(), stopping.clone()));
    tokio::spawn({
        let cache = cache.clone();
        async move { cache.announce().await }
    });
    tokio::spawn(metrics.clone().upkeep(stopping.clone()));
    let gateways =
        Gateways::new(app.clone(), Tokens::new(gateway_tokens), config.server.internal.timeout);
    let identities = Identities::new(gateway_tokens);
    let public = Public::new(
        app.clone(),
        identities,
        callback_keys,
        config.server.public.timeout,
        config.database.max_connections,
    );
    let operators = Operators { app, cache, metrics, tokens: Tokens::new(&config.admin_tokens) };
    let connections_max = descriptors::divide(config.database.max_connections);
    let servers = listeners.spawn(gateways, operators, public, connections_max, &stopping);
    if let Some(path) = &ready_file {
        write_ready(path, &addresses)?;
    }
    let name = signals.recv().await;
    tracing::info!(signal = name, "shutting down");
    // Every receiver may be gone already, which is what the value asks for.
    let _ = stop.send(true);
    wind_down(servers, jobs, &store).await;
    tracing::info!("stopped");
    Ok(())
}

impl Listeners {
    /// All three before any of them serves: a sidecar that cannot stand whole does not stand at all.
    async fn bind(config: &Config) -> Result<Self, ListenError> {
        let server = &config.server;
        Ok(Self {
            internal: Bound::new(ListenerName::Internal, server.internal.addr).await?,
            admin: Bound::new(ListenerName::Admin, server.admin).await?,
            public: Bound::new(ListenerName::Public, server.public.addr).await?,
        })
    }

    fn addresses(&self) -> Addresses {
        Addresses { internal: self.internal.addr, admin: self.admin.addr, public: self.public.addr }
    }

    fn spawn(
        self,
        gateways: Gateways,
        operators: Operators,
        users: Public,
        connections_max: usize,
        stopping: &watch::Receiver<bool>,
    ) -> JoinSet<()> {
        let Self { internal, admin, public } = self;
        let mut servers = JoinSet::new();
        let routes = api::internal(gateways);
        servers.spawn(internal.serve(
            routes,
            Protocols::Http1And2,
            connections_max,
            stopping.clone(),
        ));
        for (bound, routes) in [(admin, api::admin(operators)), (public, api::public(users))] {
            servers.spawn(bound.serve(routes, Protocols::Http1, connections_max, stopping.clone()));
        }
        servers
    }
}

/// Requests first, then the jobs, then the connections they used; each part bounded, because an orchestrator kills late ones.
async fn wind_down(mut servers: JoinSet<()>, jobs: tokio::task::JoinHandle<()>, store: &Store) {
    let drained = async { while servers.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
        tracing::warn!("requests were still open when their time was up");
    }
    let rest = async {
        if let Err(err) = jobs.await {
            tracing::error!(error = %err, "the jobs ended early");
        }
        store.close().await;
    };
    if tokio::time::timeout(DRAIN_MAX, rest).await.is_err() {
        tracing::warn!(
            "transactions were still open when their time was up; the database rolls them back"
        );
    }
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn recv(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Whoever waits for the file must not find that of an earlier run.
fn remove_stale(path: &Path) -> Result<(), ServeError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(err) => Err(ready_file_error(path, err)),
    }
}

/// Written beside and renamed, so that a reader finds the whole file or none.
fn write_ready(path: &Path, addresses: &Addresses) -> Result<(), ServeError> {
    let text = serde_json::to_string(addresses).map_err(io::Error::from);
    let partial = path.with_extension("partial");
    text.and_then(|text| fs::write(&partial, text))
        .and_then(|()| fs::rename(&partial, path))
        .map_err(|err| ready_file_error(path, err))
}

fn ready_file_error(path: &Path, problem: io::Error) -> ServeError {
    ServeError::ReadyFile { path: path.display().to_string(), problem }
}
