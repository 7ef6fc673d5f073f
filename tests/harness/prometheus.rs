//! A private Prometheus, which asks real parts for their metrics.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::child::{Child, Recipe};
use crate::{StackError, binaries, port};

/// A Prometheus server that keeps everything in its folder.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    addr: SocketAddr,
    http: reqwest::Client,
}

impl Prometheus {
    /// Starts a server with this configuration.
    pub async fn start(folder: &Path, configuration: &str) -> Result<Self, StackError> {
        let file = folder.join("prometheus.yaml");
        fs::write(&file, configuration).map_err(StackError::system("write prometheus.yaml"))?;
        let addr = port::free();
        let recipe = Recipe::new("prometheus", &binaries::prometheus()?, folder)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address={addr}"));
        let server = Self { child: Child::start(recipe)?, addr, http: reqwest::Client::new() };
        server.child.ready(async || server.get("/-/ready").await.is_some()).await?;
        Ok(server)
    }

    /// The result of a query now; an error of the query fails the test.
    pub async fn query(&self, query: &str) -> Vec<Value> {
        let url = format!("http://{}/api/v1/query", self.addr);
        let form = self.http.post(url).header("content-type", "application/x-www-form-urlencoded");
        let answer = form.body(format!("query={}", encoded(query))).send().await;
        let answer = answer.unwrap_or_else(|err| panic!("{query}: {err}"));
        let text = answer.text().await.unwrap_or_else(|err| panic!("{query}: {err}"));
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        assert_eq!(answer["status"], "success", "{query}: {text}");
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// What the server answers to `GET path`, if it is there.
    pub async fn get(&self, path: &str) -> Option<String> {
        let answer = self.http.get(format!("http://{}{path}", self.addr)).send().await.ok()?;
        answer.error_for_status().ok()?.text().await.ok()
    }
}

fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// What `promtool` says; `Err` when it is not content.
pub fn promtool(arguments: &[&str]) -> Result<String, String> {
    let program: PathBuf = binaries::promtool().map_err(|err| err.to_string())?;
    let output = Command::new(program).args(arguments).output().map_err(|err| err.to_string())?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    if output.status.success() { Ok(text) } else { Err(text) }
}
