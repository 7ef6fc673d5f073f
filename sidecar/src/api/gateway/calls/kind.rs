//! What the six endpoints differ in.

use farebox_core::call::{
    CheckReply, CheckRequest, CommitRequest, DeductRequest, RefundRequest, ReleaseRequest,
    ReserveRequest,
};
use farebox_core::id::ServiceName;
use farebox_core::wire::FieldError;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::app::{App, CallError, Outcome, Request};

/// What came of a request.
#[derive(Debug)]
pub(super) enum Decided {
    /// What a deduct would come to.
    Checked(CheckReply),
    /// What is kept under the request's key.
    Outcome(Outcome),
}

/// What a request took, for the text of its refusal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Units; 0 for an amount.
    pub(super) units: u64,
    /// What is metered; the other requests name a reservation or a record.
    pub(super) service: Option<ServiceName>,
}

/// A request of one of the endpoints.
pub(super) trait Call: DeserializeOwned + Send + Sync + 'static {
    /// The endpoint, for the log.
    const NAME: &'static str;
    /// Whether requests carry a key. The others change nothing, or have a reservation for a key.
    const IS_KEYED: bool = false;

    /// Checks every bound that the types cannot express.
    fn validate(&self) -> Result<(), FieldError>;

    /// Where the key stands.
    fn key(&mut self) -> Option<&mut String> {
        None
    }

    /// What it takes.
    fn asked(&self) -> Asked {
        Asked::default()
    }

    /// Decides requests; one answer each, in order.
    fn decide(
        app: &App,
        calls: Vec<Self>,
        deadline: Instant,
    ) -> impl Future<Output = Vec<Result<Decided, CallError>>> + Send;
}

async fn charge<C>(
    app: &App,
    calls: Vec<C>,
    named: fn(C) -> Request,
    deadline: Instant,
) -> Vec<Result<Decided, CallError>> {
    let requests = calls.into_iter().map(named).collect();
    let outcomes = app.call(requests, deadline).await;
    outcomes.into_iter().map(|outcome| outcome.map(Decided::Outcome)).collect()
}

impl Call for CheckRequest {
    const NAME: &'static str = "check";

    fn validate(&self) -> Result<(), FieldError> {
        self.validate()
    }

    async fn decide(
        app: &App,
        calls: Vec<Self>,
        _deadline: Instant,
    ) -> Vec<Result<Decided, CallError>> {
        let replies = app.check(&calls).await;
        replies.into_iter().map(|reply| reply.map(Decided::Checked)).collect()
    }
}

/// An endpoint whose requests are charged, or give back what was.
macro_rules! charged {
    ($request:ident, $name:literal, $named:path { $($rest:item)* }) => {
        impl Call for $request {
            const NAME: &'static str = $name;

            fn validate(&self) -> Result<(), FieldError> {
                self.validate()
            }

            async fn decide(
                app: &App,
                calls: Vec<Self>,
                deadline: Instant,
            ) -> Vec<Result<Decided, CallError>> {
                charge(app, calls, $named, deadline).await
            }

            $($rest)*
        }
    };
}

charged!(DeductRequest, "deduct", Request::Deduct {
    const IS_KEYED: bool = true;

    fn key(&mut self) -> Option<&mut String> {
        Some(&mut self.idempotency_key)
    }

    fn asked(&self) -> Asked {
        Asked { units: self.count, service: Some(self.service.clone()) }
    }
});

charged!(ReserveRequest, "reserve", Request::Reserve {
    const IS_KEYED: bool = true;

    fn key(&mut self) -> Option<&mut String> {
        Some(&mut self.idempotency_key)
    }

    fn asked(&self) -> Asked {
        Asked { units: self.units.unwrap_or(0), service: Some(self.service.clone()) }
    }
});

charged!(CommitRequest, "commit", Request::Commit {});

charged!(ReleaseRequest, "release", Request::Release {});

charged!(RefundRequest, "refund", Request::Refund {
    const IS_KEYED: bool = true;

    fn key(&mut self) -> Option<&mut String> {
        Some(&mut self.idempotency_key)
    }
});
