//! The life of a stream: request, answer or response, end.

use super::{ROOT, Vm};
use crate::fault::Fault;
use crate::headers::Headers;
use crate::host::EndOrder;
use crate::property::{LifeSpan, Value};
use crate::stream::{Answer, LocalReply, Request, State, Stream, StreamRecord, grpc_status_of};

impl Vm {
    /// Sends a request into the filter.
    pub fn request(&self, request: Request) -> Stream {
        let (shared, exports) = (&self.cell.shared, &self.cell.exports);
        let id = shared.next_context.replace(shared.next_context.get() + 1);
        let (count, ends) = (request.headers.len(), u32::from(request.end_of_stream));
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        shared.streams.borrow_mut().insert(id, StreamRecord::new(request));
        self.call("proxy_on_context_create", id, exports.on_context_create.as_ref(), (id, ROOT));
        let on_headers = exports.on_request_headers.as_ref();
        let action = self.call("proxy_on_request_headers", id, on_headers, (id, count, ends));
        let mut streams = shared.streams.borrow_mut();
        let stream = streams.get_mut(&id).expect("the stream was made above");
        if stream.state == State::Deciding {
            if self.has_failed() {
                stream.state = State::Answered(failed_answer(&stream.request));
            } else if action.unwrap_or(0) == 0 {
                stream.state = State::Forwarded;
                stream.request_in_view = false;
            } else {
                stream.state = State::Paused;
                stream.pauses += 1;
            }
        }
        drop(streams);
        Stream { vm: self.clone(), id }
    }

    /// Lets response headers pass through the filter. `details` says who made the response.
    pub(crate) fn respond(&self, id: u32, status: u32, response: Headers, details: &str) {
        let count = u32::try_from(response.len()).unwrap_or(u32::MAX);
        let grpc = response.get("grpc-status").and_then(|status| status.parse().ok());
        let grpc = grpc.unwrap_or_else(|| grpc_status_of(status));
        self.change(id, |stream| {
            for (name, number) in [("code", status), ("grpc_status", grpc)] {
                stream.properties.put(&["response", name], Value::Int(i64::from(number)));
            }
            stream.properties.put(&["response", "code_details"], details.into());
            stream.response = Some(response);
            stream.response_in_view = true;
        });
        let on_headers = self.cell.exports.on_response_headers.as_ref();
        let action = self.call("proxy_on_response_headers", id, on_headers, (id, count, 1));
        self.change(id, |stream| stream.response_in_view = false);
        if action.is_some_and(|action| action != 0) {
            self.cell.host.fault(Fault::PausedResponse { vm: self.number(), stream: id });
        }
    }

    fn change(&self, id: u32, change: impl FnOnce(&mut StreamRecord)) {
        if let Some(stream) = self.cell.shared.streams.borrow_mut().get_mut(&id) {
            change(stream);
        }
    }

    /// Sends a forwarded request through the filter again, changed: an internal redirect. The upstream's response stays
    /// with Envoy, and of the properties that the guest set those come along that were declared to.
    pub(crate) fn redirect(&self, id: u32, change: impl FnOnce(Request) -> Request) -> Stream {
        self.change(id, |stream| {
            stream.properties.put(&["response", "code_details"], "internal_redirect".into());
        });
        self.end_stream(id, 0);
        let shared = &self.cell.shared;
        let request = {
            let streams = shared.streams.borrow();
            let stream = &streams[&id];
            let mut request = stream.as_request();
            let declared = shared.declared.borrow();
            let shared_names =
                declared.iter().filter(|(_, span)| **span == LifeSpan::DownstreamRequest);
            for (name, _) in shared_names {
                if let Some(value) = stream.properties.find(&[name]) {
                    request.properties.put(&[name], value.clone());
                }
            }
            change(request)
        };
        self.request(request)
    }

    /// The end of a stream, once: log, done, delete.
    pub(crate) fn end_stream(&self, id: u32, flags: i64) {
        let exports = &self.cell.exports;
        let mut was_alive = false;
        self.change(id, |stream| {
            was_alive = stream.alive;
            stream.properties.put(&["response", "flags"], Value::Int(flags));
            let has_details = stream.properties.find(&["response", "code_details"]).is_some();
            if stream.response.is_none() && !has_details {
                stream
                    .properties
                    .put(&["response", "code_details"], "downstream_remote_disconnect".into());
            }
            if matches!(stream.state, State::Paused) {
                stream.state = State::Gone;
            }
        });
        if !was_alive {
            return;
        }
        let log = || {
            self.change(id, |stream| {
                stream.request_in_view = true;
                stream.response_in_view = stream.response.is_some();
            });
            self.call("proxy_on_log", id, exports.on_log.as_ref(), id);
            self.change(id, |stream| {
                stream.request_in_view = false;
                stream.response_in_view = false;
            });
        };
        let done = || self.call("proxy_on_done", id, exports.on_done.as_ref(), id);
        let order = self.cell.host.cell.settings.borrow().end_order;
        match order {
            EndOrder::LogThenDone => {
                log();
                done();
            }
            EndOrder::DoneThenLog => {
                done();
                log();
            }
        }
        self.call("proxy_on_delete", id, exports.on_delete.as_ref(), id);
        self.change(id, |stream| stream.alive = false);
    }

    pub(super) fn resume(&self, id: u32) {
        let mut streams = self.cell.shared.streams.borrow_mut();
        let Some(stream) = streams.get_mut(&id) else { return };
        stream.resumes += 1;
        stream.request_in_view = false;
        if stream.state == State::Paused {
            stream.state = State::Forwarded;
        } else {
            let state = format!("{:?}", stream.state);
            self.cell.host.fault(Fault::Resumed { vm: self.number(), stream: id, state });
        }
    }

    pub(super) fn answer(&self, id: u32, status: u32, reply: LocalReply) {
        let answer = {
            let mut streams = self.cell.shared.streams.borrow_mut();
            let Some(stream) = streams.get_mut(&id) else { return };
            stream.answers += 1;
            if !matches!(stream.state, State::Deciding | State::Paused) {
                let state = format!("{:?}", stream.state);
                self.cell.host.fault(Fault::Answered { vm: self.number(), stream: id, state });
                return;
            }
            let answer = Answer::compose(&stream.request, status, reply);
            stream.state = State::Answered(answer.clone());
            answer
        };
        // Envoy sends a local reply through the response side of the filters too, this one included.
        let mut headers = Headers::from_iter([(":status", answer.status.to_string())]);
        for (name, value) in answer.headers.iter() {
            headers.add(name, value);
        }
        self.respond(id, answer.status, headers, &answer.details);
        self.end_stream(id, 0);
        let mut streams = self.cell.shared.streams.borrow_mut();
        let Some(stream) = streams.get_mut(&id) else { return };
        if let (State::Answered(answer), Some(sent)) = (&mut stream.state, &stream.response) {
            answer.headers = sent.clone();
            answer.headers.remove(":status");
        }
    }
}

/// What Envoy answers in place of a filter that trapped.
pub(super) fn failed_answer(request: &Headers) -> Answer {
    let reply = LocalReply {
        details: "wasm_fail_stream".to_owned(),
        grpc: Some(14),
        ..LocalReply::default()
    };
    Answer::compose(request, 503, reply)
}
