//! The two programs that newcomers start, as they start them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use farebox_tests::{eventually, run};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn the_demo_tells_the_truth() {
    let output = Command::new(env!("CARGO_BIN_EXE_demo")).output().unwrap();
    let (told, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{told}\n{errors}");
    assert!(told.contains("Everything was as told"), "{told}");
}

/// One after the other: both would like to have the documented ports.
#[test]
fn up_leaves_nothing_behind_after_ctrl_c_nor_when_it_is_killed() {
    leaves_nothing_behind(Signal::INT);
    leaves_nothing_behind(Signal::KILL);
}

fn leaves_nothing_behind(signal: Signal) {
    let mut up = Command::new(env!("CARGO_BIN_EXE_up")).stdout(Stdio::piped()).spawn().unwrap();
    let folder = folder_of(&mut up);
    let id = Pid::from_raw(i32::try_from(up.id()).unwrap()).unwrap();
    assert!(4 <= processes_of(&folder), "database, Redis, sidecar and Envoy run");
    kill_process(id, signal).unwrap();
    let status = up.wait().unwrap();
    assert_eq!(status.success(), signal == Signal::INT, "{status}");
    run(async {
        eventually!(processes_of(&folder) == 0, "{}", list(&folder).join("\n"));
        eventually!(!Path::new(&folder).exists());
    });
}

/// Reads what `up` prints until it says where its data is.
fn folder_of(up: &mut Child) -> String {
    // The pipe stays with the child: what it prints at its end has a reader then, too.
    let lines = BufReader::new(up.stdout.as_mut().unwrap()).lines();
    let mut read = Vec::new();
    let mut folder = String::new();
    for line in lines {
        let line = line.unwrap();
        if let Some(path) = line.strip_prefix("Logs and data: ") {
            path.clone_into(&mut folder);
        }
        if line.starts_with("Ctrl-C") {
            return folder;
        }
        read.push(line);
    }
    panic!("`up` ended: {}", read.join("\n"));
}

fn processes_of(folder: &str) -> usize {
    list(folder).len()
}

/// The command lines of all processes that work in a folder.
fn list(folder: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let lines = lines.map(|line| text(&line).replace('\0', " "));
    // The janitor names the folder as well; it ends when its work is done.
    lines.filter(|line| line.contains(folder) && !line.contains("farebox-janitor")).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
