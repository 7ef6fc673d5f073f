//! A directory that goes away with its owner, however the owner ends.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};

use crate::StackError;

/// Removes the directory once its standard input ends: when the owner lets go of the pipe, or dies.
///
/// A campaign may have mounted a disk in it, which is let go first. Processes that are being killed may still write, so the
/// removal is tried for some seconds.
const JANITOR: &str = r#"cat >/dev/null
umount -l "$1/disk" 2>/dev/null
for attempt in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$1" 2>/dev/null && exit 0; sleep 0.5; done"#;

/// A private directory under the system's temporary directory.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    janitor: process::Child,
}

impl Scratch {
    /// Makes a directory that no other process has.
    pub fn new() -> Result<Self, StackError> {
        let name = format!("farebox-{}-", process::id());
        let directory = tempfile::Builder::new().prefix(&name).permissions(everybody()).tempdir();
        // The janitor removes it, also when this process cannot.
        let path = directory.map_err(StackError::system(format!("mkdir {name}…")))?.keep();
        let janitor = Command::new("sh")
            .args(["-c", JANITOR, "farebox-janitor"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C goes to the terminal's group; the janitor's work begins only after it.
            .process_group(0)
            .spawn()
            .map_err(StackError::system("start the janitor"))?;
        Ok(Self { path, janitor })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Databases run as users of their own and have their data in it.
fn everybody() -> Permissions {
    Permissions::from_mode(0o755)
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // `wait` closes the pipe first. A janitor that is gone has nothing left to remove.
        self.janitor.wait().ok();
    }
}
