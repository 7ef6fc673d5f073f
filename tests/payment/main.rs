//! A payment service: it implements `payment.v1`, has a page where a payer pays or gives up, and sends signed callbacks.
//!
//! No money moves. It stands where a real payment service would, as a process of its own, so that the demo and the tests
//! meet what a network brings. Whatever it has answered survives a crash: all it knows is in one file, written before the
//! answer. Under `/control` it can be told to be slow, wrong or silent.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Parser;
use farebox_payment::v1::payment_service_server::PaymentServiceServer;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::callback::Sender;
use crate::store::Store;

mod behaviour;
mod callback;
mod control;
mod currency;
mod grpc;
mod page;
mod state;
mod store;

/// How often payments that nobody paid in time are looked for.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(500);

/// A payment service to try things with; no money moves.
#[derive(Debug, Parser)]
#[command(name = "payment-service")]
struct Arguments {
    /// Where `payment.v1` listens.
    #[arg(long)]
    grpc: SocketAddr,
    /// Where the payment page and the control API listen.
    #[arg(long)]
    http: SocketAddr,
    /// The file that keeps what it knows; made when it is not there.
    #[arg(long)]
    state: PathBuf,
    /// The secrets that sign callbacks: `whsec_…`, several separated by commas. Every callback is signed with each.
    #[arg(long)]
    secret_file: PathBuf,
    /// The address of the payment page as payers see it; without it, http:// and the address of --http.
    #[arg(long)]
    public_url: Option<String>,
    /// The certificate that `payment.v1` shows, PEM; with it, TLS is all that it speaks.
    #[arg(long, requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert, PEM.
    #[arg(long, requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Who vouches for callers of `payment.v1`, PEM; with it, only those with a certificate are served.
    #[arg(long, requires = "tls_cert")]
    client_ca: Option<PathBuf>,
}

impl Arguments {
    /// How `payment.v1` is protected, if it is.
    fn tls(&self) -> Result<Option<ServerTlsConfig>> {
        let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) else { return Ok(None) };
        let read = |path| fs::read(path).with_context(|| format!("cannot read {path:?}"));
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(read(cert)?, read(key)?));
        Ok(Some(match &self.client_ca {
            Some(ca) => tls.client_ca_root(Certificate::from_pem(read(ca)?)),
            None => tls,
        }))
    }
}

/// What all parts of the process share.
struct Service {
    store: Store,
    sender: Sender,
    public_url: String,
}

impl Service {
    /// Where a payer pays.
    fn payment_url(&self, payment_id: &str) -> String {
        format!("{}/pay/{payment_id}", self.public_url)
    }

    /// Closes payments whose time is over.
    async fn expire(&self, now_ms: u64) {
        if self.store.look(|state| state.has_expired(now_ms)) {
            self.store.change(|state| state.expire(now_ms)).await;
        }
    }
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut server = Server::builder();
    if let Some(tls) = arguments.tls()? {
        server = server.tls_config(tls).context("--tls-cert, --tls-key or --client-ca")?;
    }
    let Arguments { grpc, http, state, secret_file, public_url, .. } = arguments;
    let secrets = fs::read_to_string(&secret_file);
    let secrets = secrets.with_context(|| format!("cannot read --secret-file {secret_file:?}"))?;
    let sender = Sender::new(&secrets)
        .with_context(|| format!("--secret-file {secret_file:?} holds no usable secret"))?;
    let (to_send, queue) = mpsc::unbounded_channel();
    let store = Store::open(&state, to_send)
        .with_context(|| format!("cannot read or write --state {state:?}"))?;
    let public_url = public_url.unwrap_or_else(|| format!("http://{http}"));
    let public_url = public_url.trim_end_matches('/').to_owned();
    let service = Arc::new(Service { store, sender, public_url });

    let pages = TcpListener::bind(http).await.with_context(|| format!("cannot bind {http}"))?;
    let calls = TcpListener::bind(grpc).await.with_context(|| format!("cannot bind {grpc}"))?;
    tokio::spawn(callback::deliver_all(Arc::clone(&service), queue));
    tokio::spawn(close_what_expires(Arc::clone(&service)));

    let router = page::router().merge(control::router()).with_state(Arc::clone(&service));
    let contract = PaymentServiceServer::new(grpc::Contract::new(service));
    let calls = TcpIncoming::from(calls).with_nodelay(Some(true));
    eprintln!("payment.v1 at {grpc}, payment page at http://{http}");
    tokio::try_join!(
        async { axum::serve(pages, router).await.context("the payment page ended") },
        async {
            let served = server.add_service(contract).serve_with_incoming(calls);
            served.await.context("the gRPC server ended")
        },
    )?;
    Ok(())
}

/// Closes payments when their time is over, also those that nobody asks for.
async fn close_what_expires(service: Arc<Service>) {
    let mut ticks = tokio::time::interval(EXPIRY_INTERVAL);
    loop {
        ticks.tick().await;
        service.expire(now_ms()).await;
    }
}
