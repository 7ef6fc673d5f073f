//! Tokens of operators: made and revoked by name, each with a role. What a token is stands in `form`, who may come in at this
//! moment in `live`.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use sqlx::mysql::MySqlConnection;

pub use self::live::Caller;
pub(super) use self::live::{Live, caller};
pub use self::role::{Role, RoleError};
use crate::app::page::{self, PageError, Place as _};
use crate::app::texts::{self, LengthError};
use crate::app::{App, rfc3339};
use crate::config::Secret;
use crate::store::audit_log::{self, AuditLine};
use crate::store::operator_token::{self, Token};
use crate::store::retry::{MayBeStore, retry};
use crate::store::{self, StoreError};

mod form;
mod live;
mod role;

/// The most tokens that are not revoked: every sidecar has all of them in memory.
const TOKENS_MAX: u32 = 1_000;

/// The longest name.
const NAME_BYTES_MAX: usize = 64;

/// A token that is to be made.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Whose it is: the audit log names it.
    pub name: String,
    /// What it lets its owner do.
    pub role: Role,
    /// From when on it lets nobody in.
    pub expires: Option<DateTime<Utc>>,
    /// Why, for the audit log.
    pub reason: String,
    /// Who ordered it, for the audit log.
    pub actor: String,
}

/// A token as operators see it: everything but the token itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct TokenView {
    /// The part of the token that is no secret.
    pub id: String,
    /// Whose it is.
    pub name: String,
    /// `viewer`, `operator` or `admin`.
    pub role: String,
    /// `active`, `expired` or `revoked`.
    pub state: &'static str,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: String,
    /// From when on it lets nobody in.
    pub expires_at: Option<String>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<String>,
    /// Who revoked it.
    pub revoked_by: Option<String>,
    /// When.
    pub revoked_at: Option<String>,
}

/// A token that was made, with the token itself, which is told once.
#[derive(Debug)]
pub struct MadeToken {
    /// What its owner shows.
    pub token: Secret,
    /// The rest.
    pub view: TokenView,
}

/// Which tokens a page has.
#[derive(Debug, Clone, Default)]
pub struct TokenFilter {
    /// Revoked ones too.
    pub revoked: bool,
    /// How many at most, 1 to 200; 20 when it is not said.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// Tokens, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct TokenPage {
    /// The tokens.
    pub tokens: Vec<TokenView>,
    /// What to ask for to see older ones; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Why a token is not made, revoked or shown.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// A name that the audit log cannot carry, or that could be an id.
    #[error(
        "name is {name:?}; write 1 to {NAME_BYTES_MAX} letters, digits, dots, dashes and underscores, and no 12 hexadecimal digits, which is how ids look"
    )]
    Name {
        /// What was asked for.
        name: String,
    },
    /// Another token has the name.
    #[error(
        "there is a token {name} already ({id}); revoke it, or take another name such as {name}-2"
    )]
    Taken {
        /// The name.
        name: String,
        /// The other token.
        id: String,
    },
    /// It would never let anybody in.
    #[error("expires is {expires}; name a moment to come, in the year 9999 at the latest")]
    Expires {
        /// What was asked for.
        expires: String,
    },
    /// More tokens than sidecars keep in memory.
    #[error("there are {TOKENS_MAX} tokens that are not revoked; revoke some")]
    Full,
    /// No such token.
    #[error("there is no token {token}; farebox token list tells names and ids")]
    Unknown {
        /// What was named.
        token: String,
    },
    /// A text beyond its column.
    #[error(transparent)]
    Length(#[from] LengthError),
    /// No such page.
    #[error(transparent)]
    Page(#[from] PageError),
    /// The database's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MayBeStore for TokensError {
    fn into_store(self) -> Result<StoreError, Self> {
        match self {
            Self::Store(err) => Ok(err),
            other => Err(other),
        }
    }
}

pub(super) async fn create(app: &App, new: &NewToken) -> Result<MadeToken, TokensError> {
    if !form::is_name(&new.name) {
        return Err(TokensError::Name { name: new.name.clone() });
    }
    texts::check("token.create", &new.reason, &new.actor)?;
    // Drawn once: an attempt that may have been committed is repeated with the same token.
    let made = form::make(rand::random(), rand::random());
    let view = retry("create a token", || async {
        let mut tx = app.store.begin().await?;
        let outcome = create_once(&mut tx, new, &made).await;
        store::finish(tx, outcome).await
    })
    .await?;
    Ok(MadeToken { token: made.token, view })
}

async fn create_once(
    tx: &mut MySqlConnection,
    new: &NewToken,
    made: &form::Made,
) -> Result<TokenView, TokensError> {
    let NewToken { name, role, expires, reason, actor } = new;
    let now = store::now(tx).await?;
    let is_wrong = |moment: &DateTime<Utc>| *moment <= now || !form::is_storable(*moment);
    if let Some(expires) = expires.filter(is_wrong) {
        return Err(TokensError::Expires { expires: rfc3339(expires) });
    }
    if u64::from(TOKENS_MAX) <= operator_token::count_unrevoked(tx).await? {
        return Err(TokensError::Full);
    }
    let row = operator_token::NewToken {
        id: &made.id,
        name,
        role: role.as_str(),
        hash: made.hash,
        created_by: actor,
        expires_at: *expires,
    };
    let is_new = operator_token::insert(tx, &row).await?;
    let stored = operator_token::lock(tx, name).await?;
    let stored = stored.ok_or(StoreError::Raced { table: "operator_token" })?;
    if stored.id != made.id {
        return Err(TokensError::Taken { name: name.clone(), id: stored.id });
    }
    if is_new {
        let after = json!({ "id": made.id, "role": role, "expires_at": expires.map(rfc3339) });
        let line = AuditLine {
            actor,
            action: "token.create",
            subject: name,
            reason,
            before_json: "null".to_owned(),
            after_json: after.to_string(),
        };
        audit_log::insert(tx, line).await?;
    }
    Ok(view(stored))
}

/// Ends a token, by its name or its id. One that has ended stays as it is.
pub(super) async fn revoke(
    app: &App,
    name_or_id: &str,
    reason: &str,
    actor: &str,
) -> Result<TokenView, TokensError> {
    texts::check("token.revoke", reason, actor)?;
    retry("revoke a token", || async {
        let mut tx = app.store.begin().await?;
        let outcome = revoke_once(&mut tx, name_or_id, reason, actor).await;
        store::finish(tx, outcome).await
    })
    .await
}

async fn revoke_once(
    tx: &mut MySqlConnection,
    name_or_id: &str,
    reason: &str,
    actor: &str,
) -> Result<TokenView, TokensError> {
    let unknown = || TokensError::Unknown { token: name_or_id.to_owned() };
    if NAME_BYTES_MAX < name_or_id.len() {
        return Err(unknown());
    }
    let token = operator_token::lock(tx, name_or_id).await?.ok_or_else(unknown)?;
    if token.revoked_at.is_some() {
        return Ok(view(token));
    }
    operator_token::revoke(tx, &token.id, actor).await?;
    let Token { id, name, role, .. } = &token;
    let told = |state| json!({ "id": id, "role": role, "state": state }).to_string();
    let line = AuditLine {
        actor,
        action: "token.revoke",
        subject: name,
        reason,
        before_json: told(state(&token)),
        after_json: told("revoked"),
    };
    audit_log::insert(tx, line).await?;
    let token = operator_token::lock(tx, id).await?.ok_or_else(unknown)?;
    Ok(view(token))
}

pub(super) async fn page(app: &App, filter: &TokenFilter) -> Result<TokenPage, TokensError> {
    let limit = page::limit(filter.limit)?;
    let before = page::after(filter.cursor.as_deref())?;
    let mut connection = app.store.acquire().await?;
    let listed = operator_token::list(&mut connection, filter.revoked, before, limit).await?;
    Ok(TokenPage {
        tokens: listed.rows.into_iter().map(view).collect(),
        next_cursor: listed.end.map(|number| number.to_text()),
    })
}

fn state(token: &Token) -> &'static str {
    match (token.revoked_at, token.is_expired) {
        (Some(_), _) => "revoked",
        (None, true) => "expired",
        (None, false) => "active",
    }
}

fn view(token: Token) -> TokenView {
    TokenView {
        state: state(&token),
        id: token.id,
        name: token.name,
        role: token.role,
        created_by: token.created_by,
        created_at: rfc3339(token.created_at),
        expires_at: token.expires_at.map(rfc3339),
        last_used_at: token.last_used_at.map(rfc3339),
        revoked_by: token.revoked_by,
        revoked_at: token.revoked_at.map(rfc3339),
    }
}
