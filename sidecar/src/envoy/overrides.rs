//! What routes change: which filters run for them, and the metadata that overrides rules.

use super::plugin::HttpFilter;
use super::proto::Format;
use super::tree::Node;
use serde_json::Value as Json;

/// Whether a filter runs, and who said so; `scopes` are the route, its virtual host, the whole table of routes.
pub(super) fn state(filter: &HttpFilter<'_>, scopes: [Option<&Node>; 3]) -> (bool, Option<String>) {
    let names = ["the route", "the virtual host", "the route configuration"];
    for (scope, name) in scopes.into_iter().zip(names) {
        let all = scope.and_then(|scope| scope.get("typed_per_filter_config"));
        let Some(own) = all.and_then(|all| all.literal(filter.name)) else { continue };
        let (_, own) = own.typed();
        let line = own.at.line;
        return match (own.is_set("disabled"), filter.is_disabled) {
            (true, _) => (false, Some(format!("{name} switches it off (line {line})"))),
            (false, true) => (true, Some(format!("{name} switches it on (line {line})"))),
            (false, false) => (true, Some(format!("{name} configures it (line {line})"))),
        };
    }
    if filter.is_disabled {
        let line = filter.at.line;
        return (
            false,
            Some(format!("disabled (line {line}), and the route does not switch it on")),
        );
    }
    (true, None)
}

/// A route's metadata for this filter.
pub(super) fn metadata(route: Option<&Node>) -> Option<&Node> {
    route?.path(&["metadata", "filter_metadata"])?.literal("farebox")
}

/// Metadata as Envoy hands it to the filter, which then reads it.
pub(super) fn encoded(metadata: &Node, format: Format) -> Vec<(Vec<u8>, Vec<u8>)> {
    let value = |node: &Node| match node.json(format) {
        Json::String(text) => text.into_bytes(),
        Json::Bool(flag) => vec![u8::from(flag)],
        Json::Number(number) => number.as_f64().unwrap_or(f64::NAN).to_le_bytes().to_vec(),
        Json::Null => Vec::new(),
        // Structs within, which no field of a rule is: bytes that are no text, as the filter sees them.
        nested @ (Json::Array(_) | Json::Object(_)) => {
            [vec![0], nested.to_string().into_bytes()].concat()
        }
    };
    let entries = metadata.entries().iter();
    entries.map(|(key, _, node)| (key.clone().into_bytes(), value(node))).collect()
}

#[cfg(test)]
mod tests {
    use farebox_filter::rule;

    use super::super::tree::read;
    use super::*;

    fn read_by_the_filter(text: &str) -> String {
        let node = read(text).unwrap();
        let bytes = encoded(&node, Format::Yaml);
        let pairs: Vec<(&[u8], &[u8])> =
            bytes.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
        match rule::of_call(None, &pairs) {
            Ok(rule) => format!("{rule:?}"),
            Err(err) => err.to_string(),
        }
    }

    #[test]
    fn metadata_is_what_the_filter_makes_of_it() {
        let rule = read_by_the_filter("{ service: a, units: 5, price: '0.002', shadow: true }");
        assert!(rule.contains("units: 5") && rule.contains("shadow: true"), "{rule}");
        for (text, error) in [
            (
                "{ price: 1 }",
                "route metadata farebox.price is 1: write the price as a decimal string such as \"0.002\"",
            ),
            ("{ units: 1.5 }", "route metadata farebox.units is \"1.5\": write 0 to 2147483647"),
            (
                "{ service: [a] }",
                "route metadata farebox.service is 6 bytes that are no text: write a service name, or \"none\" to pass unmetered",
            ),
        ] {
            assert_eq!(read_by_the_filter(text), error, "{text}");
        }
    }

    #[test]
    fn the_closest_scope_says_whether_a_filter_runs() {
        let filters = read("http_filters: [{ name: f }, { name: g, disabled: true }]").unwrap();
        let filters = super::super::plugin::http_filters(&filters);
        let off = read(
            "{ typed_per_filter_config: { f: { '@type': t/x.FilterConfig, disabled: true } } }",
        )
        .unwrap();
        let on =
            read("{ typed_per_filter_config: { f: { config: {} }, g: { config: {} } } }").unwrap();
        let runs = |index: usize, scopes| state(&filters[index], scopes).0;
        assert!(runs(0, [None, None, None]));
        assert!(!runs(1, [None, None, None]));
        assert!(!runs(0, [None, Some(&off), Some(&on)]));
        assert!(runs(0, [Some(&on), Some(&off), None]));
        assert!(runs(1, [Some(&on), None, None]));
    }
}
