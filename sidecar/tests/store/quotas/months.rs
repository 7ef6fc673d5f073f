//! Years of months, each prepared in the one before: none is left out, none is made twice.

use chrono::{DateTime, Datelike as _, Days, NaiveDate, TimeZone as _};
use chrono_tz::Asia::Shanghai;

use super::{FREE, PRICES, prepare};
use crate::calls::{deduct, told};
use crate::clock::sidecar_at;
use crate::database::Database;
use crate::fixture::Fixture;

/// The local midnight of a day as seconds since 1970.
fn midnight(day: NaiveDate) -> String {
    let start: DateTime<_> = Shanghai.from_local_datetime(&day.into()).single().unwrap();
    format!("{}.000", start.timestamp())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_month_is_made_once_through_year_ends_and_a_leap_day() {
    let database = Database::create().await;
    let first = NaiveDate::from_ymd_opt(2027, 10, 31).unwrap();
    let app = sidecar_at(&database, &midnight(first), FREE, PRICES).await;
    let farebox = Fixture { database, app };
    let mut day = first;
    let mut expected = Vec::new();
    // The last day of each month: 31st, 30th, 29th of February.
    while day.year() < 2028 || day.month() < 5 {
        let app = sidecar_at(&farebox.database, &midnight(day), FREE, PRICES).await;
        let key = day.to_string();
        assert_eq!(
            told(&app, deduct(&key, "u", "asset", 1)).await,
            "1 free, 0 paid for 0, leaves 0"
        );
        assert_eq!(prepare(&app).await, 1, "{day}");
        let next = day + Days::new(1);
        expected.push(next.format("%Y-%m").to_string());
        let end_of_next = next.checked_add_months(chrono::Months::new(1)).unwrap();
        day = end_of_next.pred_opt().unwrap();
        app.release_jobs().await.unwrap();
    }
    let ahead = ["2027-11", "2027-12", "2028-01", "2028-02", "2028-03", "2028-04", "2028-05"];
    assert_eq!(expected, ahead);
    let sql = "SELECT CONCAT(reset_month, IF(prepared, ' ahead', ' used')) FROM free_quota ORDER BY reset_month";
    let months = ["2027-10", "2027-11", "2027-12", "2028-01", "2028-02", "2028-03", "2028-04"];
    let mut rows: Vec<String> = months.iter().map(|month| format!("{month} used")).collect();
    rows.push("2028-05 ahead".to_owned());
    assert_eq!(farebox.database.rows(sql).await, rows);
}
