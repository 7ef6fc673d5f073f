//! The functions that a guest may export.

use wasmtime::{Instance, Store, TypedFunc, WasmParams, WasmResults};

use super::VmState;
use crate::plugin::StartError;

type Call1 = Option<TypedFunc<u32, ()>>;
type Call2 = Option<TypedFunc<(u32, u32), ()>>;
type Call5 = Option<TypedFunc<(u32, u32, u32, u32, u32), ()>>;
type Ask2 = Option<TypedFunc<(u32, u32), u32>>;
type Ask3 = Option<TypedFunc<(u32, u32, u32), u32>>;

pub(super) struct Exports {
    pub(super) on_context_create: Call2,
    pub(super) on_vm_start: Ask2,
    pub(super) on_configure: Ask2,
    pub(super) on_tick: Call1,
    pub(super) on_request_headers: Ask3,
    pub(super) on_response_headers: Ask3,
    pub(super) on_http_call_response: Call5,
    pub(super) on_queue_ready: Call2,
    pub(super) on_log: Call1,
    pub(super) on_done: Option<TypedFunc<u32, u32>>,
    pub(super) on_delete: Call1,
}

/// An exported function; `None` when the guest has none, which is fine.
pub(super) fn export<P: WasmParams, R: WasmResults>(
    store: &mut Store<VmState>,
    instance: &Instance,
    export: &'static str,
) -> Result<Option<TypedFunc<P, R>>, StartError> {
    let Some(func) = instance.get_func(&mut *store, export) else { return Ok(None) };
    let typed = func.typed(&*store).map_err(|source| StartError::ExportType { export, source })?;
    Ok(Some(typed))
}

impl Exports {
    pub(super) fn find(
        store: &mut Store<VmState>,
        instance: &Instance,
    ) -> Result<Self, StartError> {
        Ok(Self {
            on_context_create: export(store, instance, "proxy_on_context_create")?,
            on_vm_start: export(store, instance, "proxy_on_vm_start")?,
            on_configure: export(store, instance, "proxy_on_configure")?,
            on_tick: export(store, instance, "proxy_on_tick")?,
            on_request_headers: export(store, instance, "proxy_on_request_headers")?,
            on_response_headers: export(store, instance, "proxy_on_response_headers")?,
            on_http_call_response: export(store, instance, "proxy_on_http_call_response")?,
            on_queue_ready: export(store, instance, "proxy_on_queue_ready")?,
            on_log: export(store, instance, "proxy_on_log")?,
            on_done: export(store, instance, "proxy_on_done")?,
            on_delete: export(store, instance, "proxy_on_delete")?,
        })
    }
}
