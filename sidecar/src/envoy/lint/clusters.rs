//! Clusters that are named and those that exist, the sidecar's own, and the statistics.

use farebox_filter::config::Config;
use farebox_filter::rule::{Mode, Rule as FareRule};

use super::super::overrides;
use super::super::plugin::Plugin;
use super::super::tree::{Node, Position};
use super::{Desk, Rule, Way};

/// Envoy's own bound of requests and pending requests per cluster is 1024; less or none is too few for strict calls.
const ROOM_MIN: u64 = 1_024;

pub(super) fn check(desk: &mut Desk<'_>, ways: &[Way<'_>]) {
    let elsewhere = desk.configuration.discovery("cds_config");
    if let Some(at) = elsewhere {
        desk.notes.push(format!(
            "{}:{at}: clusters come from elsewhere too (CDS): whether they exist was not checked",
            desk.configuration.file
        ));
    }
    for way in ways {
        if elsewhere.is_none() {
            named(desk, way);
        }
        if let Some((_, plugin)) = &way.farebox
            && let Some(config) = &plugin.config
        {
            sidecar(desk, way, plugin, config, elsewhere.is_some());
        }
    }
    if ways.iter().any(|way| way.farebox.is_some()) {
        stats(desk);
    }
}

/// The clusters that routes name.
fn named(desk: &mut Desk<'_>, way: &Way<'_>) {
    for route in way.chain.virtual_hosts().iter().flat_map(|host| host.list("routes")) {
        let Some(action) = route.get("route") else { continue };
        let weighted = action.get("weighted_clusters").map_or(&[][..], |all| all.list("clusters"));
        let mirrored = action.list("request_mirror_policies").iter();
        let single = action.get("cluster").into_iter();
        let named = single
            .chain(weighted.iter().filter_map(|cluster| cluster.get("name")))
            .chain(mirrored.filter_map(|policy| policy.get("cluster")));
        for cluster in named {
            let name = cluster.text().unwrap_or_default();
            if desk.configuration.cluster(name).is_none() {
                let route = route.text_of("name").unwrap_or("without a name");
                desk.find(
                    Rule::MissingCluster,
                    cluster.at,
                    format!("route {route} leads to cluster {name}, which does not exist"),
                    known(desk, name),
                );
            }
        }
    }
}

fn known(desk: &Desk<'_>, name: &str) -> String {
    let clusters = desk.configuration.clusters();
    let names: Vec<&str> = clusters.iter().map(|cluster| cluster.word("name")).collect();
    if names.is_empty() {
        return format!("add the cluster {name}");
    }
    format!("write one of {}, or add the cluster {name}", names.join(", "))
}

fn sidecar(
    desk: &mut Desk<'_>,
    way: &Way<'_>,
    plugin: &Plugin<'_>,
    config: &Config,
    comes_elsewhere: bool,
) {
    let name = &config.sidecar.cluster;
    let at = plugin.place_of("sidecar.cluster");
    let Some(cluster) = desk.configuration.cluster(name) else {
        if !comes_elsewhere {
            desk.find(
                Rule::MissingCluster,
                at,
                format!("the sidecar's cluster {name} does not exist: the filter can ask nobody, and refuses calls with 503"),
                known(desk, name),
            );
        }
        return;
    };
    if !has_strict(way, config) {
        return;
    }
    let (place, is_http2) = (cluster.at, speaks_http2(cluster));
    let room = room(cluster);
    if !is_http2 {
        desk.find(
            Rule::SidecarProtocol,
            place,
            format!("cluster {name} speaks HTTP/1.1, and rules are strict: each call that waits takes a connection to the sidecar"),
            "add explicit_http_config with http2_protocol_options, as in envoy/envoy.yaml",
        );
    }
    if let Some((what, at)) = room {
        desk.find(
            Rule::SidecarRoom,
            at,
            format!("cluster {name}: {what}, and rules are strict: that many calls may wait at once, the rest get 503 or what on_unreachable says"),
            "set max_requests and max_pending_requests to 4096, as in envoy/envoy.yaml",
        );
    }
}

/// Whether any rule, or any route's metadata, is strict.
fn has_strict(way: &Way<'_>, config: &Config) -> bool {
    let strict =
        |rule: &FareRule| matches!(rule, FareRule::Metered(rule) if rule.mode == Mode::Strict);
    let in_table = config.rules.rules().iter().any(|(_, partial)| {
        partial.complete("").is_ok_and(|rule| rule.as_ref().is_some_and(strict))
    });
    let mut routes = way.chain.virtual_hosts().iter().flat_map(|host| host.list("routes"));
    in_table
        || routes.any(|route| {
            overrides::metadata(Some(route))
                .is_some_and(|metadata| metadata.word("mode") == "strict")
        })
}

fn speaks_http2(cluster: &Node) -> bool {
    let options = cluster
        .get("typed_extension_protocol_options")
        .and_then(|all| all.literal("envoy.extensions.upstreams.http.v3.HttpProtocolOptions"));
    let explicit = options
        .and_then(|options| options.path(&["explicit_http_config", "http2_protocol_options"]));
    explicit.is_some() || cluster.get("http2_protocol_options").is_some()
}

/// What leaves little room, and where.
fn room(cluster: &Node) -> Option<(String, Position)> {
    let thresholds = cluster.get("circuit_breakers").map_or(&[][..], |all| all.list("thresholds"));
    let default = thresholds.iter().find(|each| ["", "DEFAULT"].contains(&each.word("priority")));
    let Some(default) = default else {
        return Some((
            format!("no circuit_breakers, so Envoy's own bound of {ROOM_MIN} holds"),
            cluster.at,
        ));
    };
    ["max_requests", "max_pending_requests"].into_iter().find_map(|name| {
        let bound = default.number(name).unwrap_or(ROOM_MIN);
        (bound <= ROOM_MIN).then(|| {
            (format!("{name} is {bound}"), default.get(name).map_or(default.at, |node| node.at))
        })
    })
}

/// A label of the reasons to refuse.
fn stats(desk: &mut Desk<'_>) {
    let Some(bootstrap) = desk.configuration.bootstrap() else { return };
    let config = bootstrap.get("stats_config");
    let tags = config.map_or(&[][..], |config| config.list("stats_tags"));
    if !tags.iter().any(|tag| tag.word("regex").contains("farebox_refused")) {
        desk.find(
            Rule::StatsTags,
            config.map_or(bootstrap.at, |config| config.at),
            "no stats_tag makes a label of the filter's reasons to refuse: alerts and dashboard of observe/ find no reason",
            "copy stats_config from envoy/envoy.yaml",
        );
    }
}
