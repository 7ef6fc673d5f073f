//! A private Galera cluster: three MariaDB servers that replicate to each other, and a router in front of them.
//!
//! The nodes begin with copies of one database, so what a node lacks when it joins is only a few events, which the library
//! itself transfers. The scripts for whole copies, which Debian ships with the system's database service, are not needed.
//! Galera does not belong to root: as root the nodes run as the user `mysql`, or `nobody` where there is none.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::child::{Child, Recipe};
use crate::database::{Database, SETTINGS, install, output, runs_as_root};
use crate::router::Router;
use crate::scratch::Scratch;
use crate::{StackError, binaries, port};

/// How many nodes: the fewest of which a majority is left when one is lost.
pub const NODES: usize = 3;

/// What a joining node and its donor agree on where the copies are the same: the joiner's own position, from which on it
/// gets the events.
const TRANSFER: &str = r#"#!/bin/sh
while [ $# -gt 0 ]; do
  case $1 in
    --role) role=$2 ;;
    --gtid) position=$2 ;;
    --address) address=$2 ;;
    --bypass) bypass=yes ;;
  esac
  shift
done
case $role in
  joiner)
    told=$(dirname "$0")/position-$$
    echo "ready 127.0.0.1/$told"
    while [ ! -s "$told" ]; do sleep 0.05; done
    cat "$told" ;;
  donor)
    [ "$bypass" ] || { echo "a whole copy is needed" >&2; exit 95; }
    told=/${address#*/}
    echo "$position" >"$told.new" && mv "$told.new" "$told"
    echo "done $position" ;;
esac
"#;

/// The name that the server knows the script by: the file's name without `wsrep_sst_`.
const TRANSFER_METHOD: &str = "position";

/// Three nodes. Dropping it stops them and removes their files.
#[derive(Debug)]
pub struct Galera {
    nodes: Vec<Database>,
    router: Router,
    scratch: Scratch,
}

/// What makes a node one of this cluster.
struct Place {
    name: String,
    data: PathBuf,
    sql: SocketAddr,
    group: SocketAddr,
    transfer: SocketAddr,
}

impl Place {
    fn new(folder: &Path, name: &str) -> Self {
        let (sql, group, transfer) = (port::free(), port::free(), port::free());
        Self { name: name.to_owned(), data: folder.join(name), sql, group, transfer }
    }
}

impl Galera {
    /// Starts three nodes, with the schema and a user for the sidecar; the router goes to the first one.
    pub async fn start() -> Result<Self, StackError> {
        let scratch = Scratch::new()?;
        let folder = scratch.path();
        let origin = Place::new(folder, "origin");
        blocking(folder, prepare)?;
        let database = start(folder, &origin, &[&origin], true)?;
        synced(&database, 1).await?;
        database.create_schema()?;
        database.stop();
        drop(database);

        let places: Vec<Place> =
            (0..NODES).map(|number| Place::new(folder, &format!("node-{number}"))).collect();
        let copies: Vec<PathBuf> = places.iter().map(|place| place.data.clone()).collect();
        blocking(folder, |folder| copy(&folder.join("origin"), &copies))?;
        let members: Vec<&Place> = places.iter().collect();
        let mut nodes: Vec<Database> = Vec::new();
        for place in &places {
            // The first one is the cluster that the others join.
            let node = start(folder, place, &members, nodes.is_empty())?;
            if nodes.is_empty() {
                synced(&node, 1).await?;
            }
            nodes.push(node);
        }
        for node in &nodes {
            synced(node, NODES).await?;
        }
        let first = places.first().map_or_else(port::free, |place| place.sql);
        let router = Router::start(first).await?;
        Ok(Self { nodes, router, scratch })
    }

    /// A node by its number, from 0.
    pub fn node(&self, number: usize) -> &Database {
        self.nodes.get(number).unwrap_or_else(|| panic!("there is no node {number}"))
    }

    /// A node by its number, for a stack that writes to it past the router.
    pub fn reach(&self, number: usize) -> Database {
        Database::at(self.node(number).addr())
    }

    /// The node that the router has chosen, as if it were the only server.
    pub fn routed(&self) -> Database {
        Database::at(self.router.addr())
    }

    /// Moves everybody who goes through the router to another node.
    pub fn route_to(&self, number: usize) {
        self.router.move_to(self.node(number).addr());
    }

    /// The directory with everybody's logs and data.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }
}

/// Runs what takes a while and waits for no event.
fn blocking(
    folder: &Path,
    work: impl FnOnce(&Path) -> Result<(), StackError>,
) -> Result<(), StackError> {
    tokio::task::block_in_place(|| work(folder))
}

/// Makes the data directory that the nodes begin with.
fn prepare(folder: &Path) -> Result<(), StackError> {
    let temporary = folder.join("tmp");
    fs::create_dir(&temporary).map_err(StackError::system("mkdir"))?;
    let script = folder.join(format!("wsrep_sst_{TRANSFER_METHOD}"));
    fs::write(&script, TRANSFER).map_err(StackError::system("write a script"))?;
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&script, executable).map_err(StackError::system("chmod"))?;
    install(&folder.join("origin"), &temporary)?;
    give_to_user(folder)
}

/// Copies the data directory of a node that was stopped in order. Only one of them may begin a cluster.
fn copy(origin: &Path, copies: &[PathBuf]) -> Result<(), StackError> {
    for (number, data) in copies.iter().enumerate() {
        let mut copy = Command::new("cp");
        copy.arg("--archive").arg(origin).arg(data);
        output(copy)?;
        let state = data.join("grastate.dat");
        let text = fs::read_to_string(&state).map_err(StackError::system("read the state"))?;
        let text = text.replace(
            "safe_to_bootstrap: 1",
            &format!("safe_to_bootstrap: {}", u8::from(number == 0)),
        );
        fs::write(&state, text).map_err(StackError::system("write the state"))?;
        // What the node that was copied kept for others to join.
        fs::remove_file(data.join("galera.cache")).ok();
    }
    Ok(())
}

fn give_to_user(folder: &Path) -> Result<(), StackError> {
    if !runs_as_root() {
        return Ok(());
    }
    let mut give = Command::new("chown");
    give.arg("--recursive").arg(user()).arg(folder);
    output(give).map(drop)
}

/// As whom the nodes run when root starts them.
fn user() -> &'static str {
    let mut asks = Command::new("id");
    asks.arg("mysql");
    if output(asks).is_ok() { "mysql" } else { "nobody" }
}

fn start(
    folder: &Path,
    place: &Place,
    members: &[&Place],
    begins: bool,
) -> Result<Database, StackError> {
    let Place { name, data, sql, group, transfer } = place;
    let socket = folder.join(format!("{name}.sock"));
    let members: Vec<String> = members.iter().map(|place| place.group.to_string()).collect();
    let provider = format!(
        "base_host=127.0.0.1;base_port={};gmcast.listen_addr=tcp://{group};ist.recv_addr={transfer};gcache.size=32M",
        group.port()
    );
    let path = env::var_os("PATH").unwrap_or_default();
    let path: OsString = [folder.as_os_str(), ":".as_ref(), &path].into_iter().collect();
    let server = binaries::system("mariadbd")?;
    // A server that gives up root by itself is no longer ended with this process: the kernel forgets that at the change.
    let recipe = if runs_as_root() {
        Recipe::new(name, &binaries::system("setpriv")?, folder)
            .arg(format!("--reuid={}", user()))
            .args(["--clear-groups", "--pdeathsig", "KILL", "--"])
            .arg(server)
    } else {
        Recipe::new(name, &server, folder)
    };
    let recipe = recipe
        .env("PATH", path)
        .arg("--no-defaults")
        .arg(format!("--datadir={}", data.display()))
        .arg(format!("--tmpdir={}", folder.join("tmp").display()))
        .arg(format!("--socket={}", socket.display()))
        .arg(format!("--pid-file={}", folder.join(format!("{name}.pid")).display()))
        .arg(format!("--port={}", sql.port()))
        .args(SETTINGS)
        .args(["--binlog-format=ROW", "--innodb-autoinc-lock-mode=2", "--wsrep-on=ON"])
        .arg(format!("--wsrep-provider={}", binaries::galera_library()?.display()))
        .arg("--wsrep-cluster-name=farebox-test")
        .arg(format!("--wsrep-cluster-address=gcomm://{}", members.join(",")))
        .arg(format!("--wsrep-node-name={name}"))
        .arg("--wsrep-node-address=127.0.0.1")
        .arg(format!("--wsrep-sst-method={TRANSFER_METHOD}"))
        .arg(format!("--wsrep-provider-options={provider}"))
        .args(begins.then_some("--wsrep-new-cluster"));
    Ok(Database::of(Child::start(recipe)?, &socket, *sql))
}

/// Waits until a node has everything and sees so many nodes.
async fn synced(node: &Database, nodes: usize) -> Result<(), StackError> {
    let seen = format!(
        "SELECT VARIABLE_NAME FROM information_schema.GLOBAL_STATUS
         WHERE (VARIABLE_NAME = 'WSREP_LOCAL_STATE_COMMENT' AND VARIABLE_VALUE = 'Synced')
            OR (VARIABLE_NAME = 'WSREP_CLUSTER_SIZE' AND {nodes} <= VARIABLE_VALUE)"
    );
    node.ready_when(&seen, 2).await
}
