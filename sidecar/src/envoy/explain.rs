//! One request through a configuration: listener, path, virtual host, route, filters, rule, price, payer.

use std::collections::BTreeMap;

use farebox_core::id::ServiceName;
use farebox_core::tariff::Tariff;
use serde::Serialize;

use super::configuration::{Chain, Configuration};
use super::matching::{self, Answer, Asked};
use super::path::{self, Normalized};
use super::tree::{Node, Position};

pub(crate) use metering::{Charge, Metering, Payer, RuleSaid};

mod action;
mod metering;
#[cfg(test)]
mod tests;

/// What is asked about.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) method: String,
    pub(crate) scheme: &'static str,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) listener: Option<String>,
}

/// What `farebox.yaml` says about services.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Book<'b> {
    pub(crate) file: &'b str,
    pub(crate) prices: &'b BTreeMap<ServiceName, Tariff>,
    pub(crate) free_quotas: &'b BTreeMap<ServiceName, u64>,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExplainError {
    #[error(
        "{file} has no listener with an HTTP connection manager; give the configuration of an Envoy that serves HTTP"
    )]
    NoListener { file: String },
    #[error("{file} has no HTTP listener {listener:?}; write one of: {known}")]
    UnknownListener { file: String, listener: String, known: String },
    #[error(
        "the routes of listener {listener} come from a management server (RDS), not from {file}; give what Envoy has taken in: curl -s http://ADMIN/config_dump | farebox explain-route --envoy - …"
    )]
    RoutesElsewhere { file: String, listener: String },
    #[error("{0} is no path; write it with a / in front, such as /v1/passport/hello")]
    NoPath(String),
}

/// A named thing of the configuration and where it stands.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) at: String,
}

/// The way of one request.
#[derive(Debug, Serialize)]
pub(crate) struct Explanation {
    pub(crate) request: String,
    pub(crate) listener: String,
    /// What the connection manager does to paths.
    pub(crate) path_settings: String,
    /// The path that filters and routes see; absent when the request ends before.
    pub(crate) path: Option<String>,
    /// What the caller gets before any filter runs.
    pub(crate) answered: Option<String>,
    /// One, or several where the file alone does not tell which route takes the request.
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) notes: Vec<String>,
}

/// What becomes of the request on one route.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    /// The doubt under which it comes to this.
    pub(crate) when: Option<String>,
    pub(crate) virtual_host: Option<Named>,
    pub(crate) route: Option<Named>,
    /// What Envoy does with the request after the filters.
    pub(crate) action: String,
    pub(crate) filters: Vec<Step>,
    pub(crate) metering: Metering,
    pub(crate) notes: Vec<String>,
}

/// One filter on the way.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) runs: bool,
    /// Who decided so, when it is not the order of things.
    pub(crate) why: Option<String>,
}

/// What an answer is made from.
#[derive(Clone, Copy)]
struct Scene<'t> {
    configuration: &'t Configuration,
    chain: Chain<'t>,
    virtual_host: Option<&'t Node>,
    asked: &'t Asked,
    book: Option<Book<'t>>,
}

/// Explains a request.
pub(crate) fn explain(
    configuration: &Configuration,
    question: &Question,
    book: Option<Book<'_>>,
) -> Result<Explanation, ExplainError> {
    if !question.path.starts_with('/') && question.path != "*" {
        return Err(ExplainError::NoPath(question.path.clone()));
    }
    let mut notes = Vec::new();
    let chain = chain(configuration, question, &mut notes)?;
    let settings = path::Settings::of(chain.manager);
    let mut explanation = Explanation {
        request: format!(
            "{} {}://{}{}",
            question.method, question.scheme, question.host, question.path
        ),
        listener: chain.listener.to_owned(),
        path_settings: path::told(settings),
        path: None,
        answered: None,
        outcomes: Vec::new(),
        notes,
    };
    match settings.apply(&question.path) {
        Normalized::Refused(why) => explanation.answered = Some(format!("400: {why}")),
        Normalized::Redirect(to) => {
            explanation.answered = Some(format!("307 to {to}: escaped slashes are undone first"));
        }
        Normalized::Path(path) => {
            explanation.path = Some(path.clone());
            explanation.outcomes = outcomes(configuration, chain, question, path, book)?;
        }
    }
    Ok(explanation)
}

/// The connection manager that takes the request.
fn chain<'t>(
    configuration: &'t Configuration,
    question: &Question,
    notes: &mut Vec<String>,
) -> Result<Chain<'t>, ExplainError> {
    let file = || configuration.file.clone();
    let all = configuration.chains();
    let mut names: Vec<&str> = all.iter().map(|chain| chain.listener).collect();
    names.dedup();
    let Some(first) = names.first() else { return Err(ExplainError::NoListener { file: file() }) };
    let name = question.listener.as_deref().unwrap_or(first);
    let own: Vec<Chain<'t>> = all.iter().filter(|chain| chain.listener == name).copied().collect();
    if own.is_empty() {
        let (listener, known) = (name.to_owned(), names.join(", "));
        return Err(ExplainError::UnknownListener { file: file(), listener, known });
    }
    if question.listener.is_none() && 1 < names.len() {
        let others = names.get(1..).unwrap_or_default().join(", ");
        notes.push(format!("other HTTP listeners: {others}; choose one with --listener"));
    }
    let host = question.host.split(':').next().unwrap_or_default();
    let ranked = own.iter().enumerate().max_by_key(|(index, chain)| {
        (server_name_rank(chain.chain, host), std::cmp::Reverse(*index))
    });
    let chosen = ranked.map_or(own[0], |(_, chain)| *chain);
    if 1 < own.len() {
        let line = chosen.chain.at.line;
        notes.push(format!(
            "the listener has {} filter chains; the one at line {line} is taken, by the host name as server name (SNI)",
            own.len()
        ));
    }
    Ok(chosen)
}

/// How well a filter chain's `server_names` fit a host; 0 when they do not.
fn server_name_rank(chain: &Node, host: &str) -> usize {
    let Some(rules) = chain.get("filter_chain_match") else { return 1 };
    let names = rules.list("server_names");
    if names.is_empty() {
        return 1;
    }
    let rank = |name: &str| match name.strip_prefix('*') {
        None if name == host => usize::MAX,
        Some(suffix) if host.ends_with(suffix) => 1 + suffix.len(),
        _ => 0,
    };
    names.iter().filter_map(Node::text).map(rank).max().unwrap_or(0)
}

fn outcomes(
    configuration: &Configuration,
    chain: Chain<'_>,
    question: &Question,
    path: String,
    book: Option<Book<'_>>,
) -> Result<Vec<Outcome>, ExplainError> {
    let asked = Asked {
        method: question.method.clone(),
        host: host(chain.manager, &question.host),
        path,
        headers: question.headers.clone(),
        scheme: question.scheme,
    };
    if chain.route_config.is_none() {
        let (file, listener) = (configuration.file.clone(), chain.listener.to_owned());
        return Err(ExplainError::RoutesElsewhere { file, listener });
    }
    let ignore_port =
        chain.route_config.is_some_and(|routes| routes.is_set("ignore_port_in_host_matching"));
    let virtual_host = matching::virtual_host(chain.virtual_hosts(), &asked.host, ignore_port);
    let scene = Scene { configuration, chain, virtual_host, asked: &asked, book };
    let mut found = Vec::new();
    if virtual_host.is_some_and(|host| host.get("matcher").is_some()) {
        let mut outcome = scene.outcome(None);
        outcome.when = Some("the virtual host has a matcher tree, which is not evaluated here: what follows holds when it names no route".to_owned());
        return Ok(vec![outcome]);
    }
    for route in virtual_host.map_or(&[][..], |host| host.list("routes")) {
        match matching::route(route, &asked) {
            Answer::No => {}
            Answer::Doubt(why) => {
                let mut outcome = scene.outcome(Some(route));
                outcome.when = Some(format!("the route takes it: {why}"));
                found.push(outcome);
            }
            Answer::Yes => {
                found.push(scene.outcome(Some(route)));
                break;
            }
        }
    }
    if found.last().is_none_or(|outcome| outcome.when.is_some()) {
        found.push(scene.outcome(None));
    }
    if 1 < found.len()
        && let Some(last) = found.last_mut()
    {
        last.when = Some("no route above takes it".to_owned());
    }
    Ok(found)
}

/// The host as routes see it: a manager may strip its port.
fn host(manager: &Node, sent: &str) -> String {
    let strips =
        manager.is_set("strip_matching_host_port") || manager.is_set("strip_any_host_port");
    match sent.rsplit_once(':') {
        Some((host, _)) if strips => host.to_owned(),
        _ => sent.to_owned(),
    }
}

impl<'t> Scene<'t> {
    fn at(&self, at: Position) -> String {
        format!("{}:{at}", self.configuration.file)
    }

    fn named(&self, node: &Node) -> Named {
        let name = node.text_of("name").unwrap_or("(without a name)").to_owned();
        Named { name, at: self.at(node.at) }
    }

    fn outcome(&self, route: Option<&'t Node>) -> Outcome {
        let mut notes = Vec::new();
        let action = action::told(self, route, &mut notes);
        let (filters, metering) = metering::of(self, route, &mut notes);
        Outcome {
            when: None,
            virtual_host: self.virtual_host.map(|host| self.named(host)),
            route: route.map(|route| self.named(route)),
            action,
            filters,
            metering,
            notes,
        }
    }
}
