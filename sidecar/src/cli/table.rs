//! Tables for people: columns line up, numbers to the right, nothing is drawn.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// A column's title and side.
#[derive(Debug, Clone, Copy)]
pub(super) enum Column<'a> {
    Text(&'a str),
    Number(&'a str),
}

/// The table as lines without trailing spaces, each ended.
pub(super) fn table(columns: &[Column<'_>], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    // Lines are never wrapped: whoever reads them through a pipe counts on one row per line.
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let title = |column: &Column<'_>| match *column {
        Column::Text(title) | Column::Number(title) => title.to_owned(),
    };
    table.set_header(columns.iter().map(title));
    table.add_rows(rows);
    for (shown, column) in table.column_iter_mut().zip(columns) {
        shown.set_padding((0, 2));
        shown.set_cell_alignment(match column {
            Column::Text(_) => CellAlignment::Left,
            Column::Number(_) => CellAlignment::Right,
        });
    }
    table.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Names and values below each other.
pub(super) fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    facts.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_on_their_side() {
        let rows = [
            vec!["资产".to_owned(), "1000".to_owned()],
            vec!["passport".to_owned(), "5".to_owned()],
        ];
        insta::assert_snapshot!(table(&[Column::Text("service"), Column::Number("units")], rows), @r"
        service   units
        资产       1000
        passport      5
        ");
    }
}
