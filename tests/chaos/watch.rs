//! What is looked at while faults happen: the invariants, and what gateways have not reported.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use farebox_tests::StackError;
use serde_json::Value;

use crate::judge::{Breach, Kind};
use crate::site::Site;

/// How often the invariants are asked for.
const ASK_EVERY: Duration = Duration::from_secs(3);

/// How often gateways are asked what they have not reported, and how long that may take: a stopped one never answers.
const MEASURE_EVERY: Duration = Duration::from_millis(500);

const UNREPORTED: &str = "wasmcustom.farebox_unreported_units";
const AT_RISK: &str = "wasmcustom.farebox_at_risk_nanos";

/// What was seen.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    /// How often the invariants were asked for and answered, and how often the database was away.
    pub(crate) asked: u64,
    pub(crate) away: u64,
    pub(crate) breaches: Vec<Breach>,
    /// The largest number of units that one gateway had not reported.
    pub(crate) unreported: u64,
    /// The most money that such units of one gateway were worth.
    pub(crate) at_risk_nanos: u64,
}

/// The watcher's notes.
pub(crate) type Notes = Arc<Mutex<Seen>>;

/// Watches until told to stop.
pub(crate) async fn watch(site: Arc<Site>, notes: Notes, stop: Arc<AtomicBool>) {
    let asking = async {
        while !stop.load(Ordering::Relaxed) {
            ask(&site, &notes);
            tokio::time::sleep(ASK_EVERY).await;
        }
    };
    let measuring = async {
        while !stop.load(Ordering::Relaxed) {
            for number in 0..site.gateways.len() {
                let units = stat(&site, number, UNREPORTED).await.unwrap_or(0);
                let nanos = stat(&site, number, AT_RISK).await.unwrap_or(0);
                note(&notes, |seen| {
                    seen.unreported = seen.unreported.max(units);
                    seen.at_risk_nanos = seen.at_risk_nanos.max(nanos);
                });
            }
            tokio::time::sleep(MEASURE_EVERY).await;
        }
    };
    tokio::join!(asking, measuring);
}

/// Has the invariants checked, on one snapshot; whether they were answered at all.
pub(crate) fn ask(site: &Site, notes: &Notes) -> bool {
    let printed = tokio::task::block_in_place(|| site.observe(&["invariants", "--json"]));
    let violations = match printed {
        Ok(_) => Some(Vec::new()),
        Err(err) => match err.downcast_ref() {
            Some(StackError::Command { output, .. }) => violations(output),
            _ => None,
        },
    };
    let answered = violations.is_some();
    note(notes, |seen| match violations {
        None => seen.away += 1,
        Some(violations) => {
            seen.asked += 1;
            let breach = |text| Breach { kind: Kind::Invariant, text };
            seen.breaches.extend(violations.into_iter().map(breach));
        }
    });
    answered
}

fn note(notes: &Notes, change: impl FnOnce(&mut Seen)) {
    if let Ok(mut seen) = notes.lock() {
        change(&mut seen);
    }
}

/// The violations in what `farebox invariants --json` printed; none when that is something else, such as "no database".
fn violations(printed: &str) -> Option<Vec<String>> {
    // What the program complains about follows the JSON.
    let mut values = serde_json::Deserializer::from_str(printed).into_iter::<Value>();
    let rules = values.next()?.ok()?;
    let rules = rules.as_array()?;
    let rows = |rule: &Value| rule["violations"].as_array().cloned().unwrap_or_default();
    Some(
        rules
            .iter()
            .flat_map(rows)
            .map(|row| row.as_str().unwrap_or_default().to_owned())
            .collect(),
    )
}

/// A statistic of a gateway's filter; none while it is away.
pub(crate) async fn stat(site: &Site, gateway: usize, name: &str) -> Option<u64> {
    let path = format!("/stats?filter=^{name}$");
    let asked = site.gateways[gateway].envoy.admin(&path);
    let lines = tokio::time::timeout(MEASURE_EVERY, asked).await.ok()??;
    lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::violations;

    #[test]
    fn violations_are_told_from_other_failures() {
        let broken = r#"[{"id":"M1","violations":["a"]},{"id":"M5","violations":[]}]
farebox: 1 row breaks a rule"#;
        assert_eq!(violations(broken), Some(vec!["a".to_owned()]));
        assert_eq!(violations("farebox: the database cannot be reached"), None);
    }
}
