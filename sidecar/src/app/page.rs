//! Pages of lists: how many rows one has, and the texts by which the next one is asked for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The most rows of one page, and how many there are when nothing is said.
const LIMIT_MAX: u32 = 200;
const LIMIT: u32 = 20;

/// Why a page cannot be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// A page size out of bounds.
    #[error("limit is {limit}; write 1 to {LIMIT_MAX}")]
    Limit {
        /// What was asked for.
        limit: u32,
    },
    /// A cursor that no page gave.
    #[error(
        "cursor cannot be read; write the next_cursor of the page before, or none for the first page"
    )]
    Cursor,
}

impl PageError {
    /// The parameter that is wrong.
    pub fn field(self) -> &'static str {
        match self {
            Self::Limit { .. } => "limit",
            Self::Cursor => "cursor",
        }
    }
}

/// How many rows a page has.
pub(super) fn limit(asked: Option<u32>) -> Result<u32, PageError> {
    let limit = asked.unwrap_or(LIMIT);
    if (1..=LIMIT_MAX).contains(&limit) { Ok(limit) } else { Err(PageError::Limit { limit }) }
}

/// The row that the page before ended with; `None` asks for the first page.
pub(super) fn after<P: Place>(cursor: Option<&str>) -> Result<Option<P>, PageError> {
    cursor.map(|text| P::from_text(text).ok_or(PageError::Cursor)).transpose()
}

/// What tells a row's place in its list, as text that nobody needs to understand. A place never changes while its row stands,
/// so pages neither skip nor repeat rows while others come.
pub(super) trait Place: Sized {
    /// The text.
    fn to_text(&self) -> String;

    /// The place that has this text.
    fn from_text(text: &str) -> Option<Self>;
}

/// Rows in the order of their numbers.
impl Place for i64 {
    fn to_text(&self) -> String {
        self.to_string()
    }

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok().filter(|number| 0 < *number)
    }
}

/// Rows in the order of their names.
impl Place for String {
    fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self)
    }

    fn from_text(text: &str) -> Option<Self> {
        let name = Self::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        (!name.is_empty()).then_some(name)
    }
}

/// Rows in the order of their names and, where these are the same, of their numbers.
impl Place for (String, i64) {
    fn to_text(&self) -> String {
        let (name, number) = self;
        format!("{number} {name}").to_text()
    }

    fn from_text(text: &str) -> Option<Self> {
        let place = String::from_text(text)?;
        let (number, name) = place.split_once(' ')?;
        Some((name.to_owned(), i64::from_text(number)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_1_to_200_rows() {
        for (asked, found) in [(None, Some(20)), (Some(1), Some(1)), (Some(200), Some(200))] {
            assert_eq!(limit(asked).ok(), found);
        }
        for asked in [0, 201, u32::MAX] {
            assert_eq!(limit(Some(asked)), Err(PageError::Limit { limit: asked }));
        }
    }

    #[test]
    fn a_cursor_is_read_back_and_one_that_no_page_gave_is_refused() {
        for text in ["", "x", "0", "-1", "9223372036854775808", "1 OR TRUE"] {
            assert_eq!(after::<i64>(Some(text)), Err(PageError::Cursor), "{text}");
        }
        for text in ["", "#", "x", "_w"] {
            assert_eq!(after::<String>(Some(text)), Err(PageError::Cursor), "{text}");
        }
        for text in ["", "#", "x", &"edge-1".to_owned().to_text(), &"0 edge-1".to_owned().to_text()]
        {
            assert_eq!(after::<(String, i64)>(Some(text)), Err(PageError::Cursor), "{text}");
        }
        assert_eq!(after::<i64>(None), Ok(None));
        assert_eq!(after(Some(&7_i64.to_text())), Ok(Some(7_i64)));
        let process = ("edge 1".to_owned(), 7_i64);
        assert_eq!(after(Some(&process.to_text())), Ok(Some(process)));
    }
}
