//! Every rule: its name, how grave it is, what it means and what to do. `docs/envoy-lint.md` is made of it.

use std::fmt::Write as _;

use serde::{Serialize, Serializer};

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// Calls are refused, not charged, or charged to the wrong account; or Envoy does not start.
    Error,
    /// It works, and will not in some case.
    Warning,
    /// It could be better.
    Hint,
}

impl Severity {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Hint => "hint",
        }
    }
}

macro_rules! rules {
    ($($rule:ident $id:literal $severity:ident { $what:literal $why:literal $remedy:literal })*) => {
        /// A rule that configurations of Envoy keep.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Rule {
            $(#[doc = $what] $rule,)*
        }

        impl Rule {
            /// Every rule, in the order of the page.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$rule),*];

            /// Its name on screens and in comments; it never changes.
            pub(crate) fn id(self) -> &'static str {
                match self { $(Self::$rule => $id),* }
            }

            pub(crate) fn severity(self) -> Severity {
                match self { $(Self::$rule => Severity::$severity),* }
            }

            /// What it finds, why that matters, what to do.
            pub(crate) fn page(self) -> [&'static str; 3] {
                match self { $(Self::$rule => [$what, $why, $remedy]),* }
            }
        }
    };
}

rules! {
    FilterMissing "filter-missing" Error {
        "No HTTP connection manager has the Farebox filter."
        "Nothing is metered: every call is forwarded, and nobody pays."
        "Add the filter before the router: envoy/README.md shows it."
    }
    ChainUnmetered "chain-unmetered" Warning {
        "A filter chain lacks the Farebox filter while another one has it."
        "Whoever reaches that listener calls the same services for nothing."
        "Add the filter to this chain, or allow the finding where the listener is yours alone."
    }
    FilterTwice "filter-twice" Error {
        "A chain has the Farebox filter twice."
        "Each of them meters the call: it is charged twice."
        "Keep one."
    }
    FilterAfterRouter "filter-after-router" Error {
        "The Farebox filter stands behind the router."
        "The router ends the chain: Envoy refuses the configuration."
        "Move the filter in front of envoy.filters.http.router."
    }
    FilterBeforeAuthentication "filter-before-authentication" Error {
        "A filter that authenticates or authorizes callers stands behind the Farebox filter."
        "Calls that it refuses have been charged already, and the identity that it sets comes too late: callers are charged as whom they say they are, or get 401."
        "Move the filter that authenticates in front of the Farebox filter."
    }
    FilterDisabled "filter-disabled" Warning {
        "A route, a virtual host or the chain itself switches the Farebox filter off."
        "Calls of such a route are neither charged nor refused, and callers' x-farebox-* headers are not removed."
        "Give the route a rule with `service: none` instead: then the configuration says that it is free."
    }
    CustomResponseBefore "custom-response-before" Warning {
        "A custom_response filter stands in front of the Farebox filter."
        "A call that it sends through the filters again after its response is charged again (a known limit)."
        "Put custom_response behind the Farebox filter."
    }
    PluginConfiguration "plugin-configuration" Error {
        "A field of the filter's configuration cannot be used."
        "Envoy refuses the whole configuration when it loads it, and keeps the last good one, if it has any."
        "Write what the message says; README.md lists every field."
    }
    GatewayName "gateway-name" Error {
        "Neither the filter's `gateway` nor Envoy's `node.id` names this gateway."
        "The sidecar's books need a name; the filter refuses its configuration."
        "Set node.id, or `gateway`: unique among the Envoys that share a sidecar, the same after a restart."
    }
    VmId "vm-id" Error {
        "`vm_config.vm_id` is empty."
        "Workers share leases under this name. Without one, any other Wasm filter without one shares the memory."
        "Set vm_id to a name of the filter's own, such as farebox."
    }
    VmShared "vm-shared" Error {
        "Two Farebox filters have the same vm_id and different configurations."
        "They share leases: which gateway name and which sidecar hold is decided by whichever came first."
        "Give both the same configuration, or each a vm_id of its own."
    }
    FailurePolicy "failure-policy" Error {
        "`failure_policy` is FAIL_OPEN (or `fail_open: true`)."
        "Should the filter ever crash, every call is forwarded and nobody pays."
        "Set failure_policy: FAIL_RELOAD."
    }
    FailureReload "failure-reload" Warning {
        "`failure_policy` is not FAIL_RELOAD."
        "Should the filter ever crash, its calls get 503 until Envoy is restarted."
        "Set failure_policy: FAIL_RELOAD."
    }
    TokenVariable "token-variable" Error {
        "`sidecar.token_env` names a variable that the VM does not get."
        "The filter has no gateway token, and refuses its configuration."
        "Add the variable to vm_config.environment_variables.host_env_keys."
    }
    TokenInline "token-inline" Warning {
        "The gateway token stands in the configuration (`sidecar.token`)."
        "Whoever can read the file or Envoy's /config_dump can speak to the sidecar as this gateway."
        "Use token_env, with the variable in host_env_keys."
    }
    PathNormalization "path-normalization" Error {
        "Rules look at paths, and `normalize_path` or `merge_slashes` is off."
        "A caller can write a path in a way that a cheaper rule fits while the service reads a dearer one, such as /free/../v1/asset/."
        "Set normalize_path: true and merge_slashes: true in the HTTP connection manager."
    }
    EscapedSlashes "escaped-slashes" Warning {
        "Rules look at paths, and `path_with_escaped_slashes_action` leaves escaped slashes alone."
        "/v1%2fasset/ is another path to the filter than to a service that undoes escapes."
        "Set path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT, or REJECT_REQUEST."
    }
    Ruleless "route-without-rule" Error {
        "A route has no rule: none names it, none fits its paths, and its metadata names no service."
        "Nothing is free by mistake: its calls are refused with 403, code 190205."
        "Add a rule for the route or its path; `service: none` lets it pass unmetered."
    }
    RouteMetadata "route-metadata" Error {
        "A route's metadata (namespace farebox) has a field that cannot be used."
        "Its calls are refused with 500, code 100201."
        "Write what the message says. Money is a text in quotes: metadata numbers are floating point."
    }
    Unused "unused-rule" Warning {
        "No route leads to a rule: its route does not exist, or other rules and routes take its paths before."
        "What it says never holds: calls that it was written for are charged by another rule, or refused."
        "Correct the name or the prefix, or remove the rule."
    }
    UnknownService "unknown-service" Error {
        "A rule names a service that farebox.yaml has neither a price nor free units for."
        "Its calls are refused with 403, code 190205, whatever the price book in the database knows; under `on_unreachable: allow` they are booked at nothing."
        "Correct the name, or add the service to billing.prices or billing.free_quotas."
    }
    IdentityFromClient "identity-from-client" Warning {
        "The identity comes from a header that no filter in front sets and nothing takes away from callers."
        "Whoever reaches the listener can write any account's name there, and have it pay."
        "Put a filter that authenticates in front (jwt_authn with claim_to_headers, ext_authz), or take a claim: envoy/envoy-jwt.yaml. Note that a route's request_headers_to_remove comes too late, the router applies it."
    }
    JwtPayload "jwt-payload" Error {
        "`identity` names a payload that no jwt_authn filter in front leaves."
        "The claim is never there: callers get 401, or the next source decides."
        "Set payload_in_metadata of the provider to the same name."
    }
    AssertionLeaves "assertion-leaves" Error {
        "A route with `assert_identity` leads to a cluster that is not the sidecar's public listener."
        "Whoever receives x-farebox-identity can act as the caller at the sidecar until it ends."
        "Send the route to the sidecar's server.http, or remove assert_identity."
    }
    FareboxHeaders "farebox-headers" Error {
        "Envoy is told to add an x-farebox-* header to requests or responses."
        "These names are the filter's: services and callers believe them. What the router adds comes after the filter has removed callers' ones."
        "Use another name."
    }
    MissingCluster "missing-cluster" Error {
        "A route or the filter names a cluster that does not exist."
        "Calls of such a route get 503. Without the sidecar's cluster no call is let through, but where a rule allows it."
        "Add the cluster, or correct the name."
    }
    SidecarProtocol "sidecar-protocol" Warning {
        "The sidecar's cluster does not speak HTTP/2 while rules are strict."
        "Each strict call that waits then takes a connection of its own."
        "Add explicit_http_config with http2_protocol_options to the cluster."
    }
    SidecarRoom "sidecar-room" Warning {
        "The sidecar's cluster has room for few requests while rules are strict."
        "Each strict call is open at the sidecar for as long as it waits; beyond the circuit breaker, on_unreachable decides."
        "Set circuit_breakers with max_requests and max_pending_requests of 4096."
    }
    SidecarTimeout "sidecar-timeout" Warning {
        "`sidecar.timeout` is below 700 ms."
        "The sidecar waits up to 600 ms for accounts that somebody has locked: its answers then come too late."
        "Set sidecar.timeout to 1s."
    }
    WaitTooLong "wait-too-long" Warning {
        "`max_wait` is as long as Envoy lets a stream live or stand still."
        "Envoy ends calls that wait for units before the filter can answer them."
        "Set max_wait below the timeout that the message names."
    }
    BootGrace "boot-grace" Warning {
        "`leases.boot_grace` of farebox.yaml does not fit the filter's `sync_interval` and `max_wait`."
        "After a restart, usage of the former process comes too late to be counted, or callers wait in vain for what it held."
        "Keep boot_grace longer than sync_interval and a second below max_wait."
    }
    InternalRedirect "internal-redirect" Hint {
        "A route has an internal_redirect_policy."
        "The call is charged once, by the first metered route that it passes; the route that it is sent on to needs a rule too, or refuses it."
        "Nothing, if that is meant: allow the finding."
    }
    StatsTags "stats-tags" Hint {
        "`stats_config.stats_tags` makes no label of the filter's reasons to refuse."
        "The alerts and the dashboard in observe/ read farebox_refused{reason=\"…\"}."
        "Copy stats_config from envoy/envoy.yaml."
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

/// The page of all rules.
pub(crate) fn markdown() -> String {
    let mut text = "# What `farebox lint --envoy` finds

```sh
farebox lint --envoy envoy.yaml                      # with farebox.yaml beside it, or --config PATH
curl -s http://ADMIN/config_dump | farebox lint --envoy -   # what an Envoy has taken in, xDS included
```

It reads the configuration and changes nothing; no database is needed. Each finding has file, line, column, severity, rule, what comes of it, and the remedy; `--json` writes the same for machines.
Exit code 1 with an error, 0 without one, 64 when there is no configuration to read.
Rules of the filter are read by the filter's own code: what it refuses is refused here, with the same words.

A comment `# farebox-lint: allow RULE` on the line, or on the line above, says that something is meant so. Say why beside it.

| rule | severity | finds |
|---|---|---|
".to_owned();
    for rule in Rule::ALL {
        let (id, [what, ..]) = (rule.id(), rule.page());
        let _ = writeln!(text, "| [{id}](#{id}) | {} | {what} |", rule.severity().word());
    }
    for rule in Rule::ALL {
        let [what, why, remedy] = rule.page();
        let _ = write!(
            text,
            "\n## {}\n\n{what}\n\n- Severity: {}.\n- Why: {why}\n- Remedy: {remedy}\n",
            rule.id(),
            rule.severity().word()
        );
    }
    text.push_str(
        "\nThis page is what `farebox lint --markdown` writes; a test compares the two.\n",
    );
    text
}
