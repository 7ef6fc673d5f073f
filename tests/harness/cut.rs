//! A TCP proxy in front of the database, which loses a connection at the worst moment, around a COMMIT, or a transaction
//! behind its client's back.
//!
//! It reads MySQL's packets, so the connection must be in clear: [`crate::database::Database::source_at`] sees to it.
//! Every statement is passed on as it is. A trap catches one COMMIT, or one statement, and is then gone.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::StackError;
use crate::child::lock;

/// A proxy that listens.
#[derive(Debug)]
pub struct Cut {
    addr: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

/// What is caught, and what happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The database commits; its answer is swallowed, and the client is left waiting until [`Cut::release`].
    SwallowAnswer,
    /// The database commits; the connection is cut instead of the answer.
    CutAfter,
    /// The connection is cut, and the database never hears of the COMMIT.
    CutBefore,
    /// The COMMIT is held back, the transaction stays open: [`Cut::release`] passes it on, and a client that goes away
    /// meanwhile has not committed.
    Hold,
    /// A statement is held back instead of a COMMIT, until [`Cut::release`].
    HoldStatement,
    /// The transaction is rolled back before a statement, and the client is not told, as by a Galera node whose
    /// transaction gave way while a statement was prepared.
    RollBackBefore,
}

impl How {
    fn is_for_statements(self) -> bool {
        matches!(self, Self::HoldStatement | Self::RollBackBefore)
    }
}

#[derive(Debug)]
struct Shared {
    trap: Mutex<Option<Trap>>,
    caught: AtomicUsize,
    /// Counts calls of [`Cut::release`].
    released: watch::Sender<u64>,
}

#[derive(Debug)]
struct Trap {
    how: How,
    /// Catches only a transaction in which a statement holds this text, or the statement itself.
    touching: String,
}

impl Trap {
    fn touches(&self, statements: &[impl AsRef<str>]) -> bool {
        self.touching.is_empty()
            || statements.iter().any(|text| text.as_ref().contains(&self.touching))
    }
}

impl Cut {
    /// Listens on a free port and passes everything on to `target`.
    pub async fn start(target: SocketAddr) -> Result<Self, StackError> {
        let refused = || StackError::system("bind the proxy of the database");
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(refused())?;
        let addr = listener.local_addr().map_err(refused())?;
        let (released, _) = watch::channel(0);
        let (trap, caught) = (Mutex::default(), AtomicUsize::new(0));
        let shared = Arc::new(Shared { trap, caught, released });
        let server = tokio::spawn(accept(listener, target, Arc::clone(&shared)));
        Ok(Self { addr, shared, server })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Catches the next COMMIT of anybody.
    pub fn arm(&self, how: How) {
        self.arm_for(how, "");
    }

    /// Catches the next COMMIT of a transaction in which a statement holds this text, such as the name of a table; or
    /// that statement, for [`How::HoldStatement`] and [`How::RollBackBefore`].
    pub fn arm_for(&self, how: How, touching: &str) {
        *lock(&self.shared.trap) = Some(Trap { how, touching: touching.to_owned() });
    }

    /// Passes everything on again.
    pub fn disarm(&self) {
        *lock(&self.shared.trap) = None;
    }

    /// How much was caught; a COMMIT that the database may see is counted when the database has answered it.
    pub fn caught(&self) -> usize {
        self.shared.caught.load(Ordering::SeqCst)
    }

    /// Passes on what was held back, and cuts the connections whose answers were swallowed.
    pub fn release(&self) {
        self.shared.released.send_modify(|count| *count += 1);
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Connections live in this task's set: they end with it.
async fn accept(listener: TcpListener, target: SocketAddr, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(connection(client, target, Arc::clone(&shared)));
    }
}

/// One connection; it ends on both sides as soon as one side has ended.
async fn connection(client: TcpStream, target: SocketAddr, shared: Arc<Shared>) -> io::Result<()> {
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let dialogue = Mutex::default();
    tokio::select! {
        ended = commands(from_client, to_server, &dialogue, &shared) => ended,
        ended = replies(from_server, to_client, &dialogue, &shared) => ended,
    }
}

async fn commands(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    dialogue: &Mutex<Dialogue>,
    shared: &Shared,
) -> io::Result<()> {
    loop {
        let packet = packet(&mut client).await?;
        let how = {
            let mut dialogue = lock(dialogue);
            let statement = dialogue.statement(&packet).and_then(|text| shared.spring_at(&text));
            let commit = dialogue.command(&packet).and_then(|texts| shared.spring(&texts));
            statement.or(commit)
        };
        match how {
            Some(How::CutBefore) => {
                shared.catch();
                return Ok(());
            }
            Some(How::SwallowAnswer | How::CutAfter) => lock(dialogue).swallow = how,
            Some(How::RollBackBefore) => {
                lock(dialogue).asks_first(How::RollBackBefore);
                server.write_all(ROLLBACK).await?;
            }
            Some(How::Hold | How::HoldStatement) => {
                let (mut released, mut byte) = (shared.catch(), [0]);
                tokio::select! {
                    _ = released.changed() => {}
                    // It waits for the answer, so what comes is its end.
                    _ = client.peek(&mut byte) => return Ok(()),
                }
            }
            None => {}
        }
        server.write_all(&packet).await?;
    }
}

async fn replies(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    dialogue: &Mutex<Dialogue>,
    shared: &Shared,
) -> io::Result<()> {
    loop {
        let packet = packet(&mut server).await?;
        let swallow = {
            let mut dialogue = lock(dialogue);
            dialogue.reply(&packet);
            dialogue.swallow
        };
        match swallow {
            None | Some(How::CutBefore | How::Hold | How::HoldStatement) => {
                client.write_all(&packet).await?
            }
            Some(How::RollBackBefore) => {
                lock(dialogue).swallow = None;
                shared.catch();
            }
            Some(How::CutAfter) => {
                shared.catch();
                return Ok(());
            }
            Some(How::SwallowAnswer) => {
                shared.catch().changed().await.ok();
                return Ok(());
            }
        }
    }
}

/// Reads one packet: three bytes of length, one byte that numbers the packets of an exchange, the payload.
async fn packet(stream: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let mut packet = vec![0; HEADER_BYTES];
    stream.read_exact(&mut packet).await?;
    let length =
        packet.iter().take(3).rev().fold(0, |length, byte| (length << 8) | usize::from(*byte));
    packet.resize(HEADER_BYTES + length, 0);
    if let Some(payload) = packet.get_mut(HEADER_BYTES..) {
        stream.read_exact(payload).await?;
    }
    Ok(packet)
}

const HEADER_BYTES: usize = 4;

/// First bytes of commands.
const QUIT: u8 = 0x01;
const QUERY: u8 = 0x03;
const PREPARE: u8 = 0x16;
const EXECUTE: u8 = 0x17;
const SEND_LONG_DATA: u8 = 0x18;
const CLOSE: u8 = 0x19;

/// A command of its own.
const ROLLBACK: &[u8] = b"\x09\0\0\0\x03ROLLBACK";

impl Shared {
    /// Counts a COMMIT that was caught; gives what changes with the next [`Cut::release`].
    fn catch(&self) -> watch::Receiver<u64> {
        // Whoever sees the count may release at once: subscribe first.
        let released = self.released.subscribe();
        self.caught.fetch_add(1, Ordering::SeqCst);
        released
    }

    /// What to do with the COMMIT of a transaction of these statements; the trap is gone when it caught it.
    fn spring(&self, statements: &[String]) -> Option<How> {
        let mut trap = lock(&self.trap);
        let touches = |trap: &mut Trap| !trap.how.is_for_statements() && trap.touches(statements);
        trap.take_if(touches).map(|trap| trap.how)
    }

    /// What to do with this statement; the trap is gone when it caught it.
    fn spring_at(&self, statement: &str) -> Option<How> {
        let mut trap = lock(&self.trap);
        let touches = |trap: &mut Trap| {
            trap.how.is_for_statements() && trap.touches(std::slice::from_ref(&statement))
        };
        trap.take_if(touches).map(|trap| trap.how)
    }
}

/// What is known of a connection from what was said on it.
#[derive(Debug, Default)]
struct Dialogue {
    /// Texts of prepared statements by number.
    prepared: BTreeMap<u32, String>,
    /// Commands that the server still has to answer; those that prepare a statement with its text.
    unanswered: VecDeque<Option<String>>,
    /// Statements since BEGIN; `None` outside of a transaction.
    transaction: Option<Vec<String>>,
    /// The answer to the last command is not for the client.
    swallow: Option<How>,
}

impl Dialogue {
    /// The statement that the client wants executed.
    fn statement(&self, packet: &[u8]) -> Option<String> {
        match packet {
            [_, _, _, 0, QUERY, rest @ ..] => Some(text(rest)),
            [_, _, _, 0, EXECUTE, rest @ ..] => self.prepared.get(&number(rest)).cloned(),
            _ => None,
        }
    }

    /// Notes what the client sends; gives the statements of a transaction that it wants to commit.
    fn command(&mut self, packet: &[u8]) -> Option<Vec<String>> {
        // A command begins an exchange; other packets belong to the login or go on with a long command.
        let [_, _, _, 0, kind, rest @ ..] = packet else { return None };
        match *kind {
            QUIT | SEND_LONG_DATA => None,
            CLOSE => {
                self.prepared.remove(&number(rest));
                None
            }
            PREPARE => {
                self.unanswered.push_back(Some(text(rest)));
                None
            }
            EXECUTE => {
                self.unanswered.push_back(None);
                let statement = self.prepared.get(&number(rest)).cloned();
                self.transaction.iter_mut().for_each(|texts| texts.extend(statement.clone()));
                None
            }
            QUERY => {
                self.unanswered.push_back(None);
                self.query(text(rest))
            }
            _ => {
                self.unanswered.push_back(None);
                None
            }
        }
    }

    fn query(&mut self, statement: String) -> Option<Vec<String>> {
        let words = statement.trim().trim_end_matches(';').to_ascii_uppercase();
        match words.as_str() {
            "COMMIT" => Some(self.transaction.take().unwrap_or_default()),
            "ROLLBACK" => {
                self.transaction = None;
                None
            }
            _ if words.starts_with("BEGIN") || words.starts_with("START TRANSACTION") => {
                self.transaction = Some(Vec::new());
                None
            }
            _ => {
                self.transaction.iter_mut().for_each(|texts| texts.push(statement.clone()));
                None
            }
        }
    }

    /// Notes a command before the last one that the client does not know of, and whose answer it does not get.
    fn asks_first(&mut self, how: How) {
        self.unanswered.push_front(None);
        self.swallow = Some(how);
    }

    /// Notes what the server answers: the number of a statement that it has prepared.
    fn reply(&mut self, packet: &[u8]) {
        let [_, _, _, 1, kind, rest @ ..] = packet else { return };
        if let Some(Some(statement)) = self.unanswered.pop_front()
            && *kind == 0
        {
            self.prepared.insert(number(rest), statement);
        }
    }
}

/// A number of four bytes, the lowest first.
fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: u8, kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len() + 1).unwrap();
        [&[length, 0, 0, sequence, kind], payload].concat()
    }

    #[test]
    fn a_commit_is_known_with_the_statements_of_its_transaction() {
        let mut dialogue = Dialogue::default();
        assert_eq!(dialogue.command(&packet(0, PREPARE, b"UPDATE t SET a = ?")), None);
        dialogue.reply(&packet(1, 0, &[7, 0, 0, 0, 0, 0]));
        assert_eq!(dialogue.command(&packet(0, EXECUTE, &[7, 0, 0, 0])), None);
        dialogue.reply(&packet(1, 0, &[]));
        assert_eq!(dialogue.command(&packet(0, QUERY, b"BEGIN")), None);
        assert_eq!(dialogue.command(&packet(0, QUERY, b"SELECT 1")), None);
        assert_eq!(dialogue.command(&packet(0, EXECUTE, &[7, 0, 0, 0])), None);
        let execute = packet(0, EXECUTE, &[7, 0, 0, 0]);
        assert_eq!(dialogue.statement(&execute).as_deref(), Some("UPDATE t SET a = ?"));
        let commit = packet(0, QUERY, b"COMMIT");
        assert_eq!(dialogue.statement(&commit).as_deref(), Some("COMMIT"));
        let statements = ["SELECT 1", "UPDATE t SET a = ?"].map(str::to_owned);
        assert_eq!(dialogue.command(&commit), Some(statements.to_vec()));
        assert_eq!(dialogue.command(&commit), Some(Vec::new()), "outside of a transaction");
    }

    #[test]
    fn the_answer_to_a_statement_in_between_is_not_that_of_a_prepared_one() {
        let mut dialogue = Dialogue::default();
        dialogue.command(&packet(0, QUERY, b"ROLLBACK"));
        dialogue.command(&packet(0, PREPARE, b"SELECT 2"));
        dialogue.reply(&packet(1, 0, &[0, 0, 2, 0]));
        assert!(dialogue.prepared.is_empty());
        dialogue.reply(&packet(1, 0, &[9, 0, 0, 0]));
        assert_eq!(dialogue.prepared.get(&9).map(String::as_str), Some("SELECT 2"));
    }
}
