//! Query parameters: each known, each once, each read with an error that names it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use axum::extract::Query;
use axum::http::Uri;
use axum::response::Response;
use farebox_core::code::{Code, Language};
use farebox_core::problem::Problem;

use super::reply::problem;

/// The parameters of a request.
#[derive(Debug)]
pub(super) struct Parameters {
    values: BTreeMap<String, String>,
    language: Language,
}

impl Parameters {
    /// Those of a query string that may have the parameters `known` and no others.
    pub(super) fn read(
        uri: &Uri,
        known: &[&str],
        language: Language,
    ) -> Result<Self, Box<Response>> {
        let mut parameters = Self { values: BTreeMap::new(), language };
        let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
            return Err(parameters.refuse("query", "the query string cannot be read"));
        };
        for (name, value) in pairs {
            if !known.contains(&name.as_str()) {
                let remedy = match known {
                    [] => "there are none; leave it out".to_owned(),
                    known => format!("known are {}", known.join(", ")),
                };
                let detail = format!("{name} is no parameter here; {remedy}");
                return Err(parameters.refuse(&name, detail));
            }
            if parameters.values.insert(name.clone(), value).is_some() {
                let detail = format!("{name} occurs more than once; write it once");
                return Err(parameters.refuse(&name, detail));
            }
        }
        Ok(parameters)
    }

    /// The text of a parameter.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.values.remove(name)
    }

    /// The value of a parameter whose own errors say what to write.
    pub(super) fn value<T>(&mut self, name: &str) -> Result<Option<T>, Box<Response>>
    where
        T: FromStr<Err: Display>,
    {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|err: T::Err| self.refuse(name, err.to_string()))
    }

    /// The value of a parameter that `read` understands; `remedy` says what to write.
    pub(super) fn read_by<T>(
        &mut self,
        name: &str,
        remedy: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Box<Response>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let value = read(&text);
        value.map(Some).ok_or_else(|| self.refuse(name, format!("{name} is {text:?}; {remedy}")))
    }

    /// The value of a parameter whose errors do not say what to write: `remedy` does.
    pub(super) fn value_or<T: FromStr>(
        &mut self,
        name: &str,
        remedy: &str,
    ) -> Result<Option<T>, Box<Response>> {
        self.read_by(name, remedy, |text| text.parse().ok())
    }

    /// The size of a page.
    pub(super) fn limit(&mut self) -> Result<Option<u32>, Box<Response>> {
        self.value_or("limit", "write a number from 1 to 200")
    }

    /// A refusal that names a parameter.
    pub(super) fn refuse(&self, field: &str, detail: impl Into<String>) -> Box<Response> {
        let plain = Problem::new(Code::InvalidArgument, self.language, detail);
        Box::new(problem(self.language, plain.with_field(field)))
    }
}
