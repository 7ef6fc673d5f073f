//! The filter's own settings, and those of the VM and the connection manager around it.

use farebox_filter::config::{Config, Token};
use farebox_filter::rule::Place;
use serde_json::Value as Json;

use super::super::path::{Escaped, Settings};
use super::super::plugin::Plugin;
use super::super::tree::{Node, Position};
use super::{Desk, Rule, Way};

/// The sidecar's wait for locked accounts and the way there and back.
const TIMEOUT_MS_MIN: u64 = 700;

/// Envoy's own `stream_idle_timeout`.
const STREAM_IDLE_MS: u64 = 300_000;

pub(super) fn check(desk: &mut Desk<'_>, way: &Way<'_>, plugin: &Plugin<'_>) {
    for (at, err) in &plugin.mistakes {
        desk.find(
            Rule::PluginConfiguration,
            *at,
            format!("{} is {}: the filter refuses the whole configuration", err.field, err.value),
            err.remedy.clone(),
        );
    }
    machine(desk, plugin);
    let Some(config) = &plugin.config else { return };
    if config.gateway.is_none() && desk.configuration.node_id().is_empty() {
        desk.find(
            Rule::GatewayName,
            plugin.place_of(""),
            "nothing names this gateway: the filter has no `gateway`, and Envoy has no node.id",
            "set node.id (or start Envoy with --service-node), or write `gateway: NAME` here",
        );
    }
    token(desk, plugin, config);
    times(desk, way, plugin, config);
    paths(desk, way, config);
}

fn machine(desk: &mut Desk<'_>, plugin: &Plugin<'_>) {
    let wasm = plugin.wasm;
    let vm = wasm.get("vm_config");
    if vm.is_none_or(|vm| vm.word("vm_id").is_empty()) {
        desk.find(
            Rule::VmId,
            vm.map_or(wasm.at, |vm| vm.at),
            "vm_id is empty: any other Wasm filter without one shares the memory with the leases",
            "write vm_id: farebox",
        );
    }
    let policy = wasm.entry("failure_policy");
    let word = policy.and_then(|(_, policy)| policy.text()).unwrap_or("FAIL_CLOSED");
    let at = policy.map_or(wasm.at, |(at, _)| at);
    if word == "FAIL_OPEN" || wasm.is_set("fail_open") {
        desk.find(
            Rule::FailurePolicy,
            at,
            "should the filter ever crash, its calls are forwarded and nobody pays (FAIL_OPEN)",
            "write failure_policy: FAIL_RELOAD",
        );
    } else if word != "FAIL_RELOAD" {
        desk.find(
            Rule::FailureReload,
            at,
            format!(
                "should the filter ever crash, its calls get 503 until Envoy is restarted ({word})"
            ),
            "write failure_policy: FAIL_RELOAD",
        );
    }
}

fn token(desk: &mut Desk<'_>, plugin: &Plugin<'_>, config: &Config) {
    let name = match &config.sidecar.token {
        Token::Env(name) => name,
        Token::Text(_) => {
            desk.find(
                Rule::TokenInline,
                plugin.place_of("sidecar.token"),
                "the gateway token can be read by whoever sees this file or Envoy's /config_dump",
                "use token_env, with the variable in vm_config.environment_variables.host_env_keys",
            );
            return;
        }
    };
    let variables = plugin.wasm.path(&["vm_config", "environment_variables"]);
    let from_host = variables.map_or(&[][..], |all| all.list("host_env_keys"));
    let given = variables.and_then(|all| all.get("key_values")?.literal(name));
    if given.is_none() && !from_host.iter().any(|key| key.text() == Some(name)) {
        desk.find(
            Rule::TokenVariable,
            plugin.place_of("sidecar.token_env"),
            format!("the VM does not get the variable {name}: the filter has no gateway token, and refuses its configuration"),
            format!("add {name} to vm_config.environment_variables.host_env_keys"),
        );
    }
}

fn times(desk: &mut Desk<'_>, way: &Way<'_>, plugin: &Plugin<'_>, config: &Config) {
    let timeout = config.sidecar.timeout_ms;
    if timeout < TIMEOUT_MS_MIN {
        desk.find(
            Rule::SidecarTimeout,
            plugin.place_of("sidecar.timeout"),
            format!("sidecar.timeout is {timeout}ms: the sidecar waits up to 600 ms for locked accounts, and then its answer comes too late"),
            "write 1s, or 700ms at least",
        );
    }
    let longest = config.max_wait_ms.saturating_add(timeout);
    for (name, bound, at) in bounds(way) {
        if 0 < bound && bound <= longest {
            desk.find(
                Rule::WaitTooLong,
                at.unwrap_or_else(|| plugin.place_of("max_wait")),
                format!("{name} is {bound}ms: a call may wait for units for {longest}ms (max_wait and sidecar.timeout), and Envoy ends it before"),
                format!("set max_wait to less, or {name} to more than {longest}ms"),
            );
        }
    }
    let Some(grace) = desk.sidecar.map(|sidecar| sidecar.boot_grace) else { return };
    let grace = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
    if grace <= config.sync_interval_ms {
        desk.find(
            Rule::BootGrace,
            plugin.place_of("sync_interval"),
            format!("sync_interval is {}ms and leases.boot_grace of farebox.yaml {grace}ms: after a restart, leases of the former process end before its last report", config.sync_interval_ms),
            "keep boot_grace longer than sync_interval",
        );
    }
    if config.max_wait_ms < grace.saturating_add(1_000) {
        desk.find(
            Rule::BootGrace,
            plugin.place_of("max_wait"),
            format!("max_wait is {}ms and leases.boot_grace of farebox.yaml {grace}ms: after a restart, callers give up before units of the former process come back", config.max_wait_ms),
            format!("write a max_wait of {}ms at least, or a shorter boot_grace", grace.saturating_add(1_000)),
        );
    }
}

/// How long Envoy lets a stream live or stand still, where it says so or by default; 0 is without end.
fn bounds<'t>(way: &Way<'t>) -> Vec<(String, u64, Option<Position>)> {
    let manager = way.chain.manager;
    let field = |node: &Node, name: &str, label: String| {
        node.duration_ms(name).map(|ms| (label, ms, node.get(name).map(|value| value.at)))
    };
    let mut found =
        vec![field(manager, "stream_idle_timeout", "stream_idle_timeout".to_owned()).unwrap_or((
            "stream_idle_timeout".to_owned(),
            STREAM_IDLE_MS,
            None,
        ))];
    let common = manager.get("common_http_protocol_options");
    found.extend(common.and_then(|options| {
        field(options, "max_stream_duration", "max_stream_duration".to_owned())
    }));
    for route in way.chain.virtual_hosts().iter().flat_map(|host| host.list("routes")) {
        let Some(action) = route.get("route") else { continue };
        let name = route.text_of("name").unwrap_or("(without a name)");
        found.extend(field(action, "idle_timeout", format!("idle_timeout of route {name}")));
        let longest = action.get("max_stream_duration");
        let label = format!("max_stream_duration of route {name}");
        found.extend(longest.and_then(|node| field(node, "max_stream_duration", label)));
    }
    found
}

fn paths(desk: &mut Desk<'_>, way: &Way<'_>, config: &Config) {
    let rules = config.rules.rules();
    if !rules.iter().any(|(place, _)| matches!(place, Place::Prefix(_))) {
        return;
    }
    let manager = way.chain.manager;
    let place = |name: &str| manager.entry(name).map_or(manager.at, |(at, _)| at);
    let settings = Settings::of(manager);
    for (is_on, name, trick) in [
        (settings.normalize, "normalize_path", "/free/../dear/ looks like /free/ to the rules"),
        (settings.merge_slashes, "merge_slashes", "//dear/ looks like no /dear/ to the rules"),
    ] {
        if !is_on {
            desk.find(
                Rule::PathNormalization,
                place(name),
                format!("{name} is off while rules look at paths: {trick}, and like /dear/ to the service"),
                format!("write {name}: true in the HTTP connection manager"),
            );
        }
    }
    if settings.escaped == Escaped::Kept {
        desk.find(
            Rule::EscapedSlashes,
            place("path_with_escaped_slashes_action"),
            "escaped slashes are kept while rules look at paths: /dear%2fx is not below /dear/ to the rules, and may be to the service",
            "write path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT, or REJECT_REQUEST",
        );
    }
}

/// Two VMs of one name must be of one mind.
pub(super) fn shared(desk: &mut Desk<'_>, ways: &[Way<'_>]) {
    let mut known: Vec<(&str, &Json, Position)> = Vec::new();
    for plugin in ways.iter().filter_map(|way| way.farebox.as_ref().map(|(_, plugin)| plugin)) {
        let id = plugin.wasm.path(&["vm_config", "vm_id"]).and_then(Node::text).unwrap_or_default();
        let at = plugin.place_of("");
        match known.iter().find(|(other, ..)| *other == id) {
            Some((_, json, first)) if **json != plugin.json => desk.find(
                Rule::VmShared,
                at,
                format!("another Farebox filter (line {}) has the vm_id {id:?} and another configuration: they share leases", first.line),
                "give both the same configuration, or each a vm_id of its own",
            ),
            Some(_) => {}
            None => known.push((id, &plugin.json, at)),
        }
    }
}
