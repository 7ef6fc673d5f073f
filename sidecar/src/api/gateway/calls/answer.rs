//! What was decided, or why nothing was: as the reply to one request, or as an item of a batch's reply.

use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::Response;
use farebox_core::call::{
    CheckReply, CommitReply, DeductReply, RefundReply, ReleaseReply, ReserveReply, Shortfall,
};
use farebox_core::code::{Code, Language};
use farebox_core::problem::Problem;
use serde::Serialize;

use super::faults::Faults;
use super::kind::{Asked, Decided};
use super::text;
use crate::api::body::{Malformed, Place};
use crate::api::reply;
use crate::app::{CallError, Outcome, Refusal};
use crate::trace::request::ProblemCode;

/// Seconds after which what ends by itself has probably ended.
const RETRY_AFTER_S: u64 = 1;

/// The answer to one request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It was met.
    Met(Box<Reply>),
    /// It was not.
    Unmet(Box<Unmet>),
}

/// A reply of any endpoint.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum Reply {
    Check(CheckReply),
    Deduct(DeductReply),
    Reserve(ReserveReply),
    Commit(CommitReply),
    Release(ReleaseReply),
    Refund(RefundReply),
}

/// Why a request was not met.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unmet {
    document: Document,
    retry_after_s: Option<u64>,
}

/// A problem document, with the members that a refusal for want of money or units has besides.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Document {
    #[serde(flatten)]
    problem: Problem,
    #[serde(flatten)]
    shortfall: Option<Shortfall>,
}

/// An item of a batch's reply.
#[derive(Debug, Serialize)]
struct Item<'a> {
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a Reply>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a Document>,
}

#[derive(Debug, Serialize)]
struct Results<'a> {
    results: Vec<Item<'a>>,
}

/// Writes the answers of one body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Speaker<'a> {
    pub(super) language: Language,
    pub(super) endpoint: &'static str,
    /// Whether requests carry keys; otherwise a reservation is their key.
    pub(super) is_keyed: bool,
    pub(super) is_batch: bool,
    pub(super) faults: &'a Faults,
}

impl Speaker<'_> {
    /// The answers to requests as they stood in the body; `decided` has one for each that could be read.
    pub(super) fn answers(
        self,
        requests: Vec<Result<Asked, Malformed>>,
        decided: Vec<Result<Decided, CallError>>,
    ) -> Vec<Answer> {
        let mut decided = decided.into_iter();
        let answer = |(index, request): (usize, Result<Asked, Malformed>)| match request {
            Err(malformed) => self.unmet(malformed.into_problem(self.language)),
            Ok(asked) => match decided.next() {
                Some(Ok(decided)) => self.decided(decided, &asked),
                Some(Err(err)) => self.failed(err, index),
                None => {
                    tracing::error!(
                        endpoint = self.endpoint,
                        "a request was left without an answer"
                    );
                    self.unmet(reply::internal_problem(self.language))
                }
            },
        };
        requests.into_iter().enumerate().map(answer).collect()
    }

    fn decided(self, decided: Decided, asked: &Asked) -> Answer {
        let outcome = match decided {
            Decided::Checked(reply) => return met(Reply::Check(reply)),
            Decided::Outcome(outcome) => outcome,
        };
        match outcome {
            Outcome::Deducted(reply) => met(Reply::Deduct(reply)),
            Outcome::Reserved(reply) => met(Reply::Reserve(reply)),
            Outcome::Committed(reply) => met(Reply::Commit(reply)),
            Outcome::Released(reply) => met(Reply::Release(reply)),
            Outcome::Refunded(reply) => met(Reply::Refund(reply)),
            Outcome::Refused(refusal) => self.refused(refusal, asked),
            Outcome::Cancelled => self.problem(Code::Conflict, text::cancelled(self.language)),
        }
    }

    fn refused(self, refusal: Refusal, asked: &Asked) -> Answer {
        let (code, shortfall) = (refusal.code(), refusal.shortfall);
        let detail = text::refused(code, &shortfall, asked, self.language);
        let until_reset = shortfall.free_quota.resets_in_s.max(1);
        Answer::Unmet(Box::new(Unmet {
            document: Document {
                problem: Problem::new(code, self.language, detail),
                shortfall: Some(shortfall),
            },
            // Where only time helps, it is known how long.
            retry_after_s: (code == Code::InsufficientQuota).then_some(until_reset),
        }))
    }

    /// Every way a request can fail, by name: a new one must not compile until it has a status.
    fn failed(self, err: CallError, index: usize) -> Answer {
        let detail = text::failed(&err, self.language);
        match err {
            CallError::Invalid(err) => {
                let place = if self.is_batch { Place::Item(index) } else { Place::Body };
                self.unmet(Malformed::from_field(err, place).into_problem(self.language))
            }
            CallError::UnknownService { .. } => self.problem(Code::UnknownService, detail),
            CallError::KeyReused { key } if !self.is_keyed => {
                self.problem(Code::Conflict, text::ended_otherwise(&key, self.language))
            }
            CallError::KeyReused { .. } | CallError::Ended { .. } => {
                self.problem(Code::Conflict, detail)
            }
            CallError::NotFound { .. } => self.problem(Code::NotFound, detail),
            CallError::Busy => self.later(Code::AccountBusy, detail),
            CallError::Overloaded { .. } => self.later(Code::Overloaded, detail),
            CallError::Unfinished => self.later(Code::Unavailable, detail),
            CallError::Store(fault) => {
                self.faults.log(self.endpoint, &fault);
                if fault.is_outage() {
                    self.later(Code::Unavailable, detail)
                } else {
                    self.unmet(reply::internal_problem(self.language))
                }
            }
        }
    }

    fn problem(self, code: Code, detail: impl Into<String>) -> Answer {
        self.unmet(Problem::new(code, self.language, detail))
    }

    fn unmet(self, problem: Problem) -> Answer {
        let document = Document { problem, shortfall: None };
        Answer::Unmet(Box::new(Unmet { document, retry_after_s: None }))
    }

    /// What ends by itself.
    fn later(self, code: Code, detail: String) -> Answer {
        let problem = Problem::new(code, self.language, detail);
        let document = Document { problem, shortfall: None };
        Answer::Unmet(Box::new(Unmet { document, retry_after_s: Some(RETRY_AFTER_S) }))
    }
}

fn met(reply: Reply) -> Answer {
    Answer::Met(Box::new(reply))
}

impl Answer {
    fn item(&self) -> Item<'_> {
        match self {
            Self::Met(reply) => {
                Item { status: StatusCode::OK.as_u16(), result: Some(reply), problem: None }
            }
            Self::Unmet(unmet) => Item {
                status: unmet.document.problem.status,
                result: None,
                problem: Some(&unmet.document),
            },
        }
    }

    fn respond(&self, language: Language) -> Response {
        let unmet = match self {
            Self::Met(reply) => return reply::value(StatusCode::OK, reply, language),
            Self::Unmet(unmet) => unmet,
        };
        let status = unmet.document.problem.status;
        let mut response = reply::document(status, &unmet.document, language);
        response.extensions_mut().insert(ProblemCode(unmet.document.problem.code));
        if let Some(seconds) = unmet.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// The response to a body: of one request its own, of a batch that of the batch.
pub(super) fn respond(answers: &[Answer], is_batch: bool, language: Language) -> Response {
    match answers {
        [answer] if !is_batch => answer.respond(language),
        answers => {
            let results = Results { results: answers.iter().map(Answer::item).collect() };
            reply::value(StatusCode::OK, &results, language)
        }
    }
}

#[cfg(test)]
mod tests;
