//! What a campaign was and found: a table for people, JSON for machines.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::{Cell, CellAlignment, Table};
use farebox_core::money::Nanos;
use serde::Serialize;

use crate::catalog::budget;
use crate::inflict::{Inflicted, Log};
use crate::journal::{Journal, Outcome};
use crate::judge::{Breach, Verdict};
use crate::plan::Plan;
use crate::watch::{Asked, Seen};

/// How many breaches are shown; the first ones say enough.
const SHOWN_MAX: usize = 20;

/// The report of a campaign.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    /// How many operations of each kind ended how.
    operations: BTreeMap<&'static str, BTreeMap<Outcome, u64>>,
    faults_by_kind: BTreeMap<&'static str, u64>,
    /// The faults as they were, in order.
    faults: Vec<Inflicted>,
    /// Faults that could not be done, and why.
    not_done: Vec<String>,
    /// Whether the database's disk could be filled here.
    disk_faults_possible: bool,
    /// Messages that were sent again on purpose and got their first answer.
    duplicates_suppressed: u64,
    /// The most that one gateway had used and not reported: units, and their money.
    largest_unreported_units: u64,
    largest_money_at_risk: String,
    lost_units: u64,
    lost_units_bound: u64,
    unserved_units: u64,
    unserved_units_bound: u64,
    owed_for_late_usage: String,
    /// Units that were charged because leases were taken back (`on_lost: granted`), and that were allowed without a lease.
    granted_units: u64,
    allowed_units: u64,
    /// The gateway with a budget: the most lent to it, what was lost with it, calls decided one by one for it.
    largest_money_lent: String,
    budget_lost: String,
    by_budget: u64,
    /// How long the last funded user waited after each round's faults had healed.
    recoveries_ms: Vec<u128>,
    /// By round, the last one being after the traffic.
    invariants_asked: Vec<Asked>,
    /// Sums by user, service and gateway, and those that were compared exactly, everything being known; of all, and of
    /// those without a gateway that was killed.
    sums: usize,
    exact_sums: usize,
    steady_sums: usize,
    exact_steady_sums: usize,
    pub(crate) breaches: Vec<Breach>,
}

impl Report {
    #[expect(clippy::too_many_arguments, reason = "a report sums up everything that there was")]
    pub(crate) fn new(
        plan: Plan,
        journal: &Journal,
        log: &Log,
        seen: &Seen,
        verdict: Verdict,
        recoveries: Vec<Duration>,
        mut breaches: Vec<Breach>,
        disk: bool,
    ) -> Self {
        let mut operations: BTreeMap<&'static str, BTreeMap<Outcome, u64>> = BTreeMap::new();
        for ((kind, outcome), count) in journal.counts() {
            *operations.entry(kind).or_default().entry(outcome).or_default() += count;
        }
        let faults = log.all();
        let mut faults_by_kind = BTreeMap::new();
        for fault in &faults {
            *faults_by_kind.entry(fault.kind).or_default() += 1;
        }
        let not_done = faults
            .iter()
            .filter_map(|fault| fault.failed.as_ref().map(|why| format!("{}: {why}", fault.what)));
        // A rule that stays broken is found each time that it is looked at.
        breaches.sort();
        breaches.dedup();
        Self {
            seed: plan.seed,
            plan,
            operations,
            faults_by_kind,
            not_done: not_done.collect(),
            faults,
            disk_faults_possible: disk,
            duplicates_suppressed: journal.duplicates(),
            largest_unreported_units: seen.unreported,
            largest_money_at_risk: money(seen.at_risk_nanos),
            lost_units: verdict.lost_units,
            lost_units_bound: verdict.lost_units_bound,
            unserved_units: verdict.unserved_units,
            unserved_units_bound: verdict.unserved_units_bound,
            owed_for_late_usage: verdict.owed_late.to_string(),
            granted_units: verdict.granted_units,
            allowed_units: verdict.allowed_units,
            largest_money_lent: money(seen.lent_nanos),
            budget_lost: verdict.budget_lost.to_string(),
            by_budget: seen.by_budget,
            recoveries_ms: recoveries.iter().map(Duration::as_millis).collect(),
            invariants_asked: seen.asked.clone(),
            sums: verdict.sums,
            exact_sums: verdict.exact_sums,
            steady_sums: verdict.steady_sums,
            exact_steady_sums: verdict.exact_steady_sums,
            breaches,
        }
    }

    /// Prints the report for people.
    pub(crate) fn print(&self) {
        println!("\n{}", self.operations_table());
        println!("{}", self.faults_table());
        println!("{}", self.facts_table());
        for text in &self.not_done {
            println!("not done: {text}");
        }
        for Breach { kind, text } in self.breaches.iter().take(SHOWN_MAX) {
            println!("BREACH {kind:?}: {text}");
        }
        if SHOWN_MAX < self.breaches.len() {
            println!("… and {} more: see --json", self.breaches.len() - SHOWN_MAX);
        }
        let seed = self.seed;
        match self.breaches.len() {
            0 => println!("seed {seed}: every promise was kept"),
            count => println!("seed {seed}: {count} breaches"),
        }
    }

    fn operations_table(&self) -> Table {
        let mut table = Table::new();
        table.set_header(["operation", "ok", "refused", "unknown"]);
        for (kind, outcomes) in &self.operations {
            let count = |outcome| number(outcomes.get(&outcome).copied().unwrap_or(0));
            table.add_row([
                Cell::new(kind),
                count(Outcome::Ok),
                count(Outcome::Refused),
                count(Outcome::Unknown),
            ]);
        }
        table
    }

    fn faults_table(&self) -> Table {
        let mut table = Table::new();
        table.set_header(["fault", "times"]);
        for (kind, count) in &self.faults_by_kind {
            table.add_row([Cell::new(kind), number(*count)]);
        }
        table
    }

    fn facts_table(&self) -> Table {
        let mut table = Table::new();
        table.set_header(["measured", "", "bound"]);
        let recovery = self.recoveries_ms.iter().max().copied().unwrap_or(0);
        let exact = format!("{} of {} sums", self.exact_sums, self.sums);
        let steady = format!("{} of {}", self.exact_steady_sums, self.steady_sums);
        let sum = |of: fn(&Asked) -> u64| self.invariants_asked.iter().map(of).sum::<u64>();
        let (answered, away) = (sum(|round| round.answered), sum(|round| round.away));
        let asked = format!("{answered} (database away: {away})");
        let lost = format!("lost, charged as leases held it ({})", self.plan.on_lost.as_str());
        let rows: [[String; 3]; 14] = [
            row("served, not charged (units)", self.lost_units, self.lost_units_bound),
            row("charged, not served (units)", self.unserved_units, self.unserved_units_bound),
            row(&lost, self.granted_units, "leases' units"),
            row("allowed without a lease (units)", self.allowed_units, ""),
            row("largest money lent, gateway with a budget", &self.largest_money_lent, budget()),
            row("lost with it", &self.budget_lost, "for each end"),
            row("its calls decided one by one, at least", self.by_budget, ""),
            row("owed for usage reported too late", &self.owed_for_late_usage, "leases' end"),
            row("compared exactly", exact, ""),
            row("of these through gateways never killed", steady, ""),
            row("most units unreported at a gateway", self.largest_unreported_units, ""),
            row("largest money at risk at a gateway", &self.largest_money_at_risk, ""),
            row("slowest recovery (ms)", recovery, 10_000),
            row("invariants asked", asked, ""),
        ];
        for cells in rows {
            table.add_row(cells);
        }
        table.add_row(row("duplicates suppressed", self.duplicates_suppressed, ""));
        table
    }
}

fn row(what: &str, measured: impl ToString, bound: impl ToString) -> [String; 3] {
    [what.to_owned(), measured.to_string(), bound.to_string()]
}

fn number(count: u64) -> Cell {
    Cell::new(count).set_alignment(CellAlignment::Right)
}

fn money(nanos: u64) -> String {
    i64::try_from(nanos)
        .map_or_else(|_| "out of range".to_owned(), |nanos| Nanos::new(nanos).to_string())
}
