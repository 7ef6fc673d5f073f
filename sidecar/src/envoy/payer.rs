//! Who tells the filter who pays: the filters in front of it that set, or take away, what it looks at.

use farebox_filter::identity::Source;

use super::plugin::HttpFilter;
use super::tree::Node;

/// What a filter does with a header of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hand {
    /// Nothing.
    Leaves,
    /// Its program or its service decides.
    MaySet,
    /// Its configuration says that it sets or removes it.
    Sets,
}

/// What a filter does with a header.
pub(super) fn hand(filter: &HttpFilter<'_>, header: &str) -> Hand {
    let is_it = |name: &str| name.eq_ignore_ascii_case(header);
    match filter.kind {
        "JwtAuthentication" => {
            let providers = filter.config.get("providers").map_or(&[][..], Node::entries);
            let sets = providers.iter().any(|(.., provider)| {
                let mut claims = provider.list("claim_to_headers").iter();
                claims.any(|claim| is_it(claim.word("header_name")))
                    || is_it(provider.word("forward_payload_header"))
            });
            if sets { Hand::Sets } else { Hand::Leaves }
        }
        "BasicAuth" if is_it(filter.config.word("forward_username_header")) => Hand::Sets,
        "ApiKeyAuth" => {
            let to = filter.config.path(&["forwarding", "header"]).and_then(Node::text);
            if to.is_some_and(is_it) { Hand::Sets } else { Hand::Leaves }
        }
        "HeaderMutation" => mutated(filter.config.get("mutations"), "request_mutations", header),
        "ExtAuthz"
        | "ExternalProcessor"
        | "Lua"
        | "DynamicModuleFilter"
        | "Config"
        | "Composite" => Hand::MaySet,
        "Wasm" if !filter.is_farebox() => Hand::MaySet,
        _ => Hand::Leaves,
    }
}

/// What a list of header mutations does with a header.
fn mutated(mutations: Option<&Node>, list: &str, header: &str) -> Hand {
    let items = mutations.map_or(&[][..], |mutations| mutations.list(list));
    let touches = items.iter().any(|mutation| {
        let key = mutation.path(&["append", "header", "key"]).and_then(Node::text);
        let key = key.or_else(|| mutation.text_of("remove"));
        key.is_some_and(|key| key.eq_ignore_ascii_case(header))
    });
    if touches { Hand::Sets } else { Hand::Leaves }
}

/// Whether the manager itself keeps callers from setting a header.
pub(super) fn manager_guards(manager: &Node, route_config: Option<&Node>, header: &str) -> bool {
    let early = manager.list("early_header_mutation_extensions").iter().any(|extension| {
        let mutations = extension.get("typed_config").map(|config| config.typed().1);
        mutated(mutations, "mutations", header) == Hand::Sets
    });
    let internal = route_config.map_or(&[][..], |routes| routes.list("internal_only_headers"));
    early || internal.iter().filter_map(Node::text).any(|name| name.eq_ignore_ascii_case(header))
}

/// Whether a `jwt_authn` filter leaves claims under a name.
pub(super) fn leaves_claims(filter: &HttpFilter<'_>, payload: &str) -> bool {
    let providers = filter.config.get("providers").map_or(&[][..], Node::entries);
    filter.kind == "JwtAuthentication"
        && providers.iter().any(|(.., provider)| provider.word("payload_in_metadata") == payload)
}

/// How a source reads, with the filter in front that it comes from.
pub(super) fn told(source: &Source, before: &[HttpFilter<'_>], is_guarded: bool) -> String {
    match source {
        Source::Header(name) => {
            let strongest = before.iter().max_by_key(|filter| hand(filter, name));
            let setter = strongest.map_or(("", Hand::Leaves), |f| (f.name, hand(f, name)));
            let from = match setter {
                (filter, Hand::Sets) => format!("set by {filter} in front of it"),
                (filter, Hand::MaySet) => format!("{filter} in front of it may set it"),
                (_, Hand::Leaves) if is_guarded => "callers cannot set it".to_owned(),
                (_, Hand::Leaves) => {
                    "no filter in front sets it: whoever reaches the listener can".to_owned()
                }
            };
            format!("header {name} ({from})")
        }
        Source::JwtClaim { payload, claim } => {
            let filter = before.iter().find(|filter| leaves_claims(filter, payload));
            let from = filter.map_or_else(
                || format!("no jwt_authn in front leaves claims as {payload}"),
                |filter| format!("verified by {} in front of it", filter.name),
            );
            format!("claim {claim} of {payload} ({from})")
        }
    }
}
