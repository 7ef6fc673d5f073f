//! What the pages show with curl works, and shows every operation: each of their lines is run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use farebox_tests::payment::CALLBACK_SECRET;
use farebox_tests::sidecar::{ADMIN_TOKEN, TOKEN};
use farebox_tests::{Plan, Stack, binaries, eventually, run};
use serde_json::{Value, json};

use crate::payment_service::example_script;

/// The order that the page speaks of.
const ORDER: &str = "recharge_0ab1972cb7374283bd080443e3481e6e";

/// What comes before each script: an answer that is a refusal ends it, and whom it asked for what is kept. What one defines
/// the next ones have, as in one shell.
const PRELUDE: &str = r#"
set -euo pipefail
shopt -s inherit_errexit
if [ -e "$FUNCTIONS" ]; then source "$FUNCTIONS"; fi
trap 'declare -f > "$FUNCTIONS"' EXIT
farebox() { "$FAREBOX_BIN" --config "$FAREBOX_CONFIG" "$@"; }
curl() {
  local method=GET word before=
  for word in "$@"; do
    case "$word" in -d|--data*) method=POST ;; esac
    case "$before" in -X) method=$word ;; esac
    before=$word
  done
  for word in "$@"; do case "$word" in http*) echo "$method $word" >> "$CALLED" ;; esac; done
  command curl --fail-with-body "$@"
}
"#;

/// The block of the page that begins with this mark, without the prompts of a console.
fn blocks(page: &str) -> Vec<String> {
    let fenced = page.split("\n```").skip(1).step_by(2);
    let script = |block: &str| {
        let (language, script) = block.split_once('\n')?;
        let script = match language {
            "sh" => script.to_owned(),
            "console" => script
                .lines()
                .map(|line| line.strip_prefix("$ ").unwrap_or(line).to_owned() + "\n")
                .collect(),
            _ => return None,
        };
        // `admin` is curl with a token: the page defines it.
        let asks =
            script.contains("curl ") || script.lines().any(|line| line.starts_with("admin "));
        asks.then_some(script)
    };
    fenced.filter_map(script).collect()
}

/// The file that the page shows under this name.
fn file<'p>(page: &'p str, name: &str) -> &'p str {
    let start = format!("```yaml\n# {name}\n");
    let (_, rest) =
        page.split_once(&start).unwrap_or_else(|| panic!("README.md has no file {name}"));
    rest.split("```").next().unwrap()
}

/// Somebody who tries what a page shows.
pub(crate) struct Reader {
    stack: Stack,
    folder: PathBuf,
    order: Value,
}

/// The number of the first row that a command lists with `--json`.
fn first(stack: &Stack, rows: &str, command: &[&str]) -> Option<String> {
    let told = stack.sidecar.cli(&[command, &["--json"]].concat());
    let told: Value = serde_json::from_str(&told.unwrap_or_else(|err| panic!("{err}"))).unwrap();
    Some(told[rows].get(0)?["id"].to_string())
}

impl Reader {
    /// A stack in which the order of the pages has been paid, and another one otherwise than it says.
    pub(crate) async fn new() -> Self {
        let stack = Stack::start(Plan::reference()).await.unwrap_or_else(|err| panic!("{err}"));
        let call = stack.sidecar.client().post("/api/v1/billing/recharge").asserted("alice");
        let order = json!({ "amount": "10.00", "currency": "CNY", "payment_method": "alipay" });
        let order = call.header("idempotency-key", "first").json(&order).send().await.json();
        stack.payment.pay(order["payment_id"].as_str().unwrap()).await;
        let call = stack.sidecar.client().post("/api/v1/billing/recharge").asserted("bob");
        let other = json!({ "amount": "10.00", "currency": "CNY", "payment_method": "alipay" });
        let other = call.header("idempotency-key", "other").json(&other).send().await.json();
        let short = json!({ "payment_id": other["payment_id"], "fields": { "amount": "9.90", "status": "SUCCESS" } });
        stack.payment.callback(short).await;
        eventually!(stack.account("alice").balance == "10", "{}", stack.sidecar.log());
        let folder = stack.folder().join("reader");
        fs::create_dir_all(&folder).unwrap();
        Self { stack, folder, order }
    }

    /// The script with what this stack has in the place of what the pages say.
    fn adapted(&self, script: &str) -> String {
        let addresses = self.stack.sidecar.addresses();
        let said = [
            ("127.0.0.1:10000", self.stack.gateway()),
            ("127.0.0.1:8107", addresses.http),
            ("127.0.0.1:8108", addresses.internal),
            ("127.0.0.1:8109", addresses.admin),
        ];
        let order = self.order["order_id"].as_str().unwrap();
        let script = said.iter().fold(script.replace(ORDER, order), |script, (said, addr)| {
            script.replace(said, &addr.to_string())
        });
        let numbers: [(&str, &str, &[&str]); 2] = [
            ("anomalies", "anomalies/3", &["anomalies", "list"]),
            ("leases", "leases/7", &["leases", "--account", "alice"]),
        ];
        numbers.into_iter().fold(script, |script, (rows, said, command)| {
            let Some(id) = script.contains(said).then(|| first(&self.stack, rows, command)) else {
                return script;
            };
            let id = id.unwrap_or_else(|| panic!("there are no {rows}"));
            script.replace(said, &format!("{rows}/{id}"))
        })
    }

    /// Runs a script as a reader would; gives what it printed.
    pub(crate) async fn run(&self, script: &str) -> String {
        if script.contains("leases/") {
            // So that a gateway holds something.
            let call = self.stack.client().get("/v1/passport/hello").user("alice");
            assert_eq!(call.send().await.status, 200);
        }
        let mut bash = Command::new("bash");
        bash.current_dir(&self.folder)
            .args(["-c", &(PRELUDE.to_owned() + &self.adapted(script))])
            .env("CALLED", self.called())
            .env("FUNCTIONS", self.folder.join("functions"))
            .env("FAREBOX_BIN", binaries::farebox().unwrap_or_else(|err| panic!("{err}")))
            .env("FAREBOX_CONFIG", self.stack.sidecar.config())
            .env("FAREBOX_GATEWAY_TOKEN", TOKEN)
            .env("FAREBOX_ADMIN_TOKEN", ADMIN_TOKEN)
            .env("FAREBOX_CALLBACK_SECRET", CALLBACK_SECRET)
            .env("CALLBACK_SECRET", CALLBACK_SECRET)
            .env("PAYMENT_ID", self.order["payment_id"].as_str().unwrap())
            .env("ORDER_ID", self.order["order_id"].as_str().unwrap())
            .env("AMOUNT", "10.00")
            .env(
                "NOTIFY_URL",
                format!(
                    "http://{}/internal/v1/billing/callback",
                    self.stack.sidecar.addresses().http
                ),
            );
        let output = tokio::task::spawn_blocking(move || bash.output()).await.unwrap().unwrap();
        let (told, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{script}\n{told}\n{errors}");
        told.into_owned()
    }

    fn called(&self) -> PathBuf {
        self.folder.join("called")
    }
}

/// The operations of all documents, but those that only programs have a use for: `GET /path` by its words.
fn operations() -> BTreeMap<String, Vec<String>> {
    let mut operations = BTreeMap::new();
    for listener in ["gateway", "public", "admin"] {
        let path = binaries::repository().join(format!("docs/openapi/{listener}.json"));
        let document: Value = serde_json::from_str(&read(&path)).unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                if operation["deprecated"] != true && operation["operationId"] != "sync" {
                    let name = format!("{listener}: {} {path}", method.to_uppercase());
                    operations.insert(name, words(&method.to_uppercase(), path));
                }
            }
        }
    }
    operations
}

fn words(method: &str, path: &str) -> Vec<String> {
    [method].into_iter().chain(path.split('/')).map(str::to_owned).collect()
}

/// Whether somebody asked for an operation; parameters of its path fit anything.
fn fits(operation: &[String], asked: &[String]) -> bool {
    let alike = |(said, asked): (&String, &String)| said == asked || said.starts_with('{');
    operation.len() == asked.len() && operation.iter().zip(asked).all(alike)
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|err| panic!("{path:?}: {err}"))
}

#[test]
fn every_line_of_the_pages_works_and_they_show_every_operation() {
    run(async {
        let page = read(&binaries::repository().join("README.md"));
        let reader = Reader::new().await;
        fs::write(reader.folder.join("prices.yaml"), file(&page, "prices.yaml")).unwrap();
        let scripts = blocks(&page);
        assert!(5 < scripts.len(), "README.md has lost its scripts");
        for script in scripts.iter().chain([&example_script()]) {
            reader.run(script).await;
        }
        let called = read(&reader.called());
        let asked: BTreeSet<Vec<String>> = called
            .lines()
            .filter_map(|line| {
                let (method, url) = line.split_once(' ')?;
                let (_, path) = url.split_once("://")?.1.split_once('/')?;
                Some(words(method, &format!("/{}", path.split('?').next()?)))
            })
            .collect();
        let unseen: Vec<_> = operations()
            .into_iter()
            .filter(|(_, operation)| !asked.iter().any(|asked| fits(operation, asked)))
            .map(|(name, _)| name)
            .collect();
        assert!(
            unseen.is_empty(),
            "README.md has no curl line for {unseen:?}; see CONTRIBUTING.md, Adding things: an endpoint"
        );
        reader.stack.invariants();
    });
}
