//! One gateway message, one transaction: usage is settled, units are granted, the reply is stored with it. What is about
//! an account that somebody else keeps locked is left out, and comes again with another message.

use sha2::{Digest, Sha256};
use sqlx::mysql::MySqlConnection;

use farebox_core::limits::SYNC_ITEMS_MAX;
use farebox_core::wire::{FieldError, LeaseKey, SyncReply, SyncRequest};

use crate::app::sync::batch::{Batch, Effects, Isolation};
use crate::app::{App, Settings};
use crate::calendar::Month;
use crate::store::free_quota::QuotaKey;
use crate::store::retry::{MayBeStore, retry};
use crate::store::sync_reply::MessageKey;
use crate::store::{self, StoreError, gateway, lease, sync_reply};

mod batch;
mod patience;
mod reports;
mod wants;

pub(super) use self::patience::Patience;

/// Why a message was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The message contradicts what the sidecar has on record; sending it again never helps.
    #[error("{gateway} message {seq}: {problem}")]
    Conflict {
        /// The sender.
        gateway: String,
        /// The message's number.
        seq: u64,
        /// What contradicts.
        problem: &'static str,
    },
    /// A bound is broken.
    #[error(transparent)]
    Invalid(#[from] FieldError),
    /// The sender has left without an answer; nothing was done.
    #[error("nobody waits for the answer")]
    Abandoned,
    /// The database's fault; the same message can be sent again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MayBeStore for SyncError {
    fn into_store(self) -> Result<StoreError, Self> {
        match self {
            Self::Store(err) => Ok(err),
            other => Err(other),
        }
    }
}

fn conflict(request: &SyncRequest, problem: &'static str) -> SyncError {
    SyncError::Conflict { gateway: request.gateway.to_string(), seq: request.seq, problem }
}

/// Tells whether the sender of a message still waits for the answer.
pub(super) type IsAwaited<'a> = &'a (dyn Fn() -> bool + Send + Sync);

/// A message that is being taken in.
struct Incoming<'a> {
    request: &'a SyncRequest,
    body_hash: [u8; 32],
    is_awaited: IsAwaited<'a>,
}

impl Incoming<'_> {
    /// Whether a gateway asks and has left. It will ask again by another message: units granted to this one would be held
    /// for nobody, and those who wait for the account would wait longer. What was used is taken in whoever hears of it.
    fn is_in_vain(&self) -> bool {
        self.request.only_asks() && !(self.is_awaited)()
    }
}

/// Takes a message in; the reply's JSON.
pub(super) async fn run(
    app: &App,
    request: &SyncRequest,
    body: &[u8],
    is_awaited: IsAwaited<'_>,
) -> Result<String, SyncError> {
    request.validate()?;
    let message = Incoming { request, body_hash: Sha256::digest(body).into(), is_awaited };
    let together = retry("sync", || attempt(app, &message, Isolation::Together)).await;
    match together {
        Err(SyncError::Store(err)) if err.is_row_fault() => {
            tracing::warn!(gateway.id = %request.gateway, seq = request.seq, error = %err,
                "an item of a message failed; the message is taken in item by item");
            retry("sync", || attempt(app, &message, Isolation::ItemByItem)).await
        }
        outcome => outcome,
    }
}

async fn attempt(
    app: &App,
    message: &Incoming<'_>,
    isolation: Isolation,
) -> Result<String, SyncError> {
    if message.is_in_vain() {
        return Err(SyncError::Abandoned);
    }
    let mut tx = app.store.begin().await?;
    let outcome = take_in(&mut tx, app, message, isolation).await;
    // It may have waited long for its rows.
    let outcome = if message.is_in_vain() { Err(SyncError::Abandoned) } else { outcome };

    let (reply, effects) = store::finish(tx, outcome).await?;
    effects.count(app);
    Ok(reply)
}

async fn take_in(
    tx: &mut MySqlConnection,
    app: &App,
    incoming: &Incoming<'_>,
    isolation: Isolation,
) -> Result<(String, Effects), SyncError> {
    let Incoming { request, body_hash, .. } = incoming;
    let epoch = find_or_create_epoch(tx, &app.settings, request).await?;
    let message = MessageKey { gateway: &request.gateway, epoch, seq: request.seq };
    if !sync_reply::claim(tx, message, body_hash).await? {
        let reply = answer_again(tx, request, message, body_hash).await?;
        return Ok((reply, Effects::default()));
    }
    let (reply, effects) = answer(tx, app, request, epoch, isolation).await?;
    let text = to_json(&reply);
    sync_reply::complete(tx, message, &text).await?;
    gateway::touch(tx, &request.gateway, epoch).await?;
    Ok((text, effects))
}

/// The number of this gateway process. A process seen for the first time ends the leases of those before it: a rebooted
/// gateway gets its units back soon, while a process that still lives (hot restart) renews them by its next report.
async fn find_or_create_epoch(
    tx: &mut MySqlConnection,
    settings: &Settings,
    request: &SyncRequest,
) -> Result<u64, SyncError> {
    let SyncRequest { gateway: name, instance, .. } = request;
    let known = gateway::find_epoch(tx, name, instance).await?;
    if request.epoch != 0 && known != Some(request.epoch) {
        return Err(conflict(
            request,
            "the epoch is not the one of this instance; start with epoch 0",
        ));
    }
    match known {
        Some(epoch) => Ok(epoch),
        None => {
            let epoch = gateway::create_epoch(tx, name, instance).await?;
            lease::recall_older_epochs(tx, name, epoch, settings.boot_grace).await?;
            Ok(epoch)
        }
    }
}

/// The stored answer to a repeated message.
async fn answer_again(
    tx: &mut MySqlConnection,
    request: &SyncRequest,
    message: MessageKey<'_>,
    body_hash: &[u8],
) -> Result<String, SyncError> {
    match sync_reply::find(tx, message).await? {
        Some(stored) if stored.body_hash == body_hash => Ok(stored.reply),
        Some(_) => {
            tracing::error!(gateway.id = %request.gateway, epoch = message.epoch, seq = message.seq,
                "alert: a message number was used for two different messages");
            Err(conflict(request, "the number was used for another message"))
        }
        None => Err(StoreError::Raced { table: "sync_reply" }.into()),
    }
}

/// Does what the message asks for.
async fn answer(
    tx: &mut MySqlConnection,
    app: &App,
    request: &SyncRequest,
    epoch: u64,
    isolation: Isolation,
) -> Result<(SyncReply, Effects), StoreError> {
    let mut batch = Batch::load(tx, app, request, epoch, isolation.on_corrupt()).await?;
    batch.apply_all(tx, isolation).await?;
    let (mut reply, effects) = batch.into_reply();
    let limit = SYNC_ITEMS_MAX;
    reply.recalls =
        lease::recalled(tx, &request.gateway, epoch, limit, isolation.on_corrupt()).await?;
    Ok((reply, effects))
}

fn quota_of(key: &LeaseKey, month: &Month) -> QuotaKey {
    QuotaKey {
        account: key.account.clone(),
        service: key.service.clone(),
        month: month.text.clone(),
    }
}

fn to_json(reply: &SyncReply) -> String {
    // A reply is made of numbers, texts and lists of them, which always have a JSON text.
    serde_json::to_string(reply).unwrap_or_default()
}
