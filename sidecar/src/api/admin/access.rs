//! Who gets in to `/admin/v1/`, how often, and where: a token, a limit, a role.
//!
//! Strangers learn nothing and cost little: they are turned away before anybody looks which route they ask for, and once an
//! address has shown too many wrong tokens, before anybody looks at its token.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{ALLOW, RETRY_AFTER};
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::any;
use farebox_core::code::{Code, Language};
use farebox_core::problem::Problem;
use tokio::time::Instant;

use super::rate::{Buckets, Rate, TooOften};
use super::roles::{Need, needed};
use crate::api::reply::{self, language, problem};
use crate::api::token::{self, Tokens};
use crate::app::{App, Caller, Role};
use crate::metrics::{self, OperatorRefusal};
use crate::store::StoreError;

/// Requests with one token at one sidecar: 200 at once, then 50 per second.
const PER_TOKEN: Rate = Rate { burst: 200, one_more_after: Duration::from_millis(20) };

/// The most tokens whose requests are counted; there are no more.
const TOKENS_MAX: usize = 2_000;

/// Wrong tokens from one address at one sidecar: 20 at once, then one per second.
const PER_ADDRESS: Rate = Rate { burst: 20, one_more_after: Duration::from_secs(1) };

/// The most addresses whose wrong tokens are counted.
const ADDRESSES_MAX: usize = 10_000;

/// How long a request waits until the database has said who may come in.
const PATIENCE: Duration = Duration::from_secs(2);

/// What leads to no route.
const ELSEWHERE: &str = "/admin/v1/{*rest}";

/// Who shows a configured token, in the audit log.
const CONFIGURED: &str = "admin api";

/// Where a request comes from. The listener says it.
#[derive(Debug, Clone, Copy)]
pub struct Remote(pub IpAddr);

/// What decides who gets in.
#[derive(Debug, Clone)]
pub(in crate::api) struct Access {
    app: App,
    configured: Tokens,
    /// Whoever has shown one of them is not locked out later by what others show from the same address.
    configured_was_good: Arc<AtomicBool>,
    limits: Arc<Mutex<Limits>>,
}

#[derive(Debug)]
struct Limits {
    /// By the token's id; a configured one has none.
    tokens: Buckets<Option<String>>,
    addresses: Buckets<IpAddr>,
}

/// Why somebody does not get in.
enum Refused {
    Token,
    TokenRate(TooOften),
    AddressRate(TooOften),
    Unknown(StoreError),
    Late,
}

impl Access {
    pub(in crate::api) fn new(app: App, configured: Tokens) -> Self {
        let limits = Limits {
            tokens: Buckets::new(PER_TOKEN, TOKENS_MAX),
            addresses: Buckets::new(PER_ADDRESS, ADDRESSES_MAX),
        };
        let configured_was_good = Arc::default();
        Self { app, configured, configured_was_good, limits: Arc::new(Mutex::new(limits)) }
    }

    fn limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who asks, if they may come in now.
    async fn caller(&self, address: IpAddr, headers: &HeaderMap) -> Result<Caller, Refused> {
        let shown = token::shown(headers).and_then(|token| str::from_utf8(token).ok());
        // Who showed a good token lately is not held up by what others send from the same address.
        if !shown.is_some_and(|token| self.app.knew_token(token) || self.knew_configured(token)) {
            self.limits().addresses.ask(&address, Instant::now()).map_err(Refused::AddressRate)?;
        }
        match self.known(shown).await? {
            Some(caller) => {
                let bucket = &caller.token;
                let taken = self.limits().tokens.take(bucket, Instant::now());
                taken.map_err(Refused::TokenRate)?;
                Ok(caller)
            }
            None => {
                // One that came beyond the limit meanwhile is refused all the same.
                let _ = self.limits().addresses.take(&address, Instant::now());
                Err(Refused::Token)
            }
        }
    }

    /// Whether this is a configured token, and one was good here before.
    fn knew_configured(&self, token: &str) -> bool {
        self.configured_was_good.load(Ordering::Relaxed) && self.configured.has(token.as_bytes())
    }

    /// Who shows this.
    async fn known(&self, shown: Option<&str>) -> Result<Option<Caller>, Refused> {
        let Some(token) = shown else { return Ok(None) };
        if self.configured.has(token.as_bytes()) {
            self.configured_was_good.store(true, Ordering::Relaxed);
            let actor = CONFIGURED.to_owned();
            return Ok(Some(Caller { actor, role: Role::Admin, token: None }));
        }
        match tokio::time::timeout(PATIENCE, self.app.caller(token)).await {
            Ok(known) => known.map_err(Refused::Unknown),
            Err(_) => Err(Refused::Late),
        }
    }
}

/// The address that wrong tokens are counted for: in IPv6 a network, of which one host may have every address.
fn address(extensions: &Extensions) -> IpAddr {
    let remote = extensions.get::<Remote>();
    let address =
        remote.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |remote| remote.0.to_canonical());
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(host) => IpAddr::V6((u128::from(host) >> 64 << 64).into()),
    }
}

/// Lets through to the routes below `/admin/v1/` whoever shows a token whose role is enough; nobody else learns which of them
/// exist. Routes find out who asks with [`Caller`] in the request's extensions.
pub(in crate::api) fn guard(router: Router, access: Access) -> Router {
    router
        .route(ELSEWHERE, any(crate::api::not_found))
        // Set here, under the layer: set later, it would answer strangers.
        .method_not_allowed_fallback(crate::api::method_not_allowed)
        .layer(middleware::from_fn_with_state(access, admit))
}

async fn admit(State(access): State<Access>, mut request: Request, next: Next) -> Response {
    let language = language(request.headers());
    let address = address(request.extensions());
    let caller = match access.caller(address, request.headers()).await {
        Ok(caller) => caller,
        Err(refused) => return refuse(language, refused),
    };
    let pattern = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let pattern = pattern.unwrap_or_default();
    if pattern != ELSEWHERE
        && let Err(refusal) = permit(&caller, request.method(), pattern, language)
    {
        return *refusal;
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// Whether somebody's role is enough for a route.
fn permit(
    caller: &Caller,
    method: &Method,
    pattern: &str,
    language: Language,
) -> Result<(), Box<Response>> {
    match needed(method, pattern) {
        Need::Role(role) if role <= caller.role => Ok(()),
        Need::Role(role) => {
            let Caller { actor, role: has, .. } = caller;
            let detail = format!(
                "{actor} has the role {has}, and {method} {pattern} needs the role {role}; show a token that has it"
            );
            Err(forbidden(language, detail))
        }
        Need::Method(methods) => {
            let detail = format!("{pattern} does not take {method}; see the Allow header");
            let status = StatusCode::METHOD_NOT_ALLOWED.as_u16();
            let plain = Problem::new(Code::InvalidArgument, language, detail);
            let mut response = problem(language, Problem { status, ..plain });
            let allow = HeaderValue::from_str(&methods.join(", "));
            response.headers_mut().insert(ALLOW, allow.unwrap_or(HeaderValue::from_static("")));
            Err(Box::new(response))
        }
        Need::Unclassified => {
            tracing::error!(%method, pattern, "a route is refused: nobody said which role it needs");
            let detail = format!("nobody said which role {method} {pattern} needs: it is refused");
            Err(forbidden(language, detail))
        }
    }
}

fn forbidden(language: Language, detail: String) -> Box<Response> {
    metrics::operator_refused(OperatorRefusal::Role);
    Box::new(problem(language, Problem::new(Code::Forbidden, language, detail)))
}

fn refuse(language: Language, refused: Refused) -> Response {
    match refused {
        Refused::Token => {
            metrics::operator_refused(OperatorRefusal::Token);
            let remedy = "show an operator's token that is neither revoked nor expired: Authorization: Bearer …; \
                          farebox token create makes one";
            reply::unauthorized(language, remedy)
        }
        Refused::TokenRate(too_often) => {
            metrics::operator_refused(OperatorRefusal::TokenRate);
            let detail = "too many requests with this token; send fewer, or ask for larger pages";
            later(language, detail, too_often)
        }
        Refused::AddressRate(too_often) => {
            metrics::operator_refused(OperatorRefusal::AddressRate);
            let detail = "too many wrong tokens came from this address; correct the token and wait";
            later(language, detail, too_often)
        }
        Refused::Unknown(err) => reply::store_failed(language, &err),
        Refused::Late => {
            let detail = "the database did not say in time who may come in; ask again";
            reply::come_again(language, Code::Unavailable, detail)
        }
    }
}

fn later(language: Language, detail: &str, TooOften { after }: TooOften) -> Response {
    let status = StatusCode::TOO_MANY_REQUESTS.as_u16();
    let plain = Problem::new(Code::Overloaded, language, detail);
    let mut response = problem(language, Problem { status, ..plain });
    let seconds = after.as_secs().saturating_add(u64::from(0 < after.subsec_nanos()));
    response.headers_mut().insert(RETRY_AFTER, seconds.into());
    response
}
