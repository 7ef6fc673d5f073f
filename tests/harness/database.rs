//! A private MariaDB.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::child::{Child, Recipe};
use crate::{StackError, binaries, port};

/// The schema that the sidecar uses, as the predecessor named it.
pub const SCHEMA: &str = "billing_service";

/// Settings of the server. Commits are as durable as in production; what is left out is only room and comfort.
const SETTINGS: [&str; 10] = [
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--skip-log-bin",
    "--performance-schema=OFF",
    "--character-set-server=utf8mb4",
    "--max-connections=300",
    "--innodb-buffer-pool-size=96M",
    "--innodb-log-file-size=48M",
    "--innodb-flush-log-at-trx-commit=1",
    "--innodb-lock-wait-timeout=10",
];

/// A MariaDB server with its own data directory.
#[derive(Debug)]
pub struct Database {
    child: Child,
    socket: PathBuf,
    addr: SocketAddr,
}

impl Database {
    /// Makes a data directory in `folder` and starts a server on it, with the schema and a user for the sidecar.
    pub async fn start(folder: &Path) -> Result<Self, StackError> {
        let (data, socket) = (folder.join("mariadb"), folder.join("mariadb.sock"));
        // A server that starts removes the temporary tables that it finds: it must not find those of a neighbour.
        let temporary = folder.join("mariadb.tmp");
        fs::create_dir(&temporary).map_err(StackError::system(format!("mkdir {temporary:?}")))?;
        let (installing, tmpdir) = (data.clone(), temporary.clone());
        let installed = tokio::task::spawn_blocking(move || install(&installing, &tmpdir)).await;
        installed.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;

        let addr = port::free();
        let recipe = Recipe::new("mariadb", &binaries::system("mariadbd")?, folder)
            .arg("--no-defaults")
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--tmpdir={}", temporary.display()))
            .arg(format!("--socket={}", socket.display()))
            .arg(format!("--pid-file={}", folder.join("mariadb.pid").display()))
            .arg(format!("--port={}", addr.port()))
            .args(SETTINGS)
            .args(runs_as_root().then_some("--user=root"));
        let database = Self { child: Child::start(recipe)?, socket, addr };
        database.ready().await?;
        database.sql_in(None, &format!("CREATE DATABASE {SCHEMA}"))?;
        database.sql_in(None, "CREATE USER farebox@'%' IDENTIFIED BY 'farebox'")?;
        database.sql_in(None, &format!("GRANT ALL ON {SCHEMA}.* TO farebox@'%'"))?;
        Ok(database)
    }

    /// The data source as the predecessor wrote it.
    pub fn source(&self) -> String {
        format!("farebox:farebox@tcp({})/{SCHEMA}?parseTime=True", self.addr)
    }

    /// The data source behind a proxy, which must be able to read what passes: without encryption.
    pub fn source_at(&self, proxy: SocketAddr) -> String {
        format!("farebox:farebox@tcp({proxy})/{SCHEMA}?parseTime=True&tls=false")
    }

    /// Where the server listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Runs one statement and gives its rows, column by column, as text; NULL reads `NULL`.
    pub fn sql(&self, statement: &str) -> Result<Vec<Vec<String>>, StackError> {
        self.sql_in(Some(SCHEMA), statement)
    }

    /// Ends the server at once, as a crash would.
    pub fn kill(&self) {
        self.child.kill();
    }

    /// Stops the server in order.
    pub fn stop(&self) {
        self.child.stop();
    }

    /// Starts the server again on the same data and port.
    pub async fn start_again(&self) -> Result<(), StackError> {
        self.child.start_again()?;
        self.ready().await
    }

    async fn ready(&self) -> Result<(), StackError> {
        self.child.ready(async || self.sql_in(None, "SELECT 1").is_ok()).await
    }

    fn sql_in(
        &self,
        schema: Option<&str>,
        statement: &str,
    ) -> Result<Vec<Vec<String>>, StackError> {
        let mut command = Command::new(binaries::system("mariadb")?);
        command
            .arg("--no-defaults")
            .arg(format!("--socket={}", self.socket.display()))
            .args([
                "--user=root",
                "--batch",
                "--skip-column-names",
                "--default-character-set=utf8mb4",
            ])
            .args(schema)
            .args(["--execute", statement]);
        let rows = output(command)?;
        Ok(rows.lines().map(|row| row.split('\t').map(str::to_owned).collect()).collect())
    }
}

fn install(data: &Path, temporary: &Path) -> Result<(), StackError> {
    let mut command = Command::new(binaries::system("mariadb-install-db")?);
    command
        .arg("--no-defaults")
        .arg(format!("--datadir={}", data.display()))
        .env("TMPDIR", temporary)
        .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
        .arg("--innodb-log-file-size=48M")
        .args(runs_as_root().then_some("--user=root"));
    output(command).map(drop)
}

/// MariaDB refuses to run as root unless it is told that this is meant.
fn runs_as_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs a command line to its end and gives what it printed.
pub(crate) fn output(mut command: Command) -> Result<String, StackError> {
    let line = format!("{command:?}");
    let output = command.output().map_err(StackError::system(line.clone()))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let status = output.status.to_string();
    Err(StackError::Command { command: line, status, output: format!("{printed}{errors}") })
}
