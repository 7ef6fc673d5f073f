//! Months in the billing time zone.

use chrono::{DateTime, Datelike, Days, LocalResult, Months, NaiveDate, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;

/// A calendar month in the billing time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Month {
    /// `YYYY-MM`.
    pub(crate) text: String,
    /// The moment at which the next month begins.
    pub(crate) ends_at: DateTime<Utc>,
}

impl Month {
    /// The month that `now` falls into.
    pub(crate) fn at(now: DateTime<Utc>, time_zone: Tz) -> Self {
        let local = now.with_timezone(&time_zone);
        let (year, month) = match local.month() {
            12 => (local.year() + 1, 1),
            month => (local.year(), month + 1),
        };
        // A first of a month always exists within the years that a database can hold.
        let next = NaiveDate::from_ymd_opt(year, month, 1).unwrap_or(NaiveDate::MAX);
        Self { text: local.format("%Y-%m").to_string(), ends_at: start_of(next, time_zone) }
    }

    /// `YYYY-MM` of the month before the one that `now` falls into.
    pub(crate) fn text_before(now: DateTime<Utc>, time_zone: Tz) -> String {
        let first = now.with_timezone(&time_zone).date_naive().with_day(1);
        let day = first.and_then(|first| first.pred_opt()).unwrap_or(NaiveDate::MIN);
        day.format("%Y-%m").to_string()
    }

    /// Whole seconds until the month ends.
    pub(crate) fn seconds_left(&self, now: DateTime<Utc>) -> u64 {
        u64::try_from((self.ends_at - now).num_seconds()).unwrap_or(0)
    }
}

/// A month that is about to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Coming {
    /// `YYYY-MM` of the month that `now` falls into.
    pub(crate) current: String,
    /// `YYYY-MM` of the one after it.
    pub(crate) next: String,
    /// When the local day began.
    pub(crate) day_began: DateTime<Utc>,
}

/// The month that begins within so many days; `None` earlier. The last day of a month is one day before.
pub(crate) fn coming_month(now: DateTime<Utc>, days: u64, time_zone: Tz) -> Option<Coming> {
    let (current, today) = (Month::at(now, time_zone), day_of(now, time_zone));
    let (_, first_of_next) = days_of_month(&current.text)?;
    let is_near = first_of_next.checked_sub_days(Days::new(days)).is_some_and(|day| day <= today);
    is_near.then(|| Coming {
        current: current.text,
        next: first_of_next.format("%Y-%m").to_string(),
        day_began: start_of(today, time_zone),
    })
}

/// The day that `now` falls into, in the billing time zone.
pub(crate) fn day_of(now: DateTime<Utc>, time_zone: Tz) -> NaiveDate {
    now.with_timezone(&time_zone).date_naive()
}

/// The first days of the month that is written `YYYY-MM` and of the one after it.
pub(crate) fn days_of_month(text: &str) -> Option<(NaiveDate, NaiveDate)> {
    let is_plain = text.len() == 7 && text.is_ascii();
    let first = NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d").ok()?;
    let next = first.checked_add_months(Months::new(1))?;
    // Years that a database can hold.
    (is_plain && (1970..9999).contains(&first.year())).then_some((first, next))
}

/// The first moment of a local day. Where clocks skip midnight, the day begins with the first hour that exists.
pub(crate) fn start_of(day: NaiveDate, time_zone: Tz) -> DateTime<Utc> {
    let midnight = day.and_time(NaiveTime::MIN);
    for hour in 0..24 {
        match time_zone.from_local_datetime(&(midnight + chrono::TimeDelta::hours(hour))) {
            LocalResult::Single(start) | LocalResult::Ambiguous(start, _) => return start.to_utc(),
            LocalResult::None => {}
        }
    }
    // Only a day that a zone left out altogether (Samoa, 2011-12-30) comes here: it ends where the next one begins.
    (midnight + Days::new(1)).and_utc()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_month_before_is_that_of_the_billing_time_zone() {
        for (now, expected) in [
            ("2026-01-31T15:59:59Z", "2025-12"),
            ("2026-01-31T16:00:00Z", "2026-01"),
            ("2028-03-31T00:00:00Z", "2028-02"),
        ] {
            let month = Month::text_before(now.parse().unwrap(), chrono_tz::Asia::Shanghai);
            assert_eq!(month, expected, "{now}");
        }
    }

    fn month(now: &str, time_zone: Tz) -> String {
        let now = now.parse::<DateTime<Utc>>().unwrap();
        let month = Month::at(now, time_zone);
        format!("{} until {}, {} s", month.text, month.ends_at, month.seconds_left(now))
    }

    #[test]
    fn the_billing_time_zone_decides_the_month() {
        let shanghai = chrono_tz::Asia::Shanghai;
        for (now, expected) in [
            ("2026-11-30T15:59:59.999Z", "2026-11 until 2026-11-30 16:00:00 UTC, 0 s"),
            ("2026-11-30T16:00:00Z", "2026-12 until 2026-12-31 16:00:00 UTC, 2678400 s"),
            ("2026-12-31T16:00:00Z", "2027-01 until 2027-01-31 16:00:00 UTC, 2678400 s"),
        ] {
            assert_eq!(month(now, shanghai), expected);
        }
        assert_eq!(
            month("2026-11-30T16:00:00Z", chrono_tz::UTC),
            "2026-11 until 2026-12-01 00:00:00 UTC, 28800 s"
        );
    }

    #[test]
    fn a_month_whose_first_midnight_is_skipped_begins_an_hour_later() {
        // Asunción moved its clocks forward at midnight of 2017-10-01.
        assert_eq!(
            month("2017-09-30T00:00:00Z", chrono_tz::America::Asuncion),
            "2017-09 until 2017-10-01 04:00:00 UTC, 100800 s"
        );
    }

    #[test]
    fn days_and_months_are_those_of_the_billing_time_zone() {
        let shanghai = chrono_tz::Asia::Shanghai;
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        assert_eq!(day_of(at("2028-02-28T16:00:00Z"), shanghai).to_string(), "2028-02-29");
        assert_eq!(day_of(at("2028-02-28T15:59:59.999Z"), shanghai).to_string(), "2028-02-28");
        // New York's day of 23 hours, and the one of 25.
        let new_york = chrono_tz::America::New_York;
        for (day, next, hours) in
            [("2026-03-08", "2026-03-09", 23), ("2026-11-01", "2026-11-02", 25)]
        {
            let begins = |day: &str| start_of(day.parse().unwrap(), new_york);
            assert_eq!((begins(next) - begins(day)).num_hours(), hours);
            assert_eq!(day_of(begins(day), new_york).to_string(), day);
        }
        for (text, expected) in [
            ("2028-02", Some(("2028-02-01", "2028-03-01"))),
            ("2026-12", Some(("2026-12-01", "2027-01-01"))),
            ("2026-13", None),
            ("2026-00", None),
            ("0000-01", None),
            ("2026-1", None),
            ("+026-01", None),
        ] {
            let days = days_of_month(text).map(|(from, to)| (from.to_string(), to.to_string()));
            let expected = expected.map(|(from, to)| (from.to_owned(), to.to_owned()));
            assert_eq!(days, expected, "{text}");
        }
    }

    fn coming(now: &str, time_zone: Tz) -> String {
        match coming_month(now.parse().unwrap(), 3, time_zone) {
            Some(Coming { current, next, day_began }) => {
                format!("{current}, then {next}; today since {day_began}")
            }
            None => "none".to_owned(),
        }
    }

    #[test]
    fn the_month_to_come_is_the_very_next_one_from_three_days_before_it() {
        let utc = chrono_tz::UTC;
        for (now, expected) in [
            // Neither of the last days of January leads to March.
            ("2026-01-28T23:59:59Z", "none"),
            ("2026-01-29T00:00:00Z", "2026-01, then 2026-02; today since 2026-01-29 00:00:00 UTC"),
            ("2026-01-30T12:00:00Z", "2026-01, then 2026-02; today since 2026-01-30 00:00:00 UTC"),
            ("2026-01-31T23:59:59Z", "2026-01, then 2026-02; today since 2026-01-31 00:00:00 UTC"),
            ("2026-02-01T00:00:00Z", "none"),
            // Three days before the end of February, in a leap year and in another one.
            ("2026-02-25T23:59:59Z", "none"),
            ("2026-02-26T00:00:00Z", "2026-02, then 2026-03; today since 2026-02-26 00:00:00 UTC"),
            ("2028-02-26T23:59:59Z", "none"),
            ("2028-02-27T00:00:00Z", "2028-02, then 2028-03; today since 2028-02-27 00:00:00 UTC"),
            ("2028-02-29T12:00:00Z", "2028-02, then 2028-03; today since 2028-02-29 00:00:00 UTC"),
            ("2026-12-31T12:00:00Z", "2026-12, then 2027-01; today since 2026-12-31 00:00:00 UTC"),
        ] {
            assert_eq!(coming(now, utc), expected, "{now}");
        }
    }

    #[test]
    fn the_month_to_come_is_that_of_the_billing_time_zone() {
        let shanghai = chrono_tz::Asia::Shanghai;
        for (now, expected) in [
            ("2026-11-27T15:59:59.999Z", "none"),
            ("2026-11-27T16:00:00Z", "2026-11, then 2026-12; today since 2026-11-27 16:00:00 UTC"),
            (
                "2026-11-30T15:59:59.999Z",
                "2026-11, then 2026-12; today since 2026-11-29 16:00:00 UTC",
            ),
            ("2026-11-30T16:00:00Z", "none"),
        ] {
            assert_eq!(coming(now, shanghai), expected, "{now}");
        }
        // Clocks go back in Berlin on 2026-10-25, and forward on 2026-03-29: 25 and 23 hours.
        let berlin = chrono_tz::Europe::Berlin;
        for (now, expected) in [
            ("2026-10-28T22:59:59Z", "none"),
            ("2026-10-28T23:00:00Z", "2026-10, then 2026-11; today since 2026-10-28 23:00:00 UTC"),
            ("2026-03-28T22:59:59Z", "none"),
            ("2026-03-28T23:00:00Z", "2026-03, then 2026-04; today since 2026-03-28 23:00:00 UTC"),
            ("2026-03-29T22:00:00Z", "2026-03, then 2026-04; today since 2026-03-29 22:00:00 UTC"),
        ] {
            assert_eq!(coming(now, berlin), expected, "{now}");
        }
        // Asunción's October of 2017 began at one in the morning.
        let asuncion = chrono_tz::America::Asuncion;
        assert_eq!(
            coming("2017-10-01T03:59:59Z", asuncion),
            "2017-09, then 2017-10; today since 2017-09-30 04:00:00 UTC"
        );
        assert_eq!(coming("2017-10-01T04:00:00Z", asuncion), "none");
    }
}
