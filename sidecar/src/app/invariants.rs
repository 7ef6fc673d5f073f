//! The checks that prove the books: each names the rows that break it.
//!
//! Every check sees one moment of the database, so that traffic raises no false alarm. What is found is kept, for whichever
//! sidecar is asked.
//!
//! | file | what it does |
//! |---|---|
//! | `everything.rs` | checks every row, when somebody asks for it |
//! | `touched.rs` | checks the accounts that changed, every minute |
//! | `status.rs` | tells what the last checks found |

use serde::Serialize;

use crate::store::invariant::{Rule, Violation};
use crate::store::invariant_violation::NewViolation;

pub(super) mod everything;
pub(super) mod status;
pub(super) mod touched;

pub use status::InvariantStatus;
pub use touched::Touched;

/// The most rows of one invariant that are kept as broken; beyond it the first ones say enough.
const KEPT_MAX: u64 = 1_000;

/// The most rows that one line of the log names.
const NAMED_MAX: usize = 3;

/// One rule and the rows that break it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Invariant {
    /// The family in the design: `M1` no overspend, `M2` charged once, `M3` nothing lost, `M5` the books balance,
    /// `M6` recharged once.
    pub id: &'static str,
    /// The rule among all, as metrics name it.
    pub name: &'static str,
    /// The rule, as a sentence.
    pub rule: &'static str,
    /// How many rows were checked.
    pub checked: u64,
    /// The rows that break it, one sentence each.
    pub violations: Vec<String>,
}

/// What a check of one rule found.
struct Found {
    rule: &'static Rule,
    checked: u64,
    violations: Vec<Violation>,
}

impl Found {
    fn rows(&self) -> impl Iterator<Item = NewViolation<'_>> {
        self.violations.iter().map(|Violation { account, text }| NewViolation {
            invariant: self.rule.name,
            account,
            text,
        })
    }

    /// A line in the log that operators are woken by.
    fn alert(&self) {
        if self.violations.is_empty() {
            return;
        }
        let first = self.violations.iter().take(NAMED_MAX).map(|row| row.text.as_str());
        let first: Vec<&str> = first.collect();
        tracing::error!(
            invariant = self.rule.name,
            violations = self.violations.len(),
            rows = first.join("; "),
            "alert: {} is broken: {}",
            self.rule.id,
            self.rule.sentence
        );
    }
}

impl From<Found> for Invariant {
    fn from(found: Found) -> Self {
        let Found { rule, checked, violations } = found;
        let Rule { id, name, sentence, .. } = *rule;
        let violations = violations.into_iter().map(|row| row.text).collect();
        Self { id, name, rule: sentence, checked, violations }
    }
}
