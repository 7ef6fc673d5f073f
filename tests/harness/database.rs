//! A private MariaDB, or MySQL when `FAREBOX_TEST_MYSQLD` names its server.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{self, Command, Stdio};

use crate::child::{Child, Recipe};
use crate::part::Part;
use crate::{StackError, binaries, port};

/// The schema that the sidecar uses, as the predecessor named it.
pub const SCHEMA: &str = "billing_service";

/// Settings of the server. Commits are as durable as in production; what is left out is only room and comfort.
pub(crate) const SETTINGS: [&str; 11] = [
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--skip-log-bin",
    "--performance-schema=OFF",
    "--character-set-server=utf8mb4",
    "--max-connections=300",
    "--innodb-buffer-pool-size=96M",
    // MariaDB's name of it, and MySQL's; each passes over the other's.
    "--loose-innodb-log-file-size=48M",
    "--loose-innodb-redo-log-capacity=96M",
    "--innodb-flush-log-at-trx-commit=1",
    "--innodb-lock-wait-timeout=10",
];

/// A transaction of somebody else, which keeps its locks until it is dropped.
#[derive(Debug)]
pub struct Held {
    client: process::Child,
}

impl Drop for Held {
    /// The server rolls back when the connection ends.
    fn drop(&mut self) {
        self.client.kill().ok();
        self.client.wait().ok();
    }
}

/// A MariaDB server with its own data directory, or the address behind which one is.
#[derive(Debug)]
pub struct Database {
    child: Part<Child>,
    /// How the client is told where to go.
    place: Vec<String>,
    addr: SocketAddr,
    is_mysql: bool,
}

impl Database {
    /// Makes a data directory in `folder` and starts a server on it, with the schema and a user for the sidecar.
    pub async fn start(folder: &Path) -> Result<Self, StackError> {
        Self::start_in(folder, &folder.join("mariadb")).await
    }

    /// The same with the data somewhere else, such as on a disk that can be filled.
    pub async fn start_in(folder: &Path, data: &Path) -> Result<Self, StackError> {
        let (data, socket) = (data.to_owned(), folder.join("mariadb.sock"));
        // A server that starts removes the temporary tables that it finds: it must not find those of a neighbour.
        let temporary = folder.join("mariadb.tmp");
        fs::create_dir(&temporary).map_err(StackError::system(format!("mkdir {temporary:?}")))?;
        let mysqld = binaries::mysqld()?;
        let (installing, tmpdir, program) = (data.clone(), temporary.clone(), mysqld.clone());
        let install = move || match program {
            Some(program) => install_mysql(&program, &installing),
            None => install(&installing, &tmpdir),
        };
        let installed = tokio::task::spawn_blocking(install).await;
        installed.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;

        let addr = port::free();
        let is_mysql = mysqld.is_some();
        let only_mysql: &[&str] = if is_mysql { &["--mysqlx=OFF"] } else { &[] };
        let program = mysqld.map_or_else(|| binaries::system("mariadbd"), Ok)?;
        let recipe = Recipe::new("mariadb", &program, folder)
            .arg("--no-defaults")
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--tmpdir={}", temporary.display()))
            .arg(format!("--socket={}", socket.display()))
            .arg(format!("--pid-file={}", folder.join("mariadb.pid").display()))
            .arg(format!("--port={}", addr.port()))
            .args(SETTINGS)
            .args(only_mysql)
            .args(runs_as_root().then_some("--user=root"));
        let mut database = Self::of(Child::start(recipe)?, &socket, addr);
        database.is_mysql = is_mysql;
        database.ready().await?;
        database.create_schema()?;
        Ok(database)
    }

    /// A server that was started already.
    pub(crate) fn of(child: Child, socket: &Path, addr: SocketAddr) -> Self {
        let place = vec![format!("--socket={}", socket.display())];
        Self { child: Part::new("the server", Some(child)), place, addr, is_mysql: false }
    }

    /// A server that somebody else starts and stops, such as whichever node of a cluster a router has chosen.
    pub(crate) fn at(addr: SocketAddr) -> Self {
        let place = vec![
            "--protocol=tcp".to_owned(),
            format!("--host={}", addr.ip()),
            format!("--port={}", addr.port()),
        ];
        let child = Part::new("the server, which is not its own", None);
        Self { child, place, addr, is_mysql: false }
    }

    /// Creates the schema and a user for the sidecar.
    pub(crate) fn create_schema(&self) -> Result<(), StackError> {
        self.sql_in(None, &format!("CREATE DATABASE {SCHEMA}"))?;
        self.sql_in(None, "CREATE USER farebox@'%' IDENTIFIED BY 'farebox'")?;
        self.sql_in(None, &format!("GRANT ALL ON {SCHEMA}.* TO farebox@'%'"))?;
        if self.is_mysql {
            self.sql_in(None, "CREATE USER clear@'%' IDENTIFIED BY ''")?;
            self.sql_in(None, &format!("GRANT ALL ON {SCHEMA}.* TO clear@'%'"))?;
        }
        Ok(())
    }

    /// The data source as the predecessor wrote it.
    pub fn source(&self) -> String {
        format!("farebox:farebox@tcp({})/{SCHEMA}?parseTime=True", self.addr)
    }

    /// The data source behind a proxy, which must be able to read what passes: without encryption. MySQL takes no password
    /// that way, so there it is a user without one.
    pub fn source_at(&self, proxy: SocketAddr) -> String {
        let user = if self.is_mysql { "clear" } else { "farebox:farebox" };
        format!("{user}@tcp({proxy})/{SCHEMA}?parseTime=True&tls=false")
    }

    /// The process.
    pub fn process(&self) -> &Child {
        &self.child
    }

    /// Where the server listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Runs one statement and gives its rows, column by column, as text; NULL reads `NULL`.
    pub fn sql(&self, statement: &str) -> Result<Vec<Vec<String>>, StackError> {
        self.sql_in(Some(SCHEMA), statement)
    }

    /// Begins a transaction with this statement, which must give a row, and leaves it open.
    pub fn hold(&self, statement: &str) -> Result<Held, StackError> {
        let mut command = self.client(Some(SCHEMA))?;
        command.arg("--unbuffered").stdin(Stdio::piped()).stdout(Stdio::piped());
        let refused = || StackError::system("hold a transaction open");
        let mut client = command.spawn().map_err(refused())?;
        let (mut row, mut out) = (String::new(), client.stdout.take());
        // The pipe to it stays open with the child: at its end the client would go away.
        let told = client.stdin.as_mut().map(|pipe| writeln!(pipe, "BEGIN; {statement};"));
        told.transpose().map_err(refused())?;
        let read = out.as_mut().map(|out| BufReader::new(out).read_line(&mut row));
        read.transpose().map_err(refused())?;
        let held = Held { client };
        if row.is_empty() {
            let (command, status) = (statement.to_owned(), "no row".to_owned());
            return Err(StackError::Command { command, status, output: row });
        }
        Ok(held)
    }

    /// How many statements with this text are being executed; those that wait for a lock are.
    pub fn running(&self, text: &str) -> usize {
        let count = format!(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE '%{text}%' AND ID <> CONNECTION_ID()"
        );
        let rows = self.sql(&count).unwrap_or_else(|err| panic!("{err}"));
        rows.concat().concat().parse().unwrap_or_else(|_| panic!("{rows:?} is no count"))
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
        self.ready_when("SELECT 1", 1).await
    }

    /// Waits until a query gives so many rows.
    pub(crate) async fn ready_when(&self, query: &str, rows: usize) -> Result<(), StackError> {
        let is_ready = || self.sql_in(None, query).is_ok_and(|found| found.len() == rows);
        self.child.ready(async || is_ready()).await
    }

    fn sql_in(
        &self,
        schema: Option<&str>,
        statement: &str,
    ) -> Result<Vec<Vec<String>>, StackError> {
        let mut command = self.client(schema)?;
        command.args(["--execute", statement]);
        let rows = output(command)?;
        Ok(rows.lines().map(|row| row.split('\t').map(str::to_owned).collect()).collect())
    }

    /// MariaDB's own client, told where to go.
    fn client(&self, schema: Option<&str>) -> Result<Command, StackError> {
        let mut command = Command::new(binaries::system("mariadb")?);
        command
            .arg("--no-defaults")
            .args(&self.place)
            .args([
                "--user=root",
                "--batch",
                "--skip-column-names",
                "--default-character-set=utf8mb4",
            ])
            .args(schema);
        Ok(command)
    }
}

pub(crate) fn install(data: &Path, temporary: &Path) -> Result<(), StackError> {
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

fn install_mysql(mysqld: &Path, data: &Path) -> Result<(), StackError> {
    let mut command = Command::new(mysqld);
    command
        .arg("--no-defaults")
        .arg(format!("--datadir={}", data.display()))
        .args(["--initialize-insecure", "--innodb-redo-log-capacity=96M"])
        .args(runs_as_root().then_some("--user=root"));
    output(command).map(drop)
}

/// MariaDB refuses to run as root unless it is told that this is meant.
pub(crate) fn runs_as_root() -> bool {
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
