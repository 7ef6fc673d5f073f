//! What the Farebox filter does with a request: decided by the filter's own code, and said in words.

use farebox_core::code::{Code, Language};
use farebox_core::tariff::{Tariff, Tier};
use farebox_filter::answer::Reason;
use farebox_filter::config::Config;
use farebox_filter::identity::{self, IdentityError, Source};
use farebox_filter::record::ChargeOn;
use farebox_filter::rule::{self, Metered, Mode, OnUnreachable, Rule};
use serde::Serialize;

use super::super::plugin::{self, HttpFilter, Plugin, place_text};
use super::super::tree::Node;
use super::super::{overrides, payer};
use super::{Book, Named, Scene, Step};

/// What becomes of the call's price.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Metering {
    /// The filter does not see the call.
    Absent { why: String },
    /// The filter's configuration cannot be read.
    Invalid { why: String },
    /// Every such call is refused.
    Refused { refusal: Refusal, why: String },
    /// It passes and nobody pays.
    Unmetered { rule: RuleSaid },
    /// It passes with a signed word on who calls.
    Asserted { rule: RuleSaid, shadow: bool, payer: Payer },
    /// It is charged.
    Metered(Box<Charge>),
}

/// The rule, and which of its fields the route's metadata gives.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RuleSaid {
    /// Its place; absent where only the route's metadata says something.
    pub(crate) rule: Option<Named>,
    pub(crate) route_metadata: Vec<String>,
    pub(crate) metadata_at: Option<String>,
}

/// A charge.
#[derive(Debug, Serialize)]
pub(crate) struct Charge {
    pub(crate) rule: RuleSaid,
    pub(crate) service: String,
    pub(crate) units: u64,
    /// Money per unit, where it is known.
    pub(crate) price: Option<String>,
    pub(crate) price_from: String,
    /// What the call costs without free units.
    pub(crate) cost: Option<String>,
    pub(crate) free_units_per_month: Option<u64>,
    pub(crate) mode: &'static str,
    pub(crate) charge_on: &'static str,
    pub(crate) on_unreachable: String,
    pub(crate) shadow: bool,
    pub(crate) payer: Payer,
    pub(crate) refusals: Vec<Refusal>,
}

/// Who pays.
#[derive(Debug, Serialize)]
pub(crate) struct Payer {
    /// Where the filter looks, in order.
    pub(crate) sources: Vec<String>,
    /// Whom the headers of the question name.
    pub(crate) found: Option<String>,
    /// What such a caller gets otherwise.
    pub(crate) problem: Option<String>,
}

/// An answer that callers may get instead of being served.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Refusal {
    pub(crate) code: u32,
    pub(crate) status: u16,
    pub(crate) title: &'static str,
    pub(crate) when: &'static str,
}

impl Refusal {
    fn new(code: Code, when: &'static str) -> Self {
        let (status, title) = (code.http_status(), code.title(Language::English));
        Self { code: code.number(), status, title, when }
    }
}

/// The filters on the way, and what the Farebox filter among them does.
pub(super) fn of<'t>(
    scene: &Scene<'t>,
    route: Option<&'t Node>,
    notes: &mut Vec<String>,
) -> (Vec<Step>, Metering) {
    let filters = plugin::http_filters(scene.chain.manager);
    let scopes = [route, scene.virtual_host, scene.chain.route_config];
    let steps: Vec<Step> = filters.iter().map(|filter| step(filter, scopes)).collect();
    let runs = |index: &usize| steps.get(*index).is_some_and(|step| step.runs);
    let farebox: Vec<usize> =
        (0..filters.len()).filter(|index| filters[*index].is_farebox()).collect();
    let Some(first) = farebox.iter().copied().find(runs) else {
        let why = farebox.first().and_then(|index| steps[*index].why.clone());
        let why = why.unwrap_or_else(|| "the chain has no Farebox filter".to_owned());
        return (steps, Metering::Absent { why });
    };
    if 1 < farebox.iter().filter(|index| runs(index)).count() {
        notes.push("another Farebox filter follows: it meters the call as well".to_owned());
    }
    let plugin =
        Plugin::read(&filters[first], scene.configuration.format, &scene.configuration.lines);
    let before: Vec<HttpFilter<'_>> = (0..first).filter(runs).map(|index| filters[index]).collect();
    let metering = match (&plugin.config, plugin.mistakes.first()) {
        (Some(config), None) => Filter { scene, config, plugin: &plugin, before }.decide(route),
        (_, Some((at, err))) => Metering::Invalid { why: format!("{}: {err}", scene.at(*at)) },
        (None, None) => Metering::Invalid { why: "the filter has no configuration".to_owned() },
    };
    (steps, metering)
}

fn step(filter: &HttpFilter<'_>, scopes: [Option<&Node>; 3]) -> Step {
    let (runs, why) = overrides::state(filter, scopes);
    Step { name: filter.name.to_owned(), kind: filter.kind.to_owned(), runs, why }
}

/// What the filter decides from.
struct Filter<'s, 't> {
    scene: &'s Scene<'t>,
    config: &'s Config,
    plugin: &'s Plugin<'t>,
    before: Vec<HttpFilter<'t>>,
}

impl Filter<'_, '_> {
    fn decide(&self, route: Option<&Node>) -> Metering {
        let name = route.map_or("", |route| route.word("name"));
        let place = self.config.rules.place_of(name, &self.scene.asked.path);
        let table = place.and_then(|place| self.config.rules.rules().get(place));
        let metadata = overrides::metadata(route);
        let bytes = metadata.map_or_else(Vec::new, |node| {
            overrides::encoded(node, self.scene.configuration.format)
        });
        let pairs: Vec<(&[u8], &[u8])> =
            bytes.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
        let said = RuleSaid {
            rule: place.zip(table).map(|(index, (place, _))| Named {
                name: place_text(place),
                at: self.scene.at(self.plugin.rules.get(index).copied().unwrap_or_default()),
            }),
            route_metadata: metadata.map_or_else(Vec::new, |node| {
                node.entries().iter().map(|(key, ..)| key.clone()).collect()
            }),
            metadata_at: metadata.map(|node| self.scene.at(node.at)),
        };
        match rule::of_call(table.map(|(_, rule)| rule), &pairs) {
            Err(err) => refused(&Reason::Misconfigured, err.to_string()),
            Ok(None) => refused(&Reason::NoRule, "no rule covers the route or the path".to_owned()),
            Ok(Some(Rule::Unmetered)) => Metering::Unmetered { rule: said },
            Ok(Some(Rule::Asserted { shadow })) => {
                Metering::Asserted { rule: said, shadow, payer: self.payer(shadow) }
            }
            Ok(Some(Rule::Metered(rule))) => Metering::Metered(Box::new(self.charge(rule, said))),
        }
    }

    fn charge(&self, rule: Metered, said: RuleSaid) -> Charge {
        let (price, price_from) = price(&rule, self.scene.book);
        let service = &rule.service;
        Charge {
            rule: said,
            service: service.to_string(),
            units: rule.units,
            cost: price.as_ref().and_then(|price| cost_of_a_call(price, rule.units)),
            price: price.map(|price| price.to_string()),
            price_from,
            free_units_per_month: self
                .scene
                .book
                .and_then(|book| book.free_quotas.get(service).copied()),
            mode: match rule.mode {
                Mode::Lease => "lease",
                Mode::Strict => "strict",
            },
            charge_on: match rule.charge_on {
                ChargeOn::Request => "request",
                ChargeOn::Success => "success",
            },
            on_unreachable: match rule.on_unreachable {
                OnUnreachable::Deny => "deny".to_owned(),
                OnUnreachable::Allow => "allow".to_owned(),
                OnUnreachable::Grace(units) => format!("grace({units})"),
            },
            shadow: rule.shadow,
            payer: self.payer(rule.shadow),
            refusals: refusals(&rule, self.scene.book),
        }
    }

    fn payer(&self, shadow: bool) -> Payer {
        let sources = &self.config.identity;
        let (manager, routes) = (self.scene.chain.manager, self.scene.chain.route_config);
        let told = |source: &Source| {
            let is_guarded = matches!(source, Source::Header(name) if payer::manager_guards(manager, routes, name));
            payer::told(source, &self.before, is_guarded)
        };
        let headers: Vec<(&[u8], &[u8])> = self
            .scene
            .asked
            .headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        // No token is verified here, so no claim is known.
        let found = identity::find(sources, &headers, |_, _| None);
        let problem = found.as_ref().err().map(|err| {
            let reason = Reason::Identity(err.clone());
            let code = reason.code();
            let passes =
                if shadow { ", but the route is in shadow: it passes uncharged" } else { "" };
            let what = match err {
                IdentityError::Missing => "a caller whom none of them names",
                IdentityError::Doubled(_) => "a header that occurs twice",
                IdentityError::Invalid(_) => "a name that no account can have",
            };
            format!("{what} gets {} (code {}){passes}", code.http_status(), code.number())
        });
        Payer {
            sources: sources.iter().map(told).collect(),
            found: found.ok().map(|account| account.to_string()),
            problem,
        }
    }
}

fn refused(reason: &Reason, why: String) -> Metering {
    let refusal = Refusal::new(reason.code(), "always");
    Metering::Refused { refusal, why }
}

/// What every call costs; at a graduated price, or by the package, it depends on the units before.
fn cost_of_a_call(price: &Tariff, units: u64) -> Option<String> {
    let [Tier { price, .. }] = price.tiers() else { return None };
    price.checked_mul(units).map(|cost| cost.to_string())
}

/// The price that holds, and who says so.
fn price(rule: &Metered, book: Option<Book<'_>>) -> (Option<Tariff>, String) {
    if let Some(price) = rule.price {
        return (Some(Tariff::flat(price)), "the rule's own".to_owned());
    }
    let Some(book) = book else {
        return (
            None,
            "the price book's (`farebox prices show`); no farebox.yaml was read".to_owned(),
        );
    };
    let leads = "the price book in the database leads: `farebox prices show`";
    match (book.prices.get(&rule.service), book.free_quotas.get(&rule.service)) {
        (Some(price), _) => {
            (Some(price.clone()), format!("billing.prices of {}; {leads}", book.file))
        }
        (None, Some(_)) => {
            (None, format!("{} gives the service free units and no price; {leads}", book.file))
        }
        (None, None) => (None, format!("{} does not know the service; {leads}", book.file)),
    }
}

/// Every answer that the rule may have for a caller.
fn refusals(rule: &Metered, book: Option<Book<'_>>) -> Vec<Refusal> {
    if rule.shadow {
        return Vec::new();
    }
    let missing = Reason::Identity(IdentityError::Missing).code();
    let doubled = Reason::Identity(IdentityError::Doubled(String::new())).code();
    let mut found = vec![
        Refusal::new(missing, "nobody to charge is named"),
        Refusal::new(doubled, "the identity occurs twice or can be no account"),
    ];
    if rule.units == 0 {
        return found;
    }
    let has = |price: bool| {
        book.is_none_or(|book| {
            let known = book.prices.contains_key(&rule.service);
            if price { known || rule.price.is_some() } else { !known && rule.price.is_none() }
        })
    };
    if has(true) {
        found.push(Refusal::new(Code::InsufficientBalance, "free units and money do not suffice"));
    }
    if has(false) {
        found.push(Refusal::new(
            Code::InsufficientQuota,
            "the free units of the month are used up, and the service has no price",
        ));
        found.push(Refusal::new(
            Code::UnknownService,
            "the service has neither a price nor a free quota",
        ));
    }
    found.push(Refusal::new(Code::AccountFrozen, "an operator froze the account"));
    if rule.on_unreachable == OnUnreachable::Deny {
        found.push(Refusal::new(Reason::Unreachable.code(), "the sidecar does not answer in time"));
    } else {
        found.push(Refusal::new(
            Reason::Unreachable.code(),
            "the sidecar does not answer in time, and no more units may go without it",
        ));
    }
    found.push(Refusal::new(Reason::Overloaded.code(), "too many calls wait at the gateway"));
    found
}
