//! The plugin configuration: read once, refused as a whole with the exact field when anything in it is wrong.

use std::fmt;

use farebox_core::id::GatewayId;
use farebox_core::money::Nanos;
use serde_json::{Map, Value as Json};

use crate::identity::Source;
use crate::risk::Budget;
use crate::rule::{FIELDS, FieldError, Partial, Place, RuleTable, Value};

/// A valid configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// This Envoy's name at the sidecar; absent: Envoy's `node.id`.
    pub gateway: Option<GatewayId>,
    /// How the sidecar is reached.
    pub sidecar: Sidecar,
    /// How often usage is reported, in milliseconds.
    pub sync_interval_ms: u64,
    /// How long a call waits for units at most, in milliseconds.
    pub max_wait_ms: u64,
    /// A lease unused for this long is given back, in milliseconds.
    pub idle_return_ms: u64,
    /// The most that the sidecar may lend this process; absent: any amount.
    pub max_at_risk: Option<Budget>,
    /// Where the payer's name is found, in order.
    pub identity: Vec<Source>,
    /// What each route costs.
    pub rules: RuleTable,
    /// Whether admitted calls tell what they cost.
    pub response_headers: bool,
}

/// How the sidecar is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sidecar {
    /// The Envoy cluster.
    pub cluster: String,
    /// The `:authority` of the calls.
    pub authority: String,
    /// How long a call may take, in milliseconds.
    pub timeout_ms: u64,
    /// Where the gateway's token is found.
    pub token: Token,
}

impl fmt::Debug for Token {
    /// Without the token itself: a configuration may be logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(…)"),
            Self::Env(name) => write!(f, "Env({name:?})"),
        }
    }
}

/// Where the gateway's token is found.
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    /// In the configuration itself.
    Text(String),
    /// In this variable of the VM's environment.
    Env(String),
}

/// Reads an object's fields and refuses those that nobody asked for.
struct Fields<'a> {
    path: String,
    map: &'a Map<String, Json>,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    fn new(path: &str, json: &'a Json) -> Result<Self, FieldError> {
        let place = if path.is_empty() { "the configuration" } else { path };
        let map = json.as_object().ok_or_else(|| wrong(place, json, "write an object"))?;
        Ok(Self { path: path.to_owned(), map, known: Vec::new() })
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn take(&mut self, name: &'static str) -> Option<&'a Json> {
        self.known.push(name);
        self.map.get(name)
    }

    fn text(&mut self, name: &'static str) -> Result<Option<&'a str>, FieldError> {
        match self.take(name) {
            None => Ok(None),
            Some(Json::String(text)) if !text.is_empty() => Ok(Some(text)),
            Some(other) => Err(wrong(&self.path_of(name), other, "write a text that is not empty")),
        }
    }

    fn required(&mut self, name: &'static str, remedy: &str) -> Result<&'a str, FieldError> {
        self.text(name)?.ok_or_else(|| missing(&self.path_of(name), remedy))
    }

    fn flag(&mut self, name: &'static str, default: bool) -> Result<bool, FieldError> {
        match self.take(name) {
            None => Ok(default),
            Some(Json::Bool(value)) => Ok(*value),
            Some(other) => Err(wrong(&self.path_of(name), other, "write true or false")),
        }
    }

    /// A duration such as `200ms`, in milliseconds, within bounds.
    fn duration(
        &mut self,
        name: &'static str,
        default: u64,
        (least, most): (u64, u64),
    ) -> Result<u64, FieldError> {
        let Some(json) = self.take(name) else { return Ok(default) };
        let parsed = json.as_str().and_then(parse_duration);
        parsed.filter(|ms| (least..=most).contains(ms)).ok_or_else(|| {
            let remedy =
                format!("write a duration from {least}ms to {most}ms, such as \"{default}ms\"");
            wrong(&self.path_of(name), json, &remedy)
        })
    }

    fn list(&mut self, name: &'static str, remedy: &str) -> Result<&'a [Json], FieldError> {
        match self.take(name) {
            Some(Json::Array(items)) if !items.is_empty() => Ok(items),
            Some(other) => Err(wrong(&self.path_of(name), other, remedy)),
            None => Err(missing(&self.path_of(name), remedy)),
        }
    }

    fn finish(self) -> Result<(), FieldError> {
        match self.map.iter().find(|(name, _)| !self.known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, value)) => {
                let remedy = format!("is not known here; known are {}", self.known.join(", "));
                Err(wrong(&self.path_of(name), value, &remedy))
            }
        }
    }
}

fn wrong(field: &str, value: &Json, remedy: &str) -> FieldError {
    FieldError { field: field.to_owned(), value: value.to_string(), remedy: remedy.to_owned() }
}

fn missing(field: &str, remedy: &str) -> FieldError {
    FieldError { field: field.to_owned(), value: "missing".to_owned(), remedy: remedy.to_owned() }
}

/// `250ms`, `2s` or `5m` in milliseconds.
fn parse_duration(text: &str) -> Option<u64> {
    let split = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(split)?;
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

impl Config {
    /// Reads a configuration.
    pub fn parse(bytes: &[u8]) -> Result<Self, FieldError> {
        let json = read_json(bytes)?;
        let mut fields = Fields::new("", &json)?;
        let gateway = fields.text("gateway")?;
        let gateway = gateway.map(|text| parse_gateway("gateway", text)).transpose()?;
        let sidecar = fields.take("sidecar");
        let sidecar = Sidecar::parse(sidecar.ok_or_else(|| {
            missing(
                "sidecar",
                "write {cluster: …, token_env: …}: how the Farebox sidecar is reached",
            )
        })?)?;
        let config = Self {
            gateway,
            sync_interval_ms: fields.duration("sync_interval", 200, (20, 10_000))?,
            max_wait_ms: fields.duration("max_wait", 2_000, (10, 60_000))?,
            idle_return_ms: fields.duration("idle_return", 5_000, (100, 600_000))?,
            max_at_risk: parse_budget(&mut fields)?,
            identity: parse_identity(&mut fields)?,
            rules: parse_rules(&mut fields)?,
            response_headers: fields.flag("response_headers", true)?,
            sidecar,
        };
        fields.finish()?;
        Ok(config)
    }
}

/// Reads JSON, or the `Struct` that says the same.
fn read_json(bytes: &[u8]) -> Result<Json, FieldError> {
    if let Some(json) = crate::protobuf::decode_struct(bytes).filter(|_| !bytes.is_empty()) {
        return Ok(json);
    }
    serde_json::from_slice(bytes).map_err(|err| FieldError {
        field: "the configuration".to_owned(),
        value: format!("no JSON ({err})"),
        remedy: "write it as google.protobuf.Struct, or as JSON in google.protobuf.StringValue"
            .to_owned(),
    })
}

/// Reads a gateway's name.
pub fn parse_gateway(field: &str, text: &str) -> Result<GatewayId, FieldError> {
    text.parse().map_err(|err| FieldError {
        field: field.to_owned(),
        value: format!("{text:?}"),
        remedy: format!("{err}; set `gateway` to a name of your own"),
    })
}

impl Sidecar {
    fn parse(json: &Json) -> Result<Self, FieldError> {
        let mut fields = Fields::new("sidecar", json)?;
        let cluster =
            fields.required("cluster", "write the Envoy cluster of the sidecar")?.to_owned();
        let authority = fields.text("authority")?.unwrap_or("farebox").to_owned();
        let timeout_ms = fields.duration("timeout", 1_000, (10, 30_000))?;
        let token = match (fields.text("token")?, fields.text("token_env")?) {
            (Some(token), None) => Token::Text(token.to_owned()),
            (None, Some(name)) => Token::Env(name.to_owned()),
            (None, None) => {
                return Err(missing(
                    "sidecar.token_env",
                    "name the environment variable with the gateway's token",
                ));
            }
            (Some(_), Some(_)) => {
                return Err(missing("sidecar.token", "write token or token_env, not both"));
            }
        };
        fields.finish()?;
        Ok(Self { cluster, authority, timeout_ms, token })
    }
}

fn parse_budget(fields: &mut Fields<'_>) -> Result<Option<Budget>, FieldError> {
    let name = "max_at_risk";
    let Some(json) = fields.take(name) else { return Ok(None) };
    let remedy = "write a decimal string above zero such as \"5.00\", or leave it out for no bound";
    let Some(text) = json.as_str() else { return Err(wrong(name, json, remedy)) };
    let amount: Nanos =
        text.parse().map_err(|err| wrong(name, json, &format!("{err}; {remedy}")))?;
    Budget::new(amount).map(Some).ok_or_else(|| wrong(name, json, remedy))
}

fn parse_identity(fields: &mut Fields<'_>) -> Result<Vec<Source>, FieldError> {
    let remedy = "write a list such as [{header: x-user-id}]: who pays must be known";
    let items = fields.list("identity", remedy)?;
    items
        .iter()
        .enumerate()
        .map(|(index, json)| parse_source(&format!("identity[{index}]"), json))
        .collect()
}

fn parse_source(path: &str, json: &Json) -> Result<Source, FieldError> {
    let mut fields = Fields::new(path, json)?;
    let header = fields.text("header")?.map(str::to_ascii_lowercase);
    let claim = fields.take("jwt_claim");
    let source = match (header, claim) {
        (Some(name), None) => Source::Header(name),
        (None, Some(json)) => {
            let mut fields = Fields::new(&format!("{path}.jwt_claim"), json)?;
            let payload =
                fields.required("payload", "write jwt_authn's payload_in_metadata")?.to_owned();
            let claim = fields.text("claim")?.unwrap_or("sub").to_owned();
            fields.finish()?;
            Source::JwtClaim { payload, claim }
        }
        (None, None) | (Some(_), Some(_)) => {
            return Err(wrong(
                path,
                json,
                "write {header: NAME} or {jwt_claim: {payload: …, claim: …}}",
            ));
        }
    };
    fields.finish()?;
    Ok(source)
}

fn parse_rules(fields: &mut Fields<'_>) -> Result<RuleTable, FieldError> {
    let mut table = RuleTable::default();
    let Some(json) = fields.take("rules") else { return Ok(table) };
    let items = json.as_array().ok_or_else(|| wrong("rules", json, "write a list of rules"))?;
    for (index, json) in items.iter().enumerate() {
        let path = format!("rules[{index}]");
        let (place, rule) = parse_rule(&path, json)?;
        if !table.push(place, rule) {
            return Err(wrong(
                &path,
                json,
                "the same route or prefix is given twice; remove one of the two",
            ));
        }
    }
    Ok(table)
}

fn parse_rule(path: &str, json: &Json) -> Result<(Place, Partial), FieldError> {
    let mut fields = Fields::new(path, json)?;
    let place = match (fields.text("route")?, fields.text("prefix")?) {
        (Some(route), None) => Place::Route(route.to_owned()),
        (None, Some(prefix)) if prefix.starts_with('/') => Place::Prefix(prefix.to_owned()),
        (None, Some(prefix)) => {
            let value = Json::String(prefix.to_owned());
            return Err(wrong(
                &format!("{path}.prefix"),
                &value,
                "write a path that begins with /",
            ));
        }
        (None, None) | (Some(_), Some(_)) => {
            return Err(wrong(path, json, "write either route: NAME or prefix: /PATH"));
        }
    };
    let mut rule = Partial::default();
    for name in FIELDS {
        if let Some(json) = fields.take(name) {
            rule.set(path, name, &value_of(json))?;
        }
    }
    fields.finish()?;
    // Without a service the rule says nothing about who is charged for what.
    if rule.complete(path)?.is_none() {
        return Err(missing(
            &format!("{path}.service"),
            "write a service name, or \"none\" to pass unmetered",
        ));
    }
    Ok((place, rule))
}

fn value_of(json: &Json) -> Value {
    match json {
        Json::String(text) => Value::Text(text.clone()),
        // A Struct turns every number into a double, so a whole one may arrive as 3.0.
        Json::Number(number) => {
            let text = number.to_string();
            Value::Number(text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned))
        }
        Json::Bool(value) => Value::Bool(*value),
        Json::Null | Json::Array(_) | Json::Object(_) => Value::Other(json.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn minimal() -> Json {
        serde_json::json!({
            "sidecar": {"cluster": "farebox_sidecar", "token_env": "FAREBOX_GATEWAY_TOKEN"},
            "identity": [{"header": "X-User-Id"}],
            "rules": [{"prefix": "/", "service": "passport"}],
        })
    }

    fn error(change: impl FnOnce(&mut Json)) -> String {
        let mut json = minimal();
        change(&mut json);
        Config::parse(json.to_string().as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn the_smallest_configuration_has_the_documented_defaults() {
        let config = Config::parse(minimal().to_string().as_bytes()).unwrap();
        assert_eq!(config.gateway, None);
        assert_eq!(
            (config.sync_interval_ms, config.max_wait_ms, config.idle_return_ms),
            (200, 2_000, 5_000)
        );
        assert_eq!(config.sidecar.timeout_ms, 1_000);
        assert_eq!(config.max_at_risk, None);
        assert_eq!(config.identity, [Source::Header("x-user-id".to_owned())]);
        assert!(config.response_headers);
    }

    #[test]
    fn every_mistake_is_named_with_field_value_and_remedy() {
        for (message, expected) in [
            (
                error(|c| c["sidecar"]["cluster"] = Json::Null),
                "sidecar.cluster is null: write a text that is not empty",
            ),
            (
                error(|c| c["sidecar"] = serde_json::json!({"cluster": "c"})),
                "sidecar.token_env is missing: name the environment variable with the gateway's token",
            ),
            (
                error(|c| c["sync_interval"] = "5".into()),
                "sync_interval is \"5\": write a duration from 20ms to 10000ms, such as \"200ms\"",
            ),
            (
                error(|c| c["identity"] = Json::Null),
                "identity is null: write a list such as [{header: x-user-id}]: who pays must be known",
            ),
            (
                error(|c| c["identity"][0] = serde_json::json!({"cookie": "a"})),
                "identity[0] is {\"cookie\":\"a\"}: write {header: NAME} or {jwt_claim: {payload: …, claim: …}}",
            ),
            (
                error(|c| c["rules"][0]["price"] = "1e3".into()),
                "rules[0].price is \"1e3\": \"1e3\" is not a decimal number such as 0.002; write a decimal string such as \"0.002\"",
            ),
            (
                error(|c| c["rules"][0]["cost"] = "1".into()),
                "rules[0].cost is \"1\": is not known here; known are route, prefix, service, price, units, mode, charge_on, on_unreachable, shadow, assert_identity",
            ),
            (
                error(|c| c["rules"][0]["assert_identity"] = true.into()),
                "rules[0].assert_identity is true, and the service is \"passport\": only routes with service \"none\" tell who calls; write service: none, or leave assert_identity out",
            ),
            (
                error(|c| c["rules"][0]["assert_identity"] = 1.into()),
                "rules[0].assert_identity is 1: write true or false",
            ),
            (
                error(|c| c["rules"][0] = serde_json::json!({"prefix": "/"})),
                "rules[0].service is missing: write a service name, or \"none\" to pass unmetered",
            ),
            (
                error(|c| c["rules"][0] = serde_json::json!({"prefix": "v1", "service": "a"})),
                "rules[0].prefix is \"v1\": write a path that begins with /",
            ),
        ] {
            assert_eq!(message, expected);
        }
        let twice = error(|c| {
            let rule = c["rules"][0].clone();
            c["rules"].as_array_mut().unwrap().push(rule);
        });
        assert!(twice.contains("the same route or prefix is given twice"), "{twice}");
        assert!(error(|c| c["rule"] = Json::Null).starts_with("rule is null: is not known here"));
        assert!(
            Config::parse(b"{")
                .unwrap_err()
                .to_string()
                .starts_with("the configuration is no JSON")
        );
    }

    #[test]
    fn a_budget_that_is_none_is_named_with_value_and_remedy() {
        let remedy =
            "write a decimal string above zero such as \"5.00\", or leave it out for no bound";
        for (value, said) in [
            (Json::from(5), "max_at_risk is 5: "),
            (Json::from("0"), "max_at_risk is \"0\": "),
            (Json::from("-1"), "max_at_risk is \"-1\": "),
            (
                Json::from("5 EUR"),
                "max_at_risk is \"5 EUR\": \"5 EUR\" is not a decimal number such as 0.002; ",
            ),
        ] {
            let mut json = minimal();
            json["max_at_risk"] = value;
            let message = Config::parse(json.to_string().as_bytes()).unwrap_err().to_string();
            assert_eq!(message, format!("{said}{remedy}"));
        }
    }

    #[test]
    fn whole_numbers_of_a_struct_are_units() {
        let mut json = minimal();
        json["rules"][0]["units"] = serde_json::json!(3.0);
        assert!(Config::parse(json.to_string().as_bytes()).is_ok());
    }
}
