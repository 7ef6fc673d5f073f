//! A private Redis.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::child::{Child, Recipe};
use crate::{StackError, binaries, port};

/// A Redis server that keeps nothing on disk.
#[derive(Debug)]
pub struct Redis {
    child: Child,
    addr: SocketAddr,
}

impl Redis {
    /// Starts a server.
    ///
    /// Debian's `redis-tools` holds the server under the name of its checker: one program that looks at the name it is
    /// called by. So the package that starts a system service is not needed.
    pub async fn start(folder: &Path) -> Result<Self, StackError> {
        let program = folder.join("redis-server");
        symlink(server()?, &program).map_err(StackError::system("link redis-server"))?;
        let addr = port::free();
        let recipe = Recipe::new("redis", &program, folder)
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--enable-debug-command", "yes", "--port"])
            .arg(addr.port().to_string())
            .arg("--dir")
            .arg(folder);
        let redis = Self { child: Child::start(recipe)?, addr };
        redis.ready().await?;
        Ok(redis)
    }

    /// The process.
    pub fn process(&self) -> &Child {
        &self.child
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends the server at once; nothing that it held is kept.
    pub fn kill(&self) {
        self.child.kill();
    }

    /// Starts the server again on the same port, empty.
    pub async fn start_again(&self) -> Result<(), StackError> {
        self.child.start_again()?;
        self.ready().await
    }

    /// Writes a key.
    pub fn set(&self, key: &str, value: &str) {
        self.command(&["SET", key, value]);
    }

    /// The value of a key, if it has one without line breaks.
    pub fn get(&self, key: &str) -> Option<String> {
        let answer = self.send(&[b"GET", key.as_bytes()]);
        answer.split_once("\r\n").map(|(_, value)| value.to_owned())
    }

    /// Adds a value to a list; a key that is none yet becomes one.
    pub fn push(&self, key: &str, value: &str) {
        self.command(&["RPUSH", key, value]);
    }

    /// Removes a key, as if it had expired; whether it was there.
    pub fn remove(&self, key: &str) -> bool {
        self.command(&["DEL", key]) == ":1"
    }

    /// Stops the server without ending it: it accepts connections and answers nothing, as under `DEBUG SLEEP`, until the
    /// result is dropped.
    pub fn stand_still(&self) -> StandsStill<'_> {
        self.child.signal(Signal::STOP);
        StandsStill(self)
    }

    /// Fills the server: it refuses every command that needs memory.
    pub fn fill(&self) {
        self.command(&["CONFIG", "SET", "maxmemory", "1"]);
    }

    /// Sets a key to a value, neither of them necessarily text.
    pub fn set_bytes(&self, key: &[u8], value: &[u8]) {
        self.send(&[b"SET", key, value]);
    }

    /// Sends a command and gives the first line of its answer, such as `:1`.
    pub fn command(&self, words: &[&str]) -> String {
        let answer = self.send(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>());
        answer.lines().next().unwrap_or_default().to_owned()
    }

    /// Sends a command of words without blanks to a server that may be away.
    pub fn try_command(&self, words: &[&str]) -> std::io::Result<String> {
        self.ask(format!("{}\r\n", words.join(" ")).as_bytes())
    }

    /// Sends a command and gives its answer: a line, for a value the line of its length and a line for itself.
    fn send(&self, words: &[&[u8]]) -> String {
        let mut command = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            command.extend(format!("${}\r\n", word.len()).into_bytes());
            command.extend(*word);
            command.extend(b"\r\n");
        }
        let words = || String::from_utf8_lossy(&command).into_owned();
        let answer = self.ask(&command);
        let answer = answer.unwrap_or_else(|err| panic!("redis: {:?}: {err}", words()));
        assert!(!answer.is_empty() && !answer.starts_with('-'), "redis: {:?}: {answer}", words());
        answer
    }

    fn ask(&self, command: &[u8]) -> std::io::Result<String> {
        let mut stream = connect(self.addr)?;
        stream.write_all(command)?;
        let (mut reader, mut answer) = (BufReader::new(stream), String::new());
        reader.read_line(&mut answer)?;
        if answer.starts_with('$') && !answer.starts_with("$-1") {
            reader.read_line(&mut answer)?;
        }
        Ok(answer.trim_end().to_owned())
    }

    async fn ready(&self) -> Result<(), StackError> {
        self.child.ready(async || answers_ping(self.addr)).await
    }
}

/// While it lives, the server stands still.
#[derive(Debug)]
pub struct StandsStill<'a>(&'a Redis);

impl Drop for StandsStill<'_> {
    fn drop(&mut self) {
        self.0.child.signal(Signal::CONT);
    }
}

fn server() -> Result<std::path::PathBuf, StackError> {
    binaries::system("redis-server").or_else(|_| binaries::system("redis-check-rdb"))
}

fn connect(addr: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    Ok(stream)
}

fn answers_ping(addr: SocketAddr) -> bool {
    let ping = || -> std::io::Result<bool> {
        let mut stream = connect(addr)?;
        stream.write_all(b"PING\r\n")?;
        let mut pong = [0; 7];
        stream.read_exact(&mut pong)?;
        Ok(&pong == b"+PONG\r\n")
    };
    ping().unwrap_or(false)
}
