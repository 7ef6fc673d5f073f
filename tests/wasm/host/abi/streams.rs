//! Resume, close, answer.

use wasmtime::{Caller, Linker};

use crate::abi::{Guest, MODULE, Outcome, serve};
use crate::fault::Fault;
use crate::status::Status;
use crate::stream::LocalReply;
use crate::vm::{Deferred, VmState};

type Here<'a> = Caller<'a, VmState>;

const HTTP_REQUEST: u32 = 0;
const HTTP_RESPONSE: u32 = 1;

pub(crate) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "proxy_continue_stream", |caller: Here<'_>, kind: u32| {
        serve(caller, "proxy_continue_stream", |guest| match kind {
            HTTP_REQUEST => defer(guest, "proxy_continue_stream", Deferred::Resume),
            HTTP_RESPONSE => Ok(()),
            _ => Err(Status::BadArgument.into()),
        })
    })?;
    linker.func_wrap(MODULE, "proxy_close_stream", |caller: Here<'_>, kind: u32| {
        serve(caller, "proxy_close_stream", |guest| match kind {
            HTTP_REQUEST | HTTP_RESPONSE => defer(guest, "proxy_close_stream", Deferred::Close),
            _ => Err(Status::BadArgument.into()),
        })
    })?;
    linker.func_wrap(
        MODULE,
        "proxy_send_local_response",
        |caller: Here<'_>,
         status: u32,
         details: u32,
         details_length: u32,
         body: u32,
         body_length: u32,
         headers: u32,
         headers_length: u32,
         grpc: u32| {
            serve(caller, "proxy_send_local_response", |guest| {
                let reply = LocalReply {
                    details: guest.text(details, details_length)?,
                    body: guest.read(body, body_length)?,
                    headers: guest.headers(headers, headers_length)?,
                    // -1 is "none": Envoy then derives it from the HTTP status.
                    grpc: Some(grpc).filter(|code| *code <= 16),
                };
                defer(guest, "proxy_send_local_response", |stream| {
                    Deferred::Answer(stream, status, reply)
                })
            })
        },
    )?;
    Ok(())
}

/// Envoy does none of these before the guest call is over. On a root context they say `Ok` and do nothing.
fn defer(
    guest: &Guest<'_>,
    function: &'static str,
    action: impl FnOnce(u32) -> Deferred,
) -> Outcome {
    let context = guest.context();
    let vm = guest.vm();
    if vm.streams.borrow().contains_key(&context) {
        vm.deferred.borrow_mut().push_back(action(context));
    } else {
        guest.host().fault(Fault::NoStream { vm: vm.number, function });
    }
    Ok(())
}
