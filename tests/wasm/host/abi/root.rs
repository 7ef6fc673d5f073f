//! Log, time, properties, metrics, buffers and calls to other services.

use std::time::Duration;

use wasmtime::{Caller, Linker};

use crate::abi::{Guest, MODULE, Outcome, serve};
use crate::callout::Sent;
use crate::property::{Declared, Value};
use crate::status::{BufferKind, Status};
use crate::vm::{Deferred, ROOT, VmState};

type Here<'a> = Caller<'a, VmState>;

pub(crate) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "proxy_log",
        |caller: Here<'_>, level: u32, text: u32, length: u32| {
            serve(caller, "proxy_log", |guest| {
                if 5 < level {
                    return Err(Status::BadArgument.into());
                }
                let text = guest.text(text, length)?;
                guest.host().log(guest.vm().number, level, text);
                Ok(())
            })
        },
    )?;
    linker.func_wrap(MODULE, "proxy_get_log_level", |caller: Here<'_>, level: u32| {
        serve(caller, "proxy_get_log_level", |guest| guest.write_u32(level, 0))
    })?;
    linker.func_wrap(
        MODULE,
        "proxy_get_current_time_nanoseconds",
        |caller: Here<'_>, time: u32| {
            serve(caller, "proxy_get_current_time_nanoseconds", |guest| {
                let now = guest.host().wall_clock().as_nanos();
                guest.write(time, &u64::try_from(now).unwrap_or(u64::MAX).to_le_bytes())
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "proxy_set_tick_period_milliseconds",
        |caller: Here<'_>, period: u32| {
            serve(caller, "proxy_set_tick_period_milliseconds", |guest| {
                let period = Duration::from_millis(u64::from(period));
                guest.vm().tick_period.set(Some(period).filter(|period| !period.is_zero()));
                Ok(())
            })
        },
    )?;
    define_contexts(linker)?;
    define_properties(linker)?;
    define_buffers(linker)?;
    define_metrics(linker)?;
    define_callouts(linker)
}

fn define_contexts(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "proxy_set_effective_context", |caller: Here<'_>, context: u32| {
        serve(caller, "proxy_set_effective_context", |guest| {
            if !guest.vm().has_context(context) {
                return Err(Status::BadArgument.into());
            }
            guest.vm().effective.set(Some(context));
            Ok(())
        })
    })?;
    linker.func_wrap(MODULE, "proxy_done", |caller: Here<'_>| {
        serve(caller, "proxy_done", |guest| {
            if !guest.vm().done_pending.replace(false) {
                return Err(Status::NotFound.into());
            }
            guest.vm().deferred.borrow_mut().push_back(Deferred::Delete);
            Ok(())
        })
    })?;
    linker.func_wrap(
        MODULE,
        "proxy_call_foreign_function",
        |caller: Here<'_>,
         name: u32,
         length: u32,
         arguments: u32,
         arguments_length: u32,
         _: u32,
         _: u32| {
            serve(caller, "proxy_call_foreign_function", |guest| {
                let name = guest.text(name, length)?;
                let arguments = guest.read(arguments, arguments_length)?;
                call_foreign_function(guest, &name, &arguments)
            })
        },
    )?;
    Ok(())
}

/// Envoy has more of them; this is the one that guests of this host use.
fn call_foreign_function(guest: &Guest<'_>, name: &str, arguments: &[u8]) -> Outcome {
    if name != "declare_property" || !guest.host().cell.settings.borrow().declares_properties {
        return Err(Status::NotFound.into());
    }
    let declared = Declared::read(arguments).ok_or(Status::BadArgument)?;
    let mut names = guest.vm().declared.borrow_mut();
    if names.contains_key(&declared.name) {
        return Err(Status::BadArgument.into());
    }
    names.insert(declared.name, declared.life_span);
    Ok(())
}

fn define_properties(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "proxy_get_property",
        |caller: Here<'_>, path: u32, path_length: u32, value: u32, value_length: u32| {
            serve(caller, "proxy_get_property", |guest| {
                let path = guest.text(path, path_length)?;
                let bytes = property(guest, &path.split('\0').collect::<Vec<_>>())?;
                guest.give(&bytes, value, value_length)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "proxy_set_property",
        |caller: Here<'_>, path: u32, path_length: u32, value: u32, value_length: u32| {
            serve(caller, "proxy_set_property", |guest| {
                let path = guest.text(path, path_length)?;
                let value = guest.read(value, value_length)?;
                let context = guest.context();
                let mut streams = guest.vm().streams.borrow_mut();
                let stream = streams.get_mut(&context).ok_or(Status::NotFound)?;
                stream.properties.put(&[&path], Value::Bytes(value));
                Ok(())
            })
        },
    )?;
    Ok(())
}

/// A property of the process, or of the stream whose context is in effect.
fn property(guest: &Guest<'_>, path: &[&str]) -> Outcome<Vec<u8>> {
    let settings = guest.host().cell.settings.borrow();
    match path {
        ["xds", "node", "id"] | ["node", "id"] => return Ok(settings.node_id.clone().into_bytes()),
        ["plugin_vm_id"] => return Ok(settings.vm_id.clone().into_bytes()),
        ["plugin_root_id" | "plugin_name"] => return Ok(Vec::new()),
        _ => {}
    }
    let streams = guest.vm().streams.borrow();
    let stream = streams.get(&guest.context()).ok_or(Status::NotFound)?;
    let request = Some(&stream.request).filter(|_| stream.request_in_view);
    let response = stream.response.as_ref().filter(|_| stream.response_in_view);
    let pseudo = |name: &str| request.and_then(|headers| headers.joined(name));
    let header = match path {
        ["request", "headers", name] => pseudo(name),
        ["response", "headers", name] => response.and_then(|headers| headers.joined(name)),
        ["request", "path"] => pseudo(":path"),
        ["request", "method"] => pseudo(":method"),
        ["request", "host"] => pseudo(":authority"),
        ["request", "scheme"] => pseudo(":scheme"),
        ["request", "id"] => pseudo("x-request-id"),
        _ => return Ok(stream.properties.find(path).ok_or(Status::NotFound)?.serialize()?),
    };
    Ok(header.ok_or(Status::NotFound)?)
}

fn define_buffers(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "proxy_get_buffer_bytes",
        |caller: Here<'_>, kind: u32, start: u32, length: u32, place: u32, length_at: u32| {
            serve(caller, "proxy_get_buffer_bytes", |guest| {
                let bytes = buffer(guest, kind)?;
                let end = start.checked_add(length).ok_or(Status::BadArgument)? as usize;
                let slice = bytes.get(start as usize..end.min(bytes.len())).unwrap_or_default();
                // Envoy leaves the guest's two variables alone when there is nothing to give.
                if slice.is_empty() { Ok(()) } else { guest.give(slice, place, length_at) }
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "proxy_get_buffer_status",
        |caller: Here<'_>, kind: u32, length_at: u32, flags_at: u32| {
            serve(caller, "proxy_get_buffer_status", |guest| {
                let bytes = buffer(guest, kind)?;
                guest.write_u32(length_at, bytes.len())?;
                guest.write_u32(flags_at, 0)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "proxy_set_buffer_bytes",
        |caller: Here<'_>, kind: u32, _: u32, _: u32, _: u32, _: u32| {
            serve(caller, "proxy_set_buffer_bytes", |guest| {
                buffer(guest, kind)?;
                Err(Status::BadArgument.into())
            })
        },
    )?;
    Ok(())
}

fn buffer(guest: &Guest<'_>, kind: u32) -> Outcome<Vec<u8>> {
    let settings = guest.host().cell.settings.borrow();
    let bytes = match BufferKind::of(kind)? {
        BufferKind::VmConfiguration => Some(settings.vm_configuration.clone()),
        BufferKind::PluginConfiguration => {
            guest.vm().configuring.get().then(|| settings.configuration.clone())
        }
        BufferKind::CalloutBody => {
            guest.vm().callout_in_view.borrow().as_ref().map(|(_, body)| body.clone())
        }
        BufferKind::Absent => None,
    };
    Ok(bytes.ok_or(Status::NotFound)?)
}

fn define_metrics(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "proxy_define_metric",
        |caller: Here<'_>, kind: u32, name: u32, length: u32, id_at: u32| {
            serve(caller, "proxy_define_metric", |guest| {
                let name = guest.text(name, length)?;
                let id = guest.host().cell.metrics.borrow_mut().define(kind, &name)?;
                guest.write(id_at, &id.to_le_bytes())
            })
        },
    )?;
    linker.func_wrap(MODULE, "proxy_increment_metric", |caller: Here<'_>, id: u32, by: i64| {
        serve(caller, "proxy_increment_metric", |guest| {
            Ok(guest.host().cell.metrics.borrow_mut().increment(id, by)?)
        })
    })?;
    linker.func_wrap(MODULE, "proxy_record_metric", |caller: Here<'_>, id: u32, value: u64| {
        serve(caller, "proxy_record_metric", |guest| {
            Ok(guest.host().cell.metrics.borrow_mut().record(id, value)?)
        })
    })?;
    linker.func_wrap(MODULE, "proxy_get_metric", |caller: Here<'_>, id: u32, value_at: u32| {
        serve(caller, "proxy_get_metric", |guest| {
            let value = guest.host().cell.metrics.borrow_mut().get(id)?;
            guest.write(value_at, &value.to_le_bytes())
        })
    })?;
    Ok(())
}

/// The ten arguments of `proxy_http_call`.
struct HttpCall {
    cluster: (u32, u32),
    headers: (u32, u32),
    body: (u32, u32),
    timeout_ms: u32,
    token_at: u32,
}

fn define_callouts(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "proxy_http_call",
        |caller: Here<'_>,
         cluster: u32,
         cluster_length: u32,
         headers: u32,
         headers_length: u32,
         body: u32,
         body_length: u32,
         _trailers: u32,
         _trailers_length: u32,
         timeout_ms: u32,
         token_at: u32| {
            let call = HttpCall {
                cluster: (cluster, cluster_length),
                headers: (headers, headers_length),
                body: (body, body_length),
                timeout_ms,
                token_at,
            };
            serve(caller, "proxy_http_call", |guest| http_call(guest, &call))
        },
    )?;
    Ok(())
}

/// Whichever context calls: the call belongs to the root context, and so does the answer.
fn http_call(guest: &mut Guest<'_>, call: &HttpCall) -> Outcome {
    let cluster = guest.text(call.cluster.0, call.cluster.1)?;
    let headers = guest.headers(call.headers.0, call.headers.1)?;
    let body = guest.read(call.body.0, call.body.1)?;
    guest.write_u32(call.token_at, 0)?;
    let host = guest.host().clone();
    let is_known = host.cell.settings.borrow().clusters.contains(&cluster);
    let is_complete =
        [":path", ":method", ":authority"].iter().all(|name| headers.get(name).is_some());
    if !is_known || !is_complete || i32::try_from(call.timeout_ms).is_err() {
        return Err(Status::BadArgument.into());
    }
    if host.fails_inline() {
        return Err(Status::InternalFailure.into());
    }
    let token = {
        let mut calls = guest.vm().calls.borrow_mut();
        calls.last_token += 1;
        let token = calls.last_token;
        calls.pending.insert(token);
        token
    };
    let timeout = Duration::from_millis(u64::from(call.timeout_ms));
    let sent_at = host.now();
    host.queue_callout(guest.vm().number, token, Sent { cluster, headers, body, timeout, sent_at });
    debug_assert!(guest.vm().has_context(ROOT));
    guest.write(call.token_at, &token.to_le_bytes())
}
