//! `farebox migrate --from-predecessor`: the built program on databases of every generation of billing-service, against a
//! model of what must come of them.

mod broken_off;
mod model;
mod predecessor;
mod refusals;
mod whole;

use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::database::Database;

/// The program with a configuration that is accepted, on a database.
pub(crate) struct Desk {
    directory: TempDir,
    source: String,
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

const CONFIG: &str = "
server: { http: { addr: '127.0.0.1:0' }, internal: { addr: '127.0.0.1:0' }, admin: { addr: '127.0.0.1:0' } }
billing: { prices: { passport: 0.001, payment: 0.002 }, free_quotas: { passport: 10000 } }
";

impl Desk {
    pub(crate) fn on(database: &Database) -> Self {
        Self::at(database, database.options.get_port())
    }

    /// The same database behind another port.
    pub(crate) fn at(database: &Database, port: u16) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("farebox.yaml"), CONFIG).unwrap();
        let (user, name) = (database.options.get_username(), &database.name);
        let source = format!("{user}@tcp(127.0.0.1:{port})/{name}?tls=false");
        Self { directory, source }
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farebox"));
        command.args(words).current_dir(self.directory.path()).env_clear();
        command.env("FAREBOX_DATABASE_SOURCE", &self.source).env("USER", "tester");
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Run {
        let Output { status, stdout, stderr } = self.command(words).output().unwrap();
        Run {
            code: status.code(),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }

    /// What the dry run says.
    pub(crate) fn plan(&self) -> Value {
        let run = self.run(&["migrate", "--from-predecessor", "--json"]);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
        serde_json::from_str(&run.stdout).unwrap()
    }

    pub(crate) fn apply(&self, plan: &str) -> Run {
        self.run(&["migrate", "--from-predecessor", "--apply", plan, "--json"])
    }
}

/// A member of a plan that is a text.
pub(crate) fn text(plan: &Value, member: &str) -> String {
    plan[member].as_str().unwrap_or_else(|| panic!("{plan} has no {member}")).to_owned()
}
