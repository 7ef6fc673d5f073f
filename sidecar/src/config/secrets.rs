//! Where secrets come from: a variable, or a file that a secret store mounts. Never from the YAML, which lies in git.

use std::fs;
use std::path::Path;

use super::dsn::DatabaseSource;
use super::environment::Environment;
use super::error::ConfigError;
use super::secret::Secret;
use super::shape;
use crate::webhook::CallbackKeys;

/// The two places of one secret. The variable wins, so that one process can differ from a shared file.
pub(crate) struct SecretSource<'c> {
    pub(crate) environment: &'c Environment,
    pub(crate) variable: &'static str,
    pub(crate) file_key: &'static str,
    pub(crate) file: Option<&'c Path>,
}

/// A secret and the name of the place it was found in.
pub(crate) struct Found {
    pub(crate) secret: Secret,
    pub(crate) place: &'static str,
}

impl SecretSource<'_> {
    /// The secret, if it stands in either place. A file that is named must be readable and hold something.
    pub(crate) fn read(&self) -> Result<Option<Found>, ConfigError> {
        if let Some(text) = self.environment.var(self.variable) {
            return Ok(Some(Found { secret: Secret::new(text), place: self.variable }));
        }
        let Some(path) = self.file else { return Ok(None) };
        let hidden = |complaint| ConfigError::Hidden { field: self.file_key.to_owned(), complaint };
        let text = fs::read_to_string(path).map_err(|err| {
            hidden(format!("is {:?}, which cannot be read: {err}; name a readable file", path))
        })?;
        let text = text.trim();
        if text.is_empty() {
            return Err(hidden(format!("is {path:?}, which is empty; write the secret into it")));
        }
        Ok(Some(Found { secret: Secret::new(text), place: self.file_key }))
    }
}

/// The tokens between commas: the next one may be let in before the old one goes.
pub(crate) fn tokens(source: &SecretSource<'_>) -> Result<Vec<Secret>, ConfigError> {
    let Some(Found { secret, place }) = source.read()? else { return Ok(Vec::new()) };
    let tokens = between_commas(&secret);
    let visible = |token: &Secret| token.expose().bytes().all(|byte| byte.is_ascii_graphic());
    if !tokens.iter().all(visible) {
        return Err(ConfigError::Hidden {
            field: place.to_owned(),
            complaint: "holds a token that no header can carry; write visible ASCII without spaces, and commas between tokens"
                .to_owned(),
        });
    }
    Ok(tokens)
}

/// The secrets that callbacks or events are signed with, checked to be keys.
pub(crate) fn webhook_secrets(source: &SecretSource<'_>) -> Result<Vec<Secret>, ConfigError> {
    let Some(Found { secret, place }) = source.read()? else { return Ok(Vec::new()) };
    let secrets = between_commas(&secret);
    CallbackKeys::new(&secrets).map_err(|err| ConfigError::Hidden {
        field: place.to_owned(),
        complaint: err.to_string(),
    })?;
    Ok(secrets)
}

fn between_commas(secret: &Secret) -> Vec<Secret> {
    let parts = secret.expose().split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(Secret::new).collect()
}

/// Where the database is. The key in the file is allowed here, as the predecessor has it, next to the two safer places.
pub(crate) fn database_source(
    block: &shape::Database,
    environment: &Environment,
) -> Result<DatabaseSource, ConfigError> {
    const KEY: &str = "data.database.source";
    const FILE_KEY: &str = "data.database.source_file";
    let file = block.source_file.as_ref().map(|path| path.0.as_path());
    let outside =
        SecretSource { environment, variable: "FAREBOX_DATABASE_SOURCE", file_key: FILE_KEY, file };
    let in_file = block.source.as_ref().map(|text| text.0.as_str());
    if in_file.is_some() && file.is_some() {
        return Err(ConfigError::Both { first: KEY, second: FILE_KEY });
    }
    let (secret, place) = match (outside.read()?, in_file) {
        (Some(Found { secret, place }), _) => (secret, place),
        (None, Some(text)) => (Secret::new(text), KEY),
        (None, None) => {
            return Err(ConfigError::Missing {
                field: KEY,
                remedy: "set FAREBOX_DATABASE_SOURCE, or data.database.source_file to a file that holds user:password@tcp(host:3306)/database",
            });
        }
    };
    secret.expose().parse().map_err(|err: super::DsnError| ConfigError::Hidden {
        field: place.to_owned(),
        complaint: err.to_string(),
    })
}
