//! `/api/v1/billing/{account,records,stats,statement,quote}`: what users see of their own account. Nothing is written.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use farebox_core::call::{CheckReply, CheckRequest};
use farebox_core::code::{Code, Language};
use farebox_core::id::{AccountId, ServiceName};
use farebox_core::limits::UNITS_MAX;
use farebox_core::problem::Problem;
use serde::Serialize;

use super::super::query::Parameters;
use super::super::reply::{self, language, problem};
use super::Public;
use crate::api::document::PageOf;
use crate::app::{
    CallError, OwnAccountView, Period, RecordFilter, RecordPage, StatementView, StatsView,
    SummaryView, ViewError,
};

const MOMENT: &str =
    "write a moment such as 2026-11-23T08:00:00Z, or a day such as 2026-11-23 for when it begins";

/// A request that is refused before anything is asked.
pub(super) struct Refused(Box<Response>);

impl From<Box<Response>> for Refused {
    fn from(response: Box<Response>) -> Self {
        Self(response)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        *self.0
    }
}

/// Who asks, and in which language.
fn caller(public: &Public, headers: &HeaderMap) -> Result<(AccountId, Language), Refused> {
    let language = language(headers);
    let account = public.identities.account(headers);
    account
        .map(|account| (account, language))
        .map_err(|err| Refused(Box::new(err.answer(language))))
}

/// Shows the own account
///
/// An account that does not exist yet has nothing, and the free quotas it will begin with.
#[utoipa::path(get, path = "/api/v1/billing/account", operation_id = "account", tag = "account",
    responses((status = 200, description = "The account", body = OwnAccountView)))]
pub(super) async fn account(
    State(public): State<Public>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let (account, language) = caller(&public, &headers)?;
    Parameters::read(&uri, &[], language)?;
    Ok(shown(&public, language, public.app.own_account(&account)).await)
}

/// Lists billing records, newest first
///
/// Pages neither skip nor repeat a record while new ones are written.
#[utoipa::path(get, path = "/api/v1/billing/records", operation_id = "records", tag = "account",
    params(("service" = Option<ServiceName>, Query, description = "Of this service only."),
        ("from" = Option<String>, Query, description = "Since this moment (RFC 3339), or since this day begins (`YYYY-MM-DD`, in the billing time zone).", pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}(T.+)?$", example = "2026-11-23"),
        ("to" = Option<String>, Query, description = "Before this moment, or before this day begins.", pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}(T.+)?$", example = "2026-11-24T00:00:00Z"), PageOf),
    responses((status = 200, description = "A page of records", body = RecordPage)))]
pub(super) async fn records(
    State(public): State<Public>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let (account, language) = caller(&public, &headers)?;
    let known = ["service", "from", "to", "limit", "cursor"];
    let mut query = Parameters::read(&uri, &known, language)?;
    let filter = RecordFilter {
        service: query.value("service")?,
        from: query.read_by("from", MOMENT, |text| public.app.moment(text))?,
        to: query.read_by("to", MOMENT, |text| public.app.moment(text))?,
        limit: query.limit()?,
        cursor: query.text("cursor"),
    };
    Ok(shown(&public, language, public.app.records(&account, &filter)).await)
}

/// Sums up today
///
/// In the billing time zone.
#[utoipa::path(get, path = "/api/v1/billing/stats/today", operation_id = "statsToday", tag = "account",
    params(("service" = Option<ServiceName>, Query, description = "Of this service only.")),
    responses((status = 200, description = "What was used", body = StatsView)))]
pub(super) async fn today(
    State(public): State<Public>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    stats(&public, &uri, &headers, Period::Today).await
}

/// Sums up this month
///
/// In the billing time zone.
#[utoipa::path(get, path = "/api/v1/billing/stats/month", operation_id = "statsMonth", tag = "account",
    params(("service" = Option<ServiceName>, Query, description = "Of this service only.")),
    responses((status = 200, description = "What was used", body = StatsView)))]
pub(super) async fn month(
    State(public): State<Public>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    stats(&public, &uri, &headers, Period::Month).await
}

async fn stats(
    public: &Public,
    uri: &Uri,
    headers: &HeaderMap,
    period: Period,
) -> Result<Response, Refused> {
    let (account, language) = caller(public, headers)?;
    let service = Parameters::read(uri, &["service"], language)?.value("service")?;
    Ok(shown(public, language, public.app.stats(&account, period, service.as_ref())).await)
}

/// Sums up this month by service
///
/// In all, and for each service.
#[utoipa::path(get, path = "/api/v1/billing/stats/summary", operation_id = "statsSummary", tag = "account",
    responses((status = 200, description = "What was used", body = SummaryView)))]
pub(super) async fn summary(
    State(public): State<Public>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let (account, language) = caller(&public, &headers)?;
    Parameters::read(&uri, &[], language)?;
    Ok(shown(&public, language, public.app.stats_summary(&account)).await)
}

/// Tells what moved the balance in a month
///
/// As JSON, or as CSV for those who ask for it. The closing of a month is the opening of the next.
#[utoipa::path(get, path = "/api/v1/billing/statement", operation_id = "statement", tag = "account",
    params(("month" = String, Query, description = "The month, in the billing time zone.", pattern = "^[0-9]{4}-(0[1-9]|1[0-2])$", example = "2026-11"),
        ("format" = inline(Option<Format>), Query, description = "Absent: what `Accept` says, or else `json`.")),
    responses((status = 200, description = "The statement",
        content((StatementView = "application/json"), (String = "text/csv")))))]
pub(super) async fn statement(
    State(public): State<Public>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let (account, language) = caller(&public, &headers)?;
    let mut query = Parameters::read(&uri, &["month", "format"], language)?;
    let Some(month) = query.text("month") else {
        return Err(query
            .refuse("month", "month is missing; write for instance month=2026-11")
            .into());
    };
    let format = query.read_by("format", "write json or csv", |text| match text {
        "json" => Some(Format::Json),
        "csv" => Some(Format::Csv),
        _ => None,
    })?;
    let accepts = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let accepts_csv = accepts.is_some_and(|accepts| accepts.starts_with("text/csv"));
    let is_csv = format.map_or(accepts_csv, |format| format == Format::Csv);
    let statement = public.app.statement(&account, &month);
    Ok(match tokio::time::timeout(public.timeout, statement).await {
        Ok(Ok(statement)) if is_csv => csv(&statement),
        Ok(told) => told_or_failed(language, told),
        Err(_) => reply::late(language),
    })
}

/// How a statement is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = StatementFormat)]
enum Format {
    Json,
    Csv,
}

fn csv(statement: &StatementView) -> Response {
    let mut response = Response::new(Body::from(statement.to_csv()));
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/csv; charset=utf-8; header=present");
    headers.insert(CONTENT_TYPE, kind);
    let name = format!("attachment; filename=\"statement-{}.csv\"", statement.month);
    if let Ok(name) = HeaderValue::try_from(name) {
        headers.insert(CONTENT_DISPOSITION, name);
    }
    response
}

/// Tells what a call would cost
///
/// At the price book's price, at this moment. Nothing is written.
#[utoipa::path(get, path = "/api/v1/billing/quote", operation_id = "quote", tag = "account",
    params(("service" = ServiceName, Query, description = "What is metered."),
        ("units" = Option<u64>, Query, description = "Units of the call; 1 when it is not said.", minimum = 1, maximum = 2147483647)),
    responses((status = 200, description = "What a deduct at this moment would come to", body = Quote)))]
pub(super) async fn quote(
    State(public): State<Public>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let (account, language) = caller(&public, &headers)?;
    let mut query = Parameters::read(&uri, &["service", "units"], language)?;
    let Some(service) = query.value("service")? else {
        return Err(query
            .refuse("service", "service is missing; write for instance service=asset")
            .into());
    };
    let remedy = format!("write a number from 1 to {UNITS_MAX}");
    let count = query.read_by("units", &remedy, |text| {
        text.parse().ok().filter(|units| (1..=UNITS_MAX).contains(units))
    })?;
    let count = count.unwrap_or(1);
    let request = CheckRequest { user_id: account, service, count, price: None };
    Ok(match tokio::time::timeout(public.timeout, public.app.quote(&request)).await {
        Ok(Ok(reply)) => {
            let quote = Quote { service: request.service, units: request.count, reply };
            reply::value(StatusCode::OK, &quote, language)
        }
        Ok(Err(err @ CallError::UnknownService { .. })) => {
            problem(language, Problem::new(Code::UnknownService, language, err.to_string()))
        }
        Ok(Err(CallError::Store(store))) => reply::store_failed(language, &store),
        Ok(Err(_)) | Err(_) => reply::late(language),
    })
}

/// What a call would cost.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Quote {
    /// What is metered.
    service: ServiceName,
    /// Units of the call.
    units: u64,
    /// What a deduct at this moment would come to.
    #[serde(flatten)]
    reply: CheckReply,
}

async fn shown<T: Serialize>(
    public: &Public,
    language: Language,
    view: impl Future<Output = Result<T, ViewError>>,
) -> Response {
    match tokio::time::timeout(public.timeout, view).await {
        Ok(told) => told_or_failed(language, told),
        Err(_) => reply::late(language),
    }
}

fn told_or_failed<T: Serialize>(language: Language, told: Result<T, ViewError>) -> Response {
    match &told {
        Ok(view) => reply::value(StatusCode::OK, view, language),
        Err(ViewError::Page(page)) => reply::no_such_page(language, *page),
        Err(err @ ViewError::Month { .. }) => {
            let plain = Problem::new(Code::InvalidArgument, language, err.to_string());
            problem(language, plain.with_field("month"))
        }
        Err(ViewError::Store(store)) => reply::store_failed(language, store),
    }
}
