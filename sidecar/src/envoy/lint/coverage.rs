//! Which rules the calls of a route may have, and which rules no call can have.

use farebox_filter::config::Config;
use farebox_filter::rule::{Partial, Place};

use super::super::matching::{self, Reach};
use super::super::plugin::place_text;
use super::super::tree::{Node, Position};
use super::routes::{prefix_of, runs_on};
use super::{Desk, Rule, Way};

/// The rules of the table that calls of a route may get, `None` among them where some get none.
pub(super) fn bases<'c>(
    config: &'c Config,
    route: &Node,
    taken: &[String],
) -> Vec<Option<&'c Partial>> {
    let name = route.word("name");
    if config.rules.names_route(name) {
        return vec![config.rules.find(name, "")];
    }
    let Some((begin, reach)) = matching::reach(route) else {
        // CONNECT and the like: only a rule with the route's name fits.
        return vec![None];
    };
    let mut found = vec![config.rules.find(name, &begin)];
    if reach != Reach::Exact {
        found.extend(within(config, &begin, taken).map(Some));
    }
    found
}

/// Rules for paths that are longer than what a route's paths begin with, and that no route before takes.
fn within<'c>(
    config: &'c Config,
    begin: &str,
    taken: &[String],
) -> impl Iterator<Item = &'c Partial> {
    config.rules.rules().iter().filter_map(move |(place, rule)| {
        let prefix = prefix_of(place)?;
        let is_longer = begin.len() < prefix.len() && prefix.starts_with(begin);
        let is_taken = taken.iter().any(|earlier| prefix.starts_with(earlier.as_str()));
        (is_longer && !is_taken).then_some(rule)
    })
}

/// Rules that no route leads to. Filters with the same configuration are one: a rule may be used in one chain only.
pub(super) fn unused(desk: &mut Desk<'_>, ways: &[Way<'_>]) {
    for (index, way) in ways.iter().enumerate() {
        let Some((_, plugin)) = &way.farebox else { continue };
        let Some(config) = &plugin.config else { continue };
        let same = |other: &&Way<'_>| {
            other.farebox.as_ref().is_some_and(|(_, known)| known.json == plugin.json)
        };
        if ways[..index].iter().any(|earlier| same(&earlier)) {
            continue;
        }
        let family: Vec<&Way<'_>> = ways.iter().filter(same).collect();
        let is_known = family.iter().all(|way| way.chain.route_config.is_some());
        if !is_known || !plugin.mistakes.is_empty() {
            continue;
        }
        for (number, (place, _)) in config.rules.rules().iter().enumerate() {
            if !family.iter().any(|way| is_used(config, place, way)) {
                let at = plugin.rules.get(number).copied().unwrap_or_default();
                report(desk, config, place, at, &family);
            }
        }
    }
}

fn report(desk: &mut Desk<'_>, config: &Config, place: &Place, at: Position, family: &[&Way<'_>]) {
    let shown = place_text(place);
    let (why, remedy) = match place {
        Place::Route(name) => {
            let mut known: Vec<&str> = family
                .iter()
                .flat_map(|way| way.chain.virtual_hosts())
                .flat_map(|host| host.list("routes"))
                .filter_map(|route| route.text_of("name"))
                .collect();
            known.dedup();
            (
                format!("no route has the name {name}"),
                format!("write the name of a route ({}), or remove the rule", known.join(", ")),
            )
        }
        Place::Prefix(prefix) => {
            let taken = family.iter().find_map(|way| taker(config, prefix, way));
            match taken {
                Some(route) => (
                    format!("its paths come to route {route}, which has a rule of its own name"),
                    "remove the rule, or give its paths a route before that one".to_owned(),
                ),
                None => (
                    "no route leads to its paths, or longer prefixes take them all".to_owned(),
                    "correct the prefix, add a route, or remove the rule".to_owned(),
                ),
            }
        }
    };
    desk.find(Rule::Unused, at, format!("the rule {{ {shown} }} is never used: {why}"), remedy);
}

/// The first route with a rule of its own that takes the paths of a prefix.
fn taker(config: &Config, prefix: &str, way: &Way<'_>) -> Option<String> {
    let mut routes = way.chain.virtual_hosts().iter().flat_map(|host| host.list("routes"));
    let taker = routes.find(|route| {
        let name = route.word("name");
        let begins = matching::reach(route).is_some_and(|(begin, _)| prefix.starts_with(&begin));
        begins && config.rules.names_route(name)
    });
    taker.map(|route| route.word("name").to_owned())
}

/// Whether any call of a chain can have a rule.
fn is_used(config: &Config, place: &Place, way: &Way<'_>) -> bool {
    let Some((index, _)) = &way.farebox else { return false };
    let filter = &way.filters[*index];
    way.chain.virtual_hosts().iter().any(|host| {
        for route in host.list("routes") {
            let name = route.word("name");
            let is_on = runs_on(filter, way, host, route);
            let prefix = match place {
                Place::Route(wanted) if wanted == name && is_on => return true,
                Place::Route(_) => continue,
                Place::Prefix(prefix) => prefix,
            };
            let Some((begin, reach)) = matching::reach(route) else { continue };
            let is_free = is_on && !config.rules.names_route(name);
            if is_free && fits(config, prefix, &begin, reach) {
                return true;
            }
            if reach == Reach::All && prefix.starts_with(&begin) {
                // Everything that the rule is for comes here, and no further.
                return false;
            }
        }
        false
    })
}

/// Whether calls of a route whose paths begin so can have the rule of a prefix.
fn fits(config: &Config, prefix: &str, begin: &str, reach: Reach) -> bool {
    let longest = |path: &str| config.rules.longest_prefix(path).map(|(found, _)| found.to_owned());
    if begin.starts_with(prefix) {
        return longest(begin).as_deref() == Some(prefix);
    }
    reach != Reach::Exact && prefix.starts_with(begin)
}
