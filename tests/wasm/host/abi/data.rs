//! Shared data and shared queues.

use wasmtime::{Caller, Linker};

use crate::abi::{Guest, MODULE, Outcome, serve};
use crate::host::Access;
use crate::queues::Listener;
use crate::status::Status;
use crate::vm::{ROOT, VmState};

type Here<'a> = Caller<'a, VmState>;

pub(crate) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "proxy_get_shared_data",
        |caller: Here<'_>, key: u32, key_length: u32, value: u32, value_length: u32, cas: u32| {
            serve(caller, "proxy_get_shared_data", |guest| {
                let key = guest.text(key, key_length)?;
                let (bytes, stored_cas) = get(guest, &key)?;
                guest.give(&bytes, value, value_length)?;
                guest.write(cas, &stored_cas.to_le_bytes())
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "proxy_set_shared_data",
        |caller: Here<'_>, key: u32, key_length: u32, value: u32, value_length: u32, cas: u32| {
            serve(caller, "proxy_set_shared_data", |guest| {
                let key = guest.text(key, key_length)?;
                let value = guest.read(value, value_length)?;
                set(guest, &key, &value, cas)
            })
        },
    )?;
    define_queues(linker)
}

fn get(guest: &Guest<'_>, key: &str) -> Outcome<(Vec<u8>, u32)> {
    let host = guest.host();
    if let Some(vm) = host.vm(guest.vm().number) {
        host.run_hook(&Access::Get { vm: &vm, key });
    }
    let data = host.cell.shared_data.borrow();
    let (value, cas) = data.get(&host.vm_id(), key).ok_or(Status::NotFound)?;
    Ok((value.to_vec(), cas))
}

fn set(guest: &Guest<'_>, key: &str, value: &[u8], cas: u32) -> Outcome {
    let host = guest.host();
    if let Some(vm) = host.vm(guest.vm().number) {
        host.run_hook(&Access::Set { vm: &vm, key, value, cas });
    }
    Ok(host.cell.shared_data.borrow_mut().set(&host.vm_id(), key, value, cas)?)
}

fn define_queues(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "proxy_register_shared_queue",
        |caller: Here<'_>, name: u32, length: u32, token_at: u32| {
            serve(caller, "proxy_register_shared_queue", |guest| {
                let name = guest.text(name, length)?;
                let host = guest.host();
                let listener = Listener { vm: guest.vm().number, root: ROOT };
                let token = host.cell.queues.borrow_mut().register(&host.vm_id(), &name, listener);
                guest.write(token_at, &token.to_le_bytes())
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "proxy_resolve_shared_queue",
        |caller: Here<'_>, vm_id: u32, vm_id_length: u32, name: u32, length: u32, token_at: u32| {
            serve(caller, "proxy_resolve_shared_queue", |guest| {
                let (vm_id, name) = (guest.text(vm_id, vm_id_length)?, guest.text(name, length)?);
                let host = guest.host();
                let vm_id = if vm_id.is_empty() { host.vm_id() } else { vm_id };
                let token =
                    host.cell.queues.borrow().resolve(&vm_id, &name).ok_or(Status::NotFound)?;
                guest.write(token_at, &token.to_le_bytes())
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "proxy_enqueue_shared_queue",
        |caller: Here<'_>, token: u32, item: u32, length: u32| {
            serve(caller, "proxy_enqueue_shared_queue", |guest| {
                let item = guest.read(item, length)?;
                let host = guest.host();
                let listener = host.cell.queues.borrow_mut().enqueue(token, item)?;
                host.post(listener, token);
                Ok(())
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "proxy_dequeue_shared_queue",
        |caller: Here<'_>, token: u32, item: u32, length: u32| {
            serve(caller, "proxy_dequeue_shared_queue", |guest| {
                let bytes = guest.host().cell.queues.borrow_mut().dequeue(token)?;
                guest.give(&bytes, item, length)
            })
        },
    )?;
    Ok(())
}
