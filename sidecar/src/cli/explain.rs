//! `farebox explain`: why a record, a lease, a reservation, an order or a refund stands in the books.

use super::failure::Failure;
use super::table::{Column, facts, table};
use super::{OutputArgs, print, print_json};
use crate::app::{App, ExplainedPart, ExplainedRow, Explanation};

pub(super) async fn execute(id: &str, output: OutputArgs, app: &App) -> Result<(), Failure> {
    let explanations = app.explain(id).await?;
    if explanations.is_empty() {
        return Err(Failure::NothingToExplain(id.to_owned()));
    }
    if output.json {
        return print_json(&explanations);
    }
    print(&describe_all(&explanations))
}

/// Ids that others gave may name several things: each is introduced then.
fn describe_all(explanations: &[Explanation]) -> String {
    let count = explanations.len();
    let texts = (1..).zip(explanations).map(|(number, explanation)| match count {
        1 => describe(explanation),
        _ => format!("{number} of {count}: {}\n\n{}", explanation.kind, describe(explanation)),
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// The parts below each other, with their titles.
fn describe(explanation: &Explanation) -> String {
    let parts = explanation.parts.iter().map(|part| match part.rows.as_slice() {
        [row] => format!("{}\n{}", part.title, one(row)),
        _ => format!("{}\n{}", part.title, several(part)),
    });
    parts.collect::<Vec<_>>().join("\n")
}

fn one(ExplainedRow(row): &ExplainedRow) -> String {
    let lines: Vec<(&str, String)> =
        row.iter().map(|(name, value)| (name.as_str(), shown(value))).collect();
    facts(&lines).lines().map(|line| format!("  {line}\n")).collect()
}

/// The names that any row has, in the order in which rows have them: what one of them lacks keeps its place.
fn names(rows: &[ExplainedRow]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for ExplainedRow(row) in rows {
        let mut next = 0;
        for (name, _) in row {
            match names.iter().position(|known| known == name) {
                Some(place) => next = place + 1,
                None => {
                    names.insert(next, name);
                    next += 1;
                }
            }
        }
    }
    names
}

/// A column for each name that any row has.
fn several(part: &ExplainedPart) -> String {
    let names = names(&part.rows);
    let columns: Vec<Column<'_>> = names.iter().map(|name| Column::Text(name)).collect();
    let rows = part.rows.iter().map(|ExplainedRow(row)| {
        let value = |name: &&str| row.iter().find(|(column, _)| column == name);
        names
            .iter()
            .map(|name| value(name).map_or_else(|| "-".to_owned(), |(_, v)| shown(v)))
            .collect()
    });
    table(&columns, rows).lines().map(|line| format!("  {line}\n")).collect()
}

/// A value as people read it: decimals without the zeros at their end.
fn shown(value: &str) -> String {
    let is_decimal = value.contains('.')
        && value.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let text = if is_decimal { value.trim_end_matches('0').trim_end_matches('.') } else { value };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(facts: &[(&str, &str)]) -> ExplainedRow {
        let owned = facts.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        ExplainedRow(owned.collect())
    }

    #[test]
    fn one_row_is_told_line_by_line_and_several_in_a_table() {
        let ledger = vec![
            row(&[("book", "earnings:asset"), ("amount", "1.500000000"), ("entry", "e1")]),
            row(&[("book", "user"), ("amount", "-1.500000000"), ("number", "3"), ("entry", "e1")]),
        ];
        let explanation = Explanation {
            kind: "record",
            parts: vec![
                ExplainedPart {
                    title: "billing record",
                    rows: vec![row(&[("record", "r1"), ("booked at", "2026-11-22 12:00:00.000")])],
                },
                ExplainedPart { title: "ledger", rows: ledger },
            ],
        };
        insta::assert_snapshot!(describe_all(std::slice::from_ref(&explanation)), @r"
        billing record
          record     r1
          booked at  2026-11-22 12:00:00.000

        ledger
          book            amount  number  entry
          earnings:asset  1.5     -       e1
          user            -1.5    3       e1
        ");
    }

    #[test]
    fn several_things_of_one_name_are_introduced() {
        let named = |kind, title: &'static str| Explanation {
            kind,
            parts: vec![ExplainedPart { title, rows: vec![row(&[("id", "7")])] }],
        };
        let both = [named("order", "recharge order"), named("refund", "refund")];
        insta::assert_snapshot!(describe_all(&both), @r"
        1 of 2: order

        recharge order
          id  7

        2 of 2: refund

        refund
          id  7
        ");
    }
}
