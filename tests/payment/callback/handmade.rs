//! One callback exactly as a test wants it: forged, old, changed on its way, about anything.

use anyhow::{Context, Result};
use axum::http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::outbox::{Attempt, Body, Callback, Delivery};
use super::{Letter, now_s};
use crate::Service;
use crate::state::{Payment, State};

/// What `POST /control/callback` takes. Whatever is not given is as in an honest callback about the payment.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Handmade {
    /// The payment that the rest is taken from; without both, `url` and all fields have to be given.
    payment_id: Option<String>,
    order_id: Option<String>,
    /// Instead of the payment's `notify_url`.
    url: Option<String>,
    /// Fields of the body to set; `null` leaves one out.
    fields: Map<String, Value>,
    /// The whole body instead.
    body: Option<String>,
    /// Signs this text although the body is sent: as if somebody had changed the body on its way.
    signed_body: Option<String>,
    webhook_id: Option<String>,
    /// Seconds since 1970, or, with `age_s`, so many seconds ago.
    timestamp: Option<i64>,
    age_s: i64,
    /// Instead of the service's own; several separated by commas.
    secret: Option<String>,
    /// Headers to replace; `null` leaves one out.
    headers: Map<String, Value>,
    /// Headers to add, also beside one of the same name.
    more_headers: Vec<(String, String)>,
}

impl Handmade {
    /// Sends it once and gives what came of it.
    pub(crate) async fn send(self, service: &Service) -> Result<Attempt> {
        let payment = service.store.look(|state| self.payment(state))?;
        let webhook_id = self.webhook_id.clone();
        let webhook_id = webhook_id.unwrap_or_else(|| format!("msg_{}", Uuid::now_v7().simple()));
        let letter = self.letter(service, payment.as_ref(), &webhook_id)?;
        let (url, body) = (letter.url.clone(), letter.body.clone());
        let attempt = service.sender.post(letter).await;
        let callback = Callback {
            webhook_id,
            url,
            body,
            secret: self.secret,
            state: Delivery::Handmade,
            next_at_ms: 0,
            attempts: vec![attempt.clone()],
        };
        service.store.change_soon(|state| state.outbox.keep(callback));
        Ok(attempt)
    }

    fn payment(&self, state: &State) -> Result<Option<Payment>> {
        let payment = match (&self.payment_id, &self.order_id) {
            (Some(id), _) => Some(state.payment(id)?),
            (None, Some(order)) => Some(state.payment_of(order)?),
            (None, None) => None,
        };
        Ok(payment.cloned())
    }

    fn letter(
        &self,
        service: &Service,
        payment: Option<&Payment>,
        webhook_id: &str,
    ) -> Result<Letter> {
        let notify_url = payment.map(|payment| payment.order.notify_url.clone());
        let url = self.url.clone().or(notify_url).context("name url, payment_id or order_id")?;
        let body = self.body.clone().map_or_else(|| self.fields_of(payment), Ok)?;
        let signed = self.signed_body.as_ref().unwrap_or(&body);
        let at_s = self.timestamp.unwrap_or_else(|| now_s().saturating_sub(self.age_s));
        let secrets = self.secret.as_deref();
        let mut headers = service.sender.sign(webhook_id, at_s, signed, secrets)?;
        for (name, value) in &self.headers {
            let name: HeaderName = name.parse()?;
            match value.as_str() {
                Some(text) => headers.insert(name, text.parse()?),
                None => headers.remove(name),
            };
        }
        for (name, value) in &self.more_headers {
            headers.append(name.parse::<HeaderName>()?, value.parse::<HeaderValue>()?);
        }
        Ok(Letter { url, headers, body })
    }

    fn fields_of(&self, payment: Option<&Payment>) -> Result<String> {
        let honest = payment.map(|payment| serde_json::to_value(Body::of(payment))).transpose()?;
        let mut fields = match honest {
            Some(Value::Object(fields)) => fields,
            Some(_) | None => Map::new(),
        };
        for (name, value) in &self.fields {
            if value.is_null() {
                fields.remove(name);
            } else {
                fields.insert(name.clone(), value.clone());
            }
        }
        Ok(serde_json::to_string(&fields)?)
    }
}
