//! Sending callbacks: signed per Standard Webhooks, repeated until the receiver has given a definite answer.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use standardwebhooks::{
    HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook,
};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;

use self::outbox::{Attempt, Callback};
use crate::{Service, now_ms};

pub(crate) mod handmade;
pub(crate) mod outbox;

/// How long a receiver may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How many callbacks are on their way at a time: fewer than a process may have sockets.
const AT_ONCE_MAX: usize = 256;

/// How much of an answer is kept.
const ANSWER_CHARACTERS_MAX: usize = 2_000;

/// Signs and sends.
pub(crate) struct Sender {
    secrets: Vec<String>,
    http: reqwest::Client,
    slots: Semaphore,
}

/// An HTTP request in the making.
pub(crate) struct Letter {
    pub(crate) url: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Sender {
    /// A sender that signs with each of these secrets.
    pub(crate) fn new(secrets: &str) -> Result<Self> {
        let secrets = secrets.split(',').map(str::trim).filter(|secret| !secret.is_empty());
        let secrets: Vec<String> = secrets.map(str::to_owned).collect();
        if secrets.is_empty() {
            bail!("no secret; write whsec_ and the base64 of 24 to 64 random bytes");
        }
        // Unusable ones show now, not with the first callback.
        signatures(&secrets, "msg", 0, "")?;
        let http = reqwest::Client::builder()
            .timeout(ANSWER_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("no HTTP client")?;
        Ok(Self { secrets, http, slots: Semaphore::new(AT_ONCE_MAX) })
    }

    /// The headers that sign a body; `secrets` instead of the sender's own, if given.
    pub(crate) fn sign(
        &self,
        webhook_id: &str,
        at_s: i64,
        body: &str,
        secrets: Option<&str>,
    ) -> Result<HeaderMap> {
        let others: Vec<String>;
        let secrets = match secrets {
            Some(texts) => {
                others = texts.split(',').map(str::to_owned).collect();
                &others
            }
            None => &self.secrets,
        };
        let signature = signatures(secrets, webhook_id, at_s, body)?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "application/json".parse()?);
        headers.insert(HEADER_WEBHOOK_ID, webhook_id.parse()?);
        headers.insert(HEADER_WEBHOOK_TIMESTAMP, at_s.to_string().parse()?);
        headers.insert(HEADER_WEBHOOK_SIGNATURE, signature.parse()?);
        Ok(headers)
    }

    /// Sends a letter once.
    pub(crate) async fn post(&self, letter: Letter) -> Attempt {
        let Letter { url, headers, body } = letter;
        let at_ms = now_ms();
        let answered = async {
            let response = self.http.post(url).headers(headers).body(body).send().await?;
            let status = response.status().as_u16();
            Ok((status, response.text().await?))
        };
        let answered: reqwest::Result<(u16, String)> = answered.await;
        let (status, answer) = match answered {
            Ok((status, text)) => (Some(status), text),
            Err(err) => (None, format!("{:#}", anyhow::Error::from(err))),
        };
        Attempt { at_ms, status, answer: answer.chars().take(ANSWER_CHARACTERS_MAX).collect() }
    }

    /// Signs a queued callback with the present time and sends it once.
    async fn attempt(&self, callback: &Callback) -> Attempt {
        let Callback { webhook_id, url, body, secret, .. } = callback;
        match self.sign(webhook_id, now_s(), body, secret.as_deref()) {
            Ok(headers) => {
                self.post(Letter { url: url.clone(), headers, body: body.clone() }).await
            }
            Err(err) => Attempt { at_ms: now_ms(), status: None, answer: format!("{err:#}") },
        }
    }
}

/// Seconds since 1970.
pub(crate) fn now_s() -> i64 {
    i64::try_from(now_ms() / 1_000).unwrap_or(i64::MAX)
}

/// One signature per secret, separated by spaces: a receiver that knows any of the secrets accepts.
fn signatures(secrets: &[String], webhook_id: &str, at_s: i64, body: &str) -> Result<String> {
    let sign = |secret: &String| -> Result<String> {
        if !secret.starts_with("whsec_") {
            bail!("a secret does not begin with whsec_");
        }
        let webhook = Webhook::new(secret).context("a secret is not base64 after whsec_")?;
        webhook.sign(webhook_id, at_s, body.as_bytes()).context("cannot sign")
    };
    let signatures: Result<Vec<String>> = secrets.iter().map(sign).collect();
    Ok(signatures?.join(" "))
}

/// Sends whatever the queue names, each in a task of its own.
pub(crate) async fn deliver_all(service: Arc<Service>, mut queue: UnboundedReceiver<u64>) {
    while let Some(number) = queue.recv().await {
        tokio::spawn(deliver(Arc::clone(&service), number));
    }
}

/// Sends one callback until it has arrived or was refused for good.
async fn deliver(service: Arc<Service>, number: u64) {
    let waiting = || service.store.look(|state| state.outbox.waiting(number).cloned());
    while let Some(callback) = waiting() {
        let pause = callback.next_at_ms.saturating_sub(now_ms());
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let attempt = {
            let Ok(_slot) = service.sender.slots.acquire().await else { return };
            service.sender.attempt(&callback).await
        };
        // A crash before this is on disk sends the callback once more, which no receiver minds.
        service.store.change_soon(|state| state.outbox.attempted(number, attempt));
    }
}
