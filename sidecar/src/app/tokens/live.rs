//! The tokens that let somebody in: a copy of the table in memory.
//!
//! The table is small, so all of it is copied, and strangers cannot make a sidecar ask more often than once in [`FRESH_FOR`].
//! An older copy lets nobody in: when the database is away, a token that was revoked meanwhile must not work.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use subtle::ConstantTimeEq as _;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::role::Role;
use super::{TOKENS_MAX, form};
use crate::app::App;
use crate::store::operator_token::{self, LiveToken};
use crate::store::retry::retry;
use crate::store::{self, StoreError};

/// How long a copy is used. A token that is revoked lets nobody in after this long, at any sidecar.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// How often a token's use is noted.
const NOTED_EVERY: Duration = Duration::from_secs(60);

/// Who came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// As the audit log names them.
    pub actor: String,
    /// What they may do.
    pub role: Role,
    /// The token's id; `None` for a configured one.
    pub token: Option<String>,
}

#[derive(Debug)]
struct Known {
    name: String,
    role: Role,
    hash: Vec<u8>,
}

#[derive(Debug, Default)]
struct Copied {
    /// When the database was asked, at the latest.
    at: Option<Instant>,
    tokens: BTreeMap<String, Known>,
}

impl Copied {
    fn of(tokens: Vec<LiveToken>, at: Instant) -> Self {
        let known = |token: LiveToken| {
            let LiveToken { id, name, role, hash } = token;
            match role.parse() {
                Ok(role) => Some((id, Known { name, role, hash })),
                Err(err) => {
                    tracing::error!(token.id = id, error = %err, "a token lets nobody in: its role is not known");
                    None
                }
            }
        };
        Self { at: Some(at), tokens: tokens.into_iter().filter_map(known).collect() }
    }

    fn is_fresh(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| now.duration_since(at) < FRESH_FOR)
    }

    /// Whose a token is. The id is no secret; the hashes are compared in constant time.
    fn caller(&self, id: &str, hash: &[u8; 32]) -> Option<Caller> {
        let known = self.tokens.get(id)?;
        let fits: bool = known.hash.as_slice().ct_eq(&hash[..]).into();
        fits.then(|| Caller {
            actor: format!("token:{}", known.name),
            role: known.role,
            token: Some(id.to_owned()),
        })
    }
}

/// The copy that this process has.
#[derive(Debug, Default)]
pub(in crate::app) struct Live {
    copied: RwLock<Copied>,
    /// Whoever makes a new copy; the others wait for it.
    copying: Mutex<()>,
    /// When the use of each token was last noted.
    noted: std::sync::Mutex<BTreeMap<String, Instant>>,
}

impl Live {
    /// Whether a token let somebody in when the database was last asked, whenever that was.
    pub(in crate::app) fn knew(&self, token: &str) -> bool {
        let Some((id, hash)) = form::read(token) else { return false };
        self.read(|copied| copied.caller(id, &hash)).is_some()
    }

    fn read<T>(&self, look: impl Fn(&Copied) -> T) -> T {
        look(&self.copied.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the use of a token is to be noted; it is not asked for again until then.
    fn is_due(&self, id: &str, now: Instant) -> bool {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.retain(|_, at| now.duration_since(*at) < NOTED_EVERY);
        if noted.contains_key(id) {
            return false;
        }
        noted.insert(id.to_owned(), now);
        true
    }
}

/// Who shows this token; `None` for one that lets nobody in.
pub(in crate::app) async fn caller(app: &App, token: &str) -> Result<Option<Caller>, StoreError> {
    let Some((id, hash)) = form::read(token) else { return Ok(None) };
    let live = &app.tokens;
    let fresh = |now| live.read(|copied| copied.is_fresh(now).then(|| copied.caller(id, &hash)));
    let caller = match fresh(Instant::now()) {
        Some(caller) => caller,
        None => {
            let _turn = live.copying.lock().await;
            match fresh(Instant::now()) {
                Some(caller) => caller,
                None => {
                    copy(app).await?;
                    // However long it took, it is what the database has just said.
                    live.read(|copied| copied.caller(id, &hash))
                }
            }
        }
    };
    if caller.is_some() && live.is_due(id, Instant::now()) {
        note(app.clone(), id.to_owned());
    }
    Ok(caller)
}

/// Copies the table.
async fn copy(app: &App) -> Result<(), StoreError> {
    let at = Instant::now();
    let mut connection = app.store.acquire().await?;
    let tokens = operator_token::live(&mut connection, TOKENS_MAX).await?;
    let mut copied = app.tokens.copied.write().unwrap_or_else(PoisonError::into_inner);
    *copied = Copied::of(tokens, at);
    Ok(())
}

/// Notes that a token was used, beside the request: it is told by the minute, and may fail.
fn note(app: App, id: String) {
    tokio::spawn(async move {
        let noted = retry("note a token's use", || async {
            let mut tx = app.store.begin().await?;
            let outcome = operator_token::touch(&mut tx, &id).await;
            store::finish(tx, outcome).await
        });
        if let Err(err) = noted.await {
            tracing::warn!(token.id = id, error = %err, "the use of a token was not noted");
        }
    });
}
