//! `farebox explain-route --envoy`: which rule, service, price and identity a call gets.

use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::Failure;
use super::lint::{book, outline};
use super::table::{Column, facts, table};
use super::{OutputArgs, print, print_json};
use crate::envoy::Configuration;
use crate::envoy::explain::{
    Charge, Explanation, Metering, Named, Outcome, Payer, Question, RuleSaid, explain,
};

/// The call, and where it arrives.
#[derive(Debug, Args)]
pub(super) struct ExplainRouteArgs {
    /// What Envoy starts with (YAML or JSON), or the answer of its /config_dump; - is standard input.
    #[arg(long, value_name = "FILE")]
    envoy: PathBuf,
    /// The call's method.
    #[arg(value_parser = method)]
    method: String,
    /// Its path with its query, or a whole URL.
    #[arg(value_name = "PATH")]
    target: String,
    /// The host that it names; without it that of the URL, or localhost.
    #[arg(long)]
    host: Option<String>,
    /// A header that it has; may be repeated.
    #[arg(long = "header", short = 'H', value_name = "NAME:VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The listener that it reaches; without it the first one that speaks HTTP.
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

fn method(text: &str) -> Result<String, String> {
    let is_word = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    let problem = "is no method; write for instance: GET /v1/passport/hello";
    if is_word { Ok(text.to_ascii_uppercase()) } else { Err(problem.to_owned()) }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write NAME:VALUE, such as x-user-id:alice")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

pub(super) fn execute(args: &ExplainRouteArgs, config: &Path) -> Result<(), Failure> {
    let configuration = Configuration::load(&args.envoy)?;
    let outline = outline(config)?;
    let file = config.display().to_string();
    let question = question(args);
    let book = outline.as_ref().map(|outline| book(&file, outline));
    let explanation = explain(&configuration, &question, book)?;
    if args.output.json { print_json(&explanation) } else { print(&told(&explanation)) }
}

fn question(args: &ExplainRouteArgs) -> Question {
    let url = ["http", "https"].into_iter().find_map(|scheme| {
        let rest = args.target.strip_prefix(scheme)?.strip_prefix("://")?;
        let (host, path) = rest.find(['/', '?']).map_or((rest, "/"), |at| rest.split_at(at));
        Some((scheme, host.to_owned(), path.to_owned()))
    });
    let (scheme, host, path) =
        url.unwrap_or_else(|| ("http", "localhost".to_owned(), args.target.clone()));
    let (hosts, headers): (Vec<_>, Vec<_>) =
        args.headers.iter().cloned().partition(|(name, _)| name == "host");
    let named = hosts.into_iter().next().map(|(_, value)| value);
    let host = args.host.clone().or(named).unwrap_or(host);
    let (method, listener) = (args.method.clone(), args.listener.clone());
    Question { method, scheme, host, path, headers, listener }
}

fn told(explanation: &Explanation) -> String {
    let mut lines =
        vec![("request", explanation.request.clone()), ("listener", explanation.listener.clone())];
    if let Some(path) = &explanation.path {
        lines.push(("path", format!("{path} ({})", explanation.path_settings)));
    }
    if let Some(answered) = &explanation.answered {
        let why = format!("{answered} ({})", explanation.path_settings);
        lines.push(("answered", why));
        lines.push(("charge", "none: no filter sees the call".to_owned()));
    }
    let mut text = facts(&lines);
    for outcome in &explanation.outcomes {
        text.push('\n');
        text.push_str(&outcome_told(outcome));
    }
    text + &notes(&explanation.notes)
}

fn notes(notes: &[String]) -> String {
    notes.iter().map(|note| format!("note: {note}\n")).collect()
}

fn outcome_told(outcome: &Outcome) -> String {
    let mut lines: Vec<(&str, String)> = Vec::new();
    if let Some(when) = &outcome.when {
        lines.push(("if", when.clone()));
    }
    let named = |thing: &Option<Named>| {
        thing.as_ref().map_or("none".to_owned(), |Named { name, at }| format!("{name} ({at})"))
    };
    lines.push(("virtual host", named(&outcome.virtual_host)));
    lines.push(("route", named(&outcome.route)));
    let filters = outcome.filters.iter().map(|step| match (&step.why, step.runs) {
        (Some(why), true) => format!("{} ({why})", step.name),
        (Some(why), false) => format!("{} (does not run: {why})", step.name),
        (None, _) => step.name.clone(),
    });
    lines.push(("filters", filters.collect::<Vec<_>>().join(", ")));
    let mut table_of_refusals = String::new();
    match &outcome.metering {
        Metering::Absent { why } => {
            lines.push(("charge", format!("none, and nobody is refused: {why}")));
        }
        Metering::Invalid { why } => {
            lines.push(("rule", format!("unknown: {why}")));
            lines.push((
                "",
                "Envoy refuses this configuration and keeps its last good one, if it has any"
                    .to_owned(),
            ));
        }
        Metering::Refused { refusal, why } => {
            let (status, code, title) = (refusal.status, refusal.code, refusal.title);
            lines.push(("refused", format!("always, with {status}, code {code} ({title}): {why}")));
        }
        Metering::Unmetered { rule } => {
            lines.push(("rule", rule_told(rule)));
            lines.push(("charge", "none (service: none)".to_owned()));
        }
        Metering::Asserted { rule, shadow, payer } => {
            lines.push(("rule", rule_told(rule)));
            lines.push((
                "charge",
                "none (service: none); the service is told who calls (assert_identity)".to_owned(),
            ));
            payer_told(payer, &mut lines);
            if *shadow {
                lines.push(("shadow", "yes: callers without an identity pass too".to_owned()));
            }
        }
        Metering::Metered(charge) => {
            charge_told(charge, &mut lines);
            table_of_refusals = refusals(charge);
        }
    }
    lines.push(("then", outcome.action.clone()));
    facts(&lines) + &table_of_refusals + &notes(&outcome.notes)
}

fn rule_told(said: &RuleSaid) -> String {
    let rule = said.rule.as_ref().map(|Named { name, at }| format!("{name} ({at})"));
    let metadata = said.metadata_at.as_ref().filter(|_| !said.route_metadata.is_empty());
    let metadata = metadata
        .map(|at| format!("the route's metadata gives {} ({at})", said.route_metadata.join(", ")));
    let parts: Vec<String> = rule.into_iter().chain(metadata).collect();
    parts.join("; ")
}

fn charge_told(charge: &Charge, lines: &mut Vec<(&'static str, String)>) {
    lines.push(("rule", rule_told(&charge.rule)));
    lines.push(("service", charge.service.clone()));
    lines.push(("units", charge.units.to_string()));
    let price = charge.price.as_deref().unwrap_or("not known here");
    lines.push(("price", format!("{price} per unit: {}", charge.price_from)));
    let free = charge
        .free_units_per_month
        .map(|units| format!("{units} free units per account and month come first"));
    let cost = charge.cost.as_ref().map(|cost| format!("{cost} for the call"));
    let parts: Vec<String> = cost.into_iter().chain(free).collect();
    if !parts.is_empty() {
        lines.push(("cost", parts.join("; ")));
    }
    let mode = match charge.mode {
        "strict" => "strict: the sidecar decides about each call",
        _ => "lease: from units that are set aside for this gateway",
    };
    lines.push(("mode", mode.to_owned()));
    let on = match charge.charge_on {
        "success" => "success: units come back when the upstream fails or the client leaves",
        _ => "request: also when the upstream fails",
    };
    lines.push(("charge on", on.to_owned()));
    let away = match charge.on_unreachable.as_str() {
        "deny" => "deny: refused while the sidecar is away and no unit is left".to_owned(),
        "allow" => "allow: forwarded and charged later".to_owned(),
        grace => format!("{grace}: forwarded and charged later, for that many units per account"),
    };
    lines.push(("sidecar away", away));
    if charge.shadow {
        lines.push(("shadow", "yes: those who can pay are charged, nobody is refused".to_owned()));
    }
    payer_told(&charge.payer, lines);
}

fn payer_told(payer: &Payer, lines: &mut Vec<(&'static str, String)>) {
    for (index, source) in payer.sources.iter().enumerate() {
        lines.push((if index == 0 { "who pays" } else { "" }, format!("{}. {source}", index + 1)));
    }
    if let Some(found) = &payer.found {
        lines.push(("", format!("here: {found}")));
    }
    if let Some(problem) = &payer.problem {
        lines.push(("", problem.clone()));
    }
}

fn refusals(charge: &Charge) -> String {
    if charge.refusals.is_empty() {
        return String::new();
    }
    let columns = [Column::Number("code"), Column::Number("HTTP"), Column::Text("refused when")];
    let rows = charge.refusals.iter().map(|refusal| {
        vec![refusal.code.to_string(), refusal.status.to_string(), refusal.when.to_owned()]
    });
    format!("\n{}", table(&columns, rows))
}
