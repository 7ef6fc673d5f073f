//! Cursors of lists: a place between two rows, as text that nobody needs to understand.

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Datelike as _, Utc};

use crate::app::page;

/// The years that a cursor may name; the calendar of this process has years that the database refuses.
const YEARS: RangeInclusive<i32> = 1970..=9999;

/// The row that a page ended with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) created_at: DateTime<Utc>,
    pub(super) id: String,
}

impl page::Place for Place {
    fn to_text(&self) -> String {
        let place = format!("{} {}", self.created_at.timestamp_millis(), self.id);
        URL_SAFE_NO_PAD.encode(place)
    }

    fn from_text(text: &str) -> Option<Self> {
        let place = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (millis, id) = place.split_once(' ')?;
        let created_at = DateTime::from_timestamp_millis(millis.parse().ok()?)?;
        let id = id.to_owned();
        YEARS.contains(&created_at.year()).then_some(Self { created_at, id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::page::Place as _;

    #[test]
    fn a_cursor_that_no_page_gave_is_refused() {
        for text in ["", "x", "####", "MTIz", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5IG8"] {
            assert_eq!(Place::from_text(text), None, "{text}");
        }
        let created_at = DateTime::from_timestamp_millis(1_700_000_000_123).unwrap();
        let place = Place { created_at, id: "order 7".to_owned() };
        assert_eq!(Place::from_text(&place.to_text()), Some(place));
    }
}
