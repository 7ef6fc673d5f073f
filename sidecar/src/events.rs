//! Sends events to whoever the operator named: signed messages of Standard Webhooks, by HTTP.
//!
//! The status of the answer is all that counts: no redirect is followed, and no body is read.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, USER_AGENT};
use axum::http::uri::{InvalidUri, Scheme};
use axum::http::{Request, StatusCode, Uri};
use chrono::Utc;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP};
use tracing::{Instrument as _, Span};

use crate::config::Events;
use crate::trace;
use crate::webhook::{CallbackKeyError, SigningKeys};

/// How long a connection that nobody uses stays open: shorter than most servers keep theirs.
const IDLE_MAX: Duration = Duration::from_secs(20);

const AGENT: &str = concat!("farebox/", env!("CARGO_PKG_VERSION"));

/// Sends events, one by one.
#[derive(Clone)]
pub struct EventSender {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: Uri,
    keys: SigningKeys,
    timeout: Duration,
}

/// Settings that nothing can be sent with.
#[derive(Debug, thiserror::Error)]
pub enum EventSettingsError {
    /// An address that cannot be called.
    #[error("events.url cannot be called: {0}; write it as http://host/path or https://host/path")]
    Url(#[from] InvalidUri),
    /// A secret that is no key.
    #[error("the secret of events {0}")]
    Key(#[from] CallbackKeyError),
    /// TLS without anybody to trust.
    #[error(
        "events.url begins with https, but there is no certificate authority to trust: {0}; install the system's (Debian: ca-certificates), or name a PEM file in SSL_CERT_FILE"
    )]
    Authorities(io::Error),
    /// TLS that cannot be set up.
    #[error("events.url cannot be called with TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Why an event was not delivered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliveryError {
    /// An answer that is no yes.
    #[error("the receiver answered {0}")]
    Status(StatusCode),
    /// No answer in time.
    #[error("the receiver did not answer within {0:?}")]
    Late(Duration),
    /// No connection, or one that broke.
    #[error("the receiver cannot be reached: {0}")]
    Unreachable(String),
    /// An event that no request can carry.
    #[error("the event cannot be sent: {0}")]
    Unsendable(#[from] axum::http::Error),
}

impl EventSender {
    /// Prepares the client; nothing is sent yet.
    pub fn new(settings: &Events) -> Result<Self, EventSettingsError> {
        let url: Uri = settings.url.parse()?;
        let tls = tls(url.scheme() == Some(&Scheme::HTTPS))?;
        Self::with_tls(settings, url, tls)
    }

    fn with_tls(
        settings: &Events,
        url: Uri,
        tls: ClientConfig,
    ) -> Result<Self, EventSettingsError> {
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .build(connector.build());
        let keys = SigningKeys::new(&settings.secrets)?;
        Ok(Self { client, url, keys, timeout: settings.timeout })
    }

    /// The longest time of one delivery.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends an event once, signed with the time of this attempt. Reads the clock.
    pub(crate) async fn send(&self, event_id: &str, body: &str) -> Result<(), DeliveryError> {
        let now = Utc::now().timestamp();
        let mut request = Request::post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, AGENT)
            .header(HEADER_WEBHOOK_ID, event_id)
            .header(HEADER_WEBHOOK_TIMESTAMP, now)
            .header(HEADER_WEBHOOK_SIGNATURE, self.keys.sign(event_id, now, body))
            .body(Full::from(body.to_owned()))?;
        let span = trace::event(self.url.host().unwrap_or_default());
        span.in_scope(|| trace::inject_into(request.headers_mut()));
        let outcome = self.exchange(request, &span).instrument(span.clone()).await;
        if outcome.is_err() {
            span.record("otel.status_code", "ERROR");
        }
        outcome
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        span: &Span,
    ) -> Result<(), DeliveryError> {
        let answer = tokio::time::timeout(self.timeout, self.client.request(request)).await;
        let answer = answer.map_err(|_| DeliveryError::Late(self.timeout))?;
        let status = answer.map_err(|err| DeliveryError::Unreachable(causes(&err)))?.status();
        span.record("http.response.status_code", status.as_u16());
        if status.is_success() { Ok(()) } else { Err(DeliveryError::Status(status)) }
    }
}

impl fmt::Debug for EventSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSender")
            .field("url", &self.url)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

/// TLS that trusts whom the system trusts; without need of it, nobody, so that a system without authorities will do.
fn tls(is_needed: bool) -> Result<ClientConfig, EventSettingsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    let builder = if is_needed {
        builder.with_native_roots().map_err(EventSettingsError::Authorities)?
    } else {
        builder.with_root_certificates(RootCertStore::empty())
    };
    Ok(builder.with_no_client_auth())
}

/// The error with what caused it: the first text alone says no more than that something failed.
fn causes(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        text.push_str(": ");
        text.push_str(&err.to_string());
        cause = err.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
    use rustls::ServerConfig;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::config::Secret;

    const SECRET: &str = "whsec_ZXZlbnRzLXNlY3JldC1vZi10aGUtdW5pdC10ZXN0cw==";

    fn settings(url: &str) -> Events {
        let (secrets, timeout) = (vec![Secret::new(SECRET)], Duration::from_secs(60));
        Events { url: url.to_owned(), secrets, timeout }
    }

    /// A sender that trusts this certificate alone.
    fn sender(url: &str, trusted: CertificateDer<'static>) -> EventSender {
        let mut roots = RootCertStore::empty();
        roots.add(trusted).unwrap();
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        EventSender::with_tls(&settings(url), url.parse().unwrap(), tls).unwrap()
    }

    fn certificate() -> CertifiedKey<KeyPair> {
        generate_simple_self_signed(["localhost".to_owned()]).unwrap()
    }

    /// Answers every request on a connection of its own; gives the address.
    async fn receiver(of: &CertifiedKey<KeyPair>) -> String {
        let key = PrivateKeyDer::try_from(of.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![of.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}/events", listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Who does not trust the certificate hangs up.
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = [0; 4_096];
                assert!(0 < stream.read(&mut request).await.unwrap());
                // A body that never comes: nobody waits for it.
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n";
                stream.write_all(answer).await.unwrap();
                stream.flush().await.unwrap();
            }
        });
        url
    }

    #[tokio::test]
    async fn a_receiver_must_prove_who_it_is_and_its_body_is_not_waited_for() {
        let (its_own, other) = (certificate(), certificate());
        let url = receiver(&its_own).await;
        sender(&url, its_own.cert.der().clone()).send("e1", "{}").await.unwrap();
        let refused = sender(&url, other.cert.der().clone()).send("e1", "{}").await.unwrap_err();
        assert!(refused.to_string().contains("invalid peer certificate"), "{refused}");
        assert!(!refused.to_string().contains("whsec_"));
    }

    #[test]
    fn a_sender_does_not_show_its_secret() {
        let sender = EventSender::new(&settings("http://localhost/events")).unwrap();
        let shown = format!("{sender:?}");
        assert!(shown.contains("hidden") && !shown.contains(SECRET), "{shown}");
        let refused = Events { secrets: vec![Secret::new("s3cret")], ..settings("http://h/") };
        let refused = EventSender::new(&refused).unwrap_err().to_string();
        assert!(refused.starts_with("the secret of events holds") && !refused.contains("s3cret"));
    }
}
