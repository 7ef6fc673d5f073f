//! What routes have: a rule, a service that is known, metadata that can be read, headers that are not the filter's.

use farebox_filter::config::Config;
use farebox_filter::rule::{self, Partial, Place, Rule as FareRule};

use super::super::matching::Reach;
use super::super::plugin::{HttpFilter, Plugin};
use super::super::proto::Format;
use super::super::tree::{Node, Position};
use super::super::{matching, overrides};
use super::{Desk, Rule, Way, coverage};

pub(super) fn check(desk: &mut Desk<'_>, way: &Way<'_>, plugin: &Plugin<'_>) {
    foreign_headers(desk, way);
    let Some(config) = &plugin.config else { return };
    services(desk, plugin, config);
    let Some((place, _)) = &way.farebox else { return };
    if !plugin.mistakes.is_empty() {
        // Rules that were refused are missing here: what follows from that is no finding of its own.
        return;
    }
    let filter = &way.filters[*place];
    if way.chain.route_config.is_none() {
        desk.notes.push(format!(
            "{}:{}: the routes of listener {} come from elsewhere (RDS) and were not checked; give what Envoy has taken in: curl -s http://ADMIN/config_dump",
            desk.configuration.file, way.chain.manager.at, way.chain.listener
        ));
    }
    for host in way.chain.virtual_hosts() {
        // What routes before leave nothing of.
        let mut taken: Vec<String> = Vec::new();
        for node in host.list("routes") {
            if runs_on(filter, way, host, node) {
                route(desk, config, node, &taken);
            }
            if let Some((begin, Reach::All)) = matching::reach(node) {
                taken.push(begin);
            }
        }
    }
}

/// The services that rules name.
fn services(desk: &mut Desk<'_>, plugin: &Plugin<'_>, config: &Config) {
    for (index, (_, partial)) in config.rules.rules().iter().enumerate() {
        let at = plugin.rules.get(index).copied().unwrap_or_default();
        if let Ok(Some(FareRule::Metered(rule))) = partial.complete("") {
            known_service(desk, at, rule.service.as_str());
        }
    }
}

fn known_service(desk: &mut Desk<'_>, at: Position, service: &str) {
    let Some(book) = desk.sidecar.map(|sidecar| sidecar.book) else { return };
    let mut known: Vec<&str> =
        book.prices.keys().chain(book.free_quotas.keys()).map(|name| name.as_str()).collect();
    if known.contains(&service) {
        return;
    }
    known.sort_unstable();
    known.dedup();
    desk.find(
        Rule::UnknownService,
        at,
        format!("{} has neither a price nor free units for the service {service}: its calls are refused with 403, code 190205", book.file),
        format!("write one of {}, or add {service} to billing.prices", known.join(", ")),
    );
}

fn route(desk: &mut Desk<'_>, config: &Config, node: &Node, taken: &[String]) {
    let name = node.word("name");
    let shown = if name.is_empty() { "(without a name)" } else { name };
    if let Some(policy) = node.path(&["route", "internal_redirect_policy"]) {
        desk.find(
            Rule::InternalRedirect,
            policy.at,
            format!("route {shown} may send calls on by an internal redirect: they are charged once, here, and the next route may still refuse them"),
            "see that the routes which it leads to have a rule",
        );
    }
    let metadata = overrides::metadata(Some(node));
    let format = desk.configuration.format;
    let rules: Result<Vec<_>, _> = coverage::bases(config, node, taken)
        .into_iter()
        .map(|base| effective(format, base, metadata))
        .collect();
    let rules = match rules {
        Ok(rules) => rules,
        Err(err) => {
            let at = metadata.map_or(node.at, |metadata| field_at(metadata, &err.field));
            desk.find(
                Rule::RouteMetadata,
                at,
                format!(
                    "route {shown}: {} is {}: its calls are refused with 500, code 100201",
                    err.field, err.value
                ),
                err.remedy,
            );
            return;
        }
    };
    for rule in rules.iter().flatten() {
        match (rule, metadata) {
            (FareRule::Metered(rule), Some(metadata)) if metadata.literal("service").is_some() => {
                known_service(desk, field_at(metadata, "service"), rule.service.as_str());
            }
            (FareRule::Asserted { .. }, _) => assertion(desk, node, shown),
            _ => {}
        }
    }
    // Where some of its paths have a rule, the rest is refused on purpose.
    if rules.iter().all(Option::is_none) {
        desk.find(
            Rule::Ruleless,
            node.at,
            format!("route {shown} has no rule: its calls are refused with 403, code 190205"),
            suggestion(name, node),
        );
    }
}

fn suggestion(name: &str, node: &Node) -> String {
    let place = match (name, matching::reach(node)) {
        ("", Some((prefix, _))) if prefix.starts_with('/') => format!("prefix: {prefix}"),
        ("", _) => return "give the route a name and a rule".to_owned(),
        (name, _) => format!("route: {name}"),
    };
    format!(
        "add {{ {place}, service: … }} to the filter's rules, or service: none to let it pass unmetered"
    )
}

fn effective(
    format: Format,
    base: Option<&Partial>,
    metadata: Option<&Node>,
) -> Result<Option<FareRule>, rule::FieldError> {
    let bytes = metadata.map_or_else(Vec::new, |node| overrides::encoded(node, format));
    let pairs: Vec<(&[u8], &[u8])> =
        bytes.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
    rule::of_call(base, &pairs)
}

/// Where a field of metadata stands; `field` may have the name of its place in front.
fn field_at(metadata: &Node, field: &str) -> Position {
    let name = field.rsplit('.').next().unwrap_or_default();
    metadata.literal(name).map_or(metadata.at, |node| node.at)
}

/// The signed word on who calls is for the sidecar alone.
fn assertion(desk: &mut Desk<'_>, node: &Node, shown: &str) {
    if let Some(header) = node.path(&["route", "cluster_header"]) {
        desk.find(
            Rule::AssertionLeaves,
            header.at,
            format!("route {shown} has assert_identity and leads wherever a header says: whoever it leads to can act as the caller at the sidecar"),
            "name the cluster of the sidecar's server.http, or remove assert_identity",
        );
    }
    let weighted = node.path(&["route", "weighted_clusters"]);
    let weighted = weighted.into_iter().flat_map(|all| all.list("clusters"));
    let clusters = weighted.filter_map(|cluster| cluster.get("name"));
    for cluster in node.path(&["route", "cluster"]).into_iter().chain(clusters) {
        assertion_to(desk, cluster, shown);
    }
}

fn assertion_to(desk: &mut Desk<'_>, cluster: &Node, shown: &str) {
    let name = cluster.text().unwrap_or_default();
    let Some(found) = desk.configuration.cluster(name) else { return };
    let port = desk.sidecar.map(|sidecar| u64::from(sidecar.public_port));
    let endpoints = found.path(&["load_assignment", "endpoints"]).map_or(&[][..], Node::items);
    let has_port = endpoints.iter().flat_map(|all| all.list("lb_endpoints")).any(|endpoint| {
        let address = endpoint.path(&["endpoint", "address", "socket_address"]);
        port.is_some() && address.and_then(|address| address.number("port_value")) == port
    });
    if name.contains("farebox") || has_port {
        return;
    }
    desk.find(
        Rule::AssertionLeaves,
        cluster.at,
        format!("route {shown} has assert_identity and leads to cluster {name}, which does not look like the sidecar's public listener: whoever runs it can act as the caller at the sidecar"),
        "send the route to the sidecar's server.http (name its cluster farebox_…), or remove assert_identity",
    );
}

/// `x-farebox-*` headers that Envoy is told to add.
fn foreign_headers(desk: &mut Desk<'_>, way: &Way<'_>) {
    let Some(table) = way.chain.route_config else { return };
    let hosts = table.list("virtual_hosts");
    let routes = hosts.iter().flat_map(|host| host.list("routes"));
    let weighted = routes.clone().filter_map(|route| route.path(&["route", "weighted_clusters"]));
    let clusters = weighted.flat_map(|all| all.list("clusters"));
    for scope in std::iter::once(table).chain(hosts).chain(routes).chain(clusters) {
        for list in ["request_headers_to_add", "response_headers_to_add"] {
            for option in scope.list(list) {
                let Some(key) = option.path(&["header", "key"]) else { continue };
                let name = key.text().unwrap_or_default().to_ascii_lowercase();
                if name.starts_with("x-farebox-") {
                    desk.find(
                        Rule::FareboxHeaders,
                        key.at,
                        format!(
                            "{list} sets {name}: whoever reads it takes it for the filter's word"
                        ),
                        "use another name, or remove it",
                    );
                }
            }
        }
    }
}

/// Whether a filter is switched on for at least one route.
pub(super) fn runs_on(filter: &HttpFilter<'_>, way: &Way<'_>, host: &Node, route: &Node) -> bool {
    overrides::state(filter, [Some(route), Some(host), way.chain.route_config]).0
}

/// Whether a rule is for paths.
pub(super) fn prefix_of(place: &Place) -> Option<&str> {
    if let Place::Prefix(prefix) = place { Some(prefix) } else { None }
}
