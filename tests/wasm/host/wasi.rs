//! What a Rust `wasm32-wasip1` module imports from `wasi_snapshot_preview1`, as far as proxy-wasm hosts have it.
//!
//! No files, no arguments; the clocks are the test's.

use wasmtime::{Caller, Linker};

use crate::abi::{Failure, Guest, Outcome};
use crate::status::Status;
use crate::vm::VmState;

const MODULE: &str = "wasi_snapshot_preview1";

const SUCCESS: u32 = 0;
const BAD_FILE: u32 = 8;
const FAULT: u32 = 21;
const NOT_SUPPORTED: u32 = 58;

/// Answers with a WASI error number.
fn serve(
    caller: Caller<'_, VmState>,
    body: impl FnOnce(&mut Guest<'_>) -> Outcome,
) -> wasmtime::Result<u32> {
    match body(&mut Guest::new(caller)) {
        Ok(()) => Ok(SUCCESS),
        Err(Failure::Status(Status::InvalidMemoryAccess)) => Ok(FAULT),
        Err(Failure::Status(Status::NotFound)) => Ok(BAD_FILE),
        Err(Failure::Status(_)) => Ok(NOT_SUPPORTED),
        Err(Failure::Trap(error)) => Err(error),
    }
}

pub(crate) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "clock_time_get",
        |caller: Caller<'_, VmState>, clock: u32, _precision: u64, time: u32| {
            serve(caller, |guest| clock_time(guest, clock, time))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "random_get",
        |caller: Caller<'_, VmState>, buffer: u32, length: u32| {
            serve(caller, |guest| {
                let bytes = guest.host().cell.entropy.borrow_mut().bytes(length as usize);
                guest.write(buffer, &bytes)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_write",
        |caller: Caller<'_, VmState>, file: u32, slices: u32, count: u32, written: u32| {
            serve(caller, |guest| write_to_log(guest, file, slices, count, written))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "environ_sizes_get",
        |caller: Caller<'_, VmState>, count: u32, size: u32| {
            serve(caller, |guest| {
                let environment = environment(guest);
                guest.write_u32(count, environment.len())?;
                guest.write_u32(size, environment.iter().map(Vec::len).sum())
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "environ_get",
        |caller: Caller<'_, VmState>, list: u32, text: u32| {
            serve(caller, |guest| write_environment(guest, list, text))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "args_sizes_get",
        |caller: Caller<'_, VmState>, count: u32, size: u32| {
            serve(caller, |guest| {
                guest.write_u32(count, 0)?;
                guest.write_u32(size, 0)
            })
        },
    )?;
    linker.func_wrap(MODULE, "args_get", |_list: u32, _text: u32| SUCCESS)?;
    linker.func_wrap(MODULE, "proc_exit", |code: u32| -> wasmtime::Result<()> {
        Err(wasmtime::format_err!("the guest called proc_exit({code})"))
    })?;
    define_files(linker)
}

/// There are none.
fn define_files(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "fd_close", |_file: u32| BAD_FILE)?;
    linker.func_wrap(MODULE, "fd_read", |_: u32, _: u32, _: u32, _: u32| BAD_FILE)?;
    linker.func_wrap(MODULE, "fd_seek", |_: u32, _: u64, _: u32, _: u32| BAD_FILE)?;
    linker.func_wrap(MODULE, "fd_prestat_get", |_: u32, _: u32| BAD_FILE)?;
    linker.func_wrap(MODULE, "fd_prestat_dir_name", |_: u32, _: u32, _: u32| BAD_FILE)?;
    linker.func_wrap(
        MODULE,
        "fd_fdstat_get",
        |caller: Caller<'_, VmState>, file: u32, stat: u32| {
            serve(caller, |guest| {
                let mut bytes = [0; 24];
                bytes[8] = 64;
                if file == 1 || file == 2 {
                    guest.write(stat, &bytes)
                } else {
                    Err(Status::NotFound.into())
                }
            })
        },
    )?;
    linker.func_wrap(MODULE, "sched_yield", || SUCCESS)?;
    Ok(())
}

fn clock_time(guest: &mut Guest<'_>, clock: u32, time: u32) -> Outcome {
    let host = guest.host();
    let now = match clock {
        0 => host.wall_clock(),
        1 => host.now(),
        _ => return Err(Status::Unimplemented.into()),
    };
    let nanoseconds = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    guest.write(time, &nanoseconds.to_le_bytes())
}

fn write_to_log(
    guest: &mut Guest<'_>,
    file: u32,
    slices: u32,
    count: u32,
    written: u32,
) -> Outcome {
    let level = match file {
        1 => 2,
        2 => 4,
        _ => return Err(Status::NotFound.into()),
    };
    let mut text = Vec::new();
    for index in 0..count {
        let slice = guest.read(slices + index * 8, 8)?;
        let number = |at: usize| {
            u32::from_le_bytes([slice[at], slice[at + 1], slice[at + 2], slice[at + 3]])
        };
        text.extend(guest.read(number(0), number(4))?);
    }
    let line = String::from_utf8_lossy(&text);
    guest.host().log(guest.vm().number, level, line.trim_end_matches('\n').to_owned());
    guest.write_u32(written, text.len())
}

fn environment(guest: &Guest<'_>) -> Vec<Vec<u8>> {
    let settings = guest.host().cell.settings.borrow().environment.clone();
    settings.iter().map(|(name, value)| format!("{name}={value}\0").into_bytes()).collect()
}

fn write_environment(guest: &mut Guest<'_>, list: u32, text: u32) -> Outcome {
    let mut at = text;
    for (index, entry) in environment(guest).into_iter().enumerate() {
        let place = list + 4 * u32::try_from(index).unwrap_or(u32::MAX);
        guest.write(place, &at.to_le_bytes())?;
        guest.write(at, &entry)?;
        at += u32::try_from(entry.len()).unwrap_or(u32::MAX);
    }
    Ok(())
}
