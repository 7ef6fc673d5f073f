//! What names and amounts look like in OpenAPI documents. Only the sidecar is built with it (feature `openapi`).

use std::borrow::Cow;

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{
    AnyOfBuilder, ArrayBuilder, ObjectBuilder, Schema, SchemaType, Type,
};
use utoipa::{PartialSchema, ToSchema};

use crate::id::{AccountId, GatewayId, ServiceName};
use crate::limits::{ACCOUNT_ID_BYTES_MAX, GATEWAY_ID_BYTES_MAX, SERVICE_NAME_BYTES_MAX};
use crate::money::Nanos;
use crate::package::Package;
use crate::tariff::{Tariff, Tier};

/// A text that looks like this.
fn text(pattern: &str, example: &str, description: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(SchemaType::new(Type::String))
        .pattern(Some(pattern))
        .examples([example])
        .description(Some(description))
}

/// Gives a type a schema, under this name.
macro_rules! schema {
    ($type:ty, $name:literal, $schema:expr) => {
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                $schema.into()
            }
        }

        impl ToSchema for $type {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed($name)
            }
        }
    };
}

schema!(
    AccountId,
    "AccountId",
    text(
        r"^[^\s\u0000-\u001f\u007f-\u009f]+$",
        "alice",
        "Who pays: 1 to 128 bytes of UTF-8 without spaces and control characters, case-sensitive."
    )
    .min_length(Some(1))
    .max_length(Some(ACCOUNT_ID_BYTES_MAX))
);

schema!(
    ServiceName,
    "ServiceName",
    text("^[A-Za-z0-9._-]+$", "passport", "What is metered.")
        .min_length(Some(1))
        .max_length(Some(SERVICE_NAME_BYTES_MAX))
);

schema!(
    GatewayId,
    "GatewayId",
    text("^[!-~]+$", "edge-1", "An Envoy among those that share a sidecar.")
        .min_length(Some(1))
        .max_length(Some(GATEWAY_ID_BYTES_MAX))
);

schema!(
    Nanos,
    "Money",
    text(
        r"^-?[0-9]+(\.[0-9]{1,9})?$",
        "0.002",
        "Money in currency units, as an exact decimal: at most 9 decimals, no more than 9223372036.854775807. Never a float."
    )
);

schema!(
    Tariff,
    "Price",
    AnyOfBuilder::new()
        .item(Nanos::schema())
        .item(
            ObjectBuilder::new()
                .property("tiers", ArrayBuilder::new().items(Tier::schema()).min_items(Some(2)))
                .required("tiers")
        )
        .item(ObjectBuilder::new().property("package", Package::schema()).required("package"))
        .description(Some(
            "Money per unit; `tiers` of the month's paid units when it is graduated; a `package` when units are bought \
             together."
        ))
);

/// An amount or price in a request that must not be negative, or `null`.
pub(crate) fn not_negative() -> ObjectBuilder {
    let description = "Money in currency units, not negative; at most 9 decimals.";
    text(r"^[0-9]{1,10}(\.[0-9]{1,9})?$", "0.002", description)
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
}

/// A key in a body, which a header may carry instead.
pub(crate) fn key() -> ObjectBuilder {
    let description = "The caller's name for this request: visible ASCII, the same when it is sent again. The header \
        `Idempotency-Key` may carry it instead.";
    text("^[!-~]{0,255}$", "call-1", description)
}
