//! The rules of routes, parsed once and remembered.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::host::{Host, Severity};
use crate::pairs;
use crate::request::Request;
use crate::rule::{self, Metered, Partial, Rule, RuleTable};

/// Parsed rules that one VM remembers; more routes than that are parsed again.
const RULES_MAX: usize = 10_000;

/// A parsed rule of a route, as it is remembered.
#[derive(Debug, Clone)]
pub enum Parsed {
    /// Its calls are charged.
    Metered(Rc<Metered>),
    /// Its calls pass.
    Unmetered,
    /// Its calls pass with the payer's name, signed.
    Asserted {
        /// Whether callers without an identity pass too, without the assertion.
        shadow: bool,
    },
    /// Nothing says what its calls are.
    NoRule,
    /// Its metadata cannot be read.
    Broken,
}

/// What a VM remembers of the routes it has seen.
#[derive(Debug, Default)]
pub struct Routes {
    rules: BTreeMap<Vec<u8>, Parsed>,
}

impl Routes {
    /// The rule of a request's route.
    pub fn rule_of(
        &mut self,
        host: &impl Host,
        table: &RuleTable,
        request: &impl Request,
        path: &[u8],
    ) -> Parsed {
        let route = request.route_name();
        let metadata = request.route_metadata();
        let (route_text, path) = (String::from_utf8_lossy(&route), String::from_utf8_lossy(path));
        let prefix =
            if table.names_route(&route_text) { None } else { table.longest_prefix(&path) };
        let prefix_text = prefix.map_or("", |(prefix, _)| prefix);
        // Route, metadata and prefix decide the rule, so they are what it is remembered under.
        let remembered_as =
            [&route, &metadata, prefix_text.as_bytes()].map(<[u8]>::to_vec).join(&0xff);
        if let Some(parsed) = self.rules.get(&remembered_as) {
            return parsed.clone();
        }
        let parsed = parse_rule(host, &route_text, table.find(&route_text, &path), &metadata);
        if RULES_MAX <= self.rules.len() {
            self.rules.clear();
        }
        self.rules.insert(remembered_as, parsed.clone());
        parsed
    }
}

fn parse_rule(host: &impl Host, route: &str, table: Option<&Partial>, metadata: &[u8]) -> Parsed {
    match rule::of_call(table, &pairs::decode(metadata)) {
        Ok(Some(Rule::Metered(rule))) => Parsed::Metered(Rc::new(rule)),
        Ok(Some(Rule::Unmetered)) => Parsed::Unmetered,
        Ok(Some(Rule::Asserted { shadow })) => Parsed::Asserted { shadow },
        Ok(None) => {
            host.log(
                Severity::Warn,
                &format!(
                    "farebox: calls of route {route:?} are refused: no rule names a service for it"
                ),
            );
            Parsed::NoRule
        }
        Err(err) => {
            host.log(
                Severity::Error,
                &format!("farebox: calls of route {route:?} are refused: {err}"),
            );
            Parsed::Broken
        }
    }
}
