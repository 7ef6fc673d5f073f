//! Listeners, filter chains, routes and clusters of a static bootstrap, or of what `/config_dump` answers.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use super::proto::Format;
use super::tree::{Node, Position, SyntaxError, read};

/// More than any configuration has.
const INPUT_BYTES_MAX: u64 = 64 << 20;

/// Why nothing can be said about an input.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error(
        "cannot read {path}: {problem}; name Envoy's configuration with --envoy, or - for standard input"
    )]
    Unreadable { path: String, problem: String },
    #[error("{path} is larger than {} MiB; give the configuration of one Envoy", INPUT_BYTES_MAX >> 20)]
    TooLarge { path: String },
    #[error("{path}:{problem}")]
    Syntax { path: String, problem: SyntaxError },
    #[error(
        "{path} is no configuration of Envoy: it has neither static_resources nor dynamic_resources, and is no answer of /config_dump; give what Envoy starts with, or: curl -s http://ADMIN/config_dump"
    )]
    NotEnvoy { path: String },
}

/// Where a document comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bootstrap,
    ConfigDump,
}

/// A configuration of one Envoy.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// The name for messages.
    pub(crate) file: String,
    pub(crate) kind: Kind,
    pub(crate) format: Format,
    /// The source's lines, for what comments say.
    pub(crate) lines: Vec<String>,
    root: Node,
}

/// An HTTP connection manager and what surrounds it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain<'t> {
    /// The listener's name.
    pub(crate) listener: &'t str,
    /// Its chain, which says whom it matches.
    pub(crate) chain: &'t Node,
    pub(crate) manager: &'t Node,
    /// Its routes; absent where a management server sends them and the document lacks them.
    pub(crate) route_config: Option<&'t Node>,
}

impl Configuration {
    /// Reads a file, or standard input when the path is `-`.
    pub(crate) fn load(path: &Path) -> Result<Self, InputError> {
        let is_standard_input = path == Path::new("-");
        let file = if is_standard_input { "<stdin>".into() } else { path.display().to_string() };
        let unreadable = |problem: std::io::Error| InputError::Unreadable {
            path: file.clone(),
            problem: problem.to_string(),
        };
        let mut text = String::new();
        let reader: Box<dyn std::io::Read> = if is_standard_input {
            Box::new(std::io::stdin().lock())
        } else {
            Box::new(fs::File::open(path).map_err(unreadable)?)
        };
        let length = reader.take(INPUT_BYTES_MAX + 1).read_to_string(&mut text);
        if INPUT_BYTES_MAX < u64::try_from(length.map_err(unreadable)?).unwrap_or(u64::MAX) {
            return Err(InputError::TooLarge { path: file });
        }
        Self::parse(&file, &text)
    }

    /// Reads a configuration from its text.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self, InputError> {
        let path = file.to_owned();
        let root = read(text).map_err(|problem| InputError::Syntax { path, problem })?;
        let is_dump = root.literal("configs").is_some_and(|configs| !configs.items().is_empty());
        let is_bootstrap = ["static_resources", "dynamic_resources"];
        if !is_dump && is_bootstrap.iter().all(|name| root.get(name).is_none()) {
            return Err(InputError::NotEnvoy { path: file.to_owned() });
        }
        let kind = if is_dump { Kind::ConfigDump } else { Kind::Bootstrap };
        // Envoy goes by the file's name, too.
        let is_yaml = [".yaml", ".yml"].iter().any(|ending| file.ends_with(ending));
        let is_json = text.trim_start().starts_with('{') && !is_yaml;
        let format = if is_json { Format::Json } else { Format::Yaml };
        let lines = text.lines().map(str::to_owned).collect();
        Ok(Self { file: file.to_owned(), kind, format, lines, root })
    }

    /// The bootstrap, from either kind of document.
    pub(crate) fn bootstrap(&self) -> Option<&Node> {
        match self.kind {
            Kind::Bootstrap => Some(&self.root),
            Kind::ConfigDump => {
                self.dumps("BootstrapConfigDump").find_map(|dump| dump.get("bootstrap"))
            }
        }
    }

    /// Envoy's own name.
    pub(crate) fn node_id(&self) -> &str {
        self.bootstrap().and_then(|root| root.path(&["node", "id"])?.text()).unwrap_or_default()
    }

    /// The parts of a dump of one type.
    fn dumps(&self, kind: &'static str) -> impl Iterator<Item = &Node> {
        let configs = self.root.list("configs").iter();
        configs.filter(move |config| config.typed().0 == kind)
    }

    /// What a dump lists under any of some names, below a further name.
    fn dumped(
        &self,
        kind: &'static str,
        lists: &'static [&'static str],
        inner: &'static [&'static str],
    ) -> Vec<&Node> {
        let entries = self.dumps(kind).flat_map(|dump| lists.iter().flat_map(|l| dump.list(l)));
        entries.filter_map(|entry| entry.path(inner)).collect()
    }

    fn static_resources(&self, name: &str) -> &[Node] {
        let resources = self.bootstrap().and_then(|root| root.get("static_resources"));
        resources.map_or(&[], |resources| resources.list(name))
    }

    pub(crate) fn listeners(&self) -> Vec<&Node> {
        if self.kind == Kind::Bootstrap {
            return self.static_resources("listeners").iter().collect();
        }
        let kind = "ListenersConfigDump";
        let mut found = self.dumped(kind, &["static_listeners"], &["listener"]);
        found.extend(self.dumped(kind, &["dynamic_listeners"], &["active_state", "listener"]));
        found
    }

    pub(crate) fn clusters(&self) -> Vec<&Node> {
        if self.kind == Kind::Bootstrap {
            return self.static_resources("clusters").iter().collect();
        }
        let lists = &["static_clusters", "dynamic_active_clusters"];
        self.dumped("ClustersConfigDump", lists, &["cluster"])
    }

    /// The cluster of a name.
    pub(crate) fn cluster(&self, name: &str) -> Option<&Node> {
        self.clusters().into_iter().find(|cluster| cluster.word("name") == name)
    }

    /// Where a management server's listeners or clusters would come from, when they are not in the document.
    pub(crate) fn discovery(&self, source: &str) -> Option<Position> {
        if self.kind == Kind::ConfigDump {
            return None;
        }
        let resources = self.root.get("dynamic_resources")?;
        resources.entry(source).or_else(|| resources.entry("ads_config")).map(|(at, _)| at)
    }

    /// Every HTTP connection manager, in order.
    pub(crate) fn chains(&self) -> Vec<Chain<'_>> {
        let mut found = Vec::new();
        for listener in self.listeners() {
            let default = listener.get("default_filter_chain");
            for chain in listener.list("filter_chains").iter().chain(default) {
                let managers = chain.list("filters").iter().filter_map(|filter| {
                    let (kind, manager) = filter.get("typed_config")?.typed();
                    (kind == "HttpConnectionManager").then_some(manager)
                });
                found.extend(managers.map(|manager| Chain {
                    listener: listener.word("name"),
                    chain,
                    manager,
                    route_config: self.route_config(manager),
                }));
            }
        }
        found
    }

    fn route_config<'t>(&'t self, manager: &'t Node) -> Option<&'t Node> {
        if let Some(routes) = manager.get("route_config") {
            return Some(routes);
        }
        let name = manager.path(&["rds", "route_config_name"])?.text()?;
        let lists = &["static_route_configs", "dynamic_route_configs"];
        let known = self.dumped("RoutesConfigDump", lists, &["route_config"]);
        known.into_iter().find(|routes| routes.word("name") == name)
    }
}

impl<'t> Chain<'t> {
    /// The virtual hosts, where the document has them.
    pub(crate) fn virtual_hosts(&self) -> &'t [Node] {
        self.route_config.map_or(&[], |routes| routes.list("virtual_hosts"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = r#"{"configs": [
      {"@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump",
       "bootstrap": {"node": {"id": "edge-7"}}},
      {"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
       "static_clusters": [{"cluster": {"name": "a"}}],
       "dynamic_active_clusters": [{"cluster": {"name": "b"}}]},
      {"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
       "dynamic_listeners": [{"name": "in", "active_state": {"listener": {"name": "in",
         "filter_chains": [{"filters": [{"typed_config": {
           "@type": "type.googleapis.com/x.HttpConnectionManager",
           "rds": {"route_config_name": "r"}}}]}]}}}]},
      {"@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump",
       "dynamic_route_configs": [{"route_config": {"name": "r", "virtual_hosts": [{"name": "v"}]}}]}
    ]}"#;

    #[test]
    fn a_dump_tells_what_a_management_server_sent() {
        let dump = Configuration::parse("dump.json", DUMP).unwrap();
        assert_eq!((dump.kind, dump.format), (Kind::ConfigDump, Format::Json));
        assert_eq!(dump.node_id(), "edge-7");
        assert!(dump.cluster("a").is_some() && dump.cluster("b").is_some());
        let [chain] = dump.chains()[..] else { panic!() };
        assert_eq!(chain.listener, "in");
        assert_eq!(chain.virtual_hosts().len(), 1);
    }

    #[test]
    fn what_is_no_configuration_says_what_to_give() {
        let message = |text| Configuration::parse("x.yaml", text).unwrap_err().to_string();
        assert!(message("billing: {}").starts_with("x.yaml is no configuration of Envoy: "));
        assert_eq!(
            message("a: 1\na: 2"),
            "x.yaml:2:1: the key \"a\" occurs twice; keep one of them"
        );
        let missing = Configuration::load(Path::new("/no/such/file")).unwrap_err().to_string();
        assert!(missing.starts_with("cannot read /no/such/file: "), "{missing}");
    }
}
