//! Certificates of one stack, for the connection between sidecar and payment service.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use crate::StackError;

/// How the payment service is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// It shows a certificate.
    Server,
    /// And so must whoever calls it.
    Mutual,
}

/// The files, all PEM: two authorities, of which one vouches for both sides.
#[derive(Debug)]
pub struct TlsFiles {
    kind: Tls,
    ca: PathBuf,
    other_ca: PathBuf,
    server: Pair,
    client: Pair,
}

/// A certificate and its key.
#[derive(Debug)]
struct Pair {
    cert: PathBuf,
    key: PathBuf,
}

impl TlsFiles {
    /// Makes everything in `folder`.
    pub(crate) fn make(folder: &Path, kind: Tls) -> Result<Self, StackError> {
        let failed = |err: rcgen::Error| StackError::System {
            what: "make certificates".to_owned(),
            source: std::io::Error::other(err),
        };
        let (ca, other) = (authority().map_err(failed)?, authority().map_err(failed)?);
        let pair = |name: &str, usage| {
            let (cert, key) = signed(&ca, usage).map_err(failed)?;
            let cert = write(folder, &format!("{name}.crt"), &cert)?;
            Ok(Pair { cert, key: write(folder, &format!("{name}.key"), &key)? })
        };
        Ok(Self {
            kind,
            ca: write(folder, "payment-ca.crt", &ca.pem())?,
            other_ca: write(folder, "other-ca.crt", &other.pem())?,
            server: pair("payment-server", ExtendedKeyUsagePurpose::ServerAuth)?,
            client: pair("payment-client", ExtendedKeyUsagePurpose::ClientAuth)?,
        })
    }

    /// What the payment service is started with.
    pub(crate) fn server_arguments(&self) -> Vec<PathBuf> {
        let Pair { cert, key } = &self.server;
        let mut arguments =
            vec!["--tls-cert".into(), cert.clone(), "--tls-key".into(), key.clone()];
        if self.kind == Tls::Mutual {
            arguments.extend(["--client-ca".into(), self.ca.clone()]);
        }
        arguments
    }

    /// The lines of `payment_service` that make the sidecar's side fit.
    pub fn client_yaml(&self) -> String {
        let identity = match self.kind {
            Tls::Server => String::new(),
            Tls::Mutual => self.identity_yaml(),
        };
        format!("  tls:\n    ca_file: {:?}\n{identity}", self.ca)
    }

    /// Those of them that show a certificate.
    pub fn identity_yaml(&self) -> String {
        let Pair { cert, key } = &self.client;
        format!("    cert_file: {cert:?}\n    key_file: {key:?}\n")
    }

    /// The authority of both sides.
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// An authority that vouches for nobody here.
    pub fn other_ca(&self) -> &Path {
        &self.other_ca
    }
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

/// A certificate for this machine, and its key.
fn signed(
    ca: &CertifiedIssuer<'static, KeyPair>,
    usage: ExtendedKeyUsagePurpose,
) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()])?;
    params.extended_key_usages = vec![usage];
    let cert = params.signed_by(&key, ca)?;
    Ok((cert.pem(), key.serialize_pem()))
}

fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf, StackError> {
    let path = folder.join(name);
    fs::write(&path, text).map_err(StackError::system(format!("write {path:?}")))?;
    Ok(path)
}
