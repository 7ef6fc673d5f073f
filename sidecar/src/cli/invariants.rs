//! `farebox invariants`: proves the books, or names the rows that break them.

use super::failure::Failure;
use super::table::{Column, table};
use super::{OutputArgs, print, print_json};
use crate::app::{App, Invariant};

pub(super) async fn execute(output: OutputArgs, app: &App) -> Result<(), Failure> {
    let invariants = app.invariants().await?;
    if output.json {
        print_json(&invariants)?;
    } else {
        print(&describe(&invariants))?;
    }
    let violations = || invariants.iter().flat_map(|invariant| &invariant.violations);
    match violations().next() {
        None => Ok(()),
        Some(first) => {
            Err(Failure::Violations { count: violations().count(), first: first.clone() })
        }
    }
}

fn describe(invariants: &[Invariant]) -> String {
    let columns = [
        Column::Text("id"),
        Column::Text("name"),
        Column::Number("checked"),
        Column::Number("broken"),
        Column::Text("rule"),
    ];
    let rows = invariants.iter().map(|invariant| {
        let Invariant { id, name, rule, checked, violations } = invariant;
        let broken = violations.len().to_string();
        let text = |text: &str| text.to_owned();
        vec![text(id), text(name), checked.to_string(), broken, text(rule)]
    });
    let mut text = table(&columns, rows);
    for Invariant { name, violations, .. } in invariants {
        for violation in violations {
            text.push_str(&format!("{name} is broken: {violation}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_rule_names_its_rows_below_the_table() {
        let invariants = [
            Invariant {
                id: "M1",
                name: "m1_held",
                rule: "held is within the balance",
                checked: 12,
                violations: vec![],
            },
            Invariant {
                id: "M5",
                name: "m5_legs",
                rule: "legs add up to zero",
                checked: 3,
                violations: vec!["entry e1 adds up to 0.001 CNY".to_owned()],
            },
        ];
        insta::assert_snapshot!(describe(&invariants), @r"
        id  name     checked  broken  rule
        M1  m1_held       12       0  held is within the balance
        M5  m5_legs        3       1  legs add up to zero
        m5_legs is broken: entry e1 adds up to 0.001 CNY
        ");
    }
}
