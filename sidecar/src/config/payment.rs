//! `payment_service`: where payments are made, what its callbacks are signed with, and how the way to it is protected.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};

use super::environment::Environment;
use super::error::{ConfigError, Field};
use super::secret::Secret;
use super::secrets::{self, SecretSource};
use super::shape;
use super::value::HostPort;

const TIMEOUT: Duration = Duration::from_secs(5);

/// `payment_service`
#[derive(Debug, Clone)]
pub struct PaymentService {
    /// Where it answers gRPC.
    pub grpc_addr: HostPort,
    /// How long a call may take.
    pub timeout: Duration,
    /// Where a payer's browser goes afterwards, when the recharge does not say.
    pub return_url: Option<String>,
    /// Where callbacks are to come.
    pub notify_url: String,
    /// What callbacks are signed with; several while one is being changed. Only `serve` needs one.
    pub callback_secrets: Vec<Secret>,
    /// How the connection is protected, if it is.
    pub tls: Option<Tls>,
}

/// `payment_service.tls`
#[derive(Debug, Clone)]
pub struct Tls {
    /// Who vouches for the service, in PEM; without it, whom the system trusts.
    pub ca_pem: Option<Vec<u8>>,
    /// What this side shows.
    pub identity: Option<TlsIdentity>,
    /// The name in the service's certificate, when it is not that of its address.
    pub server_name: Option<String>,
}

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub struct TlsIdentity {
    /// The certificate, then those between it and its authority.
    pub cert_pem: Vec<u8>,
    /// Its private key.
    pub key_pem: Secret,
}

impl PaymentService {
    pub(super) fn read(
        block: shape::PaymentService,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let grpc_addr = block.grpc_addr.ok_or(ConfigError::Missing {
            field: "payment_service.grpc_addr",
            remedy: "write host and port, such as 127.0.0.1:9101, or remove payment_service",
        })?;
        let notify_url = block.notify_url.ok_or(ConfigError::Missing {
            field: "payment_service.notify_url",
            remedy: "write where callbacks reach this sidecar, such as http://localhost:8107/internal/v1/billing/callback, or remove payment_service",
        })?;
        let secret_file = block.callback_secret_file.as_ref().map(|path| path.0.as_path());
        let callback_secrets = secrets::webhook_secrets(&SecretSource {
            environment,
            variable: "FAREBOX_CALLBACK_SECRET",
            file_key: "payment_service.callback_secret_file",
            file: secret_file,
        })?;
        Ok(Self {
            grpc_addr: grpc_addr.0,
            timeout: block.timeout.map_or(TIMEOUT, |text| text.0.0),
            return_url: block.return_url.and_then(|text| text.0.0),
            notify_url: notify_url.0.0,
            callback_secrets,
            tls: block.tls.map(Tls::read).transpose()?,
        })
    }

    /// How the connection is protected, in words.
    pub fn protection(&self) -> &'static str {
        match &self.tls {
            None => "plain",
            Some(Tls { identity: None, .. }) => "TLS",
            Some(Tls { identity: Some(_), .. }) => "mutual TLS",
        }
    }
}

const CA_FILE: &str = "payment_service.tls.ca_file";
const CERT_FILE: &str = "payment_service.tls.cert_file";
const KEY_FILE: &str = "payment_service.tls.key_file";

impl Tls {
    fn read(block: shape::Tls) -> Result<Self, ConfigError> {
        let ca_pem = block.ca_file.map(|path| authorities(&path.0)).transpose()?;
        let identity = match (block.cert_file, block.key_file) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some(identity(&cert.0, &key.0)?),
            (Some(_), None) => {
                return Err(ConfigError::Missing {
                    field: KEY_FILE,
                    remedy: "name the file with the private key of payment_service.tls.cert_file, or remove cert_file",
                });
            }
            (None, Some(_)) => {
                return Err(ConfigError::Missing {
                    field: CERT_FILE,
                    remedy: "name the file with the certificate of payment_service.tls.key_file, or remove key_file",
                });
            }
        };
        Ok(Self {
            ca_pem: ca_pem.map(Into::into),
            identity,
            server_name: block.server_name.map(|text| text.0.0),
        })
    }
}

/// The certificates of those who vouch. One that nothing can be checked with would be passed over without a word later on.
fn authorities(path: &Path) -> Result<String, ConfigError> {
    let text = pem(CA_FILE, path, &CERTIFICATE)?;
    read_certificates(CA_FILE, path, &text)?;
    Ok(text)
}

/// A certificate and its key, checked to belong together.
fn identity(cert: &Path, key: &Path) -> Result<TlsIdentity, ConfigError> {
    let cert_pem = pem(CERT_FILE, cert, &CERTIFICATE)?;
    let key_pem = pem(KEY_FILE, key, &PRIVATE_KEY)?;
    let chain = read_certificates(CERT_FILE, cert, &cert_pem)?;
    let signing_key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .ok()
        .and_then(|der| any_supported_type(&der).ok())
        .ok_or_else(|| refused(KEY_FILE, key, PRIVATE_KEY.complaint.to_owned()))?;
    match CertifiedKey::new(chain, signing_key).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
            Ok(TlsIdentity { cert_pem: cert_pem.into(), key_pem: Secret::new(key_pem) })
        }
        Err(_) => {
            let complaint = format!(
                "holds another key than that of the first certificate in {}; name the files of one pair",
                cert.display()
            );
            Err(refused(KEY_FILE, key, complaint))
        }
    }
}

/// Every certificate in the text, each of which can be read.
fn read_certificates(
    key: &'static str,
    path: &Path,
    text: &str,
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let read = || -> Option<Vec<_>> {
        let mut sieve = RootCertStore::empty();
        let mut certificates = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
            let certificate = certificate.ok()?;
            sieve.add(certificate.clone()).ok()?;
            certificates.push(certificate);
        }
        (!certificates.is_empty()).then_some(certificates)
    };
    read().ok_or_else(|| refused(key, path, CERTIFICATE.complaint.to_owned()))
}

/// What a file must hold: the labels of RFC 7468 and what to say without one.
struct Content {
    labels: &'static [&'static str],
    complaint: &'static str,
}

const CERTIFICATE: Content = Content {
    labels: &["CERTIFICATE"],
    complaint: "holds no readable certificate; name a PEM file with -----BEGIN CERTIFICATE-----",
};

const PRIVATE_KEY: Content = Content {
    labels: &["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"],
    complaint: "holds no readable private key; name a PEM file with -----BEGIN PRIVATE KEY----- and without a password",
};

/// The text of a PEM file. The path is named, the text never: it may be a key.
fn pem(key: &'static str, path: &Path, content: &Content) -> Result<String, ConfigError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        // Bytes that are no text: the binary form of the same thing, most likely.
        Err(err) if err.kind() == io::ErrorKind::InvalidData => String::new(),
        Err(err) => {
            let complaint = format!("cannot be read: {err}; name a readable PEM file");
            return Err(refused(key, path, complaint));
        }
    };
    if has_block(&text, content.labels) {
        Ok(text)
    } else {
        Err(refused(key, path, content.complaint.to_owned()))
    }
}

fn refused(key: &'static str, path: &Path, complaint: String) -> ConfigError {
    ConfigError::Value { field: Field::new(key), value: path.display().to_string(), complaint }
}

/// Whether the text has a block with one of the labels, and every such block can be read.
fn has_block(text: &str, labels: &[&str]) -> bool {
    let mut count = 0;
    for label in labels {
        let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
        for rest in text.split(&begin).skip(1) {
            let body = rest.split_once(&end).map(|(body, _)| body.split_ascii_whitespace());
            let bytes = body.and_then(|lines| STANDARD.decode(lines.collect::<String>()).ok());
            if bytes.is_none_or(|bytes| bytes.is_empty()) {
                return false;
            }
            count += 1;
        }
    }
    0 < count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_of_pem_has_a_label_and_base64_up_to_its_end() {
        let block = |label: &str, body: &str| {
            format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
        };
        let good = block("CERTIFICATE", "AAEC\nAwQF");
        let read = |text: &str| has_block(text, CERTIFICATE.labels);
        assert!(read(&good));
        assert!(read(&good.replace('\n', "\r\n")), "lines may end as on Windows");
        assert!(
            read(&format!("subject=/CN=payment\n{good}{good}")),
            "remarks and chains are usual"
        );
        assert!(read(&format!("{}{good}", block("PRIVATE KEY", "AAEC"))), "one file may hold both");
        for bad in [
            String::new(),
            "payment".to_owned(),
            block("CERTIFICATE", ""),
            block("CERTIFICATE", "AAE!"),
            block("PRIVATE KEY", "AAEC"),
            good.replace("END", "NED"),
            format!("{good}{}", block("CERTIFICATE", "AAE!")),
        ] {
            assert!(!read(&bad), "{bad}");
        }
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"] {
            assert!(has_block(&block(label, "AAEC"), PRIVATE_KEY.labels), "{label}");
        }
        let locked = block("ENCRYPTED PRIVATE KEY", "AAEC");
        assert!(!has_block(&locked, PRIVATE_KEY.labels));
    }
}
