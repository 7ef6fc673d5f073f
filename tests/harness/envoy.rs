//! Stock Envoy with a configuration made from `envoy/envoy.yaml`, so that what is tested is what is shipped.
//!
//! A line of the template that ends in `# @name` has its value replaced; the lines between `# @begin name` and
//! `# @end name` are replaced as a block. Nothing else changes.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::child::{Child, Recipe};
use crate::database::output;
use crate::sidecar::TOKEN;
use crate::{StackError, binaries};

/// A configuration that is being filled in.
#[derive(Debug, Clone)]
pub struct Template {
    name: String,
    text: String,
}

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    child: Child,
    admin_file: PathBuf,
    http: reqwest::Client,
}

// === impl Template ===

impl Template {
    /// Reads a file of the folder `envoy/`.
    pub fn read(name: &str) -> Result<Self, StackError> {
        let path = binaries::repository().join("envoy").join(name);
        let text = fs::read_to_string(&path);
        let text = text.map_err(StackError::system(format!("read {path:?}")))?;
        Ok(Self { name: name.to_owned(), text })
    }

    /// Replaces the value on the line that ends in `# @mark`.
    pub fn set(self, mark: &str, value: impl std::fmt::Display) -> Result<Self, StackError> {
        let ending = format!("# @{mark}");
        let replace = |line: &str| {
            let (key, _) = line.split_once(": ")?;
            line.ends_with(&ending).then(|| format!("{key}: {value} {ending}"))
        };
        let replaced: Vec<Option<String>> = self.text.lines().map(replace).collect();
        self.once(mark, replaced.iter().flatten().count())?;
        let lines = self.text.lines().zip(replaced);
        let lines = lines.map(|(line, new)| new.unwrap_or_else(|| line.to_owned()) + "\n");
        Ok(Self { text: lines.collect(), name: self.name })
    }

    /// Replaces the filter's configuration.
    pub fn set_plugin(self, configuration: &Value) -> Result<Self, StackError> {
        let kind = "type.googleapis.com/google.protobuf.Struct";
        // JSON is YAML too.
        let any = serde_json::json!({ "@type": kind, "value": configuration });
        self.set_block("plugin", &any.to_string())
    }

    /// Replaces the lines between `# @begin mark` and `# @end mark` by one line.
    pub fn set_block(self, mark: &str, line: &str) -> Result<Self, StackError> {
        let (before, _, after) = self.around(mark)?;
        let indent = before.rsplit('\n').next().unwrap_or_default();
        let text =
            format!("{before}# @begin {mark}\n{indent}{line}\n{indent}# @end {mark}\n{after}");
        Ok(Self { text, ..self })
    }

    /// Takes the "# " off the lines between `# @begin mark` and `# @end mark`, as somebody would who wants what they say.
    pub fn uncomment(self, mark: &str) -> Result<Self, StackError> {
        let (before, block, after) = self.around(mark)?;
        let indent = before.rsplit('\n').next().unwrap_or_default();
        let plain = block.replace(&format!("{indent}# "), indent);
        // The last piece is the indentation of the closing mark.
        let text = format!("{before}# @begin {mark}\n{plain}# @end {mark}\n{after}");
        Ok(Self { text, ..self })
    }

    /// The lines between `# @begin mark` and `# @end mark`.
    pub fn block(&self, mark: &str) -> Result<&str, StackError> {
        self.around(mark).map(|(_, block, _)| block)
    }

    /// Puts a line before the only one that reads so, as deep as that is.
    pub fn put_before(self, line: &str, new: &str) -> Result<Self, StackError> {
        let is_it = |text: &&str| text.trim_start() == line;
        self.once(line, self.text.lines().filter(is_it).count())?;
        let put = |text: &str| {
            let depth = text.len() - text.trim_start().len();
            let added = is_it(&text).then(|| format!("{}{new}\n", " ".repeat(depth)));
            added.unwrap_or_default() + text + "\n"
        };
        Ok(Self { text: self.text.lines().map(put).collect(), name: self.name })
    }

    /// Adds lines at the end.
    #[must_use]
    pub fn append(self, lines: &str) -> Self {
        Self { text: self.text + lines, ..self }
    }

    /// What stands before, between and after the two lines of a mark.
    fn around(&self, mark: &str) -> Result<(&str, &str, &str), StackError> {
        let (begin, end) = (format!("# @begin {mark}\n"), format!("# @end {mark}\n"));
        self.once(mark, self.text.matches(&begin).count())?;
        self.once(mark, self.text.matches(&end).count())?;
        let (before, rest) = self.text.split_once(&begin).unwrap_or_default();
        let (block, after) = rest.split_once(&end).unwrap_or_default();
        Ok((before, block, after))
    }

    /// The configuration as it stands.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn once(&self, mark: &str, count: usize) -> Result<(), StackError> {
        if count == 1 {
            return Ok(());
        }
        Err(StackError::Mark { mark: mark.to_owned(), count, template: self.name.clone() })
    }
}

/// Has Envoy judge a configuration without running it; gives its log.
pub fn validate(folder: &Path, template: &Template) -> Result<String, StackError> {
    let config = folder.join("validate.yaml");
    write(&config, template.text())?;
    validate_file(&config)
}

/// The same for a file that is there.
pub fn validate_file(config: &Path) -> Result<String, StackError> {
    let mut command = Command::new(binaries::envoy()?);
    command
        .args(["--mode", "validate", "--disable-hot-restart", "--config-path"])
        .arg(config)
        .env("FAREBOX_GATEWAY_TOKEN", TOKEN);
    output(command)
}

/// Whether this release writes its own span into headers: `%SPAN_ID%` came after 1.36.
pub fn shows_its_span() -> Result<bool, StackError> {
    let mut command = Command::new(binaries::envoy()?);
    command.arg("--version");
    Ok(!output(command)?.contains("/1.36."))
}

fn write(path: &Path, text: &str) -> Result<(), StackError> {
    fs::write(path, text).map_err(StackError::system(format!("write {path:?}")))
}

// === impl Envoy ===

impl Envoy {
    /// Starts Envoy with `workers` worker threads.
    pub async fn start(
        folder: &Path,
        name: &str,
        template: &Template,
        workers: u32,
    ) -> Result<Self, StackError> {
        Self::start_with(folder, name, template, workers, &["--disable-hot-restart"]).await
    }

    /// The same with arguments of one's own, such as those of a hot restart.
    pub async fn start_with(
        folder: &Path,
        name: &str,
        template: &Template,
        workers: u32,
        arguments: &[&str],
    ) -> Result<Self, StackError> {
        let config = folder.join(format!("{name}.envoy.yaml"));
        write(&config, template.text())?;
        let admin_file = folder.join(format!("{name}.admin"));
        let recipe = Recipe::new(name, &binaries::envoy()?, folder)
            .arg("--config-path")
            .arg(&config)
            .arg("--admin-address-path")
            .arg(&admin_file)
            .args(["--concurrency", &workers.to_string()])
            .args(["--log-level", "info"])
            .args(arguments)
            .env("FAREBOX_GATEWAY_TOKEN", TOKEN);
        let child = Child::start(recipe)?;
        let envoy = Self { child, admin_file, http: reqwest::Client::new() };
        envoy.ready().await?;
        Ok(envoy)
    }

    /// The address of the listener of this name.
    pub async fn listener(&self, name: &str) -> Option<SocketAddr> {
        let listeners: Value =
            serde_json::from_str(&self.admin("/listeners?format=json").await?).ok()?;
        let listeners = listeners.get("listener_statuses")?.as_array()?;
        let status = listeners.iter().find(|status| status["name"] == name)?;
        let socket = &status["local_address"]["socket_address"];
        format!("{}:{}", socket["address"].as_str()?, socket["port_value"]).parse().ok()
    }

    /// The address of the admin interface; `None` while Envoy is starting.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        fs::read_to_string(&self.admin_file).ok()?.trim().parse().ok()
    }

    /// What the admin interface answers to `GET path`; `None` while Envoy is starting or away.
    pub async fn admin(&self, path: &str) -> Option<String> {
        let url = format!("http://{}{path}", self.admin_addr()?);
        self.http.get(url).send().await.ok()?.text().await.ok()
    }

    /// Has the admin interface do what `POST path` says; a refusal fails the test.
    pub async fn command(&self, path: &str) {
        let addr = self.admin_addr().expect("the admin interface listens");
        let answer = self.http.post(format!("http://{addr}{path}")).send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status);
        answer.unwrap_or_else(|err| panic!("{path}: {err}"));
    }

    /// Whether the process has ended by itself.
    pub fn has_ended(&self) -> bool {
        self.child.has_ended()
    }

    /// The value of a counter or gauge; 0 when Envoy does not know it yet.
    ///
    /// The filter defines all of its statistics when it starts, so one of those that is missing is a mistake.
    pub async fn stat(&self, name: &str) -> u64 {
        let lines = self.admin(&format!("/stats?filter=^{name}$")).await.unwrap_or_default();
        let value = lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let value = value.and_then(|value| value.trim().parse().ok());
        assert!(value.is_some() || !name.starts_with("wasmcustom."), "the filter has no {name}");
        value.unwrap_or(0)
    }

    /// The sum of all counters and gauges whose name ends so.
    pub async fn stats_ending_in(&self, ending: &str) -> u64 {
        let lines = self.admin(&format!("/stats?filter={ending}$")).await.unwrap_or_default();
        lines.lines().filter_map(|line| line.rsplit(": ").next()?.trim().parse::<u64>().ok()).sum()
    }

    /// The process.
    pub fn process(&self) -> &Child {
        &self.child
    }

    /// The whole log.
    pub fn log(&self) -> String {
        self.child.log()
    }

    /// Ends Envoy at once, as a crash would.
    pub fn kill(&self) {
        self.child.kill();
        self.forget_admin();
    }

    /// Stops Envoy in order.
    pub fn stop(&self) {
        self.child.stop();
        self.forget_admin();
    }

    /// Starts Envoy again. Its ports are new ones unless the configuration names them.
    pub async fn start_again(&self) -> Result<(), StackError> {
        self.child.start_again()?;
        self.ready().await
    }

    async fn ready(&self) -> Result<(), StackError> {
        let live =
            async || self.admin("/ready").await.is_some_and(|state| state.starts_with("LIVE"));
        self.child.ready(live).await
    }

    fn forget_admin(&self) {
        // The file of a former run names a port that may be anybody's.
        fs::remove_file(&self.admin_file).ok();
    }
}
