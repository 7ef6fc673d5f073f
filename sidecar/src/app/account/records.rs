//! A user's billing records, page by page.

use chrono::{DateTime, Utc};
use farebox_core::id::{AccountId, ServiceName};
use serde::Serialize;

use super::{RecordView, ViewError, record_view};
use crate::app::App;
use crate::app::cursor::Place;
use crate::app::page::{self, Place as _};
use crate::store::billing_record::{self, Selection};

/// Which records a page has.
#[derive(Debug, Clone, Default)]
pub struct RecordFilter {
    /// Of this service only.
    pub service: Option<ServiceName>,
    /// Since this moment.
    pub from: Option<DateTime<Utc>>,
    /// Before this moment.
    pub to: Option<DateTime<Utc>>,
    /// How many at most, 1 to 200; 20 when it is not said.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// Billing records, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct RecordPage {
    /// The records.
    pub records: Vec<RecordView>,
    /// What to ask for to see the next ones; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

pub(in crate::app) async fn page(
    app: &App,
    account: &AccountId,
    filter: &RecordFilter,
) -> Result<RecordPage, ViewError> {
    let RecordFilter { service, from, to, limit, cursor } = filter;
    let limit = page::limit(*limit)?;
    let place: Option<Place> = page::after(cursor.as_deref())?;
    let selection = Selection {
        service: service.as_ref(),
        from: *from,
        to: *to,
        after: place.as_ref().map(|place| (place.created_at, place.id.as_str())),
    };
    let mut connection = app.store.acquire().await?;
    // One more than asked for tells whether there are further ones.
    let mut records =
        billing_record::list(&mut connection, account, &selection, limit.saturating_add(1)).await?;
    let size = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = size < records.len();
    records.truncate(size);
    let end = records.last().filter(|_| has_more);
    let end = end.map(|last| Place { created_at: last.created_at, id: last.id.clone() });
    Ok(RecordPage {
        records: records.into_iter().map(record_view).collect(),
        next_cursor: end.map(|end| end.to_text()),
    })
}
