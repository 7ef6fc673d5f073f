//! Header maps.

use wasmtime::{Caller, Linker};

use crate::abi::{Guest, MODULE, Outcome, serve};
use crate::headers::Headers;
use crate::pairs;
use crate::status::{MapKind, Status};
use crate::vm::VmState;

type Here<'a> = Caller<'a, VmState>;

pub(crate) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "proxy_get_header_map_pairs",
        |caller: Here<'_>, kind: u32, place: u32, length_at: u32| {
            serve(caller, "proxy_get_header_map_pairs", |guest| {
                // Envoy gives the empty list where there is no map, unlike the functions below.
                let headers = read(guest, kind).unwrap_or_default();
                guest.give(&pairs::encode(headers.iter()), place, length_at)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "proxy_get_header_map_size",
        |caller: Here<'_>, kind: u32, size_at: u32| {
            serve(caller, "proxy_get_header_map_size", |guest| {
                let headers = read(guest, kind)?;
                guest.write_u32(size_at, headers.bytes())
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "proxy_get_header_map_value",
        |caller: Here<'_>,
         kind: u32,
         name: u32,
         name_length: u32,
         value: u32,
         value_length: u32| {
            serve(caller, "proxy_get_header_map_value", |guest| {
                let name = guest.read(name, name_length)?;
                let headers = read(guest, kind)?;
                let first = headers.values(name).next().ok_or(Status::NotFound)?;
                guest.give(first, value, value_length)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "proxy_set_header_map_pairs",
        |caller: Here<'_>, kind: u32, list: u32, length: u32| {
            serve(caller, "proxy_set_header_map_pairs", |guest| {
                let new = guest.headers(list, length)?;
                change(guest, kind, |headers| *headers = new)
            })
        },
    )?;
    define_changes(linker)
}

fn define_changes(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "proxy_add_header_map_value",
        |caller: Here<'_>,
         kind: u32,
         name: u32,
         name_length: u32,
         value: u32,
         value_length: u32| {
            serve(caller, "proxy_add_header_map_value", |guest| {
                let (name, value) =
                    (guest.read(name, name_length)?, guest.read(value, value_length)?);
                change(guest, kind, |headers| headers.add(name, value))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "proxy_replace_header_map_value",
        |caller: Here<'_>,
         kind: u32,
         name: u32,
         name_length: u32,
         value: u32,
         value_length: u32| {
            serve(caller, "proxy_replace_header_map_value", |guest| {
                let (name, value) =
                    (guest.read(name, name_length)?, guest.read(value, value_length)?);
                change(guest, kind, |headers| headers.replace(name, value))
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "proxy_remove_header_map_value",
        |caller: Here<'_>, kind: u32, name: u32, name_length: u32| {
            serve(caller, "proxy_remove_header_map_value", |guest| {
                let name = guest.read(name, name_length)?;
                change(guest, kind, |headers| headers.remove(name))
            })
        },
    )?;
    Ok(())
}

/// A map as far as Envoy shows it at this point of the stream's life.
fn read(guest: &Guest<'_>, kind: u32) -> Outcome<Headers> {
    let kind = MapKind::of(kind)?;
    if kind == MapKind::CalloutHeaders {
        let view = guest.vm().callout_in_view.borrow();
        return Ok(view.as_ref().ok_or(Status::BadArgument)?.0.clone());
    }
    let streams = guest.vm().streams.borrow();
    let stream = streams.get(&guest.context()).ok_or(Status::BadArgument)?;
    let headers = match kind {
        MapKind::RequestHeaders => Some(&stream.request).filter(|_| stream.request_in_view),
        MapKind::ResponseHeaders => stream.response.as_ref().filter(|_| stream.response_in_view),
        MapKind::CalloutHeaders | MapKind::Absent => None,
    };
    Ok(headers.ok_or(Status::BadArgument)?.clone())
}

fn change(guest: &Guest<'_>, kind: u32, change: impl FnOnce(&mut Headers)) -> Outcome {
    let kind = MapKind::of(kind)?;
    let context = guest.context();
    let mut streams = guest.vm().streams.borrow_mut();
    let stream = streams.get_mut(&context).ok_or(Status::BadArgument)?;
    let headers = match kind {
        MapKind::RequestHeaders => Some(&mut stream.request).filter(|_| stream.request_in_view),
        MapKind::ResponseHeaders => stream.response.as_mut().filter(|_| stream.response_in_view),
        MapKind::CalloutHeaders | MapKind::Absent => None,
    };
    change(headers.ok_or(Status::BadArgument)?);
    Ok(())
}
