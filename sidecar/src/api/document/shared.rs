//! Parameters that several operations have. They are only described here: handlers read them by hand, to name each mistake.
#![expect(dead_code, reason = "the fields are read by the derived descriptions alone")]

use utoipa::IntoParams;

/// Which page of a list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct PageOf {
    /// How many at most; 20 when it is not said.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// Where the page before ended: its `next_cursor`. Absent for the first page.
    cursor: Option<String>,
}

/// The name of a request that changes something.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
pub(in crate::api) struct Key {
    /// A random name of this request, such as a UUID; the same one when it is sent again, so that it is done once.
    #[param(
        rename = "Idempotency-Key",
        pattern = r#"^("[!#-~]{1,255}"|[!#-~]{1,255})$"#,
        example = "8e03978e-40d5-43dd-bc93-6894a57f9324"
    )]
    key: String,
}

/// The same, for requests whose body may have it instead.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
pub(in crate::api) struct KeyOrNone {
    /// The request's `idempotency_key`, if its body has none. Not with a batch.
    #[param(
        rename = "Idempotency-Key",
        nullable = false,
        pattern = r#"^("[!#-~]{1,255}"|[!#-~]{1,255})$"#
    )]
    key: Option<String>,
}
