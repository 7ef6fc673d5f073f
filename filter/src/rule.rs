//! The rule of a route: what a call is metered as, at which price, and what happens when no unit is to be had.
//!
//! A rule is put together field by field: from the table in the plugin configuration, found by route name or else by
//! the longest path prefix, and from the route's own metadata (namespace `farebox`), which wins.

use std::fmt;

use farebox_core::id::ServiceName;
use farebox_core::limits::UNITS_MAX;
use farebox_core::money::Nanos;

use crate::record::ChargeOn;

/// What happens when a route's call has no unit and the sidecar cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUnreachable {
    /// The call is refused.
    Deny,
    /// The call is forwarded; its units are charged once the sidecar is back.
    Allow,
    /// Like `Allow`, for at most this many units per account, service and price.
    Grace(u64),
}

impl OnUnreachable {
    /// How many units may be allowed and not yet acknowledged.
    pub fn limit(self) -> u64 {
        match self {
            Self::Deny => 0,
            Self::Allow => UNITS_MAX,
            Self::Grace(units) => units,
        }
    }
}

/// Who decides about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// This gateway, from units that were set aside for it.
    Lease,
    /// The sidecar, about each call.
    Strict,
}

/// A complete rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// `service: none`: the call passes and nobody pays.
    Unmetered,
    /// `service: none` with `assert_identity`: nobody pays, and the service is told who calls.
    Asserted {
        /// Whether callers without an identity pass too, without the assertion.
        shadow: bool,
    },
    /// The call is charged.
    Metered(Metered),
}

/// How a route's calls are charged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metered {
    /// What is metered.
    pub service: ServiceName,
    /// Price per unit on this route; absent: the price book's.
    pub price: Option<Nanos>,
    /// Units per call; 0 lets known callers pass without a charge.
    pub units: u64,
    /// When units count as used.
    pub charge_on: ChargeOn,
    /// What happens without unit and sidecar.
    pub on_unreachable: OnUnreachable,
    /// Who decides about a call.
    pub mode: Mode,
    /// Whether calls are charged but never refused.
    pub shadow: bool,
}

/// A field that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field, for instance `rules[2].price`.
    pub field: String,
    /// What stands there.
    pub value: String,
    /// What is wrong with it and what to write instead.
    pub remedy: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}: {}", self.field, self.value, self.remedy)
    }
}

/// A value of a rule field, from JSON or from route metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A string.
    Text(String),
    /// A number; kept as its shortest decimal text.
    Number(String),
    /// A truth value.
    Bool(bool),
    /// Anything else, as it was written.
    Other(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Number(text) | Self::Other(text) => f.write_str(text),
            Self::Bool(value) => write!(f, "{value}"),
        }
    }
}

/// The fields that a rule may give.
pub const FIELDS: [&str; 8] = [
    "service",
    "price",
    "units",
    "mode",
    "charge_on",
    "on_unreachable",
    "shadow",
    "assert_identity",
];

/// A rule as far as one place gives it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partial {
    service: Option<Option<ServiceName>>,
    price: Option<Nanos>,
    units: Option<u64>,
    charge_on: Option<ChargeOn>,
    on_unreachable: Option<OnUnreachable>,
    mode: Option<Mode>,
    shadow: Option<bool>,
    assert_identity: Option<bool>,
}

impl Partial {
    /// Sets a field. `place` is what the error calls the rule, for instance `rules[2]`.
    pub fn set(&mut self, place: &str, name: &str, value: &Value) -> Result<(), FieldError> {
        let wrong = |remedy: String| FieldError {
            field: format!("{place}.{name}"),
            value: value.to_string(),
            remedy,
        };
        let choice = |allowed: &str| wrong(format!("write {allowed}"));
        match (name, value) {
            ("service", Value::Text(text)) if text == "none" => self.service = Some(None),
            ("service", Value::Text(text)) => {
                let service = text.parse().map_err(|err| wrong(format!("{err}")))?;
                self.service = Some(Some(service));
            }
            ("service", _) => return Err(choice("a service name, or \"none\" to pass unmetered")),
            ("price", Value::Text(text)) => self.price = Some(parse_price(text).map_err(wrong)?),
            ("price", _) => return Err(choice("the price as a decimal string such as \"0.002\"")),
            ("units", Value::Text(text) | Value::Number(text)) => {
                self.units = Some(parse_units(text).ok_or_else(|| choice("0 to 2147483647"))?);
            }
            ("units", _) => return Err(choice("0 to 2147483647")),
            ("mode", Value::Text(text)) if text == "lease" => self.mode = Some(Mode::Lease),
            ("mode", Value::Text(text)) if text == "strict" => self.mode = Some(Mode::Strict),
            ("mode", _) => return Err(choice("\"lease\" or \"strict\"")),
            ("charge_on", Value::Text(text)) if text == "request" => {
                self.charge_on = Some(ChargeOn::Request);
            }
            ("charge_on", Value::Text(text)) if text == "success" => {
                self.charge_on = Some(ChargeOn::Success);
            }
            ("charge_on", _) => return Err(choice("\"request\" or \"success\"")),
            ("on_unreachable", value) => {
                let parsed = match value {
                    Value::Text(text) => parse_on_unreachable(text),
                    Value::Number(_) | Value::Bool(_) | Value::Other(_) => None,
                };
                let allowed = "\"deny\", \"allow\", or \"grace(N)\" with N from 1 to 2147483647";
                self.on_unreachable = Some(parsed.ok_or_else(|| choice(allowed))?);
            }
            ("shadow" | "assert_identity", value) => {
                let flag = Some(parse_flag(value).ok_or_else(|| choice("true or false"))?);
                if name == "shadow" { self.shadow = flag } else { self.assert_identity = flag }
            }
            (_, _) => {
                return Err(wrong(format!("is not a rule field; known are {}", FIELDS.join(", "))));
            }
        }
        Ok(())
    }

    /// Takes what `other` gives, and the rest from here.
    #[must_use]
    pub fn overridden_by(&self, other: &Self) -> Self {
        Self {
            service: other.service.clone().or_else(|| self.service.clone()),
            price: other.price.or(self.price),
            units: other.units.or(self.units),
            charge_on: other.charge_on.or(self.charge_on),
            on_unreachable: other.on_unreachable.or(self.on_unreachable),
            mode: other.mode.or(self.mode),
            shadow: other.shadow.or(self.shadow),
            assert_identity: other.assert_identity.or(self.assert_identity),
        }
    }

    /// The complete rule; `None` when no place names a service. `place` is what the error calls the rule.
    pub fn complete(&self, place: &str) -> Result<Option<Rule>, FieldError> {
        let shadow = self.shadow.unwrap_or(false);
        let rule = match (&self.service, self.assert_identity.unwrap_or(false)) {
            (None, _) => return Ok(None),
            (Some(None), false) => Rule::Unmetered,
            (Some(None), true) => Rule::Asserted { shadow },
            // The service of a metered route is somebody else's, who could show the assertion to the sidecar.
            (Some(Some(service)), true) => {
                return Err(FieldError {
                    field: format!("{place}.assert_identity"),
                    value: format!("true, and the service is {:?}", service.as_str()),
                    remedy: "only routes with service \"none\" tell who calls; write service: none, or leave assert_identity out"
                        .to_owned(),
                });
            }
            (Some(Some(service)), false) => Rule::Metered(Metered {
                service: service.clone(),
                price: self.price,
                units: self.units.unwrap_or(1),
                charge_on: self.charge_on.unwrap_or(ChargeOn::Request),
                on_unreachable: self.on_unreachable.unwrap_or(OnUnreachable::Deny),
                mode: self.mode.unwrap_or(Mode::Lease),
                shadow,
            }),
        };
        Ok(Some(rule))
    }
}

fn parse_flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::Text(text) => text.parse().ok(),
        Value::Number(_) | Value::Other(_) => None,
    }
}

fn parse_price(text: &str) -> Result<Nanos, String> {
    let remedy = "write a decimal string such as \"0.002\"";
    match text.parse::<Nanos>() {
        Ok(price) if price.is_negative() => Err(format!("must not be negative; {remedy}")),
        Ok(price) => Ok(price),
        Err(err) => Err(format!("{err}; {remedy}")),
    }
}

fn parse_units(text: &str) -> Option<u64> {
    let digits_only = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let units: u64 = if digits_only { text.parse().ok()? } else { return None };
    (units <= UNITS_MAX).then_some(units)
}

fn parse_on_unreachable(text: &str) -> Option<OnUnreachable> {
    match text {
        "deny" => Some(OnUnreachable::Deny),
        "allow" => Some(OnUnreachable::Allow),
        grace => {
            let units = parse_units(grace.strip_prefix("grace(")?.strip_suffix(')')?)?;
            (1 <= units).then_some(OnUnreachable::Grace(units))
        }
    }
}

/// Where a rule of the table applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On the route of this name.
    Route(String),
    /// On paths that begin with this text.
    Prefix(String),
}

/// The rules of the plugin configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleTable {
    rules: Vec<(Place, Partial)>,
}

impl RuleTable {
    /// Adds a rule; the place must be new.
    pub fn push(&mut self, place: Place, rule: Partial) -> bool {
        let is_new = self.rules.iter().all(|(known, _)| *known != place);
        if is_new {
            self.rules.push((place, rule));
        }
        is_new
    }

    /// Whether a route's rule depends on the path.
    pub fn names_route(&self, route: &str) -> bool {
        self.rules.iter().any(|(place, _)| matches!(place, Place::Route(name) if name == route))
    }

    /// The rules with their places, in the order in which they were given.
    pub fn rules(&self) -> &[(Place, Partial)] {
        &self.rules
    }

    /// The rule for a route, or else for the longest prefix of a path.
    pub fn find(&self, route: &str, path: &str) -> Option<&Partial> {
        self.place_of(route, path).and_then(|index| self.rules.get(index)).map(|(_, rule)| rule)
    }

    /// Where the rule stands that [`Self::find`] finds.
    pub fn place_of(&self, route: &str, path: &str) -> Option<usize> {
        let position = |wanted: &Place| self.rules.iter().position(|(place, _)| place == wanted);
        position(&Place::Route(route.to_owned())).or_else(|| {
            let (prefix, _) = self.longest_prefix(path)?;
            position(&Place::Prefix(prefix.to_owned()))
        })
    }

    /// The longest prefix rule that fits a path.
    pub fn longest_prefix(&self, path: &str) -> Option<(&str, &Partial)> {
        self.rules
            .iter()
            .filter_map(|(place, rule)| match place {
                Place::Prefix(prefix) if path.starts_with(prefix.as_str()) => {
                    Some((prefix.as_str(), rule))
                }
                Place::Route(_) | Place::Prefix(_) => None,
            })
            .max_by_key(|(prefix, _)| prefix.len())
    }
}

/// The rule of a call: what the table says about it, changed by the metadata of its route.
pub fn of_call(
    table: Option<&Partial>,
    metadata: &[(&[u8], &[u8])],
) -> Result<Option<Rule>, FieldError> {
    let own = from_metadata(metadata)?;
    table.cloned().unwrap_or_default().overridden_by(&own).complete(METADATA)
}

/// What errors call a rule that the route's metadata changed.
pub const METADATA: &str = "route metadata farebox";

/// Reads route metadata: the struct's fields with values as Envoy serializes them.
///
/// Strings are raw bytes, a truth value is one byte, a number is an 8-byte little-endian double. A price must be a
/// string: a double cannot say 0.1.
pub fn from_metadata(fields: &[(&[u8], &[u8])]) -> Result<Partial, FieldError> {
    let mut rule = Partial::default();
    for (name, bytes) in fields {
        let name = String::from_utf8_lossy(name);
        rule.set(METADATA, &name, &metadata_value(&name, bytes))?;
    }
    Ok(rule)
}

fn metadata_value(name: &str, bytes: &[u8]) -> Value {
    match (name, bytes) {
        ("shadow" | "assert_identity", [0]) => Value::Bool(false),
        ("shadow" | "assert_identity", [1]) => Value::Bool(true),
        (_, bytes) => {
            let is_text = bytes.iter().all(|byte| (0x20..0x7f).contains(byte));
            match (is_text, <[u8; 8]>::try_from(bytes)) {
                (true, _) => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
                (false, Ok(double)) => {
                    Value::Number(whole_double(u64::from_le_bytes(double)).map_or_else(
                        || "a number that is not whole".to_owned(),
                        |whole| whole.to_string(),
                    ))
                }
                (false, Err(_)) => Value::Other(format!("{} bytes that are no text", bytes.len())),
            }
        }
    }
}

/// The value of a double that is a whole number of at most 2^53, read from its bits: no float arithmetic in the filter.
pub(crate) fn whole_double(bits: u64) -> Option<u64> {
    if bits == 0 {
        return Some(0);
    }
    let exponent = (bits >> 52).checked_sub(1_023)?;
    let mantissa = (bits & ((1 << 52) - 1)) | (1 << 52);
    let fraction_bits = 52_u64.checked_sub(exponent)?;
    let is_whole = mantissa.trailing_zeros() >= u32::try_from(fraction_bits).ok()?;
    is_whole.then_some(mantissa >> fraction_bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn partial(fields: &[(&str, Value)]) -> Result<Partial, FieldError> {
        let mut rule = Partial::default();
        for (name, value) in fields {
            rule.set("rules[0]", name, value)?;
        }
        Ok(rule)
    }

    #[test]
    fn a_rule_with_only_a_service_has_the_documented_defaults() {
        let rule = partial(&[("service", text("asset"))]).unwrap().complete("rules[0]");
        let Ok(Some(Rule::Metered(rule))) = rule else { panic!("{rule:?}") };
        assert_eq!((rule.price, rule.units, rule.shadow), (None, 1, false));
        assert_eq!((rule.charge_on, rule.on_unreachable), (ChargeOn::Request, OnUnreachable::Deny));
        assert_eq!(rule.mode, Mode::Lease);
    }

    #[test]
    fn the_mode_comes_from_the_table_or_from_the_route() {
        let mode = |table: &[_], metadata: &[(&[u8], &[u8])]| {
            let rule = partial(table).unwrap().overridden_by(&from_metadata(metadata).unwrap());
            let Ok(Some(Rule::Metered(rule))) = rule.complete(METADATA) else { panic!("{rule:?}") };
            rule.mode
        };
        let asset = ("service", text("asset"));
        let (strict, lease) = (("mode", text("strict")), ("mode", text("lease")));
        assert_eq!(mode(&[asset.clone(), strict.clone()], &[]), Mode::Strict);
        assert_eq!(mode(&[asset.clone(), lease], &[(b"mode", b"strict")]), Mode::Strict);
        assert_eq!(mode(&[asset, strict], &[(b"mode", b"lease")]), Mode::Lease);
    }

    #[test]
    fn a_wrong_field_is_named_with_value_and_remedy() {
        for (name, value, message) in [
            (
                "price",
                text("0.0000000001"),
                "rules[0].price is \"0.0000000001\": \"0.0000000001\" has more than 9 decimals; write a decimal string such as \"0.002\"",
            ),
            (
                "price",
                text("-1"),
                "rules[0].price is \"-1\": must not be negative; write a decimal string such as \"0.002\"",
            ),
            (
                "price",
                Value::Number("0.1".into()),
                "rules[0].price is 0.1: write the price as a decimal string such as \"0.002\"",
            ),
            ("units", Value::Number("1.5".into()), "rules[0].units is 1.5: write 0 to 2147483647"),
            (
                "units",
                text("2147483648"),
                "rules[0].units is \"2147483648\": write 0 to 2147483647",
            ),
            ("mode", text("exact"), "rules[0].mode is \"exact\": write \"lease\" or \"strict\""),
            (
                "on_unreachable",
                text("grace(0)"),
                "rules[0].on_unreachable is \"grace(0)\": write \"deny\", \"allow\", or \"grace(N)\" with N from 1 to 2147483647",
            ),
            (
                "service",
                text("a b"),
                "rules[0].service is \"a b\": service holds the character ' '; allowed: letters, digits, '.', '_', '-'",
            ),
            (
                "prise",
                text("1"),
                "rules[0].prise is \"1\": is not a rule field; known are service, price, units, mode, charge_on, on_unreachable, shadow, assert_identity",
            ),
            (
                "assert_identity",
                text("yes"),
                "rules[0].assert_identity is \"yes\": write true or false",
            ),
            ("shadow", Value::Number("1".into()), "rules[0].shadow is 1: write true or false"),
        ] {
            assert_eq!(partial(&[(name, value)]).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn route_name_wins_over_prefix_and_the_longest_prefix_over_shorter_ones() {
        let mut table = RuleTable::default();
        let service = |name: &str| partial(&[("service", text(name))]).unwrap();
        assert!(table.push(Place::Prefix("/".into()), service("root")));
        assert!(table.push(Place::Prefix("/v1/".into()), service("v1")));
        assert!(table.push(Place::Route("orders".into()), service("orders")));
        assert!(!table.push(Place::Prefix("/".into()), service("again")), "a place is given once");
        let found = |route, path| match table.find(route, path).map(|rule| rule.complete("")) {
            Some(Ok(Some(Rule::Metered(rule)))) => rule.service.to_string(),
            _ => "-".to_owned(),
        };
        assert_eq!(found("orders", "/v1/x"), "orders");
        assert_eq!(found("other", "/v1/x"), "v1");
        assert_eq!(found("", "/x"), "root");
        assert_eq!(found("", "*"), "-");
    }

    #[test]
    fn route_metadata_overrides_field_by_field() {
        let table = partial(&[("service", text("asset")), ("price", text("0.1"))]).unwrap();
        let route = from_metadata(&[(b"price", b"0.000001"), (b"shadow", &[1])]).unwrap();
        let Ok(Some(Rule::Metered(rule))) = table.overridden_by(&route).complete(METADATA) else {
            panic!()
        };
        assert_eq!(rule.price, Some(Nanos::new(1_000)), "8 characters are a text, not a double");
        assert!(rule.shadow);
        assert_eq!(rule.service.as_str(), "asset");
    }

    #[test]
    fn only_an_unmetered_route_tells_who_calls() {
        let none = ("service", text("none"));
        let yes = ("assert_identity", Value::Bool(true));
        let complete = |fields: &[_]| partial(fields).unwrap().complete("rules[0]");
        assert_eq!(complete(std::slice::from_ref(&none)), Ok(Some(Rule::Unmetered)));
        let asserted = |shadow| Ok(Some(Rule::Asserted { shadow }));
        assert_eq!(complete(&[none.clone(), yes.clone()]), asserted(false));
        let shadow = ("shadow", Value::Bool(true));
        assert_eq!(complete(&[none.clone(), yes.clone(), shadow]), asserted(true));
        let no = ("assert_identity", text("false"));
        assert_eq!(complete(&[none.clone(), no]), Ok(Some(Rule::Unmetered)));
        assert_eq!(complete(std::slice::from_ref(&yes)), Ok(None));
        assert_eq!(
            complete(&[("service", text("asset")), yes.clone()]).unwrap_err().to_string(),
            "rules[0].assert_identity is true, and the service is \"asset\": only routes with service \"none\" tell who calls; write service: none, or leave assert_identity out"
        );

        // The same through the route's metadata, whichever of the two it brings.
        let merged = |table: &[_], metadata: &[(&[u8], &[u8])]| {
            let route = from_metadata(metadata).unwrap();
            partial(table).unwrap().overridden_by(&route).complete(METADATA)
        };
        assert_eq!(
            merged(std::slice::from_ref(&none), &[(b"assert_identity", &[1])]),
            asserted(false)
        );
        assert_eq!(
            merged(&[none.clone(), yes.clone()], &[(b"assert_identity", &[0])]),
            Ok(Some(Rule::Unmetered))
        );
        for error in [
            merged(&[("service", text("asset"))], &[(b"assert_identity", &[1])]),
            merged(&[none, yes], &[(b"service", b"asset")]),
        ] {
            let error = error.unwrap_err().to_string();
            assert!(error.starts_with("route metadata farebox.assert_identity is true"), "{error}");
        }
    }

    #[test]
    fn whole_numbers_of_metadata_are_read_and_others_refused() {
        let bytes = |value: u64| value.to_le_bytes();
        // IEEE 754 bits of 3, 1, 2147483647, 0 and 1.5.
        for (bits, units) in [
            (0x4008_0000_0000_0000, Some(3)),
            (0x3ff0_0000_0000_0000, Some(1)),
            (0x41df_ffff_ffc0_0000, Some(2_147_483_647)),
            (0, Some(0)),
            (0x3ff8_0000_0000_0000, None),
            (0xbff0_0000_0000_0000, None),
        ] {
            assert_eq!(whole_double(bits), units, "{bits:x}");
            let parsed = from_metadata(&[(b"units", &bytes(bits))]);
            assert_eq!(parsed.ok().and_then(|rule| rule.units), units, "{bits:x}");
        }
        let error = from_metadata(&[(b"price", &bytes(0x3fb9_9999_9999_999a))]).unwrap_err();
        assert!(error.to_string().contains("write the price as a decimal string"), "{error}");
    }
}
