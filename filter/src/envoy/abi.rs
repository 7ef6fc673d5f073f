//! The proxy-wasm ABI 0.2.1 and the parts of WASI that the filter uses: imports, exports, and their safe forms.
//!
//! Memory that the host hands over was allocated by [`proxy_on_memory_allocate`] and is owned by the caller here.
//! Numbers and shapes: github.com/proxy-wasm/spec, `abi-versions/v0.2.1`.
#![expect(
    unsafe_code,
    reason = "host functions and exported callbacks of a WebAssembly module are foreign functions"
)]

use std::alloc::{Layout, alloc};
use std::ptr::null_mut;

use crate::answer::Answer;
use crate::host::Severity;
use crate::pairs;
use crate::worker::Next;

/// What a host call came to, as far as the filter tells outcomes apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    CasMismatch,
    Other,
}

impl Status {
    fn of(code: u32) -> Self {
        match code {
            0 => Self::Ok,
            8 => Self::CasMismatch,
            _ => Self::Other,
        }
    }
}

/// A header map of the ABI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Map {
    Request,
    Response,
    CallResponse,
}

impl Map {
    fn number(self) -> u32 {
        match self {
            Self::Request => 0,
            Self::Response => 2,
            Self::CallResponse => 6,
        }
    }
}

const BUFFER_CALL_RESPONSE_BODY: u32 = 4;
const BUFFER_PLUGIN_CONFIGURATION: u32 = 7;
const STREAM_REQUEST: u32 = 0;
const CLOCK_REALTIME: u32 = 0;
const CLOCK_MONOTONIC: u32 = 1;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, text: *const u8, text_size: usize) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        limit: usize,
        value: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_get_header_map_pairs(map: u32, value: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;
    fn proxy_get_property(
        path: *const u8,
        path_size: usize,
        value: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_set_property(
        path: *const u8,
        path_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_size: usize,
        arguments: *const u8,
        arguments_size: usize,
        results: *mut *mut u8,
        results_size: *mut usize,
    ) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        value: *mut *mut u8,
        size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
        cas: u32,
    ) -> u32;
    fn proxy_http_call(
        cluster: *const u8,
        cluster_size: usize,
        headers: *const u8,
        headers_size: usize,
        body: *const u8,
        body_size: usize,
        trailers: *const u8,
        trailers_size: usize,
        timeout_ms: u32,
        token: *mut u32,
    ) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_continue_stream(stream: u32) -> u32;
    fn proxy_done() -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, metric: *mut u32) -> u32;
    fn proxy_increment_metric(metric: u32, by: i64) -> u32;
    fn proxy_record_metric(metric: u32, value: u64) -> u32;
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u32;
    fn random_get(buffer: *mut u8, size: usize) -> u32;
}

/// Runs a host call that returns bytes.
fn returned_bytes(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Option<Vec<u8>> {
    let (mut start, mut size) = (null_mut(), 0);
    if Status::of(call(&raw mut start, &raw mut size)) != Status::Ok {
        return None;
    }
    if start.is_null() || size == 0 {
        return Some(Vec::new());
    }
    // SAFETY: the host allocated exactly `size` bytes at `start` with `proxy_on_memory_allocate` and passed ownership.
    Some(unsafe { Vec::from_raw_parts(start, size, size) })
}

pub(super) fn log(severity: Severity, text: &str) {
    let level = match severity {
        Severity::Info => 2,
        Severity::Warn => 3,
        Severity::Error => 4,
    };
    // SAFETY: the host reads `text` during the call.
    unsafe { proxy_log(level, text.as_ptr(), text.len()) };
}

pub(super) fn set_tick_period(milliseconds: u32) {
    // SAFETY: no pointers.
    unsafe { proxy_set_tick_period_milliseconds(milliseconds) };
}

pub(super) fn plugin_configuration(size: usize) -> Option<Vec<u8>> {
    // SAFETY: the out-pointers live through the call.
    returned_bytes(|value, length| unsafe {
        proxy_get_buffer_bytes(BUFFER_PLUGIN_CONFIGURATION, 0, size, value, length)
    })
}

pub(super) fn call_response_body(size: usize) -> Option<Vec<u8>> {
    // SAFETY: the out-pointers live through the call.
    returned_bytes(|value, length| unsafe {
        proxy_get_buffer_bytes(BUFFER_CALL_RESPONSE_BODY, 0, size, value, length)
    })
}

pub(super) fn header_pairs(map: Map) -> Option<Vec<u8>> {
    // SAFETY: the out-pointers live through the call.
    returned_bytes(|value, size| unsafe { proxy_get_header_map_pairs(map.number(), value, size) })
}

pub(super) fn header(map: Map, name: &str) -> Option<Vec<u8>> {
    // SAFETY: `name` and the out-pointers live through the call.
    returned_bytes(|value, size| unsafe {
        proxy_get_header_map_value(map.number(), name.as_ptr(), name.len(), value, size)
    })
}

pub(super) fn replace_header(map: Map, name: &str, value: &str) {
    // SAFETY: the host reads both texts during the call.
    unsafe {
        proxy_replace_header_map_value(
            map.number(),
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    };
}

pub(super) fn remove_header(map: Map, name: &str) {
    // SAFETY: the host reads `name` during the call.
    unsafe { proxy_remove_header_map_value(map.number(), name.as_ptr(), name.len()) };
}

/// An attribute of Envoy. Path elements are separated by NUL, so an element may hold dots.
pub(super) fn property(path: &[&str]) -> Option<Vec<u8>> {
    let path = path.join("\0");
    // SAFETY: `path` and the out-pointers live through the call.
    returned_bytes(|value, size| unsafe {
        proxy_get_property(path.as_ptr(), path.len(), value, size)
    })
}

/// Sets a property of the current stream. One that was declared lives as long as was declared.
pub(super) fn set_property(name: &str, value: &[u8]) {
    // SAFETY: the host copies name and value during the call.
    unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
}

/// Declares a property of bytes that lives as long as the downstream request, whatever runs its filters again.
///
/// The argument is Envoy's message `DeclarePropertyArguments` (source/extensions/common/wasm/ext/declare_property.proto):
/// 1 is the name, 5 the life span, of which 1 is the downstream request's.
pub(super) fn declare_request_property(name: &str) -> bool {
    let function = "declare_property";
    let length = u8::try_from(name.len()).unwrap_or(0);
    let arguments = [&[0x0a, length], name.as_bytes(), &[0x28, 1]].concat();
    // SAFETY: the host reads name and arguments during the call; the out-pointers live through it.
    let result = returned_bytes(|value, size| unsafe {
        proxy_call_foreign_function(
            function.as_ptr(),
            function.len(),
            arguments.as_ptr(),
            arguments.len(),
            value,
            size,
        )
    });
    result.is_some()
}

pub(super) fn get_shared_data(key: &str) -> Option<(Vec<u8>, u32)> {
    let mut cas = 0;
    // SAFETY: `key` and the out-pointers live through the call.
    let value = returned_bytes(|value, size| unsafe {
        proxy_get_shared_data(key.as_ptr(), key.len(), value, size, &raw mut cas)
    })?;
    Some((value, cas))
}

pub(super) fn set_shared_data(key: &str, value: &[u8], cas: u32) -> Status {
    // SAFETY: the host copies key and value during the call.
    Status::of(unsafe {
        proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas)
    })
}

/// Starts a callout. It belongs to the root context whatever the current one is, so its answer always comes.
pub(super) fn http_call(
    cluster: &str,
    headers: &[u8],
    body: &[u8],
    timeout_ms: u32,
) -> Option<u32> {
    let mut token = 0;
    let no_trailers = pairs::encode(&[]);
    // SAFETY: the host copies everything during the call; `token` lives through it.
    let status = unsafe {
        proxy_http_call(
            cluster.as_ptr(),
            cluster.len(),
            headers.as_ptr(),
            headers.len(),
            body.as_ptr(),
            body.len(),
            no_trailers.as_ptr(),
            no_trailers.len(),
            timeout_ms,
            &raw mut token,
        )
    };
    (Status::of(status) == Status::Ok).then_some(token)
}

/// Runs `act` in the place of a stream; nothing happens when the stream is gone.
pub(super) fn in_context(stream: u32, act: impl FnOnce()) {
    // SAFETY: no pointers.
    if Status::of(unsafe { proxy_set_effective_context(stream) }) == Status::Ok {
        act();
    }
}

/// Lets the root context in view go, after `proxy_on_done` said that it stays.
pub(super) fn done() {
    // SAFETY: no pointers.
    unsafe { proxy_done() };
}

pub(super) fn continue_request() {
    // SAFETY: no pointers.
    unsafe { proxy_continue_stream(STREAM_REQUEST) };
}

pub(super) fn send_local_response(answer: &Answer) {
    let headers: Vec<(&str, &str)> =
        answer.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let headers = pairs::encode(&headers);
    let grpc_status =
        answer.grpc_status.and_then(|status| i32::try_from(status).ok()).unwrap_or(-1);
    let details = "farebox_refused";
    // SAFETY: the host copies everything during the call.
    unsafe {
        proxy_send_local_response(
            answer.status,
            details.as_ptr(),
            details.len(),
            answer.body.as_ptr(),
            answer.body.len(),
            headers.as_ptr(),
            headers.len(),
            grpc_status,
        )
    };
}

pub(super) fn define_metric(is_gauge: bool, name: &str) -> Option<u32> {
    let mut metric = 0;
    // SAFETY: `name` and `metric` live through the call.
    let status = unsafe {
        proxy_define_metric(u32::from(is_gauge), name.as_ptr(), name.len(), &raw mut metric)
    };
    (Status::of(status) == Status::Ok).then_some(metric)
}

pub(super) fn increment_metric(metric: u32, by: i64) {
    // SAFETY: no pointers.
    unsafe { proxy_increment_metric(metric, by) };
}

pub(super) fn record_metric(metric: u32, value: u64) {
    // SAFETY: no pointers.
    unsafe { proxy_record_metric(metric, value) };
}

fn clock(clock: u32) -> u64 {
    let mut time = 0;
    // SAFETY: `time` lives through the call.
    unsafe { clock_time_get(clock, 0, &raw mut time) };
    time
}

/// Nanoseconds on a clock that never jumps and is the same for all threads of the process.
pub(super) fn monotonic_ns() -> u64 {
    clock(CLOCK_MONOTONIC)
}

/// Nanoseconds since 1970 on Envoy's system clock.
pub(super) fn unix_ns() -> u64 {
    clock(CLOCK_REALTIME)
}

pub(super) fn random() -> u64 {
    let mut bytes = [0; 8];
    // SAFETY: the host writes exactly `bytes.len()` bytes.
    unsafe { random_get(bytes.as_mut_ptr(), bytes.len()) };
    u64::from_le_bytes(bytes)
}

// === Exports

unsafe extern "C" {
    fn __wasm_call_ctors();
}

#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    // SAFETY: the linker provides it; the host calls `_initialize` once, before anything else.
    unsafe { __wasm_call_ctors() };
}

/// Memory for values that the host hands over.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    match Layout::array::<u8>(size) {
        // SAFETY: the layout's size is not zero.
        Ok(layout) if layout.size() != 0 => unsafe { alloc(layout) },
        Ok(_) | Err(_) => null_mut(),
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(context: u32, root: u32) {
    super::on_context_create(context, root);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(_root: u32, _size: usize) -> u32 {
    1
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(root: u32, size: usize) -> u32 {
    u32::from(super::on_configure(root, size))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(root: u32) {
    super::on_tick(root);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(stream: u32, _count: usize, _end: u32) -> u32 {
    match super::on_request_headers(stream) {
        Next::Continue => 0,
        Next::Pause => 1,
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(stream: u32, _count: usize, _end: u32) -> u32 {
    super::on_response_headers(stream);
    0
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_http_call_response(
    _root: u32,
    token: u32,
    headers: usize,
    body: usize,
    _trailers: usize,
) {
    super::on_http_call_response(token, headers, body);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_done(context: u32) -> u32 {
    u32::from(super::on_done(context))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_log(stream: u32) {
    super::on_log(stream);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(context: u32) {
    super::on_delete(context);
}
