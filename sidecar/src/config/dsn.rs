//! Where the database is: a Go DSN as the predecessor wrote it, or a `mysql://` URL.

use std::fmt;
use std::str::FromStr;

use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};

const PORT: u16 = 3306;
const URL_SCHEME: &str = "mysql://";

/// Connection options whose `Debug` and `Display` hide the password.
#[derive(Clone)]
pub struct DatabaseSource {
    options: MySqlConnectOptions,
    /// Parameters that were read over, by name.
    ignored: Vec<&'static str>,
}

/// Why a text names no database. The text is never repeated: it holds a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DsnError {
    /// Neither of the two forms.
    #[error(
        "has no {0}; write user:password@tcp(127.0.0.1:3306)/billing_service or mysql://user:password@127.0.0.1:3306/billing_service"
    )]
    Lacks(&'static str),
    /// A network that Go knows and this program does not.
    #[error(
        "names no network that is known here; write user:password@tcp(host:port)/database or user:password@unix(/path/to/socket)/database"
    )]
    Network,
    /// A port that is no number.
    #[error("has no readable port; write a number from 1 to 65535, or leave it out for 3306")]
    Port,
    /// A parameter that would change how the connection works.
    #[error("has the parameter {0:?}, which is not known here; remove it")]
    Parameter(String),
    /// A value that a parameter cannot have.
    #[error("has {parameter}={value:?}; write {remedy}")]
    ParameterValue {
        /// The parameter's name.
        parameter: &'static str,
        /// Its value.
        value: String,
        /// What may stand there.
        remedy: &'static str,
    },
    /// A URL that cannot be read.
    #[error(
        "is no readable URL; write mysql://user:password@127.0.0.1:3306/billing_service and percent-encode special characters"
    )]
    Url,
}

impl DatabaseSource {
    /// The options for a connection.
    pub fn options(&self) -> &MySqlConnectOptions {
        &self.options
    }

    /// Parameters of a Go DSN that were read over though they said something.
    pub(crate) fn ignored(&self) -> &[&'static str] {
        &self.ignored
    }

    /// Times are UTC and texts utf8mb4 whatever the source says: months and account ids depend on it.
    fn new(options: MySqlConnectOptions) -> Result<Self, DsnError> {
        if options.get_database().is_none_or(str::is_empty) {
            return Err(DsnError::Lacks("database name"));
        }
        let options = options.timezone(Some("+00:00".to_owned())).charset("utf8mb4");
        Ok(Self { options, ignored: Vec::new() })
    }
}

impl FromStr for DatabaseSource {
    type Err = DsnError;

    fn from_str(text: &str) -> Result<Self, DsnError> {
        if text.starts_with(URL_SCHEME) {
            return Self::new(text.parse().map_err(|_| DsnError::Url)?);
        }
        // Go takes the last slash, so that a password may hold one, and the last @ before it.
        let (head, tail) = text.rsplit_once('/').ok_or(DsnError::Lacks("database name"))?;
        let (login, network) = head.rsplit_once('@').unwrap_or(("", head));
        let (database, parameters) = tail.split_once('?').unwrap_or((tail, ""));
        let options = MySqlConnectOptions::new().database(database);
        // The network goes first: what follows a question mark is repeated in an error, and only behind a well-formed
        // network is it certain to be a parameter and not a piece of the password.
        let options = with_network(with_login(options, login), network)?;
        let source = Self::new(with_parameters(options, parameters)?)?;
        let is_given = |name: &&'static str| {
            parameters.split('&').any(|parameter| parameter.split('=').next() == Some(*name))
        };
        // That times are parsed changes nothing: they always are.
        let names = WITHOUT_EFFECT.into_iter().filter(|name| *name != "parseTime");
        Ok(Self { ignored: names.filter(is_given).collect(), ..source })
    }
}

fn with_login(options: MySqlConnectOptions, login: &str) -> MySqlConnectOptions {
    match login.split_once(':') {
        Some((user, password)) => options.username(user).password(password),
        None => options.username(login),
    }
}

fn with_network(
    options: MySqlConnectOptions,
    network: &str,
) -> Result<MySqlConnectOptions, DsnError> {
    let (kind, address) = match network.split_once('(') {
        Some((kind, rest)) => {
            (kind, rest.strip_suffix(')').ok_or(DsnError::Lacks("closing parenthesis"))?)
        }
        None => (network, ""),
    };
    match kind {
        "" | "tcp" => {
            let (host, port) = host_and_port(address)?;
            Ok(options.host(&host).port(port))
        }
        "unix" => {
            let path = if address.is_empty() { "/tmp/mysql.sock" } else { address };
            Ok(options.socket(path))
        }
        _ => Err(DsnError::Network),
    }
}

fn host_and_port(address: &str) -> Result<(String, u16), DsnError> {
    let bare_ipv6 = address.starts_with('[') && address.ends_with(']');
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !bare_ipv6 => {
            let number = port.parse().ok().filter(|&number| number != 0);
            (host, number.ok_or(DsnError::Port)?)
        }
        Some(_) | None => (address, PORT),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    Ok((host.to_owned(), port))
}

/// Parameters that only tell the Go driver how to read values, or that the pool decides here.
const WITHOUT_EFFECT: [&str; 10] = [
    "parseTime",
    "loc",
    "timeout",
    "readTimeout",
    "writeTimeout",
    "interpolateParams",
    "allowNativePasswords",
    "checkConnLiveness",
    "maxAllowedPacket",
    "clientFoundRows",
];

fn with_parameters(
    mut options: MySqlConnectOptions,
    parameters: &str,
) -> Result<MySqlConnectOptions, DsnError> {
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let bad = |parameter, remedy| {
            Err(DsnError::ParameterValue { parameter, value: value.to_owned(), remedy })
        };
        match name {
            "tls" => {
                let Some(mode) = tls_mode(value) else {
                    return bad("tls", "true, false, preferred or skip-verify");
                };
                options = options.ssl_mode(mode);
            }
            "charset" if !value.split(',').any(|charset| charset.starts_with("utf8")) => {
                return bad("charset", "utf8mb4");
            }
            "collation" if !value.starts_with("utf8") => return bad("collation", "utf8mb4_bin"),
            "charset" | "collation" => {}
            known if WITHOUT_EFFECT.contains(&known) => {}
            unknown => return Err(DsnError::Parameter(unknown.to_owned())),
        }
    }
    Ok(options)
}

/// Without the parameter the connection is encrypted when the server can, which MySQL's default login needs.
fn tls_mode(value: &str) -> Option<MySqlSslMode> {
    match value {
        "true" | "True" | "TRUE" | "1" => Some(MySqlSslMode::VerifyIdentity),
        "false" | "False" | "FALSE" | "0" => Some(MySqlSslMode::Disabled),
        "preferred" => Some(MySqlSslMode::Preferred),
        "skip-verify" => Some(MySqlSslMode::Required),
        _ => None,
    }
}

impl fmt::Display for DatabaseSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &self.options;
        let database = options.get_database().unwrap_or_default();
        write!(f, "{}@", options.get_username())?;
        match options.get_socket() {
            Some(path) => write!(f, "unix({})/{database}", path.display()),
            None => {
                let (host, port) = (options.get_host(), options.get_port());
                let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
                write!(f, "tcp({open}{host}{close}:{port})/{database}")
            }
        }
    }
}

impl fmt::Debug for DatabaseSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseSource({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match text.parse::<DatabaseSource>() {
            Ok(source) => format!("{source} {:?}", source.options().get_ssl_mode()),
            Err(err) => err.to_string(),
        }
    }

    #[test]
    fn both_forms_are_read_as_their_drivers_read_them() {
        for (text, expected) in [
            (
                "root:pw@tcp(127.0.0.1:3306)/billing_service?charset=utf8mb4&parseTime=True&loc=Local",
                "root@tcp(127.0.0.1:3306)/billing_service Preferred",
            ),
            ("root:p@ss/w:rd@tcp(db)/b", "root@tcp(db:3306)/b Preferred"),
            ("root@tcp([::1]:3307)/b?tls=skip-verify", "root@tcp([::1]:3307)/b Required"),
            ("root@tcp([::1])/b?tls=true", "root@tcp([::1]:3306)/b VerifyIdentity"),
            (
                "u@unix(/run/mysqld/mysqld.sock)/b?tls=false",
                "u@unix(/run/mysqld/mysqld.sock)/b Disabled",
            ),
            ("u:p@/b", "u@tcp(127.0.0.1:3306)/b Preferred"),
            ("mysql://u:p%40ss@db:3307/b?ssl-mode=REQUIRED", "u@tcp(db:3307)/b Required"),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_source_that_cannot_be_read_is_refused_without_repeating_it() {
        for (text, expected) in [
            ("root:s3cret@tcp(127.0.0.1:3306)", "has no database name; write "),
            ("root:s3cret@tcp(127.0.0.1:3306)/", "has no database name; write "),
            ("mysql://root:s3cret@127.0.0.1:3306", "has no database name; write "),
            ("root:s3cret@tcp(127.0.0.1:3306/b", "has no closing parenthesis; write "),
            ("root:s3cret@udp(127.0.0.1:3306)/b", "names no network that is known here; write "),
            ("root:s3cret/b", "names no network that is known here; write "),
            ("root:p/a?s3cret@tcp(db)", "names no network that is known here; write "),
            ("root:s3cret@tcp(127.0.0.1:port)/b", "has no readable port; write "),
            ("root:s3cret@/b?parsetime=1", "has the parameter \"parsetime\", which is not known"),
            ("root:s3cret@/b?charset=latin1", "has charset=\"latin1\"; write utf8mb4"),
            ("root:s3cret@/b?tls=custom", "has tls=\"custom\"; write true, false"),
            ("mysql://root:s3cret@host:port/b", "is no readable URL; write "),
        ] {
            let complaint = read(text);
            assert!(complaint.starts_with(expected), "{text:?}: {complaint}");
            assert!(!complaint.contains("s3cret"), "{complaint}");
        }
    }

    #[test]
    fn no_print_of_a_source_shows_its_password() {
        let source: DatabaseSource = "root:s3cret@tcp(db:3306)/b".parse().unwrap();
        assert_eq!(format!("{source:?}"), "DatabaseSource(root@tcp(db:3306)/b)");
    }
}
