//! Where the programs under test are.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::StackError;

/// The repository's root: the folder above this package.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// The `farebox` binary, `FAREBOX_BIN` or the debug build.
pub fn farebox() -> Result<PathBuf, StackError> {
    find("the farebox binary", "FAREBOX_BIN", target().join("debug/farebox"))
}

/// The payment service of this package, `FAREBOX_PAYMENT_SERVICE` or what stands beside the `farebox` binary: one command
/// builds both.
pub fn payment_service() -> Result<PathBuf, StackError> {
    let farebox = env::var_os("FAREBOX_BIN").map(PathBuf::from);
    let beside = farebox.unwrap_or_else(|| target().join("debug/farebox"));
    let built = beside.with_file_name("payment-service");
    find("the payment service", "FAREBOX_PAYMENT_SERVICE", built)
}

/// The compiled filter, `FAREBOX_FILTER_WASM` or the build of the `wasm` profile.
pub fn filter() -> Result<PathBuf, StackError> {
    let built = target().join("wasm32-wasip1/wasm/farebox_filter.wasm");
    find("the compiled filter", "FAREBOX_FILTER_WASM", built)
}

/// The compiled filter that a request can kill (cargo feature `trap`), `FAREBOX_FILTER_TRAP_WASM` or its own build.
pub fn trap_filter() -> Result<PathBuf, StackError> {
    let built = target().join("trap/wasm32-wasip1/wasm/farebox_filter.wasm");
    find("the compiled filter that can be killed", "FAREBOX_FILTER_TRAP_WASM", built)
}

/// The Envoy binary, `FAREBOX_ENVOY` or the one that `cargo xtask setup` fetches.
pub fn envoy() -> Result<PathBuf, StackError> {
    let home = env::var_os("HOME").map_or_else(PathBuf::new, PathBuf::from);
    let fetched = home.join(".cache/farebox/envoy-1.40.0/envoy/_bin/envoy");
    find("Envoy 1.40.0", "FAREBOX_ENVOY", fetched)
}

/// Prometheus, `FAREBOX_PROMETHEUS` or the one that `cargo xtask setup` fetches.
pub fn prometheus() -> Result<PathBuf, StackError> {
    find("Prometheus", "FAREBOX_PROMETHEUS", fetched_prometheus().join("prometheus"))
}

/// The checker of Prometheus's rules, which comes with it.
pub fn promtool() -> Result<PathBuf, StackError> {
    find("promtool", "FAREBOX_PROMTOOL", fetched_prometheus().join("promtool"))
}

/// Schemathesis, `FAREBOX_SCHEMATHESIS` or the one that `cargo xtask setup` installs.
pub fn schemathesis() -> Result<PathBuf, StackError> {
    let home = env::var_os("HOME").map_or_else(PathBuf::new, PathBuf::from);
    let installed = home.join(".cache/farebox/schemathesis-4.32.5/bin/schemathesis");
    find("Schemathesis 4.32.5", "FAREBOX_SCHEMATHESIS", installed)
}

fn fetched_prometheus() -> PathBuf {
    let home = env::var_os("HOME").map_or_else(PathBuf::new, PathBuf::from);
    home.join(".cache/farebox/prometheus/usr/bin")
}

/// The library that gives a process another time, of Debian's package `faketime`.
pub fn clock_library() -> Result<PathBuf, StackError> {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let library = |folder: fs::DirEntry| folder.path().join("faketime/libfaketime.so.1");
    let found = folders.map(library).find(|path| path.is_file());
    let usual = PathBuf::from("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1");
    find("libfaketime", "FAREBOX_LIBFAKETIME", found.unwrap_or(usual))
}

/// A MySQL server to run instead of MariaDB, when `FAREBOX_TEST_MYSQLD` names one.
pub fn mysqld() -> Result<Option<PathBuf>, StackError> {
    const VARIABLE: &str = "FAREBOX_TEST_MYSQLD";
    if env::var_os(VARIABLE).is_none() {
        return Ok(None);
    }
    find("the MySQL server", VARIABLE, PathBuf::new()).map(Some)
}

/// The library that makes MariaDB servers a cluster, of Debian's package `galera-4`.
pub fn galera_library() -> Result<PathBuf, StackError> {
    let usual = PathBuf::from("/usr/lib/galera/libgalera_smm.so");
    find("the Galera library", "FAREBOX_GALERA", usual)
}

fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

fn find(
    what: &'static str,
    variable: &'static str,
    otherwise: PathBuf,
) -> Result<PathBuf, StackError> {
    let path = env::var_os(variable).map_or(otherwise, PathBuf::from);
    if path.is_file() {
        Ok(path)
    } else {
        Err(StackError::Missing { what, path: path.display().to_string(), variable })
    }
}

/// A program of the system, looked for in `PATH` and where Debian keeps what only root starts.
pub fn system(name: &'static str) -> Result<PathBuf, StackError> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .ok_or_else(|| StackError::Missing {
            what: name,
            path: "PATH".to_owned(),
            variable: "PATH",
        })
}
