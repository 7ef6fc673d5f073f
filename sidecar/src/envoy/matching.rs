//! Which virtual host and which route a request gets, in Envoy's order.
//!
//! What a file cannot tell (a share of calls, metadata that filters set) is a doubt with its reason, never a guess.

use super::tree::Node;

mod text;

/// A request, as routes look at it: pseudo headers stand among the headers.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) host: String,
    /// With its query.
    pub(super) path: String,
    /// Lower-case names.
    pub(super) headers: Vec<(String, String)>,
    pub(super) scheme: &'static str,
}

/// Whether something matches a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    No,
    /// The file alone does not tell; why.
    Doubt(String),
}

impl Answer {
    pub(super) fn of(matches: bool) -> Self {
        if matches { Self::Yes } else { Self::No }
    }

    /// Both must match.
    fn and(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::No => Self::No,
            Self::Yes => other(),
            Self::Doubt(why) => match other() {
                Self::No => Self::No,
                Self::Yes => Self::Doubt(why),
                Self::Doubt(more) => Self::Doubt(format!("{why}; {more}")),
            },
        }
    }

    fn inverted(self, inverted: bool) -> Self {
        match self {
            Self::Yes if inverted => Self::No,
            Self::No if inverted => Self::Yes,
            same => same,
        }
    }
}

impl Asked {
    /// A header's value; several are joined as Envoy does.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        let pseudo = match name {
            ":method" => Some(self.method.clone()),
            ":path" => Some(self.path.clone()),
            ":authority" | "host" => Some(self.host.clone()),
            ":scheme" => Some(self.scheme.to_owned()),
            _ => None,
        };
        pseudo.or_else(|| {
            let values = self.headers.iter().filter(|(known, _)| known == name);
            let values: Vec<&str> = values.map(|(_, value)| value.as_str()).collect();
            (!values.is_empty()).then(|| values.join(","))
        })
    }

    fn path_alone(&self) -> &str {
        self.path.split(['?', '#']).next().unwrap_or_default()
    }

    fn query(&self, name: &str) -> Option<&str> {
        let query = self.path.split_once('?')?.1;
        query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then_some(value)
        })
    }
}

/// The virtual host for a host name: exact, then the longest `*suffix`, then the longest `prefix*`, then `*`.
pub(super) fn virtual_host<'t>(
    hosts: &'t [Node],
    asked: &str,
    ignore_port: bool,
) -> Option<&'t Node> {
    let mut name = asked.to_ascii_lowercase();
    if ignore_port
        && let Some((host, port)) = name.rsplit_once(':')
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        name = host.to_owned();
    }
    let rank = |domain: &str| -> Option<(u8, usize)> {
        let domain = domain.to_ascii_lowercase();
        if domain == name {
            return Some((3, 0));
        }
        if domain == "*" {
            return Some((0, 0));
        }
        let longer = |part: &str| part.len() < name.len();
        match (domain.strip_prefix('*'), domain.strip_suffix('*')) {
            (Some(suffix), _) if name.ends_with(suffix) && longer(suffix) => {
                Some((2, suffix.len()))
            }
            (None, Some(prefix)) if name.starts_with(prefix) && longer(prefix) => {
                Some((1, prefix.len()))
            }
            _ => None,
        }
    };
    let ranked = hosts.iter().filter_map(|host| {
        let domains = host.list("domains").iter().filter_map(Node::text);
        domains.filter_map(rank).max().map(|rank| (rank, host))
    });
    // Envoy refuses a domain that occurs twice, so the order does not matter.
    ranked.max_by_key(|(rank, _)| *rank).map(|(_, host)| host)
}

/// Whether a route takes a request.
pub(super) fn route(route: &Node, asked: &Asked) -> Answer {
    let Some(rules) = route.get("match") else { return Answer::No };
    path(rules, asked)
        .and(|| headers(rules, asked))
        .and(|| queries(rules, asked))
        .and(|| other(rules, asked))
}

fn path(rules: &Node, asked: &Asked) -> Answer {
    let alone = asked.path_alone();
    let is_sensitive = rules.flag("case_sensitive").unwrap_or(true);
    let fold = |text: &str| if is_sensitive { text.to_owned() } else { text.to_ascii_lowercase() };
    let folded = fold(alone);
    if let Some(prefix) = rules.text_of("prefix") {
        return Answer::of(folded.starts_with(&fold(prefix)));
    }
    if let Some(exact) = rules.text_of("path") {
        return Answer::of(folded == fold(exact));
    }
    if let Some(prefix) = rules.text_of("path_separated_prefix") {
        let rest = folded.strip_prefix(&fold(prefix)).map(str::to_owned);
        return Answer::of(rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    }
    if let Some(regex) = rules.get("safe_regex") {
        return text::regex(regex, alone);
    }
    if rules.get("connect_matcher").is_some() {
        return Answer::of(asked.method == "CONNECT");
    }
    if rules.get("path_match_policy").is_some() {
        return Answer::Doubt("path_match_policy is not evaluated here".to_owned());
    }
    Answer::Doubt("the match has no path specifier that is known here".to_owned())
}

fn headers(rules: &Node, asked: &Asked) -> Answer {
    let matchers = rules.list("headers").iter();
    matchers.fold(Answer::Yes, |so_far, matcher| so_far.and(|| text::header(matcher, asked)))
}

fn queries(rules: &Node, asked: &Asked) -> Answer {
    let matchers = rules.list("query_parameters").iter();
    matchers.fold(Answer::Yes, |so_far, matcher| {
        so_far.and(|| text::query(matcher, asked.query(matcher.word("name"))))
    })
}

/// Conditions that are about more than the request.
fn other(rules: &Node, asked: &Asked) -> Answer {
    let mut answer = Answer::Yes;
    if rules.get("grpc").is_some() {
        let kind = asked.header("content-type").unwrap_or_default();
        let is_grpc = kind == "application/grpc" || kind.starts_with("application/grpc+");
        answer = answer.and(|| Answer::of(is_grpc));
    }
    if let Some(fraction) = rules.get("runtime_fraction") {
        answer = answer.and(|| share(fraction));
    }
    for name in ["tls_context", "dynamic_metadata", "filter_state", "cookies"] {
        if rules.get(name).is_some() {
            answer = answer.and(|| Answer::Doubt(format!("it depends on {name}")));
        }
    }
    answer
}

/// `runtime_fraction`: all, none, or a share of the calls.
fn share(fraction: &Node) -> Answer {
    let default = fraction.get("default_value");
    let numerator = default.and_then(|value| value.number("numerator")).unwrap_or(0);
    let denominator = match default.map_or("", |value| value.word("denominator")) {
        "TEN_THOUSAND" => 10_000,
        "MILLION" => 1_000_000,
        _ => 100,
    };
    let key = fraction.word("runtime_key");
    if !key.is_empty() {
        return Answer::Doubt(format!(
            "it takes {numerator} of {denominator} calls, or what the runtime key {key} says"
        ));
    }
    match numerator {
        0 => Answer::No,
        n if denominator <= n => Answer::Yes,
        n => Answer::Doubt(format!("it takes {n} of {denominator} calls")),
    }
}

/// The text with which every path of a route begins, and whether the route takes all paths that begin so.
pub(super) fn reach(route: &Node) -> Option<(String, Reach)> {
    let rules = route.get("match")?;
    let is_conditional = ["headers", "query_parameters", "grpc", "runtime_fraction", "tls_context"]
        .iter()
        .chain(&["dynamic_metadata", "filter_state", "cookies"])
        .any(|name| rules.get(name).is_some());
    let is_sensitive = rules.flag("case_sensitive").unwrap_or(true);
    let all = if is_conditional || !is_sensitive { Reach::Some } else { Reach::All };
    if let Some(prefix) = rules.text_of("prefix") {
        return Some((prefix.to_owned(), all));
    }
    if let Some(path) = rules.text_of("path") {
        return Some((path.to_owned(), Reach::Exact));
    }
    if let Some(prefix) = rules.text_of("path_separated_prefix") {
        return Some((prefix.to_owned(), Reach::Some));
    }
    if let Some(regex) = rules.get("safe_regex") {
        return Some((text::literal_beginning(regex.word("regex")), Reach::Some));
    }
    let template = rules.path(&["path_match_policy", "typed_config", "path_template"])?.text()?;
    Some((template.split(['{', '*']).next().unwrap_or_default().to_owned(), Reach::Some))
}

/// How many of the paths that begin with a text a route takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    All,
    Some,
    /// Only the text itself.
    Exact,
}

#[cfg(test)]
mod tests {
    use super::super::tree::read;
    use super::*;

    pub(super) fn asked(path: &str) -> Asked {
        Asked {
            method: "GET".to_owned(),
            host: "api.example".to_owned(),
            path: path.to_owned(),
            headers: vec![("x-a".to_owned(), "one".to_owned())],
            scheme: "http",
        }
    }

    #[test]
    fn hosts_are_found_as_envoy_finds_them() {
        let hosts = "
- { name: all, domains: ['*'] }
- { name: exact, domains: [api.example, 'api.example:8443'] }
- { name: suffix, domains: ['*.example'] }
- { name: longer, domains: ['*.eu.example', '*-eu.example'] }
- { name: prefix, domains: ['api.*'] }";
        let hosts = read(hosts).unwrap();
        for (host, ignore_port, name) in [
            ("API.example", false, "exact"),
            ("api.example:8443", false, "exact"),
            ("api.example:9", false, "prefix"),
            ("api.example:9", true, "exact"),
            ("a.example", false, "suffix"),
            ("a.eu.example", false, "longer"),
            ("a-eu.example", false, "longer"),
            (".example", false, "all"),
            ("api.test", false, "prefix"),
            ("api.", false, "all"),
            ("other", false, "all"),
        ] {
            let found = virtual_host(hosts.items(), host, ignore_port).unwrap();
            assert_eq!(found.word("name"), name, "{host}");
        }
        let exact = read("[{ domains: [a] }]").unwrap();
        assert_eq!(virtual_host(exact.items(), "b", false), None);
    }

    #[test]
    fn routes_match_by_path_and_conditions() {
        let yes = Answer::Yes;
        for (rules, path, expected) in [
            ("prefix: /a/", "/a/b?c", yes.clone()),
            ("prefix: /a/", "/A/b", Answer::No),
            ("{ prefix: /a/, case_sensitive: false }", "/A/b", yes.clone()),
            ("path: /a", "/a?b=c", yes.clone()),
            ("path: /a", "/a/", Answer::No),
            ("path_separated_prefix: /a", "/a/b", yes.clone()),
            ("path_separated_prefix: /a", "/a?b", yes.clone()),
            ("path_separated_prefix: /a", "/ab", Answer::No),
            ("safe_regex: { regex: '/v[0-9]+/.*' }", "/v12/x?y", yes.clone()),
            ("safe_regex: { regex: '/v[0-9]+' }", "/v12/x", Answer::No),
            ("connect_matcher: {}", "/a", Answer::No),
            (
                "{ prefix: /, headers: [{ name: :method, string_match: { exact: POST } }] }",
                "/a",
                Answer::No,
            ),
            ("{ prefix: /, headers: [{ name: x-a, present_match: true }] }", "/a", yes.clone()),
            (
                "{ prefix: /, query_parameters: [{ name: b, string_match: { prefix: c } }] }",
                "/a?b=cd",
                yes.clone(),
            ),
            (
                "{ prefix: /, query_parameters: [{ name: b, present_match: true }] }",
                "/a?c=b",
                Answer::No,
            ),
            ("{ prefix: /, grpc: {} }", "/a", Answer::No),
            (
                "{ prefix: /, runtime_fraction: { default_value: { numerator: 100 } } }",
                "/",
                yes.clone(),
            ),
            (
                "{ prefix: /, runtime_fraction: { default_value: { numerator: 30 } } }",
                "/",
                Answer::Doubt("it takes 30 of 100 calls".to_owned()),
            ),
            (
                "{ prefix: /b, runtime_fraction: { default_value: { numerator: 30 } } }",
                "/",
                Answer::No,
            ),
            (
                "path_match_policy: {}",
                "/",
                Answer::Doubt("path_match_policy is not evaluated here".to_owned()),
            ),
        ] {
            let rules =
                if rules.starts_with('{') { rules.to_owned() } else { format!("{{ {rules} }}") };
            let node = read(&format!("match: {rules}")).unwrap();
            assert_eq!(route(&node, &asked(path)), expected, "{rules} {path}");
        }
    }
}
