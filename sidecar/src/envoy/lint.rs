//! What is wrong with a configuration, each finding with its place and its remedy.
//!
//! [`Rule`] is the catalogue; the modules beside it look for what breaks them. A comment `# farebox-lint: allow RULE` on
//! the line, or on the line above, says that something is meant so.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::configuration::{Chain, Configuration};
use super::explain::Book;
use super::plugin::{self, HttpFilter, Plugin};
use super::tree::Position;
pub(crate) use catalogue::{Rule, Severity, markdown};

mod catalogue;
mod chain;
mod clusters;
mod coverage;
mod identity;
mod routes;
mod settings;
#[cfg(test)]
mod tests;

/// A comment with this word says which rules do not hold for its line and the next one.
const ALLOW: &str = "farebox-lint: allow ";

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) file: String,
    #[serde(flatten)]
    pub(crate) at: Position,
    pub(crate) severity: Severity,
    pub(crate) rule: Rule,
    /// What stands there and what comes of it.
    pub(crate) message: String,
    /// What to do.
    pub(crate) remedy: String,
}

/// What `farebox.yaml` says that matters here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sidecar<'b> {
    pub(crate) book: Book<'b>,
    pub(crate) boot_grace: Duration,
    /// The port of the public listener.
    pub(crate) public_port: u16,
}

/// Everything that was found, and what was not looked at.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) findings: Vec<Finding>,
    /// What could not be checked, and why.
    pub(crate) notes: Vec<String>,
}

/// A chain with what stands in it.
struct Way<'t> {
    chain: Chain<'t>,
    filters: Vec<HttpFilter<'t>>,
    /// The first Farebox filter: its place among the filters, and what it says.
    farebox: Option<(usize, Plugin<'t>)>,
}

/// What the checks work with.
struct Desk<'t> {
    configuration: &'t Configuration,
    sidecar: Option<Sidecar<'t>>,
    findings: Vec<Finding>,
    notes: Vec<String>,
}

/// Checks a configuration.
pub(crate) fn lint(configuration: &Configuration, sidecar: Option<Sidecar<'_>>) -> Report {
    let mut desk = Desk { configuration, sidecar, findings: Vec::new(), notes: Vec::new() };
    let ways: Vec<Way<'_>> =
        configuration.chains().into_iter().map(|chain| way(configuration, chain)).collect();
    chain::check(&mut desk, &ways);
    for way in &ways {
        if let Some((place, plugin)) = &way.farebox {
            settings::check(&mut desk, way, plugin);
            identity::check(&mut desk, way, *place, plugin);
            routes::check(&mut desk, way, plugin);
        }
    }
    coverage::unused(&mut desk, &ways);
    settings::shared(&mut desk, &ways);
    clusters::check(&mut desk, &ways);
    if desk.sidecar.is_none() {
        desk.notes.push("no farebox.yaml was read: services and prices were not checked against it; name it with --config".to_owned());
    }
    desk.report()
}

fn way<'t>(configuration: &'t Configuration, chain: Chain<'t>) -> Way<'t> {
    let filters = plugin::http_filters(chain.manager);
    let place = filters.iter().position(HttpFilter::is_farebox);
    let farebox = place.and_then(|place| {
        let filter = filters.get(place)?;
        Some((place, Plugin::read(filter, configuration.format, &configuration.lines)))
    });
    Way { chain, filters, farebox }
}

impl Desk<'_> {
    fn find(
        &mut self,
        rule: Rule,
        at: Position,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.findings.push(Finding {
            file: self.configuration.file.clone(),
            at,
            severity: rule.severity(),
            rule,
            message: message.into(),
            remedy: remedy.into(),
        });
    }

    /// In the order of the file, each once, without what comments allow.
    fn report(mut self) -> Report {
        let mut seen = BTreeSet::new();
        self.findings.sort_by_key(|finding| (finding.at, finding.rule));
        let lines = &self.configuration.lines;
        self.findings.retain(|finding| {
            let line = |number: usize| lines.get(number).map_or("", String::as_str);
            let own = line(finding.at.line.wrapping_sub(1));
            let above = line(finding.at.line.wrapping_sub(2));
            let is_comment = above.trim_start().starts_with('#');
            let is_allowed =
                allows(own, finding.rule) || (is_comment && allows(above, finding.rule));
            !is_allowed && seen.insert((finding.at, finding.rule, finding.message.clone()))
        });
        self.notes.dedup();
        Report { findings: self.findings, notes: self.notes }
    }
}

/// Whether a line has a comment that allows a rule.
fn allows(line: &str, rule: Rule) -> bool {
    let Some((before, rest)) = line.split_once(ALLOW) else { return false };
    let mut words = rest.split(|letter: char| letter == ',' || letter.is_whitespace());
    before.contains('#') && words.any(|word| word == rule.id())
}
