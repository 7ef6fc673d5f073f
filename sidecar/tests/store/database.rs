//! One private database server for this test binary, and a fresh database for each test.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sqlx::mysql::{MySqlConnectOptions, MySqlPool, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, Row};

/// A server that is already there, as `mysql://root@127.0.0.1:3306`.
const SERVER_VARIABLE: &str = "FAREBOX_TEST_DATABASE";

/// The shell waits for the end of its input, which comes when this test process ends, in whatever way. So the server
/// never outlives the tests, and its files go with it.
const SERVER_SCRIPT: &str = r#"
dir=$1 port=$2 user=$(id -un)
# A server that starts deletes the temporary tables that it finds, also those of a neighbour in /tmp.
mkdir "$dir/tmp"
export TMPDIR="$dir/tmp"
mariadb-install-db --no-defaults --datadir="$dir/data" --user="$user" --skip-test-db \
  --auth-root-authentication-method=normal >"$dir/install.log" 2>&1
mariadbd --no-defaults --datadir="$dir/data" --user="$user" --socket="$dir/server.sock" --pid-file="$dir/server.pid" \
  --bind-address=127.0.0.1 --port="$port" --max-connections=500 --innodb-flush-log-at-trx-commit=2 \
  >"$dir/server.log" 2>&1 </dev/null &
server=$!
cat >/dev/null
kill -9 $server
wait
rm -rf "$dir"
"#;

/// The server's shell; it is never dropped, so its input ends with this process.
struct Server {
    options: MySqlConnectOptions,
    _shell: Option<Child>,
}

static SERVER: OnceLock<Server> = OnceLock::new();

fn server() -> &'static MySqlConnectOptions {
    let server = SERVER.get_or_init(|| match std::env::var(SERVER_VARIABLE) {
        Ok(url) => Server { options: url.parse().unwrap(), _shell: None },
        Err(_) => start(),
    });
    &server.options
}

fn start() -> Server {
    let dir = tempfile::Builder::new().prefix("farebox-store-test-").tempdir().unwrap().keep();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let shell = Command::new("sh")
        .args(["-c", SERVER_SCRIPT, "sh"])
        .arg(&dir)
        .arg(port.to_string())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let log = || std::fs::read_to_string(dir.join("server.log")).unwrap_or_default();
        assert!(Instant::now() < deadline, "the server does not answer: {}", log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let options = MySqlConnectOptions::new().host("127.0.0.1").port(port).username("root");
    Server { options, _shell: Some(shell) }
}

fn is_deadlock(err: &sqlx::Error) -> bool {
    const ROLLED_BACK: &str = "40001";
    err.as_database_error().is_some_and(|err| err.code().as_deref() == Some(ROLLED_BACK))
}

/// A database of one test.
pub(crate) struct Database {
    pub(crate) options: MySqlConnectOptions,
    /// Connections beside those of the code under test.
    pub(crate) pool: MySqlPool,
    pub(crate) name: String,
}

impl Database {
    /// Creates an empty database.
    pub(crate) async fn create() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("farebox_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let root = MySqlPoolOptions::new().max_connections(1).connect_with(server().clone()).await;
        let root = root.unwrap();
        for sql in [
            format!("DROP DATABASE IF EXISTS {name}"),
            format!("CREATE DATABASE {name} CHARACTER SET utf8mb4"),
        ] {
            sqlx::query(AssertSqlSafe(sql)).execute(&root).await.unwrap();
        }
        root.close().await;
        let options = server().clone().database(&name);
        let pool =
            MySqlPoolOptions::new().max_connections(4).connect_with(options.clone()).await.unwrap();
        Self { options, pool, name }
    }

    /// Runs a statement, again when it met a job of the code under test in a deadlock; the number of rows it matched.
    pub(crate) async fn run(&self, sql: impl Into<String>) -> u64 {
        let sql = sql.into();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(&self.pool).await {
                Ok(done) => return done.rows_affected(),
                Err(err) if is_deadlock(&err) && Instant::now() < deadline => {}
                Err(err) => panic!("{sql}: {err}"),
            }
        }
    }

    /// The rows of a query, one text per row, values separated by a space.
    pub(crate) async fn rows(&self, sql: impl Into<String>) -> Vec<String> {
        // The text protocol: every value comes as text.
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.into())).fetch_all(&self.pool).await.unwrap();
        rows.iter()
            .map(|row| {
                let values = (0..row.len()).map(|index| {
                    row.try_get_unchecked::<Option<String>, _>(index)
                        .unwrap()
                        .unwrap_or_else(|| "NULL".to_owned())
                });
                values.collect::<Vec<_>>().join(" ")
            })
            .collect()
    }

    /// Every row of these tables as text, without the named columns; `*` stands for every table.
    pub(crate) async fn dump(&self, tables: &[&str], without: &[&str]) -> Vec<String> {
        let mut lines = Vec::new();
        for table in self.tables().await {
            if !tables.contains(&table.as_str()) && tables != ["*"] {
                continue;
            }
            let columns = self
                .rows(format!(
                    "SELECT column_name FROM information_schema.columns
                     WHERE table_schema = '{}' AND table_name = '{table}' ORDER BY ordinal_position",
                    self.name
                ))
                .await;
            let values: Vec<String> = columns
                .iter()
                .filter(|column| !without.contains(&column.as_str()))
                .map(|column| match column.as_str() {
                    "body_hash" | "open_key" | "checksum" | "fingerprint" => {
                        format!("COALESCE(HEX({column}), 'NULL')")
                    }
                    _ => format!("COALESCE({column}, 'NULL')"),
                })
                .collect();
            let values = values.join(", ");
            let sql = format!(
                "SELECT CONCAT_WS('|', '{table}', {values}) AS line FROM {table} ORDER BY line"
            );
            lines.extend(self.rows(sql).await);
        }
        lines
    }

    async fn tables(&self) -> Vec<String> {
        self.rows(format!(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = '{}' ORDER BY table_name",
            self.name
        ))
        .await
    }
}
