//! Whether callers can say themselves who pays.

use farebox_filter::identity::Source;

use super::super::payer::{self, Hand};
use super::super::plugin::{HttpFilter, Plugin};
use super::{Desk, Rule, Way};

pub(super) fn check(desk: &mut Desk<'_>, way: &Way<'_>, place: usize, plugin: &Plugin<'_>) {
    let Some(config) = &plugin.config else { return };
    let (before, behind) = way.filters.split_at(place);
    for (index, source) in config.identity.iter().enumerate() {
        let field = format!("identity[{index}]");
        match source {
            Source::Header(name) => header(desk, way, plugin, (&field, name), (before, behind)),
            Source::JwtClaim { payload, .. } => {
                if before.iter().any(|filter| payer::leaves_claims(filter, payload)) {
                    continue;
                }
                let (what, remedy) = jwt(before, payload);
                desk.find(
                    Rule::JwtPayload,
                    plugin.place_of(&format!("{field}.jwt_claim.payload")),
                    what,
                    remedy,
                );
            }
        }
    }
}

fn header(
    desk: &mut Desk<'_>,
    way: &Way<'_>,
    plugin: &Plugin<'_>,
    (field, name): (&str, &str),
    (before, behind): (&[HttpFilter<'_>], &[HttpFilter<'_>]),
) {
    for filter in behind.iter().filter(|filter| payer::hand(filter, name) == Hand::Sets) {
        if ["HeaderMutation"].contains(&filter.kind) {
            desk.find(
                Rule::FilterBeforeAuthentication,
                filter.at,
                format!(
                    "{} changes the header {name}, which says who pays, behind the Farebox filter",
                    filter.name
                ),
                "move it in front of the Farebox filter",
            );
        }
    }
    let is_set = before.iter().any(|filter| payer::hand(filter, name) != Hand::Leaves);
    if is_set || payer::manager_guards(way.chain.manager, way.chain.route_config, name) {
        return;
    }
    desk.find(
        Rule::IdentityFromClient,
        plugin.place_of(&format!("{field}.header")),
        format!("no filter in front sets the header {name}: whoever reaches listener {} can have any account pay", way.chain.listener),
        "put a filter that authenticates in front and have it set the header, or take a claim (envoy/envoy-jwt.yaml)",
    );
}

fn jwt(before: &[HttpFilter<'_>], payload: &str) -> (String, String) {
    let filters = before.iter().filter(|filter| filter.kind == "JwtAuthentication");
    let names: Vec<&str> = filters
        .flat_map(|filter| filter.config.get("providers").map_or(&[][..], |all| all.entries()))
        .map(|(.., provider)| provider.word("payload_in_metadata"))
        .filter(|name| !name.is_empty())
        .collect();
    if names.is_empty() {
        let what = format!(
            "no jwt_authn filter in front leaves claims as {payload:?}: they are never there"
        );
        return (what, format!("put jwt_authn in front, with payload_in_metadata: {payload}"));
    }
    let known = names.join(", ");
    (
        format!("jwt_authn leaves claims as {known}, not as {payload:?}: they are never there"),
        format!("write payload: {}, or payload_in_metadata: {payload} at the provider", names[0]),
    )
}
