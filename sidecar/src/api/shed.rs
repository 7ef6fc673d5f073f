//! A limit on how many requests of a kind are in progress. Whoever comes beyond it hears so at once: waiting would only make
//! the queue longer and everybody late.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use farebox_core::code::Code;
use tokio::sync::Semaphore;

use super::reply::{self, language};
use crate::metrics::{self, Shed};

#[derive(Debug, Clone)]
struct Slots {
    free: Arc<Semaphore>,
    what: Shed,
}

/// The routes, of which no more than `most` requests are dealt with at the same time.
pub(super) fn limit(router: Router, most: usize, what: Shed) -> Router {
    let slots = Slots { free: Arc::new(Semaphore::new(most)), what };
    router.layer(middleware::from_fn_with_state(slots, admit))
}

async fn admit(State(slots): State<Slots>, request: Request, next: Next) -> Response {
    let Ok(_slot) = slots.free.try_acquire() else {
        metrics::shed(slots.what);
        let detail = "too many requests at once; send the same request again";
        return reply::come_again(language(request.headers()), Code::Overloaded, detail);
    };
    next.run(request).await
}
