//! Which filters a chain has, and in which order.

use super::super::overrides;
use super::{Desk, Rule, Way};

/// Filters whose refusal or whose word on the caller must come before the charge.
const AUTHENTICATING: [&str; 6] =
    ["JwtAuthentication", "ExtAuthz", "OAuth2", "BasicAuth", "ApiKeyAuth", "RBAC"];

pub(super) fn check(desk: &mut Desk<'_>, ways: &[Way<'_>]) {
    missing(desk, ways);
    for way in ways {
        if let Some((place, _)) = &way.farebox {
            order(desk, way, *place);
            disabled(desk, way, *place);
        }
    }
}

fn missing(desk: &mut Desk<'_>, ways: &[Way<'_>]) {
    let is_metered = ways.iter().any(|way| way.farebox.is_some());
    if ways.is_empty() {
        match desk.configuration.discovery("lds_config") {
            Some(at) => desk.notes.push(format!(
                "{}:{at}: the listeners come from elsewhere and were not checked; give what Envoy has taken in: curl -s http://ADMIN/config_dump",
                desk.configuration.file
            )),
            None => desk.find(
                Rule::FilterMissing,
                Default::default(),
                "there is no HTTP connection manager at all: nothing can be metered",
                "give the configuration of an Envoy that serves HTTP",
            ),
        }
    }
    for way in ways.iter().filter(|way| way.farebox.is_none()) {
        let (at, listener) = (way.chain.manager.at, way.chain.listener);
        if is_metered {
            desk.find(
                Rule::ChainUnmetered,
                at,
                format!("listener {listener} has no Farebox filter, and others have: whoever reaches it is not metered"),
                "add the filter here too, or allow this where the listener is yours alone",
            );
        } else {
            desk.find(
                Rule::FilterMissing,
                at,
                format!("listener {listener} has no Farebox filter: nobody pays for its calls"),
                "add the filter before the router, as envoy/README.md shows",
            );
        }
    }
}

fn order(desk: &mut Desk<'_>, way: &Way<'_>, place: usize) {
    for (index, filter) in way.filters.iter().enumerate() {
        if filter.kind == "Router" && index < place {
            desk.find(
                Rule::FilterAfterRouter,
                way.filters[place].at,
                format!(
                    "the Farebox filter stands behind {} (line {}), which ends the chain",
                    filter.name, filter.at.line
                ),
                "move it in front of the router",
            );
        }
        if filter.kind == "CustomResponse" && index < place {
            desk.find(
                Rule::CustomResponseBefore,
                filter.at,
                format!("{} stands in front of the Farebox filter: a call that it sends through the filters again is charged again", filter.name),
                "put it behind the Farebox filter",
            );
        }
        if index <= place {
            continue;
        }
        if filter.is_farebox() {
            desk.find(
                Rule::FilterTwice,
                filter.at,
                format!("{} is the second Farebox filter of this chain (the first: line {}): each of them charges the call", filter.name, way.filters[place].at.line),
                "keep one",
            );
        }
        if AUTHENTICATING.contains(&filter.kind) {
            desk.find(
                Rule::FilterBeforeAuthentication,
                filter.at,
                format!("{} comes after the Farebox filter (line {}): what it refuses has been charged, and whom it names is not known yet", filter.name, way.filters[place].at.line),
                "move it in front of the Farebox filter",
            );
        }
    }
}

fn disabled(desk: &mut Desk<'_>, way: &Way<'_>, place: usize) {
    let filter = &way.filters[place];
    for host in way.chain.virtual_hosts() {
        for route in host.list("routes") {
            let scopes = [Some(route), Some(host), way.chain.route_config];
            let (false, why) = overrides::state(filter, scopes) else { continue };
            let name = route.text_of("name").unwrap_or("(without a name)");
            desk.find(
                Rule::FilterDisabled,
                route.at,
                format!("calls of route {name} are not metered: {}", why.unwrap_or_default()),
                "use a rule with service: none where calls shall be free",
            );
        }
    }
}
