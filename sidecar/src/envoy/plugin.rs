//! The Farebox filters among the HTTP filters of a connection manager, read by the filter's own code.

use farebox_filter::config::Config;
use farebox_filter::rule::{FieldError, Place};
use serde_json::Value as Json;

use super::proto::Format;
use super::tree::{Node, Position, Value, read};

/// One HTTP filter of a chain.
#[derive(Debug, Clone, Copy)]
pub(super) struct HttpFilter<'t> {
    pub(super) name: &'t str,
    /// The last word of its message's type.
    pub(super) kind: &'t str,
    pub(super) config: &'t Node,
    /// Whether it runs only where a route says so.
    pub(super) is_disabled: bool,
    pub(super) at: Position,
}

/// The Farebox filter of a chain.
#[derive(Debug)]
pub(super) struct Plugin<'t> {
    /// `config` of the Wasm filter.
    pub(super) wasm: &'t Node,
    /// The filter's configuration as Envoy hands it over.
    pub(super) json: Json,
    /// What it means; absent while mistakes are left that nothing can be made of.
    pub(super) config: Option<Config>,
    /// Mistakes, and where each is.
    pub(super) mistakes: Vec<(Position, FieldError)>,
    /// Where each of [`Config::rules`] stands.
    pub(super) rules: Vec<Position>,
    source: Source<'t>,
    at: Position,
}

/// Where the configuration's values stand.
#[derive(Debug)]
enum Source<'t> {
    /// In the document itself.
    Struct(&'t Node),
    /// In a text: its own document, and how far below and to the right of the file's beginning it begins.
    Text {
        root: Node,
        shift: Option<(usize, usize)>,
    },
    Nowhere,
}

/// The HTTP filters of a manager, in order.
pub(super) fn http_filters(manager: &Node) -> Vec<HttpFilter<'_>> {
    manager.list("http_filters").iter().filter_map(HttpFilter::of).collect()
}

impl<'t> HttpFilter<'t> {
    fn of(node: &'t Node) -> Option<Self> {
        let (kind, config) = node.get("typed_config").unwrap_or(node).typed();
        Some(Self {
            name: node.text_of("name")?,
            kind,
            config,
            is_disabled: node.is_set("disabled"),
            at: node.at,
        })
    }

    /// Whether this is the Farebox filter: by its names, its file, or what its configuration says.
    pub(super) fn is_farebox(&self) -> bool {
        let Some(wasm) = self.config.get("config").filter(|_| self.kind == "Wasm") else {
            return false;
        };
        let file = wasm.path(&["vm_config", "code", "local", "filename"]).and_then(Node::text);
        let value = wasm.get("configuration").and_then(|any| any.get("value"));
        let says = |name| value.is_some_and(|value| value.literal(name).is_some());
        [self.name, wasm.word("name"), wasm.word("root_id"), file.unwrap_or_default()]
            .iter()
            .any(|name| name.contains("farebox"))
            || (says("sidecar") && says("identity"))
    }
}

impl<'t> Plugin<'t> {
    /// The configuration of a Farebox filter.
    pub(super) fn read(filter: &HttpFilter<'t>, format: Format, lines: &[String]) -> Self {
        let wasm = filter.config.get("config").unwrap_or(filter.config);
        let any = wasm.get("configuration");
        let at = any.map_or(filter.at, |any| any.at);
        let (source, json) = source(any, format, lines);
        let mut plugin = Self {
            wasm,
            json: json.clone(),
            config: None,
            mistakes: Vec::new(),
            rules: Vec::new(),
            source,
            at,
        };
        plugin.parse(json);
        plugin
    }

    /// Has the filter's code read the configuration, again without what it has refused, so that every mistake is found.
    fn parse(&mut self, mut json: Json) {
        let count = json["rules"].as_array().map_or(0, Vec::len);
        let mut kept: Vec<usize> = (0..count).collect();
        loop {
            let err = match Config::parse(json.to_string().as_bytes()) {
                Ok(config) => {
                    self.rules = kept.iter().map(|index| self.rule_at(*index)).collect();
                    self.config = Some(config);
                    return;
                }
                Err(err) => err,
            };
            let (field, removed) = without(&mut json, &err.field, &mut kept);
            if self.mistakes.iter().any(|(_, known)| known.field == field) {
                // It was taken out and cannot be left out: both is one mistake.
                return;
            }
            let place = self.place_of(&field);
            self.mistakes.push((place, FieldError { field, ..err }));
            if !removed {
                return;
            }
        }
    }

    /// Where a rule of the configuration stands, by its place in the list.
    fn rule_at(&self, index: usize) -> Position {
        self.place_of(&format!("rules[{index}]"))
    }

    /// Where a field stands (`rules[2].price`), or what is nearest to it.
    pub(super) fn place_of(&self, field: &str) -> Position {
        let (root, shift) = match &self.source {
            Source::Struct(root) => (*root, None),
            Source::Text { root, shift } => (root, *shift),
            Source::Nowhere => return self.at,
        };
        let is_text = matches!(self.source, Source::Text { .. });
        let mut at = if is_text && shift.is_none() { return self.at } else { root.at };
        let mut node = root;
        for step in steps(field) {
            let next = match step {
                Step::Name(name) => node.literal(name),
                Step::Index(index) => node.items().get(index),
            };
            let Some(found) = next else { break };
            (node, at) = (found, found.at);
        }
        let (lines, columns) = shift.unwrap_or((0, 0));
        Position { line: at.line + lines, column: at.column + columns }
    }
}

/// A step on the way to a field.
enum Step<'f> {
    Name(&'f str),
    Index(usize),
}

fn steps(field: &str) -> impl Iterator<Item = Step<'_>> {
    field.split(['.', '[']).map(|word| {
        let index = word.strip_suffix(']').and_then(|number| number.parse().ok());
        index.map_or(Step::Name(word), Step::Index)
    })
}

fn source<'t>(any: Option<&'t Node>, format: Format, lines: &[String]) -> (Source<'t>, Json) {
    let Some(any) = any else { return (Source::Nowhere, Json::Null) };
    let Some(value) = any.literal("value") else { return (Source::Nowhere, Json::Null) };
    match &value.value {
        Value::Map(_) => (Source::Struct(value), value.json(format)),
        Value::Scalar { text, is_literal, .. } => {
            let Ok(json) = serde_json::from_str(text) else {
                return (Source::Nowhere, Json::String(text.clone()));
            };
            let Ok(root) = read(text) else { return (Source::Nowhere, json) };
            // A text of `|` has its place where its first line begins, and is as deep as that.
            let shift = is_literal.then(|| {
                let above = value.at.line.saturating_sub(1);
                let first = lines.get(above).map_or("", String::as_str);
                (above, first.len() - first.trim_start().len())
            });
            (Source::Text { root, shift }, json)
        }
        Value::Null | Value::List(_) => (Source::Nowhere, value.json(format)),
    }
}

/// Takes what was refused out of a configuration. Returns the field as the whole list counts its rules, and whether
/// there was anything to take out.
fn without(json: &mut Json, field: &str, kept: &mut Vec<usize>) -> (String, bool) {
    let inner = field.strip_prefix("rules[").and_then(|rest| rest.split_once(']'));
    if let Some((index, rest)) = inner
        && let Ok(index) = index.parse::<usize>()
        && index < kept.len()
        && let Some(rules) = json["rules"].as_array_mut()
    {
        rules.remove(index);
        return (format!("rules[{}]{rest}", kept.remove(index)), true);
    }
    let mut steps = field.split('.');
    let (first, second) = (steps.next().unwrap_or_default(), steps.next());
    let root = json.as_object_mut();
    let removed = match second {
        Some(second) => root.and_then(|root| root.get_mut(first)?.as_object_mut()?.remove(second)),
        None => root.and_then(|root| root.remove(first)),
    };
    if first == "rules" {
        kept.clear();
    }
    (field.to_owned(), removed.is_some())
}

/// How a rule's place reads.
pub(super) fn place_text(place: &Place) -> String {
    match place {
        Place::Route(name) => format!("route: {name}"),
        Place::Prefix(prefix) => format!("prefix: {prefix}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin_of<T>(configuration: &str, tell: impl FnOnce(Plugin<'_>) -> T) -> T {
        let text = format!(
            "http_filters:\n- name: farebox\n  typed_config:\n    '@type': t/x.v3.Wasm\n    config:\n      configuration:\n{configuration}"
        );
        let node = read(&text).unwrap();
        let filters = http_filters(&node);
        assert!(filters[0].is_farebox());
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        tell(Plugin::read(&filters[0], Format::Yaml, &lines))
    }

    fn told(plugin: &Plugin<'_>) -> Vec<String> {
        plugin.mistakes.iter().map(|(at, err)| format!("{at}: {err}")).collect()
    }

    const STRUCT: &str = "        value:
          sidecar: { cluster: c, token_env: T }
          max_wait: soon
          identity: [{ header: x-user-id }]
          rules:
            - { prefix: /a/, service: a, price: 1 }
            - { prefix: /b/, service: b, price: 0.1 }
            - { prefix: /c/, service: c, mode: fast }
";

    #[test]
    fn every_mistake_is_found_with_its_place_and_the_rest_is_read() {
        plugin_of(STRUCT, |plugin| {
            assert_eq!(
                told(&plugin),
                [
                    "9:21: max_wait is \"soon\": write a duration from 10ms to 60000ms, such as \"2000ms\"",
                    "12:49: rules[0].price is 1: write the price as a decimal string such as \"0.002\"",
                    "14:48: rules[2].mode is \"fast\": write \"lease\" or \"strict\"",
                ]
            );
            let config = plugin.config.unwrap();
            assert_eq!(config.rules.rules().len(), 1);
            assert_eq!(plugin.rules, [Position { line: 13, column: 15 }]);
        });
    }

    #[test]
    fn a_configuration_in_a_text_has_places_too_where_its_lines_are_its_own() {
        let json = r#"        value: |
          {"sidecar": {"cluster": "c", "token_env": "T"}, "identity": [{"header": "h"}],
           "rules": [{"prefix": "/", "service": "a b"}]}
"#;
        plugin_of(json, |plugin| {
            let [mistake] = &told(&plugin)[..] else { panic!() };
            assert!(mistake.starts_with("9:49: rules[0].service is \"a b\""), "{mistake}");
        });
    }

    #[test]
    fn a_configuration_that_is_missing_is_a_mistake() {
        plugin_of("        value: 5\n", |plugin| {
            assert!(plugin.config.is_none());
            assert_eq!(plugin.mistakes.len(), 1, "{:?}", told(&plugin));
        });
    }
}
